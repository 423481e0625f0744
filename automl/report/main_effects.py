"""What each parameter does by itself to a search's results: a Gaussian process that is a sum over the parameters.

    y = constant + f_1(x_1) + ... + f_D(x_D) + noise

Each f_i has mean 0 over what is searched and a variance of its own there, which the results decide (maximum of the
marginal likelihood). So a parameter without an effect gets none, and where a search has looked at a corner only, the
uncertainty about the rest is part of the answer (Durrande et al. 2013, arXiv:1111.6233).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

LENGTH = 0.5  # of the kernel, in parts of what is searched
FAR = 25.0  # prior variance of the constant, in units of the results'
LEAST, MOST, QUIETEST = 1e-4, 20.0, 5e-3  # variances of a parameter, and the least of noise
START, STEPS = 0.1, 60
BY_CHANCE = 0.05  # of searches in which nothing has an effect, those with a parameter told all the same
FITS, DRAWS = 40, 20  # of the variances, and of the curves with each
FLATTEST = 0.5  # curvature of the loss, below which one standard deviation is more than the prior allows


@dataclass(frozen=True)
class Part:
    """One parameter's kernel: `own` (n, n) between the trials, `over` (g, n) and `grid` (g, g) of the points that stand
    for what is searched; all centred over these and scaled to a mean variance of 1."""

    own: np.ndarray
    over: np.ndarray
    grid: np.ndarray


@dataclass(frozen=True)
class Effect:
    """`share` of the variance over what is searched, noise included, 0 to 1, `low` and `high` its middle 95 %."""

    share: float
    low: float
    high: float
    found: bool  # the results are clearly less likely without it


def number_part(at: np.ndarray, grid: np.ndarray) -> Part:
    """`at` (n,) and `grid` (g,) in parts of what is searched, 0 to 1."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        far = np.sqrt(3.0) * np.abs(a[:, None] - b[None, :]) / LENGTH
        return np.asarray((1 + far) * np.exp(-far))

    return _centred(kernel(at, at), kernel(grid, at), kernel(grid, grid))


def level_part(at: np.ndarray, levels: int) -> Part:
    """`at` (n,): which of the levels."""
    same = np.eye(levels)
    return _centred(same[at][:, at], same[:, at], same)


def _centred(own: np.ndarray, over: np.ndarray, grid: np.ndarray) -> Part:
    mean, of_trials, of_grid = grid.mean(), over.mean(axis=0), grid.mean(axis=1)
    own = own - of_trials[:, None] - of_trials[None, :] + mean
    over = over - of_grid[:, None] - of_trials[None, :] + mean
    grid = grid - of_grid[:, None] - of_grid[None, :] + mean
    scale = np.diag(grid).mean()
    return Part(own / scale, over / scale, grid / scale)


def effects(parts: Sequence[Part], y: np.ndarray) -> list[Effect]:
    """One for each parameter; `y` (n,) has mean 0 and variance 1."""
    kernels = np.stack([part.own for part in parts])
    at, loss = _fitted(kernels, y, np.log([START] * len(parts) + [0.3]))
    needed = chdtri(1, 2 * BY_CHANCE / len(parts))  # a variance of 0 lies at the border: half of the cases
    found = []
    for n, shares in enumerate(_shares(parts, kernels, y, at).T):
        low, high = np.quantile(shares, [0.025, 0.975])
        told = at[n] > np.log(10 * LEAST) and 2 * (_without(kernels, y, at, n) - loss) > needed
        share = float(shares.mean())
        found.append(Effect(share, float(min(low, share)), float(max(high, share)), bool(told)))
    return found


def _shares(parts: Sequence[Part], kernels: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(draws, D) shares as the results leave them open: drawn by what is unsure of the variances, then of each f_i."""
    random, rows = np.random.default_rng(0), []
    for variances in np.exp(_around(kernels, y, at, random)):
        inverse = np.linalg.inv(_covariance(kernels, variances))
        drawn = [_drawn(part, v, inverse, y, random) for part, v in zip(parts, variances, strict=False)]
        own = np.stack(drawn, axis=1)
        rows.append(own / (own.sum(axis=1, keepdims=True) + variances[-1]))
    return np.concatenate(rows)


def _drawn(
    part: Part, variance: float, inverse: np.ndarray, y: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """(DRAWS,) variances over the grid of one parameter's curve."""
    mean = variance * part.over @ inverse @ y
    spread = variance * part.grid - variance**2 * part.over @ inverse @ part.over.T
    return np.asarray((mean + random.standard_normal((DRAWS, len(mean))) @ _root(spread)).var(axis=1))


def _around(kernels: np.ndarray, y: np.ndarray, at: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(FITS, D + 1) logarithms of variances that fit about as well, by the curvature of the loss at its least."""
    free = np.flatnonzero(at > np.log(10 * LEAST))
    step, rows = 0.05, []
    for n in free:
        slopes = [_loss(at + sign * step * np.eye(len(at))[n], kernels, y)[1][free] for sign in (1, -1)]
        rows.append((slopes[0] - slopes[1]) / (2 * step))
    curvature = np.array(rows)
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    root = (vectors / np.sqrt(np.maximum(values, FLATTEST))).T
    moved = np.tile(at, (FITS, 1))
    moved[:, free] += random.standard_normal((FITS, len(free))) @ root
    return np.clip(moved, np.log(LEAST), np.log(MOST))


def _covariance(kernels: np.ndarray, variances: np.ndarray) -> np.ndarray:
    n = kernels.shape[1]
    return np.asarray(np.tensordot(variances[:-1], kernels, 1) + variances[-1] * np.eye(n) + FAR)


def _loss(at: np.ndarray, kernels: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """(loss, its slope) at the logarithms of the variances, noise last: the negative logarithm of the marginal
    likelihood, and of an exponential prior that keeps variances small."""
    variances = np.exp(at)
    covariance = _covariance(kernels, variances)
    inverse = np.linalg.inv(covariance)
    weights = inverse @ y
    open_ = inverse - np.outer(weights, weights)
    value = 0.5 * y @ weights + 0.5 * np.linalg.slogdet(covariance)[1] + variances[:-1].sum()
    slope = 0.5 * np.append(np.tensordot(kernels, open_, 2), np.trace(open_)) * variances
    slope[:-1] += variances[:-1]
    return float(value), slope


def _fitted(kernels: np.ndarray, y: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, float]:
    """(logarithms of the variances, noise last; loss)."""
    from scipy.optimize import minimize  # late: every command would wait for it

    bounds = [(np.log(LEAST), np.log(MOST))] * len(kernels) + [(np.log(QUIETEST), np.log(MOST))]
    found = minimize(
        _loss, start, (kernels, y), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS}
    )
    return found.x, float(found.fun)


def _without(kernels: np.ndarray, y: np.ndarray, at: np.ndarray, n: int) -> float:
    """The loss of the best fit that leaves out parameter n."""
    return _fitted(np.delete(kernels, n, axis=0), y, np.delete(at, n))[1]


def _root(covariance: np.ndarray) -> np.ndarray:
    """A matrix R with R.T @ R = covariance, for one that rounding may have left with values just below 0."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))).T)
