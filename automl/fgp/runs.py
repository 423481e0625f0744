"""The study's trials as the model sees them: where they lie in the cube and how their values rose, and of all of them
at once what it asks of all of them.

Everything here is turned so that higher is better. A curve is the best so far, as a trainer's checkpoint is that of its
best epoch, and never above what the trial was told with, or would be now: of a trainer that writes one file over and
over the last epoch counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from automl.fgp.cube import Cube
from automl.fgp.gp import Array

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

BEST = NEWEST = 25  # trials that are rows, of many
LARGEST = 1e150  # of a value: what a diverged trial reports may have no square and no sum
FAILED_ROWS = 10  # the newest failed ones
# A value that lies so many times further below where curves of the better half start than that lies below the best is
# cut off: a loss that has diverged would be the scale that all others are measured by.
SANE = 20.0
FALLEN = 10.0  # times a loss's first epoch is its last, from where on its logarithm is the scale


@dataclass(frozen=True)
class Run:
    """One trial. `x` (D,); `best` (n,) its best so far after each epoch; `running`: not ended, not paused; `jump`: its
    noise from epoch to epoch, where it is complete and long enough, else nan."""

    number: int
    x: Array
    best: Array
    failed: bool = False
    running: bool = False
    complete: bool = False
    jump: float = math.nan

    @property
    def epochs(self) -> int:
        return len(self.best)

    @property
    def top(self) -> float:
        return float(self.best[-1]) if len(self.best) else -math.inf

    @property
    def rise(self) -> float:
        """From the first epoch on."""
        return self.top - float(self.best[0]) if len(self.best) else 0.0


COLUMNS = np.dtype(
    [("epochs", int), ("top", float), ("rise", float), ("jump", float)]
    + [(state, bool) for state in ("failed", "running", "complete")]
)


def _columns(runs: Sequence[Run]) -> Array:
    return np.array([tuple(getattr(run, name) for name in COLUMNS.names or ()) for run in runs], COLUMNS)


@dataclass(frozen=True)
class Runs:
    """Trials in their order, `each` (n,) of objects. `columns` (n,) has what is asked of all of them: of ten thousand
    trials none is looked at one by one."""

    each: Array
    columns: Array

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Runs:
        each = np.empty(len(runs), object)
        each[:] = runs
        return cls(each, _columns(runs))

    def __len__(self) -> int:
        return len(self.each)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.each)

    def __getitem__(self, place: int) -> Run:
        run: Run = self.each[place]
        return run

    def column(self, name: str) -> Array:
        return np.asarray(self.columns[name])

    def where(self, mask: Array) -> Runs:
        return self.take(np.flatnonzero(mask))

    def take(self, places: Array) -> Runs:
        return Runs(self.each[places], self.columns[places])

    def replaced(self, place: int, run: Run) -> Runs:
        each, columns = self.each.copy(), self.columns.copy()
        each[place], columns[place] = run, _columns([run])[0]
        return Runs(each, columns)

    @property
    def reported(self) -> Array:
        """(n,) whether one reported and did not fail."""
        return np.asarray((self.column("epochs") > 0) & ~self.column("failed"))

    @property
    def valued(self) -> Runs:
        return self.where(self.reported)

    def best(self, count: int) -> Runs:
        """The best `count`, best first, ties in their order."""
        return self.take(_best(self.column("top"), count))

    def newest(self, count: int, mask: Array) -> Runs:
        """The last `count` where `mask` holds, in their order."""
        return self.take(np.flatnonzero(mask)[-count:])


def _best(values: Array, count: int) -> Array:
    """The places of the best `count`, best first, ties in their order; only these are sorted."""
    if len(values) > count:
        near = np.flatnonzero(values >= np.partition(values, -count)[-count])
    else:
        near = np.arange(len(values))
    return np.asarray(near[np.argsort(-values[near], kind="stable")[:count]])


def run_of(
    trial: FrozenTrial, number: int, cube: Cube, sign: float, epochs: int, paused: bool = False,
    last: bool = False, until: int | None = None,
) -> Run:  # fmt: skip
    """A trial after its last epoch or, while it is open, after `until` epochs. `last`: what an open trial reported last
    is what counts of it."""
    state, told = trial.state.name, _told(trial)
    complete = state == "COMPLETE"
    curve = sorted(item for item in trial.intermediate_values.items() if until is None or item[0] < until)
    if not curve and complete and told is not None:  # of a study that reports nothing on the way
        curve = [(epochs - 1, told)]
    values = [_within(sign * value) for _, value in curve]
    best = np.full(min(curve[-1][0] + 1, epochs) if curve else 0, -np.inf)
    for (epoch, _), value in zip(curve, values, strict=True):
        best[min(epoch, epochs - 1)] = max(value, best[min(epoch, epochs - 1)])
    if len(best):  # epochs without a metric have what came before, the first ones what comes first
        best = np.maximum.accumulate(best)
        best[np.isinf(best)] = best[np.isfinite(best)][0]
        if told is not None or last:
            best = np.minimum(best, values[-1] if told is None else _within(sign * told))
    return Run(
        number, cube.point(trial.params), best, state == "FAIL",
        state in ("RUNNING", "WAITING") and not paused, complete, _jump(values) if complete else math.nan,
    )  # fmt: skip


def _told(trial: FrozenTrial) -> float | None:
    """The value that a trial ended with, as reported; None of one that is open or failed."""
    if trial.values:
        return float(trial.values[0])
    return trial.intermediate_values.get(trial.user_attrs.get("best_epoch", -1))


def _has_fallen(trial: FrozenTrial, sign: float) -> bool:
    """Whether a trial was told with less than it once had."""
    told, values = _told(trial), trial.intermediate_values.values()
    return told is not None and any(sign * value > sign * told for value in values)


def _within(value: float) -> float:
    return max(-LARGEST, min(LARGEST, value))


def _jump(values: Sequence[float]) -> float:
    """Standard deviation of noise on the later half of a curve, by its second differences, robustly; nan for curves
    of fewer than six epochs."""
    if len(values) < 6:
        return math.nan
    bends = np.abs(np.diff(values[len(values) // 2 - 1 :], 2)) / math.sqrt(6)
    return float(np.median(bends) / 0.6745)


@dataclass
class Seen:
    """What `all_runs` keeps. `open`: place -> state of the trials that had not ended; `last`: see `run_of`."""

    key: tuple[int, int]
    runs: Runs
    open: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    last: bool = False


def all_runs(
    trials: Sequence[FrozenTrial], paused: Mapping[int, int], cube: Cube, sign: float, epochs: int,
    memo: MutableMapping[Any, Any], cut: tuple[int, int] | None = None,
) -> Runs:  # fmt: skip
    """Every trial as a `Run`; `cut`: (number, epochs) of one whose later epochs are left out. Those that had ended when
    last looked at are not looked at again."""
    seen: Seen | None = memo.get("runs")
    if seen is None or seen.key != (len(cube.axes), epochs) or len(seen.runs) > len(trials):
        seen = memo["runs"] = Seen((len(cube.axes), epochs), Runs.of([]))
    known, changed = len(seen.runs), {}
    places = [*seen.open, *range(known, len(trials))]
    seen.last |= any(_has_fallen(trials[place], sign) for place in places)
    for place in places:
        trial = trials[place]
        state = len(trial.intermediate_values), trial.state, trial.number in paused, seen.last
        if seen.open.get(place) != state:
            seen.open[place] = state
            run = run_of(trial, trial.number, cube, sign, epochs, trial.number in paused, seen.last)
            changed[place] = _to_end(run, epochs)
        if trial.state.is_finished():
            del seen.open[place]
    if changed:
        seen.runs = _with(seen.runs, changed)
    if cut is None:
        return seen.runs
    place, until = cut
    return seen.runs.replaced(
        place, run_of(trials[place], place, cube, sign, epochs, last=seen.last, until=until)
    )


def _to_end(run: Run, epochs: int) -> Run:
    """A training that ended by itself has come to its end, also one that ended early or has not measured it."""
    if not run.complete or not 0 < run.epochs < epochs:
        return run
    return replace(run, best=np.r_[run.best, np.full(epochs - run.epochs, run.top)])


def _with(runs: Runs, changed: Mapping[int, Run]) -> Runs:
    """With some replaced, and those added whose places come after the last."""
    count = len(runs)
    added = [run for place, run in sorted(changed.items()) if place >= count]
    old = [place for place in changed if place < count]
    new = Runs.of(added)
    each, columns = np.concatenate([runs.each, new.each]), np.concatenate([runs.columns, new.columns])
    columns[old] = _columns([changed[place] for place in old])
    for place in old:
        each[place] = changed[place]
    return Runs(each, columns)


def chosen(runs: Runs) -> Runs:
    """The trials that become rows: the best and the newest, in the order of `runs`."""
    valued = np.flatnonzero(runs.reported)
    if len(valued) > BEST + NEWEST:
        best = _best(runs.column("top")[valued], BEST)
        valued = np.union1d(valued[best], valued[-NEWEST:])
    return runs.take(np.union1d(valued, np.flatnonzero(runs.column("failed"))[-FAILED_ROWS:]))


def falls_far(runs: Runs) -> bool:
    """Whether what is minimised lies above 0 everywhere and the first training took it to a tenth or less: by how much
    first epochs differ from ends, as a perplexity's do, would else be the scale that ends are measured by."""
    valued = runs.valued
    if not len(valued) or float(valued.column("top").max()) >= 0:
        return False
    first = valued[0]
    return first.complete and bool(first.best[0] <= FALLEN * first.top)


def logged(runs: Runs) -> Runs:
    """What is minimised, by its logarithm. What is 0 or below, which only a failed trial or another run's can be here,
    counts as the least that is above it."""
    tops = -runs.column("top")
    least = float(tops[(tops > 0) & np.isfinite(tops)].min(initial=LARGEST))
    every = [
        replace(run, best=-np.log(np.maximum(-run.best, least)), jump=run.jump / max(-run.top, least))
        if len(run.best)
        else run
        for run in runs
    ]
    return Runs.of(every)


def sane(runs: Runs) -> Runs:
    """With curves cut off where they lie absurdly far below the others; as they are where nothing does."""
    tops, first = runs.column("top"), runs.column("top") - runs.column("rise")
    reported = runs.reported
    if not reported.any():
        return runs
    best, places = float(tops[reported].max()), np.flatnonzero(reported)
    better = places[_best(tops[places], (len(places) + 1) // 2)]
    start = float(np.median(first[better]))
    floor = start - SANE * (best - start)
    low = np.flatnonzero(reported & (first < floor)) if best > start else ()
    changed = {p: replace(runs[p], best=np.maximum(runs[p].best, floor)) for p in map(int, low)}
    return _with(runs, changed) if changed else runs


def aligned(earlier: Runs, own: Runs) -> Runs:
    """Another run's trials that reported, with their best moved to where ours is: what they tell is which
    configurations are better, not how good. Their numbers become negative."""
    theirs, ours = earlier.valued, own.valued
    shift = float(ours.column("top").max() - theirs.column("top").max()) if len(ours) and len(theirs) else 0.0
    return Runs.of([Run(-1 - i, run.x, run.best + shift) for i, run in enumerate(theirs)])
