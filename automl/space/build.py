"""Drafts -> parameters, in the order in which they are drawn, each with a valid default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from automl.errors import SpaceError
from automl.space import relations
from automl.space.activity import Condition
from automl.space.codecs import Codec, ListOf, Number
from automl.space.compilation import Compilation, value_of
from automl.space.domain import is_number
from automl.space.leaf import Leaf, same
from automl.space.links import Link
from automl.space.parameter import Parameter
from automl.space.relations import Draft
from automl.space.words import short


def build_parameters(
    work: Compilation, names: list[str], moving: list[Link], conditions: Mapping[str, tuple[Condition, ...]]
) -> tuple[Parameter, ...]:
    moving = [m for m in moving if m.left in work.drafts and any(n in work.drafts for n in m.relation.names)]
    needs: dict[str, list[str]] = {n: [c.name for c in conditions[n]] for n in names}
    for name, drafts in work.elements.items():
        needs[name] = [*needs.get(name, ()), *(d.name for d in drafts)]
        needs |= {d.name: [] for d in drafts}
    for link in moving:
        needs.setdefault(link.left, []).extend(link.relation.names)
    for link in work.links:  # an order without a relation still shows a cycle
        if link.left in needs and link not in moving:
            needs[link.left].extend(n for n in link.relation.names if n in needs)
    order = relations.in_order(sorted(needs), needs)
    relations.propagate(work.drafts, moving, order, work.base)
    built, drawn = [], {n: work.base.get(n) for n in referenced(work)}
    for name in order:
        if name in names:
            built.append(parameter(work, name, conditions[name], drawn))
    return tuple(built)


def parameter(
    work: Compilation, name: str, conditions: tuple[Condition, ...], drawn: dict[str, Any]
) -> Parameter:
    leaf = work.schema.leaf(name)
    if name in work.elements:
        codec: Codec = ListOf(tuple(number(work, d, drawn) for d in work.elements[name]))
        kind = "list"
    elif name in work.drafts:
        codec = number(work, work.drafts[name], drawn)
        work.why[name] = work.drafts[name].range.why
        kind = "int" if codec.whole else "float"
    else:
        codec = work.codecs[name]
        kind = leaf.kind if leaf.kind != "text" else "choice"
    active = all(c.holds(drawn) for c in conditions)
    default = default_of(work, leaf, codec, drawn)
    if active:
        drawn[name] = default
    raws = codec.encode(default, dict(drawn))
    priors = tuple(axis.prior(raw) for axis, raw in zip(codec.axes, raws, strict=True))
    return Parameter(name, leaf.path, kind, default, codec, conditions, priors, work.why[name])


def number(work: Compilation, draft: Draft, drawn: Mapping[str, Any]) -> Number:
    found, links = draft.range, tuple(draft.relations)
    share = None
    if found.moves and found.low > 0 and any(r.op in relations.UPPER for r in links):
        tops = [
            r.right(dict(drawn))
            for r in links
            if r.op in relations.UPPER and all(is_number(drawn.get(n)) for n in r.names)
        ]
        share = min(1.0, found.low / max(min([found.high, *tops]), 1))
    codec = Number(
        draft.name,
        draft.domain.whole,
        found.low,
        found.high,
        found.scale,
        draft.domain,
        found.grid,
        links,
        share,
    )
    return replace(codec, hull=hull(work, codec))


def hull(work: Compilation, codec: Number) -> tuple[float, float]:
    """(lowest, highest) value over all that its relations look at."""
    if codec.grid or not codec.relations:
        return (codec.grid[0], codec.grid[-1]) if codec.grid else (codec.low, codec.high)
    names = {n for r in codec.relations for n in r.names}
    hulls = {n: work.drafts[n].hull if n in work.drafts else (work.base[n],) * 2 for n in names}
    corners = [codec.allowed({n: hull[side] for n, hull in hulls.items()}) for side in (0, 1)]
    return min(low for low, _ in corners), max(high for _, high in corners)


def default_of(work: Compilation, leaf: Leaf, codec: Codec, drawn: dict[str, Any]) -> Any:
    """The base value where the space has it; otherwise the nearest, with a note."""
    name, value = leaf.name, value_of(work, leaf)
    if value is not None:
        try:
            codec.encode(value, dict(drawn))
            wrong = leaf.problem(value)
        except SpaceError as error:
            wrong = leaf.problem(value) or str(error)
        if wrong is None:
            return value
        if name in work.given and leaf.problem(value) and not same(value, leaf.default):
            raise SpaceError(f"{name} {leaf.problem(value)} (the spec's value)")
    usable = value if value is not None and not isinstance(value, (dict, bool)) else None
    if isinstance(codec, Number):
        start = usable if is_number(usable) else work.drafts[name].default
        used = codec.nearest(start, dict(drawn))
    else:
        used = codec.nearest(usable, dict(drawn))
    what = (
        ("its default is null" if name in work.base else "it has no default")
        if value is None
        else f"the default {short(value)} is not in the space: it {wrong}"
    )
    work.notes.append(f"{name}: {what}; {short(used)} is used instead")
    return used


def context_of(work: Compilation, parameters: tuple[Parameter, ...]) -> tuple[tuple[str, Any], ...]:
    looked = {n for p in parameters for n in p.looks_at}
    return tuple((n, work.base[n]) for n in sorted(looked) if n in work.base)


def validated(work: Compilation, searched: list[str]) -> tuple[tuple[str, relations.Relation], ...]:
    """The relations that a configuration must keep: those the schema states, and those read into a searched one."""
    kept = [k for k in work.links if k.relation.op != "after" and (k.said or k.left in searched or k.why)]
    return tuple((k.left, k.relation) for k in kept)


def looked_at(work: Compilation) -> dict[str, Any]:
    return {n: work.base[n] for n in referenced(work) if is_number(work.base[n])}


def referenced(work: Compilation) -> list[str]:
    """Names whose values conditions and relations look at."""
    names = [n for link in work.links for n in (link.left, *link.relation.names)]
    return list(dict.fromkeys(n for n in names if n in work.base))
