"""One searched parameter: what it may become, on which scale, when it matters, and why so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from automl.space.activity import Condition
from automl.space.axes import Axis, Prior
from automl.space.codecs import Codec, ListOf, Number, Options, Subset
from automl.space.conditions import Relation
from automl.space.scale import LINEAR, LOG
from automl.space.words import short


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
        if isinstance(self.codec, Options):
            return self.codec.values
        if isinstance(self.codec, Subset):
            return self.codec.options
        return self.codec.grid if isinstance(self.codec, Number) else ()

    @property
    def relations(self) -> tuple[Relation, ...]:
        return self.codec.relations if isinstance(self.codec, Number) else ()

    @property
    def looks_at(self) -> tuple[str, ...]:
        """Other names whose values decide whether it matters or how far it reaches."""
        relations = list(self.relations)
        if isinstance(self.codec, ListOf):
            relations += [r for element in self.codec.elements for r in element.relations]
        own = {element.name for element in self.codec.elements} if isinstance(self.codec, ListOf) else set()
        names = [c.name for c in self.conditions] + [n for r in relations for n in r.names]
        return tuple(n for n in dict.fromkeys(names) if n not in own)

    @property
    def condition(self) -> str:
        """Relations and conditions in words; "" for none."""
        parts = [str(r) for r in self.relations]
        parts += [f"only while {c}" for c in self.conditions]
        return "; ".join(parts)

    def active(self, drawn: Mapping[str, Any]) -> bool:
        return all(condition.holds(drawn) for condition in self.conditions)

    def range_text(self) -> str:
        """What it is searched in, as a person writes it."""
        codec = self.codec
        if isinstance(codec, Subset):
            return f"subset of {{{', '.join(map(short, codec.options))}}}"
        if isinstance(codec, Options) and codec.ordered and len(codec.values) > 3:
            return f"{short(codec.values[0])} .. {short(codec.values[-1])}, {len(codec.values)} steps"
        if isinstance(codec, Number) and len(codec.grid) > 8:
            return f"{short(codec.grid[0])} .. {short(codec.grid[-1])}, {len(codec.grid)} values"
        if self.choices:
            return ", ".join(map(short, self.choices))
        if isinstance(codec, ListOf):
            return "[" + ", ".join(f"{short(e.hull[0])} .. {short(e.hull[1])}" for e in codec.elements) + "]"
        return f"{short(self.low)} .. {short(self.high)}"

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
