"""Which split the lists of ImageSets/ give an image, and what KITTI's files leave out."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.convert_kitti import parse as parse_kitti
from model.data.image_sets import lists_of
from model.data.tree import Tree
from tests.model.data.drawn import put


def read(root: Path) -> dict[str, list[tuple[str, str]]]:
    return lists_of(Tree.read(root), "imagesets/main")


@pytest.mark.parametrize(
    ("lists", "wanted"),
    [
        ({"train": "ab", "trainval": "abcd"}, {"train": "ab", "val": "cd"}),
        ({"val": "cd", "trainval": "abcd"}, {"train": "ab", "val": "cd"}),
        ({"train": "ab", "val": "c", "trainval": "abcd"}, {"train": "ab", "val": "c"}),
        ({"train": "abcd", "trainval": "abcd"}, {"train": "abcd"}),
        ({"trainval": "abcd", "test": "e"}, {"train": "abcd", "test": "e"}),
        ({"train": "ab"}, {"train": "ab"}),
    ],
)
def test_trainval_gives_what_is_missing(
    lists: dict[str, str], wanted: dict[str, str], tmp_path: Path
) -> None:
    put(tmp_path / "readme.md", "")
    for name, names in lists.items():
        put(tmp_path / f"VOC2007/ImageSets/Main/{name}.txt", "\n".join(names))
    assert read(tmp_path) == {split: [("VOC2007", n) for n in names] for split, names in wanted.items()}


def test_each_folder_for_itself(tmp_path: Path) -> None:
    for name, names in (("VOC2007/ImageSets/Main/trainval", "ab"), ("VOC2012/ImageSets/Main/train", "a"),
                        ("VOC2012/ImageSets/Main/trainval", "ac"), ("VOC2007/ImageSets/Main/test", "d")):  # fmt: skip
        put(tmp_path / f"{name}.txt", "\n".join(names))
    assert read(tmp_path) == {
        "train": [("VOC2007", "a"), ("VOC2007", "b"), ("VOC2012", "a")],
        "val": [("VOC2012", "c")],
        "test": [("VOC2007", "d")],
    }


@pytest.mark.parametrize("kind", ["DontCare", "dontcare", "DONTCARE"])
def test_regions_that_kitti_does_not_care_for(kind: str, tmp_path: Path) -> None:
    line = "{} 0 0 0 1 1 9 9 1 1 1 1 1 1 1\n"
    put(tmp_path / "a.txt", line.format("Car") + line.format(kind))
    found = parse_kitti(tmp_path / "a.txt", (20, 10))
    assert [name for name, _ in found.objects] == ["Car"]
    assert found.remarks == {"DontCare regions left out": 1}
