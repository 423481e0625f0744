"""One COCO annotation file, every field's type checked, as columns.

The file is parsed into slots, not dicts (coco_rows.py); masks are read in a second pass where boxes are missing. `read`
is the only reader: the check before a run, training and evaluation all come through it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET

from model.data.box_forms import check_forms
from model.data.coco_boxes import (
    IGNORED,
    NUMBER,
    NUMBERS_IN_QUOTES,
    SCORED,
    SWAPPED,
    is_detected,
    outlined,
    read_boxes,
)
from model.data.coco_ids import ORPHANS, Meant
from model.data.coco_rows import (
    AnnotationRow,
    ImageRow,
    MaskRow,
    Rows,
    UnreadMaskRow,
    UnreadMasks,
    add_names,
    decode,
    name_by_url,
    placeholder,
)
from model.data.document import Document, Place
from model.data.no_classes import without_regions
from model.data.problems import Problems, listed, shown
from model.data.sources import stage_file
from model.data.turned import inside
from model.errors import number_of


def read(path: str | Path, problems: Problems) -> Document | None:
    """The document of a file or URL; None when it has problems, which are then named by file, row and id.

    Raises `UserError` when there is no such file, it is no JSON, or no COCO document.
    """
    path = stage_file(path)
    rows = decode(path, Rows)
    reader = _Reader(_where(path, rows), problems)
    try:
        return reader.document(rows, lambda: decode(path, UnreadMasks).annotations)
    except _Wrong:
        return None


def as_it_is(path: str | Path) -> dict[str, Any]:
    """The file's content with every field that it has, and "read_from", the file or what that was made of, row by row;
    ids and boxes as `read` takes them, after that found nothing wrong; it leaves out those of images that are not
    listed, which are here. Raises `UserError`."""
    path, problems = stage_file(path), Problems()
    rows = decode(path, Rows)
    reader = _Reader(_where(path, rows), problems)
    with suppress(_Wrong):
        reader.document(rows, lambda: decode(path, UnreadMasks).annotations)
    problems.refuse()
    document = {"read_from": str(path)} | decode(path, dict[str, Any])
    none = placeholder(rows)
    return document | {
        "images": [
            (row if "file_name" in row else row | {"file_name": name_by_url(row["coco_url"])})
            | _numbers(row, read, SIDES)
            for row, read in zip(document["images"], rows.images, strict=True)
        ],
        "annotations": [
            _settled(row, read) for row, read in zip(document["annotations"], rows.annotations, strict=True)
        ],
        "categories": [
            row | {"name": read.name}
            for row, read in zip(document["categories"], rows.categories, strict=True)
            if none is None or read.id != none
        ],
    }


def _where(path: Path, rows: Rows) -> str:
    return rows.read_from if type(rows.read_from) is str else str(path)


def _settled(row: dict[str, Any], read: AnnotationRow) -> dict[str, Any]:
    """An annotation with the ids and the box that were read; a box that was turned is not turned again."""
    keys = ("image_id", "category_id", "bbox")
    changed = {key: getattr(read, key) for key in keys if row.get(key) != getattr(read, key)}
    changed |= _numbers(row, read, FIGURES)
    if type(read.attributes) is dict and read.attributes.get("rotation"):
        changed["attributes"] = {k: v for k, v in read.attributes.items() if k != "rotation"}
    return row | changed


def _numbers(row: Mapping[str, Any], read: Any, keys: Iterable[str]) -> dict[str, Any]:
    """What was read of a row's numbers that stand in quotes."""
    return {key: getattr(read, key) for key in keys if type(row.get(key)) is str}


class _Wrong(Exception):
    """What follows cannot be read: the problems are in the report."""


SIDES, FIGURES = ("width", "height"), ("area", "iscrowd", "ignore")  # may be numbers in quotes
ID = ("an integer, a number or a text", {int, float, str})
TEXT = ("a text", {str})
BARE = "; is it a box without a label? Give it one, or take it out"  # datumaro writes 0 for them
CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")  # a line's end, a bell
GONE = type(UNSET)


@dataclass
class _Reader:
    where: str
    problems: Problems
    orphans: set[int] = field(default_factory=set)  # annotations of images that are not listed
    file_of: dict[Any, str] = field(default_factory=dict)  # image id -> file name

    def document(self, rows: Rows, masks: Callable[[], Sequence[MaskRow | UnreadMaskRow]]) -> Document:
        self.note_undrawn(rows)
        self.types(rows)
        quoted = sum(_unquote(rows.images, SIDES)) + sum(_unquote(rows.annotations, FIGURES))
        sizes = self.sizes(rows.images)
        read = read_boxes(rows.annotations, masks, self.where, self.problems)
        boxes, areas = read.xywh_px, self.areas(rows.annotations, read.xywh_px)
        crowd, ignored = (self.flags(rows.annotations, key) for key in ("iscrowd", "ignore"))
        self.stop()
        if type(rows.read_from) is not str or rows.parted is True:  # the others were written by this package
            check_forms(rows.annotations, boxes, masks, self.where, self.problems)
        images, doubles = self.unique("images", rows.images)
        categories, double_categories = self.unique("categories", rows.categories)
        above = categories.pop(placeholder(rows), None)
        self.names("images", rows.images, "file_name", "the name of a file")
        self.names("categories", rows.categories, "name", "a text of one line that can be written")
        self.stop()
        owner, of_images = self.index(rows.annotations, "image_id", images)
        self.file_of = {i: rows.images[n].file_name for i, n in images.items()}
        names = [rows.categories[n].name.strip() for n in categories.values()]
        category, of_categories = self.index(rows.annotations, "category_id", categories, names)
        self.stop()
        owner[list(self.orphans)] = next(iter(images.values()), 0)  # until they are left out, below
        self.within_images(read.turned, rows.annotations, sizes[owner], boxes, areas)
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
            crowd=(crowd | ignored)[order],
            rows=order,
            annotation_ids=[ids[n] for n in order.tolist()],
            categories=[{"id": _whole(row.id), "name": row.name.strip()} for row in kept],
            mended={},
            outlined=outlined(rows, masks)[order],
            placeholder="" if above is None else rows.categories[above].name.strip(),
        )
        counts = {
            "images listed twice dropped": doubles,
            "categories listed twice dropped": double_categories,
            **(of_images | of_categories | read.counts),
            NUMBERS_IN_QUOTES: quoted,
            IGNORED: (ignored & ~crowd).sum(),
            **_told_of(rows),
            ORPHANS: len(self.orphans),
        }
        for what, times in counts.items():
            found = found.counted(what, times)
        return without_regions(found.with_boxes(~np.isin(order, list(self.orphans))))

    def note_undrawn(self, rows: Rows) -> None:
        """Say that objects which a file of LVIS leaves undrawn count as background: the detector knows no others."""
        lacking = [row for row in rows.images if type(row.not_exhaustive_category_ids) is list]
        if count := sum(bool(row.not_exhaustive_category_ids) for row in lacking):
            text = "not every object of some classes is drawn (not_exhaustive_category_ids, as of LVIS)"
            self.problems.note(
                f"{self.where}: of {number_of(count, 'image')} {text}: the others are background in training, "
                "and errors in scores"
            )
        for row in rows.images:
            row.not_exhaustive_category_ids = UNSET  # rows are the same without it

    def types(self, rows: Rows) -> None:
        """Say what is not of the types that it must be; a name that is a number becomes a text."""
        add_names(rows.images)
        for row in rows.categories:
            if type(row.name) is int and abs(row.name) < 1e300:
                row.name = str(row.name)
        for section, keys in (("images", ("id", "file_name")), ("categories", ("id", "name"))):
            for key in keys:
                self.column(section, getattr(rows, section), key, *(ID if key == "id" else TEXT))
        for key in ("image_id", "category_id"):
            self.column("annotations", rows.annotations, key, *ID)

    def within_images(
        self, turned: np.ndarray, rows: Sequence[AnnotationRow], sizes: np.ndarray, boxes: np.ndarray, areas: np.ndarray
    ) -> None:  # fmt: skip
        """Cut the boxes around turned boxes: they may reach beyond the border where their object does not."""
        for n in turned.tolist():
            height, width = sizes[n].tolist()
            if height and width:
                boxes[n] = rows[n].bbox = inside(boxes[n].tolist(), (width, height))
                areas[n] = min(areas[n], boxes[n, 2] * boxes[n, 3])

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

    def index(
        self, rows: Sequence[AnnotationRow], key: str, known: dict[Any, int], names: Sequence[str] = ()
    ) -> tuple[np.ndarray, dict[str, int]]:
        """([T] int64: the row that each id names, {how ids were read that are not there as they stand: how often}).
        `names` are those of the rows, which may stand for ids."""
        found = np.fromiter(map(known.get, _column(rows, key), repeat(-1)), np.int64, len(rows))
        lost = np.flatnonzero(found < 0).tolist()
        meant = Meant(known, names) if lost else None
        counts: dict[str, int] = {}
        for n in lost:
            value = getattr(rows[n], key)
            ids, how = meant.ids(value) if meant else ([], "")
            if len(ids) == 1:
                found[n] = known[ids[0]]
                setattr(rows[n], key, ids[0])
                kind = f"{key.partition('_')[0]} ids {how}"
                counts[kind] = counts.get(kind, 0) + 1
            elif key == "image_id" and known and not ids:
                self.orphans.add(n)
            else:
                self.unknown(rows[n], key, known, ids)
        return found, counts

    def unknown(self, row: AnnotationRow, key: str, known: Iterable[Any], may_be: list[Any]) -> None:
        value = getattr(row, key)
        what = f"annotation {shown(row.id)}"  # an id that tools count anew in each image
        hint = f"; it may be any of {listed(list(map(shown, may_be)))}" if may_be else ""
        if key == "image_id":
            text = f"{what} belongs to image {shown(value)}, which is not there{hint}"
        else:
            file = self.file_of.get(row.image_id, "which is not listed")
            ids = listed(list(map(shown, sorted(known, key=str))), 20)
            hint = hint or (BARE if value == 0 and all(type(i) is int and i > 0 for i in known) else "")
            what += f" of image {shown(row.image_id)} ({file})"
            text = f"{what} has the unknown category id {shown(value)}; known: [{ids}]{hint}"
        self.problems.add(key, f"{self.where}: {text}")

    def names(self, section: str, rows: Sequence[Any], key: str, must: str) -> None:
        for n, row in enumerate(rows):
            name = getattr(row, key)
            if (
                not name.strip()
                or "\0" in name
                or not _encodable(name)
                or (key == "name" and CONTROL.search(name.strip()))
            ):
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

    def flags(self, rows: Sequence[AnnotationRow], key: str) -> np.ndarray:
        """[T] bool; null is no. A text would be true whatever it says."""
        values = _column(rows, key)
        known = {0: False, 1: True, UNSET: False, None: False}
        types = {int, bool, float, GONE, type(None)}
        if not (set(map(type, values)) <= types and set(values) <= known.keys()):
            for n, value in enumerate(values):
                if type(value) not in types or value not in known:
                    self.say("annotations", n, rows[n], key, "0, 1, true or false")
            return np.zeros(len(values), bool)
        return np.fromiter(map(known.__getitem__, values), bool, len(values))


def _unquote(rows: Sequence[Any], keys: Iterable[str]) -> Iterator[int]:
    """For each key, how many values were texts of numbers; they become these."""
    for key in keys:
        values = _column(rows, key)
        texts = (
            [n for n, value in enumerate(values) if type(value) is str]
            if str in set(map(type, values))
            else []
        )
        read = [n for n in texts if NUMBER.fullmatch(values[n])]
        for n in read:
            number = float(values[n])
            setattr(rows[n], key, int(number) if number.is_integer() else number)
        yield len(read)


def _told_of(rows: Rows) -> dict[str, int]:
    """How many boxes have a confidence, and had their corners swapped."""
    scored = {SCORED: sum(is_detected(row.score) or is_detected(row.confidence) for row in rows.annotations)}
    if type(rows.read_from) is str and type(rows.swapped) is list and rows.swapped:
        return scored | {f"{SWAPPED}, the first: {rows.swapped[0]}": len(rows.swapped)}
    return scored


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
