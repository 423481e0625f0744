"""What an epoch costs: a search that time ends is after what a second brings, not an epoch (expected improvement per
second: Snoek et al. 2012, arXiv:1206.2944)."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from automl.budget import SLOWER, Budget
from automl.fgp.cube import Cube
from automl.fgp.gp import Array
from automl.fgp.regressed import Regressed

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl.scheduling import View

LEAST, MOST = 3, 60  # timed trials that it is told by; the newest of more
ALIKE = 0.1  # logarithms of seconds that differ by less do so by chance


class Pace:
    """All cost the same and end in time, where it is not the time that ends a search or too little of it was timed."""

    def cost(self, points: Array) -> Array:
        """(n,) seconds of an epoch of (n, D) configurations, in units of the usual one's."""
        return np.ones(len(points))

    def in_time(self, points: Array, epochs: Array | int, left: Budget) -> Array:
        """(n,) whether so many epochs of each take no more than the time that is `left`."""
        return np.ones(len(points), bool)


class Measured(Pace):
    """A Gaussian process over the logarithm of seconds an epoch: `x` (n, D) took `epoch_s` (n,)."""

    def __init__(self, cube: Cube, x: Array, epoch_s: Array) -> None:
        self.logs = Regressed(cube, x, np.log(epoch_s), ALIKE)

    def cost(self, points: Array) -> Array:
        return np.asarray(np.exp(self.logs.off(points)))

    def in_time(self, points: Array, epochs: Array | int, left: Budget) -> Array:
        usual_s = math.exp(self.logs.usual)
        return np.asarray(SLOWER * usual_s * self.cost(points) * epochs <= left.time_s)


def pace_of(view: View, cube: Cube) -> Pace:
    """That of a study; its memo keeps the last, as nothing new is timed between a promotion and an ask."""
    if view.budget.time_s == math.inf:
        return Pace()
    timed = ((trial, s) for trial in reversed(view.trials) if (s := _epoch_s(trial)) is not None)
    found = list(islice(timed, MOST))
    if len(found) < LEAST:
        return Pace()
    key = len(cube.axes), [(trial.number, s) for trial, s in found]

    def made() -> Pace:
        points = np.array([cube.point(trial.params) for trial, _ in found])
        return Measured(cube, points, np.array([s for _, s in found]))

    return view.kept("pace", key, made)


def _epoch_s(trial: FrozenTrial) -> float | None:
    """Seconds that an epoch of a trial took; None where nobody knows."""
    epochs, seconds = int(trial.user_attrs.get("timed", 0)), float(trial.user_attrs.get("timed_s", 0.0))
    return seconds / epochs if epochs > 0 and 0 < seconds < math.inf else None
