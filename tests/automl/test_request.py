import json
from pathlib import Path

import pytest

from automl.errors import UserError
from automl.request import DEFAULT_TRAININGS, RunRequest, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1d", 86400),
        ("30min", 1800),
        ("2 h", 7200),
        ("1 hour 30 minutes", 5400),
        ("10secs", 10),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "soon", "2x", "1h30", "-5", "0s", "2 hx", "90ss", "1h30mi"])
def test_broken_times(text: str) -> None:
    with pytest.raises(UserError, match="--time"):
        parse_time(text)


def test_round_trip_through_json() -> None:
    request = RunRequest(data="d", sets=("a=1", "b=2"), time_s=3.5, trials=4)
    assert RunRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_default_budget_only_without_any() -> None:
    assert RunRequest().with_budget().trainings == DEFAULT_TRAININGS
    assert RunRequest(time_s=60.0).with_budget().trials is None


def test_epochs_alone_say_nothing_about_the_budget() -> None:
    with pytest.raises(UserError, match="--total-epochs 600"):
        RunRequest(epochs=600).check_epochs(searching=True)
    RunRequest(epochs=600).check_epochs(searching=False)
    for budget in ({"trials": 3}, {"trainings": 3}, {"time_s": 60.0}, {"total_epochs": 7}):
        RunRequest(epochs=600, **budget).check_epochs(searching=True)  # type: ignore[arg-type]


def test_a_run_of_the_time_when_epochs_were_the_budget(tmp_path: Path) -> None:
    from automl import run_json

    document = {
        "format": 1, "study": "s", "request": {"epochs": 600, "trials": None}, "spec": {}, "searching": True,
        "space_digest": "", "model": "m",
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(document))
    request = RunRequest.from_json(run_json.read(tmp_path / "run.json")["request"])
    assert (request.epochs, request.total_epochs) == (None, 600)
    (tmp_path / "run.json").write_text(json.dumps(document | {"format": run_json.FORMAT}))
    request = RunRequest.from_json(run_json.read(tmp_path / "run.json")["request"])
    assert (request.epochs, request.total_epochs) == (600, None)
