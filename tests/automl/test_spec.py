from pathlib import Path

import pytest

from automl import spec
from automl.dotted import last_words
from automl.errors import SpecError

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "train": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "lr": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.01},
                "optimizer": {"type": "string", "enum": ["AdamW", "SGD"]},
                "size": {"type": ["integer", "null"], "minimum": 1},
            },
        }
    },
}


def sourced() -> spec.SourcedSpec:
    return spec.SourcedSpec({"train": {"lr": 1e-4, "optimizer": "AdamW", "size": None}, "steps": [40]})


def test_later_layers_win_and_sources_are_kept() -> None:
    merged = sourced()
    merged.overlay({"train": {"lr": 2e-4, "optimizer": "SGD"}}, "my.yaml")
    merged.overlay({"train": {"lr": 3e-4}}, "--set")
    assert merged.spec["train"] == {"lr": 3e-4, "optimizer": "SGD", "size": None}
    assert merged.sources == {"train.lr": "--set", "train.optimizer": "my.yaml"}


def test_facts_fill_only_what_nobody_set() -> None:
    merged = sourced()
    merged.overlay({"steps": [7]}, "my.yaml")
    assert merged.fill({"steps": [8], "train.size": 5}, "data") == {"train.size": 5}
    assert merged.spec["steps"] == [7]
    assert merged.spec["train"]["size"] == 5
    assert merged.sources["train.size"] == "data"


def test_set_values_are_yaml_with_scientific_numbers_and_shorthand() -> None:
    values = spec.parse_set(
        ["learning_rate=1e-4", "a=[1, 2]", "b=off", "c=", "d=x=y", "e=@key.txt"],
        {"learning_rate": "train.lr"},
    )
    assert values == {"train.lr": 1e-4, "a": [1, 2], "b": False, "c": "", "d": "x=y", "e": "@key.txt"}


def test_a_removal_of_hydra_s_says_what_there_is() -> None:
    with pytest.raises(SpecError, match=r"but got '~a\.b'; ~ takes nothing out here: a\.b=VALUE gives it"):
        spec.parse_set(["~a.b"], {})


@pytest.mark.parametrize("pair", ["novalue", "=3", "a=[1"])
def test_broken_set_is_one_clear_error(pair: str) -> None:
    with pytest.raises(SpecError, match="--set"):
        spec.parse_set([pair], {})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"train": {"lr": 0.5}}, r"--set: train.lr must be a number in \(0, 0.01\], but got 0.5"),
        ({"train": {"lr": 0}}, r"train.lr must be a number in \(0, 0.01\], but got 0"),
        ({"train": {"lr": "0.001"}}, r"train.lr must be a number in \(0, 0.01\], but got '0.001'"),
        ({"train": {"lr_": 0.1}}, r"unknown key 'train.lr_'; did you mean 'lr'\?"),
        ({"train": {"optimizer": "Adam"}}, "train.optimizer must be one of AdamW, SGD, but got 'Adam'"),
        ({"train": {"size": "big"}}, r"train.size must be an integer in \[1, inf\), but got 'big'"),
        ({"train": 3}, "train must be a section, but got 3"),
        ({"trian": {"lr": 1}}, r"unknown key 'trian'; did you mean 'train'\?"),
        (
            {"automl_algorithm": "bayesian"},
            "unknown key 'automl_algorithm'; --sampler and --scheduler say it",
        ),
        ({"automl_max_recommendations": 9}, "'automl_max_recommendations'; --trials says it"),
        ({"automl_enabled": True}, "'automl_enabled'; automl_policy says it"),
    ],
)
def test_violations_name_path_wanted_value_and_source(document: dict, message: str) -> None:
    sources = {name: "--set" for name, _ in spec.leaves(document)}
    with pytest.raises(SpecError, match=message):
        spec.validate(document, SCHEMA, sources)


def test_every_violation_is_listed_at_once() -> None:
    document = {"train": {"lr": 5, "optimizer": "x"}, "trian": {"a": 1}}
    with pytest.raises(SpecError) as caught:
        spec.validate(document, SCHEMA, {name: "my.yaml" for name, _ in spec.leaves(document)})
    assert len(str(caught.value).splitlines()) == 3


def test_a_template_that_contradicts_its_schema_is_noted_and_what_a_person_adds_is_still_refused() -> None:
    template = {"train": {"lr": 0.5, "own": 1, "optimizer": "???"}}
    notes = spec.validate(template, SCHEMA, {}, template)
    assert notes == [
        "the template contradicts the schema: train.lr must be a number in (0, 0.01], but got 0.5"
    ]
    assert spec.validate(template, SCHEMA, {"train.own": "--set"}, template) == notes
    with pytest.raises(SpecError, match="my.yaml: train.lr must be a number"):
        spec.validate(template, SCHEMA, {"train.lr": "my.yaml"}, template)


@pytest.mark.parametrize("more", [True, {"type": "number"}])
def test_a_level_that_allows_more_keys_takes_them(more: object) -> None:
    open_schema = {
        "properties": {"train": {"properties": {"lr": {"type": "number"}}, "additionalProperties": more}}
    }
    document = {"train": {"extra": 1}}
    assert spec.validate(document, open_schema, {"train.extra": "--set"}) == []
    with pytest.raises(SpecError, match="unknown key 'other'"):
        spec.validate({"other": 1}, open_schema, {"other": "--set"})


def test_defaults_of_a_schema_are_its_own_or_its_leaves() -> None:
    leaves = {
        "properties": {"a": {"properties": {"b": {"type": "integer", "default": 3}, "c": {"type": "string"}}}}
    }
    assert spec.defaults(leaves) == {"a": {"b": 3}}
    assert spec.defaults(leaves | {"default": {"a": {"b": 4}}}) == {"a": {"b": 4}}


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "not valid YAML"), ("- 1", "must be a mapping"), ("\x00", "not valid YAML")],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=message):
        spec.load(path)


def test_missing_file_and_empty_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such spec file"):
        spec.load(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert spec.load(tmp_path / "empty.yaml") == {}


def test_diff_lists_changed_added_and_missing_leaves() -> None:
    assert spec.diff({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == [
        ("a.c", 2, 3),
        ("d", None, 4),
    ]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["train.optim.lr", "data.size"], ["lr", "size"]),
        (["net.head.units", "net.stem.units", "lr"], ["head.units", "stem.units", "lr"]),
        (["units", "head.units", "a.head.units"], ["units", "head.units", "a.head.units"]),
        (["optim.lr", "color"], ["lr", "color"]),
    ],
)
def test_a_name_is_shortened_as_far_as_it_tells_the_parameter(names: list[str], told: list[str]) -> None:
    found = last_words(names)
    assert [found[name] for name in names] == told
