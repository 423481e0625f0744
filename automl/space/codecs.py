"""How a parameter's value is written on axes: numbers, choices, ordered values, lists, subsets.

A codec turns raw values of its axes into a valid value, given the values drawn before it (`drawn`), and back.
Relations to other parameters hold because the range itself moves; nothing is drawn and then corrected.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from automl.errors import SpaceError
from automl.space.axes import COMPLEMENT, LINEAR, LOG, Axis, label, place, spread
from automl.space.domain import LOWER, UPPER, Domain, Relation, is_number
from automl.space.leaf import same
from automl.space.ranges import OPEN_SHARE
from automl.space.words import short


class Codec:
    """The interface. `axes` are what is searched; `raws` go with them one by one. `choices` are the values that can be
    listed, `relations` those to other parameters, `text` is what a person reads."""

    axes: tuple[Axis, ...]
    choices: tuple[Any, ...] = ()
    relations: tuple[Relation, ...] = ()
    text: str

    def decode(self, raws: Sequence[Any], drawn: dict[str, Any]) -> Any:
        raise NotImplementedError

    def encode(self, value: Any, drawn: dict[str, Any]) -> list[Any]:
        """Raises `SpaceError` saying why the value is not in the search range, without the parameter's name."""
        raise NotImplementedError

    def nearest(self, value: Any, drawn: dict[str, Any]) -> Any:
        """The value of the search range closest to `value`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Number(Codec):
    """A number in [low, high] or one of `grid`. With `relations` the range follows other parameters; `share` then
    says how far below a moving upper end the search begins."""

    name: str
    whole: bool
    low: float
    high: float
    scale: str
    domain: Domain
    grid: tuple[float, ...] = ()
    relations: tuple[Relation, ...] = ()
    share: float | None = None
    hull: tuple[float, float] = (-math.inf, math.inf)  # lowest and highest value, whatever the others are

    @property
    def choices(self) -> tuple[Any, ...]:  # type: ignore[override]
        return self.grid

    @property
    def text(self) -> str:  # type: ignore[override]
        if len(self.grid) > 8:
            return f"{short(self.grid[0])} .. {short(self.grid[-1])}, {len(self.grid)} values"
        return ", ".join(map(short, self.grid)) or f"{short(self.hull[0])} .. {short(self.hull[1])}"

    @cached_property
    def axes(self) -> tuple[Axis, ...]:  # type: ignore[override]
        if self.relations:
            return (Axis(f"{self.name} (fraction)", "fraction"),)
        if not self.grid:
            return (Axis(self.name, "whole" if self.whole else "real", self.low, self.high, self.scale),)
        last, steps = len(self.grid) - 1, {b - a for a, b in pairwise(self.grid)}
        if self.whole and len(steps) == 1:
            return (Axis(self.name, "index", 0, last, start=int(self.grid[0]), step=int(steps.pop())),)
        return (Axis(f"{self.name} (index)", "index", 0, last),)

    def decode(self, raws: Sequence[Any], drawn: dict[str, Any]) -> Any:
        if not self.relations:
            value = self.grid[raws[0]] if self.grid else raws[0]
        elif self.grid:
            allowed = self._steps(drawn)
            value = allowed[min(int(raws[0] * len(allowed)), len(allowed) - 1)]
        else:
            low, high = self.allowed(drawn)
            value = spread(raws[0], low, high, self._scale(low, high), self.whole)
        return self._clear(value, drawn) if self.domain.excluded or self.relations else value

    def encode(self, value: Any, drawn: dict[str, Any]) -> list[Any]:
        if not is_number(value) or (self.whole and value != int(value)):
            raise SpaceError(f"must be {'an integer' if self.whole else 'a number'}, but got {value!r}")
        if self.grid:
            allowed = self._steps(drawn)
            if value not in allowed:
                raise SpaceError(f"must be one of {', '.join(map(short, allowed))}, but got {short(value)}")
            index = allowed.index(value)
            return [(index + 0.5) / len(allowed) if self.relations else index]
        low, high = self.allowed(drawn)
        if not low <= value <= high or self._clear(value, drawn) != value:
            raise SpaceError(
                f"must be in the search range [{short(low)}, {short(high)}], but got {short(value)}"
            )
        if not self.relations:
            return [int(value) if self.whole else float(value)]
        return [min(max(place(value, low, high, self._scale(low, high), self.whole), 0.0), 1.0)]

    def nearest(self, value: Any, drawn: dict[str, Any]) -> Any:
        if self.grid:
            return min(self._steps(drawn), key=lambda v: (abs(v - value), v))
        low, high = self.allowed(drawn)
        value = min(max(value, low), high)
        return self._clear(round(value) if self.whole else float(value), drawn)

    def _scale(self, low: float, high: float) -> str:
        bent = (self.scale == LOG and low <= 0) or (self.scale == COMPLEMENT and high >= 1)
        return LINEAR if bent else self.scale

    def allowed(self, drawn: dict[str, Any]) -> tuple[float, float]:
        """(low, high) given the parameters that the relations name: the part of the search range that they leave, else
        the part of the domain next to it."""
        low, high, limited = self.low, self.high, False
        for relation in self._live(drawn):
            right = relation.right(drawn)
            if relation.op == "==":  # always alone, and in the domain
                return (round(right), round(right)) if self.whole else (right, right)
            if relation.op in LOWER:
                low = max(low, self._beyond(right, relation.op == ">"))
            if relation.op in UPPER:
                end = self._short_of(right, relation.op == "<", low)
                limited = limited or end < high
                high = min(high, end)
        if limited and self.share is not None and high > 0 and low == self.low:
            low = max(self.domain.low, min(self.low, high * self.share))
            low = math.ceil(low) if self.whole else low
        if low > self.high >= high:
            high = max(low, self._short_of(self.domain.high, self.domain.high_open, low))
            high = min(high, low + max(self.high - self.low, 1) / 4 if not self.whole else low + 1)
        elif low > high:
            bottom = self.domain.nearest(self.domain.low) if math.isfinite(self.domain.low) else None
            low = high - len(self.domain.excluded) if bottom is None else min(high, bottom)
        return low, high

    def _beyond(self, right: float, strict: bool) -> float:
        if self.whole:
            return math.floor(right) + 1 if strict else math.ceil(right)
        top = self.high if right < self.high else min(self.domain.high, right + 1)
        return right + OPEN_SHARE * (top - right) if strict else right

    def _short_of(self, right: float, strict: bool, bottom: float) -> float:
        if self.whole:
            return math.ceil(right) - 1 if strict and math.isfinite(right) else right // 1
        if bottom >= right:
            bottom = (
                self.domain.low if math.isfinite(self.domain.low) and self.domain.low < right else right - 1
            )
        return right - OPEN_SHARE * (right - bottom) if strict and math.isfinite(right) else right

    def _steps(self, drawn: dict[str, Any]) -> tuple[float, ...]:
        """The values of `grid` for which every relation holds, else the next one of the domain."""
        kept = tuple(v for v in self.grid if self._related(v, drawn)) if self.relations else self.grid
        if kept:
            return kept
        edge = self.allowed(drawn)[0]
        reach = 2 * abs(edge) + 2 * (self.domain.multiple or self.domain.power or 1)
        near = [v for v in self.domain.steps(edge - reach, edge + reach) if self._related(v, drawn)]
        if not near:
            text = " and ".join(map(str, self.relations))
            raise SpaceError(f"{self.name}: no value is left that is {text}")
        return (min(near, key=lambda v: (abs(v - edge), v)),)

    def _related(self, value: float, drawn: dict[str, Any]) -> bool:
        return all(relation.holds(value, drawn) for relation in self._live(drawn))

    def _live(self, drawn: dict[str, Any]) -> list[Relation]:
        """The relations to what has a value; what does not matter and has no default has none."""
        return [r for r in self.relations if all(drawn.get(n) is not None for n in r.names)]

    def _clear(self, value: Any, drawn: dict[str, Any]) -> Any:
        """The value, moved off a single number that is excluded (`!=`) to its neighbour."""
        avoid = [*self.domain.excluded, *(r.right(drawn) for r in self._live(drawn) if r.op == "!=")]
        if value not in avoid:
            return value
        if self.grid:
            near = sorted(self.grid, key=lambda v: (abs(v - value), v))
            return next((v for v in near if v not in avoid and self._related(v, drawn)), value)
        low, high = self.allowed(drawn)
        unit = 1 if self.whole else (high - low) * 1e-6 or 1e-9
        options = [value + sign * k * unit for k in range(1, len(avoid) + 2) for sign in (1, -1)]
        return next((v for v in options if low <= v <= high and v not in avoid), value)


@dataclass(frozen=True)
class Options(Codec):
    """One of several values. `ordered` ones are neighbours of each other, others are not."""

    name: str
    values: tuple[Any, ...]
    ordered: bool = False
    weights: tuple[float, ...] = ()

    @property
    def choices(self) -> tuple[Any, ...]:  # type: ignore[override]
        return self.values

    @property
    def text(self) -> str:  # type: ignore[override]
        if self.ordered and len(self.values) > 3:
            return f"{short(self.values[0])} .. {short(self.values[-1])}, {len(self.values)} steps"
        return ", ".join(map(short, self.values))

    @cached_property
    def axes(self) -> tuple[Axis, ...]:  # type: ignore[override]
        if self.ordered:
            return (Axis(f"{self.name} (index)", "index", 0, len(self.values) - 1),)
        return (Axis(self.name, "option", labels=tuple(map(label, self.values)), weights=self.weights),)

    def decode(self, raws: Sequence[Any], drawn: dict[str, Any]) -> Any:
        return _as_list(self.values[raws[0]])

    def encode(self, value: Any, drawn: dict[str, Any]) -> list[Any]:
        for i, option in enumerate(self.values):
            if same(_as_list(option), _as_list(value)):
                return [i]
        raise SpaceError(f"must be one of {', '.join(map(short, self.values))}, but got {short(value)}")

    def nearest(self, value: Any, drawn: dict[str, Any]) -> Any:
        if is_number(value) and all(is_number(v) for v in self.values):
            return min(self.values, key=lambda v: (abs(v - value), v))
        named = {str(v): v for v in self.values}
        near = difflib.get_close_matches(str(value), list(named), n=1, cutoff=0.5)
        return _as_list(named[near[0]] if near else self.values[0])


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True)
class ListOf(Codec):
    """A list of numbers, each on its own axis; relations between neighbours keep the order."""

    elements: tuple[Number, ...]

    @property
    def text(self) -> str:  # type: ignore[override]
        return "[" + ", ".join(f"{short(e.hull[0])} .. {short(e.hull[1])}" for e in self.elements) + "]"

    @cached_property
    def axes(self) -> tuple[Axis, ...]:  # type: ignore[override]
        return tuple(axis for element in self.elements for axis in element.axes)

    def decode(self, raws: Sequence[Any], drawn: dict[str, Any]) -> Any:
        for element, raw in zip(self.elements, raws, strict=True):
            drawn[element.name] = element.decode([raw], drawn)
        return [drawn[element.name] for element in self.elements]

    def encode(self, value: Any, drawn: dict[str, Any]) -> list[Any]:
        if not isinstance(value, (list, tuple)) or len(value) != len(self.elements):
            raise SpaceError(f"must be a list of {len(self.elements)} numbers, but got {value!r}")
        raws = []
        for i, (element, number) in enumerate(zip(self.elements, value, strict=True)):
            try:
                raws += element.encode(number, drawn)
            except SpaceError as error:
                raise SpaceError(f"[{i}] {error}") from None
            drawn[element.name] = number
        return raws

    def nearest(self, value: Any, drawn: dict[str, Any]) -> Any:
        given = list(value) if isinstance(value, (list, tuple)) else []
        for i, element in enumerate(self.elements):
            start = given[i] if i < len(given) and is_number(given[i]) else element.low
            drawn[element.name] = element.nearest(start, drawn)
        return [drawn[element.name] for element in self.elements]


@dataclass(frozen=True)
class Subset(Codec):
    """Some of several options, in the schema's order; the default in its own order."""

    name: str
    options: tuple[Any, ...]
    default: tuple[Any, ...]
    min_items: int = 0
    max_items: int | None = None

    @property
    def choices(self) -> tuple[Any, ...]:  # type: ignore[override]
        return self.options

    @property
    def text(self) -> str:  # type: ignore[override]
        return f"subset of {{{', '.join(map(short, self.options))}}}"

    @cached_property
    def axes(self) -> tuple[Axis, ...]:  # type: ignore[override]
        return tuple(Axis(f"{self.name}[{label(o)}]", "option", labels=(False, True)) for o in self.options)

    def decode(self, raws: Sequence[Any], drawn: dict[str, Any]) -> Any:
        chosen = {i for i, raw in enumerate(raws) if raw}
        usual = [i for i, o in enumerate(self.options) if o in self.default]
        missing = [i for i in dict.fromkeys([*usual, *range(len(self.options))]) if i not in chosen]
        chosen |= set(missing[: max(0, self.min_items - len(chosen))])
        picked = [o for i, o in enumerate(self.options) if i in chosen][: self.max_items]
        is_default = len(picked) == len(self.default) and all(o in self.default for o in picked)
        return list(self.default) if is_default else picked

    def encode(self, value: Any, drawn: dict[str, Any]) -> list[Any]:
        known = isinstance(value, (list, tuple)) and all(any(same(v, o) for o in self.options) for v in value)
        most = len(self.options) if self.max_items is None else self.max_items
        if not known or not self.min_items <= len(value) <= most:
            raise SpaceError(f"must be a subset of {', '.join(map(short, self.options))}, but got {value!r}")
        raws = [int(any(same(o, v) for v in value)) for o in self.options]
        if self.decode(raws, drawn) != list(value):
            raise SpaceError(f"must be in the order {self.decode(raws, drawn)}, but got {value!r}")
        return raws

    def nearest(self, value: Any, drawn: dict[str, Any]) -> Any:
        given = value if isinstance(value, (list, tuple)) else ()
        return self.decode([int(o in given) for o in self.options], drawn)
