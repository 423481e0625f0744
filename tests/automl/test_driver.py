"""The driver against recorded curves on a virtual clock: budgets, stopping, failures, resuming."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from automl import bundle, faults, handoff, loop, records, same_data
from automl.checkpoints import choose_winner, so_far
from automl.driver import SearchDriver
from automl.errors import AutoMLError, StorageError, UserError
from automl.executors.base import Decision, Exit, TrialJob
from automl.executors.replay import ReplayExecutor
from automl.failures import FEW, MANY
from automl.metric import Metric
from automl.plan import Machine, Plan
from automl.progress import Progress
from automl.records import Record
from automl.report.gather import columns_of
from automl.request import RunRequest
from automl.rundir import RunDir
from automl.storage import open_storage
from automl.study import Study
from automl.trials import Trials
from tests.automl.fakes import TinySpace
from tests.automl.test_policy_bundle import make_model

EPOCHS = 9


class Bench:
    """A run of a toy model whose trials are curves; `drive` is one driver's life."""

    def __init__(self, root: Path, **request: Any) -> None:
        make_model(
            root / "toy", checkpoint_glob="*.pth", epochs_key="train.num_epochs",
            spec_params={"train": {"train.resume": "resume_model", "results_dir": "output_dir"}},
        )  # fmt: skip
        spec = {"train": {"lr": 1e-3, "depth": 3, "num_epochs": EPOCHS, "resume": ""}, "results_dir": ""}
        machine = Machine((), 0, 1, request.pop("at_a_time", 1))
        self.metric = request.pop("judged_by", Metric("val_mAP"))
        self.plan = Plan(
            RunRequest(**{"trials": 6, "metric": self.metric.name, "scheduler": "halving", **request}), bundle.resolve(str(root / "toy")),
            True, spec, {}, {}, {}, [], TinySpace(), machine, self.metric,
        )  # fmt: skip
        self.run = RunDir(root / "run")
        self.jobs: list[TrialJob] = []

    def curve(self, job: TrialJob) -> list[dict[str, Any] | Exit]:
        """Better for a learning rate near 1e-2; an epoch takes 10 s. A resumed job goes on after its last line."""
        self.jobs.append(job)
        lr = yaml.safe_load(Path(job.spec_path).read_text())["train"]["lr"]
        import math

        quality = max(0.0, 1 - abs(math.log10(lr) + 2) / 3)
        done = len(records.read(Path(job.trial_dir) / "metrics.jsonl")[0])
        folder = Path(job.trial_dir)
        lines: list[dict[str, Any] | Exit] = []
        for n, epoch in enumerate(range(done, EPOCHS)):
            name = f"model_epoch_{epoch:03d}_step_{epoch:05d}.pth"
            value = quality * (epoch + 1) / EPOCHS
            lines.append(
                {
                    "epoch": epoch,
                    "train_loss": 1.0,
                    "val_mAP": value,
                    "elapsed_s": 10.0 * (n + 1),
                    "checkpoint": name,
                }
            )
        folder.mkdir(parents=True, exist_ok=True)
        return lines

    def written(self, curve: list[dict[str, Any] | Exit], job: TrialJob) -> list[dict[str, Any] | Exit]:
        """Put the lines and checkpoints on disk, as a trainer would."""
        folder = Path(job.trial_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "metrics.jsonl").open("a") as file:
            for record in curve:
                if isinstance(record, dict):
                    file.write(json.dumps(record) + "\n")
                    if isinstance(record.get("checkpoint"), str):
                        (folder / record["checkpoint"]).write_text("weights")
        return curve

    def drive(self, curves: Any = None, kind: type[SearchDriver] = SearchDriver) -> SearchDriver:
        executor = ReplayExecutor(curves or self.curve, self.plan.machine.concurrency)
        driver = kind(self.plan, self.study(), self.run, Progress(quiet=True), clock=lambda: executor.now_s)
        driver.adopt()
        executor.run(driver)
        return driver

    def in_time(self) -> type[SearchDriver]:
        """A driver whose trainers put a line and its checkpoint on disk just before it is read."""
        bench = self

        class InTime(SearchDriver):
            def on_record(self, number: int, record: dict[str, Any]) -> Decision:
                bench.written([record], TrialJob(number, str(bench.run.trial(number)), "", entry="a:b"))
                return super().on_record(number, record)

        return InTime

    def study(self) -> Study:
        storage = open_storage(None, self.run.root)
        return Study(storage, "bench", self.plan.space, "tpe", 0, self.metric.maximize)

    def folder(self, number: int) -> list[str]:
        return sorted(path.name for path in self.run.trial(number).glob("*.pth"))

    def states(self) -> list[str]:
        return [t.state.name for t in self.study().trials()]


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
    bench = Bench(tmp_path, trials=None, total_epochs=20)
    driver = bench.drive()
    assert sum(len(c) for c in driver.study.curves()) == 20


def test_a_budget_of_epochs_is_used_up_beside_one_of_trainings(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=None, total_epochs=3 * EPOCHS - 2, trainings=3, scheduler="none")
    assert bench.drive().study.epochs_trained == 3 * EPOCHS - 2
    study = bench.study()
    assert [study.state(number) for number in range(3)] == ["COMPLETE", "COMPLETE", "CUT"]


def test_what_was_left_waiting_keeps_its_scheduler_s_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=6, scheduler="asha")

    def worse(job: TrialJob) -> list[Any]:
        return [line | {"val_mAP": 0.9 - job.number / 10} for line in bench.curve(job)]  # type: ignore[operator]

    driver = bench.drive(worse, bench.in_time())
    for number in driver.study.paused():  # as if a driver had died between telling why and telling that
        why = f"paused after epoch 1, and nothing brought it back: {driver.study.frozen(number).user_attrs['reason']}"
        driver.study.note(number, reason=why)
    driver.end_paused()
    reasons = {str(trial.user_attrs["reason"]) for trial in driver.study.trials()}
    assert any(", and nothing brought it back: " in why and "; the best 1 go on" in why for why in reasons)
    assert not any(why.count("nothing brought it back") > 1 for why in reasons)


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_a_budget_of_time_begins_nothing_that_cannot_end_and_counts_over_drivers(
    tmp_path: Path, at_a_time: int
) -> None:
    """A training takes 90 s."""
    bench = Bench(tmp_path, trials=None, time_s=400.0, scheduler="none", at_a_time=at_a_time)
    driver = bench.drive()
    assert 270 <= driver.study.elapsed_s() <= 400
    assert set(bench.states()) == {"COMPLETE"}
    asked = len(bench.states())
    bench.drive()
    assert len(bench.states()) == asked


@pytest.mark.parametrize("scheduler", ["fgp", "asha", "halving", "none"])
@pytest.mark.parametrize("at_a_time", [1, 4])
def test_a_budget_of_trainings_is_spent_and_cuts_nothing(
    tmp_path: Path, scheduler: str, at_a_time: int
) -> None:
    bench = Bench(tmp_path, trials=None, trainings=6, scheduler=scheduler, at_a_time=at_a_time)
    driver = bench.drive()
    assert 5 * EPOCHS < driver.study.epochs_reported <= 6 * EPOCHS
    assert len(bench.states()) >= 6
    driver.end_paused()
    reasons = [str(t.user_attrs["reason"]) for t in driver.study.trials() if t.state.name == "PRUNED"]
    assert not [reason for reason in reasons if reason.startswith("the budget")]


def test_what_stopping_saves_of_the_trials_goes_to_paused_ones(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=8, scheduler="fgp")
    driver = bench.drive(lambda job: bench.written(bench.curve(job), job))
    assert len(bench.states()) == 8
    assert driver.study.epochs_reported <= 8 * EPOCHS
    waited = [t for t in driver.study.trials() if "waited" in t.user_attrs]
    went_on = [t.number for t in waited if max(t.intermediate_values) > t.user_attrs["waited"]]
    assert went_on or driver.study.epochs_reported == 8 * EPOCHS


@pytest.mark.parametrize("scheduler", ["fgp", "asha"])
def test_what_a_trainer_wrote_before_its_pause_took_hold_is_counted_when_it_goes_on(
    tmp_path: Path, scheduler: str
) -> None:
    """All lines but the last are on disk at once: a trainer much faster than the driver. It is as if it had been slow."""
    fast = Bench(tmp_path / "fast", trials=8, scheduler=scheduler)

    def ahead(job: TrialJob) -> list[Any]:
        curve = fast.curve(job)
        fast.written(curve[: EPOCHS - 1 - curve[0]["epoch"]], job)  # type: ignore[index]
        return curve

    class LastLine(SearchDriver):
        def on_record(self, number: int, record: dict[str, Any]) -> Decision:
            if record["epoch"] == EPOCHS - 1:
                fast.written([record], TrialJob(number, str(fast.run.trial(number)), "", entry="a:b"))
            return super().on_record(number, record)

    fast.drive(ahead, LastLine)
    curves = [t.intermediate_values for t in fast.study().trials() if t.state.name == "COMPLETE"]
    assert {len(curve) for curve in curves} == {EPOCHS}
    slow = Bench(tmp_path / "slow", trials=8, scheduler=scheduler)
    slow.drive(kind=slow.in_time())
    assert any("waited" in t.user_attrs for t in slow.study().trials())
    assert fast.study().curves() == slow.study().curves()
    assert fast.study().epochs_trained == slow.study().epochs_trained == fast.study().epochs_reported
    assert not any("again" in t.user_attrs for t in fast.study().trials())


@pytest.mark.parametrize("scheduler", ["fgp", "asha"])
def test_a_trainer_that_is_at_its_end_before_a_pause_takes_hold_spends_the_budget(
    tmp_path: Path, scheduler: str
) -> None:
    """Every line is on disk before the driver reads the first."""
    bench = Bench(tmp_path, trials=None, trainings=5, scheduler=scheduler)
    driver = bench.drive(lambda job: bench.written(bench.curve(job), job))
    assert bench.states() == ["COMPLETE"] * 5
    assert driver.study.epochs_reported == 5 * EPOCHS


def test_a_paused_trial_that_lost_its_checkpoint_does_not_wait_at_the_same_place_again(
    tmp_path: Path,
) -> None:
    """What it is trained again counts in the budget."""
    bench = Bench(tmp_path, trials=None, trainings=12, scheduler="fgp")

    class Losing(bench.in_time()):  # type: ignore[misc]
        def on_exit(self, number: int, exit: Exit) -> None:
            super().on_exit(number, exit)
            if number in self.study.paused():
                for path in self.trials.run.trial(number).glob("*.pth"):
                    path.unlink()

    def counting(job: TrialJob) -> list[Any]:
        metrics = Path(job.trial_dir) / "metrics.jsonl"
        assert not metrics.exists() or not metrics.read_text()  # each starts from nothing
        return bench.curve(job)

    driver = bench.drive(counting, Losing)
    again = sum(t.user_attrs.get("again", 0) for t in driver.study.trials())
    reported = driver.study.epochs_reported
    assert again
    assert driver.study.epochs_trained == reported + again <= 12 * EPOCHS
    assert max(sum(job.number == n for job in bench.jobs) for n in range(len(bench.states()))) <= 4
    assert Study.reading(driver.study.storage, "bench").epochs_trained == reported + again


@pytest.mark.parametrize("written", [3, 6, EPOCHS])
def test_lines_that_the_one_who_is_gone_did_not_pass_on_are_taken_in(tmp_path: Path, written: int) -> None:
    """Of every trial the first process is lost once; its last lines are on disk alone."""
    whole = Bench(tmp_path / "whole", scheduler="none")
    whole.drive()
    bench = Bench(tmp_path / "lost", scheduler="none")
    lost: set[int] = set()

    def losing(job: TrialJob) -> list[Any]:
        curve = bench.curve(job)
        if job.number in lost:
            return bench.written(curve, job)
        lost.add(job.number)
        return [*bench.written(curve[:written], job)[:2], Exit(None, "lost with its machine", lost=True)]

    driver = bench.drive(losing)
    assert [t.intermediate_values for t in driver.study.trials()] == [
        t.intermediate_values for t in whole.study().trials()
    ]
    assert bench.states() == whole.states()
    assert len(bench.jobs) == (6 if written == EPOCHS else 12)


def test_a_trial_without_a_checkpoint_is_not_let_wait(tmp_path: Path) -> None:
    """Going on would be to train it again."""
    bench = Bench(tmp_path, trials=8, scheduler="fgp")
    driver = bench.drive()  # nothing is on disk
    assert not driver.study.paused()
    assert len(bench.jobs) == 8


def test_a_model_that_cannot_resume_stops_what_would_wait(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=8, scheduler="fgp")
    del bench.plan.bundle.skill["spec_params"]["train"]["train.resume"]
    driver = bench.drive()
    assert "PRUNED" in bench.states()
    assert not driver.study.paused()
    assert len(bench.jobs) == 8


def test_trials_that_fail_use_up_a_budget_of_trainings(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=None, trainings=4, scheduler="none")

    def failing(job: TrialJob) -> list[Any]:
        return bench.curve(job) if job.number == 0 else [Exit(4, "out of memory")]

    bench.drive(failing)
    assert bench.states() == ["COMPLETE"] + ["FAIL"] * 19


def test_a_crash_after_the_last_epoch_is_not_started_again(tmp_path: Path) -> None:
    """From its last checkpoint there would be nothing left to train."""
    bench = Bench(tmp_path, trials=1)
    bench.drive(lambda job: [*bench.written(bench.curve(job), job), Exit(1, "exit code 1")])
    assert bench.states() == ["COMPLETE"]
    assert len(bench.jobs) == 1


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


def test_a_trial_without_room_on_a_disk_ends_the_run_for_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few times at one place, each on another driver; then it is the trial's own fault, after a crash's restart."""
    monkeypatch.setattr(faults, "STOPS", 1)
    bench = Bench(tmp_path, trials=1)
    full = Exit(1, "exit code 1; last line of log: OSError: [Errno 28] No space left on device")
    with pytest.raises(
        StorageError, match="no room on a disk: .* No space left on device; free some and: .*resume"
    ):
        bench.drive(lambda job: [bench.curve(job)[0], full])
    with pytest.raises(StorageError, match="no room on a disk"):  # it got further
        bench.drive(lambda job: [*bench.curve(job)[:2], full])
    assert bench.states() == ["RUNNING"]
    bench.drive(lambda job: [full for _ in bench.curve(job)[:1]])
    assert bench.states() == ["FAIL"]
    assert len(bench.jobs) == 4


def test_a_full_folder_for_temporary_files_is_no_excuse_for_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "is_full", lambda place: place == tempfile.gettempdir())
    bench = Bench(tmp_path, trials=1)
    bench.drive(lambda job: [Exit(1, "exit code 1; last line of log: ValueError: lr is bad here")])
    assert bench.states() == ["RUNNING"]


@pytest.mark.parametrize("code", [1, 2])
def test_a_full_folder_for_temporary_files_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(faults, "is_full", lambda place: place == tempfile.gettempdir())
    bench = Bench(tmp_path, trials=1)
    with pytest.raises(
        StorageError, match=f"no space left on {faults._mount(Path(tempfile.gettempdir()))}; free"
    ):
        bench.drive(lambda job: [Exit(code, f"exit code {code}; last line of log: no space left for x.pth")])
    assert bench.states() == ["RUNNING"]


def test_a_user_s_mistake_is_not_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=1)
    bench.drive(lambda job: [bench.curve(job) and Exit(2, "exit code 2")])
    assert bench.states() == ["RUNNING"]
    assert len(bench.jobs) == 1


@pytest.mark.parametrize(("well", "failed"), [(0, FEW), (2, MANY)])
def test_failures_in_a_row_end_a_run_that_then_goes_on_with_them(
    tmp_path: Path, well: int, failed: int
) -> None:
    """Of each but those that went well before nobody knows whose fault it was; resumed, they go well, or are told."""
    bench = Bench(tmp_path, trials=50, scheduler="none")

    def failing(job: TrialJob) -> list[Any]:
        return bench.curve(job) if job.number < well else [Exit(2, "exit code 2")]

    driver = bench.drive(failing)
    open_ones = ["RUNNING"] * failed
    assert bench.states() == ["COMPLETE"] * well + open_ones
    with pytest.raises(
        AutoMLError, match=rf"trial {well}: exit code 2; log.*; the same of trials(.|\n)*automl resume"
    ):
        driver.in_a_row.check_end()
    half = well + failed // 2
    bench.drive(lambda job: bench.curve(job) if job.number < half else [Exit(2, "exit code 2")])
    told = ["COMPLETE"] * half + ["FAIL"] * (well + failed - half)
    assert bench.states() == told + ["RUNNING"] * MANY


@pytest.mark.parametrize("failed", [FEW - 1, FEW])
def test_failures_in_a_row_at_the_end_of_a_search(tmp_path: Path, failed: int) -> None:
    """A few are the trials' own; more end the run for now."""
    bench = Bench(tmp_path, trials=4 + failed, scheduler="none")
    driver = bench.drive(lambda job: bench.curve(job) if job.number < 4 else [Exit(2, "exit code 2")])
    state = "RUNNING" if failed == FEW else "FAIL"
    assert bench.states() == ["COMPLETE"] * 4 + [state] * failed
    assert list(driver.in_a_row.reasons) == ([4, 5, 6] if failed == FEW else [])


def test_a_failure_is_the_trial_s_own_once_a_later_one_has_got_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=20, scheduler="none", at_a_time=2)
    told: list[str] = []

    class Looking(SearchDriver):
        def on_record(self, number: int, record: dict[str, Any]) -> Decision:
            decision = super().on_record(number, record)
            told.append(f"{number} {self.study.frozen(2).state.name if len(self.study.trials()) > 2 else ''}")
            return decision

    bench.drive(lambda job: [Exit(2, "exit code 2")] if job.number in (2, 3) else bench.curve(job), Looking)
    assert bench.states() == ["COMPLETE"] * 2 + ["FAIL"] * 2 + ["COMPLETE"] * 16
    assert "1 FAIL" not in told  # which began before it
    assert told.index("4 FAIL") < told.index("5 FAIL")


def test_a_trial_that_got_on_since_its_last_failure_is_started_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=1)

    def killed(job: TrialJob) -> list[Any]:
        curve = bench.curve(job)
        return [*bench.written(curve[:2], job), Exit(-9, "killed")] if len(curve) > 2 else curve

    bench.drive(killed)
    assert bench.states() == ["COMPLETE"]
    assert len(bench.jobs) == 5


def test_no_trial_begins_on_data_that_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, trials=6, scheduler="none")
    bench.plan.facts["train"] = {"images": 10}
    images = [10]

    def inspect(spec: dict[str, Any], folder: str | None, work_dir: Path) -> dict[str, Any]:
        return {"facts": {"train": {"images": images[0]}}}

    hooks = {"inspect_data": inspect}
    monkeypatch.setattr(type(bench.plan.bundle), "call", lambda _, name: hooks.get(name))
    monkeypatch.setattr(same_data, "EACH_S", 0.0)
    monkeypatch.setattr(same_data, "SHARE", 1e9)

    def changing(job: TrialJob) -> list[Any]:
        images[0] = 9 if job.number == 2 else 10
        return bench.curve(job)

    with pytest.raises(
        UserError, match=r"changed since this run began(.|\n)*images was 10 and is 9(.|\n)*: 2$"
    ):
        bench.drive(changing)
    assert bench.states() == ["COMPLETE"] * 3 + ["RUNNING"]
    images[0] = 10
    driver = bench.drive()
    assert bench.states() == ["COMPLETE"] * 6
    images[0] = 9
    with pytest.raises(UserError, match="changed since this run began"):
        driver.data.look()


def test_before_anything_has_gone_well_no_trial_has_failed(tmp_path: Path) -> None:
    """Resumed on a machine that is still broken, as a queue does."""
    bench = Bench(tmp_path, trials=2, scheduler="none")
    for _ in range(3):
        driver = bench.drive(lambda job: [bench.curve(job) and Exit(4, "out of memory")])
        assert bench.states() == ["RUNNING"] * 2
        with pytest.raises(AutoMLError, match=r"no trial got through an epoch:(.|\n)*automl resume"):
            driver.in_a_row.check_end()
    bench.drive()
    assert bench.states() == ["COMPLETE"] * 2


def test_data_that_are_gone_end_the_run_and_not_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, trials=4, scheduler="none")
    data = tmp_path / "data"
    data.touch()

    def inspect(spec: dict[str, Any], folder: str | None, work_dir: Path) -> dict[str, Any]:
        return {"problems": [] if data.exists() else [f"{data} is not there"]}

    hooks = {"inspect_data": inspect}
    monkeypatch.setattr(type(bench.plan.bundle), "call", lambda _, name: hooks.get(name))

    def gone(job: TrialJob) -> list[Any]:
        data.unlink(missing_ok=True) if job.number == 2 else None
        return bench.curve(job) if data.exists() else [Exit(2, "exit code 2")]

    with pytest.raises(UserError, match="data is not there"):
        bench.drive(gone)
    assert bench.states() == ["COMPLETE"] * 2 + ["RUNNING"]
    data.touch()
    bench.drive()
    assert bench.states() == ["COMPLETE"] * 4


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
    with pytest.raises(Died):
        executor.run(
            Dying(bench.plan, bench.study(), bench.run, Progress(quiet=True), clock=lambda: executor.now_s)
        )
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
    assert driver.trials.checkpoint_of(best.number, best.epoch)
    assert driver.trials.checkpoint_of(0, EPOCHS - 1)
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


# ---- checkpoints ------------------------------------------------------------------------------------------------


class Trainer:
    """A trainer whose driver may be far behind: it writes on, whatever has been handled."""

    def __init__(self, bench: Bench, values: list[float], named: Any = lambda epoch: True) -> None:
        self.bench, self.values = bench, values
        self.folder = bench.run.trial(0)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lines = [
            {"epoch": e, "val_mAP": v, "checkpoint": f"epoch_{e}.pth" if named(e) else None}
            for e, v in enumerate(values)
        ]

    def write(self, epoch: int, line: bool = True) -> None:
        name = self.lines[epoch]["checkpoint"]
        if name:
            path = self.folder / str(name)
            path.write_text("weights")
            os.utime(path, ns=(epoch * 10**9, epoch * 10**9))
        if line:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(self.lines[epoch]) + "\n")


def driver_of(bench: Bench) -> SearchDriver:
    driver = SearchDriver(bench.plan, bench.study(), bench.run, Progress(quiet=True))
    driver.next_job()
    return driver


@pytest.mark.parametrize("best", range(5))
@pytest.mark.parametrize("behind", range(6))
def test_a_driver_that_is_behind_keeps_what_turns_out_best(tmp_path: Path, behind: int, best: int) -> None:
    bench = Bench(tmp_path)
    driver = driver_of(bench)
    trainer = Trainer(bench, [0.9 if e == best else 0.1 * e for e in range(EPOCHS)])
    for epoch in range(EPOCHS + behind):
        if epoch < EPOCHS:
            trainer.write(epoch)
        if epoch >= behind:
            driver.on_record(0, trainer.lines[epoch - behind])
    driver.on_exit(0, Exit(0, "finished"))
    winner = choose_winner(driver.study, driver.trials)
    assert winner is not None
    assert winner.warning is None
    assert winner.checkpoint == trainer.folder / f"epoch_{best}.pth"
    assert bench.folder(0) == [f"epoch_{best}.pth"]


def test_a_checkpoint_that_is_there_before_its_line_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    driver = driver_of(bench)
    trainer = Trainer(bench, [0.1 * e for e in range(EPOCHS)])
    for epoch in range(EPOCHS - 1):
        trainer.write(epoch + 1, line=False)
        trainer.write(epoch)
        driver.on_record(0, trainer.lines[epoch])
        assert f"epoch_{epoch + 1}.pth" in bench.folder(0)
        assert len(bench.folder(0)) <= 3


def test_what_is_not_named_by_any_line_goes_once_it_is_old(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    driver = driver_of(bench)
    trainer = Trainer(bench, [0.1 * e for e in range(EPOCHS)])
    stray = trainer.folder / "within_epoch_2.pth"
    for epoch in range(4):
        if epoch == 2:
            stray.write_text("weights")
            os.utime(stray, ns=(15 * 10**8, 15 * 10**8))
        trainer.write(epoch)
        driver.on_record(0, trainer.lines[epoch])
    assert not stray.exists()


@pytest.mark.parametrize("interval", [2, 4, 9])
def test_only_epochs_with_a_checkpoint_can_win(tmp_path: Path, interval: int) -> None:
    """The best epoch, 3 (0-based 2), has no checkpoint; the trial's value is that of what can be handed over."""
    bench = Bench(tmp_path)
    driver = driver_of(bench)
    values = [0.1, 0.2, 0.9, 0.3, 0.2, 0.35, 0.3, 0.3, 0.25]
    trainer = Trainer(bench, values, lambda e: (e + 1) % interval == 0 or e + 1 == EPOCHS)
    for epoch in range(EPOCHS):
        trainer.write(epoch)
        driver.on_record(0, trainer.lines[epoch])
    driver.on_exit(0, Exit(0, "finished"))
    winner = choose_winner(driver.study, driver.trials)
    assert winner is not None
    assert winner.checkpoint is not None
    assert winner.checkpoint.name == f"epoch_{winner.best.epoch}.pth"
    assert winner.best.value == values[winner.best.epoch]
    named = [e for e in range(EPOCHS) if trainer.lines[e]["checkpoint"]]
    assert winner.best.value == max(values[e] for e in named) == driver.study.frozen(0).value


def cut_off(path: Path) -> None:
    """A zip, as torch and numpy write, without its end."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("weights", "w" * 1000)
    path.write_bytes(path.read_bytes()[:-40])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut off": cut_off,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path: Path, damage: str) -> None:
    bench = Bench(tmp_path)
    trainer = Trainer(bench, [0.1 * e for e in range(EPOCHS)])
    for epoch in range(3):
        trainer.write(epoch)
    trials = Trials(bench.plan, bench.run)
    assert trials.goes_on_at(0) == 3
    DAMAGE[damage](trainer.folder / "epoch_2.pth")
    assert trials.goes_on_at(0) == 2
    whole = trainer.folder / "epoch_1.pth"
    with zipfile.ZipFile(whole, "w") as file:
        file.writestr("weights", "w" * 1000)
    assert trials.goes_on_at(0) == 2


@pytest.mark.parametrize("damage", DAMAGE)
def test_hand_over_falls_back_to_the_next_best_that_is_whole(tmp_path: Path, damage: str) -> None:
    bench = Bench(tmp_path, trials=6)
    driver = bench.drive(lambda job: bench.written(bench.curve(job), job))
    first = choose_winner(driver.study, driver.trials)
    assert first is not None
    assert first.checkpoint is not None
    DAMAGE[damage](first.checkpoint)
    second = choose_winner(driver.study, driver.trials)
    assert second is not None
    assert second.checkpoint is not None
    assert second.best.number != first.best.number
    assert f"trial {first.best.number}, epoch {EPOCHS}" in str(second.warning)
    for number in range(6):
        for path in bench.run.trial(number).glob("*.pth"):
            path.unlink()
    last = bench.run.trial(first.best.number) / "rescued.pth"
    last.write_text("weights")
    third = choose_winner(driver.study, driver.trials)
    assert third is not None
    assert third.checkpoint == last
    last.unlink()
    none = choose_winner(driver.study, driver.trials)
    assert none is not None
    assert none.checkpoint is None
    assert "only its configuration" in str(none.warning)


def test_a_trainer_without_checkpoints_can_win(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=4)

    def curves(job: TrialJob) -> list[Any]:
        return [{k: v for k, v in record.items() if k != "checkpoint"} for record in bench.curve(job)]  # type: ignore[union-attr]

    driver = bench.drive(curves)
    winner = choose_winner(driver.study, driver.trials)
    assert winner is not None
    assert (winner.checkpoint, winner.warning) == (None, None)


def test_checkpoints_may_be_folders(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    driver = driver_of(bench)
    folder = bench.run.trial(0)
    for epoch in range(EPOCHS):
        (folder / f"ckpt_{epoch}" / "deep").mkdir(parents=True)
        driver.on_record(0, {"epoch": epoch, "val_mAP": 0.1 * epoch, "checkpoint": f"ckpt_{epoch}"})
    driver.on_exit(0, Exit(0, "finished"))
    assert [p.name for p in folder.glob("ckpt_*")] == ["ckpt_8"]


def test_nothing_outside_a_trial_s_folder_is_deleted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    driver = driver_of(bench)
    outside = tmp_path / "precious.pth"
    outside.write_text("mine")
    link = bench.run.trial(0) / "linked.pth"
    link.symlink_to(outside)
    for epoch, name in enumerate(["linked.pth", "a.pth", "b.pth"]):
        if name != "linked.pth":
            (bench.run.trial(0) / name).write_text("weights")
        driver.on_record(0, {"epoch": epoch, "val_mAP": 0.1 * epoch, "checkpoint": name})
    driver.on_exit(0, Exit(2, "exit code 2"))
    assert outside.read_text() == "mine"


# ---- odd records, directions, pauses, budgets ---------------------------------------------------------------------


@pytest.mark.parametrize("odd", [10**400, float("inf"), True, "text", None, [1]])
def test_whatever_else_a_line_holds_ends_nothing(tmp_path: Path, odd: Any) -> None:
    bench = Bench(tmp_path, trials=2, scheduler="none")
    bench.drive(
        lambda job: [
            line | {"also": odd} if isinstance(line, dict) else line
            for line in bench.written(bench.curve(job), job)
        ]
    )
    assert bench.states() == ["COMPLETE", "COMPLETE"]
    found, broken = records.read(bench.run.trial(0) / "metrics.jsonl")
    assert broken is None
    assert "also" not in columns_of(found)


@pytest.mark.parametrize(
    "odd",
    [
        {"val_mAP": 0.5},
        {"epoch": -1, "val_mAP": 0.5},
        {"epoch": 1, "val_mAP": [0.5]},
        {"epoch": 1, "val_mAP": "abc"},
        {"epoch": 1, "val_mAP": 0.5, "train_loss": "abc"},
        {"epoch": 10**400},
        {"epoch": 1, "val_mAP": 0.5, "checkpoint": {"path": "x"}},
        {"epoch": 2_000_000_000, "val_mAP": 0.5},
    ],
    ids=["no epoch", "epoch -1", "a list", "text", "loss", "400 digits", "a mapping", "steps"],
)
@pytest.mark.parametrize("before", [0, 1])  # good lines
def test_an_odd_record_fails_its_trial_alone_now_and_after_a_restart(
    tmp_path: Path, odd: dict[str, Any], before: int
) -> None:
    bench = Bench(tmp_path, trials=3, scheduler="none")

    def curves(job: TrialJob) -> list[Any]:
        curve: list[Any] = bench.curve(job)
        if job.number == 1:
            curve.insert(before, odd | {"elapsed_s": 10.0 * before + 0.5})
        return bench.written(curve, job)

    driver = bench.drive(curves)
    assert bench.states() == ["COMPLETE", "FAIL", "COMPLETE"]
    reason = driver.study.frozen(1).user_attrs["reason"]
    assert reason.startswith(f"metrics.jsonl line {before + 1}: ")
    assert "must be" in reason

    other = Bench(tmp_path / "other", trials=2, scheduler="none")
    running = other.study()
    running.ask()
    folder = other.run.trial(0)
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"epoch": 0, "val_mAP": 0.25}\n' * before + json.dumps(odd) + "\n")
    found = other.drive()
    assert other.states() == ["FAIL", "COMPLETE"]
    assert found.study.epochs_trained < 100  # an absurd epoch counts in no budget


def test_a_figure_that_is_no_number_is_not_handed_over(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=1)
    bench.plan.bundle.skill["figures"] = {"val_mAP": "a", "odd": "b", "hot": "c"}
    more = {"odd": "abc", "hot": float("inf")}
    driver = bench.drive(lambda job: bench.written([line | more for line in bench.curve(job)], job))
    best = driver.study.ranked()[0]
    assert handoff._figures(bench.plan, driver.trials, best) == {"val_mAP": best.value}


def test_the_time_that_is_used_is_kept_while_no_line_comes(tmp_path: Path) -> None:
    """An epoch may take hours, and its driver die."""
    bench, now = Bench(tmp_path, trials=2, time_s=100.0), [0.0]
    study = bench.study()
    driver = SearchDriver(bench.plan, study, bench.run, Progress(quiet=True), clock=lambda: now[0])
    now[0] = 50.0
    assert not driver.deadline_passed()
    assert study.elapsed_s() == 0  # nothing was begun: an executor may take long to start
    assert driver.next_job() is not None
    for second in (51.0, 60.0, 70.0):
        now[0] = second
        assert not driver.deadline_passed()
    assert bench.study().elapsed_s() == 20
    now[0] = 151.0
    assert driver.deadline_passed()


def test_of_an_epoch_told_twice_the_last_number_stands_in_the_columns() -> None:
    lines = [Record(0, {"epoch": 0, "a": 1}), Record(1, {"a": 2}), Record(1, {"a": 3.0, "b": 4})]
    assert columns_of(lines) == {"a": [(1, 1.0), (2, 3.0)], "b": [(2, 4.0)]}


def test_what_never_reports_the_metric_is_told_what_it_reports(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=1)
    driver = bench.drive(lambda job: bench.written([{"epoch": 0, "val_y": 1.0, "elapsed_s": 1.0}], job))
    reason = driver.study.frozen(0).user_attrs["reason"]
    assert reason == "it reported no 'val_mAP'; its lines have elapsed_s, epoch, val_y"


def test_a_metric_that_is_minimised(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=12, judged_by=Metric("val_loss", maximize=False))

    def curves(job: TrialJob, of: Bench = bench) -> list[Any]:
        return [record | {"val_loss": 2 - record["val_mAP"]} for record in of.curve(job)]  # type: ignore[operator, index]

    driver = bench.drive(lambda job: bench.written(curves(job), job))
    best = driver.study.best()
    assert best is not None
    assert best.value == min(t.value for t in driver.study.trials() if t.value is not None)
    assert driver.trials.checkpoint_of(best.number, best.epoch)
    other = Bench(tmp_path / "other", trials=12, judged_by=Metric("val_loss", maximize=False))
    other.drive(lambda job: curves(job, other))  # nothing is written ahead of the driver
    assert "PRUNED" in other.states()


def test_text_numbers_count(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=2, scheduler="none")
    driver = bench.drive(lambda job: [r | {"val_mAP": str(r["val_mAP"])} for r in bench.curve(job)])  # type: ignore[operator, index]
    assert bench.states() == ["COMPLETE"] * 2
    assert driver.study.best() is not None


def test_a_paused_trial_goes_on_from_its_checkpoint_also_after_a_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=12, scheduler="asha")
    seen: list[tuple[int, bool]] = []

    def curves(job: TrialJob) -> list[Any]:
        seen.append((job.number, job.spec_path.endswith("resume.yaml")))
        return bench.curve(job)

    class Writing(SearchDriver):
        handled = 0

        def on_record(self, number: int, record: dict[str, Any]) -> Decision:
            bench.written([record], TrialJob(number, str(bench.run.trial(number)), "", entry="a:b"))
            Writing.handled += 1
            if Writing.handled % 11 == 0:
                raise Died
            return super().on_record(number, record)

    for _ in range(40):
        executor = ReplayExecutor(curves)
        driver = Writing(bench.plan, bench.study(), bench.run, Progress(quiet=True))
        driver.adopt()
        try:
            executor.run(driver)
        except Died:
            continue
        break
    paused = driver.study.paused()
    assert len(driver.study.trials()) == 12
    driver.end_paused()
    states = bench.states()
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert states.count("PRUNED") == len(paused)
    for trial in driver.study.trials():
        epochs = sorted(trial.intermediate_values)
        assert epochs == list(range(len(epochs)))
        if trial.state.name == "COMPLETE":
            assert len(epochs) == EPOCHS
    assert any(resumed for _, resumed in seen)


def test_patience_ends_a_search_that_brings_nothing_new(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=50, patience=4)
    driver = bench.drive()
    best = driver.study.best()
    assert best is not None
    assert best.number + 5 == len(bench.states()) < 50
    bench.plan.request = replace(bench.plan.request, patience=8)
    bench.drive()
    assert len(bench.states()) >= best.number + 9


def test_a_trainer_whose_length_nobody_knows_runs_to_its_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=8)
    bench.plan.bundle.skill.pop("epochs_key")
    bench.drive()
    assert bench.states() == ["COMPLETE"] * 8


# ---- what strangers' trainers do -----------------------------------------------------------------------------------


def test_a_checkpoint_that_every_epoch_writes_over_scores_as_what_it_holds(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    driver = driver_of(bench)
    values = [0.1, 0.2, 0.3, 0.9, 0.5, 0.4, 0.3, 0.35, 0.25]
    for epoch, value in enumerate(values):
        (bench.run.trial(0) / "last.pth").write_text(str(value))
        driver.on_record(0, {"epoch": epoch, "val_mAP": value, "checkpoint": "last.pth"})
        with (bench.run.trial(0) / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"epoch": epoch, "val_mAP": value, "checkpoint": "last.pth"}) + "\n")
    driver.on_exit(0, Exit(0, "finished"))
    winner = choose_winner(driver.study, driver.trials)
    assert winner is not None
    assert winner.checkpoint is not None
    assert float(winner.checkpoint.read_text()) == winner.best.value == driver.study.frozen(0).value == 0.25


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_trainer_that_cannot_go_on_is_scored_by_its_last_attempt(tmp_path: Path, checkpoints: bool) -> None:
    bench = Bench(tmp_path, trials=1)
    bench.plan.bundle.skill["spec_params"] = {"train": {"results_dir": "output_dir"}}
    attempts = 0

    def curves(job: TrialJob) -> list[Any]:
        nonlocal attempts
        attempts += 1
        lines: list[Any] = [
            {"epoch": e, "val_mAP": 1.0 / attempts + 0.01 * e, "elapsed_s": 1.0 * (e + 1)}
            | ({"checkpoint": f"{e}.pth"} if checkpoints else {})
            for e in range(5 if attempts == 1 else EPOCHS)
        ]
        if checkpoints:
            for line in lines:
                (bench.run.trial(0) / line["checkpoint"]).write_text(str(line["val_mAP"]))
        with (bench.run.trial(0) / "metrics.jsonl").open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        return [*lines, Exit(1, "exit code 1")] if attempts == 1 else lines

    driver = bench.drive(curves)
    assert attempts == 2
    assert bench.states() == ["COMPLETE"]
    assert driver.study.frozen(0).value == pytest.approx(0.5 + 0.01 * (EPOCHS - 1))
    winner = choose_winner(driver.study, driver.trials)
    assert winner is not None
    if checkpoints:
        assert winner.checkpoint is not None
        assert float(winner.checkpoint.read_text()) == winner.best.value


@pytest.mark.parametrize("name", ["/etc/passwd", "../0001/model.pth", "a/../../x.pth", "."])
def test_a_checkpoint_elsewhere_is_never_handed_over(tmp_path: Path, name: str) -> None:
    bench = Bench(tmp_path)
    driver = driver_of(bench)
    assert driver.on_record(0, {"epoch": 0, "val_mAP": 0.5, "checkpoint": name}) is Decision.STOP
    driver.on_exit(0, Exit(None, "stopped"))
    assert bench.states() == ["RUNNING"]
    assert "must lie in the trial's folder" in driver.in_a_row.reasons[0]


def test_checkpoints_in_a_folder_of_their_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    driver = driver_of(bench)
    folder = bench.run.trial(0) / "weights"
    folder.mkdir()
    for epoch in range(EPOCHS):
        (folder / f"{epoch}.pth").write_text("weights")
        line = {"epoch": epoch, "val_mAP": 0.9 if epoch == 3 else 0.1, "checkpoint": f"weights/{epoch}.pth"}
        with (bench.run.trial(0) / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        driver.on_record(0, line)
    driver.on_exit(0, Exit(0, "finished"))
    assert [path.name for path in folder.iterdir()] == ["3.pth"]


def test_patience_counts_what_waits_as_far_as_it_got(tmp_path: Path) -> None:
    """With a scheduler that pauses hardly any trial ends."""
    bench = Bench(tmp_path, trials=None, trainings=30, patience=3, scheduler="asha")

    def worse(job: TrialJob) -> list[Any]:
        lines = bench.curve(job)
        for line in lines:
            line["val_mAP"] = (line["epoch"] + 1) * (0.1 if job.number == 0 else 0.02)  # type: ignore[index]
        return lines

    driver = bench.drive(worse, bench.in_time())
    assert driver.study.epochs_trained <= 6 * EPOCHS
    assert len(driver.study.paused()) > 3


@pytest.mark.parametrize(("total", "whole"), [(1, 0), (EPOCHS, 1), (2 * EPOCHS, 2)])
def test_trainings_side_by_side_do_not_use_up_each_other_s_epochs(
    tmp_path: Path, total: int, whole: int
) -> None:
    bench = Bench(tmp_path, trials=None, total_epochs=total, at_a_time=4, scheduler="none")
    driver = bench.drive()
    assert driver.study.epochs_trained == total
    assert bench.states().count("COMPLETE") == whole


@pytest.mark.parametrize("scheduler", ["halving", "asha", "median"])
def test_what_was_judged_is_not_judged_again_by_what_came_later(tmp_path: Path, scheduler: str) -> None:
    """The first of three at a time is far ahead when it is judged, and last when its driver is started again."""
    bench = Bench(tmp_path, trials=12, scheduler=scheduler, at_a_time=3)
    study = bench.study()
    for _ in range(6):
        study.ask()
    for number in (0, 2, 3, 4, 5):
        for epoch in range(EPOCHS):
            study.report(number, epoch, 0.9)
        study.tell(number, "COMPLETE", "")
    job = TrialJob(1, str(bench.run.trial(1)), "", entry="a:b")
    lines = [{"epoch": e, "val_mAP": 0.1, "checkpoint": f"{e}.pth"} for e in range(6)]
    bench.written(lines, job)
    for epoch in range(6):
        study.report(1, epoch, 0.1)
    study.close()
    driver = SearchDriver(bench.plan, bench.study(), bench.run, Progress(quiet=True))
    driver.adopt()
    assert driver.study.frozen(1).state.name == ("PRUNED" if scheduler == "median" else "RUNNING")
    assert driver.study.paused() == {}


def test_of_one_file_whose_last_epoch_is_not_measured_the_last_that_is_counts(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    lines = [
        {"epoch": e, "checkpoint": "last.pth"} | ({"val_mAP": 0.1 * e} if e % 2 else {}) for e in range(7)
    ]
    bench.written(lines, TrialJob(0, str(bench.run.trial(0)), "", entry="a:b"))
    assert Trials(bench.plan, bench.run).scoring(0) == {5}


def two_trials(bench: Bench, values: list[float | None], ending: str) -> Study:
    """A COMPLETE trial 0 of 0.5, and trial 1 whose trainer wrote each epoch over the last."""
    study, trials = bench.study(), Trials(bench.plan, bench.run)
    both: list[tuple[str, list[float | None]]] = [("net.pth", [0.5] * EPOCHS), ("last.pth", values)]
    for number, (name, curve) in enumerate(both):
        study.ask()
        lines: list[Any] = [
            {"epoch": e, "val_mAP": value, "checkpoint": name} for e, value in enumerate(curve)
        ]
        trials.job(number, study.frozen(number).user_attrs["params"])
        bench.written(lines, TrialJob(number, str(bench.run.trial(number)), "", entry="a:b"))
        (bench.run.trial(number) / "metrics.jsonl").touch()
        for epoch, value in enumerate(curve):
            if value is not None:
                study.report(number, epoch, value)
    study.tell(0, "COMPLETE", "finished", trials.scoring(0))
    if ending == "CUT":
        study.note(1, cut=True)
    elif ending != "killed":
        study.tell(1, ending, "", trials.scoring(1))  # type: ignore[arg-type]
    return study


@pytest.mark.parametrize(
    ("values", "ending", "chosen", "holds"),
    [
        ([0.6, 0.7, 0.8, None], "CUT", (1, 2, 0.8), 3),
        ([0.6, 0.7, 0.8, *[None] * 6], "COMPLETE", (1, 2, 0.8), 8),
        ([0.6, 0.9, 0.8], "CUT", (1, 2, 0.8), 2),
        ([0.6, 0.9, 0.4], "CUT", (0, 8, 0.5), 8),
        ([0.6, 0.9, 0.8], "PRUNED", (0, 8, 0.5), 8),
        ([0.6, 0.9, 0.8], "killed", (0, 8, 0.5), 8),
    ],
)
def test_a_file_that_is_written_over_is_worth_its_last_measured_epoch(
    tmp_path: Path, values: list[float | None], ending: str, chosen: tuple[int, int, float], holds: int
) -> None:
    bench = Bench(tmp_path, trials=2)
    study = two_trials(bench, values, ending)
    winner, told = choose_winner(study, Trials(bench.plan, bench.run)), so_far(study, bench.run, bench.metric)
    assert winner is not None
    assert winner == told
    assert (winner.best.number, winner.best.epoch, winner.best.value) == chosen
    assert winner.weights is not None
    assert (winner.weights.scored, winner.weights.holds) == (chosen[1], holds)
    ahead = f"the checkpoint of trial {chosen[0]} holds epoch {holds + 1}, of which nothing was measured"
    assert str(winner.warning).startswith(ahead if holds != chosen[1] else "None")


def test_provenance_tells_the_epoch_that_is_in_the_file(tmp_path: Path) -> None:
    """Killed between a checkpoint and its line; handed over again from what was handed over, it is told again."""
    bench = Bench(tmp_path, trials=2)
    study = two_trials(bench, [0.6, 0.7], "CUT")
    folder = bench.run.trial(1)
    (folder / "last.pth").write_text("of epoch 3")
    after = (folder / "metrics.jsonl").stat().st_mtime_ns + 10**9
    os.utime(folder / "last.pth", ns=(after, after))
    for _ in range(2):
        outcome = handoff.hand_over_to(bench.plan, study, bench.run, Progress(quiet=True))
        told = json.loads((bench.run.best / "provenance.json").read_text())
        assert (told["trial"], told["epoch"], told["checkpoint_epoch"]) == (1, 1, 2)
        assert "holds epoch 3, of which nothing was measured: 0.7000 is of epoch 2" in str(outcome.warning)
        (folder / "last.pth").unlink(missing_ok=True)
    assert (bench.run.best / "model.pth").read_text() == "of epoch 3"


def test_all_failed_says_why_also_when_it_goes_on(tmp_path: Path) -> None:
    study = Bench(tmp_path, trials=2).study()
    for _ in range(2):
        study.tell(study.ask()[0], "FAIL", "it burst")
    said = loop._failures(study, RunDir(tmp_path / "run"))
    assert said[1] == f"trial 1: it burst; log: {tmp_path}/run/trials/0001/log.txt"
