"""What trainings begin with is fetched once before the first, and what the best epoch measured is handed over."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from automl import bundle, loop, spec
from automl.errors import UserError
from automl.launcher import LONGEST_PATH
from automl.plan import fetch, prepare
from automl.progress import Progress
from automl.request import RunRequest
from tests.automl.test_foreign_trainers import searched, shell_trainer

HOOKS = """
def describe(spec): return {"text": "from " + spec["fit"]["begin"]}
def fetch(spec, say, folder):
    if spec["fit"]["begin"] == "nowhere":
        raise type("Gone", (Exception,), {"exit_code": 2})("cannot be fetched")
    say("fetching")
    with open(__file__ + ".count", "a") as file:
        file.write("x")
    return {"fit.begin": str(folder)}
"""


def beginner(root: Path, begin: str = "auto") -> Path:
    model = shell_trainer(
        root, figures={"score": "ship.line", "no_such_figure": "ship.other"},
        entry_points={"describe_start": "beginnings:describe", "fetch": "beginnings:fetch"}, stages=None,
    )  # fmt: skip
    (root / "beginnings.py").write_text(HOOKS)
    schema = json.loads((root / "schemas" / "train.schema.json").read_text())
    schema["properties"]["fit"]["properties"]["begin"] = {"type": "string", "default": begin}
    (root / "schemas" / "train.schema.json").write_text(json.dumps(schema))
    full = spec.load(root / "references" / "spec_template_train.yaml") if (
        root / "references" / "spec_template_train.yaml").is_file() else None  # fmt: skip
    if full is not None:
        full["fit"]["begin"] = begin
        (root / "references" / "spec_template_train.yaml").write_text(yaml.safe_dump(full))
    ship = "ship: {weights: '', target: '', line: null, other: 7}\nout: ''\n"
    (root / "references" / "spec_template_ship.yaml").write_text(ship)
    return model


def test_it_is_fetched_once_before_the_first_trial(tmp_path: Path) -> None:
    model = beginner(tmp_path / "model")
    plan = prepare(RunRequest(model=str(model)), tmp_path / "work")
    assert plan.start == "from auto"
    counted = Path(f"{tmp_path}/model/beginnings.py.count")
    assert not counted.exists()  # a plan fetches nothing
    searched(model, tmp_path / "run", trials=3)
    assert counted.read_text() == "x"
    for number in range(3):
        trial = spec.load(tmp_path / "run" / "trials" / f"{number:04d}" / "spec.yaml")
        assert trial["fit"]["begin"] == "None"  # no folder, for there is one machine


def test_on_a_cluster_it_goes_where_all_machines_see_it(tmp_path: Path) -> None:
    plan = prepare(RunRequest(model=str(beginner(tmp_path / "model"))), tmp_path / "work")
    plan.request = replace(plan.request, ray_address="auto")
    fetch(plan, tmp_path / "run", print)
    assert plan.spec["fit"]["begin"] == str(tmp_path / "run")


def test_what_cannot_be_fetched_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    model = beginner(tmp_path / "model", begin="nowhere")
    with pytest.raises(Exception, match="cannot be fetched"):
        loop.run(RunRequest(model=str(model), executor="local"), tmp_path / "run", Progress(quiet=True))
    assert not (tmp_path / "run" / "run.json").exists()


def test_what_the_best_epoch_measured_goes_into_later_specs(tmp_path: Path) -> None:
    outcome, _ = searched(beginner(tmp_path / "model"), tmp_path / "run", trials=2)
    ship = spec.load(tmp_path / "run" / "best" / "ship.yaml")["ship"]
    assert ship["line"] == outcome.winner.value
    assert ship["other"] == 7
    provenance = json.loads((tmp_path / "run" / "best" / "provenance.json").read_text())
    assert provenance["figures"] == {"score": outcome.winner.value}


def test_a_file_that_training_begins_with_is_named_for_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = beginner(tmp_path / "model")
    hooks = HOOKS.replace(
        'return {"text"', 'import os; return {"path": os.path.abspath(spec["fit"]["begin"]), "text"'
    )
    (model / "beginnings.py").write_text(hooks)
    (tmp_path / "w ü.pth").touch()
    monkeypatch.chdir(tmp_path)
    request = RunRequest(model=str(model), trials=1, executor="local", sets=("fit.begin=./w ü.pth",))
    assert prepare(request, tmp_path / "a").request.sets == (f"fit.begin={tmp_path / 'w ü.pth'}",)
    named = RunRequest(model=str(model), trials=1, executor="local", sets=("fit.begin=auto",))
    assert prepare(named, tmp_path / "b").request.sets == ("fit.begin=auto",)


def test_fetch_without_anything_to_fetch(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from automl.cli import app

    model = shell_trainer(tmp_path / "model")
    result = CliRunner().invoke(app, ["fetch", "weights", "--model", str(model)])
    assert isinstance(result.exception, UserError)
    assert "has nothing to fetch" in str(result.exception)


@pytest.mark.parametrize(
    ("words", "pairs"),
    [
        (["--begin", "here"], ["fit.begin=here"]),
        (["--begin=here", "--strict"], ["fit.begin=here", "fit.strict=true"]),
        (["--strict", "--begin", "a/b.pth"], ["fit.strict=true", "fit.begin=a/b.pth"]),
        (["--no-strict"], ["fit.strict=false"]),
    ],
)
def test_options_of_the_model_s_own_take_values(words: list[str], pairs: list[str], tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model", options={"begin": "fit.begin", "strict": "fit.strict"})
    assert bundle.resolve(str(model)).set_pairs(words, []) == pairs
    for wrong in (["here"], ["--begin", "a", "b"], ["--begn", "a"]):
        with pytest.raises(UserError):
            bundle.resolve(str(model)).set_pairs(wrong, [])


def test_a_temporary_folder_with_too_long_a_name_is_refused_with_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds a socket, whose address is short; without this the run would find out after the plan is told."""
    asked = RunRequest(model=str(shell_trainer(tmp_path / "model", stages=None)), executor="local")
    longest = LONGEST_PATH - len("/automl-12345678/socket")
    monkeypatch.setattr(tempfile, "tempdir", "/" + (longest - 1) * "x")
    prepare(asked, tmp_path / "work")
    monkeypatch.setattr(tempfile, "tempdir", "/" + longest * "x")
    with pytest.raises(UserError, match="set TMPDIR to a shorter folder"):
        prepare(asked, tmp_path / "work")
