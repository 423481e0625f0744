"""Which picture a label file of Pascal VOC is of, where several have its name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.label_files import LabelFiles
from model.data.layouts import READERS, in_place
from model.data.tree import Tree
from model.errors import UserError
from tests.model.data.drawn import SIZE, Drawn, Picture, every, put, seen, voc_xml

pytestmark = pytest.mark.usefixtures("cache")

LOOK_ALIKES = ["trimaps", "overlay", "preview", "vis", "annotated", "depth", "thermal", "crops", "small"]


def photo(pictures: tuple[Path, Drawn], picture: Picture, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(pictures[0] / picture.name, path)


def look_alike(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(path.name.encode())
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def label(root: Path, place: str, picture: Picture, **said: str) -> None:
    text = voc_xml(picture)
    for tag, value in said.items():
        text = re.sub(f"<{tag}>.*?</{tag}>", "", text)
        text = text.replace("<annotation>", f"<annotation><{tag}>{value}</{tag}>")
    put(root / place / f"{picture.stem}.xml", text)


def dataset(root: Path, pictures: tuple[Path, Drawn], images: str, labels: str, **said: str) -> list[Picture]:
    drawn = [p for p in pictures[1]["train"] if p.boxes]
    for picture in drawn:
        photo(pictures, picture, root / images / picture.name)
        told = {tag: value.format(name=picture.name) for tag, value in said.items()}
        label(root, labels, picture, **told)
    return drawn


def images_read(root: Path) -> tuple[set[str], tuple[str, ...]]:
    found = READERS[1](Tree.read(root))
    assert isinstance(found, LabelFiles)
    pairs = [pair for listed in found.splits.values() for pair in listed]
    return {image.relative_to(root).as_posix() for image, _ in pairs}, found.notes


def assert_only(root: Path, folder: str, drawn: list[Picture]) -> None:
    images, _ = images_read(root)
    assert images == {f"{folder}/{p.name}".lstrip("/") for p in drawn}
    boxes = seen(in_place(str(root)))["train"]
    assert {stem: len(b) for stem, b in boxes.items()} == {p.stem: len(p.boxes) for p in drawn}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("look", LOOK_ALIKES)
@pytest.mark.parametrize("labels", ["annotations/xmls", "annotations", "xml"])
def test_pictures_beside_the_labels_are_not_their_images(
    labels: str, look: str, suffix: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    drawn = dataset(tmp_path, pictures, "images", labels)
    home = labels.split("/")[0]
    for picture in drawn:
        look_alike(tmp_path / home / look / f"{picture.stem}{suffix}", (40, 30) if look == "small" else SIZE)
    assert_only(tmp_path, "images", drawn)
    assert any(
        f"{home}/{look}: {len(drawn)} pictures called like" in note for note in images_read(tmp_path)[1]
    )


@pytest.mark.parametrize("folder", ["annotations", "images", "masks", "labels"])
def test_masks_in_any_folder_are_no_images(folder: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    drawn = dataset(tmp_path, pictures, "images", "annotations")
    for picture in drawn:
        look_alike(tmp_path / folder / f"{picture.stem}.bmp")
    assert_only(tmp_path, "images", drawn)


@pytest.mark.parametrize(
    "said", [{"folder": "raw"}, {"path": "/home/us/set/raw/{name}"}, {"path": r"D:\raw\{name}"}]
)
def test_what_the_labels_say_of_their_folder_counts(
    said: dict[str, str], tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    drawn = dataset(tmp_path, pictures, "raw", "labeled", **said)
    for picture in drawn:
        look_alike(tmp_path / "labeled/images_drawn" / picture.name)
    assert_only(tmp_path, "raw", drawn)


@pytest.mark.parametrize("said", [{}, {"folder": "elsewhere"}, {"filename": "{name}", "folder": ""}])
def test_pictures_that_cannot_be_told_apart_are_refused(
    said: dict[str, str], tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    drawn = dataset(tmp_path, pictures, "visible", "xml", **said)
    for picture in drawn:
        look_alike(tmp_path / "infrared" / picture.name)
    with pytest.raises(
        UserError, match="may be of any of infrared/train_0.png, visible/train_0.png, whose pictures"
    ):
        in_place(str(tmp_path))


def test_the_size_that_a_label_says_tells_a_copy(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    drawn = dataset(tmp_path, pictures, "full", "xml")
    for picture in drawn:
        look_alike(tmp_path / "half" / picture.name, (40, 30))
    assert_only(tmp_path, "full", drawn)


def test_equal_pictures_are_one(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    drawn = dataset(tmp_path, pictures, "one", "xml")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert_only(tmp_path, "one", drawn)


@pytest.mark.parametrize(
    "said", [{"filename": "train_0.png"}, {"filename": "{name}.jpg"}, {"filename": "x/{name}"}, {"filename": ""},
             {"folder": "train"}, {"folder": "cam0"}, {"path": "/x/cam0/{name}"}]
)  # fmt: skip
@pytest.mark.parametrize(
    "place", ["{}", "{}/images;{}/xml", "images/{};xml/{}", "JPEGImages/{};Annotations/{}"]
)
def test_what_tools_say_wrongly_changes_nothing(
    place: str, said: dict[str, str], tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    """The names and folders of before a tool renamed, moved and parted the images."""
    images, labels = (place.split(";") * 2)[:2]
    drawn = [p for p in every(pictures[1]) if p.boxes and p.stem != "train_0"][:4]
    for n, folder in enumerate(("cam0", "cam1")):
        for picture, like in zip(
            drawn, drawn[n:] + drawn[:n], strict=True
        ):  # other pictures of the same names
            photo(pictures, like, tmp_path / images.format(folder) / picture.name)
            told = {tag: value.format(name=picture.name) for tag, value in said.items()}
            label(tmp_path, labels.format(folder), picture, **told)
    found = READERS[1](Tree.read(tmp_path))
    assert found is not None
    pairs = [pair for listed in found.splits.values() for pair in listed]
    assert len(pairs) == 8
    for image, own in pairs:
        assert own is not None
        assert image.stem == own.stem
        assert ("cam0" in image.parts) == ("cam0" in own.parts)


def test_an_image_that_is_gone_is_not_its_look_alike(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    drawn = dataset(tmp_path, pictures, "images", "annotations/xmls")
    for picture in drawn:
        look_alike(tmp_path / "annotations/overlay" / picture.name)
    (tmp_path / "images" / drawn[0].name).unlink()
    with pytest.raises(UserError, match="its image is not there: annotations/overlay/.* is called like it"):
        in_place(str(tmp_path))


def test_labels_that_speak_of_another_picture_are_refused(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    drawn = dataset(tmp_path, pictures, "raw", "labeled", folder="raw")
    for picture in drawn:
        look_alike(tmp_path / "labeled" / picture.name)
    with pytest.raises(
        UserError, match="may be of labeled/.*, which lies nearest, or of raw/.* by its <folder>"
    ):
        in_place(str(tmp_path))


@pytest.mark.parametrize(
    "encoding", ["gbk", "GB2312", "big5", "utf-16", "latin-1", "utf-8-sig", "cp1251", "utf-8"]
)
def test_labels_in_the_encoding_that_they_declare(
    encoding: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    name = {"latin-1": "Löwe", "cp1251": "кот"}.get(encoding, "中文")
    drawn = dataset(tmp_path, pictures, "images", "annotations")
    for picture in drawn:
        path = tmp_path / f"annotations/{picture.stem}.xml"
        text = path.read_text(encoding="utf-8").replace("red car", name).replace("blue", name)
        declared = "utf-8" if encoding == "utf-8-sig" else encoding
        path.write_bytes(f'<?xml version="1.0" encoding="{declared}"?>\n{text}'.encode(encoding))
    boxes = seen(in_place(str(tmp_path)))["train"]
    assert {row[0] for rows in boxes.values() for row in rows} == {name}
    assert sum(map(len, boxes.values())) == sum(len(p.boxes) for p in drawn)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; bring its content back, or delete it"),
        (b" \n", "is empty; bring its content back, or delete it"),
        ("<annotation><folder>中文</folder></annotation>".encode("gbk"), "must be text in utf-8; save it in UTF-8"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "must be text in klingon, as it says itself; save"),
        (b'<?xml version="1.0" encoding="gbk"?><annotation>\xff</annotation>', "must be text in gbk, as it says"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation/>'.encode("utf-16"), "labels need no document type"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_read_say_what_to_do(
    content: bytes, message: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    dataset(tmp_path, pictures, "images", "annotations")
    (tmp_path / "annotations/train_0.xml").write_bytes(content)
    with pytest.raises(UserError, match=rf"train_0\.xml: {message}"):
        in_place(str(tmp_path))


@pytest.mark.parametrize("spare", ["annotations_backup", "Annotations", "backup/annotations"])
def test_copies_of_labels_are_noted(spare: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    drawn = dataset(tmp_path, pictures, "images", "annotations")
    shutil.copytree(tmp_path / "annotations", tmp_path / spare)
    assert_only(tmp_path, "images", drawn)
    said = f"not read, {len(drawn)} Pascal VOC label files of images whose labels are read as Pascal VOC"
    assert any(note.endswith(said) for note in in_place(str(tmp_path)).notes)


@pytest.mark.parametrize(("spare", "changed"), [("annotations_backup", True), ("val/annotations", False)])
def test_labels_that_differ_or_are_of_another_split_are_refused(
    spare: str, changed: bool, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    drawn = dataset(tmp_path, pictures, "images", "annotations")
    shutil.copytree(tmp_path / "annotations", tmp_path / spare)
    if changed:
        file = tmp_path / spare / f"{drawn[0].stem}.xml"
        file.write_text(file.read_text().replace("<ymin>", "<ymin>0"))
    with pytest.raises(UserError, match="its image images/.* is that of annotations/.*xml too; keep one"):
        in_place(str(tmp_path))
