"""From a train schema and a base spec to a search space: what is searched, where, on which scale, and why.

Bounds in a schema say what is valid, not where to look. A parameter is looked for where its `search` hint says, else
around its default; the default configuration is always a point of the space.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from automl import spec as specs
from automl.errors import SpaceError, did_you_mean

FACTOR = 3.0  # a number without a hint is looked for within a third and three times its default
NOT_SEARCHED = {"dataset.workers": "it changes speed, not results"}
ABOVE = "> depends_on"


@dataclass(frozen=True)
class Parameter:
    """One searched leaf. `low` and `high` bound real values; with `above` or `at_most` (another leaf's name) the
    range also moves with that leaf, and Optuna sees the fraction of the range instead."""

    name: str
    kind: str  # float, int, choice
    default: Any
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()
    above: str | None = None
    at_most: str | None = None
    why: str = ""

    @property
    def relational(self) -> bool:
        return self.above is not None or self.at_most is not None

    @property
    def optuna_name(self) -> str:
        return f"{self.name} (fraction)" if self.relational else self.name

    def range_in(self, values: Mapping[str, Any]) -> tuple[int, int]:
        """(low, high) of a relational integer, given the values it depends on."""
        low, high = int(self.low or 0), int(self.high or 0)
        if self.above:
            low = max(low, int(values[self.above]) + 1)
        if self.at_most:
            high = min(high, int(values[self.at_most]))
        return low, max(low, high)


@dataclass(frozen=True)
class SearchSpace:
    parameters: tuple[Parameter, ...]
    left_out: tuple[tuple[str, str], ...]
    fixed: Mapping[str, Any]  # leaves that relations look at and nobody searches

    @property
    def default(self) -> dict[str, Any]:
        """The base spec as a point of the space, {dotted name: value}."""
        return {p.name: p.default for p in self.parameters}

    @property
    def distributions(self) -> dict[str, Any]:
        """What Optuna sees."""
        return {p.optuna_name: _distribution(p) for p in self.parameters}

    @property
    def digest(self) -> str:
        """Of everything that decides what is drawn; the same in every process."""
        text = json.dumps([asdict(p) for p in self.parameters], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Draw a configuration with an Optuna trial (define by run)."""
        raw = {name: trial._suggest(name, d) for name, d in self.distributions.items()}
        return self.real(raw)

    def real(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Optuna's values -> real values."""
        values = dict(self.fixed)
        for p in self.parameters:
            value = raw[p.optuna_name]
            if p.relational:
                low, high = p.range_in(values)
                value = min(high, low + int(value * (high - low + 1)))
            values[p.name] = value
        return {p.name: values[p.name] for p in self.parameters}

    def enqueue_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Real values -> what `study.enqueue_trial` takes to have `suggest` give exactly them."""
        raw = {}
        for p in self.parameters:
            value = params[p.name]
            if p.relational:
                low, high = p.range_in({**self.fixed, **params})
                value = (value - low + 0.5) / (high - low + 1)
            raw[p.optuna_name] = value
        return raw

    def apply(self, base: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
        """The base spec with the params in, as a new full spec."""
        full = copy.deepcopy(dict(base))
        for name, value in params.items():
            specs.put(full, name, value)
        return full


def compile_space(
    schema: Mapping[str, Any],
    spec: Mapping[str, Any] | None = None,
    *,
    tune: Sequence[str] = (),
    fix: Sequence[str] = (),
    search: Mapping[str, Any] | None = None,
    limits: Mapping[str, float] | None = None,
) -> SearchSpace:
    """The space of a schema's `automl_enabled` leaves around a base spec (the schema's defaults when None).

    `tune` and `fix` narrow it by name; `limits` are upper bounds that the data set. Raises `SpaceError`.
    """
    base = spec if spec is not None else schema.get("default", {})
    found = dict(schema_leaves(schema))
    fixed_by_user = {_known(text.partition("=")[0], found) for text in fix}
    parameters, left_out = [], []
    for name in sorted(found):
        if not found[name].get("automl_enabled"):
            continue
        reason = "fixed by --fix" if name in fixed_by_user else why_not(name, found[name], base)
        if reason:
            left_out.append((name, reason))
        else:
            parameters.append(parameter(name, found[name], base, (limits or {}).get(name)))
    ordered = _in_order(parameters)
    looked_at = {p.above for p in ordered if p.above} | {p.at_most for p in ordered if p.at_most}
    free = {p.name for p in ordered}
    return SearchSpace(tuple(ordered), tuple(left_out), {n: specs.get(base, n) for n in looked_at - free})


def schema_leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(dotted name, leaf schema) of everything below `properties`."""
    for key, child in node.get("properties", {}).items():
        if child.get("properties"):
            yield from schema_leaves(child, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", child


def why_not(name: str, leaf: Mapping[str, Any], base: Mapping[str, Any]) -> str | None:
    """The reason to leave a leaf out of the search, or None."""
    if name in NOT_SEARCHED:
        return NOT_SEARCHED[name]
    for other, values in leaf.get("active_when", {}).items():
        if specs.get(base, other) not in values:
            return f"it has no effect while {other} is {specs.get(base, other)}"
    return None


def parameter(name: str, leaf: Mapping[str, Any], base: Mapping[str, Any], limit: float | None) -> Parameter:
    """One leaf as a searched parameter around its value in the base spec."""
    default = specs.get(base, name, leaf.get("default"))
    if leaf.get("type") == "boolean" or "enum" in leaf:
        return Parameter(
            name, "choice", default, choices=tuple(leaf.get("enum", (False, True))), why="all values"
        )
    whole = leaf.get("type") == "integer"
    low, high, log, why = _range(leaf, float(default), whole)
    if limit is not None:
        high = min(high, limit)
    low, high = min(low, default), max(high, default)
    above = (
        leaf.get("depends_on")
        if leaf.get("math_cond", "").replace(" ", "") == ABOVE.replace(" ", "")
        else None
    )
    at_most = leaf.get("depends_on") if not leaf.get("math_cond") else None
    if whole:
        low, high = int(low), int(high)
    return Parameter(name, "int" if whole else "float", default, low, high, log, (), above, at_most, why)


def _range(leaf: Mapping[str, Any], default: float, whole: bool) -> tuple[float, float, bool, str]:
    """(low, high, log, why): the hint when there is one, else a range around the default, within the bounds."""
    bottom = leaf.get("minimum", leaf.get("exclusiveMinimum", -math.inf))
    top = leaf.get("maximum", math.inf)
    hint = leaf.get("search")
    if hint and hint.get("log"):
        moved = (
            default / leaf["default"]
        )  # the hint is written for the schema's default and moves with the spec's
        why = "the schema's search hint" + ("" if moved == 1 else ", moved to the spec's value")
        return max(hint["low"] * moved, bottom), min(hint["high"] * moved, top), True, why
    if hint:
        return hint["low"], hint["high"], False, "the schema's search hint"
    if not whole and math.isfinite(bottom) and math.isfinite(top):
        return bottom, top, False, "the whole valid range"
    factor = 1.5 if whole else FACTOR
    low, high = default / factor, default * factor
    if whole:
        low, high = math.floor(low), math.ceil(high)
    return (
        max(low, bottom),
        min(high, top),
        whole and high >= 8 * max(1, low),
        f"around the default, factor {factor:g}",
    )


def _distribution(p: Parameter) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if p.relational:
        return FloatDistribution(0.0, 1.0)
    if p.kind == "choice":
        return CategoricalDistribution(p.choices)
    if p.kind == "int":
        return IntDistribution(int(p.low or 0), int(p.high or 0), log=p.log and bool(p.low))
    return FloatDistribution(float(p.low or 0), float(p.high or 0), log=p.log)


def _in_order(parameters: list[Parameter]) -> list[Parameter]:
    """Those that others look at come first. Raises `SpaceError` for a circle."""
    waiting, done = list(parameters), []
    while waiting:
        names = {p.name for p in waiting}
        ready = [p for p in waiting if p.above not in names and p.at_most not in names]
        if not ready:
            raise SpaceError(f"depends_on goes round in a circle: {', '.join(sorted(names))}")
        done += ready
        waiting = [p for p in waiting if p not in ready]
    return done


def _known(name: str, found: Mapping[str, Any]) -> str:
    if name not in found:
        raise SpaceError(f"the schema has no parameter '{name}'{did_you_mean(name, found)}")
    return name
