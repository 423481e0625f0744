"""Standard JSON Schema's ways of saying a thing elsewhere: $ref, allOf, anyOf, oneOf, a list of types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from automl.errors import SpaceError
from automl.space.words import as_number

_BOUNDS = {"minimum": max, "exclusiveMinimum": max, "maximum": min, "exclusiveMaximum": min}


class Resolver:
    """Resolves one document's nodes. `flat` gives a node without $ref and allOf."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._open: list[str] = []  # $refs that the walk is inside of

    def flat(self, node: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """The node with its $refs followed and its allOf merged; its own keys win over what it refers to."""
        if "$ref" not in node and "allOf" not in node:
            return node
        seen: list[str] = []
        merged: dict[str, Any] = dict(node)
        while "$ref" in merged:
            ref = merged.pop("$ref")
            if ref in seen:
                raise SpaceError(f"{where}: $ref goes round in a circle: {' -> '.join([*seen, ref])}")
            seen.append(ref)
            merged = both(self._target(ref, where), merged, where)
        for part in self._parts(merged.pop("allOf", []), where, "allOf"):
            merged = both(self.flat(part, where), merged, where)
        return merged

    def _target(self, ref: Any, where: str) -> Mapping[str, Any]:
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise SpaceError(f"{where}: $ref must point into this schema (#/$defs/...), but got {ref!r}")
        node: Any = self.document
        for key in [k for k in ref[1:].split("/") if k]:
            key = key.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, Mapping) or key not in node:
                raise SpaceError(f"{where}: $ref {ref} points to nothing")
            node = node[key]
        if not isinstance(node, Mapping):
            raise SpaceError(f"{where}: $ref {ref} must point to a schema, but got {type(node).__name__}")
        return node

    def _parts(self, raw: Any, where: str, key: str) -> list[Mapping[str, Any]]:
        if not isinstance(raw, (list, tuple)) or not all(isinstance(part, Mapping) for part in raw):
            raise SpaceError(f"{where}: {key} must be a list of schemas, but got {raw!r}")
        return list(raw)

    def branches(self, node: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
        """The non-null alternatives of anyOf, oneOf or a list of types, each with the node's own keys in it."""
        for key in ("anyOf", "oneOf"):
            if key in node:
                outer = {k: v for k, v in node.items() if k != key}
                parts = [self.flat(part, where) for part in self._parts(node[key], where, key)]
                parts = [part for part in parts if part.get("type") != "null"]
                if parts and all("const" in part for part in parts):
                    return [{**outer, "enum": [part["const"] for part in parts]}]
                return [b for part in parts for b in self.branches(both(part, outer, where), where)] or [
                    outer
                ]
        kinds = node.get("type")
        if isinstance(kinds, (list, tuple)):
            named = [k for k in kinds if k != "null"] or ["null"]
            return [{**node, "type": kind} for kind in named]
        return [node]

    def type_of(self, node: Mapping[str, Any], where: str) -> tuple[str, bool]:
        """(type word, whether null is a type too); the word is "" when there is none."""
        raw = node.get("type")
        if raw is None:
            return "", False
        words = list(raw) if isinstance(raw, (list, tuple)) else [raw]
        if not words or not all(isinstance(word, str) for word in words):
            raise SpaceError(f"{where}: type must be a word or a list of words, but got {raw!r}")
        named = [word for word in words if word != "null"]
        return (named[0] if named else "null"), "null" in words

    def nullable(self, node: Mapping[str, Any]) -> bool:
        """Whether an anyOf or oneOf has a null branch, or the node says `nullable`."""
        parts = [*_alternatives(node, "anyOf"), *_alternatives(node, "oneOf")]
        return node.get("nullable") is True or any(
            isinstance(p, Mapping) and p.get("type") == "null" for p in parts
        )

    def is_section(self, node: Mapping[str, Any], where: str) -> bool:
        """Whether the node has parameters of its own below; one that contains itself is not gone into again."""
        if isinstance(node.get("$ref"), str) and node["$ref"] in self._open:
            return False
        return bool(self.section(node, where).get("properties"))

    def section(self, node: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """The node, or the one branch of its anyOf that has properties (an optional section)."""
        flat = self.flat(node, where)
        if flat.get("properties") or not ("anyOf" in flat or "oneOf" in flat):
            return flat
        withs = [b for b in self.branches(flat, where) if b.get("properties")]
        return withs[0] if len(withs) == 1 else flat

    @contextmanager
    def inside(self, node: Mapping[str, Any]) -> Iterator[None]:
        """While walking below `node`."""
        refs = [r for r in _refs(node) if r not in self._open]
        self._open += refs
        yield
        del self._open[len(self._open) - len(refs) :]


def _refs(node: Mapping[str, Any]) -> list[str]:
    parts = [node, *(p for key in ("anyOf", "oneOf", "allOf") for p in _alternatives(node, key))]
    return [p["$ref"] for p in parts if isinstance(p, Mapping) and isinstance(p.get("$ref"), str)]


def _alternatives(node: Mapping[str, Any], key: str) -> Sequence[Any]:
    raw = node.get(key)
    return raw if isinstance(raw, (list, tuple)) else ()


def both(base: Mapping[str, Any], over: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Two schemas that both hold, as one: `over` wins for annotations, bounds and enums intersect."""
    merged = {**base, **over}
    for key, tighter in _BOUNDS.items():
        ends = [
            n
            for n in (base.get(key), over.get(key))
            if n is not None and not isinstance(n, (bool, list, tuple))
        ]
        if len(ends) == 2:
            merged[key] = tighter(
                as_number(ends[0], where, key) or 0.0, as_number(ends[1], where, key) or 0.0
            )
    if isinstance(base.get("enum"), list) and isinstance(over.get("enum"), list):
        merged["enum"] = [v for v in over["enum"] if v in base["enum"]] or over["enum"]
    if isinstance(base.get("properties"), Mapping) and isinstance(over.get("properties"), Mapping):
        merged["properties"] = {**base["properties"], **over["properties"]}
    return merged
