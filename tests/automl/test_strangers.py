"""Slips and habits of those who write a model folder of their own: told, or done as they are meant."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from automl import loop, show, show_plan, spec, warm_start
from automl.errors import UserError
from automl.fgp.scheduler import FreezeThaw
from automl.metric import figure, signed
from automl.plan import prepare
from automl.progress import Progress
from automl.report.gather import facts_of
from automl.report.verdict import sentences
from automl.request import RunRequest
from automl.rundir import RunDir
from automl.scheduling import Verdict
from automl.storage import load_study
from tests.automl.test_foreign_trainers import searched, shell_trainer, wide_model
from tests.automl.toy import toy

TRAINER = """
import json, os, sys, yaml
spec = yaml.safe_load(open(sys.argv[1]))
folder = os.environ["AUTOML_TRIAL_DIR"]
"""


def python_trainer(root: Path, properties: dict[str, Any], lines: str, **info: Any) -> Path:
    """A model folder with this schema, whose trainer is Python; `spec` and `folder` are there already."""
    (root / "schemas").mkdir(parents=True)
    (root / "references").mkdir()
    (root / "schemas" / "train.schema.json").write_text(json.dumps({"properties": properties}))
    (root / "train.py").write_text(TRAINER + lines)
    command = f"{sys.executable} {{model_dir}}/train.py {{config_path}}"
    document = {"actions": {"train": {"command": command}}, "metrics": {"score": "maximize"}, **info}
    (root / "references" / "skill_info.yaml").write_text(yaml.safe_dump(document))
    return root


def run_and_read(model: Path, root: Path, **request: Any) -> str:
    """What a person is told by a run."""
    console = Console(file=io.StringIO(), width=200)
    asked: dict[str, Any] = {"trials": 3, "executor": "local", "scheduler": "none", **request}
    loop.run(RunRequest(model=str(model), **asked), root, Progress(console))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


RATE = {"type": "number", "minimum": 0.001, "maximum": 1.0, "default": 0.1, "automl_enabled": True}

# ---- keys that hold dots ------------------------------------------------------------------------------------------


def test_a_stage_that_lacks_what_it_needs_is_told(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model", stages={"ship": {"needs": ["fit.rounds", "fit.go_on"]}})
    outcome, _ = searched(model, tmp_path / "run", trials=2)
    assert [(s.name, s.ok, s.failed, s.message) for s in outcome.stages] == [
        ("ship", False, False, "not run: fit.go_on is not set")
    ]


KEYS = st.text("ab.[", min_size=1, max_size=4)
SPECS = st.recursive(
    st.integers(), lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=8
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(SPECS.filter(lambda found: isinstance(found, dict)))
def test_every_leaf_is_found_and_set_by_its_name(found: dict[str, Any]) -> None:
    named = list(spec.leaves(found))
    if len({name for name, _ in named}) < len(named):
        return  # `a.b` beside `a: {b: ...}`: two leaves of one name
    shape = json.dumps(found, sort_keys=True)
    for name, value in named:
        if spec.get(found, name) != value:
            return  # `a: ` beside `a.b: `: the shorter key hides the longer one
        spec.put(found, name, value)
    assert json.dumps(found, sort_keys=True) == shape


@pytest.mark.parametrize("template", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_a_flat_key_with_dots_is_searched_and_handed_over_as_it_is(
    tmp_path: Path, template: bool, inside: bool
) -> None:
    properties: dict[str, Any] = {"optim.lr": RATE}
    read = "spec['fit']['optim.lr']" if inside else "spec['optim.lr']"
    model = python_trainer(
        tmp_path / "model",
        {"fit": {"properties": properties}} if inside else properties,
        f"print(json.dumps({{'epoch': 0, 'score': {read}}}), file=open(folder + '/metrics.jsonl', 'a'))",
    )
    if template:
        whole = {"fit": {"optim.lr": 0.1}} if inside else {"optim.lr": 0.1}
        (model / "references" / "spec_template_train.yaml").write_text(yaml.safe_dump(whole))
    outcome, study = searched(model, tmp_path / "run")
    values = [trial.value for trial in study.trials()]
    assert len(set(values)) == 4
    best = yaml.safe_load((tmp_path / "run" / "best" / "train.yaml").read_text())
    section = best["fit"] if inside else best
    assert {"optim.lr": max(v for v in values if v)} == {
        k: v for k, v in section.items() if "lr" in k or k == "optim"
    }
    assert outcome.winner.value == max(v for v in values if v)


# ---- figures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.41237, "0.4124"), (0.0, "0.0000"), (3.963e-07, "3.963e-07"), (-0.00012345, "-0.0001234"), (12.5, "12.5000"),
     (12345.67, "12345.6700"), (-249930.0004, "-249930.0004"), (3.9631e299, "3.9631e+299"), (None, "-")],
)  # fmt: skip
def test_a_figure_is_never_shown_as_nothing(value: float | None, text: str) -> None:
    assert figure(value) == text


@given(st.floats(-1e300, 1e300))
@example(0.03125)
@example(0.00999999)
def test_a_figure_says_the_value_to_four_places_and_fits(value: float) -> None:
    # Four places: half of the last one, or four digits of what is less than .01 and would be lost.
    error = 5e-4 * abs(value) if abs(value) < 0.01 else max(5.01e-5, 5e-4 * abs(value))
    assert float(figure(value)) == pytest.approx(value, rel=0, abs=error)
    assert len(figure(value)) <= 14
    assert float(signed(value)) == float(figure(value))


# ---- hooks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise KeyError('x')", r"entry_points.inspect_data look:look failed: KeyError: 'x' \(.*look.py, line 2\)"),
        ("import sys; sys.exit(1)", "look:look failed: SystemExit: 1"),
        ("return [1]", "inspect_data look:look must return a mapping .*, but got list"),
        ("return {'problems': 'bad thing'}", "^bad thing$"),
        ("return {'fill': {'fit.rond': 1}}", "sets fit.rond, which neither the spec nor the schema has; did you mean"),
        ("return {'replace': {'fit.rond': 1}}", "sets fit.rond, which neither"),
    ],
)  # fmt: skip
def test_what_a_hook_does_wrong_is_told_in_a_line(tmp_path: Path, body: str, told: str) -> None:
    model = shell_trainer(tmp_path / "model", entry_points={"inspect_data": "look:look"})
    (model / "look.py").write_text(f"def look(spec, data, work_dir):\n  {body}\n")
    with pytest.raises(UserError, match=told):
        prepare(RunRequest(model=str(model), data=str(tmp_path)), tmp_path / "work")


@pytest.mark.parametrize("text", ["def look(:", "1 / 0", "import sys; sys.exit(3)", "look_ = 1"])
def test_a_hook_that_cannot_be_imported_is_told(tmp_path: Path, text: str) -> None:
    model = shell_trainer(tmp_path / "model", entry_points={"inspect_data": "look:look"})
    (model / "look.py").write_text(text)
    with pytest.raises(UserError, match=r"inspect_data look:look cannot be imported: \w+"):
        prepare(RunRequest(model=str(model), data=str(tmp_path)), tmp_path / "work")


@pytest.mark.parametrize(
    "body",
    [
        "return None",
        "return {}",
        "return {'facts': {'a': __import__('numpy').float64(2)}, 'warnings': 'one line'}",
    ],
)
def test_a_hook_may_leave_out_what_it_has_not_to_say(tmp_path: Path, body: str) -> None:
    model = shell_trainer(
        tmp_path / "model", entry_points={"inspect_data": "look:look", "settings": "look:none"}
    )
    (model / "look.py").write_text(f"def look(spec, data, work_dir):\n  {body}\ndef none(*args): pass\n")
    plan = prepare(RunRequest(model=str(model), data=str(tmp_path)), tmp_path / "work")
    assert ("one line" in plan.warnings) == ("one line" in body)
    show_plan.plan(Console(file=io.StringIO()), plan, 2)


# ---- skill_info -------------------------------------------------------------------------------------------------------


def test_a_stage_without_a_template_is_told_before_the_search(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model")
    (model / "references" / "spec_template_ship.yaml").unlink()
    with pytest.raises(UserError, match=r"spec_template_ship.yaml: no such template"):
        prepare(RunRequest(model=str(model)), tmp_path / "work")


def test_a_command_may_be_a_list_of_words(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "a model", stages=None)
    words = ["sh", "{model_dir}/train.sh", "{config_path}"]
    path = model / "references" / "skill_info.yaml"
    info = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(info | {"actions": {"train": {"command": words}}}))
    _, study = searched(model, tmp_path / "run", trials=2)
    assert [trial.state.name for trial in study.trials()] == ["COMPLETE", "COMPLETE"]


@pytest.mark.parametrize(
    ("skill", "told"),
    [
        (
            {"actions": {"train": {"command": "sh train.sh {config_path}"}}},
            r"did you mean \{model_dir\}/train.sh\?",
        ),
        (
            {"spec_params": {"train": {"fit.go_onn": "resume_model"}}},
            r"fit.go_onn \(resume_model\) is no leaf of the spec; did you mean 'fit.go_on'\?",
        ),
        ({"epochs_key": "fit.lr"}, r"fit.lr is 0.1, no number from 1: no trial is stopped early"),
    ],
)
def test_slips_are_told(tmp_path: Path, skill: dict[str, Any], told: str) -> None:
    model = shell_trainer(tmp_path / "model", stages=None, **skill)
    plan = prepare(RunRequest(model=str(model)), tmp_path / "work")
    assert any(re.search(told, line) for line in plan.warnings)


@pytest.mark.parametrize("text", ["4", 4, 4.0, "4.0"])
def test_epochs_may_be_text_as_other_numbers_may(tmp_path: Path, text: Any) -> None:
    model = shell_trainer(tmp_path / "model", stages=None)
    path = model / "schemas" / "train.schema.json"
    path.write_text(path.read_text().replace('"default": 3', f'"default": {json.dumps(text)}'))
    plan = prepare(RunRequest(model=str(model)), tmp_path / "work")
    assert plan.bundle.epochs(plan.spec) == 4
    assert not any("epochs" in line for line in plan.warnings)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tpe:n_startup_trials", "n_startup_trials needs a value: n_startup_trials=VALUE"),
        ("TPE", "did you mean 'tpe'"),
        ("tpe:", "after the colon come options"),
    ],
)
def test_slips_in_a_sampler_s_options_are_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        prepare(RunRequest(model=str(shell_trainer(tmp_path / "model")), sampler=text), tmp_path / "work")


# ---- trainers -----------------------------------------------------------------------------------------------------------

CURVE = """
for epoch in range({first}, {first} + 3):
    name = {name}
    open(f"{{folder}}/{{name}}", "w").write("weights")
    line = {{"epoch": epoch, "score": {score}, "checkpoint": name}}
    print(json.dumps(line), file=open(folder + "/metrics.jsonl", "a"))
"""


def curve_trainer(root: Path, score: str, first: int = 0, name: str = "f'{epoch}.pt'", **info: Any) -> Path:
    rounds = {"type": "integer", "default": 3}
    text = CURVE.format(first=first, name=name, score=score)
    return python_trainer(root, {"lr": RATE, "rounds": rounds}, text, epochs_key="rounds", **info)


@pytest.mark.parametrize(("first", "told"), [(0, 0), (1, 1)])
def test_a_trainer_that_counts_epochs_from_one_is_told_once(tmp_path: Path, first: int, told: int) -> None:
    said = run_and_read(curve_trainer(tmp_path / "model", "epoch", first), tmp_path / "run")
    assert said.count("begins with epoch 1; lines count epochs from 0") == told
    assert said.count("reports epoch 3, but its training has 3, counted 0 to 2") == told


@pytest.mark.parametrize("score", ["epoch", "epoch if epoch == 1 else None"])
def test_a_trainer_that_counts_epochs_from_one_uses_up_no_more_than_it_trains(
    tmp_path: Path, score: str
) -> None:
    """Three trainings of 3 epochs are 9; one more for each would end the third in its first."""
    model = curve_trainer(tmp_path / "model", score, 1)
    said = run_and_read(model, tmp_path / "run", trials=None, total_epochs=9)
    assert "epoch 4/3" not in said
    facts = facts_of(tmp_path / "run")
    assert [t.state for t in facts.trials] == ["COMPLETE"] * 3
    assert facts.epochs == 9
    (tmp_path / "run" / "study.db").unlink()
    run_again = Console(file=io.StringIO(), width=200)
    loop.resume(tmp_path / "run", {}, Progress(run_again))  # made again from the folders
    assert facts_of(tmp_path / "run").epochs == 9


ELAPSED = """
import time
at, elapsed = int(spec["from"].split("/")[-1][:-3]) + 1 if spec.get("from") else 0, 0.0
for epoch in range(at, 6):
    open(f"{folder}/{epoch}.pt", "w").write("weights")
    spent = 100.0 + epoch if epoch == at else 1.0 + epoch
    elapsed += spent
    line = {"epoch": epoch, "score": spec["lr"] * (epoch + 1) / 6, "checkpoint": f"{epoch}.pt", "spent": spent}
    line |= {"elapsed_s": elapsed} if TELLS else {}
    print(json.dumps(line), file=open(folder + "/metrics.jsonl", "a"), flush=True)
    time.sleep(0.05)
"""


@pytest.mark.parametrize("tells", [True, False])
def test_the_time_of_a_trial_is_that_of_its_processes(tmp_path: Path, tells: bool) -> None:
    """Not of its pauses, and of each process from its start."""
    properties = {
        "lr": RATE,
        "rounds": {"type": "integer", "default": 6},
        "from": {"type": ["string", "null"], "default": None},
    }
    keys = {"epochs_key": "rounds", "spec_params": {"train": {"from": "resume_model"}}}
    model = python_trainer(tmp_path / "model", properties, ELAPSED.replace("TELLS", str(tells)), **keys)
    run_and_read(model, tmp_path / "run", trials=8, scheduler="fgp", sampler="fgp")
    facts = facts_of(tmp_path / "run")
    paused = [t for t in facts.trials if len(t.columns["spent"]) > 2 and t.number]
    assert paused
    for trial in facts.trials:
        assert trial.took == (trial.columns["spent"] if tells else [])
        if tells:
            assert trial.seconds == pytest.approx(sum(value for _, value in trial.columns["spent"]))
    if not tells:
        assert 0 < sum(trial.seconds or 0.0 for trial in facts.trials) <= facts.elapsed_s + 0.01
        assert all(trial.seconds for trial in facts.trials)


def test_a_trainer_that_is_started_again_and_does_not_go_on_is_told_once(tmp_path: Path) -> None:
    """It counts on from where its lines end, not from how many there are."""
    lines = """
from_ = 0 if spec.get("from") is None else 1
for epoch in range(from_, 6):
    open(f"{folder}/{epoch}.pt", "w").write("weights")
    line = {"epoch": epoch, "score": spec["lr"] * (epoch + 1) / 6, "checkpoint": f"{epoch}.pt"}
    print(json.dumps(line), file=open(folder + "/metrics.jsonl", "a"), flush=True)
    time.sleep(0.15)
"""
    rounds = {"type": "integer", "default": 6}
    properties = {"lr": RATE, "rounds": rounds, "from": {"type": ["string", "null"], "default": None}}
    keys = {"epochs_key": "rounds", "spec_params": {"train": {"from": "resume_model"}}}
    model = python_trainer(tmp_path / "model", properties, "import time\n" + lines, **keys)
    said = run_and_read(model, tmp_path / "run", trials=8, scheduler="fgp", sampler="fgp")
    resumed = [int(epoch) for epoch in re.findall(r"goes on from epoch (\d+)", said)]
    assert resumed
    assert max(resumed) <= 6
    assert said.count("a trainer that is started again goes on after the checkpoint that from names") == 1
    back = re.findall(r"trial (\d+) reports epoch \d after epoch \d; of an epoch told twice", said)
    assert len(back) == len(set(back))
    assert "over and over" not in said


def test_epochs_out_of_order_are_told_once_of_each_trial(tmp_path: Path) -> None:
    lines = """
for epoch in (0, 1, 2, 1, 2, 0):
    print(json.dumps({"epoch": epoch, "score": spec["lr"]}), file=open(folder + "/metrics.jsonl", "a"))
"""
    properties = {"lr": RATE, "rounds": {"type": "integer", "default": 4}}
    model = python_trainer(tmp_path / "model", properties, lines, epochs_key="rounds")
    said = run_and_read(model, tmp_path / "run", trials=3)
    assert re.findall(r"trial (\d+) reports epoch 1 after epoch 2; of an epoch told twice", said) == [
        "0",
        "1",
        "2",
    ]
    assert said.count("of an epoch told twice") == 3
    assert said.count("a trainer that is started again") == 1


def test_a_checkpoint_that_is_written_over_is_told_and_the_trial_s_figure_is_what_counts(
    tmp_path: Path,
) -> None:
    model = curve_trainer(tmp_path / "model", "1 - epoch / 10", name="'last.pt'")
    said = run_and_read(model, tmp_path / "run")
    assert said.count("writes last.pt over and over: of such a training the last epoch counts") == 1
    assert said.count("COMPLETE, best 0.8000: finished") == 3


def test_a_metric_that_is_never_finite_is_told_so(tmp_path: Path) -> None:
    model = curve_trainer(tmp_path / "model", "epoch if spec['lr'] == 0.1 else float('nan')")
    said = run_and_read(model, tmp_path / "run")
    assert said.count("FAIL: its 'score' was never a finite number") == 2


def test_epochs_of_a_trial_that_goes_on_are_told_once(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model", stages=None)
    said = run_and_read(model, tmp_path / "run", trials=6, scheduler="fgp", sets=("fit.rounds=9",))
    lines = [
        line.split("] ")[1].partition(":")[0]
        for line in said.splitlines()
        if " epoch " in line and "/9" in line
    ]
    assert len(lines) > 20
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("scheduler", ["fgp", "asha", "halving"])
def test_what_cannot_go_on_is_not_stopped_once_it_is_through(tmp_path: Path, scheduler: str) -> None:
    """Its trainer outran the driver: nothing would be saved, and its best would be lost."""
    model = curve_trainer(tmp_path / "model", "spec['lr'] * epoch")
    run_and_read(model, tmp_path / "run", trials=8, scheduler=scheduler)
    for folder in (tmp_path / "run" / "trials").iterdir():
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    facts = facts_of(tmp_path / "run")
    assert all(len(trial.curve) == 3 for trial in facts.trials if trial.state == "COMPLETE")


def test_first_draws_that_could_not_go_on_do_not_wait(tmp_path: Path) -> None:
    slow = "__import__('time').sleep(.25) or spec['lr'] * (epoch + 1)"
    model = curve_trainer(tmp_path / "model", slow)
    said = run_and_read(model, tmp_path / "run", trials=5, scheduler="fgp", sampler="fgp")
    assert "waits there" not in said


def test_a_winner_that_another_outdid_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told that the one that the scheduler names has measured best."""
    monkeypatch.setattr(FreezeThaw, "winner", lambda *_: 1)
    model = curve_trainer(tmp_path / "model", "{1: .9, 2: .91}.get(int(folder[-2:]), .5) - 1 / (epoch + 2)")
    said = run_and_read(model, tmp_path / "run", scheduler="fgp", sampler="random")
    outcome = json.loads((tmp_path / "run" / "outcome.json").read_text())
    assert outcome["winner"]["number"] == 1
    assert outcome["warning"].startswith("trial 2 measured 0.6600 at epoch 3; trial 1 is named")
    assert "Trial 1 was named the winner of 3 finished trials" in sentences(facts_of(tmp_path / "run"))[0]
    assert "handing over trial 1" in said


def test_what_was_stopped_and_measured_better_than_the_default_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told that nothing better was found."""
    stop = Verdict("stop", "stopped for a test")
    monkeypatch.setattr(FreezeThaw, "decide", lambda self, view, number, *_: stop if number else None)
    waits = "__import__('time').sleep(60) or 0"
    score = f"(.5 if folder.endswith('0') else {waits} if epoch else .9) - 1 / (epoch + 2)"
    model = curve_trainer(tmp_path / "model", score)
    request = RunRequest(model=str(model), trials=2, executor="local", scheduler="fgp", sampler="random")
    outcome = loop.run(request, tmp_path / "run", Progress(quiet=True))
    assert (outcome.winner.number, outcome.winner.complete) == (0, True)
    told = "trial 1 measured 0.4000 at epoch 1, and has not been trained to its end: stopped for a test"
    assert outcome.warning == told
    show.outcome(Console(file=(shown := io.StringIO()), width=200), outcome)
    assert told in shown.getvalue()
    assert "nothing better" not in shown.getvalue()
    verdict = sentences(facts_of(tmp_path / "run"))
    assert (
        verdict[0]
        == "The default configuration is the best of 1 finished trial, with score 0.2500 at epoch 3."
    )
    assert f"T{told[1:]}." in verdict


# ---- later actions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ({"ship": {}, "b": {"action": "ship", "after": "nosuch", "sets": {"ship.target": "x"}}}, "b.after must name a stage before it"),
        ({"b": {"action": "ship", "after": "ship", "sets": {"ship.target": "x"}}, "ship": {}}, "b.after must name a stage before it"),
        ({"..": {"action": "ship"}}, "stages: a name must be of letters and digits"),
        ({"train": {"action": "ship"}}, "stages: a name must be of letters and digits"),
        ({"ship": {"after": "ship"}}, "ship.after must name a stage before it"),
        ({"ship": {"needs": ["fit.nosuch"]}}, "stages.ship.needs: fit.nosuch is no leaf of the train spec"),
        ({"b": {"action": "ship", "sets": {"ship.targt": "x"}}}, "stages.b.sets: ship.targt is no leaf of the ship spec; did you mean"),
        ({"b": {"action": "ship", "sets": {"ship.target": "x"}, "default_too": True}}, "default_too and sets exclude each other"),
    ],
)  # fmt: skip
def test_stages_that_could_not_run_as_they_are_written_are_refused(
    tmp_path: Path, stages: dict[str, Any], told: str
) -> None:
    model = shell_trainer(tmp_path / "model", stages=stages)
    with pytest.raises(UserError, match=told):
        prepare(RunRequest(model=str(model)), tmp_path / "work")


def test_an_action_that_runs_once_more_has_the_winner_and_values_of_their_own_type(tmp_path: Path) -> None:
    stages = {"ship": {}, "twice": {"action": "ship", "after": "ship", "sets": {"ship.target": 7}}}
    model = shell_trainer(tmp_path / "model", stages=stages, files=None)
    outcome, _ = searched(model, tmp_path / "run", trials=2)
    full = yaml.safe_load((tmp_path / "run" / "best" / "twice" / "ship.yaml").read_text())
    assert full["ship"] == {"target": 7, "weights": str(tmp_path / "run" / "best" / "model")}
    assert [(stage.name, stage.ok) for stage in outcome.stages] == [("ship", True), ("twice", True)]


def test_a_stage_after_one_that_failed_is_told(tmp_path: Path) -> None:
    stages = {"ship": {}, "twice": {"action": "ship", "after": "ship", "sets": {"ship.target": "x"}}}
    model = shell_trainer(tmp_path / "model", stages=stages)
    (model / "ship.sh").write_text("exit 1\n")
    outcome, _ = searched(model, tmp_path / "run", trials=2)
    assert [stage.message for stage in outcome.stages][1] == "not run: ship did not go well"


def test_a_stage_of_another_name_than_its_action_also_runs_on_the_default(tmp_path: Path) -> None:
    stages = {"test": {"action": "ship", "default_too": True, "shows": ["bytes"]}}
    outcome, _ = searched(shell_trainer(tmp_path / "model", stages=stages), tmp_path / "run")
    assert {stage.name for stage in outcome.stages} >= {"test"}
    assert all(stage.ok for stage in outcome.stages)
    assert len(outcome.stages) == 1 + (outcome.winner.number != 0)


def test_an_action_to_deploy_by_that_is_none_is_told(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model", deploy={"action": "shp"})
    with pytest.raises(UserError, match="deploy.action 'shp' is no action; did you mean 'ship'"):
        prepare(RunRequest(model=str(model)), tmp_path / "work")


# ---- what run would refuse, plan refuses ---------------------------------------------------------------------------------


def test_another_launch_is_refused_by_plan(tmp_path: Path) -> None:
    command = {"train": {"command": "sh {model_dir}/train.sh {config_path}", "launch": "percpu"}}
    model = shell_trainer(tmp_path / "model", stages=None, actions=command)
    with pytest.raises(UserError, match="actions.train.launch must be once or per_gpu"):
        prepare(RunRequest(model=str(model)), tmp_path / "work")


def test_seeds_that_the_schema_forbids_are_refused_by_plan(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model", stages=None, seed_key="fit.seed")
    path = model / "schemas" / "train.schema.json"
    document = json.loads(path.read_text())
    document["properties"]["fit"]["properties"]["seed"] = {
        "type": "integer",
        "minimum": 0,
        "maximum": 1,
        "default": 0,
    }
    path.write_text(json.dumps(document))
    prepare(RunRequest(model=str(model), confirm=1), tmp_path / "work")
    with pytest.raises(UserError, match=r"--confirm 3 would train with fit.seed 2, but fit.seed must be"):
        prepare(RunRequest(model=str(model), confirm=3), tmp_path / "work")


def test_a_run_is_not_begun_within_another(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model", stages=None)
    searched(model, tmp_path / "run", trials=1)
    inner = tmp_path / "run" / "trials" / "0001"
    with pytest.raises(UserError, match="lies in the run"):
        prepare(RunRequest(model=str(model), results_dir=str(inner)), inner)


@pytest.mark.parametrize(
    ("body", "option", "told"),
    [
        ("class S:\n  def decide(self, *a): pass\n", {"scheduler": "theirs"}, "must be an automl.scheduling.Scheduler, but got S"),
        ("def S(limit): pass\n", {"scheduler": "theirs"}, "limit"),
        ("def S(seed, **options): raise RuntimeError('no')\n", {"sampler": "theirs:a=3"}, "RuntimeError: no"),
        ("def S(seed): return 7\n", {"sampler": "theirs"}, "must be an optuna.samplers.BaseSampler, but got int"),
        ("def S(seed): pass\n", {"sampler": "theirs"}, "but got NoneType"),
        ("1 / 0", {"sampler": "theirs"}, "of another package cannot be imported: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_members_of_other_packages_that_are_none_are_refused_by_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, option: dict[str, str], told: str
) -> None:
    package = tmp_path / "packages"
    info = package / "strangers-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[automl.samplers]\ntheirs = strangers_:S\n[automl.schedulers]\ntheirs = strangers_:S\n"
    )
    (package / "strangers_.py").write_text(body)
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.delitem(sys.modules, "strangers_", raising=False)
    asked: dict[str, Any] = option
    with pytest.raises(UserError, match=told):
        prepare(RunRequest(model=str(shell_trainer(tmp_path / "model")), **asked), tmp_path / "work")


def test_plan_shows_what_a_warm_start_brings(tmp_path: Path) -> None:
    from automl import show_plan

    model = shell_trainer(tmp_path / "model", stages=None)
    outcome, _ = searched(model, tmp_path / "run")
    plan = prepare(
        RunRequest(model=str(model), trials=4, warm_start=str(tmp_path / "run")), tmp_path / "work"
    )
    shown = show_plan.first_configurations(plan, 3)
    _, study = searched(model, tmp_path / "second", warm_start=str(tmp_path / "run"))
    assert shown == [study.frozen(number).user_attrs["params"] for number in range(3)]
    assert outcome.winner.params in shown
    console = Console(file=io.StringIO(), width=120)
    show_plan.plan(console, plan, 3)
    assert "4 of 4 earlier trials fit" in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_earlier_trials_were_measured_with_and_nobody_searches_is_named(tmp_path: Path) -> None:
    """Not what either run searches, nor the folders and the seed, which differ between any two runs."""
    model = toy(tmp_path / "toy")
    asked = RunRequest(
        model=str(model), executor="local", stages=(), sampler="random", scheduler="none", trials=2
    )
    loop.run(replace(asked, sets=("epochs=3",)), tmp_path / "one", Progress(quiet=True))
    again = replace(asked, seed=5, warm_start=str(tmp_path / "one"))
    for sets, tune, told in (
        (("epochs=3",), (), ""),
        (("epochs=3", "lr=0.02"), (), ""),
        (("epochs=2",), ("lr", "epochs=1:4"), ""),
        (("epochs=2",), (), "; they were measured with other values of epochs"),
    ):
        plan = prepare(replace(again, sets=sets, tune=tune), tmp_path / "work")
        assert show_plan.lessons_of(plan).text.partition(" earlier trials fit this search space")[2] == told
    notes: list[str] = []
    progress = Progress(quiet=True)
    progress.note = notes.append  # type: ignore[method-assign]
    loop.run(replace(again, sets=("epochs=2",)), tmp_path / "two", progress)
    assert any(
        note.startswith("warm start: 2 of 2 ") and note.endswith(" other values of epochs") for note in notes
    )


def test_many_leaves_that_were_otherwise_are_counted() -> None:
    text = warm_start.Lessons(of=3, otherwise=tuple("abcdefg")).text
    assert text.endswith("; they were measured with other values of a, b, c, d, e and 2 more")


def test_earlier_trials_had_what_their_run_had_set_of_what_is_searched_now(tmp_path: Path) -> None:
    asked = RunRequest(
        model=str(toy(tmp_path / "toy")), executor="local", stages=(), sampler="random", scheduler="none"
    )
    first = loop.run(replace(asked, sets=("epochs=3",), trials=3), tmp_path / "one", Progress(quiet=True))
    again = replace(asked, tune=("lr", "epochs=1:4"), trials=2, warm_start=str(tmp_path / "one"))
    loop.run(again, tmp_path / "two", Progress(quiet=True))
    study = load_study(RunDir(tmp_path / "two").read_run(), tmp_path / "two")
    assert study is not None
    assert study.frozen(1).user_attrs["params"] == first.winner.params | {"epochs": 3}


@pytest.mark.parametrize("seed", range(3))
def test_of_trainings_of_other_lengths_only_the_last_may_go_beyond_the_budget(
    tmp_path: Path, seed: int
) -> None:
    asked = RunRequest(
        model=str(toy(tmp_path / "toy")), executor="local", stages=(), sampler="random", scheduler="none", seed=seed,
        tune=("lr", "epochs=1:20"), sets=("epochs=3",), trainings=4, concurrency=2,
    )  # fmt: skip
    assert any(
        "epochs is searched: --trainings 4 counts trainings of 3" in w
        for w in prepare(asked, tmp_path / "w").warnings
    )
    loop.run(asked, tmp_path / "run", Progress(quiet=True))
    study = load_study(RunDir(tmp_path / "run").read_run(), tmp_path / "run")
    assert study is not None
    lengths = [t.user_attrs["params"]["epochs"] for t in study.trials()]
    assert study.epochs_trained == sum(lengths)
    assert sum(lengths[:-1]) + 3 <= 12


@pytest.mark.parametrize(("sampler", "held"), [("fgp", True), ("tpe", False)])
def test_what_is_to_be_tried_may_lie_where_the_sampler_may(tmp_path: Path, sampler: str, held: bool) -> None:
    """In `try:`, and the winner of an earlier run; where it may not, that is said."""
    spec_file = tmp_path / "spec.yaml"
    spec_file.write_text("try: [{fit.lr: 0.5}]\n")
    asked = RunRequest(model=str(wide_model(tmp_path / "model")), trials=4, executor="local", sampler=sampler)
    first = replace(asked, spec_file=str(spec_file))
    if not held:
        with pytest.raises(UserError, match="try, entry 1: fit.lr must be in"):
            prepare(first, tmp_path / "work")
        first = replace(first, sampler="fgp")
    loop.run(first, tmp_path / "run", Progress(quiet=True))
    later = prepare(replace(asked, warm_start=str(tmp_path / "run")), tmp_path / "work")
    lessons = show_plan.lessons_of(later)
    assert [best["fit.lr"] for best in lessons.best] == ([0.5] if held else [])
    assert ("its winner does not" in lessons.text) is not held


@pytest.mark.parametrize("names", [("twice",), ("ship", "ship"), ("ship", "twice")])
def test_stages_of_the_model_s_own_names_may_be_asked_for_once(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    stages = {"ship": {}, "twice": {"action": "ship", "after": "ship", "sets": {"ship.target": "x"}}}
    model = shell_trainer(tmp_path / "model", stages=stages)
    plan = prepare(RunRequest(model=str(model), stages=names), tmp_path / "work")
    found = [stage.name for stage in plan.stages]
    assert len(set(found)) == len(found)
    assert set(found) >= set(names)


def test_what_each_trial_is_given_of_its_own_is_not_searched(tmp_path: Path) -> None:
    """Every trial would go on from a checkpoint that is not there."""
    request = RunRequest(
        model="deformable_detr", demo=True, tune=("train.resume_training_checkpoint_path=a,b",)
    )
    with pytest.raises(UserError, match="resume_training_checkpoint_path can neither be searched"):
        prepare(request, tmp_path / "work")
