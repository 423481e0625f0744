from pathlib import Path

import pytest

from automl.errors import UserError
from automl.schedulers import successive_halving
from automl.storage import open_storage
from automl.study import Study, best_epoch
from tests.automl.fakes import TinySpace


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(open_storage(None, tmp_path), "tiny", TinySpace(), "tpe", 0)


def again(study: Study) -> Study:
    """What a new driver sees after the old one died."""
    return Study(study.study._storage, "tiny", TinySpace(), "tpe", 0)


def test_default_is_trial_0_and_is_enqueued_once(study: Study) -> None:
    study.enqueue_default()
    study.enqueue_default()
    assert study.ask() == (0, dict(TinySpace.default))
    study.enqueue_default()
    number, params = study.ask()
    assert number == 1
    assert params != dict(TinySpace.default)


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


def test_reports_are_idempotent_and_not_finite_ones_are_dropped(study: Study) -> None:
    number, _ = study.ask()
    study.report(number, 0, 0.2)
    study.report(number, 0, 0.9)
    study.report(number, 1, float("nan"))
    assert study.frozen(number).intermediate_values == {0: 0.2}


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
        study.enqueue_default()
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
    study.enqueue_default()
    first, _ = study.ask()
    study.ask()
    study.report(first, 0, 0.1)
    study.tell(first, "COMPLETE", "")
    fresh = again(study)
    assert fresh.adopt() == [(1, study.frozen(1).user_attrs["params"])]
    fresh.report(1, 0, 0.3)
    fresh.tell(1, "COMPLETE", "")
    assert fresh.adopt() == []


def test_adopt_proposes_again_what_died_before_it_was_written(study: Study) -> None:
    study.enqueue_default()
    study.study.ask()  # the driver dies here
    assert again(study).adopt() == [(0, dict(TinySpace.default))]


def test_should_stop_sees_other_trials_only(study: Study) -> None:
    numbers = [study.ask()[0] for _ in range(4)]
    for number, value in zip(numbers, (0.9, 0.8, 0.7, 0.1), strict=True):
        study.report(number, 0, value)
    assert study.should_stop(numbers[0], 0, successive_halving, 9) is None
    assert study.should_stop(numbers[3], 0, successive_halving, 9)


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


def test_best_epoch_is_the_first_of_equals() -> None:
    assert best_epoch({0: 0.1, 1: 0.4, 2: 0.4}) == 1
