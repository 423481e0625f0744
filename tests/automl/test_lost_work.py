"""What was computed is found again: a study half made again, a database of earlier, best/ beside damaged trials, trainers
ahead of their driver, processes that others end."""

from __future__ import annotations

import html
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from automl import loop, records, run_figures, show
from automl.driver import SearchDriver
from automl.executors.base import MAX_STARTS, Exit, TrialJob
from automl.metric import counted
from automl.progress import Progress
from automl.records import BrokenRecord
from automl.request import RunRequest
from automl.rundir import RunDir
from automl.storage import open_storage
from automl.study import Study
from automl.widening import widenings
from tests.automl.test_driver import EPOCHS, Bench
from tests.automl.test_foreign_trainers import shell_trainer, wide_model


def searched(root: Path, **request: Any) -> Path:
    """A finished run of eight trials of three epochs, at root/run."""
    model = shell_trainer(root / "model", stages=None)
    asked: dict[str, Any] = {"trials": 8, "executor": "local", "scheduler": "none", **request}
    loop.run(RunRequest(model=str(model), **asked), root / "run", Progress(quiet=True))
    return root / "run"


def study_of(root: Path) -> Study:
    return Study.reading(open_storage(None, root), json.loads((root / "run.json").read_text())["study"])


def told(root: Path) -> list[Any]:
    """(params, state, value, epochs) of every trial."""
    return [
        (t.user_attrs["params"], t.state.name, t.value, sorted(t.intermediate_values))
        for t in study_of(root).trials()
    ]


def lines(root: Path) -> list[str]:
    return [path.read_text() for path in sorted(root.glob("trials/0*/metrics.jsonl"))]


def resume(root: Path) -> Any:
    return loop.resume(root, {}, Progress(quiet=True))


class Died(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 1, 3, 7])
@pytest.mark.parametrize("step", ["ask", "tell"])
def test_a_study_that_is_being_made_again_when_its_driver_dies_is_made_whole_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, step: str
) -> None:
    root = searched(tmp_path)
    before, written = told(root), lines(root)
    for path in root.glob("study.db*"):
        path.unlink()
    done, whole = [0], getattr(Study, step)

    def dying(self: Study, *args: Any, **named: Any) -> Any:
        if done[0] == after:
            raise Died
        done[0] += 1
        return whole(self, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Study, step, dying)
        with pytest.raises(Died):
            resume(root)
    resume(root)
    assert told(root) == before
    assert lines(root) == written


def test_trials_that_a_database_of_earlier_lacks_are_made_again(tmp_path: Path) -> None:
    root = searched(tmp_path, trials=4)
    early = tmp_path / "early.db"
    sqlite3.connect(root / "study.db").execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(root / "study.db", early)
    loop.resume(root, {"trials": 8}, Progress(quiet=True))
    before, written = told(root), lines(root)
    for path in root.glob("study.db*"):
        path.unlink()
    shutil.copyfile(early, root / "study.db")
    resume(root)
    assert told(root) == before
    assert lines(root) == written


def test_what_the_search_noted_of_trials_is_made_again_with_them(tmp_path: Path) -> None:
    """From where on a range was left, and the numbers that the model goes by."""
    asked = RunRequest(
        model=str(wide_model(tmp_path / "model")), trials=20, executor="local", scheduler="none"
    )
    whole, lost = tmp_path / "whole", tmp_path / "lost"
    loop.run(asked, whole, Progress(quiet=True))
    loop.run(replace(asked, trials=14), lost, Progress(quiet=True))
    for path in lost.glob("study.db*"):
        path.unlink()
    loop.resume(lost, {"trials": 20}, Progress(quiet=True))
    assert told(lost) == told(whole)
    assert widenings(study_of(lost).trials()) == widenings(study_of(whole).trials()) != []


def test_what_lies_in_the_folder_of_a_new_trial_is_set_aside_and_not_taken_for_its_own(
    tmp_path: Path,
) -> None:
    root = searched(tmp_path, trials=4)
    for path in root.glob("study.db*"):
        path.unlink()
    (root / "trials" / "0002" / "spec.yaml").write_text("fit: 7\n")
    resume(root)
    assert [state for _, state, _, _ in told(root)] == ["COMPLETE"] * 4
    params, _, value, epochs = told(root)[2]
    assert value == pytest.approx(params["fit.lr"], rel=1e-4)  # it was trained, and not read
    assert epochs == [0, 1, 2]
    assert len(list((root / "trials").glob("set_aside_0002_*"))) == 1


@pytest.mark.parametrize("good", [0, 2])  # lines before it
def test_a_trial_whose_metric_is_text_fails_alone_also_when_it_is_read_again(
    tmp_path: Path, good: int
) -> None:
    model = shell_trainer(tmp_path / "model", stages=None)
    text = f"""case $AUTOML_TRIAL_DIR:$epoch in */0001:{good}) echo '"abc"';; *) command awk "$@";; esac"""
    (model / "train.sh").write_text(f"awk() {{ {text}; }}\n" + (model / "train.sh").read_text())
    root = tmp_path / "run"
    asked = RunRequest(model=str(model), trials=4, executor="local", scheduler="none")
    loop.run(asked, root, Progress(quiet=True))
    before = told(root)
    assert [state for _, state, _, _ in before] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert before[1][3] == list(range(good))
    why = f"metrics.jsonl line {good + 1}: score must be a number, but got 'abc'"
    assert study_of(root).frozen(1).user_attrs["reason"] == why
    assert run_figures.status(root)["run"]
    assert run_figures.best(root)
    for lost in ("study.db", "trial.json"):  # what was decided is read, or decided anew
        for path in [*root.glob("study.db*"), *root.glob(f"trials/0001/{lost}")]:
            path.unlink()
        resume(root)
        assert told(root) == before
        assert study_of(root).frozen(1).user_attrs["reason"] == why
    assert why in html.unescape((root / "report.html").read_text())


# ---- best/ beside trials that somebody tidied up or damaged ---------------------------------------------------------


def _gone(folder: Path) -> None:
    shutil.rmtree(folder)


def _no_records(folder: Path) -> None:
    (folder / "metrics.jsonl").unlink()


def _cut(folder: Path) -> None:
    for path in folder.glob("net_*"):
        path.write_bytes(b"")


def _spec_gone(folder: Path) -> None:
    (folder / "spec.yaml").unlink()


def _spec_damaged(folder: Path) -> None:
    (folder / "spec.yaml").write_bytes(b"\xff\xfe")


def _spec_cut(folder: Path) -> None:
    path = folder / "spec.yaml"
    path.write_text(path.read_text()[:10])


def _spec_without_its_end(folder: Path) -> None:
    full = yaml.safe_load((folder / "spec.yaml").read_text())
    (folder / "spec.yaml").write_text(yaml.safe_dump({"fit": full["fit"]}))


def _spec_edited(folder: Path) -> None:
    full = yaml.safe_load((folder / "spec.yaml").read_text())
    full["fit"]["lr"] = 0.5
    (folder / "spec.yaml").write_text(yaml.safe_dump(full))


@pytest.mark.parametrize(
    "damage",
    [_gone, _no_records, _cut, _spec_gone, _spec_damaged, _spec_cut, _spec_edited, _spec_without_its_end],
)
def test_what_was_handed_over_stays_whatever_becomes_of_its_trial(tmp_path: Path, damage: Any) -> None:
    root = searched(tmp_path, trials=4)
    kept = {path.name: path.read_bytes() for path in (root / "best").iterdir() if path.is_file()}
    winner = json.loads(kept["provenance.json"])["trial"]
    damage(root / "trials" / f"{winner:04d}")
    outcome = resume(root)
    assert outcome.winner.number == winner
    after = {path.name: path.read_bytes() for path in (root / "best").iterdir() if path.is_file()}
    assert after["model"] == kept["model"] == b"weights\n"
    for name in ("train.yaml", "ship.yaml"):
        assert yaml.safe_load(after.get(name, b"")) == yaml.safe_load(kept.get(name, b""))


def test_a_trial_s_spec_that_somebody_has_changed_is_told(tmp_path: Path) -> None:
    root, notes = searched(tmp_path, trials=2), []
    progress = Progress(quiet=True)
    progress.note = notes.append  # type: ignore[method-assign]
    moved = root.rename(tmp_path / "moved")
    loop.resume(moved, {}, progress)
    winner = show.handed_over(moved)
    assert not [note for note in notes if "spec.yaml" in note]
    _spec_edited(moved / "trials" / f"{winner:04d}")
    loop.resume(moved, {}, progress)
    (told_of,) = [note for note in notes if "spec.yaml" in note]
    assert "spec.yaml: fit.lr is another" in told_of
    assert f"; trial {winner} is handed over with what it was given" in told_of


def test_a_model_in_best_that_is_not_what_was_handed_over_is_made_again(tmp_path: Path) -> None:
    root = searched(tmp_path, trials=3)
    (root / "best" / "model").write_bytes(b"other")
    resume(root)
    assert (root / "best" / "model").read_bytes() == b"weights\n"


def test_best_says_what_it_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    root = searched(tmp_path, trials=2)
    winner = json.loads((root / "best" / "provenance.json").read_text())["trial"]
    shutil.rmtree(root / "trials" / f"{winner:04d}")
    show.best(Console(width=200), root)
    assert "names none" not in capsys.readouterr().out


# ---- trainers ahead of their driver ----------------------------------------------------------------------------------


def test_a_trial_that_was_at_its_end_before_its_pause_took_hold_counts_whole(tmp_path: Path) -> None:
    """Every line is on disk before the driver reads the first."""
    bench = Bench(tmp_path, trials=8, scheduler="asha")
    driver = bench.drive(lambda job: bench.written(bench.curve(job), job))
    assert not driver.study.paused()
    for trial in driver.study.trials():
        assert (trial.state.name, trial.user_attrs["reason"]) == ("COMPLETE", "finished")
        assert len(trial.intermediate_values) == EPOCHS


def test_a_paused_trial_that_waited_is_told_as_paused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=8, scheduler="asha")
    driver = bench.drive(kind=bench.in_time())
    waiting = dict(driver.study.paused())
    assert waiting
    driver.end_paused()
    for number, epoch in waiting.items():
        trial = driver.study.frozen(number)
        assert trial.state.name == "PRUNED"
        assert trial.user_attrs["reason"].startswith(f"paused after epoch {epoch + 1}, and ")


@pytest.mark.parametrize("lost", ["metrics.jsonl", "nothing"])
def test_a_paused_trial_that_has_nothing_to_go_on_from_says_so_as_it_starts(
    tmp_path: Path, lost: str
) -> None:
    bench, out = Bench(tmp_path, trials=8, scheduler="asha"), io.StringIO()
    number, epoch = next(iter(bench.drive(kind=bench.in_time()).study.paused().items()))
    for path in bench.run.trial(number).glob(lost):
        path.unlink()
    progress = Progress(Console(file=out, width=300))
    driver = SearchDriver(bench.plan, bench.study(), bench.run, progress)
    progress.begin(bench.plan, driver.study)
    driver.scheduler.promote = lambda view: number  # type: ignore[attr-defined]
    assert driver.next_job() is not None
    text = (
        f"trial {number} was trained for {counted(epoch + 1, 'epoch')} before, and its folder holds no line with a "
        "checkpoint to go on from: it starts again from nothing"
    )
    assert (text in out.getvalue()) == (lost != "nothing")


# ---- records -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["epoch_\ud800.npz", "epoch_\x002.npz", "a" * 5000, "b" * 300 + "/c", "metrics.jsonl", "./spec.yaml", "log.txt"]
)  # fmt: skip
def test_a_checkpoint_that_cannot_be_fails_its_trial_alone(tmp_path: Path, name: str) -> None:
    bench = Bench(tmp_path, trials=3, scheduler="none")

    def curves(job: TrialJob) -> list[Any]:
        curve = bench.written(bench.curve(job), job)
        odd = {"epoch": 1, "val_mAP": 0.5, "checkpoint": name, "elapsed_s": 10.5}
        return [curve[0], odd, *curve[1:]] if job.number == 1 else curve

    driver = bench.drive(curves)
    assert bench.states() == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "checkpoint must be" in driver.study.frozen(1).user_attrs["reason"]
    assert (bench.run.trial(1) / "metrics.jsonl").is_file()
    assert (bench.run.trial(1) / "spec.yaml").is_file()


def test_words_of_a_trainer_that_are_no_text_can_be_read_for_ever(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=1)
    driver = bench.drive(lambda job: [{"epoch": 0, "bad\ud800": 1.0, "elapsed_s": 1.0}])
    reason = driver.study.frozen(0).user_attrs["reason"]
    assert "bad\\ud800" in reason
    assert bench.study().frozen(0).user_attrs["reason"] == reason


@pytest.mark.parametrize("text", ["1_0", "0x10", "ten", ""])
def test_text_that_is_a_number_to_nobody_is_none(text: str) -> None:
    with pytest.raises(BrokenRecord):
        records.parse({"epoch": 0, "score": text}).number("score")


# ---- processes that others end -------------------------------------------------------------------------------------------


def test_the_loss_of_what_starts_trials_costs_a_trial_no_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=1)
    losses = MAX_STARTS + 2

    def losing(job: TrialJob) -> list[Any]:
        if len(bench.jobs) < losses:
            bench.jobs.append(job)
            return [Exit(None, "lost with its fork server", lost=True)]
        return bench.written(bench.curve(job), job)

    bench.drive(losing)
    assert bench.states() == ["COMPLETE"]


@pytest.mark.slow
def test_a_fork_server_killed_again_and_again_ends_no_trial(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model", stages=None)
    script = (model / "train.sh").read_text()
    (model / "train.sh").write_text(script.replace("while", "sleep 1\nwhile", 1))
    root = tmp_path / "run"
    words = ["run", "--model", str(model), "--trials", "2", "--executor", "local", "--results-dir", str(root)]
    driver = subprocess.Popen([sys.executable, "-m", "automl.cli", *words], stdout=subprocess.DEVNULL)
    for _ in range(3):
        time.sleep(2)
        children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
        for pid in children[:1]:
            os.kill(int(pid), signal.SIGKILL)
    driver.wait(120)
    if driver.returncode:
        resume(root)
    assert [state for _, state, _, _ in told(root)] == ["COMPLETE"] * 2
    assert RunDir(root).best.is_dir()


# ---- trainers that outrun a stop, and epochs without a measure --------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["halving", "median"])
def test_what_was_written_as_a_stop_arrived_counts(tmp_path: Path, scheduler: str) -> None:
    """Every line is on disk before the driver reads the first: all are at their end."""
    bench = Bench(tmp_path, trials=8, scheduler=scheduler)
    driver = bench.drive(lambda job: bench.written(bench.curve(job), job))
    assert set(bench.states()) == {"COMPLETE"}
    assert {len(t.intermediate_values) for t in driver.study.trials()} == {EPOCHS}
    slower = Bench(tmp_path / "slower", trials=8, scheduler=scheduler)
    slower.drive()
    assert "PRUNED" in slower.states()


def test_lines_beyond_a_stop_that_is_no_end_are_told_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=6, scheduler="halving")

    def ahead(job: TrialJob) -> list[Any]:
        curve = bench.curve(job)
        bench.written(curve[:-1], job)
        return curve

    driver = bench.drive(ahead)
    stopped = [t for t in driver.study.trials() if t.state.name == "PRUNED"]
    assert stopped
    assert {len(t.intermediate_values) for t in stopped} == {EPOCHS - 1}


def _sparse(bench: Bench, job: TrialJob) -> list[Any]:
    """Every third epoch is measured; the last is not."""
    lines = [line for line in bench.curve(job) if isinstance(line, dict)]
    return bench.written(
        [line if line["epoch"] % 3 == 0 else line | {"val_mAP": None} for line in lines], job
    )


def test_epochs_without_a_measure_are_epochs(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=99, scheduler="none", total_epochs=2 * EPOCHS)
    driver = bench.drive(lambda job: _sparse(bench, job))
    assert driver.study.epochs_trained == 2 * EPOCHS
    assert [t.user_attrs["reason"] for t in driver.study.trials()] == ["finished", "finished"]
    again = bench.study()
    assert again.epochs_trained == driver.study.epochs_trained
    assert [again.epochs_of(n) for n in range(2)] == [EPOCHS, EPOCHS]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "4 trials are there, and --trials is 4"),
        ({"total_epochs": 5}, "12 epochs are used of --total-epochs 5"),
        ({"trials": None, "trainings": 2}, "--trainings 2 is 6 epochs, of which 12 are used"),
        ({"trials": 9, "patience": 1}, "nothing better came in the last 1 trial"),
    ],
)
def test_a_resume_that_trains_nothing_says_why(
    tmp_path: Path, changes: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = searched(tmp_path, trials=4)
    if "patience" in changes:
        leaders = sorted(range(4), key=lambda n: -told(root)[n][2])
        if leaders[0] >= 2:
            pytest.skip("the best came last")
    loop.resume(root, changes, Progress(Console(width=200)))
    used = study_of(root).elapsed_s()
    assert f"no new trial: {why}" in capsys.readouterr().out
    loop.resume(root, changes, Progress(quiet=True))
    assert study_of(root).elapsed_s() == used
    ended = json.loads((root / "outcome.json").read_text())["ended"]
    assert why in ended if changes.keys() & {"total_epochs", "patience"} else ended == ""


def test_a_search_that_patience_ended_says_so_and_the_command_that_goes_on_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = searched(tmp_path, trials=9, patience=1)
    before = len(study_of(root).trials())
    assert before < 9
    show.status(Console(width=200), root)
    said = " ".join(capsys.readouterr().out.split())
    assert "The search ended: nothing better came" in (root / "report.html").read_text()
    assert "the search ended: nothing better came in the last 1 trial (--patience 1)" in said
    offered = said.split("to search on: ")[1]
    patience = int(offered.split("--trials 18 --patience ")[1].split()[0])
    assert patience >= 2
    loop.resume(root, {"trials": 18, "patience": patience}, Progress(quiet=True))
    assert len(study_of(root).trials()) > before
