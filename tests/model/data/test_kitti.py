"""Where the labels of KITTI may lie, and what is said of those that are not read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from model.data.check import inspect
from model.data.convert_kitti import Options
from model.data.layouts import in_place
from model.errors import UserError
from model.spec import default_spec
from tests.model.data.drawn import Drawn, kitti, put, seen
from tests.model.data.test_layouts import assert_same

pytestmark = pytest.mark.usefixtures("cache")
PLACES = {
    "image_2, label_2": "{split}/image_2 {split}/label_2", "images/train": "images/{split} labels/{split}",
    "in any case": "{split}/Images {split}/LABELS", "beside": "{split} {split}", "data": "{split}/data {split}/labels",
    "label of image": "{split}/image {split}/label", "deep": "{split}/image_2/a/b {split}/label_2/a/b",
    "apart": "images/all/{split} labels/{split}", "below": "{split} labels/{split}",
}  # fmt: skip


def laid(root: Path, pictures: tuple[Path, Drawn], place: str, suffix: str = ".txt") -> None:
    kitti(root.with_name("written"), pictures[0], pictures[1])
    for split in pictures[1]:
        for name, below in zip(("image_2", "label_2"), place.format(split=split).split(), strict=True):
            for file in (root.with_name("written") / split / name).iterdir():
                target = (
                    root / below / (file.with_suffix(suffix).name if file.suffix == ".txt" else file.name)
                )
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)


@pytest.mark.parametrize("suffix", [".txt", ".TXT"])
@pytest.mark.parametrize("place", PLACES)
def test_labels_are_found_where_those_of_yolo_are(
    place: str, suffix: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    if suffix == ".TXT":
        pictures = pictures[0], {s: [p for p in of if "." not in p.stem] for s, of in pictures[1].items()}
    laid(tmp_path / "data", pictures, PLACES[place], suffix)
    data = in_place(str(tmp_path / "data"))
    assert data.layout == "KITTI, 3 splits"
    assert_same(data, pictures[1])


def test_images_of_all_depths_are_read(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    drawn = pictures[1]
    laid(tmp_path / "data", (pictures[0], {"a": drawn["train"]}), "image_2/{split} label_2/{split}")
    laid(tmp_path / "data", (pictures[0], {"b": drawn["val"]}), "image_2 label_2")
    assert_same(in_place(str(tmp_path / "data")), {"train": drawn["train"] + drawn["val"]})


@pytest.mark.parametrize(
    "others", ["image_2/more lab/more", "image_2/more truth", "beyond/pictures beyond/texts"]
)
def test_labels_in_places_that_are_not_looked_at_are_counted(
    others: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    drawn = pictures[1]
    laid(tmp_path / "data", (pictures[0], {"a": drawn["train"]}), "image_2 label_2")
    laid(tmp_path / "data", (pictures[0], {"b": drawn["val"]}), others)
    data = in_place(str(tmp_path / "data"))
    assert set(seen(data)["train"]) == {p.stem for p in drawn["train"]}
    place = tmp_path / "data" / others.split()[1]
    assert any(f"{place}: not read, 3 KITTI label files of images that are not used" in n for n in data.notes)


def test_texts_beside_images_are_no_labels(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    drawn = pictures[1]
    laid(tmp_path / "data", (pictures[0], {"a": drawn["train"]}), "image_2 label_2")
    shutil.copy(pictures[0] / "val_0.png", tmp_path / "data")
    put(tmp_path / "data/val_0.txt", "a red car in the rain")
    assert_same(in_place(str(tmp_path / "data")), {"train": drawn["train"]})


def test_two_folders_of_images_of_one_of_labels(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    """The first is meant: images/ has other pictures of the same names."""
    drawn = pictures[1]
    laid(tmp_path / "data", (pictures[0], {"a": drawn["train"]}), "image_2 label_2")
    shutil.copytree(tmp_path / "data/image_2", tmp_path / "data/images")
    assert_same(in_place(str(tmp_path / "data")), {"train": drawn["train"]})
    warnings = inspect(default_spec("train"), str(tmp_path / "data"), work_dir=tmp_path)["warnings"]
    assert any("images: not read" in warning for warning in warnings)


def test_folders_that_a_person_names(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    laid(tmp_path / "data", pictures, "{split}/cam_02/png {split}/truth")
    with pytest.raises(UserError, match="no folder holds image_2 or .* beside label_2"):
        in_place(str(tmp_path / "data"), kitti=Options())
    found = in_place(str(tmp_path / "data"), kitti=Options(None, "cam_02/png", "truth"))
    assert_same(found, pictures[1])
