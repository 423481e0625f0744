"""A study whose database is lost, made again from its trials' folders: what it knew, and what strange files say."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automl import loop, trial_notes
from automl.driver import SearchDriver
from automl.errors import UserError
from automl.executors.base import Decision
from automl.executors.replay import ReplayExecutor
from automl.fgp import FITTED
from automl.locks import run_lock
from automl.progress import Progress
from automl.rebuilt_study import rebuild
from automl.request import RunRequest
from automl.rundir import RunDir
from automl.storage import load_study, open_storage
from automl.study import Study
from automl.trials import Trials
from tests.automl.test_driver import Bench
from tests.automl.test_foreign_trainers import shell_trainer
from tests.automl.test_lost_work import study_of
from tests.automl.toy import toy


class Died(BaseException):
    pass


class Dying(SearchDriver):
    """Puts each line and checkpoint on disk as it comes, as a trainer does; dies at the `left`-th, or at the first at
    which its study is `such`."""

    left = 10**9
    such: Callable[[Study], bool] = staticmethod(lambda study: False)

    def on_record(self, number: int, record: dict[str, Any]) -> Decision:
        folder = self.trials.run.trial(number)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        (folder / record["checkpoint"]).write_text("weights")
        self.left -= 1
        if not self.left or self.such(self.study):
            raise Died
        return super().on_record(number, record)


def drive(
    bench: Bench, lines: int = 10**9, specs: int = 10**9, late: dict[str, float] | None = None,
    such: Callable[[Study], bool] = Dying.such,
) -> Study:  # fmt: skip
    """One driver's life, which may end early: at so many lines, where its study is `such`, or about to write the spec of
    trial `specs`. `late`: what each trial that waits at the end had written besides."""
    executor = ReplayExecutor(bench.curve, bench.plan.machine.concurrency)
    study = Study(open_storage(None, bench.run.root), "bench", bench.plan.space, "fgp", 0)
    rebuild(bench.plan, study, Trials(bench.plan, bench.run))
    driver = Dying(bench.plan, study, bench.run, Progress(quiet=True), clock=lambda: executor.now_s)
    driver.left, driver.such, job = lines, such, driver.trials.job  # type: ignore[method-assign]

    def written(number: int, params: Any, epoch: int = 0) -> Any:
        if number == specs:
            raise Died
        return job(number, params, epoch)

    driver.trials.job = written  # type: ignore[method-assign]
    try:
        driver.adopt()
        executor.run(driver)
        for number, epoch in study.paused().items() if late else ():
            with (bench.run.trial(number) / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"epoch": epoch + 1, **(late or {})}) + "\n")
        driver.end_paused()
        driver.name_winner()
    except Died:
        pass
    finally:
        study.close()
    return study


def lose(bench: Bench) -> None:
    for path in bench.run.root.glob("study.db*"):
        path.unlink()


def told(study: Study) -> list[Any]:
    return [
        (
            t.user_attrs["params"],
            t.state.name,
            t.user_attrs["reason"],
            t.intermediate_values,
            t.system_attrs.get(FITTED),
            t.user_attrs.get("waited"),
        )
        for t in study.trials()
    ]


def bench(root: Path, **request: Any) -> Bench:
    return Bench(root, **{"trials": None, "trainings": 8, "scheduler": "fgp", "sampler": "fgp", **request})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    found = told(drive(bench(tmp_path_factory.mktemp("whole"))))
    assert any("pause" in reason for _, _, reason, *_ in found)
    assert any(waited is not None for *_, waited in found)
    return found


@pytest.mark.parametrize("moment", [9, 22, 40, 63])
def test_a_search_whose_driver_and_database_are_lost_goes_on_alike(
    tmp_path: Path, moment: int, whole: list[Any]
) -> None:
    cut = bench(tmp_path)
    drive(cut, lines=moment)
    lose(cut)
    assert told(drive(cut)) == whole


@pytest.mark.parametrize("earlier", [False, True])
def test_what_trials_took_is_known_when_their_study_is_lost(tmp_path: Path, earlier: bool) -> None:
    """Also where a copy of before they ended is put back."""
    cut = bench(tmp_path)
    if earlier:
        drive(cut, lines=40)
        shutil.copyfile(cut.run.root / "study.db", tmp_path / "early.db")
    before = drive(cut)
    lose(cut)
    if earlier:
        shutil.copyfile(tmp_path / "early.db", cut.run.root / "study.db")
    after = drive(cut)
    assert told(after) == told(before)
    for name in ("seconds", "starts"):
        assert [t.user_attrs.get(name) for t in after.trials()] == [
            t.user_attrs.get(name) for t in before.trials()
        ]


def test_lines_after_a_pause_of_a_trial_that_never_went_on_count_once_the_search_ends(tmp_path: Path) -> None:
    """A trainer wrote one more before it was stopped: it was trained, and stands in the folder."""
    cut = bench(tmp_path)
    before = drive(cut, late={"val_mAP": 0.99})
    waited = [t for t in before.trials() if t.state.name == "PRUNED" and t.user_attrs.get("paused", -1) >= 0]
    assert waited
    for trial in waited:
        assert max(trial.intermediate_values) == trial.user_attrs["paused"] + 1
        assert trial.intermediate_values[trial.user_attrs["paused"] + 1] == 0.99
        assert f"paused after epoch {trial.user_attrs['paused'] + 1}," in trial.user_attrs["reason"]
    lines = [len(Trials(cut.plan, cut.run).records(t.number)[0]) for t in before.trials()]
    assert before.epochs_trained == sum(lines)
    lose(cut)
    assert told(drive(cut)) == told(before)


@pytest.mark.parametrize("resumed_after", [None, 60])
def test_a_jump_of_epochs_after_a_pause_is_no_training(tmp_path: Path, resumed_after: int | None) -> None:
    """Whether the driver that ends the search is the one that paused the trial or a later one."""
    cut = bench(tmp_path)
    if resumed_after:
        drive(cut, lines=resumed_after)
    study = drive(cut, late={"val_mAP": 0.99, "epoch": 10**6})
    jumped = [t for t in study.trials() if t.state.name == "FAIL"]
    assert jumped
    for trial in jumped:
        assert "one by one" in trial.user_attrs["reason"]
        assert max(trial.intermediate_values, default=0) < 10**6


@pytest.mark.parametrize("number", [0, 4])
def test_lost_between_a_trial_s_beginning_and_its_spec_it_goes_on_alike(
    tmp_path: Path, number: int, whole: list[Any]
) -> None:
    cut = bench(tmp_path)
    drive(cut, specs=number)
    assert not (cut.run.trial(number) / "spec.yaml").exists()
    lose(cut)
    assert told(drive(cut)) == whole


def test_trials_that_wait_wait_again(tmp_path: Path) -> None:
    cut = bench(tmp_path)
    before = drive(cut, lines=40)
    assert before.paused()
    lose(cut)
    after = drive(cut, lines=1)
    assert {n: e for n, e in before.paused().items() if n in after.paused()} == after.paused()
    assert len(before.paused()) - len(after.paused()) <= 1  # the one that goes on


def test_a_trial_of_whose_configuration_nothing_is_left_is_proposed_again(
    tmp_path: Path, whole: list[Any]
) -> None:
    cut = bench(tmp_path)
    drive(cut, lines=20)
    for name in ("spec.yaml", trial_notes.FILE):
        (cut.run.trial(1) / name).unlink()
    lose(cut)
    after = drive(cut)
    found = trial_notes.read(cut.run.trial(1), 1)
    assert found is not None
    assert found.params == told(after)[1][0] == whole[1][0]
    assert found.system.get(FITTED) == after.frozen(1).system_attrs.get(FITTED)
    assert list(cut.run.root.glob("trials/set_aside_0001_*"))


def changed(**facts: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))

    return change


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: path.write_text(""),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "a list": lambda path: path.write_text("[]"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "large": lambda path: path.write_text(json.dumps({"x": "y" * 2_000_000})),
    "a pipe": pipe,
    "another trial's": changed(number=7),
    "other params": changed(params={"train.lr": 0.5}),
    "params of another kind": changed(params="x"),
    "no fit": changed(fitted=None),
    "a fit of words": changed(fitted=["a", "b"]),
    "a fit of nan": changed(fitted=[3, [float("nan")] * 6, []]),
    "a state": changed(state="WON"),
    "a reason": changed(reason=[1]),
    "an epoch": changed(state="PAUSED", paused="x"),
    "a fit beyond all bounds": changed(fitted=[3, [1e300] * 6, []]),
    "a fit of later": changed(fitted=[99, [0.0] * 6, []]),
    "widened": changed(noted={"widened": 5}),
    "widened names": changed(noted={"widened": {"\x1b[31m": [1, 2]}}),
    "a prediction": changed(noted={"predicted_ms": 0}),
    "years": changed(noted={"seconds": -1}),
    "starts": changed(noted={"starts": ["x"]}),
    "a budget of its own": changed(noted={"again": 10**9}),
    "foreign attributes": changed(noted={"epochs": "x", "refused": True}),
}


@pytest.fixture(scope="module")
def cut_once(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A search that ended at its 60th line, with a copy of its folder beside."""
    cut = bench(tmp_path_factory.mktemp("cut"))
    drive(cut, lines=60).close()
    shutil.copytree(cut.run.root, cut.run.root.with_name("copy"))
    return cut


@pytest.fixture
def cut_late(cut_once: Bench) -> Bench:
    """The same, in the state of that moment."""
    shutil.rmtree(cut_once.run.root)
    shutil.copytree(cut_once.run.root.with_name("copy"), cut_once.run.root)
    return cut_once


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_strange_file_is_as_good_as_none(cut_late: Bench, damage: str) -> None:
    cut = cut_late
    for number in range(1, 4):
        DAMAGES[damage](cut.run.trial(number) / trial_notes.FILE)
    lose(cut)
    study = drive(cut)
    assert {t.state.name for t in study.trials()} <= {"COMPLETE", "PRUNED"}
    assert study.trials()[0].state.name == "COMPLETE"
    for trial in study.trials():
        assert not trial.user_attrs.keys() & {"refused", "widened", "predicted_ms"}
        assert trial.user_attrs.get("epochs", 0) != "x"
    assert study.epochs_trained == sum(len(curve) for curve in study.curves())


def test_control_characters_of_a_reason_are_left_out(cut_late: Bench) -> None:
    cut = cut_late
    number = next(
        n for n in range(1, 8) if json.loads((cut.run.trial(n) / trial_notes.FILE).read_text())["reason"]
    )
    changed(reason="red \x1b[31m")(cut.run.trial(number) / trial_notes.FILE)
    found = trial_notes.read(cut.run.trial(number), number)
    assert found is not None
    assert found.reason == "red [31m"


# ---- states that records contradict, pauses that were left, copies of earlier, orders -------------------------------


@pytest.mark.parametrize("state", ["COMPLETE", "PRUNED", "FAIL"])
@pytest.mark.parametrize("left", [0, 2, 9])
def test_a_state_that_records_contradict_is_not_believed(
    tmp_path: Path, state: str, left: int, whole: list[Any]
) -> None:
    cut = bench(tmp_path)
    before = drive(cut)
    number = next(t.number for t in before.trials()[1:] if t.state.name == "COMPLETE")
    path = cut.run.trial(number) / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:left]))
    for checkpoint in list(cut.run.trial(number).glob("*.pth")):
        checkpoint.rename(checkpoint.with_name(f"model_epoch_{left - 1:03d}_step_{left - 1:05d}.pth"))
    changed(state=state, reason="said so")(cut.run.trial(number) / trial_notes.FILE)
    lose(cut)
    after = drive(cut).frozen(number)
    if state == "FAIL" and left < 9:
        assert (after.state.name, after.user_attrs["reason"]) == ("FAIL", "said so")
    elif state == "PRUNED" and left == 2:
        assert (after.state.name, after.user_attrs["reason"]) == ("PRUNED", "said so")
    else:
        assert after.state.name == "COMPLETE"
        assert max(after.intermediate_values.values()) == max(whole[number][3].values())


def waiting(study: Study) -> dict[int, tuple[int, int]]:
    return {
        t.number: (t.user_attrs.get("paused", -1), t.user_attrs.get("waited", -1)) for t in study.trials()
    }


@pytest.mark.parametrize("more", [1, 2])
def test_lines_that_came_after_a_pause_change_nothing(tmp_path: Path, more: int, whole: list[Any]) -> None:
    """A quick trainer writes on while it is being ended."""
    cut = bench(tmp_path)
    before = drive(cut, lines=40)
    for number, epoch in before.paused().items():
        with (cut.run.trial(number) / "metrics.jsonl").open("a") as file:
            for late in range(epoch + 1, epoch + 1 + more):
                file.write(json.dumps({"epoch": late, "val_mAP": whole[number][3].get(late, 0.5)}) + "\n")
    lose(cut)
    study = Study(open_storage(None, cut.run.root), "bench", cut.plan.space, "fgp", 0)
    rebuild(cut.plan, study, Trials(cut.plan, cut.run))
    assert study.paused() == before.paused()
    assert all(
        study.frozen(n).intermediate_values == before.frozen(n).intermediate_values for n in study.paused()
    )
    study.close()


def test_a_trial_that_had_gone_on_does_not_wait_again(tmp_path: Path) -> None:
    """Its driver dies at a moment at which one that waited is being trained."""

    def going_on(study: Study) -> list[int]:
        return [n for n, (p, w) in waiting(study).items() if p < 0 <= w and n in study.going]

    cut = bench(tmp_path)
    before = drive(cut, such=lambda study: bool(going_on(study)))
    assert going_on(before)
    lose(cut)
    study = Study(open_storage(None, cut.run.root), "bench", cut.plan.space, "fgp", 0)
    rebuild(cut.plan, study, Trials(cut.plan, cut.run))
    assert waiting(study) == waiting(before)
    study.close()


@pytest.mark.parametrize(("early", "late"), [(12, 14), (30, 33), (30, 47), (44, 60)])
def test_an_earlier_copy_of_the_database_is_brought_up_to_the_folders(
    tmp_path: Path, early: int, late: int, whole: list[Any]
) -> None:
    cut = bench(tmp_path)
    drive(cut, lines=early).close()
    shutil.copyfile(cut.run.root / "study.db", tmp_path / "early.db")
    drive(cut, lines=late - early).close()
    lose(cut)
    shutil.copyfile(tmp_path / "early.db", cut.run.root / "study.db")
    assert told(drive(cut)) == whole


@pytest.mark.parametrize(("early", "late"), [(12, 30), (30, 47), (44, None)])
def test_an_earlier_copy_of_the_database_is_not_shown_as_the_search(
    tmp_path: Path, early: int, late: int | None
) -> None:
    cut = bench(tmp_path)
    document = {"study": "bench", "request": {"storage": None}}
    drive(cut, lines=early).close()
    shutil.copyfile(cut.run.root / "study.db", tmp_path / "early.db")
    drive(cut, lines=10**9 if late is None else late - early).close()
    assert load_study(document, cut.run.root) is not None
    lose(cut)
    shutil.copyfile(tmp_path / "early.db", cut.run.root / "study.db")
    with pytest.raises(UserError, match=f"copy of earlier: .*automl resume {cut.run.root}"):
        load_study(document, cut.run.root)
    with run_lock(cut.run.root):  # a driver brings it up to the folders
        assert load_study(document, cut.run.root) is not None
    drive(cut)
    assert load_study(document, cut.run.root) is not None


def test_a_copy_that_lacks_no_trial_but_its_end_is_told(tmp_path: Path) -> None:
    cut = bench(tmp_path, trials=1, trainings=None)
    document = {"study": "bench", "request": {"storage": None}}
    drive(cut, lines=2).close()
    shutil.copyfile(cut.run.root / "study.db", tmp_path / "early.db")
    drive(cut)
    lose(cut)
    shutil.copyfile(tmp_path / "early.db", cut.run.root / "study.db")
    with pytest.raises(UserError, match="trial 0 has not ended in it, and is COMPLETE"):
        load_study(document, cut.run.root)


def test_ended_trials_are_told_in_the_order_in_which_they_ended(tmp_path: Path) -> None:
    cut = bench(tmp_path, at_a_time=4)

    def order(study: Study) -> list[int]:
        ended = [t for t in study.trials() if t.state.is_finished()]
        return [t.number for t in sorted(ended, key=lambda t: (t.datetime_complete, t.number))]

    before = order(drive(cut))
    assert before != sorted(before)
    lose(cut)
    assert order(drive(cut)) == before


def test_what_is_no_trial_s_folder_makes_no_trial(tmp_path: Path) -> None:
    cut = bench(tmp_path)
    before = told(drive(cut))
    (cut.run.root / "trials" / "20261129").mkdir()
    (cut.run.root / "trials" / "0900").mkdir()
    lose(cut)
    assert told(drive(cut)) == before


def test_a_folder_of_the_file_s_name_is_moved_away(tmp_path: Path) -> None:
    cut = bench(tmp_path)
    drive(cut, lines=20)
    (cut.run.trial(1) / trial_notes.FILE).unlink()
    (cut.run.trial(1) / trial_notes.FILE).mkdir()
    (cut.run.trial(1) / trial_notes.FILE / "mine").touch()
    lose(cut)
    assert len(drive(cut).trials()) > 4
    assert trial_notes.read(cut.run.trial(1), 1) is not None
    assert len(list(cut.run.trial(1).glob(f"{trial_notes.FILE}.set_aside_*/mine"))) == 1


def test_the_time_that_was_used_is_not_given_again(tmp_path: Path) -> None:
    model, root = shell_trainer(tmp_path / "model", stages=None), tmp_path / "run"
    loop.run(RunRequest(str(model), trials=3, executor="local"), root, Progress(quiet=True))
    used = study_of(root).elapsed_s()
    assert used > 0
    assert RunDir(root).kept_elapsed() == used
    for path in root.glob("study.db*"):
        path.unlink()
    loop.resume(root, {}, Progress(quiet=True))
    assert used <= study_of(root).elapsed_s() <= used + 60
    for text in ("", "nan", "-3", "inf", "\x00", "1e999"):
        (root / "elapsed_s").write_text(text)
        assert RunDir(root).kept_elapsed() == 0


def test_parameters_that_matter_only_under_others_come_back(tmp_path: Path) -> None:
    model = toy(tmp_path / "toy", epochs=2)
    path = model / "schemas" / "train.schema.json"
    schema = json.loads(path.read_text())
    schema["properties"] |= {
        "use_q": {"type": "boolean", "default": False, "automl_enabled": True},
        "q_lr": {
            "type": "number", "minimum": 0.001, "maximum": 1, "default": 0.05, "automl_enabled": True,
            "active_when": {"use_q": [True]},
        },
    }  # fmt: skip
    path.write_text(json.dumps(schema))
    request = RunRequest(
        str(model), trials=7, executor="local", scheduler="none", sampler="random", seed=1, stages=()
    )
    loop.run(request, tmp_path / "run", Progress(quiet=True))

    def params() -> list[Any]:
        study = load_study(RunDir(tmp_path / "run").read_run(), tmp_path / "run")
        assert study is not None
        return [trial.user_attrs["params"] for trial in study.trials()]

    before = params()
    assert any("q_lr" in each for each in before)
    for path in (tmp_path / "run").glob("study.db*"):
        path.unlink()
    loop.resume(tmp_path / "run", {}, Progress(quiet=True))
    assert params() == before


def test_a_run_goes_on_in_another_database(tmp_path: Path) -> None:
    """Which is empty here: its trials are brought there; one that is out of reach changes nothing."""
    old, new = (f"sqlite:///{tmp_path}/{name}.db" for name in ("old", "new"))
    root = tmp_path / "run"
    request = RunRequest(model=str(toy(tmp_path / "toy")), executor="local", stages=(), trials=2, storage=old)
    loop.run(request, root, Progress(quiet=True))
    before = RunDir(root).run_json.read_bytes()
    with pytest.raises(UserError, match="--storage"):
        loop.resume(
            root, {"storage": f"sqlite:///{tmp_path}/nowhere/x.db", "trials": 3}, Progress(quiet=True)
        )
    assert RunDir(root).run_json.read_bytes() == before
    (tmp_path / "old.db").unlink()
    loop.resume(root, {"storage": new, "trials": 3}, Progress(quiet=True))
    document = RunDir(root).read_run()
    assert document["request"]["storage"] == new
    study = load_study(document, root)
    assert study is not None
    assert [t.state.name for t in study.trials()] == ["COMPLETE"] * 3
    assert not (tmp_path / "old.db").exists()
