"""What is told of data that are used all the same: copies, versions, empty splits, names that look alike, odd pixels."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.data.coco import load_sources
from model.data.loaders import TrainSampler
from model.errors import UserError
from tests.model.data.test_check import edit
from tests.model.data.test_splits_and_leaks import copy_image, looked_at, said

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize(("split", "other"), [("val", "train"), ("test", "train"), ("test", "val")])
def test_versions_of_a_photo_in_two_splits_are_counted_and_stay(
    own_demo: Path, split: str, other: str
) -> None:
    def version(of: str, n: int, name: str) -> None:
        rows = json.loads((own_demo / of / "annotations.json").read_text())["images"]
        folder = own_demo / of / "images"
        (folder / rows[n]["file_name"]).rename(folder / name)
        edit(own_demo, of, lambda d: d["images"][n].update(file_name=name))

    version(other, 0, "cat_jpg.rf.0a1b.png")
    version(split, 0, "cat_jpg.rf.77ff.png")
    version(split, 1, "cat_jpg.rf.88ff.png")
    version(split, 2, "dog_jpg.rf.88ff.png")
    found = looked_at(own_demo)
    names = {"train": "training", "val": "validation", "test": "test"}
    assert f"2 {names[split]} images are versions (.rf.) of 1 {names[other]} photos" in said(found)
    assert found["problems"] == []
    assert found["facts"][split]["images"] == len(list((own_demo / split / "images").iterdir()))


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("change", ["none", "class", "box", "gone"])
def test_copies_within_a_split_are_counted_and_contradictions_told(
    own_demo: Path, split: str, change: str
) -> None:
    copy_image(own_demo, f"{split}/0001.png", f"{split}/0002.png")

    def relabel(document: dict[str, Any]) -> None:
        first, second = (image["id"] for image in document["images"][:2])
        kept = [a for a in document["annotations"] if a["image_id"] != second]
        copies = [a | {"id": a["id"] + 1000, "image_id": second} for a in kept if a["image_id"] == first]
        if change == "class":
            copies[0]["category_id"] = copies[0]["category_id"] % 3 + 1
        if change == "box":
            copies[0]["bbox"] = [1, 2, 30, 31]
        document["annotations"] = kept + copies[change == "gone" :][::-1]

    edit(own_demo, split, relabel)
    found = looked_at(own_demo)
    assert "images are exact copies of another one" in said(found)
    assert ("1 of them with other boxes or classes" in said(found)) == (change != "none")
    assert found["problems"] == []


@pytest.mark.parametrize("sized", [True, False])
def test_rows_of_one_file_are_merged(own_demo: Path, sized: bool) -> None:
    before = looked_at(own_demo)["facts"]["val"]

    def share(document: dict[str, Any]) -> None:
        row = dict(document["images"][1])
        if not sized:
            row |= {"width": 0, "height": 0}
        document["images"].append(row | {"id": 77})
        own = [a for a in document["annotations"] if a["image_id"] == row["id"]]
        own[0]["image_id"] = 77  # one of its boxes in the other row
        document["annotations"].append(own[-1] | {"id": 999, "image_id": 77})  # and one in both

    edit(own_demo, "val", share)
    found = looked_at(own_demo, dataset__mended_share=0.5)
    assert found["problems"] == []
    assert found["facts"]["val"] == before
    assert "1 image row of a file that has another row merged with it" in said(found)
    assert "1 box that is there twice dropped" in said(found)
    data = load_sources(found["fill"]["dataset.val_data_sources"])
    assert (len(data), len(data.labels)) == (before["images"], before["boxes"])
    assert "dataset.strict allows none" in said(looked_at(own_demo, dataset__strict=True))


@pytest.mark.parametrize(("share", "moved"), [(1.0, 1), (0.6, 1), (0.6, 0), (0.2, 1), (0.0, 1)])
def test_rows_of_one_file_that_label_the_same_objects(own_demo: Path, share: float, moved: float) -> None:
    """As of a second annotator, who drew each box anew (`moved` px), kept some to the digit, or drew few of them."""

    def annotate(document: dict[str, Any]) -> None:
        first = max(document["images"], key=lambda i: sum(a["image_id"] == i["id"] for a in boxes(document)))
        document["annotations"] = [a for a in boxes(document) if a["image_id"] == first["id"]]
        again = [a | {"id": 1000 + n, "image_id": 77} for n, a in enumerate(boxes(document))]
        for n, row in enumerate(again):
            x, y, w, h = row["bbox"]
            row["bbox"] = [x, y, w - moved, h] if n < share * len(again) else [x, y, w / 3, h / 3]
        document["images"].append(first | {"id": 77})
        document["annotations"] += again

    def boxes(document: dict[str, Any]) -> list[dict[str, Any]]:
        return document["annotations"]

    edit(own_demo, "train", annotate)
    found = looked_at(own_demo, dataset__mended_share=1.0)
    refused = [p for p in found["problems"] if "rows of one file label the same objects, as of several" in p]
    assert len(refused) == (share > 0.5 and moved > 0)
    noted = "overlap one of the same class in another row, such as annotation" in str(found["warnings"])
    assert noted == (share == 0.2)


@pytest.mark.parametrize(("drawn", "noted"), [(1.0, True), (0.3, False)])
def test_objects_that_several_people_drew_in_one_row_are_noted(
    own_demo: Path, drawn: float, noted: bool
) -> None:
    """`drawn`: the share of objects that a second one drew as well, each anew."""

    def annotate(document: dict[str, Any]) -> None:
        rows = document["annotations"]
        second = [a | {"id": 10_000 + n} for n, a in enumerate(rows[: round(drawn * len(rows))])]
        for row in second:
            x, y, w, h = row["bbox"]
            row["bbox"] = [x + 0.04 * w, y, 0.94 * w, h]
        document["annotations"] = rows + second

    edit(own_demo, "train", annotate)
    found = looked_at(own_demo)
    assert found["problems"] == []
    assert ("as of several annotators of each image" in str(found["warnings"])) == noted


@pytest.mark.parametrize("place", ["images/cam1", "images_2", "../old", "../train/images"])
def test_rows_of_two_files_of_one_name_are_not_merged(own_demo: Path, place: str) -> None:
    """As in two exports put together: images/0001.png and images/cam1/0001.png, both called 0001.png."""

    def share(document: dict[str, Any]) -> None:
        row = document["images"][1]
        document["images"].append(row | {"id": 77})
        next(a for a in document["annotations"] if a["image_id"] == row["id"])["image_id"] = 77

    edit(own_demo, "val", share)
    name = json.loads((own_demo / "val/annotations.json").read_text())["images"][1]["file_name"]
    other = own_demo / "val" / place / name
    other.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(own_demo / "val/images" / name) as image:
        image.rotate(180).save(other)
    problems = looked_at(own_demo, dataset__mended_share=0.5)["problems"]
    if place.startswith("../"):  # of another split, or of no part of this one
        assert problems == []
    else:
        assert len(problems) == 1
        assert "write the folder before each file_name" in problems[0]


EMPTY = {
    "images": lambda d: d.update(images=[], annotations=[]),
    "boxes": lambda d: d.update(annotations=[]),
    "crowds": lambda d: [a.update(iscrowd=1) for a in d["annotations"]],
}


@pytest.mark.parametrize("what", EMPTY)
def test_a_test_set_without_boxes_is_left_out(own_demo: Path, what: str) -> None:
    edit(own_demo, "test", EMPTY[what])
    found = looked_at(own_demo)
    assert found["problems"] == []
    assert "the test set is left out" in said(found)
    assert found["replace"]["dataset.test_data_sources.json_file"] == ""
    assert found["facts"]["val"]["images"] == 4


@pytest.mark.parametrize(("what", "reason"), [
    ("images", "it has no images to validate on"), ("boxes", "it has no boxes to validate on"),
    ("crowds", "no box to score the val images with"),
])  # fmt: skip
def test_a_validation_set_without_boxes_is_refused(own_demo: Path, what: str, reason: str) -> None:
    edit(own_demo, "val", EMPTY[what])
    assert reason in "\n".join(looked_at(own_demo)["problems"])


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("what", EMPTY)
def test_one_of_several_sources_may_be_empty(own_demo: Path, split: str, what: str) -> None:
    sources = {
        s: {"image_dir": str(own_demo / s / "images"), "json_file": str(own_demo / s / "annotations.json")}
        for s in ("train", "val", "test")
    }
    edit(own_demo, "test", EMPTY[what])
    both = {f"dataset__{s}_data_sources": [sources[s]] for s in ("train", "val")}
    both[f"dataset__{split}_data_sources"].append(sources["test"])
    found = looked_at(own_demo, **both)
    assert found["problems"] == []
    named = found["fill"][f"dataset.{split}_data_sources"]
    data = load_sources(named)
    assert len(data) == found["facts"][split]["images"]
    both_ends = load_sources([*named, named[0]])  # the empty one in the middle
    assert len(list(TrainSampler(both_ends, "uniform_sampler", 1, 0, 1, lambda: 0))) == len(both_ends)
    with pytest.raises(UserError, match="it has no") if what != "crowds" else contextlib.nullcontext():
        load_sources(named[1:])


ALIKE = [
    ("red", "RED", "'red' and 'RED' differ in case alone"),
    ("caf\u00e9", "cafe\u0301", "'caf\\xe9' and 'cafe\\u0301' differ in Unicode form alone"),
    ("\u00c9", "e\u0301", "'\\xc9' and 'e\\u0301' differ in case alone"),
    ("\ufb01sh", "fish", "'\\ufb01sh' and 'fish' differ in Unicode form alone"),
    ("stra\u00dfe", "STRASSE", "differ in case alone"),
    ("ca\u200bt", "cat", "'ca\\u200bt' and 'cat' differ in characters that are not seen alone"),
    ("\ufeffcat", "cat", "differ in characters that are not seen alone"),
    ("red", "read", None),
    ("e", "\u00e9", None),
]


@pytest.mark.parametrize(("a", "b", "line"), ALIKE)
def test_names_that_look_alike_are_told_apart(own_demo: Path, a: str, b: str, line: str | None) -> None:
    for split in ("train", "val", "test"):
        edit(
            own_demo, split, lambda d: [d["categories"][n].update(name=name) for n, name in enumerate((a, b))]
        )
    found = looked_at(own_demo)
    assert found["problems"] == []
    assert len(found["facts"]["classes"]) == 3
    assert ("classes that look like one stay apart" in said(found)) == (line is not None)
    assert line is None or line in said(found)


@pytest.mark.parametrize(("a", "b", "line"), ALIKE)
@pytest.mark.parametrize("i", [1, 9])
def test_names_that_contradict_show_how_they_differ(
    own_demo: Path, a: str, b: str, line: str | None, i: int
) -> None:
    edit(own_demo, "train", lambda d: d["categories"][0].update(name=b))

    def rename(document: dict[str, Any]) -> None:
        document["categories"][0].update(name=a, id=i)
        for annotation in document["annotations"]:
            annotation["category_id"] = i if annotation["category_id"] == 1 else annotation["category_id"]

    edit(own_demo, "val", rename)
    found = "\n".join(looked_at(own_demo)["problems"])
    assert found
    assert (line in found) if line else ("alone" not in found)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_orientation_that_leaves_the_size_is_noted(own_demo: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for split in ("train", "val"):
        path = own_demo / split / "images" / "0001.png"
        Image.open(path).convert("RGB").save(path.with_suffix(f".{suffix}"), exif=exif)
        edit(own_demo, split, lambda d: d["images"][0].update(file_name=f"0001.{suffix}"))
    found = looked_at(own_demo)
    assert found["problems"] == []
    noted = [line for line in found["warnings"] if "EXIF orientation" in line]
    assert len(noted) == (orientation > 1)
    assert all(line.startswith("2 images") and f"orientation {orientation})" in line for line in noted)


def test_pixels_that_are_no_numbers_are_counted(own_demo: Path) -> None:
    values = np.random.default_rng(0).random((64, 64), np.float32)
    values[:2] = np.nan
    Image.fromarray(values).save(own_demo / "val/images/0001.tif")
    edit(own_demo, "val", lambda d: d["images"][0].update(file_name="0001.tif"))
    found = looked_at(own_demo)
    assert found["problems"] == []
    assert "1 image holds NaN or infinite pixels" in said(found)
    assert "0001.tif, 128 of 4096 pixels" in said(found)


def put_deep(data: Path, split: str, n: int, values: np.ndarray) -> None:
    name = f"000{n}.tif"
    Image.fromarray(values).save(data / split / "images" / name)
    edit(data, split, lambda d: d["images"][n].update(file_name=name))


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.uint16])
def test_images_of_deep_pixels_that_come_out_black_are_counted(own_demo: Path, kind: type) -> None:
    values = np.random.default_rng(0).random((64, 64))
    put_deep(own_demo, "train", 0, (values * 65535).astype(kind))
    put_deep(own_demo, "train", 1, (values * 700).astype(kind))  # black in 16 bits
    put_deep(own_demo, "train", 2, np.full((64, 64), 9, kind))
    found = looked_at(own_demo)
    assert found["problems"] == []
    (line,) = (line for line in found["warnings"] if "black or of one shade" in line)
    assert line.startswith("2 images of more than 8 bits are read as black or of one shade")
    assert "0001.tif" in line
    put_deep(own_demo, "train", 1, (values * 65535).astype(kind))
    put_deep(own_demo, "train", 2, (values * 65535).astype(kind))
    assert "one shade" not in said(looked_at(own_demo))


@pytest.mark.parametrize("tops", [(1, 1, 1), (1, 1, 255), (200, 1, 60_000)])
def test_images_of_floats_of_unlike_scales_are_counted(own_demo: Path, tops: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).random((64, 64), np.float32)
    for n, top in enumerate(tops):
        put_deep(own_demo, "train", n, values * np.float32(top))
    lines = [line for line in looked_at(own_demo)["warnings"] if "unlike scales" in line]
    assert len(lines) == (len(set(tops)) > 1)
    assert all(line.startswith("3 images of floats or 32-bit integers") for line in lines)
    assert all("2 with white at 1, 1 with white at 255" in line for line in lines if tops == (1, 1, 255))
