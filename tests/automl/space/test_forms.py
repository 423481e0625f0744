"""Forms that plain JSON Schemas take: what is read of them, and what is said of what is not."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from automl.errors import SpaceError
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


@pytest.mark.parametrize("form", ["$ref", "allOf", "anyOf", "properties"])
def test_a_section_s_default_counts_for_more_than_its_parts_own(form: str) -> None:
    """As the trainer's class has it: what a section is built with is there. What it does not name is its parts'."""
    name = {"type": "string"}
    inner = {"properties": {"rate": RATE, "mom": RATE}, "default": {"rate": 0.4, "mom": 0.6}}
    part = {"properties": {"rate": RATE, "mom": RATE, "name": name, "inner": inner}}
    schema: dict[str, Any] = {"$defs": {"part": part}}
    refer = {"$ref": "#/$defs/part"}
    node = {"$ref": refer, "allOf": {"allOf": [refer]}, "anyOf": {"anyOf": [refer, {"type": "null"}]}}
    node["properties"] = part
    given = {"rate": 0.3, "mom": "???", "name": "???", "inner": {"rate": 0.1}}
    schema["properties"] = {"part": {**node[form], "default": given}}
    wanted = {"rate": 0.3, "mom": 0.5, "inner": {"rate": 0.1, "mom": 0.6}}
    assert defaults(schema) == {"part": wanted}
    assert compile_space(schema).default["part.rate"] == 0.3
    assert compile_space(schema, {"part": {"rate": 0.2, "inner": {}}}).default["part.rate"] == 0.2


def test_a_mixture_of_kinds_is_told_as_such() -> None:
    kinds = [{"type": "integer", "minimum": 0, "maximum": 10}, {"type": "string", "enum": ["auto"]}]
    space = of(rate=RATE, warm={"oneOf": kinds, "default": "auto", "automl_enabled": True})
    assert dict(space.left_out) == {"warm": "a mixture of numbers and words needs options to choose from"}


PARTED = {
    "numbers": ([{"type": "integer", "maximum": 3}, {"type": "integer", "minimum": 10, "maximum": 30}], 2, 12),
    "reals": ([{"type": "number", "exclusiveMaximum": 0}, {"type": "number", "minimum": 5}], -1.5, 7.0),
    "lists": ([{"type": "array", "items": {"type": "integer", "maximum": high}} for high in (5, 50)], [2, 3], [7, 9]),
}  # fmt: skip


@pytest.mark.parametrize("kind", PARTED)
@pytest.mark.parametrize("key", ["oneOf", "anyOf"])
def test_of_alternatives_of_one_type_the_one_that_the_value_fits_is_searched(key: str, kind: str) -> None:
    """Trial 0 is the default configuration, whichever of them that is in; a spec's value counts for more than the
    schema's."""
    parts, first, second = PARTED[kind]
    for default, given in ((first, None), (second, None), (first, second), (second, first)):
        schema = {"properties": {"a": {key: parts, "default": default, "automl_enabled": True}}}
        space = compile_space(schema, None if given is None else {"a": given})
        both_fit = key == "oneOf" and kind == "lists"  # what is at most 5 is at most 50
        said = [
            "a: its oneOf is not modelled: what is drawn may fit several of them, which the schema forbids"
        ]
        assert (space.default, list(space.notes)) == (
            {"a": default if given is None else given},
            said * both_fit,
        )
        assert all(space.validate(params) == [] for params in space.sample(50))


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


@pytest.mark.parametrize(("key", "beside"), [("opt.lr", "opt"), ("a.b.c", "a"), ("a.b.c", "a.b")])
@pytest.mark.parametrize("inside", [True, False])
def test_a_key_with_a_dot_that_its_name_does_not_find_is_refused(key: str, beside: str, inside: bool) -> None:
    """Draws would be written elsewhere than the trainer reads them."""
    leaves = {key: RATE, beside: {"properties": {"wd": RATE}}}
    schema = {"properties": {"fit": {"properties": leaves}} if inside else leaves}
    name = f"fit.{key}" if inside else key
    if beside == "a.b":  # the longer key comes first: both are found
        space = compile_space(schema, defaults(schema))
        (params,) = space.sample(1)
        written = space.apply(defaults(schema), params)
        assert (written["fit"] if inside else written)[key] == params[name] != 0.5
        return
    with pytest.raises(SpaceError, match=f"{name}: the key '{key}' holds a dot, beside the key '{beside}'"):
        compile_space(schema, defaults(schema))
    leaves[key] = {**RATE, "automl_enabled": False}
    assert [p.name for p in compile_space(schema, defaults(schema)).parameters] == [
        name.removesuffix(key) + f"{beside}.wd"
    ]


def test_a_key_with_a_dot_that_the_spec_lacks_is_refused() -> None:
    bare = {key: value for key, value in RATE.items() if key != "default"}
    with pytest.raises(SpaceError, match="opt.lr: the key 'opt.lr' holds a dot, and is not in the spec"):
        compile_space({"properties": {"opt.lr": bare, "rate": RATE}}, {"rate": 0.5})


@pytest.mark.parametrize("unit", [2**53 + 2, 2**60, 2**70])
def test_bounds_of_a_real_number_hold_however_large_the_integers_that_they_are_written_as(unit: int) -> None:
    real = {
        "type": "number",
        "minimum": 2 * unit,
        "maximum": 3 * unit,
        "default": 2.5 * unit,
        "automl_enabled": True,
    }
    drawn = [params["a"] for params in of(a=real).sample(200)]
    assert 2 * unit <= min(drawn) < 2.1 * unit < 2.9 * unit < max(drawn) <= 3 * unit
    low = {
        "type": "number",
        "exclusiveMinimum": -unit,
        "maximum": 0,
        "default": -0.5 * unit,
        "automl_enabled": True,
    }
    assert all(-unit < params["a"] <= 0 for params in of(a=low).sample(200))
    schema = {"properties": {"a": {**real, "minimum": 0}}}
    asked = compile_space(schema, search={"a": {"valid_min": unit, "valid_max": 2 * unit}})
    assert all(unit <= params["a"] <= 2 * unit for params in asked.sample(50))


@pytest.mark.parametrize(
    "ends", [{"maximum": 1e17}, {"maximum": 2**60}, {"math_cond": "<= 1e18"}, {"minimum": -(2**60)}]
)
def test_an_integer_is_never_beyond_what_a_double_counts_exactly(ends: dict[str, Any]) -> None:
    """Also without a default, whatever form the bound is written in."""
    space = of(a={"type": "integer", "minimum": 0, **ends, "automl_enabled": True}, rate=RATE)
    assert all(abs(params["a"]) <= 2**53 for params in [space.default, *space.sample(100)])
    with pytest.raises(SpaceError, match=r"an end of an integer's range must be at most 2\*\*53"):
        compile_space({"properties": {"a": {"type": "integer"}}}, tune=["a=1:1e17"])
    whole = {"type": "array", "items": {"type": "integer"}, "default": [1, 2]}
    with pytest.raises(SpaceError, match=r"an end of an integer's range must be at most 2\*\*53"):
        compile_space({"properties": {"a": whole}}, search={"a": {"valid_max": 2**60}})
    hinted = {"type": "integer", "default": 5, "search": {"low": 1, "high": 2**60}, "automl_enabled": True}
    assert (of(a=hinted).parameters[0].low, of(a=hinted).parameters[0].high) == (1, 5)


@pytest.mark.parametrize("rest", [1e-3, 1e-9, 1e-11, 1e-12, 1e-14, 2**-53])
@pytest.mark.parametrize("open_end", [True, False])
def test_a_momentum_as_near_to_1_as_can_be_is_searched(rest: float, open_end: bool) -> None:
    """What is left to 1 is what counts while 12 digits tell it; beyond that it is searched as any other share."""
    ends = {"minimum": 0, "exclusiveMaximum" if open_end else "maximum": 1}
    decay = {"type": "number", **ends, "default": 1 - rest, "automl_enabled": True}
    (parameter,) = (space := of(ema_decay=decay)).parameters
    assert (parameter.scale == "log(1 - x)") == (rest >= 1e-11)
    assert space.notes == () or (open_end and rest < 1e-11)
    assert space.distributions
    for params in [space.default, *space.sample(200)]:
        assert space.validate(params) == []
        assert space.decode(space.encode(params)).keys() == params.keys()


def test_a_list_s_momentum_as_near_to_1_as_can_be_is_searched() -> None:
    betas = {
        "type": "array",
        "items": {"type": "number", "minimum": 0, "maximum": 1},
        "default": [0.9, 1 - 1e-14],
    }
    space = of(betas={**betas, "automl_enabled": True})
    assert space.distributions
    assert all(space.validate(params) == [] for params in [space.default, *space.sample(200)])


def test_a_default_of_null_that_is_an_option_is_not_replaced() -> None:
    size = {"type": ["integer", "null"], "minimum": 1, "default": None}
    space = compile_space({"properties": {"a": size, "rate": RATE}}, tune=["a=null,2,4"])
    assert (space.default["a"], space.notes) == (None, ())
    narrower = compile_space({"properties": {"a": size, "rate": RATE}}, tune=["a=2,4"])
    assert narrower.notes == ("a: its default is null; 4 is used instead",)


def test_decades_are_not_told_where_there_is_none() -> None:
    """6 to 10 is a fifth of one, however near the default is to the lower end."""
    cond = {"math_cond": "> depends_on", "depends_on": "b"}
    number = {"type": "number", "minimum": 0, "maximum": 10, "automl_enabled": True}
    schema = {"properties": {"a": {**number, "default": 5, **cond}, "b": {**number, "default": 1}}}
    (parameter,) = compile_space(schema, fix=["b=6"]).parameters
    assert parameter.why == "the default is near the lower end: log"
    (wide,) = of(a={**number, "default": 0.1}).parameters
    assert wide.why == "2.0 decades above the default: log, 10 times either way"
