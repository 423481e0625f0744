"""What people get wrong, through the real command lines: exit code 2, one clear message, no traceback, and before
anything is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from automl import cli as automl_cli
from model import cli as model_cli


def called(
    main: Any, argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """(exit code, everything printed) of a command line."""
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr()
    return int(caught.value.code or 0), printed.out + printed.err


def plan(data: Path, *more: str) -> list[str]:
    return ["automl", "plan", "--data", str(data), "--preset", "demo", *more]


def broken_json(data: Path) -> None:
    path = data / "train" / "annotations.json"
    path.write_text(path.read_text()[:-30])


def no_archive(data: Path) -> None:
    document = json.loads((data / "train" / "annotations.json").read_text())
    document["images"][0]["file_name"] = "lost.png"
    (data / "train" / "annotations.json").write_text(json.dumps(document))


def bad_image(data: Path) -> None:
    for name in ("0003.png", "0004.png"):  # of 12, more than are left out
        (data / "train" / "images" / name).write_bytes(b"\x89PNG")


def yaml_file(text: str) -> Any:
    def write(data: Path) -> None:
        (data / "spec.yaml").write_text(text)

    return write


SPEC = ["--spec", "{data}/spec.yaml"]
CASES: dict[str, tuple[Any, list[str], str]] = {
    "typo in a key": (None, ["--set", "train.optim.lr_backbne=1e-5"], "did you mean 'lr_backbone'"),
    "typo in a section": (None, ["--set", "trian.num_epochs=3"], "did you mean 'train'"),
    "lr above its bound": (None, ["--set", "train.optim.lr=0.5"], "train.optim.lr must be a number in (0, 0.01], but got 0.5"),
    "text for a number": (None, ["--set", "dataset.batch_size=four"], "dataset.batch_size must be an integer"),
    "unknown backbone": (None, ["--set", "model.backbone=resnet_51"], "model.backbone must be one of"),
    "rule over two leaves": (None, ["--set", "model.num_select=1000"], "model.num_select must be < model.num_queries * dataset.num_classes = 400"),
    "levels do not fit": (None, ["--set", "model.num_feature_levels=2"], "len(model.return_interm_indices) must equal"),
    "set by a colon, of a secret": (None, ["--set", "encryption_key:Hidden"], "but got 'encryption_key:…' (write"),
    "set without a value": (None, ["--set", "train.num_epochs"], "--set must be KEY=VALUE"),
    "truncated annotations": (broken_json, [], "not valid JSON"),
    "missing training set": (lambda d: shutil.rmtree(d / "train"), [], "no training data"),
    "missing image folder": (lambda d: shutil.rmtree(d / "train" / "images"), [], "is not in"),
    "missing image": (no_archive, [], "image 1: lost.png is not in"),
    "unreadable image": (bad_image, [], "0003.png cannot be read as an image"),
    "no such data folder": (lambda d: shutil.rmtree(d), [], "no such folder"),
    "batch above the data": (None, ["--set", "dataset.batch_size=64"], "fewer than the total batch of 64"),
    "no such spec file": (None, SPEC, "no such spec file"),
    "spec file is not YAML": (yaml_file("train: [1"), SPEC, "not valid YAML"),
    "spec file is a list": (yaml_file("- 1"), SPEC, "must be a mapping"),
    "unknown key in the file": (yaml_file("train: {epochs: 3}"), SPEC, "unknown key 'train.epochs'"),
    "typo in another action": (yaml_file("evalute: {num_gpus: 1}"), SPEC, "unknown key 'evalute'; did you mean 'evaluate'"),
    "unknown key of another action": (yaml_file("export: {chekpoint: x}"), SPEC, "unknown key 'export.chekpoint'; did you mean 'checkpoint'"),
    "policy that is neither": (yaml_file("automl_policy: maybe"), SPEC, "automl_policy must be on or off, but got 'maybe'"),
    "unknown model": (None, ["--model", "deformable_dert"], "did you mean 'deformable_detr'"),
    "unknown preset": (None, ["--preset", "smal"], "did you mean 'small'"),
    "unknown metric": (None, ["--metric", "val_map"], "did you mean 'val_mAP'"),
    "broken time": (None, ["--time", "soon"], "--time must be like"),
    "demo and data": (None, ["--demo"], "not both"),
    "unknown sampler": (None, ["--sampler", "tpee"], "did you mean 'tpe'"),
    "fix of an unknown name": (None, ["--fix", "train.optim.lrr=1"], "did you mean 'train.optim.lr'"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_message_and_exit_code_2(
    case: str, own_demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, options, message = CASES[case]
    if damage:
        damage(own_demo)
    argv = plan(own_demo, *(option.replace("{data}", str(own_demo)) for option in options))
    code, printed = called(automl_cli.main, argv, monkeypatch, capsys)
    assert code == 2, printed
    assert message in printed
    assert "Traceback" not in printed
    assert printed.count("error: ") <= 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["status", "{tmp}"], "not a run folder"),
        (["best", "{tmp}"], "not a run folder"),
        (["resume", "{tmp}"], "not a run folder"),
        (["report", "{tmp}/none"], "not a run folder"),
        (["dashboard", "{tmp}"], "not a run folder"),
        (["run", "--data", "{tmp}/none"], "no such folder"),
        (["run", "--data", "{tmp}/none", "--executor", "slurm"], "--executor must be ray or local"),
    ],
)
def test_run_folders_that_are_none(
    argv: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["automl", *(word.replace("{tmp}", str(tmp_path)) for word in argv)]
    code, printed = called(automl_cli.main, words, monkeypatch, capsys)
    assert (code, message in printed, "Traceback" in printed) == (2, True, False), printed


@pytest.mark.parametrize(
    ("action", "overrides", "message"),
    [
        ("train", ["train.optim.lr=5"], "train.optim.lr must be a number in (0, 0.01]"),
        ("train", ["nonsense"], "an override must be KEY=VALUE"),
        ("train", [], "no data source is given"),
        (
            "evaluate",
            [],
            "a model file does not say where they are: give -e RUN/best/evaluate.yaml",
        ),
        ("export", [], "export.checkpoint must be given"),
        ("export", ["export.checkpoint=none.pth"], "none.pth: no such checkpoint"),
        ("gen_trt_engine", [], "gen_trt_engine.onnx_file must be given"),
        ("quantize", ["quantize.model_path=none.onnx"], "none.onnx does not exist"),
        ("inference", ["inference.checkpoint=a.pth"], "must name images"),
    ],
)
def test_actions(
    action: str,
    overrides: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text("{}")
    argv = ["deformable_detr", action, "-e", "spec.yaml", *overrides]
    code, printed = called(model_cli.main, argv, monkeypatch, capsys)
    assert code == 2, printed
    assert message in printed
    assert "Traceback" not in printed
