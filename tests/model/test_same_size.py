"""The score is of what ships: export and inference at the size of the validation, the two files scored side by side;
class names that the model recorded hold; a bad file ends nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from model.actions import evaluate, export, inference
from model.build import build_model
from model.class_map import class_names
from model.deploy.runners import TorchRunner, input_size
from model.errors import ModelError, UserError
from model.spec import put, resolve
from tests.conftest import TINY, with_data
from tests.model.data.test_check import edit

CLASSES = [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}, {"id": 3, "name": "triangle"}]
FREE = {"train": TINY["train"] | {"input_height": None, "input_width": None}}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained with the aspect kept; most of its validation images were 96x64."""
    torch.manual_seed(0)
    detector = build_model(TINY | FREE)
    for parameter in detector.parameters():
        if parameter.dim() > 1 and parameter.abs().sum() == 0:
            torch.nn.init.normal_(parameter, std=0.2)
    state = {f"model.{k}": v for k, v in detector.state_dict().items()}
    path = tmp_path_factory.mktemp("checkpoint") / "model.pth"
    spec = resolve("train", TINY | FREE)
    whole = {"state_dict": state, "spec": spec, "classes": CLASSES, "metrics": {}, "validated_size": [64, 96]}
    torch.save(whole, path)
    return path


def spec_of(action: str, data: Path | None = None, **leaves: Any) -> dict[str, Any]:
    partial = json.loads(json.dumps({k: v for k, v in TINY.items() if k != "train"}))
    partial = with_data(partial, data) if data else partial
    for name, value in leaves.items():
        put(partial, name.replace("__", "."), value)
    return resolve(action, partial)


def test_the_graph_has_the_size_of_the_validation(checkpoint: Path, own_demo: Path, tmp_path: Path) -> None:
    """At that size both files see the same pixels, and score the same on the validation set."""
    path = tmp_path / "model.onnx"
    made = export.run(
        spec_of(
            "export",
            export__checkpoint=str(checkpoint),
            export__onnx_file=str(path),
            results_dir=str(tmp_path),
        )
    )
    assert made["input_size"] == [64, 96]
    for split in ("train", "val", "test"):
        for file in (own_demo / split / "images").iterdir():
            Image.open(file).resize((96, 64)).save(file)
        edit(own_demo, split, lambda d: [i.update(width=96) for i in d["images"]])
    beside = {
        "evaluate__beside": str(checkpoint),
        "evaluate__split": "val",
        "results_dir": str(tmp_path / "out"),
    }
    sizes = {"dataset__augmentation__random_resize_max_size": 96}
    result = evaluate.run(spec_of("evaluate", own_demo, evaluate__checkpoint=str(path), **beside, **sizes))
    assert abs(result["difference"]) <= 0.005
    assert result["beside"]["file"] == str(checkpoint)
    assert {"val_mAP", "val_mAP50"} <= set(result)
    assert "test_mAP" not in result


def test_a_difference_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    said = evaluate._compared({"beside": {"file": "best/model.pth", "mAP": 0.558}, "difference": -0.269})
    assert "model.pth has 0.5580, and they differ by 0.2690, more than 0.005" in said
    assert "differ" not in evaluate._compared({"beside": {"file": "a.pth", "mAP": 0.5}, "difference": 0.004})
    assert evaluate._compared({}) == ""


@pytest.mark.parametrize(
    ("section", "checkpoint_says", "size"),
    [
        ({"input_height": None, "input_width": None}, {"validated_size": [108, 192]}, (108, 192)),
        ({"input_height": 64, "input_width": 32}, {"validated_size": [108, 192]}, (64, 32)),
        ({"input_height": None, "input_width": None}, {}, (640, 640)),
    ],
)
def test_which_size_a_graph_has(section: Any, checkpoint_says: Any, size: Any) -> None:
    recorded = {"spec": resolve("train", TINY | FREE)} | checkpoint_says
    assert export.graph_size(section, recorded) == size
    fixed = {"spec": resolve("train", TINY)}
    if not checkpoint_says:
        assert export.graph_size(section, fixed) == (64, 64)


def test_a_checkpoint_is_run_at_the_size_of_its_validation(checkpoint: Path, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    spec = spec_of("inference")
    assert input_size(TorchRunner(str(checkpoint), spec, cpu), spec, "inference") is None  # aspect kept
    whole = torch.load(checkpoint, weights_only=True)
    torch.save(whole | {"spec": resolve("train", TINY)}, tmp_path / "fixed.pth")
    assert input_size(TorchRunner(str(tmp_path / "fixed.pth"), spec, cpu), spec, "inference") == (64, 64)


# ---- classes ----------------------------------------------------------------------------------------------------


def test_evaluation_refuses_classes_that_contradict_the_model_s(
    checkpoint: Path, own_demo: Path, tmp_path: Path
) -> None:
    edit(
        own_demo,
        "test",
        lambda d: d.update(
            categories=[
                {"id": 1, "name": "square"},
                {"id": 2, "name": "circle"},
                {"id": 3, "name": "triangle"},
            ]
        ),
    )
    leaves = {"evaluate__checkpoint": str(checkpoint), "results_dir": str(tmp_path)}
    with pytest.raises(UserError, match="category 1 is square in"):
        evaluate.run(spec_of("evaluate", own_demo, **leaves))


@pytest.mark.parametrize(
    ("lines", "recorded", "wanted"),
    [
        ("red\nblue\n", ((0, "red"), (1, "blue")), {0: "red", 1: "blue"}),
        ("﻿red\nblue\n", ((1, "red"), (2, "blue")), {1: "red", 2: "blue"}),
        ("rot\nblau\n", ((1, "red"), (2, "blue")), {1: "rot", 2: "blau"}),
        ("red\n", ((1, "red"), (2, "blue")), {1: "red", 2: "blue"}),
        ("red\nblue\n", (), {1: "red", 2: "blue"}),
        ("red\nblue\ngreen\n", ((0, "red"), (1, "blue")), "calls class 1 red"),
        ("blue\nred\n", ((1, "red"), (2, "blue")), "calls class 1 blue"),
        (
            "rot\nblau\n",
            ((0, "red"), (1, "blue")),
            r"line 2 of .* does not have, and no line calls its class 0 \(red\)",
        ),
        (
            "rot\nblau\n",
            ((3, "red"), (7, "blue")),
            r"line 1 of .* does not have, and no line calls its class 3 \(red\)",
        ),
        ("red\ngreen\nblue\n", ((1, "red"), (3, "blue")), {1: "red", 2: "green", 3: "blue"}),
    ],
)
def test_a_class_map_may_name_but_not_contradict(
    tmp_path: Path, lines: str, recorded: Any, wanted: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.txt").write_text(lines)
    spec = spec_of(
        "inference", dataset__infer_data_sources={"classmap": str(tmp_path / "labels.txt"), "image_dir": []}
    )
    classes = [{"id": i, "name": name} for i, name in recorded]
    if isinstance(wanted, str):
        with pytest.raises(UserError, match=wanted):
            class_names(spec, classes)
    else:
        assert class_names(spec, classes) == wanted
        assert ("warning" in capsys.readouterr().out) == ("rot" in lines)


# ---- a folder for inference -------------------------------------------------------------------------------------


def test_inference_goes_on_after_a_bad_file_and_passes_hidden_ones(
    checkpoint: Path, own_demo: Path, tmp_path: Path
) -> None:
    folder = own_demo / "test" / "images"
    whole = (folder / "0001.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "._0001.png").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "a.png").write_bytes(whole)
    (folder / "no_suffix").write_bytes(whole)
    (folder / "notes.txt").write_text("none")
    Image.open(folder / "0002.png").save(folder / "a.gif")
    sources = {"classmap": "", "image_dir": [str(folder)]}
    leaves = {
        "inference__checkpoint": str(checkpoint),
        "results_dir": str(tmp_path),
        "dataset__infer_data_sources": sources,
    }
    with pytest.raises(ModelError, match=r"1 of 7 images cannot be read:\n.*cut\.png") as caught:
        inference.run(spec_of("inference", **leaves))
    assert caught.value.exit_code == 1
    done = {p.stem for p in (tmp_path / "inference" / "labels").iterdir()}
    assert done == {"0001", "0002", "0003", "0004", "a", "no_suffix"}
