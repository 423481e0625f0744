"""How a person must type the programs beside this Python; the engine, which is not imported, says it alike."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def typed(name: str) -> str:
    """A program as a person must type it here: the one beside this Python by its path, unless PATH finds it."""
    beside, by_name = Path(sys.executable).parent / name, shutil.which(name)
    if not beside.is_file() or (by_name and os.path.samefile(beside, by_name)):
        return name
    inside = beside.is_relative_to(Path.cwd()) and str(Path.cwd()) != beside.root
    return shlex.quote(os.path.relpath(beside) if inside else str(beside))
