"""What matters only beside some values of another parameter is searched where those can be drawn, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from automl.space import SearchSpace, compile_space
from tests.automl.space.test_requests import parameter
from tests.automl.space.zoo import flag, pick, real, whole


def space_of(k: dict[str, Any], *values: Any, **asked: Any) -> SearchSpace:
    """A space of `k` and of v, which matters while k is one of the values."""
    leaves = {"k": k, "v": real(0.5, 0, 1, active_when={"k": list(values)}), **asked.pop("more", {})}
    return compile_space({"properties": leaves}, **asked)


def check(space: SearchSpace, *values: Any) -> None:
    """v is drawn beside these values, each of which is drawn, and beside no other."""
    drawn = space.sample(300, seed=2)
    assert {params["k"] for params in drawn if "v" in params} == set(values)
    assert not any(params["k"] in values for params in drawn if "v" not in params)
    assert parameter(space, "v").condition.startswith("only while k is ")
    for params in drawn[:50]:
        assert space.decode(space.encode(params)).keys() == params.keys()


@pytest.mark.parametrize(
    "k", [whole(1, 0, 4), whole(0, 0, 4), whole(2, 1, 9, multipleOf=1), pick(1, 0, 1, 2, 4, on=True)]
)
def test_a_condition_on_a_number_s_value(k: dict[str, Any]) -> None:
    check(space_of(k, 1, 2), 1, 2)
    check(space_of(k, 1, 2, tune=["v"]), 1, 2)
    check(space_of(k, 1, 77), 1)


@pytest.mark.parametrize("values", [(7,), (0.5,), (None,), (True,), ("1",)])
def test_values_that_a_number_cannot_have_are_left_out_and_said(values: tuple[Any, ...]) -> None:
    space = space_of(whole(1, 0, 4), *values)
    assert dict(space.left_out) == {"v": "it has no effect for any searched value of k"}
    space = space_of(whole(1, 0, 4), *values, tune=["v"])
    assert "v is searched as asked, though it has no effect for any searched value of k" in space.notes
    assert all("v" in params for params in space.sample(20))


@pytest.mark.parametrize(
    ("k", "asked"),
    [
        (pick(1, 1, 2, 4, on=True), {"limits": {"k": 2}}),
        (whole(1, 1, 9), {"limits": {"k": 2}}),
        (whole(1, 1, 9), {"tune": ["k=1:3"]}),
        (whole(1, 1, 9, enum=[1, 2, 4]), {"tune": ["k=1:3"]}),
        (whole(1, 1, 9, depends_on="<= m"), {"more": {"m": whole(3, 3, 3)}}),
        (whole(1, 1, 9, depends_on="<= m"), {"more": {"m": whole(2, 1, 3)}}),
        (whole(100, 1, 1000, search={"low": 50, "high": 200}), {}),
        (pick(1, 1, 2, 4, on=True), {"search": {"k": {"option_weights": [1, 1, 0]}}}),
    ],
)  # fmt: skip
def test_what_is_left_of_the_values_decides(k: dict[str, Any], asked: dict[str, Any]) -> None:
    space = space_of(k, 4, **asked)
    assert dict(space.left_out)["v"] == "it has no effect for any searched value of k"
    assert "k" in space.default
    assert not any("v" in params for params in space.sample(50))


def test_a_value_that_turns_out_to_be_the_only_one_decides_too() -> None:
    space = space_of(pick(1, 1, 2, 4, on=True), 4, limits={"k": 1}, more={"x": flag()})
    assert dict(space.left_out) == {"k": "1 is the only valid value", "v": "it has no effect while k is 1"}


def test_what_depends_on_what_never_matters_goes_with_it() -> None:
    more = {"w": real(0.5, 0, 1, active_when={"s": [False]}), "s": flag(active_when={"v": [0.25]})}
    leaves = space_of(pick(1, 1, 2, 4, on=True), 4, limits={"k": 2}, more=more)
    assert {p.name for p in leaves.parameters} == {"k"}
    assert dict(leaves.left_out)["w"] == "it has no effect while s is true"
