"""The page about a dataset: its numbers, its warnings, and that it needs no network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data import described, images
from model.data.check import inspect
from model.data.coco import Options
from model.data.picture import advice, read, trained_sides, write
from model.data.seen import training_scale
from model.spec import default_spec, put


def spec_of(**leaves: Any) -> dict[str, Any]:
    spec = default_spec("train")
    for name, value in {"dataset.batch_size": 2, **leaves}.items():
        put(spec, name.replace("__", "."), value)
    return spec


def train_of(demo: Path) -> dict[str, Any]:
    source = {"image_dir": str(demo / "train/images"), "json_file": str(demo / "train/annotations.json")}
    return {"dataset.train_data_sources": [source]}


def test_the_page_holds_counts_classes_and_sixteen_images(demo: Path, tmp_path: Path) -> None:
    warnings = write(spec_of(), str(demo), tmp_path / "below/data.html", tmp_path / "work")
    page = (tmp_path / "below/data.html").read_text()
    assert len(page) < 3 << 20
    assert page.count("data:image/jpeg;base64,") == 12  # all there are
    assert not re.search(r"(src|href)=['\"]?https?:", page)
    assert "<td>train</td><td>12</td>" in page
    document = json.loads((demo / "train/annotations.json").read_text())
    for category in document["categories"]:
        count = sum(a["category_id"] == category["id"] for a in document["annotations"])
        assert f"<td>{category['id']} {category['name']}</td><td>{count}</td>" in page
    assert any("classes of fewer than 10 objects" in line for line in warnings)


def test_images_that_were_checked_have_no_smaller_limit_where_they_are_shown(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images.open_rgb, "__defaults__", (10,))  # the limit of who gives none
    write(spec_of(), str(demo), tmp_path / "data.html", tmp_path / "work")
    assert (tmp_path / "data.html").read_text().count("data:image/jpeg;base64,") == 12
    described.write(spec_of(**train_of(demo), dataset__val_data_sources=[]), tmp_path / "report")
    assert len(list((tmp_path / "report/pictures").iterdir())) == 12


def test_crowds_are_no_boxes_of_the_page(own_demo: Path, tmp_path: Path) -> None:
    path = own_demo / "train/annotations.json"
    document = json.loads(path.read_text())
    first = document["annotations"][0]["category_id"]
    for row in document["annotations"]:
        row["iscrowd"] = int(row["category_id"] == first)
    path.write_text(json.dumps(document))
    write(spec_of(), str(own_demo), tmp_path / "data.html", tmp_path / "work")
    name = {c["id"]: c["name"] for c in document["categories"]}[first]
    left = sum(not row["iscrowd"] for row in document["annotations"])
    page = (tmp_path / "data.html").read_text()
    assert f"<td>{first} {name}</td><td>0</td>" in page
    assert f"<td>train</td><td>12</td><td>{left}</td>" in page


def test_problems_are_on_the_page_and_markup_is_text(own_demo: Path, tmp_path: Path) -> None:
    path = own_demo / "train/annotations.json"
    document = json.loads(path.read_text())
    document["categories"][0]["name"] = "<script>alert(1)</script>"
    path.write_text(json.dumps(document))
    (own_demo / "val/annotations.json").write_text(path.read_text().replace("0001.png", "<b>gone.png"))
    lines = write(spec_of(), str(own_demo), tmp_path / "data.html", tmp_path / "work")
    page = (tmp_path / "data.html").read_text()
    assert any("<b>gone.png is not in" in line for line in lines)
    assert "&lt;b&gt;gone.png is not in" in page
    assert "<script>" not in page
    assert "<h2>Problems</h2>" in page


def test_the_page_shows_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nothing = {"facts": {}, "problems": ["none is there"], "warnings": [], "fill": {}}
    monkeypatch.setattr("model.data.check.inspect", lambda *_, **__: nothing)
    url = "https://ann:s3cret@host.example/x.zip?sig=s3cret"
    write(default_spec("train"), url, tmp_path / "page.html", tmp_path)
    page = (tmp_path / "page.html").read_text()
    assert "s3cret" not in page
    assert page.count("https://host.example/x.zip") == 2


@pytest.mark.parametrize("ids", [[1 << 63, (1 << 64) - 1, 7], [1 << 65, -3, 7], ["10", 2, "x"]])
def test_ids_that_no_number_of_64_bits_holds_are_those_of_texts(
    ids: list[Any], own_demo: Path, tmp_path: Path
) -> None:
    for path in own_demo.glob("*/annotations.json"):
        document = json.loads(path.read_text())
        for row in document["categories"]:
            row["id"] = ids[row["id"] - 1]
        for row in document["annotations"]:
            row["category_id"] = ids[row["category_id"] - 1]
        path.write_text(json.dumps(document))
    fill = inspect(spec_of(), str(own_demo), work_dir=tmp_path)["fill"]
    assert fill["dataset.eval_class_ids"] is None  # no spec can hold them
    spec = spec_of(**fill)
    described.write(spec, tmp_path / "told")
    assert json.loads((tmp_path / "told/report.json").read_text())["parts"]
    write(spec_of(), str(own_demo), tmp_path / "data.html", tmp_path / "work")
    assert (tmp_path / "data.html").read_text().count("data:image/jpeg;base64,") == 12


@pytest.mark.parametrize(
    ("leaves", "side"),
    [
        ({"train__input_width": 320, "train__input_height": 160}, (100.0, 50.0)),
        ({"dataset__augmentation__scales": [320, 640]}, (200.0, 200.0)),
        ({"dataset__augmentation__scales": [640], "dataset__augmentation__random_resize_max_size": 320}, (100.0, 100.0)),
    ],
)  # fmt: skip
def test_objects_are_measured_at_the_training_size(
    leaves: dict[str, Any], side: tuple[float, float], demo: Path
) -> None:
    split = read(train_of(demo), "train", Options.of(spec_of()))
    assert split
    one = replace(
        split,
        boxes_xywh_px=np.array([[0, 0, 20, 20]]),
        owner=np.array([0]),
        labels=np.array([1]),
        sizes=np.array([[64.0, 64.0]]),
    )
    assert trained_sides(one, training_scale(spec_of(**leaves)))[0] == pytest.approx(side)


def test_small_and_rare_objects_are_named(demo: Path) -> None:
    split = read(train_of(demo), "train", Options.of(spec_of()))
    assert split
    boxes = np.array(split.boxes_xywh_px)
    boxes[:3, 2:] = 1
    lines = advice(
        [replace(split, boxes_xywh_px=boxes)],
        {1: "circle", 2: "square", 3: "triangle"},
        spec_of(train__input_width=128, train__input_height=128),
    )
    assert any("3 objects" in line and "smaller than 8 px at the training size" in line for line in lines)
