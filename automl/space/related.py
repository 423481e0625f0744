"""Options with numbers among them, whose relations to other parameters hold as those of any number do.

Options that are numbers alone are narrowed and make room like a number's domain (`shapes.settle`). Where null or a word
is among them they are loose: that always remains, and no relation says anything of it. So what is fixed narrows their
numbers, if to none, and what is searched leaves at each draw those that hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from automl.errors import SpaceError
from automl.space.codecs import Axis, Options
from automl.space.leaf import FLIPPED, Domain, Relation, among, is_number
from automl.space.requests import Asked, Values
from automl.space.shapes import Domains, Shape, domain_of, settle


@dataclass(frozen=True)
class RelatedOptions(Options):
    """One of the values that `relations` leave beside what is drawn before, in the shares of their weights; the raw
    value is a position among these, 0 to 1."""

    relations: tuple[Relation, ...] = ()

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        return (Axis(f"{self.name} (fraction)", "fraction"),)

    def decode(self, raws: Sequence[Any], drawn: Mapping[str, Any]) -> Any:
        left = self.left(drawn)
        return left.decode([left.axes[0].from_unit(raws[0])], drawn)

    def encode(self, value: Any, drawn: Mapping[str, Any]) -> list[Any]:
        left = self.left(drawn)
        return [left.axes[0].to_unit(left.encode(value, drawn)[0])]

    def nearest(self, value: Any, drawn: Mapping[str, Any]) -> Any:
        return self.left(drawn).nearest(value, drawn)

    def left(self, drawn: Mapping[str, Any]) -> Options:
        """The options of which every relation holds. Raises `SpaceError` where there are none."""
        rights = {r.right: drawn.get(r.right) for r in self.relations}
        good = [v for v in self.values if not any(r.broken({**rights, self.name: v}) for r in self.relations)]
        if not good:
            text = " and ".join(map(str, self.relations))
            raise SpaceError(f"{self.name}: no value is left that is {text}")
        return kept(Options(self.name, self.values, self.ordered, self.weights), good)


def kept(options: Options, good: Sequence[Any]) -> Options:
    """Those of the options that are `good`, in their order, and their weights, which sum to 1."""
    at = [i for i, value in enumerate(options.values) if among(value, good)]
    weights = [options.weights[i] for i in at if options.weights]
    shares = tuple(weight / sum(weights) for weight in weights)
    return replace(options, values=tuple(options.values[i] for i in at), weights=shares)


def settled(
    asked: Asked, shapes: Mapping[str, Shape], relations: Iterable[Relation], base: Values, offs: Values
) -> tuple[dict[str, Shape], Domains, Domains, list[Relation], list[str]]:
    """(`shapes` with the options that are left, then what `shapes.settle` gives with the numbers of options among its
    domains; those of loose options that nothing is left of are empty). Raises `SpaceError` as that does."""
    loose, numbers = loose_of(shapes), numbers_of(asked, shapes)
    fixed = {name: value for name, value in base.items() if name not in shapes}
    numbers, others = _beside_fixed(numbers, loose, relations, fixed)
    domains = {**shapes, **{name: domain for name, domain in numbers.items() if not domain.empty}}
    # What is loose needs no room; while it does not matter it is what it is, as any number.
    mine = {r for r in others if r.left in loose - offs.keys() and isinstance(domains.get(r.right), Domain)}
    wide, narrow, moving, silent = settle(asked, domains, [r for r in others if r not in mine], base, offs)
    moving += [r for r in others if r in mine and r.op != "after"]
    found = {**numbers, **narrow}
    options = {
        n: _left(each, found.get(n), moving) for n, each in shapes.items() if isinstance(each, Options)
    }
    return {**shapes, **options}, wide, found, moving, silent


def loose_of(shapes: Mapping[str, Shape]) -> set[str]:
    """The names of options that are not numbers alone."""
    options = {name: each for name, each in shapes.items() if isinstance(each, Options)}
    return {name for name, each in options.items() if not all(map(is_number, each.values))}


def numbers_of(asked: Asked, shapes: Mapping[str, Shape]) -> dict[str, Domain]:
    """The domain of the numbers among options, of those that have some."""
    lists = {name: each.values for name, each in shapes.items() if isinstance(each, Options)}
    found = {name: tuple(filter(is_number, values)) for name, values in lists.items()}
    return {
        n: domain_of(asked, asked.schema.leaf(n), values, shapes) for n, values in found.items() if values
    }


def only_of(shapes: Mapping[str, Shape], domains: Domains) -> dict[str, Any]:
    """The one value of each number and each of the options that has no other."""
    options = {name: each.values for name, each in shapes.items() if isinstance(each, Options)}
    numbers = {name: domains[name].only for name in shapes if name in domains and name not in options}
    only = {name: value for name, value in numbers.items() if value is not None}
    return only | {name: values[0] for name, values in options.items() if len(values) == 1}


def _beside_fixed(
    numbers: Domains, loose: Collection[str], relations: Iterable[Relation], fixed: Values
) -> tuple[dict[str, Domain], list[Relation]]:
    """(`numbers` with those of loose options narrowed to what is `fixed`, if to nothing; the other relations)."""
    found, others = dict(numbers), []
    for relation in relations:
        (left, right), op = relation.sides, relation.op
        turned = [(left, op, right), (right, FLIPPED.get(op, ""), left)]
        ours = [
            each for each in turned if op != "after" and each[0] in loose and is_number(fixed.get(each[2]))
        ]
        for name, sign, other in (each for each in ours if each[0] in found):
            found[name] = found[name].where(sign, fixed[other])
        others += [] if ours else [relation]
    nothing = {name for name in loose if name in found and found[name].empty}
    return found, [relation for relation in others if nothing.isdisjoint(relation.sides)]


def _left(options: Options, domain: Domain | None, relations: Iterable[Relation]) -> Options:
    """The options within the domain of their numbers, with the relations that each draw keeps."""
    good = [v for v in options.values if domain is None or not is_number(v) or domain.holds(v)]
    found = options if len(good) == len(options.values) else kept(options, good)
    mine = tuple(r for r in relations if r.left == options.name)
    fields = (found.name, found.values, found.ordered, found.weights, found.why)
    return RelatedOptions(*fields, mine) if mine and len(good) > 1 else found
