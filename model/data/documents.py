"""One COCO annotation file, every field's type checked, as columns.

The file is parsed into slots, not dicts (coco_rows.py); masks are read in a second pass where boxes are missing. `read`
is the only reader: the check before a run, training and evaluation all come through it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from model.data.coco_rows import (
    SECTIONS,
    AnnotationRow,
    ImageRow,
    MaskRow,
    Masks,
    Rows,
    add_names,
    decode,
    name_by_url,
    placeholder,
)
from model.data.problems import Problems, listed, shown
from model.data.sources import stage_file


class Place(str):
    """Where a box stands, instead of its id."""


@dataclass(frozen=True)
class Document:
    """N images and T boxes, the boxes in the order of their images."""

    where: str  # the file
    image_ids: list[Any]  # [N] int, float or str, as in the file
    file_names: list[str]
    sizes: np.ndarray  # [N, 2] int64, (H, W) px; 0 where the file says none
    owner: np.ndarray  # [T] int64, index of the image, rising
    category: np.ndarray  # [T] int64, index into categories
    boxes_xywh_px: np.ndarray  # [T, 4] float64
    areas: np.ndarray  # [T] float64, px^2
    crowd: np.ndarray  # [T] bool
    annotation_ids: list[Any]  # [T], or a Place, for messages
    categories: list[dict[str, Any]]  # [{"id", "name"}], in the order of the file
    mended: dict[str, int]  # what was put right -> how often

    def __len__(self) -> int:
        return len(self.image_ids)

    def box(self, n: int) -> str:
        """Box n by the ids of the file, or by its label file."""
        if isinstance(self.annotation_ids[n], Place):
            return str(self.annotation_ids[n])
        image = int(self.owner[n])
        ids = f"annotation {shown(self.annotation_ids[n])} of image {shown(self.image_ids[image])}"
        return f"{ids} ({self.file_names[image]})"

    def with_boxes(self, keep: np.ndarray) -> Document:
        """Only the boxes where `keep` [T] is True."""
        if keep.all():
            return self
        arrays = ("owner", "category", "boxes_xywh_px", "areas", "crowd")
        ids = [self.annotation_ids[n] for n in np.flatnonzero(keep)]
        return replace(self, annotation_ids=ids, **{name: getattr(self, name)[keep] for name in arrays})

    def with_images(self, keep: np.ndarray) -> Document:
        """Only the images where `keep` [N] is True, and their boxes."""
        if keep.all():
            return self
        rows, number = np.flatnonzero(keep), np.cumsum(keep) - 1
        kept = self.with_boxes(keep[self.owner])
        return replace(
            kept,
            image_ids=[self.image_ids[n] for n in rows],
            file_names=[self.file_names[n] for n in rows],
            sizes=self.sizes[keep],
            owner=number[kept.owner],
        )

    def counted(self, what: str, times: int) -> Document:
        """The same, with `times` more of one mending."""
        more = {what: self.mended.get(what, 0) + int(times)} if times else {}
        return replace(self, mended=self.mended | more)

    def write(self, path: Path) -> None:
        """As a COCO file, whole or not at all."""
        ids = [c["id"] for c in self.categories]
        images = [
            {"id": i, "file_name": name, "height": int(h), "width": int(w)}
            for i, name, (h, w) in zip(self.image_ids, self.file_names, self.sizes, strict=True)
        ]
        columns = zip(self.owner, self.category, self.boxes_xywh_px, self.areas, self.crowd, strict=True)
        annotations = [
            {
                "id": n + 1, "image_id": self.image_ids[owner], "category_id": ids[category],
                "bbox": box.tolist(), "area": float(area), "iscrowd": int(crowd),
            }
            for n, (owner, category, box, area, crowd) in enumerate(columns)
        ]  # fmt: skip
        document = {
            "images": images, "annotations": annotations, "categories": self.categories, "read_from": self.where
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(document))
        partial.replace(path)


def read(path: str | Path, problems: Problems) -> Document | None:
    """The document of a file or URL; None when it has problems, which are then named by file, row and id.

    Raises `UserError` when there is no such file, it is no JSON, or no COCO document.
    """
    path = stage_file(path)
    rows = decode(path, Rows)
    where = rows.read_from if type(rows.read_from) is str else str(path)
    reader = _Reader(where, problems)
    try:
        return reader.document(rows, lambda: decode(path, Masks).annotations)
    except _Wrong:
        return None


def as_it_is(path: str | Path) -> dict[str, Any]:
    """The file's content with every field that it has, and "read_from", the file or what that was made of; after `read`
    found nothing wrong with it. Raises `UserError`."""
    problems = Problems()
    read(path, problems)
    problems.refuse()
    path = stage_file(path)
    document = {"read_from": str(path)} | decode(path, dict[str, Any])
    none = placeholder(msgspec.convert(document, Rows))
    rows = document["categories"]
    images = [
        row if "file_name" in row else row | {"file_name": name_by_url(row["coco_url"])}
        for row in document["images"]
    ]
    return document | {
        "images": images,
        "categories": [row for row in rows if none is None or row["id"] != none],
    }


class _Wrong(Exception):
    """What follows cannot be read: the problems are in the report."""


ID = ("an integer, a number or a text", {int, float, str})
NUMBER = ("a number", {int, float})
TEXT = ("a text", {str})
LIST = ("four numbers", {list})
GONE = type(UNSET)


@dataclass
class _Reader:
    where: str
    problems: Problems

    def document(self, rows: Rows, masks: Callable[[], list[MaskRow]]) -> Document:
        sections = {name: getattr(rows, name) for name in SECTIONS}
        add_names(rows.images)
        for section, keys in (("images", ("id", "file_name")), ("categories", ("id", "name"))):
            for key in keys:
                self.column(section, sections[section], key, *(ID if key == "id" else TEXT))
        for key in ("image_id", "category_id"):
            self.column("annotations", rows.annotations, key, *ID)
        sizes = self.sizes(rows.images)
        boxes, from_masks = self.boxes(rows.annotations, masks)
        areas, crowd = self.areas(rows.annotations, boxes), self.crowd(rows.annotations)
        self.stop()
        images, doubles = self.unique("images", rows.images)
        categories, double_categories = self.unique("categories", rows.categories)
        categories.pop(placeholder(rows), None)
        self.names("images", rows.images, "file_name", "the name of a file")
        self.names("categories", rows.categories, "name", "a text that can be written")
        self.stop()
        owner = self.index("annotations", rows.annotations, "image_id", images)
        category = self.index("annotations", rows.annotations, "category_id", categories)
        self.stop()
        order, ids = np.argsort(owner, kind="stable"), list(map(_id, rows.annotations))
        kept_images = [rows.images[n] for n in images.values()]
        kept = [rows.categories[n] for n in categories.values()]
        owner, category = _renumbered(owner, images), _renumbered(category, categories)
        found = Document(
            where=self.where,
            image_ids=[_whole(row.id) for row in kept_images],
            file_names=[row.file_name for row in kept_images],
            sizes=sizes[list(images.values())].reshape(-1, 2),
            owner=owner[order],
            category=category[order],
            boxes_xywh_px=boxes[order],
            areas=areas[order],
            crowd=crowd[order],
            annotation_ids=[ids[n] for n in order.tolist()],
            categories=[{"id": _whole(row.id), "name": row.name.strip()} for row in kept],
            mended={},
        )
        counts = {
            "images listed twice dropped": doubles,
            "categories listed twice dropped": double_categories,
            "boxes made of masks": from_masks,
        }
        for what, times in counts.items():
            found = found.counted(what, times)
        return found

    def stop(self) -> None:
        if self.problems:
            raise _Wrong

    def say(self, section: str, n: int, row: Any, key: str, must: str) -> None:
        value = getattr(row, key)
        if value is UNSET:
            self.problems.add(f"keys {section}", f"{self.where}: {section}[{n}] lacks {key}")
        else:
            name = f"{section}[{n}]" + (
                f" (id {shown(row.id)})" if row.id is not UNSET and key != "id" else ""
            )
            self.problems.add(
                f"type {key}", f"{self.where}: {name}: {key} must be {must}, but got {shown(value)}"
            )

    def column(self, section: str, rows: Sequence[Any], key: str, must: str, types: set[type]) -> None:
        """Say which rows' `key` is not of these types; a float must be finite."""
        values = _column(rows, key)
        if set(map(type, values)) <= types - {float}:
            return
        for n, (row, value) in enumerate(zip(rows, values, strict=True)):
            if type(value) not in types or (type(value) is float and not math.isfinite(value)):
                self.say(section, n, row, key, must)

    def unique(self, section: str, rows: Sequence[Any]) -> tuple[dict[Any, int], int]:
        """({id: row}, how many rows are there a second time). The same id for another thing is a problem."""
        first: dict[Any, int] = {}
        doubles = 0
        for n, row in enumerate(rows):
            if row.id not in first:
                first[row.id] = n
            elif row == rows[first[row.id]]:
                doubles += 1
            else:
                text = f"{section} id {shown(row.id)} is there twice, and differs: {section}[{first[row.id]}] and [{n}]"
                self.problems.add(f"duplicate {section}", f"{self.where}: {text}")
        return first, doubles

    def index(self, section: str, rows: Sequence[Any], key: str, known: dict[Any, int]) -> np.ndarray:
        """[T] int64: the row that each id names."""
        found = np.fromiter(map(known.get, _column(rows, key), repeat(-1)), np.int64, len(rows))
        as_text = {str(value): value for value in known} if (found < 0).any() else {}
        for n in np.flatnonzero(found < 0).tolist():
            value, what = getattr(rows[n], key), f"annotation {shown(rows[n].id)}"
            hint = (
                f"; {shown(as_text[str(value)])} is there, of another type" if str(value) in as_text else ""
            )
            if key == "image_id":
                text = f"{what} belongs to image {shown(value)}, which is not there{hint}"
            else:
                ids = listed(sorted(known, key=str), 20)
                text = f"{what} has the unknown category id {shown(value)}; known: [{ids}]{hint}"
            self.problems.add(key, f"{self.where}: {text}")
        return found

    def names(self, section: str, rows: Sequence[Any], key: str, must: str) -> None:
        for n, row in enumerate(rows):
            name = getattr(row, key)
            if not name.strip() or "\0" in name or not _encodable(name):
                self.say(section, n, row, key, must)

    def sizes(self, rows: Sequence[ImageRow]) -> np.ndarray:
        """[N, 2] int64 (H, W); 0 where one is missing, null, 0 or -1, as tools write that do not know it."""
        found = np.zeros((len(rows), 2), np.int64)
        for column, key in enumerate(("height", "width")):
            values = _column(rows, key)
            whole = set(map(type, values)) <= {int}
            if whole and 0 < min(values, default=1) <= max(values, default=1) < 1 << 31:
                found[:, column] = values
                continue
            for n, value in enumerate(values):
                if value is UNSET or value is None or (type(value) is int and value in (0, -1)):
                    continue
                if type(value) not in (int, float) or not 0 < value < 1 << 31 or value != int(value):
                    self.say("images", n, rows[n], key, "a positive integer")
                else:
                    found[n, column] = int(value)
        found[(found == 0).any(axis=1)] = 0
        return found

    def boxes(
        self, rows: Sequence[AnnotationRow], masks: Callable[[], list[MaskRow]]
    ) -> tuple[np.ndarray, int]:
        """([T, 4] float64, how many are a mask's extent)."""
        boxes = _column(rows, "bbox")
        none = [n for n, box in enumerate(boxes) if box is UNSET or box is None or box == []]
        if none:
            from model.data.masks import extent

            found = masks()
            for n in none:
                box = extent(found[n].segmentation)
                if box is None:
                    self.say("annotations", n, rows[n], "bbox", "given where there is no mask")
                boxes[n] = box or [0.0, 0.0, 1.0, 1.0]
        kinds = set(map(type, boxes)) <= {list} and set(map(len, boxes)) <= {4}
        if kinds and set(map(type, chain.from_iterable(boxes))) <= {int, float}:
            try:
                flat = np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes)).reshape(-1, 4)
                if np.isfinite(flat).all():
                    return flat, len(none)
            except OverflowError:
                pass
        for n, box in enumerate(boxes):
            if wrong := box_problem(box):
                self.problems.add("box", f"{self.where}: annotation {shown(rows[n].id)}: {wrong}")
        return np.zeros((len(boxes), 4)), 0

    def areas(self, rows: Sequence[AnnotationRow], boxes: np.ndarray) -> np.ndarray:
        """[T] float64; the box's own where the file gives none."""
        values = _column(rows, "area")
        if set(map(type, values)) <= {int, float}:
            areas = _floats(values)
        else:
            for n, value in enumerate(values):
                if type(value) not in (int, float, GONE, type(None)):
                    self.say("annotations", n, rows[n], "area", "a number from 0")
            known = [type(value) in (int, float) for value in values]
            given = _floats([value if k else 0 for value, k in zip(values, known, strict=True)])
            areas = np.where(known, given, boxes[:, 2] * boxes[:, 3]) if len(rows) else np.zeros(0)
        for n in np.flatnonzero(~(np.isfinite(areas) & (areas >= 0))).tolist():
            if type(values[n]) in (int, float):
                self.say("annotations", n, rows[n], "area", "a number from 0")
        return areas

    def crowd(self, rows: Sequence[AnnotationRow]) -> np.ndarray:
        """[T] bool; null is no crowd. A text would be true whatever it says."""
        values = _column(rows, "iscrowd")
        known = {0: False, 1: True, UNSET: False, None: False}
        types = {int, bool, float, GONE, type(None)}
        if not (set(map(type, values)) <= types and set(values) <= known.keys()):
            for n, value in enumerate(values):
                if type(value) not in types or value not in known:
                    self.say("annotations", n, rows[n], "iscrowd", "0, 1, true or false")
            return np.zeros(len(values), bool)
        return np.fromiter(map(known.__getitem__, values), bool, len(values))


def box_problem(box: Any) -> str | None:
    """Why a value is no COCO box [x, y, w, h] of finite numbers, or None."""
    if type(box) is not list or len(box) != 4 or not set(map(type, box)) <= {int, float}:
        return f"bbox must be four numbers: a box is [x, y, w, h] in px, but got {shown(box)}"
    if not all(abs(value) < 1e300 for value in box):  # NaN compares with nothing
        return f"a box must be finite, but got {shown(box)}"
    return None


def _id(row: AnnotationRow) -> Any:
    return Place(row.label_file) if type(row.label_file) is str else row.id


def _column(rows: Sequence[Any], key: str) -> list[Any]:
    return list(map(attrgetter(key), rows))


def _floats(values: Iterable[int | float]) -> np.ndarray:
    """[T] float64; infinite where an integer is too large for one."""
    values = list(values)
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return np.array([v if abs(v) < 1e300 else math.inf for v in values], dtype=np.float64)


def _renumbered(index: np.ndarray, kept: dict[Any, int]) -> np.ndarray:
    """Row numbers of the file as numbers among the rows that were kept."""
    rows = np.fromiter(kept.values(), np.int64, len(kept))
    return np.searchsorted(rows, index) if len(rows) else index


def _whole(value: Any) -> Any:
    """1.0, as some tools write ids, is 1."""
    return int(value) if type(value) is float and value.is_integer() else value


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
