"""What a person sees of a study through the dashboard: real values, while what is stored stays as it is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

import pytest

from automl.locks import run_lock
from automl.real_values import RealValues, distributions
from automl.rundir import RunDir
from automl.space import compile_space
from automl.storage import open_storage
from automl.study import Study

SCHEMA = {
    "type": "object",
    "properties": {
        "batch": {"type": "integer", "enum": [1, 2, 4, 8], "default": 4, "automl_enabled": "TRUE"},
        "low": {"type": "integer", "minimum": 10, "maximum": 90, "default": 30, "automl_enabled": "TRUE"},
        "high": {
            "type": "integer",
            "minimum": 10,
            "maximum": 90,
            "default": 60,
            "automl_enabled": "TRUE",
            "depends_on": "> low",
        },
        "lr": {"type": "number", "minimum": 1e-5, "maximum": 1e-2, "default": 1e-3, "automl_enabled": "TRUE"},
    },
}
BASE = {"batch": 4, "low": 30, "high": 60, "lr": 1e-3}


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Study]:
    """Six trials of one finished epoch or two."""
    space = compile_space(SCHEMA, BASE)
    folder = RunDir(tmp_path)
    folder.write_run(
        {
            "study": "tiny", "spec": BASE, "searching": True, "space_digest": "", "model": "toy", "request": {"storage": None},
            "metric": {"name": "score", "maximize": True}, "space": [p.record() for p in space.parameters],
        }
    )  # fmt: skip
    study = Study(open_storage(None, tmp_path), "tiny", space, "random", 0)
    for _ in range(6):
        number, _ = study.ask()
        study.report(number, 0, 0.1 * number)
        study.tell(number, "COMPLETE", "finished | <b>")
        folder.trial(number).mkdir(parents=True)
        (folder.trial(number) / "metrics.jsonl").write_text(
            '{"epoch": 0, "score": 0.5}\n{"epoch": 1, "score": 0.6}\n'
        )
    return tmp_path, study


def view(root: Path, notes: bool = True) -> RealValues:
    return RealValues(open_storage(None, root), RunDir(root).read_run(), root, notes)


def test_the_parameters_are_those_that_ran(run: tuple[Path, Study]) -> None:
    root, study = run
    stored = study.trials()
    assert any(set(t.params) != set(BASE) for t in stored), "nothing to translate"
    for shown, kept in zip(view(root).get_all_trials(1), stored, strict=True):
        assert shown.params == kept.user_attrs["params"]
        assert shown.intermediate_values == {epoch + 1: v for epoch, v in kept.intermediate_values.items()}
        assert shown.user_attrs["best epoch"] == 1
        for name, value in shown.params.items():
            assert shown.distributions[name]._contains(shown.distributions[name].to_internal_repr(value))
    assert view(root).get_all_trials(1)[0].params == BASE
    assert view(root).get_study_system_attrs(1)["study:metric_names"] == ["score"]


def test_a_trial_that_waits_says_so_and_why(run: tuple[Path, Study]) -> None:
    root, study = run
    for _ in range(3):
        number, _ = study.ask()
        study.report(number, 0, 0.5)
        study.note(number, reason="the time budget was used up")
    study.set_paused(6, 0)
    study.note(7, cut=True)
    shown = view(root).get_all_trials(1)
    kept = ("state", "why it waits", "why it ended")
    told = [{name: t.user_attrs[name] for name in kept if name in t.user_attrs} for t in shown[5:]]
    why = "the time budget was used up"
    assert told == [
        {"why it ended": "finished | <b>"},
        {"state": "PAUSED", "why it waits": why},
        {"state": "CUT", "why it waits": why},
        {"state": "WAITING"},  # for a driver
    ]
    notes = view(root).get_study_system_attrs(1)
    bodies = [notes[f"dashboard:{study.frozen(n)._trial_id}:note_str:0"] for n in (7, 8)]
    assert bodies[0].startswith(f"CUT: {why}\n")
    assert why not in bodies[1]
    with run_lock(root):
        assert "state" not in view(root).get_all_trials(1)[8].user_attrs


def test_looking_changes_nothing_that_is_stored(run: tuple[Path, Study]) -> None:
    root, _ = run
    before = open_storage(None, root).get_all_trials(1)
    shown = view(root)
    shown.get_all_trials(1), shown.get_all_studies(), shown.get_study_system_attrs(1)
    assert open_storage(None, root).get_all_trials(1) == before
    assert "study:metric_names" not in open_storage(None, root).get_study_system_attrs(1)


def test_a_study_of_another_run_is_shown_as_it_is(run: tuple[Path, Study]) -> None:
    root, _ = run
    other = Study(open_storage(None, root), "other", compile_space(SCHEMA, BASE), "random", 1)
    other.ask()
    assert view(root).get_all_trials(2) == open_storage(None, root).get_all_trials(2)


def test_notes_say_what_a_trial_changed_and_read_no_markup(run: tuple[Path, Study]) -> None:
    root, study = run
    attributes = view(root).get_study_system_attrs(1)
    body = attributes[f"dashboard:{study.frozen(3)._trial_id}:note_str:0"]
    assert "finished \\| \\<b\\>" in body
    assert all(
        name in body for name, value in study.frozen(3).user_attrs["params"].items() if BASE[name] != value
    )
    assert "default configuration" in attributes["dashboard:note_str:0"]
    assert not any(
        name.startswith("dashboard:") for name in view(root, notes=False).get_study_system_attrs(1)
    )


def test_only_the_run_s_own_files_are_given_out(run: tuple[Path, Study]) -> None:
    from optuna.artifacts.exceptions import ArtifactNotFound

    root, _ = run
    found = view(root)
    named = [json.loads(text) for text in found.get_trial_system_attrs(3).values()]
    assert [each["filename"] for each in named] == ["curves.svg", "metrics.jsonl"]
    read = {each["filename"]: found.attachments.open_reader(each["artifact_id"]).read() for each in named}
    assert b"score" in read["curves.svg"]
    assert read["metrics.jsonl"].count(b"\n") == 2
    for name in ("run.json", "../secret", "trials/0002/../../run.json", "trials/0002/spec.yaml"):
        with pytest.raises(ArtifactNotFound):
            found.attachments.open_reader(name.encode().hex())
    found.attachments.remove(named[1]["artifact_id"])
    assert (RunDir(root).trial(3) / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("values", "row", "kind", "ends"),
    [
        ([3, 5], {"low": 1, "high": 8, "log": True}, "IntDistribution", (1, 8, True)),
        ([3, 50], {"low": 1, "high": 8}, "IntDistribution", (1, 50, False)),
        ([0.5, 2], {}, "FloatDistribution", (0.5, 2.0, False)),
        ([0, 2.5], {"low": 0, "high": 3, "log": True}, "FloatDistribution", (0.0, 3.0, False)),
        ([4], {"choices": [1, 2, 4]}, "CategoricalDistribution", (1, 2, 4)),
        ([True, None, [1, 2]], {}, "CategoricalDistribution", (True, None, "[1, 2]")),
        ([1, "a", float("nan")], {}, "CategoricalDistribution", (1, "a", "NaN")),
    ],
)
def test_ranges_hold_all_that_was_run(
    values: list[Any], row: dict[str, Any], kind: str, ends: tuple[Any, ...]
) -> None:
    from optuna.trial import create_trial

    trials = [create_trial(value=0.0, user_attrs={"params": {"x": value}}) for value in values]
    made = distributions(trials, {"x": row})["x"]
    assert type(made).__name__ == kind
    seen = made.choices if kind.startswith("C") else (made.low, made.high, made.log)  # type: ignore[attr-defined]
    assert tuple(seen) == ends


CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_them(run: tuple[Path, Study], tmp_path: Path) -> None:
    from optuna_dashboard import wsgi

    root, study = run
    shown = view(root)
    app: Any = wsgi(shown, shown.attachments)
    with make_server("127.0.0.1", 0, app) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom",
            f"http://127.0.0.1:{server.server_port}/dashboard/studies/1/trials?numbers=3",
        ]  # fmt: skip
        page = subprocess.run(command, capture_output=True, text=True, timeout=200).stdout
        server.shutdown()
    text = re.sub(r"<[^>]+>", " ", page)
    for name, value in study.frozen(3).user_attrs["params"].items():
        assert re.search(rf"\b{name} +{re.escape(str(value))}", text), name
    assert "curves.svg" in text
    assert "(fraction)" not in text
    assert "(index)" not in text
