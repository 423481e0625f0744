"""By which words the keys of data.yaml and obj.data say a split, and what is said of those that say none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from model.data.check import inspect
from model.data.layouts import in_place
from model.errors import UserError
from model.spec import default_spec
from tests.model.data.drawn import Drawn, put, seen, yolo, yolo_lists
from tests.model.data.test_layouts import assert_same

pytestmark = pytest.mark.usefixtures("cache")
WORDS = {
    "training validation testing": ("train", "val", "test"), "train dev holdout": ("train", "val", "test"),
    "Train eval tst": ("train", "val", "test"), "train2017 val2017 test2017": ("train", "val", "test"),
    "trainval minival test-dev": ("train", "val", "test"),
}  # fmt: skip


def called(root: Path, words: dict[str, str], file: str) -> Path:
    """A dataset with its keys, lists and folders of images called by other words."""
    text = (root / file).read_text()
    for split, word in words.items():
        text = text.replace(f"{split} = data/{split}.", f"{word} = data/{word}.").replace(
            f"\n{split}: ", f"\n{word}: "
        )
        if (root / f"{split}.txt").exists():
            put(
                root / f"{word}.txt",
                (root / f"{split}.txt").read_text().replace(f"obj_{split}", f"obj_{word}"),
            )
            if word != split:
                (root / f"{split}.txt").unlink()
                shutil.move(root / f"obj_{split}_data", root / f"obj_{word}_data")
    put(root / file, text)
    return root


def noted(root: Path, tmp_path: Path) -> list[str]:
    return inspect(default_spec("train"), str(root), work_dir=tmp_path)["warnings"]


@pytest.mark.parametrize("file", ["obj.data", "data.yaml"])
@pytest.mark.parametrize("words", WORDS)
def test_words_of_splits(words: str, file: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    (yolo if file == "data.yaml" else yolo_lists)(tmp_path / "data", *pictures)
    root = called(tmp_path / "data", dict(zip(WORDS[words], words.split(), strict=True)), file)
    found = in_place(str(root))
    assert found.layout == f"YOLO ({file}), 3 splits"
    assert_same(found, pictures[1])


@pytest.mark.parametrize("file", ["obj.data", "data.yaml"])
def test_keys_of_no_split_are_told(file: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    (yolo if file == "data.yaml" else yolo_lists)(tmp_path / "data", *pictures)
    root = called(tmp_path / "data", {"test": "extra"}, file)
    assert set(seen(in_place(str(root)))) == {"train", "val"}
    (line,) = [note for note in noted(root, tmp_path) if "extra" in note]
    assert f"{root / file}: its key extra, which says no split, names 2 images that no split has" in line


@pytest.mark.parametrize(
    "more", ["test_labels: labels/test", "test_annotations: test.json", "test_data: x.csv"]
)
def test_keys_of_labels_name_no_images(more: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    yolo(tmp_path / "data", *pictures)
    text = (tmp_path / "data/data.yaml").read_text()
    put(
        tmp_path / "data/data.yaml",
        text[: text.index("\ntest: ")] + text[text.index("\n", text.index("\ntest: ") + 1) :] + f"\n{more}\n",
    )
    put(tmp_path / "data/test.json", "{}")
    put(tmp_path / "data/x.csv", "a,b")
    assert set(seen(in_place(str(tmp_path / "data")))) == {"train", "val"}


def test_other_keys_are_no_places(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    yolo(tmp_path / "data", *pictures)
    more = "evaluation: true\ntraining: {epochs: 3}\nnote: a/b\ndownload: |\n  a/b\nyaml_file: data.yaml\nroot: .\n"
    put(tmp_path / "data/data.yaml", (tmp_path / "data/data.yaml").read_text() + more)
    data = in_place(str(tmp_path / "data"))
    assert_same(data, pictures[1])
    assert not any("its key" in note for note in data.notes)


def test_the_metric_of_darknet_is_no_list(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    yolo_lists(tmp_path / "data", *pictures)
    text = (tmp_path / "data/obj.data").read_text().replace("val = data/val.txt", "eval = coco")
    put(tmp_path / "data/obj.data", text)
    (tmp_path / "data/coco").mkdir()
    shutil.rmtree(tmp_path / "data/obj_val_data")
    assert set(seen(in_place(str(tmp_path / "data")))) == {"train", "test"}


def test_two_keys_of_a_split_are_asked_about(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    yolo(tmp_path / "data", *pictures)
    text = (tmp_path / "data/data.yaml").read_text()
    put(tmp_path / "data/data.yaml", text.replace("\ntrain:", "\ntrain_1:").replace("\nval:", "\ntrain_2:"))
    with pytest.raises(
        UserError, match="train_1 and train_2 may all be for train; call the one that is train, or"
    ):
        in_place(str(tmp_path / "data"))
    put(tmp_path / "data/data.yaml", text.replace("\nval:", "\nvalid: images/val\nvalidation:"))
    assert_same(in_place(str(tmp_path / "data")), pictures[1])


# ---- several files of one dataset -----------------------------------------------------------------------------------


def by_split(root: Path, pictures: tuple[Path, Drawn]) -> Path:
    """As labelformat writes, run by run: each split a folder with its own data.yaml."""
    for split, drawn in pictures[1].items():
        yolo(root / split, pictures[0], {split: drawn})
        text = f"names:\n  0: red car\n  1: blue\nnc: 2\npath: .\n{split}: images\n"
        for folder in ("images", "labels"):
            for file in (root / split / folder / split).iterdir():
                shutil.move(file, root / split / folder)
            (root / split / folder / split).rmdir()
        put(root / split / "data.yaml", text)
    return root


def test_a_data_yaml_of_each_split(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    data = in_place(str(by_split(tmp_path / "data", pictures)))
    assert data.layout == "YOLO (data.yaml), 3 splits"
    assert_same(data, pictures[1])
    assert any("val/data.yaml are read together, as each names another split" in note for note in data.notes)


@pytest.mark.parametrize(
    ("old", "new"), [("0: red car", "0: bus"), ("val: images", "train: images"), ("val: images", "val: gone")],
    ids=["other names", "the same split", "images that are not there"],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(
    old: str, new: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    file = by_split(tmp_path / "data", pictures) / "val/data.yaml"
    put(file, file.read_text().replace(old, new))
    with pytest.raises(UserError, match="both describe a YOLO dataset; give one to --data"):
        in_place(str(tmp_path / "data"))


def test_obj_data_given_itself(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    yolo_lists(tmp_path / "data", *pictures)
    data = in_place(str(tmp_path / "data/obj.data"))
    assert data.layout == "YOLO (obj.data), 3 splits"
    assert_same(data, pictures[1])
    put(tmp_path / "data/other.data", "0101")
    with pytest.raises(UserError, match="other.data: a YOLO file must have 'train' and 'names'"):
        in_place(str(tmp_path / "data/other.data"))
