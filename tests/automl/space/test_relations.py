"""Relations hold by construction: what is fixed narrows the rest to a fixpoint, and what two numbers share moves."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from automl.errors import SpaceError
from automl.space import compile_space, problems
from tests.automl.space.checker import COMPARE
from tests.automl.space.test_properties import same, space_or_error
from tests.automl.space.zoo import document, flag, leaf, real, whole


def below(other: str, default: Any = 6, low: Any = 1, high: Any = 10) -> dict[str, Any]:
    return whole(default, low, high, cond="< depends_on", depends_on=other)


def test_what_has_one_value_is_fixed_for_all_that_follow_from_it() -> None:
    """c is 4, so b < c is 3 at most, and a < b is 2 at most; each keeps an axis of its own where the other is fixed."""
    leaves = {"a": below("b", 1), "b": below("c", 3, 3, 9), "c": whole(4, 4, 4)}
    space = compile_space(document(leaves))
    assert dict(space.left_out) == {"b": "3 is the only valid value", "c": "4 is the only valid value"}
    (a,) = space.parameters
    assert (a.low, a.high, a.axes[0].kind) == (1, 2, "whole")


def test_a_single_value_that_is_not_the_base_s_stays_in_every_draw() -> None:
    space = compile_space(document({"a": below("b", 3), "b": whole(9, 4, 4)}))
    assert {params["b"] for params in space.sample(50)} == {4}
    assert {params["a"] for params in space.sample(50)} == {1, 2, 3}


def test_what_cannot_hold_says_what_would_have_to_be() -> None:
    with pytest.raises(SpaceError, match="a < b cannot hold: a would have to be < 2 and an integer in"):
        compile_space(document({"a": below("b", 6, 5), "b": whole(2, 2, 2)}))


@pytest.mark.parametrize("more", [{"depends_on": "model.num_queries"}, {}])
@pytest.mark.parametrize("pool", ["num_queries", "num_proposals"])
def test_what_is_selected_is_at_most_what_there_is(more: dict[str, str], pool: str) -> None:
    """Also where the base has more of it, as the relation is what the name means."""
    more = {key: value.replace("num_queries", pool) for key, value in more.items()}
    leaves = {f"model.{pool}": whole(100, 50, 900), "model.num_select": whole(300, 1, 900, **more)}
    for params in compile_space(document(leaves)).sample(500):
        assert params["model.num_select"] <= params[f"model.{pool}"]


@pytest.mark.parametrize(("fixed", "searched"), [(None, True), (600, False)])
def test_a_range_matters_while_nothing_fixes_it(fixed: int | None, searched: bool) -> None:
    leaves = {
        "data.crop_min": whole(300, 1, 600), "data.crop_max": whole(500, 1, 900),
        "data.fixed_crop": {"type": "int", "default": fixed, "nullable": True},
    }  # fmt: skip
    assert ({p.name for p in compile_space(document(leaves)).parameters} != set()) == searched


def test_an_element_that_is_pushed_aside_keeps_to_every_relation() -> None:
    leaves = {
        "low": real(0.0, None, 0.9), "mid": real(0.1, None, 0.5, cond="> depends_on", depends_on="low"),
        "top": real(25.0, None, None, cond="< depends_on", depends_on="mid"),
    }  # fmt: skip
    space = compile_space(document(leaves))
    for params in space.sample(1000):
        assert space.validate(params) == []


def test_what_a_reference_says_by_all_of_counts_too() -> None:
    """A $ref and an allOf beside it both hold, and so does the allOf of what is referred to."""
    schema = {
        "$defs": {"small": {"maximum": 5}, "share": {"type": "number", "allOf": [{"$ref": "#/$defs/small"}]}},
        "properties": {"x": {"$ref": "#/$defs/share", "allOf": [{"minimum": 1}], "default": 2}},
    }
    wrong = [dict(problems({"x": value}, schema)).get("x") for value in (0, 3, 6)]
    assert wrong == [
        "x must be a number in [1, 5], but got 0",
        None,
        "x must be a number in [1, 5], but got 6",
    ]


@pytest.mark.parametrize("default", [0.26112345678901234, 5e11 / 3, 1.0])
@pytest.mark.parametrize("op", ["==", ">=", "<="])
def test_relations_hold_to_the_last_digit(op: str, default: float) -> None:
    bound = {"cond": f"{op} depends_on", "depends_on": "y"}
    space = compile_space(document({"x": real(default, None, None, **bound), "y": real(default, None, None)}))
    for params in [space.default, *space.sample(200)]:
        assert COMPARE[op](params["x"], params["y"])


@pytest.mark.parametrize(
    "says", [{"cond": "> b"}, {"depends_on": "> b"}, {"cond": "> depends_on", "depends_on": "b"}]
)
@pytest.mark.parametrize("other", ["b", "train.b"])
def test_what_is_not_searched_keeps_its_relation_however_it_is_stated(
    says: dict[str, str], other: str
) -> None:
    says = {key: re.sub(r"\bb$", other, value) for key, value in says.items()}
    schema = document({"a": whole(3, 1, 10, on=False, **says), other: whole(0, 0, 5)})
    assert {params[other] for params in compile_space(schema).sample(100)} == {0, 1, 2}
    with pytest.raises(SpaceError, match=f"a > {other} does not hold: a is 2, {other} is 4"):
        compile_space(schema, fix=["a=2", f"{other}=4"])


@pytest.mark.parametrize("cond", ["> b >", "@ 3", 5, None, "", "> 0"])
def test_a_condition_that_cannot_be_read_stands_in_nobody_s_way(cond: Any) -> None:
    schema = document({"a": leaf("int", 3, math_cond=cond), "b": whole(0, 0, 5)})
    assert {params["b"] for params in compile_space(schema).sample(100)} == set(range(6))


@pytest.mark.parametrize("more", [[], [None]])
@pytest.mark.parametrize(("op", "low", "high"), [("<=", 9, 20), (">=", 0, 6), ("!=", 0, 20)])
def test_what_does_not_matter_counts_as_the_base_has_it(
    op: str, low: int, high: int, more: list[Any]
) -> None:
    """Also where 6 is the only number that it is searched at: the trainer has the base's 9 while s is false."""
    weights = [0, 1, *(1 for _ in more)]
    c = {"enum": [9, 6, *more], "default": 9, "automl_enabled": True, "option_weights": weights}
    c |= {"active_when": {"s": [True]}, "depends_on": f"{op} b"}
    space = compile_space({"properties": {"b": real(0.5 * (low + high), 0, 20), "c": c, "s": flag(False)}})
    drawn = space.sample(300, seed=1)
    assert {params.get("c", 9) for params in drawn} == {9, 6, *more}
    for params in drawn:
        assert space.validate(params) == []
        assert low <= params["b"] <= high
        assert params.get("c", 9) is None or COMPARE[op](params.get("c", 9), params["b"])


def test_what_no_value_can_keep_to_beside_what_does_not_matter_is_refused() -> None:
    a = whole(5, 1, 20, depends_on="== c", active_when={"s": [True]})
    with pytest.raises(SpaceError, match="a == c cannot hold: .* would have to be == "):
        compile_space({"properties": {"a": a, "c": whole(2, 16, 16), "s": flag(False)}})


def conditional(rng: random.Random) -> dict[str, Any]:
    """Numbers and options of numbers some of which matter only beside a switch or a choice, and relations of them that
    their defaults keep."""
    leaves: dict[str, Any] = {
        "s": flag(rng.random() < 0.5),
        "k": {"enum": ["x", "y", "z"], "default": "x", "automl_enabled": True},
    }
    for name in "abcd":
        low, high = sorted(rng.sample(range(20), 2))
        default = rng.randint(low, high)
        node = {
            "type": rng.choice(["integer", "number"]),
            "minimum": low,
            "maximum": high,
            "default": default,
        }
        if rng.random() < 0.3:
            options = {default, *rng.sample(range(low, high + 1), 2 if high - low > 1 else 1)}
            node = {"enum": [*sorted(options), *rng.choice([[], [None]])], "default": default}
            if rng.random() < 0.5:
                node["option_weights"] = [1, *(rng.randint(0, 1) for _ in node["enum"][1:])]
        when = rng.choice([{}, {"s": [True]}, {"s": [False]}, {"k": ["x"]}, {"k": ["y", "z"]}])
        leaves[name] = {**node, "automl_enabled": rng.random() < 0.9, "active_when": when}
    for left, right in (("b", "a"), ("c", "b"), ("c", "a"), ("d", "c"), ("a", "d")):
        ours, theirs = (leaves[name]["default"] for name in (left, right))
        good = [op for op in ("<", "<=", ">", ">=", "!=") if COMPARE[op](ours, theirs)]
        if rng.random() < 0.35:
            known = leaves[left].get("depends_on")
            leaves[left]["depends_on"] = ", ".join(filter(None, (known, f"{rng.choice(good)} {right}")))
    return {"properties": leaves}


@pytest.mark.parametrize("part", range(4))
def test_relations_hold_whatever_matters(part: int) -> None:
    """Against the base's value of what does not matter, which is what the trainer has."""
    found = [
        (schema, space_or_error(schema))
        for schema in map(conditional, map(random.Random, range(part * 100, part * 100 + 100)))
    ]
    assert sum(not isinstance(space, str) for _, space in found) > 50
    for schema, space in found:
        if isinstance(space, str):
            continue
        base = {name: node["default"] for name, node in schema["properties"].items()}
        for params in [space.default, *space.sample(30, seed=part)]:
            assert space.validate(params) == []
            assert same(space.decode(space.encode(params)), params)
            full = {**base, **params}
            for left, node in schema["properties"].items():
                for op, right in re.findall(r"(\S+) (\w)", node.get("depends_on", "")):
                    both = full[left], full[right]
                    assert None in both or COMPARE[op](*both), (left, op, right, params)
