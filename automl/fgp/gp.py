"""A Gaussian process over learning curves (freeze-thaw: Swersky, Snoek, Adams 2014, arXiv:1406.3896).

    y(x, e) = f(x) + c_i - (g(x) + h_i) phi(e) + noise

f is where a configuration ends, g how far it still has to go after its first epoch, c_i and h_i what is a trial's own.
phi falls from 1 at the first epoch to 0 at the last. f is half a product kernel and half a sum over the axes, which
shows main effects after few trials; its mean is -0.5 and that of g 1, in units of `curves.Scale`.

Hyper-parameters `theta`: (D + 4,), the logarithms of one length an axis, then of the variances of f, g, c and noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize
from scipy.special import ndtr

Array = np.ndarray[Any, np.dtype[Any]]
Distance = Callable[[Array, Array], Array]  # (n, D), (m, D) -> (D, n, m) squared

SQRT5 = math.sqrt(5.0)
LENGTH, SIGNAL, SHAPE, OWN, NOISE = 0.7, 0.6, 0.15, 0.02, 0.004  # medians of the priors
LENGTH_SPREAD, SPREAD = 0.7, 1.0  # of the logarithms
ADDITIVE = 0.5  # share of f that is a sum over axes
OWN_SHAPE = 0.25  # variance of h_i in units of that of g
MEAN = np.array([-0.5, 1.0])
MEAN_VARIANCE = np.array([1.0, 0.5])
JITTER = 1e-6
MOST_STEPS = 25  # of the fit


@dataclass(frozen=True)
class Rows:
    """Observations: `x` (N, D), `phi` (N,) in [0, 1], `trial` (N,) whole numbers, `z` (N,) scaled metric, `doubt` (N,)
    variance of their noise besides what is fitted."""

    x: Array
    phi: Array
    trial: Array
    z: Array
    doubt: Array | float = 0.0

    def __len__(self) -> int:
        return len(self.z)

    def take(self, chosen: Array) -> Rows:
        doubt = self._doubts[chosen]
        return Rows(self.x[chosen], self.phi[chosen], self.trial[chosen], self.z[chosen], doubt)

    @property
    def _doubts(self) -> Array:
        return np.broadcast_to(self.doubt, self.z.shape)

    def plus(self, other: Rows) -> Rows:
        pairs = (
            (self.x, other.x), (self.phi, other.phi), (self.trial, other.trial), (self.z, other.z),
            (self._doubts, other._doubts),
        )  # fmt: skip
        return Rows(*(np.concatenate(pair) for pair in pairs))


def of_most_weight(rows: Rows, most: int) -> Rows:
    """At most so many: the last of each trial first, the best of those first."""
    if len(rows) <= most:
        return rows
    last = np.r_[rows.trial[1:] != rows.trial[:-1], True]
    weight = rows.z + 10 * last + 1e-6 * np.arange(len(rows))
    return rows.take(np.sort(np.argsort(-weight, kind="stable")[:most]))


def prior(axes: int) -> tuple[Array, Array]:
    """(means, standard deviations) of theta."""
    medians = np.array([LENGTH] * axes + [SIGNAL, SHAPE, OWN, NOISE])
    return np.log(medians), np.array([LENGTH_SPREAD] * axes + [SPREAD] * 4)


def fit(rows: Rows, distance: Distance, start: Array) -> Array:
    """The theta of highest posterior density near `start`; `start` itself where the numbers fail."""
    squared = distance(rows.x, rows.x)
    mean, spread = prior(len(squared))
    found = minimize(
        _loss, start, args=(rows, squared), jac=True, method="L-BFGS-B",
        bounds=list(zip(mean - 3 * spread, mean + 3 * spread, strict=True)),
        options={"maxfun": MOST_STEPS, "maxiter": MOST_STEPS},
    )  # fmt: skip
    return found.x if np.isfinite(found.fun) and found.fun < FAILED else start


FAILED = 1e9


def _basis(phi: Array) -> Array:
    return np.stack([np.ones_like(phi), -phi], 1)


def _kernels(squared: Array, shrink: Array) -> tuple[Array, Array, Array]:
    """(of f, of g, r) for (D, n, m) squares and (D,) what they are multiplied by. Axis by axis, so that what is being
    added up stays in the processor's cache: half the time."""
    r2, parts = np.zeros(squared.shape[1:]), np.zeros(squared.shape[1:])
    for axis, factor in zip(squared, shrink, strict=True):
        scaled = axis * factor
        r2 += scaled
        parts += 1 / (1 + 0.5 * scaled)
    r = SQRT5 * np.sqrt(r2)
    product = (1 + r + 5 / 3 * r2) * np.exp(-r)
    return (1 - ADDITIVE) * product + ADDITIVE * (parts / len(squared)), product, r


def _loss(theta: Array, rows: Rows, squared: Array) -> tuple[float, Array]:
    """Negative log posterior of theta and its gradient."""
    axes, n = len(squared), len(rows)
    signal, shape, own, noise = np.exp(theta[axes:])
    shrink = np.exp(-2 * theta[:axes])
    both, product, r = _kernels(squared, shrink)
    scaled = squared * shrink[:, None, None]
    parts = 1 / (1 + 0.5 * scaled)
    slope = 5 / 3 * (1 + r) * np.exp(-r)  # Matern's
    bent = rows.phi[:, None] * rows.phi[None]
    same = (rows.trial[:, None] == rows.trial[None]).astype(float)
    basis = _basis(rows.phi)
    k = signal * both + shape * product * bent + same * (own + OWN_SHAPE * shape * bent)
    k[np.diag_indices(n)] += noise + rows.doubt + JITTER
    k += (basis * MEAN_VARIANCE) @ basis.T
    try:
        lower = np.linalg.cholesky(k)
    except np.linalg.LinAlgError:
        return FAILED * 10, np.zeros_like(theta)
    residual = rows.z - basis @ MEAN
    inverse = solve_triangular(lower, np.eye(n), lower=True, check_finite=False)
    inverse = inverse.T @ inverse
    weights = inverse @ residual
    mean, spread = prior(axes)
    off = (theta - mean) / spread
    loss = 0.5 * residual @ weights + np.log(np.diag(lower)).sum() + 0.5 * off @ off
    pull = 0.5 * (inverse - np.outer(weights, weights))
    gradient = np.empty_like(theta)
    of_product = pull * slope * (signal * (1 - ADDITIVE) + shape * bent)
    gradient[:axes] = np.tensordot(scaled, of_product, ([1, 2], [0, 1]))
    gradient[:axes] += np.einsum("dij,ij->d", parts * parts * scaled, pull * (signal * ADDITIVE / axes))
    gradient[axes] = signal * (pull * both).sum()
    gradient[axes + 1] = shape * (pull * bent * (product + OWN_SHAPE * same)).sum()
    gradient[axes + 2] = own * (pull * same).sum()
    gradient[axes + 3] = noise * np.trace(pull)
    return float(loss), gradient + off / spread


class Posterior:
    """The process with fixed theta, given rows. Raises `numpy.linalg.LinAlgError` for rows that contradict it."""

    def __init__(self, rows: Rows, distance: Distance, theta: Array) -> None:
        self.rows, self.distance, self.theta = rows, distance, theta
        axes = rows.x.shape[1]
        self.signal, self.shape, self.own, self.noise = np.exp(theta[axes:])
        self.shrink = np.exp(-2 * theta[:axes])
        k = self._between(rows.x, rows.phi, rows.trial, rows)
        k[np.diag_indices(len(rows))] += self.noise + rows.doubt + JITTER
        self.lower = np.linalg.cholesky(k)
        residual = rows.z - _basis(rows.phi) @ MEAN
        self.weights = solve_triangular(self.lower, residual, lower=True, check_finite=False)

    def _between(self, x: Array, phi: Array, trial: Array, rows: Rows) -> Array:
        both, product, _ = _kernels(self.distance(x, rows.x), self.shrink)
        bent = phi[:, None] * rows.phi[None]
        same = trial[:, None] == rows.trial[None]
        k = (
            self.signal * both
            + self.shape * product * bent
            + same * (self.own + OWN_SHAPE * self.shape * bent)
        )
        return np.asarray(k + (_basis(phi) * MEAN_VARIANCE) @ _basis(rows.phi).T)

    def predict(self, x: Array, phi: Array, trial: Array | None = None) -> tuple[Array, Array]:
        """(mean, standard deviation), each (n,), without noise. `trial` says whose own part is known; None asks for
        new configurations' f and g alone."""
        half, sd = self.seen(x, phi, trial)
        return _basis(phi) @ MEAN + half.T @ self.weights, sd

    def seen(self, x: Array, phi: Array, trial: Array | None = None) -> tuple[Array, Array]:
        """((N, n) what rows say of each, by which their weights count; (n,) the standard deviation left)."""
        known = trial is not None
        cross = self._between(x, phi, trial if trial is not None else np.full(len(x), NOBODY), self.rows)
        half = solve_triangular(self.lower, cross.T, lower=True, check_finite=False)
        basis = _basis(phi)
        variance = self.signal + self.shape * phi**2 + ((basis * MEAN_VARIANCE) * basis).sum(1)
        if known:
            variance = variance + self.own + OWN_SHAPE * self.shape * phi**2
        variance = variance - (half * half).sum(0)
        return half, np.sqrt(np.maximum(variance, 1e-8))

    def ends(self, x: Array, trial: Array, normal: Array) -> Array:
        """(n, M) joint draws of where trials end, from (n, M) standard normal numbers."""
        zeros = np.zeros(len(x))
        half, _ = self.seen(x, zeros, trial)
        k = self._between(x, zeros, trial, Rows(x, zeros, trial, zeros)) - half.T @ half
        k[np.diag_indices(len(x))] += JITTER * (1 + np.diag(k).max())
        return np.asarray((MEAN[0] + half.T @ self.weights)[:, None] + np.linalg.cholesky(k) @ normal)


class Fantasies:
    """The process given, besides its rows, what trials may end at that still run: the expected improvement over all of
    it is that of a batch (Ginsbourger et al. 2010; Snoek et al. 2012, arXiv:1206.2944). `ends` (n, M): draws of
    `posterior.ends` at `x`, of `trial`; `best` (M,) what is to be beaten in each. `mean`: given their
    means."""

    def __init__(self, posterior: Posterior, x: Array, trial: Array, ends: Array, best: Array) -> None:
        rows = posterior.rows.plus(Rows(x, np.zeros(len(x)), trial, ends.mean(1)))
        self.mean, self.best = Posterior(rows, posterior.distance, posterior.theta), best
        self.highest = ends.max(0)
        z = np.concatenate([np.repeat(posterior.rows.z[:, None], ends.shape[1], 1), ends])
        residual = z - (_basis(rows.phi) @ MEAN)[:, None]
        self.weights = solve_triangular(self.mean.lower, residual, lower=True, check_finite=False)

    def improvement(self, x: Array) -> Array:
        """(n,) expected improvement of new configurations at their ends."""
        half, sd = self.mean.seen(x, np.zeros(len(x)))
        return improvement(MEAN[0] + half.T @ self.weights, sd[:, None], self.best).mean(1)


NOBODY = -(2**40)  # a trial that no row is of


def improvement(mean: Array, sd: Array, best: Array | float) -> Array:
    """(n,) the expected improvement over the best."""
    z = (mean - best) / sd
    return np.asarray(sd * (z * ndtr(z) + np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)))
