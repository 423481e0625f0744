"""Schemas drawn from a seed, in both dialects: numbers with any mixture of bounds, choices, lists, switches, optional
parts, references, and chains in which one parameter bounds the next."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

NAMES = ("lr", "weight_decay", "momentum", "batch_size", "width", "depth", "drop_out", "gamma", "size", "alpha_weight",
         "warmup_epochs", "lr_step_size", "n_layers", "iou_threshold", "eps", "use_mlp", "mlp_size", "optimizer")  # fmt: skip
RELATIONS = (
    "> depends_on",
    "<depends_on",
    ">= depends_on",
    "<= depends_on",
    "!= depends_on",
    "== depends_on",
    "",
)


def drawn(seed: int) -> dict[str, Any]:
    """One schema with up to twelve flagged leaves in two sections."""
    rng = random.Random(f"schema {seed}")
    names = rng.sample(NAMES, rng.randint(3, 12))
    leaves = {name: leaf(name, rng) for name in names}
    numbers = [n for n in names if leaves[n].get("type") in ("int", "integer", "float", "number")]
    for first, second in pairwise(numbers):
        if rng.random() < 0.4 and "math_cond" not in leaves[second]:
            cond = rng.choice(RELATIONS)
            sign = "" if cond else rng.choice(["<", "> ", ">= ", ""])
            leaves[second] |= {"math_cond": cond, "depends_on": f"{sign}{section(first)}.{first}"}
    sections: dict[str, Any] = {"train": {}, "model": {}}
    for name, node in leaves.items():
        sections[section(name)][name] = node
    length = {"type": "int", "default": rng.choice([1, 4, 12, 50]), "minimum": 1}
    sections["train"]["num_epochs"] = length
    nodes = {key: {"type": "object", "properties": children} for key, children in sections.items()}
    return {
        "type": "object",
        "properties": nodes,
        "$defs": {"share": {"type": "number", "minimum": 0, "maximum": 1}},
    }


def section(name: str) -> str:
    return "model" if name in ("width", "depth", "n_layers", "use_mlp", "mlp_size", "drop_out") else "train"


def leaf(name: str, rng: random.Random) -> dict[str, Any]:
    if name == "use_mlp":
        return {"type": "boolean", "default": rng.random() < 0.5, "automl_enabled": rng.random() < 0.7}
    if name == "optimizer":
        return {
            "enum": ["AdamW", "SGD"],
            "type": "string",
            "default": "SGD",
            "automl_enabled": rng.random() < 0.5,
        }
    made = rng.choice([number, number, number, choice, several, optional, reference])
    return {**made(rng), "automl_enabled": True}


def number(rng: random.Random) -> dict[str, Any]:
    whole = rng.random() < 0.5
    found: dict[str, Any] = {"type": rng.choice(["int", "integer"] if whole else ["float", "number"])}
    low, high = sorted(end(rng, whole) for _ in range(2))
    if rng.random() < 0.6:
        found[rng.choice(["minimum", "minimum", "exclusiveMinimum"])] = low
    if rng.random() < 0.6:
        found[rng.choice(["maximum", "maximum", "exclusiveMaximum"])] = rng.choice([high, high, 1e12])
    if rng.random() < 0.7:
        found["default"] = rng.choice(
            [low, high, end(rng, whole), (low + high) // 2 if whole else (low + high) / 2]
        )
    if rng.random() < 0.25:
        found["math_cond"] = rng.choice(["> 0", ">0.0", ">= 1", "!= 0", "> 0.0 <= 1.0", "^ 2", "/ 8", "/2"])
    if rng.random() < 0.1:
        found["multipleOf"] = rng.choice([1, 4, 0.25])
    return found


def end(rng: random.Random, whole: bool) -> float:
    if whole:
        return rng.choice([0, 1, 2, 6, 64, rng.randint(-50, 500)])
    value = rng.choice([0.0, 1.0, 0.9, rng.uniform(-2, 100), 10 ** rng.uniform(-9, -2), rng.random()])
    return float(f"{value:.4g}")


def choice(rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(["categorical", "ordered", "ordered_int", "string", "bool"])
    if kind == "bool":
        return {"type": "bool", "default": rng.random() < 0.5}
    options = (
        rng.sample(range(1, 513), 4)
        if kind == "ordered_int"
        else rng.sample(["a", "b", "c", "deep", "x y"], 3)
    )
    found = {"type": kind, "enum": options[: rng.randint(1, 4)]}
    return {**found, "default": found["enum"][0]} if rng.random() < 0.6 else found


def several(rng: random.Random) -> dict[str, Any]:
    """A list of numbers or options."""
    if rng.random() < 0.3:
        return {"type": "subset_list", "enum": ["q", "k", "v", "all"], "default": ["q", "v"]}
    lists = [[0.9, 0.999], [1.0, 2.0], [480, 512, 544], [8], [6, 10], [0.1, 0.2, 0.3, 0.4, 0.5], [3, 2, 1]]
    return {"type": "list", "default": rng.choice(lists)}


def optional(rng: random.Random) -> dict[str, Any]:
    node = number(rng)
    default = node.pop("default", None) if rng.random() < 0.5 else None
    return {"anyOf": [node, {"type": "null"}], "default": default}


def reference(rng: random.Random) -> dict[str, Any]:
    return {"$ref": "#/$defs/share", "default": rng.choice([0.0, 0.1, 0.5, 0.95, 1.0])}
