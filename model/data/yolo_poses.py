"""YOLO labels of poses and of trackers whose data.yaml does not say so: "class cx cy w h x1 y1 [v1] x2 y2 [v2] ..." and
"class cx cy w h confidence id" read as polygons too, which would be wrong boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.errors import UserError

SLACK = 0.01  # of the image, for rounding
VISIBLE = {0.0, 1.0, 2.0}
ALIKE = 0.9  # share of the lines that look like poses where all are; of polygons less than half does
ENOUGH = 50  # lines that tell
FEW = 10  # lines among more boxes that may as well be polygons by chance
SEVERAL = 3
SAY_POSES = "where labels are poses, kpt_shape in data.yaml must say so, such as kpt_shape: [17, 3]"


@dataclass
class _Group:
    """The lines of one length, and how many of them look like what."""

    rows: int = 0
    flat: int = 0  # four numbers that are a box with the points behind it inside
    turned: int = 0
    tracked: int = 0
    highest: float = 0  # number of a track
    boxed: int = 0  # four numbers that are a box
    whole: bool = True  # 0, 1 or 2 wherever a point's visibility would stand

    def add(self, values: Sequence[float]) -> None:
        self.rows += 1
        self.boxed += _is_box(values)
        self.whole = self.whole and len(values) % 3 == 1 and set(values[6::3]) <= VISIBLE
        self.flat += _has_points_in_box(values)
        self.turned += _is_turned_box(values)
        if _is_tracked(values):
            self.tracked += 1
            self.highest = max(self.highest, values[-1])

    @property
    def visible(self) -> bool:
        """Whether points' visibilities stand there, behind boxes: corners of the image are whole numbers too."""
        return self.whole and self.boxed >= ALIKE * self.rows

    def may_be_poses(self) -> bool:
        return self.visible or (self.flat >= ALIKE * self.rows and self.turned < self.rows)


def refuse_unsaid_poses(place: Path, labels: Iterable[Path]) -> tuple[str, ...]:
    """Raise `UserError` where all lines that are longer than a box, and are of one length, may be poses as well as
    polygons, and where nearly all end in a confidence and a tracker's number; a note where few lines tell."""
    groups: dict[int, _Group] = {}
    boxes = 0
    for path in labels:
        for values in _rows(path):
            if len(values) < 6:
                boxes += 1
            elif len(values) % 2 == 0:  # no polygon otherwise: told where it is read
                groups.setdefault(len(values), _Group()).add(values)
        if _are_polygons(groups):
            return ()
    rows, tracked = (sum(getattr(group, n) for group in groups.values()) for n in ("rows", "tracked"))
    seen = len(groups) == 1 and next(iter(groups.values())).visible  # visibilities are whole numbers too
    if rows and tracked >= ALIKE * rows and not seen:
        # 0 and 1 are the borders of the image too, on which polygons end
        surely = rows >= SEVERAL and max(group.highest for group in groups.values()) > 1
        return _said(place, _tracks(rows, groups), surely)
    if len(groups) == 1 and (group := next(iter(groups.values()))).may_be_poses():
        surely = not boxes or rows > boxes or rows >= FEW
        return _said(place, _poses(rows, next(iter(groups)), group.visible), surely)
    return ()


def _are_polygons(groups: dict[int, _Group]) -> bool:
    """Whether so many lines say so that the rest need not be read."""
    rows = sum(group.rows for group in groups.values())
    if rows < ENOUGH or sum(group.tracked for group in groups.values()) >= ALIKE * rows:
        return False
    return len(groups) > 1 or not next(iter(groups.values())).may_be_poses()


def _said(place: Path, text: str, surely: bool) -> tuple[str, ...]:
    if surely:
        raise UserError(f"{place}: {text}")
    return (f"{place}: {text}; read as polygons",)


def _poses(rows: int, length: int, visible: bool) -> str:
    size = 3 if visible else 2
    count = (length - 4) // size
    return (
        f"the {rows} labels of {length} numbers may be poses of {count} points or polygons of {length // 2}; set in "
        f"data.yaml (beside names) kpt_shape: [{count}, {size}] where they are poses, [0, 0] where they are polygons"
    )


def _tracks(rows: int, groups: dict[int, _Group]) -> str:
    shape = "box" if groups.keys() == {6} else "polygon"
    return (
        f"the {rows} labels may be what a tracker wrote, a {shape}, a confidence and a track's number, or polygons; "
        "where they are tracks, take the last two numbers from each line, where they are polygons, set in data.yaml "
        "(beside names) kpt_shape: [0, 0]"
    )


def _rows(path: Path) -> Iterable[list[float]]:
    """The numbers behind the class of each line; nothing of a file that has other things, which its reader tells.
    Those of boxes, which most lines are, stay unread."""
    try:
        lines = [line.split()[1:] for line in path.read_text(encoding="utf-8-sig").splitlines()]
        return [list(map(float, fields)) if len(fields) > 5 else [0.0] * 4 for fields in lines if fields]
    except (OSError, ValueError):
        return []


def _has_points_in_box(values: Sequence[float]) -> bool:
    """Whether the first four are a box (cx, cy, w, h) in the image, with most of the points behind it inside."""
    cx, cy, w, h, *points = values
    left, top, right, bottom = cx - w / 2 - SLACK, cy - h / 2 - SLACK, cx + w / 2 + SLACK, cy + h / 2 + SLACK
    if not _is_box(values):
        return False
    places = [
        p for p in zip(points[0::2], points[1::2], strict=True) if any(p)
    ]  # 0 0: a point that is not there
    return sum(left <= x <= right and top <= y <= bottom for x, y in places) * 2 >= len(places)


def _is_box(values: Sequence[float]) -> bool:
    """Whether the first four are a box (cx, cy, w, h) in the image."""
    cx, cy, w, h = values[:4]
    return min(w, h) > 0 and all(
        -3 * SLACK <= middle - side / 2 and middle + side / 2 <= 1 + 3 * SLACK
        for middle, side in ((cx, w), (cy, h))
    )


def _is_tracked(values: Sequence[float]) -> bool:
    """Whether a confidence and a track's number, a whole one, end a line that begins with a box or a polygon. Of a
    polygon cut by the lower border several points lie on it."""
    *shape, confidence, track = values
    if not (0 < confidence <= 1 and track >= 0 and track % 1 == 0):
        return False
    return _is_box(shape) if len(shape) == 4 else max(shape) <= 1 + SLACK and track not in shape[1::2]


def _is_turned_box(values: Sequence[float]) -> bool:
    """Whether four points are the corners of a parallelogram, as those of oriented boxes."""
    if len(values) != 8:
        return False
    x, y = values[0::2], values[1::2]
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    return abs(area) > 1e-6 and all(abs(v[0] + v[2] - v[1] - v[3]) < SLACK for v in (x, y))
