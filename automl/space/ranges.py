"""Where to look for each number: narrowed by fixed sides of relations, then a person's range or scale.py's."""

from __future__ import annotations

import math
from dataclasses import replace

from automl.errors import SpaceError
from automl.space import links, relations
from automl.space.compilation import Compilation, numbers_of_base, value_of
from automl.space.domain import is_number
from automl.space.leaf import Leaf
from automl.space.links import Link
from automl.space.relations import Draft
from automl.space.scale import LINEAR, LOG, Range, closed, rescaled, search_range, typical
from automl.space.tuning import Wish
from automl.space.words import short


def set_ranges(work: Compilation, candidates: list[str]) -> list[Link]:
    """Ranges for every draft; returns the relations between searched parameters."""
    moving = relations.narrow(work.drafts, work.links, numbers_of_base(work), work.notes)
    waiting = [n for n in candidates if n in work.drafts]
    while waiting:
        name = waiting.pop(0)
        draft = work.drafts[name]
        draft.default = start_of(work, draft)
        only = set_range(work, draft)
        if only:
            wish = work.wishes.get(name)
            if wish:
                raise SpaceError(f"{wish.source}: {name} cannot be searched: {only}")
            work.left_out[name] = only
            moving = freeze(work, name, moving)
            waiting = [n for n in candidates if n in work.drafts]  # what is fixed now has narrowed others
    for drafts in work.elements.values():
        work.drafts |= {d.name: d for d in drafts}
    return moving + work.list_links


def freeze(work: Compilation, name: str, moving: list[Link]) -> list[Link]:
    """A draft with a single value becomes a fixed side of its relations."""
    frozen = work.drafts.pop(name)
    work.base[name] = frozen.default
    touched = [link for link in moving if name in (link.left, *link.relation.names)]
    rest = [link for link in moving if link not in touched]
    return rest + relations.narrow(work.drafts, touched, numbers_of_base(work), work.notes)


def start_of(work: Compilation, draft: Draft) -> float:
    """A valid number to search around: the default, or the nearest to it."""
    leaf = work.schema.leaf(draft.name)
    value = value_of(work, leaf)
    if draft.own_grid:
        grid = tuple(v for v in draft.range.grid if draft.domain.problem(v) is None)
        if not grid:
            raise SpaceError(f"{draft.name}: none of {list(draft.range.grid)} is {draft.domain}")
        draft.range = Range(grid[0], grid[-1], grid=grid)
        return min(grid, key=lambda v: (abs(v - value), v)) if is_number(value) else grid[len(grid) // 2]
    value = value if is_number(value) else typical(draft.name, draft.domain)
    start = draft.domain.nearest(value)
    if start is None:
        raise SpaceError(f"{draft.name}: no number is {draft.domain}")
    on_end = value in (draft.domain.low, draft.domain.high)
    draft.around = value if on_end and not draft.domain.stepped else start
    return start


def set_range(work: Compilation, draft: Draft) -> str | None:
    """Set the draft's range; returns the reason when it holds a single value."""
    leaf, wish = work.schema.leaf(draft.name), work.wishes.get(draft.name)
    if draft.own_grid:
        why = "the values asked for" if wish and wish.options else "all its values, in order"
        draft.range = replace(draft.range, why=why)
    else:
        draft.range = range_of(work, draft, leaf, wish)
    found = draft.range
    count = len(found.grid) if found.grid else 2 if found.low < found.high else 1
    if count == 1 and draft.default != value_of(
        work, leaf
    ):  # not what the spec says, so every draw must say it
        draft.range, count = replace(found, grid=(draft.default,)), 2
    return None if count > 1 else f"{short(draft.default)} is the only valid value"


def range_of(work: Compilation, draft: Draft, leaf: Leaf, wish: Wish | None) -> Range:
    heads = links.head_counts(draft.name, work.schema, work.base, draft.domain)
    if len(heads) > 1 and not (wish and wish.narrows):
        return Range(heads[0], heads[-1], LOG, "divisors of hidden_dim", heads)
    hint = dict(leaf.hint)
    found = search_range(draft.name, draft.domain, draft.around, hint, leaf.default, work.epochs)
    if wish is None or (not wish.narrows and wish.log is None):
        return found
    return asked(work, draft, found, wish)


def asked(work: Compilation, draft: Draft, found: Range, wish: Wish) -> Range:
    domain = draft.domain
    low = found.low if wish.low is None else wish.low
    high = found.high if wish.high is None else wish.high
    if wish.low is not None and wish.high is None:
        high = max(high, domain.high if math.isfinite(domain.high) else low * 10)
    if wish.high is not None and wish.low is None:
        low = min(low, domain.low if math.isfinite(domain.low) else high / 10)
    asked = domain.narrowed(low, high)
    if asked.empty:
        raise SpaceError(
            f"{wish.source}: {draft.name} must be {domain}, and nothing in [{short(low)}, {short(high)}] is"
        )
    draft.domain = asked
    draft.default = asked.nearest(draft.default) or asked.nearest(low) or low
    log = wish.log if wish.log is not None else found.scale == LOG or (low > 0 and high >= 100 * low)
    asked_range = rescaled(Range(low, high, LINEAR, f"as asked: {wish.source}"), log and high > 0, asked)
    asked_range = replace(closed(asked_range, asked), why=asked_range.why)
    if domain.stepped:
        asked_range = replace(asked_range, grid=asked.steps(asked_range.low, asked_range.high))
        if not asked_range.grid:
            raise SpaceError(f"{wish.source}: no number in the range is {domain}")
    return asked_range
