"""The ways in which train schemas say things, in NVIDIA TAO's dialect and in standard JSON Schema, read leniently in
form: numbers and booleans as text, what is valid of a number in a grammar of its own, and what stands elsewhere.

    math_cond  := clause { [","] clause }            "> 0.0 <= 1.0", ">=1", "^ 2", "/ 8", "> depends_on", "!= 0"
    clause     := OP operand | "^" number | "/" number
    OP         := ">" | ">=" | "<" | "<=" | "==" | "!="
    operand    := number | "depends_on" | the dotted name of another parameter
    depends_on := target { "," target }              "a.b", "> a.b", "a.b, c.d"; or a list of such texts
    target     := [OP] dotted name

`^ N` asks for a power of N, `/ N` for a multiple of N.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from automl.errors import SpaceError

Node = Mapping[str, Any]
HUGE = 1e300  # beyond it a bound is no bound
NUMBER = r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf(?:inity)?)"
NAME = r"[A-Za-z_][\w.\-\[\]]*"
_CLAUSE = re.compile(
    rf"\s*(?:(?:,|;|&&?|and\b)\s*)?(>=|<=|!=|==|>|<|=|\^|/)\s*({NUMBER}(?![\w.])|{NAME})", re.IGNORECASE
)
_TARGET = re.compile(rf"\s*(>=|<=|!=|==|>|<|=)?\s*({NAME})\s*")
_BOUNDS = {"minimum": max, "exclusiveMinimum": max, "maximum": min, "exclusiveMaximum": min}


def as_number(raw: Any, where: str, key: str) -> float | None:
    """A number, "0.5", "inf"; None for nothing. Raises `SpaceError` naming the parameter and the key."""
    if raw is None or raw == "":
        return None
    try:
        number = float(raw) if isinstance(raw, str) else raw
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, (int, float)) or number != number:
        raise SpaceError(f"{where}: {key} must be a number, but got {raw!r}")
    if abs(number) > HUGE or (isinstance(number, int) and abs(number) > 2**53):
        number = math.inf if number > 0 else -math.inf  # beyond what a double counts exactly: no bound
    return number


def as_bool(raw: Any, where: str, key: str) -> bool | None:
    """True, "TRUE", "false", 1; None for nothing or "". Raises `SpaceError` naming the parameter and the key."""
    word = raw.strip().lower() if isinstance(raw, str) else raw
    if word is None or word == "":
        return None
    if word in ("true", "false", 1, 0):
        return word in ("true", 1)
    raise SpaceError(f"{where}: {key} must be true or false, but got {raw!r}")


def checked_weights(raw: Any, count: int, where: str) -> tuple[float, ...]:
    """`option_weights` as `count` shares that sum to 1. Raises `SpaceError` naming the parameter."""
    listed = raw if isinstance(raw, (list, tuple)) else ()
    shares = [-1 if w is None else w for w in (as_number(w, where, "option_weights") for w in listed)]
    if len(shares) != count or not all(0 <= w < math.inf for w in shares) or not any(shares):
        raise SpaceError(f"{where}: option_weights must be {count} numbers >= 0, not all 0, but got {raw!r}")
    return tuple(w / sum(shares) for w in shares)


def parse_math_cond(text: Any, where: str) -> tuple[tuple[str, float | str], ...]:
    """(operator, number or name) of every clause. Raises `SpaceError` naming the parameter and what cannot be read."""
    if text is None:
        return ()
    if not isinstance(text, str):
        raise SpaceError(f"{where}: math_cond must be text such as '> 0.0', but got {text!r}")
    clauses: list[tuple[str, float | str]] = []
    position = 0
    while text[position:].strip():
        clause = _CLAUSE.match(text, position)
        if clause is None:
            raise SpaceError(
                f"{where}: math_cond '{text}' cannot be read from '{text[position:].strip()}' on; it must be a chain "
                "of OP NUMBER, OP depends_on, ^ NUMBER (powers) or / NUMBER (multiples)"
            )
        position, op = clause.end(), "==" if clause[1] == "=" else clause[1]
        operand = float(clause[2]) if re.fullmatch(NUMBER, clause[2], re.IGNORECASE) else clause[2]
        good = isinstance(operand, float) and math.isfinite(operand) and operand > 0
        if op in "^/" and (not good or (op == "^" and operand == 1)):
            must = "number other than 1 (powers)" if op == "^" else "number (multiples)"
            raise SpaceError(f"{where}: math_cond '{text}': '{op}' needs a positive {must}")
        clauses.append((op, operand))
    return tuple(clauses)


def parse_depends_on(raw: Any, where: str) -> tuple[tuple[str | None, str], ...]:
    """(operator or None, dotted name) of every target. Raises `SpaceError` naming the parameter."""
    targets = []
    for text in raw if isinstance(raw, (list, tuple)) else [] if raw in (None, "") else [raw]:
        if not isinstance(text, str):
            raise SpaceError(f"{where}: depends_on must be a parameter's name, but got {raw!r}")
        for part in text.split(","):
            target = _TARGET.fullmatch(part)
            if target is None:
                raise SpaceError(f"{where}: depends_on must be '[OP] NAME', but got '{part.strip()}'")
            targets.append(("==" if target[1] == "=" else target[1], target[2]))
    return tuple(targets)


# ---- what stands elsewhere: $ref, allOf, anyOf, oneOf, a list of types ----------------------------------------------


def flat(root: Node, node: Node, where: str, inside: tuple[str, ...] = ()) -> Node:
    """The node with its $refs into `root` followed and its allOf merged; its own keys win over what it refers to.
    `inside` are the $refs that led here."""
    merged = {key: value for key, value in node.items() if key not in ("$ref", "allOf")}
    if "$ref" in node:
        seen = (*inside, node["$ref"])
        if node["$ref"] in inside:
            raise SpaceError(f"{where}: $ref goes round in a circle: {' -> '.join(seen)}")
        merged = _both(flat(root, _target(root, node["$ref"], where), where, seen), merged, where)
    for part in _parts(node.get("allOf", []), where, "allOf"):
        merged = _both(flat(root, part, where, inside), merged, where)
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
    """The alternatives of anyOf, oneOf or a list of types, null among them, each with the node's own keys in it."""
    key, kinds = next((k for k in ("anyOf", "oneOf") if k in node), None), node.get("type")
    if key is None:
        several = isinstance(kinds, (list, tuple))
        return [{**node, "type": kind} for kind in kinds or ["null"]] if several else [node]
    outer = {k: v for k, v in node.items() if k != key}
    parts = [flat(root, part, where) for part in _parts(node[key], where, key)]
    nulls = [part for part in parts if part.get("type") == "null"]
    others = [part for part in parts if part not in nulls]
    if others and all("const" in part for part in others):
        return [{**outer, "enum": [part["const"] for part in others]}, *nulls]
    found = [b for part in others for b in branches(root, _both(part, outer, where), where)]
    return [*(found or [outer]), *nulls]


def type_of(node: Node, where: str) -> str:
    """The type word; "" when there is none."""
    raw = node.get("type", "")
    if not isinstance(raw, str):
        raise SpaceError(f"{where}: type must be a word or a list of words, but got {raw!r}")
    return raw


def section(root: Node, node: Node, where: str) -> Node:
    """The node, or the one branch of its anyOf that has properties (an optional section), flat."""
    whole = flat(root, node, where)
    is_plain = whole.get("properties") or not ("anyOf" in whole or "oneOf" in whole)
    withs = [] if is_plain else [b for b in branches(root, whole, where) if b.get("properties")]
    return withs[0] if len(withs) == 1 else whole


def refs(node: Node) -> list[str]:
    """The $refs that a node is written with."""
    lists = [raw for key in ("anyOf", "oneOf", "allOf") if isinstance(raw := node.get(key), (list, tuple))]
    parts = [node, *(part for raw in lists for part in raw if isinstance(part, Mapping))]
    return [part["$ref"] for part in parts if isinstance(part.get("$ref"), str)]


def _both(base: Node, over: Node, where: str) -> dict[str, Any]:
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
