"""Which parameters mattered, with how sure that is, and nothing where too few trials have finished to tell.

Each parameter has its own curve (a parabola on its scale, or a level for each choice); the curves together are fitted
to the finished trials by ridge regression, whose strength is chosen by leaving each trial out. A parameter's share is
the variance of its curve over the trials. What counts as evidence is judged against the same fit of shuffled results:
a share is told as found only above the 95th percentile of the largest share that chance gives. Stopped trials are left
out: their values are of other epochs, and which ones were stopped depends on the values themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PER_PARAMETER = 5  # finished trials a parameter, below which a ranking is mostly chance
SHUFFLES, RESAMPLES = 200, 200
STRENGTHS = np.logspace(-2, 3, 16)  # of the ridge


@dataclass(frozen=True)
class Share:
    """A parameter's part of the variance of the finished trials' values, 0 to 1; `low` and `high` bound the middle 95 %
    over resampled trials."""

    name: str
    share: float
    low: float
    high: float
    found: bool  # more than chance gives


@dataclass(frozen=True)
class Mattered:
    """`shares`, largest first, those with evidence before the others; empty with why not. `chance`: the share that
    shuffled results reach in one of twenty cases."""

    shares: tuple[Share, ...]
    why_not: str = ""
    chance: float = 0.0


def judge(columns: Mapping[str, Sequence[Any]], values: Sequence[float], log: Mapping[str, bool]) -> Mattered:
    """`columns`: {parameter: its value in each finished trial, None where it did not matter}; `values`: of the trials;
    `log`: the parameters on a logarithmic scale. Parameters with one value throughout are left out."""
    varied = {name: column for name, column in columns.items() if len({repr(v) for v in column}) > 1}
    needed = PER_PARAMETER * len(varied)
    if len(values) < max(needed, 2 * PER_PARAMETER) or not varied:
        return Mattered(
            (),
            f"Not ranked: {len(values)} trials have finished, for {len(varied)} parameters. From fewer than about "
            f"{PER_PARAMETER} finished trials a parameter ({max(needed, 2 * PER_PARAMETER)} here) a ranking is mostly "
            "chance.",
        )
    y = np.asarray(values, float)
    if y.std() == 0:
        return Mattered((), "Not ranked: all finished trials have the same value.")
    blocks = {name: features(column, bool(log.get(name))) for name, column in varied.items()}
    return _judged(blocks, (y - y.mean()) / y.std())


def features(column: Sequence[Any], log: bool) -> np.ndarray:
    """[n, f] of one parameter, standardised: a parabola of a number on its scale, one column a level of anything else.
    Where it did not matter, it has the middle of the others."""
    numbers = [v for v in column if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) + sum(v is None for v in column) == len(column) and len(set(numbers)) > 2:
        log = log and min(numbers) > 0
        known = np.array([np.nan if v is None else np.log(v) if log else float(v) for v in column])
        u = np.where(np.isnan(known), np.nanmedian(known), known)
        u = (u - u.mean()) / (u.std() or 1.0)
        found = np.stack([u, u**2], axis=1)
    else:
        levels = sorted({repr(v) for v in column})
        found = np.array([[repr(v) == level for level in levels] for v in column], float)
    found = found - found.mean(axis=0)
    return np.asarray(found / np.maximum(found.std(axis=0), 1e-9))


def _judged(blocks: Mapping[str, np.ndarray], y: np.ndarray) -> Mattered:
    x = np.concatenate(list(blocks.values()), axis=1)
    ends = np.cumsum([block.shape[1] for block in blocks.values()])
    parts = [slice(end - block.shape[1], end) for end, block in zip(ends, blocks.values(), strict=True)]
    random = np.random.default_rng(0)
    shares = _shares(x, y, parts, _strength(x, y))
    shuffled = []
    for _ in range(SHUFFLES):
        other = random.permutation(y)
        shuffled.append(_shares(x, other, parts, _strength(x, other)).max())
    chance = float(np.quantile(shuffled, 0.95))
    resampled = []
    for _ in range(RESAMPLES):
        rows = random.integers(0, len(y), len(y))
        if y[rows].std() > 0:
            resampled.append(_shares(x[rows], y[rows] - y[rows].mean(), parts, _strength(x, y)))
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    found = [
        Share(name, float(shares[n]), float(min(low[n], shares[n])), float(max(high[n], shares[n])),
              bool(shares[n] > chance))
        for n, name in enumerate(blocks)
    ]  # fmt: skip
    return Mattered(tuple(sorted(found, key=lambda s: (not s.found, -s.share))), "", chance)


def _shares(x: np.ndarray, y: np.ndarray, parts: Sequence[slice], strength: float) -> np.ndarray:
    """The variance of each parameter's curve over that of y."""
    weights = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)
    return np.array([(x[:, part] @ weights[part]).var() for part in parts]) / y.var()


def _strength(x: np.ndarray, y: np.ndarray) -> float:
    """The ridge with the least error on trials left out, one at a time."""
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    projected = u.T @ y
    errors = []
    for strength in STRENGTHS:
        shrink = s**2 / (s**2 + strength)
        fitted, leverage = u @ (shrink * projected), (u**2) @ shrink
        errors.append((((y - fitted) / np.maximum(1 - leverage, 1e-3)) ** 2).mean())
    return float(STRENGTHS[int(np.argmin(errors))])
