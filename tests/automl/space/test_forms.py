"""Forms that plain JSON Schemas take: what is read of them, and what is said of what is not."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from automl.space import SearchSpace, compile_space
from automl.space.schema import Schema
from automl.spec import defaults

RATE = {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5, "automl_enabled": True}


def of(**properties: Any) -> SearchSpace:
    return compile_space({"properties": properties})


@pytest.mark.parametrize(
    "default",
    [[64, 64], [8, 8], [128, 128, 128], [256, 128, 64], [512, 256], [100, 100], [30, 30], [480, 512, 544]],
)
@pytest.mark.parametrize("ends", [(0, 4096), (1, 4096)])
def test_sizes_move_together_to_both_sides(default: list[int], ends: tuple[int, int]) -> None:
    items = {"type": "integer", "minimum": ends[0], "maximum": ends[1]}
    node = {"type": "array", "items": items, "default": default, "automl_enabled": True}
    (parameter,) = of(hidden=node).parameters
    drawn = {tuple(params["hidden"]) for params in of(hidden=node).sample(200)}
    assert parameter.default == default
    assert any(each[0] < default[0] for each in drawn)
    assert any(each[0] > default[0] for each in drawn)
    divisor = 8 if all(size % 64 == 0 for size in default) else 1
    assert all(size % divisor == 0 for each in drawn for size in each)
    falls = [a >= b for a, b in pairwise(default)]
    assert all([a >= b for a, b in pairwise(each)] == falls for each in drawn)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("if", {"properties": {"a": {"const": 1}}}),
        ("not", {"required": ["b"]}),
        ("oneOf", [{"required": ["a"]}, {"required": ["b"]}]),
        ("anyOf", [{"required": ["a"]}, {"required": ["b"]}]),
        ("dependentRequired", {"a": ["b"]}),
        ("dependencies", {"a": ["b"]}),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_a_keyword_that_relates_parameters_is_said_not_to_be_modelled(
    key: str, value: Any, inside: bool
) -> None:
    section = {"properties": {"a": RATE}, key: value}
    space = compile_space({"properties": {"part": section}} if inside else section)
    where = "part" if inside else "the schema"
    assert [f"'{key}' in {where} is not modelled" in note for note in space.notes] == [True]
    assert len(space.parameters) == 1


def test_a_constant_is_in_the_spec() -> None:
    schema = {
        "properties": {"version": {"const": 2}, "of": {"properties": {"kind": {"const": "x"}, "rate": RATE}}}
    }
    assert defaults(schema) == {"version": 2, "of": {"kind": "x", "rate": 0.5}}
    assert Schema(schema).problem("version", 3) is not None


def test_a_mixture_of_kinds_is_told_as_such() -> None:
    kinds = [{"type": "integer", "minimum": 0, "maximum": 10}, {"type": "string", "enum": ["auto"]}]
    space = of(rate=RATE, warm={"oneOf": kinds, "default": "auto", "automl_enabled": True})
    assert dict(space.left_out) == {"warm": "a mixture of numbers and words needs options to choose from"}


@pytest.mark.parametrize(
    "options", [{"enum": ["sgd", "adam", "lion"]}, {"oneOf": [{"const": c} for c in ("sgd", "adam", "lion")]}]
)
def test_options_are_read_in_every_form(options: dict[str, Any]) -> None:
    betas = {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}, "default": [0.9, 0.99]}
    space = of(
        name={**options, "default": "adam", "automl_enabled": True}, betas={**betas, "automl_enabled": True}
    )
    (condition,) = space.parameters[1].conditions
    assert (condition.name, condition.values) == ("name", ("adam", "lion"))


def test_a_range_that_was_moved_is_not_called_all_that_is_valid() -> None:
    (parameter,) = of(rate={**RATE, "exclusiveMinimum": 0, "maximum": 2, "default": 0.1}).parameters
    assert (parameter.high < 2) == ("what is valid" not in parameter.why)


@pytest.mark.parametrize("top", [2**53, 2**63 - 1, 2**70, None])
def test_integers_that_no_double_counts_are_not_drawn(top: int | None) -> None:
    ends = {"minimum": 1, **({} if top is None else {"maximum": top})}
    whole = {"type": "integer", "automl_enabled": True, **ends}
    space = of(
        rate=RATE,
        small={**whole, "default": 5},
        large={**whole, "default": 2**40},
        huge={**whole, "default": 2**53},
    )
    assert dict(space.left_out) == {"huge": "integers as large as its default are not searched"}
    assert space.every is None
    assert all(params["large"] <= min(top or 2**53, 2**53) for params in space.sample(200))
