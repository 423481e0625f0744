"""Files that part the images are read or told, also where images are called by numbers; numbers that are none are not
taken for such files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from model.data.layouts import in_place
from tests.model.data.drawn import LAYOUTS, Drawn, every, put
from tests.model.data.test_image_sets import FLAT, list_splits, splits_of, wanted

pytestmark = pytest.mark.usefixtures("cache")

Rows = list[tuple[str, str]]  # (split, stem)
UNREAD = "names images and splits in a form that is not read"


def numbered(pictures: tuple[Path, Drawn], folder: Path, name: str = "{:06}") -> tuple[Path, Drawn]:
    """The pictures under numbers, those for test the last."""
    folder.mkdir(parents=True)
    drawn: Drawn = {}
    for split, listed in pictures[1].items():
        for picture in listed:
            stem = name.format(sum(map(len, drawn.values())))
            shutil.copy(pictures[0] / picture.name, folder / f"{stem}.png")
            drawn.setdefault(split, []).append(replace(picture, stem=stem))
    return folder, drawn


def rows_of(drawn: Drawn) -> Rows:
    return [(split, p.stem) for split, listed in drawn.items() for p in listed]


def notes(root: Path, *words: str) -> list[str]:
    return [note for note in in_place(str(root)).notes if all(word in note for word in words)]


OF_ONE = {
    "{}.csv": lambda stems: "image_id\n" + "\n".join(stems),
    "lists/{}_ids.csv": lambda stems: "\n".join(stems) + "\n",
    "{}.tsv": lambda stems: "file\n" + "\n".join(f'"{stem}.png"' for stem in stems),
    "{}.json": json.dumps,
    "{}_images.json": lambda stems: json.dumps([f"images/{stem}.png" for stem in stems]),
}


@pytest.mark.parametrize("layout", [*FLAT, "CVAT"])
@pytest.mark.parametrize("name", OF_ONE)
@pytest.mark.parametrize("called", ["{:06}", "road_{}"])
def test_a_table_of_one_column_and_a_list_of_json_are_read_as_a_text_is(
    called: str, name: str, layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    folder, drawn = numbered(pictures, tmp_path / "pictures", called)
    (FLAT | {"CVAT": LAYOUTS["CVAT"][0]})[layout](tmp_path / "data", folder, drawn)
    for split, listed in drawn.items():
        put(tmp_path / "data" / name.format(split), OF_ONE[name]([p.stem for p in listed]))
    assert splits_of(tmp_path / "data") == wanted(drawn)


@pytest.mark.parametrize(
    "text", ["class\n0\n1\n1\n", '["cat", "dog", "bird"]', "[1, 2, 3]", "[]", "image\n", '{"0": 1}']
)
def test_other_tables_and_lists_that_are_called_so_part_nothing(
    text: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    folder, drawn = numbered(pictures, tmp_path / "pictures", "{}")
    FLAT["YOLO"](tmp_path / "data", folder, drawn)
    put(tmp_path / f"data/train.{'json' if text[0] in '[{' else 'csv'}", text)
    assert splits_of(tmp_path / "data") == {"train": sorted(p.stem for p in every(drawn))}
    assert notes(tmp_path / "data", "train.", "is not read")


def by_split(rows: Rows, form: Callable[[str], object] = str) -> dict[str, list[object]]:
    return {split: [form(stem) for s, stem in rows if s == split] for split in ("train", "val", "test")}


def number(stem: str) -> int:
    return int(stem.rpartition("_")[2])


FORMS: dict[str, Callable[[Rows], str]] = {
    "splits.yaml": lambda rows: "".join(f"{s}:\n" + "".join(f"- '{n}.png'\n" for n in of) for s, of in by_split(rows).items()),
    "train.tsv": lambda rows: "name\tcamera\n" + "".join(f"{n}.png\tA\n" for s, n in rows if s == "train"),
    "test.jsonl": lambda rows: "".join(json.dumps({"image": f"{n}.png"}) + "\n" for s, n in rows if s != "train"),
    "folds.csv": lambda rows: "image_id,fold\n" + "".join(f"{n},{k % 3}\n" for k, (_, n) in enumerate(rows)),
    "folds.json": lambda rows: json.dumps({"0": by_split(rows)["val"], "1": by_split(rows)["train"]}),
    "meta.csv": lambda rows: "image,is_test\n" + "".join(f"{n},{int(s == 'test')}\n" for s, n in rows),
    "train_labels.csv": lambda rows: "filename,class,xmin,ymin,xmax,ymax\n" + "".join(f"{n}.png,a,1,1,30,30\n" for _, n in rows),
    "splits.json": lambda rows: json.dumps(by_split(rows, number)),
    "train.txt": lambda rows: "".join(f"{number(n)}\n" for s, n in rows if s == "train"),
    "val.csv": lambda rows: "image_id\n" + "".join(f"{number(n)}\n" for s, n in rows if s != "train"),
}  # fmt: skip


@pytest.mark.parametrize("layout", FLAT)
@pytest.mark.parametrize("called", ["{:06}", "{:02}", "road_{:04}"])
@pytest.mark.parametrize("form", FORMS)
def test_splits_of_images_called_by_numbers_are_told(
    form: str, called: str, layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    folder, drawn = numbered(pictures, tmp_path / "pictures", called)
    FLAT[layout](tmp_path / "data", folder, drawn)
    put(tmp_path / "data" / form, FORMS[form](rows_of(drawn)))
    assert notes(tmp_path / "data", UNREAD, form, f"such as {called.format(0)}.png")


NO_SPLITS = {
    "hyp.yaml": "# of the training\nlr0: 0.01\nbatch: 4\nepochs: 10\nwarmup: 3\nmosaic: 1\nval: 5\nimgsz: 9\ntopk: 7\n",
    "train.yaml": "lr0: 0.01\nbatch: 4\nepochs: 10\nwarmup: 3\nmosaic: 1\nworkers: 8\nimgsz: 9\ntopk: 7\n",
    "anchors.txt": "1,2, 3,4, 5,6, 7,8, 9,10\n",
    "class_counts.json": '{"train": {"0": 10, "1": 4, "2": 7}, "val": {"0": 3, "1": 2, "2": 5, "3": 6}}',
    "results.csv": "epoch,train/loss,val/loss\n" + "".join(f"{n},{n / 7},{n / 9}\n" for n in range(10)),
    "train_log.csv": "epoch,loss\n" + "".join(f"{n},{n / 7:.4f}\n" for n in range(10)),
    "test_predictions.json": json.dumps([{"image_id": f"{n:06}", "category_id": n, "bbox": [n] * 4} for n in range(9)]),
    "README.txt": "train 6, val 3, test 2 images; classes 0 to 1; of 2019, 10 and 4 cameras; see 000003.png\n",
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("called", ["{:06}", "{}"])
def test_numbers_that_are_no_images_are_not_told(
    called: str, layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    folder, drawn = numbered(pictures, tmp_path / "pictures", called)
    LAYOUTS[layout][0](tmp_path / "data", folder, drawn)
    for name, text in NO_SPLITS.items():
        put(tmp_path / "data" / name, text)
    assert not notes(tmp_path / "data", "to part them so")
    assert not notes(tmp_path / "data", "what it holds is not read")
    assert not notes(tmp_path / "data", "not followed")


@pytest.mark.parametrize("name", ["splits.pkl", "train_ids.npy", "fold0.mat", "test.txt", "trainval.json"])
def test_whatever_is_called_for_a_split_and_not_read_is_told(
    name: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    FLAT["VOC"](tmp_path, *pictures)
    put(tmp_path / name, "seventeen\n")
    assert notes(tmp_path, name, "is called like a split, and what it holds is not read")
    put(tmp_path / name, "")
    assert not notes(tmp_path, name)


def test_a_table_that_says_what_the_folders_say_is_not_told(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS["VOC by folder"][0](tmp_path, *pictures)
    for split, listed in pictures[1].items():
        put(tmp_path / f"{split}.csv", "n,image\n" + "".join(f"{n},{p.name}\n" for n, p in enumerate(listed)))
    assert not notes(tmp_path, "to part them so")
    put(tmp_path / "val.csv", (tmp_path / "train.csv").read_text())
    assert notes(tmp_path, "val.csv", UNREAD)


@pytest.mark.parametrize("layout", ["standard", "YOLO", "ours"])
def test_a_list_that_is_not_followed_is_told_where_it_says_otherwise(
    layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    LAYOUTS[layout][0](tmp_path / "data", *pictures)
    list_splits(tmp_path / "data", pictures[1], "lists/{}.txt", "{stem}.png")
    before = splits_of(tmp_path / "data")
    assert before == wanted(pictures[1])
    assert not notes(tmp_path / "data", "not followed")
    put(tmp_path / "data/lists/val.txt", "val_0.png\ntrain_0.png\n")
    said = "not followed: 1 of its 2 images, such as train_0, are read for train, not val"
    assert notes(tmp_path / "data", "lists/val.txt", said)
    assert splits_of(tmp_path / "data") == before


@pytest.mark.parametrize("called", ["{:06}", "road_{}"])
@pytest.mark.parametrize(
    "places", ["train: images\nval: images\n", "train: images/\nval: [images/]\ntest: images/\n", "path: .\ntrain: images\nval: images\n"]
)  # fmt: skip
def test_lists_part_what_a_configuration_names_for_train_and_val_alike(
    places: str, called: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    folder, drawn = numbered(pictures, tmp_path / "pictures", called)
    root = tmp_path / "data"
    FLAT["YOLO"](root, folder, drawn)
    put(root / "data.yaml", f"{places}names: [red car, blue]\n")
    assert splits_of(root)["train"] == splits_of(root)["val"]
    for split in ("val", "test"):
        put(root / f"{split}.txt", "\n".join(f"images/{p.name}" for p in drawn[split]))
    assert splits_of(root) == wanted(drawn)
    assert notes(
        root, "data.yaml: train and val name the same images, which are parted by", "val.txt", "test.txt"
    )
    assert splits_of(root / "data.yaml") == wanted(drawn)


def test_lists_do_not_part_what_a_configuration_parts_or_lists(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    FLAT["YOLO"](tmp_path, *pictures)
    list_splits(tmp_path, pictures[1], "{}.txt", "images/{stem}.png")
    put(tmp_path / "data.yaml", "train: train.txt\nval: train.txt\nnames: [red car, blue]\n")
    assert splits_of(tmp_path) == {split: wanted(pictures[1])["train"] for split in ("train", "val")}
    put(tmp_path / "data.yaml", "train: images\nnames: [red car, blue]\n")
    assert splits_of(tmp_path) == {"train": sorted(p.stem for p in every(pictures[1]))}
    assert [n.split(":")[0].rpartition("/")[2] for n in notes(tmp_path, "not followed")] == [
        "test.txt",
        "val.txt",
    ]


def test_lists_that_name_other_images_too_than_a_configuration_are_told(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    FLAT["YOLO"](tmp_path, *pictures)
    list_splits(tmp_path, pictures[1], "{}.txt", "{stem}.png")
    put(tmp_path / "data.yaml", "train: images\nval: images\nnames: [red car, blue]\n")
    (tmp_path / "others").mkdir()
    shutil.copy(tmp_path / "images/val_0.png", tmp_path / "others/none.png")
    put(tmp_path / "val.txt", "val_0\nnone\n")
    assert notes(tmp_path, "val.txt would part them, but also name none, which is none of them: not followed")


def test_a_list_that_gives_another_split_than_its_name_says_is_followed(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    FLAT["YOLO"](tmp_path, *pictures)
    list_splits(tmp_path, pictures[1], "{}.txt", "images/{stem}.png")
    (tmp_path / "val.txt").unlink()
    put(tmp_path / "data.yaml", "train: train.txt\nval: test.txt\nnames: [red car, blue]\n")
    assert splits_of(tmp_path)["val"] == wanted(pictures[1])["test"]
    assert not notes(tmp_path, "not followed")


def test_folds_beside_a_configuration_that_parts_nothing_are_told(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    FLAT["YOLO"](tmp_path, *pictures)
    put(tmp_path / "data.yaml", "train: images\nval: images\nnames: [red car, blue]\n")
    for n, split in enumerate(("train", "test")):
        put(tmp_path / f"fold{n}_train.txt", "\n".join(p.name for p in pictures[1][split]))
    assert notes(
        tmp_path, "train and val name the same images, and no list parts them", "list different images"
    )
