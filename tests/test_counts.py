"""One thing is told in the singular: counts in messages come from one helper of the engine and one of the detector."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from automl.metric import counted
from model.data.problems import times_of
from model.deploy.points import Form
from model.errors import number_of

ROOT = Path(__file__).resolve().parents[1]
NOUNS = "boxes layers images trials epochs points classes files rows steps runs trainings objects processes queries"
NOUNS += " configurations labels folders splits nodes annotations GPUs"
PLURAL = re.compile(rf" ({'|'.join(NOUNS.split())})\b")
# Of at least two, and the key by which reports of any version find out that they were resampled alike.
NEVER_ONE = (
    "len(self.values) steps", "len(kept) classes with", "len(old) queries are ta", "len(beside) folders may",
    "len(metrics.data.labels) boxes, seed",
)  # fmt: skip


@pytest.mark.parametrize("count", [counted, number_of])
def test_one_is_singular(count: Any) -> None:
    assert [count(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


def test_other_plurals() -> None:
    assert [number_of(2, noun) for noun in ("query", "class", "box")] == ["2 queries", "2 classes", "2 boxes"]
    assert [counted(n, "GPU") for n in (0.5, 1.0, 2.0)] == ["0.5 GPUs", "1 GPU", "2 GPUs"]
    assert times_of(1, "boxes outside their image left out") == "1 box outside its image left out"
    assert times_of(1, "boxes that are there twice dropped") == "1 box that is there twice dropped"
    assert times_of(1, "boxes of images that are not listed") == "1 box of images that are not listed"
    assert times_of(2, "image ids that are names") == "2 image ids that are names"
    assert str(Form(1, 1, 32, 64, "FP32")) == "1 layer, 1 query, 64x32, FP32"


def lengths_before_plurals(source: str) -> list[str]:
    """Of f-strings such as `{len(found)} images are gone`, that part."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for a, b in pairwise(node.values if isinstance(node, ast.JoinedStr) else []):
            if not isinstance(a, ast.FormattedValue) or not isinstance(b, ast.Constant):
                continue
            length = isinstance(a.value, ast.Call) and ast.unparse(a.value.func) == "len"
            if length and PLURAL.match(str(b.value)):
                found.append(f"{ast.unparse(a.value)}{b.value}")
    return found


def test_no_length_stands_before_a_plural() -> None:
    assert lengths_before_plurals("f'{len(found)} images are gone'") == ["len(found) images are gone"]
    for path in (path for folder in ("automl", "model") for path in (ROOT / folder).rglob("*.py")):
        said = lengths_before_plurals(path.read_text())
        assert not [text for text in said if not text.startswith(NEVER_ONE)], path
