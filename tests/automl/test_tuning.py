"""A search in two lines of Python, and runs as JSON."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import automl
from automl import cli
from automl.errors import UserError
from automl.tuning import Tuned
from tests.automl.toy import toy


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("tuned")
    model = str(toy(folder / "toy"))
    return automl.tune(
        model=model, trials=4, time="5m", executor="local", results_dir=folder / "run", quiet=True
    )


def test_what_a_search_brought(tuned: Tuned) -> None:
    default = tuned.outcome.default
    assert default is not None
    assert tuned.gain == pytest.approx(tuned.value - default.value)
    assert tuned.best_spec["lr"] == tuned.params["lr"]
    assert tuned.checkpoint is not None
    assert tuned.checkpoint.read_bytes()
    assert len(tuned.trials) == 4
    assert "Every trial" in tuned.report.read_text()
    assert tuned.comparisons == []
    with pytest.raises(UserError, match="entry_points.predict"):
        tuned.predict("image.jpg")


def test_unknown_options_and_times_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tune has no option 'sampeler'; did you mean 'sampler'"):
        automl.tune(model=str(toy(tmp_path / "toy")), sampeler="tpe")
    with pytest.raises(UserError, match="time must be like"):
        automl.tune(model=str(tmp_path / "toy"), time="soon")


def test_help_names_every_argument() -> None:
    told = inspect.getdoc(automl.tune) or ""
    assert all(name in told for name in inspect.signature(automl.tune).parameters)


@pytest.mark.parametrize("command", ["status", "best", "report"])
def test_runs_as_json(tuned: Tuned, command: str) -> None:
    done = CliRunner().invoke(cli.app, [command, str(tuned.root), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    if command == "best":
        assert (found["trial"], found["value"]) == (tuned.outcome.winner.number, tuned.value)
        assert Path(found["checkpoint"]).is_file()
        assert found["epoch"] == 2
    else:
        assert [trial["number"] for trial in found["trials"]] == [0, 1, 2, 3]
        assert found["trials"][0]["curve"][0][0] == 1
