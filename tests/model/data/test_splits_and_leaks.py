"""All splits together: names and ids, copies across, a fair own split, what is left to train on."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.coco_metrics import CocoMetrics
from model.data import leaks
from model.data.check import inspect
from model.data.classes import are_ordinary, labelled
from model.data.coco import CocoData, Options, load_sources
from model.data.mending import Rules
from model.data.splits import groups_of, held_out
from model.errors import UserError
from model.spec import default_spec, put
from tests.model.data.test_check import edit

pytestmark = pytest.mark.usefixtures("cache")


def looked_at(data: Path | None, **leaves: Any) -> dict[str, Any]:
    spec = default_spec("train")
    put(spec, "dataset.batch_size", 2)
    for name, value in leaves.items():
        put(spec, name.replace("__", "."), value)
    return inspect(spec, str(data) if data else None, work_dir=(data or Path()) / "work")


def said(found: dict[str, Any]) -> str:
    return "\n".join(found["problems"] + found["warnings"])


def copy_image(data: Path, source: str, target: str) -> None:
    """`split/images/name` again as another one, stored anew: other bytes, the same pixels."""
    a, b = (data / place.split("/")[0] / "images" / place.split("/")[1] for place in (source, target))
    Image.open(a).convert("RGB").save(b, compress_level=0)


def names_in(sources: list[dict[str, str]]) -> list[str]:
    documents = [json.loads(Path(source["json_file"]).read_text()) for source in sources]
    return [row["file_name"] for document in documents for row in document["images"]]


# ---- copies across splits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("train/0005.png", "val/0001.png"),
        ("train/0005.png", "test/0002.png"),
        ("val/0003.png", "test/0004.png"),
    ],
)
def test_copies_are_left_out_counted_and_named(own_demo: Path, source: str, target: str) -> None:
    copy_image(own_demo, source, target)
    split = target.split("/")[0]
    found = looked_at(own_demo)
    assert found["problems"] == []
    assert "1 validation image left out" in said(found) or "1 test image left out" in said(found)
    assert f"{split}/images/{target.split('/')[1]} is also" in said(found)
    assert found["facts"][split]["images"] == 3
    leaf = "dataset.val_data_sources" if split == "val" else "dataset.test_data_sources.json_file"
    written = found["replace"][leaf]
    document = json.loads(Path(written if isinstance(written, str) else written[0]["json_file"]).read_text())
    assert target.split("/")[1] not in [image["file_name"] for image in document["images"]]
    assert len(document["images"]) == 3
    strict = looked_at(own_demo, dataset__strict=True)
    assert "which dataset.strict refuses" in "\n".join(strict["problems"])
    kept = looked_at(own_demo, dataset__allow_leaks=True)
    assert kept["problems"] == []
    assert kept["facts"][split]["images"] == 4
    assert "are kept" in said(kept)


def test_what_is_left_is_what_training_reads(own_demo: Path) -> None:
    copy_image(own_demo, "train/0005.png", "val/0001.png")
    found = looked_at(own_demo)
    assert len(load_sources(found["fill"]["dataset.val_data_sources"])) == 3


def test_named_sources_are_replaced_too(own_demo: Path) -> None:
    copy_image(own_demo, "train/0005.png", "val/0001.png")
    sources = {
        s: {"image_dir": str(own_demo / s / "images"), "json_file": str(own_demo / s / "annotations.json")}
        for s in ("train", "val")
    }
    found = looked_at(
        own_demo, dataset__train_data_sources=[sources["train"]], dataset__val_data_sources=[sources["val"]]
    )
    assert "dataset.val_data_sources" in found["replace"]
    assert "dataset.train_data_sources" not in found["replace"]


def test_who_validates_on_the_training_images_has_no_validation_set(own_demo: Path) -> None:
    """As in COCO8's and COCO128's data.yaml, which name one folder twice."""
    shutil.rmtree(own_demo / "val")
    shutil.copytree(own_demo / "train", own_demo / "val")
    found = looked_at(own_demo)
    assert found["problems"] == []
    assert "every validation image (12) is one of the 12 training images: they do not validate" in said(found)
    assert "no validation set: 2 of the 12 training images" in said(found)
    train, val = (set(names_in(found["fill"][f"dataset.{s}_data_sources"])) for s in ("train", "val"))
    assert (len(train), len(val), train & val) == (10, 2, set())
    kept = looked_at(own_demo, dataset__allow_leaks=True)
    assert (kept["problems"], kept["replace"]) == ([], {})
    assert "dataset.strict refuses" in "\n".join(looked_at(own_demo, dataset__strict=True)["problems"])


def test_validation_images_that_are_all_among_the_training_images_leave_those(own_demo: Path) -> None:
    shutil.rmtree(own_demo / "val")
    shutil.copytree(own_demo / "train", own_demo / "val")
    edit(own_demo, "val", only({2, 5, 7, 11}))
    found = looked_at(own_demo)
    assert found["problems"] == []
    assert "every validation image (4) is one of the 12 training images: they are left out" in said(found)
    assert found["replace"].keys() == {"dataset.train_data_sources"}
    assert len(names_in(found["fill"]["dataset.train_data_sources"])) == 8
    assert len(names_in(found["fill"]["dataset.val_data_sources"])) == 4


def test_validation_images_with_other_labels_than_in_the_training_set_are_asked_about(own_demo: Path) -> None:
    """As of one pool of images that both splits link to, each with labels of its own."""
    shutil.rmtree(own_demo / "val")
    shutil.copytree(own_demo / "train", own_demo / "val")
    edit(
        own_demo, "train", lambda d: d.update(annotations=[a for a in d["annotations"] if a["image_id"] < 9])
    )
    found = "\n".join(looked_at(own_demo)["problems"])
    assert "every validation image (12) is one of the 12 training images, but 4 with other boxes" in found
    assert looked_at(own_demo, dataset__allow_leaks=True)["problems"] == []


def only(images: set[int]) -> Callable[[dict[str, Any]], Any]:
    """What leaves a COCO document these images."""
    return lambda d: d.update(
        images=[i for i in d["images"] if i["id"] in images],
        annotations=[a for a in d["annotations"] if a["image_id"] in images],
    )


def test_a_class_does_not_leave_the_training_set_with_the_validation_images(own_demo: Path) -> None:
    first = json.loads((own_demo / "train/annotations.json").read_text())["annotations"][0]
    alone = first["category_id"]
    edit(own_demo, "train", lambda d: [a.update(category_id=alone % 3 + 1) for a in d["annotations"][1:]])
    shutil.rmtree(own_demo / "val")
    shutil.copytree(own_demo / "train", own_demo / "val")
    edit(own_demo, "val", only({first["image_id"]}))
    found = looked_at(own_demo)
    assert found["problems"] == []
    assert "of the 12 training images: they do not validate" in said(found)


def test_a_test_set_of_training_images_is_no_test_set(own_demo: Path) -> None:
    shutil.rmtree(own_demo / "test")
    shutil.copytree(own_demo / "train", own_demo / "test")
    found = looked_at(own_demo)
    assert found["problems"] == []
    assert "nothing is scored on them" in said(found)
    assert found["replace"]["dataset.test_data_sources.json_file"] == ""


def test_near_copies_are_noted_and_stay(own_demo: Path) -> None:
    random = np.random.default_rng(0)
    for split, n in (("train", 12), ("val", 4), ("test", 4)):  # pictures that are nowhere plain
        for k in range(1, n + 1):
            coarse = Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8))
            coarse.resize((64, 64)).save(own_demo / split / "images" / f"{k:04}.png")
    assert "look like" not in said(looked_at(own_demo))
    image = Image.open(own_demo / "train" / "images" / "0002.png")
    image.save(own_demo / "again.jpg", quality=60)
    Image.open(own_demo / "again.jpg").save(own_demo / "val" / "images" / "0003.png")
    found = looked_at(own_demo)
    assert "1 validation image looks like training images" in said(found)
    assert found["facts"]["val"]["images"] == 4


# ---- the engine's own split -------------------------------------------------------------------------------------


@given(
    shows=st.lists(st.frozensets(st.integers(0, 5), max_size=3), min_size=2, max_size=60),
    parts=st.integers(1, 60),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_a_held_out_set_parts_no_group_and_takes_no_class_whole(
    shows: list[frozenset[int]], parts: int, seed: int
) -> None:
    groups = [n % parts for n in range(len(shows))]
    held = held_out(shows, groups, seed)
    assert len(set(zip(groups, held.tolist(), strict=True))) == len(set(groups))
    assert not held.all()
    if len(set(groups)) > 1:
        assert held.any()
    of_class = Counter(c for of_image in shows for c in of_image)
    kept = Counter(c for of_image, out in zip(shows, held, strict=True) if not out for c in of_image)
    spread = {c for c in of_class if len({g for g, s in zip(groups, shows, strict=True) if c in s}) > 1}
    if parts >= len(shows):  # groups of one
        assert held.sum() <= max(1, round(0.2 * len(shows)))
        if len(shows) > 10:
            assert spread <= set(kept)
    shown = {g for g, s in zip(groups, shows, strict=True) if s}
    if 1 < len(shown) < len(set(groups)):
        assert {bool(held[groups.index(g)]) for g in shown} == {True, False}
    assert (held == held_out(shows, groups, seed)).all()


def test_each_class_gives_about_its_share() -> None:
    random = np.random.default_rng(0)
    shows = [
        frozenset(np.flatnonzero(random.random(6) < [0.7, 0.3, 0.1, 0.05, 0.02, 0.01]).tolist())
        for _ in range(1000)
    ]
    held = held_out(shows, list(range(1000)), 3)
    assert held.sum() == 200
    for c in range(6):
        has = np.array([c in s for s in shows])
        assert abs((has & held).sum() - 0.2 * has.sum()) <= max(1.5, 0.06 * has.sum())


def test_copies_and_versions_of_a_photo_are_one_group() -> None:
    names = ["a_jpg.rf.0a1b.jpg", "a_jpg.rf.99ff.jpg", "b.jpg", "c.jpg", "a.rf.jpg"]
    groups = groups_of([Path(name) for name in names], ["1", "2", "2", "3", "4"])
    assert groups[0] == groups[1] == groups[2]
    assert len({groups[0], groups[3], groups[4]}) == 3


def test_identical_images_stay_on_one_side(own_demo: Path) -> None:
    shutil.rmtree(own_demo / "val")
    for k in range(1, 12, 2):
        copy_image(own_demo, f"train/{k:04}.png", f"train/{k + 1:04}.png")
    found = looked_at(own_demo)
    assert found["problems"] == []
    assert "2 of the 12 training images" in said(found)
    assert "(6 groups)" in said(found)
    held = json.loads(Path(found["fill"]["dataset.val_data_sources"][0]["json_file"]).read_text())
    numbers = sorted(int(image["file_name"][:4]) for image in held["images"])
    assert numbers[1] == numbers[0] + 1
    assert numbers[0] % 2 == 1


# ---- names and ids ----------------------------------------------------------------------------------------------


def renamed(data: Path, split: str, mapping: dict[Any, tuple[Any, str]]) -> None:
    """Give a split's categories other ids and names, its boxes along."""

    def change(document: dict[str, Any]) -> None:
        document["categories"] = [{"id": i, "name": name} for i, name in mapping.values()]
        for annotation in document["annotations"]:
            annotation["category_id"] = mapping[annotation["category_id"]][0]

    edit(data, split, change)


NAMES = {1: "circle", 2: "square", 3: "triangle"}


@pytest.mark.parametrize(
    "names", [("apple", "pear", "plum"), ("apple", "square", "triangle"), ("square", "circle", "plum")]
)
def test_of_other_classes_only_what_is_true_is_said(own_demo: Path, names: tuple[str, ...]) -> None:
    """Boxes are there; matching by name is advised for a name that the training set has, and for no other."""
    renamed(own_demo, "val", {i: (i, name) for i, name in enumerate(names, 1)})
    source = {
        "json_file": str(own_demo / "val" / "annotations.json"),
        "image_dir": str(own_demo / "val" / "images"),
    }
    classes = [{"id": i, "name": name} for i, name in NAMES.items()]
    with pytest.raises(UserError) as caught:
        load_sources([source], options=Options(Rules()), classes=classes)
    lines = str(caught.value).splitlines()
    wrong = [(i, name) for i, name in enumerate(names, 1) if NAMES[i] != name]
    assert len(lines) == len(wrong)
    for line, (i, name) in zip(lines, wrong, strict=True):
        assert f"category {i} is {name} in" in line
        assert ("match_classes_by_name" in line) == (name in NAMES.values())
        assert (f"no class of the training set is called {name}" in line) == (name not in NAMES.values())


def test_boxes_of_unknown_classes_that_do_not_count_are_told_as_such(own_demo: Path) -> None:
    renamed(own_demo, "val", {1: (7, "apple"), 2: (8, "pear"), 3: (9, "plum")})
    source = {
        "json_file": str(own_demo / "val" / "annotations.json"),
        "image_dir": str(own_demo / "val" / "images"),
    }
    classes = [{"id": i, "name": name} for i, name in NAMES.items()]
    with pytest.raises(UserError, match="it has no boxes of a known class that counts"):
        load_sources([source], options=Options(Rules()), classes=classes, counted=[1])


def test_swapped_names_are_refused_or_matched_on_request(own_demo: Path) -> None:
    renamed(own_demo, "val", {1: (2, "circle"), 2: (1, "square"), 3: (3, "triangle")})
    found = looked_at(own_demo)
    problem = "\n".join(found["problems"])
    assert f"category 2 is circle in {own_demo / 'val' / 'annotations.json'}, but square in" in problem
    assert str(own_demo / "train" / "annotations.json") in problem
    assert "dataset.match_classes_by_name=true" in problem
    found = looked_at(own_demo, dataset__match_classes_by_name=True)
    assert found["problems"] == []
    sources = found["fill"]
    options = Options(Rules(), by_name=True)
    train = load_sources(sources["dataset.train_data_sources"], options=options)
    val = load_sources(sources["dataset.val_data_sources"], options=options, classes=train.categories)
    document = json.loads((own_demo / "val" / "annotations.json").read_text())
    circles = sum(a["category_id"] == 2 for a in document["annotations"])
    assert (val.labels == 1).sum() == circles


def near_and_wrong(data: CocoData) -> list[dict[str, Any]]:
    """For each object one detection near it and, with more score, one of each other class in other places."""
    found, classes = [], np.arange(4)  # 0 is no class
    for n in range(len(data)):
        boxes = np.asarray(data.boxes_xywh_px[data.starts[n] : data.starts[n + 1]])
        labels = np.asarray(data.labels[data.starts[n] : data.starts[n + 1]])
        others = np.repeat(boxes, 4, axis=0)
        xywh = np.concatenate([boxes * [1, 1, 0.9, 0.9], others])
        scores = np.concatenate([np.full(len(boxes), 0.5), np.full(len(others), 0.4)])
        row = {"scores": scores, "labels": np.concatenate([labels, np.tile(classes, len(boxes))])}
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        found.append({"image_id": int(data.image_ids[n]), "boxes_xyxy_px": xyxy} | row)
    return found


def by_pycocotools(file: str, results: list[dict[str, Any]]) -> float:
    """mAP of the results of a file's images."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(file)
    scored = COCOeval(truth, truth.loadRes([r for r in results if r["image_id"] in truth.imgs]), "bbox")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    return float(scored.stats[0])


@pytest.mark.parametrize(
    "ids", [{1: 30, 2: 1, 3: 2}, {1: 2, 2: 3, 3: 1}, {1: "c", 2: "a", 3: "b"}, {2: 1, 3: 0}, {1: 7, 3: 2}]
)
def test_results_have_the_ids_of_the_file_whose_classes_were_matched_by_name(
    own_demo: Path, ids: dict[int, Any]
) -> None:
    """Other ids, in another order, or those of a class that the file lacks: pycocotools finds the same mAP."""

    def other(document: dict[str, Any]) -> None:
        document["annotations"] = [a for a in document["annotations"] if a["category_id"] in ids]
        for row in document["images"]:
            row["id"] += 100
        for row in document["annotations"]:
            row["image_id"] += 100

    edit(own_demo, "val", other)
    renamed(own_demo, "val", {n: (i, NAMES[n]) for n, i in ids.items()})
    folders = [own_demo / split for split in ("val", "test")]
    sources = [{"json_file": str(f / "annotations.json"), "image_dir": str(f / "images")} for f in folders]
    classes = [{"id": i, "name": name} for i, name in NAMES.items()]

    def metrics_of(some: list[dict[str, str]]) -> CocoMetrics:
        data = load_sources(some, options=Options(Rules(), by_name=True), classes=classes)
        metrics = CocoMetrics(data)
        metrics.update(near_and_wrong(data))
        return metrics

    both = metrics_of(sources).results()
    for source in sources:
        alone = metrics_of([source])
        assert 0.1 < (mAP := alone.compute()["mAP"]) < 0.9
        for results in (alone.results(), both):
            assert by_pycocotools(source["json_file"], results) == pytest.approx(mAP, abs=1e-12)


def test_one_name_under_two_ids_is_refused(own_demo: Path) -> None:
    renamed(own_demo, "val", {1: (7, "circle"), 2: (2, "square"), 3: (3, "triangle")})
    problem = "\n".join(looked_at(own_demo)["problems"])
    assert "category 7 is circle in" in problem
    assert "but circle is category 1 in" in problem


def test_one_name_twice_in_a_file_is_told_as_such(own_demo: Path) -> None:
    renamed(own_demo, "train", {1: (1, "circle"), 2: (2, "circle"), 3: (3, "triangle")})
    (problem,) = [text for text in looked_at(own_demo)["problems"] if "both" in text]
    assert "categories 1 and 2 are both called circle; set dataset.match_classes_by_name=true" in problem


def test_boxes_of_what_stands_above_the_classes_elsewhere_are_told(own_demo: Path) -> None:
    """As Roboflow writes it: category 0 is called like what the others belong to."""

    def above(document: dict[str, Any]) -> None:
        for category in document["categories"]:
            category["supercategory"] = "things"
        document["categories"].insert(0, {"id": 0, "name": "things", "supercategory": "none"})

    for split in ("train", "val", "test"):
        edit(own_demo, split, above)
    assert looked_at(own_demo)["problems"] == []
    edit(own_demo, "val", lambda d: d["annotations"][0].update(category_id=0))
    (problem,) = looked_at(own_demo)["problems"]
    assert f"category 0 (things) has boxes here, but none in {own_demo}/train/annotations.json" in problem
    assert "not in the training set" not in problem


def test_an_empty_placeholder_of_the_same_name_is_left_out(own_demo: Path) -> None:
    for split in ("train", "val", "test"):
        edit(own_demo, split, lambda d: d["categories"].insert(0, {"id": 0, "name": "circle"}))
    found = looked_at(own_demo)
    assert found["problems"] == []
    assert found["fill"]["dataset.eval_class_ids"] == [1, 2, 3]
    assert "has no boxes and the name of another; left out" in said(found)


@pytest.mark.parametrize("ids", [(300000017, 812345678, 5), ("x9", "a7", "k2"), (-4, 2, 9), (2**70, 1, 2)])
def test_ids_that_are_no_labels_are_numbered_and_given_back(own_demo: Path, ids: tuple[Any, ...]) -> None:
    mapping = {n: (i, NAMES[n]) for n, i in enumerate(ids, 1)}
    for split in ("train", "val", "test"):
        renamed(own_demo, split, mapping)
    found = looked_at(own_demo)
    assert found["problems"] == []
    assert found["fill"]["dataset.num_classes"] == 3
    assert {c["id"] for c in found["facts"]["classes"]} == set(ids)
    data = load_sources(found["fill"]["dataset.train_data_sources"])
    assert sorted(set(data.labels.tolist())) == [0, 1, 2]
    assert {c["category_id"]: c["name"] for c in data.categories} == {
        i: NAMES[n] for n, i in enumerate(ids, 1)
    }

    metrics = CocoMetrics(data, found["fill"]["dataset.eval_class_ids"])
    box = np.array([[0, 0, 5, 5]])
    metrics.update(
        [{"image_id": 1, "scores": np.ones(1), "labels": np.array([n]), "boxes_xyxy_px": box} for n in (2,)]
    )
    assert metrics.results()[0]["category_id"] == data.categories[2]["category_id"]


@given(st.sets(st.integers(0, 3000), min_size=1, max_size=40))
def test_ordinary_ids_are_labels(ids: set[int]) -> None:
    classes = labelled({i: str(i) for i in ids})
    assert [c["name"] for c in classes] == [str(i) for i in sorted(ids)]
    if max(ids) < 1000:
        assert are_ordinary(list(ids))
        assert [c["id"] for c in classes] == sorted(ids)


def test_a_split_may_list_its_own_classes_alone(own_demo: Path) -> None:
    def only_circles(document: dict[str, Any]) -> None:
        document["categories"] = document["categories"][:1]
        document["annotations"] = [a for a in document["annotations"] if a["category_id"] == 1]

    for split in ("val", "test"):
        edit(own_demo, split, only_circles)
    found = looked_at(own_demo)
    assert found["problems"] == []
    train = load_sources(found["fill"]["dataset.train_data_sources"])
    val = load_sources(found["fill"]["dataset.val_data_sources"], classes=train.categories)
    from model.coco_metrics import CocoMetrics

    assert len(CocoMetrics(val, [1, 2, 3]).compute()["per_class"]) == 3


# ---- what is left -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
def test_crowds_alone_are_nothing_to_train_on_or_to_score(own_demo: Path, split: str) -> None:
    edit(own_demo, split, lambda d: [a.update(iscrowd=1) for a in d["annotations"]])
    problem = "\n".join(looked_at(own_demo)["problems"])
    assert "are crowds (iscrowd 1); datumaro and CVAT write every mask so: give iscrowd 0 to" in problem
    assert str(own_demo / split / "annotations.json") in problem


@pytest.mark.parametrize("kept", [{0, 1}, {0, 5, 7}])
def test_images_with_crowds_alone_are_not_all_that_validates(own_demo: Path, kept: set[int]) -> None:
    def leave(d: dict[str, Any]) -> None:
        plain = {d["images"][n]["id"] for n in kept}
        for row in d["annotations"]:
            row.update(category_id=1, iscrowd=int(row["image_id"] not in plain))

    edit(own_demo, "train", leave)
    shutil.rmtree(own_demo / "val")
    found = looked_at(own_demo)
    assert found["problems"] == []
    assert min(found["facts"][split]["boxes"] for split in ("train", "val")) > 0


def test_crowds_are_no_boxes_of_the_facts_and_are_told(own_demo: Path) -> None:
    file = own_demo / "train/annotations.json"
    rows = json.loads(file.read_text())["annotations"]
    first = rows[0]["category_id"]
    crowds = sum(row["category_id"] == first for row in rows)
    edit(
        own_demo,
        "train",
        lambda d: [a.update(iscrowd=1) for a in d["annotations"] if a["category_id"] == first],
    )
    found = looked_at(own_demo)
    facts = found["facts"]
    assert facts["train"] == {"images": 12, "boxes": len(rows) - crowds, "crowds": crowds}
    assert "crowds" not in facts["val"]
    assert {c["id"]: c["train_boxes"] for c in facts["classes"]}[first] == 0
    assert f"{file}: {crowds} of {len(rows)} boxes are crowds (iscrowd 1), neither trained" in said(found)
    assert f"class {first} (" in said(found)
    assert "has no box in the training set" in said(found)


def test_boxes_marked_ignore_are_told_once(own_demo: Path) -> None:
    edit(own_demo, "train", lambda d: [a.update(ignore=1) for a in d["annotations"][:3]])
    assert said(looked_at(own_demo)).count("(iscrowd 1)") == 1
    edit(own_demo, "train", lambda d: d["annotations"][3].update(iscrowd=1))
    assert ": 1 of " in said(looked_at(own_demo))


def test_more_objects_than_queries_are_noted_with_numbers(own_demo: Path) -> None:
    def many(document: dict[str, Any]) -> None:
        for n in range(130):
            box = [n % 40, n // 40, 9, 9]
            document["annotations"].append({"id": 1000 + n, "image_id": 3, "category_id": 1, "bbox": box})

    edit(own_demo, "train", many)
    notes = said(looked_at(own_demo, model__num_queries=120))
    assert "1 image has more objects than the 120" in notes
    assert "(the most: 13" in notes


def test_images_that_use_little_of_16_bits_are_noted(own_demo: Path) -> None:
    assert "16 bits" not in said(looked_at(own_demo))
    for path in (own_demo / "train" / "images").iterdir():
        grey = np.asarray(Image.open(path).convert("L"), dtype=np.uint16) * 16
        Image.fromarray(grey).save(path)
    assert "12 train images of more than 8 bits use at most" in said(looked_at(own_demo))


def test_a_jpeg_with_data_behind_its_end_is_read_and_a_cut_one_is_named(own_demo: Path) -> None:
    images = own_demo / "train" / "images"
    for name in ("0001", "0002"):
        Image.open(images / f"{name}.png").save(images / f"{name}.jpg", quality=95)
    whole = (images / "0001.jpg").read_bytes()
    (images / "0001.jpg").write_bytes(whole + b"\0" * 9000)
    edit(own_demo, "train", lambda d: d["images"][0].update(file_name="0001.jpg"))
    assert looked_at(own_demo)["problems"] == []
    assert (
        len(
            load_sources(
                [{"image_dir": str(images), "json_file": str(own_demo / "train" / "annotations.json")}]
            )
        )
        == 12
    )
    (images / "0002.jpg").write_bytes((images / "0002.jpg").read_bytes()[:400])
    edit(own_demo, "train", lambda d: d["images"][1].update(file_name="0002.jpg"))
    found = looked_at(own_demo)
    assert "0002.jpg cannot be read as an image" in "".join(found["warnings"])
    assert found["facts"]["train"]["images"] == 11


def test_too_many_pixels_name_the_leaf_that_lets_them_in(own_demo: Path) -> None:
    found = looked_at(own_demo, dataset__max_image_pixels=4000)
    assert "64x64 px are more than dataset.max_image_pixels 4000" in said(found)
    assert looked_at(own_demo, dataset__max_image_pixels=4096)["problems"] == []
    assert said(looked_at(own_demo, dataset__max_image_pixels=4000)) == said(
        found
    )  # whatever the cache knows


def test_sizes_of_the_stored_pixels_are_named_as_exif_s(own_demo: Path) -> None:
    path = own_demo / "train" / "images" / "0001.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32), "red").save(path, exif=exif)
    edit(own_demo, "train", lambda d: d["images"][0].update(file_name="0001.jpg", width=64, height=32))
    edit(
        own_demo,
        "train",
        lambda d: [a.update(bbox=[1, 1, 9, 9]) for a in d["annotations"] if a["image_id"] == 1],
    )
    assert "is turned by its EXIF orientation: 32x64 px upright, 64x32 px as stored" in said(
        looked_at(own_demo)
    )


def test_damaged_sources_are_refused_by_whoever_reads_them(own_demo: Path) -> None:
    edit(own_demo, "train", lambda d: d["annotations"][0].update(iscrowd="no"))
    source = {
        "image_dir": str(own_demo / "train" / "images"),
        "json_file": str(own_demo / "train" / "annotations.json"),
    }
    with pytest.raises(UserError, match="iscrowd must be 0, 1, true or false"):
        load_sources([source])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(0, 60), st.sampled_from([1, 7, 1 << 22]))
def test_rows_alike_are_those_that_comparing_all_with_all_finds(
    seed: int, here: int, there: int, at_once: int
) -> None:
    random = np.random.default_rng(seed)
    a, b = (random.integers(0, 2, (n, 128), dtype=np.uint8) for n in (here, there))
    a[:, ::2], b[:, ::2] = 0, 0  # pieces that many share
    for row in range(min(here, there) // 2):  # at every distance around the limit
        a[row] = b[random.integers(there)]
        a[row, random.permutation(128)[: random.integers(0, 12)]] ^= 1
    rows = [np.packbits(each, axis=1).view(np.uint64).reshape(-1, 2) for each in (a, b)]
    apart = (a[:, None] != b[None]).sum(axis=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaks, "AT_ONCE", at_once)
        pairs = leaks._alike(*rows)
    assert [row for row, _ in pairs] == np.flatnonzero((apart <= leaks.ALIKE_BITS).any(axis=1)).tolist()
    assert all(apart[pair] <= leaks.ALIKE_BITS for pair in pairs)
