"""Trainers that the engine has never seen, told by their folders alone: searched, and the winner handed over."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from automl import bundle, bundle_warnings, loop, show, skill
from automl.errors import UserError
from automl.handoff import Outcome
from automl.plan import Plan, prepare
from automl.progress import Progress
from automl.request import RunRequest
from automl.storage import open_storage
from automl.study import Study

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "numpy_net"
SHELL = """\
lr=$(sed -n 's/^ *lr: //p' "$1"); rounds=$(sed -n 's/^ *rounds: //p' "$1"); from=$(sed -n 's/^ *go_on: *//p' "$1")
first=0; case "$from" in *_*) first=$((${from##*_} + 1));; esac
epoch=$first
while [ $epoch -lt $rounds ]; do
  %s
  echo "{\\"epoch\\": $epoch, \\"score\\": $(awk "BEGIN{print $lr * ($epoch + 1) / $rounds}")%s}" >> "$AUTOML_TRIAL_DIR/metrics.jsonl"
  epoch=$((epoch + 1))
done
"""
KEEPS = {
    "a file": ('echo weights > "$AUTOML_TRIAL_DIR/net_$epoch"', ', \\"checkpoint\\": \\"net_$epoch\\"'),
    "a folder": (
        'mkdir -p "$AUTOML_TRIAL_DIR/net_$epoch/deep"; echo w > "$AUTOML_TRIAL_DIR/net_$epoch/deep/w"',
        ', \\"checkpoint\\": \\"net_$epoch\\"',
    ),
    "nothing": (":", ""),
}


def shell_trainer(root: Path, keeps: str = "a file", **skill: Any) -> Path:
    """A model folder whose trainer is a shell script; its score is the learning rate times the share done."""
    (root / "schemas").mkdir(parents=True)
    (root / "references").mkdir()
    (root / "train.sh").write_text(SHELL % KEEPS[keeps])
    info: dict[str, Any] = {
        "network_arch": "shell",
        "automl_enabled": True,
        "metrics": {"score": "maximize"},
        "epochs_key": "fit.rounds",
        "checkpoint_glob": "net_*",
        "actions": {
            "train": {"command": "sh {model_dir}/train.sh {config_path}"},
            "ship": {"command": "sh {model_dir}/ship.sh {config_path} {output_dir}"},
        },
        "spec_params": {"train": {"fit.go_on": "resume_model"}, "ship": {"ship.weights": "parent_model", "out": "output_dir"}},
        "carries": ["fit."],
        "files": {"ship.target": "net.bin"},
        "stages": {"ship": {"shows": ["bytes"]}},
        "next": "deploy {best}/net.bin",
    }  # fmt: skip
    info |= skill
    info = {key: value for key, value in info.items() if value is not None}
    (root / "references" / "skill_info.yaml").write_text(yaml.safe_dump(info))
    (root / "references" / "spec_template_ship.yaml").write_text("ship: {weights: '', target: ''}\nout: ''\n")
    (root / "ship.sh").write_text(
        'mkdir -p "$2/ship"; echo \'{"bytes": 8, "other": 1}\' > "$2/ship/metrics.json"; echo shipped\n'
    )
    leaf = {"type": "number", "minimum": 0.01, "maximum": 1.0, "default": 0.1, "automl_enabled": True}
    fit = {
        "lr": leaf,
        "rounds": {"type": "integer", "default": 3},
        "go_on": {"type": "string", "default": ""},
    }
    document = {"properties": {"fit": {"properties": fit}}}
    (root / "schemas" / "train.schema.json").write_text(json.dumps(document))
    return root


def wide_model(root: Path) -> Path:
    """One whose learning rate may lie a decade beyond the range that its schema hints at."""
    model = shell_trainer(root, stages=None)
    schema = model / "schemas" / "train.schema.json"
    document = json.loads(schema.read_text())
    leaf = document["properties"]["fit"]["properties"]["lr"]
    leaf |= {"maximum": 100, "search": {"low": 0.03, "high": 0.3, "log": True}}
    schema.write_text(json.dumps(document))
    return model


def searched(model: Path, root: Path, **request: Any) -> tuple[Outcome, Study]:
    asked: dict[str, Any] = {"trials": 4, "executor": "local", "scheduler": "none", **request}
    outcome = loop.run(RunRequest(model=str(model), **asked), root, Progress(quiet=True))
    document = json.loads((root / "run.json").read_text())
    return outcome, Study.reading(open_storage(None, root), document["study"])


def test_specs_hold_what_their_action_reads_and_provenance_what_it_measured(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model", unread=["spare", "ship"])
    template = model / "references" / "spec_template_ship.yaml"
    template.write_text(template.read_text() + "spare: {lr: 7}\n")
    outcome, _ = searched(model, tmp_path / "run", trials=1)
    spec = yaml.safe_load((tmp_path / "run" / "best" / "ship.yaml").read_text())
    assert sorted(spec) == ["fit", "out", "ship"]
    provenance = json.loads((tmp_path / "run" / "best" / "provenance.json").read_text())
    assert provenance["measured"] == {"ship": {"bytes": 8}}
    assert outcome.warning is None


def test_a_winner_that_learnt_nothing_is_its_last_epoch_and_is_said(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model")
    script = model / "train.sh"
    before = script.read_text()
    script.write_text(before.replace("print $lr *", "print 0 *"))
    assert script.read_text() != before
    outcome, _ = searched(model, tmp_path / "run", trials=1)
    assert (outcome.winner.value, outcome.winner.epoch) == (0, 2)
    assert outcome.warning is not None
    assert outcome.warning.startswith("best value 0.0000: score is that in every epoch")


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("keeps", KEEPS)
def test_a_shell_script_is_searched_and_its_winner_handed_over(
    tmp_path: Path, keeps: str, direction: str
) -> None:
    model = shell_trainer(tmp_path / "model", keeps, metrics={"score": direction})
    outcome, study = searched(model, tmp_path / "run")
    values = [value for curve in study.curves() for value in curve.values()]
    assert [sorted(curve) for curve in study.curves()] == [[0, 1, 2]] * 4
    assert outcome.winner.value == (max(values) if direction == "maximize" else min(values))
    provenance = json.loads((tmp_path / "run" / "best" / "provenance.json").read_text())
    assert (provenance["value"], provenance["direction"]) == (outcome.winner.value, direction)
    ship = yaml.safe_load((tmp_path / "run" / "best" / "ship.yaml").read_text())
    assert ship["fit"]["lr"] == outcome.winner.params["fit.lr"]
    best = tmp_path / "run" / "best" / "model"
    (stage,) = outcome.stages
    if keeps == "nothing":
        assert outcome.checkpoint is None
        assert (stage.ok, stage.failed, stage.message) == (
            False,
            False,
            "not run: there is no checkpoint",
        )
        return
    assert outcome.checkpoint == str(best)
    assert best.is_dir() == (keeps == "a folder")
    assert ship["ship"] == {"weights": str(best), "target": str(best.parent / "net.bin")}
    assert (stage.ok, stage.figures()) == (True, "bytes 8.0000")
    assert outcome.next == f"deploy {tmp_path / 'run' / 'best'}/net.bin"


def test_a_stage_that_breaks_is_a_failure_and_the_rest_is_there(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model")
    (model / "ship.sh").write_text("echo 'no [/] room' >&2; exit 7\n")
    outcome, _ = searched(model, tmp_path / "run", trials=1)
    (stage,) = outcome.stages
    assert stage.failed
    assert "no [/] room" in stage.message
    assert (tmp_path / "run" / "best" / "provenance.json").exists()


@pytest.mark.parametrize(
    ("body", "ok", "failed", "message"),
    [
        ("open(os.path.join(folder, 'page'), 'w').write('made'); print('wrote a page')", True, False, "wrote a page"),
        ("error = Exception('net.bin is missing'); error.exit_code = 2; raise error", False, False, "not run: net.bin is missing"),
        ("raise ValueError('broke')", False, True, "ValueError: broke"),
    ],
)  # fmt: skip
def test_the_folder_of_the_winner_is_made_a_product_by_the_model(
    tmp_path: Path, body: str, ok: bool, failed: bool, message: str
) -> None:
    model = shell_trainer(tmp_path / "model", entry_points={"package": "product:make"})
    (model / "product.py").write_text(f"import os\ndef make(folder):\n    {body}\n")
    outcome, _ = searched(model, tmp_path / "run", trials=1)
    packed = outcome.stages[-1]
    assert (packed.name, packed.ok, packed.failed) == ("package", ok, failed)
    assert message in packed.message
    assert (tmp_path / "run" / "best" / "page").exists() == ok


def test_what_never_reports_the_metric_says_what_it_reports(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model", metrics={"val_x": "maximize"})
    with pytest.raises(Exception, match="it reported no 'val_x'; its lines have checkpoint, epoch, score"):
        searched(model, tmp_path / "run", trials=1)


def test_python_hooks_lie_in_the_model_folder(tmp_path: Path) -> None:
    """Two folders name their modules alike; each gets its own. The trainer too is a function of such a module."""
    for name, cpus in (("one", ""), ("two", ", cpus")):
        entries = {
            "inspect_data": "hooks:inspect",
            "check_spec": "hooks:check",
            "train": "hooks:train",
            "estimate": "hooks:guess",
        }
        model = shell_trainer(
            tmp_path / name, entry_points=entries, batch_key="fit.lr", samples="parts.rows", stages=None
        )
        (model / "hooks.py").write_text(
            f"""
import json, os, yaml
def inspect(spec, data, work_dir):
    return {{"problems": [], "warnings": ["read {name}"], "fill": {{}}, "facts": {{"parts": {{"rows": 0.5}}, "data": data}}}}
def check(action, spec): pass
def guess(spec, facts, gpus{cpus}): return {{"epoch_s": 1.0, "basis": "{name}"}}
def train(path):
    lr = yaml.safe_load(open(path))["fit"]["lr"]
    with open(os.path.join(os.environ["AUTOML_TRIAL_DIR"], "metrics.jsonl"), "a") as file:
        file.writelines(json.dumps({{"epoch": e, "score": lr + e}}) + "\\n" for e in range(3))
"""
        )
        plan = prepare(RunRequest(model=str(model), data=str(tmp_path)), tmp_path / "work")
        assert f"read {name}" in plan.warnings
        assert plan.estimate["basis"] == name
        assert (
            max(params["fit.lr"] for params in plan.space.sample(50)) <= 0.5
        )  # batch_key: at most the samples
        outcome, _ = searched(model, tmp_path / f"run_{name}", trials=2)
        assert outcome.winner.value == pytest.approx(outcome.winner.params["fit.lr"] + 2)


@pytest.mark.parametrize(
    ("skill", "request_", "message"),
    [
        ({}, {"data": "/nowhere"}, "--data /nowhere: shell cannot read it"),
        ({}, {"stages": ("shop",)}, "did you mean 'ship'"),
        ({}, {"metric": "scare"}, "did you mean 'score'"),
        ({}, {"metric": "score:maximise"}, "did you mean 'maximize'"),
        ({}, {"sampler": "tpee"}, "did you mean 'tpe'"),
        ({}, {"sampler": "tpe:n_startup=3"}, "did you mean 'n_startup_trials'"),
        ({}, {"scheduler": "halvin"}, "did you mean 'halving'"),
        ({}, {"demo": True}, "has no demo data"),
        ({}, {"sets": ("fit.lrr=1",)}, "did you mean 'lr'"),
        ({}, {"fix": ("fit.lr=0.1",)}, "--tune NAME"),
        ({"metrics": {"score": "up"}}, {}, "metrics.score must be maximize or minimize, but got 'up'"),
        ({"metrics": ["score"]}, {}, "metrics must be a mapping, but got ['score']"),
        ({"actions": {}}, {}, "actions must name train"),
        ({"actions": {"train": {}}}, {}, "actions.train.command must be given"),
        ({"stages": {"sell": {}}}, {}, "stages: 'sell' is no action"),
        ({"entry_points": {"inspect_data": "nosuch:x"}}, {}, "entry_points.inspect_data nosuch:x cannot be imported"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused_leaves_no_folder_and_is_refused_by_plan_too(
    tmp_path: Path, skill: dict[str, Any], request_: dict[str, Any], message: str
) -> None:
    request = RunRequest(model=str(shell_trainer(tmp_path / "model", **skill)), executor="local", **request_)
    for begin in (
        lambda: prepare(request, tmp_path / "run"),
        lambda: loop.run(request, tmp_path / "run", Progress(quiet=True)),
    ):
        with pytest.raises(UserError) as caught:
            begin()
        assert message in str(caught.value)
        assert not (tmp_path / "run").exists()


def test_of_two_runs_into_one_folder_the_second_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began while the first had written nothing yet."""
    request = RunRequest(model=str(shell_trainer(tmp_path / "model")), executor="local", trials=1, stages=())
    root, announced = tmp_path / "run", loop.announced
    written: list[str] = []

    def meanwhile(plan: Plan) -> list[str]:
        monkeypatch.setattr(loop, "announced", announced)
        loop.run(request, root, Progress(quiet=True))
        written.append((root / "run.json").read_text())
        return []

    monkeypatch.setattr(loop, "announced", meanwhile)
    with pytest.raises(UserError, match="already holds a run; go on with it by"):
        loop.run(request, root, Progress(quiet=True))
    assert [(root / "run.json").read_text()] == written


def test_what_cannot_be_handed_over_is_said_before_the_search(tmp_path: Path) -> None:
    bare = shell_trainer(
        tmp_path / "model", "nothing", metrics=None, epochs_key=None, spec_params=None, checkpoint_glob=None,
        actions={"train": {"command": "no-such-program {config_path}"}}, stages=None,
    )  # fmt: skip
    plan = prepare(RunRequest(model=str(bare)), tmp_path / "work")
    said = "\n".join(plan.warnings)
    for part in (
        "val_loss is minimised",
        "no trial is stopped early",
        "starts anew",
        "specs and provenance alone",
        "no-such-program",
    ):
        assert part in said
    whole = prepare(RunRequest(model=str(shell_trainer(tmp_path / "whole"))), tmp_path / "work")
    assert not whole.warnings


def test_a_schema_without_flags_is_refused_with_the_way_out_and_searched_by_it(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model")
    path = model / "schemas" / "train.schema.json"
    path.write_text(path.read_text().replace('"automl_enabled": true', '"description": "rate"'))
    with pytest.raises(UserError, match="--tune NAME"):
        prepare(RunRequest(model=str(model)), tmp_path / "work")
    plan = prepare(RunRequest(model=str(model), tune=("fit.lr",)), tmp_path / "work")
    drawn = [params["fit.lr"] for params in plan.space.sample(100)]
    assert 0.01 <= min(drawn) < max(drawn) <= 1.0


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Study, Path]:
    root = tmp_path_factory.mktemp("example") / "run"
    outcome, study = searched(EXAMPLE, root, trials=6, scheduler="halving")
    return outcome, study, root


def test_the_example_runs_as_it_is(example: tuple[Outcome, Study, Path]) -> None:
    outcome, study, root = example
    assert len(study.trials()) == 6
    ended = [t for t in study.trials() if t.state.name == "COMPLETE"]
    assert outcome.winner.value == min(v for t in ended for v in t.intermediate_values.values())
    assert (root / "best" / "model.npz").exists()
    assert bundle.resolve(str(EXAMPLE)).epochs(bundle.resolve(str(EXAMPLE)).template("train")) == 9


def test_the_example_puts_a_damaged_checkpoint_aside(
    example: tuple[Outcome, Study, Path], tmp_path: Path
) -> None:
    """It ends as a crash does: started once more, it goes on from the checkpoint before, which is whole."""
    best, spec = example[2] / "best", yaml.safe_load((example[2] / "best" / "train.yaml").read_text())
    before, newest = tmp_path / "epoch_0.npz", tmp_path / "epoch_1.npz"
    for path in (before, newest):
        shutil.copyfile(best / "model.npz", path)
    newest.write_bytes(newest.read_bytes()[:-40])

    def train(resumed: Path) -> subprocess.CompletedProcess[str]:
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec | {"resume": str(resumed)}))
        command = [sys.executable, str(EXAMPLE / "train.py"), str(tmp_path / "spec.yaml")]
        env = os.environ | {"AUTOML_TRIAL_DIR": str(tmp_path)}
        return subprocess.run(command, env=env, capture_output=True, text=True)

    ended = train(newest)
    assert ended.returncode == 1
    assert ended.stderr == f"{newest} is damaged (File is not a zip file); it is called .damaged now\n"
    assert not newest.exists()
    assert newest.with_name("epoch_1.npz.damaged").exists()
    assert train(before).returncode == 0


def test_the_example_stays_small() -> None:
    assert len((EXAMPLE / "train.py").read_text().splitlines()) <= 45


@pytest.mark.parametrize("name", ["cosmos_reason", "deformable_detr", "image_classification"])
def test_a_public_schema_becomes_a_model_that_can_be_planned(tmp_path: Path, name: str) -> None:
    file = f"shared/tao_schemas/{name}.train.schema.json"
    source = next((above / file for above in ROOT.parents if (above / file).exists()), None)
    if source is None:
        pytest.skip("the public schemas are not here")
    root = tmp_path / name
    (root / "schemas").mkdir(parents=True)
    (root / "references").mkdir()
    shutil.copy(source, root / "schemas" / "train.schema.json")
    default = json.loads(source.read_text())["default"]
    (root / "references" / "spec_template_train.yaml").write_text(yaml.safe_dump(default))
    info = {
        "network_arch": name,
        "automl_enabled": True,
        "actions": {"train": {"command": f"{name} train -e {{config_path}}"}},
    }
    (root / "references" / "skill_info.yaml").write_text(yaml.safe_dump(info))
    plan = prepare(RunRequest(model=str(root)), tmp_path / "work")
    from automl.space.cli import read_space

    shown = read_space(None, str(root), None, None, None)
    assert [p.name for p in plan.space.parameters] == [p.name for p in shown.parameters] != []


def lines_of(root: Path) -> int:
    return sum(path.read_text().count("\n") for path in root.glob("trials/*/metrics.jsonl"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("moment", range(20))
def test_the_example_killed_at_any_moment_is_taken_up_and_ends_every_trial_once(
    tmp_path: Path, moment: int
) -> None:
    """Killed -9 after so many lines of all trials (0: at once), resumed: 3 trials, each COMPLETE with epochs 0 to 8."""
    words = [
        sys.executable,
        "-m",
        "automl.cli",
        "run",
        "--model",
        str(EXAMPLE),
        "--trials",
        "3",
        "--executor",
        "local",
    ]
    root = tmp_path / "run"
    with (tmp_path / "log").open("w") as log:
        driver = subprocess.Popen(
            [*words, "--scheduler", "none", "--results-dir", str(root)], stdout=log, stderr=log, cwd=ROOT
        )
        while (not (root / "run.json").exists() or lines_of(root) < moment) and driver.poll() is None:
            time.sleep(0.01)
        driver.kill()
        driver.wait()
    loop.resume(root, {}, Progress(quiet=True))
    study = Study.reading(open_storage(None, root), json.loads((root / "run.json").read_text())["study"])
    assert [trial.state.name for trial in study.trials()] == ["COMPLETE"] * 3
    assert [sorted(curve) for curve in study.curves()] == [list(range(9))] * 3
    for number in range(3):
        text = (root / "trials" / f"{number:04d}" / "metrics.jsonl").read_text()
        assert [json.loads(line)["epoch"] for line in text.splitlines()] == list(range(9))


NUMBERS = ["1e-4", "1E-4", "1.e-4", "0.0001", ".0001", "+1e-4", "100e-6"]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_read_alike_wherever_it_stands(tmp_path: Path, text: str) -> None:
    """In a spec file, --set, --fix, search:, and the detector's own -e file and overrides."""
    from model import cli as detector
    from model.spec_file import load

    model = shell_trainer(tmp_path / "model")
    schema = model / "schemas" / "train.schema.json"
    schema.write_text(schema.read_text().replace('"minimum": 0.01', '"minimum": 1e-6'))
    asked = {"model": str(model), "executor": "local"}
    file = tmp_path / "spec.yaml"
    file.write_text(f"fit: {{lr: {text}}}\n")
    bound = tmp_path / "search.yaml"
    bound.write_text(f"search: {{fit.lr: {{valid_min: {text}, valid_max: 0.5}}}}\n")
    own = tmp_path / "own.yaml"
    own.write_text(f"train: {{optim: {{lr: {text}}}}}\n")

    def plan(**more: Any) -> Any:
        return prepare(RunRequest(**asked, **more), tmp_path / "work")  # type: ignore[arg-type]

    read = [
        plan(spec_file=str(file)).spec["fit"]["lr"],
        plan(sets=(f"fit.lr={text}",)).spec["fit"]["lr"],
        plan(spec_file=str(bound)).space.parameters[0].record()["low"],
        dict(plan(fix=(f"fit.lr={text}",), tune=("fit.rounds=2,3",)).space.fixed)["fit.lr"],
        load("train", own)["train"]["optim"]["lr"],
        load("train", own, detector.parse_overrides([f"train.optim.lr={text}"]))["train"]["optim"]["lr"],
    ]
    assert read == [0.0001] * 6


def test_every_entry_point_that_is_asked_for_is_known() -> None:
    engine = Path(skill.__file__).parent
    asked = {
        name
        for path in engine.rglob("*.py")
        for name in re.findall(r"\.(?:call|entry)\(\s*\"(\w+)\"", path.read_text())
    }
    assert len(asked) > 10
    assert asked <= set(skill.PURPOSES)
    assert list(bundle_warnings._unread(bundle.resolve("deformable_detr"))) == []


def foreseen(model: Path, root: Path) -> str:
    return "\n".join(prepare(RunRequest(model=str(model)), root / "run").warnings)


@pytest.mark.parametrize(
    ("skill", "told"),
    [
        ({"metrcis": {"score": "maximize"}}, "'metrcis' is not read; did you mean 'metrics'?"),
        ({"checkpoint_globs": "net_*"}, "'checkpoint_globs' is not read; did you mean 'checkpoint_glob'?"),
        ({"entry_points": {"inspect_dta": "hooks:inspect"}}, "entry_points: 'inspect_dta' is not read; did you mean"),
        ({"spec_params": {"train": {"fit.go_on": "resume_modle"}}}, "role 'resume_modle' is not read; did you mean"),
        ({"epochs_key": "fit.round"}, "epochs_key fit.round is no leaf of the spec; did you mean 'fit.rounds'?"),
        ({"actions": {"train": {"command": "sh {model_dir}/tran.sh {config_path}"}}}, "tran.sh, which is not there"),
        ({"actions": {"train": {"command": "sh {model_dir}/train.sh {confg_path}"}}}, "did you mean 'config_path'?"),
        ({"actions": {"train": {"command": "no-such-program {config_path}"}}}, "is not on this machine's PATH"),
    ],
)  # fmt: skip
def test_slips_in_a_model_folder_are_told_before_the_search(
    tmp_path: Path, skill: dict[str, Any], told: str
) -> None:
    model = shell_trainer(tmp_path / "model", stages=None, **skill)
    assert told in foreseen(model, tmp_path)


def test_what_only_the_dialect_knows_is_no_slip(tmp_path: Path) -> None:
    known = {"api_params": {}, "upload": [], "license": "x", "container_type": "pytorch"}
    model = shell_trainer(tmp_path / "model", **known)
    assert foreseen(model, tmp_path) == ""


def test_a_new_winner_is_handed_over_without_the_files_of_the_one_before(tmp_path: Path) -> None:
    model, root = shell_trainer(tmp_path / "model"), tmp_path / "run"
    searched(model, root)
    (root / "best" / "net.bin").write_text("of the first winner")
    loop.resume(root, {"trials": 6}, Progress(quiet=True))
    assert not (root / "best" / "net.bin").exists()


def test_a_run_goes_on_with_a_model_folder_that_has_moved(tmp_path: Path) -> None:
    model, root = shell_trainer(tmp_path / "model", stages=None), tmp_path / "run"
    loop.run(RunRequest(model=str(model), executor="local", trials=2), root, Progress(quiet=True))
    moved = tmp_path / "elsewhere"
    model.rename(moved)
    with pytest.raises(UserError, match=rf"{model}: the model's folder is not there.*--model FOLDER"):
        loop.resume(root, {"trials": 3}, Progress(quiet=True))
    loop.resume(root, {"trials": 3, "model": str(moved)}, Progress(quiet=True))
    assert json.loads((root / "run.json").read_text())["model_reference"] == str(moved)
    loop.resume(root, {"trials": 4}, Progress(quiet=True))


def test_what_a_stage_does_not_make_again_for_the_same_winner_stays(tmp_path: Path) -> None:
    model, root = shell_trainer(tmp_path / "model"), tmp_path / "run"
    searched(model, root)
    (root / "best" / "net.bin").write_text("made at length")
    loop.resume(root, {}, Progress(quiet=True))
    assert (root / "best" / "net.bin").read_text() == "made at length"
    assert not list((root / "best").glob(".net.bin*"))


def test_a_pattern_that_every_file_matches_takes_none_of_the_engine_s(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model", stages=None, checkpoint_glob="*")
    searched(model, tmp_path / "run")
    for folder in (tmp_path / "run" / "trials").iterdir():
        assert {"spec.yaml", "trial.json", "log.txt"} <= {path.name for path in folder.iterdir()}


def test_stages_on_a_full_disk_are_left_and_resume_runs_them(tmp_path: Path) -> None:
    """The first fails for want of room; those after it would for the same reason, or for what it did not make."""
    stages = {"ship": {}, "ship_small": {"action": "ship", "sets": {"ship.target": "{best}/small.bin"}}}
    model = shell_trainer(tmp_path / "model", stages=stages)
    ships = (model / "ship.sh").read_text()
    (model / "ship.sh").write_text("echo 'cp: net.bin: No space left on device'; exit 1\n")
    outcome, _ = searched(model, tmp_path / "run", trials=1)
    failed, left = outcome.stages
    assert failed.failed
    assert not left.failed
    assert "left" in (said := shown(outcome))
    assert f"no space left on {mount_of(tmp_path)}" in left.message
    assert f"again   once that is mended: automl resume {tmp_path / 'run'}" in said
    (model / "ship.sh").write_text(ships)
    outcome = loop.resume(tmp_path / "run", {}, Progress(quiet=True))
    assert [stage.ok for stage in outcome.stages] == [True, True]


def shown(outcome: Outcome) -> str:
    out = io.StringIO()
    show.outcome(Console(file=out, width=300), outcome)
    return out.getvalue()


def mount_of(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.is_mount())
