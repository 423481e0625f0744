"""A part of a dataset given for the whole, and folders of labels that are empty."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from model.data.layouts import in_place
from model.errors import UserError
from tests.model.data.drawn import LAYOUTS, Drawn, put

pytestmark = pytest.mark.usefixtures("cache")
PARTS = {
    "VOC": ("VOCdevkit/VOC2012/Annotations", "VOCdevkit/VOC2012/JPEGImages", "Pascal VOC"),
    "YOLO": ("labels", "images", "YOLO"), "KITTI": ("train/label_2", "train/image_2", "KITTI"),
}  # fmt: skip


@pytest.mark.parametrize("layout", PARTS)
def test_labels_without_their_images(layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    labels, images, form = PARTS[layout]
    LAYOUTS[layout][0](tmp_path / "data", pictures[0], pictures[1])
    given = tmp_path / "data" / labels
    with pytest.raises(
        UserError, match=f"holds {form} labels and no images; give the folder above, "
    ) as told:
        in_place(str(given))
    assert f"above, {given.parent}, with the images in {images.rsplit('/', 1)[-1]}" in str(told.value)
    assert "take the label file away" not in str(told.value)
    shutil.move(given, tmp_path / "alone/labels")
    with pytest.raises(
        UserError, match=f"holds {form} labels and no images; give the folder that holds both"
    ):
        in_place(str(tmp_path / "alone/labels"))


@pytest.mark.parametrize(
    ("file", "text", "tool"),
    [
        ("classes.txt", "red car\nblue\n", ""), ("data.yaml", "names: [red car, blue]\n", ""), ("obj.names", "a\nb\n", ""),
        ("notes.json", '{"categories": [{"id": 0, "name": "red car"}]}', "; Label Studio exports both as 'YOLO with"),
    ],
)  # fmt: skip
def test_labels_and_their_classes_without_images(
    file: str, text: str, tool: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["YOLO"][0](tmp_path / "data", *pictures)
    shutil.rmtree(tmp_path / "data/images")
    (tmp_path / "data/images").mkdir()
    (tmp_path / "data/data.yaml").unlink()
    (tmp_path / "data" / file).write_text(text)
    with pytest.raises(
        UserError, match=f"holds YOLO labels and no images; give the folder that holds both{tool}"
    ):
        in_place(str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("layout", "name"),
    [("ours", "data.yaml"), ("VOC", "meta/a/b/config.yaml"), ("KITTI", "meta/a/b/config.yaml")],
)
def test_yaml_files_beside_other_formats_are_not_looked_at(
    layout: str, name: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS[layout][0](tmp_path / "data", *pictures)
    wanted = in_place(str(tmp_path / "data"))
    file = tmp_path / "data" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    for text in (
        "names: {cat: 1}\n",
        "names: [{id: 1}]\n",
        "nc: 91\nnames: [cat]\n",
        "a: [b\n",
        "names: [a]\nx: 1\nx: 2\n",
    ):
        file.write_text(text)
        assert in_place(str(tmp_path / "data")).sources == wanted.sources
    file.unlink()
    file.symlink_to("gone.yaml")
    assert in_place(str(tmp_path / "data")).sources == wanted.sources


@pytest.mark.parametrize("layout", PARTS)
def test_images_without_their_labels(layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    labels, images, _ = PARTS[layout]
    LAYOUTS[layout][0](tmp_path / "data", *pictures)
    given, beside = tmp_path / "data" / images, labels.rsplit("/", 1)[-1]
    with pytest.raises(UserError) as told:
        in_place(str(given))
    assert f"give the folder above, {given.parent}, with {beside}, which may hold their labels" in str(
        told.value
    )


def test_what_lies_beside_an_unpacked_archive_is_not_meant(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["VOC by folder"][0](tmp_path / "data", pictures[0], pictures[1])
    shutil.make_archive(str(tmp_path / "whole"), "zip", tmp_path / "data")
    in_place(str(tmp_path / "whole.zip"))
    for image in (tmp_path / "data").rglob("*.png"):
        image.unlink()
    shutil.make_archive(str(tmp_path / "labels"), "zip", tmp_path / "data")
    with pytest.raises(
        UserError, match="labels.zip: holds Pascal VOC labels and no images; give the folder that holds"
    ):
        in_place(str(tmp_path / "labels.zip"))


@pytest.mark.parametrize(
    ("layout", "suffix"), [("VOC", ".xml or .json"), ("KITTI", ".txt"), ("YOLO", ".xml or .txt")]
)
def test_folders_of_labels_that_are_empty(
    layout: str, suffix: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS[layout][0](tmp_path / "data", *pictures)
    for label in (tmp_path / "data").rglob("*"):
        if label.suffix in (".xml", ".txt", ".yaml"):
            label.unlink()
    name = PARTS[layout][0].rsplit("/", 1)[-1]
    with pytest.raises(UserError, match=rf"{name} holds no {suffix} file, which the labels would be"):
        in_place(str(tmp_path / "data"))


def test_a_neighbour_with_other_images_is_no_way_out(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    LAYOUTS["VOC"][0](tmp_path / "data", *pictures)
    shutil.move(tmp_path / "data/VOCdevkit/VOC2012/Annotations", tmp_path / "sets/labels")
    (tmp_path / "sets/another").mkdir()
    shutil.copy(next(pictures[0].glob("*.png")), tmp_path / "sets/another/0.png")
    with pytest.raises(UserError, match="give the folder that holds both"):
        in_place(str(tmp_path / "sets/labels"))


@pytest.mark.parametrize("layout", ["YOLO", "VOC", "KITTI", "ours", "one file"])
def test_a_neighbour_with_images_and_labels_is_a_dataset_of_its_own(
    layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS[layout][0](tmp_path / "sets/another", *pictures)
    pngs = sorted((tmp_path / "sets/another").rglob("*.png"))
    (tmp_path / "sets/mine/train/images").mkdir(parents=True)
    (tmp_path / "sets/labels").mkdir(parents=True)
    for png in pngs:
        shutil.copy(png, tmp_path / "sets/mine/train/images")
        (tmp_path / "sets/labels" / f"{png.stem}.txt").write_text("0 .5 .5 .2 .2\n")
    with pytest.raises(UserError, match="give the folder above, .*, with labels, which may"):
        in_place(str(tmp_path / "sets/mine"))
    with pytest.raises(UserError, match="give the folder above, .*, with the images in mine"):
        in_place(str(tmp_path / "sets/labels"))
    shutil.move(tmp_path / "sets/labels", tmp_path / "alone")
    with pytest.raises(UserError, match="images for train, but no such annotation file") as told:
        in_place(str(tmp_path / "sets/mine"))
    assert "folder above" not in str(told.value)
    shutil.rmtree(tmp_path / "sets/mine")
    shutil.move(tmp_path / "alone", tmp_path / "sets/labels")
    with pytest.raises(UserError, match="holds YOLO labels and no images; give the folder that holds both"):
        in_place(str(tmp_path / "sets/labels"))


@pytest.mark.parametrize("names", ["of these", "of others"])
def test_a_coco_file_beside_images_is_meant_where_it_names_them(
    names: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["standard"][0](tmp_path / "data", *pictures)
    images = next(p.parent for p in (tmp_path / "data").rglob("*.png") if p.name.startswith("train"))
    for n, png in enumerate(sorted(images.glob("*.png"))):
        png.rename(images / (png.name if names == "of these" else f"x{n}.png"))
    with pytest.raises(UserError) as told:
        in_place(str(images))
    assert ("with annotations, which may hold their labels" in str(told.value)) == (names == "of these")


def test_a_few_images_of_the_same_names_are_not_those_of_the_labels(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for n in range(30):
        (tmp_path / f"labels/{n}.txt").write_text("0 .5 .5 .2 .2\n")
    (tmp_path / "icons").mkdir()
    (tmp_path / "icons/1.png").touch()
    with pytest.raises(UserError, match="give the folder that holds both"):
        in_place(str(tmp_path / "labels"))


@pytest.mark.parametrize(
    ("folder", "name", "text", "said"),
    [
        ("annotations", "{}.txt", "0 0.5 0.5 0.1 0.1", "annotations/0.txt looks like YOLO labels: these must be called"),
        ("Annotations", "{}.txt", "12 30 90 80 1", "Annotations/0.txt has boxes in pixels: a line of YOLO must be a class"),
        ("Annotations", "{}.jpg.txt", "1\n2 30 90 80 95", "Annotations holds Annotations/0.jpg.txt and 2 more, but no .xml or"),
        ("Annotations", "deep/{}.csv", "Filename;Tag", "Annotations holds Annotations/deep/0.csv and 2 more, but no .xml or"),
        ("labels", "{}.json", '{"children": []}', "labels holds labels/0.json and 2 more, but no .xml or .txt file, which"),
        ("annotations", "{}.png", "", "annotations holds no .xml or .json file, which the labels would be"),
    ],
)  # fmt: skip
def test_what_a_folder_for_labels_holds_instead_is_said(
    folder: str, name: str, text: str, said: str, tmp_path: Path
) -> None:
    for n in range(3):
        put(tmp_path / f"images/{n}.jpg", "")
        put(tmp_path / folder / name.format(n), text)
    with pytest.raises(UserError, match=f"; {re.escape(said)}"):
        in_place(str(tmp_path))
