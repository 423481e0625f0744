"""What `deformable_detr convert` writes is what a run would have used: the same images, boxes and names, without a word
of mending; and what a run refuses, it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.actions.export_dataset import write
from model.data import facts
from model.data.check import inspect
from model.data.tree import SPLITS
from model.errors import UserError
from model.spec import default_spec
from model.spec import put as set_leaf
from tests.model.data import drawn as writers
from tests.model.data.drawn import LAYOUTS, Drawn, put

pytestmark = pytest.mark.usefixtures("cache")


def plan(place: Path, **dataset: Any) -> tuple[dict[str, Any], list[str], list[str]]:
    """(facts without the layout, problems, notes)."""
    spec = default_spec("train")
    spec["dataset"].update({"batch_size": 1} | dataset)
    spec["train"]["seed"] = 3
    try:
        found = inspect(spec, str(place), work_dir=place.parent / f"work {place.name}")
    except UserError as error:
        return {}, str(error).splitlines(), []
    facts = {key: value for key, value in found["facts"].items() if key != "layout"}
    if facts.get("test") == {"images": 0, "boxes": 0}:
        del facts["test"]
    return facts, found["problems"], found["warnings"]


def edit(root: Path, split: str, change: Callable[[dict[str, Any]], Any]) -> None:
    path = root / split / "annotations.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def box(n: int, values: list[float], **more: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda d: d["annotations"][n].update({"bbox": values} | more)


def copy_into_val(root: Path) -> None:
    shutil.copy(root / "train/images/train_0.png", root / "val/images/val_0.png")


def val_within_train(root: Path) -> None:
    """One of its images, labels and all."""
    shutil.rmtree(root / "val")
    shutil.copytree(root / "train", root / "val")

    def one(document: dict[str, Any]) -> None:
        kept = document["annotations"][0]["image_id"]
        document["images"] = [i for i in document["images"] if i["id"] == kept]
        document["annotations"] = [a for a in document["annotations"] if a["image_id"] == kept]

    edit(root, "val", one)


USED: dict[str, tuple[Callable[[Path], Any], dict[str, Any]]] = {
    "empty": (lambda r: edit(r, "train", box(0, [5, 5, 0, 4])), {}),
    "beyond": (lambda r: edit(r, "val", box(0, [70, 5, 20, 4])), {}),
    "twice": (lambda r: edit(r, "train", lambda d: d["annotations"].append(d["annotations"][0] | {"id": 99})), {}),
    "one id": (lambda r: edit(r, "train", lambda d: [a.update(id=1) for a in d["annotations"]]), {}),
    "no ids": (lambda r: edit(r, "train", lambda d: [a.pop("id") for a in d["annotations"]]), {}),
    "crowd": (lambda r: edit(r, "train", box(1, [1, 1, 30, 30], iscrowd=1)), {}),
    "image rows": (lambda r: edit(r, "train", lambda d: d["images"].append(d["images"][0] | {"id": 77})), {}),
    "sizes": (lambda r: edit(r, "train", lambda d: [i.pop("width") for i in d["images"]]), {}),
    "copies": (copy_into_val, {}),
    "val within train": (val_within_train, {}),
    "one set twice": (lambda r: [shutil.rmtree(r / "val"), shutil.copytree(r / "train", r / "val")], {}),
    "empty test": (lambda r: edit(r, "test", lambda d: d["annotations"].clear()), {}),
    "unused class": (lambda r: edit(r, "val", lambda d: d["categories"].append({"id": 9, "name": "x"})), {}),
    "many mended": (lambda r: [edit(r, "train", box(n, [5, 5, 0, 4])) for n in range(3)], {"mended_share": 0.5}),
    "by name": (lambda r: edit(r, "val", lambda d: [c.update(id=c["id"] + 5) for c in d["categories"]]
                               + [a.update(category_id=a["category_id"] + 5) for a in d["annotations"]]),
                {"match_classes_by_name": True}),
    "no val": (lambda r: shutil.rmtree(r / "val"), {}),
}  # fmt: skip


def assert_round_trip(source: Path, target: Path, **dataset: Any) -> None:
    wanted, problems, _ = plan(source, **dataset)
    assert problems == []
    write(str(source), target, seed=3, overrides={f"dataset.{key}": value for key, value in dataset.items()})
    found, problems, notes = plan(target)
    assert problems == []
    assert found == wanted
    notes = [n for n in notes if "(iscrowd 1)" not in n]  # these stay what they are
    assert not [n for n in notes if "boxes" in n or "images" in n or "rows" in n or "held out" in n]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout(name: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    LAYOUTS[name][0](tmp_path / "data", *pictures)
    assert_round_trip(tmp_path / "data", tmp_path / "new")


@pytest.mark.parametrize("name", USED)
def test_what_a_run_mends_or_leaves_out(name: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    writers.ours(tmp_path / "data", *pictures)
    damage, dataset = USED[name]
    damage(tmp_path / "data")
    assert_round_trip(tmp_path / "data", tmp_path / "new", **dataset)


@pytest.mark.parametrize("name", [*LAYOUTS, *USED])
def test_a_run_that_goes_on_finds_its_data_again(
    name: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    """By the spec that the first look filled in, which is all that it then has."""
    root, spec = tmp_path / "data", default_spec("train")
    damage, dataset = USED.get(name, (lambda root: None, {}))
    LAYOUTS[name][0](root, *pictures) if name in LAYOUTS else writers.ours(root, *pictures)
    damage(root)
    spec["dataset"].update({"batch_size": 1} | dataset)
    first = inspect(spec, str(root), work_dir=tmp_path / "run")
    for leaf, value in {**first["fill"], **first["replace"]}.items():
        set_leaf(spec, leaf, value)
    again = inspect(spec, None, work_dir=tmp_path / "again")
    assert again["problems"] == []
    before = json.loads(json.dumps(first["facts"]))
    assert facts.changes(before, again["facts"]) == {"changed": [], "not_compared": []}
    assert [before["contents"].get(s, {}).get("labels") for s in SPLITS] == [
        again["facts"]["contents"].get(s, {}).get("labels") for s in SPLITS
    ]


def empty(document: dict[str, Any]) -> None:
    document["images"], document["annotations"] = [], []


REFUSED: dict[str, Callable[[Path], Any]] = {
    "val without images": lambda r: edit(r, "val", empty),
    "train without images": lambda r: edit(r, "train", empty),
    "val without boxes": lambda r: edit(r, "val", lambda d: d["annotations"].clear()),
    "only crowds": lambda r: edit(r, "train", lambda d: [a.update(iscrowd=1) for a in d["annotations"]]),
    "many mended": lambda r: [edit(r, "train", box(n, [5, 5, 0, 4])) for n in range(3)],
    "other class": lambda r: edit(r, "val", lambda d: d["categories"][0].update(name="x")),
    "size": lambda r: edit(r, "val", lambda d: d["images"][0].update(width=81)),
    "gone": lambda r: (r / "val/images/val_0.png").unlink(),
    "broken": lambda r: [p.write_bytes(b"x") for p in (r / "train/images").glob("train_[0-3].png")],
    "unknown id": lambda r: edit(r, "train", lambda d: d["annotations"][0].update(category_id=8)),
    "two files": lambda r: (
        shutil.copy(r / "val/annotations.json", r / "val/annotations (1).json")
        and (r / "val/annotations.json").rename(r / "val/annotations_val.json")
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_run_refuses_is_refused_in_its_words(
    name: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    writers.ours(tmp_path / "data", *pictures)
    REFUSED[name](tmp_path / "data")
    _, problems, _ = plan(tmp_path / "data")
    assert problems
    with pytest.raises(UserError) as caught:
        write(str(tmp_path / "data"), tmp_path / "new", seed=3)
    assert str(caught.value).splitlines() == [line for text in problems for line in text.splitlines()]
    assert not (tmp_path / "new").exists()


def test_what_else_stands_in_a_file_is_kept(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    writers.ours(tmp_path / "data", *pictures)

    def more(document: dict[str, Any]) -> None:
        document["info"] = {"year": 2026}
        document["images"][0]["camera"] = 7
        document["annotations"][2]["segmentation"] = [[1, 1, 9, 1, 9, 9]]
        document["annotations"].insert(0, document["annotations"][0] | {"id": 99, "bbox": [1, 1, 0, 1]})

    edit(tmp_path / "data", "train", more)
    write(str(tmp_path / "data"), tmp_path / "new")
    document = json.loads((tmp_path / "new/train/annotations.json").read_text())
    assert document["info"] == {"year": 2026}
    assert document["images"][0]["camera"] == 7
    assert document["categories"][0]["supercategory"] == ""
    (row,) = [a for a in document["annotations"] if "segmentation" in a]
    assert row["id"] == 3
    assert len(document["annotations"]) == sum(len(p.boxes) for p in pictures[1]["train"])


def test_no_place_of_the_labels_is_written(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    writers.yolo(tmp_path / "data", *pictures)
    put(tmp_path / "data/notes.txt", "")
    write(str(tmp_path / "data"), tmp_path / "new")
    for path in (tmp_path / "new").rglob("*.json"):
        assert str(tmp_path) not in path.read_text()
