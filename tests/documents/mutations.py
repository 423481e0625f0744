"""Documents damaged in the ways that hands, editors and enemies damage them; each draw is fixed by its seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import yaml

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 10**12, 10**30, -0.5, 1e-300, 1e308, float("inf"), float("nan"), "", " ", "x", "???",
    "0.5", "1e-4", "../..", "/dev/null", "a\x00b", "é" * 300, "[/b]", "${HOME}", "{}", [], [[]], [None], [1, "a"], ["x"], [-1],
    [0.5], [10**12], {}, {"a": {}}, {"x": 1}, {"image_dir": 5}, {"json_file": None}, [{"image_dir": 5}], [{"image_dir": None, "json_file": 3}],
)  # fmt: skip
LINES = (
    "? [a]\n: 1\n", "1: 2\n", "on: off\n", "null: 1\n", "a: &a [*a]\n", "b: !!set {x}\n", "c: 2020-01-01\n", "train: [\n",
    "train: 3\n", "\tx: 1\n", "- 1\n", "---\n", "...\n", "d: !!python/object:os.system x\n", "e: !!binary aGk=\n",
    "f: " + "[" * 5000 + "\n", "g: " + "9" * 400 + "\n", "<<: *nobody\n", "h: '\n", "%TAG ! x\n", "\x00", "\ufeff", "search: 3\n",
    "search: {train.optim.lr: [1, 2]}\n", "search: {fix: 1}\n", "automl_policy: [1]\n", "automl_policy: off\n", "a.b: 1\n", "train.num_epochs: 3\n",
)  # fmt: skip


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in a document."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path] + [way for key, value in inner for way in places(value, (*path, key))]


def with_odd_value(document: Any, draw: random.Random) -> Any:
    """A copy with one to three values replaced, renamed or removed."""
    changed = copy.deepcopy(document)
    for _ in range(draw.randint(1, 3)):
        ways = places(changed)[1:]
        if not ways:
            return changed
        *above, last = draw.choice(ways)
        node = changed
        for key in above:
            node = node[key]
        what = draw.random()
        if what < 0.1:
            node.pop(last)
        elif what < 0.2 and isinstance(node, dict):
            node[draw.choice(["", "x", str(last)[:-1], f"{last}_", "a.b", "é"])] = node.pop(last)
        else:
            node[last] = copy.deepcopy(draw.choice(ODD))
    return changed


def damaged_text(text: str, draw: random.Random) -> bytes:
    """A text with a piece cut, doubled, overwritten with noise, or an odd line in it."""
    lines = text.splitlines(keepends=True)
    at, kind = draw.randrange(max(1, len(text))), draw.randrange(6)
    if kind == 0:
        return text[:at].encode()
    if kind == 1:
        return (text[:at] + text[at // 2 :]).encode()
    if kind == 2:
        return text[:at].encode() + draw.randbytes(draw.randint(1, 8)) + text[at:].encode()
    if kind == 3:
        return (text[:at] + draw.choice("[]{}:,&*!|>'\"%@`#-?\n\t ") + text[at + 1 :]).encode()
    line = draw.choice(LINES)
    where = draw.randrange(len(lines) + 1)
    return "".join([*lines[:where], line, *lines[where:]]).encode()


def mutated_yaml(document: Any, seed: int, dump: Callable[[Any], str] = yaml.safe_dump) -> bytes:
    """A damaged YAML document, in its values or in its text."""
    draw = random.Random(seed)
    if draw.random() < 0.65:
        return dump(with_odd_value(document, draw)).encode()
    return damaged_text(dump(document), draw)
