"""Which parameters mattered, with how sure that is, and nothing where too few trials tell.

A parameter's share is of the variance over all that is searched, not over the trials that a search happened to try:
one that has found its best batch size tries little else. How that is estimated and what counts as evidence:
main_effects.py. Where too few trials have finished, all are judged at an epoch that they reached; studies/mattered
shows what that is worth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from automl.metric import counted
from automl.report.main_effects import Part, effects, level_part, number_part

PER_PARAMETER = 4.5  # trials a parameter ("about five"), below which a ranking is mostly chance
LEAST = 10  # trials, however few the parameters
MOST = 200  # trials that are looked at: what a fit costs grows with their third power
GRID = 25  # points that stand for a range


@dataclass(frozen=True)
class Searched:
    """A parameter as it is searched: the ends of a range of numbers, whether its scale is logarithmic, or `choices`."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Share:
    """A parameter's part of the variance of the results over what is searched, 0 to 1; `low` and `high` bound it with
    95 % certainty."""

    name: str
    share: float
    low: float
    high: float
    found: bool  # there is evidence of an effect


@dataclass(frozen=True)
class Mattered:
    """`shares`, largest first, those with evidence before the others; empty with why not. `trials`: how many were
    looked at; `epoch`: at which epoch, None at their end."""

    shares: tuple[Share, ...]
    why_not: str = ""
    trials: int = 0
    epoch: int | None = None


@dataclass(frozen=True)
class Tried:
    """A trial: its parameters, its metric's best value up to each epoch it got through, whether it ran to its end."""

    params: Mapping[str, Any]
    best: Sequence[float]
    finished: bool


def judge(trials: Sequence[Tried], space: Mapping[str, Searched]) -> Mattered:
    """Of the finished trials where they are enough, else of all at the last epoch that nearly all reached. Parameters
    with one value throughout are left out."""
    finished = [t for t in trials if t.finished]
    needed, varied = _needed(finished)
    if varied and len(finished) >= needed:
        return _judged([(t.params, t.best[-1]) for t in finished], varied, space)
    begun = [t for t in trials if t.best]
    needed, varied = _needed(begun)
    if not varied:
        return Mattered((), "Not ranked: no parameter differs between the trials.")
    if len(begun) < needed:
        told = (
            f"{counted(len(begun), 'trial')} reported without failing, {len(finished)} of them to the end, for "
            f"{counted(len(varied), 'parameter')}"
        )
        few = f"From fewer than {needed} trials, {PER_PARAMETER:g} a parameter, a ranking is mostly chance."
        return Mattered((), f"Not ranked: {told}. {few}")
    reached = sorted((len(t.best) for t in begun), reverse=True)
    epoch = reached[max(needed, math.ceil(0.9 * len(begun))) - 1]
    alike = [t for t in begun if len(t.best) >= epoch]
    return _judged([(t.params, t.best[epoch - 1]) for t in alike], _needed(alike)[1], space, epoch)


def _needed(trials: Sequence[Tried]) -> tuple[int, list[str]]:
    """(how many trials a ranking needs, the parameters that differ between these)."""
    names = dict.fromkeys(name for t in trials for name in t.params)
    varied = [name for name in names if len({repr(t.params.get(name)) for t in trials}) > 1]
    return max(LEAST, math.ceil(PER_PARAMETER * len(varied))), varied


def _judged(
    rows: Sequence[tuple[Mapping[str, Any], float]],
    names: Sequence[str],
    space: Mapping[str, Searched],
    epoch: int | None = None,
) -> Mattered:
    if len(rows) > MOST:
        chosen = np.random.default_rng(0).choice(len(rows), MOST, replace=False)
        rows = [rows[n] for n in sorted(chosen)]
    y = np.asarray([value for _, value in rows], float)
    y = y / (np.abs(y).max() or 1.0)  # squares of what a diverged trial reported would be no numbers
    if y.std() == 0:
        where = "all finished trials have" if epoch is None else f"at epoch {epoch} all trials have"
        return Mattered((), f"Not ranked: {where} the same value.")
    columns = {name: [params.get(name) for params, _ in rows] for name in names}
    columns = {name: column for name, column in columns.items() if len({repr(v) for v in column}) > 1}
    parts = [part_of(column, space.get(name, Searched())) for name, column in columns.items()]
    found = effects(parts, (y - y.mean()) / y.std())
    shares = [Share(n, e.share, e.low, e.high, e.found) for n, e in zip(columns, found, strict=True)]
    ranked = sorted(shares, key=lambda s: (not s.found, -s.share))
    return Mattered(tuple(ranked), "", len(rows), epoch)


def part_of(column: Sequence[Any], searched: Searched) -> Part:
    """The kernel of one parameter. Where it did not matter (None), a number has the middle of the others."""
    numbers = [v for v in column if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) + sum(v is None for v in column) < len(column) or len(set(numbers)) < 3:
        levels = sorted({repr(v) for v in column})
        return level_part(np.array([levels.index(repr(v)) for v in column]), len(levels))
    listed = [float(v) for v in searched.choices]
    ends = [end for end in (searched.low, searched.high) if end is not None]
    low, high = min([*numbers, *ends]), max([*numbers, *ends])  # a search may have widened a range
    low, high = (min(listed), max(listed)) if listed else (low, high)
    log = searched.log and min(low, *numbers) > 0
    outer = np.log([low, high]) if log else np.array([low, high], float)

    def placed(values: Any) -> np.ndarray:
        known = np.log(values) if log else np.asarray(values, float)
        return np.asarray((known - outer[0]) / ((outer[1] - outer[0]) or 1.0))

    middle = float(np.median(numbers))
    grid = placed(sorted(listed)) if listed else np.linspace(0, 1, GRID)
    return number_part(placed([middle if v is None else float(v) for v in column]), grid)
