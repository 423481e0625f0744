"""From a train schema, a base spec and requests to a `SearchSpace`, in six steps, each a function of the ones before.

1  ask       every leaf's value: the request's, else the spec's, else the schema's default   (schema.py, requests.py)
2  choose    the leaves that are flagged or asked for, less what cannot matter               (chosen.py)
             and what they have to do with each other: conditions and relations
3  shape     what each may be: a domain of numbers, options, a subset, a list                (shapes.py)
4  settle    relations with a fixed side narrow domains; what has one value becomes fixed    (related.py, shapes.py)
5  range     where to look for each number, on which scale, and why                          (shapes.py, ranges.py)
6  build     parameters in the order in which they are drawn, each with a valid default      (codecs.py, space.py)

One parameter through all of them:

>>> node = {"type": "number", "exclusiveMinimum": 0, "maximum": 0.01, "default": 0.0002, "automl_enabled": True}
>>> document = {"properties": {"train": {"properties": {"optim": {"properties": {"lr": node}}}}}}

A leaf: what its schema says of it, and the validator of its values (schema.py, dialect.py, node.py, leaf.py).

>>> leaf = Schema(document).leaf("train.optim.lr")
>>> leaf.kind, str(leaf.domain), leaf.problem(5)
('float', 'a number in (0, 0.01]', 'must be a number in (0, 0.01], but got 5')

Asked, chosen and shaped: 0.0002 is where it starts; it is flagged, and always matters; it may be any number of its
domain, which no relation to another narrows (requests.py, chosen.py, shapes.py).

>>> asked = ask(Schema(document), {}, {}, {}, "tao")
>>> asked.value(leaf.name), choose(asked, {})[0], str(shape(asked, leaf, [leaf.name], related=False))
(0.0002, {'train.optim.lr': ()}, 'a number in (0, 0.01]')

Ranged: its name says what it is, and so where to look and on which scale, and how far a search may go where the best
lie at an end (ranges.py).

>>> found = number_range(asked, leaf.name, leaf.domain)
>>> found.low, found.high, found.scale, found.why, found.reach
(2e-05, 0.002, 'log', 'a learning rate: log, 10 times either way', (2e-06, 0.01))

Built: a parameter on an axis, in the middle of which the default lies, and as Optuna sees it (codecs.py, space.py).

>>> space = compile_space(document)
>>> space.parameters[0].axes[0].kind, round(space.encode(space.default)[0], 9), space.distributions[leaf.name]
('real', 0.5, FloatDistribution(high=0.002, log=True, low=2e-05, step=None))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress, repeat
from typing import Any

from automl.errors import SpaceError, did_you_mean
from automl.space.chosen import NO_EFFECT, Conditions, choose, disagreements, relate
from automl.space.codecs import Codec, ListOf, Number, Options
from automl.space.leaf import UPPER, Domain, Leaf, Relation, among, is_number, same, short
from automl.space.ranges import Range
from automl.space.related import loose_of, only_of, settled
from automl.space.requests import GROUPS, Asked, Values, ask, read_wishes
from automl.space.schema import Schema, load_schema, problems
from automl.space.shapes import Domains, Shape, elements_of, in_order, number_range, shape, start_of
from automl.space.space import Parameter, SearchSpace, to_record

__all__ = ["Parameter", "SearchSpace", "compile_space", "load_schema", "problems", "to_record"]

Shapes = Mapping[str, Shape]
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
    matters. `tune`, `fix` and `search` narrow and widen it (see requests.py; `fix` may also be {dotted name: value}),
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
        read = Schema(schema, spec)
        wishes = read_wishes(read, tune, fix, search, (recommended or {}) if group == "recommended" else {})
        return _compiled(ask(read, spec, wishes, limits or {}, group), {})
    except RecursionError:
        raise SpaceError("the schema refers to itself without end, or is nested too deeply") from None


def _compiled(asked: Asked, inert: Mapping[str, str]) -> SearchSpace:
    """`inert` are parameters of which it turned out that they never matter, and why."""
    chosen, left_out, notes = choose(asked, inert)
    relations, base, unkept = relate(asked, chosen)
    related = {name for relation in relations for name in relation.sides}
    found = {name: shape(asked, asked.schema.leaf(name), chosen, name in related) for name in chosen}
    unfit = {name: reason for name, reason in found.items() if isinstance(reason, str)}
    asked.let_go(unfit)
    shapes = {name: each for name, each in found.items() if not isinstance(each, str)}
    offs = {name: base[name] for name in shapes if chosen[name] and is_number(base.get(name))}
    shapes, wide, narrow, moving, silent = settled(asked, shapes, relations, base, offs)
    # What can only be what it is in the base is not searched; any other only value, every draw must say.
    single = {n: value for n, value in only_of(shapes, narrow).items() if same(value, asked.value(n))}
    weighed = {name for name, each in found.items() if isinstance(each, Options) and len(each.values) == 1}
    kinds = {name: "value with a weight" if name in weighed else "valid value" for name in single}
    certain = {name: f"{short(value)} is the only {kinds[name]}" for name, value in single.items()}
    asked.let_go(certain)
    shapes = {name: each for name, each in shapes.items() if name not in single}
    narrow = {name: domain for name, domain in narrow.items() if name not in single}
    codecs = ranged(asked, shapes, wide, narrow, moving, offs)
    kept = {name: conditions for name, conditions in chosen.items() if name in codecs}
    base = {**base, **single}
    if never_met := unreachable(kept, codecs, base):
        return _compiled(asked, {**inert, **never_met})
    parameters, replaced = build(asked, _order(kept, codecs, [*moving, *relations]), kept, codecs, base)
    told = [f"{name}: {note}" for name in chosen for note in asked.schema.leaf(name).notes]
    said = [*notes, *unkept, *silent, *told, *never(asked, narrow), *replaced, *disagreements(asked)]
    return SearchSpace(
        parameters,
        left_out=tuple(sorted((left_out | unfit | certain).items())),
        notes=tuple(dict.fromkeys(said if parameters else [*said, NOTHING])),
        fixed=asked.fixed,
        context=tuple((n, base[n]) for n in sorted({n for p in parameters for n in p.looks_at}) if n in base),
        leaves=asked.schema.readable(),
        relations=tuple(relation for relation in relations if relation.op != "after"),
        base=tuple((n, base[n]) for n in sorted(related) if is_number(base.get(n))),
    )


def unreachable(conditions: Conditions, codecs: Mapping[str, Codec], base: Values) -> dict[str, str]:
    """The parameters that never matter, as what their conditions ask for is never drawn, and why."""
    reasons: dict[str, str] = {}
    for name, condition in ((name, each) for name, found in conditions.items() for each in found):
        codec, what = codecs.get(condition.name), NO_EFFECT.format(condition.name)
        if codec is None:
            met = condition.holds(base)
            what = f"it has no effect while {condition.name} is {short(base.get(condition.name))}"
        else:
            met = any(can_be(codec, value) for value in condition.values)
        reasons |= {} if met else {name: what}
    return reasons


def can_be(codec: Codec, value: Any) -> bool:
    """Whether the value may be drawn, whatever else is; also where that is not certain."""
    if isinstance(codec, Options):
        return among(value, codec.values)
    if not isinstance(codec, Number):
        return True
    low, high = codec.range.reach or codec.hull
    listed = codec.range.grid and not codec.relations
    return value in codec.range.grid if listed else codec.domain.holds(value) and low <= value <= high


def never(asked: Asked, domains: Domains) -> list[str]:
    """Of the values that a person listed those that no draw can have, and why."""
    lines = []
    for name, domain in domains.items():
        wish = asked.insists(name)
        values = compress(wish.options, wish.weights or repeat(1)) if wish else ()
        gone = [value for value in values if is_number(value) and not domain.holds(value)]
        if not wish or not gone:
            continue
        limit = asked.limits.get(name)
        why = f"must be {replace(domain, values=())}"
        if limit is not None and min(gone) > limit:
            why = f"the data allow at most {short(limit)}"
        lines.append(f"{wish.source}: {', '.join(map(short, gone))} is left out: {name}: {why}")
    return lines


def ranged(
    asked: Asked, shapes: Shapes, wide: Domains, narrow: Domains, moving: Sequence[Relation], offs: Values
) -> dict[str, Codec]:
    """The codecs: every number and element of a list with where to look for it, the relations that it follows, how far
    they can take it, and how far below a moving upper end it begins: as far as below the default's. `wide` and `narrow`
    are the domains before they made room for each other and after, `offs` what some are while they do not matter."""
    elements = elements_of(shapes)
    found: dict[str, Number] = {}
    ranges = {
        name: elements[name].range.within(domain) if name in elements else number_range(asked, name, domain)
        for name, domain in narrow.items()
        if not domain.empty  # as the numbers of options may be that have a word too
    }
    words = loose_of(shapes)
    needs = {name: [r.right for r in moving if r.left == name] for name in ranges}
    for name, each in ((name, ranges[name]) for name in in_order(ranges, needs)):
        relations = tuple(relation for relation in moving if relation.left == name)
        tops = [relation.right for relation in relations if relation.op in UPPER]
        share = None
        if each.moves and each.low > 0 and tops:
            usual = [start_of(top, narrow[top], asked.value(top)) for top in tops]
            share = min(1.0, each.low / max(min([each.high, *usual]), 1))
        number = Number(name, narrow[name], each, relations, share, each.ends, wide[name])
        free = each.grid or not relations
        if not free:
            near, hull = (_hull(number, ends, offs, words) for ends in (ranges, found))
            number = replace(number, near=near, hull=hull)
        found[name] = number
    codecs: dict[str, Codec] = {}
    for name, may in shapes.items():
        if isinstance(may, ListOf):
            codecs[name] = replace(may, elements=tuple(found[element.name] for element in may.elements))
        elif not isinstance(may, Domain):
            codecs[name] = may
        elif name in found:
            codecs[name] = found[name]
    return codecs


def _hull(
    number: Number, others: Mapping[str, Range] | Mapping[str, Number], offs: Values, words: set[str]
) -> tuple[float, float]:
    """(lowest, highest) value over all that the number's relations look at: `others`, their ranges or hulls; `words`
    may also be no number."""
    bounds = replace(number, relations=tuple(r for r in number.relations if r.op != "!="))
    rights = {r.right: others[r.right].ends for r in bounds.relations}
    reach = {name: [*ends, offs.get(name, ends[0])] for name, ends in rights.items()}
    sides = [bounds.left({n: end(values) for n, values in reach.items()})[0] for end in (min, max)]
    if words & reach.keys():
        sides.append(bounds.left({n: ends[0] for n, ends in reach.items() if n not in words})[0])
    return min(side.low for side in sides), max(side.high for side in sides)


def build(
    asked: Asked, order: Sequence[str], chosen: Conditions, codecs: Mapping[str, Codec], base: Values
) -> tuple[tuple[Parameter, ...], list[str]]:
    """(parameters in the order in which they are drawn, notes on defaults that are not in the space)."""
    built: list[Parameter] = []
    notes: list[str] = []
    drawn = dict(base)
    for name in order:
        leaf, wish, codec = asked.schema.leaf(name), asked.wish(name), codecs[name]
        default, said = _default(asked, leaf, codec, drawn)
        notes += said
        if all(condition.holds(drawn) for condition in chosen[name]):
            drawn[name] = default
        raws = codec.encode(default, dict(drawn))
        axes = tuple(replace(axis, centre=raw) for axis, raw in zip(codec.axes, raws, strict=True))
        if isinstance(codec, Number):
            kind, why = "int" if codec.domain.whole else "float", codec.range.why
        else:
            kind, why = "choice" if leaf.kind == "text" else leaf.kind, codec.why
        why = f"{wish.why}; {why}" if wish.recommended else why
        built.append(Parameter(name, kind, default, codec, axes, chosen[name], why))
    return tuple(built), notes


def _order(chosen: Conditions, codecs: Mapping[str, Codec], relations: Sequence[Relation]) -> list[str]:
    """Every parameter after those whose values it looks at. Raises `SpaceError` where they go round in a circle."""
    needs = {name: [condition.name for condition in found] for name, found in chosen.items()}
    for name in chosen:
        if isinstance(each := codecs[name], ListOf):
            needs[name] += [element.name for element in each.elements]
            needs |= {element.name: [] for element in each.elements}
    for relation in relations:  # an order without a relation still shows a cycle
        if relation.left in needs and relation.right in needs:
            needs[relation.left].append(relation.right)
    return [name for name in in_order(sorted(needs), needs) if name in chosen]


def _default(asked: Asked, leaf: Leaf, codec: Codec, drawn: Values) -> tuple[Any, list[str]]:
    """(the base value where the space has it, otherwise the nearest; what to say about it)."""
    name, value = leaf.name, leaf.typed(drawn.get(leaf.name))
    what = "its default is null" if name in asked.base else "it has no default"
    if value is None and name in asked.base and isinstance(codec, Options) and None in codec.values:
        return None, []
    if value is not None:
        wrong = leaf.problem(value)
        if wrong and name in asked.given and not same(value, leaf.default):
            raise SpaceError(f"{name} {wrong} (the spec's value)")
        try:
            if not wrong:
                codec.encode(value, dict(drawn))
                return value, []
        except SpaceError as error:
            wrong = str(error)
        what = f"the default {short(value)} is not in the space: it {wrong}"
    start = None if isinstance(value, (dict, bool)) else value
    if isinstance(codec, Number) and not is_number(start):
        start = start_of(name, codec.domain, None)
    used = codec.nearest(start, dict(drawn))
    return used, [f"{name}: {what}; {short(used)} is used instead"]
