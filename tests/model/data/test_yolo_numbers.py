"""Labels whose numbers count from 1 where the names count from 0: refused with what is wrong with all of them, or, where
nothing contradicts, told."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.actions.export_dataset import write
from model.data.check import inspect
from model.data.layouts import in_place
from model.errors import UserError
from model.spec import default_spec
from tests.model.data.drawn import put
from tests.model.data.test_yolo_names import BOX, SPLITS, labelled

pytestmark = pytest.mark.usefixtures("cache")
MAY = "no label has the number 0 (a); if the numbers in the labels count from 1, each box has its neighbour's name"


def data(root: Path, lines: str, names: str = "[a, b, c]") -> Path:
    put(labelled(root, lines) / "data.yaml", f"{SPLITS}names: {names}\n")
    return root


def test_a_refusal_says_where_all_numbers_count_from_1(tmp_path: Path) -> None:
    root = data(tmp_path / "data", f"1 {BOX}\n\n3.0 {BOX}\n" * 3)
    with pytest.raises(UserError) as told:
        in_place(str(root))
    lines = str(told.value).splitlines()
    assert "class 3.0 has no name; there are 3, from 0" in lines[0]
    assert "the highest is 3, one more than the last name's: all numbers seem to count from 1" in lines[-1]
    assert "subtract 1 from the number that begins each line" in lines[-1]


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (f"0 {BOX}\n3 {BOX}\n", "[a, b, c]"),
        (f"1 {BOX}\n4 {BOX}\n", "[a, b, c]"),
        (f"1 {BOX}\n3 {BOX}\n", "{1: a, 2: b}"),
        (f"1 {BOX}\n2 {BOX} 7\n", "[a, b, c]"),
    ],
)
def test_other_refusals_do_not(lines: str, names: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        in_place(str(data(tmp_path / "data", lines, names)))
    assert "count from 1" not in str(told.value)


def test_numbers_that_may_count_from_1_are_told_wherever_the_data_are_read(tmp_path: Path) -> None:
    root = data(tmp_path / "data", f"1 {BOX}\n2 {BOX}\n")
    unseen = "class 1 (a) has no box in the training set"
    for _ in range(2):  # the second time from the cache
        notes = inspect(default_spec("train"), str(root), work_dir=tmp_path / "work")["warnings"]
        assert [note for note in notes if MAY in note]
        assert unseen in notes
    notes = write(str(root), tmp_path / "coco")["notes"]
    assert [note for note in notes if MAY in note]
    assert unseen in notes


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (f"0 {BOX}\n", "[a, b, c]"),
        (f"1 {BOX}\n2 {BOX}\n", "{1: a, 2: b, 3: c}"),
        ("", "[a, b, c]"),
        (f"2 {BOX}\n", "[a, b, c]"),
        (f"1 {BOX}\n2 {BOX}\n", "[__background__, b, c]"),
    ],
)
def test_others_are_not(lines: str, names: str, tmp_path: Path) -> None:
    assert in_place(str(data(tmp_path / "data", lines, names))).notes == ()
