"""How long a run takes and what its budget is too small for, told before it starts and right after a resume."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from automl import forecast, loop, restored_plan
from automl.forecast import Forecast
from automl.metric import Metric
from automl.plan import prepare
from automl.progress import Progress, Row
from automl.request import RunRequest
from automl.rundir import RunDir
from tests.automl.toy import toy

FORECASTS = st.builds(
    Forecast, st.floats(0.01, 1e5), st.integers(1, 200), st.sampled_from([0.625, 1.0]), st.integers(1, 8), st.just("")
)  # fmt: skip


def planned(epoch_s: float | None = 60.0, epochs: int = 10, **request: Any) -> Any:
    """A plan as far as a forecast looks at it."""
    return SimpleNamespace(
        request=RunRequest(**request), searching=request.get("policy") != "off", spec={},
        estimate={"epoch_s": epoch_s, "basis": "measured"} if epoch_s else {},
        bundle=SimpleNamespace(epochs=lambda spec: epochs, epochs_key=None), machine=SimpleNamespace(concurrency=1),
        space=SimpleNamespace(every=None, default={}), first=0,
    )  # fmt: skip


@given(FORECASTS, st.integers(1, 500))
def test_more_trials_take_longer_and_one_takes_a_training(found: Forecast, count: int) -> None:
    assert found.trials_s(1) == pytest.approx(found.training_s)
    assert found.trials_s(count + 1) >= found.trials_s(count)


@given(FORECASTS, st.integers(1, 400), st.integers(1, 9999), st.floats(1, 1e7))
def test_the_first_budget_used_up_ends_it(found: Forecast, trials: int, epochs: int, time_s: float) -> None:
    each: list[dict[str, Any]] = [
        {"trials": trials},
        {"trainings": trials},
        {"total_epochs": epochs},
        {"time_s": time_s},
    ]
    alone = [found.total_s(RunRequest(**one), True) for one in each]
    assert found.total_s(
        RunRequest(trials=trials, trainings=trials, total_epochs=epochs, time_s=time_s), True
    ) == min(alone)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"trials": 20}, []),
        ({"trials": 1}, ["--trials 1", "nothing else"]),
        ({"trainings": 1}, ["--trainings 1", "nothing else"]),
        ({"total_epochs": 9}, ["less than one training", "not to its end"]),
        ({"total_epochs": 10}, ["is one training"]),
        ({"total_epochs": 11}, []),
        ({"time_s": 30.0}, ["one epoch takes about 1m00s", "before anything is scored"]),
        ({"time_s": 300.0}, ["one training takes about 10m00s", "--epochs 5 would fit"]),
        ({"time_s": 300.0, "policy": "off"}, ["it is cut off"]),
        ({"time_s": 900.0}, []),
    ],
)
def test_what_a_budget_is_too_small_for(asked: dict[str, Any], words: list[str]) -> None:
    said = " ".join(forecast.warnings(planned(**asked)))
    assert all(word in said for word in words)
    assert bool(said) == bool(words)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"trials": 3, "scheduler": "halving"}, "22m30s for 3 trials"),
        ({"trials": 3}, "30m00s for 3 trials"),
        ({"trainings": 3}, "30m00s for 3 trainings, which holds about 4 configurations"),
        ({"trainings": 1}, "10m00s for 1 training, which holds about 1 configuration"),
        ({"total_epochs": 30}, "30m00s for 30 epochs in all, which holds about"),
        ({"time_s": 3600.0, "scheduler": "halving"}, "1h00m for 1h00m, which holds about 9 configurations"),
        ({"policy": "off"}, "10m00s a training of 10 epochs"),
    ],
)
def test_every_budget_has_a_time(asked: dict[str, Any], words: str) -> None:
    plan = planned(**asked)
    found = forecast.of(plan)
    assert found is not None
    assert words in forecast.text(plan, found)


@pytest.mark.parametrize(
    ("at_a_time", "asked", "words"),
    [
        (8, {"trainings": 2}, "10m00s for 2 trainings, which holds about 2 configurations"),
        (8, {"trainings": 8}, "10m00s for 8 trainings, which holds about 10 configurations"),
        (4, {"trainings": 20}, "50m00s for 20 trainings, which holds about 26 configurations"),
        (4, {"total_epochs": 6}, "6m00s for 6 epochs in all, which holds about 1 configuration"),
        (4, {"time_s": 1800.0}, "30m00s for 30m00s, which holds about 15 configurations"),
    ],
)
def test_side_by_side_no_training_takes_less_and_the_budget_holds_as_many(
    at_a_time: int, asked: dict[str, Any], words: str
) -> None:
    plan = planned(**asked)
    plan.machine.concurrency = at_a_time
    found = forecast.of(plan)
    assert found is not None
    assert words in forecast.text(plan, found)


def test_without_an_estimate_nothing_is_said_of_time() -> None:
    assert forecast.of(planned(None, time_s=1.0)) is None
    assert forecast.warnings(planned(None, time_s=1.0)) == []


@pytest.mark.parametrize(
    ("request_", "left"),
    [
        (
            RunRequest(trials=2, scheduler="halving"),
            10 * (10 + 0.625 * 20),
        ),  # the default and one that is stopped early
        (RunRequest(total_epochs=30), 10 * 20),
        (RunRequest(trainings=2), 10 * 30),
        (RunRequest(time_s=150.0), 50),
    ],
)
def test_right_after_a_resume_the_time_left_is_known(request_: RunRequest, left: float) -> None:
    progress = Progress(quiet=True)
    study: Any = SimpleNamespace(trials=list, elapsed_s=lambda: 100.0, epochs_trained=10, refused=set())
    plan = planned(epochs=20)
    plan.request, plan.metric = request_, Metric("m")
    progress.begin(plan, study)
    progress.rows[0] = Row(0, 20, epoch=10)
    assert progress.eta_s(100.0) == pytest.approx(left)


def test_epochs_that_were_not_measured_and_trials_that_were_refused_are_told_apart() -> None:
    """A trainer that validates every second epoch is no slower; of what a limit of latency refused nothing is trained."""
    out = io.StringIO()
    progress = Progress(Console(file=out, width=120), quiet=True)
    study: Any = SimpleNamespace(trials=list, elapsed_s=lambda: 20.0, epochs_trained=30, refused={1, 2})
    plan = planned(epochs=10)
    plan.request, plan.metric = RunRequest(trials=4, total_epochs=60), Metric("m")
    progress.begin(plan, study)
    progress.started(0, {}, 10)
    for epoch in range(1, 10, 2):
        progress.epoch(0, epoch, 0.5)
    progress.ended(0, "COMPLETE", "finished")
    for number in study.refused:
        progress.ended(number, "PRUNED", "above --max-latency")
    progress.started(3, {}, 10)
    assert progress.eta_s(20.0) == pytest.approx(20.0)  # of 60 epochs, not of trials
    progress.console.print(progress._render())
    assert "1 of 4 trials" in out.getvalue()


def test_epochs_set_the_length_of_every_training(tmp_path: Path) -> None:
    from automl.errors import UserError

    model = str(toy(tmp_path / "toy"))
    plan = prepare(RunRequest(model=model, epochs=7, trials=2), tmp_path / "w")
    assert (plan.spec["epochs"], plan.sources["epochs"]) == (7, "--epochs")
    with pytest.raises(UserError, match="contradict each other"):
        prepare(RunRequest(model=model, epochs=7, sets=("epochs=8",), trials=2), tmp_path / "w")
    with pytest.raises(UserError, match="--total-epochs 7"):
        prepare(RunRequest(model=model, epochs=7), tmp_path / "w")


def test_a_resume_changes_executor_and_concurrency(tmp_path: Path) -> None:
    root, model = tmp_path / "run", str(toy(tmp_path / "toy"))
    loop.run(RunRequest(model=model, trials=1, executor="local", stages=()), root, Progress(quiet=True))
    plan = restored_plan.restore(RunDir(root), {"executor": "ray", "concurrency": 3})
    assert (plan.request.executor, plan.machine.concurrency) == ("ray", 3)
