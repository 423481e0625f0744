"""KITTI -> COCO: every image once, every label line accounted for, the same bytes for the same seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model.actions.convert import convert
from model.data.check import inspect
from model.errors import UserError
from model.spec import default_spec

CAR = "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59"


def line(kind: str, *box: float) -> str:
    return f"{kind} 0.00 0 0.00 {' '.join(map(str, box))} 0 0 0 0 0 0 0"


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """Two sequences of five 40x30 pictures; picture 4 of each has no object."""
    root = tmp_path / "kitti"
    for sequence in ("0001", "0000"):
        for name in ("image_2", "label_2"):
            (root / sequence / name).mkdir(parents=True)
        for n in range(5):
            Image.new("RGB", (40, 30), (n, int(sequence), n)).save(
                root / sequence / "image_2" / f"{n:06}.png"
            )
            lines = [line("Van", 1, 2, 11, 12), line("Car", 5, 5, 50, 20), line("DontCare", 0, 0, 9, 9)]
            text = "\n".join(lines) if n < 4 else ""
            (root / sequence / "label_2" / f"{n:06}.txt").write_text(text)
    return root


def written(folder: Path) -> dict[str, dict[str, Any]]:
    return {p.name: json.loads((p / "annotations.json").read_text()) for p in sorted(folder.iterdir())}


def test_every_image_is_in_one_part_and_every_box_with_it(kitti: Path, tmp_path: Path) -> None:
    found = convert(str(kitti), tmp_path / "coco", val_share=0.3)
    parts = written(tmp_path / "coco")
    names = [i["file_name"] for part in parts.values() for i in part["images"]]
    assert sorted(names) == sorted(f"{s}/{n:06}.png" for s in ("0000", "0001") for n in range(5))
    assert (found["train"], found["val"]) == (len(parts["train"]["images"]), len(parts["val"]["images"]))
    assert found["val"] == 3
    assert found["classes"] == {"Car": 1, "Van": 2}  # alphabetical, from 1
    assert found["left_out"] == {"DontCare": 8}
    boxes = [a for part in parts.values() for a in part["annotations"]]
    assert len(boxes) == 16
    assert {tuple(a["bbox"]) for a in boxes} == {(1, 2, 10, 10), (5, 5, 35, 15)}  # cut to the image
    for part in parts.values():
        assert {a["image_id"] for a in part["annotations"]} <= {i["id"] for i in part["images"]}
        assert [a["id"] for a in part["annotations"]] == list(range(1, len(part["annotations"]) + 1))


def test_the_result_is_a_dataset_that_can_be_trained_on(kitti: Path, tmp_path: Path) -> None:
    convert(str(kitti), tmp_path / "coco")
    spec = default_spec("train")
    spec["dataset"]["batch_size"] = 2
    found = inspect(spec, str(tmp_path / "coco"), work_dir=tmp_path / "work")
    assert found["problems"] == []
    assert found["fill"]["dataset.num_classes"] == 3


def test_the_same_seed_writes_the_same_bytes_and_another_draws_another_split(
    kitti: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1), ("d", 2)):
        convert(str(kitti), tmp_path / name, val_share=0.3, seed=seed)
    a, b, c, d = (written(tmp_path / name) for name in "abcd")
    assert a == b
    assert len({json.dumps(x["val"]["images"]) for x in (a, c, d)}) > 1


def test_whole_sequences_are_held_out_when_asked(kitti: Path, tmp_path: Path) -> None:
    convert(str(kitti), tmp_path / "coco", val_share=0.1, by_sequence=True)
    sides = {
        part: {i["file_name"].split("/")[0] for i in document["images"]}
        for part, document in written(tmp_path / "coco").items()
    }
    assert len(sides["train"]) == len(sides["val"]) == 1
    assert not sides["train"] & sides["val"]


def test_a_mapping_joins_and_drops_types_whatever_their_case(kitti: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("car: vehicle\nVAN: vehicle\n")
    found = convert(str(kitti), tmp_path / "coco", classes=tmp_path / "classes.yaml")
    assert found["classes"] == {"vehicle": 1}
    (tmp_path / "classes.yaml").write_text("car: vehicle\n")
    found = convert(str(kitti), tmp_path / "other", classes=tmp_path / "classes.yaml")
    assert found["left_out"] == {"DontCare": 8, "Van": 8}


def test_no_validation_part_when_none_is_asked_for(kitti: Path, tmp_path: Path) -> None:
    assert convert(str(kitti), tmp_path / "coco", val_share=0)["val"] == 0
    assert written(tmp_path / "coco").keys() == {"train"}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("0000/label_2/000001.txt", "Car 1 2 3", "000001.txt:1: a KITTI line must have 15 fields, but got 4"),
        ("0000/label_2/000001.txt", CAR.replace("587.01", "x"), "must be numbers, but got 'x'"),
        ("0000/label_2/000001.txt", line("Car", 9, 9, 3, 12), "left <= right and top <= bottom must hold"),
        ("0000/label_2/000001.txt", line("Car", 9, 9, float("nan"), 12), "must hold"),
        (
            "0000/label_2/000001.txt",
            f"{CAR} {CAR}",
            "000001.txt:1: a KITTI line must have 15 fields, but got 30",
        ),
        ("0000/label_2/stray.txt", CAR, "stray.txt: no image of that name"),
        ("0001/image_2/000002.png", "", "000002.png: cannot be read as an image"),
    ],
)
def test_what_is_broken_is_named_by_file_and_line_and_nothing_is_written(
    kitti: Path, tmp_path: Path, file: str, text: str, message: str
) -> None:
    (kitti / file).write_text(text)
    with pytest.raises(UserError) as caught:
        convert(str(kitti), tmp_path / "coco")
    assert message in str(caught.value)
    assert not (tmp_path / "coco").exists()
    assert not list(tmp_path.glob(".coco*"))


def test_all_broken_lines_are_told_at_once(kitti: Path, tmp_path: Path) -> None:
    for n in range(3):
        (kitti / "0000" / "label_2" / f"{n:06}.txt").write_text("Car\n\nCar 1\n")
    (kitti / "0001" / "label_2" / "000000.txt").unlink()
    with pytest.raises(UserError, match="and 2 more") as caught:
        convert(str(kitti), tmp_path / "coco")
    assert str(caught.value).count("\n") == 5


def test_refusals(kitti: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for share, target, source, message in (
        (1.0, "new", kitti, "must be in [0, 1)"),
        (0.2, "full", kitti, "is not empty"),
        (0.2, "new", tmp_path / "full", "no folder holds image_2"),
        (0.2, "new", tmp_path / "none", "none"),
    ):
        with pytest.raises(UserError) as caught:
            convert(str(source), tmp_path / target, val_share=share)
        assert message in str(caught.value)


def test_objects_that_are_left_out_are_counted(kitti: Path, tmp_path: Path) -> None:
    label = kitti / "0000/label_2/000001.txt"
    more = (line("Car", 5000, 9, 5010, 12), line("Car", 9, 9, 9, 12), line("dontcare", 1, 1, 5, 5))
    label.write_text("\n".join([label.read_text(), *more]))
    found = convert(str(kitti), tmp_path / "coco")
    assert found["left_out"]["objects without extent in their image"] == 2
    assert found["left_out"]["dontcare"] == 1
    assert "dontcare" not in found["classes"]
