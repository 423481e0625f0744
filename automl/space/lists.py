"""Lists as search spaces: steps of a schedule, pairs such as betas, sizes that move together."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from automl.errors import SpaceError
from automl.space.conditions import Relation
from automl.space.domain import Domain, is_number
from automl.space.leaf import Leaf, coerced
from automl.space.links import Link
from automl.space.relations import Draft
from automl.space.scale import LINEAR, Range, closed, search_range
from automl.space.tuning import Wish
from automl.space.words import short

MOST_AXES = 4  # a longer list moves as a whole
SIZE = 8  # integers from here on are taken for sizes, which move together
_STEPS = re.compile(
    r"^(lr_|decay_)*(steps|step_list|milestones|lr_milestones)$|_steps_list$|decay_step_list$"
)


class NotSearchable(Exception):
    """A list that has no search space, and why."""


def is_steps(name: str) -> bool:
    """Whether a list of integers by this name holds epochs at which a schedule steps."""
    return bool(_STEPS.search(name.rsplit(".", 1)[-1].lower()))


def element_type(leaf: Leaf, default: Sequence[Any]) -> bool:
    """Whether the elements are integers. Raises `NotSearchable` for an empty list or one that is not of numbers."""
    if not default:
        raise NotSearchable("an empty list tells neither its length nor its elements")
    if not all(is_number(e) for e in default):
        raise NotSearchable("a list of anything but numbers needs options to choose from")
    if leaf.items and leaf.items.kind in ("int", "float"):
        return leaf.items.kind == "int"
    return all(isinstance(e, int) for e in default)


def moving_lists(leaf: Leaf, default: list[Any], whole: bool) -> tuple[list[Any], ...]:
    """The default list made larger and smaller as a whole, ascending, the default among them.

    Integers with a common divisor shift by it (480, 512, ... by 32); others are scaled by 0.5 to 2.
    """
    step = math.gcd(*(int(e) for e in default)) if whole else 0
    if whole and step > 1:
        down, up = int(min(default)) // (2 * step), int(max(default)) // (2 * step)
        stride = max(1, math.ceil((down + up) / 32))
        shifts = [k * stride for k in range(-(down // stride), up // stride + 1)]
        lists: list[list[float]] = [[int(e) + k * step for e in default] for k in shifts]
    else:
        factors = [2 ** (k / 4) for k in range(-4, 5)]
        lists = [[round(e * f) if whole else float(f"{e * f:.6g}") for e in default] for f in factors]
        lists[4] = list(default)
    kept = [
        values for i, values in enumerate(lists) if leaf.problem(values) is None and values not in lists[:i]
    ]
    return tuple(kept)


def step_drafts(leaf: Leaf, default: list[int], epochs: int | None, moving: str | None) -> list[Draft]:
    """One draft per step. The values are the epochs inside the training, and the default's steps where they lie
    beyond it, which mean "never". With `moving`, the name of a searched number of epochs, the range follows it."""
    if epochs is None:
        raise NotSearchable("the length of the training is not known")
    inside = range(max(1, epochs // 10), epochs)
    if len(inside) < len(default):
        raise NotSearchable(f"a training of {epochs} epochs has no room for {len(default)} steps")
    drafts = []
    for i, value in enumerate(default):
        domain = leaf.item_domain(i) or Domain(True, 1)
        never = tuple(v for v in default if v >= epochs)
        grid = tuple(v for v in [*inside, *never] if domain.problem(v) is None)
        if len(grid) < len(default) + 1:
            raise NotSearchable("its bounds leave no room in the training")
        why = f"a tenth of the {epochs} epochs to the last"
        why += "; beyond them means never" if never and not moving else ""
        found = Range(grid[0], grid[-1], LINEAR, why, () if moving else grid)
        if moving:
            found = replace(found, high=max(inside[-1], *default))
        drafts.append(Draft(f"{leaf.name}[{i}]", domain, value, found, own_grid=not moving))
    return drafts


def element_drafts(leaf: Leaf, default: list[Any], whole: bool, wish: Wish | None) -> list[Draft]:
    """One draft per element, each around its default."""
    drafts = []
    for i, value in enumerate(default):
        domain = leaf.item_domain(i) or Domain(whole)
        low, high = (_end(wish.low, i, default), _end(wish.high, i, default)) if wish else (None, None)
        _check_ends(leaf, domain, low, high, wish)
        start = domain.nearest(coerced(value, "int" if whole else "float"))
        if start is None:
            raise NotSearchable(f"no number is {domain}")
        found = search_range(f"{leaf.name}[{i}]", domain, start)
        if low is not None or high is not None:
            domain = domain.narrowed(
                low if low is not None else -math.inf, high if high is not None else math.inf
            )
            found = Range(
                found.low if low is None else low, found.high if high is None else high, LINEAR, "as asked"
            )
            found = closed(found, domain)
        drafts.append(Draft(f"{leaf.name}[{i}]", domain, start, found))
    return drafts


def _end(end: Any, index: int, default: Sequence[Any]) -> Any:
    if not isinstance(end, list):
        return end
    if len(end) != len(default):
        raise SpaceError(f"the range must have {len(default)} elements, but got {end!r}")
    return end[index]


def _check_ends(leaf: Leaf, domain: Domain, low: Any, high: Any, wish: Wish | None) -> None:
    source = wish.source if wish else ""
    for end in (low, high):
        if end is not None and not domain.low <= end <= domain.high:
            raise SpaceError(f"{source}: {leaf.name} must be {domain}, but got {short(end)}")
    if low is not None and high is not None and low > high:
        raise SpaceError(f"{source}: low must be <= high, but got {short(low)} and {short(high)}")


def order_links(name: str, drafts: list[Draft], default: list[Any]) -> list[Link]:
    """The default's own order as relations between neighbours whose ranges overlap."""
    pairs = list(pairwise(default))
    op = ">" if all(a < b for a, b in pairs) else "<" if all(a > b for a, b in pairs) else ""
    links = []
    for before, after in pairwise(drafts):
        apart = before.range.high < after.range.low if op == ">" else before.range.low > after.range.high
        if op and not apart:
            links.append(Link(after.name, Relation(op, (before.name,)), False, f"{name} keeps its order"))
    return links
