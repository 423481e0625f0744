"""What stands elsewhere, in a $ref or an allOf, holds with what stands here; what a draw cannot keep to is told."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automl.errors import SpaceError
from automl.space import SearchSpace, compile_space
from automl.space.schema import Schema
from tests.automl.space.test_properties import space_or_error
from tests.automl.space.zoo import nested

ON = {"automl_enabled": True}
RATE = {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5, **ON}
NUMBERS = [-3, 0, 0.5, 1, 2, 2.5, 3, 4, 6, 8, 12]
WORDS = ["a", "bb", "ccc"]
# What a parameter may be: anything that the schemas below may leave of it.
CANDIDATES: list[Any] = [None, True, *(n / 4 for n in range(-20, 60)), *range(-5, 15), *WORDS]
CANDIDATES += [*([a] for a in NUMBERS), *([a, b] for a in NUMBERS for b in NUMBERS)]


def draws(space: SearchSpace, schema: dict[str, Any], count: int = 60) -> list[dict[str, Any]]:
    """Draws, none of which the schema forbids."""
    drawn = [space.default, *space.sample(count, seed=1)]
    validator = jsonschema.Draft202012Validator(schema)
    for params in drawn:
        assert [error.message for error in validator.iter_errors(nested(params))] == [], params
        assert space.validate(params) == []
    return drawn


def scalars() -> Any:
    """Some of what a schema may say of a number or a word."""
    types = st.sampled_from(
        ["number", "integer", ["number", "null"], ["integer", "string"], ["number", "string"]]
    )
    ends = {
        key: st.sampled_from(NUMBERS)
        for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
    }
    enum = st.lists(st.sampled_from([*NUMBERS, *WORDS, None, True]), min_size=1, max_size=8, unique_by=repr)
    lengths = {"maxLength": st.integers(1, 3), "pattern": st.sampled_from(["a", "^.b", "c$"])}
    more = {"multipleOf": st.sampled_from([0.5, 1.5, 2, 3]), "default": st.sampled_from([0, 1, 2.5, 6, "a"])}
    return st.fixed_dictionaries({}, optional={"type": types, "enum": enum, **ends, **lengths, **more})


def lists() -> Any:
    counts = {key: st.integers(0, 3) for key in ("minItems", "maxItems")}
    default = st.lists(st.sampled_from(NUMBERS), max_size=3)
    items = st.deferred(lambda: st.one_of(scalars(), composed(scalars())))
    keys = {"type": st.just("array"), "items": items, "uniqueItems": st.booleans(), "default": default}
    return st.fixed_dictionaries({}, optional={**keys, **counts})


def composed(part: Any) -> Any:
    """Some such parts by allOf, by anyOf and as they are, all of which hold."""
    parts = st.lists(part, min_size=1, max_size=3)
    return st.tuples(part, st.fixed_dictionaries({"allOf": parts}, optional={"anyOf": parts})).map(
        lambda both: {**both[0], **both[1]}
    )


@st.composite
def schemas(draw: Any) -> dict[str, Any]:
    """A parameter in a section, each of which is said in two places."""
    part = draw(st.sampled_from([scalars, lists]))()
    there, here, elsewhere = (draw(composed(part)) for _ in range(3))
    defs = {"leaf": there, "part": {"properties": {"x": {"$ref": "#/$defs/leaf"}}}}
    section = {"$ref": "#/$defs/part", "properties": {"x": {**here, **ON}}}
    whole = {"$defs": defs, "properties": {"s": section}}
    return {**whole, "allOf": [{"properties": {"s": {"properties": {"x": elsewhere}}}}]}


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(schemas())
def test_every_draw_keeps_to_all_that_is_said_of_it(schema: dict[str, Any]) -> None:
    found = space_or_error(schema)
    if isinstance(found, str):
        validator = jsonschema.Draft202012Validator(schema)
        assert found.startswith("s.x: ")
        kinds = {
            " satisfies ": (int, float),
            "minItems": list,
            "minLength": str,
        }  # of which the message speaks
        kind = next((kind for word, kind in kinds.items() if word in found), object)
        named = [value for value in CANDIDATES if isinstance(value, kind) and value is not True]
        if "anyOf" in json.dumps(schema):
            return  # one alternative that contradicts itself is told, whatever the others are
        assert not [v for v in named if validator.is_valid({"s": {"x": v}})], found
    else:
        draws(found, schema)


DEFS: dict[str, Any] = {"whole": {"type": "integer", "minimum": 1, "maximum": 9}, "part": {"properties": {"a": RATE, "b": RATE}}}  # fmt: skip


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"$ref": "#/$defs/whole", "type": "string"}, "type must be both 'integer' and 'string', which nothing is"),
        ({"allOf": [{"enum": [1, 2]}, {"enum": [3]}]}, "must be one of [1, 2] and one of [3], which nothing is"),
        ({"allOf": [{"const": "a"}, {"enum": ["b"]}]}, "must be one of ['a'] and one of ['b'], which nothing is"),
        ({"type": "number", "anyOf": [{"type": "string"}]}, "type must be both 'string' and 'number', which nothing is"),
        ({"$ref": "#/$defs/whole", "maximum": 0}, "no integer satisfies minimum 1, maximum 0"),
        ({"type": "array", "default": [1], "allOf": [{"minItems": 2}, {"maxItems": 1}]}, "minItems must be at most maxItems, but got 2 and 1"),
    ],
)  # fmt: skip
def test_what_cannot_both_hold_is_told_to_whoever_searches_it(node: dict[str, Any], message: str) -> None:
    schema = {"$defs": DEFS, "properties": {"x": node, "rate": RATE}}
    assert compile_space(schema).default == {"rate": 0.5}
    with pytest.raises(SpaceError) as refused:
        compile_space(schema, tune=["x"])
    assert str(refused.value) == f"x: {message}"


def test_a_section_that_is_said_in_two_places_has_what_both_say() -> None:
    own = {"a": {"maximum": 0.3, "default": 0.2}, "c": RATE}
    schema = {"$defs": DEFS, "properties": {"s": {"$ref": "#/$defs/part", "properties": own}}}
    space = compile_space(schema)
    assert space.default == {"s.a": 0.2, "s.b": 0.5, "s.c": 0.5}
    assert max(params["s.a"] for params in draws(space, schema)) <= 0.3


def test_a_node_s_own_default_counts_for_more_than_those_it_refers_to() -> None:
    schema = {
        "$defs": {"rate": RATE},
        "properties": {"x": {"allOf": [{"$ref": "#/$defs/rate"}], "default": 0.25}},
    }
    assert compile_space(schema).default == {"x": 0.25}


def test_alternatives_that_the_node_itself_forbids_are_none() -> None:
    alternatives = [{"type": "string"}, {"type": "integer", "minimum": 0, "maximum": 5}]
    schema = {"properties": {"x": {"type": "number", "anyOf": alternatives, "default": 1, **ON}}}
    assert {params["x"] for params in draws(compile_space(schema), schema)} == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize("form", ["anyOf", "allOf", "properties"])
def test_a_section_within_itself_is_gone_into_once(form: str) -> None:
    refer = {"$ref": "#/$defs/node"}
    inner = {"anyOf": {"anyOf": [refer, {"type": "null"}]}, "allOf": {"allOf": [refer]}, "properties": refer}[
        form
    ]
    node = {"properties": {"rate": RATE, "inner": inner}}
    schema = {
        "$defs": {"node": node},
        "properties": {"s": {**refer, "properties": {"inner": {"title": "again"}}}},
    }
    assert compile_space(schema).default == {"s.rate": 0.5}


@pytest.mark.parametrize(
    ("node", "left", "gone"),
    [
        ({"type": "integer", "enum": [1, 2, 2.5, "a", None]}, {1, 2}, "2.5, a, null"),
        ({"type": "string", "enum": ["a", "b", 1, True]}, {"a", "b"}, "1, true"),
        ({"type": ["integer", "null"], "enum": [1, None, 0.5]}, {1, None}, "0.5"),
        ({"type": ["integer", "string"], "enum": [1, "a", None]}, {1, "a"}, "null"),
        ({"enum": [1, 2, 5, "a"], "maximum": 3}, {1, 2, "a"}, "5"),
        ({"type": "number", "enum": [1, 2, 3], "multipleOf": 2, "maximum": 9}, {2}, "1, 3"),
        ({"type": "string", "enum": ["a", "b", "bb"], "maxLength": 1}, {"a", "b"}, "bb"),
        ({"type": "string", "enum": ["a", "b", "c"], "pattern": "[ab]"}, {"a", "b"}, "c"),
    ],
)  # fmt: skip
def test_what_its_own_type_and_bounds_forbid_of_an_enum_is_not_drawn_and_told(
    node: dict[str, Any], left: set[Any], gone: str
) -> None:
    schema = {"properties": {"x": {**node, "default": node["enum"][0], **ON}, "rate": RATE}}
    space = compile_space(schema)
    drawn = {params["x"] for params in draws(space, schema) if "x" in params}
    assert drawn == (left if len(left) > 1 else set())
    said = [*space.notes, *dict(space.left_out).values()]
    assert [f"its type and bounds forbid {gone} of its enum" in text for text in said].count(True) == 1
    assert Schema(schema).problem("x", node["enum"][-1] if gone.endswith("null") else 77) is not None


def test_an_enum_of_which_nothing_is_left_is_an_error() -> None:
    for node in (
        {"type": "string", "enum": [1, 2]},
        {"type": "integer", "enum": [0.5]},
        {"enum": ["aa"], "maxLength": 1},
    ):
        with pytest.raises(SpaceError, match=r"x: no value of its enum \[.*\] is "):
            compile_space({"properties": {"x": {**node, **ON}}})
