"""Relations between parameters are made to hold by construction.

A relation with a fixed side narrows the other side's domain. One between two searched parameters stays in the later
one's codec, whose range moves; here the hulls are set so that this range is never empty. Of two parameters that
bound a third from both sides, each keeps to its side of the third's default.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from automl.errors import SpaceError
from automl.space.conditions import FLIPPED, Relation
from automl.space.domain import Domain, is_number
from automl.space.links import Link
from automl.space.scale import COMPLEMENT, LINEAR, Range, closed
from automl.space.words import short

LOWER, UPPER = (">", ">=", "=="), ("<", "<=", "==")


@dataclass
class Draft:
    """A number (or one element of a list) on its way to a codec."""

    name: str
    domain: Domain
    default: float  # a valid start
    range: Range = field(default_factory=lambda: Range(0, 0))
    own_grid: bool = False  # the grid is an enum or a person's values: it can shrink, not grow
    conditional: bool = False
    base: Any = None  # the value while inactive
    around: float = (
        0.0  # where to look: the default as written, moved no further than onto an end of the domain
    )
    relations: list[Relation] = field(default_factory=list)

    @property
    def hull(self) -> tuple[float, float]:
        """(lowest, highest) value that the others may meet."""
        low, high = self.searched
        if self.conditional and is_number(self.base):
            return min(low, self.base), max(high, self.base)
        return low, high

    @property
    def searched(self) -> tuple[float, float]:
        """(lowest, highest) value while active."""
        return (
            (self.range.grid[0], self.range.grid[-1])
            if self.range.grid
            else (self.range.low, self.range.high)
        )

    def cut(self, link: Link, low: float = -math.inf, high: float = math.inf, strict: bool = False) -> None:
        """Narrow the domain and the range to one side of a value. Raises `SpaceError` when nothing is left."""
        domain = self.domain.narrowed(low, high, strict and low > -math.inf, strict and high < math.inf)
        found = self.range
        grid = tuple(v for v in found.grid if domain.problem(v) is None)
        left, right = max(found.low, domain.low), min(found.high, domain.high)
        if not self.domain.whole and strict:
            hair = 1e-3 * (right - left)
            left, right = (left + hair if left == low else left), (right - hair if right == high else right)
        if domain.empty or left > right or (found.grid and not grid):
            raise SpaceError(
                f"{link.left}: {link} cannot hold: {self.name} is searched in "
                f"[{short(found.low)}, {short(found.high)}] and would have to be {domain}"
            )
        self.domain = domain
        self.range = replace(
            found, low=grid[0] if grid else left, high=grid[-1] if grid else right, grid=grid
        )


def narrow(
    drafts: Mapping[str, Draft], links: Sequence[Link], base: Mapping[str, Any], notes: list[str]
) -> list[Link]:
    """Put relations with a fixed side into the domains; returns those between searched parameters.

    Raises `SpaceError` when a relation names nothing, or cannot hold.
    """
    moving = []
    for link in links:
        names = link.relation.names
        free = [n for n in names if n in drafts]
        if link.relation.op == "after" or not _known(link, drafts, base, notes):
            continue
        if link.left in drafts and free:
            if drafts[link.left].conditional:
                _narrow_targets(link, drafts, base, free)
            _check_equality(link, drafts, links)
            moving.append(link)
        elif link.left in drafts:
            right = math.prod(base[n] for n in names)
            _apply(drafts[link.left], link, link.relation.op, right)
        elif free:
            _narrow_targets(link, drafts, base, free)
    return moving


def _check_equality(link: Link, drafts: Mapping[str, Draft], links: Sequence[Link]) -> None:
    """Of two searched parameters that must be equal, the left one follows, so it must be free to."""
    if link.relation.op != "==":
        return
    left, right = drafts[link.left], drafts[link.relation.names[0]]
    others = [k for k in links if k is not link and link.left in (k.left, *k.relation.names)]
    alike = left.domain.whole == right.domain.whole and not (left.domain.stepped or left.domain.excluded)
    if others or not alike or left.own_grid or len(link.relation.names) > 1:
        raise SpaceError(f"{link.left}: {link} cannot be kept for every draw: fix one of the two")


def _known(link: Link, drafts: Mapping[str, Draft], base: Mapping[str, Any], notes: list[str]) -> bool:
    """Whether both sides have numbers; a stated relation that names nothing is an error."""
    touched = link.left in drafts or any(n in drafts for n in link.relation.names)
    for name in (link.left, *link.relation.names):
        if name in drafts or is_number(base.get(name)):
            continue
        if not touched:
            return False
        if name not in base:
            notes.append(f"{link}: neither the schema nor the spec has {name}, so the relation says nothing")
            return False
        notes.append(f"{link}: {name} is {short(base.get(name))}, not a number, so the relation says nothing")
        return False
    return True


def _narrow_targets(
    link: Link, drafts: Mapping[str, Draft], base: Mapping[str, Any], free: list[str]
) -> None:
    """The left side has one value (or has it while inactive): each searched factor of the right side makes room."""
    value = base.get(link.left)
    if not is_number(value):
        return
    for name in free:
        others = 1.0
        for other in link.relation.names:
            if other != name:
                domain = drafts[other].domain if other in drafts else None
                others *= (
                    base[other]
                    if domain is None
                    else domain.low
                    if link.relation.op in UPPER
                    else domain.high
                )
        if others <= 0 or not math.isfinite(others):
            raise SpaceError(
                f"{link.left}: {link} cannot be kept for every draw: fix one of {', '.join(free)}"
            )
        edge = value / others
        _apply(drafts[name], link, FLIPPED[link.relation.op], edge if others != 1 else value)


def _apply(draft: Draft, link: Link, op: str, right: float) -> None:
    domain = draft.domain
    if op == "!=":
        domain = replace(domain, excluded=(*domain.excluded, right)).tidy()
    else:
        low = right if op in LOWER else -math.inf
        high = right if op in UPPER else math.inf
        domain = domain.narrowed(low, high, op == ">", op == "<")
    if domain.empty:
        raise SpaceError(
            f"{link.left}: {link} cannot hold: {draft.name} would have to be {op} {short(right)} and {draft.domain}"
        )
    draft.domain = domain


def propagate(
    drafts: Mapping[str, Draft], moving: Iterable[Link], order: list[str], base: Mapping[str, Any]
) -> None:
    """Set the hulls of searched parameters so that a moving range is never empty.

    First each reaches out for those it looks at, the least dependent first, because reaching out moves the ends that
    the next one must clear; then what could not be reached is cut back, the most dependent first.
    """
    by_left: dict[str, list[Link]] = {}
    for link in moving:
        by_left.setdefault(link.left, []).append(link)
        drafts[link.left].relations.append(link.relation)
    related = [(drafts[name], _sides(by_left[name])) for name in order if name in by_left]
    for x, (lower, upper) in related:
        for link, above in [(link, True) for link in lower] + [(link, False) for link in upper]:
            if lower == upper or not (lower and upper):
                _stretch(
                    x, _extreme(link, drafts, base, highest=above), link.relation.op in (">", "<"), above
                )
    for x, (lower, upper) in reversed(related):
        pivot = x.default if lower and upper and lower != upper else None
        for link, above in [(link, True) for link in lower] + [(link, False) for link in upper]:
            _clear(x, link, drafts, base, above, pivot)


def _sides(links: list[Link]) -> tuple[list[Link], list[Link]]:
    """(those that bound from below, those that bound from above); an equality is both, and alone moves x along."""
    return [k for k in links if k.relation.op in LOWER], [k for k in links if k.relation.op in UPPER]


def _clear(
    x: Draft,
    link: Link,
    drafts: Mapping[str, Draft],
    base: Mapping[str, Any],
    above: bool,
    pivot: float | None,
) -> None:
    """Cut the right side back to where x reaches beyond it, or to x's default when x is bounded from both sides."""
    furthest = _extreme(link, drafts, base, highest=above)
    strict = link.relation.op in (">", "<")
    top = x.searched[1] if above else x.searched[0]
    limit = pivot if pivot is not None else _reach(x, top, above)
    beyond = furthest > limit if above else furthest < limit
    if beyond or (strict and furthest == limit):
        _cut_back(link, drafts, base, limit, strict, above)


def _stretch(x: Draft, furthest: float, strict: bool, above: bool) -> None:
    """Widen x's search range towards `furthest`, as far as its domain allows."""
    found, domain = x.range, x.domain
    room = abs(found.high - found.low) / 4
    if above:
        wanted = furthest + max(room, 1 if domain.whole else 0)
        if found.high < wanted and not x.own_grid:
            high = min(wanted, domain.high, 1 - 1e-6 if found.scale == COMPLEMENT else math.inf)
            x.range = closed(replace(found, high=math.floor(high) if domain.whole else high), domain)
    elif found.low > furthest or (strict and found.low >= furthest):
        if not x.own_grid and math.isfinite(domain.low):
            low = domain.low + (1e-3 * max(furthest - domain.low, 0.0) if domain.low_open else 0)
            low = (
                found.low if domain.low_open and low == domain.low else low
            )  # no room: the other side gives way
            x.range = replace(found, low=low, scale=LINEAR if low <= 0 else found.scale)
        elif not x.own_grid:
            low = furthest - max(room, 1)
            x.range = replace(found, low=math.floor(low) if domain.whole else low, scale=LINEAR)
    if x.range is not found and found.grid:
        grid = domain.steps(x.range.low, x.range.high)
        x.range = replace(x.range, grid=tuple(sorted({*grid, *found.grid})))


def _reach(x: Draft, top: float, above: bool) -> float:
    """The last value of the right side at which a strict relation still leaves x some room."""
    if x.domain.whole or x.range.grid:
        return top
    span = 1e-2 * (x.range.high - x.range.low)
    return top - span if above else top + span


def _extreme(link: Link, drafts: Mapping[str, Draft], base: Mapping[str, Any], highest: bool) -> float:
    result = 1.0
    for name in link.relation.names:
        low, high = drafts[name].hull if name in drafts else (base[name], base[name])
        result *= high if highest else low
    return result


def _cut_back(
    link: Link, drafts: Mapping[str, Draft], base: Mapping[str, Any], limit: float, strict: bool, above: bool
) -> None:
    free = [n for n in link.relation.names if n in drafts]
    others = math.prod(base[n] for n in link.relation.names if n not in drafts)
    if len(free) > 1 or others <= 0:
        raise SpaceError(f"{link.left}: {link} cannot be kept for every draw: fix one of {', '.join(free)}")
    edge = limit / others if others != 1 else limit
    target = drafts[free[0]]
    if target.conditional and is_number(target.base):
        fits = target.base <= edge if above else target.base >= edge
        if not fits or (strict and target.base == edge):
            raise SpaceError(f"{link.left}: {link} cannot hold while {target.name} is {short(target.base)}")
    if above:
        target.cut(link, high=edge, strict=strict)
    else:
        target.cut(link, low=edge, strict=strict)


def in_order(names: Iterable[str], needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Those that others look at come first, otherwise as given. Raises `SpaceError` showing a cycle."""
    names = list(names)
    known, done, order = set(names), set(), []
    for start in names:
        stack: list[tuple[str, list[str]]] = [(start, sorted(n for n in needs.get(start, ()) if n in known))]
        if start in done:
            continue
        while stack:
            name, waiting = stack[-1]
            trail = [n for n, _ in stack]
            if not waiting:
                stack.pop()
                done.add(name)
                order.append(name)
                continue
            following = waiting.pop(0)
            if following in trail:
                cycle = [*trail[trail.index(following) :], following]
                raise SpaceError(f"{cycle[0]}: depends_on goes round in a circle: {' -> '.join(cycle)}")
            if following not in done:
                stack.append((following, sorted(n for n in needs.get(following, ()) if n in known)))
    return order
