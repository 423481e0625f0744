"""Which relations hold between parameters: those that the schema states, and those that known names imply."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from automl.errors import SpaceError
from automl.space.conditions import Relation
from automl.space.domain import Domain, common_multiple, is_number
from automl.space.leaf import Leaf
from automl.space.schema import Schema

_HEADS = ("nheads", "n_heads", "num_heads", "num_attention_heads")


@dataclass(frozen=True)
class Link:
    """`left` stands in a relation; `said` tells that the schema wrote an operator, not that we read one into it."""

    left: str
    relation: Relation
    said: bool
    why: str = ""

    def __str__(self) -> str:
        return f"{self.left} {self.relation}"


def gather(schema: Schema, base: Mapping[str, Any], notes: list[str], wanted: Iterable[str]) -> list[Link]:
    """Every relation that the schema states or that a known name implies. `wanted` are the parameters searched."""
    links: list[Link] = []
    searched = set(wanted)
    for name in schema:
        node = schema.resolver.flat(schema.nodes[name], name)
        if node.get("depends_on") or "depends_on" in str(node.get("math_cond", "")) or name in searched:
            try:
                leaf = schema.leaf(name)
            except SpaceError as error:
                if name in searched:
                    raise
                notes.append(f"{error}; the parameter is not searched, so its relations are not kept")
                continue
            links += _stated(leaf, schema, base, notes, name in searched)
    links += _selection(schema, base)
    first = {(link.left, link.relation): link for link in reversed(links)}
    return [link for link in links if first[link.left, link.relation] is link]


def _stated(
    leaf: Leaf, schema: Schema, base: Mapping[str, Any], notes: list[str], searched: bool
) -> list[Link]:
    name, links, targets = leaf.name, [], [target for _, target in leaf.depends_on]
    for op, operand in leaf.cond.names:
        if operand == "depends_on" and not targets:
            raise SpaceError(f"{name}: math_cond '{op} depends_on' needs a depends_on that names a parameter")
        links += [
            Link(name, Relation(op, (t,)), True) for t in (targets if operand == "depends_on" else [operand])
        ]
    links += [Link(name, Relation(op, (target,)), True) for op, target in leaf.depends_on if op]
    if not leaf.cond.names:
        links += _implied(leaf, base, notes, searched)
    return links


def _implied(leaf: Leaf, base: Mapping[str, Any], notes: list[str], searched: bool) -> list[Link]:
    """A depends_on without an operator: "at most", where the defaults keep to it."""
    links = []
    for op, target in leaf.depends_on:
        if op:
            continue
        ours, theirs = base.get(leaf.name), base.get(target)
        if is_number(ours) and is_number(theirs) and ours <= theirs:
            links.append(Link(leaf.name, Relation("<=", (target,)), False, "depends_on without an operator"))
        elif searched:
            notes.append(f"{leaf.name}: depends_on {target} has no operator and implies none that we know")
            links.append(Link(leaf.name, Relation("after", (target,)), False))
    return links


def _selection(schema: Schema, base: Mapping[str, Any]) -> list[Link]:
    """Models with queries pick `num_select` of num_queries * num_classes scores, from at most num_queries queries."""
    links = []
    counts = [n for n in schema if n == "num_classes" or n.endswith(".num_classes")]
    classes = next((n for n in sorted(counts, key=lambda n: (n != "dataset.num_classes", n))), None)
    for name in schema:
        queries = ".".join((*schema.paths[name][:-1], "num_queries"))
        if schema.paths[name][-1] != "num_select" or queries not in schema:
            continue
        links.append(Link(name, Relation("<=", (queries,)), False, "a query is selected at most once"))
        count = base.get(classes) if classes else None
        if classes and is_number(count) and count >= 1:
            fewer = Relation(
                "<" if count > 1 else "<=", (queries, classes)
            )  # of one class all may be selected
            links.append(Link(name, fewer, False, "fewer than there are scores"))
    return links


def divisible(
    name: str, schema: Schema, base: Mapping[str, Any], domain: Domain, searched: set[str]
) -> Domain:
    """The domain of a width or of its attention heads such that the heads divide the width."""
    *above, last = schema.paths[name]
    beside = {word: ".".join((*above, word)) for word in ("hidden_dim", *_HEADS)}
    heads = next((beside[w] for w in _HEADS if beside[w] in schema), None)
    width, count = base.get(beside["hidden_dim"]), base.get(heads) if heads else None
    if (
        last not in ("hidden_dim", *_HEADS)
        or not (_whole(width) and _whole(count))
        or width % count
        or domain.power
    ):
        return domain
    if last == "hidden_dim":
        counts = head_counts(heads or "", schema, base, _any_count) if heads in searched else (count,)
        return replace(domain, multiple=common_multiple(domain.multiple or 1, float(math.lcm(*counts))))
    return domain


def head_counts(name: str, schema: Schema, base: Mapping[str, Any], domain: Domain) -> tuple[int, ...]:
    """The valid numbers of attention heads that divide the width beside them; () when `name` is none."""
    *above, last = schema.paths[name]
    width, count = base.get(".".join((*above, "hidden_dim"))), base.get(name)
    if last not in _HEADS or not (_whole(width) and _whole(count)) or width % count:
        return ()
    near = range(max(1, count // 4), count * 4 + 1)
    return tuple(n for n in near if width % n == 0 and domain.problem(n) is None)


_any_count = Domain(True, 1)


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
