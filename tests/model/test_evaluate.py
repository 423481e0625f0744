"""The evaluate and inference actions: every leaf acts, and a batch changes no image's detections."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.actions import evaluate, inference
from model.build import build_model
from model.errors import UserError
from model.spec import put, resolve
from tests.conftest import TINY, with_data
from tests.model.choices import same_detections

CLASSES = [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}, {"id": 3, "name": "triangle"}]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a detector whose heads say something different for every image."""
    torch.manual_seed(0)
    detector = build_model(TINY)
    for parameter in detector.parameters():
        if parameter.dim() > 1 and parameter.abs().sum() == 0:
            torch.nn.init.normal_(parameter, std=0.2)
    state = {f"model.{k}": v for k, v in detector.state_dict().items()}
    path = tmp_path_factory.mktemp("checkpoint") / "model.pth"
    torch.save({"state_dict": state, "spec": resolve("train", TINY), "classes": CLASSES, "metrics": {}}, path)
    return str(path)


@pytest.fixture
def mixed(own_demo: Path) -> Path:
    """The demo with test images of three sizes."""
    path = own_demo / "test" / "annotations.json"
    document = json.loads(path.read_text())
    for image, size in zip(document["images"], [(64, 64), (96, 64), (64, 80), (96, 64)], strict=True):
        file = own_demo / "test" / "images" / image["file_name"]
        Image.open(file).resize(size).save(file)
        image["width"], image["height"] = size
    path.write_text(json.dumps(document))
    return own_demo


def scored(checkpoint: str, data: Path, folder: Path, **leaves: Any) -> tuple[dict[str, Any], list[dict]]:
    """(metrics, results.json) of an evaluation."""
    partial = with_data(json.loads(json.dumps({k: v for k, v in TINY.items() if k != "train"})), data)
    for name, value in ({"evaluate__checkpoint": checkpoint, "results_dir": str(folder)} | leaves).items():
        put(partial, name.replace("__", "."), value)
    metrics = evaluate.run(resolve("evaluate", partial))
    return metrics, json.loads((folder / "evaluate" / "results.json").read_text())


def test_neighbours_in_a_batch_change_no_detection(checkpoint: str, mixed: Path, tmp_path: Path) -> None:
    """Images of several sizes, alone and in batches of four."""
    _, alone = scored(checkpoint, mixed, tmp_path / "1", evaluate__batch_size=1)
    _, together = scored(checkpoint, mixed, tmp_path / "4", evaluate__batch_size=4)
    assert len(alone) == len(together) == 4 * 50
    for image_id in (1, 2, 3, 4):
        a, b = ([r for r in rows if r["image_id"] == image_id] for rows in (alone, together))
        assert same_detections(a, b, score=1e-5, box_px=96e-5)  # of images of up to 96 px: 1e-5 of the side


@pytest.mark.parametrize("split", ["test", "val"])
@pytest.mark.parametrize("key", ["json_file", "image_dir"])
def test_data_that_are_not_there_are_named_with_how_to_name_others(
    split: str, key: str, checkpoint: str, demo: Path, tmp_path: Path
) -> None:
    partial = with_data(json.loads(json.dumps({k: v for k, v in TINY.items() if k != "train"})), demo)
    gone = str(tmp_path / "gone")
    listed = partial["dataset"][f"{split}_data_sources"]
    (listed[0] if split == "val" else listed)[key] = gone
    partial |= {"results_dir": str(tmp_path / "out"), "evaluate": {"checkpoint": checkpoint, "split": split}}
    said = (
        rf"dataset\.{split}_data_sources, {key}: {gone} is not there\n.*dataset\.{split}_data_sources.*FILE"
    )
    with pytest.raises(UserError, match=said):
        evaluate.run(resolve("evaluate", partial))
    assert not (tmp_path / "out" / "evaluate" / "metrics.json").exists()


def test_data_without_a_test_split_are_told_and_what_else_may_be_scored(
    checkpoint: str, demo: Path, tmp_path: Path
) -> None:
    partial = with_data(json.loads(json.dumps({k: v for k, v in TINY.items() if k != "train"})), demo)
    partial["dataset"].pop("test_data_sources")
    partial |= {"results_dir": str(tmp_path / "out"), "evaluate": {"checkpoint": checkpoint, "split": "test"}}
    with pytest.raises(UserError, match=r"had no test split; score .* by evaluate\.split=val"):
        evaluate.run(resolve("evaluate", partial))


def test_it_says_which_data_it_scored(
    checkpoint: str, demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics, _ = scored(checkpoint, demo, tmp_path)
    source = {
        "image_dir": str(demo / "test" / "images"),
        "json_file": str(demo / "test" / "annotations.json"),
    }
    assert metrics["scored"] == {"split": "test", "images": 4, "sources": [source]}
    assert (
        f"data: 4 images of {source['json_file']} (images: {source['image_dir']})" in capsys.readouterr().out
    )


def test_what_is_written(checkpoint: str, demo: Path, tmp_path: Path) -> None:
    metrics, results = scored(checkpoint, demo, tmp_path)
    folder = tmp_path / "evaluate"
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert set(results[0]) == {"image_id", "category_id", "bbox", "score"}
    with (folder / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["circle", "square", "triangle"]
    truth = json.loads((demo / "test" / "annotations.json").read_text())["annotations"]
    assert [int(row["boxes"]) for row in rows] == [
        sum(a["category_id"] == c["id"] for a in truth) for c in CLASSES
    ]
    page = (folder / "precision_recall.html").read_text()
    assert all(f"{name}</td>" in page for name in ("circle", "square", "triangle"))
    assert len(page) < 100_000
    known = [row["AP"] for row in metrics["per_class"] if row["AP"] >= 0]
    assert np.mean(known) == pytest.approx(metrics["test_mAP"])


def test_crowds_are_no_boxes_of_a_class(checkpoint: str, own_demo: Path, tmp_path: Path) -> None:
    path = own_demo / "test" / "annotations.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(document))
    metrics, _ = scored(checkpoint, own_demo, tmp_path)
    assert sum(row["boxes"] for row in metrics["per_class"]) == len(document["annotations"]) - 1


def test_all_classes_count_unless_somebody_chose(
    checkpoint: str, demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TAO's default counts the first class alone."""
    assert resolve("evaluate", {})["dataset"]["eval_class_ids"] is None
    every, _ = scored(checkpoint, demo, tmp_path / "a", dataset__eval_class_ids=None)
    assert [row["id"] for row in every["per_class"]] == [1, 2, 3]
    assert "not scored" not in capsys.readouterr().out
    scored(checkpoint, demo, tmp_path / "b", dataset__eval_class_ids=[1])
    names = [row["name"] for row in every["per_class"]]
    assert f"dataset.eval_class_ids: not scored are {names[1]}, {names[2]}" in capsys.readouterr().out


def test_leaves_of_evaluate_act(checkpoint: str, demo: Path, tmp_path: Path) -> None:
    metrics, results = scored(checkpoint, demo, tmp_path / "a")
    scores = sorted(r["score"] for r in results)
    limit = scores[len(scores) // 2]
    _, above = scored(checkpoint, demo, tmp_path / "b", evaluate__conf_threshold=limit)
    assert len(above) == sum(s >= np.float32(limit) for s in scores)
    assert [r for r in results if r["score"] >= np.float32(limit)] == above
    part, _ = scored(checkpoint, demo, tmp_path / "c", dataset__eval_class_ids=[2])
    assert [row["id"] for row in part["per_class"]] == [2]
    assert part["test_mAP"] == pytest.approx(metrics["per_class"][1]["AP"])
    _, larger = scored(checkpoint, demo, tmp_path / "d", evaluate__input_height=96, evaluate__input_width=80)
    assert [r["score"] for r in larger] != [r["score"] for r in results]
    _, few = scored(checkpoint, demo, tmp_path / "e", model__num_select=7)
    assert len(few) == 4 * 7


def inferred(checkpoint: str, folder: Path, sources: list[Path], **leaves: Any) -> dict[str, Any]:
    partial = json.loads(json.dumps({k: v for k, v in TINY.items() if k != "train"}))
    given = {
        "inference__checkpoint": checkpoint, "results_dir": str(folder), "inference__conf_threshold": 0.0,
        "inference__input_height": 64, "inference__input_width": 64,
        "dataset__infer_data_sources": {"classmap": "", "image_dir": [str(s) for s in sources]},
    }  # fmt: skip
    for name, value in (given | leaves).items():
        put(partial, name.replace("__", "."), value)
    return inference.run(resolve("inference", partial))


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_folders_archives_and_single_files_without_collisions(
    checkpoint: str, demo: Path, tmp_path: Path
) -> None:
    images = demo / "test" / "images"
    with tarfile.open(tmp_path / "more.tar", "w") as archive:
        archive.add(images / "0001.png", "deep/0001.png")
        archive.add(images / "0002.png", "0002.png")
    (tmp_path / "other").mkdir()
    Image.open(images / "0001.png").save(tmp_path / "other" / "0001.png")
    Image.open(images / "0003.png").save(tmp_path / "other" / "0001.jpg")
    sources = [images / "0001.png", tmp_path / "more.tar", tmp_path / "other", images / "0001.png"]
    result = inferred(checkpoint, tmp_path / "out", sources)
    labels = files(tmp_path / "out" / "inference")
    assert result["images"] == 5
    assert len([name for name in labels if name.endswith(".txt")]) == 5
    assert len([name for name in labels if "images_annotated" in name]) == 5
    assert "labels/deep/0001.txt" in labels


def test_results_by_source_when_internal(checkpoint: str, demo: Path, tmp_path: Path) -> None:
    sources = [demo / "test" / "images", demo / "val" / "images" / "0001.png"]
    inferred(checkpoint, tmp_path, sources, inference__is_internal=True)
    assert "images/labels/0001.txt" in files(tmp_path / "inference")


def lines(folder: Path, name: str = "0001") -> list[str]:
    return (folder / "inference" / "labels" / f"{name}.txt").read_text().splitlines()


def pixels(folder: Path, name: str = "0001.png") -> np.ndarray:
    return np.asarray(Image.open(folder / "inference" / "images_annotated" / name)).astype(int)


def test_leaves_of_inference_act(checkpoint: str, demo: Path, tmp_path: Path) -> None:
    source = [demo / "test" / "images" / "0001.png"]
    inferred(checkpoint, tmp_path / "a", source)
    scores = sorted((float(line.split()[-1]) for line in lines(tmp_path / "a")), reverse=True)
    inferred(checkpoint, tmp_path / "b", source, inference__conf_threshold=scores[10] + 5e-4)
    assert 0 < len(lines(tmp_path / "b")) < len(scores)
    assert all(float(line.split()[-1]) >= scores[10] for line in lines(tmp_path / "b"))
    high = {"inference__conf_threshold": scores[10] + 5e-4}
    inferred(checkpoint, tmp_path / "c", source, inference__outline_width=9, **high)
    assert lines(tmp_path / "c") == lines(tmp_path / "b")
    assert (pixels(tmp_path / "c") != pixels(tmp_path / "b")).any()
    colours = {c["name"]: "#ff00ff" for c in CLASSES} | {"0": [255, 0, 255]}
    inferred(checkpoint, tmp_path / "d", source, inference__color_map=colours, **high)
    painted = (pixels(tmp_path / "d") == [255, 0, 255]).all(-1)
    assert painted.any()
    assert not (pixels(tmp_path / "b") == [255, 0, 255]).all(-1).any()
    inferred(checkpoint, tmp_path / "e", source, inference__input_height=96, inference__input_width=96)
    assert lines(tmp_path / "e") != lines(tmp_path / "a")


def test_a_batch_changes_no_label_file(checkpoint: str, mixed: Path, tmp_path: Path) -> None:
    free = {"inference__input_height": None, "inference__input_width": None}
    source = [mixed / "test" / "images"]
    for size in (1, 4):
        inferred(checkpoint, tmp_path / str(size), source, inference__batch_size=size, **free)
    for name in ("0001", "0002", "0003", "0004"):
        words = [[line.split() for line in lines(tmp_path / str(size), name)] for size in (1, 4)]
        a, b = (
            [{"category_id": w[0], "bbox": [float(v) for v in w[4:8]], "score": float(w[-1])} for w in part]
            for part in words
        )
        assert len(a) == len(b) == 50
        assert same_detections(a, b, score=2e-3, box_px=2e-3)  # three decimals are written


def test_what_is_no_colour_and_no_image_is_named(checkpoint: str, demo: Path, tmp_path: Path) -> None:
    source = [demo / "test" / "images"]
    with pytest.raises(UserError, match="the colour of circle must be"):
        inferred(checkpoint, tmp_path, source, inference__color_map={"circle": "reddish"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="must name images"):
        inferred(checkpoint, tmp_path, [tmp_path / "empty"])
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"bad\.png: cannot be read as an image"):
        inferred(checkpoint, tmp_path, [tmp_path / "bad.png"], inference__input_height=None,
                 inference__input_width=None)  # fmt: skip


def test_a_colour_of_no_class_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    names = {1: "circle", 2: "square"}
    inference.tell_unknown({"circle": (0, 0, 0), "2": (0, 0, 0)}, names)
    inference.tell_unknown({"anything": (0, 0, 0)}, {})  # a file that names none
    assert not capsys.readouterr().out
    inference.tell_unknown({"sqare": (0, 0, 0)}, names)
    assert "there is no class 'sqare'; did you mean 'square'?" in capsys.readouterr().out
