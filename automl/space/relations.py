"""Relations between parameters are made to hold by construction.

A relation with a fixed side narrows the other side's domain. One between two searched parameters stays with its left
side, whose range moves (codecs.py); here the domain of its right side is narrowed so that there is always room. Of
two parameters that bound a third from both sides, each keeps to its side of the third's default.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from automl.dotted import MISSING, get
from automl.errors import SpaceError
from automl.space.leaf import FLIPPED, LOWER, UPPER, Domain, Leaf, Relation, coerced, is_number, short
from automl.space.names import SELECTED, SELECTED_FROM
from automl.space.schema import Schema

Values = Mapping[str, Any]
Domains = Mapping[str, Domain]


def gather(schema: Schema, base: Values, searched: Collection[str]) -> tuple[list[Relation], list[str]]:
    """(every relation that the schema states, notes)."""
    found: list[Relation] = []
    notes: list[str] = []
    for name, node in schema.nodes.items():
        says = node.get("depends_on") or "depends_on" in str(node.get("math_cond", ""))
        if not (says or name in searched or SELECTED.search(name)):
            continue
        try:
            stated = list(_stated(schema.leaf(name), schema, base))
        except SpaceError as error:
            if name in searched:
                raise
            notes.append(f"{error}; the parameter is not searched, so its relations are not kept")
            continue
        found += [relation for relation in stated if relation.op != "after" or name in searched]
        unclear = "has no operator and implies none that we know"
        loose = [relation.right for relation in stated if relation.op == "after" and name in searched]
        notes += [f"{name}: depends_on {right} {unclear}" for right in loose]
    return list(dict.fromkeys(found)), notes


def _stated(leaf: Leaf, schema: Schema, base: Values) -> Iterator[Relation]:
    """The schema's own; a depends_on without any operator is "at most" of a selection, and where the defaults keep to
    that. A selection that depends on nothing is selected from what stands beside it."""
    conds = [(op, operand) for op, operand in leaf.cond if isinstance(operand, str)]
    for op, operand in conds:
        if operand == "depends_on" and not leaf.depends_on:
            what = f"math_cond '{op} depends_on' needs a depends_on that names a parameter"
            raise SpaceError(f"{leaf.name}: {what}")
        for target in [n for _, n in leaf.depends_on] if operand == "depends_on" else [operand]:
            yield Relation(leaf.name, op, target)
    is_selected = leaf.domain is not None and SELECTED.search(leaf.path[-1])
    beside = (
        n for n, path in schema.paths.items() if path[:-1] == leaf.path[:-1] and SELECTED_FROM.search(n)
    )
    for sign, target in leaf.depends_on or [(None, name) for name in beside if is_selected]:
        ours, theirs = base.get(leaf.name), base.get(target)
        at_most = is_selected or (is_number(ours) and is_number(theirs) and ours <= theirs)
        if sign or not conds:
            yield Relation(leaf.name, sign or ("<=" if at_most else "after"), target)


def numbered(base: Values, relations: Sequence[Relation], spec: Values) -> dict[str, Any]:
    """The base's values, numbers written as text read as numbers, and the spec's for names the schema lacks."""
    names = dict.fromkeys(name for relation in relations for name in (relation.left, relation.right))
    found = {name: base.get(name, get(spec, name, MISSING)) for name in names}
    read = {n: coerced(v, "float") if n in base and not is_number(v) else v for n, v in found.items()}
    return {**base, **{name: value for name, value in read.items() if value is not MISSING}}


def narrowed(
    domains: Domains, relations: Sequence[Relation], base: Values, starts: Values, offs: Values
) -> tuple[Domains, Domains, list[Relation], list[str]]:
    """(domains beside what is fixed, the same with room for each other, the relations between those that still have
    several values, notes).

    One rule: a side is narrowed until the other can always follow. `starts` are numbers to search around, `offs` what
    some are while they do not matter. Raises `SpaceError` when a relation cannot hold.
    """
    known = [r for r in relations if r.op != "after" and (r.left in domains or r.right in domains)]
    silent = {r: text for r in known if (text := _says_nothing(r, domains, base))}
    spoken = [r for r in known if r not in silent]
    names = {name for relation in spoken for name in (relation.left, relation.right)}
    fixed = {name: Domain(False, base[name], base[name]) for name in names if name not in domains}
    wide = _beside_fixed({**domains, **fixed}, spoken, offs)
    free, found = _between_free(spoken, wide), dict(wide)
    for relation in free:
        _check_equality(relation, found, relations)
    needs = {r.left: [other.right for other in free if other.left == r.left] for r in free}
    for name in reversed(in_order(found, needs)):
        mine = [relation for relation in free if relation.left == name]
        for relation, op, value in _demands(found[name], mine, starts.get(name)):
            right = relation.right
            found[right] = _where(right, found[right], relation, op, value)
            off = offs.get(right)
            if off is not None and found[right].narrowed(off, off).empty:
                raise SpaceError(f"{name}: {relation.text} cannot hold while {right} is {short(off)}")
    settled = _beside_fixed(found, spoken, offs)
    moving = _between_free(spoken, settled)
    return {n: wide[n] for n in domains}, {n: settled[n] for n in domains}, moving, list(silent.values())


def _says_nothing(relation: Relation, domains: Domains, base: Values) -> str | None:
    """The note on a relation one of whose sides has no number."""
    for name in (relation.left, relation.right):
        if name not in domains and not is_number(base.get(name)):
            absent = f"neither the schema nor the spec has {name}"
            what = f"{name} is {short(base[name])}, not a number" if name in base else absent
            return f"{relation.text}: {what}, so the relation says nothing"
    return None


def _between_free(relations: Sequence[Relation], domains: Domains) -> list[Relation]:
    return [r for r in relations if domains[r.left].only is None and domains[r.right].only is None]


def _beside_fixed(domains: Domains, relations: Sequence[Relation], offs: Values) -> Domains:
    """Each side of a relation narrowed to the other's only value, or its value while it does not matter, until nothing
    more follows."""
    found = dict(domains)
    for relation in relations:
        left, right = found[relation.left], found[relation.right]
        value = offs.get(relation.left) if left.only is None else left.only
        if right.only is not None:
            found[relation.left] = _where(relation.left, left, relation, relation.op, right.only)
        elif value is not None:
            found[relation.right] = _where(relation.right, right, relation, FLIPPED[relation.op], value)
    return found if found == domains else _beside_fixed(found, relations, offs)


def _where(name: str, domain: Domain, relation: Relation, op: str, value: float) -> Domain:
    found = domain.where(op, value)
    if found.empty:
        would = f"{name} would have to be {op} {short(value)} and {domain}"
        raise SpaceError(f"{relation.left}: {relation.text} cannot hold: {would}")
    return found


def _demands(
    domain: Domain, relations: Sequence[Relation], start: float | None
) -> Iterator[tuple[Relation, str, float]]:
    """(relation, operator, value) such that the left side has a value whenever the right one is `operator value`: the
    left side's last valid one on that side; between two that bound it from both sides, its start."""
    lower, upper = ([r for r in relations if r.op in ops] for ops in (LOWER, UPPER))
    between = lower and upper and lower != upper
    for op, relation in [(">=", r) for r in lower] + [("<=", r) for r in upper]:
        far, is_open = (start, False) if between and start is not None else domain.far(above=op == ">=")
        if math.isfinite(far):
            yield relation, FLIPPED[op[0] if is_open or relation.op in (">", "<") else op], far


def _check_equality(relation: Relation, domains: Domains, relations: Sequence[Relation]) -> None:
    """Of two searched parameters that must be equal, the left one follows, so it must be free to."""
    left, right = domains[relation.left], domains[relation.right]
    others = [r for r in relations if r is not relation and relation.left in (r.left, r.right)]
    free = left.whole == right.whole and not (left.stepped or left.excluded or left.values or others)
    if relation.op == "==" and not free:
        raise SpaceError(
            f"{relation.left}: {relation.text} cannot be kept for every draw: fix one of the two"
        )


def in_order(names: Iterable[str], needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Those that others look at come first, otherwise as given. Raises `SpaceError` showing a cycle."""
    known, order = set(names), dict[str, None]()
    trail: list[str] = []

    def visit(name: str) -> None:
        if name in trail:
            cycle = [*trail[trail.index(name) :], name]
            raise SpaceError(f"{cycle[0]}: depends_on goes round in a circle: {' -> '.join(cycle)}")
        if name not in order:
            trail.append(name)
            for other in sorted(n for n in needs.get(name, ()) if n in known):
                visit(other)
            order[trail.pop()] = None

    for name in names:
        visit(name)
    return list(order)
