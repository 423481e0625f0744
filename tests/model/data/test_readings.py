"""What tools write in another way than COCO says is read as it is meant, and counted; never guessed."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.actions.export_dataset import write
from model.data.check import inspect
from model.data.convert_voc import parse
from model.data.layouts import in_place
from model.data.turned import around_turned, inside
from model.errors import UserError
from model.spec import default_spec
from tests.model.data import drawn as writers
from tests.model.data.drawn import SIZE, Drawn, put, seen

pytestmark = pytest.mark.usefixtures("cache")


Change = Callable[[dict[str, Any]], None]


def each(change: Callable[[dict[str, Any]], Any], section: str = "annotations") -> Change:
    def all_of(document: dict[str, Any]) -> None:
        for row in document[section]:
            change(row)

    return all_of


def polygon(row: dict[str, Any]) -> list[float]:
    x, y, w, h = row["bbox"]
    return [x, y, x + w, y, x + w, y + h, x, y + h]


NAMES = {1: "red car", 2: "blue"}
READ: dict[str, tuple[Change, str]] = {
    "boxes in quotes": (each(lambda a: a.update(bbox=list(map(str, a["bbox"])))), "boxes of numbers in quotes"),
    "category ids in quotes": (each(lambda a: a.update(category_id=str(a["category_id"]))), "category ids written as another type"),
    "category ids with zeros": (each(lambda a: a.update(category_id=f"0{a['category_id']}")), "category ids written as another type"),
    "image ids in quotes": (each(lambda a: a.update(image_id=str(a["image_id"]))), "image ids written as another type"),
    "ids of images in quotes": (each(lambda i: i.update(id=f"{i['id']:04}"), "images"), "image ids written as another type"),
    "names for ids": (each(lambda a: a.update(category_id=NAMES[a["category_id"]])), "category ids that are names"),
    "empty boxes with polygons": (each(lambda a: a.update(segmentation=[polygon(a)], bbox=[0, 0, 0, 0])), "boxes made of masks"),
    "no boxes but polygons": (each(lambda a: a.update(segmentation=[polygon(a)]) or a.pop("bbox")), "boxes made of masks"),
    "another suffix": (each(lambda i: i.update(file_name=i["file_name"].replace(".png", ".jpg")), "images"), "images named with another suffix"),
    "turned to where they were": (each(lambda a: a.update(attributes={"rotation": 180.0, "occluded": False})), ""),
    "not turned": (each(lambda a: a.update(attributes={"rotation": 0.0})), ""),
}  # fmt: skip


def looked_at(place: Path, tmp_path: Path) -> tuple[Any, list[str]]:
    spec = default_spec("train")
    spec["dataset"]["batch_size"] = 2
    found = inspect(spec, str(place), work_dir=tmp_path / "work")
    assert found["problems"] == []
    return {k: v for k, v in found["facts"].items() if k != "layout"}, found["warnings"]


@pytest.mark.parametrize("case", READ)
def test_what_is_meant_is_read_and_counted(case: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    """The same boxes and names as of the plain file; converted to our layout, the same again, without a word."""
    change, note = READ[case]
    for name in ("plain", "other"):
        writers.ours(tmp_path / name, *pictures)
        for path in (tmp_path / name).glob("*/annotations.json"):
            document = json.loads(path.read_text())
            if name == "other":
                change(document)
            path.write_text(json.dumps(document))
    wanted, notes = looked_at(tmp_path / "plain", tmp_path)
    found, told = looked_at(tmp_path / "other", tmp_path)
    assert found == wanted
    assert len(told) - len(notes) == (3 if note else 0)
    assert sum(note in line for line in told) == 3 or not note
    assert seen(in_place(str(tmp_path / "other"))) == seen(in_place(str(tmp_path / "plain")))
    write(str(tmp_path / "other"), tmp_path / "ours", val_share=0)
    assert looked_at(tmp_path / "ours", tmp_path) == (wanted, notes)


def test_a_name_that_is_a_number(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    writers.ours(tmp_path / "data", *pictures)
    for path in (tmp_path / "data").glob("*/annotations.json"):
        document = json.loads(path.read_text())
        for category in document["categories"]:
            category["name"] = category["id"] + 4
        path.write_text(json.dumps(document))
    facts, _ = looked_at(tmp_path / "data", tmp_path)
    assert [c["name"] for c in facts["classes"]] == ["5", "6"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["categories"].append({"id": "1", "name": "x"}) or d["annotations"][0].update(category_id="01"),
         "'01'; known: .*it may be any of 1, '1'"),
        (lambda d: d["categories"].append({"id": 3, "name": "2"}) or d["annotations"][0].update(category_id="2"),
         "it may be any of 2, 3"),
        (lambda d: d["annotations"][0].update(category_id="Blue"), "unknown category id 'Blue'"),
        (lambda d: d["annotations"][0].update(category_id="1.5"), "unknown category id '1.5'"),
        (lambda d: d["annotations"][0].update(bbox=["1", "2", "3", "nan"]), "bbox must be four numbers"),
        (lambda d: d["annotations"][0].update(bbox=["1", "2", "3", "1_0"]), "bbox must be four numbers"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3, 4, 30]), "of a turned box give the upright one"),
        (lambda d: d["annotations"][0].update(rotation=30), "rotation 30: whether bbox is as before or after the turn"),
    ],
)  # fmt: skip
def test_what_may_mean_two_things_is_refused(
    change: Change, message: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    writers.ours(tmp_path / "data", *pictures)
    path = tmp_path / "data/train/annotations.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    spec = default_spec("train")
    found = inspect(spec, str(tmp_path / "data"), work_dir=tmp_path / "work")
    with pytest.raises(UserError, match=message):
        raise UserError("\n".join(found["problems"]))


# ---- turned boxes -------------------------------------------------------------------------------------------------


def turned_corners(box: Sequence[float], degrees: float) -> list[float]:
    x, y, w, h = box
    turn = math.radians(degrees)
    corners = [(-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2)]
    points = [
        (
            x + w / 2 + a * math.cos(turn) - b * math.sin(turn),
            y + h / 2 + a * math.sin(turn) + b * math.cos(turn),
        )
        for a, b in corners
    ]
    return [v for point in points for v in point]


@given(
    st.tuples(*[st.floats(-50, 50)] * 2, *[st.floats(0.1, 60)] * 2), st.floats(-720, 720)
)  # fmt: skip
def test_the_box_around_a_turned_box_is_that_of_its_corners(box: tuple[float, ...], degrees: float) -> None:
    points = np.reshape(turned_corners(box, degrees), (4, 2))
    wanted = [*points.min(axis=0), *(points.max(axis=0) - points.min(axis=0))]
    assert around_turned(box, degrees) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("mask", ["none", "of the upright box", "of the turned box"])
@pytest.mark.parametrize("degrees", [30.0, 90.0, -45, 275.5])
def test_turned_boxes_of_cvat(
    degrees: float, mask: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    writers.cvat(tmp_path / "data", *pictures)
    path = tmp_path / "data/annotations/instances_default.json"
    document = json.loads(path.read_text())
    wanted = {}
    for row in document["annotations"]:
        wanted[row["id"]] = inside(around_turned(row["bbox"], degrees), SIZE)
        row["attributes"] = {"occluded": False, "rotation": degrees}
        if mask != "none":
            row["segmentation"] = [
                polygon(row) if "upright" in mask else turned_corners(row["bbox"], degrees)
            ]
    path.write_text(json.dumps(document))
    data = in_place(str(tmp_path / "data"))
    boxes = [b[1:] for of in seen(data)["train"].values() for b in of]
    assert len(boxes) == len(wanted)
    assert np.allclose(sorted(boxes), sorted(wanted.values()))
    _, told = looked_at(tmp_path / "data", tmp_path)
    assert any(
        f"{len(wanted)} turned boxes (attribute rotation) read as the upright boxes" in n for n in told
    )
    write(str(tmp_path / "data"), tmp_path / "new", val_share=0)
    again = [b[1:] for of in seen(in_place(str(tmp_path / "new")))["train"].values() for b in of]
    assert np.allclose(sorted(again), sorted(boxes))


@pytest.mark.parametrize(("value", "turned"), [("30.0", 1), ("0.0", 0), ("much", 0), ("", 0)])
def test_turned_boxes_of_voc_as_cvat_writes_it(value: str, turned: int, tmp_path: Path) -> None:
    text = f"<attributes><attribute><name>rotation</name><value>{value}</value></attribute></attributes>"
    xml = writers.voc_xml(writers.Picture("a", (("blue", 20.0, 20.0, 30.0, 10.0),)))
    put(tmp_path / "a.xml", xml.replace("</object>", f"{text}</object>"))
    found = parse(tmp_path / "a.xml", SIZE)
    ((_, (left, top, right, bottom)),) = found.objects
    wanted = around_turned((20.0, 20.0, 30.0, 10.0), 30.0) if turned else [20.0, 20.0, 30.0, 10.0]
    assert [left, top, right - left, bottom - top] == pytest.approx(wanted)
    assert list(found.remarks.values()) == [1] * turned


def test_masks_are_no_reason_for_boxes_that_are_there(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    """Only boxes that say nothing are made of masks; those without a mask stay empty ones."""
    writers.ours(tmp_path / "data", *pictures)
    path = tmp_path / "data/train/annotations.json"
    document = json.loads(path.read_text())
    rows = document["annotations"]
    for row in rows:
        row["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    lone = copy.deepcopy(rows[0]) | {"id": 99, "bbox": [0, 0, 0, 0], "segmentation": []}
    document["annotations"].append(lone)
    path.write_text(json.dumps(document))
    _, told = looked_at(tmp_path / "data", tmp_path)
    assert any("1 empty box left out, the first: annotation 99" in note for note in told)
    assert not any("made of masks" in note for note in told)
