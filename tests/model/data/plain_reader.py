"""COCO files by plain loops over Python's own JSON: what the fast reader must agree with, written from its rules."""

from __future__ import annotations

import contextlib
import json
import math
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

Box = tuple[Any, str, tuple[float, ...], float, bool]  # image id, class, xywh px, area px^2, crowd


NOWHERE = object()  # the image of boxes of images that are not listed


FIGURES = {"images": ("width", "height"), "annotations": ("area", "iscrowd", "ignore"), "categories": ()}


class Refused(Exception):
    """The file is not what it must be."""


def read_plain(path: Path, sizes_px: dict[str, tuple[int, int]], share: float) -> list[Box]:
    """The boxes of a file, mended. `sizes_px`: {file name: (W, H)} of the images that exist."""
    document = parsed(path)
    if not isinstance(document, dict):
        raise Refused("no object")
    sections = {}
    for name in ("images", "annotations", "categories"):
        rows = document.get(name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Refused(name)
        sections[name] = [
            {key: figure(value) if key in FIGURES[name] else value for key, value in row.items()}
            for row in rows
        ]
    images = unique(sections["images"], ("id", "file_name", "width", "height"))
    categories = unique(sections["categories"], ("id", "name"))
    names = {i: text(named(row.get("name"))).strip() for i, row in categories.items()}
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for name in names.values() for c in name):
        raise Refused("a name of two lines")
    files = Counter(Path(text(row.get("file_name"))).name for row in images.values())
    sizes = {i: image_size(row, sizes_px, files) for i, row in images.items()}
    order = {i: n for n, i in enumerate(images)}
    read = [one_box(row, order, names) for row in sections["annotations"]]
    boxes = [box for box in read if box[0] is not NOWHERE]
    check_names(names, {meant(row["category_id"], names, names) for row in sections["annotations"]})
    boxes.sort(key=lambda box: order[box[0]])
    return mended(boxes, sizes, share, len(read) - len(boxes))


def figure(value: Any) -> Any:
    """A number in quotes, of a side, an area or a flag."""
    if not isinstance(value, str) or not re.fullmatch(
        r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]{1,3})?\s*", value, re.I
    ):
        return value
    read = float(value)
    return int(read) if read.is_integer() else read


def parsed(path: Path) -> Any:
    raw = path.read_bytes()
    encoding = json.detect_encoding(raw)
    try:
        # A byte that is no text matters only in what is read.
        return json.loads(raw.decode(encoding, errors="surrogateescape" if "utf-8" in encoding else "strict"))
    except (ValueError, RecursionError) as error:
        raise Refused(str(error)) from None


def unique(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for row in rows:
        i = identity(row.get("id"))
        read = {key: row.get(key, "absent") for key in keys}
        if i in found and {key: found[i].get(key, "absent") for key in keys} != read:
            raise Refused("two of one id")
        found.setdefault(i, row)
    return found


def identity(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise Refused("id")
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused("id")
    return value


def number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
        raise Refused("number")
    return float(value)


def named(value: Any) -> Any:
    return str(value) if type(value) is int and abs(value) < 1e300 else value


def text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise Refused("text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused("text") from None
    return value


def image_size(
    row: dict[str, Any], sizes_px: dict[str, tuple[int, int]], files: Counter[str]
) -> tuple[int, int]:
    name = text(row.get("file_name"))
    if name not in sizes_px and files[Path(name).name] == 1:
        name = Path(name).name  # "../a.png" is a.png, when no other row says so
    if name not in sizes_px:
        raise Refused("missing file")
    said = []
    for key in ("width", "height"):
        value = row.get(key)
        if value is None or (type(value) is int and value in (0, -1)):
            said.append(0)
        else:
            side = number(value)
            if side <= 0 or side != int(side):
                raise Refused("size")
            said.append(int(side))
    if all(said) and tuple(said) != sizes_px[name]:
        raise Refused("size")
    return sizes_px[name]


def one_box(row: dict[str, Any], order: dict[Any, int], names: dict[Any, str]) -> Box:
    image = meant(identity(row.get("image_id")), order, {}, *([NOWHERE] if order else []))
    category = meant(identity(row.get("category_id")), names, names)
    box = unquoted(row.get("bbox"))
    if box is None or box == []:
        box = polygon_box(row.get("segmentation"))
    elif isinstance(box, list) and len(box) == 4 and box[2] == box[3] == 0:
        with contextlib.suppress(Refused):
            mask = polygon_box(row.get("segmentation"))
            box = mask if mask[2] > 0 and mask[3] > 0 else box
    if not isinstance(box, list) or len(box) != 4:
        raise Refused("box")
    x, y, w, h = (number(v) for v in box)
    flags = [0 if row.get(key) is None else row[key] for key in ("iscrowd", "ignore")]
    if not all(isinstance(flag, (int, float)) and flag in (0, 1) for flag in flags):
        raise Refused("iscrowd")
    area = row.get("area")
    area = w * h if area is None else number(area)
    if row.get("area") is not None and area < 0:
        raise Refused("area")
    return (image, names[category], (x, y, w, h), area, any(flags))


def meant(value: Any, known: Any, names: dict[Any, str], *otherwise: Any) -> Any:
    """The only id that a value is, reads as, or names."""
    if value in known:
        return value
    found = {i for i in known if as_text(i) == as_text(value)}
    found |= {i for i, name in names.items() if isinstance(value, str) and name == value.strip()}
    if not found and otherwise:
        return otherwise[0]
    if len(found) != 1:
        raise Refused("unknown id")
    return found.pop()


def as_text(value: Any) -> str:
    if not isinstance(value, str) and abs(value) >= 1e15:
        return repr(float(value)) if abs(value) < 1e300 else "too large"
    if isinstance(value, float) and value != int(value):
        return repr(value)
    try:
        return str(int(value))
    except ValueError:
        return str(value).strip()


def unquoted(box: Any) -> Any:
    if isinstance(box, list) and any(isinstance(v, str) for v in box):
        with contextlib.suppress(ValueError):
            return [float(v) if isinstance(v, str) else v for v in box]
    return box


def polygon_box(mask: Any) -> list[float]:
    if (
        not isinstance(mask, list)
        or not mask
        or not all(isinstance(p, list) and p and len(p) % 2 == 0 for p in mask)
    ):
        raise Refused("mask")
    points = [number(v) for polygon in mask for v in polygon]
    xs, ys = points[0::2], points[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def check_names(names: dict[Any, str], used: set[Any]) -> None:
    """Two ids of one name contradict when both have boxes."""
    twice = Counter(name for i, name in names.items() if i in used)
    if any(count > 1 for count in twice.values()):
        raise Refused("one name, two ids")


def mended(boxes: list[Box], sizes: dict[Any, tuple[int, int]], share: float, changed: int) -> list[Box]:
    kept: list[Box] = []
    seen: set[Any] = set()
    boxes_told = len(boxes) + changed
    drawn = [box for _, _, box, _, _ in boxes if box[2] > 0 and box[3] > 0]
    if drawn and all(abs(value) <= 1 for box in drawn for value in box):
        raise Refused("shares")
    for image, name, (x, y, w, h), area, crowd in boxes:
        width, height = sizes[image]
        left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
        if w < 0.01 or h < 0.01 or right - left <= 0 or bottom - top <= 0:
            changed += 1
            continue
        if x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1:
            changed += 1
            now = (right - left) * (bottom - top)
            area = now if abs(area - w * h) <= 1.0 + 1e-3 * w * h else min(area, now)
            x, y, w, h = left, top, right - left, bottom - top
        if (image, name, x, y, w, h, crowd) in seen:
            changed += 1
            continue
        seen.add((image, name, x, y, w, h, crowd))
        kept.append((image, name, (x, y, w, h), area, crowd))
    if changed > max(1, share * boxes_told):
        raise Refused("too much")
    return kept
