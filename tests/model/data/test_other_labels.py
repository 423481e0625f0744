"""Labels that a layout does not read: of images that would become background, of images left out, second ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from model.data.layouts import in_place
from model.data.other_labels import form_of
from model.errors import UserError
from tests.model.data.drawn import LAYOUTS, Drawn, Picture, coco, put, seen, voc_xml, yolo_lines
from tests.model.data.test_image_sets import FLAT
from tests.model.data.test_layouts import assert_same

pytestmark = pytest.mark.usefixtures("cache")


def kitti_lines(picture: Picture) -> str:
    return "".join(
        f"{c} 0.0 0 -1 {x} {y} {x + w} {y + h} -1 -1 -1 -1 -1 -1 -1\n" for c, x, y, w, h in picture.boxes
    )


def labelme(picture: Picture) -> str:
    shapes = [
        {"label": c, "points": [[x, y], [x + w, y + h]], "shape_type": "rectangle"}
        for c, x, y, w, h in picture.boxes
    ]
    return json.dumps({"version": "5", "shapes": shapes, "imagePath": picture.name})


# form -> (suffix, one picture's labels)
FORMS: dict[str, tuple[str, Callable[[Picture], str]]] = {
    "YOLO": ("txt", yolo_lines), "Pascal VOC": ("xml", voc_xml), "KITTI": ("txt", kitti_lines), "Labelme": ("json", labelme),
}  # fmt: skip
PLACES = [
    "labels/sub/{}",
    "../labels/{}",
    "labels2/{}",
    "Annotations of Ann/{}",
    "{}",
    "x/y/z/{}",
    "LABELS_2/0a1b2c3d-{}",
]


def unlabel(root: Path, picture: Picture) -> None:
    """Take a picture's own labels away."""
    own = [p for p in root.rglob(f"{picture.stem}.*") if p.suffix in (".txt", ".xml")]
    assert len(own) == 1
    own[0].unlink()


def whole(root: Path, layout: str, pictures: tuple[Path, Drawn]) -> list[Picture]:
    """A dataset of labelled pictures alone."""
    drawn = [p for p in pictures[1]["train"] if p.boxes]
    FLAT[layout](root, pictures[0], {"train": drawn})
    return drawn


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", FLAT)
def test_labelled_images_are_no_background(
    layout: str, form: str, place: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = tmp_path / "data/of us"
    drawn = whole(root, layout, pictures)
    unlabel(root, drawn[2])
    put(tmp_path / "data/made by.md", "")  # the folder above is what is given
    suffix, write = FORMS[form]
    put(root / f"{place.format(drawn[2].stem)}.{suffix}", write(drawn[2]))
    try:
        found = seen(in_place(str(tmp_path / "data")))["train"]
    except UserError as error:
        assert drawn[2].stem in str(error) or "has no labels where Pascal VOC has them" in str(error)  # noqa: PT017
    else:
        assert len(found[drawn[2].stem]) == len(drawn[2].boxes)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", ["ours", "Roboflow", "CVAT", "FiftyOne"])
def test_labels_beside_coco(layout: str, form: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root, drawn = tmp_path / "data", pictures[1]
    LAYOUTS[layout][0](root, *pictures)
    suffix, write = FORMS[form]
    for picture in drawn["train"]:
        if picture.boxes:
            put(root / f"more/{picture.stem}.{suffix}", write(picture))
    data = in_place(str(root))
    assert_same(data, drawn, LAYOUTS[layout][2])
    assert any(
        f"more: not read, 5 {form} label files of images whose labels are read as" in n for n in data.notes
    )
    bare = next(p for p in drawn["train"] if not p.boxes)
    put(root / f"more/{bare.stem}.{suffix}", write(drawn["train"][0]))
    with pytest.raises(
        UserError, match=f"{bare.stem}.png: has no labels where .* 1 image would be taken as without"
    ):
        in_place(str(root))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", FLAT)
def test_labels_of_a_second_form_are_counted(
    layout: str, form: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = tmp_path / "data"
    drawn = whole(root, layout, pictures)
    suffix, write = FORMS[form]
    for picture in drawn[:3]:
        put(root / f"other/{picture.stem}.{suffix}", write(picture))
    try:
        data = in_place(str(root))
    except (
        UserError
    ) as error:  # the second is read first, and does not reach as far; or two files are one image's
        assert any(p.stem in str(error) for p in drawn)  # noqa: PT017
    else:
        assert sum(map(len, seen(data)["train"].values())) == sum(len(p.boxes) for p in drawn)
        assert any(f"other: not read, 3 {form} label files of images" in note for note in data.notes)


TEXTS = {
    "a caption": "a red car, 3 dogs and 12 people in the rain\n", "nothing": "", "attributes": "sunny 1 0 0 1\nwet 0 1 0 0\n",
    "numbers": "12.5 13.1 0 4 0 0\n", "calibration": "P0: 7.0 0 6.0 0 0 7.0 1.8 0 0 0 1 0\nTr: 1 0 0 0 0 1 0 0 0 0 1 0\n",
    "a number": "3\n", "words of numbers": "1 2 3\n",
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("layout", [*FLAT, "FiftyOne"])
def test_other_files_of_an_image_are_no_labels(
    layout: str, text: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root, drawn = tmp_path / "data", pictures[1]
    (FLAT.get(layout) or LAYOUTS[layout][0])(root, *pictures)
    before = in_place(str(root))
    for picture in drawn["train"]:
        put(root / f"about/{picture.stem}.txt", TEXTS[text])
        put(root / f"about/{picture.stem}.json", '{"weather": "wet", "shapes": []}')
        put(root / f"about/{picture.stem}.xml", "<photo><object/></photo>" if layout != "VOC" else "")
        if layout == "VOC":
            (root / f"about/{picture.stem}.xml").unlink()
        assert (
            form_of(root / f"about/{picture.stem}.txt") == form_of(root / f"about/{picture.stem}.json") == ""
        )
    after = in_place(str(root))
    assert seen(after) == seen(before)
    assert after.notes == before.notes


@pytest.mark.parametrize("first", ["Roboflow", "FiftyOne", "YOLO", "KITTI", "VOC by folder", "VOC"])
@pytest.mark.parametrize("second", ["Roboflow", "FiftyOne", "YOLO", "KITTI", "VOC by folder", "VOC"])
def test_two_datasets_side_by_side_are_one_or_refused(
    first: str, second: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    """Never half of them without a word."""
    for name, layout in (("A", first), ("B", second)):
        drawn: Drawn = {"train": [p for p in pictures[1]["train"] if p.boxes], "val": [], "test": []}
        drawn["train"] = drawn["train"][:3] if name == "A" else drawn["train"][3:]
        LAYOUTS[layout][0](tmp_path / "data" / name, pictures[0], drawn)
    try:
        found = seen(in_place(str(tmp_path / "data")))["train"]
    except UserError as error:
        assert str(tmp_path) in str(error)  # noqa: PT017
    else:
        assert len(found) == 5
        assert all(found.values())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("{}.png", "call it {}.txt"),
        ("0a1b2c3d-{}", "call it {}.txt"),
        ("{upper}", "call it {}.txt"),
        ("else", ""),
    ],
)
@pytest.mark.parametrize("layout", ["YOLO", "KITTI"])
def test_a_label_that_is_called_otherwise_than_its_image(
    layout: str, name: str, hint: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = tmp_path / "data"
    stem = whole(root, layout, pictures)[1].stem
    own = next(root.rglob(f"{stem}.txt"))
    own.rename(own.with_name(name.format(stem, upper=stem.upper()) + ".txt"))
    with pytest.raises(UserError, match=f"its image is not there.*{hint.format(stem)}"):
        in_place(str(root))


@pytest.mark.parametrize("form", ["YOLO", "Pascal VOC", "Labelme"])
@pytest.mark.parametrize("more", [False, True])
def test_images_in_the_same_folder_that_coco_does_not_name(
    form: str, more: bool, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    """They may be left out on purpose where the second form labels all, else they are another dataset."""
    root, drawn = tmp_path / "data", [p for p in pictures[1]["train"] if p.boxes]
    LAYOUTS["CVAT"][0](root, pictures[0], {"train": drawn})
    put(root / "annotations/instances_default.json", coco(drawn[:3]))
    suffix, write = FORMS[form]
    for picture in drawn if more else drawn[3:]:
        put(root / f"other/{picture.stem}.{suffix}", write(picture))
    if not more:
        with pytest.raises(UserError, match="3 images would be read as CVAT .* but not 2 other images"):
            in_place(str(root))
        return
    data = in_place(str(root))
    assert_same(data, {"train": drawn[:3]})
    assert f"images: 2 images that CVAT COCO export does not name have {form} labels" in "\n".join(data.notes)


def test_a_file_given_itself_is_meant_alone(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    drawn = [p for p in pictures[1]["train"] if p.boxes]
    LAYOUTS["YOLO"][0](tmp_path / "data", pictures[0], {"train": drawn[:3]})
    LAYOUTS["VOC by folder"][0](tmp_path / "data/more", pictures[0], {"train": drawn[3:]})
    with pytest.raises(UserError, match="3 images would be read as YOLO .* but not 2 other images"):
        in_place(str(tmp_path / "data"))
    assert_same(in_place(str(tmp_path / "data/data.yaml")), {"train": drawn[:3]})


@pytest.mark.parametrize("layout", ["YOLO", "YOLO by folder", "KITTI"])
def test_a_label_is_of_the_image_in_its_place_alone(
    layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    """Images of each split are numbered from 0, as many tools do."""
    root, names = tmp_path / "data", ("image_2", "label_2") if layout == "KITTI" else ("images", "labels")
    put(root / "classes.txt", "red car\nblue\n")
    if layout == "YOLO":
        put(root / "data.yaml", "train: train/images\nval: val/images\nnames: [red car, blue]\n")
    write = kitti_lines if layout == "KITTI" else yolo_lines
    drawn = [p for p in pictures[1]["train"] if p.boxes] + [p for p in pictures[1]["val"] if p.boxes]
    for n, picture in enumerate(drawn):
        for split, boxes in (("train", picture), ("val", drawn[n - 1])):
            put(root / split / names[1] / f"{n}.txt", write(boxes))
            (root / split / names[0]).mkdir(parents=True, exist_ok=True)
            shutil.copy(pictures[0] / boxes.name, root / split / names[0] / f"{n}.png")
    (root / f"train/{names[0]}/4.png").unlink()
    assert any("1 label file without an image left out" in note for note in in_place(str(root)).notes)
    (root / f"train/{names[0]}/5.png").unlink()
    with pytest.raises(UserError, match=r"train/label\w+/[45]\.txt: its image is not there; bring it back"):
        in_place(str(root))
    for n in (4, 5):  # copies of the labels of val are spare, but of images that are there
        shutil.copy(root / f"val/{names[1]}/{n}.txt", root / f"train/{names[1]}/{n}.txt")
    assert any("of images whose labels are read" in note for note in in_place(str(root)).notes)


def said_of_second_labels(root: Path, pictures: tuple[Path, Drawn], folder: str, same: bool) -> str:
    """The note on label files in `folder` that are those of images/train again, or of other ones."""
    drawn = [p for p in pictures[1]["train"] if p.boxes]
    put(root / "data.yaml", "train: images/train\nnames: [red car, blue]\n")
    for n, picture in enumerate(drawn):
        put(root / f"labels/train/{n}.txt", yolo_lines(picture))
        put(root / f"{folder}/{n}.txt", yolo_lines(drawn[n if same else n - 1]))
        (root / "images/train").mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures[0] / picture.name, root / f"images/train/{n}.png")
    (note,) = (n for n in in_place(str(root)).notes if f"{folder}: not read, 5 YOLO label files" in n)
    return note


@pytest.mark.parametrize("same", [True, False])
def test_labels_of_a_folder_that_is_gone_are_not_said_to_be_of_others(
    same: bool, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    note = said_of_second_labels(tmp_path / "data", pictures, "labels/test", same)
    assert ("5 of them unlike these: are they of images that are gone?" in note) != same


@pytest.mark.parametrize("folder", ["predictions", "predictions/train", "runs/1/labels"])
def test_predictions_are_not_said_to_be_of_images_that_are_gone(
    folder: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    note = said_of_second_labels(tmp_path / "data", pictures, folder, same=False)
    assert note.endswith("; 5 of them unlike these")
