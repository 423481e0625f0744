"""The model behind the default sampler: its coordinates, and what it proposes, over the detector's spaces."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import optuna
import pytest

from automl.fgp.cube import Cube
from automl.plan import Plan, prepare
from automl.request import RunRequest
from automl.study import Study
from studies.search.valid import one_study

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module", params=["tao", "recommended", "all"])
def plan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("fgp") / "run"
    return prepare(RunRequest(model="deformable_detr", demo=True, space=request.param), folder)


def test_nothing_invalid_and_nothing_twice(plan: Plan) -> None:
    assert one_study(plan, "fgp", 5, 24) == {"invalid": 0, "twice": 0, "refused": 0}


def test_distances_are_those_of_a_euclidean_space(plan: Plan) -> None:
    """Else a kernel of them is none: of each axis the matrix of inner products has no negative eigenvalue."""
    cube = Cube.of(plan.space, [])
    points = cube.snapped(cube.uniform(np.random.default_rng(0), 40))
    for axis, squared in zip(cube.axes, cube.squared(points, points), strict=True):
        assert np.all(np.diag(squared) == 0), axis.name
        centred = squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean()
        assert np.linalg.eigvalsh(-0.5 * centred).min() > -1e-9, axis.name


def test_options_have_no_order_and_what_does_not_matter_no_distance(plan: Plan) -> None:
    cube = Cube.of(plan.space, [])
    points = cube.snapped(cube.uniform(np.random.default_rng(1), 60))
    squared, idle = cube.squared(points, points), np.isnan(points).T
    for i, axis in enumerate(cube.axes):
        if axis.kind == "option":
            assert set(np.unique(squared[i])) <= {0.0, 1.0}
        assert np.all(squared[i][np.ix_(idle[i], idle[i])] == 0)
        assert np.all(squared[i][np.ix_(idle[i], ~idle[i])] == 1)
    assert idle.any() == (len(cube.axes) > 13)  # of the space "tao" all axes always matter


def test_failed_trials_teach() -> None:
    """Where trainings fail nothing more is proposed, although what came close was the best."""

    class Line:
        default: ClassVar = {"x": 0.5}
        parameters = ()

        def suggest(self, trial: optuna.Trial) -> dict[str, float]:
            return {"x": trial.suggest_float("x", 0, 1), "y": trial.suggest_float("y", 0, 1)}

        def enqueue_params(self, params: dict[str, float]) -> dict[str, float]:
            return {"y": 0.5, **params}

    study, asked = Study(optuna.storages.InMemoryStorage(), "line", Line(), "fgp", 0), []  # type: ignore[arg-type]
    for _ in range(25):
        number, params = study.ask()
        x = params["x"]
        asked.append(x)
        if x <= 0.7:
            study.report(number, 0, x)
        study.tell(number, "COMPLETE" if x <= 0.7 else "FAIL", "")
    assert sum(x > 0.75 for x in asked[15:]) <= 3
    assert sum(0.6 < x <= 0.75 for x in asked[15:]) >= 4
