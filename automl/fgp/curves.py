"""The study's trials as rows of the model: which epochs of which trials, on which scale, and the shape of a curve.

Everything here is turned so that higher is better. A curve is the best so far: a trainer's checkpoint is that of its
best epoch.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from automl.fgp.cube import Cube
from automl.fgp.gp import Array, Rows

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

BEST = NEWEST = 25  # trials that are rows, of many
SHAPING = 100  # the newest whole curves that say how a curve rises
FAILED_ROWS = 10  # the newest failed ones
ROWS_OF_TRIAL = 3
TAIL = 2.0  # beyond so many units below the best, z grows by its logarithm alone
FINEST = 0.03  # the least of `Scale.fine`, in units
NOISES = 8.0  # and in standard deviations of the noise from epoch to epoch: that between trainings is larger
JUMPS = 20  # the newest whole curves that say what is noise
GROWTH = 2.0  # from rung to rung
FLOOR = 0.85  # a curve with more than this still to come has not left its floor
MEASURED, ASSUMED = (
    2.0,
    1.0,
)  # weights of a complete trial's curve and of the shape assumed before there is one


@dataclass(frozen=True)
class Run:
    """One trial. `x` (D,); `best` (n,) its best so far after each epoch; `running`: not ended, not paused; `jump`: its
    noise from epoch to epoch, where it is complete."""

    number: int
    x: Array
    best: Array
    failed: bool = False
    running: bool = False
    complete: bool = False
    jump: float | None = None

    @cached_property
    def epochs(self) -> int:
        return len(self.best)

    @cached_property
    def top(self) -> float:
        return float(self.best[-1])

    @cached_property
    def rise(self) -> float:
        """From the first epoch on."""
        return self.top - float(self.best[0])


def run_of(trial: FrozenTrial, number: int, cube: Cube, sign: float, epochs: int, paused: bool) -> Run:
    state = trial.state.name
    curve = {min(e, epochs - 1): sign * v for e, v in sorted(trial.intermediate_values.items())}
    best = np.full(max(curve) + 1 if curve else 0, -np.inf)
    for epoch, value in curve.items():
        best[epoch] = value
    if len(best):  # epochs without a metric have what came before, the first ones what comes first
        best = np.maximum.accumulate(best)
        best[np.isinf(best)] = best[np.isfinite(best)][0]
    complete = state == "COMPLETE"
    return Run(
        number, cube.point(trial.params), best, state == "FAIL",
        state in ("RUNNING", "WAITING") and not paused, complete, _jump([*curve.values()]) if complete else None,
    )  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """z of a value: 0 at the best, -1 one `unit` below it, and beyond `TAIL` falling by the logarithm alone. The unit
    is how far the better half of the trials lies apart; within it values are spread by the logarithm of their distance
    to the best in units of `fine`, or the last steps of a search would be lost in what the first ones differ by. `fine`
    is how far the best fifth lies apart, and never as small as what may be noise."""

    best: float
    unit: float
    fine: float

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Scale:
        last = np.sort([run.top for run in runs])[::-1]
        rise = max(run.rise for run in runs)
        best, half, fifth = (
            float(np.median(last[:n])) for n in (1, max(2, len(last) // 2), max(2, len(last) // 5))
        )
        unit = max(best - half, 0.25 * rise, 1e-3 * abs(best), 1e-9)
        fine = max(best - fifth, FINEST * unit, NOISES * noise(runs), 1e-4 * abs(best))
        return cls(best, unit, min(fine, unit))

    def z(self, values: Array) -> Array:
        below = np.maximum(self.best - values, 0)
        near = np.log1p(below / self.fine) / math.log1p(self.unit / self.fine)
        far = below / self.unit
        far = np.where(far > TAIL, TAIL + np.log1p(np.maximum(far - TAIL, 0)), far)
        return -np.asarray(np.where(below < self.unit, near, far))


def noise(runs: Sequence[Run]) -> float:
    """How much values jump from epoch to epoch, in the middle of the trials that ran to their end; 0 without such."""
    newest = (run.jump for run in reversed(runs) if run.complete and run.jump is not None)
    jumps = list(islice(newest, JUMPS))
    return float(np.median(jumps)) if jumps else 0.0


def _jump(values: Sequence[float]) -> float | None:
    """Standard deviation of noise on the later half of a curve, by its second differences, robustly; None for curves
    of fewer than six epochs."""
    if len(values) < 6:
        return None
    bends = np.abs(np.diff(values[len(values) // 2 - 1 :], 2)) / math.sqrt(6)
    return float(np.median(bends) / 0.6745)


def shape(runs: Sequence[Run], epochs: int) -> Array:
    """phi (epochs,): the share of a curve's rise that is still to come after each epoch."""
    if epochs < 2:
        return np.zeros(epochs)
    e = np.arange(1, epochs + 1) ** -0.5
    whole = _falls(runs, epochs)
    assumed = ASSUMED * (e - e[-1]) / (1 - e[-1])
    return np.asarray((assumed + MEASURED * sum(whole)) / (ASSUMED + MEASURED * len(whole)))


def rungs(runs: Sequence[Run], epochs: int) -> list[int]:
    """After how many epochs a trial may be paused: from a ninth of all, or from where the curves that are whole have
    left their floor."""
    first = max(2, round(epochs / 9))
    if whole := _falls(runs, epochs):
        mean = np.mean(whole, axis=0)
        while first < epochs // 2 and mean[first - 1] > FLOOR:
            first += 1
    found = [first]
    while found[-1] * GROWTH < epochs:
        found.append(max(found[-1] + 1, round(found[-1] * GROWTH)))
    return [epoch for epoch in found if epoch < epochs]


def _falls(runs: Sequence[Run], epochs: int) -> list[Array]:
    """Of each trial that ran to its end, the share of its rise still to come, (epochs,)."""
    newest = (run for run in reversed(runs) if run.epochs >= epochs and run.rise > 1e-9)
    return [(run.top - run.best) / run.rise for run in list(islice(newest, SHAPING))[::-1]]


def rows(runs: Sequence[Run], scale: Scale, phi: Array, first_rung: int) -> Rows:
    """Of each trial its last epoch and up to two before it, of failed ones one at the end, as bad as the worst."""
    epochs = len(phi)
    marks = sorted({max(1, epochs // 9), max(1, epochs // 3), epochs, first_rung})
    found: list[tuple[Array, float, int, float]] = []
    for run in runs:
        if run.failed:
            continue
        for epoch in [*[m for m in marks if m < run.epochs][1 - ROWS_OF_TRIAL :], run.epochs]:
            found.append((run.x, float(phi[epoch - 1]), run.number, float(run.best[epoch - 1])))
    values = scale.z(np.array([row[3] for row in found]))
    bad = min(float(values.min()), -TAIL)
    failed = [(run.x, 0.0, run.number, bad) for run in runs if run.failed]
    every = [row[:3] for row in found] + [row[:3] for row in failed]
    return Rows(
        np.array([row[0] for row in every]), np.array([row[1] for row in every]),
        np.array([row[2] for row in every]), np.r_[values, [row[3] for row in failed]],
    )  # fmt: skip


def chosen(runs: Sequence[Run]) -> list[Run]:
    """The trials that become rows: the best and the newest, in the order of `runs`."""
    valued = [run for run in runs if run.epochs and not run.failed]
    failed = [run.number for run in runs if run.failed][-FAILED_ROWS:]
    if len(valued) > BEST + NEWEST:
        valued = [*best_of(valued, BEST), *valued[-NEWEST:]]
    kept = {run.number for run in valued} | set(failed)
    return [run for run in runs if run.number in kept]


def best_of(runs: Sequence[Run], count: int) -> list[Run]:
    """The best `count`, best first, ties in the order of `runs`; not sorted whole, which thousands would feel."""
    return heapq.nlargest(count, runs, key=attrgetter("top"))


@dataclass(frozen=True)
class Seen:
    """What `all_runs` keeps. `open`: place -> state of the trials that had not ended."""

    key: tuple[int, int]
    runs: list[Run] = field(default_factory=list)
    open: dict[int, tuple[Any, ...]] = field(default_factory=dict)


def all_runs(
    trials: Sequence[FrozenTrial], paused: Mapping[int, int], cube: Cube, sign: float, epochs: int,
    memo: MutableMapping[Any, Any],
) -> list[Run]:  # fmt: skip
    """Every trial as a `Run`. Those that had ended when last looked at are not looked at again."""
    seen: Seen | None = memo.get("runs")
    if seen is None or seen.key != (len(cube.axes), epochs) or len(seen.runs) > len(trials):
        seen = memo["runs"] = Seen((len(cube.axes), epochs))
    for place in [*seen.open, *range(len(seen.runs), len(trials))]:
        trial = trials[place]
        state = len(trial.intermediate_values), trial.state, trial.number in paused
        if seen.open.get(place) != state:
            seen.open[place] = state
            run = run_of(trial, trial.number, cube, sign, epochs, trial.number in paused)
            seen.runs[place : place + 1] = [run]
        if trial.state.is_finished():
            del seen.open[place]
    return list(seen.runs)


def aligned(earlier: Sequence[Run], own: Sequence[Run]) -> list[Run]:
    """Another run's trials with their best moved to where ours is: what they tell is which configurations are better,
    not how good. Their numbers become negative."""
    theirs = [run for run in earlier if run.epochs and not run.failed]
    ours = [run.top for run in own if run.epochs and not run.failed]
    shift = max(ours) - max(run.top for run in theirs) if ours and theirs else 0.0
    return [Run(-1 - i, run.x, run.best + shift) for i, run in enumerate(theirs)]


def shortened(run: Run, epochs: int) -> Run:
    """A run as it was after so many epochs."""
    return replace(run, best=run.best[:epochs], complete=False)
