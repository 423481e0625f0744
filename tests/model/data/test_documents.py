"""Annotation files of every damage: a clear error or a counted mending, never a traceback, never another number than
a plain reader finds."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from model.data.coco import Options, joined, read_part
from model.data.documents import as_it_is, read
from model.data.masks import extent
from model.data.mending import Rules
from model.data.problems import Problems
from model.errors import UserError
from tests.model.data.plain_reader import Refused, parsed, read_plain

SIZES = {"a.png": (40, 30), "b.png": (24, 24), "c.png": (30, 40)}


def whole() -> dict[str, Any]:
    """Three images, three classes, 24 boxes; ids of several types."""
    random = np.random.default_rng(5)
    images = [
        {"id": i, "file_name": name, "width": w, "height": h, "licence": 1}
        for i, (name, (w, h)) in zip((7, 3, 12), SIZES.items(), strict=True)
    ]
    annotations = []
    for n in range(24):
        x, y, w, h = (round(float(v), 2) for v in random.uniform(1, 11, 4))
        corners = [x, y, x + w, y, x + w, y + h]
        annotations.append(
            {
                "id": n + 1, "image_id": (7, 3, 12)[n % 3], "category_id": n % 2 + 1, "bbox": [x, y, w, h],
                "area": round(w * h, 2), "iscrowd": int(n == 4), "segmentation": [corners], "score": None,
            }
        )  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in ((1, "red"), (2, "blue"), (3, "unused"))]
    return {"info": {"year": 2024}, "images": images, "annotations": annotations, "categories": categories}


VALUES: list[Any] = [
    None, True, False, 0, 1, 2, 3, 7, -1, -5, 0.0, 1.0, 1.5, 39.5, 1e9, float("nan"), float("inf"), 10**30, 10**400,
    "", "0", "1", "red", "blue", "a.png", "../a.png", "\ud800", "a\0b", "x" * 5000, "100000-deep", "1e400", [], {},
    [1], [[]], [1, 2, 3], [1, 2, 3, 4], [-4, 2, 9, 9], [50, 50, 4, 4], [1, 1, 0, 4], ["1", 2, 3, 4], {"a": 1},
    [[1, 1, 5, 1, 5, 6]], {"size": [30, 40], "counts": [5, 3]},
]  # fmt: skip
OPERATIONS = ("set", "delete", "repeat", "insert", "copy", "move")
RAW = ("none", "none", "none", "none", "bom", "utf-16", "cut", "byte")
Mutation = tuple[int, str, int]
mutations = st.tuples(st.integers(0, 10**6), st.sampled_from(OPERATIONS), st.integers(0, len(VALUES) - 1))


def places(node: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a document."""
    found = []
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        found += [(node, key), *places(value)]
    return found


def mutate(document: dict[str, Any], mutation: Mutation) -> None:
    where, operation, value = mutation
    spots = places(document)
    container, key = spots[where % len(spots)]
    new = copy.deepcopy(VALUES[value])
    if operation == "delete":
        del container[key]
    elif operation in ("repeat", "insert") and isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]) if operation == "repeat" else new)
    elif operation in ("copy", "move"):
        other, name = spots[(where * 7 + value) % len(spots)]
        container[key] = copy.deepcopy(other[name])
    else:
        container[key] = new


def write(path: Path, document: Any, raw: str, place: int) -> None:
    text = json.dumps(document)
    text = text.replace('"100000-deep"', "[" * 100_000 + "]" * 100_000).replace('"1e400"', "1e400")
    data = text.encode()
    if raw == "bom":
        data = b"\xef\xbb\xbf" + data
    elif raw == "utf-16":
        data = text.encode("utf-16")
    elif raw == "cut":
        data = data[: place % len(data)]
    elif raw == "byte":
        data = bytearray(data)
        data[place % len(data)] = 255
    path.write_bytes(bytes(data))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name, size in SIZES.items():
        Image.new("RGB", size).save(folder / name)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def ours(path: Path, images: Path, **rules: Any) -> tuple[list[Any] | None, Problems]:
    """The boxes as the plain reader gives them, None when refused, and what was said."""
    problems = Problems()
    try:
        part = read_part(
            {"json_file": str(path), "image_dir": str(images)}, Options(Rules(**rules)), problems
        )
        if part is None or problems:
            return None, problems
        data = joined([part], False, problems)
    except UserError as error:
        problems.add("error", str(error))
    if problems:
        return None, problems
    document = part.document
    names = {c["id"]: c["name"] for c in data.categories}
    owner = np.repeat(np.arange(len(data)), np.diff(data.starts))
    columns = zip(owner, data.labels, data.boxes_xywh_px, data.areas, data.crowd, strict=True)
    boxes = [
        (document.image_ids[image], names[label], tuple(box.tolist()), float(area), bool(crowd))
        for image, label, box, area, crowd in columns
    ]
    return boxes, problems


def plain(path: Path) -> list[Any] | None:
    """The plain reader's boxes, None when it refuses."""
    try:
        return list(read_plain(path, SIZES, Rules().mended_share))
    except Refused:
        return None


def agrees(path: Path, images: Path) -> None:
    found, problems = ours(path, images)
    wanted = plain(path)
    assert found == wanted, problems.lines()
    if wanted is not None:
        boxes = len(parsed(path)["annotations"])
        assert len(wanted) == boxes or problems.notes, "boxes were left out without a word"
    for line in problems.lines():
        assert str(path) in line or "more of this kind" in line
        assert len(line) < 1500
        line.encode()  # can be printed


def check_mutated(images: Path, changes: list[Mutation], raw: str, place: int) -> None:
    document = whole()
    for change in changes:
        mutate(document, change)
    path = images / "mutated.json"
    write(path, document, raw, place)
    agrees(path, images)


CASES = {
    "changes": st.lists(mutations, max_size=3),
    "raw": st.sampled_from(RAW),
    "place": st.integers(0, 10**6),
}
HEALTHY = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@example([(225, "copy", 31)], "none", 0)  # a category id of 3.35
@example([(5, "set", 25)], "none", 0)  # a.png, said as ../a.png
@example([(5, "set", 25), (10, "set", 25)], "none", 0)
@example([(7, "set", 26)], "byte", 82)  # a byte and half a character, neither of them read
@given(**CASES)
@settings(max_examples=200, deadline=None, suppress_health_check=HEALTHY)
def test_mutated_files(images: Path, changes: list[Mutation], raw: str, place: int) -> None:
    check_mutated(images, changes, raw, place)


@pytest.mark.slow
@given(**CASES)
@settings(max_examples=2000, deadline=None, suppress_health_check=HEALTHY)
def test_2000_mutated_files(images: Path, changes: list[Mutation], raw: str, place: int) -> None:
    check_mutated(images, changes, raw, place)


@pytest.mark.parametrize("raw", ["none", "bom", "utf-16"])
def test_a_whole_file_is_read_number_by_number(images: Path, raw: str) -> None:
    write(images / "whole.json", whole(), raw, 0)
    found, problems = ours(images / "whole.json", images)
    assert found is not None
    assert len(found) == 24
    assert problems.notes == []
    agrees(images / "whole.json", images)


def changed(images: Path, change: Any, **rules: Any) -> tuple[list[Any] | None, str]:
    document = whole()
    change(document)
    path = images / "changed.json"
    path.write_text(json.dumps(document))
    found, problems = ours(path, images, **rules)
    return found, "\n".join(problems.notes + problems.lines())


def each_box(**values: Any) -> Any:
    def change(document: dict[str, Any]) -> None:
        for annotation in document["annotations"]:
            annotation.update(values)

    return change


def one_box(*boxes: list[float]) -> Any:
    def change(document: dict[str, Any]) -> None:
        for annotation, box in zip(document["annotations"], boxes, strict=False):
            annotation["bbox"] = box

    return change


@pytest.mark.parametrize(
    ("box", "left", "line"),
    [
        ([5, 5, 0, 4], None, "1 empty box left out, the first: annotation 1 of image 7 (a.png)"),
        ([5, 5, -3, 4], None, "1 empty box left out"),
        ([5, 5, 0.009, 4], None, "1 empty box left out"),
        ([0.5, 0.5, 0.001, 0.001], None, "1 empty box left out"),
        ([5, 5, 0.5, 0.01], (5.0, 5.0, 0.5, 0.01), ""),
        ([0.2, 0.2, 0.5, 0.5], (0.2, 0.2, 0.5, 0.5), ""),
        ([41, 5, 3, 4], None, "1 box outside its image left out"),
        ([-3.2, 5, 10, 4], (0.0, 5.0, 6.8, 4.0), "1 box beyond the border clipped"),
        ([30, 20, 12, 4], (30.0, 20.0, 10.0, 4.0), "1 box beyond the border clipped"),
        ([30, 20, 10.9, 4], (30.0, 20.0, 10.9, 4.0), ""),
    ],
)
def test_a_box_that_is_mended_is_counted_and_strict_refuses_it(
    images: Path, box: list[float], left: Any, line: str
) -> None:
    found, said = changed(images, one_box(box))
    assert found is not None
    assert line in said
    assert len(found) == 24 - (left is None)
    if left:
        assert found[0][2] == pytest.approx(left)
    if line:
        found, said = changed(images, one_box(box), strict=True)
        assert found is None
        assert "dataset.strict allows none" in said


def test_more_than_a_twentieth_of_mended_boxes_is_refused_with_a_way_out(images: Path) -> None:
    bad = one_box([5, 5, 0, 4], [6, 5, 0, 4], [-3, 5, 9, 4])
    found, said = changed(images, bad)
    assert found is None
    assert "2 empty boxes left out" in said
    assert "1 box beyond the border clipped" in said
    assert "set dataset.mended_share=0.13" in said
    found, said = changed(images, bad, mended_share=0.13)
    assert found is not None
    assert len(found) == 22


@pytest.mark.parametrize("count", [1, 2, 24])
@pytest.mark.parametrize("where", [99, "gone", 7.5])
def test_boxes_of_images_that_are_not_listed_are_left_out(images: Path, count: int, where: Any) -> None:
    def orphan(document: dict[str, Any]) -> None:
        for row in document["annotations"][:count]:
            row["image_id"] = where

    found, said = changed(images, orphan)
    boxes = "1 box" if count == 1 else f"{count} boxes"
    assert f"{boxes} of images that are not listed left out" in said
    assert (found is None) == (count > 1)  # a twentieth of 24
    assert found is None or len(found) == 23
    assert changed(images, orphan, strict=True)[0] is None
    left, _ = changed(images, orphan, mended_share=1.0)
    assert left is not None
    assert len(left) == 24 - count
    rows = as_it_is(images / "changed.json")["annotations"]
    document = read(images / "changed.json", Problems())
    assert document is not None
    assert document.annotation_ids == [rows[n]["id"] for n in document.rows]
    assert where not in {rows[n]["image_id"] for n in document.rows}


def test_rows_that_are_there_twice_are_dropped_and_counted(images: Path) -> None:
    def twice(document: dict[str, Any]) -> None:
        document["annotations"].append(document["annotations"][0] | {"id": 99})
        document["images"].append(document["images"][1])

    found, said = changed(images, twice)
    assert found is not None
    assert len(found) == 24
    assert "1 box that is there twice dropped, the first: annotation 99" in said
    assert "1 image listed twice dropped" in said


@pytest.mark.parametrize("none", ["absent", None, []])
def test_boxes_come_from_masks_where_only_masks_are_there(images: Path, none: Any) -> None:
    def drop(document: dict[str, Any]) -> None:
        for annotation in document["annotations"]:
            annotation["bbox"] = none
            if none == "absent":
                del annotation["bbox"]

    found, said = changed(images, drop)
    assert "24 boxes made of masks" in said
    plain, _ = changed(images, lambda d: None)
    assert found is not None
    assert plain is not None
    assert np.allclose([b[2] for b in found], [b[2] for b in plain])


def as_shares(box: list[float], w: float, h: float, form: str) -> list[float]:
    x, y, width, height = box[0] / w, box[1] / h, box[2] / w, box[3] / h
    return {"xywh": [x, y, width, height], "xyxy": [x, y, x + width, y + height], "whole": [0, 0, 1, 1]}[form]


@pytest.mark.parametrize("form", ["xywh", "xyxy", "whole"])
@pytest.mark.parametrize("size", [True, False])
def test_boxes_as_shares_of_the_image_are_refused(images: Path, form: str, size: bool) -> None:
    def share(document: dict[str, Any]) -> None:
        sizes = {i["id"]: (i["width"], i["height"]) for i in document["images"]}
        for annotation in document["annotations"]:
            annotation["bbox"] = as_shares(annotation["bbox"], *sizes[annotation["image_id"]], form)
            annotation.pop("area")
        for image in () if size else document["images"]:
            del image["width"], image["height"]
        document["annotations"][5] |= {"bbox": [0, 0, 0, 0], "segmentation": []}

    found, said = changed(images, share, mended_share=1.0)
    assert found is None
    assert "boxes look like shares of the image, pixels are wanted" in said
    assert "the first: annotation 1 of image 7 (a.png)" in said


@pytest.mark.parametrize("form", ["xywh", "xyxy"])
@pytest.mark.parametrize("which", ["an image", "an image of one box", "some boxes", "a box", "whole"])
def test_boxes_as_shares_of_some_images_are_told(images: Path, form: str, which: str) -> None:
    def share(document: dict[str, Any]) -> None:
        sizes = {i["id"]: (i["width"], i["height"]) for i in document["images"]}
        rows = document["annotations"]
        own = [row for row in rows if row["image_id"] == 3]
        if which == "an image of one box":
            document["annotations"] = [row for row in rows if row not in own[1:]]
        for row in own if which.startswith("an image") else own[:3] if which == "some boxes" else own[:1]:
            shares = as_shares(row["bbox"], *sizes[3], form if which != "whole" else "whole")
            row.update(bbox=shares, area=shares[2] * shares[3])

    found, said = changed(images, share)
    if which in ("an image", "some boxes"):
        assert found is None
        count = 8 if which == "an image" else 3
        assert f"{count} boxes of 1 of 3 images look like shares of the image" in said
        assert "the first: annotation 2 of image 3 (b.png)" in said
        assert "multiply x and w by the image's width" in said
    else:
        assert found is not None
        assert "1 box is no larger than one pixel: is that meant" in said


@pytest.mark.parametrize("count", [3, 24])
def test_corners_in_place_of_sides_are_asked_for(images: Path, count: int) -> None:
    def corners(document: dict[str, Any]) -> None:
        del document["annotations"][count:]
        sizes = {i["id"]: (i["width"], i["height"]) for i in document["images"]}
        for row in document["annotations"]:
            w, h = row["bbox"][2:]
            width, height = sizes[row["image_id"]]
            row["bbox"] = [width - w - 1, height - h - 1, width - 1, height - 1]
            del row["area"], row["segmentation"]  # which would tell: test_box_forms.py

    found, said = changed(images, corners)
    assert found is None
    assert "clipped, the first: annotation 1 of image 7 (a.png); are these x1 y1 x2 y2? All boxes" in said
    bad = one_box(*[[30, 20, 30, 30]] * 4)  # of others too, which are no corners
    assert "x1 y1" not in changed(images, bad)[1]


@pytest.mark.parametrize("percent", [True, False])
def test_boxes_that_may_be_percents_are_named(tmp_path: Path, percent: bool) -> None:
    random = np.random.default_rng(1)
    Image.fromarray(random.integers(0, 255, (300, 400, 3), np.uint8)).save(tmp_path / "a.png")
    boxes = [[*random.uniform(0, 75, 2), *random.uniform(5, 24, 2)] for _ in range(60)]
    if not percent:
        boxes = [[4 * x, 3 * y, 4 * w, 3 * h] for x, y, w, h in boxes]
    rows = [{"id": n, "image_id": 1, "category_id": 1, "bbox": box} for n, box in enumerate(boxes)]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 400, "height": 300}],
        "annotations": rows,
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    found, problems = ours(tmp_path / "boxes.json", tmp_path)
    assert found is not None
    assert any("are they percents? Pixels are wanted" in note for note in problems.notes) is percent


def test_a_crowd_of_null_is_none(images: Path) -> None:
    found, said = changed(images, each_box(iscrowd=None))
    assert found is not None
    assert not any(box[4] for box in found)
    assert "iscrowd" not in said


@pytest.mark.parametrize("yes", [1, True, 1.0])
@pytest.mark.parametrize("no", [0, False, None, "absent"])
def test_boxes_marked_ignore_are_crowds_and_counted(images: Path, yes: Any, no: Any) -> None:
    def mark(document: dict[str, Any]) -> None:
        for n, row in enumerate(document["annotations"]):
            if n < 5 or no != "absent":
                row["ignore"] = yes if n < 5 else no  # the last of the five is a crowd

    for strict in (False, True):
        found, said = changed(images, mark, strict=strict)
        assert found is not None
        assert sum(box[4] for box in found) == 5
        assert "4 boxes marked ignore taken as crowds (iscrowd 1): neither trained on nor scored" in said
    agrees(images / "changed.json", images)


@pytest.mark.parametrize("key", ["score", "confidence"])
def test_boxes_that_a_detector_may_have_found_are_counted(images: Path, key: str) -> None:
    for value, detected in ((0.9, True), (0, True), (1, False), (1.0, False), (None, False), ("high", False)):
        for strict in (False, True):
            found, said = changed(images, each_box(**{key: value}), strict=strict)
            assert found is not None
            assert ("24 boxes with a confidence: are these labels what a detector found?" in said) == detected


@pytest.mark.parametrize("name", ["DontCare", "DONTCARE", "ignored regions", "__background__", "background"])
def test_boxes_of_regions_that_are_no_class_are_left_out(images: Path, name: str) -> None:
    """Their category stays, and without boxes is as any other."""

    def rename(document: dict[str, Any]) -> None:
        document["categories"][0]["name"] = name

    def unused(document: dict[str, Any]) -> None:
        document["categories"].append({"id": 0, "name": name})

    for strict in (False, True):
        found, said = changed(images, rename, strict=strict)
        before, _ = changed(images, lambda document: None, strict=strict)
        also, unsaid = changed(images, unused, strict=strict)
        assert found is not None
        assert before is not None
        assert also == before
        gone = [box for box in before if box[1] == whole()["categories"][0]["name"]]
        assert len(gone) > 0
        if name != "background":
            assert len(found) == len(before) - len(gone)
            assert f"{len(gone)} objects called DontCare, ignored regions or __background__ left out" in said
        else:
            assert len(found) == len(before)
        assert ("left out" in said, "left out" in unsaid) == (name != "background", False)


@pytest.mark.parametrize("value", ["yes", 2, [1]])
def test_ignore_is_a_flag(images: Path, value: Any) -> None:
    found, said = changed(images, each_box(ignore=value))
    assert found is None
    assert "annotations[0] (id 1): ignore must be 0, 1, true or false, but got" in said


@pytest.mark.parametrize("value", [None, 0, -1, "absent"])
def test_missing_sizes_are_read_from_the_files(images: Path, value: Any) -> None:
    def unsized(document: dict[str, Any]) -> None:
        for image in document["images"]:
            image.update(width=value, height=value) if value != "absent" else (
                image.pop("width"),
                image.pop("height"),
            )

    found, said = changed(images, unsized)
    assert found is not None
    assert len(found) == 24
    assert "3 image sizes read from the files" in said


def test_ids_of_images_are_of_any_type_and_given_back(images: Path) -> None:
    def named(document: dict[str, Any]) -> None:
        for row in document["images"]:
            row["id"] = f"frame {row['id']}"
        for row in document["annotations"]:
            row["image_id"] = f"frame {row['image_id']}"

    document = whole()
    named(document)
    path = images / "named.json"
    path.write_text(json.dumps(document))
    problems = Problems()
    part = read_part({"json_file": str(path), "image_dir": str(images)}, Options(Rules()), problems)
    assert part is not None
    data = joined([part], False, problems)
    assert data.image_ids.tolist() == [1, 2, 3]
    assert data.outside_image_ids() == {1: "frame 7", 2: "frame 3", 3: "frame 12"}


def test_extents_are_those_of_pycocotools() -> None:
    mask = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for _ in range(300):
        h, w = (int(v) for v in random.integers(1, 12, 2))
        pixels = np.asfortranarray((random.random((h, w)) < random.random()).astype(np.uint8))
        packed = mask.encode(pixels)
        wanted = mask.toBbox(packed).tolist() if pixels.any() else None
        assert extent({"size": [h, w], "counts": packed["counts"].decode()}) == wanted
        flat = pixels.ravel(order="F")
        ends = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
        runs = np.diff(np.concatenate([[0], ends]))
        assert extent({"size": [h, w], "counts": runs.tolist()}) == wanted


def test_numbers_in_quotes_are_read_and_counted(images: Path) -> None:
    def quote(document: dict[str, Any]) -> None:
        for row in document["images"]:
            row |= {key: str(row[key]) for key in ("width", "height")}
        for row in document["annotations"]:
            row |= {"area": str(row["area"]), "iscrowd": str(row["iscrowd"])}

    found, said = changed(images, quote)
    plain, _ = changed(images, lambda d: None)
    assert found == plain
    assert "54 sizes, areas and flags that are numbers in quotes" in said
    assert changed(images, lambda d: d["annotations"][0].update(iscrowd="yes"))[0] is None
    document = whole()
    quote(document)
    path = images / "quoted.json"
    path.write_text(json.dumps(document))
    assert as_it_is(path)["annotations"] == whole()["annotations"]
    assert as_it_is(path)["images"] == whole()["images"]


def test_classes_that_lvis_does_not_draw_in_full_are_told(images: Path) -> None:
    def undrawn(document: dict[str, Any]) -> None:
        for n, row in enumerate(document["images"]):
            row["not_exhaustive_category_ids"] = [1] * n

    found, said = changed(images, undrawn)
    assert found == changed(images, lambda d: None)[0]
    assert "of 2 images not every object of some classes is drawn" in said
