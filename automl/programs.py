"""Programs by name: where they are, and how a person must type them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def find_program(name: str) -> str | None:
    """The program beside this Python, or on PATH; None when it is neither."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.is_file() else shutil.which(name)


def command(*words: object) -> str:
    """A command of the engine's own, as a person must type it."""
    return shlex.join(["automl", *map(str, words)])


def typed(name: str) -> str:
    """A program as a person must type it here: the one beside this Python by its path, unless PATH finds it."""
    found, by_name = find_program(name), shutil.which(name)
    if found is None or (by_name and os.path.samefile(found, by_name)):
        return name
    inside = Path(found).is_relative_to(Path.cwd()) and str(Path.cwd()) != Path(found).root
    return shlex.quote(os.path.relpath(found) if inside else found)
