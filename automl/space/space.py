"""The search space: configurations that are always valid, drawn on the right scale, with the default among them.

A configuration is `{dotted name: value}` of the searched parameters that matter in it; everything else is the base
spec's. The space is immutable, can be pickled, and has a digest of everything that decides what is drawn.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import accumulate, product
from typing import Any

from automl.dotted import get, leaves, put
from automl.errors import SpaceError, did_you_mean
from automl.space.codecs import Axis, Codec, ListOf, Number, Options, Subset
from automl.space.leaf import Condition, Leaf, Relation
from automl.space.ranges import COMPLEMENT, LINEAR, LOG
from automl.space.related import RelatedOptions

LISTED = 1000  # configurations of a space that is small enough to be tried whole


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
        """The values it takes, when they can be listed; of a subset, what it is taken from."""
        if isinstance(self.codec, Options):
            return self.codec.values
        if isinstance(self.codec, Subset):
            return self.codec.options
        return self.codec.range.grid if isinstance(self.codec, Number) else ()

    @cached_property
    def widest(self) -> Parameter:
        """The same as far as a search may go where the best lie at an end of its range."""
        if not isinstance(self.codec, Number) or (codec := self.codec.widest) is self.codec:
            return self
        centres = (axis.centre for axis in self.axes)
        axes = tuple(replace(axis, centre=c) for axis, c in zip(codec.axes, centres, strict=True))
        return replace(self, codec=codec, axes=axes)

    @property
    def looks_at(self) -> tuple[str, ...]:
        """Other names whose values decide whether it matters or how far it reaches."""
        parts = self.codec.elements if isinstance(self.codec, ListOf) else ()
        relations = [*self._relations, *(r for part in parts for r in part.relations)]
        names = [c.name for c in self.conditions] + [r.right for r in relations]
        return tuple(n for n in dict.fromkeys(names) if n not in {part.name for part in parts})

    @property
    def _relations(self) -> tuple[Relation, ...]:
        return self.codec.relations if isinstance(self.codec, (Number, RelatedOptions)) else ()

    @property
    def condition(self) -> str:
        """Relations and conditions in words; "" for none."""
        return "; ".join([*map(str, self._relations), *(f"only while {c}" for c in self.conditions)])

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
    more = {"whole": codec.domain.whole, "relations": relations, "share": codec.share}
    return {"name": codec.name, "domain": domain, **where, **more, "hull": codec.near or codec.hull}


@dataclass(frozen=True)
class SearchSpace:
    """`parameters` in the order in which they are drawn; `left_out` pairs a name with the reason; `notes` say what a
    person should know; `fixed` are leaves set by request; `context` holds the base values that parameters look at."""

    parameters: tuple[Parameter, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    fixed: tuple[tuple[str, Any], ...] = ()
    context: tuple[tuple[str, Any], ...] = ()
    leaves: tuple[Leaf, ...] = ()  # every parameter of the schema, for `validate`
    relations: tuple[Relation, ...] = ()
    base: tuple[tuple[str, Any], ...] = ()

    @property
    def default(self) -> dict[str, Any]:
        """The base spec as a point of the space: the searched parameters that matter in it."""
        return self._drawn(lambda p, _at, _drawn: copy.copy(p.default))

    @property
    def distributions(self) -> dict[str, Any]:
        """Optuna's names -> distributions, of every axis that can occur."""
        return {axis.name: axis.distribution() for p in self.parameters for axis in p.axes}

    @cached_property
    def widest(self) -> SearchSpace:
        """The same with every range as far as a search may go: what a sampler that widens ranges draws from, so that
        Optuna sees one distribution of a parameter from the first trial to the last."""
        return replace(self, parameters=tuple(p.widest for p in self.parameters))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that decides what is drawn; the same in every process."""
        essence = [[p.essence() for p in self.parameters], self.fixed, self.context]
        return hashlib.sha256(json.dumps(essence, sort_keys=True, default=str).encode()).hexdigest()

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Draw a configuration with an Optuna trial (define by run): {dotted name: value}."""
        return self._drawn(lambda p, _, drawn: p.codec.decode([a.suggest(trial) for a in p.axes], drawn))

    def _drawn(self, value: Callable[[Parameter, range, dict[str, Any]], Any]) -> dict[str, Any]:
        """The configuration of a value of (parameter, the numbers of its axes, what is drawn already); none is asked
        for of parameters that do not matter."""
        drawn = dict(self.context)
        found: dict[str, Any] = {}
        for p, at in self._plan:
            if not p.conditions or p.active(drawn):
                found[p.name] = drawn[p.name] = value(p, at, drawn)
        return found

    def enqueue_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Values -> what `study.enqueue_trial` takes so that `suggest` gives exactly them. Parameters that are not
        named keep their default. Raises `SpaceError` for a value outside the search range."""
        return {axis.name: axis.to_optuna(raw) for axis, raw in self._raws(params) if raw is not None}

    def _raws(self, params: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
        """(axis, raw value) in order; None on the axes of a parameter that does not matter in `params`."""
        known = {p.name for p in self.parameters}
        if odd := [name for name in params if name not in known]:
            raise SpaceError(f"{odd[0]} is not searched{did_you_mean(odd[0], known)}")
        drawn = dict(self.context)
        for p in self.parameters:
            if not p.active(drawn):
                yield from ((axis, None) for axis in p.axes)
                continue
            value = params.get(p.name, p.default)
            try:
                raws = p.codec.encode(value, drawn)
            except SpaceError as error:
                raise SpaceError(f"{p.name} {error}") from None
            drawn[p.name] = value
            yield from zip(p.axes, raws, strict=True)

    def encode(self, params: Mapping[str, Any]) -> list[float]:
        """A configuration -> its point in the unit cube, one number in [0, 1] per axis; 0.5 where nothing matters."""
        return [0.5 if raw is None else axis.to_unit(raw) for axis, raw in self._raws(params)]

    def decode(self, point: Sequence[float]) -> dict[str, Any]:
        """A point of the unit cube -> a configuration. Raises `SpaceError` for a wrong length or no number."""
        point = [float(u) for u in point]
        if len(point) != self.dimensions or any(u != u for u in point):
            must = f"a point of this space has {self.dimensions} numbers in [0, 1]"
            raise SpaceError(f"{must}, but got {point!r}")
        return self._at(point)

    def _at(self, point: Sequence[float]) -> dict[str, Any]:
        axes = self._axes
        return self._drawn(
            lambda p, at, drawn: p.codec.decode([axes[i].from_unit(point[i]) for i in at], drawn)
        )

    @property
    def dimensions(self) -> int:
        """The number of axes."""
        return len(self._axes)

    @cached_property
    def _axes(self) -> tuple[Axis, ...]:
        return tuple(axis for p in self.parameters for axis in p.axes)

    @cached_property
    def _plan(self) -> tuple[tuple[Parameter, range], ...]:
        """(parameter, the numbers of its axes) in order."""
        ends = tuple(accumulate(len(p.axes) for p in self.parameters))
        return tuple((p, range(end - len(p.axes), end)) for p, end in zip(self.parameters, ends, strict=True))

    def sample(self, n: int, seed: int = 0, prior: bool = False) -> list[dict[str, Any]]:
        """`n` independent draws, uniform on every axis's scale or from the prior around the default."""
        import numpy as np

        points = np.random.Generator(np.random.PCG64(seed)).random((n, self.dimensions)).tolist()
        if prior:
            points = [[a.expected(u) for u, a in zip(each, self._axes, strict=True)] for each in points]
        return [self._at(point) for point in points]

    @cached_property
    def every(self) -> list[dict[str, Any]] | None:
        """All configurations; None where there are more than `LISTED`, or no end of them."""
        found: list[dict[str, Any]] = [{}]
        for p in self.parameters:
            grown: list[dict[str, Any]] = []
            for params in found:
                drawn = {**dict(self.context), **params}
                values = _values(p, drawn) if p.active(drawn) else ()
                if values is None or len(grown) + max(1, len(values)) > LISTED:
                    return None
                grown += [{**params, p.name: value} for value in values] or [params]
            found = grown
        return found

    def params_of(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration of a whole spec: its searched leaves that matter in it, None where one is not
        there."""
        return self._drawn(lambda p, _at, _drawn: get(spec, p.name))

    def validate(self, params: Mapping[str, Any]) -> list[str]:
        """Every violation of a configuration, flat or nested, searched or not: unknown names, values that the schema
        forbids, relations that do not hold with the base spec under it. Empty when it is valid."""
        known = {leaf.name: leaf for leaf in self.leaves}
        pairs = [(n, v) for n, v in leaves(params, known=known) if v != {} or n in known]
        given = dict(pairs)
        wrong = {
            n: known[n].problem(v) if n in known else f"is not in the schema{did_you_mean(n, known)}"
            for n, v in given.items()
        }
        values = {**dict(self.base), **given}  # null given is null, not the base's number
        broken = {r: r.broken(values) for r in self.relations if any(n in given for n in r.sides)}
        problems = [f"{name} {what}" for name, what in wrong.items() if what]
        twice = (n for n, count in Counter(n for n, _ in pairs).items() if count > 1)
        problems += [f"{n} is given twice, nested and by its dotted name" for n in twice]
        return problems + [f"{r.left} must be {r}, but {shown}" for r, shown in broken.items() if shown]

    def apply(self, spec: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
        """A new full spec: `spec` with the fixed leaves and `params` in it; `spec` is left as it is."""
        full = copy.deepcopy(dict(spec))
        for name, value in [*self.fixed, *params.items()]:
            put(full, name, copy.deepcopy(value))
        return full


def _values(p: Parameter, drawn: dict[str, Any]) -> Sequence[Any] | None:
    """All values that a parameter may take beside those drawn; None of too many."""
    raws = [axis.every(LISTED) for axis in p.axes]
    if any(r is None for r in raws) or math.prod(len(r) for r in raws if r is not None) > LISTED:
        return None
    values = (p.codec.decode(list(each), drawn) for each in product(*(r for r in raws if r is not None)))
    return list({json.dumps(value, sort_keys=True, default=str): value for value in values}.values())


def to_record(space: SearchSpace, room: SearchSpace | None = None) -> dict[str, Any]:
    """The space as JSON data; with the `room` that trials may lie in also how far they may leave ranges, {name:
    [lowest, highest]}."""
    record = {
        "digest": space.digest,
        "parameters": [p.record() for p in space.parameters],
        "left_out": [{"name": name, "reason": reason} for name, reason in space.left_out],
        "notes": list(space.notes),
        "fixed": dict(space.fixed),
        "default": space.default,
    }
    if room is not None:
        record["reach"] = {name: [p.low, p.high] for name, p in reach(space, room).items()}
    return record


def reach(space: SearchSpace, room: SearchSpace) -> dict[str, Parameter]:
    """The parameters that trials may leave the range of, as they are in the `room` that trials may lie in."""
    pairs = zip(space.parameters, room.parameters, strict=True)
    return {p.name: wide for p, wide in pairs if wide.codec is not p.codec}
