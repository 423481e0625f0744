"""What is put right in a COCO document, each kind counted, and how much of it is too much.

Boxes without extent (a side below 0.01 px) and of images that are not listed are left out, boxes beyond their image's
border are cut to it, boxes that are there twice are dropped, and swapped corners of Pascal VOC, which its reader put in
order, are counted here. Nothing else is changed: a file without such boxes is read number by number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.data.coco_boxes import FROM_MASKS, IGNORED, IN_QUOTES, NUMBERS_IN_QUOTES, SCORED, SWAPPED
from model.data.coco_ids import ORPHANS, READINGS
from model.data.document import Document
from model.data.no_classes import LEFT_OUT
from model.data.problems import Problems, times_of
from model.data.turned import TURNED
from model.errors import number_of
from model.parameters import default_of
from model.spec import get

OTHER_SUFFIX = "images named with another suffix than their files have, or without one"
COPIED = "images named by absolute paths that lead out of their folder, which has files of those names: these are used"
# What was missing or said in another way, not wrong.
DERIVED = (
    "image sizes read from the files",
    OTHER_SUFFIX,
    COPIED,
    FROM_MASKS,
    IN_QUOTES,
    NUMBERS_IN_QUOTES,
    IGNORED,
    SCORED,
    LEFT_OUT,
    TURNED,
    *READINGS,
)
TINY_PX = 0.01  # a box with a side below is empty: what a slip of the mouse or rounding leaves
MANY = 20  # boxes that say what numbers are meant
CORNERS = "; are these x1 y1 x2 y2? All boxes would lie within their images"
BEYOND = ("boxes outside their image left out", "boxes beyond the border clipped")
TOLERANCE_PX = 1.0  # a box may stick out of its image by rounding, and stays as it is


@dataclass(frozen=True)
class Rules:
    """How much a dataset's file may differ from a clean one."""

    strict: bool = default_of("dataset.strict")
    mended_share: float = default_of("dataset.mended_share")

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Rules:
        return cls(
            *(get(spec, f"dataset.{n}", default_of(f"dataset.{n}")) for n in ("strict", "mended_share"))
        )


def mend(document: Document, rules: Rules, problems: Problems) -> Document:
    """The document with its boxes in order; all its sizes must be known. Says in `problems` what was done, or
    refuses."""
    if shares := _shares(document, rules):
        problems.add("shares", f"{document.where}: {shares}")
        return document
    if _may_be_percents(document):
        text = "boxes lie within the first 100 pixels of their images: are they percents? Pixels are wanted"
        problems.note(f"{document.where}: all {len(document.boxes_xywh_px)} {text}")
    found, first = document, {}
    for kind, step in STEPS.items():
        before = found
        found, which = step(found)
        if len(which):
            first[kind] = before.box(int(which[0]))
            found = found.counted(kind, len(which))
    _report(document, found, first, rules, problems)
    _note_tiny(found, problems)
    return found


def _shares(document: Document, rules: Rules) -> str:
    """What is wrong where boxes look like shares of the image: those that do not reach beyond the first pixel of an
    image that has more. All of them, all of some images, or more than may be mended."""
    boxes, owner = document.boxes_xywh_px, document.owner
    drawn = (boxes[:, 2:] > 0).all(axis=1)
    within = drawn & (np.abs(boxes) <= 1.0).all(axis=1) & (document.sizes[owner].min(axis=1) > 1)
    if not within.any():
        return ""
    if (within == drawn).all():
        text = "boxes look like shares of the image, pixels are wanted: all lie within [0, 1]"
        return f"{text}, the first: {_shown(document, 0)}"
    within &= (boxes % 1 != 0).any(axis=1)  # a box of whole numbers may be the first pixel
    others = np.bincount(owner[drawn & ~within], minlength=len(document))
    alone = within & (others[owner] == 0)
    found = alone if alone.sum() > 1 else within
    if found.sum() <= 1 or (found is within and found.sum() <= rules.mended_share * len(boxes)):
        return ""
    images = len(np.unique(owner[found]))
    of_images = f"of {images} of {number_of(len(document), 'image')}"
    return (
        f"{found.sum()} boxes {of_images} look like shares of the image, those of the others like pixels, which are "
        f"wanted: they lie within [0, 1], the first: {_shown(document, int(np.flatnonzero(found)[0]))}; multiply x and "
        "w by the image's width, y and h by its height"
    )


def _shown(document: Document, n: int) -> str:
    return f"{document.box(n)}: {document.boxes_xywh_px[n].tolist()}"


def _note_tiny(document: Document, problems: Problems) -> None:
    tiny = np.flatnonzero((document.boxes_xywh_px[:, 2:] <= 1.0).all(axis=1))
    if len(tiny):
        are = "box is" if len(tiny) == 1 else "boxes are"
        problems.note(
            f"{document.where}: {len(tiny)} {are} no larger than one pixel: is that meant, in pixels and not in "
            f"shares of the image? The first: {_shown(document, int(tiny[0]))}"
        )


def _may_be_corners(document: Document) -> bool:
    """Whether all boxes are whole ones within their images if their numbers are x1 y1 x2 y2; those of YOLO's files
    were read as the centre and the sides."""
    boxes, limits = document.boxes_xywh_px, document.sizes[document.owner][:, ::-1]
    if len(boxes) and ".txt:" in document.box(0):
        boxes = np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)
    return bool(
        (boxes[:, :2] >= -TOLERANCE_PX).all()
        and (boxes[:, 2:] > boxes[:, :2]).all()
        and (boxes[:, 2:] <= limits + TOLERANCE_PX).all()
    )


def _may_be_percents(document: Document) -> bool:
    """Whether all of many boxes lie within the first 100 pixels of images at least twice as large, and fill them."""
    boxes, sides = document.boxes_xywh_px, document.sizes[document.owner]
    if len(boxes) < MANY or sides.min() < 200:
        return False
    corners = boxes[:, :2] + boxes[:, 2:]
    return bool(boxes.min() >= 0 and corners.max() <= 100.5 and (corners.max(axis=0) > 80).all())


def _report(
    before: Document, after: Document, first: Mapping[str, str], rules: Rules, problems: Problems
) -> None:
    counts = {kind: n for kind, n in after.mended.items() if kind in (*STEPS, ORPHANS) or SWAPPED in kind}
    total, boxes = sum(counts.values()), len(before.category) + counts.get(ORPHANS, 0)
    too_many = total > max(1, rules.mended_share * boxes) or (total == 1 and rules.mended_share == 0)
    corners = (
        counts.keys() & BEYOND and (too_many or len(before.category) >= MANY) and _may_be_corners(before)
    )
    most_beyond = boxes >= MANY and 2 * sum(counts.get(kind, 0) for kind in BEYOND) > boxes
    for kind, count in after.mended.items():
        where = f", the first: {first[kind]}" if kind in first else ""
        line = f"{after.where}: {times_of(count, kind)}{where}" + (
            CORNERS if corners and kind in BEYOND else ""
        )
        if rules.strict and kind not in DERIVED:
            problems.add("mended", f"{line}; dataset.strict allows none")
        elif kind in counts and too_many:
            problems.add("mended", f"{line}; {_too_many(total, boxes, rules, most_beyond)}")
        else:
            problems.note(line)


def _too_many(total: int, boxes: int, rules: Rules, most_beyond: bool) -> str:
    """What is wrong and what to do; where most boxes lie beyond their images, no share that would pass them."""
    advice = (
        "most do not fit their images, so compare some with the pictures first: other columns or images may be meant"
        if most_beyond
        else f"is the file what it should be? If so, set dataset.mended_share={_share(total, boxes)}"
    )
    return (
        f"{total} of {number_of(boxes, 'box')} ({total / boxes:.0%}) would be changed, more than dataset.mended_share "
        f"{rules.mended_share:g}: {advice}"
    )


def _share(total: int, boxes: int) -> float:
    """The share that lets `total` through, in whole percents."""
    return min(1.0, -(-100 * total // boxes) / 100)


def _empty(document: Document) -> tuple[Document, np.ndarray]:
    empty = np.asarray((document.boxes_xywh_px[:, 2:] < TINY_PX).any(axis=1))
    return document.with_boxes(~empty), np.flatnonzero(empty)


def _outside(document: Document) -> tuple[Document, np.ndarray]:
    cut = _cut(document)
    gone = np.asarray((cut[:, 2:] <= 0).any(axis=1))
    return document.with_boxes(~gone), np.flatnonzero(gone)


def _clipped(document: Document) -> tuple[Document, np.ndarray]:
    """A box's own area shrinks with it; a mask's stays, if the box still holds it."""
    boxes, limits = document.boxes_xywh_px, document.sizes[document.owner][:, ::-1]
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    over = (corners[:, :2] < -TOLERANCE_PX) | (corners[:, 2:] > limits + TOLERANCE_PX)
    rows = np.flatnonzero(over.any(axis=1))
    if not len(rows):
        return document, rows
    fixed, areas = boxes.copy(), document.areas.copy()
    fixed[rows] = _cut(document)[rows]
    was, now = boxes[rows, 2] * boxes[rows, 3], fixed[rows, 2] * fixed[rows, 3]
    own = np.isclose(areas[rows], was, rtol=1e-3, atol=1.0)
    areas[rows] = np.where(own, now, np.minimum(areas[rows], now))
    return replace(document, boxes_xywh_px=fixed, areas=areas), rows


def _cut(document: Document) -> np.ndarray:
    """[T, 4] the boxes' part inside their images, xywh px."""
    boxes, limits = document.boxes_xywh_px, document.sizes[document.owner][:, ::-1].astype(np.float64)
    top_left = boxes[:, :2].clip(0, None)
    bottom_right = np.minimum(boxes[:, :2] + boxes[:, 2:], limits)
    return np.concatenate([top_left, bottom_right - top_left], axis=1)


def _twice(document: Document) -> tuple[Document, np.ndarray]:
    """Boxes of the same image, class and place; the first stays."""
    columns = [document.owner, document.category, document.crowd.astype(np.int64)]
    bits = np.ascontiguousarray(document.boxes_xywh_px + 0.0).view(np.int64)  # + 0.0: -0.0 is 0.0
    rows = np.concatenate([np.stack(columns, axis=1), bits], axis=1)
    order = np.lexsort(rows.T[::-1]) if _may_repeat(rows) else np.zeros(0, np.int64)
    same = (rows[order[1:]] == rows[order[:-1]]).all(axis=1)
    repeats = np.sort(order[1:][same])
    keep = np.ones(len(rows), bool)
    keep[repeats] = False
    return document.with_boxes(keep), repeats


def _may_repeat(rows: np.ndarray) -> bool:
    """Whether any two rows have the same hash: cheaper than sorting them by seven columns."""
    factors = np.random.default_rng(0).integers(1 << 62, size=rows.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.zeros(len(rows), np.uint64)
    for column, factor in zip(rows.T, factors, strict=True):
        hashes = (hashes ^ column.view(np.uint64)) * factor
        hashes ^= hashes >> np.uint64(29)
    hashes.sort()
    return bool((hashes[1:] == hashes[:-1]).any())


STEPS = {
    "empty boxes left out": _empty,
    BEYOND[0]: _outside,
    BEYOND[1]: _clipped,
    "boxes that are there twice dropped": _twice,
}
