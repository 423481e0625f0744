"""Images that no split has are counted by folder, whatever the layout, with the labels that lie there for them."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from model.data import unused
from model.data.check import inspect
from model.errors import number_of
from model.spec import default_spec
from tests.model.data.drawn import LAYOUTS, Drawn, coco, put, voc_xml, yolo_lines

pytestmark = pytest.mark.usefixtures("cache")


def said(place: Path) -> list[str]:
    """What the check says of images that are not used."""
    found = inspect(default_spec("train"), str(place), work_dir=place.parent / "work")
    return [w for w in found["warnings"] if "not used" in w or "not read" in w]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def add(root: Path, pictures: tuple[Path, Drawn], place: str, labels: str = "", form: str = ".txt") -> None:
    """Pictures under new names at `place`, with label files of a form at `labels`."""
    (root / place).mkdir(parents=True, exist_ok=True)
    for n in (0, 3, 4):
        shutil.copy(pictures[0] / f"train_{n}.png", root / place / f"new_{n}.png")
        if labels:
            picture = pictures[1]["train"][n]
            text = voc_xml(picture) if form == ".xml" else yolo_lines(picture)
            put(root / labels / f"new_{n}{form}", text)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    ("place", "labels"), [("images", "labels"), ("images/more", "labels/more"), ("images/t", "")]
)
def test_images_around_those_of_a_configuration(
    place: str, labels: str, alone: bool, root: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["YOLO"][0](root, *pictures)
    add(root, pictures, place, labels)
    there = f", though 3 label files for them are there, such as {labels}/new_0.txt" if labels else ""
    assert said(root / "data.yaml" if alone else root) == [
        f"{root / place}: not read, data.yaml does not name its 3 images{there}"
    ]


def test_images_that_the_list_of_a_configuration_leaves_out(root: Path, pictures: tuple[Path, Drawn]) -> None:
    LAYOUTS["YOLO of CVAT"][0](root, *pictures)
    assert said(root) == []
    add(root, pictures, "obj_val_data", "obj_val_data")
    assert said(root) == [
        f"{root}/obj_val_data: 3 images that obj.data does not name, such as new_0.png, not used, though 3 label files "
        "for them are there, such as obj_val_data/new_0.txt"
    ]


@pytest.mark.parametrize(("place", "form"), [("Other", ".xml"), ("segmentation_project", ".xml")])
def test_labelled_images_beside_those_of_lists(
    place: str, form: str, root: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["VOC"][0](root, *pictures)
    add(root, pictures, f"VOCdevkit/VOC2012/{place}", f"VOCdevkit/VOC2012/{place}", form)
    (line,) = said(root)
    assert "3 images with labels in no list" in line or "3 label files for them are there" in line


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["images", "images/more", ""])
def test_images_that_a_coco_file_does_not_list(
    place: str, packed: bool, root: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["CVAT"][0](root, *pictures)
    add(root, pictures, place)
    if packed:
        with zipfile.ZipFile(root.with_suffix(".zip"), "w") as archive:
            for path in root.rglob("*"):
                archive.write(path, path.relative_to(root))
        root = root.with_suffix(".zip")
    what = (
        "3 images in no annotation file, such as new_0.png, not used"
        if place == "images"
        else "not read, no annotations belong to its 3 images"
    )
    assert said(root) == [f"{root / place}: {what}"]


def test_images_without_labels_in_no_list(root: Path, pictures: tuple[Path, Drawn]) -> None:
    LAYOUTS["YOLO of CVAT"][0](root, *pictures)
    (root / "obj.data").unlink()
    add(root, pictures, "obj_val_data")
    assert said(root) == [f"{root}/obj_val_data: 3 images of no split, such as new_0.png, not used"]


@pytest.mark.parametrize("layout", ["YOLO", "CVAT", "ours", "VOC", "KITTI"])
def test_what_is_no_picture_of_the_data_is_not_spoken_of(
    layout: str, root: Path, pictures: tuple[Path, Drawn], monkeypatch: pytest.MonkeyPatch
) -> None:
    LAYOUTS[layout][0](root, *pictures)
    monkeypatch.setenv("DETR_CACHE_DIR", str(root / "cache"))
    for place, name in (("masks", "train_0"), ("masks", "train_3_mask"), ("SegmentationClass", "train_4"),
                        ("thumbnails", "x"), ("cache/0/images", "y"), ("images/train", "train_preview")):  # fmt: skip
        (root / place).mkdir(parents=True, exist_ok=True)
        if "preview" not in name or layout != "YOLO":  # data.yaml names the whole folder
            shutil.copy(pictures[0] / "train_0.png", root / place / f"{name}.png")
    for link, target in (("again", "train_0.png"), ("with_links", "")):
        source = next(root.rglob("train_0.png"))
        (root / link).mkdir() if target else (root / link).symlink_to(source.parent)
        if target:
            (root / link / "x.png").symlink_to(source)
    assert [line for line in said(root) if "called like images" not in line] == []


def test_masks_of_no_image_and_labelled_ones_are_named(root: Path, pictures: tuple[Path, Drawn]) -> None:
    LAYOUTS["YOLO"][0](root, *pictures)
    add(root, pictures, "masks")
    add(root, pictures, "with_mask", "with_mask")
    one, two = said(root)
    assert one.startswith(f"{root}/with_mask: ")
    assert "3 label files" in one
    assert two == f"{root}/masks: not read, data.yaml does not name its 3 images"


def test_folders_beyond_the_first_are_counted(root: Path, pictures: tuple[Path, Drawn]) -> None:
    LAYOUTS["YOLO"][0](root, *pictures)
    for n in range(7):
        add(root, pictures, f"{n}", f"{n}" if n > 5 else "")
    lines = said(root)
    assert "label files" in lines[0]
    assert lines[5:] == [f"... and 2 more folders with {number_of(6, 'image')} that are not used"]


def test_what_a_parted_file_lists_is_told_once(root: Path, pictures: tuple[Path, Drawn]) -> None:
    LAYOUTS["CVAT"][0](root, *pictures)
    for split in ("train", "val"):
        put(root / f"{split}.txt", "".join(f"{p.name}\n" for p in pictures[1][split]))
    assert [line for line in said(root) if "images in" in line] == [
        f"{root}/annotations/instances_default.json: 2 images in no split, not used"
    ]
    add(root, pictures, "images")
    assert f"{root}/images: 3 images in no annotation file, such as new_0.png, not used" in said(root)


def test_labels_of_images_in_use_are_nobody_elses(root: Path, pictures: tuple[Path, Drawn]) -> None:
    LAYOUTS["YOLO"][0](root, *pictures)
    shutil.copytree(root / "images/train", root / "images/again")
    assert said(root) == [f"{root}/images/again: not read, data.yaml does not name its 6 images"]


def test_sources_of_a_spec(root: Path, pictures: tuple[Path, Drawn]) -> None:
    LAYOUTS["ours"][0](root, *pictures)
    add(root, pictures, "train/images")
    add(root, pictures, "elsewhere")
    put(root / "other.json", coco(pictures[1]["val"]))
    spec = default_spec("train")
    for split, json_file in (("train", "train/annotations.json"), ("val", "other.json")):
        spec["dataset"][f"{split}_data_sources"] = [
            {"image_dir": str(root / split / "images"), "json_file": str(root / json_file)}
        ]
    told = inspect(spec, work_dir=root.parent / "work")["warnings"]
    assert [line for line in told if "not used" in line or "not read" in line] == [
        f"{root}/train/images: 3 images in no annotation file, such as new_0.png, not used"
    ]


def test_a_photo_without_labels_beside_those_that_have_some_is_used(
    root: Path, pictures: tuple[Path, Drawn]
) -> None:
    """Also where no folder lies above them."""
    for n in (0, 1, 3):
        picture = pictures[1]["train"][n]
        put(root / f"{picture.stem}.xml", voc_xml(picture))
        shutil.copy(pictures[0] / picture.name, root)
    shutil.copy(pictures[0] / "train_4.png", root)
    assert said(root) == []
    found = inspect(default_spec("train"), str(root), work_dir=root.parent / "work")
    assert sum(found["facts"][split]["images"] for split in ("train", "val")) == 4


@pytest.mark.parametrize("place", ["cache", "."])
@pytest.mark.parametrize("layout", ["VOC", "CVAT"])
def test_a_cache_within_the_data_is_no_part_of_them(
    layout: str, place: str, root: Path, pictures: tuple[Path, Drawn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where it lies, be it the data's own folder, nor where it did before its place was changed."""
    LAYOUTS[layout][0](root, *pictures)
    first = inspect(default_spec("train"), str(root), work_dir=root.parent / "work")
    for folder in (root / place, root / place, root.parent / "new"):
        monkeypatch.setenv("DETR_CACHE_DIR", str(folder))
        assert (
            inspect(default_spec("train"), str(root), work_dir=root.parent / "work")["facts"]
            == first["facts"]
        )


@pytest.mark.parametrize("layout", ["YOLO", "VOC"])
def test_labels_that_are_read_are_not_said_to_be_there_for_pictures_beside_them(
    layout: str, root: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS[layout][0](root, *pictures)
    labels = next(p for p in sorted(root.rglob("train_0.*")) if p.suffix in (".txt", ".xml")).parent
    for n in (0, 3, 4):
        shutil.copy(pictures[0] / f"train_{n}.png", labels)
    assert not [line for line in said(root) if "label file" in line]


def test_labels_of_many_folders_with_the_same_names_are_measured_by_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"{n:03d}" for n in range(50)]
    images = {f"/d/images/{s}": [f"{n}.jpg" for n in names] for s in range(20)}
    folders = images | {f"/d/labels/{s}": [f"{n}.txt" for n in names] for s in range(20)}
    calls: list[object] = []
    count = unused.both_ends
    monkeypatch.setattr(unused, "both_ends", lambda *of: calls.append(of) or count(*of))
    wanted = {f: names for f, names in images.items() if f in ("/d/images/0", "/d/images/1")}
    found = unused._labels(folders, images, wanted, {"/d/labels/1": {"000.txt"}})
    assert found == {
        (f"/d/images/{s}", f"{n}.jpg"): f"/d/labels/{s}/{n}.txt" for s in (0, 1) for n in names[s:]
    }
    assert len(calls) <= 20 * 20


def test_folders_that_are_called_like_those_of_a_cache_are_read(
    root: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["ours"][0](root, *pictures)
    for place in (f"looks/{'b' * 32}", f"converted/{'a' * 32}"):
        add(root, pictures, place)
    assert {line.split(": ")[0] for line in said(root)} == {
        f"{root}/looks/{'b' * 32}", f"{root}/converted/{'a' * 32}"
    }  # fmt: skip
