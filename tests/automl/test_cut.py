"""What the time cuts stays open for a driver with more of it, and is handed over where it is the best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from automl import cut
from automl.driver import SearchDriver
from automl.executors.base import TrialJob
from automl.loop import _why_ended
from automl.plan import Plan
from automl.run_outcome import at_end
from tests.automl.test_driver import EPOCHS, Bench


class Slow(Bench):
    """Trial 1 takes thrice as long as the default, and is `better` by so much."""

    better = 0.3

    def curve(self, job: TrialJob) -> list[Any]:
        lines: list[dict[str, Any]] = super().curve(job)  # type: ignore[assignment]
        for line in lines if job.number == 1 else ():
            line["elapsed_s"] *= 3
            line["val_mAP"] = 1.0 + self.better
        return list(lines)

    def with_time(self, seconds: float) -> Slow:
        self.plan = replace(self.plan, request=replace(self.plan.request, time_s=seconds))
        return self


def slow_one(tmp_path: Path, seconds: float, better: float = 0.3) -> Slow:
    bench = Slow(tmp_path, trials=2, time_s=seconds, scheduler="none")
    bench.better = better
    return bench


def ended(driver: SearchDriver) -> SearchDriver:
    driver.end_paused()
    driver.name_winner()
    return driver


@pytest.mark.parametrize("policy", ["on", "off"])
def test_a_training_that_the_time_cuts_goes_on_with_more_of_it(tmp_path: Path, policy: str) -> None:
    """A training takes 90 s, at 10 an epoch."""
    bench = slow_one(tmp_path, 65.0)
    bench.plan = replace(bench.plan, searching=policy == "on")
    driver = ended(bench.drive(kind=bench.in_time()))
    assert [driver.study.state(n) for n in range(len(bench.states()))] == ["CUT"]
    best = driver.study.best()
    assert best is not None
    assert (best.number, best.epoch, best.complete) == (0, 5, False)
    assert cut.text(driver.study.trials()) == (
        "trial 0 was cut where the budget ended: resumed with a larger one, the run goes on with it"
    )
    driver = ended(bench.with_time(165.0).drive(kind=bench.in_time()))
    assert driver.study.state(0) == "COMPLETE"
    assert driver.study.frozen(0).user_attrs["starts"] == [6]
    assert len(driver.study.frozen(0).intermediate_values) == EPOCHS
    assert cut.text(driver.study.trials()) == ""


def test_the_last_training_of_a_budget_of_epochs_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    """Two trainings of nine epochs and three of the next."""
    bench = Bench(tmp_path, trials=None, total_epochs=2 * EPOCHS + 3, scheduler="none")
    driver = ended(bench.drive(kind=bench.in_time()))
    assert [driver.study.state(n) for n in range(3)] == ["COMPLETE", "COMPLETE", "CUT"]
    asked = len(bench.jobs)
    again = ended(bench.drive(kind=bench.in_time()))
    assert again.study.state(2) == "CUT"
    assert len(bench.jobs) == asked
    bench.plan = replace(bench.plan, request=replace(bench.plan.request, total_epochs=3 * EPOCHS))
    driver = ended(bench.drive(kind=bench.in_time()))
    assert [driver.study.state(n) for n in range(3)] == ["COMPLETE"] * 3
    assert driver.study.epochs_trained == 3 * EPOCHS
    assert [job.number for job in bench.jobs] == [0, 1, 2, 2]


@pytest.mark.parametrize(("better", "winner"), [(0.3, 1), (-1.5, 0)])
def test_the_best_is_handed_over_though_the_time_cut_it(tmp_path: Path, better: float, winner: int) -> None:
    bench = slow_one(tmp_path, 250.0, better)
    driver = ended(bench.drive(kind=bench.in_time()))
    assert [driver.study.state(n) for n in range(2)] == ["COMPLETE", "CUT"]
    best = driver.study.best()
    assert best is not None
    assert best.number == winner
    assert driver.study.ranked()[0].number == winner
    assert (bench.run.trial(best.number) / f"model_epoch_{best.epoch:03d}_step_{best.epoch:05d}.pth").exists()
    assert _why_ended(driver) == ""  # both that were asked for had begun
    again = ended(bench.with_time(2000.0).drive(kind=bench.in_time()))
    assert [again.study.state(n) for n in range(2)] == ["COMPLETE", "COMPLETE"]


@pytest.mark.parametrize(("first", "state"), [(0, "PRUNED"), (1, "COMPLETE")])
def test_without_a_checkpoint_that_alone_begins_anew_which_all_is_compared_with(
    first: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trial 1 where the default is too slow."""
    monkeypatch.setattr(Plan, "first", first)
    bench = slow_one(tmp_path, 250.0, better=-1.5)
    ended(bench.drive(kind=bench.in_time()))
    for checkpoint in bench.run.trial(1).glob("*.pth"):
        checkpoint.unlink()
    again = ended(bench.with_time(2000.0).drive(kind=bench.in_time()))
    assert again.study.state(1) == state


def test_where_no_time_is_left_what_a_dead_driver_left_is_cut_and_the_run_is_at_its_end(
    tmp_path: Path,
) -> None:
    bench = slow_one(tmp_path, 1000.0)

    class Dies(bench.in_time()):  # type: ignore[misc]
        def on_record(self, number: int, record: dict[str, Any]) -> Any:
            if number == 1 and record["epoch"] == 2:
                raise KeyboardInterrupt
            return super().on_record(number, record)

    with pytest.raises(KeyboardInterrupt):
        bench.drive(kind=Dies)
    study = bench.study()
    study.set_elapsed_s(1200.0, now=True)
    asked = len(bench.jobs)
    outcome = {"winner": None, "trials": 2}
    assert not at_end(bench.run.root, outcome, study, False)
    driver = ended(bench.drive(kind=bench.in_time()))
    assert len(bench.jobs) == asked
    assert driver.study.state(1) == "CUT"
    assert at_end(bench.run.root, outcome, driver.study, False)
    assert ended(bench.with_time(3000.0).drive(kind=bench.in_time())).study.state(1) == "COMPLETE"


def test_a_search_that_ends_before_its_time_for_want_of_room_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=None, time_s=150.0, scheduler="none")
    driver = ended(bench.drive())
    assert bench.states() == ["COMPLETE"]
    assert _why_ended(driver) == "90 s are used of --time 150s, and no other training would end in the rest"


def test_what_epochs_of_a_trial_that_was_cut_took_is_counted_without_starts(tmp_path: Path) -> None:
    """Or a configuration that a second driver went on with would look cheaper than it is, and one that was paused soon
    dearer. The first epoch of each process is a part of its start."""
    bench = slow_one(tmp_path, 65.0)
    ended(bench.drive(kind=bench.in_time()))
    attrs = ended(bench.with_time(165.0).drive(kind=bench.in_time())).study.frozen(0).user_attrs
    assert attrs["timed"] == EPOCHS - 2
    assert attrs["timed_s"] / attrs["timed"] == pytest.approx(10.0)


def test_what_went_on_after_the_hand_over_is_not_at_its_end(tmp_path: Path) -> None:
    bench = slow_one(tmp_path, 65.0)
    driver = ended(bench.drive(kind=bench.in_time()))
    outcome = {"winner": None, "trials": 1, "epochs": driver.study.epochs_trained}
    assert at_end(bench.run.root, outcome, driver.study, False)
    after = ended(bench.with_time(165.0).drive(kind=bench.in_time()))
    assert not at_end(bench.run.root, outcome, after.study, False)


@pytest.mark.parametrize(("better", "state"), [(0.3, "COMPLETE"), (-1.5, "PRUNED")])
def test_without_a_checkpoint_to_go_on_from_it_is_not_trained_from_nothing(
    tmp_path: Path, better: float, state: str
) -> None:
    bench = slow_one(tmp_path, 250.0, better)
    assert ended(bench.drive(kind=bench.in_time())).study.state(1) == "CUT"
    for checkpoint in bench.run.trial(1).glob("*.pth"):
        checkpoint.unlink()
    asked = len(bench.jobs)
    again = ended(bench.with_time(2000.0).drive(kind=bench.in_time())).study
    assert again.state(1) == state
    assert len(bench.jobs) == asked


def test_lines_of_a_cut_trial_that_an_earlier_copy_of_the_study_lacks_are_taken_in(tmp_path: Path) -> None:
    bench = slow_one(tmp_path, 45.0)
    ended(bench.drive(kind=bench.in_time()))
    before = bench.study().epochs_of(0)
    job = TrialJob(0, str(bench.run.trial(0)), "", entry="a:b")
    more = {"epoch": before, "train_loss": 1.0, "val_mAP": 0.99, "elapsed_s": 5.0, "checkpoint": "more.pth"}
    bench.written([more], job)
    driver = ended(bench.drive(kind=bench.in_time()))
    assert driver.study.epochs_of(0) == before + 1
    best = driver.study.best()
    assert best is not None
    assert best.value == 0.99
    assert driver.study.state(0) == "CUT"
