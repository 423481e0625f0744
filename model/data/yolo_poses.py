"""YOLO labels of poses whose data.yaml does not say so: "class cx cy w h x1 y1 [v1] x2 y2 [v2] ..." reads as a polygon
too, which would be a wrong box."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from model.errors import UserError

SLACK = 0.01  # of the image, for rounding
VISIBLE = {0.0, 1.0, 2.0}
ALIKE = 0.9  # share of the lines that look like poses where all are; of polygons less than half does
ENOUGH = 50  # lines that tell
SAY_POSES = "where labels are poses, kpt_shape in data.yaml must say so, such as kpt_shape: [17, 3]"


def refuse_unsaid_poses(place: Path, labels: Iterable[Path]) -> None:
    """Raise `UserError` where all lines of the labels may be poses as well as polygons: they have one length, and
    either 0, 1 or 2 wherever a point's visibility would stand, or four numbers that are a box with the points in it."""
    length = rows = flat = turned = 0
    visible = True
    for path in labels:
        for values in _rows(path):
            rows, length = rows + 1, length or len(values)
            if len(values) != length or length < 6 or length % 2:
                return
            visible = visible and length % 3 == 1 and set(values[6::3]) <= VISIBLE
            flat, turned = flat + _has_points_in_box(values), turned + _is_turned_box(values)
            if not visible and rows >= ENOUGH and (flat < ALIKE * rows or turned == rows):
                return
    if rows and (visible or (flat >= ALIKE * rows and turned < rows)):
        size = 3 if visible else 2
        count = (length - 4) // size
        raise UserError(
            f"{place}: the {rows} labels may be poses of {count} points or polygons of {length // 2}; set in data.yaml "
            f"(beside names) kpt_shape: [{count}, {size}] where they are poses, [0, 0] where they are polygons"
        )


def _rows(path: Path) -> Iterable[list[float]]:
    """The numbers behind the class of each line; none of a line that has other things, which its reader tells."""
    try:
        for line in path.read_text(encoding="utf-8-sig").splitlines():
            if fields := line.split()[1:]:
                yield [float(field) for field in fields]
    except (OSError, ValueError):
        yield []


def _has_points_in_box(values: Sequence[float]) -> bool:
    """Whether the first four are a box (cx, cy, w, h) in the image, with most of the points behind it inside."""
    cx, cy, w, h, *points = values
    left, top, right, bottom = cx - w / 2 - SLACK, cy - h / 2 - SLACK, cx + w / 2 + SLACK, cy + h / 2 + SLACK
    if min(w, h) <= 0 or min(left, top) < -2 * SLACK or max(right, bottom) > 1 + 2 * SLACK:
        return False
    places = [
        p for p in zip(points[0::2], points[1::2], strict=True) if any(p)
    ]  # 0 0: a point that is not there
    return sum(left <= x <= right and top <= y <= bottom for x, y in places) * 2 >= len(places)


def _is_turned_box(values: Sequence[float]) -> bool:
    """Whether four points are the corners of a parallelogram, as those of oriented boxes."""
    if len(values) != 8:
        return False
    x, y = values[0::2], values[1::2]
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    return abs(area) > 1e-6 and all(abs(v[0] + v[2] - v[1] - v[3]) < SLACK for v in (x, y))
