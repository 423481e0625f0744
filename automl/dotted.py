"""Nested mappings by dotted names: `train.optim.lr` is {"train": {"optim": {"lr": ...}}}."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping
from typing import Any

from automl.errors import SpecError

MISSING = object()  # what `get` may be told to return for a leaf that is not there


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


def last_words(names: Collection[str]) -> dict[str, str]:
    """Name -> as much of its end as tells it from the others: `head.units` beside `stem.units`, `lr` alone."""
    parts = {name: name.split(".") for name in names}
    ends = {
        name: [".".join(each[place:]) for place in reversed(range(len(each)))] for name, each in parts.items()
    }
    times = Counter(end for each in ends.values() for end in each)
    return {name: next((end for end in each if times[end] == 1), name) for name, each in ends.items()}


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """{dotted name: value} -> nested dict."""
    spec: dict[str, Any] = {}
    for name, value in values.items():
        put(spec, name, value)
    return spec
