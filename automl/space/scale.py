"""Where a number is looked for, on which scale, and one dimension of a search space: an axis.

A value on an axis has three coordinates: its raw value, a position in [0, 1], and what Optuna stores. A raw value is a
number (real, whole), an index into a list (index, option) or a share of a range that other parameters set (fraction).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from statistics import NormalDist
from typing import Any

from automl.space.leaf import OPEN_SHARE, Domain, twelve

LINEAR, LOG, COMPLEMENT = "linear", "log", "log(1 - x)"
BENT: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {  # there and back
    LINEAR: (float, float),
    LOG: (math.log, math.exp),
    COMPLEMENT: (lambda x: -math.log(1 - x), lambda x: 1 - math.exp(-x)),
}
PRIOR_SD = 0.2  # of a prior around the default, in units of the range
PRIOR_WEIGHT = 0.5  # of the default among the options of a choice


def place(value: float, low: float, high: float, scale: str, whole: bool) -> float:
    """Position of a value in [low, high], 0 to 1; an integer's is the middle of its share of the range."""
    there = BENT[scale][0]
    if whole:
        value, high = value + 0.5, high + 1
    if high <= low:
        return 0.5
    start = there(low)
    return (there(value) - start) / (there(high) - start)


def spread(u: float, low: float, high: float, scale: str, whole: bool) -> float:
    """The value at position `u` (0 to 1) of [low, high]; floats keep 12 significant digits."""
    there, back = BENT[scale]
    if not whole and high <= low:
        return low
    start, end = there(low), there(high + 1 if whole else high)
    value = back(start + u * (end - start))
    return int(min(max(math.floor(value), low), high)) if whole else min(max(twelve(value), low), high)


@dataclass(frozen=True)
class Range:
    """Where to look: [low, high] on a scale, or the values of `grid`, ascending. `why` says how it came about."""

    low: float
    high: float
    scale: str = LINEAR
    why: str = ""
    grid: tuple[float, ...] = ()
    moves: bool = False  # the lower end moves with an upper end that another parameter sets

    @classmethod
    def of(cls, grid: tuple[float, ...], scale: str = LINEAR, why: str = "") -> Range:
        """The range that is these values."""
        return cls(grid[0], grid[-1], scale, why, grid)

    @property
    def ends(self) -> tuple[float, float]:
        return (self.grid[0], self.grid[-1]) if self.grid else (self.low, self.high)

    def within(self, domain: Domain) -> Range:
        """The range inside the domain, with open ends left by a hair and a logarithm kept off zero."""
        if self.grid:
            return Range.of(tuple(v for v in self.grid if domain.holds(v)), self.scale, self.why)
        low, high, scale = max(self.low, domain.low), min(self.high, domain.high), self.scale
        if domain.whole:
            low, high = math.ceil(low), math.floor(high)
            while low in domain.excluded:
                low += 1
            while high in domain.excluded:
                high -= 1
            return Range(low, high, LINEAR if low < 1 else scale, self.why, (), self.moves)
        if low == high:  # as it is, to the last digit
            return Range(float(low), float(high), scale, self.why, (), self.moves)
        if scale == LOG and low <= 0:
            low = high * 1e-4
        if scale == COMPLEMENT and high >= 1:
            high = 1 - (1 - low) * 1e-4
        hair = OPEN_SHARE * (high - low)
        low = max(twelve(low + hair if domain.low_open and low <= domain.low else low), domain.low)
        high = min(twelve(high - hair if domain.high_open and high >= domain.high else high), domain.high)
        log_of_nothing = scale == LOG and low < sys.float_info.min  # subnormal: no ratio can be taken
        return Range(low, high, LINEAR if log_of_nothing else scale, self.why, (), self.moves)


@dataclass(frozen=True)
class Axis:
    """`kind` is real, whole, index, fraction or option. `low` and `high` bound raw values; an index's Optuna value
    is `start + index * step`, which is the parameter's own value where its values are evenly spaced integers. Good
    values are expected around the raw value `centre`, the default's."""

    name: str
    kind: str
    low: float = 0.0
    high: float = 1.0
    scale: str = LINEAR
    labels: tuple[Any, ...] = ()
    weights: tuple[float, ...] = ()
    start: int = 0
    step: int = 1
    centre: Any = None

    @cached_property
    def count(self) -> int:
        """The number of raw values of an index or option."""
        return len(self.labels) if self.kind == "option" else int(self.high) + 1

    def every(self, most: int) -> range | None:
        """All raw values; None of more than `most`, and of numbers without gaps."""
        if self.kind not in ("option", "index", "whole"):
            return None
        raws = range(int(self.low), int(self.high) + 1) if self.kind == "whole" else range(self.count)
        return raws if raws.stop - raws.start <= most else None  # `len` of a longer one may overflow

    def from_unit(self, u: float) -> Any:
        """Position -> raw value."""
        u = min(max(u, 0.0), 1.0)
        if self.kind == "fraction":
            return u
        if self.weights:
            return _weighed(u, self.weights)
        if self.kind in ("index", "option"):
            return min(int(u * self.count), self.count - 1)
        return spread(u, self.low, self.high, self.scale, self.kind == "whole")

    def to_unit(self, raw: Any) -> float:
        """Raw value -> position; the middle of its share for what is counted."""
        if self.kind == "fraction":
            return float(raw)
        if self.weights:
            return sum(self.weights[:raw]) + self.weights[raw] / 2
        if self.kind in ("index", "option"):
            return (raw + 0.5) / self.count
        return place(raw, self.low, self.high, self.scale, self.kind == "whole")

    def to_optuna(self, raw: Any) -> Any:
        """Raw value -> what Optuna stores."""
        if self.kind == "option":
            return self.labels[raw]
        if self.kind == "index":
            return self.start + int(raw) * self.step
        if self.scale == COMPLEMENT:
            return min(max(1.0 - raw, 1.0 - self.high), 1.0 - self.low)
        return raw

    def from_optuna(self, stored: Any) -> Any:
        """What Optuna stores -> raw value; a float keeps 12 significant digits."""
        if self.kind == "option":
            return self.labels.index(stored)
        if self.kind == "index":
            return (int(stored) - self.start) // self.step
        if self.kind == "real":
            return min(max(twelve(1.0 - stored if self.scale == COMPLEMENT else stored), self.low), self.high)
        return stored

    def suggest(self, trial: Any) -> Any:
        """Ask an Optuna trial; returns the raw value."""
        kind, settings = self._as_optuna()
        ask = {
            "Categorical": trial.suggest_categorical,
            "Int": trial.suggest_int,
            "Float": trial.suggest_float,
        }
        return self.from_optuna(ask[kind](self.name, **settings))

    def distribution(self) -> Any:
        """The Optuna distribution that `suggest` asks for."""
        from optuna import distributions

        kind, settings = self._as_optuna()
        return getattr(distributions, f"{kind}Distribution")(**settings)

    def _as_optuna(self) -> tuple[str, dict[str, Any]]:
        """(Optuna's word for the kind, what it is told of it)."""
        if self.kind == "option":
            return "Categorical", {"choices": self.labels}
        if self.kind == "index":
            last = self.start + int(self.high) * self.step
            return "Int", {"low": self.start, "high": last, "step": self.step, "log": False}
        if self.kind == "whole":
            return "Int", {"low": int(self.low), "high": int(self.high), "step": 1, "log": self.scale == LOG}
        if self.scale == COMPLEMENT:
            return "Float", {"low": 1.0 - self.high, "high": 1.0 - self.low, "log": True}
        return "Float", {"low": self.low, "high": self.high, "log": self.scale == LOG}

    # ---- the prior -------------------------------------------------------------------------------------------------

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """How likely each option is to be good; () for what is no option."""
        if self.kind != "option" or self.weights:
            return self.weights
        rest = (1 - PRIOR_WEIGHT) / max(1, self.count - 1)
        return tuple(PRIOR_WEIGHT if i == self.centre else rest for i in range(self.count))

    @cached_property
    def mean(self) -> float | None:
        """The default's position; good values lie around it with a standard deviation of PRIOR_SD. None of options."""
        return None if self.kind == "option" else min(max(self.to_unit(self.centre), 0.0), 1.0)

    def expected(self, u: float) -> float:
        """A uniform draw in [0, 1] -> a position drawn from the prior, cut to [0, 1]."""
        if self.mean is None:
            return self.to_unit(_weighed(u, self.shares))
        normal = NormalDist(self.mean, PRIOR_SD)
        below, above = normal.cdf(0.0), normal.cdf(1.0)
        return min(max(normal.inv_cdf(min(max(below + u * (above - below), 1e-12), 1 - 1e-12)), 0.0), 1.0)

    def record(self) -> dict[str, Any]:
        """The axis as JSON data."""
        sd = None if self.mean is None else PRIOR_SD
        prior = {"mean": self.mean, "sd": sd, "weights": list(self.shares) or None}
        known = {key: getattr(self, key) for key in ("name", "kind", "low", "high", "scale")}
        return {**known, "prior": prior}


def _weighed(u: float, weights: tuple[float, ...]) -> int:
    """The index that a uniform draw in [0, 1] falls on; never one without weight."""
    kept = [(i, total) for i, total in enumerate(accumulate(weights)) if weights[i] > 0]
    return next((i for i, total in kept if u < total), kept[-1][0])


def label(value: Any) -> Any:
    """What Optuna can store of a choice: a number, text, boolean or None as it is, anything else as JSON."""
    plain = value is None or isinstance(value, (bool, int, str))
    if plain or (isinstance(value, float) and math.isfinite(value)):
        return value
    return json.dumps(value, sort_keys=True, default=str)
