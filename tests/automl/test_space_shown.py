"""What `automl space show` and `automl plan` say of a space is what a run would search, and they refuse the same."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from automl import loop, plan_json, run_figures, show_plan
from automl.errors import UserError
from automl.plan import prepare
from automl.progress import Progress
from automl.request import RunRequest
from automl.space.cli import read_space
from automl.widening import widened
from tests.automl.test_foreign_trainers import shell_trainer, wide_model
from tests.automl.test_lost_work import study_of

OWN = {
    "properties": {
        "search": {
            "properties": {
                "depth": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 9,
                    "default": 2,
                    "automl_enabled": True,
                }
            }
        },
        "lr": {"type": "number", "minimum": 0.1, "maximum": 1, "default": 0.5, "automl_enabled": True},
    }
}


def spec_file(root: Path, text: str) -> str:
    path = root / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fit: 5\n", "mine.yaml: fit must be a section"),
        ("fit: {rouns: 5}\n", "mine.yaml: unknown key 'fit.rouns'; did you mean 'rounds'?"),
        ("serach: {}\n", "mine.yaml: unknown key 'serach'; did you mean 'search'?"),
        ("fit: {rounds: x}\n", "fit.rounds must be an integer"),
        ("try: 7\n", "try: must be a list of mappings"),
        ("try: [{fit.lr: 0.1}, {}]\n", "but got {}"),
        ("try: [{fit.lr: 7}]\n", "try, entry 1"),
        ("try: [{fit.rounds: 7}]\n", "--tune adds to it"),
        ("automl_policy: sometimes\n", "automl_policy must be on or off"),
        ("objectives: [x]\n", "--objectives must be a metric and latency_ms"),
        ("search: {fit.lrr: [0.1, 0.2]}\n", "did you mean 'fit.lr'?"),
    ],
)
def test_a_space_is_shown_of_a_spec_that_a_run_takes(tmp_path: Path, text: str, said: str) -> None:
    model, mine = str(shell_trainer(tmp_path / "model", stages=None)), spec_file(tmp_path, text)
    with pytest.raises(UserError, match=re.escape(said)):
        read_space(None, model, mine, None, None)
    with pytest.raises(UserError, match=re.escape(said)):
        prepare(RunRequest(model, spec_file=mine, executor="local", trials=3), tmp_path / "run")


@pytest.mark.parametrize("text", ["", "fit: null\n", "fit: {go_on: null}\n", "search: null\n"])
def test_a_null_that_a_run_takes_is_taken(tmp_path: Path, text: str) -> None:
    model, mine = str(shell_trainer(tmp_path / "model", stages=None)), spec_file(tmp_path, text)
    plan = prepare(RunRequest(model, spec_file=mine, executor="local", trials=3), tmp_path / "run")
    assert read_space(None, model, mine, None, None).digest == plan.space.digest


def test_a_schema_s_own_section_of_a_name_of_the_engine_s_is_its_own(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(OWN))
    space = read_space(str(schema), None, spec_file(tmp_path, "search: {depth: 3}\n"), None, None)
    assert space.default["search.depth"] == 3
    with pytest.raises(
        UserError, match=r"mine.yaml: search.depth must be an integer in \[1, 9\], but got 12"
    ):
        read_space(str(schema), None, spec_file(tmp_path, "search: {depth: 12}\n"), None, None)


def test_sections_of_other_actions_and_what_nothing_is_searched_for_are_passed_over(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(OWN))
    mine = spec_file(tmp_path, "evaluate: {threshold: 0.5}\ngen_trt_engine: {batch: 4}\n")
    assert len(read_space(str(schema), None, mine, None, None).parameters) == 2
    model = str(shell_trainer(tmp_path / "model", stages=None))
    mine = spec_file(tmp_path, "automl_policy: off\ntry: [{fit.lr: 5}]\nobjectives: 5\n")
    assert len(read_space(None, model, mine, None, None).parameters) == 1


def test_a_range_that_can_go_no_further_is_not_said_to(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(OWN))
    space = read_space(str(schema), None, None, None, None)
    assert all(p.widest is p for p in space.parameters)


def shown(plan: Any) -> str:
    out = io.StringIO()
    show_plan.plan(Console(file=out, width=200), plan, 2)
    return out.getvalue()


@pytest.mark.parametrize(
    ("sampler", "reach"), [("fgp", {"fit.lr": [0.003, 3.0]}), ("tpe", {}), ("random", {})]
)
def test_how_far_a_range_may_be_left_is_said_of_the_sampler_that_does(
    tmp_path: Path, sampler: str, reach: dict[str, Any]
) -> None:
    model = str(wide_model(tmp_path / "model"))
    plan = prepare(RunRequest(model, executor="local", trials=3, sampler=sampler), tmp_path / "run")
    found = plan_json.document(plan, 2)["space"]["reach"]
    assert found.keys() == reach.keys()
    assert all(found[name][0] < 0.03 < 0.3 < found[name][1] for name in reach)
    assert ("may go on to" in shown(plan)) == bool(reach)


def test_where_a_range_was_left_is_in_the_status(tmp_path: Path) -> None:
    asked = RunRequest(str(wide_model(tmp_path / "model")), trials=20, executor="local", scheduler="none")
    loop.run(asked, tmp_path / "run", Progress(quiet=True))
    found = run_figures.status(tmp_path / "run")["widened"]
    assert found == dict(widened(study_of(tmp_path / "run").trials())) != {}


def test_what_is_tried_first_is_no_obstacle_where_nothing_is_searched(tmp_path: Path) -> None:
    model = str(shell_trainer(tmp_path / "model", stages=None))
    mine = spec_file(tmp_path, "automl_policy: off\ntry: [{fit.rounds: 9}]\n")
    asked = RunRequest(model, spec_file=mine, executor="local")
    outcome = loop.run(asked, tmp_path / "run", Progress(quiet=True))
    assert outcome.trials == 1


def test_a_plan_for_programs_tells_of_a_warm_start(tmp_path: Path) -> None:
    model = str(shell_trainer(tmp_path / "model", stages=None))
    loop.run(RunRequest(model, trials=4, executor="local"), tmp_path / "one", Progress(quiet=True))
    asked = RunRequest(model, trials=4, executor="local", warm_start=str(tmp_path / "one"))
    found = plan_json.document(prepare(asked, tmp_path / "two"), 3)
    assert found["warm_start"]["trials"] == found["warm_start"]["of"] > 0
    assert found["warm_start"]["text"].endswith("earlier trials fit this search space")


def test_words_of_a_search_are_named_where_nothing_is_searched(tmp_path: Path) -> None:
    model = str(shell_trainer(tmp_path / "model", stages=None))
    mine = spec_file(tmp_path, "automl_policy: off\nobjectives: [val_loss, latency_ms]\n")
    asked = RunRequest(model, spec_file=mine, executor="local", trials=3, sampler="tpe")
    found = prepare(asked, tmp_path / "run").warnings
    assert "passed over, as nothing is searched: --trials 3 --sampler tpe" in found
    assert "passed over, as nothing is searched: objectives: in the spec file" in found
    with pytest.raises(
        UserError, match=r"--fix fit.lr=0.1 applies only to a search; .* it is --set fit.lr=0.1"
    ):
        prepare(RunRequest(model, policy="off", fix=("fit.lr=0.1",)), tmp_path / "other")


def test_a_value_that_is_given_twice_is_no_configuration(tmp_path: Path) -> None:
    space = read_space(None, str(shell_trainer(tmp_path / "model", stages=None)), None, None, None)
    assert space.validate({"fit": {"lr": 0.1}}) == []
    assert space.validate({"fit": {"lr": 0.1}, "fit.lr": 0.2}) == [
        "fit.lr is given twice, nested and by its dotted name"
    ]


@pytest.mark.parametrize(
    ("asked", "larger"),
    [
        ({"trainings": 6}, "--trainings 12"),
        ({"trials": 5, "time_s": 90.0}, "--trials 10 --time 3m"),
        ({"total_epochs": 9}, "--total-epochs 18"),
    ],
)
def test_twice_the_budget_is_that_of_the_kind_that_was_asked_for(asked: dict[str, Any], larger: str) -> None:
    assert RunRequest(**asked).larger() == larger


def test_the_time_to_go_on_with_is_more_than_is_used() -> None:
    assert RunRequest(time_s=2.0).larger(used_s=1.0) == "--time 4s"
    assert RunRequest(time_s=2.0).larger(used_s=4.2) == "--time 10s"
