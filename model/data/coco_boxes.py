"""The boxes of COCO annotations: four numbers, or where these say nothing, the extent of a mask or of a turned box."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
from msgspec import UNSET

from model.data.coco_rows import AnnotationRow, MaskRow, Rows, UnreadMaskRow
from model.data.masks import extent, is_upright
from model.data.problems import Problems, shown
from model.data.turned import TURNED, around_turned

FROM_MASKS = "boxes made of masks"
IN_QUOTES = "boxes of numbers in quotes"
NUMBERS_IN_QUOTES = "sizes, areas and flags that are numbers in quotes"
SWAPPED = "boxes whose xmin and xmax, or ymin and ymax, stood in each other's place put right"
IGNORED = "boxes marked ignore taken as crowds (iscrowd 1): neither trained on nor scored"
DETECTED = "are these labels what a detector found?"
SCORED = f"boxes with a confidence: {DETECTED}"
NO_CROWDS = (
    "datumaro and CVAT write every mask so: give iscrowd 0 to those that are single objects, if any are"
)
NUMBER = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?\s*")
ANGLES = ("rotation", "angle")  # beside bbox; what they mean, each tool settles for itself

Box = list[Any]


@dataclass(frozen=True)
class Boxes:
    """[T, 4] float64 xywh px, which of them are those around turned boxes, and how much was read otherwise than as four
    numbers."""

    xywh_px: np.ndarray
    turned: np.ndarray  # [T'] row numbers
    counts: dict[str, int]


def read_boxes(
    rows: Sequence[AnnotationRow],
    masks: Callable[[], Sequence[MaskRow | UnreadMaskRow]],
    where: str,
    problems: Problems,
) -> Boxes:
    """The boxes of all annotations; what is wrong is told in `problems`. Each row's `bbox` becomes what was read."""
    flat, angles, quoted = _array(rows), _angles(rows, where, problems), 0
    if flat is not None:
        lacking = np.flatnonzero((flat[:, 2:] == 0).all(axis=1)).tolist()
    else:
        quoted = _unquote(rows)
        lacking = [n for n, row in enumerate(rows) if _says_nothing(row.bbox)]
    found = masks() if lacking or angles else []
    from_masks = _from_masks(rows, lacking, found, where, problems)
    turned = [n for n, angle in angles.items() if _turn(rows[n], angle, found[n].segmentation)]
    counts = {FROM_MASKS: from_masks, IN_QUOTES: quoted, TURNED: len(turned)}
    if flat is None or any(counts.values()):
        flat = _array(rows)
    if flat is None:
        flat = np.zeros((len(rows), 4))
        for row in rows:
            if wrong := box_problem(row.bbox):
                problems.add("box", f"{where}: annotation {shown(row.id)}: {wrong}")
    return Boxes(flat, np.array(turned, np.int64), counts)


def outlined(rows: Rows, masks: Callable[[], Sequence[MaskRow | UnreadMaskRow]]) -> np.ndarray:
    """[T] bool: the boxes of polygons in a file that Label Studio's converter wrote, which scales these, other than
    rectangles, by the size that it gives the image."""
    if type(rows.info) is not dict or rows.info.get("contributor") != "Label Studio":
        return np.zeros(len(rows.annotations), bool)
    found = (row.segmentation for row in masks())
    return np.array([type(mask) is list and bool(mask) for mask in found], bool)


def is_detected(score: Any) -> bool:
    """Whether a confidence is a detector's: of what a person drew tools write none, or 1."""
    return type(score) in (int, float) and score != 1


def box_problem(box: Any) -> str | None:
    """Why a value is no COCO box [x, y, w, h] of finite numbers, or None."""
    if type(box) is not list or len(box) != 4 or not set(map(type, box)) <= {int, float}:
        five = type(box) is list and len(box) == 5
        hint = "; of a turned box give the upright one around it" if five else ""
        return f"bbox must be four numbers: a box is [x, y, w, h] in px, but got {shown(box)}{hint}"
    if not all(abs(value) < 1e300 for value in box):  # NaN compares with nothing
        return f"a box must be finite, but got {shown(box)}"
    return None


def _unquote(rows: Sequence[AnnotationRow]) -> int:
    """["1", "2.5", "3", "4"] as numbers; how many boxes are so."""
    count = 0
    for row in rows:
        box = row.bbox
        if type(box) is list and str in map(type, box):
            numbers = [float(v) if type(v) is str and NUMBER.fullmatch(v) else v for v in box]
            if box_problem(numbers) is None:
                row.bbox, count = numbers, count + 1
    return count


def _says_nothing(box: Any) -> bool:
    """Whether a box is absent, or empty in both directions as tools write it beside a mask."""
    if box is UNSET or box is None or box == []:
        return True
    return type(box) is list and len(box) == 4 and box[2] == box[3] == 0


def _from_masks(
    rows: Sequence[AnnotationRow], lacking: Sequence[int], masks: Sequence[MaskRow | UnreadMaskRow], where: str,
    problems: Problems,
) -> int:  # fmt: skip
    count = 0
    for n in lacking:
        row, box = rows[n], extent(masks[n].segmentation)
        if type(row.bbox) is list and row.bbox:  # [0, 0, 0, 0] without a mask is an empty box
            if box_problem(row.bbox) is None and box is not None and min(box[2:]) > 0:
                row.bbox, count = box, count + 1
            continue
        if box is None:
            name = f"annotations[{n}]" + (f" (id {shown(row.id)})" if row.id is not UNSET else "")
            text = f"{name}: bbox must be given where there is no mask, but got {shown(row.bbox)}"
            lacks = f"annotations[{n}] lacks bbox"
            problems.add("type bbox", f"{where}: {lacks if row.bbox is UNSET else text}")
        row.bbox, count = box or [0.0, 0.0, 1.0, 1.0], count + 1
    return count


def _angles(rows: Sequence[AnnotationRow], where: str, problems: Problems) -> dict[int, float]:
    """{row: degrees} of the turned boxes, as CVAT writes them: bbox as it was before the turn."""
    found = {}
    for key in ("attributes", *ANGLES):
        values = list(map(attrgetter(key), rows))
        if not any(type(value) in (dict, int, float) for value in values):
            continue
        for n, value in enumerate(values):
            degrees = _number(value.get("rotation") if type(value) is dict else value)
            if key != "attributes" and degrees:
                text = f"annotation {shown(rows[n].id)} has {key} {shown(value)}: whether bbox is as before or after"
                problems.add(
                    "angle", f"{where}: {text} the turn is unknown; give the upright box, and remove {key}"
                )
            elif key == "attributes" and degrees % 180:
                found[n] = degrees
    return found


def _number(value: Any) -> float:
    """A finite number, or a text that reads as one; else 0."""
    if type(value) is str and NUMBER.fullmatch(value):
        value = float(value)
    return float(value) if type(value) in (int, float) and abs(value) < 1e300 else 0.0


def _turn(row: AnnotationRow, degrees: float, segmentation: Any) -> bool:
    """Whether a row's box became the upright one around its turned box: the extent of the mask where that is turned."""
    if box_problem(row.bbox) is not None:
        return False
    mask = None if is_upright(segmentation) else extent(segmentation)
    row.bbox = mask or around_turned(row.bbox, degrees)
    return True


def _array(rows: Sequence[AnnotationRow]) -> np.ndarray | None:
    """[T, 4] float64 of boxes that are all four finite numbers."""
    boxes = [row.bbox for row in rows]
    if not (set(map(type, boxes)) <= {list} and set(map(len, boxes)) <= {4}):
        return None
    if not set(map(type, chain.from_iterable(boxes))) <= {int, float}:
        return None
    try:
        flat = np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes)).reshape(-1, 4)
    except OverflowError:
        return None
    return flat if np.isfinite(flat).all() else None
