"""Whatever the schema: every draw is valid, encode and decode are inverses, and a broken schema is one clear error."""

from __future__ import annotations

import copy
import json
import random
from itertools import pairwise
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automl import bundle
from automl.errors import SpaceError
from automl.fgp.cube import Cube
from automl.space import SearchSpace, compile_space
from tests.automl.space.checker import violations
from tests.automl.space.test_schemas import REAL as DOCUMENTS

LIMITS = {"deadline": None, "suppress_health_check": list(HealthCheck)}
NAMES = [
    "lr",
    "weight_decay",
    "momentum",
    "batch_size",
    "width",
    "depth",
    "drop_out",
    "gamma",
    "size",
    "alpha_weight",
]
INFINITE = float("inf")


def four_digits(x: float) -> float:
    return float(f"{x:.4g}") if abs(x) > 1e-12 else 0.0


@st.composite
def numbers(draw: Any) -> dict[str, Any]:
    """A number leaf in either dialect, with any mixture of bounds, a default anywhere, and perhaps a condition."""
    whole = draw(st.booleans())
    ends = (
        st.integers(-50, 500)
        if whole
        else st.one_of(st.floats(-2, 100), st.floats(1e-9, 1e-2)).map(four_digits)
    )
    low, high = sorted(draw(st.tuples(ends, ends)))
    leaf: dict[str, Any] = {
        "type": draw(st.sampled_from(["int", "integer"] if whole else ["float", "number"])),
        "automl_enabled": True,
    }
    if draw(st.booleans()):
        leaf["minimum"] = low
    if draw(st.booleans()):
        leaf["maximum"] = draw(st.sampled_from([high, high, INFINITE]))
    if draw(st.booleans()):
        leaf["default"] = draw(ends)
    condition = draw(
        st.sampled_from(["", "", "", "> 0", ">0.0", ">= 1", "!= 0", "> 0.0 <= 1.0", "^ 2", "/ 8", "/2"])
    )
    if condition:
        leaf["math_cond"] = condition
    return leaf


@st.composite
def choices(draw: Any) -> dict[str, Any]:
    kind = draw(st.sampled_from(["categorical", "ordered", "ordered_int", "string", "bool"]))
    if kind == "bool":
        return {"type": "bool", "default": draw(st.booleans()), "automl_enabled": True}
    values: Any = (
        st.integers(1, 512) if kind == "ordered_int" else st.sampled_from(["a", "b", "c", "deep", "x y"])
    )
    options = draw(st.lists(values, min_size=1, max_size=5, unique=True))
    leaf = {"type": kind, "enum": options, "automl_enabled": True}
    if draw(st.booleans()):
        leaf["default"] = draw(st.sampled_from(options))
    return leaf


@st.composite
def schemas(draw: Any) -> dict[str, Any]:
    """Ten leaves at most in two sections; some are bounded by another, in a chain at times."""
    leaves = {
        n: draw(st.one_of(numbers(), numbers(), choices())) for n in draw(st.sets(st.sampled_from(NAMES)))
    }
    numeric = sorted(n for n, leaf in leaves.items() if leaf["type"] in ("int", "integer", "float", "number"))
    for first, second in pairwise(numeric):
        if draw(st.integers(0, 3)) == 0 and "math_cond" not in leaves[second]:
            leaves[second]["math_cond"] = draw(
                st.sampled_from(
                    ["> depends_on", "<depends_on", ">= depends_on", "!= depends_on", "== depends_on", ""]
                )
            )
            before = "" if leaves[second]["math_cond"] else draw(st.sampled_from(["<", "> ", ">= "]))
            leaves[second]["depends_on"] = f"{before}train.{first}"
    return {"type": "object", "properties": {"train": {"type": "collection", "properties": leaves}}}


@settings(max_examples=150, **LIMITS)
@given(schemas(), st.integers(0, 2**31))
def test_every_draw_is_valid_and_round_trips(document: dict[str, Any], seed: int) -> None:
    check_draws(document, seed)


@pytest.mark.slow
@settings(max_examples=2000, **LIMITS)
@given(schemas(), st.integers(0, 2**31))
def test_every_draw_of_many_is_valid_and_round_trips(document: dict[str, Any], seed: int) -> None:
    check_draws(document, seed)


def check_draws(document: dict[str, Any], seed: int) -> None:
    found = space_or_error(document)
    if isinstance(found, str):
        assert "train." in found  # a contradiction, and it says where
        return
    draws_are_valid(found, document, seed)
    draws_are_valid(found.widest, document, seed)
    assert found.widest.default == found.default
    cube = Cube.of(found, [])
    for params in [found.default, *found.sample(5, seed)]:
        at = cube.point(found.widest.enqueue_params(params))
        assert np.all(np.isnan(at) | cube.options | ((at > -1e-6) & (at < 1 + 1e-6)))
        assert same(cube.values(found, at), params)


def draws_are_valid(space: SearchSpace, document: dict[str, Any], seed: int) -> None:
    base = {name: value for name, value in space.base if value is not None}
    for params in space.sample(20, seed):
        assert violations(document, params, base) == []
        assert space.validate(params) == []
        again = space.decode(space.encode(params))
        assert same(again, params), (again, params)
    assert same(space.decode(space.encode(space.default)), space.default)
    assert violations(document, space.default, base) == []
    suggested_exactly(space, space.default)


def space_or_error(document: dict[str, Any]) -> SearchSpace | str:
    try:
        return compile_space(document)
    except SpaceError as error:
        return str(error)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Equal but for the last digits of floats."""
    return a.keys() == b.keys() and all(
        a[n] == pytest.approx(b[n], rel=1e-9, abs=1e-12) if isinstance(b[n], float) else a[n] == b[n]
        for n in b
    )


def suggested_exactly(space: SearchSpace, params: dict[str, Any]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    study.enqueue_trial(space.enqueue_params(params))
    assert same(space.suggest(study.ask()), params)


@settings(max_examples=20, **LIMITS)
@given(st.lists(st.floats(0, 1), min_size=40, max_size=40))
def test_any_point_of_the_cube_is_a_valid_configuration(point: list[float]) -> None:
    for document in DOCUMENTS.values():
        space = compile_space(document)
        assert violations(document, space.decode(point[: space.dimensions])) == []


JUNK: list[Any] = [
    None, "", "0.5", "abc", "Infinity", -1, 0, 1e308, -1e308, float("inf"), float("nan"), True, "TRUE", [], [1], [1, 2],
    ["a"], {}, {"x": 1}, "> 0", "^ 0", "/ 0", "> depends_on", "<> 3", "train.optim.lr", "a.b,c.d", 10**400,
]  # fmt: skip
KEYS = ["minimum", "maximum", "default", "enum", "type", "math_cond", "depends_on", "automl_enabled", "option_weights",
        "multipleOf", "properties", "exclusiveMinimum", "anyOf", "$ref", "items", "const"]  # fmt: skip


def mutate(document: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A copy with one to three slips, anywhere."""
    broken = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        nodes = list(every_node(broken))
        node = rng.choice(nodes)
        key = rng.choice([*KEYS, *node])
        if rng.random() < 0.3:
            node.pop(key, None)
        else:
            node[key] = copy.deepcopy(rng.choice(JUNK))
    return broken


def every_node(node: dict[str, Any]) -> Any:
    yield node
    for child in node.values():
        if isinstance(child, dict):
            yield from every_node(child)


@pytest.mark.parametrize("count", [400, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_mutations_give_a_valid_space_or_one_clear_error(name: str, count: int) -> None:
    """So many in all, over the schemas at hand; half of them hit a flagged leaf, where it hurts."""
    rng = random.Random(name)
    errors = 0
    for i in range(count // len(DOCUMENTS) + 1):
        document = mutate(DOCUMENTS[name], rng) if i % 2 else mutate_flagged(DOCUMENTS[name], rng)
        space = space_or_error(document)
        if isinstance(space, str):
            errors += 1
            assert "\n" not in space
            assert names_a_path(space, document), space
            continue
        for params in space.sample(3, seed=i):
            assert space.validate(params) == []
            json.dumps(params)
    assert errors > 0


def mutate_flagged(document: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    broken = copy.deepcopy(document)
    flagged = [node for node in every_node(broken) if node.get("automl_enabled") is True]
    rng.choice(flagged)[rng.choice(KEYS)] = copy.deepcopy(rng.choice(JUNK))
    return broken


def names_a_path(text: str, document: dict[str, Any]) -> bool:
    words = text.replace(":", " ").replace("'", " ").split()
    return "the schema" in text or "schema" in words[:2] or any(word in text for word in paths(document))


def paths(node: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    children = node.get("properties")
    for key, child in (children if isinstance(children, dict) else {}).items():
        found.append(prefix + key)
        if isinstance(child, dict):
            found += paths(child, f"{prefix}{key}.")
    return found


def test_the_built_in_schema_is_among_them() -> None:
    assert DOCUMENTS["our own"] == bundle.resolve("deformable_detr").schema("train")


X: dict[str, Any] = {"automl_enabled": True, "depends_on": "train.y"}
Y: dict[str, Any] = {"automl_enabled": True}


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ({"type": "integer", "maximum": 12, "default": 12, "minimum": 1, "math_cond": "/ 8 != depends_on"}, {"type": "number", "minimum": 0.5, "default": 76, "math_cond": "^ 2"}),
        ({"type": "int", "maximum": 167, "default": 5, "math_cond": "^ 2 < depends_on"}, {"type": "number", "default": 53.0, "math_cond": ">= 1"}),
        ({"type": "number", "minimum": 0.0, "default": 0.5, "math_cond": "!= 0 <= depends_on"}, {"type": "float", "minimum": 0.0, "maximum": 4.0, "default": 4.0}),
        ({"type": "integer", "default": 6, "math_cond": "!= 0 < depends_on"}, {"type": "int", "maximum": 254, "default": 2, "math_cond": "^ 2"}),
        ({"type": "number", "default": 0.005, "math_cond": "== depends_on"}, {"type": "number", "maximum": 60.0, "default": 1e-8, "math_cond": "/ 2"}),
        ({"type": "float", "maximum": 0.7, "default": 0.5, "math_cond": "> 0.0 < depends_on"}, {"type": "float", "default": 4e-7}),
        ({"type": "float", "default": 0.66, "minimum": 0, "maximum": 1, "math_cond": "> depends_on"}, {"type": "float", "default": 0.99, "minimum": 0, "maximum": 1}),
        ({"type": "int", "default": 6, "minimum": 1, "maximum": 10, "math_cond": ">= depends_on"}, {"type": "int", "default": 100, "minimum": 1, "maximum": 1000}),
    ],
)  # fmt: skip
def test_a_range_that_moves_is_never_empty(x: dict[str, Any], y: dict[str, Any]) -> None:
    document = {"properties": {"train": {"properties": {"x": {**X, **x}, "y": {**Y, **y}}}}}
    space = compile_space(document)
    base = {"train.x": x["default"], "train.y": y["default"]}
    ends = [space.decode([a, b][: space.dimensions]) for a in (0, 1) for b in (0, 1)]
    for params in [*space.sample(300, seed=10), *ends]:
        assert violations(document, params, {**base, **dict(space.base)}) == []


@pytest.mark.parametrize("default", [[0.486, 0.66], [0.9, 0.95], [0.2, 0.9, 0.99]])
def test_shares_that_push_each_other_stay_shares(default: list[float]) -> None:
    betas = {"type": "list", "default": default, "automl_enabled": True}
    space = compile_space({"properties": {"train": {"properties": {"betas": betas}}}})
    for params in space.sample(500, seed=11):
        assert 0 <= params["train.betas"][0] < params["train.betas"][-1] < 1
        assert params["train.betas"] == sorted(params["train.betas"])
