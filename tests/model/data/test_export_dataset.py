"""Any dataset as folders of our own layout."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from model.actions import export_dataset
from model.actions.export_dataset import write
from model.cli import app, guarded
from model.data.layouts import in_place
from model.errors import UserError
from tests.model.data import drawn as writers
from tests.model.data.drawn import LAYOUTS, Drawn, put, seen
from tests.model.data.test_layouts import assert_same, written

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_becomes_ours(name: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    source = written(name, tmp_path / "data", pictures)
    found = write(str(source), tmp_path / "new/coco", val_share=0)
    assert found["layout"] == LAYOUTS[name][1]
    data = in_place(str(tmp_path / "new/coco"))
    assert data.layout.startswith("COCO by split")
    assert data.notes == ()
    assert_same(data, pictures[1], LAYOUTS[name][2], "0a1b2c3d-" if name == "Label Studio" else "")


def test_a_validation_set_is_drawn_where_there_is_none(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    source = written("CVAT", tmp_path / "data", pictures)
    splits = [
        write(str(source), tmp_path / name, 0.3, seed)["splits"]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert splits == [{"train": 8, "val": 3}] * 3
    a, b, c = (seen(in_place(str(tmp_path / name))) for name in "abc")
    assert a == b != c
    assert not set(a["train"]) & set(a["val"])


@pytest.mark.parametrize("kind", ["copies", "versions"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_copy_of_a_training_image_validates(kind: str, seed: int, tmp_path: Path) -> None:
    images, rows = tmp_path / "data/images", []
    images.mkdir(parents=True)
    for n in range(18):
        photo, version = n // 3, n % 3
        name = f"{photo}{version}.png" if kind == "copies" else f"{photo}_png.rf.{n:x}.png"
        shade = (40 * photo, 9, 9) if kind == "copies" else (40 * photo, 9 * version, 9)
        Image.new("RGB", (8, 6), shade).save(images / name, compress_level=version)
        rows.append({"id": n, "file_name": name, "width": 8, "height": 6})
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 3, 3]} for n in range(18)]
    document = {"images": rows, "annotations": boxes, "categories": [{"id": 1, "name": "red"}]}
    put(tmp_path / "data/boxes.json", json.dumps(document))
    assert write(str(tmp_path / "data"), tmp_path / "new", 0.34, seed)["splits"] == {"train": 12, "val": 6}
    train, val = (
        {
            row["id"] // 3
            for row in json.loads((tmp_path / "new" / split / "annotations.json").read_text())["images"]
        }
        for split in ("train", "val")
    )
    assert not train & val
    for row in rows[3:]:
        (images / row["file_name"]).unlink()
    put(tmp_path / "data/boxes.json", json.dumps(document | {"images": rows[:3], "annotations": boxes[:3]}))
    with pytest.raises(UserError, match="held out for validation: all 3 are copies or versions of one"):
        write(str(tmp_path / "data"), tmp_path / "one")
    put(tmp_path / "data/boxes.json", json.dumps(document | {"images": rows[:1], "annotations": boxes[:1]}))
    with pytest.raises(UserError, match="held out for validation: there is only one"):
        write(str(tmp_path / "data"), tmp_path / "one")


@pytest.mark.parametrize("at", [0, 2, 4])
def test_boxes_of_images_that_are_not_listed_move_no_others(at: int, tmp_path: Path) -> None:
    """What else stands in a row stays with its box."""
    rows = [{"id": n, "file_name": f"{n}.png", "width": 8, "height": 6} for n in range(4)]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [n, 1, 3, 3], "by": f"b{n}"} for n in range(4)
    ]
    boxes.insert(at, {"id": 9, "image_id": 77, "category_id": 1, "bbox": [1, 1, 3, 3], "by": "nobody"})
    put(
        tmp_path / "data/train/annotations.json",
        {"images": rows, "annotations": boxes, "categories": [{"id": 1, "name": "red"}]},
    )
    (tmp_path / "data/train/images").mkdir()
    for n in range(4):
        Image.new("RGB", (8, 6), (60 * n, 9, 9)).save(tmp_path / f"data/train/images/{n}.png")
    write(str(tmp_path / "data"), tmp_path / "new", val_share=0)
    found = json.loads((tmp_path / "new/train/annotations.json").read_text())["annotations"]
    assert [(a["id"], a["image_id"], a["bbox"][0], a["by"]) for a in found] == [
        (n, n, n, f"b{n}") for n in range(4)
    ]


def test_a_class_that_does_not_count_is_left_out(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    source = written("ours", tmp_path / "data", pictures)
    path = source / "val/annotations.json"
    document = json.loads(path.read_text())
    odd = {"id": 99, "image_id": document["images"][0]["id"], "category_id": 7, "bbox": [1, 1, 9, 9]}
    document["categories"].append({"id": 7, "name": "odd"})
    path.write_text(json.dumps(document | {"annotations": [odd, *document["annotations"]]}))
    found = write(str(source), tmp_path / "new", overrides={"dataset.eval_class_ids": [1, 2]})
    assert any(
        "(odd) is unknown and does not count; its boxes are left out" in note for note in found["notes"]
    )
    assert seen(in_place(str(tmp_path / "new"))) == seen(
        in_place(str(written("ours", tmp_path / "whole", pictures)))
    )


def test_pictures_of_one_name_stay_apart(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    first, second = pictures[1]["train"][:2]
    for folder, picture in (("a", first), ("b", second)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "x.png").write_bytes((pictures[0] / picture.name).read_bytes())
    names = iter(("a/x.png", "b/x.png"))
    put(tmp_path / "data/boxes.json", writers.coco([first, second], lambda _: next(names)))
    write(str(tmp_path / "data"), tmp_path / "new", val_share=0)
    assert (tmp_path / "new/train/images/b/x.png").read_bytes() == (pictures[0] / second.name).read_bytes()


def test_what_is_missing_is_named_and_nothing_is_written(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    source = written("ours", tmp_path / "data", pictures)
    (source / "val/images/val_0.png").rename(source / "val/images/val_00.png")
    with pytest.raises(UserError, match=r"val_0\.png is not in .*; did you mean 'val_00\.png'\?"):
        write(str(source), tmp_path / "new")
    assert not list(tmp_path.glob("*new*"))
    (tmp_path / "new").mkdir()
    (tmp_path / "new/x").touch()
    with pytest.raises(UserError, match="is not empty"):
        write(str(source), tmp_path / "new")


FAULTS = {
    "no folder": (None, r"file/new: cannot be written to \(not a directory\); name another folder"),
    "full": (errno.ENOSPC, "coco: no space left on its disk; free some, or name a folder on another"),
    "denied": (errno.EACCES, r"coco: cannot be written to \(permission denied\); name another folder"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_where_nothing_can_be_written_the_folder_is_named(
    fault: str, tmp_path: Path, pictures: tuple[Path, Drawn], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written("YOLO", tmp_path / "data", pictures)
    (tmp_path / "file").write_text("")
    code, message = FAULTS[fault]
    target = tmp_path / ("coco" if code else "file/new")

    def fails(path: Path, place: Path) -> None:
        raise OSError(code, os.strerror(code or 0), str(place))

    if code:
        monkeypatch.setattr(export_dataset, "link", fails)
    with pytest.raises(UserError, match=message) as told:
        write(str(source), target)
    assert "partial" not in str(told.value)
    assert not target.exists()
    assert not list(tmp_path.glob(".*.partial"))


def test_an_empty_folder_is_filled_where_it_is(
    tmp_path: Path, pictures: tuple[Path, Drawn], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written("YOLO", tmp_path / "data", pictures)
    (tmp_path / "new").mkdir()
    before = (tmp_path / "new").stat().st_ino
    monkeypatch.chdir(tmp_path / "new")
    write(str(source), Path("."))
    assert (tmp_path / "new").stat().st_ino == before
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["test", "train", "val"]


def test_the_command(
    tmp_path: Path, pictures: tuple[Path, Drawn], capsys: pytest.CaptureFixture[str]
) -> None:
    source = written("VOC", tmp_path / "data", pictures)
    assert guarded(lambda: app(["convert", str(source), str(tmp_path / "new")], standalone_mode=False)) == 0
    out = capsys.readouterr().out
    assert "note: read as Pascal VOC, 3 splits" in out
    assert "6 train, 3 val, 2 test images" in out
    assert "classes: 1 blue, 2 red car" in out


def test_leaves_of_a_spec_decide_what_is_mended(
    tmp_path: Path, pictures: tuple[Path, Drawn], capsys: pytest.CaptureFixture[str]
) -> None:
    source = written("ours", tmp_path / "data", pictures)
    document = json.loads((source / "train/annotations.json").read_text())
    for row in document["annotations"][:3]:
        row["bbox"] = [5, 5, 0, 4]
    put(source / "train/annotations.json", document)

    def run(*words: str) -> int:
        return guarded(
            lambda: app(["convert", str(source), str(tmp_path / "new"), *words], standalone_mode=False)
        )

    assert run() == 2
    assert "set dataset.mended_share=0.3" in capsys.readouterr().err
    assert run("dataset.mended_shaer=0.3") == 2
    assert "did you mean" in capsys.readouterr().err
    assert run("dataset.mended_share=0.3") == 0
    assert "note: " in (out := capsys.readouterr().out)
    assert "3 empty boxes left out" in out
