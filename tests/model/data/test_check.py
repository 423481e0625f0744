"""Bad data, each kind found before training, named by file and id."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model.data.check import inspect
from model.data.no_classes import NO_CLASSES
from model.errors import UserError
from model.spec import default_spec

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "bccd"


def spec_of(batch: int = 4, seed: int = 1234) -> dict[str, Any]:
    spec = default_spec("train")
    spec["dataset"]["batch_size"], spec["train"]["seed"] = batch, seed
    return spec


def edit(data: Path, split: str, change: Callable[[dict[str, Any]], None]) -> None:
    path = data / split / "annotations.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def problems(data: Path, **kw: Any) -> str:
    return "\n".join(inspect(spec_of(**kw), str(data), work_dir=data / "work")["problems"])


def test_good_data_has_no_problem_and_fills_the_spec(demo: Path, tmp_path: Path) -> None:
    found = inspect(spec_of(), str(demo), work_dir=tmp_path)
    assert found["problems"] == []
    assert found["fill"]["dataset.num_classes"] == 4
    assert found["fill"]["dataset.eval_class_ids"] == [1, 2, 3]
    assert found["fill"]["dataset.test_data_sources.json_file"].endswith("test/annotations.json")
    assert [found["facts"][s]["images"] for s in ("train", "val", "test")] == [12, 4, 4]


@pytest.mark.skipif(not SHARED.exists(), reason="needs the microscope images")
def test_real_archives_are_good(tmp_path: Path) -> None:
    found = inspect(spec_of(), str(SHARED), work_dir=tmp_path)
    assert found["problems"] == []
    assert [found["facts"][s]["images"] for s in ("train", "val", "test")] == [205, 87, 72]


def set_box(box: list[float]) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document["annotations"][0]["bbox"] = box

    return change


CASES: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (set_box([1, 1, 5]), "a box is [x, y, w, h] in px, but got [1, 1, 5]"),
    (set_box(["1", "1", "5", "5px"]), "a box is [x, y, w, h] in px, but got ['1', '1', '5', '5px']"),
    (set_box([1, 1, 5, 5, 30]), "got [1, 1, 5, 5, 30]; of a turned box give the upright one around it"),
    (
        lambda d: d["annotations"][0].update(angle=0.5),
        "annotation 1 has angle 0.5: whether bbox is as before or after",
    ),
    (set_box([True, 1, 5, 5]), "a box is [x, y, w, h] in px, but got [True, 1, 5, 5]"),
    (set_box([1, 1, float("nan"), 5]), "a box must be finite"),
    (set_box([1, 1, 10**400, 5]), "a box must be finite"),
    (
        lambda d: d["annotations"][0].update(category_id=9),
        " has the unknown category id 9; known: [1, 2, 3]",
    ),
    (
        lambda d: d["annotations"][0].update(category_id=0, image_id=d["images"][1]["id"]),
        "annotation 1 of image 2 (0002.png) has the unknown category id 0; known: [1, 2, 3]; is it a box without a label?",
    ),
    (
        lambda d: (
            d["categories"].append({"id": "01", "name": "x"}) or d["annotations"][0].update(category_id="001")
        ),
        "unknown category id '001'; known: ['01', 1, 2, 3]; it may be any of 1, '01'",
    ),
    (lambda d: d["annotations"][0].update(iscrowd="no"), "iscrowd must be 0, 1, true or false, but got 'no'"),
    (lambda d: d["annotations"][0].update(iscrowd=2), "iscrowd must be 0, 1, true or false, but got 2"),
    (lambda d: d["annotations"][0].update(area="12 px"), "area must be a number from 0, but got '12 px'"),
    (lambda d: d["annotations"][0].update(area=-1), "area must be a number from 0, but got -1"),
    (
        lambda d: d["annotations"][0].update(image_id=[1]),
        "image_id must be an integer, a number or a text, but got [1]",
    ),
    (lambda d: d["annotations"][0].update(image_id=None), "image_id must be an integer"),
    (lambda d: d["annotations"].insert(3, 7), "annotations[3] must be an object, but got int"),
    (lambda d: d["annotations"][0].pop("bbox"), "annotations[0] lacks bbox"),
    (lambda d: d["images"][1].update(id=1), "images id 1 is there twice, and differs: images[0] and [1]"),
    (lambda d: d["categories"][1].update(id=1), "categories id 1 is there twice, and differs"),
    (
        lambda d: d["categories"][0].update(name="a\nb"),
        "name must be a text of one line that can be written, but got 'a",
    ),
    (lambda d: d["categories"][0].update(name=None), "name must be a text, but got None"),
    (lambda d: d["images"][0].update(id=True), "id must be an integer, a number or a text, but got True"),
    (lambda d: d["images"][0].update(width="64 px"), "width must be a positive integer, but got '64 px'"),
    (lambda d: d["images"][0].update(width=64.5), "width must be a positive integer, but got 64.5"),
    (lambda d: d["images"][0].update(file_name=3), "file_name must be a text, but got 3"),
    (lambda d: d["images"][0].update(file_name="a\0b"), "file_name must be the name of a file"),
    (lambda d: d["images"][0].update(file_name="x" * 5000), "is not in"),
    (
        lambda d: [a.update(image_id=99) for a in d["annotations"][:4]],
        "4 boxes of images that are not listed left out; 4 of",
    ),
    (lambda d: d["images"][0].update(file_name="gone.png"), "image 1: gone.png is not in"),
    (lambda d: d["images"][0].update(width=65), "0001.png is 64x64 px, the annotations say 65x64"),
    (lambda d: d["images"][0].pop("file_name"), "images[0] lacks file_name"),
    (lambda d: d.update(annotations=[]), "it has no boxes"),
    (lambda d: d.update(images=[], annotations=[]), "it has no images"),
    (lambda d: d.pop("categories"), "must have a list 'categories'"),
    (lambda d: d.update(images={}), "must have a list 'images'"),
    (lambda d: [a.update(iscrowd=1) for a in d["annotations"]], "no box to train on: all"),
]


@pytest.mark.parametrize(("change", "message"), CASES)
def test_damage_in_the_annotations(own_demo: Path, change: Any, message: str) -> None:
    edit(own_demo, "train", change)
    found = problems(own_demo)
    assert message in found
    assert str(own_demo / "train" / "annotations.json") in found


def test_a_set_whose_boxes_are_all_left_out_as_regions_says_so(own_demo: Path) -> None:
    for split in ("train", "val", "test"):
        edit(
            own_demo,
            split,
            lambda d: [c.update(name=n) for c, n in zip(d["categories"], sorted(NO_CLASSES), strict=True)],
        )
    assert "left out, as regions that are no class; call otherwise what is one" in problems(own_demo)


def test_truncated_json_names_line_and_column(own_demo: Path) -> None:
    path = own_demo / "val" / "annotations.json"
    path.write_text(path.read_text()[:-40])
    assert "not valid JSON" in problems(own_demo)
    assert "column" in problems(own_demo)


def test_unreadable_and_truncated_images(own_demo: Path) -> None:
    images = own_demo / "train" / "images"
    (images / "0001.png").write_bytes(b"not an image")
    whole = (images / "0002.png").read_bytes()
    (images / "0002.png").write_bytes(whole[: len(whole) // 2])
    Image.open(images / "0003.png").save(images / "0003.jpg")
    jpeg = (images / "0003.jpg").read_bytes()
    (images / "0003.jpg").write_bytes(jpeg[:-400])
    edit(own_demo, "train", lambda d: d["images"][2].update(file_name="0003.jpg"))
    found = problems(own_demo)
    assert "0001.png cannot be read as an image" in found
    assert "0002.png cannot be read as an image" in found
    assert "0003.jpg cannot be read as an image (image file is truncated" in found


@pytest.mark.parametrize(
    ("leaf", "count", "refused"),
    [((), 1, ""), ((), 2, "set dataset.mended_share=0.17 to leave them out"), (("mended_share", 0.17), 2, ""),
     (("mended_share", 0.0), 1, "set dataset.mended_share=0.09"), (("strict", True), 1, "dataset.strict leaves none out"),
     (("mended_share", 1.0), 12, "12 of 12 images cannot be read")],
)  # fmt: skip
def test_few_images_that_cannot_be_read_are_left_out(
    leaf: tuple[Any, ...], count: int, refused: str, own_demo: Path, tmp_path: Path
) -> None:
    for n in range(count):
        (own_demo / f"train/images/{n + 1:04d}.png").write_bytes(b"\x89PNG" if n else b"")
    spec = spec_of()
    if leaf:
        spec["dataset"][leaf[0]] = leaf[1]
    found = inspect(spec, str(own_demo), work_dir=tmp_path / "work")
    assert (refused in "\n".join(found["problems"])) == bool(found["problems"] or not refused)
    assert bool(found["problems"]) == bool(refused)
    if not refused:
        assert any("0001.png cannot be read as an image (the file is empty)" in w for w in found["warnings"])
        (source,) = found["fill"]["dataset.train_data_sources"]  # without the image for the runs too
        assert len(json.loads(Path(source["json_file"]).read_text())["images"]) == 12 - count
        assert not any("no annotation file" in w for w in found["warnings"])


def test_images_of_formats_that_are_not_read_are_never_left_out(own_demo: Path) -> None:
    (own_demo / "train/images/0001.heic").write_bytes(b"\0\0\0\x18ftypheic")
    edit(own_demo, "train", lambda d: d["images"][0].update(file_name="0001.heic"))
    assert "convert such images to JPEG" in problems(own_demo)


def test_fewer_images_than_a_batch(demo: Path) -> None:
    assert "the training set has 12 images, fewer than the total batch of 16" in problems(demo, batch=16)
    assert problems(demo, batch=16).endswith("set dataset.batch_size=12")


def test_category_of_validation_that_training_lacks(own_demo: Path) -> None:
    def star(document: dict[str, Any]) -> None:
        document["categories"].append({"id": 5, "name": "star"})

    edit(own_demo, "val", star)
    assert problems(own_demo) == ""  # no box of it
    edit(own_demo, "val", lambda d: d["annotations"][0].update(category_id=5))
    assert "category 5 (star) is not in the training set" in problems(own_demo)


def test_many_problems_of_one_kind_do_not_hide_another(own_demo: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        for annotation in document["annotations"]:
            annotation["bbox"] = [0, 0, 0]
        document["annotations"][0]["iscrowd"] = "x"

    edit(own_demo, "train", change)
    found = problems(own_demo)
    assert "more of this kind" in found
    assert "iscrowd must be" in found


def test_without_validation_a_seeded_part_of_training_is_held_out(own_demo: Path) -> None:
    shutil.rmtree(own_demo / "val")

    def held(seed: int) -> tuple[set[int], set[int]]:
        found = inspect(spec_of(batch=2, seed=seed), str(own_demo), work_dir=own_demo / "work")
        assert found["problems"] == []
        assert any("held out" in warning for warning in found["warnings"])
        files = [found["fill"][f"dataset.{s}_data_sources"][0]["json_file"] for s in ("train", "val")]
        train, val = ({i["id"] for i in json.loads(Path(f).read_text())["images"]} for f in files)
        return train, val

    train, val = held(1)
    assert not train & val
    assert (len(train), len(val)) == (10, 2)
    assert held(1) == (train, val)
    assert any(held(seed)[1] != val for seed in (2, 3, 4))


def test_explicit_sources_win_over_the_folder(demo: Path, tmp_path: Path) -> None:
    spec = spec_of()
    named = {"image_dir": str(demo / "test" / "images"), "json_file": str(demo / "test" / "annotations.json")}
    spec["dataset"]["train_data_sources"] = [named]
    found = inspect(spec, str(demo), work_dir=tmp_path)
    assert found["fill"]["dataset.train_data_sources"] == [named]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "train" / "annotations.json").unlink(), "no such annotation file"),
        (lambda d: shutil.rmtree(d / "train"), "no training data"),
        (
            lambda d: (
                [(d / "train" / n).write_bytes(b"") for n in ("a.zip", "b.tar")]
                and (d / "train" / "images").rename(d / "x")
            ),
            "a.zip: cannot be unpacked",
        ),
    ],
)
def test_folders_that_are_not_as_they_should_be(own_demo: Path, damage: Any, message: str) -> None:
    damage(own_demo)
    with pytest.raises(UserError, match=message):
        inspect(spec_of(), str(own_demo), work_dir=own_demo / "work")


def test_missing_and_broken_archives(own_demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(own_demo / "cache"))
    (own_demo / "train" / "images").rename(own_demo / "pictures")
    broken = own_demo / "train" / "images.tar.gz"
    broken.write_bytes(b"\x1f\x8bgarbage")
    assert "cannot be unpacked" in problems(own_demo)
    with tarfile.open(broken, "w:gz") as archive:
        archive.add(own_demo / "pictures", "images")
    assert problems(own_demo) == ""


def test_archive_that_tries_to_leave_its_folder(own_demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(own_demo / "cache"))
    (own_demo / "train" / "images").rename(own_demo / "pictures")
    with tarfile.open(own_demo / "train" / "images.tar", "w") as archive:
        archive.add(own_demo / "pictures" / "0001.png", "../../evil.png")
    assert "cannot be unpacked" in problems(own_demo)
    assert not list(own_demo.rglob("evil.png"))


def test_an_empty_image_of_label_files_is_left_out_with_its_labels(tmp_path: Path) -> None:
    for n in range(8):
        image = tmp_path / f"data/images/{n}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10), (n * 30, 255 - n * 20, 7)).save(image)
        (tmp_path / "data/labels").mkdir(exist_ok=True)
        (tmp_path / f"data/labels/{n}.txt").write_text("0 .5 .5 .2 .2\n")
    (tmp_path / "data/images/3.png").write_bytes(b"")
    (tmp_path / "data/classes.txt").write_text("a\n")
    found = inspect(spec_of(batch=1), str(tmp_path / "data"), work_dir=tmp_path / "work")
    assert found["problems"] == []
    assert any("3.png cannot be read as an image (the file is empty)" in w for w in found["warnings"])
    assert sum(found["facts"][split]["images"] for split in ("train", "val")) == 7


@pytest.mark.parametrize(
    ("rare", "told"),
    [
        ({}, {"circle": 0.5, "triangle": 0.0625}),
        ({2: 9}, {"circle": 0.5, "triangle": 0.0625}),  # too few to say anything of a class
        ({2: 9, 3: 9}, {"circle": 0.5, "classes of fewer than 10 boxes": 0.0625}),
    ],
)
def test_the_sizes_of_small_boxes_are_told_by_class(
    rare: dict[int, int], told: dict[str, float], own_demo: Path, tmp_path: Path
) -> None:
    """On 12 images of 64x64: 300 boxes of 32 px of class 1, and a few of 4 px of others."""
    boxes = [(1, 32)] * 300 + [(c, 4) for c, times in ({3: 12} | rare).items() for _ in range(times)]

    def draw(document: dict[str, Any]) -> None:
        ids = [image["id"] for image in document["images"]]
        document["annotations"] = [
            {"id": n + 1, "image_id": ids[n % 12], "category_id": c, "bbox": [n // 12, 2, px, px], "area": px * px, "iscrowd": 0}
            for n, (c, px) in enumerate(boxes)
        ]  # fmt: skip

    edit(own_demo, "train", draw)
    found = inspect(default_spec("train"), str(own_demo), work_dir=tmp_path)
    sizes = found["facts"]["sizes"]
    assert {of["name"]: of["share"] for of in sizes["small_boxes"]} == told
    assert sizes["small_box"] == 0.5  # of all
    assert f", of {min(told, key=lambda name: told[name])} below 6%" in sizes["text"]
