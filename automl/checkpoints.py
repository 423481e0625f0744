"""Which checkpoint a trial is worth: what its lines say, which files are there, and which epoch each of them holds.

Whoever looks for weights, or tells of a run's best, goes by `weights` and `choose_winner`. A trainer may write each
checkpoint over the last one: the file then counts with the last of its epochs that was measured, whatever the best was.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from automl import provenance, records, run_history, trial_notes
from automl.front import FOLDER
from automl.metric import figure
from automl.records import Record

if TYPE_CHECKING:
    from automl.metric import Metric
    from automl.rundir import RunDir
    from automl.study import Study, TrialResult

LINES = "metrics.jsonl"
ZIP = b"PK\3\4"  # how one begins; it ends with its table of contents
OWN_FILES = (
    LINES,
    "spec.yaml",
    trial_notes.FILE,
    run_history.FILE,
    "resume.yaml",
    "log.txt",
    "heartbeat",
    "status.json",
)


class Weights(NamedTuple):
    """A checkpoint that is there. `scored`: the epoch it counts with; `holds`: the epoch that is in it, a later one
    where no metric was measured since, None where nobody knows. Epochs count from 0."""

    scored: int
    file: Path
    holds: int | None


Held = Mapping[tuple[int, int, float], Weights]  # (trial, epoch, value) -> what was handed over of it before


def weights(
    found: Sequence[Record], folder: Path, measured: Collection[int], ended: bool = True
) -> list[Weights]:
    """Of a trial's lines and folder, the checkpoints that are there and of which an epoch was `measured`, in the order
    of those. A trial that has not `ended` by itself may have been killed between a checkpoint and its line."""
    there = (name for name in _scoring(found, measured) if is_whole(folder / name))
    return [
        Weights(_scoring(found, measured)[name], folder / name, _holds(found, folder, name, ended))
        for name in there
    ]


def _scoring(found: Sequence[Record], measured: Collection[int]) -> dict[str, int]:
    """{checkpoint: the last of the `measured` epochs that was written to it}, in the order of those lines."""
    last = {r.checkpoint: n for n, r in enumerate(found) if r.checkpoint and r.epoch in measured}
    return {str(name): found[n].epoch for name, n in sorted(last.items(), key=lambda item: item[1])}


def _holds(found: Sequence[Record], folder: Path, name: str, ended: bool) -> int:
    """The epoch in a file that is there: that of the last line that names it. One that is written over, and was once
    more after the last line, holds what that line's successor would have told."""
    lines = [r.epoch for r in found if r.checkpoint == name]
    ahead = len(lines) > 1 and not ended and _written(folder / name) > _written(folder / LINES)
    return found[-1].epoch + 1 if ahead else lines[-1]


def _written(path: Path) -> int:
    """When, in ns; 0 for what has just gone."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is there, as far as can be told of any format at once: not empty, and of a zip, as torch and
    numpy write them, not cut off."""
    try:
        with path.open("rb") as file:
            start = file.read(len(ZIP))
    except FileNotFoundError:
        return False
    except OSError:  # a folder, or what may not be read: that is told by whoever has to
        return True
    return start != b"" and (start != ZIP or zipfile.is_zipfile(path))


class Checkpoints:
    """The trial folders of a run, to read. `numbers`: what of a line must be a number; `pattern`: what looks like a
    checkpoint, where the model is known."""

    def __init__(self, run: RunDir, metric: Metric, numbers: Sequence[str] = (), pattern: str = "") -> None:
        self.run, self.metric, self.numbers, self.pattern = run, metric, numbers or (metric.name,), pattern

    def records(self, number: int) -> tuple[list[Record], str | None]:
        """(all whole records on disk, what is wrong with the line after them or None)."""
        return records.read(self.run.trial(number) / LINES, self.numbers)

    def checkpoint(self, number: int, record: Record) -> Path | None:
        """The checkpoint a record names, if it is there and whole."""
        path = self.run.trial(number) / record.checkpoint if record.checkpoint else None
        return path if path is not None and is_whole(path) else None

    def scoring(self, number: int) -> set[int]:
        """The epochs that count: of a trainer that names checkpoints the last measured of each, on disk or dropped for
        a better one; else all that its records hold (not what an attempt before a start from nothing reported)."""
        return self._counting(self.records(number)[0])

    def _counting(self, found: Sequence[Record]) -> set[int]:
        return set(_scoring(found, self._measured(found)).values()) or {r.epoch for r in found}

    def _measured(self, found: Sequence[Record]) -> set[int]:
        return {r.epoch for r in found if r.number(self.metric.name) is not None}

    def weights_of(self, study: Study, number: int) -> list[Weights]:
        """`weights` of a trial as the study knows it; its lines may be ahead."""
        trial = study.frozen(number)
        found, curve = self.records(number)[0], set(trial.intermediate_values)
        return weights(found, self.run.trial(number), curve, trial.state.name == "COMPLETE")

    def of_result(self, study: Study, result: TrialResult) -> Weights | None:
        """The checkpoint of a trial's epoch, if it is still there and no later measured epoch was written over it."""
        there = self.weights_of(study, result.number)
        return next((w for w in reversed(there) if w.scored == result.epoch), None)

    def checkpoint_of(self, number: int, epoch: int) -> Path | None:
        """The same file, by the trial's lines alone."""
        found, folder = self.records(number)[0], self.run.trial(number)
        there = reversed(weights(found, folder, self._measured(found)))
        return next((w.file for w in there if w.scored == epoch), None)

    def result(self, study: Study, number: int) -> TrialResult:
        """How a trial that has reported did; of one that has not ended, by what its checkpoints count with."""
        trial = study.frozen(number)
        if trial.state.is_finished():
            return study.result(number)
        found, curve = self.records(number)[0], set(trial.intermediate_values)
        return study.result(number, set(_scoring(found, curve).values()) or curve)

    def names_checkpoints(self, number: int) -> bool:
        """Whether any record of the trial names a checkpoint."""
        return any(r.checkpoint for r in self.records(number)[0])

    def newest_loose(self, number: int) -> Path | None:
        """The newest file or folder in a trial's folder that looks like a checkpoint."""
        there = (path for path in self._looks_like_one(number) if is_whole(path))
        return max(there, key=lambda path: path.stat().st_mtime_ns, default=None)

    def _looks_like_one(self, number: int) -> list[Path]:
        """What the model's pattern of checkpoints fits in a trial's folder; the engine's own files are none."""
        found = self.run.trial(number).glob(self.pattern) if self.pattern else ()
        return [path for path in found if path.name not in OWN_FILES]


@dataclass(frozen=True)
class Winner:
    """What is handed over. `weights` is None of a trainer that writes none; `warning` says why it is not the
    study's best trial at its best epoch, or what else its checkpoint holds."""

    best: TrialResult
    weights: Weights | None
    warning: str | None = None

    @property
    def checkpoint(self) -> Path | None:
        return self.weights.file if self.weights else None


def so_far(study: Study, run: RunDir, metric: Metric) -> Winner | None:
    """What would be handed over now, for who only tells of it."""
    here = Checkpoints(run, metric)
    found = choose_winner(study, here)
    # Last: it reads the whole of what was handed over.
    return choose_winner(study, here, held_by_all(run.best)) if found and found.warning else found


def held_by_all(best: Path) -> dict[tuple[int, int, float], Weights]:
    """`provenance.held` of what other winners left, of `best` and of the rest of the front in it: which of them is the
    knee may have changed. Of two that hold the same, the one in `best`."""
    folders = (*best.parent.glob(f"{best.name}_of_trial_*"), best, *(best / FOLDER).glob("[0-9]*"))
    found = (item for folder in folders for item in provenance.held(folder).items())
    return {key: Weights(key[1], path, epoch) for key, (path, epoch) in found}


def choose_winner(study: Study, trials: Checkpoints, held: Held | None = None) -> Winner | None:
    """The study's best trial with the checkpoint that scored; where that is gone, the next best there is. `held`:
    the whole checkpoints that were handed over before. None without any metric."""
    ranked = study.ranked(lambda number: trials.result(study, number))
    if not ranked:
        return None
    first = ranked[0]
    before = (held or {}).get((first.number, first.epoch, first.value))
    found = before or trials.of_result(study, first)
    if found is not None or not any(trials.names_checkpoints(best.number) for best in ranked):
        return Winner(first, found, _ahead(first, found))
    gone = f"the checkpoint of trial {first.number}, epoch {first.epoch + 1} ({figure(first.value)}) is gone or damaged"
    for best in _with_checkpoints(study, trials, ranked):
        instead = f"trial {best.number}, epoch {best.epoch + 1} ({figure(best.value)})"
        found = trials.of_result(study, best)
        told = [f"{gone}; handed over instead: {instead}", _ahead(best, found)]
        return Winner(best, found, "; ".join(filter(None, told)))
    loose = trials.newest_loose(first.number)
    if loose is not None:
        found = Weights(first.epoch, loose, None)
        return Winner(first, found, f"{gone}; handed over instead: {loose.name}, whose epoch is not known")
    return Winner(first, None, f"{gone}, and neither are all others; only its configuration is handed over")


def _ahead(best: TrialResult, found: Weights | None) -> str | None:
    """What to say of a checkpoint that is not of the epoch that scored; None of one that is."""
    if found is None or found.holds == best.epoch:
        return None
    if found.holds is None:
        return f"it is not known which epoch the checkpoint of trial {best.number} holds"
    return (
        f"the checkpoint of trial {best.number} holds epoch {found.holds + 1}, of which nothing was measured: "
        f"{figure(best.value)} is of epoch {best.epoch + 1}"
    )


def _with_checkpoints(study: Study, trials: Checkpoints, ranked: Sequence[TrialResult]) -> list[TrialResult]:
    """Every (trial, epoch) whose checkpoint is there, best first: of COMPLETE trials before those stopped."""
    found = []
    for best in ranked:
        if among := {w.scored for w in trials.weights_of(study, best.number)}:
            found.append(study.result(best.number, among))
    return sorted(found, key=study.rank)
