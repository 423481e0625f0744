"""One searched parameter: what it may become, when it matters, and how its value is written on axes.

A codec (`Number`, `Options`, `ListOf`, `Subset`) turns raw values of its `axes` into a valid value, given the values
drawn before it (`drawn`), and back. `decode` always gives a valid value: relations to other parameters hold because the
range itself moves; nothing is drawn and then corrected. `encode` raises `SpaceError` saying why a value is not in the
search range, without the parameter's name; `nearest` is the value of the search range closest to another. `choices` are
the values that can be listed, `text` is what a person reads, `why` how it came about.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

from automl.errors import SpaceError
from automl.space.leaf import Domain, Relation, among, is_number, same, short
from automl.space.scale import COMPLEMENT, LINEAR, LOG, Axis, Range, label, place, spread


@dataclass(frozen=True)
class Condition:
    """The parameter matters only while `name` has one of `values`."""

    name: str
    values: tuple[Any, ...]

    def holds(self, drawn: Mapping[str, Any]) -> bool:
        return among(drawn.get(self.name), self.values)

    def __str__(self) -> str:
        values = " or ".join("null" if v is None else short(v) for v in self.values)
        return f"{self.name} is {values}"


@dataclass(frozen=True)
class Number:
    """A number of `range`, valid in `domain`. With `relations` the range follows other parameters, within `hull`, the
    lowest and highest value whatever they are; `share` then says how far below a moving upper end it begins."""

    name: str
    domain: Domain
    range: Range
    relations: tuple[Relation, ...] = ()
    share: float | None = None
    hull: tuple[float, float] = (-math.inf, math.inf)
    wide: Domain | None = None  # the domain before it made room for others

    @property
    def why(self) -> str:
        return self.range.why

    @property
    def choices(self) -> tuple[Any, ...]:
        return self.range.grid

    @property
    def text(self) -> str:
        if len(self.choices) > 8:
            return f"{short(self.choices[0])} .. {short(self.choices[-1])}, {len(self.choices)} values"
        return ", ".join(map(short, self.choices)) or f"{short(self.hull[0])} .. {short(self.hull[1])}"

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        found, whole = self.range, self.domain.whole
        if self.relations:
            return (Axis(f"{self.name} (fraction)", "fraction"),)
        if not found.grid:
            name = f"{self.name} (1 - x)" if found.scale == COMPLEMENT else self.name
            return (Axis(name, "whole" if whole else "real", found.low, found.high, found.scale),)
        last, steps = len(found.grid) - 1, {b - a for a, b in pairwise(found.grid)}
        if whole and len(steps) == 1:
            return (Axis(self.name, "index", 0, last, start=int(found.grid[0]), step=int(steps.pop())),)
        return (Axis(f"{self.name} (index)", "index", 0, last),)

    def decode(self, raws: Sequence[Any], drawn: Mapping[str, Any]) -> Any:
        found, valid = self.left(drawn) if self.relations else (self.range, self.domain)
        value = raws[0]
        if found.grid:
            last = len(found.grid) - 1
            return found.grid[min(int(value * (last + 1)), last) if self.relations else value]
        if self.relations:
            value = spread(value, found.low, found.high, found.scale, valid.whole)
        return _off_excluded(value, found, valid) if valid.excluded else value

    def encode(self, value: Any, drawn: Mapping[str, Any]) -> list[Any]:
        found, valid = self.left(drawn)
        if not is_number(value) or (valid.whole and value != int(value)):
            raise SpaceError(f"must be {'an integer' if valid.whole else 'a number'}, but got {value!r}")
        if found.grid:
            if value not in found.grid:
                listed = ", ".join(map(short, found.grid))
                raise SpaceError(f"must be one of {listed}, but got {short(value)}")
            index = found.grid.index(value)
            return [(index + 0.5) / len(found.grid) if self.relations else index]
        if not found.low <= value <= found.high or value in valid.excluded:
            ends = f"[{short(found.low)}, {short(found.high)}]"
            raise SpaceError(f"must be in the search range {ends}, but got {short(value)}")
        if not self.relations:
            return [int(value) if valid.whole else float(value)]
        return [min(max(place(value, found.low, found.high, found.scale, valid.whole), 0.0), 1.0)]

    def nearest(self, value: Any, drawn: Mapping[str, Any]) -> Any:
        found, valid = self.left(drawn)
        if found.grid:
            return min(found.grid, key=lambda v: (abs(v - value), v))
        inside = min(max(value, found.low), found.high)
        return _off_excluded(round(inside) if valid.whole else float(inside), found, valid)

    def left(self, drawn: Mapping[str, Any]) -> tuple[Range, Domain]:
        """(the part of the range that the relations leave, else what is valid next to it; the valid numbers)."""
        if not self.relations:
            return self.range, self.domain
        valid, found = self.domain, self.range
        for relation in self.relations:  # what does not matter and has no default sets no limit
            if (right := drawn.get(relation.right)) is not None:
                valid = valid.where(relation.op, right)
        if found.grid:
            return Range.of(tuple(v for v in found.grid if valid.holds(v)) or (self._next(valid),)), valid
        if self.share is not None and valid.low <= found.low and 0 < valid.high < found.high:
            low = max(valid.low, min(found.low, valid.high * self.share))
            found = replace(found, low=math.ceil(low) if valid.whole else low)
        inside = found.within(valid)
        clear = inside.low < inside.high or (inside.low == inside.high and valid.holds(inside.low))
        return inside if clear else _beside(found, valid).within(valid), valid

    def _next(self, valid: Domain) -> float:
        """The valid value next to the range, where the relations leave nothing of that."""
        value = valid.nearest(self.range.low)
        if value is None:
            text = " and ".join(map(str, self.relations))
            raise SpaceError(f"{self.name}: no value is left that is {text}")
        return value


def _beside(found: Range, valid: Domain) -> Range:
    """The valid numbers next to a range that has none, on its scale where they allow that."""
    reach = max(found.high - found.low, 1) / 4
    below, above = (len(valid.excluded), 1) if valid.whole else (reach, reach)
    low = valid.low if math.isfinite(valid.low) else valid.high - below
    high = min(valid.high, low + above) if valid.low >= found.high else valid.high
    bent = (found.scale == LOG and low <= 0) or (found.scale == COMPLEMENT and high >= 1)
    return replace(found, low=low, high=high, scale=LINEAR if bent else found.scale)


def _off_excluded(value: Any, found: Range, valid: Domain) -> Any:
    """The value, or its neighbour where the value alone is not valid (`!=`)."""
    if value not in valid.excluded:
        return value
    near = valid.narrowed(found.low, found.high).nearest(value)
    return value if near is None else near


@dataclass(frozen=True)
class Options:
    """One of several values. `ordered` ones are neighbours of each other, others are not."""

    name: str
    values: tuple[Any, ...]
    ordered: bool = False
    weights: tuple[float, ...] = ()
    why: str = ""

    @property
    def choices(self) -> tuple[Any, ...]:
        return self.values

    @property
    def text(self) -> str:
        if self.ordered and len(self.values) > 3:
            return f"{short(self.values[0])} .. {short(self.values[-1])}, {len(self.values)} steps"
        return ", ".join(map(short, self.values))

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        if self.ordered:
            return (Axis(f"{self.name} (index)", "index", 0, len(self.values) - 1),)
        return (Axis(self.name, "option", labels=tuple(map(label, self.values)), weights=self.weights),)

    def decode(self, raws: Sequence[Any], drawn: Mapping[str, Any]) -> Any:
        return _as_list(self.values[raws[0]])

    def encode(self, value: Any, drawn: Mapping[str, Any]) -> list[Any]:
        for i, option in enumerate(self.values):
            if same(_as_list(option), _as_list(value)):
                return [i]
        raise SpaceError(f"must be one of {', '.join(map(short, self.values))}, but got {short(value)}")

    def nearest(self, value: Any, drawn: Mapping[str, Any]) -> Any:
        if is_number(value) and all(is_number(v) for v in self.values):
            return min(self.values, key=lambda v: (abs(v - value), v))
        named = {str(v): v for v in self.values}
        near = difflib.get_close_matches(str(value), list(named), n=1, cutoff=0.5)
        return _as_list(named[near[0]] if near else self.values[0])


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True)
class ListOf:
    """A list of numbers, each on its own axis; `relations` between neighbours keep the order."""

    elements: tuple[Number, ...]
    why: str = ""
    choices: ClassVar[tuple[Any, ...]] = ()

    @property
    def relations(self) -> tuple[Relation, ...]:
        return tuple(relation for element in self.elements for relation in element.relations)

    @property
    def text(self) -> str:
        return "[" + ", ".join(f"{short(e.hull[0])} .. {short(e.hull[1])}" for e in self.elements) + "]"

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
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
            start = given[i] if i < len(given) and is_number(given[i]) else element.range.low
            drawn[element.name] = element.nearest(start, drawn)
        return [drawn[element.name] for element in self.elements]


@dataclass(frozen=True)
class Subset:
    """Some of several options, in the schema's order; the default in its own order."""

    name: str
    options: tuple[Any, ...]
    default: tuple[Any, ...]
    min_items: int = 0
    max_items: int | None = None
    why: str = ""

    @property
    def choices(self) -> tuple[Any, ...]:
        return self.options

    @property
    def text(self) -> str:
        return f"subset of {{{', '.join(map(short, self.options))}}}"

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(Axis(f"{self.name}[{label(o)}]", "option", labels=(False, True)) for o in self.options)

    def decode(self, raws: Sequence[Any], drawn: Mapping[str, Any]) -> Any:
        chosen = {i for i, raw in enumerate(raws) if raw}
        usual = [i for i, o in enumerate(self.options) if o in self.default]
        missing = [i for i in dict.fromkeys([*usual, *range(len(self.options))]) if i not in chosen]
        chosen |= set(missing[: max(0, self.min_items - len(chosen))])
        picked = [o for i, o in enumerate(self.options) if i in chosen][: self.max_items]
        is_default = len(picked) == len(self.default) and all(o in self.default for o in picked)
        return list(self.default) if is_default else picked

    def encode(self, value: Any, drawn: Mapping[str, Any]) -> list[Any]:
        known = isinstance(value, (list, tuple)) and all(among(v, self.options) for v in value)
        most = len(self.options) if self.max_items is None else self.max_items
        if not known or not self.min_items <= len(value) <= most:
            raise SpaceError(f"must be a subset of {', '.join(map(short, self.options))}, but got {value!r}")
        raws = [int(among(o, value)) for o in self.options]
        if self.decode(raws, drawn) != list(value):
            raise SpaceError(f"must be in the order {self.decode(raws, drawn)}, but got {value!r}")
        return raws

    def nearest(self, value: Any, drawn: Mapping[str, Any]) -> Any:
        given = value if isinstance(value, (list, tuple)) else ()
        return self.decode([int(o in given) for o in self.options], drawn)


Codec = Number | Options | ListOf | Subset


def _essence(codec: Codec) -> dict[str, Any]:
    """Everything of a codec that decides what is drawn, as plain data; runs are resumed by it, so its form stays."""
    if isinstance(codec, ListOf):
        return {"elements": [_essence(element) for element in codec.elements]}
    if not isinstance(codec, Number):
        return {key: value for key, value in asdict(codec).items() if key != "why"}
    stated = codec.wide if codec.wide and not codec.relations else codec.domain
    domain = {key: value for key, value in asdict(stated).items() if key != "values"}
    where = {key: getattr(codec.range, key) for key in ("low", "high", "scale", "grid")}
    relations = [{"op": relation.op, "names": [relation.right]} for relation in codec.relations]
    more = {"whole": codec.domain.whole, "relations": relations, "share": codec.share, "hull": codec.hull}
    return {"name": codec.name, "domain": domain, **where, **more}


@dataclass(frozen=True)
class Parameter:
    """`kind` is float, int, bool, choice, ordered, list or subset; the codec's axes, each centred on the default."""

    name: str
    kind: str
    default: Any
    codec: Codec
    axes: tuple[Axis, ...]
    conditions: tuple[Condition, ...] = ()
    why: str = ""

    @property
    def low(self) -> float | None:
        """The lowest number it can become; None for what is not a number."""
        return self.codec.hull[0] if isinstance(self.codec, Number) else None

    @property
    def high(self) -> float | None:
        return self.codec.hull[1] if isinstance(self.codec, Number) else None

    @property
    def scale(self) -> str:
        return self.codec.range.scale if isinstance(self.codec, Number) else LINEAR

    @property
    def log(self) -> bool:
        return self.scale == LOG

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values it takes, when they can be listed."""
        return self.codec.choices

    @property
    def looks_at(self) -> tuple[str, ...]:
        """Other names whose values decide whether it matters or how far it reaches."""
        parts = self.codec.elements if isinstance(self.codec, ListOf) else ()
        relations = self.codec.relations if isinstance(self.codec, (Number, ListOf)) else ()
        names = dict.fromkeys([c.name for c in self.conditions] + [relation.right for relation in relations])
        return tuple(n for n in names if n not in {part.name for part in parts})

    @property
    def condition(self) -> str:
        """Relations and conditions in words; "" for none."""
        relations = self.codec.relations if isinstance(self.codec, Number) else ()
        return "; ".join([*map(str, relations), *(f"only while {c}" for c in self.conditions)])

    def active(self, drawn: Mapping[str, Any]) -> bool:
        return all(condition.holds(drawn) for condition in self.conditions)

    def essence(self) -> list[Any]:
        """Everything that decides what is drawn, as plain data."""
        conditions = [asdict(condition) for condition in self.conditions]
        # A study of before has other names.
        renamed = [axis.name for axis in self.axes if axis.scale == COMPLEMENT]
        return [self.name, type(self.codec).__name__, _essence(self.codec), conditions, *renamed]

    def record(self) -> dict[str, Any]:
        """The parameter as JSON data."""
        return {
            "name": self.name, "kind": self.kind, "low": self.low, "high": self.high, "scale": self.scale,
            "log": self.log, "choices": list(self.choices) or None, "range": self.codec.text,
            "default": self.default, "condition": self.condition or None, "why": self.why,
            "axes": [axis.record() for axis in self.axes],
        }  # fmt: skip
