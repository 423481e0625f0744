"""A second model beside the first: what it is comes from its own file, and its classes are matched by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model.actions import evaluate, export
from model.errors import UserError
from model.spec import default_spec, put
from model.spec_file import load
from tests.model.test_checkpoint_alone import CLASSES, checkpoint_of

OTHERS = {
    1: ("triangle", 3),
    2: ("circle", 1),
    5: ("square", 2),
    4: ("apple", None),
}  # id: (name, row in CLASSES')


def leaves_of(data: Path, folder: Path, **leaves: Any) -> dict[str, Any]:
    places = {
        "json_file": str(data / "test" / "annotations.json"),
        "image_dir": str(data / "test" / "images"),
    }
    found = {f"dataset.test_data_sources.{key}": place for key, place in places.items()}
    return found | {"results_dir": str(folder)} | {f"evaluate.{key}": value for key, value in leaves.items()}


def scored(data: Path, folder: Path, **leaves: Any) -> dict[str, Any]:
    """Without a spec file: all is said by the model files."""
    return evaluate.run(load("evaluate", None, leaves_of(data, folder, **leaves)))


@pytest.fixture(scope="module")
def made(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a.pth, a.onnx and b.pth: the same network with other ids for its classes, in another order."""
    folder = tmp_path_factory.mktemp("beside")
    path = checkpoint_of(folder / "a.pth", demo)
    spec = load("export", None, {"export.checkpoint": str(path), "export.onnx_file": str(folder / "a.onnx")})
    export.run(spec | {"results_dir": str(folder)})
    whole = torch.load(path, weights_only=True)
    for name, rows in whole["state_dict"].items():
        if ".class_embed." in name:
            moved = torch.zeros(6, *rows.shape[1:]) if rows.dim() > 1 else torch.full((6,), -20.0)
            for i, (_, row) in OTHERS.items():
                moved[i] = rows[row] if row else moved[i]
            whole["state_dict"][name] = moved
    put(whole["spec"], "dataset.num_classes", 6)
    put(whole["spec"], "dataset.eval_class_ids", None)
    whole["classes"] = [{"id": i, "name": name} for i, (name, _) in sorted(OTHERS.items())]
    torch.save(whole, folder / "b.pth")
    return folder


@pytest.fixture
def found(made: Path, own_demo: Path, tmp_path: Path) -> Path:
    """The demo where what the network finds is what there is, of every class that is one."""
    scored(own_demo, tmp_path / "first", checkpoint=str(made / "a.pth"))
    rows = json.loads((tmp_path / "first" / "evaluate" / "results.json").read_text())
    best = sorted(rows, key=lambda row: -row["score"])
    path = own_demo / "test" / "annotations.json"
    document = json.loads(path.read_text())
    kept = [row for c in CLASSES for row in [r for r in best if r["category_id"] == c["id"]][:6]]
    document["annotations"] = [
        {k: row[k] for k in ("image_id", "category_id", "bbox")}
        | {"id": n, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
        for n, row in enumerate(kept, 1)
        if min(row["bbox"][2:]) > 1
    ]
    path.write_text(json.dumps(document))
    return own_demo


@pytest.mark.parametrize(
    ("first", "second"), [("a.pth", "b.pth"), ("b.pth", "a.pth"), ("a.onnx", "b.pth"), ("b.pth", "a.onnx")]
)
def test_classes_are_matched_by_name(
    made: Path, found: Path, tmp_path: Path, first: str, second: str
) -> None:
    edit = json.loads((found / "test" / "annotations.json").read_text())
    if first.startswith("b"):  # the data have the ids of the first
        ids = {row: i for i, (_, row) in OTHERS.items()}
        edit["categories"] = [{"id": i, "name": name} for i, (name, row) in OTHERS.items() if row]
        for annotation in edit["annotations"]:
            annotation["category_id"] = ids[annotation["category_id"]]
        (found / "test" / "annotations.json").write_text(json.dumps(edit))
    result = scored(found, tmp_path, checkpoint=str(made / first), beside=str(made / second))
    assert result["test_mAP"] > 0.5
    assert result["beside"]["mAP"] == pytest.approx(result["test_mAP"], abs=1e-3)
    alone = scored(found, tmp_path / "alone", checkpoint=str(made / first))
    assert alone["test_mAP"] == result["test_mAP"]


def test_a_class_that_the_second_lacks_is_no_miss_of_its_own(
    made: Path, found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = torch.load(made / "b.pth", weights_only=True)
    whole["classes"] = [c for c in whole["classes"] if c["name"] != "circle"]
    torch.save(whole, tmp_path / "c.pth")
    leaves = leaves_of(found, tmp_path, checkpoint=str(made / "a.pth"), beside=str(tmp_path / "c.pth"))
    refused = r"evaluate\.beside must know .*c\.pth has no circle, .* set dataset\.eval_class_ids=\[2, 3\]"
    monkeypatch.setattr(evaluate, "predictions", None)  # before anything is scored
    with pytest.raises(UserError, match=refused):
        evaluate.run(load("evaluate", None, leaves))
    monkeypatch.undo()
    result = evaluate.run(load("evaluate", None, leaves | {"dataset.eval_class_ids": [2, 3]}))
    assert result["beside"]["mAP"] == pytest.approx(result["test_mAP"], abs=1e-3)


def test_each_is_run_at_its_own_normalisation_and_size(
    made: Path, found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = torch.load(made / "b.pth", weights_only=True)
    put(whole["spec"], "dataset.augmentation.input_mean", [0.1, 0.2, 0.3])
    torch.save(whole, tmp_path / "m.pth")
    apart = scored(found, tmp_path, checkpoint=str(made / "a.pth"), beside=str(tmp_path / "m.pth"))
    assert apart["difference"] != 0
    wide = {"export.checkpoint": str(made / "a.pth"), "export.onnx_file": str(tmp_path / "wide.onnx")}
    wide |= {"export.input_height": 64, "export.input_width": 96}
    export.run(load("export", None, wide) | {"results_dir": str(tmp_path)})
    capsys.readouterr()
    scored(found, tmp_path, checkpoint=str(made / "a.onnx"), beside=str(tmp_path / "wide.onnx"))
    assert "wide.onnx sees them at 96x64 px" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "why"), [("gone.pth", "no such checkpoint"), ("a.txt", "must be a .pth or .onnx")]
)
def test_what_cannot_be_run_is_refused_by_its_leaf(
    made: Path, demo: Path, tmp_path: Path, name: str, why: str
) -> None:
    assert default_spec("evaluate")["evaluate"]["beside"] == ""
    with pytest.raises(UserError, match=rf"^evaluate\.beside: .*{name}.*{why}"):
        scored(demo, tmp_path, checkpoint=str(made / "a.pth"), beside=str(tmp_path / name))
