"""The box around a COCO mask: a polygon, or run lengths, plain or packed."""

from __future__ import annotations

import math
from itertools import cycle
from typing import Any

import numpy as np


def extent(segmentation: Any) -> list[float] | None:
    """[x, y, w, h] px around a mask as COCO files write it, or None where that is no mask.

    Polygons: [[x1, y1, x2, y2, ...], ...]. Run lengths: {"size": [H, W], "counts": list or packed text}, down the
    columns (https://github.com/cocodataset/cocoapi, maskApi.c).
    """
    if isinstance(segmentation, list):
        return _around_polygons(segmentation)
    if isinstance(segmentation, dict):
        return _around_runs(segmentation.get("size"), segmentation.get("counts"))
    return None


def is_upright(segmentation: Any) -> bool:
    """Whether a mask is no other shape than an upright box: none, or a polygon with all points on the corners."""
    around = extent(segmentation)
    if around is None or not isinstance(segmentation, list):
        return around is None
    x, y, w, h = around
    values = [v for part in segmentation for v in (part if isinstance(part, list) else [part])]
    near = [
        abs(v - a) < 1e-3 or abs(v - b) < 1e-3 for v, (a, b) in zip(values, cycle(((x, x + w), (y, y + h))))
    ]
    return all(near)


def _around_polygons(polygons: list[Any]) -> list[float] | None:
    if polygons and not any(isinstance(polygon, list) for polygon in polygons):
        polygons = [polygons]  # one polygon, not in a list of its own
    points = [value for polygon in polygons if isinstance(polygon, list) for value in polygon]
    even = all(isinstance(polygon, list) and len(polygon) % 2 == 0 for polygon in polygons)
    if not points or not even or not all(_is_number(value) for value in points):
        return None
    xs, ys = points[0::2], points[1::2]
    return [float(min(xs)), float(min(ys)), float(max(xs) - min(xs)), float(max(ys) - min(ys))]


def _around_runs(size: Any, counts: Any) -> list[float] | None:
    whole = (
        isinstance(size, list) and len(size) == 2 and all(type(v) is int and 0 < v < 1 << 31 for v in size)
    )
    runs = unpacked(counts) if isinstance(counts, str) else counts
    if not whole or not isinstance(runs, list) or not all(type(v) is int and 0 <= v < 1 << 40 for v in runs):
        return None
    height, width = size
    ends = np.cumsum(runs, dtype=np.int64)
    starts, stops = ends[0::2], ends[1::2]  # of what belongs to the mask
    starts = starts[: len(stops)]
    inside = stops > starts
    if not inside.any() or ends[-1] > height * width:
        return None
    first, last = starts[inside], stops[inside] - 1
    left, right = int((first // height).min()), int((last // height).max())
    spans = (first // height) != (last // height)  # a run that goes on in the next column covers all rows
    top = 0 if spans.any() else int((first % height).min())
    bottom = height - 1 if spans.any() else int((last % height).max())
    return [float(left), float(top), float(right - left + 1), float(bottom - top + 1)]


def unpacked(text: str) -> list[int] | None:
    """Run lengths from COCO's text: five bits a character, from the third on as differences to the last but one."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs if shift == 0 else None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
