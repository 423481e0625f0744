"""What each searched parameter may be: the valid numbers, options or lists, before it is said where to look."""

from __future__ import annotations

from typing import Any

from automl.errors import SpaceError
from automl.space import links, lists, relations
from automl.space.activity import Condition
from automl.space.codecs import Options, Subset
from automl.space.compilation import Compilation, value_of
from automl.space.domain import Domain, is_number
from automl.space.leaf import Leaf, coerced
from automl.space.links import Link
from automl.space.lists import NotSearchable
from automl.space.relations import Draft
from automl.space.scale import Range
from automl.space.tuning import Wish
from automl.space.words import short

_EXCLUSIVE = ("all", "none")  # an option like "all-linear" stands alone, so it is no part of a subset


def add_draft(work: Compilation, name: str, conditions: tuple[Condition, ...]) -> None:
    leaf, wish = work.schema.leaf(name), work.wishes.get(name)
    try:
        if leaf.kind == "list":
            draft_list(work, leaf, wish)
        elif leaf.kind == "subset" and not (wish and wish.options):
            draft_subset(work, leaf)
        else:
            draft_scalar(work, leaf, wish, bool(conditions))
    except NotSearchable as reason:
        if wish:
            raise SpaceError(f"{wish.source}: {name} cannot be searched: {reason}") from None
        work.left_out[name] = str(reason)


def draft_scalar(work: Compilation, leaf: Leaf, wish: Wish | None, conditional: bool) -> None:
    values = (wish.options if wish else ()) or leaf.choices
    weights = (wish.weights if wish else ()) or (leaf.weights if values == leaf.choices else ())
    if leaf.kind == "bool" and not values:
        values = (False, True)
    numeric = bool(values) and all(is_number(v) for v in values)
    if values and (weights or not numeric or (leaf.kind == "choice" and not related(work, leaf.name))):
        ordered = leaf.kind == "ordered" and not weights
        if weights:  # an option without weight is valid, but not searched
            values, weights = zip(*((v, w) for v, w in zip(values, weights, strict=True) if w), strict=True)
        work.codecs[leaf.name] = Options(leaf.name, tuple(values), ordered, weights)
        work.why[leaf.name] = (
            "the values asked for"
            if wish and wish.options
            else "both"
            if leaf.kind == "bool"
            else "all its options"
        )
        return
    if values:
        domain, values = enum_domain(work, leaf, values)
    elif leaf.domain is None:
        raise NotSearchable("its schema does not say what it may be")
    else:
        domain = leaf.domain
    domain = within_limit(work, leaf.name, domain)
    domain = links.divisible(leaf.name, work.schema, work.base, domain, set(work.searched))
    if values and len([v for v in values if domain.problem(v) is None]) < 1:
        raise SpaceError(f"{leaf.name}: none of {list(values)} is {domain}")
    draft = Draft(leaf.name, domain, 0.0, conditional=conditional, base=work.base.get(leaf.name))
    if values:
        draft.range, draft.own_grid = Range(0, 0, grid=tuple(sorted(values))), True
    work.drafts[leaf.name] = draft


def related(work: Compilation, name: str) -> bool:
    return any(name in (link.left, *link.relation.names) for link in work.links)


def enum_domain(work: Compilation, leaf: Leaf, values: tuple[Any, ...]) -> tuple[Domain, tuple[Any, ...]]:
    whole = all(isinstance(v, int) for v in values)
    return leaf.domain or Domain(whole, min(values), max(values)), values


def within_limit(work: Compilation, name: str, domain: Domain) -> Domain:
    limit = work.limits.get(name)
    if limit is None:
        return domain
    narrowed = domain.narrowed(high=float(limit))
    if narrowed.empty:
        raise SpaceError(f"{name}: must be {domain}, but at most {short(limit)} is possible here")
    return narrowed


def draft_subset(work: Compilation, leaf: Leaf) -> None:
    default = value_of(work, leaf)
    chosen = tuple(default) if isinstance(default, (list, tuple)) else ()
    options = tuple(
        o for o in leaf.choices
        if o in chosen or not (isinstance(o, str) and o.lower().replace("_", "-").split("-")[0] in _EXCLUSIVE)
    )  # fmt: skip
    known = tuple(o for o in chosen if o in options)
    if not options or leaf.min_items > len(options):
        raise NotSearchable("it has no options")
    work.codecs[leaf.name] = Subset(leaf.name, options, known, leaf.min_items, leaf.max_items)
    work.why[leaf.name] = "any subset" + (" but the empty one" if leaf.min_items else "")


def draft_list(work: Compilation, leaf: Leaf, wish: Wish | None) -> None:
    name = leaf.name
    if wish and wish.options:
        work.codecs[name] = Options(name, wish.options, False, wish.weights)
        work.why[name] = "the lists asked for"
        return
    default = value_of(work, leaf)
    if not isinstance(default, (list, tuple)):
        raise NotSearchable("it has no default list to start from")
    default = list(default)
    if leaf.items and leaf.items.choices:
        if not leaf.unique and len(set(map(str, default))) < len(default):
            raise NotSearchable("a list of options with repetitions is not modelled")
        work.codecs[name] = Subset(name, leaf.items.choices, tuple(default), leaf.min_items, leaf.max_items)
        work.why[name] = "any subset of what its elements may be"
        return
    draft_numbers(work, leaf, wish, default)


def draft_numbers(work: Compilation, leaf: Leaf, wish: Wish | None, default: list[Any]) -> None:
    name, whole = leaf.name, lists.element_type(leaf, default)
    default = [coerced(e, "int" if whole else "float") for e in default]
    narrowed = wish is not None and wish.narrows
    steps = whole and lists.is_steps(name) and not narrowed
    sizes = len(default) > lists.MOST_AXES or (whole and len(default) > 1 and min(default) >= lists.SIZE)
    if sizes and not steps and not narrowed:
        family = lists.moving_lists(leaf, default, whole)
        if len(family) < 2:
            raise NotSearchable("its bounds leave no room around the default")
        work.codecs[name] = Options(name, family, ordered=True)
        work.why[name] = "all elements move together, half to twice the default"
        return
    moving = work.epochs_name if steps and work.epochs_name in work.searched else None
    epochs = work.epochs
    drafts = (
        lists.step_drafts(leaf, default, epochs, moving)
        if steps
        else lists.element_drafts(leaf, default, whole, wish)
    )
    links = lists.order_links(name, drafts, default)
    if leaf.unique and len(drafts) > 1 and len(links) < len(drafts) - 1:
        raise NotSearchable("its elements must differ and have no order to keep")
    if moving:
        links += [
            Link(d.name, relations.Relation("<", (moving,)), False, "inside the training") for d in drafts
        ]
    work.elements[name] = drafts
    work.list_links = [*work.list_links, *links]
    order = "; they keep their order" if links and len(drafts) > 1 else ""
    work.why[name] = f"each element: {drafts[0].range.why}{order}"
