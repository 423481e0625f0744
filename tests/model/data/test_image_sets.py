"""Which split the lists of images give an image, and what KITTI's files leave out."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.data.convert_kitti import parse as parse_kitti
from model.data.documents import as_it_is
from model.data.image_sets import MAX_BYTES, lists_of
from model.data.layouts import in_place
from model.data.no_classes import LEFT_OUT
from model.data.tree import Tree
from model.errors import UserError
from tests.model.data.drawn import LAYOUTS, Drawn, Picture, every, kitti, move, put, seen, voc_xml, yolo_lines

pytestmark = pytest.mark.usefixtures("cache")


def read(root: Path) -> dict[str, list[tuple[str, str]]]:
    found = lists_of(Tree.read(root))
    return {s: [(source.split("/")[0], name) for source, name in entries] for s, entries in found.items()}


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


# ---- a list by what it holds, wherever it lies ----------------------------------------------------------------------


def yolo_flat(root: Path, pictures: Path, drawn: Drawn) -> None:
    move(pictures, root, drawn, "images")
    put(root / "classes.txt", "red car\nblue\n")
    for picture in every(drawn):
        put(root / f"labels/{picture.stem}.txt", yolo_lines(picture))


def voc_flat(root: Path, pictures: Path, drawn: Drawn) -> None:
    move(pictures, root, drawn, "JPEGImages")
    for picture in every(drawn):
        put(root / f"Annotations/{picture.stem}.xml", voc_xml(picture))


def kitti_flat(root: Path, pictures: Path, drawn: Drawn) -> None:
    kitti(root, pictures, {"training": every(drawn)})


FLAT = {"YOLO": yolo_flat, "VOC": voc_flat, "KITTI": kitti_flat}
# as the lists of the three splits are called
NAMED = [
    "{}.txt", "{}2017.txt", "{}_list.txt", "fold0_{}.txt", "{}_1.txt", "autosplit_{}.txt", "My-{}-Images.txt",
    "lists/{}.txt", "ImageSets/{}.txt", "ImageSets/Main/{}.txt", "ImageSets/Main/{}2017.txt", "ImageSets/Layout/{}.txt",
    "a/b/c/our_{}_of_may.txt",
]  # fmt: skip
LINES = {
    "stem": "{stem}", "name": "{stem}.png", "path": "./somewhere/{stem}.png", "quoted": '"{stem}.png"',
    "flag": "{stem}  -1", "label": "./JPEGImages/{stem}.png ./Annotations/x.xml", "windows": "D:\\old\\{stem}.png",
    "boxes": "old/{stem}.png 1,2,3,4,0 5,6,7,8,1",
    "columns": "{stem} 1 -1 12", "xml": "Annotations/{stem}.xml", "text": "./labels/{stem}.txt", "json": "{stem}.json",
}  # fmt: skip


def list_splits(root: Path, drawn: Drawn, name: str, line: str = "{stem}") -> None:
    for split, listed in drawn.items():
        put(
            root / name.format(split),
            "# of us\n" + "\n".join(line.format(stem=p.stem) for p in listed) + "\n",
        )


def splits_of(root: Path) -> dict[str, list[str]]:
    return {split: sorted(stems) for split, stems in seen(in_place(str(root))).items()}


def wanted(drawn: Drawn) -> dict[str, list[str]]:
    return {split: sorted(p.stem for p in listed) for split, listed in drawn.items()}


@pytest.mark.parametrize("layout", FLAT)
@pytest.mark.parametrize(("name", "line"), [(n, "stem") for n in NAMED] + [(NAMED[2], n) for n in LINES])
def test_lists_are_found_by_what_they_hold(
    layout: str, name: str, line: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    FLAT[layout](tmp_path / "data", *pictures)
    list_splits(tmp_path / "data", pictures[1], name, LINES[line])
    assert splits_of(tmp_path / "data") == wanted(pictures[1])


@pytest.mark.parametrize("layout", FLAT)
def test_lists_of_one_class_count_together_and_alone(
    layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root, drawn = tmp_path / "data", pictures[1]
    FLAT[layout](root, *pictures)
    first: Drawn = {split: listed[:1] for split, listed in drawn.items()}
    list_splits(root, drawn, "ImageSets/Main/cat_{}.txt", "{stem}  1")
    list_splits(root, first, "ImageSets/Main/dog_{}.txt", "{stem} -1")
    assert splits_of(root) == wanted(drawn)
    second: Drawn = {split: listed[1:] for split, listed in drawn.items()}
    list_splits(root, second, "ImageSets/Main/{}.txt")
    assert splits_of(root) == wanted(second)


@pytest.mark.parametrize("layout", FLAT)
@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"fold0_train": "abc", "fold1_train": "bcd", "fold0_val": "de", "fold1_val": "ae"}, "fold0_train.txt, fold1_train.txt list different images for train"),
        ({"train": "abc", "lists/train": "ab", "val": "de"}, "train.txt, lists/train.txt list different images"),
        ({"chosen": "ab"}, "chosen.txt, which no name gives to a split, lists some"),
        ({"part_a": "abc", "part_b": "de"}, "part_a.txt, part_b.txt, which no name gives to a split, list some"),
        ({"train": "abc", "unnamed": "de"}, "unnamed.txt, .* lists labelled images of no other list"),
    ],
)  # fmt: skip
def test_lists_that_may_be_meant_otherwise_are_refused(
    layout: str, lists: dict[str, str], message: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root, listed = tmp_path / "data", [p for p in pictures[1]["train"] if p.boxes]
    FLAT[layout](root, pictures[0], {"train": listed})
    for name, members in lists.items():
        put(root / f"{name}.txt", "".join(f"{listed['abcde'.index(m)].stem}\n" for m in members))
    with pytest.raises(UserError, match=f"{message}.*train.txt and val.txt"):
        in_place(str(root))


@pytest.mark.parametrize("layout", FLAT)
@pytest.mark.parametrize("what", ["all", "captions", "words", "binary", "large"])
def test_other_texts_are_no_lists(
    layout: str, what: str, tmp_path: Path, pictures: tuple[Path, Drawn], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, drawn = tmp_path / "data", pictures[1]
    FLAT[layout](root, *pictures)
    stems = [p.stem for p in every(drawn)]
    some = "".join(f"{stem}\n" for stem in stems[:4])
    texts = {"all": "\n".join(stems), "captions": "".join(f"{s}.png a red car in the rain\n" for s in stems[:3]),
             "words": "made by us\nfor you\n" + stems[0], "binary": some + "\0", "large": some}  # fmt: skip
    put(root / "about.txt", texts[what])
    if what == "large":
        monkeypatch.setattr("model.data.image_sets.MAX_BYTES", len(some) - 1)
        assert MAX_BYTES > 1 << 24
    assert splits_of(root) == {"train": sorted(stems)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lists_of_all_images_of_a_folder_change_nothing(
    layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS[layout][0](tmp_path / "data", *pictures)
    before = splits_of(tmp_path / "data")
    for listed in pictures[1].values() if LAYOUTS[layout][2] else [every(pictures[1])]:
        put(tmp_path / f"data/lists/index {len(listed)}.txt", "\n".join(p.stem for p in listed))
    assert splits_of(tmp_path / "data") == before


@pytest.mark.parametrize("layout", ["CVAT", "Label Studio", "one file"])
def test_lists_beside_one_coco_file_are_not_passed_over(
    layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS[layout][0](tmp_path / "data", *pictures)
    start = "0a1b2c3d-" if layout == "Label Studio" else ""
    list_splits(tmp_path / "data", pictures[1], "{}_list.txt", f"{start}{{stem}}.png")
    assert splits_of(tmp_path / "data") == {
        split: [start + stem for stem in stems] for split, stems in wanted(pictures[1]).items()
    }
    assert any(
        "parted by test_list.txt, train_list.txt" in note for note in in_place(str(tmp_path / "data")).notes
    )


def test_a_list_that_contradicts_the_coco_file_is_refused(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["CVAT"][0](tmp_path / "data", *pictures)
    list_splits(tmp_path / "data", pictures[1], "{}.txt")
    with (tmp_path / "data" / "val.txt").open("a") as file:
        file.write("train_0\n")
    with pytest.raises(UserError, match="may mean any of several images by train_0"):
        in_place(str(tmp_path / "data"))


TABLES = {
    "table.csv": lambda rows: "file,subset\n" + "".join(f"{p.stem}.png,{s}\n" for s, p in rows),
    "splits.csv": lambda rows: "id;image;split\n" + "".join(f"{n};{p.stem};{s}\n" for n, (s, p) in enumerate(rows)),
    "meta/split.tsv": lambda rows: "image\tsplit\n" + "".join(f"x/{p.stem}.png\t{s}\n" for s, p in rows),
    "without_head.csv": lambda rows: "".join(f"{p.stem}.png,{s}\n" for s, p in rows),
    "splits/without_head.tsv": lambda rows: "".join(f"{s}\t{p.stem}\n" for s, p in rows[::-1]),
    "splits.json": lambda rows: json.dumps({f"{p.stem}.png": s for s, p in rows}),
    "a/split.json": lambda rows: json.dumps({"splits": {s: [p.stem for t, p in rows if t == s] for s, _ in rows}}),
    "b/split.json": lambda rows: json.dumps([{"image": f"{p.stem}.png", "split": s} for s, p in rows]),
    "c/split.json": lambda rows: json.dumps(
        {s: [{"image": f"{p.stem}.png", "n": 1} for t, p in rows if t == s] for s, _ in rows}
    ),
    "split.json": lambda rows: json.dumps(
        {s: [p.stem for t, p in rows if t == s] for s in ("train", "val", "test")}
    ),
}  # fmt: skip


def with_table(
    layout: str, root: Path, pictures: tuple[Path, Drawn], name: str, table: Callable[[list[tuple[str, Picture]]], str]
) -> Path:  # fmt: skip
    """A flat dataset beside a file that says in its own form which picture is for which split."""
    FLAT[layout](root, *pictures)
    put(root / name, table([(split, p) for split, listed in pictures[1].items() for p in listed]))
    return root


@pytest.mark.parametrize("layout", FLAT)
@pytest.mark.parametrize("table", TABLES)
def test_tables_that_name_splits_are_lists(
    layout: str, table: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = with_table(layout, tmp_path / "data", pictures, table, TABLES[table])
    assert splits_of(root) == wanted(pictures[1])


@pytest.mark.parametrize("name", ["{}.lst", "{}.list", "ImageSets/Main/{}"])
@pytest.mark.parametrize("layout", FLAT)
def test_lists_of_other_endings(name: str, layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = tmp_path / "data"
    FLAT[layout](root, *pictures)
    list_splits(root, pictures[1], name)
    assert splits_of(root) == wanted(pictures[1])


@pytest.mark.parametrize(
    "key", ["split", "Split", "subset", "phase", "tags", "dataset", "attributes.usage", "ds"]
)
@pytest.mark.parametrize("value", ["{}", "{}-set"])
def test_rows_that_say_their_split(
    key: str, value: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["one file"][0](tmp_path / "data", *pictures)
    path = next((tmp_path / "data").rglob("*.json"))
    document, split_of = json.loads(path.read_text()), {p.stem: s for s, m in pictures[1].items() for p in m}
    for image in document["images"]:
        said = value.format(split_of[Path(image["file_name"]).stem])
        outer, _, inner = key.partition(".")
        image[outer] = ["night", said] if key == "tags" else {inner: said} if inner else said
    put(path, document)
    assert splits_of(tmp_path / "data") == wanted(pictures[1])
    assert splits_of(path) == wanted(pictures[1])


def test_images_of_no_list_stay_where_their_folder_says(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root, drawn = tmp_path / "data", pictures[1]
    LAYOUTS["VOC by folder"][0](root, *pictures)
    put(root / "train.txt", "".join(f"train/{p.stem}.png\n" for p in drawn["train"][:4]))
    assert splits_of(root) == wanted(drawn | {"train": drawn["train"][:4]})
    notes = in_place(str(root)).notes
    assert any("2 images with labels in no list (train.txt), not used" in note for note in notes)


def test_a_name_that_two_images_have_is_told_by_its_folder(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = tmp_path / "data"
    twins: list[Picture] = pictures[1]["train"][:1]
    for cam in ("cam1", "cam2"):
        move(pictures[0], root, {"train": twins}, f"images/{cam}")
        put(root / f"labels/{cam}/{twins[0].stem}.txt", yolo_lines(twins[0]))
    put(root / "classes.txt", "red car\nblue\n")
    for split, cam in (("train", "cam1"), ("val", "cam2")):
        put(root / f"{split}.txt", f"/old/{cam}/{twins[0].name}\n")
    assert splits_of(root) == {"train": [twins[0].stem], "val": [twins[0].stem]}
    put(root / "val.txt", twins[0].name)
    with pytest.raises(UserError, match="may be any of images/cam1/train_0.png, images/cam2/train_0.png"):
        in_place(str(root))


@pytest.mark.parametrize("kind", ["DontCare", "dontcare", "DONTCARE", "ignored regions"])
def test_regions_that_kitti_does_not_care_for(kind: str, tmp_path: Path) -> None:
    line = "{} 0 0 0 1 1 9 9 1 1 1 1 1 1 1\n"
    put(tmp_path / "a.txt", line.format("Car") + line.format(kind))
    found = parse_kitti(tmp_path / "a.txt", (20, 10))
    assert [name for name, _ in found.objects] == ["Car"]
    assert found.remarks == {LEFT_OUT: 1}


@pytest.mark.parametrize("between", [", ", ",", "; ", " "])
@pytest.mark.parametrize("line", ["{stem}.png", "{stem}", "images/{stem}.png", '"{stem}.png"'])
@pytest.mark.parametrize("layout", FLAT)
def test_a_list_may_be_one_line(
    layout: str, line: str, between: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    drawn = {split: [p for p in listed if " " not in p.stem] for split, listed in pictures[1].items()}
    FLAT[layout](tmp_path, pictures[0], drawn)
    for split, listed in drawn.items():
        put(tmp_path / f"{split}.txt", between.join(line.format(stem=p.stem) for p in listed))
    if between == " " and line == "{stem}":  # may be anything
        return
    assert splits_of(tmp_path) == wanted(drawn)


def test_a_long_list_in_one_line(tmp_path: Path) -> None:
    names = [f"image number {n:04}.jpg" for n in range(400)]
    for name in names:
        put(tmp_path / "images" / name, "")
    put(tmp_path / "train.txt", ", ".join(names))
    assert [name for _, name in read(tmp_path)["train"]] == names


@pytest.mark.parametrize(
    "line", ["1.jpg 1,2,3,4,0", "1 1", "1.jpg labels/1.txt", '"1.jpg" 1', "left/1.jpg right/1.jpg"]
)
def test_one_line_of_one_image_names_no_others(line: str, tmp_path: Path) -> None:
    for n in range(5):
        put(tmp_path / f"images/{n}.jpg", "")
    put(tmp_path / "train.txt", line)
    (entry,) = read(tmp_path)["train"]
    assert entry[1].endswith("1.jpg") or entry[1] == "1"


@pytest.mark.parametrize("again", ["{}.png", "./somewhere/{}.png", "{}"])
@pytest.mark.parametrize("layout", FLAT)
def test_an_image_that_is_listed_twice_is_one(
    layout: str, again: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    FLAT[layout](tmp_path, *pictures)
    list_splits(tmp_path, pictures[1], "{}.txt", "images/{stem}.png")
    with (tmp_path / "train.txt").open("a") as file:
        file.write("".join(f"{again.format(p.stem)}\n" for p in pictures[1]["train"][:2]))
    data = in_place(str(tmp_path))
    for split, listed in pictures[1].items():
        document = as_it_is(data.sources[split][0]["json_file"])
        assert len(document["images"]) == len(listed)
    assert not any("not used" in note for note in data.notes)


LABELS_APART = [
    ("images", "labels/{split}"), ("images/{split}", "labels"), ("{split}", "labels"), ("pictures", "labels/{split}"),
    ("set/images", "set/labels/{split}"), ("JPEGImages/{split}", "labels"),
]  # fmt: skip


@pytest.mark.parametrize(("images", "labels"), LABELS_APART)
def test_yolo_labels_in_other_folders_than_their_images(
    images: str, labels: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    move(pictures[0], tmp_path, pictures[1], images)
    put(tmp_path / "classes.txt", "red car\nblue\n")
    for split, listed in pictures[1].items():
        for picture in listed:
            put(tmp_path / labels.format(split=split) / f"{picture.stem}.txt", yolo_lines(picture))
    assert splits_of(tmp_path) == wanted(pictures[1])
    boxes = {stem: len(rows) for of in seen(in_place(str(tmp_path))).values() for stem, rows in of.items()}
    assert boxes == {p.stem: len(p.boxes) for p in every(pictures[1])}


@pytest.mark.parametrize(
    ("images", "labels"), [(["images"], ["train", "val"]), (["images/train", "images/val"], ["."])]
)
def test_yolo_labels_that_may_be_of_several_images_are_refused(
    images: list[str], labels: list[str], tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    put(tmp_path / "classes.txt", "red car\nblue\n")
    for split, listed in pictures[1].items():
        for picture in listed[:1] if split != "test" else ():
            for folder in images:
                move(pictures[0], tmp_path, {"": [picture]}, folder)
            for folder in labels:
                put(tmp_path / "labels" / folder / f"{picture.stem}.txt", yolo_lines(picture))
    with pytest.raises(
        UserError, match=r"labels/.*\.txt: may belong to images/.*; put the labels of images/train"
    ):
        in_place(str(tmp_path))


def test_rows_of_which_only_those_for_val_say_so(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    LAYOUTS["one file"][0](tmp_path / "data", *pictures)
    path = next((tmp_path / "data").rglob("*.json"))
    document, vals = json.loads(path.read_text()), {p.stem for p in pictures[1]["val"]}
    for image in document["images"]:
        if Path(image["file_name"]).stem in vals:
            image["split"] = "val"
    put(path, document)
    rest = sorted(p.stem for split in ("train", "test") for p in pictures[1][split])
    assert splits_of(tmp_path / "data") == {"train": rest, "val": sorted(vals)}


@pytest.mark.parametrize(
    ("key", "values"), [("split", [0, 1]), ("is_train", [True, False]), ("fold", [0, 1, 2])]
)
def test_rows_that_say_their_split_in_a_way_that_is_not_read_are_told(
    key: str, values: list[object], tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["one file"][0](tmp_path / "data", *pictures)
    path = next((tmp_path / "data").rglob("*.json"))
    document = json.loads(path.read_text())
    for n, image in enumerate(document["images"]):
        image[key] = values[n % len(values)]
    put(path, document)
    data = in_place(str(tmp_path / "data"))
    assert any(f'"{key}" of its rows is not read as their split' in note for note in data.notes)


def test_lists_of_whole_names_tell_images_of_one_stem_apart(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    rows = [
        {"id": n + 1, "file_name": f"cam{n % 2}/{n // 2}.png", "width": 48, "height": 32}
        for n in range(6)
    ]  # fmt: skip
    for n, row in enumerate(rows):
        put(tmp_path / "data" / row["file_name"], "")
        shutil.copy(
            pictures[0] / f"{('train_0', 'train_1')[n % 2]}.png", tmp_path / "data" / row["file_name"]
        )
    boxes = [
        {"id": n + 1, "image_id": n + 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
        for n in range(6)
    ]
    put(
        tmp_path / "data/all.json",
        {"images": rows, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]},
    )
    put(tmp_path / "data/train.txt", "cam0/0.png\ncam1/1.png\ncam0/2.png\n")
    put(tmp_path / "data/val.txt", "cam1/0.png\ncam0/1.png\ncam1/2.png\n")
    sources = in_place(str(tmp_path / "data")).sources
    read = {
        split: [image["file_name"] for image in json.loads(Path(found[0]["json_file"]).read_text())["images"]]
        for split, found in sources.items()
        if found
    }
    assert {split: sorted(names) for split, names in read.items()} == {
        "train": ["cam0/0.png", "cam0/2.png", "cam1/1.png"], "val": ["cam0/1.png", "cam1/0.png", "cam1/2.png"],
    }  # fmt: skip


@pytest.mark.parametrize("layout", FLAT)
def test_a_lone_list_for_val_leaves_the_rest_to_training(
    layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = tmp_path / "data"
    FLAT[layout](root, *pictures)
    put(root / "val.txt", "\n".join(p.stem for p in pictures[1]["val"]))
    rest = sorted(p.stem for split in ("train", "test") for p in pictures[1][split])
    assert splits_of(root) == {"train": rest, "val": sorted(p.stem for p in pictures[1]["val"])}


def test_no_note_says_that_a_table_which_was_read_was_not(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = with_table("VOC", tmp_path / "data", pictures, "split.csv", TABLES["table.csv"])
    assert not [note for note in in_place(str(root)).notes if "not read" in note]


FORMS = {
    "folds.json": lambda rows: json.dumps(
        {f"fold_{n}": {s: [p.stem for m, (_, p) in enumerate(rows) if (m % 2 == n) == (s == "val")] for s in ("train", "val")} for n in (0, 1)}
    ),
    "splits.yaml": lambda rows: "".join(f"{s}:\n" + "".join(f"- {p.stem}\n" for t, p in rows if t == s) for s in ("train", "val")),
    "train_test_split.txt": lambda rows: "".join(f"{n} {p.stem}.png {int(s == 'train')}\n" for n, (s, p) in enumerate(rows)),
    "split.jsonl": lambda rows: "".join(json.dumps({"image": p.stem, "use": f"for {s}"}) + "\n" for s, p in rows),
    "meta.csv": lambda rows: "image,is_train\n" + "".join(f"{p.stem}.png,{int(s == 'train')}\n" for s, p in rows),
}  # fmt: skip


@pytest.mark.parametrize("layout", FLAT)
@pytest.mark.parametrize("form", FORMS)
def test_splits_in_a_form_that_is_not_read_are_told(
    form: str, layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = with_table(layout, tmp_path / "data", pictures, form, FORMS[form])
    said = "names images and splits in a form that is not read"
    assert [note for note in in_place(str(root)).notes if said in note and form in note]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_of_a_plain_layout_is_taken_for_unread_splits(
    layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS[layout][0](tmp_path / "data", *pictures)
    put(
        tmp_path / "data" / "README.txt",
        "train, val and test: see train_0.png for what a training image looks like\n",
    )
    assert not [n for n in in_place(str(tmp_path / "data")).notes if "form that is not read" in n]


@pytest.mark.parametrize("lines", ["{}.txt", "labels/{}.txt", "images/{}.png"])
def test_lists_of_label_files_that_a_configuration_names(
    lines: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = tmp_path / "data"
    yolo_flat(root, *pictures)
    list_splits(root, pictures[1], "{}.txt", lines.format("{stem}"))
    put(root / "data.yaml", "train: train.txt\nval: val.txt\ntest: test.txt\nnames: [red car, blue]\n")
    assert splits_of(root) == wanted(pictures[1])
    put(root / "val.txt", "labels/gone.txt\n")
    with pytest.raises(UserError, match=r"val\.txt:1: labels/gone\.txt is no image"):
        in_place(str(root))


@pytest.mark.parametrize("name", ["checked.txt", "test_missing.txt", "validation_errors.txt"])
def test_a_text_of_label_files_whose_name_is_not_that_of_a_split_is_no_list(
    name: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    """As tools report files that they found wanting."""
    yolo_flat(tmp_path, *pictures)
    put(tmp_path / name, "".join(f"labels/{p.stem}.txt\n" for p in pictures[1]["train"]))
    assert splits_of(tmp_path) == {"train": sorted(p.stem for p in every(pictures[1]))}


@pytest.mark.parametrize(
    "names", ["A.jpg a.jpg", "A a", "images/A.jpg images/a.jpg", "Ae\u0301.jpg A\u00e9.jpg"]
)
@pytest.mark.parametrize("lists", ["train val", "trainval val"])
def test_names_that_differ_in_case_or_form_alone_are_told_apart(
    names: str, lists: str, tmp_path: Path
) -> None:
    files = [f"{Path(name).stem}.jpg" for name in names.split()]
    for n, file in enumerate(files):
        put(tmp_path / f"images/{file}", "")
        Image.fromarray(np.full((20, 20, 3), 90 * n, np.uint8)).save(tmp_path / f"images/{file}")
        put(tmp_path / f"labels/{Path(file).stem}.txt", f"{n} 0.5 0.5 0.2 0.2\n")
    put(tmp_path / "classes.txt", "x\ny\n")
    first, second = lists.split()
    put(tmp_path / f"{first}.txt", "\n".join(names.split() if first == "trainval" else names.split()[:1]))
    put(tmp_path / f"{second}.txt", names.split()[1])
    found = {
        s: {stem: of[0][0] for stem, of in boxes.items()}
        for s, boxes in seen(in_place(str(tmp_path))).items()
    }
    assert found == {"train": {Path(files[0]).stem: "x"}, "val": {Path(files[1]).stem: "y"}}


@pytest.mark.parametrize("forms", ["NFD NFC", "NFC NFD"])
@pytest.mark.parametrize("layout", [*FLAT, "YOLO apart"])
def test_labels_may_be_called_in_another_unicode_form_than_images(
    layout: str, forms: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    """macOS writes a letter and its accent apart."""
    root = tmp_path / "data"
    FLAT[layout.removesuffix(" apart")](root, *pictures)
    of_images, of_labels = forms.split()
    for path in [p for p in root.rglob("*") if p.is_file() and p.name != "classes.txt"]:
        form = of_images if path.suffix == ".png" else of_labels
        apart = layout.endswith("apart") and path.suffix == ".txt"
        target = (path.parent / "train" if apart else path.parent) / unicodedata.normalize(
            form, f"\u00fc{path.name}"
        )
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    found = {
        unicodedata.normalize("NFC", stem).removeprefix("\u00fc"): len(boxes)
        for stem, boxes in seen(in_place(str(root)))["train"].items()
    }
    assert found == {p.stem: len(p.boxes) for p in every(pictures[1])}


def test_an_image_of_another_form_gets_no_labels_of_one_that_has_them(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    yolo_flat(tmp_path, *pictures)
    for name, form in (("train_0", "NFC"), ("train_3", "NFD")):
        path = tmp_path / f"images/{name}.png"
        path.rename(path.with_name(unicodedata.normalize(form, "\u00fc.png")))
    (tmp_path / "labels/train_0.txt").rename(tmp_path / "labels/\u00fc.txt")
    (tmp_path / "labels/train_3.txt").unlink()
    boxes = seen(in_place(str(tmp_path)))["train"]
    assert [len(boxes[unicodedata.normalize(form, "\u00fc")]) for form in ("NFC", "NFD")] == [2, 0]


@pytest.mark.parametrize("place", ["#{}", "#cam/{}"])
@pytest.mark.parametrize("layout", ["YOLO", "VOC", "KITTI", "data.yaml"])
def test_images_whose_names_begin_with_a_mark_are_listed(
    layout: str, place: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    yaml = layout == "data.yaml"
    FLAT["YOLO" if yaml else layout](tmp_path, *pictures)
    if yaml:
        put(tmp_path / "data.yaml", "train: train.txt\nval: val.txt\nnames: [red car, blue]\n")
    home = {"VOC": "JPEGImages", "KITTI": "training/image_2"}.get(layout, "images")
    labels = {"VOC": "Annotations", "KITTI": "training/label_2"}.get(layout, "labels")
    if layout == "KITTI" and "/" in place:
        return  # its images lie in one folder
    for path in [*(tmp_path / home).iterdir(), *(tmp_path / labels).iterdir()]:
        target = path.parent / place.format(path.name)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    for split in ("train", "val"):
        names = [place.format(p.name) for p in pictures[1][split]]
        put(
            tmp_path / f"{split}.txt",
            "# of us\n" + "\n".join(names[1:]) + f"\n#{home}/{names[0]}\n# {names[0]}\n",
        )
    marked = "" if "/" in place else "#"
    assert splits_of(tmp_path) == {
        s: sorted(f"{marked}{p.stem}" for p in pictures[1][s][1:]) for s in ("train", "val")
    }


@pytest.mark.parametrize("kind", ["KITTI", "COCO"])
def test_lists_that_name_folders_tell_images_of_one_name_apart(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    rows: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "car"}],
    }
    for camera in ("cam0", "cam1"):
        for n in range(4):
            image = root / "image_2" / camera / f"{n:06}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (9 * n, 90 * int(camera[-1]), 7)).save(image)
            number = len(rows["images"]) + 1
            rows["images"].append(
                {"id": number, "file_name": f"{camera}/{image.name}", "width": 40, "height": 40}
            )
            rows["annotations"].append(
                {"id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 10, 10]}
            )
            if kind == "KITTI":
                label = root / "label_2" / camera / f"{n:06}.txt"
                label.parent.mkdir(parents=True, exist_ok=True)
                label.write_text("Car 0 0 0 5 5 15 15 1.5 1.6 3.7 1 1 10 0.1\n")
    if kind == "COCO":
        (root / "annotations.json").write_text(json.dumps(rows))
    for split, camera in (("train", "cam0"), ("val", "cam1")):
        (root / f"{split}.txt").write_text("".join(f"image_2/{camera}/{n:06}.png\n" for n in range(4)))
    data = in_place(str(root))
    for split, camera in (("train", "cam0"), ("val", "cam1")):
        (source,) = data.sources[split]
        names = [row["file_name"] for row in json.loads(Path(source["json_file"]).read_text())["images"]]
        assert len(names) == 4
        assert all(camera in f"{source['image_dir']}/{name}" for name in names)
