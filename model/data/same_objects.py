"""Boxes of the same objects. Label Studio writes a row for each annotation of a task, and two exports put together have
two rows for an image: merged, every object would be there twice. So it is where several people's boxes are in one."""

from __future__ import annotations

import numpy as np

from model.data.document import Document
from model.data.problems import Problems

OVERLAP = 0.5  # IoU from which two boxes of one class, of two rows, may be of one object
TWINS = 0.75  # of one row, where objects may stand before each other


def check(document: Document, merged: np.ndarray, problems: Problems) -> None:
    """Say in `problems` where most boxes of images that have several rows overlap a box of the same class from another
    row, and note where few do. `merged` [N]: the row that stands for each; `document` is as it was before. Boxes that
    are there twice to the digit are mended where few are (mending.py): they count here beside others that differ."""
    several = np.bincount(merged, minlength=len(merged))[merged] > 1
    of_several = several[document.owner] & document.counts
    pairs, same = _pairs(document, merged[document.owner], of_several, OVERLAP)
    across = document.owner[pairs[0]] != document.owner[pairs[1]]
    pairs, same = pairs[:, across], same[across]
    again, copies = (np.unique(which) for which in (pairs, pairs[:, same]))
    differ = np.setdiff1d(again, copies)
    if not len(differ):
        return
    first = pairs[:, np.isin(pairs, differ).any(axis=0)][:, 0]
    a, b = map(document.box, first.tolist())
    text = f"{len(again)} of {of_several.sum()} boxes of files that have several image rows"
    if 2 * len(again) > of_several.sum():
        problems.add(
            "rows of one file",
            f"{document.where}: rows of one file label the same objects, as of several annotators of a task, or of "
            f"exports put together: {text} overlap one of the same class in another row, such as {a} and {b}; keep one "
            "row for each file, or export again with one annotation for each task",
        )
    else:
        problems.note(
            f"{document.where}: {text} overlap one of the same class in another row, such as {a} and {b}"
        )


def note_twins(document: Document, problems: Problems) -> None:
    """Note where most boxes have one of the same class at their place in the same row: what several people labelled,
    put together, or what a model proposed. Boxes that are the same to the digit are mended before."""
    pairs, _ = _pairs(document, document.owner, document.counts, TWINS)
    again = np.unique(pairs)
    if 2 * len(again) > document.counts.sum():
        a, b = map(document.box, pairs[:, 0].tolist())
        problems.note(
            f"{document.where}: {len(again)} of {document.counts.sum()} boxes lie where another one of the same class "
            f"does, such as {a} and {b}: as of several annotators of each image; every object would count twice"
        )


def _pairs(
    document: Document, file: np.ndarray, which: np.ndarray, overlap: float
) -> tuple[np.ndarray, np.ndarray]:
    """([2, P] boxes of one file and class with more `overlap`, as IoU; [P] whether they are the same to the digit).
    `file` [T] numbers the boxes' files; only `which` [T] boxes are asked for."""
    rows = np.flatnonzero(which)
    left, width = document.boxes_xywh_px[:, 0], document.boxes_xywh_px[:, 2]
    rows = rows[np.lexsort((left[rows], document.category[rows], file[rows]))]
    groups = np.stack([file[rows], document.category[rows]])
    at, found, same = np.arange(len(rows)), [np.zeros((2, 0), np.int64)], [np.zeros(0, bool)]
    # Each box is compared with the one behind it, then with the next but one, as far as its group goes and its left
    # part: what begins behind the middle of a box covers less than half of it.
    most = left[rows] + (1 - overlap) * width[rows]
    step = 1
    while len(at := at[at + step < len(rows)]):
        at = at[(groups[:, at] == groups[:, at + step]).all(axis=0) & (left[rows[at + step]] <= most[at])]
        pair = np.stack([rows[at], rows[at + step]])
        a, b = document.boxes_xywh_px[pair]
        near = _iou(a, b) > overlap
        found.append(pair[:, near])
        same.append((a == b).all(axis=1)[near])
        step += 1
    return np.concatenate(found, axis=1), np.concatenate(same)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[P] of boxes [P, 4] xywh; 0 of empty ones."""
    sides = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    both = sides.clip(0).prod(axis=1)
    either = a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1) - both
    return np.divide(both, either, out=np.zeros(len(both)), where=either > 0)
