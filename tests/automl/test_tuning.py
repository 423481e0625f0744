"""A search in two lines of Python, and runs as JSON."""

from __future__ import annotations

import inspect
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import automl
from automl import cli, spec, tuning
from automl.errors import UserError
from automl.interruption import SIGNALS
from automl.request import RunRequest, options
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


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"trials": "2"}, "tune: trials must be a whole number from 1, but got '2'"),
        ({"trials": 0}, "trials must be a whole number from 1, but got 0"),
        ({"trials": 2.5}, "trials must be a whole number from 1, but got 2.5"),
        ({"trials": True}, "trials must be a whole number from 1, but got True"),
        ({"seed": "a"}, "seed must be a whole number, but got 'a'"),
        ({"confirm": 0}, "confirm must be a whole number from 1, but got 0"),
        ({"gpus_per_trial": "x"}, "--gpus-per-trial must be a number or auto, but got 'x'"),
        ({"max_latency_ms": -1}, "tune: max_latency_ms must be a number above 0"),
        ({"time": 0}, "tune: time must be above 0, but got 0"),
        ({"cpus_per_trial": "x"}, "cpus_per_trial must be a number, but got 'x'"),
        ({"time": [1]}, r"time must be a number, but got \[1\]"),
        ({"time_s": 5}, "no option 'time_s'; did you mean 'time'"),
        ({"spec_file": "x"}, "no option 'spec_file'; did you mean 'spec'"),
        ({"quiet": "x"}, "quiet must be true or false, but got 'x'"),
        ({"data": ""}, "data must be text that is not empty, but got ''"),
        ({"model": 5}, "model must be text, but got 5"),
        ({"scheduler": None}, "scheduler must be text, but got None"),
        ({"space": "tap"}, "space must be tao or recommended or all, but got 'tap'; did you mean 'tao'"),
        ({"sets": "lr=1"}, "sets must be a list of texts, but got a str"),
        ({"fix": "key=hidden"}, "fix must be a list of texts, but got a str"),
        ({"sets": [1]}, "sets must be a list of texts, but got a list"),
        ({"sets": {"lr": {1}}}, "sets: lr must be what JSON holds, but got a set"),
        ({"objectives": 5}, "objectives must be a list of texts, but got 5"),
        ({"results_dir": "a\0b"}, "--results-dir must be text in UTF-8 without NUL"),
    ],
    ids=str,
)
def test_what_an_option_cannot_be_is_told_before_anything_is_written(
    tmp_path: Path, asked: dict[str, Any], words: str
) -> None:
    given: dict[str, Any] = {
        "model": toy(tmp_path / "toy"),
        "results_dir": tmp_path / "run",
        "executor": "local",
    }
    with pytest.raises(UserError, match=words):
        automl.tune(**(given | {"trials": 1} | asked))
    assert not (tmp_path / "run").exists()


def test_no_field_takes_an_object_and_each_its_own_default() -> None:
    for name, each in {tuning.CALLED.get(each.name, each.name): each for each in options()}.items():
        with pytest.raises(UserError, match=f"{name} must be"):
            tuning._asked({name: object()})
        assert getattr(tuning._asked({name: each.default}), each.name) == each.default


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"spec": Path("a.yaml")}, {"spec_file": "a.yaml"}),
        ({"sets": ["a=1"], "log": ["none"]}, {"sets": ("a=1",), "log": ("none",)}),
        ({"time": 90, "max_latency_ms": 15}, {"time_s": 90, "max_latency_ms": 15}),
        ({"time": np.int64(90), "trials": np.int64(3)}, {"time_s": 90, "trials": 3}),
        ({"time": "2h", "max_latency_ms": "15ms"}, {"time_s": 7200, "max_latency_ms": 15}),
        ({"stages": [], "silence_timeout_s": "off"}, {"stages": (), "silence_timeout_s": None}),
        ({"gpus_per_trial": "auto", "cpus_per_trial": 2}, {"gpus_per_trial": "auto", "cpus_per_trial": 2}),
        ({"objectives": ["latency_ms", "score"]}, {"objectives": ("score", "latency_ms")}),
    ],
    ids=str,
)
def test_the_forms_of_python_are_taken(given: dict[str, Any], taken: dict[str, Any]) -> None:
    assert tuning._asked(given) == RunRequest(**taken)


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_a_search_in_a_thread_leaves_the_handlers_of_signals_alone(tmp_path: Path, executor: str) -> None:
    model = toy(tmp_path / "toy")
    before = [signal.getsignal(number) for number in SIGNALS]
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(
            automl.tune, model=model, trials=2, executor=executor, concurrency=1, results_dir=tmp_path / "run",
            quiet=True,
        ).result()  # fmt: skip
    assert list(found.trials["state"]) == ["COMPLETE", "COMPLETE"]
    assert [signal.getsignal(number) for number in SIGNALS] == before


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


def test_sets_are_pairs_or_a_mapping() -> None:
    given = {"fit.lr": 1e-4, "fit.steps": [1, 2], "fit.on": None, "fit.name": "1e-4", "key": "@FILE"}
    asked = tuning._asked({"sets": given})
    assert spec.parse_set(asked.sets, {}) == given
