"""What is put right in a COCO document, each kind counted, and how much of it is too much.

Boxes without extent (a side below 0.01 px) and of images that are not listed are left out, boxes beyond their image's
border are cut to it, boxes that are there twice are dropped. Nothing else is changed: a file without such boxes is
read number by number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.data.coco_boxes import FROM_MASKS, IGNORED, IN_QUOTES
from model.data.coco_ids import ORPHANS, READINGS
from model.data.document import Document
from model.data.problems import Problems
from model.data.turned import TURNED
from model.parameters import default_of
from model.spec import get

OTHER_SUFFIX = "images named with another suffix than their files have"
# What was missing or said in another way, not wrong.
DERIVED = ("image sizes read from the files", OTHER_SUFFIX, FROM_MASKS, IN_QUOTES, IGNORED, TURNED, *READINGS)
TINY_PX = 0.01  # a box with a side below is empty: what a slip of the mouse or rounding leaves
MANY = 20  # boxes that say what numbers are meant
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
    if _are_shares(document):
        text = "boxes look like shares of the image, pixels are wanted: all lie within [0, 1]"
        shown = f"{document.box(0)}: {document.boxes_xywh_px[0].tolist()}"
        problems.add("shares", f"{document.where}: {text}, the first: {shown}")
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
    return found


def _are_shares(document: Document) -> bool:
    """Whether no box reaches beyond the first pixel of an image that has more."""
    boxes = document.boxes_xywh_px
    drawn = boxes[(boxes[:, 2:] > 0).all(axis=1)]
    return len(drawn) > 0 and float(np.abs(drawn).max()) <= 1.0 < float(document.sizes.min())


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
    counts = {kind: after.mended[kind] for kind in (*STEPS, ORPHANS) if kind in after.mended}
    total, boxes = sum(counts.values()), len(before.category) + counts.get(ORPHANS, 0)
    too_many = total > max(1, rules.mended_share * boxes) or (total == 1 and rules.mended_share == 0)
    for kind, count in after.mended.items():
        where = f", the first: {first[kind]}" if kind in first else ""
        line = f"{after.where}: {count} {kind}{where}"
        if rules.strict and kind not in DERIVED:
            problems.add("mended", f"{line}; dataset.strict allows none")
        elif kind in counts and too_many:
            problems.add("mended", f"{line}; {_too_many(total, boxes, rules)}")
        else:
            problems.note(line)


def _too_many(total: int, boxes: int, rules: Rules) -> str:
    return (
        f"{total} of {boxes} boxes ({total / boxes:.0%}) would be changed, more than dataset.mended_share "
        f"{rules.mended_share:g}: is the file what it should be? If so, set dataset.mended_share={_share(total, boxes)}"
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
    "boxes outside their image left out": _outside,
    "boxes beyond the border clipped": _clipped,
    "boxes that are there twice dropped": _twice,
}
