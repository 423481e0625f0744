"""Relations between parameters are made to hold by construction.

A relation with a fixed side narrows the other side's domain. One between two searched parameters stays in the later
one's codec, whose range moves; here domains are narrowed so that it is never empty. Of two parameters that bound a
third from both sides, each keeps to its side of the third's default.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from automl.errors import SpaceError
from automl.space.domain import FLIPPED, LOWER, UPPER, Domain, Relation, is_number
from automl.space.leaf import Leaf, coerced
from automl.space.names import CLASSES, HEADS, QUERIES, SELECTED, WIDTH
from automl.space.ranges import Range
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
    wide: Domain | None = None  # the domain before it made room for others

    @property
    def only(self) -> float | None:
        """The one value that it can have; None when there are more."""
        if self.values:
            valid = [v for v in self.values if self.domain.problem(v) is None]
            return valid[0] if len(valid) == 1 else None
        return self.domain.nearest(self.domain.low) if self.domain.single else None

    def fixed_for(self, op: str) -> float | None:
        """What the others must heed already: the value while it does not matter, and an only value that is shunned."""
        return self.only if op == "!=" and self.only is not None else self.off

    def far(self, above: bool) -> tuple[float, bool]:
        """(its highest or lowest valid number, whether that end is open)."""
        domain = self.domain
        if self.values:
            valid = [v for v in self.values if domain.problem(v) is None]
            return (max(valid), False) if above else (min(valid), False)
        end, is_open = (domain.high, domain.high_open) if above else (domain.low, domain.low_open)
        if domain.power and not above:
            end = domain.steps(-math.inf, self.start, limit=1)[0]
        elif domain.stepped and math.isfinite(end):
            end = domain.nearest(end) or 0.0
        return end, (is_open or end in domain.excluded) and not domain.stepped

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
            what = f"math_cond '{op} depends_on' needs a depends_on that names a parameter"
            raise SpaceError(f"{leaf.name}: {what}")
        for target in targets if operand == "depends_on" else [operand]:
            yield Link(leaf.name, Relation(op, (target,)), said=True)
    for sign, target in leaf.depends_on:
        if sign:
            yield Link(leaf.name, Relation(sign, (target,)), said=True)
        elif not conds:
            yield from _implied(leaf.name, target, base, searched, notes)


def _implied(name: str, target: str, base: Values, searched: bool, notes: list[str]) -> Iterator[Link]:
    ours, theirs = base.get(name), base.get(target)
    if is_number(ours) and is_number(theirs) and ours <= theirs:
        yield Link(name, Relation("<=", (target,)), why="depends_on without an operator")
    elif searched:
        notes.append(f"{name}: depends_on {target} has no operator and implies none that we know")
        yield Link(name, Relation("after", (target,)))


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
    """(drafts with the relations in their domains, the relations between searched ones, notes).

    One rule: a side that is searched is narrowed until the other, fixed or searched, can always follow. Raises
    `SpaceError` when a relation names nothing, or cannot hold.
    """
    found, moving, notes = dict(drafts), [], []
    for link in links:
        left, free = found.get(link.left), [n for n in link.relation.names if n in found]
        if link.relation.op == "after" or not (left or free):
            continue
        said = _says_nothing(link, found, base)
        if said:
            notes.append(said)
            continue
        _fixed_side(found, link, free, base)
        if left and free:
            _check_equality(link, found, links)
            moving.append(link)
    found = {name: replace(draft, wide=draft.domain) for name, draft in found.items()}
    for name in reversed(in_order(found, {link.left: link.relation.names for link in moving})):
        _leave_room(found, [link for link in moving if link.left == name], base)
    return found, moving, notes


def _fixed_side(drafts: dict[str, Draft], link: Link, free: Sequence[str], base: Values) -> None:
    """Narrow one side to what the other is, where it is fixed, or is while it does not matter."""
    left = drafts.get(link.left)
    if left and not free:
        right = math.prod(base[n] for n in link.relation.names)
        drafts[link.left] = _where(left, link, link.relation.op, right)
        return
    fixed = left.fixed_for(link.relation.op) if left else base[link.left]
    if fixed is not None:
        _give_way(drafts, link, link.relation.op, fixed, base)


def _says_nothing(link: Link, drafts: Drafts, base: Values) -> str | None:
    """The note on a relation one of whose sides has no number."""
    unknown = next((n for n in link.names if n not in drafts and not is_number(base.get(n))), None)
    if unknown is None:
        return None
    absent = f"neither the schema nor the spec has {unknown}"
    what = f"{unknown} is {short(base[unknown])}, not a number" if unknown in base else absent
    return f"{link}: {what}, so the relation says nothing"


def _where(draft: Draft, link: Link, op: str, right: float) -> Draft:
    domain = draft.domain.where(op, right)
    if domain.empty or (draft.values and all(map(domain.problem, draft.values))):
        would = f"{draft.name} would have to be {op} {short(right)} and {draft.domain}"
        raise SpaceError(f"{link.left}: {link} cannot hold: {would}")
    return replace(draft, domain=domain)


def _leave_room(drafts: dict[str, Draft], links: Sequence[Link], base: Values) -> None:
    """Narrow what the left side looks at to where it has a value for all of it; between two that bound it from both
    sides lies its start."""
    lower, upper = ([k for k in links if k.relation.op in ops] for ops in (LOWER, UPPER))
    for op, link in [(">=", k) for k in lower] + [("<=", k) for k in upper]:
        x = drafts[link.left]
        far, is_open = (x.start, False) if lower and upper and lower != upper else x.far(op == ">=")
        strict = is_open or link.relation.op in (">", "<")
        if math.isfinite(far):
            _give_way(drafts, link, op[0] if strict else op, far, base)
            for name in (n for n in link.relation.names if n in drafts):
                off = drafts[name].off
                if off is not None and drafts[name].domain.narrowed(off, off).empty:
                    raise SpaceError(f"{link.left}: {link} cannot hold while {name} is {short(off)}")


def _give_way(drafts: dict[str, Draft], link: Link, op: str, value: float, base: Values) -> None:
    """The left side is `value`: each searched factor of the right side makes room for `value op right`."""
    ends = {
        n: (drafts[n].domain.low, drafts[n].domain.high) if n in drafts else (base[n],) * 2
        for n in link.names[1:]
    }
    for name in (n for n in link.names[1:] if n in drafts):
        factors = [end[op in LOWER] for n, end in ends.items() if n != name]
        others = math.prod(factors, start=1.0)
        if op not in ("!=", "==") and Relation(op, ("x",)).holds(
            value, {"x": others * ends[name][op in LOWER]}
        ):
            continue
        if others <= 0 or not math.isfinite(others):
            free = ", ".join(n for n in link.names[1:] if n in drafts)
            raise SpaceError(f"{link.left}: {link} cannot be kept for every draw: fix one of {free}")
        drafts[name] = _where(drafts[name], link, FLIPPED[op], value / others if others != 1 else value)
        ends[name] = drafts[name].domain.low, drafts[name].domain.high


def _check_equality(link: Link, drafts: Drafts, links: Sequence[Link]) -> None:
    """Of two searched parameters that must be equal, the left one follows, so it must be free to."""
    if link.relation.op != "==":
        return
    left, right = drafts[link.left], drafts[link.relation.names[0]]
    others = [k for k in links if k is not link and link.left in k.names]
    alike = left.domain.whole == right.domain.whole and not (left.domain.stepped or left.domain.excluded)
    if others or not alike or left.values or len(link.relation.names) > 1:
        raise SpaceError(f"{link.left}: {link} cannot be kept for every draw: fix one of the two")


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
