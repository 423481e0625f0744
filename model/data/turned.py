"""Boxes that are turned about their centre, as CVAT writes them: the upright box before the turn, and an angle."""

from __future__ import annotations

import math
from collections.abc import Sequence

TURNED = "turned boxes (attribute rotation) read as the upright boxes around them"


def around_turned(box: Sequence[float], degrees: float) -> list[float]:
    """[x, y, w, h] px of the upright box around an upright box that is turned about its centre."""
    x, y, w, h = box
    across, down = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    wide, high = w * across + h * down, w * down + h * across
    return [x + (w - wide) / 2, y + (h - high) / 2, wide, high]


def inside(box: Sequence[float], size: tuple[float, float]) -> list[float]:
    """The part of [x, y, w, h] within an image of (W, H) px; the box itself where there is none."""
    x, y, w, h = box
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, size[0]), min(y + h, size[1])
    return [left, top, right - left, bottom - top] if right > left and bottom > top else list(box)
