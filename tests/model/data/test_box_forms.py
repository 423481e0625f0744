"""Boxes in another form than x y w h are told by what the file itself says of them; true files never are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data import box_forms
from model.data.box_forms import check_forms
from model.data.coco_rows import AnnotationRow, MaskRow
from model.data.documents import read
from model.data.problems import Problems
from tests.model.data.drawn import put

SIDE = 100


def drawn(count: int = 8) -> np.ndarray:
    """[T, 4] x y w h px of small boxes anywhere."""
    random = np.random.default_rng(3)
    return np.concatenate([random.integers(12, 60, (count, 2)), random.integers(5, 24, (count, 2))], axis=1)


def ring(x: float, y: float, w: float, h: float) -> list[float]:
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def told(path: Path, rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """(problems, notes) of a file with these annotations."""
    image = {"id": 1, "file_name": "a.png", "width": SIDE, "height": SIDE}
    own = [{"id": n, "image_id": 1, "category_id": 1} | row for n, row in enumerate(rows, 1)]
    put(path, {"images": [image], "annotations": own, "categories": [{"id": 1, "name": "a"}]})
    problems = Problems()
    read(path, problems)
    return problems.lines(), problems.notes


def corners(box: np.ndarray) -> list[float]:
    x, y, w, h = box.tolist()
    return [x, y, x + w, y + h]


def centre(box: np.ndarray) -> list[float]:
    x, y, w, h = box.tolist()
    return [x + w / 2, y + h / 2, w, h]


@pytest.mark.parametrize("by", ["area", "inclusive area", "mask"])
def test_corners_are_told_by_areas_and_masks(by: str, tmp_path: Path) -> None:
    more = int(by == "inclusive area")
    rows = [
        {"bbox": corners(box), "area": int((box[2] + more) * (box[3] + more))}
        if by != "mask"
        else {"bbox": corners(box), "area": 0.6 * int(box[2] * box[3]), "segmentation": [ring(*box.tolist())]}
        for box in drawn()
    ]
    problems, _ = told(tmp_path / "a.json", rows)
    assert len(problems) == 1
    assert "8 of 8 boxes are x1 y1 x2 y2 by their" in problems[0]
    assert "subtract x1 and y1" in problems[0]


def test_centres_are_told_by_masks(tmp_path: Path) -> None:
    rows = [{"bbox": centre(box), "segmentation": [ring(*map(int, box))]} for box in drawn()]
    problems, _ = told(tmp_path / "a.json", rows)
    assert "boxes are the centre and the sides by their mask" in problems[0]


@pytest.mark.parametrize(
    "of",
    [
        lambda x, y, w, h: {},
        lambda x, y, w, h: {"area": 0},
        lambda x, y, w, h: {"area": w * h},
        lambda x, y, w, h: {"area": 0.4 * w * h, "segmentation": [[x, y, x + w, y, x, y + h]]},
        lambda x, y, w, h: {"area": 16 * w * h, "segmentation": [ring(x, y, w, h)]},
        lambda x, y, w, h: {"area": 2 * w * h, "segmentation": [ring(x - 2, y - 5, w + 9, h + 30)]},
        lambda x, y, w, h: {"area": w * h / 1e4, "segmentation": []},
        lambda x, y, w, h: {"area": 3 * w * h, "segmentation": {"size": [9, 9], "counts": "x"}},
    ],
    ids=["none", "zero", "own", "triangle", "scaled", "visible part", "shares", "no mask"],
)
@pytest.mark.parametrize("near", [0, 10])
def test_true_boxes_are_let_be(of: Any, near: int, tmp_path: Path) -> None:
    boxes = drawn()
    boxes[:, :2] -= near  # at the upper left border, where x y w h may be corners too
    boxes[:, :2] = np.minimum(boxes[:, :2], boxes[:, 2:] - 1) if near else boxes[:, :2]
    rows = [{"bbox": box.tolist()} | of(*box.tolist()) for box in boxes]
    assert told(tmp_path / "a.json", rows) == ([], [])


def disc(x: float, y: float, side: float) -> list[float]:
    turns = np.linspace(0, 2 * np.pi, 64)
    return (
        (np.stack([np.cos(turns), np.sin(turns)], axis=1) * side / 2 + (x + side / 2, y + side / 2))
        .ravel()
        .tolist()
    )


@pytest.mark.parametrize(
    "rows",
    [[([0, 0, 63, 47], 64 * 48, None)] * 20,
     [([0, 0, 63 - n, 47 - n], (64 - n) * (48 - n), ring(0, 0, 63 - n, 47 - n)) for n in range(20)],
     [([5 + n, 5, 900, 900], (0.985 + n % 4 / 1000) * 810_000, None) for n in range(20)],
     [([93, 93, 814, 814], np.pi * 407**2, None)] * 20,
     [([93, 93, 814, 814 + n], np.pi * 407**2, disc(93, 93, 814)) for n in range(20)],
     [([29.3, 29.3, 100, 100], 5000, None)] * 20,
     [([2, 1, 61, 46], 61 * 46 - 40, None), ([1, 1, 62, 46], 62 * 46, None)] * 10],
    ids=["whole picture", "whole picture with masks", "pages", "discs", "discs with masks", "triangles", "corner off"],
)  # fmt: skip
def test_areas_that_are_anothers_by_chance_are_let_be(rows: list[Any], tmp_path: Path) -> None:
    own = [{"bbox": b, "area": a} | ({"segmentation": [m]} if m else {}) for b, a, m in rows]
    assert told(tmp_path / "a.json", own) == ([], [])


def test_areas_do_not_speak_against_masks(tmp_path: Path) -> None:
    rows = [{"bbox": corners(box), "area": int(box[2] * box[3])} for box in drawn()]
    assert told(tmp_path / "a.json", rows)[0]
    rows = [row | {"segmentation": [ring(*row["bbox"])]} for row in rows]
    assert told(tmp_path / "a.json", rows) == ([], [])


@pytest.mark.parametrize("wrong", [False, True])
def test_of_many_masks_some_raise_a_suspicion(wrong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_forms, "SAMPLE", 8)
    parsed: list[int] = []

    def around(mask: int) -> list[float]:
        parsed.append(mask)
        return [20.0, 20.0, 30.0, 30.0]

    monkeypatch.setattr(box_forms, "extent", around)
    boxes = np.array([[20.0, 20, 50, 50] if wrong else [20, 20, 30, 30]] * 40)
    rows, problems = [AnnotationRow(id=n) for n in range(40)], Problems()
    check_forms(rows, boxes, lambda: [MaskRow(n) for n in range(40)], "a.json", problems)
    assert len(parsed) == (48 if wrong else 8)
    assert bool(problems.lines()) == wrong


def test_one_wrong_box_or_a_coincidence_refuses_nothing(tmp_path: Path) -> None:
    rows = [{"bbox": box.tolist(), "area": int(box[2] * box[3])} for box in drawn(60)]
    odd = [{"bbox": corners(box), "area": int(box[2] * box[3])} for box in drawn(4)]
    assert told(tmp_path / "a.json", rows + odd) == ([], [])
    problems, notes = told(tmp_path / "b.json", rows + 3 * odd)
    assert not problems
    assert "12 of 72 boxes are x1 y1 x2 y2 by their area" in notes[0]


def test_boxes_apart_from_their_masks_are_noted(tmp_path: Path) -> None:
    rows = [{"bbox": [1, 1, 3, 3], "area": 600, "segmentation": [[10, 10, 60, 10, 60, 70]]}] * 2
    problems, notes = told(tmp_path / "a.json", rows)
    assert not problems
    assert "2 of 2 boxes lie apart from their masks" in notes[0]


@pytest.mark.parametrize("odd", ["NaN", "1e400"])
def test_masks_are_read_of_files_with_odd_numbers(odd: str, tmp_path: Path) -> None:
    rows = [{"bbox": corners(box), "segmentation": [ring(*map(int, box))]} for box in drawn()]
    told(tmp_path / "a.json", rows)
    text = (tmp_path / "a.json").read_text().replace("[[", f"[[{odd}, 1, ", 1)
    (tmp_path / "a.json").write_text(text)
    problems = Problems()
    read(tmp_path / "a.json", problems)
    assert "7 of 8 boxes are x1 y1 x2 y2 by their mask" in problems.lines()[0]
