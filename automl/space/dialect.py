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
from collections.abc import Callable, Mapping
from typing import Any

from automl.errors import SpaceError
from automl.space.leaf import among, common_multiple, same

Node = Mapping[str, Any]
HUGE = 1e300  # beyond it a bound is no bound
CONTRADICTION = (
    "(contradiction)"  # our key in a node that no value can fit, and why in words that follow its name
)
WORDS = "(types)"  # our key in a node with an enum: the words of its list of types but null
KINDS = {
    **dict.fromkeys(("int", "integer", "long"), "int"),
    **dict.fromkeys(("float", "number", "double"), "float"),
    **dict.fromkeys(("bool", "boolean"), "bool"),
    **dict.fromkeys(("string", "str", "text"), "text"),
    **dict.fromkeys(("categorical", "enum"), "choice"),
    **dict.fromkeys(("ordered", "ordered_int", "ordered_float"), "ordered"),
    **dict.fromkeys(("list", "array", "tuple", "list_1_backbone", "list_1_normal", "list_2", "list_3"), "list"),
    **dict.fromkeys(("subset_list", "optional_list"), "subset"),
    **dict.fromkeys(("collection", "dict", "object", "mapping"), "mapping"),
}  # fmt: skip
NUMBER = r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf(?:inity)?)"
NAME = r"[A-Za-z_][\w.\-\[\]]*"
_CLAUSE = re.compile(
    rf"\s*(?:(?:,|;|&&?|and\b)\s*)?(>=|<=|!=|==|>|<|=|\^|/)\s*({NUMBER}(?![\w.])|{NAME})", re.IGNORECASE
)
_NARROWER = (
    ("int", "float"), ("ordered", "int"), ("ordered", "float"), ("ordered", "text"), ("subset", "list"),
)  # fmt: skip
_ANNOTATIONS = ("title", "description")
_TARGET = re.compile(rf"\s*(>=|<=|!=|==|>|<|=)?\s*({NAME})\s*")


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
    return number if abs(number) <= HUGE else math.inf if number > 0 else -math.inf


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
    `inside` are the $refs that led here. What cannot all hold is in it as CONTRADICTION."""
    own = {key: value for key, value in node.items() if key not in ("$ref", "allOf")}
    merged: Node = {}
    if "$ref" in node:
        seen = (*inside, node["$ref"])
        if node["$ref"] in inside:
            raise SpaceError(f"{where}: $ref goes round in a circle: {' -> '.join(seen)}")
        merged = flat(root, _target(root, node["$ref"], where), where, seen)
    for part in _parts(node.get("allOf", []), where, "allOf"):
        merged = both(merged, flat(root, part, where, inside))
    return both(merged, own)


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
    """The alternatives of anyOf, oneOf or a list of types, null among them, each with the node's own keys in it; those
    that contradict these are none."""
    key, kinds = next((k for k in ("anyOf", "oneOf") if k in node), None), node.get("type")
    if key is None:
        return _by_type(node, list(kinds)) if isinstance(kinds, (list, tuple)) else [node]
    outer = {k: v for k, v in node.items() if k != key}
    parts = [flat(root, part, where) for part in _parts(node[key], where, key)]
    held = [part for part in parts if CONTRADICTION not in part] or parts[:1]
    nulls = [both(part, outer) for part in held if part.get("type") == "null"]
    others = [part for part in held if part.get("type") != "null"]
    if others and all(part.keys() <= {"type", *_ANNOTATIONS} and "type" in part for part in others):
        kinds = [part["type"] if isinstance(part["type"], list) else [part["type"]] for part in others]
        words = [word for each in kinds for word in each]
        typed = {"type": words if len(words) > 1 else words[0]}
        found: list[Node] = branches(root, both(typed, outer), where)
    elif others and all("const" in part for part in others):
        found = [both({"enum": [part["const"] for part in others]}, outer)]
    else:
        found = [b for part in others for b in branches(root, both(part, outer), where)] or [outer]
    return [b for b in [*found, *nulls] if CONTRADICTION not in b] or found


def _by_type(node: Node, kinds: list[Any]) -> list[Node]:
    """A branch for each of several types; but an enum is one, whatever its values are."""
    words = [kind for kind in kinds if kind != "null"]
    if _listed(node.get("enum")) and len(words) > 1 and all(isinstance(word, str) for word in words):
        nulls = [{**node, "type": "null"}] if "null" in kinds else []
        return [{**node, "type": "", WORDS: words}, *nulls]
    return [{**node, "type": kind} for kind in kinds or ["null"]]


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
    inner = [ref for raw in lists for part in raw if isinstance(part, Mapping) for ref in refs(part)]
    return [*([node["$ref"]] if isinstance(node.get("$ref"), str) else []), *inner]


# ---- two schemas that both hold -------------------------------------------------------------------------------------


def both(base: Node, over: Node) -> dict[str, Any]:
    """Two schemas that both hold, as one: what restricts a value is intersected, and `over` wins for the rest. Where
    no value fits both, that is in it as CONTRADICTION; what cannot be read stays, and is told where it is read."""
    base, over = _plain_ends(base), _plain_ends(over)
    merged = {**base, **over}
    for key, meet in _MEETS.items():
        ours, theirs = base.get(key), over.get(key)
        if ours not in (None, "") and key in over:
            merged[key] = ours if theirs in (None, "") or same(ours, theirs) else meet(ours, theirs)
            if merged[key] is None:
                merged[CONTRADICTION] = f"{key} must be both {ours!r} and {theirs!r}, which nothing is"
    return {**merged, **_common_values(base, over)}


def _plain_ends(node: Node) -> Node:
    """The node with the booleans that draft 4 wrote beside bounds as bounds."""
    for end, key in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(node.get(key), bool):
            is_open = node[key] and isinstance(node.get(end), (int, float, str))
            rest = {k: v for k, v in node.items() if k != key and not (is_open and k == end)}
            node = {**rest, key: node[end]} if is_open else rest
    return node


def _common_values(base: Node, over: Node) -> dict[str, Any]:
    """What enum and const become."""
    lists = [[n["const"]] if "const" in n else _listed(n.get("enum")) for n in (base, over)]
    if lists[0] is None or lists[1] is None:
        return {}
    common = [value for value in lists[1] if among(value, lists[0])]
    if not common:
        text = f"must be one of {lists[0]!r} and one of {lists[1]!r}, which nothing is"
        return {CONTRADICTION: text}
    return {"enum": common}


def _listed(raw: Any) -> list[Any] | None:
    if isinstance(raw, str) and raw:
        return [word.strip() for word in raw.split(",")]
    return list(raw) if isinstance(raw, (list, tuple)) else None


def _common_type(ours: Any, theirs: Any) -> Any:
    """The type word, or several, of what is of both types; None for none."""
    lists = [list(raw) if isinstance(raw, (list, tuple)) else [raw] for raw in (ours, theirs)]
    for raw, words in zip((ours, theirs), lists, strict=True):
        if not all(isinstance(word, str) for word in words):
            return raw
    found = list(dict.fromkeys(word for a in lists[0] for b in lists[1] if (word := _narrower(a, b))))
    return found if len(found) > 1 else found[0] if found else None


def _narrower(ours: str, theirs: str) -> str | None:
    """Of two type words the one that says more; None where no value is of both."""
    kinds = [word if word == "null" else KINDS.get(word.lower(), "") for word in (ours, theirs)]
    if "" in kinds or "choice" in kinds:  # these leave open what the values are
        return theirs if kinds[0] in ("", "choice") else ours
    for narrow, wide in _NARROWER:
        if kinds in ([narrow, wide], [wide, narrow]):
            return ours if kinds[0] == narrow else theirs
    return theirs if kinds[0] == kinds[1] else None


def _end(pick: Callable[[list[float]], float]) -> Callable[[Any, Any], Any]:
    """The tighter of two bounds, or of two lists of them, None of unlike lengths; one that cannot be read stays."""

    def tighter(ours: Any, theirs: Any) -> Any:
        lists = [raw if isinstance(raw, (list, tuple)) else [raw] for raw in (ours, theirs)]
        count = max(map(len, lists))
        if not all(len(each) in (1, count) for each in lists):
            return None
        pairs = [[each[min(i, len(each) - 1)] for each in lists] for i in range(count)]
        found = [_of_numbers(pick, *pair) for pair in pairs]
        return found if lists != [[ours], [theirs]] else found[0]

    return tighter


def _of_numbers(meet: Callable[[list[float]], float], ours: Any, theirs: Any) -> Any:
    numbers = []
    for raw in (ours, theirs):
        try:
            numbers.append(as_number(raw, "", ""))
        except SpaceError:
            return raw
    known = [number for number in numbers if number is not None]
    return meet(known) if len(known) == 2 else theirs if numbers[0] is None else ours


def _common_multiple(numbers: list[float]) -> float:
    odd = [number for number in numbers if not 0 < number < math.inf]
    return odd[0] if odd else common_multiple(*numbers)


def _all_of(ours: Any, theirs: Any) -> Any:
    """Both schemas as one that is merged when it is read, as either may lead back to itself."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return {"allOf": [ours, theirs]} if ours != theirs else theirs
    return ours if isinstance(theirs, Mapping) else theirs


def _all_properties(ours: Any, theirs: Any) -> Any:
    if not (isinstance(ours, Mapping) and isinstance(theirs, Mapping)):
        return _all_of(ours, theirs)
    return {**ours, **theirs, **{key: _all_of(ours[key], theirs[key]) for key in ours if key in theirs}}


def _each_with_each(ours: Any, theirs: Any) -> Any:
    """Alternatives beside alternatives: one of either holds."""
    lists = isinstance(ours, (list, tuple)), isinstance(theirs, (list, tuple))
    if not all(lists):
        return theirs if lists[0] else ours
    return [_all_of(a, b) for a in ours for b in theirs]


def _text(form: str) -> Callable[[Any, Any], Any]:
    """Two texts in one; what is no text stays, and is told where it is read."""
    return lambda ours, theirs: (
        form.format(ours, theirs)
        if isinstance(ours, str) and isinstance(theirs, str)
        else theirs if isinstance(ours, str) else ours
    )  # fmt: skip


# Keyword -> what it becomes where two schemas have it; None where both cannot hold.
_MEETS: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minItems", "minLength", "minProperties"), _end(max)),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxItems", "maxLength", "maxProperties"), _end(min)),
    "multipleOf": lambda ours, theirs: _of_numbers(_common_multiple, ours, theirs),
    "type": _common_type,
    "math_cond": _text("{}, {}"),
    "pattern": _text(r"^(?=[\s\S]*?(?:{}))[\s\S]*?(?:{})"),
    "uniqueItems": lambda ours, theirs: ours or theirs,
    "items": _all_of,
    "properties": _all_properties,
    "additionalProperties": lambda ours, theirs: theirs if ours is not False else ours,
    **dict.fromkeys(("anyOf", "oneOf"), _each_with_each),
}  # fmt: skip
