"""What a folder that is handed over held before: set aside while the same winner's stages run again, moved out of the
way of another winner's."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import ended_stages, provenance
from automl.errors import UserError
from automl.front import FOLDER
from automl.rundir import TEMPORARY

if TYPE_CHECKING:
    from automl.bundle import ModelBundle
    from automl.study import TrialResult


def begin(best: Path) -> None:
    """Before anything is handed over there: bring back the rest of a front that a kill left beside it. Raises
    `UserError` for what is no folder."""
    if os.path.lexists(best) and not best.is_dir():
        raise UserError(
            f"{best}: must be the folder that the winner is handed over in, but is a file or a link to nothing; move "
            "it away and resume the run"
        )
    if (waits := _front_beside(best)).is_dir():
        best.mkdir(exist_ok=True)
        waits.rename(best / FOLDER)


def set_aside(bundle: ModelBundle, best: Path, winner: TrialResult) -> Path | None:
    """Make room for what is handed over and for what its stages make. All that `best` has of another winner moves to
    `best_of_trial_N` beside it, what a person or a later action put there too, and works there as before; returns that
    folder. Files of a hand-over that did not come to its end may be cut off, and go, but for those of
    stages that did."""
    _settle_provenance(best)
    before = provenance.read(best)
    same, whole = provenance.is_of(before, winner), provenance.is_whole(before)
    if same and whole:  # first: from here on it is not all there
        (best / provenance.FILE).replace(_provenance_before(best))
    for file, kept in aside(bundle, best):
        if same and file.is_file() and (whole or ended_stages.made_whole(best, file)):
            file.replace(kept)
        elif before and not whole and not file.is_dir():
            file.unlink(missing_ok=True)
    if same:
        return None
    put_back(bundle, best, well=False)
    return _moved(bundle, best, before.get("trial")) if best.is_dir() else None


def put_back(bundle: ModelBundle, best: Path, well: bool) -> None:
    """What the stages have not made again, or have not made `well`, stays as it was."""
    for file, kept in aside(bundle, best):
        if kept.is_file():
            kept.unlink() if well and file.exists() else kept.replace(file)
    _settle_provenance(best)


def aside(bundle: ModelBundle, best: Path) -> list[tuple[Path, Path]]:
    """(file that stages make, where it waits while they run again, for they write over none)."""
    return [(best / file, best / f".{file}.before") for file in bundle.named_files.values()]


def disown(folder: Path, result: TrialResult) -> None:
    """Take away what says whose a folder is, where it is about to become another's: who reads meanwhile, or after a
    kill, must not take the one for the other."""
    if not provenance.is_of(provenance.read(folder), result):
        (folder / provenance.FILE).unlink(missing_ok=True)


def clear_front(bundle: ModelBundle, best: Path, stay: Collection[str], say: Callable[[str], Any]) -> None:
    """Take away the folders of trials that are no longer on the front beside the winner, all but those named in
    `stay`; what holds more than was handed over moves beside `best`, as a winner's does."""
    for folder in (best / FOLDER).glob("[0-9]*"):
        if folder.name in stay or not folder.is_dir():
            continue
        if all(_is_ours(bundle, path) for path in folder.iterdir()):
            (folder / provenance.FILE).unlink(missing_ok=True)  # first: what is left is nobody's
            shutil.rmtree(folder, ignore_errors=True)
        else:
            to = _free(best, int(folder.name) if folder.name.isdecimal() else None)
            shutil.move(folder, to)
            say(f"what {folder} held before is in {to}")


def _provenance_before(best: Path) -> Path:
    return best / f".{provenance.FILE}.before"


def _settle_provenance(best: Path) -> None:
    """Put the earlier provenance file back, unless there is a newer one."""
    before, now = _provenance_before(best), best / provenance.FILE
    if before.is_file():
        before.unlink() if now.exists() else before.replace(now)


def _front_beside(best: Path) -> Path:
    return best.with_name(f".{best.name}_{FOLDER}")


def _moved(bundle: ModelBundle, best: Path, trial: object) -> Path | None:
    """Move `best` aside, but for the rest of a front, which is its own. What is nobody's yet, a hand-over that had just
    begun, goes."""
    there = [path for path in best.iterdir() if path.name != FOLDER]
    if not any(path.name == provenance.FILE for path in there) and all(_is_ours(bundle, p) for p in there):
        for path in there:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return None
    to = _free(best, trial)
    if best.is_symlink():  # it stays, and may lead to another disk
        to.mkdir()
        for path in sorted(there, key=lambda path: path.name == provenance.FILE):
            shutil.move(path, to / path.name)
        return to
    if (best / FOLDER).is_dir():
        (best / FOLDER).rename(_front_beside(best))
    best.rename(to)  # at once: a kill leaves it whole, here or there
    begin(best)
    return to


def _free(best: Path, trial: object) -> Path:
    """A name beside `best` that nothing has."""
    name = f"{best.name}_of_trial_{trial}" if type(trial) is int else f"{best.name}_of_another_trial"
    names = (best.with_name(name + (f"_{n}" if n else "")) for n in itertools.count())
    return next(path for path in names if not os.path.lexists(path))


def _is_ours(bundle: ModelBundle, path: Path) -> bool:
    """What a hand-over writes before its stages run; all else is theirs or a person's."""
    name, made = path.name, bundle.named_files.values()
    specs = {f"{action}.yaml" for action in bundle.actions}
    known = name in (*specs, provenance.FILE, "package") or bool(TEMPORARY.fullmatch(name))
    return known or (path.stem == "model" and name not in made)
