"""Real schemas in TAO's dialect: ten thousand draws each, judged by a checker that shares no code with the compiler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from automl import bundle
from automl.space import compile_space, load_schema
from tests.automl.space.checker import leaves, violations

SHARED = Path(__file__).resolve().parents[4] / "shared" / "tao_schemas"
DRAWS = 10_000


def documents() -> dict[str, dict[str, Any]]:
    found = {path.name.split(".")[0]: load_schema(path) for path in sorted(SHARED.glob("*.json"))}
    return found | {"our own": bundle.resolve("deformable_detr").schema("train")}


DOCUMENTS = documents()
NAMES = sorted(DOCUMENTS)
PAIRS = [(name, p.name) for name in NAMES for p in compile_space(DOCUMENTS[name]).parameters]


def nested(leaf: str, value: Any) -> dict[str, Any]:
    for key in reversed(leaf.split(".")):
        value = {key: value}
    return value


@pytest.mark.parametrize("name", NAMES)
def test_no_draw_is_invalid(name: str) -> None:
    space = compile_space(DOCUMENTS[name])
    assert len(space.parameters) >= 6
    broken = [v for params in space.sample(DRAWS, seed=1) for v in violations(DOCUMENTS[name], params)]
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_the_ends_of_every_axis_are_valid(name: str) -> None:
    space = compile_space(DOCUMENTS[name])
    for end in (0.0, 1.0):
        assert violations(DOCUMENTS[name], space.decode([end] * space.dimensions)) == []
        for axis in range(space.dimensions):
            point = [1 - end] * space.dimensions
            point[axis] = end
            assert violations(DOCUMENTS[name], space.decode(point)) == []


@pytest.mark.parametrize(("name", "parameter"), PAIRS)
def test_with_any_parameter_fixed(name: str, parameter: str) -> None:
    """Fixed at both ends of its range and at its default."""
    free = next(p for p in compile_space(DOCUMENTS[name]).parameters if p.name == parameter)
    values = [free.default] + ([free.low, free.high] if free.kind in ("int", "float") else list(free.choices))
    for value in values:
        space = compile_space(DOCUMENTS[name], fix=[f"{parameter}={json.dumps(value)}"])
        assert parameter not in space.default
        base = {parameter: value}
        broken = [
            v for params in space.sample(400, seed=2) for v in violations(DOCUMENTS[name], params, base)
        ]
        assert broken == []


@pytest.mark.parametrize("classes", [2, 91])
@pytest.mark.parametrize("name", [n for n in NAMES if "dataset.num_classes" in leaves(DOCUMENTS[n])])
def test_with_few_and_many_classes(name: str, classes: int) -> None:
    space = compile_space(DOCUMENTS[name], nested("dataset.num_classes", classes))
    base = {"dataset.num_classes": classes}
    broken = [v for p in space.sample(DRAWS, seed=3) for v in violations(DOCUMENTS[name], p, base)]
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_flagged_leaves_are_searched_or_left_out_with_a_reason(name: str) -> None:
    space = compile_space(DOCUMENTS[name])
    flagged = {n for n, leaf in leaves(DOCUMENTS[name]).items() if leaf.get("automl_enabled") is True}
    assert {p.name for p in space.parameters} | dict(space.left_out).keys() >= flagged
    assert all(p.why for p in space.parameters)
    assert all(reason for _, reason in space.left_out)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_points_in_the_middle_90_percent(name: str) -> None:
    """Or sit where the schema has its edge."""
    space, known = compile_space(DOCUMENTS[name]), leaves(DOCUMENTS[name])
    assert space.decode(space.encode(space.default)) == space.default
    position = dict(
        zip([a.name for p in space.parameters for a in p.axes], space.encode(space.default), strict=True)
    )
    for p in space.parameters:
        edges = (known[p.name].get("minimum"), known[p.name].get("maximum"))
        noted = any(note.startswith(p.name) for note in space.notes)
        if p.kind in ("int", "float") and p.default not in edges and not p.relations and not noted:
            assert 0.05 <= position[p.axes[0].name] <= 0.95, p


def test_learning_rates_are_drawn_within_a_decade_of_the_default() -> None:
    for name in ("deformable_detr", "our own"):
        if name in DOCUMENTS:
            space = compile_space(DOCUMENTS[name])
            rates = [params["train.optim.lr"] for params in space.sample(2000, seed=4)]
            near = sum(2e-5 <= rate <= 2e-3 for rate in rates)
            assert near >= 0.8 * len(rates)
