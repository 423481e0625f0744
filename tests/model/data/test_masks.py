"""Folders whose names speak of masks or annotations: pictures that are labels, or photos of people with masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.check import inspect
from model.data.layouts import in_place
from model.data.paths import find_images
from model.data.tree import Tree
from model.errors import UserError
from model.spec import default_spec
from tests.model.data.drawn import Picture, put, seen, voc_xml

pytestmark = pytest.mark.usefixtures("cache")
LINE = "0 0.5 0.5 0.2 0.25"


def photo(path: Path, colours: int = 256) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(path.name))
    pixels = random.integers(0, colours, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels if colours > 2 else pixels * 255).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["with_mask", "mask", "annotated", "segmentation_project"])
def test_images_that_no_other_is_called_like_are_images(name: str, root: Path) -> None:
    put(root / "classes.txt", "m\n")
    for stem, folder in (("a", name), ("b", name), ("c", "bare")):
        photo(root / f"images/{folder}/{stem}.png")
        put(root / f"labels/{stem}.txt", LINE)
    data = in_place(str(root))
    assert {stem: len(boxes) for stem, boxes in seen(data)["train"].items()} == {"a": 1, "b": 1, "c": 1}
    (root / "labels/a.txt").unlink()
    put(root / "xml/a.xml", voc_xml(Picture("a", (("m", 1, 1, 5, 5),))))
    with pytest.raises(
        UserError, match="has no labels where YOLO has them, but .*a.xml looks like its labels"
    ):
        in_place(str(root))


@pytest.mark.parametrize("name", ["segmentation_project", "annotated", "mask_on"])
def test_voc_in_such_a_folder(name: str, root: Path) -> None:
    for path in (f"{name}/a", f"{name}/b", "x/c"):
        photo(root / f"{path}.png")
        put(root / f"{path}.xml", voc_xml(Picture(path[-1], (("m", 1, 1, 5, 5),))))
    assert set(seen(in_place(str(root)))["train"]) == {"a", "b", "c"}


@pytest.mark.parametrize("name", ["batch2_annotated", "masks"])
def test_images_that_are_not_named_are_told(name: str, root: Path) -> None:
    put(root / "data.yaml", "train: images/train\nval: images/val\nnames: [m]\n")
    for path in ("train/a", "val/b"):
        photo(root / f"images/{path}.png")
        put(root / f"labels/{path}.txt", LINE)
    photo(root / name / "c.png")
    put(root / name / "c.txt", LINE)
    warnings = inspect(default_spec("train"), str(root), work_dir=root.parent)["warnings"]
    assert any(f"{name}: not read, data.yaml does not name" in warning for warning in warnings)


@pytest.mark.parametrize("name", ["masks", "SegmentationClass", "train_masks", "car_masks", "annotated"])
def test_masks_of_images_are_none(name: str, root: Path) -> None:
    put(root / "classes.txt", "m\n")
    for stem in "abc":
        photo(root / f"photos/{stem}.jpg")
        photo(root / name / f"{stem}.png", 2)
        put(root / f"labels/all/{stem}.txt", LINE)
    assert Tree.read(root).masks == {f"{name}/{stem}.png" for stem in "abc"}
    assert set(seen(in_place(str(root)))["train"]) == set("abc")
    warnings = inspect(default_spec("train"), str(root), work_dir=root.parent)["warnings"]
    assert not [warning for warning in warnings if f"/{name}:" in warning]


def test_which_of_two_photos_is_meant_is_asked(root: Path) -> None:
    put(root / "classes.txt", "m\n")
    for stem in "abc":
        photo(root / f"photos/with_mask/{stem}.png")
        photo(root / f"photos/bare/{stem}.png")
        put(root / f"labels/all/{stem}.txt", LINE)
    with pytest.raises(UserError, match="may belong to"):
        in_place(str(root))


@pytest.mark.parametrize("colours", [2, 256])
@pytest.mark.parametrize("folder", ["with_mask", "masks"])
def test_an_image_of_another_suffix_is_a_photo(folder: str, colours: int, root: Path) -> None:
    photo(root / folder / "a.png", colours)
    (found,) = find_images(root, ["a.jpg"])
    assert found.is_file() == (folder == "with_mask" and colours > 2)
