"""A search goes on beyond the end of a range where the best lie there, once, and nowhere else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl import samplers
from automl.fgp import FITTED, gp
from automl.fgp.cube import Cube
from automl.space import SearchSpace, compile_space
from automl.study import Study
from automl.trial_attributes import WIDENED
from automl.widening import widenings

optuna.logging.set_verbosity(optuna.logging.WARNING)
SCHEMA: dict[str, Any] = {
    "properties": {
        "lr": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.005, "default": 2e-4},
        "wd": {"type": "number", "minimum": 0, "default": 1e-4},
        "dropout": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.1},
        "layers": {"type": "integer", "minimum": 1, "maximum": 12, "default": 6},
    }
}
NARROW = ("lr", "dropout")  # without another that might reach further
FURTHEST = {"lr": (2e-6, 0.005), "wd": (1e-6, 0.01)}  # half a range further, at most what is valid


def space_of(*tune: str) -> SearchSpace:
    return compile_space(SCHEMA, tune=tune or ("lr", "wd", "dropout", "layers"))


def searched(
    best_lr: float, sampler: str = "fgp", space: SearchSpace | None = None, trials: int = 30
) -> Study:
    """A search in which only the learning rate counts."""
    study = Study(optuna.storages.InMemoryStorage(), "wide", space or space_of(*NARROW), sampler, 0)
    go_on(study, best_lr, trials)
    return study


def go_on(study: Study, best_lr: float, trials: int) -> None:
    while len(study.trials()) < trials:
        number, params = study.ask()
        study.report(number, 0, 1 - 0.1 * abs(math.log10(params["lr"] / best_lr)))
        study.tell(number, "COMPLETE", "")


def test_ranges_reach_as_far_again_but_not_beyond_what_is_valid() -> None:
    space = space_of()
    for p, wide in zip(space.parameters, space.widest.parameters, strict=True):
        if p.name in FURTHEST:
            assert (wide.low, wide.high) == pytest.approx(FURTHEST[p.name])
        else:
            assert wide == p
    assert space.widest.default == space.default
    assert space.widest.widest == space.widest


def test_what_a_person_asks_for_is_not_left() -> None:
    space = space_of("lr=1e-4:1e-3:log", "wd")
    assert [p.widest is p for p in space.parameters] == [True, False]
    assert WIDENED not in str(searched(1.0, space=space_of("lr=1e-4:1e-3:log", "dropout")).trials())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_coordinates_go_beyond_the_usual_range_and_back(seed: int) -> None:
    space = space_of()
    cube, rng = Cube.of(space, []), np.random.default_rng(seed)
    every = {(axis.name, side) for axis in cube.axes for side in ("low", "high")}
    low, high = cube.ends(every)
    for point in cube.snapped(low + (high - low) * rng.random((5, len(low)))):
        params = cube.values(space, point)
        assert not space.validate(params)
        assert cube.point(space.widest.enqueue_params(params)) == pytest.approx(point, abs=1e-6)
    usual = space.sample(5, seed=seed)
    inside = [cube.point(space.widest.enqueue_params(params)) for params in usual]
    assert np.min(inside) >= -1e-9
    assert np.max(inside) <= 1 + 1e-9


def test_it_goes_on_where_the_best_lie_at_an_end() -> None:
    study = searched(0.004)
    first = next(t for t in study.trials() if WIDENED in t.user_attrs)
    assert first.user_attrs[WIDENED] == {"lr": pytest.approx([2e-5, 0.005])}
    usual = next(p for p in space_of(*NARROW).parameters if p.name == "lr")
    beyond = [t.number for t in study.trials() if t.user_attrs["params"]["lr"] > usual.high]
    assert beyond
    assert min(beyond) >= first.number
    assert study.best().params["lr"] > usual.high  # type: ignore[union-attr, operator]
    assert widenings(study.trials()) == [
        f"the best trials lie at the end of a range: from trial {first.number} on, lr may be 2e-05 .. 0.005"
    ]


def test_it_stays_where_the_best_lie_inside() -> None:
    study = searched(3e-4)
    assert not widenings(study.trials())
    assert all(2e-5 <= t.user_attrs["params"]["lr"] <= 2e-3 for t in study.trials())


def test_optuna_sees_one_distribution_from_the_first_trial_to_the_last() -> None:
    study = searched(0.004)
    seen = [t.distributions["lr"] for t in study.trials()]
    assert all(each == seen[0] for each in seen)
    assert "lr" in optuna.importance.get_param_importances(study.study)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_samplers_that_widen_nothing_keep_to_the_usual_range(sampler: str) -> None:
    study = searched(0.004, sampler)
    assert study.trials()[0].distributions == space_of(*NARROW).distributions
    assert samplers.room(sampler, study.space) is study.space
    assert not widenings(study.trials())


@pytest.mark.parametrize("killed_at", [5, 9, 14, 20])
def test_a_search_that_was_killed_goes_on_alike(killed_at: int) -> None:
    """What is open is kept with the trials, so also where the best have moved away from the end since."""
    whole = searched(0.004)
    storage = optuna.storages.InMemoryStorage()
    go_on(Study(storage, "wide", space_of(*NARROW), "fgp", 0), 0.004, killed_at)
    again = Study(storage, "wide", space_of(*NARROW), "fgp", 0)
    go_on(again, 0.004, 30)
    assert [t.params for t in again.trials()] == [t.params for t in whole.trials()]
    assert widenings(again.trials()) == widenings(whole.trials())


def test_a_study_of_before_goes_on() -> None:
    """Its trials have the usual distributions and nothing about ends."""
    space, storage = space_of(*NARROW), optuna.storages.InMemoryStorage()
    go_on(Study(storage, "wide", space, "random", 0), 0.004, 8)
    last = storage.get_all_trials(storage.get_study_id_from_name("wide"), deepcopy=False)[-1]
    last.system_attrs[FITTED] = [8, gp.prior(space.dimensions)[0].tolist()]
    again = Study(storage, "wide", space, "fgp", 0)
    go_on(again, 0.004, 20)
    assert widenings(again.trials())


@pytest.mark.parametrize("node", [{"search": {"low": 0.01, "high": 0.9, "log": True}}, {}])
def test_a_share_on_a_logarithmic_scale_is_kept(node: dict[str, Any]) -> None:
    """Its 1 need not be in the schema."""
    leaf = {"type": "number", "minimum": 0, "default": 0.1, **node}
    space = compile_space({"properties": {"dropout": leaf}}, search={"dropout": {"log": True}})
    assert space.parameters[0].log
    assert space.parameters[0].widest is space.parameters[0]
