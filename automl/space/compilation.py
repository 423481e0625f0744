"""What one compilation knows: what was asked, the base configuration, and what its steps have found so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from automl.errors import SpaceError, did_you_mean
from automl.space.codecs import Codec
from automl.space.domain import is_number
from automl.space.leaf import Leaf, coerced
from automl.space.links import Link
from automl.space.relations import Draft
from automl.space.schema import Schema
from automl.space.space import flat
from automl.space.tuning import Wish
from automl.space.words import is_missing, short

_EPOCHS = ("num_epochs", "epochs", "epoch", "max_epochs", "n_epochs", "total_epochs")


@dataclass
class Compilation:
    """The steps read the first block and fill the second. `base` has every leaf's value: the request's, else the
    spec's, else the schema's default; `given` names the leaves that somebody set."""

    schema: Schema
    spec: Mapping[str, Any] | None
    wishes: Mapping[str, Wish]
    limits: Mapping[str, float]
    base: dict[str, Any]
    given: set[str]

    left_out: dict[str, str] = field(default_factory=dict)  # name -> why
    notes: list[str] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)
    searched: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)  # every relation of the schema
    drafts: dict[str, Draft] = field(default_factory=dict)  # numbers, and elements of lists
    elements: dict[str, list[Draft]] = field(default_factory=dict)  # of the lists of numbers
    list_links: list[Link] = field(default_factory=list)  # relations between elements
    codecs: dict[str, Codec] = field(default_factory=dict)  # what is neither

    @cached_property
    def epochs_name(self) -> str | None:
        """The parameter that holds the length of the training in epochs."""
        training = [n for n in sorted(self.schema) if n.split(".")[0] == "train" or "." not in n]
        return next((n for word in _EPOCHS for n in training if n.rsplit(".", 1)[-1] == word), None)

    @property
    def epochs(self) -> int | None:
        """The length of the training of the base configuration."""
        epochs = self.base.get(self.epochs_name) if self.epochs_name else None
        return int(epochs) if is_number(epochs) and epochs >= 1 else None


def value_of(work: Compilation, leaf: Leaf) -> Any:
    return leaf.typed(work.base.get(leaf.name))


def check_fixed(work: Compilation, candidates: list[str]) -> None:
    """A relation none of whose sides is searched must hold when somebody set one of them; else it is noted."""
    base = numbers_of_base(work)
    for link in work.links:
        names = (link.left, *link.relation.names)
        known = all(is_number(base.get(n)) for n in names) and link.relation.op != "after"
        if any(n in candidates for n in names) or not known or link.relation.holds(base[link.left], base):
            continue
        text = f"{link} does not hold: {', '.join(f'{n} is {short(base[n])}' for n in names)}"
        if any((w := work.wishes.get(n)) and w.fixed and w.has_value for n in names):
            raise SpaceError(f"{link.left}: {text}")
        work.notes.append(text)


def numbers_of_base(work: Compilation) -> dict[str, Any]:
    """The base's values, numbers written as text read as numbers, and the spec's for names the schema lacks."""
    values = dict(work.base)
    for link in work.links:
        for name in (link.left, *link.relation.names):
            if name in work.schema and not is_number(values.get(name)) and name in values:
                values[name] = coerced(values[name], "float")
            elif name not in values:
                found, value = lookup(work.spec, tuple(name.split(".")))
                if found:
                    values[name] = value
    work.base = values
    return values


def base_values(
    schema: Schema, spec: Mapping[str, Any] | None, wishes: Mapping[str, Wish]
) -> tuple[dict[str, Any], set[str]]:
    """(value of every leaf that has one, the leaves that the spec or a person set)."""
    if spec is not None and not isinstance(spec, Mapping):
        raise SpaceError(f"a spec must be a mapping, but got {type(spec).__name__}")
    base: dict[str, Any] = {}
    given: set[str] = set()
    for name in schema:
        found, value = lookup(spec, schema.paths[name])
        if found and not is_missing(value):
            base[name] = value
            given.add(name)
        else:
            has, default = schema.default(name)
            if has:
                base[name] = default
        wish = wishes.get(name)
        if wish and wish.fixed and wish.has_value:
            base[name] = wish.value
            given.add(name)
    return base, given


def lookup(spec: Mapping[str, Any] | None, path: tuple[str, ...]) -> tuple[bool, Any]:
    """(is it there, value) of a leaf of a nested spec; `key[1]` is also found as the second element of `key`."""
    node: Any = spec
    for i, key in enumerate(path):
        if not isinstance(node, Mapping):
            return False, None
        if key not in node:
            base, _, index = key.partition("[")
            listed = node.get(base)
            if (
                i == len(path) - 1
                and index[:-1].isdigit()
                and isinstance(listed, list)
                and int(index[:-1]) < len(listed)
            ):
                return True, listed[int(index[:-1])]
            return False, None
        node = node[key]
    return True, node


def note_unknown(work: Compilation) -> None:
    """Note the spec's names that the schema does not have; relations may still use their values."""
    schema = work.schema
    for name, _ in flat(work.spec or {}, schema):
        if (
            name not in schema
            and name not in schema.sections
            and not any(n.startswith(f"{name}[") for n in schema)
        ):
            work.notes.append(f"the spec's {name} is not in the schema{did_you_mean(name, schema)}")
