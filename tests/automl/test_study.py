import math
import re
from pathlib import Path
from random import Random
from types import SimpleNamespace

import optuna
import pytest
from optuna import load_study
from optuna.storages import InMemoryStorage

from automl import proposals
from automl.errors import StudyGone, UserError
from automl.fgp.cube import Cube
from automl.fgp.runs import all_runs
from automl.foreign_writes import check_trials
from automl.schedulers import Halving
from automl.storage import open_storage
from automl.study import Study
from automl.trial_attributes import TABLE
from tests.automl.fakes import TinySpace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(open_storage(None, tmp_path), "tiny", TinySpace(), "tpe", 0)


def again(study: Study) -> Study:
    """What a new driver sees after the old one died."""
    return Study(study.storage, "tiny", TinySpace(), "tpe", 0)


def test_default_is_trial_0_then_the_other_fixed_ones(tmp_path: Path) -> None:
    given = {"train.lr": 0.02, "train.depth": 5}
    study = Study(
        open_storage(None, tmp_path), "tiny", TinySpace(), "tpe", 0, fixed=[TinySpace.default, given]
    )
    assert study.ask() == (0, dict(TinySpace.default))
    assert again(study).trials()[0].params == dict(TinySpace.default)
    assert study.ask() == (1, given)
    number, params = study.ask()
    assert number == 2
    assert params not in (given, dict(TinySpace.default))


def test_tell_uses_the_best_epoch(study: Study) -> None:
    number, _ = study.ask()
    for epoch, value in enumerate((0.1, 0.5, 0.3)):
        study.report(number, epoch, value)
    study.tell(number, "COMPLETE", "finished")
    assert study.frozen(number).value == 0.5
    assert study.frozen(number).user_attrs["best_epoch"] == 1


def test_pruned_and_failed_keep_their_reason(study: Study) -> None:
    for state in ("PRUNED", "FAIL"):
        number, _ = study.ask()
        study.report(number, 0, 0.2)
        study.tell(number, state, f"because {state}")
        assert study.frozen(number).state.name == state
        assert study.frozen(number).user_attrs["reason"] == f"because {state}"


def test_complete_without_a_metric_is_a_failure(study: Study) -> None:
    number, _ = study.ask()
    study.tell(number, "COMPLETE", "finished")
    assert study.frozen(number).state.name == "FAIL"


def test_a_trial_ends_once(study: Study) -> None:
    number, _ = study.ask()
    study.report(number, 0, 0.2)
    study.tell(number, "PRUNED", "first")
    study.tell(number, "COMPLETE", "second")
    assert study.frozen(number).user_attrs["reason"] == "first"


def test_an_epoch_that_is_run_again_has_its_last_value_and_not_finite_ones_are_dropped(study: Study) -> None:
    number, _ = study.ask()
    for epoch, value in ((0, 0.2), (1, 0.7), (0, 0.2), (1, 0.3), (2, float("nan"))):
        study.report(number, epoch, value)
    assert study.frozen(number).intermediate_values == {0: 0.2, 1: 0.3}
    assert again(study).frozen(number).intermediate_values == {0: 0.2, 1: 0.3}
    assert study.view().reached == again(study).view().reached == {0: {0: 0.2}, 1: {0: 0.3}}
    assert study.epochs_reported == 2


def test_what_failed_comes_after_what_was_stopped(study: Study) -> None:
    for value, state in ((0.9, "FAIL"), (0.2, "PRUNED")):
        number, _ = study.ask()
        study.report(number, 0, value)
        study.tell(number, state, "")
    best = study.best()
    assert best is not None
    assert best.number == 1


def test_best_prefers_complete_then_value_then_lower_number(study: Study) -> None:
    assert study.best() is None
    for value, state in ((0.9, "PRUNED"), (0.4, "COMPLETE"), (0.4, "COMPLETE"), (0.3, "COMPLETE")):
        number, _ = study.ask()
        study.report(number, 0, value)
        study.tell(number, state, "")
    best = study.best()
    assert best is not None
    assert (best.number, best.value, best.complete) == (1, 0.4, True)


def test_best_falls_back_to_what_was_stopped(study: Study) -> None:
    number, _ = study.ask()
    study.report(number, 2, 0.7)
    study.tell(number, "PRUNED", "")
    best = study.best()
    assert best is not None
    assert (best.number, best.epoch, best.complete) == (number, 2, False)


def test_a_new_driver_proposes_what_the_old_one_would_have(tmp_path: Path) -> None:
    def run(interrupted: bool) -> list[dict]:
        study = Study(open_storage(None, tmp_path / str(interrupted)), "tiny", TinySpace(), "tpe", 7)
        asked = []
        for n in range(14):
            number, params = study.ask()
            study.report(number, 0, params["train.lr"])
            study.tell(number, "COMPLETE", "")
            asked.append(params)
            if interrupted and n % 4 == 2:
                study = again(study)
                study.seed = 7
        return asked

    assert run(True) == run(False)


def test_adopt_returns_running_trials_with_their_params(study: Study) -> None:
    first, _ = study.ask()
    study.ask()
    study.report(first, 0, 0.1)
    study.tell(first, "COMPLETE", "")
    fresh = again(study)
    assert fresh.adopt() == [(1, study.frozen(1).user_attrs["params"])]
    fresh.report(1, 0, 0.3)
    fresh.tell(1, "COMPLETE", "")
    assert fresh.adopt() == []


@pytest.mark.parametrize("state", ["RUNNING", "WAITING"])
def test_adopt_completes_a_trial_that_was_written_in_part(study: Study, state: str) -> None:
    """Earlier versions wrote a trial in several steps, and could die between them."""
    import optuna

    template = optuna.trial.create_trial(state=optuna.trial.TrialState[state])
    study.storage.create_new_trial(study._id, template_trial=template)
    assert again(study).adopt() == [(0, dict(TinySpace.default))]
    assert again(study).frozen(0).params == dict(TinySpace.default)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("call", range(1, 4))
def test_killed_inside_ask_the_next_driver_proposes_the_same(
    tmp_path: Path, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The space is asked for a value of each parameter: die in the midst of that, or just before the write."""

    class Dying(TinySpace):
        def suggest(self, trial):  # type: ignore[no-untyped-def]
            if call == 1:
                raise Killed
            trial.suggest_float("train.lr", 1e-5, 1e-1, log=True)
            if call == 2:
                raise Killed
            return super().suggest(trial)

    def trained(name: str) -> Study:
        study = Study(open_storage(None, tmp_path / name), "tiny", TinySpace(), "tpe:n_startup_trials=2", 5)
        for _ in range(6):
            number, params = study.ask()
            study.report(number, 0, params["train.lr"])
            study.tell(number, "COMPLETE", "")
        return study

    expected = trained("whole").ask()
    study = trained("killed")
    study.space = Dying()
    if call == 3:
        monkeypatch.setattr(
            study.storage, "create_new_trial", lambda *a, **k: (_ for _ in ()).throw(Killed())
        )
    with pytest.raises(Killed):
        study.ask()
    monkeypatch.undo()
    resumed = again(study)
    resumed.sampler, resumed.seed = "tpe:n_startup_trials=2", 5
    assert resumed.adopt() == []
    assert resumed.ask() == expected


def test_a_scheduler_sees_where_every_trial_stands(study: Study) -> None:
    numbers = [study.ask()[0] for _ in range(4)]
    for number, value in zip(numbers, (0.9, 0.8, 0.7, 0.1), strict=True):
        study.report(number, 0, value)
    assert study.decide(numbers[0], 0, Halving(), 9) is None
    assert study.decide(numbers[3], 0, Halving(), 9) is not None


def test_where_trials_stand_is_the_same_after_a_restart(study: Study) -> None:
    first, second = study.ask()[0], study.ask()[0]
    for epoch, value in ((0, 0.2), (3, 0.1), (4, 0.6)):  # epochs 1 and 2 were not validated
        study.report(first, epoch, value)
    study.report(second, 2, 0.5)
    expected = {0: {0: 0.2}, 1: {0: 0.2}, 2: {0: 0.2, 1: 0.5}, 3: {0: 0.2}, 4: {0: 0.6}}
    assert study.view().reached == expected
    assert again(study).view().reached == expected


def test_what_is_minimised_is_stored_as_reported_and_the_least_wins(tmp_path: Path) -> None:
    study = Study(open_storage(None, tmp_path), "tiny", TinySpace(), "tpe", 0, maximize=False)
    for values in ((3.0, 2.0, 2.5), (9.0, 1.0, 4.0), (5.0, 5.0, 5.0)):
        number, _ = study.ask()
        for epoch, value in enumerate(values):
            study.report(number, epoch, value)
        verdict = study.decide(number, 0, Halving(), 9)
        study.tell(number, "COMPLETE", "")
    assert [t.value for t in study.trials()] == [2.0, 1.0, 5.0]
    best = study.best()
    assert best is not None
    assert (best.number, best.epoch, best.value) == (1, 1, 1.0)
    assert verdict is not None
    assert "5.0000 by epoch 1 is rank 2 of 3" in verdict.reason
    assert study.study.best_value == 1.0


def test_only_epochs_with_a_checkpoint_score_where_there_are_any(study: Study) -> None:
    number, _ = study.ask()
    for epoch, value in enumerate((0.1, 0.9, 0.5)):
        study.report(number, epoch, value)
    study.tell(number, "COMPLETE", "", among={0, 2})
    assert study.frozen(number).value == 0.5
    assert study.result(number).epoch == 2
    assert again(study).result(number).epoch == 2


def test_paused_trials_are_paused_for_the_next_driver_too(study: Study) -> None:
    numbers = [study.ask()[0] for _ in range(3)]
    study.report(numbers[1], 2, 0.3)
    study.set_paused(numbers[1], 2)
    study.set_paused(numbers[2], 2)
    study.set_paused(numbers[2], -1)
    fresh = again(study)
    assert fresh.paused() == {1: 2}
    assert [number for number, _ in fresh.adopt()] == [0, 2]
    fresh.tell(1, "PRUNED", "the end")
    assert again(fresh).paused() == {}


def test_a_study_deleted_elsewhere_is_told_as_such(study: Study) -> None:
    study.ask()
    study.storage.delete_study(study._id)
    for write in (lambda: study.report(0, 0, 0.5), study.ask, lambda: study.tell(0, "FAIL", "")):
        with pytest.raises(StudyGone, match="no longer in its database"):
            write()


@pytest.mark.parametrize("left_out", [(), ("trials",)])
def test_what_was_written_while_its_study_was_deleted_is_not_of_the_next(
    study: Study, left_out: tuple[str, ...]
) -> None:
    """Optuna reads a study's trials before its transaction begins; SQLite gives the next study the same number."""
    from sqlalchemy import text

    study.ask()
    study.ask()
    delete(study, 0)
    study.report(1, 0, 0.5)
    with study.storage.engine.begin() as connection:
        for table in ("study_directions", "studies", *left_out):
            connection.execute(text(f"DELETE FROM {table} WHERE study_id = {study._id}"))
    fresh = again(study)
    assert fresh._id == study._id
    assert fresh.trials() == []
    for number in range(2):
        assert fresh.ask()[0] == number
        assert fresh.frozen(number).intermediate_values == {}
    assert [t.intermediate_values for t in again(fresh).trials()] == [{}, {}]


def delete(study: Study, number: int) -> None:
    """A trial and all of it, as somebody may in a database."""
    from sqlalchemy import text

    trial_id = study.frozen(number)._trial_id
    with study.storage.engine.begin() as connection:
        for table in (
            "trial_params",
            "trial_user_attributes",
            "trial_intermediate_values",
            "trial_values",
            "trials",
        ):
            connection.execute(text(f"DELETE FROM {table} WHERE trial_id = {trial_id}"))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_trial_deleted_elsewhere_stops_the_driver_and_the_next_one(study: Study, number: int) -> None:
    for _ in range(3):
        study.tell(study.ask()[0], "FAIL", "drawn")
    delete(study, number)
    with pytest.raises(StudyGone, match="2 trials are in its database, where this run knows 3"):
        study.ask()
    if number < 2:
        with pytest.raises(
            UserError, match=f"trial {number} has been deleted or written twice .* automl resume"
        ):
            again(study)


def test_a_trial_enqueued_elsewhere_stops_the_driver_and_is_run_by_the_next_one(study: Study) -> None:
    """With what it was given, in its place."""
    study.ask()
    study.study.enqueue_trial({"train.lr": 0.0123})
    with pytest.raises(StudyGone, match="2 trials are in its database, where this run knows 1"):
        study.ask()
    fresh = again(study)
    assert [number for number, _ in fresh.adopt()] == [0, 1]
    assert fresh.frozen(1).user_attrs["params"]["train.lr"] == 0.0123
    assert fresh.ask()[0] == 2


def test_a_trial_ended_elsewhere_is_told_in_words(study: Study) -> None:
    from optuna.trial import TrialState

    number, _ = study.ask()
    study.storage.set_trial_state_values(study.frozen(number)._trial_id, TrialState.COMPLETE, [1.0])
    for write in (lambda: study.report(0, 0, 0.5), lambda: study.tell(0, "FAIL", "")):
        with pytest.raises(StudyGone, match="has been ended in its database by another program"):
            write()


def test_handles_follow_numbers_not_ids(tmp_path: Path) -> None:
    import optuna

    storage = open_storage(None, tmp_path)
    other = optuna.create_study(storage=storage, study_name="other")
    for _ in range(3):
        other.tell(other.ask(), 1.0)
    study = Study(storage, "tiny", TinySpace(), "random", 0)
    number, _ = study.ask()
    study.report(number, 0, 0.5)
    study.tell(number, "COMPLETE", "")
    assert [t.state.name for t in study.trials()] == ["COMPLETE"]


def test_bad_database_url_is_a_user_error_without_the_password() -> None:
    with pytest.raises(UserError) as caught:
        open_storage("postgresql://me:secret@127.0.0.1:1/none", Path("unused"))
    assert "secret" not in str(caught.value)


def test_what_is_counted_on_the_way_is_what_a_restart_counts() -> None:
    study, random = Study(InMemoryStorage(), "tiny", TinySpace(), "tpe", 0), Random(1)

    def runs(of: Study) -> list[str]:
        cube = Cube.of(of.space, of.trials())
        return [repr(run) for run in all_runs(of.trials(), of.paused(), cube, 1.0, 9, of.memo)]

    def reached(of: Study) -> dict[int, dict[int, float]]:
        return {epoch: dict(sorted(there.items())) for epoch, there in of.view().reached.items() if there}

    for _ in range(12):
        study.ask()
    while open_trials := sorted(study.going | study.paused().keys()):
        number, did = random.choice(open_trials), random.random()
        if did < 0.6:
            study.report(number, random.randrange(9), random.random())
        elif did < 0.7:
            study.passed(number, random.randrange(9))
        elif did < 0.9:
            study.set_paused(number, random.choice([-1, 2]))
        else:
            study.tell(number, random.choice(["COMPLETE", "PRUNED", "FAIL"]), "")
        assert runs(study) == runs(again(study))
        assert reached(study) == reached(again(study))
    counted = [(s.going, +s.failed_after, s.epochs_trained, s.paused()) for s in (study, again(study))]
    assert counted[0] == counted[1]
    assert study.epochs_trained == sum(study.epochs_of(number) for number in range(12))
    assert sum(study.failed_after.values()) == sum(t.state.name == "FAIL" for t in study.trials())


def test_what_is_kept_in_memory_is_what_plain_optuna_reads(tmp_path: Path) -> None:
    study = Study(open_storage(None, tmp_path), "tiny", TinySpace(), "tpe", 0)
    for state in ("COMPLETE", "PRUNED", "FAIL", "RUNNING"):
        number, _ = study.ask()
        study.report(number, 1, 0.25 * number)
        if state != "RUNNING":
            study.tell(number, state, "drawn")
    kept = study.trials()
    study.close()
    stored = load_study(study_name="tiny", storage=f"sqlite:///{tmp_path}/study.db").trials
    for a, b in zip(kept, stored, strict=True):
        assert [a.datetime_complete is None, a.datetime_start] == [
            b.datetime_complete is None,
            b.datetime_start,
        ]
        a.datetime_complete = b.datetime_complete
        assert a == b


def test_an_epoch_that_is_measured_after_a_later_one_counts_once_now_and_after_a_restart() -> None:
    storage = InMemoryStorage()
    study = Study(storage, "tiny", TinySpace(), "random", 0)
    for best in (0.3, 0.4):
        number, _ = study.ask()
        for epoch, value in ((0, 0.1), (2, best), (1, 0.2)):
            study.report(number, epoch, value)
        study.tell(number, "COMPLETE", "")
    study.name_winner(0)
    again = Study(storage, "tiny", TinySpace(), "random", 0)
    assert study.epochs_reported == again.epochs_reported == 6
    assert study.named_winner() == again.named_winner() == 0


def test_what_is_to_be_tried_is_tried_once() -> None:
    space = TinySpace()
    fixed = [space.default, {**space.default, "lr": 0.01}, space.default, {**space.default, "lr": 0.01}]
    assert Study(InMemoryStorage(), "tiny", space, "random", 0, fixed=fixed).fixed == fixed[:2]


def test_many_trials_of_earlier_runs_are_no_reason_to_be_shown_all() -> None:
    create = optuna.trial.create_trial
    earlier = [create(value=n / 1000, user_attrs={}) for n in range(1000)]
    for trial in earlier:
        trial.number = -1
    up = [optuna.study.StudyDirection.MAXIMIZE]
    assert len(proposals.telling(earlier, up)) <= proposals.BEST + proposals.LATEST


@pytest.mark.parametrize("stops", ["pauses", "stops"])
@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_what_a_scheduler_ends_early_teaches_a_sampler(sampler: str, stops: str) -> None:
    """Optuna's TPE counts running trials as none that it could learn of, its Gaussian process all but COMPLETE ones:
    both would draw at random for ever."""

    def proposed(name: str) -> list[float]:
        study = Study(InMemoryStorage(), "tiny", TinySpace(), name, 3)
        for _ in range(13):
            number, params = study.ask()
            study.report(number, 0, 1 - abs(math.log10(params["train.lr"]) + 4) / 9)
            if stops == "pauses":
                study.set_paused(number, 0)
            else:
                study.tell(number, "PRUNED", "fell behind")
        return [t.user_attrs["params"]["train.lr"] for t in study.trials()]

    drawn, learnt = proposed("random"), proposed(sampler)
    assert learnt[:10] == drawn[:10]
    assert learnt[-2:] != drawn[-2:]


def test_what_is_kept_of_a_trial_stands_in_one_table() -> None:
    """By its kind, or a study in which another program wrote would be believed."""
    source = "".join(path.read_text() for path in sorted((ROOT / "automl").rglob("*.py")))
    named = set(
        re.findall(r"""(?:user_attrs(?:\.get)?|trial\.set_user_attr|attrs\.get)[\[(]"(\w+)\"""", source)
    )
    for words in re.findall(r"study\.note\(number, (.*?)\)", source):
        named |= set(re.findall(r"(\w+)=", words))
    assert {"params", "reason", "timed", "starts", "cut"} <= named <= TABLE.keys()


@pytest.mark.parametrize("name", sorted(TABLE))
def test_what_no_driver_wrote_is_no_study(name: str) -> None:
    trial = SimpleNamespace(number=0, user_attrs={name: object()})
    with pytest.raises(TypeError, match=f"trial 0: {name} is <object"):
        check_trials("one", [trial])  # type: ignore[list-item]
