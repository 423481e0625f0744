"""How the value of a parameter is written on axes, the dimensions of a search space.

A value on an axis has three coordinates: its raw value, a position in [0, 1], and what Optuna stores. A raw value is a
number (real, whole), an index into a list (index, option) or a share of a range that other parameters set (fraction).

A codec (`Number`, `Options`, `ListOf`, `Subset`) turns raw values of its `axes` into a valid value, given the values
drawn before it (`drawn`), and back. `decode` always gives a valid value: relations to other parameters hold because the
range itself moves; nothing is drawn and then corrected. `encode` raises `SpaceError` saying why a value is not in the
search range, without the parameter's name; `nearest` is the value of the search range closest to another. `text` is
what a person reads.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise, zip_longest
from statistics import NormalDist
from typing import Any

from automl.errors import SpaceError
from automl.space.leaf import Domain, Relation, among, is_number, same, short, twelve
from automl.space.ranges import COMPLEMENT, LINEAR, LOG, Range, place, spread

PRIOR_SD = 0.2  # of a prior around the default, in units of the range
PRIOR_WEIGHT = 0.5  # of the default among the options of a choice


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
        start, stop = (0, self.count) if self.kind == "option" else (int(self.low), int(self.high) + 1)
        is_short = self.kind in ("option", "index", "whole") and stop - start <= most
        return range(start, stop) if is_short else None

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
        return self.from_optuna(getattr(trial, f"suggest_{kind}")(self.name, **settings))

    def distribution(self) -> Any:
        """The Optuna distribution that `suggest` asks for."""
        from optuna import distributions

        kind, settings = self._as_optuna()
        return getattr(distributions, f"{kind.title()}Distribution")(**settings)

    def _as_optuna(self) -> tuple[str, dict[str, Any]]:
        """(Optuna's word for the kind, what it is told of it)."""
        if self.kind == "option":
            return "categorical", {"choices": self.labels}
        kind, number = ("int", int) if self.kind in ("index", "whole") else ("float", float)
        low, high = sorted(number(self.to_optuna(raw)) for raw in (self.low, self.high))
        step = {"step": self.step} if kind == "int" else {}
        return kind, {"low": low, "high": high, "log": self.scale != LINEAR, **step}

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """The prior of an option: how likely each value is to be good; () for what is no option."""
        if self.kind != "option" or self.weights:
            return self.weights
        rest = (1 - PRIOR_WEIGHT) / max(1, self.count - 1)
        return tuple(PRIOR_WEIGHT if i == self.centre else rest for i in range(self.count))

    @cached_property
    def mean(self) -> float | None:
        """The prior of all others: the default's position, around which good values lie with a standard deviation of
        PRIOR_SD. None of options."""
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
    near: tuple[float, ...] = ()  # the hull as if no other followed a third, which the digest has from before

    @property
    def ends(self) -> tuple[float, float]:
        return self.hull

    @property
    def widest(self) -> Number:
        """The same as far as a search may go."""
        if not self.range.reach or self.relations or self.range.reach == self.hull:
            return self
        low, high = self.range.reach
        return replace(self, range=replace(self.range, low=low, high=high), hull=(low, high))

    @property
    def text(self) -> str:
        grid = self.range.grid
        if len(grid) > 8:
            return f"{short(grid[0])} .. {short(grid[-1])}, {len(grid)} values"
        return ", ".join(map(short, grid)) or f"{short(self.hull[0])} .. {short(self.hull[1])}"

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
        (found, valid), value = self.left(drawn), raws[0]
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
        if value in found.grid:
            index = found.grid.index(value)
            return [(index + 0.5) / len(found.grid) if self.relations else index]
        if found.grid:
            raise SpaceError(f"must be one of {', '.join(map(short, found.grid))}, but got {short(value)}")
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
        # What is no number, or does not matter and has no default, sets no limit.
        for relation in self.relations:
            if is_number(right := drawn.get(relation.right)):
                valid = valid.where(relation.op, right)
        if found.grid:
            kept = tuple(v for v in found.grid if valid.holds(v))
            near = kept[0] if kept else valid.nearest(found.low)
            if near is None:
                text = " and ".join(map(str, self.relations))
                raise SpaceError(f"{self.name}: no value is left that is {text}")
            return Range.of(kept or (near,)), valid
        if self.share is not None and valid.low <= found.low and 0 < valid.high < found.high:
            low = max(valid.low, min(found.low, valid.high * self.share))
            found = replace(found, low=math.ceil(low) if valid.whole else low)
        inside = found.within(valid)
        clear = inside.low < inside.high or (inside.low == inside.high and valid.holds(inside.low))
        return inside if clear else _beside(found, valid).within(valid), valid


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
        if found := [i for i, v in enumerate(self.values) if same(_as_list(v), _as_list(value))]:
            return found[:1]
        raise SpaceError(f"must be one of {', '.join(map(short, self.values))}, but got {short(value)}")

    def nearest(self, value: Any, drawn: Mapping[str, Any]) -> Any:
        if is_number(value) and (numbers := tuple(filter(is_number, self.values))):
            return min(numbers, key=lambda v: (abs(v - value), v))
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
        given = value if isinstance(value, (list, tuple)) else ()
        for element, near in zip_longest(self.elements, given[: len(self.elements)]):
            drawn[element.name] = element.nearest(near if is_number(near) else element.range.low, drawn)
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
    def text(self) -> str:
        return f"subset of {{{', '.join(map(short, self.options))}}}"

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(Axis(f"{self.name}[{label(o)}]", "option", labels=(False, True)) for o in self.options)

    def decode(self, raws: Sequence[Any], drawn: Mapping[str, Any]) -> Any:
        usual_first = sorted(range(len(self.options)), key=lambda i: self.options[i] not in self.default)
        missing = [i for i in usual_first if not raws[i]]
        added = missing[: max(0, self.min_items - sum(map(bool, raws)))]
        picked = [o for i, o in enumerate(self.options) if raws[i] or i in added][: self.max_items]
        is_default = len(picked) == len(self.default) and all(o in self.default for o in picked)
        return list(self.default) if is_default else picked

    def encode(self, value: Any, drawn: Mapping[str, Any]) -> list[Any]:
        most = len(self.options) if self.max_items is None else self.max_items
        is_list = isinstance(value, (list, tuple)) and self.min_items <= len(value) <= most
        if not is_list or not all(among(v, self.options) for v in value):
            raise SpaceError(f"must be a subset of {', '.join(map(short, self.options))}, but got {value!r}")
        raws = [int(among(o, value)) for o in self.options]
        if self.decode(raws, drawn) != list(value):
            raise SpaceError(f"must be in the order {self.decode(raws, drawn)}, but got {value!r}")
        return raws

    def nearest(self, value: Any, drawn: Mapping[str, Any]) -> Any:
        given = value if isinstance(value, (list, tuple)) else ()
        return self.decode([int(o in given) for o in self.options], drawn)


Codec = Number | Options | ListOf | Subset
