"""A Gaussian process over one number that configurations have, whatever their curves: what an epoch costs, whether a
training fails."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from automl.fgp import gp
from automl.fgp.cube import Cube
from automl.fgp.gp import Array


class Regressed:
    """`y` (n,) at `x` (n, D), in units of its standard deviation, at least `alike`; `doubt`: variance of noise besides
    what is fitted, in the square of those."""

    def __init__(self, cube: Cube, x: Array, y: Array, alike: float, doubt: float = 0.0) -> None:
        self.usual, self.spread = float(y.mean()), max(alike, float(y.std()))
        z = gp.MEAN[0] + (y - y.mean()) / self.spread
        rows = gp.Rows(x, np.zeros(len(z)), np.arange(len(z)), z, doubt)
        theta = gp.fit(rows, cube.squared, gp.prior(x.shape[1])[0])
        self.posterior = gp.Posterior(rows, cube.squared, theta)

    def off(self, points: Array) -> Array:
        """(n,) by how much `y` of (n, D) configurations is expected to differ from the usual."""
        z, _ = self.posterior.predict(points, np.zeros(len(points)))
        return np.asarray(self.spread * (z - gp.MEAN[0]))

    def explained(self) -> float:
        """The share of the variance of `y` that the others explain of each, left out in turn; below 0: none."""
        post, z = self.posterior, self.posterior.rows.z
        half = solve_triangular(post.lower, np.eye(len(z)), lower=True, check_finite=False)
        left_out = (half.T @ post.weights) / (half * half).sum(0)
        return 1 - float((left_out**2).mean() / z.var())
