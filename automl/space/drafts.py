"""What each searched parameter may be, before it is said where to look: valid numbers, options, lists."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from automl.errors import SpaceError
from automl.space.axes import LINEAR, LOG
from automl.space.choose import Asked
from automl.space.codecs import Codec, Options, Subset
from automl.space.domain import Domain, Relation, is_number
from automl.space.leaf import Leaf, coerced
from automl.space.names import is_steps, role_of
from automl.space.ranges import Range, closed, rescaled, search_range, typical
from automl.space.relations import Draft, Link, divided_by_heads
from automl.space.tuning import Wish
from automl.space.words import short

MOST_AXES = 4  # a longer list moves as a whole
SIZE = 8  # integers from here on are taken for sizes, which move together
_EXCLUSIVE = ("all", "none")  # an option like "all-linear" stands alone, so it is no part of a subset


class NotSearchable(Exception):
    """A parameter that has no search space, and why."""


@dataclass(frozen=True)
class Made:
    """What is no number: a codec, or the drafts of a list's elements and the relations between them."""

    why: str
    codec: Codec | None = None
    elements: tuple[Draft, ...] = ()
    links: tuple[Link, ...] = ()


def draft(
    asked: Asked, leaf: Leaf, searched: Mapping[str, Any], links: Sequence[Link], base: Mapping[str, Any]
) -> Draft | Made:
    """`searched` are the conditions of every searched parameter. Raises `NotSearchable` with the reason."""
    wish = asked.wishes.get(leaf.name, Wish(""))
    if leaf.kind == "list":
        return _list(asked, leaf, wish, searched)
    if leaf.kind == "subset" and not wish.options:
        return _subset(asked, leaf)
    values = wish.options or leaf.choices or ((False, True) if leaf.kind == "bool" else ())
    weights = wish.weights or (leaf.weights if values == leaf.choices else ())
    related = any(leaf.name in link.names for link in links)
    if values and (weights or not all(map(is_number, values)) or (leaf.kind == "choice" and not related)):
        return _options(leaf, wish, values, weights)
    domain = _wished(_domain(asked, leaf, values, searched), leaf.name, wish)
    off = base.get(leaf.name) if searched[leaf.name] else None
    found = Draft(leaf.name, domain, tuple(sorted(values)), off if is_number(off) else None)
    return replace(found, start=start_of(found, asked.value(leaf)))


def start_of(number: Draft, value: Any) -> float:
    """A valid number to search around: the base's value, or the nearest to it."""
    if number.values:
        grid = [v for v in number.values if number.domain.problem(v) is None]
        return min(grid, key=lambda v: (abs(v - value), v)) if is_number(value) else grid[len(grid) // 2]
    start = number.domain.nearest(value if is_number(value) else typical(number.name, number.domain))
    if start is None:
        raise SpaceError(f"{number.name}: no number is {number.domain}")
    return start


def _options(leaf: Leaf, wish: Wish, values: tuple[Any, ...], weights: tuple[float, ...]) -> Made:
    why = "both" if leaf.kind == "bool" else "all its options"
    if weights:  # an option without weight is valid, but not searched
        values, weights = zip(*((v, w) for v, w in zip(values, weights, strict=True) if w), strict=True)
    codec = Options(leaf.name, tuple(values), leaf.kind == "ordered" and not weights, weights)
    return Made(wish.said_options if wish.options else why, codec)


def _domain(asked: Asked, leaf: Leaf, values: tuple[Any, ...], searched: Mapping[str, Any]) -> Domain:
    """The schema's bounds, or those of `values`, under the data's limit and the heads that must divide it."""
    domain, limit = leaf.domain, asked.limits.get(leaf.name)
    if values:
        domain = domain or Domain(all(isinstance(v, int) for v in values), min(values), max(values))
    if domain is None:
        raise NotSearchable("its schema does not say what it may be")
    narrowed = domain if limit is None else domain.narrowed(high=float(limit))
    if narrowed.empty:
        raise SpaceError(f"{leaf.name}: must be {domain}, but at most {short(limit)} is possible here")
    narrowed = divided_by_heads(leaf.name, asked.schema, asked.base, narrowed, searched)
    if values and all(narrowed.problem(v) for v in values):
        raise SpaceError(f"{leaf.name}: none of {list(values)} is {narrowed}")
    return narrowed


def _wished(domain: Domain, name: str, wish: Wish) -> Domain:
    """The domain between the ends that are asked for."""
    if wish.low is None and wish.high is None:
        return domain
    low, high = -math.inf if wish.low is None else wish.low, math.inf if wish.high is None else wish.high
    if (found := domain.narrowed(low, high)).empty:
        raise wish.error(f"{name} must be {domain}, and nothing in [{short(low)}, {short(high)}] is")
    return found


def _subset(asked: Asked, leaf: Leaf) -> Made:
    default = asked.value(leaf)
    chosen = tuple(default) if isinstance(default, (list, tuple)) else ()
    options = tuple(
        o for o in leaf.choices
        if o in chosen or not (isinstance(o, str) and o.lower().replace("_", "-").split("-")[0] in _EXCLUSIVE)
    )  # fmt: skip
    if not options or leaf.min_items > len(options):
        raise NotSearchable("it has no options")
    known = tuple(o for o in chosen if o in options)
    why = "any subset" + (" but the empty one" if leaf.min_items else "")
    return Made(why, Subset(leaf.name, options, known, leaf.min_items, leaf.max_items))


def _list(asked: Asked, leaf: Leaf, wish: Wish, searched: Mapping[str, Any]) -> Made:
    if wish.options:
        return Made("the lists asked for", Options(leaf.name, wish.options, False, wish.weights))
    default = asked.value(leaf)
    if not isinstance(default, (list, tuple)):
        raise NotSearchable("it has no default list to start from")
    if leaf.items and leaf.items.choices:
        if not leaf.unique and len(set(map(str, default))) < len(default):
            raise NotSearchable("a list of options with repetitions is not modelled")
        codec = Subset(leaf.name, leaf.items.choices, tuple(default), leaf.min_items, leaf.max_items)
        return Made("any subset of what its elements may be", codec)
    return _numbers(asked, leaf, list(default), wish, searched)


def _numbers(asked: Asked, leaf: Leaf, default: list[Any], wish: Wish, searched: Mapping[str, Any]) -> Made:
    named = next((n for i in range(len(default)) if (n := f"{leaf.name}[{i}]") in asked.schema), None)
    if named:
        raise NotSearchable(f"its elements are parameters of their own, such as {named}")
    whole = _whole_elements(leaf, default)
    default = [coerced(e, "int" if whole else "float") for e in default]
    if wish.narrows:
        return _elements(leaf, default, _element_drafts(leaf, default, whole, wish), None)
    if whole and is_steps(leaf.name):
        moving = asked.epochs_name if asked.epochs_name in searched else None
        return _elements(leaf, default, _step_drafts(leaf, default, asked.epochs, moving), moving)
    if len(default) > MOST_AXES or (whole and len(default) > 1 and min(default) >= SIZE):
        return _family(leaf, default, whole)
    return _elements(leaf, default, _element_drafts(leaf, default, whole, wish), None)


def _whole_elements(leaf: Leaf, default: Sequence[Any]) -> bool:
    """Whether the elements are integers."""
    if not default:
        raise NotSearchable("an empty list tells neither its length nor its elements")
    if not all(map(is_number, default)):
        raise NotSearchable("a list of anything but numbers needs options to choose from")
    if leaf.items and leaf.items.kind in ("int", "float"):
        return leaf.items.kind == "int"
    return all(isinstance(e, int) for e in default)


def _family(leaf: Leaf, default: list[Any], whole: bool) -> Made:
    """The default list made larger and smaller as a whole, ascending, the default among them.

    Integers with a common divisor shift by it (480, 512, ... by 32); others are scaled by 0.5 to 2.
    """
    step = math.gcd(*(int(e) for e in default)) if whole else 0
    if step > 1:
        down, up = int(min(default)) // (2 * step), int(max(default)) // (2 * step)
        stride = max(1, math.ceil((down + up) / 32))
        shifts = [k * stride for k in range(-(down // stride), up // stride + 1)]
        lists: list[list[float]] = [[int(e) + k * step for e in default] for k in shifts]
    else:
        factors = [2 ** (k / 4) for k in range(-4, 5)]
        lists = [[round(e * f) if whole else float(f"{e * f:.6g}") for e in default] for f in factors]
        lists[4] = list(default)
    kept = tuple(v for i, v in enumerate(lists) if leaf.problem(v) is None and v not in lists[:i])
    if len(kept) < 2:
        raise NotSearchable("its bounds leave no room around the default")
    why = "all elements move together, half to twice the default"
    return Made(why, Options(leaf.name, kept, ordered=True))


def _elements(leaf: Leaf, default: list[Any], drafts: list[Draft], moving: str | None) -> Made:
    """The drafts as a list that keeps the default's order; `moving` is a searched length that they stay inside."""
    links = _order(leaf.name, default, drafts)
    if leaf.unique and len(links) < len(drafts) - 1:
        raise NotSearchable("its elements must differ and have no order to keep")
    if links:  # who is pushed along stays within what the word means
        drafts = [replace(d, domain=_meant(d)) for d in drafts]
    links += [Link(d.name, Relation("<", (moving,)), why="inside the training") for d in drafts if moving]
    order = "; they keep their order" if links and len(drafts) > 1 else ""
    return Made(f"each element: {drafts[0].range.why}{order}", None, tuple(drafts), tuple(links))


def _order(name: str, default: list[Any], drafts: list[Draft]) -> list[Link]:
    """The default's own order as relations between neighbours whose ranges overlap."""
    rising = all(a < b for a, b in pairwise(default))
    if not rising and not all(a > b for a, b in pairwise(default)):
        return []
    links = []
    for before, after in pairwise(drafts):
        low, high = (before, after) if rising else (after, before)
        if low.range.high >= high.range.low:
            relation = Relation(">" if rising else "<", (before.name,))
            links.append(Link(after.name, relation, why=f"{name} keeps its order"))
    return links


def _meant(element: Draft) -> Domain:
    """A share's domain ends at 0 and 1, also where the schema leaves that open."""
    is_share = role_of(element.name).share and 0 <= element.start <= 1 and not element.domain.whole
    return element.domain.narrowed(0.0, 1.0) if is_share else element.domain


def _step_drafts(leaf: Leaf, default: list[int], epochs: int | None, moving: str | None) -> list[Draft]:
    """One draft per step. The values are the epochs inside the training, and the default's steps where they lie
    beyond it, which mean "never". With `moving`, the name of a searched number of epochs, the range follows it."""
    if epochs is None:
        raise NotSearchable("the length of the training is not known")
    inside = range(max(1, epochs // 10), epochs)
    if len(inside) < len(default):
        raise NotSearchable(f"a training of {epochs} epochs has no room for {len(default)} steps")
    never = tuple(v for v in default if v >= epochs)
    why = f"a tenth of the {epochs} epochs to the last"
    why += "; beyond them means never" if never and not moving else ""
    drafts = []
    for i, value in enumerate(default):
        domain = leaf.item_domain(i) or Domain(True, 1)
        grid = tuple(v for v in [*inside, *never] if domain.problem(v) is None)
        if len(grid) < len(default) + 1:
            raise NotSearchable("its bounds leave no room in the training")
        found, values = Range.of(grid, why=why), grid
        if moving:
            found, values = replace(found, high=max(inside[-1], *default), grid=()), ()
        drafts.append(Draft(f"{leaf.name}[{i}]", domain, values, None, value, found))
    return drafts


def _element_drafts(leaf: Leaf, default: list[Any], whole: bool, wish: Wish) -> list[Draft]:
    """One draft per element, each around its default."""
    drafts = []
    for i, value in enumerate(default):
        domain = leaf.item_domain(i) or Domain(whole)
        low, high = (_end(wish.low, i, default), _end(wish.high, i, default))
        for end in (low, high):
            if end is not None and not domain.low <= end <= domain.high:
                raise wish.error(f"{leaf.name} must be {domain}, but got {short(end)}")
        if low is not None and high is not None and low > high:
            raise wish.error(f"low must be <= high, but got {short(low)} and {short(high)}")
        start = domain.nearest(coerced(value, "int" if whole else "float"))
        if start is None:
            raise NotSearchable(f"no number is {domain}")
        name = f"{leaf.name}[{i}]"
        number = Draft(name, domain, (), None, start, search_range(name, domain, start))
        drafts.append(as_wished(number, replace(wish, low=low, high=high)) if wish.narrows else number)
    return drafts


def as_wished(number: Draft, wish: Wish) -> Draft:
    """The number in the range and on the scale that a person asked for; what is not said stays."""
    domain, found = number.domain, number.range
    low = found.low if wish.low is None else wish.low
    high = found.high if wish.high is None else wish.high
    if wish.low is not None and wish.high is None:
        high = max(high, domain.high if math.isfinite(domain.high) else low * 10)
    if wish.high is not None and wish.low is None:
        low = min(low, domain.low if math.isfinite(domain.low) else high / 10)
    log = wish.log if wish.log is not None else found.scale == LOG or (low > 0 and high >= 100 * low)
    found = closed(rescaled(Range(low, high, LINEAR, wish.said), log and high > 0, domain), domain)
    if domain.stepped:
        found = replace(found, grid=domain.steps(found.low, found.high))
        if not found.grid:
            raise wish.error(f"no number in the range is {domain}")
    return replace(number, range=found)


def _end(end: Any, index: int, default: Sequence[Any]) -> Any:
    if isinstance(end, list) and len(end) != len(default):
        raise SpaceError(f"the range must have {len(default)} elements, but got {end!r}")
    return end[index] if isinstance(end, list) else end
