"""Options with numbers among them keep to limits and relations as numbers do, whatever their weights, null or not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from automl.errors import SpaceError
from automl.space import SearchSpace, compile_space
from tests.automl.space.test_requests import SCHEMA, parameter
from tests.automl.space.zoo import pick, whole


def document(leaves: dict[str, Any]) -> dict[str, Any]:
    return {"properties": leaves}


def options(*values: Any, weights: Any = None) -> dict[str, Any]:
    more = {} if weights is None else {"option_weights": weights}
    return {"valid_options": list(values), **more}


def check(space: SearchSpace, count: int = 400) -> list[dict[str, Any]]:
    """Draws, all of them valid, and the way back from each."""
    drawn = space.sample(count, seed=3)
    for params in [space.default, *drawn, *space.sample(50, prior=True)]:
        assert space.validate(params) == []
        assert space.decode(space.encode(params)) == params
    return drawn


def bounded(*values: Any, op: str = "<=", **more: Any) -> dict[str, Any]:
    kind = {"type": ["integer", "null"] if None in values else "integer"}
    return {**kind, "enum": list(values), "automl_enabled": True, "depends_on": f"{op} b", **more}


@pytest.mark.parametrize("weights", [None, [1, 1, 1]])
def test_the_data_s_limit_holds_for_weighted_options(weights: Any) -> None:
    asked = {"dataset.batch_size": options(2, 4, 64, weights=weights)}
    space = compile_space(SCHEMA, search=asked, limits={"dataset.batch_size": 10})
    assert {params["dataset.batch_size"] for params in space.sample(60)} == {2, 4}
    assert any(
        "64 is left out: dataset.batch_size: the data allow at most 10" in note for note in space.notes
    )


def test_the_data_s_limit_holds_for_a_choice_of_numbers_and_beside_null() -> None:
    leaves = {"a": pick(64, 16, 32, 64, on=True), "b": bounded(8, 64, None, default=None, depends_on=None)}
    space = compile_space(document(leaves), limits={"a": 40, "b": 40})
    assert {params["a"] for params in space.sample(60)} == {16, 32}
    assert {params["b"] for params in space.sample(60)} == {8, None}
    assert space.default == {"a": 32, "b": None}


def test_values_without_weight_are_not_said_to_be_left_out() -> None:
    asked = {"dataset.batch_size": options(2, 3, 4, 64, weights=[1, 0, 1, 1])}
    space = compile_space(SCHEMA, search=asked, limits={"dataset.batch_size": 10})
    (said,) = [note for note in space.notes if "left out" in note]
    assert ": 64 is left out" in said


def test_weighted_options_keep_their_relation_and_their_shares() -> None:
    schema = document({"a": whole(8, 1, 64, depends_on="<= b"), "b": whole(32, 16, 64)})
    space = compile_space(schema, search={"a": options(8, 16, 64, weights=[1, 1, 2])})
    drawn = check(space, 4000)
    assert {params["b"] for params in drawn} == set(range(16, 65))
    assert parameter(space, "a").condition == "<= b"
    shares = Counter(params["a"] for params in drawn if params["b"] < 64)
    assert shares.keys() == {8, 16}
    assert shares[8] == pytest.approx(shares[16], rel=0.15)
    top = Counter(params["a"] for params in drawn if params["b"] == 64)
    assert top[64] == pytest.approx(sum(top.values()) / 2, rel=0.4)


def test_weighted_options_of_a_selection_and_of_what_it_selects_from() -> None:
    asked = {"model.num_select": options(100, 300, 900, weights=[1, 1, 1])}
    for more in ({}, {"model.num_queries": options(100, 300, 900, weights=[2, 1, 1])}):
        space = compile_space(
            SCHEMA, tune=[] if more else ["model.num_queries=100,300,900"], search=asked | more
        )
        drawn = check(space)
        assert all(params["model.num_select"] <= params["model.num_queries"] for params in drawn)
        assert len({tuple(params.values()) for params in drawn}) > 5


def test_weighted_options_are_narrowed_by_what_is_fixed_and_make_room() -> None:
    leaves = {"a": whole(20, 20, 64, depends_on="<= b"), "b": whole(64, 1, 64, on=False)}
    asked = {"a": options(20, 32, 64, weights=[1, 1, 1])}
    space = compile_space(document(leaves), fix=["b=40"], search=asked)
    assert {params["a"] for params in check(space)} == {20, 32}
    assert any("64 is left out: a: must be an integer in [20, 40]" in note for note in space.notes)
    right = compile_space(document(leaves), search={"b": options(16, 32, 64, weights=[1, 1, 1])})
    assert {params["b"] for params in check(right)} == {32, 64}


def test_the_steps_of_a_schedule_stay_inside_a_weighted_length() -> None:
    asked = {"train.num_epochs": options(6, 12, 24, weights=[1, 1, 1])}
    tune = ["train.optim.lr_steps", "train.optim.lr_scheduler"]
    for params in compile_space(SCHEMA, tune=tune, search=asked).sample(300, seed=4):
        assert params.get("train.optim.lr_steps", [0])[-1] < params["train.num_epochs"]


@pytest.mark.parametrize("op", ["<=", ">=", "<", "!=", "=="])
def test_options_beside_null_keep_their_relation(op: str) -> None:
    a = bounded(16, 32, 64, None, op=op, default=16)
    b = bounded(8, 16, 32, 64, 128, depends_on=None, default=32)
    drawn = check(compile_space(document({"a": a, "b": b})))
    assert {params["a"] for params in drawn} == {16, 32, 64, None}
    assert min(params["b"] for params in drawn) == 8  # null needs no room


@pytest.mark.parametrize("other", [None, "auto"])
def test_a_number_may_be_anything_beside_null_or_a_word(other: Any) -> None:
    b = {"enum": [16, 32, other], "default": 32, "automl_enabled": True}
    space = compile_space(document({"a": whole(20, 1, 100, depends_on="<= b"), "b": b}))
    drawn = check(space)
    assert max(params["a"] for params in drawn if params["b"] == other) > 32
    assert parameter(space, "a").high == 100


@pytest.mark.parametrize(("fixed", "left"), [(40, {16, 32, None}), (8, set())])
def test_what_is_fixed_narrows_options_beside_null(fixed: int, left: set[Any]) -> None:
    leaves = {"a": bounded(16, 32, 64, None, default=None), "b": whole(64, 1, 64)}
    space = compile_space(document(leaves), fix=[f"b={fixed}"])
    assert {params["a"] for params in space.sample(60) if params} == left
    assert left or dict(space.left_out)["a"] == "null is the only valid value"
    turned = {
        "a": whole(64, 1, 64, depends_on="<= b"),
        "b": bounded(16, 64, None, depends_on=None, default=64),
    }
    space = compile_space(document(turned), fix=["a=40"])
    assert {params["b"] for params in check(space)} == {64, None}


def test_a_default_that_a_relation_forbids_is_replaced_by_the_nearest_number() -> None:
    space = compile_space(document({"a": bounded(16, 32, 64, None, default=64), "b": bounded(16, 32, default=16)
                                    | {"depends_on": None}}))  # fmt: skip
    assert space.default == {"a": 16, "b": 16}
    check(space)


def test_what_cannot_be_kept_for_every_draw_is_refused() -> None:
    schema = document({"a": whole(8, 1, 64, depends_on="== b"), "b": whole(32, 16, 64)})
    with pytest.raises(SpaceError, match="cannot be kept for every draw: fix one of the two"):
        compile_space(schema, search={"a": options(16, 32, weights=[1, 2])})


@pytest.mark.parametrize("values", [("p", "q"), (16, 32), (None, 3), (None, "p"), (0.5, "p")])
def test_options_of_which_one_has_weight_are_no_search(values: tuple[Any, Any]) -> None:
    node = {"enum": list(values), "default": values[0], "automl_enabled": True}
    first = compile_space(document({"a": node | {"option_weights": [1, 0]}, "b": whole(3, 1, 9)}))
    text = "null" if values[0] is None else values[0]
    assert dict(first.left_out) == {"a": f"{text} is the only value with a weight"}
    assert [p.name for p in first.parameters] == ["b"]
    second = compile_space(document({"a": node | {"option_weights": [0, 1]}}))
    assert second.sample(3) == [{"a": values[1]}] * 3
    with pytest.raises(
        SpaceError, match="search: a: a cannot be searched: .* is the only value with a weight"
    ):
        compile_space(document({"a": node}), search={"a": options(*values, weights=[1, 0])})


def test_lists_of_which_one_has_weight_are_no_search() -> None:
    schema = document({"a": {"type": "array", "items": {"type": "integer"}, "default": [1, 2]}})
    asked = {"a": options([1, 2], [3, 4], weights=[1, 0])}
    with pytest.raises(SpaceError, match="a cannot be searched"):
        compile_space(schema, search=asked)
    asked = {"a": options([1, 2], [3, 4], [5, 6], weights=[1, 0, 3])}
    (a,) = compile_space(schema, search=asked).parameters
    assert a.choices == ([1, 2], [5, 6])
    assert a.axes[0].shares == (0.25, 0.75)
