"""A run that goes on with another spec file, model folder, trainer or schema than it began with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console

from automl import bundle, export_best, loop, restored_plan, same_model, show, spec
from automl.errors import UserError
from automl.progress import Progress
from automl.request import RunRequest
from automl.rundir import RunDir
from tests.automl.test_foreign_trainers import shell_trainer


def begun(root: Path, **request: Any) -> Path:
    """A finished run of two trials of three epochs, at root/run, of the model at root/model."""
    model = root / "model"
    if not model.exists():
        shell_trainer(model, stages=None)
    asked: dict[str, Any] = {"trials": 2, "executor": "local", "scheduler": "none", **request}
    loop.run(RunRequest(model=str(model), **asked), root / "run", Progress(quiet=True))
    return root / "run"


def notes(root: Path, **changes: Any) -> str:
    return "\n".join(restored_plan.restore(RunDir(root), changes).warnings)


def document_of(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / "run.json").read_text()))


def change_schema(model: Path, change: Any) -> None:
    path = model / "schemas" / "train.schema.json"
    document = json.loads(path.read_text())
    change(document["properties"]["fit"]["properties"])
    path.write_text(json.dumps(document))


def printed(show_it: Any, root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    show_it(Console(width=500), root)
    return capsys.readouterr().out


# ---- the spec file --------------------------------------------------------------------------------------------------


def test_every_leaf_of_the_spec_file_that_the_run_has_otherwise_is_named(tmp_path: Path) -> None:
    """Whoever had set it: a preset, the data, nobody. What ranks above the file stays silent."""
    model = shell_trainer(tmp_path / "model", stages=None, spec_shorthand_keys={"num_epochs": "fit.rounds"})
    add = {name: {"type": "integer", "default": 0} for name in ("seen", "set", "plain", "own", "gone")}
    change_schema(model, lambda fit: fit.update(add))
    (model / "references" / "preset_small.yaml").write_text("fit: {seen: 1}\n")
    file = tmp_path / "own.yaml"
    file.write_text("fit: {own: 1, gone: 4}\n")
    root = begun(tmp_path, spec_file=str(file), preset="small", sets=("fit.set=3",), epochs=3)
    assert notes(root) == ""
    file.write_text(
        "fit: {own: 2, seen: 5, set: 9, plain: 7, rounds: 8}\nsearch: {fit.lr: {valid_max: 0.5}}\n"
    )
    told = notes(root)
    for line in ("fit.own is 2 there, 1 here", "fit.seen is 5 there, 1 here", "fit.plain is 7 there, 0 here",
                 "fit.gone is no longer set there, 4 here", "search is set there"):  # fmt: skip
        assert line in told
    assert "fit.set" not in told
    assert "rounds" not in told
    file.write_text("fit: {own: 1, gone: 4, plain: 0}\n")
    assert notes(root) == ""
    file.unlink()
    assert "can no longer be read" in notes(root)


def test_what_the_run_made_of_the_spec_file_itself_is_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path was made absolute, the data were mended: the file is as it was, also when the run has gone on twice."""
    train = {"command": "sh {model_dir}/train.sh {config_path}", "inputs": {"fit.table": "file"}}
    hooks = {"inspect_data": "hooks_of_mended:inspect"}
    model = shell_trainer(tmp_path / "model", stages=None, actions={"train": train}, entry_points=hooks)
    (model / "hooks_of_mended.py").write_text(
        "def inspect(spec, data=None, *, work_dir):\n    return {'replace': {'fit.mended': 'whole'}}\n"
    )
    text = {"type": "string", "default": ""}
    change_schema(model, lambda fit: fit.update(table=text, mended=text))
    (tmp_path / "table.csv").write_text("1\n")
    (tmp_path / "own.yaml").write_text("fit: {table: table.csv, mended: broken}\n")
    monkeypatch.chdir(tmp_path)
    root = begun(tmp_path, spec_file="own.yaml")
    monkeypatch.chdir("/")
    assert document_of(root)["spec"]["fit"]["mended"] == "whole"
    for _ in range(2):
        assert notes(root) == ""
        loop.resume(root, {}, Progress(quiet=True))
    (tmp_path / "own.yaml").write_text("fit: {table: other.csv, mended: more}\n")
    assert "fit.table is 'other.csv' there" in notes(root)
    assert "fit.mended is 'more' there" in notes(root)
    (tmp_path / "own.yaml").write_text("fit: {table: table.csv, mended: broken}\n")
    before = {
        key: value for key, value in document_of(root).items() if key != "said"
    }  # of an earlier version
    (root / "run.json").write_text(json.dumps(before))
    for _ in range(2):
        assert notes(root) == ""
        loop.resume(root, {}, Progress(quiet=True))


def test_a_changed_key_of_the_engine_s_own_in_the_spec_file_is_named_too(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    keys = {"objectives": ["val_mAP", "latency_ms"], "try": [{"train": {"optim": {"lr": 1e-4}}}]}
    began: Any = SimpleNamespace(
        request=RunRequest(model="deformable_detr", spec_file=str(file)), spec={}, engine_keys=keys,
        bundle=bundle.resolve("deformable_detr"), sources={}, said={},
    )  # fmt: skip
    file.write_text(yaml.safe_dump(keys))
    assert restored_plan._differences(began) == []
    file.write_text(yaml.safe_dump(keys | {"objectives": ["val_mAP50", "latency_ms"]}))
    (text,) = restored_plan._differences(began)
    assert "objectives is another there" in text
    assert "try" not in text


# ---- the trainer ----------------------------------------------------------------------------------------------------


def test_a_model_folder_that_has_changed_is_told_once_a_change(tmp_path: Path) -> None:
    root, model = begun(tmp_path), tmp_path / "model"
    (model / "cache.npz").write_text("of the trainer's own")
    (model / "__pycache__").mkdir()
    (model / "__pycache__" / "net.py").write_text("")
    assert notes(root) == ""
    script = model / "train.sh"
    script.write_text(script.read_text().replace("print $lr *", "print 0.1 * $lr *"))
    (model / "net.py").write_text("")
    (model / "ship.sh").unlink()
    told = notes(root)
    assert "train.sh is another; net.py is new; ship.sh is gone" in told
    assert "cache" not in told
    loop.resume(root, {"trials": 3}, Progress(quiet=True))
    assert notes(root) == ""


def test_a_run_of_an_earlier_version_says_nothing_of_it_and_knows_from_then_on(tmp_path: Path) -> None:
    root = begun(tmp_path)
    old = {
        key: value for key, value in document_of(root).items() if key not in ("model_state", "said", "fixed")
    }
    (root / "run.json").write_text(json.dumps(old))
    for _ in range(2):
        assert notes(root) == ""
        loop.resume(root, {}, Progress(quiet=True))
    (tmp_path / "model" / "train.sh").write_text("exit 1\n")
    assert "train.sh is another" in notes(root)


def test_what_a_folder_s_commands_run_is_told_apart(tmp_path: Path) -> None:
    model = tmp_path / "deep" / "model"
    command = (
        f"sh {tmp_path}/outside.awk --with={{model_dir}}/../beside.txt {{model_dir}}/odd.awk {{config_path}}"
    )
    shell_trainer(model, stages=None, actions={"train": {"command": command}})
    for path in (tmp_path / "outside.awk", tmp_path / "deep" / "beside.txt", model / "odd.awk"):
        path.write_text("x")
    (model / "large.yaml").write_bytes(b" " * (same_model.LARGE + 1))
    (model / "found.json").write_text("{}")  # a trainer's own
    (model / "references" / "own.json").write_text("{}")
    for path in (model / "LICENSE", model / "run"):  # a file system where all may be run
        path.write_text("#!/bin/sh" if path.name == "run" else "Apache")
        path.chmod(0o755)
    (model / "references" / "preset_own.yaml").write_text("{}")
    (model / "run_folder").mkdir()
    (model / "run_folder" / "split.yaml").write_text("{}")  # before its run.json is there
    (model / "link").symlink_to(tmp_path)
    (model / "broken.py").symlink_to(tmp_path / "nowhere")
    os.mkfifo(model / "pipe.py")
    for folder, mark in (("venv", "pyvenv.cfg"), ("one_run", "run.json"), (".git", "HEAD")):
        (model / folder).mkdir()
        (model / folder / mark).write_text("{}")
        (model / folder / "code.py").write_text("")
    (model / "data").mkdir()
    for number in range(same_model.MANY + 1):
        (model / "data" / f"{number}.yaml").write_text("{}")
    found = same_model.state(bundle.resolve(str(model)), model / "run_folder")
    assert "references/preset_own.yaml" not in found
    assert {name for name in found if not name.startswith(("references", "schemas"))} == {
        str(tmp_path / "outside.awk"), "../beside.txt", "odd.awk", "large.yaml", "link", "train.sh", "ship.sh", "run",
    }  # fmt: skip
    assert "references/own.json" in found
    assert (found["large.yaml"], found["link"]) == (f"{same_model.LARGE + 1} bytes", f"-> {tmp_path}")


def test_of_an_installed_model_its_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bundle.resolve("deformable_detr")
    assert (
        same_model.state(model, Path("/nowhere")) == {}
    )  # it is the engine's own, whose versions are told anyway
    monkeypatch.setattr(same_model, "ENGINE", None)
    now = same_model.state(model, Path("/nowhere"))
    assert "version" in now
    assert now.keys() <= {"version", "commit"}
    (told,) = same_model.changes({"root": "/nowhere", "model_state": now | {"version": "0.0.1"}}, model)
    assert f"version was 0.0.1 and is {now['version']}" in told


def test_line_ends_and_what_cannot_be_read_are_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, script = begun(tmp_path), tmp_path / "model" / "train.sh"
    script.write_bytes(script.read_bytes().replace(b"\n", b"\r\n"))
    assert notes(root) == ""
    monkeypatch.setattr(same_model, "_digest", lambda path: same_model.UNREADABLE)
    assert notes(root) == ""


def test_a_file_whose_name_is_no_utf_8_keeps_no_run_from_its_record(tmp_path: Path) -> None:
    model = shell_trainer(tmp_path / "model", stages=None)
    Path(os.fsdecode(os.fsencode(model) + b"/caf\xe9.py")).write_text("")
    found = same_model.state(bundle.resolve(str(model)), model / "run")
    assert "caf\\xe9.py" in found
    json.dumps(found).encode()


def test_a_model_of_another_name_is_refused_with_the_true_reason(tmp_path: Path) -> None:
    root = begun(tmp_path)
    other = shell_trainer(tmp_path / "other", stages=None, network_arch="other")
    with pytest.raises(UserError, match=r"this run is of shell, not of other .*--model FOLDER"):
        loop.resume(root, {"model": str(other)}, Progress(quiet=True))
    with pytest.raises(UserError, match="this run is of shell, not of deformable_detr"):
        loop.resume(root, {"model": "deformable_detr"}, Progress(quiet=True))


def test_a_folder_that_names_no_model_may_be_called_otherwise(tmp_path: Path) -> None:
    shell_trainer(tmp_path / "model", stages=None, network_arch=None)
    root = begun(tmp_path)
    (tmp_path / "model").rename(tmp_path / "moved")
    assert notes(root, model=str(tmp_path / "moved")) == ""


# ---- its schema -----------------------------------------------------------------------------------------------------

NEEDS_WD = "grep -q '^ *wd: ' \"$1\" || { echo \"KeyError: 'wd'\" >&2; exit 1; }\n"


def test_leaves_that_the_model_has_besides_by_now_are_in_the_specs_of_new_trials(tmp_path: Path) -> None:
    root, model = begun(tmp_path), tmp_path / "model"
    recorded_spec = document_of(root)["spec"]

    def change(fit: dict[str, Any]) -> None:
        fit["wd"] = {"type": "number", "default": 0.5}
        fit["deep"] = {"properties": {"er": {"type": "integer", "default": 2}}}
        fit["rounds"]["default"] = 9

    change_schema(model, change)
    (model / "train.sh").write_text(NEEDS_WD + (model / "train.sh").read_text())
    assert "had not when this run began, used as by default: fit.wd 0.5, fit.deep.er 2" in notes(root)
    outcome = loop.resume(root, {"trials": 4}, Progress(quiet=True))
    assert outcome.failed == ""
    now = document_of(root)["spec"]
    assert now["fit"] == recorded_spec["fit"] | {"wd": 0.5, "deep": {"er": 2}}
    assert yaml.safe_load((root / "trials" / "0003" / "spec.yaml").read_text())["fit"]["wd"] == 0.5
    for _ in range(2):  # trials of before have no wd, and are no less what they were given
        said: list[str] = []
        progress = Progress(quiet=True)
        progress.note = said.append  # type: ignore[method-assign]
        loop.resume(root, {}, progress)
        assert not [
            line for line in said if "handed over with what it was given" in line or "by default" in line
        ]
    change_schema(model, lambda fit: fit.pop("deep"))
    assert "shell no longer knows fit.deep.er, kept as recorded" in notes(root)


def test_what_was_set_whole_or_stands_where_a_section_is_by_now_stays(tmp_path: Path) -> None:
    template = {"weights": {"a": 1, "b": 2}, "opt": {"name": "adam"}, "one": {"two": 2, "three": {}}}
    model: Any = SimpleNamespace(
        name="m", template=lambda action: template, schema=lambda action: {"properties": {}}
    )
    begun: dict[str, Any] = {
        "spec": {"weights": {"c": 3}, "opt": "sgd", "one": {"two": 7}},
        "sources": {"weights": "data"},
    }
    document, told = same_model.completed(begun, model)
    assert document["spec"] == {"weights": {"c": 3}, "opt": "sgd", "one": {"two": 7, "three": {}}}
    assert document["sources"] == {"weights": "data", "one.three": spec.LATER}
    assert "used as by default: one.three {}" in told[0]


def test_a_run_of_the_detector_is_restored_with_the_spec_that_is_recorded(tmp_path: Path) -> None:
    model = bundle.resolve("deformable_detr")
    whole = {"spec": model.template("train"), "sources": {}}
    document, told = same_model.completed(whole, model)
    assert (json.dumps(document["spec"]), document["sources"], told) == (json.dumps(whole["spec"]), {}, [])


def test_a_resume_whose_new_trials_failed_says_so_at_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = begun(tmp_path)
    (tmp_path / "model" / "train.sh").write_text(NEEDS_WD)
    outcome = loop.resume(root, {"trials": 4}, Progress(quiet=True))
    assert outcome.failed.startswith("2 of 2 trials begun now failed; the first: trial 2: exit code 1; ")
    said = printed(lambda console, _: show.outcome(console, outcome), root, capsys)
    assert "note: 2 of 2 trials begun now failed" in said
    assert json.loads((root / "outcome.json").read_text())["failed"] == outcome.failed


# ---- its search space -----------------------------------------------------------------------------------------------


def test_another_search_space_is_told_by_its_parameters_and_no_obstacle_to_the_hand_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, model = begun(tmp_path, fix=("fit.rounds=2",)), tmp_path / "model"
    assert f"to search on: automl resume {root}" in printed(show.status, root, capsys)

    def change(fit: dict[str, Any]) -> None:
        fit["lr"]["maximum"] = 0.5
        fit["wd"] = {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5, "automl_enabled": True}
        del fit["rounds"]  # --fix of it can no longer be read

    change_schema(model, change)
    outcome = export_best.export(root, Progress(quiet=True))
    handed = yaml.safe_load((root / outcome.folder / "train.yaml").read_text())["fit"]
    assert (handed["rounds"], handed["lr"]) == (2, outcome.winner.params["fit.lr"])
    change_schema(model, lambda fit: fit.update(rounds={"type": "integer", "default": 3}))
    with pytest.raises(UserError) as refused:
        loop.resume(root, {"trials": 4}, Progress(quiet=True))
    told = str(refused.value)
    assert "fit.lr: float" in told
    assert "fit.wd: searched by now" in told
    assert "train.schema.json as it was" in told
    said = printed(show.status, root, capsys)
    assert "to search on" not in said.replace("To search on", "")
    assert "it cannot go on: " in said
    (root / "best" / "provenance.json").unlink()
    assert f"where nobody hands over: automl best {root} --export" in printed(show.best, root, capsys)


def test_without_its_model_no_command_is_advised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = begun(tmp_path)
    (tmp_path / "model").rename(tmp_path / "away")
    assert "it cannot go on: " in printed(show.status, root, capsys)
    (root / "best").rename(root / "moved")
    assert "it cannot be handed over: " in printed(show.best, root, capsys)
