"""KITTI -> COCO with what only KITTI has: the splits that are named, every label line accounted for, the same bytes
for the same seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model.actions.export_dataset import write
from model.cli import app, guarded
from model.data.check import inspect
from model.data.convert_kitti import Options, read_classes
from model.data.no_classes import LEFT_OUT
from model.errors import UserError
from model.spec import default_spec

pytestmark = pytest.mark.usefixtures("cache")
CAR = "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))


def line(kind: str, *box: float) -> str:
    return f"{kind} 0.00 0 0.00 {' '.join(map(str, box))} 0 0 0 0 0 0 0"


def sequence(folder: Path, images: str = "image_2", labels: str = "label_2", shade: int = 0) -> None:
    """Five 40x30 pictures; picture 4 has no object."""
    for n in range(5):
        path = folder / images / f"{n:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (n, shade, n)).save(path)
        lines = [line("Van", 1, 2, 11, 12), line("Car", 5, 5, 39, 20), line("DontCare", 0, 0, 9, 9)]
        path = folder / labels / f"{n:06}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) if n < 4 else "")


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    for n in range(2):
        sequence(tmp_path / f"kitti/{n:04}", shade=n)
    return tmp_path / "kitti"


def convert(source: Path, target: Path, share: float = 0.2, by_folder: bool = False, **options: Any) -> Any:
    return write(str(source), target, share, kitti=Options(**options), by_folder=by_folder)


def written(folder: Path) -> dict[str, dict[str, Any]]:
    return {p.name: json.loads((p / "annotations.json").read_text()) for p in sorted(folder.iterdir())}


def test_every_image_is_in_one_part_and_every_box_with_it(kitti: Path, tmp_path: Path) -> None:
    found = convert(kitti, tmp_path / "coco", 0.3)
    parts = written(tmp_path / "coco")
    assert found["splits"] == {"train": 7, "val": 3}
    pictures = {
        p.read_bytes() for part in parts for p in (tmp_path / "coco" / part / "images").rglob("*.png")
    }
    assert pictures == {p.read_bytes() for p in kitti.rglob("*.png")}
    assert found["classes"] == {"Car": 1, "Van": 2}  # alphabetical, from 1
    assert f"KITTI: 8 {LEFT_OUT}" in found["notes"]
    boxes = [a for part in parts.values() for a in part["annotations"]]
    assert len(boxes) == 16
    assert {tuple(a["bbox"]) for a in boxes} == {(1, 2, 10, 10), (5, 5, 34, 15)}


OPTIONS = [{}, {"classes": {"Car": "vehicle"}}, {"image_dir": "image_2", "label_dir": "label_2"}]


@pytest.mark.parametrize("options", OPTIONS)
def test_the_splits_are_those_that_folders_name(options: dict[str, Any], tmp_path: Path) -> None:
    for n, split in enumerate(("train", "val", "test")):
        sequence(tmp_path / "data" / split, shade=n)
    found = convert(tmp_path / "data", tmp_path / "coco", by_folder=True, **options)
    assert found["splits"] == {"train": 5, "val": 5, "test": 5}
    for n, split in enumerate(("train", "val", "test")):
        (one, *_) = sorted((tmp_path / "coco" / split / "images").rglob("*.png"))
        assert Image.open(one).getpixel((0, 0))[1] == n


@pytest.mark.parametrize("options", OPTIONS)
def test_the_splits_are_those_of_the_lists(options: dict[str, Any], tmp_path: Path) -> None:
    sequence(tmp_path / "data")
    for split, numbers in (("train", "012"), ("val", "34")):
        path = tmp_path / "data/ImageSets" / f"{split}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(f"00000{n}" for n in numbers))
    assert convert(tmp_path / "data", tmp_path / "coco", **options)["splits"] == {"train": 3, "val": 2}


def test_folders_of_other_names(tmp_path: Path) -> None:
    sequence(tmp_path / "data", "left", "truth")
    with pytest.raises(UserError, match="no folder holds image_2 or .* beside label_2 or"):
        convert(tmp_path / "data", tmp_path / "coco")
    found = convert(tmp_path / "data", tmp_path / "coco", image_dir="left", label_dir="truth")
    assert sum(found["splits"].values()) == 5


def test_the_result_is_a_dataset_that_can_be_trained_on(kitti: Path, tmp_path: Path) -> None:
    convert(kitti, tmp_path / "coco")
    spec = default_spec("train")
    spec["dataset"]["batch_size"] = 2
    found = inspect(spec, str(tmp_path / "coco"), work_dir=tmp_path / "work")
    assert found["problems"] == []
    assert found["fill"]["dataset.num_classes"] == 3


def test_whole_sequences_are_held_out_when_asked(kitti: Path, tmp_path: Path) -> None:
    found = convert(kitti, tmp_path / "coco", 0.1, by_folder=True)
    assert found["splits"] == {"train": 5, "val": 5}
    shades = {
        split: {Image.open(p).getpixel((0, 0))[1] for p in (tmp_path / "coco" / split).rglob("*.png")}
        for split in ("train", "val")
    }
    assert len(shades["train"]) == len(shades["val"]) == 1
    assert shades["train"] != shades["val"]
    with pytest.raises(UserError, match="all lie in one folder"):
        convert(kitti / "0000", tmp_path / "one", by_folder=True)


def test_a_mapping_joins_and_drops_types_whatever_their_case(kitti: Path, tmp_path: Path) -> None:
    classes = tmp_path / "classes.yaml"
    classes.write_text("car: vehicle\nVAN: vehicle\n")
    assert convert(kitti, tmp_path / "a", classes=read_classes(classes))["classes"] == {"vehicle": 1}
    classes.write_text("car: vehicle\n")
    found = convert(kitti, tmp_path / "b", classes=read_classes(classes))
    assert found["classes"] == {"vehicle": 1}
    assert "KITTI: 8 objects of Van left out" in found["notes"]
    with pytest.raises(UserError, match="no object has a class to keep; types found: Car, Van"):
        convert(kitti, tmp_path / "c", classes={"boat": "boat"})
    classes.write_text("- car\n")
    with pytest.raises(UserError, match="must be a mapping of KITTI types to class names"):
        read_classes(classes)


def test_no_validation_part_when_none_is_asked_for(kitti: Path, tmp_path: Path) -> None:
    assert convert(kitti, tmp_path / "coco", 0)["splits"] == {"train": 10}
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
        ("0000/label_2/000001.txt", "\n".join([line("Car", 5, 5, 50, 20)] * 9), "9 boxes beyond the border"),
    ],
)
def test_what_is_broken_is_named_by_file_and_line_and_nothing_is_written(
    kitti: Path, tmp_path: Path, file: str, text: str, message: str
) -> None:
    (kitti / file).write_text(text)
    with pytest.raises(UserError) as caught:
        convert(kitti, tmp_path / "coco")
    assert message in str(caught.value)
    assert not (tmp_path / "coco").exists()
    assert not list(tmp_path.glob(".coco*"))


def test_the_command_takes_leaves_beside_the_options(
    kitti: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "classes.yaml").write_text("car: vehicle\n")
    label = kitti / "0000/label_2/000001.txt"
    label.write_text("\n".join([label.read_text(), line("Car", 9, 9, 9, 12), line("dontcare", 1, 1, 5, 5)]))
    words = ["convert", str(kitti), str(tmp_path / "coco"), "--classes", str(tmp_path / "classes.yaml")]

    def run(*more: str) -> int:
        return guarded(lambda: app([*words, *more], standalone_mode=False))

    assert run("dataset.strickt=true") == 2
    assert run("--by-sequence", "dataset.mended_share=0.2") == 0
    out = capsys.readouterr().out
    for note in ("9 objects called DontCare", "8 objects of Van", "1 empty box", "classes: 1 vehicle"):
        assert note in out


def test_the_options_are_of_kitti_alone(kitti: Path, tmp_path: Path) -> None:
    for label in kitti.rglob("*.txt"):
        label.write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(UserError, match=r"000000\.txt: holds no KITTI labels"):
        convert(kitti, tmp_path / "coco", classes={"car": "car"})
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="the options of KITTI go with a folder"):
        convert(tmp_path / "x.json", tmp_path / "coco")
    with pytest.raises(UserError, match="none"):
        convert(tmp_path / "none", tmp_path / "coco")
