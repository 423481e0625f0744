"""The search space of the built-in model: always valid, on sensible scales, the default always a point of it."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import optuna
import pytest
import yaml

from automl import bundle
from automl.errors import SpaceError
from automl.space import SearchSpace, compile_space
from model import bundle_dir
from model.parameters import PARAMETERS
from model.spec import put, resolve
from model.values import check_value

SCHEMA = bundle.resolve("deformable_detr").schema("train")
TABLE = {p.name: p for p in PARAMETERS}


def base(**leaves: Any) -> dict[str, Any]:
    spec = copy.deepcopy(SCHEMA["default"])
    put(spec, "dataset.num_classes", 4)
    put(spec, "dataset.augmentation.fixed_random_crop", None)
    for name, value in leaves.items():
        put(spec, name.replace("__", "."), value)
    return spec


def preset(name: str) -> dict[str, Any]:
    partial = yaml.safe_load((bundle_dir() / "references" / f"preset_{name}.yaml").read_text())
    partial["dataset"]["num_classes"] = 4
    return resolve("train", partial)


def draws(space: SearchSpace, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Configurations drawn through Optuna, as a search with a random sampler draws them."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.suggest(study.ask()) for _ in range(count)]


def violations(params: dict[str, Any], spec: dict[str, Any]) -> list[str]:
    """Told by the table and by hand, not by the compiler."""
    broken = [f"{n}={v}: {w}" for n, v in params.items() if (w := check_value(TABLE[n], v))]
    full = {**{p.name: p.default for p in PARAMETERS}, **params}
    queries, select = full["model.num_queries"], full["model.num_select"]
    if not (select <= queries and select < queries * spec["dataset"]["num_classes"]):
        broken.append(f"num_select {select} with {queries} queries")
    crop = "dataset.augmentation.train_random_crop_"
    if crop + "max" in params and params[crop + "max"] <= params[crop + "min"]:
        broken.append(f"crop {params[crop + 'max']} <= {params[crop + 'min']}")
    return broken


@pytest.mark.parametrize(
    "spec",
    [base(), base(dataset__num_classes=2), base(dataset__num_classes=91), preset("small"), preset("demo")],
)
def test_ten_thousand_draws_and_none_invalid(spec: dict[str, Any]) -> None:
    space = compile_space(SCHEMA, spec)
    found = space.sample(10_000) + draws(space, 200)
    assert [v for params in found for v in violations(params, spec)] == []
    for params in found[:100]:
        resolve("train", space.apply(spec, params))


@pytest.mark.parametrize("spec", [base(), preset("small"), preset("demo")])
def test_the_default_is_a_point_and_optuna_gives_it_back(spec: dict[str, Any]) -> None:
    space = compile_space(SCHEMA, spec)
    study = optuna.create_study()
    study.enqueue_trial(space.enqueue_params(space.default))
    params = space.suggest(study.ask())
    assert params == space.default
    assert space.apply(spec, params) == spec


@pytest.mark.parametrize("seed", range(5))
def test_any_configuration_can_be_enqueued_exactly(seed: int) -> None:
    space = compile_space(SCHEMA, base())
    for params in draws(space, 20, seed):
        study = optuna.create_study()
        study.enqueue_trial(space.enqueue_params(params))
        assert space.suggest(study.ask()) == params
        assert space.decode(space.encode(params)) == params


def test_sixteen_parameters_are_searched_or_left_out_with_a_reason() -> None:
    space = compile_space(SCHEMA, base())
    left = dict(space.left_out)
    assert {p.name for p in space.parameters} | set(left) == set(SCHEMA["automl_default_parameters"])
    assert "AdamW" in left["train.optim.momentum"]
    assert "MultiStep" in left["train.optim.lr_step_size"]
    assert left["dataset.workers"]
    sgd = compile_space(SCHEMA, base(train__optim__optimizer="SGD", train__optim__lr_scheduler="StepLR"))
    assert {"train.optim.momentum", "train.optim.lr_step_size"} <= {p.name for p in sgd.parameters}


def test_large_scale_jitter_leaves_the_crops_out() -> None:
    left = dict(compile_space(SCHEMA, base(dataset__augmentation__fixed_random_crop=1024)).left_out)
    assert "dataset.augmentation.train_random_crop_min" in left
    assert "dataset.augmentation.train_random_crop_max" in left


def test_learning_rates_are_drawn_on_a_log_scale_near_the_default() -> None:
    space = compile_space(SCHEMA, base())
    rates = np.array([params["train.optim.lr"] for params in space.sample(4000)])
    assert (abs(np.log10(rates / 2e-4)) <= 1).mean() >= 0.8
    assert np.median(rates) == pytest.approx(2e-4, rel=0.2)


def test_hints_move_with_the_spec_s_own_value() -> None:
    space = compile_space(SCHEMA, base(train__optim__lr_backbone=2e-4))
    p = next(p for p in space.parameters if p.name == "train.optim.lr_backbone")
    assert (p.low, p.high) == pytest.approx((4e-5, 1e-3))


def test_data_limit_the_batch() -> None:
    space = compile_space(SCHEMA, base(), limits={"dataset.batch_size": 5})
    batch = next(p for p in space.parameters if p.name == "dataset.batch_size")
    assert batch.choices == (1, 2, 4, 5)


def test_fixed_parameters_are_not_searched() -> None:
    space = compile_space(SCHEMA, base(), fix=["train.optim.lr"])
    assert dict(space.left_out)["train.optim.lr"] == "fixed at 0.0002 (--fix train.optim.lr)"
    with pytest.raises(SpaceError, match="did you mean 'train.optim.lr'"):
        compile_space(SCHEMA, base(), fix=["train.optim.lrr=3"])


def test_a_space_is_the_same_in_every_process() -> None:
    code = (
        "import json; from automl import bundle; from automl.space import compile_space; "
        "print(compile_space(bundle.resolve('deformable_detr').schema('train')).digest)"
    )
    digests = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert digests == {compile_space(SCHEMA).digest + "\n"}
    space = compile_space(SCHEMA, base())
    assert pickle.loads(pickle.dumps(space)) == space
    assert compile_space(SCHEMA, base(train__optim__lr=1e-4)).digest != space.digest
    json.dumps(space.default)
