"""The command line: one table of options, told back as the same command; what foreign text looks like on a screen."""

from __future__ import annotations

import importlib
import io
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import typer
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from automl import bundle, cli, loop, show, spec
from automl.errors import AutoMLError, StudyBusy, UserError
from automl.handoff import Outcome
from automl.locks import handing_over
from automl.metric import Metric, figure
from automl.plan import merge
from automl.progress import Progress, beat_text, share_of_epoch
from automl.request import RunRequest, options, parse_time, write_time
from automl.space import cli as space_cli
from automl.stages import StageResult
from automl.study import TrialResult
from automl.study_storage import state_of
from model import cli as detector
from tests.automl.test_foreign_trainers import searched, shell_trainer
from tests.automl.test_policy_bundle import make_model

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda text: not text.startswith("-")
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "demo": st.booleans(),
    "sets": st.lists(TEXT).map(tuple),
    "tune": st.lists(TEXT).map(tuple),
    "fix": st.lists(TEXT).map(tuple),
    "stages": st.none() | st.lists(st.sampled_from(["evaluate", "export", "ship"]), unique=True).map(tuple),
    "log": st.lists(st.sampled_from(["tensorboard", "wandb", "mlflow"]), unique=True).map(tuple),
    "executor": st.sampled_from(["ray", "local"]),
    "space": st.sampled_from(["tao", "recommended", "all"]),
    "time_s": st.none() | st.floats(0.001, 1e9) | st.integers(1, 10**7).map(float),
    "max_latency_ms": st.none() | st.floats(1e-9, 1e12),
    "objectives": st.none() | st.sampled_from([("loss:minimize", "latency_ms"), ("a.b", "latency_ms")]),
    "silence_timeout_s": st.none() | st.floats(0.001, 1e9),
    "seed": st.integers(0, 2**31),
    "gpus_per_trial": st.none() | st.floats(0.01, 1) | st.just("auto"),
    "cpus_per_trial": st.none() | st.floats(0.01, 64),
    **dict.fromkeys(
        ("trials", "trainings", "epochs", "total_epochs", "patience", "confirm", "concurrency"),
        st.none() | st.integers(1, 10**6),
    ),
    **dict.fromkeys(("sampler", "scheduler"), TEXT),
}


def parsed(words: list[str]) -> RunRequest:
    return RunRequest.from_options(COMMANDS["run"].make_context("run", list(words)).params)


def test_every_field_has_an_option() -> None:
    from dataclasses import fields

    assert {each.name for each in fields(RunRequest)} == {each.name for each in options()}
    flags = [flag for each in options() for flag in each.metadata["option"].flags]
    assert len(flags) == len(set(flags))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_request_written_as_words_is_read_back_the_same(data: st.DataObject) -> None:
    values = {each.name: data.draw(VALUES.get(each.name, st.none() | TEXT), each.name) for each in options()}
    values["ray_address"] = values["ray_address"] or "auto"  # None would be read from the environment
    if values["demo"]:
        values["data"] = None
    request = RunRequest(**values)
    assert parsed(request.words()) == request
    assert RunRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


@given(st.floats(1e-12, 1e12))
def test_times_are_read_back_exactly(seconds: float) -> None:
    assert parse_time(write_time(seconds)) == seconds


def test_run_and_plan_take_the_same_options() -> None:
    def flags(name: str) -> set[str]:
        return {flag for parameter in COMMANDS[name].params for flag in parameter.opts}

    assert flags("plan") - flags("run") == {"--show", "--json"}
    assert flags("run") <= flags("plan")


def test_the_next_line_of_plan_is_the_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(shell_trainer(tmp_path / "a model"))
    words = [
        "--model",
        model,
        "--automl-policy",
        "off",
        "--time",
        "1h",
        "--seed",
        "4",
        "--stages",
        "none",
        "--executor",
        "local",
    ]
    monkeypatch.setattr("sys.argv", ["automl", "plan", *words])
    assert cli.guarded(lambda: cli.app(standalone_mode=False)) == 0
    import shlex

    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert parsed(shlex.split(last.partition("automl run ")[2])) == parsed(words)


def called(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["automl", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    printed = capsys.readouterr()
    return int(caught.value.code or 0), printed.out + printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trails", "3"], "no such option: --trails; did you mean '--trials'?"),
        (["--strickt"], "no such option: --strickt; did you mean '--strict'?"),
        (["more"], "unexpected argument 'more'"),
        (["--executor", "slurm"], "--executor must be ray or local, but got 'slurm'"),
        (["--results-dir", "{taken}"], "already holds a run"),
        (["--data", "a", "--data", "b"], "--data is given 2 times; give it once"),
        (["--spec", "a.yaml", "-e", "b.yaml"], "--spec is given 2 times"),
        (
            ["--metric", "score:minimize"],
            "the model says that score is to be maximized; give --metric score, or",
        ),
        (
            ["--fix", "fit.lr=0.1", "--set", "fit.lr=0.2"],
            "--fix fit.lr=0.1 and --set fit.lr=0.2 contradict each other",
        ),
    ],
)
def test_words_that_are_no_options(
    tmp_path: Path,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "run.json").write_text("{}")
    model = str(shell_trainer(tmp_path / "model", options={"strict": "fit.strict"}))
    words = [word.replace("{taken}", str(tmp_path / "taken")) for word in words]
    for command in ("plan", "run"):
        code, printed = called([command, "--model", model, *words], monkeypatch, capsys)
        assert (code, message in printed) == (2, True), printed


def test_a_model_s_own_options_set_its_leaves(tmp_path: Path) -> None:
    from automl import bundle

    model = bundle.resolve(
        str(shell_trainer(tmp_path / "model", options={"strict": "fit.strict", "lr": "fit.lr"}))
    )
    assert model.set_pairs(["--strict", "--lr=0.5"], []) == ["fit.strict=true", "fit.lr=0.5"]
    assert model.set_pairs(["--no-strict"], []) == ["fit.strict=false"]
    with pytest.raises(UserError, match="no such option"):
        model.set_pairs(["--no-strict=1"], [])


def test_the_version_is_stated_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib.metadata import version

    code, printed = called(["--version"], monkeypatch, capsys)
    assert (code, printed.strip()) == (0, f"automl {version('detr-automl')}")


ODD = ["[/]", "[red]", "[/x]", "a [b] c", "\\[", "[link=x]", "[[", ":smile:"]


@pytest.mark.parametrize("odd", ODD)
def test_foreign_text_is_printed_as_it_is(odd: str) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200)
    best = TrialResult(1, 2, 0.5, {"x": odd}, True)
    stage = StageResult("export", False, f"failed ({odd})", "cmd", failed=True)
    show.outcome(console, Outcome(Path("/r"), Metric(odd), best, None, [stage], warning=odd, next=odd))
    progress = Progress(console)
    progress.started(1, {"x": odd}, 3)
    progress.ended(1, "FAIL", odd)
    progress.note(odd)
    console.print(progress_table(progress))
    assert out.getvalue().count(odd) >= 7


def progress_table(progress: Progress) -> Any:
    progress.request = RunRequest()  # type: ignore[attr-defined]
    return progress._render()


BEAT = {
    "epoch": 2.0,
    "step": 130.0,
    "steps": 450.0,
    "loss": 17.68,
    "images_per_s": 3.18,
    "memory_mb": 868.0,
    "eta_s": 687.0,
}


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_live_table_fits_and_keeps_parameters(width: int) -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out, width=width))
    progress.base = {"train": {"lr": 0.1, "depth": 3}}
    for number in range(3):
        progress.started(number, {"train.depth": 3, "train.lr": 0.2}, 9)
        progress.beat(number, BEAT)
    progress.ended(1, "PRUNED", "rank 3 of 3")
    out.truncate(0)
    out.seek(0)
    progress.console.print(progress_table(progress))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum("lr 0.2" in line for line in lines) >= 2
    if width >= 80:
        assert sum("lr 0.2, depth 3" in line for line in lines) == 3
    within = [line for line in lines if "step 30/50" in line]
    assert [line.split()[:3] for line in within] == [["trial", "0", "━━━━━───"], ["trial", "2", "━━━━━───"]]
    if width >= 80:
        assert "loss 17.7  3.18 images/s  868 MB  11m27s left" in within[0]


@pytest.mark.parametrize(
    ("beat", "epochs", "share"),
    [
        ({}, 9, 0.0),
        (BEAT, 9, 0.6),
        (BEAT, None, 130 / 450),
        ({"step": 5.0}, 9, 0.0),
        (BEAT | {"step": 999.0}, 9, 1.0),
    ],
)
def test_the_share_of_an_epoch(beat: dict[str, float], epochs: int | None, share: float) -> None:
    assert share_of_epoch(beat, epochs) == pytest.approx(share)


def test_a_beat_in_words() -> None:
    text = beat_text({"epoch": 0, "step": 7, "memory_mb": 20480, "validating": 0.4})
    assert text == "epoch 1  step 7  20 GB  validating 40%"


@pytest.mark.parametrize("odd", ODD[:3])
def test_status_prints_reasons_as_they_are(tmp_path: Path, odd: str) -> None:
    model = shell_trainer(tmp_path / "model", stages=None)
    (model / "train.sh").write_text(
        f"test -e \"$AUTOML_TRIAL_DIR/../first\" && {{ echo '{odd}' >&2; exit 2; }}\n"
        + (model / "train.sh").read_text()
        + 'touch "$AUTOML_TRIAL_DIR/../first"\n'
    )
    searched(model, tmp_path / "run", trials=2)
    out = io.StringIO()
    show.status(Console(file=out, width=200), tmp_path / "run")
    assert odd in out.getvalue()


@pytest.mark.parametrize("width", [40, 50, 59, 60, 80])
def test_status_cuts_no_figure_in_a_narrow_terminal(tmp_path: Path, width: int) -> None:
    model = shell_trainer(tmp_path / "model", stages=None)
    _, study = searched(model, tmp_path / "run", trials=3)
    out = io.StringIO()
    show.status(Console(file=out, width=width), tmp_path / "run")
    for trial in study.trials():
        assert f" {figure(trial.value)} " in out.getvalue()
    assert "…" not in out.getvalue()


def test_what_is_fixed_may_be_set_to_the_same(tmp_path: Path) -> None:
    model = bundle.resolve(str(shell_trainer(tmp_path / "model")))
    merge(RunRequest(fix=("fit.lr=1e-1", "fit.rounds"), sets=("fit.lr=0.1", "fit.rounds=2")), model)


def test_best_names_checkpoint_and_default(tmp_path: Path) -> None:
    outcome, _ = searched(shell_trainer(tmp_path / "model", stages=None), tmp_path / "run", trials=1)
    out = io.StringIO()
    show.best(Console(file=out, width=200), tmp_path / "run")
    assert "trial 0 (the default configuration): score 0.1000 at epoch 3" in out.getvalue()
    assert str(tmp_path / "run" / "trials" / "0000" / "net_2") in out.getvalue()
    show.outcome(Console(file=out, width=200), outcome)
    assert "Winner" in out.getvalue()


def test_a_run_without_a_search_has_no_winner(tmp_path: Path) -> None:
    outcome, study = searched(shell_trainer(tmp_path / "model"), tmp_path / "run", policy="off")
    out = io.StringIO()
    show.outcome(Console(file=out, width=200), outcome)
    show.best(Console(file=out, width=200), tmp_path / "run")
    assert len(study.trials()) == 1
    assert "Winner" not in out.getvalue()
    assert "default" not in out.getvalue()
    assert outcome.stages[0].ok


def test_a_failed_stage_is_exit_code_1_and_one_that_cannot_run_is_0() -> None:
    def finish(**stage: Any) -> None:
        best = TrialResult(0, 0, 0.5, {}, True)
        cli._finish(
            Console(file=io.StringIO()),
            Outcome(Path("/r"), Metric("m"), best, None, [StageResult("s", False, "m", "c", **stage)]),
        )

    finish()
    with pytest.raises(typer.Exit) as caught:
        finish(failed=True)
    assert caught.value.exit_code == 1


def test_a_training_without_a_search_that_failed_is_tried_again_by_each_resume(tmp_path: Path) -> None:
    """A search goes on with other trials."""
    model = shell_trainer(tmp_path / "model", stages=None)
    broken = f"[ $epoch -ge 1 ] && [ -e {model}/broken ] && exit 2\n"
    text = (model / "train.sh").read_text().replace("while [", f"{broken}while [")
    (model / "train.sh").write_text(text.replace("  epoch=", f"  {broken}  epoch="))
    (model / "broken").touch()
    with pytest.raises(
        AutoMLError, match=r"the training failed; .* automl best .* --export\n.*code 2(.|\n)*resume"
    ):
        searched(model, tmp_path / "run", policy="off")
    for _ in range(2):
        with pytest.raises(AutoMLError, match="the training failed"):
            loop.resume(tmp_path / "run", {}, Progress(quiet=True))
    assert searched(model, tmp_path / "search", trials=2)[0].failed
    (model / "broken").unlink()
    assert loop.resume(tmp_path / "run", {}, Progress(quiet=True)).winner.complete


def test_resume_announces_its_own_epochs_alone() -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out, width=200))
    trials: list[Any] = [
        SimpleNamespace(
            number=number,
            intermediate_values={0: 0.5, 1: 0.4},
            state=SimpleNamespace(name="RUNNING", is_finished=lambda: False),
            user_attrs=attrs,
        )
        for number, attrs in enumerate(({}, {"paused": 1, "reason": "fell behind"}))
    ]
    plan: Any = SimpleNamespace(
        metric=Metric("loss", maximize=False), request=RunRequest(), searching=True, spec={},
        bundle=SimpleNamespace(epochs=lambda spec: 5),
    )  # fmt: skip
    study: Any = SimpleNamespace(
        trials=lambda: trials, elapsed_s=lambda: 20.0, state=lambda number: state_of(trials[number])
    )
    progress.begin(plan, study)
    assert [(row.state, row.reason) for row in progress.rows.values()] == [
        ("RUNNING", ""),
        ("PAUSED", "fell behind"),
    ]
    for epoch, value in enumerate([0.5, 0.4, 0.3]):
        progress.epoch(0, epoch, value)
    progress.started(0, {"lr": 0.1}, 5, from_epoch=3)
    printed = out.getvalue()
    assert printed.count("epoch 1") == printed.count("epoch 2") == 0
    assert "epoch 3: loss 0.3000" in printed
    assert "trial 0 goes on from epoch 4: default configuration (lr 0.1)" in printed
    progress.ended(0, "COMPLETE", "finished")
    assert "best 0.3000" in out.getvalue()


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"warm_start": "nowhere"}, "not a run folder"),
        ({"storage": "foo://x"}, "no database that is known"),
        ({"results_dir": "a_file"}, "is a file"),
        ({"results_dir": "a_file/below"}, "is a file"),
    ],
    ids=str,
)
def test_plan_refuses_places_that_run_could_not_use(
    places: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from automl.errors import UserError
    from automl.plan import prepare
    from automl.request import RunRequest

    monkeypatch.chdir(tmp_path)
    Path("a_file").write_text("")
    toy = Path(__file__).resolve().parents[2] / "examples" / "numpy_net"
    with pytest.raises(UserError, match=message):
        prepare(RunRequest(model=str(toy), **places), tmp_path / "work")  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_file"]


def test_the_space_of_the_installed_model_is_shown_as_plan_has_it() -> None:
    from automl.space.cli import read_space

    named, alone = (read_space(None, model, None, None, None) for model in ("deformable_detr", None))
    assert named.digest == alone.digest
    with pytest.raises(UserError, match="not both"):
        read_space("schema.json", "deformable_detr", None, None, None)


def test_the_space_around_a_preset() -> None:
    from automl.space.cli import read_space

    around = read_space(None, None, None, None, None, "tao", "small")
    small = bundle.resolve("deformable_detr").preset("small")[0]
    name = "dataset.augmentation.train_random_crop_min"
    assert around.default[name] == spec.get(small, name)
    with pytest.raises(UserError, match="--preset small is a model's"):
        read_space("schema.json", None, None, None, None, "tao", "small")


def test_a_fact_with_words_of_its_own_is_shown_as_those() -> None:
    from automl.show_plan import _fact_text

    assert _fact_text({"text": "mostly 640x480 px", "usual": [480, 640]}) == "mostly 640x480 px"
    assert _fact_text({"usual": [480, 640], "text": 3}) == "usual [480, 640], text 3"
    assert _fact_text([{"id": n} for n in range(3000)]).endswith(", 18, 19, and 2980 more")


@pytest.mark.parametrize("closed", ["", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_obstacle(tmp_path: Path, closed: str) -> None:
    words = f"{sys.executable} -m automl.cli status {tmp_path / 'none'} {closed}"
    done = subprocess.run(words, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False), done.stderr


def examples(command: click.Command) -> Iterator[str]:
    for each in getattr(command, "commands", {}).values():
        yield from examples(each)
    for line in (getattr(command, "epilog", None) or "").splitlines():
        yield from line.removeprefix("Example: ").split(" && ") if line.startswith("Example: ") else ()


PROGRAMS = {
    "automl": typer.main.get_command(cli.app),
    "deformable_detr": typer.main.get_command(detector.app),
}
PROGRAMS["automl"].add_command(typer.main.get_command(space_cli.app), "space")  # type: ignore[attr-defined]
EXAMPLES = sorted({line for program in PROGRAMS.values() for line in examples(program)})


@pytest.mark.parametrize("line", EXAMPLES)
def test_the_examples_of_help_are_commands(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As typed, up to where the command begins its work."""
    program, *words = shlex.split(line)
    leaf = PROGRAMS[program]
    while words[0] in getattr(leaf, "commands", {}):
        leaf = leaf.commands[words.pop(0)]  # type: ignore[attr-defined]
    assert leaf.make_context(leaf.name, words).command is leaf


@pytest.mark.parametrize("line", [line for line in EXAMPLES if line.startswith("automl space show")])
def test_the_examples_of_help_that_need_no_files_work(line: str) -> None:
    done = CliRunner().invoke(space_cli.app, shlex.split(line)[2:])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("words", "option"), [(["data", "DATA"], "--out"), (["run", "--data", "DATA"], "--results-dir")]
)
def test_a_folder_that_cannot_be_written_in_is_told_before_data_are_read(
    words: list[str], option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != tmp_path)
    monkeypatch.setattr(bundle.ModelBundle, "call", lambda *_: pytest.fail("data were looked at"))
    with pytest.raises(
        UserError, match=rf"{option} .*: {tmp_path} cannot be written to; name another folder"
    ):
        cli.app(words, standalone_mode=False)


@pytest.mark.parametrize("command", ["run", "plan", "data"])
@pytest.mark.parametrize("form", ["--model={}", "--model {}"])
def test_help_names_the_options_of_the_model(
    command: str,
    form: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_model(tmp_path / "toy", options={"speed": "train.lr", "odd": "train.nowhere"})
    for words, told in (
        ([], "--strict-data: Refuse data"), (form.format(folder).split(), "--odd: sets train.nowhere."),
        (["--model", "nothing"], ""),
    ):  # fmt: skip
        monkeypatch.setattr("sys.argv", ["automl", command, *words, "--help"])
        with pytest.raises(SystemExit) as ended:
            cli.app()
        said = " ".join(capsys.readouterr().out.split())
        assert ended.value.code == 0
        assert told in said
        assert ("also takes" in said) is bool(told)


def printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["automl", *words])
    code = cli.guarded(lambda: cli.app(standalone_mode=False))
    said = capsys.readouterr()
    return code, said.out + said.err


def test_status_says_what_is_true_of_the_end_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "run"
    searched(shell_trainer(tmp_path / "model"), root, trials=2)
    capsys.readouterr()
    _, said = printed(capsys, monkeypatch, "status", str(root))
    assert "it is finished; the winner is in" in said
    assert f"to search on: automl resume {root} --trials 4" in said
    assert json.loads((root / "outcome.json").read_text())["next"] in said
    assert "no driver" not in said
    assert json.loads(printed(capsys, monkeypatch, "status", str(root), "--json")[1])["finished"] is True
    code, said = printed(capsys, monkeypatch, "best", str(root), "--json", "--export")
    assert (code, "give one of them" in said, (root / "so_far").exists()) == (2, True, False)
    outcome = json.loads((root / "outcome.json").read_text())
    for text in (
        None,
        "{",
        "[]",
        json.dumps(outcome | {"trials": 1}),
    ):  # killed before, or amid a larger budget
        (root / "outcome.json").unlink() if text is None else (root / "outcome.json").write_text(text)
        _, said = printed(capsys, monkeypatch, "status", str(root))
        assert f"no driver is running it; to go on: automl resume {root}" in said
        assert "it is finished" not in said
    (root / "outcome.json").write_text(json.dumps(outcome))
    _, said = printed(capsys, monkeypatch, "status", str(root))
    assert "it is finished" in said
    found = json.loads((root / "best" / "provenance.json").read_text())
    for left in ({}, {"measured": {}, "trial": 7}, {"trial": found["trial"]}):  # killed amid the hand-over
        (root / "best" / "provenance.json").write_text(json.dumps(left))
        _, said = printed(capsys, monkeypatch, "status", str(root))
        assert f"no driver is running it; to go on: automl resume {root}" in said
        assert "it is finished" not in said


_WRONG = [
    {"default": []}, {"winner": {"number": "1"}}, {"trials": "2"}, {"next": 5}, {"confirmed": {"seen": 1, "x": 2}},
    {"confirmed": {"seen": 1, "pairs": [[1, 2]]}}, {"stages": {}}, {"stages": [{"name": "a"}]}, {"warning": []},
    *({"stages": [{"name": "ship", "ok": True, "message": "", "metrics": {}, **more}]}
      for more in ({"shows": [[]]}, {"report": "\0"}, {"report": []}, {"ok": 1})),
]  # fmt: skip
_WRONG_PROVENANCE = [
    [], {"trial": []}, {"epoch": {}}, {"later": [["a"], 5]}, {"later": [[1]]}, {"checkpoint": "\0"},
    {"checkpoint": 5}, {"measured": []}, {"value": "a"},
]  # fmt: skip


def test_what_a_run_left_is_looked_at_before_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "run"
    searched(shell_trainer(tmp_path / "model"), root, trials=2)
    capsys.readouterr()
    outcome = json.loads((root / "outcome.json").read_text())
    told = f"error: {root / 'outcome.json'}: is damaged; automl resume {root} writes it again\n"
    for wrong in _WRONG:
        (root / "outcome.json").write_text(json.dumps(outcome | wrong))
        code, said = printed(capsys, monkeypatch, "report", str(root))
        assert (code, said) == (2, told), wrong
        code, said = printed(capsys, monkeypatch, "status", str(root))
        assert code == 0
        assert f"to go on: automl resume {root}" in said
    (root / "outcome.json").write_text(json.dumps(outcome))
    before = json.loads((root / "best" / "provenance.json").read_text())
    for found in _WRONG_PROVENANCE:
        document = before | found if isinstance(found, dict) else found
        (root / "best" / "provenance.json").write_text(json.dumps(document))
        code, said = printed(capsys, monkeypatch, "best", str(root))
        assert (code, f"not all there yet; where nobody hands over: automl resume {root}" in said) == (
            0,
            True,
        )


def test_help_of_deploy_names_the_options_of_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shell_trainer(tmp_path / "model", deploy={"action": "ship", "options": {"bits": "fit.lr"}})
    searched(model, tmp_path / "run", trials=1)
    capsys.readouterr()
    for words, told in (([str(tmp_path / "run")], "--bits: sets"), ([], "--max-latency: The chosen point")):
        monkeypatch.setattr("sys.argv", ["automl", "deploy", *words, "--help"])
        with pytest.raises(SystemExit) as ended:
            cli.app()
        assert ended.value.code == 0
        assert told in " ".join(capsys.readouterr().out.split())
    for value in ("3", "-3ms", "-.5"):
        monkeypatch.setattr("automl.hooks.check_spec", lambda *_: (_ for _ in ()).throw(UserError("no unit")))
        code, said = printed(capsys, monkeypatch, "deploy", str(tmp_path / "run"), "--bits", value)
        assert (code, said) == (2, "error: no unit\n")
        assert not (tmp_path / "run" / "best" / "ship" / "ship.yaml").exists()


def deploying(tmp_path: Path) -> Path:
    """A finished run of two trials whose action to deploy writes its process id and then waits."""
    model = shell_trainer(tmp_path / "model", deploy={"action": "ship", "options": {}})
    searched(model, tmp_path / "run", trials=2)
    skill = model / "references" / "skill_info.yaml"
    found = yaml.safe_load(skill.read_text())
    (tmp_path / "wait.py").write_text(
        "import os, sys, time\n"
        "open(sys.argv[1] + '.new', 'w').write(str(os.getpid()))\n"
        "os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "time.sleep(float(sys.argv[2]))\n"
    )
    words = f"{sys.executable} {tmp_path / 'wait.py'} {tmp_path / 'pid'} 60 {{config_path}}"
    found["actions"]["ship"]["command"] = words
    skill.write_text(yaml.safe_dump(found))
    return tmp_path / "run"


def test_deploy_is_alone_and_its_action_ends_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = deploying(tmp_path)
    capsys.readouterr()
    words = [sys.executable, "-m", "automl.cli", "deploy", str(root)]
    first = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        wait_for((tmp_path / "pid").exists)
        code, said = printed(capsys, monkeypatch, "deploy", str(root))
        busy = f"{root / 'best'}: another automl deploy, run or resume is at work there; wait for its end"
        assert (code, said) == (2, f"error: {busy}\n")
        with pytest.raises(StudyBusy), handing_over(root):
            pass
        action = int((tmp_path / "pid").read_text())
        os.kill(action, 0)
    finally:
        first.kill()
        told = first.communicate()[0]
    assert told.startswith(f"deploying trial {show.handed_over(root)} (score 0.")
    wait_for(lambda: not alive(action))
    with handing_over(root):
        pass


def test_who_waits_for_another_says_so_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automl.locks.SAID_S", 0.05)
    said: list[str] = []
    with handing_over(tmp_path), pytest.raises(StudyBusy), handing_over(tmp_path, 0.2, said.append):
        pass
    assert len(said) == 4
    assert all(line.startswith("waiting for another automl command, such as deploy") for line in said)
    with handing_over(tmp_path, 0.2, said.append):
        pass
    assert len(said) == 4


def test_a_ctrl_c_within_a_command_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def _stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["automl"])
    with pytest.raises(SystemExit, match="130"):
        cli.guarded(app)
    assert capsys.readouterr().err.strip() == "stopped"


@pytest.mark.parametrize("program", ["automl.cli", "model.cli"])
def test_a_ctrl_c_while_a_class_is_made_is_one(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before Python 3.12 what is raised in a __set_name__ comes as the cause of a RuntimeError."""

    def importing() -> None:
        raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()

    assert importlib.import_module(program).guarded(importing) == 130
    assert capsys.readouterr().err.strip() in ("stopped", "interrupted")


@pytest.mark.parametrize("program", ["automl.cli", "model.cli"])
def test_in_a_folder_that_is_gone_nothing_begins(tmp_path: Path, program: str) -> None:
    (tmp_path / "gone").mkdir()
    there = f"import os, sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); os.chdir({str(tmp_path / 'gone')!r})"
    code = (
        f"{there}; os.rmdir(os.getcwd()); from {program} import main; sys.argv = ['x', '--version']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the current folder no longer exists (No such file")


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_for(done: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not done():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_deploy_says_where_another_leads_and_wants_a_whole_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = deploying(tmp_path)
    capsys.readouterr()
    ran: list[Any] = []
    monkeypatch.setattr(
        "subprocess.run", lambda words, **_: ran.append(words) or SimpleNamespace(returncode=0)
    )
    path = root / "best" / "provenance.json"
    found = json.loads(path.read_text())
    other = 1 - found["trial"]
    path.write_text(json.dumps(found | {"trial": other, "value": 0.1}))
    code, said = printed(capsys, monkeypatch, "deploy", str(root))
    assert code == 0
    assert said.startswith(f"deploying trial {other} (score 0.1000); by now trial {found['trial']} (0.")
    assert said.endswith(f"is the best; to hand it over: automl resume {root}\n")
    path.unlink()
    code, said = printed(capsys, monkeypatch, "deploy", str(root))
    assert (code, len(ran)) == (2, 1)
    assert f"{path}: is not there; automl resume {root} hands the winner over (again)" in said


@pytest.mark.parametrize("folder", ["-k2", "./-k2", "--x y"])
def test_a_folder_that_begins_as_an_option_is_named_so_that_it_can_be_typed(folder: str) -> None:
    assert cli._no_option(Path(folder)) == Path.cwd() / folder
    assert cli._no_option(Path("runs/-k2")) == Path("runs/-k2")
