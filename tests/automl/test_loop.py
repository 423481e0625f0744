"""The driver against recorded curves on a virtual clock: budgets, stopping, failures, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from automl import bundle
from automl.executors.base import Decision, Exit, TrialJob
from automl.executors.replay import ReplayExecutor
from automl.loop import SearchDriver
from automl.plan import Machine, Plan
from automl.progress import Progress
from automl.request import RunRequest
from automl.rundir import RunDir
from automl.storage import open_storage
from automl.study import Study
from tests.automl.fakes import TinySpace
from tests.automl.test_policy_bundle import make_model

EPOCHS = 9


class Bench:
    """A run of a toy model whose trials are curves; `drive` is one driver's life."""

    def __init__(self, root: Path, **request: Any) -> None:
        make_model(
            root / "toy", spec_params={"train": {"train.resume": "resume_model", "results_dir": "output_dir"}}
        )
        spec = {"train": {"lr": 1e-3, "depth": 3, "num_epochs": EPOCHS, "resume": ""}, "results_dir": ""}
        machine = Machine((), 0, 1, request.pop("at_a_time", 1))
        self.plan = Plan(
            RunRequest(**{"trials": 6, **request}), bundle.resolve(str(root / "toy")), request.pop("searching", True),
            spec, {}, {}, {}, [], TinySpace(), machine,
        )  # fmt: skip
        self.run = RunDir(root / "run")
        self.jobs: list[TrialJob] = []

    def curve(self, job: TrialJob) -> list[dict[str, Any] | Exit]:
        """Better for a learning rate near 1e-2; an epoch takes 10 s. A resumed job goes on after its last line."""
        self.jobs.append(job)
        lr = yaml.safe_load(Path(job.spec_path).read_text())["train"]["lr"]
        import math

        quality = max(0.0, 1 - abs(math.log10(lr) + 2) / 3)
        done = len(self.run.records(job.number))
        folder = Path(job.trial_dir)
        records: list[dict[str, Any] | Exit] = []
        for n, epoch in enumerate(range(done, EPOCHS)):
            name = f"model_epoch_{epoch:03d}_step_{epoch:05d}.pth"
            value = quality * (epoch + 1) / EPOCHS
            records.append(
                {
                    "epoch": epoch,
                    "train_loss": 1.0,
                    "val_mAP": value,
                    "elapsed_s": 10.0 * (n + 1),
                    "checkpoint": name,
                }
            )
        folder.mkdir(parents=True, exist_ok=True)
        return records

    def written(self, curve: list[dict[str, Any] | Exit], job: TrialJob) -> list[dict[str, Any] | Exit]:
        """Put the lines and checkpoints on disk, as a trainer would."""
        folder = Path(job.trial_dir)
        with (folder / "metrics.jsonl").open("a") as file:
            for record in curve:
                if isinstance(record, dict):
                    file.write(json.dumps(record) + "\n")
                    (folder / record["checkpoint"]).write_text("weights")
        return curve

    def drive(self, curves: Any = None) -> SearchDriver:
        executor = ReplayExecutor(curves or self.curve, self.plan.machine.concurrency)
        study = Study(open_storage(None, self.run.root), "bench", self.plan.space, "tpe", 0)
        study.enqueue_default()
        driver = SearchDriver(self.plan, study, self.run, Progress(quiet=True), clock=lambda: executor.now_s)
        driver.adopt()
        executor.run(driver)
        return driver

    def states(self) -> list[str]:
        study = Study(open_storage(None, self.run.root), "bench", self.plan.space, "tpe", 0)
        return [t.state.name for t in study.trials()]


def test_a_search_ends_every_trial_and_stops_some_early(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=12)
    driver = bench.drive()
    states = bench.states()
    assert len(states) == 12
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert states[0] == "COMPLETE"
    best = driver.study.best()
    assert best is not None
    assert best.value == max(max(c.values()) for c in driver.study.curves())


def test_the_default_is_the_first_trial_and_never_stopped(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=8, at_a_time=4)
    bench.drive()
    spec = yaml.safe_load((bench.run.trial(0) / "spec.yaml").read_text())
    assert (spec["train"]["lr"], spec["train"]["depth"]) == (1e-3, 3)
    assert bench.states()[0] == "COMPLETE"


def test_budget_of_epochs(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=None, epochs=20)
    driver = bench.drive()
    assert sum(len(c) for c in driver.study.curves()) == 20


def test_budget_of_time_stops_what_runs_and_counts_over_drivers(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=None, time_s=150.0)
    driver = bench.drive()
    assert driver.study.elapsed_s() == pytest.approx(150, abs=11)
    assert "RUNNING" not in bench.states()
    asked = len(bench.states())
    bench.drive()
    assert len(bench.states()) == asked


def test_a_crash_is_started_once_more_from_its_checkpoint(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=1)

    def crashing(job: TrialJob) -> list[dict[str, Any] | Exit]:
        curve = bench.curve(job)
        if len(bench.jobs) == 1:
            return [*bench.written(curve[:4], job), Exit(1, "exit code 1")]
        return bench.written(curve, job)

    driver = bench.drive(crashing)
    assert bench.states() == ["COMPLETE"]
    assert sorted(driver.study.curves()[0]) == list(range(EPOCHS))
    resumed = yaml.safe_load(Path(bench.jobs[1].spec_path).read_text())
    assert resumed["train"]["resume"].endswith("model_epoch_003_step_00003.pth")


def test_a_second_crash_fails_with_the_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=1)
    driver = bench.drive(lambda job: [bench.curve(job)[0], Exit(-9, "killed by signal 9")])
    assert bench.states() == ["FAIL"]
    assert driver.study.frozen(0).user_attrs["reason"] == "killed by signal 9"
    assert len(bench.jobs) == 2


def test_a_user_s_mistake_is_not_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=1)
    bench.drive(lambda job: [bench.curve(job) and Exit(2, "exit code 2")])
    assert bench.states() == ["FAIL"]
    assert len(bench.jobs) == 1


def test_a_hopeless_run_ends_after_three_failures(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=50)
    driver = bench.drive(lambda job: [bench.curve(job) and Exit(2, "exit code 2")])
    assert bench.states() == ["FAIL"] * 3
    assert len(driver.failures) == 3


def test_a_loss_that_is_not_finite_fails_the_trial(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=2)

    def diverging(job: TrialJob) -> list[dict[str, Any] | Exit]:
        curve = bench.curve(job)
        return (
            [*curve[:2], {"epoch": 2, "train_loss": None, "val_mAP": 0.0, "elapsed_s": 30.0}, *curve[3:]]
            if job.number
            else curve
        )

    driver = bench.drive(diverging)
    assert driver.study.frozen(1).state.name in ("FAIL", "PRUNED")
    reasons = [driver.study.frozen(n).user_attrs["reason"] for n in (0, 1)]
    assert reasons[0] == "finished"


class Died(BaseException):
    pass


@pytest.mark.parametrize("dies_after", [1, 5, 9, 10, 14, 17])
def test_a_driver_that_dies_anywhere_loses_nothing(tmp_path: Path, dies_after: int) -> None:
    """Killed after so many records, then resumed: every trial ends once, with a whole curve."""
    bench = Bench(tmp_path, trials=4)
    seen = 0

    class Dying(SearchDriver):
        def on_record(self, number: int, record: dict[str, Any]) -> Decision:
            nonlocal seen
            seen += 1
            if seen == dies_after:
                raise Died
            return super().on_record(number, record)

    def curves(job: TrialJob) -> list[dict[str, Any] | Exit]:
        return bench.written(bench.curve(job), job)

    executor = ReplayExecutor(curves)
    study = Study(open_storage(None, bench.run.root), "bench", bench.plan.space, "tpe", 0)
    study.enqueue_default()
    with pytest.raises(Died):
        executor.run(Dying(bench.plan, study, bench.run, Progress(quiet=True), clock=lambda: executor.now_s))
    driver = bench.drive(curves)
    assert len(bench.states()) == 4
    assert "RUNNING" not in bench.states()
    assert sorted(driver.study.curves()[0]) == list(range(EPOCHS))
    uninterrupted = Bench(tmp_path / "again", trials=4).drive()
    assert [t.user_attrs["params"] for t in driver.study.trials()] == [
        t.user_attrs["params"] for t in uninterrupted.study.trials()
    ]


def test_checkpoints_of_stopped_trials_go_and_the_best_stay(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=10)
    driver = bench.drive(lambda job: bench.written(bench.curve(job), job))
    best = driver.study.best()
    assert best is not None
    assert bench.run.checkpoint(best.number, best.epoch)
    assert bench.run.checkpoint(0, EPOCHS - 1)
    for trial in driver.study.trials():
        left = list(bench.run.trial(trial.number).glob("*.pth"))
        assert len(left) <= 1
        if trial.state.name == "PRUNED":
            assert not left


def test_off_runs_one_trial(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=10)
    bench.plan.searching = False
    bench.drive()
    assert bench.states() == ["COMPLETE"]
