"""Specs on the engine's side: load, merge with the source of every leaf, validate against a schema, hand over.

A spec is a nested dict. It is merged from the model's template, a preset, a file and `--set` pairs, the later
winning, and `sources` remembers who set each leaf, so that facts of the data never overwrite what a person wrote.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl.documents import load_yaml
from automl.errors import SpecError

ENGINE_KEYS = ("automl_policy", "search", "try")  # keys of a spec file that are the engine's, not the model's
TEMPLATE = "template"
MISSING = object()  # what `get` may be told to return for a leaf that is not there
MANDATORY = "???"  # OmegaConf's mark for "must be given"


@dataclass
class SourcedSpec:
    """A spec and where each leaf came from: "template", "preset small", "my.yaml", "--set", "data"."""

    spec: dict[str, Any]
    sources: dict[str, str] = field(default_factory=dict)

    def overlay(self, partial: Mapping[str, Any], source: str) -> None:
        """Set every leaf of `partial`; a list is replaced whole, an empty section says nothing."""
        for name, value in leaves(partial):
            if value == {} and isinstance(get(self.spec, name), dict):
                continue
            put(self.spec, name, copy.deepcopy(value))
            self.sources[name] = source

    def fill(self, values: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Set the dotted names that nobody has set yet; returns those that were set."""
        taken = {n: v for n, v in values.items() if self.sources.get(n, TEMPLATE) == TEMPLATE}
        for name, value in taken.items():
            put(self.spec, name, value)
            self.sources[name] = source
        return taken


def _split(node: Any, name: str) -> tuple[str, str]:
    """(the key of `node` that a dotted name begins with, the rest of the name): a key may hold dots itself."""
    key, _, rest = name.partition(".")
    if rest and isinstance(node, Mapping) and key not in node:
        for end in range(name.count("."), 0, -1):
            parts = name.split(".")
            if ".".join(parts[: end + 1]) in node:
                return ".".join(parts[: end + 1]), ".".join(parts[end + 1 :])
    return key, rest


def get(spec: Any, name: str, default: Any = None) -> Any:
    """The leaf `a.b.c` of a nested mapping, or `default`; `key[1]` is also the second element of the list `key`."""
    node, rest = spec, name
    while rest:
        key, rest = _split(node, rest)
        if isinstance(node, Mapping) and key in node:
            node = node[key]
        elif isinstance(node, Mapping) and (element := _element(node, key)):
            node = element[0][element[1]]
        else:
            return default
    return node


def _element(node: Mapping[str, Any], key: str) -> tuple[list[Any], int] | None:
    """(the list `key`, 1) for `key[1]`, where there is such an element."""
    base, _, index = key.partition("[")
    listed, at = node.get(base), index[:-1]
    inside = isinstance(listed, list) and at.isdigit() and int(at) < len(listed)
    return (listed, int(at)) if inside and isinstance(listed, list) else None


def get_each(spec: Mapping[str, Any], name: str) -> Any:
    """The leaf `a.b`; `a[].b` is the list of that leaf over a list of mappings. None when it is not there."""
    head, many, rest = name.partition("[].")
    found = get(spec, head)
    if not many:
        return found
    return [get(each, rest) for each in found] if isinstance(found, list) else None


def put(spec: dict[str, Any], name: str, value: Any) -> None:
    """Set the leaf `a.b.c` in place, making the levels above it; `key[1]` of a list that is there is its element, and
    a key that is there and holds dots is that key."""
    full, (key, rest) = name, _split(spec, name)
    while rest:
        spec, name = spec.setdefault(key, {}), rest
        if not isinstance(spec, dict):
            raise SpecError(f"{full}: '{key}' is a value, not a section")
        key, rest = _split(spec, name)
    element = None if name in spec else _element(spec, name)
    if element:
        element[0][element[1]] = value
    else:
        spec[name] = value


def leaves(
    node: Mapping[str, Any], prefix: str = "", known: Container[str] = ()
) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every leaf; an empty mapping is a leaf, and so is one of the `known`; a list is one
    whole."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value and f"{prefix}{key}" not in known:
            yield from leaves(value, f"{prefix}{key}.", known)
        else:
            yield f"{prefix}{key}", value


def load(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file. Raises `SpecError` naming file, line and column."""
    if not path.is_file():
        raise SpecError(f"{path}: no such spec file")
    document = load_yaml(path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SpecError(f"{path}: a spec must be a mapping, but got {type(document).__name__}")
    return document


def parse_set(pairs: Sequence[str], shorthand: Mapping[str, str]) -> dict[str, Any]:
    """`["train.num_epochs=5", "batch_size=2"]` -> {dotted name: value}; values are YAML, shorthand keys expand."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name.strip():
            raise SpecError(f"--set must be KEY=VALUE, but got '{pair}'")
        name = shorthand.get(name.strip(), name.strip())
        values[name] = load_yaml(text, f"--set {name}") if text else ""
    return values


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """{dotted name: value} -> nested dict."""
    spec: dict[str, Any] = {}
    for name, value in values.items():
        put(spec, name, value)
    return spec


def defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema's `default`, else the defaults of its leaves, nested."""
    from automl.space.schema import Schema

    if isinstance(schema.get("default"), dict):
        return copy.deepcopy(schema["default"])
    read = Schema(schema)
    found: dict[str, Any] = {}
    for name in read:
        there, value = read.default(name)
        *above, last = read.paths[name]  # a key may hold dots itself
        section = found
        for key in above if there else ():
            section = section.setdefault(key, {})
        if there:
            section[last] = copy.deepcopy(value)
    return found


def validate(
    spec: Mapping[str, Any],
    schema: Mapping[str, Any],
    sources: Mapping[str, str],
    template: Mapping[str, Any] | None = None,
) -> list[str]:
    """Check a spec against a train schema in either dialect. Raises `SpecError` with every violation of what somebody
    set, its source, and a near name for a key that neither the schema nor the template has; what is wrong with the
    template's own values is returned as notes."""
    from automl.space.schema import problems as wrong_in

    extra, problems, notes = dict(leaves(template or {})), [], []
    for name, wrong in wrong_in(spec, schema, extra):
        source = _source_of(name, sources)
        if source == TEMPLATE:
            notes.append(f"the template contradicts the schema: {wrong}")
        else:
            problems.append(f"{source}: {wrong}")
    if problems:
        raise SpecError("\n".join(sorted(dict.fromkeys(problems))))
    return notes


def _source_of(name: str, sources: Mapping[str, str]) -> str:
    return next((s for n, s in sources.items() if n == name or n.startswith(name + ".")), TEMPLATE)


def diff(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, value in a, value in b) for every leaf that differs."""
    left, right = dict(leaves(a)), dict(leaves(b))
    names = [*left, *(n for n in right if n not in left)]
    return [(n, left.get(n), right.get(n)) for n in names if left.get(n) != right.get(n)]
