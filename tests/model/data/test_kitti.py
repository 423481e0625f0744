"""Where the labels of KITTI may lie, and what is said of those that are not read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from model.data.check import inspect
from model.data.classes import TRIMMED
from model.data.convert_kitti import Options
from model.data.layouts import in_place
from model.data.other_labels import form_of
from model.errors import UserError
from model.spec import default_spec
from tests.model.data.drawn import Drawn, kitti, put, seen
from tests.model.data.test_layouts import assert_same

pytestmark = pytest.mark.usefixtures("cache")
PLACES = {
    "image_2, label_2": "{split}/image_2 {split}/label_2", "images/train": "images/{split} labels/{split}",
    "in any case": "{split}/Images {split}/LABELS", "beside": "{split} {split}", "data": "{split}/data {split}/labels",
    "label of image": "{split}/image {split}/label", "deep": "{split}/image_2/a/b {split}/label_2/a/b",
    "apart": "images/all/{split} labels/{split}", "below": "{split} labels/{split}",
}  # fmt: skip


def laid(root: Path, pictures: tuple[Path, Drawn], place: str, suffix: str = ".txt") -> None:
    kitti(root.with_name("written"), pictures[0], pictures[1])
    for split in pictures[1]:
        for name, below in zip(("image_2", "label_2"), place.format(split=split).split(), strict=True):
            for file in (root.with_name("written") / split / name).iterdir():
                target = (
                    root / below / (file.with_suffix(suffix).name if file.suffix == ".txt" else file.name)
                )
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)


@pytest.mark.parametrize("suffix", [".txt", ".TXT"])
@pytest.mark.parametrize("place", PLACES)
def test_labels_are_found_where_those_of_yolo_are(
    place: str, suffix: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    if suffix == ".TXT":
        pictures = pictures[0], {s: [p for p in of if "." not in p.stem] for s, of in pictures[1].items()}
    laid(tmp_path / "data", pictures, PLACES[place], suffix)
    data = in_place(str(tmp_path / "data"))
    assert data.layout == "KITTI, 3 splits"
    assert_same(data, pictures[1])


def test_images_of_all_depths_are_read(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    drawn = pictures[1]
    laid(tmp_path / "data", (pictures[0], {"a": drawn["train"]}), "image_2/{split} label_2/{split}")
    laid(tmp_path / "data", (pictures[0], {"b": drawn["val"]}), "image_2 label_2")
    assert_same(in_place(str(tmp_path / "data")), {"train": drawn["train"] + drawn["val"]})


@pytest.mark.parametrize(
    "others", ["image_2/more lab/more", "image_2/more truth", "beyond/pictures beyond/texts"]
)
def test_labels_in_places_that_are_not_looked_at_are_counted(
    others: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    drawn = pictures[1]
    laid(tmp_path / "data", (pictures[0], {"a": drawn["train"]}), "image_2 label_2")
    laid(tmp_path / "data", (pictures[0], {"b": drawn["val"]}), others)
    data = in_place(str(tmp_path / "data"))
    assert set(seen(data)["train"]) == {p.stem for p in drawn["train"]}
    place = tmp_path / "data" / others.split()[1]
    assert any(f"{place}: not read, 3 KITTI label files of images that are not used" in n for n in data.notes)


def test_texts_beside_images_are_no_labels(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    drawn = pictures[1]
    laid(tmp_path / "data", (pictures[0], {"a": drawn["train"]}), "image_2 label_2")
    shutil.copy(pictures[0] / "val_0.png", tmp_path / "data")
    put(tmp_path / "data/val_0.txt", "a red car in the rain")
    assert_same(in_place(str(tmp_path / "data")), {"train": drawn["train"]})


def test_two_folders_of_images_of_one_of_labels(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    """The first is meant: images/ has other pictures of the same names."""
    drawn = pictures[1]
    laid(tmp_path / "data", (pictures[0], {"a": drawn["train"]}), "image_2 label_2")
    shutil.copytree(tmp_path / "data/image_2", tmp_path / "data/images")
    assert_same(in_place(str(tmp_path / "data")), {"train": drawn["train"]})
    warnings = inspect(default_spec("train"), str(tmp_path / "data"), work_dir=tmp_path)["warnings"]
    assert any("images: not read" in warning for warning in warnings)


def test_folders_that_a_person_names(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    laid(tmp_path / "data", pictures, "{split}/cam_02/png {split}/truth")
    with pytest.raises(UserError, match="no folder holds image_2 or .* beside label_2"):
        in_place(str(tmp_path / "data"), kitti=Options())
    found = in_place(str(tmp_path / "data"), kitti=Options(None, "cam_02/png", "truth"))
    assert_same(found, pictures[1])


# ---- types that are numbers, or end in one --------------------------------------------------------------------------

SPACE = {"zeros": ("0 0 0", "0 0 0 0 0 0 0"), "unknown": ("-1 -1 -10", "-1 -1 -1 -1000 -1000 -1000 -10")}
NAMES = {
    "ending in one": ("grade 1", "grade 2"), "ending in nought": ("grade 0", "grade 1"), "numbers": ("30", "007"),
    "mixed": ("1.0", "stop"), "of words": ("nan", "NA"), "beginning with one": ("2 wheeler", "3 wheeler"),
}  # fmt: skip


def square(
    root: Path, names: tuple[str, str], space: str, score: str, size: int = 640, count: int = 6
) -> None:
    """Square images, in which a box shifted by a column still fits, with the labels of KITTI's images/ and labels/."""
    before, behind = SPACE[space]
    for n in range(count):
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size, size), (n, 9, 9)).save(root / f"images/{n}.png")
        box = " ".join(f"{v * size / 640:.2f}" for v in (200 + n, 288, 478 + n, 336))
        lines = [f"{name} {before} {box} {behind}{score}" for name in names]
        put(root / f"labels/{n}.txt", "\n".join(lines))


def boxes_of(place: Path) -> set[tuple[str, float, float, float, float]]:
    return {
        tuple(box) for of in seen(in_place(str(place))).values() for boxes in of.values() for box in boxes
    }


@pytest.mark.parametrize("score", ["", " 1.0"])
@pytest.mark.parametrize("space", SPACE)
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_types_with_numbers(names: tuple[str, str], space: str, score: str, tmp_path: Path) -> None:
    square(tmp_path / "data", names, space, score)
    assert boxes_of(tmp_path / "data") == {(k, 200 + n, 288, 278, 48) for k in names for n in range(6)}


@pytest.mark.parametrize(("score", "detected"), [("", False), (" 1.0", False), (" 0.9", True), (" 0", True)])
def test_boxes_that_a_detector_may_have_found_are_counted(score: str, detected: bool, tmp_path: Path) -> None:
    square(tmp_path / "data", ("car", "bus"), "zeros", score)
    told = "KITTI: 12 boxes with a confidence: are these labels what a detector found?"
    assert (told in in_place(str(tmp_path / "data")).notes) == detected


@pytest.mark.parametrize(
    ("change", "count"),
    [
        (lambda line: line.replace("red car", "red car "), 6),
        (lambda line: f" {line}", 12),
        (lambda line: line.replace("red car", "red  car"), 6),
        (lambda line: line.replace(" ", "  ").replace("red  car", "red car"), 0),  # columns below each other
        (lambda line: line.replace(" ", "\t").replace("red\tcar", "red car"), 0),
        (lambda line: f"{line} ", 0),
    ],
)
def test_types_with_blanks_around_them_are_counted(
    change: Callable[[str], str], count: int, tmp_path: Path
) -> None:
    square(tmp_path / "data", ("red car", "bus"), "zeros", " 1.0")
    for file in (tmp_path / "data/labels").iterdir():
        put(file, "\n".join(map(change, file.read_text().splitlines())))
    assert {kind for kind, *_ in boxes_of(tmp_path / "data")} == {"red car", "bus"}
    notes = in_place(str(tmp_path / "data")).notes
    assert [n for n in notes if TRIMMED in n] == ([f"KITTI: {count} {TRIMMED}"] if count else [])


def test_a_number_that_may_be_a_score_is_asked_about(tmp_path: Path) -> None:
    """Pixels of so small images may be metres."""
    square(tmp_path / "data", ("grade 0", "grade 1"), "zeros", "", size=48)
    with pytest.raises(
        UserError, match="0.txt:1: is it of the class 'grade 0', or of 'grade', with a score"
    ) as told:
        in_place(str(tmp_path / "data"))
    assert "no line tells; write names without blanks, as in grade_0" in str(told.value)
    for file in (tmp_path / "data/labels").iterdir():
        put(file, file.read_text().replace("grade ", "grade_"))
    assert {kind for kind, *_ in boxes_of(tmp_path / "data")} == {"grade_0", "grade_1"}


def test_a_broken_line_does_not_tell_what_a_score_is(tmp_path: Path) -> None:
    square(tmp_path / "data", ("grade 1", "grade 2"), "zeros", "")
    put(tmp_path / "data/labels/0.txt", "grade 1 0 0 0 60 10 20 40 0 0 0 0 0 0 0")
    with pytest.raises(
        UserError, match="0.txt:1: left <= right and top <= bottom must hold, but got 60 10 20 40"
    ):
        in_place(str(tmp_path / "data"))


def test_lines_of_both_kinds_are_asked_about(tmp_path: Path) -> None:
    square(tmp_path / "data", ("grade 1", "grade 2"), "zeros", "")
    for n in range(3):
        put(tmp_path / f"data/labels/{n}.txt", "car 0 0 0 300 100 400 200 0 0 0 0 0 0 0 0.9\n" * 2)
    with pytest.raises(UserError, match="6 such lines speak for a score, 6 against it"):
        in_place(str(tmp_path / "data"))


@pytest.mark.parametrize("line", ["30 0 0 0 10 10 60 60 0 0 0 0 0 0", "30 0 0 0 10 10 60 60 0 0 0 0 0 0 x"])
def test_broken_lines_of_numbers_are_told(line: str, tmp_path: Path) -> None:
    square(tmp_path / "data", ("30", "stop"), "zeros", "")
    put(tmp_path / "data/labels/3.txt", line)
    with pytest.raises(
        UserError, match="3.txt:1: (a KITTI line must have 15 fields|14 fields behind the type)"
    ):
        in_place(str(tmp_path / "data"))


def test_polygons_of_seven_points_are_of_yolo(tmp_path: Path) -> None:
    square(tmp_path / "data", ("30", "stop"), "zeros", "")
    for file in (tmp_path / "data/labels").iterdir():
        put(file, "0 0.1 0 0.2 0 0.3 0.1 0.4 0.2 0.3 0.3 0.2 0.3 0.1 1")
    put(tmp_path / "data/classes.txt", "cat")
    assert {kind for kind, *_ in boxes_of(tmp_path / "data")} == {"cat"}


def test_types_of_numbers_are_kitti_where_they_are_not_read(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", "30 0 0 0 10 10 60 60 0 0 0 0 0 0 0\ngrade 1 0 0 0 10 10 60 60 0 0 0 0 0 0 0 0.9")
    assert form_of(tmp_path / "a.txt") == "KITTI"


def test_no_share_is_advised_where_most_boxes_do_not_fit(tmp_path: Path) -> None:
    square(tmp_path / "data", ("car", "bus"), "zeros", "", count=12)
    for n in range(12):
        Image.new("RGB", (240, 300), (n, 9, 9)).save(tmp_path / f"data/images/{n}.png")
    said = str(inspect(default_spec("train"), str(tmp_path / "data"), work_dir=tmp_path)["problems"])
    assert "24 of 24 boxes (100%) would be changed" in said
    assert "compare some with the pictures" in said
    assert "set dataset.mended_share=" not in said
