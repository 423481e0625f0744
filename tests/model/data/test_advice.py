"""Mistakes in label files and their places, and what the message says to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from model.data.layouts import find_data, in_place
from model.errors import UserError
from model.spec import default_spec
from tests.model.data.drawn import LAYOUTS, Drawn, put

pytestmark = pytest.mark.usefixtures("cache")

YAML = "train: images/train\nval: images/val\ntest: images/test\nnames: [red car, blue]\n"


def refused(root: Path) -> str:
    with pytest.raises(UserError) as raised:
        in_place(str(root))
    return str(raised.value)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        (
            "0 0,5 0,5 0,1 0,1",
            "must have a decimal point, and blanks between them, but got '0 0,5 0,5 0,1 0,1'",
        ),
        ("0, 0.5, 0.5, 0.1, 0.1", "must have a decimal point, and blanks between them"),
        ("0,0.5,0.5,0.1,0.1", "must have a decimal point, and blanks between them"),
        ("blue 0.5 0.5 0.1 0.1", "a class must be its number in the list of names, from 0, but got 'blue"),
        ("1 2 30 2 30 40 1 40 blue 0", "is a line of DOTA"),
        ("1.5 2 30 2 30 40 1 40 blue", "is a line of DOTA"),
        ("0 0.5 0.5 0.1 0.1 45", "a sixth field may be a confidence, from 0 to 1, but got 45 in"),
        ("0 0.5 0.5 0.1 0.1 -0.3", "where it is an angle, give the upright box around the turned one"),
        ("0 0.5 0.5 0.1 0.1 nan", "a sixth field may be a confidence"),
        ("# made by us", "a class's number and 4 numbers or more, but got '# made by us'"),
    ],
)
def test_lines_that_are_no_yolo_labels(
    line: str, advice: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["YOLO"][0](tmp_path / "data", *pictures)
    put(tmp_path / "data/labels/train/train_0.txt", line)
    assert re.search(f"train_0.txt:1: .*{re.escape(advice)}", refused(tmp_path / "data"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("layout", ["YOLO", "KITTI"])
def test_labels_in_another_encoding(
    layout: str, encoding: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS[layout][0](tmp_path / "data", *pictures)
    label = next(p for p in sorted((tmp_path / "data").rglob("val_*.txt")) if p.stat().st_size)
    label.write_text(label.read_text(), encoding=encoding)
    assert f"{label.name}: must be text in UTF-8; save it so" in refused(tmp_path / "data")


@pytest.mark.parametrize(
    ("glued", "line"),
    [
        (YAML.replace(": ", ":"), 1), (YAML.replace("names: ", "names:"), 4), (YAML.replace("val: ", "val:"), 2),
        (YAML.replace("[red car, blue]", "\n  0:red car\n  1:blue"), 5),
    ],
)  # fmt: skip
def test_a_blank_missing_behind_a_colon(
    glued: str, line: int, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["YOLO"][0](tmp_path / "data", *pictures)
    put(tmp_path / "data/classes.txt", "red car\nblue\n")
    put(tmp_path / "data/data.yaml", glued)
    assert re.search(rf"; line {line}, '.*', needs a blank behind its colon", refused(tmp_path / "data"))


@pytest.mark.parametrize(
    ("entry", "meant"),
    [("Images/train", "images/train"), ("images\\Train", "images/train"), ("images/nothing", "")],
)
def test_folders_in_another_case(
    entry: str, meant: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["YOLO"][0](tmp_path / "data", *pictures)
    put(tmp_path / "data/data.yaml", YAML.replace("images/train", entry))
    message = refused(tmp_path / "data")
    assert f"{entry} is neither in" in message
    assert message.endswith(f"; did you mean {meant}?" if meant else "nor anywhere else")


@pytest.mark.parametrize("change", ["folder", "names"])
@pytest.mark.parametrize("named", [True, False])
def test_labels_that_no_image_takes(
    change: str, named: bool, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = tmp_path / "data"
    LAYOUTS["YOLO"][0](root, *pictures)
    if not named:
        (root / "data.yaml").rename(root / "data.yaml.old")
        put(root / "classes.txt", "red car\nblue\n")
    if change == "folder":
        (root / "labels").rename(root / "marks")
    else:
        for path in list((root / "labels").rglob("*.txt")):
            path.rename(path.with_name(f"L_{path.name}"))
    message = refused(root)
    assert (
        "labels/NAME.txt for images/NAME.jpg" in message or "looks like YOLO labels: these must be" in message
    )


@pytest.mark.parametrize("name", ["data.zip", "data.tar", "data.tar.gz"])
def test_archives_that_are_not_whole(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04" + bytes(90))
    assert "Copy or download it again" in refused(tmp_path / name)


# ---- labels that lie where they should, and are not read for another reason ---------------------------------------


@pytest.mark.parametrize("val", ["", "val: nowhere/images\n", "val:\n"])
def test_a_split_that_data_yaml_does_not_lead_to(
    val: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["YOLO"][0](tmp_path, *pictures)
    (config,) = tmp_path.glob("*.yaml")
    config.write_text(f"train: images/train\n{val}names: [red car, blue]\n")
    message = refused(tmp_path)
    assert f"; {config.name} names no images for val that are there: give it the place of these" in message
    assert message.endswith("such as val: images/val")
    assert "must be called" not in message


@pytest.mark.parametrize("layout", ["YOLO", "VOC by folder", "standard", "Roboflow", "ours"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_data_without_a_split_for_training(
    split: str, layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS[layout][0](tmp_path, pictures[0], {split: pictures[1][split], "test": pictures[1]["test"]})
    for config in tmp_path.glob("*.yaml"):
        config.unlink()
        put(tmp_path / "classes.txt", "red car\nblue\n")
    message = refused(tmp_path)
    said = " and ".join(sorted({split, "test"}, key=["test", "val"].index))
    assert f"are for {said} alone; give the folder that holds the others too" in message
    assert "must be called" not in message


def test_training_labels_of_another_form_than_those_for_validation(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    folder, drawn = pictures
    LAYOUTS["VOC by folder"][0](tmp_path, folder, {"train": drawn["train"]})
    LAYOUTS["Roboflow"][0](tmp_path, folder, {"val": drawn["val"]})
    message = refused(tmp_path)
    assert re.search(
        r"; va\w+/_annotations.coco.json is a COCO file, but the training images are read as Pascal VOC",
        message,
    )
    assert "`deformable_detr convert`, or name va" in message
    assert "must be called" not in message


@pytest.mark.parametrize(
    ("labels", "message"),
    [({"a": "# remark\n0 .5 .5 .1 .1", "b": "0 .5 .5 .1 .1", "c": "0 .5 .5 .1 .1"}, "a.txt:1: a label must be"),
     ({"a": "0 .5 .5 .1 .1", "b": "0 .5 .5 .1 .1", "c": "# remark"}, "c.txt:1: a label must be"),
     ({"a": "cat .5 .5 .1 .1", "b": "dog .5 .5 .1 .1", "c": ""}, "a.txt:1: a class must be its number"),
     ({"a": "a picture", "b": "0 .5 .5 .1 .1"}, "no training data"),
     ({"a": "a picture", "b": "another", "c": "0 .5 .5 .1 .1"}, "no training data")],
    ids=["first", "last", "names", "half", "one"],
)  # fmt: skip
def test_a_set_of_yolo_does_not_hang_on_its_first_file(
    labels: dict[str, str], message: str, tmp_path: Path
) -> None:
    for n, (stem, lines) in enumerate(labels.items()):
        (tmp_path / "data/images").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10), (n * 60, 7, 7)).save(tmp_path / f"data/images/{stem}.png")
        put(tmp_path / f"data/labels/{stem}.txt", lines)
    put(tmp_path / "data/classes.txt", "cat\ndog\n")
    with pytest.raises(UserError, match=re.escape(message)):
        find_data(default_spec("train"), str(tmp_path / "data"))
