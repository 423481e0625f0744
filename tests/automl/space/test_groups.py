"""What is searched unless it is named: the schema's flags, the model's recommendation, or all that can be."""

from __future__ import annotations

from typing import Any

import pytest

from automl import bundle
from automl.errors import SpaceError
from automl.space import SearchSpace, compile_space
from model.spec import resolve
from tests.automl.space.test_builtin import SCHEMA, base, draws, preset, violations
from tests.automl.space.zoo import MODELS, document, flag, leaf, nested, pick, real, whole

RECOMMENDED = bundle.resolve("deformable_detr").skill["recommended"]


@pytest.mark.parametrize("spec", [resolve("train", base()), preset("small"), preset("demo")])
def test_what_the_model_recommends_is_valid_and_has_its_base(spec: dict[str, Any]) -> None:
    space = compile_space(SCHEMA, spec, group="recommended", recommended=RECOMMENDED)
    named = {p.name for p in space.parameters}
    assert named | {name for name, _ in space.left_out} == set(RECOMMENDED)
    assert space.apply(spec, space.default) == spec
    assert space.notes == ()
    found = space.sample(1000, seed=6) + draws(space, 50)
    assert [v for params in found for v in violations({**params, "model.num_select": 1}, spec)] == []
    for params in found[:30]:
        resolve("train", space.apply(spec, params))


@pytest.mark.parametrize("spec", [resolve("train", base()), preset("small"), preset("demo")])
def test_the_trainer_takes_whatever_is_drawn_of_all(spec: dict[str, Any]) -> None:
    space = compile_space(SCHEMA, spec, group="all")
    names = {p.name for p in space.parameters}
    assert len(names) > 40
    assert not names & {
        "dataset.allow_leaks",
        "dataset.strict",
        "train.patience",
    }  # they change what is measured
    for params in space.sample(100, seed=7):
        resolve("train", space.apply(spec, params))


def test_each_recommended_parameter_says_why() -> None:
    space = compile_space(SCHEMA, base(), group="recommended", recommended=RECOMMENDED)
    for p in space.parameters:
        entry = RECOMMENDED[p.name]
        assert p.why.startswith(entry if isinstance(entry, str) else entry["why"])


def test_a_request_stands_above_a_recommendation() -> None:
    space = compile_space(
        SCHEMA, base(), group="recommended", recommended=RECOMMENDED,
        tune=["train.optim.lr=1e-5:1e-3"], fix=["model.enc_layers=3"],
    )  # fmt: skip
    lr = next(p for p in space.parameters if p.name == "train.optim.lr")
    assert (lr.low, lr.high) == (1e-5, 1e-3)
    assert dict(space.fixed) == {"model.enc_layers": 3}


@pytest.mark.parametrize("value", [0.0, 0.05, 1.0])
def test_a_base_outside_a_recommended_range_widens_it(value: float) -> None:
    schema = document({"train.dropout": real(0.1, 0, 1), "train.kind": pick("a", "a", "b", "c")})
    entries = {"train.dropout": {"why": "so", "valid_min": 0.2, "valid_max": 0.4}, "train.kind": {"why": "so", "valid_options": ["b", "c"]}}  # fmt: skip
    spec = nested({"train.dropout": value})
    space = compile_space(schema, spec, group="recommended", recommended=entries)
    assert space.default == {"train.dropout": value, "train.kind": "a"}
    assert space.notes == ()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_all_is_more_than_what_is_flagged(name: str) -> None:
    flagged, every = compile_space(MODELS[name]), compile_space(MODELS[name], group="all")
    assert {p.name for p in flagged.parameters} <= {p.name for p in every.parameters}
    for params in every.sample(50, seed=8):
        assert every.validate(params) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"group": "recomended"}, "no space 'recomended' .*did you mean 'recommended'"),
        ({"group": "recommended"}, "recommends no search space"),
        ({"group": "recommended", "recommended": {"train.optim.lrr": "x"}}, "did you mean 'train.optim.lr'"),
        ({"group": "recommended", "recommended": {"train.optim.lr": 3}}, "must be a reason"),
    ],
)
def test_a_group_that_cannot_be_had(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        compile_space(MODELS["dino"], **asked)


def test_a_section_named_like_another_value_of_an_enum_is_inert() -> None:
    leaves = {
        "task": pick("segment", "segment", "classify", "joint"),
        "train.segment.weight": real(1.0), "train.classify.weight": real(1.0),
        "train.classify.more.margin": real(0.3), "model.joint_size": whole(8), "model.segment.mlp": flag(),
    }  # fmt: skip
    space = compile_space(document(leaves))
    assert {p.name for p in space.parameters} == {
        "train.segment.weight",
        "model.joint_size",
        "model.segment.mlp",
    }
    assert dict(space.left_out)["train.classify.weight"] == "it has no effect while task is segment"
    asked = compile_space(document(leaves), tune=["task"])
    for params in asked.sample(200, seed=9):
        assert ("train.classify.weight" in params) == (params["task"] == "classify")
        assert ("train.segment.weight" in params) == (params["task"] == "segment")


@pytest.mark.parametrize("maximum", [12, 40, 50, 1000, None])
@pytest.mark.parametrize("name", ["model.enc_layers", "model.n_gru_layers", "model.depth", "model.nlayers"])
def test_layers_are_searched_from_half_to_twice_whatever_the_maximum(name: str, maximum: int | None) -> None:
    (p,) = compile_space(document({name: whole(6, 1, maximum)})).parameters
    assert (p.low, p.high) == (3, 12)


@pytest.mark.parametrize("name", ["train.num_epochs", "train.epoch", "epochs"])
def test_the_length_of_the_training_is_searched_only_when_asked_for(name: str) -> None:
    schema = document({name: whole(10, 1, 20), "train.lr": real(1e-3)})
    assert "length of the training" in dict(compile_space(schema).left_out)[name]
    assert name in compile_space(schema, tune=[name]).default


def test_a_space_without_parameters_stands_for_no_search() -> None:
    space, spec = SearchSpace(()), {"train": {"lr": 1, "steps": [1]}}
    assert space.default == space.suggest(None) == space.enqueue_params({}) == space.decode([]) == {}
    assert space.encode({}) == []
    assert space.apply(spec, {}) == spec
    assert space.apply(spec, {})["train"] is not spec["train"]
    assert space.digest == SearchSpace(()).digest
    assert (space.distributions, space.sample(2), space.validate({})) == ({}, [{}, {}], [])


def test_elements_that_are_parameters_of_their_own_are_not_searched_as_a_list() -> None:
    leaves = {"train.w": leaf("list", [1.0, 10.0], on=True), "train.w[1]": real(10.0)}
    space = compile_space(document(leaves))
    assert [p.name for p in space.parameters] == ["train.w[1]"]
    assert "parameters of their own" in dict(space.left_out)["train.w"]


def test_a_range_never_shrinks_to_its_default() -> None:
    leaves = {
        "train.momentum": whole(1, None, 78, cond="!= 0"), "train.batch_size": whole(1, 1, 9, cond="!= 2"),
        "train.warmup_epochs": whole(0, 0), "train.num_epochs": leaf("int", 1, 1),
    }  # fmt: skip
    space = compile_space(document(leaves))
    assert len(space.parameters) == 3
    assert all(len({params[p.name] for params in space.sample(200)}) > 1 for p in space.parameters)
