"""The last step: drafts -> parameters, in the order in which they are drawn, each with a valid default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from automl.errors import SpaceError
from automl.space.choose import Asked
from automl.space.codecs import Codec, ListOf, Number
from automl.space.domain import UPPER, is_number
from automl.space.drafts import Made
from automl.space.leaf import Leaf, same
from automl.space.parameter import Condition, Parameter
from automl.space.relations import Draft, Link, in_order
from automl.space.words import short


@dataclass(frozen=True)
class Parts:
    """What is built from: conditions of every searched parameter, the numbers among them and in lists with their
    ranges, what is no number, the relations between searched ones, and all that the schema has."""

    conditions: Mapping[str, tuple[Condition, ...]]
    drafts: Mapping[str, Draft]
    rest: Mapping[str, Made]
    moving: Sequence[Link]
    links: Sequence[Link]


def build(asked: Asked, base: Mapping[str, Any], parts: Parts) -> tuple[tuple[Parameter, ...], list[str]]:
    """(parameters in order, notes on defaults that are not in the space). Raises `SpaceError` where a relation cannot
    hold for every draw."""
    drafts, moving = parts.drafts, parts.moving
    built: list[Parameter] = []
    notes: list[str] = []
    drawn = dict(base)
    for name in (n for n in _order(parts, moving) if n in parts.conditions):
        leaf, conditions = asked.schema.leaf(name), parts.conditions[name]
        kind, codec, why = _codec(leaf, parts.rest.get(name), drafts, moving, base, drawn)
        default, said = _default(asked, leaf, codec, drafts, drawn)
        notes += said
        if all(condition.holds(drawn) for condition in conditions):
            drawn[name] = default
        raws = codec.encode(default, dict(drawn))
        priors = tuple(axis.prior(raw) for axis, raw in zip(codec.axes, raws, strict=True))
        wish = asked.wishes.get(name)
        why = f"{wish.why}; {why}" if wish and wish.recommended else why
        built.append(Parameter(name, leaf.path, kind, default, codec, conditions, priors, why))
    return tuple(built), notes


def _order(parts: Parts, moving: Sequence[Link]) -> list[str]:
    """Every parameter and element after those whose values it looks at."""
    needs = {name: [c.name for c in found] for name, found in parts.conditions.items()}
    for name, made in parts.rest.items():
        if name in needs:
            needs[name] += [d.name for d in made.elements]
            needs |= {d.name: [] for d in made.elements}
    for link in [*moving, *parts.links]:  # an order without a relation still shows a cycle
        if link.left in needs:
            needs[link.left] += [n for n in link.relation.names if n in needs]
    return in_order(sorted(needs), needs)


def _codec(
    leaf: Leaf, made: Made | None, drafts: Mapping[str, Draft], moving: Sequence[Link], base: Mapping[str, Any],
    drawn: dict[str, Any],
) -> tuple[str, Codec, str]:  # fmt: skip
    """(kind, codec, why it is searched so)."""
    if made and made.codec:
        return leaf.kind if leaf.kind != "text" else "choice", made.codec, made.why
    names = [d.name for d in made.elements] if made else [leaf.name]
    found = [_number(drafts, name, moving, base, drawn) for name in names]
    if made:
        return "list", ListOf(tuple(found)), made.why
    return "int" if found[0].whole else "float", found[0], drafts[leaf.name].range.why


def _number(
    drafts: Mapping[str, Draft],
    name: str,
    moving: Sequence[Link],
    base: Mapping[str, Any],
    drawn: dict[str, Any],
) -> Number:
    draft, found = drafts[name], drafts[name].range
    relations = tuple(link.relation for link in moving if link.left == name)
    uppers, share = [r for r in relations if r.op in UPPER], None
    if found.moves and found.low > 0 and uppers:
        tops = [r.right(drawn) for r in uppers if all(is_number(drawn.get(n)) for n in r.names)]
        share = min(1.0, found.low / max(min([found.high, *tops]), 1))
    ends = (found.low, found.high, found.scale)
    domain = (
        draft.domain if relations else draft.wide or draft.domain
    )  # what moves must not leave the room it has
    codec = Number(name, draft.domain.whole, *ends, domain, found.grid, relations, share)
    return replace(codec, hull=_hull(codec, drafts, base))


def _hull(codec: Number, drafts: Mapping[str, Draft], base: Mapping[str, Any]) -> tuple[float, float]:
    """(lowest, highest) value over all that its relations look at."""
    if codec.grid or not codec.relations:
        return (codec.grid[0], codec.grid[-1]) if codec.grid else (codec.low, codec.high)
    names = {n for relation in codec.relations for n in relation.names}
    hulls = {n: drafts[n].hull if n in drafts else (base[n],) * 2 for n in names}
    corners = [codec.allowed({n: hull[side] for n, hull in hulls.items()}) for side in (0, 1)]
    return min(low for low, _ in corners), max(high for _, high in corners)


def _default(
    asked: Asked, leaf: Leaf, codec: Codec, drafts: Mapping[str, Draft], drawn: dict[str, Any]
) -> tuple[Any, list[str]]:
    """(the base value where the space has it, otherwise the nearest; what to say about it)."""
    name, value = leaf.name, leaf.typed(drawn.get(leaf.name))
    if value is None:
        what = "its default is null" if name in asked.base else "it has no default"
    else:
        wrong = leaf.problem(value)
        if wrong and name in asked.given and not same(value, leaf.default):
            raise SpaceError(f"{name} {wrong} (the spec's value)")
        wrong = wrong or _refused(codec, value, drawn)
        if wrong is None:
            return value, []
        what = f"the default {short(value)} is not in the space: it {wrong}"
    start = value if not isinstance(value, (dict, bool)) else None
    if isinstance(codec, Number) and not is_number(start):
        start = drafts[name].start
    used = codec.nearest(start, dict(drawn))
    return used, [f"{name}: {what}; {short(used)} is used instead"]


def _refused(codec: Codec, value: Any, drawn: dict[str, Any]) -> str | None:
    """Why a codec does not have a value."""
    try:
        codec.encode(value, dict(drawn))
    except SpaceError as error:
        return str(error)
    return None
