"""Schemas in TAO's dialect, real ones and the zoo's, under a checker that shares no code with the compiler."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from automl import bundle
from automl.space import Parameter, SearchSpace, compile_space, load_schema
from automl.space.codecs import label
from automl.space.leaf import is_number
from automl.space.ranges import place
from tests.automl.space.checker import leaves, violations
from tests.automl.space.zoo import MODELS, STANDARD, nested

HERE = Path(__file__).resolve()


def real_documents() -> dict[str, dict[str, Any]]:
    """The schemas beside the repository, where they are, and our own."""
    files = next(filter(None, (sorted(p.glob("shared/tao_schemas/*.json")) for p in HERE.parents[4:])), [])
    found = {path.name.split(".")[0]: load_schema(path) for path in files}
    return found | {"our own": bundle.resolve("deformable_detr").schema("train")}


REAL = real_documents()
DOCUMENTS = REAL | {name: document for name, document in MODELS.items() if document is not STANDARD}
NAMES = sorted(DOCUMENTS)


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def space(name: str) -> SearchSpace:
    return compile_space(DOCUMENTS[name])


def test_no_draw_is_invalid(name: str, space: SearchSpace) -> None:
    """Ten thousand draws of the real schemas, one thousand of the others."""
    assert len(space.parameters) >= 5
    drawn = space.sample(10_000 if name in REAL else 1000, seed=1)
    assert [v for params in drawn for v in violations(DOCUMENTS[name], params)] == []


def test_what_a_database_holds_under_a_parameters_own_name_is_its_value(
    name: str, space: SearchSpace
) -> None:
    """An index, a fraction and 1 - x have names that say so."""
    for params in [space.default, *space.sample(20, seed=3)]:
        for stored, value in space.enqueue_params(params).items():
            if stored in params:
                assert (
                    value == pytest.approx(params[stored])
                    if is_number(value)
                    else value == label(params[stored])
                )


def test_the_ends_of_every_axis_are_valid(name: str, space: SearchSpace) -> None:
    for end in (0.0, 1.0):
        assert violations(DOCUMENTS[name], space.decode([end] * space.dimensions)) == []
        for axis in range(space.dimensions):
            point = [1 - end] * space.dimensions
            point[axis] = end
            assert violations(DOCUMENTS[name], space.decode(point)) == []


def test_with_any_parameter_fixed(name: str, space: SearchSpace) -> None:
    """At its default and at either end, or at every option."""
    for parameter in space.parameters:
        for value in telling_values(parameter):
            fixed = compile_space(DOCUMENTS[name], fix=[f"{parameter.name}={json.dumps(value)}"])
            assert parameter.name not in fixed.default
            drawn = fixed.sample(60 if name in REAL else 20, seed=2)
            base = {parameter.name: value}
            assert [v for params in drawn for v in violations(DOCUMENTS[name], params, base)] == []


def telling_values(p: Parameter) -> Iterator[Any]:
    yield p.default
    if p.kind in ("int", "float"):
        yield from (p.low, p.high)
    elif p.kind not in ("list", "subset"):
        yield from p.choices


@pytest.mark.parametrize("classes", [2, 91])
def test_with_few_and_many_classes(name: str, classes: int) -> None:
    if "dataset.num_classes" not in leaves(DOCUMENTS[name]):
        return
    base = {"dataset.num_classes": classes}
    space = compile_space(DOCUMENTS[name], nested(base))
    drawn = space.sample(10_000 if name in REAL else 1000, seed=3)
    assert [v for params in drawn for v in violations(DOCUMENTS[name], params, base)] == []


def test_flagged_leaves_are_searched_or_left_out_with_a_reason(name: str, space: SearchSpace) -> None:
    flags = {n: leaf.get("automl_enabled") for n, leaf in leaves(DOCUMENTS[name]).items()}
    flagged = {n for n, value in flags.items() if value in (True, "TRUE")}
    assert {p.name for p in space.parameters} | dict(space.left_out).keys() == flagged
    assert all(p.why for p in space.parameters)
    assert all(reason for _, reason in space.left_out)


def test_the_default_is_a_point_in_the_middle_90_percent(name: str, space: SearchSpace) -> None:
    """Or sits where the schema has its edge, or a note says what was used instead."""
    assert space.decode(space.encode(space.default)) == space.default
    known = leaves(DOCUMENTS[name])
    for p in space.parameters:
        noted = any(note.startswith(f"{p.name}: ") for note in space.notes)
        written = p.default == known[p.name].get("default") or isinstance(known[p.name].get("default"), str)
        assert noted or written, p.name
        if p.kind in ("int", "float") and not noted:
            edges = [float(known[p.name][k]) for k in ("minimum", "maximum") if k in known[p.name]]
            middle = 0.05 <= place(p.default, p.low, p.high, p.scale, whole=False) <= 0.95
            assert middle or p.default in edges, p


def test_a_space_can_be_pickled_and_has_the_same_digest(name: str, space: SearchSpace) -> None:
    again = pickle.loads(pickle.dumps(space))
    assert again == space
    assert again.digest == compile_space(DOCUMENTS[name]).digest == space.digest
    assert again.sample(20, seed=9) == space.sample(20, seed=9)


@pytest.mark.parametrize("which", sorted(set(REAL) & {"deformable_detr", "our own"}))
def test_learning_rates_are_drawn_within_a_decade_of_the_default(which: str) -> None:
    drawn = compile_space(DOCUMENTS[which]).sample(2000, seed=4)
    assert sum(2e-5 <= params["train.optim.lr"] <= 2e-3 for params in drawn) >= 0.8 * len(drawn)


def test_standard_json_schema_under_its_own_validator() -> None:
    space = compile_space(STANDARD)
    validator = jsonschema.Draft202012Validator(STANDARD)
    assert len(space.parameters) == 13
    for params in [*space.sample(500, seed=5), space.default]:
        assert [error.message for error in validator.iter_errors(nested(params))] == []
    assert space.default["lr"] == 0.001
