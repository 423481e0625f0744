"""A run that goes on with another spec file, model folder, trainer or schema than it began with."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console

from automl import bundle, loop, recorded
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
    return "\n".join(recorded.restore(RunDir(root), changes).warnings)


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


def test_a_changed_key_of_the_engine_s_own_in_the_spec_file_is_named_too(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    keys = {"objectives": ["val_mAP", "latency_ms"], "try": [{"train": {"optim": {"lr": 1e-4}}}]}
    began: Any = SimpleNamespace(
        request=RunRequest(model="deformable_detr", spec_file=str(file)), spec={}, engine_keys=keys,
        bundle=bundle.resolve("deformable_detr"), sources={}, said={},
    )  # fmt: skip
    file.write_text(yaml.safe_dump(keys))
    assert recorded._differences(began, of_earlier=False) == []
    file.write_text(yaml.safe_dump(keys | {"objectives": ["val_mAP50", "latency_ms"]}))
    (text,) = recorded._differences(began, of_earlier=False)
    assert "objectives is another there" in text
    assert "try" not in text
