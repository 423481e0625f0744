import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from automl import cli, loop
from automl.errors import UserError
from automl.progress import Progress
from automl.request import DEFAULT_TRAININGS, RunRequest, parse_time
from tests.automl.toy import toy


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
        ("12H", 43200),
        ("30 Min", 1800),
        (".5h", 1800),
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


@pytest.mark.parametrize("option", ["--results-dir", "--data", "--spec", "--warm-start", "--model", "--set"])
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_name_that_is_no_utf_8_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = os.fsdecode(b"bad\xffbyte")
    done = CliRunner().invoke(cli.app, [verb, option, odd])
    assert isinstance(done.exception, UserError)
    assert f"{option} must be text in UTF-8" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_utf_8_holds_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one stands counts, and so does where a run was moved to."""
    there = tmp_path / os.fsdecode(b"bad\xff")
    there.mkdir()
    with pytest.raises(UserError, match="the run folder must be text in UTF-8"):
        loop.run(RunRequest(model=str(toy(tmp_path / "toy"))), there / "run", Progress(quiet=True))
    with pytest.raises(UserError, match="the run folder must be text in UTF-8"):
        loop.resume(there, {}, Progress(quiet=True))
    monkeypatch.chdir(there)
    with pytest.raises(UserError, match="--data must be text in UTF-8"):
        RunRequest(data="images")
    assert list(there.iterdir()) == []
