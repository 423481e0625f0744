"""Relations between parameters are made to hold by construction.

A relation with a fixed side narrows the other side's domain. One between two searched parameters stays in the later
one's codec, whose range moves; here the ranges are set so that it is never empty. Of two parameters that bound a
third from both sides, each keeps to its side of the third's default.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from automl.errors import SpaceError
from automl.space.axes import COMPLEMENT, LINEAR
from automl.space.domain import FLIPPED, LOWER, UPPER, Domain, Relation, is_number
from automl.space.leaf import Leaf, coerced
from automl.space.names import CLASSES, HEADS, QUERIES, SELECTED, WIDTH
from automl.space.ranges import Range, closed
from automl.space.schema import Schema
from automl.space.words import short
from automl.spec import MISSING, get

Values = Mapping[str, Any]
NOWHERE = Range(0, 0)


@dataclass(frozen=True)
class Link:
    """`left` stands in a relation; `said` tells that the schema wrote an operator, not that we read one into it."""

    left: str
    relation: Relation
    said: bool = False
    why: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.left, *self.relation.names)

    def binds(self, searched: Collection[str]) -> bool:
        """Whether a configuration must keep it: it is stated, known of names, or read into a searched parameter."""
        return self.relation.op != "after" and (self.said or bool(self.why) or self.left in searched)

    def __str__(self) -> str:
        return f"{self.left} {self.relation}"


@dataclass(frozen=True)
class Draft:
    """A number, or an element of a list of numbers, on its way to a codec. `values` are the only ones it takes, those
    of an enum or a person's; `start` is a valid one to search around, `off` what it is while it does not matter."""

    name: str
    domain: Domain
    values: tuple[float, ...] = ()
    off: float | None = None
    start: float = 0.0
    range: Range = NOWHERE

    @property
    def only(self) -> float | None:
        """The one value that it can have; None when there are more."""
        if self.values:
            valid = [v for v in self.values if self.domain.problem(v) is None]
            return valid[0] if len(valid) == 1 else None
        return self.domain.nearest(self.domain.low) if self.domain.single else None

    @property
    def ends(self) -> tuple[float, float]:
        """(lowest, highest) value while it matters."""
        return (
            (self.range.grid[0], self.range.grid[-1])
            if self.range.grid
            else (self.range.low, self.range.high)
        )

    @property
    def hull(self) -> tuple[float, float]:
        """(lowest, highest) value that the others may meet."""
        low, high = self.ends
        return (low, high) if self.off is None else (min(low, self.off), max(high, self.off))


Drafts = Mapping[str, Draft]


def gather(schema: Schema, base: Values, searched: Collection[str]) -> tuple[list[Link], list[str]]:
    """(every relation that the schema states or that a known name implies, notes)."""
    links: list[Link] = []
    notes: list[str] = []
    for name in schema:
        node = schema.nodes[name]
        if node.get("depends_on") or "depends_on" in str(node.get("math_cond", "")) or name in searched:
            try:
                links += stated(schema.leaf(name), base, name in searched, notes)
            except SpaceError as error:
                if name in searched:
                    raise
                notes.append(f"{error}; the parameter is not searched, so its relations are not kept")
    links += selection(schema, base)
    return list({(link.left, link.relation): link for link in reversed(links)}.values())[::-1], notes


def stated(leaf: Leaf, base: Values, searched: bool, notes: list[str]) -> Iterator[Link]:
    """The schema's own; a depends_on without any operator is "at most" where the defaults keep to that."""
    targets = [target for _, target in leaf.depends_on]
    conds = [(op, operand) for op, operand in leaf.cond if isinstance(operand, str)]
    for op, operand in conds:
        if operand == "depends_on" and not targets:
            raise SpaceError(
                f"{leaf.name}: math_cond '{op} depends_on' needs a depends_on that names a parameter"
            )
        for target in targets if operand == "depends_on" else [operand]:
            yield Link(leaf.name, Relation(op, (target,)), said=True)
    for sign, target in leaf.depends_on:
        ours, theirs = base.get(leaf.name), base.get(target)
        if sign:
            yield Link(leaf.name, Relation(sign, (target,)), said=True)
        elif not conds and is_number(ours) and is_number(theirs) and ours <= theirs:
            yield Link(leaf.name, Relation("<=", (target,)), why="depends_on without an operator")
        elif not conds and searched:
            notes.append(f"{leaf.name}: depends_on {target} has no operator and implies none that we know")
            yield Link(leaf.name, Relation("after", (target,)))


def selection(schema: Schema, base: Values) -> Iterator[Link]:
    """Models with queries pick `num_select` of num_queries * num_classes scores, from at most num_queries queries."""
    counts = [n for n in schema if n.rsplit(".", 1)[-1] == CLASSES]
    classes = min(counts, key=lambda n: (n != f"dataset.{CLASSES}", n), default="")
    count = base.get(classes)
    for name in schema:
        queries = ".".join((*schema.paths[name][:-1], QUERIES))
        if schema.paths[name][-1] == SELECTED and queries in schema:
            yield Link(name, Relation("<=", (queries,)), why="a query is selected at most once")
            if is_number(count) and count >= 1:  # of one class all may be selected
                fewer = Relation("<" if count > 1 else "<=", (queries, classes))
                yield Link(name, fewer, why="fewer than there are scores")


def head_counts(name: str, base: Values, domain: Domain) -> tuple[int, ...]:
    """The valid numbers of attention heads that divide the width beside them; () when `name` is none."""
    above, _, last = name.rpartition(".")
    width, count = _count(base.get(f"{above}.{WIDTH}".lstrip("."))), _count(base.get(name))
    if last not in HEADS or not (width and count) or width % count:
        return ()
    return tuple(
        n for n in range(max(1, count // 4), count * 4 + 1) if width % n == 0 and domain.problem(n) is None
    )


def divided_by_heads(
    name: str, schema: Schema, base: Values, domain: Domain, searched: Collection[str]
) -> Domain:
    """A width's domain such that every number of attention heads beside it divides it."""
    above, _, last = name.rpartition(".")
    heads = next((n for word in HEADS if (n := f"{above}.{word}".lstrip(".")) in schema), "")
    counts = head_counts(heads, base, Domain(True, 1))
    if last != WIDTH or not counts or domain.power:
        return domain
    return domain.where("/", float(math.lcm(*counts) if heads in searched else base[heads]))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def numbers(base: Values, links: Sequence[Link], spec: Values) -> dict[str, Any]:
    """The base's values, numbers written as text read as numbers, and the spec's for names the schema lacks."""
    values = dict(base)
    for name in (name for link in links for name in link.names):
        found = values.get(name, get(spec, name, MISSING))
        if found is not MISSING:
            values[name] = found if is_number(found) or name not in base else coerced(found, "float")
    return values


def broken(links: Sequence[Link], values: Values, searched: Collection[str]) -> Iterator[tuple[Link, str]]:
    """The relations none of whose sides is searched that do not hold."""
    for link in links:
        known = all(is_number(values.get(n)) and n not in searched for n in link.names)
        if known and not link.relation.holds(values[link.left], dict(values)):
            yield link, f"{link} does not hold: {', '.join(f'{n} is {short(values[n])}' for n in link.names)}"


def narrow(drafts: Drafts, links: Sequence[Link], base: Values) -> tuple[Drafts, list[Link], list[str]]:
    """(drafts with the relations that have a fixed side in their domains, the relations between searched ones, notes).

    Raises `SpaceError` when a relation names nothing, or cannot hold.
    """
    found, moving, notes = dict(drafts), [], []
    for link in links:
        left, free = found.get(link.left), [n for n in link.relation.names if n in found]
        if link.relation.op == "after" or not (left or free):
            continue
        unknown = next((n for n in link.names if n not in found and not is_number(base.get(n))), None)
        if unknown is not None:
            what = f"{unknown} is {short(base[unknown])}, not a number" if unknown in base else (
                f"neither the schema nor the spec has {unknown}")  # fmt: skip
            notes.append(f"{link}: {what}, so the relation says nothing")
            continue
        if left and not free:
            right = math.prod(base[n] for n in link.relation.names)
            found[link.left] = _where(left, link, link.relation.op, right)
            continue
        value = left.off if left else base[link.left]
        value = left.only if left and link.relation.op == "!=" and left.only is not None else value
        for name in [] if value is None else free:
            found[name] = _give_way(found[name], link, value or 0, found, base)
        if left:
            _check_equality(link, found, links)
            moving.append(link)
    return found, moving, notes


def _where(draft: Draft, link: Link, op: str, right: float) -> Draft:
    domain = draft.domain.where(op, right)
    if domain.empty:
        would = f"{draft.name} would have to be {op} {short(right)} and {draft.domain}"
        raise SpaceError(f"{link.left}: {link} cannot hold: {would}")
    return replace(draft, domain=domain)


def _give_way(target: Draft, link: Link, value: float, drafts: Drafts, base: Values) -> Draft:
    """The left side is `value` (or is that while it does not matter): one factor of the right side makes room."""
    others: float = 1.0
    for name in link.relation.names:
        if name != target.name:
            domain = drafts[name].domain if name in drafts else Domain(False, base[name], base[name])
            others *= domain.low if link.relation.op in UPPER else domain.high
    if others <= 0 or not math.isfinite(others):
        free = ", ".join(n for n in link.relation.names if n in drafts)
        raise SpaceError(f"{link.left}: {link} cannot be kept for every draw: fix one of {free}")
    return _where(target, link, FLIPPED[link.relation.op], value / others if others != 1 else value)


def _check_equality(link: Link, drafts: Drafts, links: Sequence[Link]) -> None:
    """Of two searched parameters that must be equal, the left one follows, so it must be free to."""
    if link.relation.op != "==":
        return
    left, right = drafts[link.left], drafts[link.relation.names[0]]
    others = [k for k in links if k is not link and link.left in k.names]
    alike = left.domain.whole == right.domain.whole and not (left.domain.stepped or left.domain.excluded)
    if others or not alike or left.values or len(link.relation.names) > 1:
        raise SpaceError(f"{link.left}: {link} cannot be kept for every draw: fix one of the two")


def make_room(drafts: Drafts, moving: Sequence[Link], order: Sequence[str], base: Values) -> Drafts:
    """The drafts with ranges such that none that moves is ever empty.

    First each reaches out for those it looks at, the least dependent first, because reaching out moves the ends that
    the next one must clear; then what could not be reached is cut back, the most dependent first.
    """
    found = dict(drafts)
    related = [(n, [k for k in moving if k.left == n]) for n in order]
    sides = [(n, [k for k in links if k.relation.op in LOWER], [k for k in links if k.relation.op in UPPER])
             for n, links in related if links]  # fmt: skip
    for name, lower, upper in sides:
        if lower == upper or not (lower and upper):  # an equality is both, and alone moves along
            for link, above in [(k, True) for k in lower] + [(k, False) for k in upper]:
                furthest = _extreme(link, found, base, above)
                found[name] = _stretch(found[name], furthest, link.relation.op in (">", "<"), above)
    for name, lower, upper in reversed(sides):
        pivot = found[name].start if lower and upper and lower != upper else None
        for link, above in [(k, True) for k in lower] + [(k, False) for k in upper]:
            limit = _reach(found[name], above) if pivot is None else pivot
            furthest, strict = _extreme(link, found, base, above), link.relation.op in (">", "<")
            if (furthest > limit if above else furthest < limit) or (strict and furthest == limit):
                target = _cut_back(link, found, base, limit, strict, above)
                found[target.name] = target
    return found


def _extreme(link: Link, drafts: Drafts, base: Values, highest: bool) -> float:
    """The highest or lowest value of the right side."""
    ends = [drafts[n].hull if n in drafts else (base[n], base[n]) for n in link.relation.names]
    return math.prod((end[highest] for end in ends), start=1.0)


def _stretch(x: Draft, furthest: float, strict: bool, above: bool) -> Draft:
    """Widen x's search range towards `furthest`, as far as its domain allows."""
    found, domain = x.range, x.domain
    room = max(abs(found.high - found.low) / 4, 1 if domain.whole or not above else 0)
    if x.values:
        return x
    if above:
        if found.high >= furthest + room:
            return x
        high = min(furthest + room, domain.high, 1 - 1e-6 if found.scale == COMPLEMENT else math.inf)
        wider = closed(replace(found, high=math.floor(high) if domain.whole else high), domain)
    else:
        if not (found.low > furthest or (strict and found.low >= furthest)):
            return x
        low = furthest - room
        if math.isfinite(domain.low):
            hair = 1e-3 * max(furthest - domain.low, 0.0) if domain.low_open else 0
            low = (
                domain.low + hair if hair or not domain.low_open else found.low
            )  # no room: the other side gives way
        low = math.floor(low) if domain.whole else low
        keeps = low > 0 and math.isfinite(domain.low)
        wider = replace(found, low=low, scale=found.scale if keeps else LINEAR)
    grid = sorted({*domain.steps(wider.low, wider.high), *found.grid}) if found.grid else ()
    return replace(x, range=replace(wider, grid=tuple(grid)))


def _reach(x: Draft, above: bool) -> float:
    """The last value of the right side at which a strict relation still leaves x some room."""
    top = x.ends[1] if above else x.ends[0]
    span = 0 if x.domain.whole or x.range.grid else 1e-2 * (x.range.high - x.range.low)
    return top - span if above else top + span


def _cut_back(link: Link, drafts: Drafts, base: Values, limit: float, strict: bool, above: bool) -> Draft:
    """The right side's searched factor, cut to where x can still follow."""
    free = [n for n in link.relation.names if n in drafts]
    others = math.prod(base[n] for n in link.relation.names if n not in drafts)
    if len(free) > 1 or others <= 0:
        raise SpaceError(f"{link.left}: {link} cannot be kept for every draw: fix one of {', '.join(free)}")
    edge, target = limit / others if others != 1 else limit, drafts[free[0]]
    off = target.off
    if off is not None and ((off > edge if above else off < edge) or (strict and off == edge)):
        raise SpaceError(f"{link.left}: {link} cannot hold while {target.name} is {short(off)}")
    low, high = (-math.inf, edge) if above else (edge, math.inf)
    return cut(target, link, low, high, strict)


def cut(draft: Draft, link: Link, low: float, high: float, strict: bool) -> Draft:
    """The draft on one side of a value. Raises `SpaceError` when nothing is left."""
    domain = draft.domain.narrowed(low, high, strict and low > -math.inf, strict and high < math.inf)
    found = draft.range
    grid = tuple(v for v in found.grid if domain.problem(v) is None)
    left, right = max(found.low, domain.low), min(found.high, domain.high)
    hair = 1e-3 * (right - left) if strict and not domain.whole else 0
    left, right = left + hair if left == low else left, right - hair if right == high else right
    if domain.empty or left > right or (found.grid and not grid):
        inside = f"[{short(found.low)}, {short(found.high)}]"
        what = f"{draft.name} is searched in {inside} and would have to be {domain}"
        raise SpaceError(f"{link.left}: {link} cannot hold: {what}")
    left, right = (grid[0], grid[-1]) if grid else (left, right)
    return replace(draft, domain=domain, range=replace(found, low=left, high=right, grid=grid))


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
