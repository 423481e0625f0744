"""What a schema in TAO's dialect or JSON Schema forbids, read from the raw document by code of its own.

It shares nothing with the compiler, so that the two can disagree. Relations are told by hand: `> depends_on` and its
kin from the schema, and the two rules of DETR-like detectors.
"""

from __future__ import annotations

import math
import re
from typing import Any

INTEGERS = {"int", "integer", "ordered_int"}
FLOATS = {"float", "number"}


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


def violations(
    document: dict[str, Any], params: dict[str, Any], base: dict[str, Any] | None = None
) -> list[str]:
    """Every rule of the document that `params` breaks, the other values being those of `base`."""
    known = leaves(document)
    values = {**defaults(document), **(base or {}), **params}
    broken = []
    for name, value in params.items():
        if name not in known:
            broken.append(f"{name} unknown")
            continue
        broken += [f"{name}={value!r}: {what}" for what in wrong(known[name], value)]
        broken += [f"{name}={value!r}: {what}" for what in related(name, known[name], values)]
    for name in values:
        if name.rsplit(".", 1)[-1] == "num_select" and name in known:
            broken += selection(name, values, params)
    return broken


def wrong(leaf: dict[str, Any], value: Any) -> list[str]:
    kind = leaf.get("type")
    if "enum" in leaf and not isinstance(value, list):
        return [] if any(value == e and type(value) is type(e) for e in leaf["enum"]) else ["not in the enum"]
    if kind in INTEGERS and (type(value) is not int):
        return ["not an integer"]
    if kind in FLOATS and (type(value) is not float or not math.isfinite(value)):
        return ["not a float"]
    if kind in ("bool", "boolean"):
        return [] if isinstance(value, bool) else ["not a boolean"]
    if isinstance(value, list):
        return [w for i, v in enumerate(value) for w in bounds(leaf, v, i)]
    return bounds(leaf, value, 0) + condition(leaf, value)


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


def condition(leaf: dict[str, Any], value: Any) -> list[str]:
    text = str(leaf.get("math_cond") or "")
    broken = []
    for op, number in re.findall(r"(>=|<=|!=|==|>|<|\^|/)\s*(-?\d[\d.eE+-]*)", text):
        n = float(number)
        holds = {
            ">": value > n, ">=": value >= n, "<": value < n, "<=": value <= n, "!=": value != n, "==": value == n,
            "^": op == "^" and value > 0 and abs(math.log(value, n) - round(math.log(value, n))) < 1e-6 if op == "^" else True,
            "/": abs(value / n - round(value / n)) < 1e-6 if op == "/" else True,
        }[op]  # fmt: skip
        broken += [] if holds else [f"math_cond {text}"]
    return broken


def related(name: str, leaf: dict[str, Any], values: dict[str, Any]) -> list[str]:
    found = re.search(r"(>=|<=|!=|>|<)\s*depends_on", str(leaf.get("math_cond") or ""))
    if not found:
        return []
    other = values.get(leaf["depends_on"].strip())
    if other is None:
        return []
    mine, op = values[name], found[1]
    holds = {
        ">": mine > other,
        ">=": mine >= other,
        "<": mine < other,
        "<=": mine <= other,
        "!=": mine != other,
    }[op]
    return [] if holds else [f"{op} {leaf['depends_on']} = {other}"]


def selection(name: str, values: dict[str, Any], params: dict[str, Any]) -> list[str]:
    section = name.rsplit(".", 1)[0]
    queries, classes = values.get(f"{section}.num_queries"), values.get("dataset.num_classes")
    if queries is None or not ({name, f"{section}.num_queries"} & set(params)):
        return []
    broken = [] if values[name] <= queries else [f"num_select {values[name]} > {queries} queries"]
    if classes and not values[name] < queries * classes:
        broken.append(f"num_select {values[name]} of {queries} * {classes}")
    return broken
