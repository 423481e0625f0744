"""COCO files that name images by absolute paths, copied with them while the originals stay."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from model.data.check import inspect
from model.data.documents import as_it_is
from model.data.layouts import in_place
from model.data.paths import find_images
from model.errors import UserError
from model.spec import default_spec
from tests.model.data.drawn import Drawn, coco, put
from tests.model.data.test_layouts import assert_same

pytestmark = pytest.mark.usefixtures("cache")


def written(root: Path, pictures: tuple[Path, Drawn], below: str) -> Path:
    """As labelme2coco splits: train.json and val.json, absolute names, Labelme's own files beside the images."""
    for split, drawn in pictures[1].items():
        (root / below).mkdir(parents=True, exist_ok=True)
        for picture in drawn:
            shutil.copy(pictures[0] / picture.name, root / below)
            if picture.boxes:
                put(root / below / f"{picture.stem}.json", '{"shapes": [{"label": "blue"}], "imagePath": ""}')
        put(root / f"{split}.json", coco(drawn, lambda picture: str(root / below / picture.name)))
    return root


def images_used(root: Path) -> set[Path]:
    found = set()
    for sources in in_place(str(root)).sources.values():
        for source in sources:
            names = [image["file_name"] for image in as_it_is(source["json_file"])["images"]]
            found.update(find_images(Path(source["image_dir"]), names))
    return found


@pytest.mark.parametrize("below", ["", "photos/cam 0"])
@pytest.mark.parametrize("gone", [False, True], ids=["the original stays", "the original is gone"])
def test_the_copy_s_own_images_are_read(
    below: str, gone: bool, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    original = written(tmp_path / "original", pictures, below)
    shutil.copytree(original, tmp_path / "copy")
    if gone:
        shutil.rmtree(original)
    data = in_place(str(tmp_path / "copy"))
    assert_same(data, pictures[1])
    if not gone:
        assert {path.parent for path in images_used(tmp_path / "copy")} == {tmp_path / "copy" / below}
    notes = inspect(default_spec("train"), str(tmp_path / "copy"), work_dir=tmp_path)["warnings"]
    told = "train.json: 6 images named by absolute paths that lead out of their folder, which has files of those names"
    assert any(told in note for note in notes) != gone


def test_the_original_s_own_names_are_followed(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    original = written(tmp_path / "original", pictures, "photos")
    assert {path.parent for path in images_used(original)} == {original / "photos"}
    notes = inspect(default_spec("train"), str(original), work_dir=tmp_path)["warnings"]
    assert not any("absolute paths" in note for note in notes)


def test_a_few_images_of_the_names_are_no_copy(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    """A preview or two beside annotations that name images elsewhere."""
    original = written(tmp_path / "original", pictures, "photos")
    for split in pictures[1]:
        put(tmp_path / f"copy/{split}.json", (original / f"{split}.json").read_text())
    shutil.copy(original / "photos/train_0.png", tmp_path / "copy")
    assert {path.parent for path in images_used(tmp_path / "copy")} == {original / "photos"}


def test_other_pictures_of_the_same_names_are_no_copies(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    """Drawn previews, or another camera's."""
    original = written(tmp_path / "original", pictures, "photos")
    for split in pictures[1]:
        put(tmp_path / f"copy/{split}.json", (original / f"{split}.json").read_text())
    (tmp_path / "copy/photos").mkdir()
    for path in (original / "photos").glob("*.png"):
        ImageOps.invert(Image.open(path).convert("RGB")).save(tmp_path / "copy/photos" / path.name)
    assert {path.parent for path in images_used(tmp_path / "copy")} == {original / "photos"}


def test_names_of_the_longest_common_end_are_meant(tmp_path: Path) -> None:
    for file in ("original/a/x.png", "original/b/x.png", "copy/a/x.png", "copy/b/x.png", "copy/x.png"):
        put(tmp_path / file, "")
    names = [str(tmp_path / "original" / each) for each in ("a/x.png", "b/x.png")]
    assert find_images(tmp_path / "copy", names) == [tmp_path / "copy/a/x.png", tmp_path / "copy/b/x.png"]
    assert find_images(tmp_path / "copy", names[:1]) == [tmp_path / "copy/a/x.png"]


def test_images_elsewhere_are_counted(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    """The folder's own images are others, whose Labelme files nobody reads."""
    original = written(tmp_path / "original", pictures, "photos")
    for split in pictures[1]:
        put(tmp_path / f"data/{split}.json", (original / f"{split}.json").read_text())
    for n in range(3):
        shutil.copy(original / "photos/train_0.png", tmp_path / f"data/other_{n}.png")
        put(tmp_path / f"data/other_{n}.json", '{"shapes": [{"label": "blue"}], "imagePath": ""}')
    with pytest.raises(
        UserError, match=r"11 images \(11 of them outside this folder\) would be read as COCO"
    ) as told:
        in_place(str(tmp_path / "data"))
    assert "not 3 other images" in str(told.value)
    assert "into one form (those of Labelme, which are not read, become COCO with labelme2coco)" in str(
        told.value
    )
