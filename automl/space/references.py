"""Standard JSON Schema's ways of saying a thing elsewhere: $ref, allOf, anyOf, oneOf, a list of types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from automl.errors import SpaceError
from automl.space.words import as_number

Node = Mapping[str, Any]
_BOUNDS = {"minimum": max, "exclusiveMinimum": max, "maximum": min, "exclusiveMaximum": min}


def flat(root: Node, node: Node, where: str) -> Node:
    """The node with its $refs into `root` followed and its allOf merged; its own keys win over what it refers to."""
    if "$ref" not in node and "allOf" not in node:
        return node
    seen: list[str] = []
    merged: dict[str, Any] = dict(node)
    while "$ref" in merged:
        ref = merged.pop("$ref")
        if ref in seen:
            raise SpaceError(f"{where}: $ref goes round in a circle: {' -> '.join([*seen, ref])}")
        seen.append(ref)
        merged = both(_target(root, ref, where), merged, where)
    for part in _parts(merged.pop("allOf", []), where, "allOf"):
        merged = both(flat(root, part, where), merged, where)
    return merged


def _target(root: Node, ref: Any, where: str) -> Node:
    if not isinstance(ref, str) or not ref.startswith("#"):
        raise SpaceError(f"{where}: $ref must point into this schema (#/$defs/...), but got {ref!r}")
    node: Any = root
    for key in [k for k in ref[1:].split("/") if k]:
        key = key.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, Mapping) or key not in node:
            raise SpaceError(f"{where}: $ref {ref} points to nothing")
        node = node[key]
    if not isinstance(node, Mapping):
        raise SpaceError(f"{where}: $ref {ref} must point to a schema, but got {type(node).__name__}")
    return node


def _parts(raw: Any, where: str, key: str) -> list[Node]:
    if not isinstance(raw, (list, tuple)) or not all(isinstance(part, Mapping) for part in raw):
        raise SpaceError(f"{where}: {key} must be a list of schemas, but got {raw!r}")
    return list(raw)


def branches(root: Node, node: Node, where: str) -> list[Node]:
    """The non-null alternatives of anyOf, oneOf or a list of types, each with the node's own keys in it."""
    key = next((k for k in ("anyOf", "oneOf") if k in node), None)
    if key is None:
        return _of_types(node)
    outer = {k: v for k, v in node.items() if k != key}
    parts = [flat(root, part, where) for part in _parts(node[key], where, key)]
    parts = [part for part in parts if part.get("type") != "null"]
    if parts and all("const" in part for part in parts):
        return [{**outer, "enum": [part["const"] for part in parts]}]
    return [b for part in parts for b in branches(root, both(part, outer, where), where)] or [outer]


def _of_types(node: Node) -> list[Node]:
    kinds = node.get("type")
    if not isinstance(kinds, (list, tuple)):
        return [node]
    return [{**node, "type": kind} for kind in [k for k in kinds if k != "null"] or ["null"]]


def type_of(node: Node, where: str) -> tuple[str, bool]:
    """(type word, whether null is a type too); the word is "" when there is none."""
    raw = node.get("type")
    if raw is None:
        return "", False
    words = list(raw) if isinstance(raw, (list, tuple)) else [raw]
    if not words or not all(isinstance(word, str) for word in words):
        raise SpaceError(f"{where}: type must be a word or a list of words, but got {raw!r}")
    return next((word for word in words if word != "null"), "null"), "null" in words


def nullable(node: Node) -> bool:
    """Whether an anyOf or oneOf has a null branch, or the node says `nullable`."""
    parts = [*_alternatives(node, "anyOf"), *_alternatives(node, "oneOf")]
    return node.get("nullable") is True or any(p.get("type") == "null" for p in parts)


def section(root: Node, node: Node, where: str) -> Node:
    """The node, or the one branch of its anyOf that has properties (an optional section), flat."""
    whole = flat(root, node, where)
    if whole.get("properties") or not ("anyOf" in whole or "oneOf" in whole):
        return whole
    withs = [b for b in branches(root, whole, where) if b.get("properties")]
    return withs[0] if len(withs) == 1 else whole


def refs(node: Node) -> list[str]:
    """The $refs that a node is written with."""
    parts = [node, *(p for key in ("anyOf", "oneOf", "allOf") for p in _alternatives(node, key))]
    return [p["$ref"] for p in parts if isinstance(p.get("$ref"), str)]


def _alternatives(node: Node, key: str) -> Sequence[Node]:
    raw = node.get(key)
    return [p for p in raw if isinstance(p, Mapping)] if isinstance(raw, (list, tuple)) else ()


def both(base: Node, over: Node, where: str) -> dict[str, Any]:
    """Two schemas that both hold, as one: `over` wins for annotations, bounds and enums intersect."""
    merged = {**base, **over}
    for key, tighter in _BOUNDS.items():
        ends = [n.get(key) for n in (base, over)]
        if not any(n is None or isinstance(n, (bool, list, tuple)) for n in ends):
            merged[key] = tighter(as_number(end, where, key) or 0.0 for end in ends)
    if isinstance(base.get("enum"), list) and isinstance(over.get("enum"), list):
        merged["enum"] = [v for v in over["enum"] if v in base["enum"]] or over["enum"]
    if isinstance(base.get("properties"), Mapping) and isinstance(over.get("properties"), Mapping):
        merged["properties"] = {**base["properties"], **over["properties"]}
    return merged
