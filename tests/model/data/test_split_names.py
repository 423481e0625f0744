"""Which split a folder's name tells: words, several names in one path, folders whose names tell nothing."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from model.data.layouts import in_place
from model.data.tree import SplitNames, split_of
from model.errors import UserError
from tests.model.data import drawn as writers
from tests.model.data.drawn import Drawn, put, seen


def _written(format: str, folder: Path, pictures: tuple[Path, Drawn], names: tuple[str, ...]) -> None:
    """The pictures dealt out to folders of these names."""
    every = writers.every(pictures[1])
    write = {"yolo": writers.yolo, "voc": writers.voc_by_folder, "kitti": writers.kitti}[format]
    write(folder, pictures[0], {name: every[n :: len(names)] for n, name in enumerate(names)})
    if format == "yolo":
        put(folder / "data.yaml", "names: [red car, blue]\n")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("VOCtrain", "train"), ("VOCtest", "test"), ("COCOVal", "val"), ("KITTItrain_06", "train"), ("TrainSet", "train"),
        ("traindata", "train"), ("valimages", "val"), ("imagestest", "test"), ("testset", "test"), ("evaluation", "val"),
        ("validate", "val"), ("Validating", "val"), ("development", "val"), ("minival2014", "val"), ("trainval35k", "train"),
        ("latest", None), ("contest", None), ("retrain", None), ("VOCdevkit", None), ("devices", None), ("unseen", None),
    ],
)  # fmt: skip
def test_the_word_for_a_split_is_found_in_a_name(name: str, split: str | None) -> None:
    assert split_of(f"{name}/.") == split


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        ("train/training val/training", "train val"),
        ("training val/training", "train val"),
        ("train/train val/train test/train", "train val test"),
        ("train val/train", "train val"),
        ("training/train training/val", "train val"),
        ("training/train training/val testing", "train val test"),
        ("my_train/training my_val/training", "train val"),
        ("test_drive/train test_drive/val", "train val"),
        ("test_drive/train other/train val", "train train val"),
        ("test/train test/val docs", "train val -"),
        ("train/images/test_track train/images/dev_board val/images/test_track", "train train val"),
        ("train/bus train/test val/bus val/test", "train train val val"),
        ("a b", "- -"),
    ],
)
def test_of_several_names_in_a_path_the_one_that_tells_splits_apart_counts(folders: str, splits: str) -> None:
    paths = [f"{folder}/." for folder in folders.split()]
    names = SplitNames.of(paths)
    assert [names.split_of(path) or "-" for path in paths] == splits.split()


@pytest.mark.parametrize("folders", ["train/val test/train", "train/train val/val test/train"])
def test_names_that_contradict_each_other_are_refused(folders: str) -> None:
    paths = [f"{folder}/." for folder in folders.split()]
    names = SplitNames.of(paths)
    with pytest.raises(UserError, match="/(val|train): is for (train|test) by one folder's name and for"):
        [names.split_of(path) for path in paths]


def _stems(place: Path) -> dict[str, set[str]]:
    return {split: set(images) for split, images in seen(in_place(str(place))).items()}


def _wanted(drawn: Drawn) -> dict[str, set[str]]:
    return {split: {picture.stem for picture in listed} for split, listed in drawn.items()}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("names", ["{}", "my_{}", "KITTI{}"])
@pytest.mark.parametrize("inner", ["training", "train", "train/training"])
def test_a_split_named_within_a_split_does_not_count(
    packed: bool, names: str, inner: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    for split, listed in pictures[1].items():
        own = tmp_path / "data" / names.format(split)
        writers.kitti(tmp_path / split, pictures[0], {"all": listed})
        shutil.copytree(tmp_path / split / "all", own / inner)
        if packed:
            shutil.make_archive(str(own), "zip", own)
            shutil.rmtree(own)
    assert _stems(tmp_path / "data") == _wanted(pictures[1])


@pytest.mark.parametrize("format", ["yolo", "voc", "kitti"])
@pytest.mark.parametrize("others", [("unseen",), ("unseen", "xval"), ("bus", "car")])
@pytest.mark.parametrize("above", ["", "fold/"])
def test_labelled_folders_beside_train_must_say_their_split(
    format: str, others: tuple[str, ...], above: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root, every = tmp_path / "data", writers.every(pictures[1])
    groups = {f"{above}{name}": every[n :: len(others) + 1] for n, name in enumerate(("train", *others))}
    write = {"yolo": writers.yolo, "voc": writers.voc_by_folder, "kitti": writers.kitti}[format]
    write(root, pictures[0], groups)
    if format == "yolo":
        put(root / "data.yaml", "names: [red car, blue]\n")
    with pytest.raises(UserError, match=rf"{others[0]}: labelled images in a folder beside train") as told:
        in_place(str(root))
    assert "call it val or test" in str(told.value)
    place = next(f for f in root.rglob(others[0]) if f.is_dir())
    assert str(place) in str(told.value) or place.parent.name in ("images", "labels", "JPEGImages")


def test_a_coco_folder_beside_train_must_say_its_split(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = tmp_path / "data"
    writers.LAYOUTS["ours"][0](root, *pictures)
    shutil.rmtree(root / "test")
    (root / "val").rename(root / "unseen")
    with pytest.raises(UserError, match="unseen/annotations.json: .* tells no split"):
        in_place(str(root))


def test_archives_whose_names_run_words_together(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    (tmp_path / "data").mkdir()
    for split, listed in pictures[1].items():
        writers.voc_by_folder(tmp_path / split, pictures[0], {"all": listed})
        with zipfile.ZipFile(tmp_path / "data" / f"VOC{split}.zip", "w") as archive:
            for file in sorted(p for p in (tmp_path / split / "all").rglob("*") if p.is_file()):
                archive.write(file, file.relative_to(tmp_path / split / "all"))
    assert _stems(tmp_path / "data") == _wanted(pictures[1])


@pytest.mark.parametrize("language", ["训练 验证 测试", "treino validação teste", "entrenamiento validación prueba",
    "обучение валидация тест", "学習 検証 テスト", "addestramento convalida prova", "Trainingsdaten Validierung Test",
])  # fmt: skip
@pytest.mark.parametrize("format", ["yolo", "voc", "kitti"])
def test_split_folders_of_other_languages(
    language: str, format: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    groups = dict(zip(language.split(), pictures[1].values(), strict=True))
    write = {"yolo": writers.yolo, "voc": writers.voc_by_folder, "kitti": writers.kitti}[format]
    write(tmp_path / "data", pictures[0], groups)
    if format == "yolo":
        put(tmp_path / "data" / "data.yaml", "names: [red car, blue]\n")
    assert _stems(tmp_path / "data") == _wanted(pictures[1])


@pytest.mark.parametrize("format", ["yolo", "voc", "kitti"])
@pytest.mark.parametrize(
    ("names", "both"),
    [
        (("train", "dev", "eval"), "val: (images/)?dev, (images/)?eval"),
        (("train", "valid", "val"), "val: (images/)?val, (images/)?valid"),
        (("train", "val1", "validation2"), "val: (images/)?val1, (images/)?validation2"),
        (("train", "training", "val"), "train: (images/)?train, (images/)?training"),
        (("a/train", "a/val", "a/test", "a/holdout"), "test: (images/a/)?holdout, (images/a/)?test"),
    ],
)
def test_two_words_for_one_split_side_by_side_are_asked_about(
    format: str, names: tuple[str, ...], both: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    _written(format, tmp_path / "data", pictures, names)
    with pytest.raises(UserError, match=rf"2 folders may be for {both}; keep .* by one word and a number"):
        in_place(str(tmp_path / "data"))


@pytest.mark.parametrize("format", ["yolo", "voc", "kitti"])
@pytest.mark.parametrize(
    "names",
    [
        ("train", "train2", "val1", "val_2"),
        ("a/train", "a/val", "b/training", "b/validation"),
        ("VOC2007_train", "VOC2012_training", "VOC2007_val"),
        ("cars_train", "cars_val", "bikes_train", "bikes_validation"),
        ("train/train_station", "train/training_hall", "val/dev_kit", "val/eval_room"),
        ("train", "val/validation_2021", "val/valid_2022"),
        ("train/train", "train/training", "val/val"),
        ("my_train/train", "my_train/training", "my_val/val"),
    ],
)
def test_a_number_more_words_or_another_place_may_tell_folders_of_a_split_apart(
    format: str, names: tuple[str, ...], tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    _written(format, tmp_path / "data", pictures, names)
    assert set(_stems(tmp_path / "data")) == {"train", "val"}


@pytest.mark.parametrize("format", ["yolo", "voc", "kitti"])
@pytest.mark.parametrize(
    "names", [("train", "val", "train_old"), ("test_track", "highway"), ("2023_val_x", "a", "b")]
)
def test_a_name_that_only_hints_at_a_split_is_asked_about(
    format: str, names: tuple[str, ...], tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    _written(format, tmp_path / "data", pictures, names)
    with pytest.raises(UserError, match="is its name that of a split"):
        in_place(str(tmp_path / "data"))


@pytest.mark.parametrize("format", ["yolo", "voc", "kitti"])
def test_folders_that_tell_no_split_are_named(
    format: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    _written(format, tmp_path / "data", pictures, ("cam0", "cam1"))
    data = in_place(str(tmp_path / "data"))
    assert (
        sum("in folders of no split" in note and "cam0" in note and "cam1" in note for note in data.notes)
        == 1
    )
    assert set(seen(data)) == {"train"}


def test_a_run_json_of_somebody_s_own_hides_nothing(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    writers.LAYOUTS["VOC by folder"][0](tmp_path / "data", *pictures)
    put(tmp_path / "data" / "val" / "run.json", {"drone": "x"})
    assert _stems(tmp_path / "data") == _wanted(pictures[1])
    put(tmp_path / "data" / "val" / "run.json", {"format": 2, "request": {}, "study": "a", "model": "b"})
    assert set(_stems(tmp_path / "data")) == {"train", "test"}


@pytest.mark.parametrize("name", ["my.{}", "Pets.v1.{}", "{}.v2"])
@pytest.mark.parametrize("format", ["yolo", "voc", "kitti"])
def test_archives_with_dots_in_their_names(
    name: str, format: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    for split, listed in pictures[1].items():
        if format == "kitti":
            writers.kitti(tmp_path / split, pictures[0], {"training": listed})
        elif format == "voc":
            writers.voc_by_folder(tmp_path / split, pictures[0], {"data": listed})
        else:
            writers.yolo(tmp_path / split, pictures[0], {"data": listed})
            put(tmp_path / split / "data.yaml", "names: [red car, blue]\n")
        shutil.make_archive(str(tmp_path / "data" / name.format(split)), "zip", tmp_path / split)
    assert _stems(tmp_path / "data") == _wanted(pictures[1])


@pytest.mark.parametrize("format", ["voc", "kitti"])
def test_no_note_counts_no_images(format: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    write = {"voc": writers.voc_by_folder, "kitti": writers.kitti}[format]
    write(tmp_path / "data", pictures[0], pictures[1])
    assert not [note for note in in_place(str(tmp_path / "data")).notes if "0 images" in note]
