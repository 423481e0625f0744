"""What a folder that is handed over held before: set aside while the same winner's stages run again, moved out of the
way of another winner's."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from automl import provenance
from automl.front import FOLDER

if TYPE_CHECKING:
    from automl.bundle import ModelBundle
    from automl.study import Best


def _aside(bundle: ModelBundle, best: Path) -> list[tuple[Path, Path]]:
    """(file that stages make, where it waits while they run again, for they write over none)."""
    return [(best / file, best / f".{file}.before") for file in bundle.named_files.values()]


def set_aside(bundle: ModelBundle, best: Path, winner: Best) -> Path | None:
    """Make room for what is handed over and for what its stages make. All that `best` has of another winner moves to
    `best_of_trial_N` beside it, what a person or a later action put there too, and works there as before; returns that
    folder. Files of a hand-over that did not come to its end may be cut off, and go."""
    before = provenance.read(best)
    if not provenance.is_of(before, winner):
        put_back(bundle, best, well=False)
        return _moved(best, before.get("trial")) if best.is_dir() else None
    for file, kept in _aside(bundle, best):
        if provenance.is_whole(before) and file.is_file():
            file.replace(kept)
        elif not file.is_dir():
            file.unlink(missing_ok=True)
    return None


def _moved(best: Path, trial: object) -> Path | None:
    """Move what lies in `best`, the rest of a front aside, which is its own; whose it is at last."""
    there = [path for path in best.iterdir() if path.name not in (FOLDER, provenance.FILE)]
    there += [path for path in (best / provenance.FILE,) if path.exists()]
    if not there:
        return None
    name = f"{best.name}_of_trial_{trial}" if type(trial) is int else f"{best.name}_of_another_trial"
    names = (best.with_name(name + (f"_{n}" if n else "")) for n in itertools.count())
    to = next(path for path in names if not os.path.lexists(path))
    to.mkdir()
    for path in there:
        path.replace(to / path.name)
    return to


def put_back(bundle: ModelBundle, best: Path, well: bool) -> None:
    """What the stages have not made again, or have not made `well`, stays as it was."""
    for file, kept in _aside(bundle, best):
        if kept.is_file():
            kept.unlink() if well and file.exists() else kept.replace(file)


def disown(folder: Path, result: Best) -> None:
    """Take away what says whose a folder is, where it is about to become another's: who reads meanwhile, or after a
    kill, must not take the one for the other."""
    if not provenance.is_of(provenance.read(folder), result):
        (folder / provenance.FILE).unlink(missing_ok=True)
