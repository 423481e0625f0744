"""Where time ends the search, it is after what a second brings; costs are learned from what trials took."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from automl.budget import Budget, Limits, Time
from automl.fgp.model import Model
from automl.fgp.pace import LEAST, pace_of
from automl.fgp.scheduler import FreezeThaw
from automl.scheduling import View
from automl.study import Study
from automl.timing import Timing
from tests.automl.test_fgp import in_square

EPOCHS = 6


def seconds(x: float) -> float:
    """Of an epoch."""
    return float(10 * np.exp(3 * x))


def searched(seed: int, trials: int, time_s: float = math.inf) -> Study:
    """A study whose trials are as good wherever they are on x, which makes them dear, and best at y = .3."""
    study, rng = in_square(seed), np.random.default_rng(seed)
    for _ in range(trials):
        study.budget = Budget(num_epochs=EPOCHS, time_s=time_s)
        number, params = study.ask()
        for epoch in range(EPOCHS):
            value = 1 - abs(params["y"] - 0.3) - 0.5 / (1 + epoch)
            study.report(number, epoch, value + 0.01 * rng.standard_normal())
        study.note(number, timed_s=EPOCHS * seconds(params["x"]), timed=EPOCHS)
        study.tell(number, "COMPLETE", "")
    return study


def timed(study: Study, time_s: float) -> View:
    return replace(study.view(), budget=Budget(num_epochs=EPOCHS, time_s=time_s))


def test_what_an_epoch_takes_is_learned() -> None:
    view = timed(searched(0, 12), 1e6)
    cube = Model(view).cube
    points = np.random.default_rng(1).random((50, 2))
    predicted = np.log(pace_of(view, cube).cost(points))
    true = np.log([seconds(float(x)) for x in points[:, 0]])
    assert np.corrcoef(predicted, true)[0, 1] > 0.95
    assert np.abs(predicted - predicted.mean() - (true - true.mean())).mean() < 0.25


@pytest.mark.parametrize(("trials", "time_s"), [(LEAST - 1, 1e6), (12, math.inf)])
def test_before_enough_was_timed_and_where_it_is_not_time_that_ends_it_all_cost_the_same(
    trials: int, time_s: float
) -> None:
    view = timed(searched(0, trials), time_s)
    pace, points = pace_of(view, Model(view).cube), np.random.default_rng(1).random((5, 2))
    assert set(pace.cost(points)) == {1.0}
    assert pace.in_time(points, EPOCHS, replace(view.budget, time_s=0.0)).all()


def test_a_search_for_time_spends_less_on_an_epoch() -> None:
    def mean_x(time_s: float) -> float:
        found = [t.params["x"] for seed in range(3) for t in searched(seed, 20, time_s).trials()[6:]]
        return float(np.mean(found))

    assert mean_x(1e6) < mean_x(math.inf) - 0.15


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_proposed_that_would_not_end_in_time(seed: int) -> None:
    left_s = EPOCHS * seconds(0.4)
    proposed = Model.of(timed(searched(0, 12), left_s)).propose(seed)
    assert seconds(float(proposed.point[0])) * EPOCHS < 1.1 * left_s


def test_what_waits_goes_on_by_what_it_brings_for_its_seconds_and_in_time() -> None:
    """Two that are alike but for what they cost, and a budget in which new ones have no place."""
    study = searched(0, 8)
    for x in (0.9, 0.1):
        number, _ = study.ask({"x": x, "y": 0.3})
        study.report(number, 0, 0.9)
        study.note(number, timed_s=seconds(x), timed=1)
        study.set_paused(number, 0)
    view = timed(study, 1e6)
    at_any_cost = replace(view, budget=replace(view.budget, new=False))
    assert FreezeThaw().promote(at_any_cost) == 9
    short = replace(at_any_cost, budget=replace(at_any_cost.budget, time_s=5 * seconds(0.0)))
    assert FreezeThaw().promote(short) is None


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({}, 100.0), ({"trainings": 30}, 100.0), ({"trainings": 3}, math.inf), ({"trials": 30}, 100.0),
        ({"trials": 3}, math.inf), ({"epochs": 10}, math.inf), ({"trainings": 30, "epochs": 200}, 100.0),
    ],
)  # fmt: skip
def test_it_counts_seconds_where_the_time_is_used_up_first(limits: dict[str, int], told: float) -> None:
    """After one training of six epochs, and what is left holds four epochs of each of eight that run."""
    left = Limits(**limits).left(searched(0, 1), EPOCHS, Time(100.0, 4.0, 32.0))
    assert left.time_s == told
    assert Limits(**limits).left(searched(0, 1), EPOCHS).time_s == math.inf


@pytest.mark.parametrize(
    ("num_epochs", "lines", "timed"),
    [(9, [30, 40, 50], (20.0, 2)), (9, [30], (0.0, 0)), (1, [30], (55.0, 1)), (9, [], (0.0, 0)), (None, [30, 40], (10.0, 1))],
)  # fmt: skip
def test_a_start_is_no_epoch(num_epochs: int | None, lines: list[float], timed: tuple[float, int]) -> None:
    """A process that ran from second 0 to 55; after it nothing of it is left."""
    timing = Timing()
    timing.begin(3, 0.0)
    for done, at in enumerate(lines, start=1):
        timing.line(3, at, done)
    assert timing.end(3, 55.0, num_epochs) == (55.0, *timed)
    assert timing == Timing()
