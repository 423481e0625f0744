"""From a train schema, a base spec and requests to a `SearchSpace`, in six steps, each a function of the one before.

1  ask       every leaf's value: the request's, else the spec's, else the schema's default   (choose.py)
2  choose    the leaves that are flagged or asked for, less what cannot matter               (choose.py, names.py)
3  draft     what each may be                                                                (drafts.py)
4  settle    relations with a fixed side narrow domains; what has one value becomes fixed    (relations.py)
5  range     where to look, on which scale, with room for what moves                         (ranges.py, relations.py)
6  build     parameters in the order in which they are drawn, each with a valid default      (build.py, codecs.py)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from automl.errors import SpaceError, did_you_mean
from automl.space.axes import LOG
from automl.space.build import Parts, build
from automl.space.choose import Asked, Chosen, ask, choose, disagreements
from automl.space.domain import is_number
from automl.space.drafts import Made, NotSearchable, as_wished, draft, start_of
from automl.space.leaf import Leaf
from automl.space.ranges import Range, closed, search_range
from automl.space.relations import Draft, Link, broken, gather, head_counts, narrow, numbers
from automl.space.schema import Schema
from automl.space.space import SearchSpace
from automl.space.tuning import GROUPS, Wish, read_wishes
from automl.space.words import short
from automl.spec import leaves

NOTHING = "nothing is searched: no leaf is flagged automl_enabled and can matter; --tune NAME adds one"


def compile_space(
    schema: Mapping[str, Any],
    spec: Mapping[str, Any] | None = None,
    *,
    tune: Sequence[str] = (),
    fix: Sequence[str] | Mapping[str, Any] = (),
    search: Mapping[str, Any] | None = None,
    limits: Mapping[str, float] | None = None,
    group: str = "tao",
    recommended: Mapping[str, Any] | None = None,
) -> SearchSpace:
    """The search space of a train schema, in TAO's dialect or standard JSON Schema, around a base spec.

    The spec's values (the schema's defaults where it has none) are the default configuration and decide what
    matters. `tune`, `fix` and `search` narrow and widen it (see tuning.py; `fix` may also be {dotted name: value}),
    always inside the schema; `limits` are upper bounds that the data set, {dotted name: number}. `group` says what is
    searched unless it is named: "tao", what the schema flags; "recommended", the entries of `recommended`, which are
    the model's ({dotted name: reason, or {why: reason, valid_min: ...}}); "all", every leaf that can have a range and
    is not flagged off. Raises `SpaceError` naming the parameter.
    """
    if group not in GROUPS:
        raise SpaceError(f"no space '{group}' (there are {', '.join(GROUPS)}){did_you_mean(group, GROUPS)}")
    if group == "recommended" and not recommended:
        raise SpaceError("this model recommends no search space; 'tao' is what its schema flags")
    try:
        read = Schema(schema)
        ours = recommended if group == "recommended" else None
        asked = ask(read, spec, read_wishes(read, tune, fix, search, ours), limits or {}, group)
        return _compiled(asked, choose(asked))
    except RecursionError:
        raise SpaceError("the schema refers to itself without end, or is nested too deeply") from None


def _compiled(asked: Asked, chosen: Chosen) -> SearchSpace:
    links, notes = gather(asked.schema, asked.base, chosen.conditions)
    base = numbers(asked.base, links, asked.spec)
    notes = [*chosen.notes, *notes, *_broken(asked, links, base, chosen)]
    drafts, rest, unfit = _drafted(asked, chosen, links, base)
    elements = {d.name: d for made in rest.values() for d in made.elements}
    inner = [link for made in rest.values() for link in made.links]
    settled = settle(asked, {**drafts, **elements}, [*links, *inner], base)
    left_out = {**chosen.left_out, **unfit, **settled.left_out}
    ranged = {n: clipped(d) if n in elements else with_range(asked, d) for n, d in settled.drafts.items()}
    conditions = {name: found for name, found in chosen.conditions.items() if name not in left_out}
    parameters, said = build(asked, settled.base, Parts(conditions, ranged, rest, settled.moving, links))
    notes += [*settled.notes, *said, *disagreements(asked.schema), *_unknown(asked)]
    return SearchSpace(
        parameters,
        left_out=tuple(sorted(left_out.items())),
        notes=tuple(dict.fromkeys(notes if parameters else [*notes, NOTHING])),
        fixed=_fixed(asked),
        context=_values(settled.base, (n for p in parameters for n in p.looks_at)),
        leaves=asked.schema.readable(),
        relations=tuple((k.left, k.relation) for k in links if k.binds(conditions)),
        base=tuple(
            nv for nv in _values(settled.base, (n for k in links for n in k.names)) if is_number(nv[1])
        ),
    )


def _values(base: Mapping[str, Any], names: Iterable[str]) -> tuple[tuple[str, Any], ...]:
    """The names with their values, those that have one, in order."""
    return tuple((n, base[n]) for n in sorted(set(names)) if n in base)


def _broken(asked: Asked, links: Sequence[Link], base: Mapping[str, Any], chosen: Chosen) -> Iterator[str]:
    """Relations between leaves that are not searched that do not hold; an error where somebody set one of them."""
    for link, text in broken(links, base, chosen.conditions):
        if any((w := asked.wishes.get(n)) and w.fixed and w.has_value for n in link.names):
            raise SpaceError(f"{link.left}: {text}")
        yield text


def _unknown(asked: Asked) -> Iterator[str]:
    """The spec's names that the schema does not have; relations may still use their values."""
    schema = asked.schema
    for name, _ in leaves(asked.spec, known=schema):
        if not (name in schema or name in schema.sections or any(n.startswith(f"{name}[") for n in schema)):
            yield f"the spec's {name} is not in the schema{did_you_mean(name, schema)}"


def _fixed(asked: Asked) -> tuple[tuple[str, Any], ...]:
    """The leaves that a request fixes, with their values."""
    fixed = [(n, w) for n, w in sorted(asked.wishes.items()) if w.fixed and (w.has_value or n in asked.base)]
    return tuple((n, w.value if w.has_value else asked.value(asked.schema.leaf(n))) for n, w in fixed)


def _drafted(
    asked: Asked, chosen: Chosen, links: Sequence[Link], base: Mapping[str, Any]
) -> tuple[dict[str, Draft], dict[str, Made], dict[str, str]]:
    """(numbers, what is none, why others cannot be searched)."""
    drafts: dict[str, Draft] = {}
    rest: dict[str, Made] = {}
    unfit: dict[str, str] = {}
    for name in chosen.conditions:
        try:
            found = draft(asked, asked.schema.leaf(name), chosen.conditions, links, base)
        except NotSearchable as reason:
            if wish := asked.insists(name):
                raise wish.error(f"{name} cannot be searched: {reason}") from None
            unfit[name] = str(reason)
            continue
        if isinstance(found, Draft):
            drafts[name] = found
        else:
            rest[name] = found
    return drafts, rest, unfit


@dataclass(frozen=True)
class Settled:
    """`moving` are the relations between numbers that are searched, `base` the values of everything else."""

    drafts: Mapping[str, Draft]
    moving: Sequence[Link]
    base: Mapping[str, Any]
    left_out: Mapping[str, str]
    notes: Sequence[str]


def settle(
    asked: Asked, drafts: Mapping[str, Draft], links: Sequence[Link], base: Mapping[str, Any]
) -> Settled:
    """Domains narrowed by what is fixed. A number with a single value, the base's, is fixed too, and narrows others.
    Raises `SpaceError` where a relation cannot hold."""
    found, moving, notes = narrow(drafts, links, base)
    for name, number in found.items():
        only = number.only
        if only is None or name not in asked.schema or only != asked.value(asked.schema.leaf(name)):
            continue  # another value than the spec's: every draw must say it
        reason = f"{short(only)} is the only valid value"
        if wish := asked.insists(name):
            raise wish.error(f"{name} cannot be searched: {reason}")
        others = {n: d for n, d in found.items() if n != name}
        again = settle(asked, others, links, {**base, name: only})
        return replace(again, left_out={name: reason, **again.left_out}, notes=[*notes, *again.notes])
    return Settled(found, moving, base, {}, notes)


def clipped(element: Draft) -> Draft:
    """A list's element with its range inside what its domain has become."""
    grid = tuple(v for v in element.range.grid if element.domain.problem(v) is None)
    if element.range.grid:
        return replace(element, range=Range.of(grid, element.range.scale, element.range.why))
    return replace(element, range=closed(element.range, element.domain))


def with_range(asked: Asked, number: Draft) -> Draft:
    """The number with where to look for it: a person's range, or what its name, default and bounds suggest."""
    leaf, wish = asked.schema.leaf(number.name), asked.wishes.get(number.name)
    domain, value = number.domain, asked.value(leaf)
    number = replace(number, start=start_of(number, value))
    if number.values:
        grid = tuple(v for v in number.values if domain.problem(v) is None)
        why = wish.said_options if wish and wish.options else "all its values, in order"
        number = replace(number, range=Range.of(grid, why=why))
    else:
        number = _ranged(asked, number, leaf, wish, value)
    found, start = number.range, number.start
    if (len(found.grid) == 1 or (not found.grid and found.low >= found.high)) and start != value:
        return replace(number, range=replace(found, grid=(start,)))
    return number


def _ranged(asked: Asked, number: Draft, leaf: Leaf, wish: Wish | None, value: Any) -> Draft:
    name, domain, start = number.name, number.domain, number.start
    heads = head_counts(name, asked.base, domain)
    if len(heads) > 1 and not (wish and wish.narrows):
        return replace(number, range=Range.of(heads, LOG, "divisors of hidden_dim"))
    on_end = is_number(value) and value in (domain.low, domain.high) and not domain.stepped
    around = value if on_end else start
    found = search_range(name, domain, around, dict(leaf.hint), leaf.default, asked.epochs)
    number = replace(number, range=found)
    return as_wished(number, wish) if wish and (wish.narrows or wish.log is not None) else number
