"""One dimension of a search space, in three coordinates: its raw value, a position in [0, 1], and what Optuna stores.

A raw value is a number (real, whole), an index into a list (index, option) or a share of a range that other
parameters set (fraction).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from statistics import NormalDist
from typing import Any

from automl.space.domain import twelve

LINEAR, LOG, COMPLEMENT = "linear", "log", "log(1 - x)"
PRIOR_SD = 0.2  # of a prior around the default, in units of the range
PRIOR_WEIGHT = 0.5  # of the default among the options of a choice


def place(value: float, low: float, high: float, scale: str, whole: bool) -> float:
    """Position of a value in [low, high], 0 to 1; an integer's is the middle of its share of the range."""
    if whole:
        if scale == LOG:
            return math.log((value + 0.5) / low) / math.log((high + 1) / low)
        return (value - low + 0.5) / (high - low + 1)
    if high <= low:
        return 0.5
    if scale == LOG:
        return math.log(value / low) / math.log(high / low)
    if scale == COMPLEMENT:
        return math.log((1 - low) / (1 - value)) / math.log((1 - low) / (1 - high))
    return (value - low) / (high - low)


def spread(u: float, low: float, high: float, scale: str, whole: bool) -> float:
    """The value at position `u` (0 to 1) of [low, high]; floats keep 12 significant digits."""
    if whole:
        value = low * ((high + 1) / low) ** u if scale == LOG else low + u * (high - low + 1)
        return int(min(max(math.floor(value), low), high))
    if high <= low:
        return low
    if scale == LOG:
        value = low * (high / low) ** u
    elif scale == COMPLEMENT:
        value = 1 - (1 - low) * ((1 - high) / (1 - low)) ** u
    else:
        value = low + u * (high - low)
    return min(max(twelve(value), low), high)


@dataclass(frozen=True)
class Axis:
    """`kind` is real, whole, index, fraction or option. `low` and `high` bound raw values; an index's Optuna value
    is `start + index * step`, which is the parameter's own value where its values are evenly spaced integers."""

    name: str
    kind: str
    low: float = 0.0
    high: float = 1.0
    scale: str = LINEAR
    labels: tuple[Any, ...] = ()
    weights: tuple[float, ...] = ()
    start: int = 0
    step: int = 1

    @property
    def count(self) -> int:
        """The number of raw values of an index or option."""
        return len(self.labels) if self.kind == "option" else int(self.high) + 1

    def every(self, most: int) -> range | None:
        """All raw values; None of more than `most`, and of numbers without gaps."""
        if self.kind not in ("option", "index", "whole"):
            return None
        raws = range(int(self.low), int(self.high) + 1) if self.kind == "whole" else range(self.count)
        return raws if len(raws) <= most else None

    @cached_property
    def _cumulative(self) -> tuple[float, ...]:
        return tuple(accumulate(self.weights))

    def from_unit(self, u: float) -> Any:
        """Position -> raw value."""
        u = min(max(u, 0.0), 1.0)
        if self.kind == "fraction":
            return u
        if self.weights:
            return _weighed(u, self._cumulative, self.weights)
        if self.kind in ("index", "option"):
            return min(int(u * self.count), self.count - 1)
        return spread(u, self.low, self.high, self.scale, self.kind == "whole")

    def to_unit(self, raw: Any) -> float:
        """Raw value -> position; the middle of its share for what is counted."""
        if self.kind == "fraction":
            return float(raw)
        if self.weights:
            return self._cumulative[raw] - self.weights[raw] / 2
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
        low, high, log = self._optuna_range()
        if self.kind == "option":
            stored = trial.suggest_categorical(self.name, self.labels)
        elif self.kind in ("whole", "index"):
            stored = trial.suggest_int(self.name, int(low), int(high), step=self.step, log=log)
        else:
            stored = trial.suggest_float(self.name, low, high, log=log)
        return self.from_optuna(stored)

    def distribution(self) -> Any:
        """The Optuna distribution that `suggest` asks for."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        low, high, log = self._optuna_range()
        if self.kind == "option":
            return CategoricalDistribution(self.labels)
        if self.kind in ("whole", "index"):
            return IntDistribution(int(low), int(high), log=log, step=self.step)
        return FloatDistribution(low, high, log=log)

    def _optuna_range(self) -> tuple[float, float, bool]:
        if self.kind == "index":
            return self.start, self.start + int(self.high) * self.step, False
        if self.scale == COMPLEMENT:
            return 1.0 - self.high, 1.0 - self.low, True
        return self.low, self.high, self.scale == LOG

    def prior(self, raw: Any) -> Prior:
        """The prior centred on a raw value, the default's."""
        if self.kind != "option":
            return Prior(mean=min(max(self.to_unit(raw), 0.0), 1.0), sd=PRIOR_SD)
        rest = (1 - PRIOR_WEIGHT) / max(1, self.count - 1)
        return Prior(self.weights or tuple(PRIOR_WEIGHT if i == raw else rest for i in range(self.count)))


@dataclass(frozen=True)
class Prior:
    """Where good values of an axis are expected: weights of its options, or a normal on the position, cut to [0, 1]."""

    weights: tuple[float, ...] = ()
    mean: float | None = None
    sd: float | None = None

    def position(self, u: float, axis: Axis) -> float:
        """A uniform draw in [0, 1] -> a position drawn from the prior."""
        if self.mean is None or self.sd is None:
            return axis.to_unit(_weighed(u, tuple(accumulate(self.weights)), self.weights))
        normal = NormalDist(self.mean, self.sd)
        below, above = normal.cdf(0.0), normal.cdf(1.0)
        return min(max(normal.inv_cdf(min(max(below + u * (above - below), 1e-12), 1 - 1e-12)), 0.0), 1.0)


def _weighed(u: float, cumulative: tuple[float, ...], weights: tuple[float, ...]) -> int:
    """The index that a uniform draw in [0, 1] falls on; never one without weight."""
    found = (
        i
        for i, (total, weight) in enumerate(zip(cumulative, weights, strict=True))
        if u < total and weight > 0
    )
    return next(found, max(i for i, weight in enumerate(weights) if weight > 0))


def label(value: Any) -> Any:
    """What Optuna can store of a choice: a number, text, boolean or None as it is, anything else as JSON."""
    plain = value is None or isinstance(value, (bool, int, str))
    if plain or (isinstance(value, float) and math.isfinite(value)):
        return value
    return json.dumps(value, sort_keys=True, default=str)
