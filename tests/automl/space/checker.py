"""What a schema in TAO's dialect forbids, read literally from the raw document by code of its own.

It shares nothing with the compiler, so that the two can disagree: minimum, maximum, enum, multipleOf, every clause of
math_cond, every target of depends_on, and the two rules of DETR-like detectors about num_select.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

KINDS = {
    "int": "int", "integer": "int", "ordered_int": "int", "float": "float", "number": "float", "bool": "bool",
    "boolean": "bool", "string": "text", "list": "list", "array": "list", "list_2": "list", "list_3": "list",
    "list_1_normal": "list", "list_1_backbone": "list", "subset_list": "subset", "optional_list": "subset",
}  # fmt: skip
COMPARE = {
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip
LENGTHS = {"list_2": 2, "list_3": 3, "list_1_normal": 1, "list_1_backbone": 1}


def leaves(node: dict[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    found = {}
    for key, child in node.get("properties", {}).items():
        if not isinstance(child, dict):
            continue
        if isinstance(child.get("properties"), dict) and child["properties"]:
            found |= leaves(child, f"{prefix}{key}.")
        else:
            found[prefix + key] = child
    return found


def defaults(document: dict[str, Any]) -> dict[str, Any]:
    return {name: leaf["default"] for name, leaf in leaves(document).items() if "default" in leaf}


_READ: dict[int, tuple[Any, ...]] = {}  # by id; the document is kept, so that the id stays its own


def read(document: dict[str, Any]) -> tuple[Any, ...]:
    """(document, its leaves, their defaults, those with relations), read once."""
    if id(document) not in _READ:
        known = leaves(document)
        bound = [n for n, leaf in known.items() if leaf.get("depends_on") or n.endswith("num_select")]
        _READ[id(document)] = (document, known, defaults(document), bound)
    return _READ[id(document)]


def violations(
    document: dict[str, Any], params: dict[str, Any], base: dict[str, Any] | None = None
) -> list[str]:
    """Every rule of the document that `params` breaks, the other values being those of `base`."""
    _, known, usual, bound = read(document)
    values = {**usual, **(base or {}), **params}
    broken = []
    for name, value in params.items():
        if name not in known:
            broken.append(f"{name} unknown")
            continue
        broken += [f"{name}={value!r}: {what}" for what in wrong(known[name], value)]
    for name in bound:  # also the relations of what is not searched, where the other side is
        broken += [
            f"{name}={values.get(name)!r}: {what}" for what in related(name, known[name], values, params)
        ]
        if name.rsplit(".", 1)[-1] == "num_select":
            broken += selection(name, values, params)
    return broken


def wrong(leaf: dict[str, Any], value: Any) -> list[str]:
    kinds = {KINDS.get(b["type"]) for b in leaf.get("anyOf", [leaf]) if b.get("type") != "null"}
    if "enum" in leaf:
        return not_listed(leaf, value)
    if isinstance(value, list):
        return elements(leaf, value) if kinds & {"list", "subset"} else ["not a list"]
    if isinstance(value, bool) or "bool" in kinds:
        return [] if isinstance(value, bool) and "bool" in kinds else ["not a boolean"]
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return ["not a number"]
    if isinstance(value, float) and "float" not in kinds:
        return ["not an integer"]
    return bounds(leaf, value, 0) + condition(leaf, value)


def not_listed(leaf: dict[str, Any], value: Any) -> list[str]:
    options = [{"true": True, "false": False}.get(e, e) if isinstance(leaf.get("default"), bool) else e for e in leaf["enum"]]  # fmt: skip
    among = (
        [any(v == e and type(v) is type(e) for e in options) for v in value]
        if isinstance(value, list)
        else []
    )
    if not isinstance(value, list):
        listed = any(value == e and type(value) is type(e) for e in options)
        return [] if listed else ["not in the enum"]
    if value in options:
        return []
    broken = [] if all(among) else ["not in the enum"]
    broken += ["repeats"] if len(set(map(str, value))) < len(value) else []
    broken += ["empty"] if leaf.get("type") == "subset_list" and not value else []
    return broken + ([] if len(value) == LENGTHS.get(leaf.get("type", ""), len(value)) else ["wrong length"])


def elements(leaf: dict[str, Any], value: list[Any]) -> list[str]:
    broken = [w for i, v in enumerate(value) for w in bounds(leaf, v, i) + condition(leaf, v)]
    return broken + ([] if len(value) == LENGTHS.get(leaf.get("type", ""), len(value)) else ["wrong length"])


def bounds(leaf: dict[str, Any], value: Any, index: int) -> list[str]:
    broken = []
    for key, breaks in (
        ("minimum", lambda end: value < end), ("maximum", lambda end: value > end),
        ("exclusiveMinimum", lambda end: value <= end), ("exclusiveMaximum", lambda end: value >= end),
    ):  # fmt: skip
        end = leaf.get(key)
        end = end[index] if isinstance(end, list) else end
        if end is not None and breaks(float(end)):
            broken.append(f"{key} {end}")
    step = leaf.get("multipleOf")
    if step and abs(value / step - round(value / step)) > 1e-6:
        broken.append(f"multipleOf {step}")
    return broken


def clauses(text: str) -> Iterator[tuple[str, str]]:
    return iter(re.findall(r"(>=|<=|!=|==|>|<|\^|/)\s*(depends_on|[-+]?\d[\d.eE+-]*)", text or ""))


def condition(leaf: dict[str, Any], value: Any) -> list[str]:
    broken = []
    for op, operand in clauses(leaf.get("math_cond", "")):
        if operand == "depends_on":
            continue
        n = float(operand)
        if op == "^":
            power = math.log(value, n) if value > 0 else 0.5
            holds = abs(power - round(power)) < 1e-6
        elif op == "/":
            holds = abs(value / n - round(value / n)) < 1e-6
        else:
            holds = COMPARE[op](value, n)
        broken += [] if holds else [f"math_cond {leaf['math_cond']}"]
    return broken


def targets(leaf: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(operator or "", name)."""
    for part in (leaf.get("depends_on") or "").split(","):
        found = re.fullmatch(r"\s*(>=|<=|!=|==|>|<)?\s*(\S+)\s*", part)
        if found:
            yield found[1] or "", found[2]


def related(name: str, leaf: dict[str, Any], values: dict[str, Any], params: dict[str, Any]) -> list[str]:
    ops = [op for op, operand in clauses(leaf.get("math_cond", "")) if operand == "depends_on"]
    broken, mine = [], values.get(name)
    for own, target in targets(leaf):
        other = values.get(target)
        if {name, target}.isdisjoint(params) or not all(isinstance(v, (int, float)) for v in (mine, other)):
            continue
        for op in [*ops, *([own] if own else [])]:
            broken += [] if COMPARE[op](mine, other) else [f"{op} {target} = {other}"]
    return broken


def selection(name: str, values: dict[str, Any], params: dict[str, Any]) -> list[str]:
    section = name.rsplit(".", 1)[0]
    queries, classes = values.get(f"{section}.num_queries"), values.get("dataset.num_classes")
    if queries is None or not ({name, f"{section}.num_queries"} & set(params)):
        return []
    broken = [] if values[name] <= queries else [f"num_select {values[name]} > {queries} queries"]
    if classes and not values[name] < queries * classes:
        broken.append(f"num_select {values[name]} of {queries} * {classes}")
    return broken
