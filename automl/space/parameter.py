"""One searched parameter: what it may become, on which scale, when it matters, and why so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from automl.space.axes import LINEAR, LOG, Axis, Prior
from automl.space.codecs import Codec, ListOf, Number
from automl.space.domain import Relation
from automl.space.leaf import same
from automl.space.words import short


@dataclass(frozen=True)
class Condition:
    """The parameter matters only while `name` has one of `values`."""

    name: str
    values: tuple[Any, ...]

    def holds(self, drawn: Mapping[str, Any]) -> bool:
        value = drawn.get(self.name)
        return any(same(value, v) for v in self.values)

    def __str__(self) -> str:
        values = " or ".join("null" if v is None else short(v) for v in self.values)
        return f"{self.name} is {values}"


@dataclass(frozen=True)
class Parameter:
    """`kind` is float, int, bool, choice, ordered, list or subset. `priors` go with the axes, one each, and are
    centred on the default."""

    name: str
    path: tuple[str, ...]
    kind: str
    default: Any
    codec: Codec
    conditions: tuple[Condition, ...] = ()
    priors: tuple[Prior, ...] = ()
    why: str = ""

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.codec.axes

    @property
    def low(self) -> float | None:
        """The lowest number it can become; None for what is not a number."""
        return self.codec.hull[0] if isinstance(self.codec, Number) else None

    @property
    def high(self) -> float | None:
        return self.codec.hull[1] if isinstance(self.codec, Number) else None

    @property
    def scale(self) -> str:
        return self.codec.scale if isinstance(self.codec, Number) else LINEAR

    @property
    def log(self) -> bool:
        return self.scale == LOG

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values it takes, when they can be listed."""
        return self.codec.choices

    @property
    def relations(self) -> tuple[Relation, ...]:
        return self.codec.relations

    @property
    def looks_at(self) -> tuple[str, ...]:
        """Other names whose values decide whether it matters or how far it reaches."""
        parts = self.codec.elements if isinstance(self.codec, ListOf) else ()
        relations = [*self.relations, *(r for part in parts for r in part.relations)]
        names = [c.name for c in self.conditions] + [n for r in relations for n in r.names]
        return tuple(n for n in dict.fromkeys(names) if n not in {part.name for part in parts})

    @property
    def condition(self) -> str:
        """Relations and conditions in words; "" for none."""
        return "; ".join([*map(str, self.relations), *(f"only while {c}" for c in self.conditions)])

    def active(self, drawn: Mapping[str, Any]) -> bool:
        return all(condition.holds(drawn) for condition in self.conditions)

    def range_text(self) -> str:
        """What it is searched in, as a person writes it."""
        return self.codec.text

    def essence(self) -> list[Any]:
        """Everything that decides what is drawn, as plain data."""
        codec: Any = self.codec
        return [self.name, type(codec).__name__, asdict(codec), [asdict(c) for c in self.conditions]]

    def record(self) -> dict[str, Any]:
        """The parameter as JSON data."""
        return {
            "name": self.name, "kind": self.kind, "low": self.low, "high": self.high, "scale": self.scale,
            "log": self.log, "choices": list(self.choices) or None, "range": self.range_text(),
            "default": self.default, "condition": self.condition or None, "why": self.why,
            "axes": [
                {"name": a.name, "kind": a.kind, "low": a.low, "high": a.high, "scale": a.scale,
                 "prior": {"mean": p.mean, "sd": p.sd, "weights": list(p.weights) or None}}
                for a, p in zip(self.axes, self.priors, strict=True)
            ],
        }  # fmt: skip
