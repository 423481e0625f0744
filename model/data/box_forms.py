"""Boxes of a COCO file that its own areas and masks contradict: x1 y1 x2 y2, or the centre and the sides, where x y w h
is wanted. Such numbers are boxes too, only wrong ones.

An area of its own is a mask's, smaller than the box, or of another scale, and a box may be that of a visible part: so
only what fits another form exactly, and this one not, counts, of several boxes and nearly all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from model.data.coco_rows import AnnotationRow, MaskRow, UnreadMaskRow
from model.data.masks import extent
from model.data.problems import Problems, shown
from model.errors import number_of

SEVERAL = 3  # boxes that must speak for another form
NEARLY_ALL = 0.95  # of those that tell
SOME = 0.1  # share from which a part of a file is worth a word
NEAR_PX = 2.0  # between a box and the extent of its mask, or this
NEAR = 0.03  # share of the longer side, where that is more
EXACT = 0.005  # of an area
SAMPLE = 2000  # boxes whose masks are read on a mere suspicion
CLEARLY = 0.1  # of the sides, from which x and y make x1 y1 x2 y2 another box than x y w h
ALIKE = 0.05  # shares of a box that a mask may have by one rule, relative
CORNERS, CENTRES = "x1 y1 x2 y2", "the centre and the sides"
ADVICE = {
    CORNERS: "subtract x1 and y1 from x2 and y2",
    CENTRES: "subtract half the sides from the centre",
}


@np.errstate(all="ignore")  # numbers may be as large as a float can be: such boxes are told elsewhere
def check_forms(
    rows: Sequence[AnnotationRow],
    boxes: np.ndarray,
    masks: Callable[[], Sequence[MaskRow | UnreadMaskRow]],
    where: str,
    problems: Problems,
) -> None:
    """Say in `problems` where the rows' areas, or the extents of their masks, show that `boxes` [T, 4] are no x y w h;
    note boxes that lie apart from their masks. Of many boxes all masks are read only where those of some show this."""
    areas = np.array(
        [row.area if type(row.area) in (int, float) and row.area < 1e300 else 0 for row in rows], np.float64
    )
    if not (_enough(_by_areas(boxes, areas)[0]) or _suspicious(boxes, areas)):
        return
    drawn = masks()
    some = np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(int)
    looked = _Looked.at(boxes[some], areas[some], [drawn[n] for n in some])
    if len(some) < len(rows) and (looked.apart.any() or any(_enough(f[0]) for _, _, f in looked.finds())):
        looked = _Looked.at(boxes, areas, drawn)
    if len(looked.boxes) == len(rows) and not any(
        _tell(found, form, by, rows, boxes, where, problems) for form, by, found in looked.finds()
    ):
        _note_apart(looked, rows, where, problems)


@dataclass(frozen=True)
class _Looked:
    """Boxes [T, 4], their areas [T], the extents of their masks [T, 4], and of which boxes there are some [T]."""

    boxes: np.ndarray
    areas: np.ndarray
    around: np.ndarray
    known: np.ndarray

    @classmethod
    def at(cls, boxes: np.ndarray, areas: np.ndarray, masks: Sequence[MaskRow | UnreadMaskRow]) -> _Looked:
        extents = [extent(mask.segmentation) for mask in masks]
        known = np.array([found is not None and min(found[2:]) > 0 for found in extents], bool)
        around = [found if k and found else [0.0] * 4 for k, found in zip(known, extents, strict=True)]
        return cls(boxes, areas, np.array(around).reshape(-1, 4), known)

    def finds(self) -> Iterator[tuple[str, str, tuple[np.ndarray, np.ndarray]]]:
        """(form, by what, ([T] which boxes are of it, [T] which are x y w h)): masks first, as an area may be a
        mask's."""
        stays = self.known & _fits(self.boxes, self.around)
        for form in (CORNERS, CENTRES):
            fits = self.known & _fits(_as(self.boxes, form), self.around)
            yield form, "mask", (fits & ~stays & _differ(self.boxes, form), stays & ~fits)
        other, own = _by_areas(self.boxes, self.areas)
        yield CORNERS, "area", (other & ~stays, own | stays)

    @property
    def apart(self) -> np.ndarray:
        """[T] which boxes have nothing in common with their masks."""
        (x, y, w, h), (left, top, width, height) = self.boxes.T, self.around.T
        aside = np.minimum(x + w, left + width) + NEAR_PX < np.maximum(x, left)
        return np.asarray(
            self.known & (aside | (np.minimum(y + h, top + height) + NEAR_PX < np.maximum(y, top)))
        )


def _as(boxes: np.ndarray, form: str) -> np.ndarray:
    """[T, 4] xywh of numbers in another form."""
    first, second = boxes[:, :2], boxes[:, 2:]
    pair = (first, second - first) if form == CORNERS else (first - second / 2, second)
    return np.concatenate(pair, axis=1)


def _differ(boxes: np.ndarray, form: str) -> np.ndarray:
    """[T] whether a box is so far another one in this form that no rounding and no border of a mask explains it. Of a
    page that fills its picture, x1 y1 x2 y2 and x y w h are nearly the same."""
    return np.asarray((boxes[:, :2] > CLEARLY * boxes[:, 2:]).all(axis=1) | (form != CORNERS))


def _by_areas(boxes: np.ndarray, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[T] which areas are exactly those of corners and not of x y w h, and which the other way round. What has one
    shape and place in all images, such as a disc, may have such an area by chance: several shares of the box speak."""
    sides = _as(boxes, CORNERS)[:, 2:]
    own = boxes[:, 2:]
    fits = (sides > 0).all(axis=1) & _is_area_of(sides, areas, (0, 1))
    stays = _is_area_of(own, areas, (-1, 0, 1))
    other = (areas > 0) & fits & ~stays & _differ(boxes, CORNERS)
    shares = np.round(np.log(areas[other] / own[other].prod(axis=1)) / ALIKE)
    return other & (len(np.unique(shares)) >= SEVERAL), (areas > 0) & stays & ~fits


def _is_area_of(sides: np.ndarray, areas: np.ndarray, more: Iterable[int]) -> np.ndarray:
    """[T] whether the areas are those of sides [T, 2] that are so many pixels longer."""
    return np.any([_equal(areas, (sides + n).prod(axis=1)) for n in more], axis=0)


def _equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(a - b) <= EXACT * np.abs(b))


def _suspicious(boxes: np.ndarray, areas: np.ndarray) -> bool:
    """Whether the masks are worth a look: a mask has no larger area than its box, and of true boxes hardly a file has
    none that begins in its upper left half and ends there."""
    if len(boxes) < SEVERAL - 1:
        return False
    own = boxes[:, 2] * boxes[:, 3]
    beyond = np.mean(areas > 1.1 * own + 4)
    corners = np.mean((_as(boxes, CORNERS)[:, 2:] > 0).all(axis=1))
    centres = np.mean((_as(boxes, CENTRES)[:, :2] >= -NEAR_PX).all(axis=1))
    return bool(max(beyond, corners, centres) >= NEARLY_ALL)


def _fits(boxes: np.ndarray, around: np.ndarray) -> np.ndarray:
    """[T] whether the edges lie on those of the masks' extents [T, 4]."""
    near = np.maximum(NEAR_PX, NEAR * around[:, 2:].max(axis=1, initial=0))[:, None]
    ends = boxes[:, :2] + boxes[:, 2:] - around[:, :2] - around[:, 2:]
    starts = boxes[:, :2] - around[:, :2]
    return np.asarray((np.abs(np.concatenate([starts, ends], axis=1)) <= near).all(axis=1))


def _enough(found: np.ndarray) -> bool:
    return bool(found.sum() >= max(SEVERAL, SOME * len(found)))


def _tell(
    found: tuple[np.ndarray, np.ndarray], form: str, by: str, rows: Sequence[AnnotationRow], boxes: np.ndarray,
    where: str, problems: Problems,
) -> bool:  # fmt: skip
    """Say what was found; whether it is a problem."""
    other, own = (int(each.sum()) for each in found)
    if not _enough(found[0]):
        return False
    n = int(np.flatnonzero(found[0])[0])
    first = (
        f"the first: annotation {shown(rows[n].id)} of image {shown(rows[n].image_id)}: {boxes[n].tolist()}"
    )
    text = (
        f"{where}: {other} of {number_of(len(rows), 'box')} {'is' if other == 1 else 'are'} {form} by their "
        f"{by}, x y w h are wanted, {first}"
    )
    if other >= NEARLY_ALL * (other + own) and other >= len(rows) / 2:
        problems.add("form", f"{text}; {ADVICE[form]}, or correct the {by} of each box that is right")
        return True
    problems.note(text)
    return False


def _note_apart(looked: _Looked, rows: Sequence[AnnotationRow], where: str, problems: Problems) -> None:
    apart = np.flatnonzero(looked.apart)
    if len(apart):
        n = int(apart[0])
        problems.note(
            f"{where}: {len(apart)} of {number_of(len(rows), 'box')} {'lies' if len(apart) == 1 else 'lie'} apart from "
            f"{'its mask, which is' if len(apart) == 1 else 'their masks, which are'} not used: which of both "
            f"is right? The first: annotation {shown(rows[n].id)} of image "
            f"{shown(rows[n].image_id)}: bbox {looked.boxes[n].tolist()}, mask "
            f"{looked.around[n].tolist()}"
        )
