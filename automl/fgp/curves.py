"""Trials as rows of the model: which of their epochs, on which scale, and the shape of a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from automl.fgp.gp import Array, Rows
from automl.fgp.runs import Run, Runs

SHAPING = 100  # the newest whole curves that say how a curve rises
ROWS_OF_TRIAL = 3
TAIL = 2.0  # beyond so many units below the best, z grows by its logarithm alone
FINEST = 0.03  # the least of `Scale.fine`, in units
NOISES = 8.0  # and in standard deviations of the noise from epoch to epoch: that between trainings is larger
JUMPS = 20  # the newest whole curves that say what is noise
COARSEST = 1e-3  # the least unit, of the distance from the best to the worst; where a metric's zero lies says nothing
GROWTH = 2.0  # from rung to rung
SLIGHT = 0.1  # of the largest rise; a smaller one has no shape
FLOOR = 0.85  # a curve with more than this still to come has not left its floor
# Variance of the noise of a failed trial's row: failures may be chance's, and then lie beside what ran well. Without it
# the model took all differences between neighbours for luck (studies/search).
DOUBT = 1.0
# The same of a row from an earlier run, whose data may be other or whose trainings other chances: what is measured here
# outweighs it after a few trials (studies/search).
DOUBT_OF_EARLIER = 0.1
MEASURED, ASSUMED = (
    2.0,
    1.0,
)  # weights of a complete trial's curve and of the shape assumed before there is one


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
    def of(cls, runs: Runs) -> Scale:
        last = np.sort(runs.column("top"))[::-1]
        rise = float(runs.column("rise").max())
        best, half, fifth = (
            float(np.median(last[:n])) for n in (1, max(2, len(last) // 2), max(2, len(last) // 5))
        )
        unit = max(best - half, 0.25 * rise, COARSEST * float(best - last[-1])) or 1.0
        fine = max(best - fifth, FINEST * unit, NOISES * noise(runs))
        return cls(best, unit, min(fine, unit))

    def z(self, values: Array) -> Array:
        below = np.maximum(self.best - values, 0)
        near = np.log1p(below / self.fine) / math.log1p(self.unit / self.fine)
        far = below / self.unit
        far = np.where(far > TAIL, TAIL + np.log1p(np.maximum(far - TAIL, 0)), far)
        return -np.asarray(np.where(below < self.unit, near, far))


def noise(runs: Runs) -> float:
    """How much values jump from epoch to epoch, in the middle of the trials that ran to their end; 0 without such."""
    jumps = runs.column("jump")[runs.column("complete") & ~np.isnan(runs.column("jump"))][-JUMPS:]
    return float(np.median(jumps)) if len(jumps) else 0.0


def shape(runs: Runs, epochs: int) -> Array:
    """phi (epochs,): the share of a curve's rise that is still to come after each epoch."""
    if epochs < 2:
        return np.zeros(epochs)
    e = np.arange(1, epochs + 1) ** -0.5
    whole = _falls(runs, epochs)
    assumed = ASSUMED * (e - e[-1]) / (1 - e[-1])
    return np.asarray((assumed + MEASURED * sum(whole)) / (ASSUMED + MEASURED * len(whole)))


def first_rung(epochs: int) -> int:
    """The epochs after which a trial may first be paused, before any curve is whole."""
    return min(max(2, round(epochs / 9)), epochs)


def rungs(runs: Runs, epochs: int) -> list[int]:
    """After how many epochs a trial may be paused: from a ninth of all, or from where the curves that are whole have
    left their floor."""
    first = first_rung(epochs)
    if whole := _falls(runs, epochs):
        mean = np.mean(whole, axis=0)
        while first < epochs // 2 and mean[first - 1] > FLOOR:
            first += 1
    found = [first]
    while found[-1] * GROWTH < epochs:
        found.append(max(found[-1] + 1, round(found[-1] * GROWTH)))
    return [epoch for epoch in found if epoch < epochs]


def _falls(runs: Runs, epochs: int) -> list[Array]:
    """Of each trial that ran to its end, the share of its rise still to come, (epochs,). What hardly rises, as under a
    default that learns nothing, shows no shape but chance's."""
    least = max(1e-9, SLIGHT * float(runs.column("rise").max(initial=0.0)))
    whole = runs.newest(SHAPING, (runs.column("epochs") >= epochs) & (runs.column("rise") > least))
    return [(run.top - run.best) / run.rise for run in whole]


def rows(runs: Sequence[Run], scale: Scale, phi: Array, first_rung: int) -> Rows:
    """Of each trial its last epoch and up to two before it, of failed ones one at the end, as bad as the worst. Runs
    with negative numbers are of earlier runs (`runs.aligned`)."""
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
    doubts = [DOUBT_OF_EARLIER if number < 0 else 0.0 for _, _, number, _ in found] + [DOUBT] * len(failed)
    return Rows(
        np.array([row[0] for row in every]), np.array([row[1] for row in every]),
        np.array([row[2] for row in every]), np.r_[values, [row[3] for row in failed]],
        np.array(doubts),
    )  # fmt: skip
