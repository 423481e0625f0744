"""What a folder that is handed over held before: set aside while the same winner's stages run again, taken out of the
way of another winner's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from automl import provenance

if TYPE_CHECKING:
    from automl.bundle import ModelBundle
    from automl.study import Best


def _aside(bundle: ModelBundle, best: Path) -> list[tuple[Path, Path]]:
    """(file that stages make, where it waits while they run again, for they write over none)."""
    return [(best / file, best / f".{file}.before") for file in bundle.named_files.values()]


def set_aside(bundle: ModelBundle, best: Path, winner: Best) -> None:
    """Make room for what stages make: files of another winner are removed, its folders moved to `of_trial_N`."""
    before = provenance.read(best)
    same = (before.get("trial"), before.get("epoch")) == (winner.number, winner.epoch)
    for file, kept in _aside(bundle, best):
        if same and file.is_file():
            file.replace(kept)
        if same:
            continue
        kept.unlink(missing_ok=True)
        if file.is_dir():  # somebody may have waited an hour for it
            trial = before.get("trial")
            _moved(file, best / (f"of_trial_{trial}" if isinstance(trial, int) else "of_another_trial"))
        else:
            file.unlink(missing_ok=True)


def _moved(folder: Path, to: Path) -> None:
    """Move a folder into `to`, in the place of one of that name."""
    to.mkdir(exist_ok=True)
    shutil.rmtree(to / folder.name, ignore_errors=True)
    folder.replace(to / folder.name)


def put_back(bundle: ModelBundle, best: Path) -> None:
    """What a stage has not made again, for it failed or was cut off, stays as it was."""
    for file, kept in _aside(bundle, best):
        if kept.is_file():
            kept.unlink() if file.exists() else kept.replace(file)


def disown(folder: Path, result: Best) -> None:
    """Take away what says whose a folder is, where it is about to become another's: who reads meanwhile, or after a
    kill, must not take the one for the other."""
    before = provenance.read(folder)
    if (before.get("trial"), before.get("epoch")) != (result.number, result.epoch):
        (folder / provenance.FILE).unlink(missing_ok=True)
