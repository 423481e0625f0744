"""Boxes of a COCO file that its own areas and masks contradict: x1 y1 x2 y2, or the centre and the sides, where x y w h
is wanted. Such numbers are boxes too, only wrong ones.

An area of its own is a mask's, smaller than the box, or of another scale, and a box may be that of a visible part: so
only what fits another form exactly, and this one not, counts, of several boxes and nearly all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from model.data.coco_rows import AnnotationRow, MaskRow
from model.data.masks import extent
from model.data.problems import Problems, shown

SEVERAL = 3  # boxes that must speak for another form
NEARLY_ALL = 0.95  # of those that tell
SOME = 0.1  # share from which a part of a file is worth a word
NEAR_PX = 2.0  # between a box and the extent of its mask, or this
NEAR = 0.03  # share of the longer side, where that is more
EXACT = 0.005  # of an area
MOST = 200_000  # boxes up to which masks are read on a mere suspicion
CORNERS, CENTRES = "x1 y1 x2 y2", "the centre and the sides"
ADVICE = {
    CORNERS: "subtract x1 and y1 from x2 and y2",
    CENTRES: "subtract half the sides from the centre",
}


@np.errstate(all="ignore")  # numbers may be as large as a float can be: such boxes are told elsewhere
def check_forms(
    rows: Sequence[AnnotationRow],
    boxes: np.ndarray,
    masks: Callable[[], list[MaskRow]],
    where: str,
    problems: Problems,
) -> None:
    """Say in `problems` where the rows' areas, or the extents of their masks, show that `boxes` [T, 4] are no x y w h;
    note boxes that lie apart from their masks."""
    areas = np.array(
        [row.area if type(row.area) in (int, float) and row.area < 1e300 else 0 for row in rows], np.float64
    )
    if _tell(_by_areas(boxes, areas), CORNERS, "area", rows, boxes, where, problems):
        return
    if not _suspicious(boxes, areas):
        return
    extents = [extent(row.segmentation) for row in masks()]
    known = np.array([found is not None and min(found[2:]) > 0 for found in extents], bool)
    around = np.array(
        [found if k and found else [0.0] * 4 for k, found in zip(known, extents, strict=True)]
    ).reshape(-1, 4)
    for form in (CORNERS, CENTRES):
        if _tell(_by_masks(boxes, around, known, form), form, "mask", rows, boxes, where, problems):
            return
    _note_apart(boxes, around, known, rows, where, problems)


def _as(boxes: np.ndarray, form: str) -> np.ndarray:
    """[T, 4] xywh of numbers in another form."""
    first, second = boxes[:, :2], boxes[:, 2:]
    pair = (first, second - first) if form == CORNERS else (first - second / 2, second)
    return np.concatenate(pair, axis=1)


def _by_areas(boxes: np.ndarray, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[T] which areas are exactly those of corners and not of x y w h, and which the other way round."""
    sides = _as(boxes, CORNERS)[:, 2:]
    own = boxes[:, 2] * boxes[:, 3]
    drawn = (sides > 0).all(axis=1)
    fits = drawn & (_equal(areas, sides.prod(axis=1)) | _equal(areas, (sides + 1).prod(axis=1)))
    stays = _equal(areas, own) | _equal(areas, (boxes[:, 2:] - 1).prod(axis=1))
    return (areas > 0) & fits & ~stays, (areas > 0) & stays & ~fits


def _equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(a - b) <= EXACT * np.abs(b))


def _suspicious(boxes: np.ndarray, areas: np.ndarray) -> bool:
    """Whether the masks are worth a look: a mask has no larger area than its box, and of true boxes hardly a file has
    none that begins in its upper left half and ends there."""
    if not SEVERAL - 1 <= len(boxes) <= MOST:
        return False
    own = boxes[:, 2] * boxes[:, 3]
    beyond = np.mean(areas > 1.1 * own + 4)
    corners = np.mean((_as(boxes, CORNERS)[:, 2:] > 0).all(axis=1))
    centres = np.mean((_as(boxes, CENTRES)[:, :2] >= -NEAR_PX).all(axis=1))
    return bool(max(beyond, corners, centres) >= NEARLY_ALL)


def _by_masks(
    boxes: np.ndarray, around: np.ndarray, known: np.ndarray, form: str
) -> tuple[np.ndarray, np.ndarray]:
    fits, stays = _fits(_as(boxes, form), around), _fits(boxes, around)
    return known & fits & ~stays, known & stays & ~fits


def _fits(boxes: np.ndarray, around: np.ndarray) -> np.ndarray:
    """[T] whether the edges lie on those of the masks' extents [T, 4]."""
    near = np.maximum(NEAR_PX, NEAR * around[:, 2:].max(axis=1, initial=0))[:, None]
    ends = boxes[:, :2] + boxes[:, 2:] - around[:, :2] - around[:, 2:]
    starts = boxes[:, :2] - around[:, :2]
    return np.asarray((np.abs(np.concatenate([starts, ends], axis=1)) <= near).all(axis=1))


def _tell(
    found: tuple[np.ndarray, np.ndarray], form: str, by: str, rows: Sequence[AnnotationRow], boxes: np.ndarray,
    where: str, problems: Problems,
) -> bool:  # fmt: skip
    """Say what was found; whether it is a problem."""
    other, own = (int(each.sum()) for each in found)
    if other < SEVERAL or other < SOME * len(rows):
        return False
    n = int(np.flatnonzero(found[0])[0])
    first = f"the first: annotation {shown(rows[n].id)}: {boxes[n].tolist()}"
    text = f"{where}: {other} of {len(rows)} boxes are {form} by their {by}, x y w h are wanted, {first}"
    if other >= NEARLY_ALL * (other + own) and other >= len(rows) / 2:
        problems.add("form", f"{text}; {ADVICE[form]}, or correct the {by} of each box that is right")
        return True
    problems.note(text)
    return False


def _note_apart(
    boxes: np.ndarray, around: np.ndarray, known: np.ndarray, rows: Sequence[AnnotationRow], where: str,
    problems: Problems,
) -> None:  # fmt: skip
    starts, ends = (
        np.maximum(boxes[:, :2], around[:, :2]),
        np.minimum(boxes[:, :2] + boxes[:, 2:], around[:, :2] + around[:, 2:]),
    )
    apart = np.flatnonzero(known & (ends + NEAR_PX < starts).any(axis=1))
    if len(apart):
        n = int(apart[0])
        problems.note(
            f"{where}: {len(apart)} of {len(rows)} boxes lie apart from their masks, which are not used: which of both "
            f"is right? The first: annotation {shown(rows[n].id)}: bbox {boxes[n].tolist()}, mask {around[n].tolist()}"
        )
