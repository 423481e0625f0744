"""How a parameter's value is written on axes: numbers, choices, ordered values, lists, subsets.

A codec turns raw values of its axes into a valid value, given the values drawn before it (`drawn`), and back.
Relations to other parameters hold because the range itself moves; nothing is drawn and then corrected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from automl.errors import SpaceError
from automl.space.axes import Axis, label
from automl.space.conditions import Relation
from automl.space.domain import Domain, is_number
from automl.space.leaf import same
from automl.space.scale import LINEAR, LOG, OPEN_SHARE, place, spread
from automl.space.words import short


class Codec:
    """The interface. `axes` are what is searched; `raws` go with them one by one."""

    axes: tuple[Axis, ...]

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

    @cached_property
    def axes(self) -> tuple[Axis, ...]:  # type: ignore[override]
        if self.relations:
            return (Axis(f"{self.name} (fraction)", "fraction"),)
        if self.grid:
            steps = {b - a for a, b in zip(self.grid, self.grid[1:], strict=False)}
            if self.whole and len(steps) == 1:
                start, step = int(self.grid[0]), int(next(iter(steps)))
                return (Axis(self.name, "index", 0, len(self.grid) - 1, start=start, step=step),)
            return (Axis(f"{self.name} (index)", "index", 0, len(self.grid) - 1),)
        return (Axis(self.name, "whole" if self.whole else "real", self.low, self.high, self.scale),)

    def decode(self, raws: Sequence[Any], drawn: dict[str, Any]) -> Any:
        if not self.relations:
            value = self.grid[raws[0]] if self.grid else raws[0]
        elif self.grid:
            allowed = self.allowed_steps(drawn)
            value = allowed[min(int(raws[0] * len(allowed)), len(allowed) - 1)]
        else:
            low, high = self.allowed(drawn)
            value = spread(raws[0], low, high, self._scale(low), self.whole)
        return self._clear(value, drawn) if self.domain.excluded or self.relations else value

    def encode(self, value: Any, drawn: dict[str, Any]) -> list[Any]:
        if not is_number(value) or (self.whole and value != int(value)):
            raise SpaceError(f"must be {'an integer' if self.whole else 'a number'}, but got {value!r}")
        if self.grid:
            allowed = self.allowed_steps(drawn) if self.relations else self.grid
            if value not in allowed:
                raise SpaceError(f"must be one of {', '.join(map(short, allowed))}, but got {short(value)}")
            index = allowed.index(value)
            return [(index + 0.5) / len(allowed) if self.relations else index]
        low, high = self.allowed(drawn) if self.relations else (self.low, self.high)
        if not low <= value <= high or self._clear(value, drawn) != value:
            raise SpaceError(
                f"must be in the search range [{short(low)}, {short(high)}], but got {short(value)}"
            )
        if not self.relations:
            return [int(value) if self.whole else float(value)]
        return [min(max(place(value, low, high, self._scale(low), self.whole), 0.0), 1.0)]

    def nearest(self, value: Any, drawn: dict[str, Any]) -> Any:
        if self.grid:
            allowed = self.allowed_steps(drawn) if self.relations else self.grid
            return min(allowed, key=lambda v: (abs(v - value), v))
        low, high = self.allowed(drawn) if self.relations else (self.low, self.high)
        value = min(max(value, low), high)
        return self._clear(round(value) if self.whole else float(value), drawn)

    def _scale(self, low: float) -> str:
        return self.scale if self.scale != LOG or low > 0 else LINEAR

    def allowed(self, drawn: dict[str, Any]) -> tuple[float, float]:
        """(low, high) given the parameters that the relations name."""
        low, high, upper = self.low, self.high, False
        for relation in self.relations:
            right = relation.right(drawn)
            if relation.op in (">", ">=", "=="):
                low = max(low, self._beyond(right, relation.op == ">", self.high))
            if relation.op in ("<", "<=", "=="):
                end = self._short_of(right, relation.op == "<", low)
                upper = upper or (relation.op != "==" and end < high)
                high = min(high, end)
        if upper and self.share is not None and high > 0:
            low = max(self.domain.low, min(self.low, high * self.share)) if low == self.low else low
            low = math.ceil(low) if self.whole else low
        if low > high:
            low = self._last_resort(high)
        return low, high

    def _beyond(self, right: float, strict: bool, top: float) -> float:
        if self.whole:
            return math.floor(right) + 1 if strict else math.ceil(right)
        return right + OPEN_SHARE * (top - right) if strict else right

    def _short_of(self, right: float, strict: bool, bottom: float) -> float:
        if self.whole:
            return math.ceil(right) - 1 if strict else math.floor(right)
        bottom = (
            bottom
            if bottom < right
            else min(self.domain.low, right - 1)
            if math.isfinite(self.domain.low)
            else right - 1
        )
        return right - OPEN_SHARE * (right - bottom) if strict else right

    def _last_resort(self, high: float) -> float:
        """A low end for a range whose upper end came below the search range: the domain's own, else the upper end."""
        valid = self.domain.nearest(self.domain.low) if math.isfinite(self.domain.low) else None
        if valid is None or valid > high:
            return high
        return valid

    def allowed_steps(self, drawn: dict[str, Any]) -> tuple[float, ...]:
        """The values of `grid` for which every relation holds."""
        kept = tuple(v for v in self.grid if all(r.holds(v, drawn) for r in self.relations))
        if not kept:
            raise SpaceError(
                f"{self.name}: no value is left that is {' and '.join(map(str, self.relations))}"
            )
        return kept

    def _clear(self, value: Any, drawn: dict[str, Any]) -> Any:
        """The value, moved off a single number that is excluded (`!=`) to its neighbour."""
        avoid = [*self.domain.excluded, *(r.right(drawn) for r in self.relations if r.op == "!=")]
        if value not in avoid:
            return value
        low, high = self.allowed(drawn) if self.relations and not self.grid else (self.low, self.high)
        if self.grid:
            near = sorted(self.grid, key=lambda v: (abs(v - value), v))
            return next(
                (v for v in near if v not in avoid and all(r.holds(v, drawn) for r in self.relations)), value
            )
        unit = 1 if self.whole else (high - low) * 1e-6 or 1e-9
        reach = range(1, len(avoid) + 2)
        options = [value + sign * k * unit for k in reach for sign in (1, -1)]
        return next((v for v in options if low <= v <= high and v not in avoid), value)


@dataclass(frozen=True)
class Options(Codec):
    """One of several values. `ordered` ones are neighbours of each other, others are not."""

    name: str
    values: tuple[Any, ...]
    ordered: bool = False
    weights: tuple[float, ...] = ()

    @cached_property
    def axes(self) -> tuple[Axis, ...]:  # type: ignore[override]
        if self.ordered:
            return (Axis(f"{self.name} (index)", "index", 0, len(self.values) - 1),)
        return (Axis(self.name, "option", labels=tuple(map(label, self.values)), weights=self.weights),)

    def decode(self, raws: Sequence[Any], drawn: dict[str, Any]) -> Any:
        value = self.values[raws[0]]
        return list(value) if isinstance(value, (list, tuple)) else value

    def encode(self, value: Any, drawn: dict[str, Any]) -> list[Any]:
        for i, option in enumerate(self.values):
            if same(_as_list(option), _as_list(value)):
                return [i]
        raise SpaceError(f"must be one of {', '.join(map(short, self.values))}, but got {short(value)}")

    def nearest(self, value: Any, drawn: dict[str, Any]) -> Any:
        if is_number(value) and all(is_number(v) for v in self.values):
            return min(self.values, key=lambda v: (abs(v - value), v))
        import difflib

        named = {str(v): v for v in self.values}
        near = difflib.get_close_matches(str(value), list(named), n=1, cutoff=0.5)
        return self.decode([self.values.index(named[near[0]]) if near else 0], drawn)


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class ListOf(Codec):
    """A list of numbers, each on its own axis; relations between neighbours keep the order."""

    elements: tuple[Number, ...]

    @cached_property
    def axes(self) -> tuple[Axis, ...]:  # type: ignore[override]
        return tuple(axis for element in self.elements for axis in element.axes)

    def decode(self, raws: Sequence[Any], drawn: dict[str, Any]) -> Any:
        values = []
        for element, raw in zip(self.elements, raws, strict=True):
            drawn[element.name] = element.decode([raw], drawn)
            values.append(drawn[element.name])
        return values

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
        values: list[Any] = []
        for i, element in enumerate(self.elements):
            start = given[i] if i < len(given) and is_number(given[i]) else element.low
            values.append(element.nearest(start, drawn))
            drawn[element.name] = values[-1]
        return values


@dataclass(frozen=True)
class Subset(Codec):
    """Some of several options, in the schema's order; the default in its own order."""

    name: str
    options: tuple[Any, ...]
    default: tuple[Any, ...]
    min_items: int = 0
    max_items: int | None = None

    @cached_property
    def axes(self) -> tuple[Axis, ...]:  # type: ignore[override]
        return tuple(Axis(f"{self.name}[{label(o)}]", "option", labels=(False, True)) for o in self.options)

    def decode(self, raws: Sequence[Any], drawn: dict[str, Any]) -> Any:
        chosen = {i for i, raw in enumerate(raws) if raw}
        usual = [i for i, o in enumerate(self.options) if o in self.default]
        for i in [*usual, *range(len(self.options))]:
            if len(chosen) >= self.min_items:
                break
            chosen.add(i)
        picked = [o for i, o in enumerate(self.options) if i in chosen]
        picked = picked if self.max_items is None else picked[: self.max_items]
        return list(self.default) if self._is_default(picked) else picked

    def _is_default(self, picked: list[Any]) -> bool:
        return len(picked) == len(self.default) and all(o in self.default for o in picked)

    def encode(self, value: Any, drawn: dict[str, Any]) -> list[Any]:
        known = isinstance(value, (list, tuple)) and all(any(same(v, o) for o in self.options) for v in value)
        if (
            not known
            or len(value) < self.min_items
            or (self.max_items is not None and len(value) > self.max_items)
        ):
            raise SpaceError(f"must be a subset of {', '.join(map(short, self.options))}, but got {value!r}")
        raws = [int(any(same(o, v) for v in value)) for o in self.options]
        if self.decode(raws, drawn) != list(value):
            raise SpaceError(f"must be in the order {self.decode(raws, drawn)}, but got {value!r}")
        return raws

    def nearest(self, value: Any, drawn: dict[str, Any]) -> Any:
        given = value if isinstance(value, (list, tuple)) else ()
        return self.decode([int(o in given) for o in self.options], drawn)
