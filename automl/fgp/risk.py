"""Where trainings fail: what a configuration promises counts by the chance that it gets through (expected improvement
under a constraint that is learnt: Gelbart et al. 2014, arXiv:1403.5607)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from automl.fgp.cube import Cube
from automl.fgp.gp import Array
from automl.fgp.regressed import Regressed
from automl.fgp.runs import Runs

if TYPE_CHECKING:
    from automl.scheduling import View

LEAST, MOST = 2, 60  # failed trials that it is told by at least; the newest of all of more
ALIKE = 0.2  # the least standard deviation of labels
DOUBT = 0.25  # variance of their noise
# Failures that come by chance, wherever a configuration lies, tell nothing of others. How much of the labels is
# explained by the others' shows it, once there are so many of both kinds.
OF_BOTH = 4
NOTHING, ALL = 0.1, 0.4  # of them explained: from where on it is believed, and in full
LIKELY = 0.5  # what fails with such a chance is no rival of others


class Risk:
    """None that anybody knows of."""

    def of(self, points: Array) -> Array:
        """(n,) the chance that trainings of (n, D) configurations fail."""
        return np.zeros(len(points))


class Learnt(Risk):
    """A Gaussian process over labels: of trials at `x` (n, D), 1 where one `failed` (n,), 0 where it got through."""

    def __init__(self, cube: Cube, x: Array, failed: Array) -> None:
        self.labels = Regressed(cube, x, failed.astype(float), ALIKE, DOUBT)
        rarer = min(failed.sum(), (~failed).sum())
        explained = 1.0 if rarer < OF_BOTH else self.labels.explained()
        self.trust = min(1.0, max(0.0, (explained - NOTHING) / (ALL - NOTHING)))

    def of(self, points: Array) -> Array:
        return np.asarray(self.trust * np.clip(self.labels.usual + self.labels.off(points), 0, 1))


def risk_of(view: View, cube: Cube, runs: Runs) -> Risk:
    """That of a study; its memo keeps the last, as most epochs tell nothing new of it. While nobody got through, all
    would be expected to fail, and be paused."""
    failed = runs.column("failed")
    if np.count_nonzero(failed) < LEAST or not (through := _got_through(runs)).any():
        return Risk()
    places = np.flatnonzero(failed | through)[-MOST:]
    key = len(cube.axes), [(int(place), bool(failed[place])) for place in places]

    def made() -> Risk:
        return Learnt(cube, np.array([runs[place].x for place in places]), failed[places])

    return view.kept("risk", key, made)


def _got_through(runs: Runs) -> Array:
    """(n,) whether one ended by itself, or is past the epoch in which half of those that failed did."""
    past = np.median(runs.column("epochs")[runs.column("failed")])
    return np.asarray(runs.column("complete") | (runs.reported & (runs.column("epochs") > past)))
