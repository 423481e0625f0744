"""One COCO annotation file as rows of slots: what the detector does not read (masks, licences, captions) is passed over
without being built."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from model.data.foreign import ADVICE, tool_of
from model.errors import UserError

MAX_BYTES = 8 << 30  # LVIS and Objects365 have about one GiB
SECTIONS = ("images", "annotations", "categories")


class ImageRow(Struct, gc=False):
    id: Any = UNSET
    file_name: Any = UNSET
    width: Any = UNSET
    height: Any = UNSET
    coco_url: Any = UNSET
    not_exhaustive_category_ids: Any = UNSET  # of LVIS: classes of which not every object is drawn


class AnnotationRow(Struct, gc=False):
    id: Any = UNSET
    image_id: Any = UNSET
    category_id: Any = UNSET
    bbox: Any = UNSET
    area: Any = UNSET
    iscrowd: Any = UNSET
    # Of CityPersons, CrowdHuman, VisDrone: a region that is neither an object nor background.
    ignore: Any = UNSET
    score: Any = UNSET  # of a detector, as is confidence
    confidence: Any = UNSET
    attributes: Any = UNSET  # of CVAT, with the angle of turned boxes
    rotation: Any = UNSET
    angle: Any = UNSET
    label_file: Any = UNSET  # and line, of a box that model/data/label_files.py wrote


class CategoryRow(Struct, gc=False):
    id: Any = UNSET
    name: Any = UNSET
    supercategory: Any = UNSET


class Rows(Struct):
    images: list[ImageRow]
    annotations: list[AnnotationRow]
    categories: list[CategoryRow]
    read_from: Any = UNSET  # what the file was made of, where it is one of the cache or of a run
    parted: Any = UNSET  # True where it is a part of that, row by row (parted.py)
    info: Any = UNSET
    swapped: Any = UNSET  # where the boxes stand whose corners were swapped in a label file


class MaskRow(Struct, gc=False):
    segmentation: Any = UNSET


class Masks(Struct):
    annotations: list[MaskRow]


class UnreadMaskRow(Struct, gc=False):
    """As `MaskRow`, parsed where it is asked for: masks are most of a file, and often only some are looked at."""

    text: Raw = msgspec.field(default=Raw(b"null"), name="segmentation")

    @property
    def segmentation(self) -> Any:
        return _parsed(bytes(self.text), Any)


class UnreadMasks(Struct):
    annotations: list[UnreadMaskRow]


AT_ONCE = {UnreadMasks: Masks}  # by Python's own reader, which leaves nothing unread


def placeholder(rows: Rows) -> Any:
    """The id of the category 0 that Roboflow puts above all classes, None when there is none: it has no boxes, and the
    others name it, or themselves, as what they belong to."""
    first = next((row for row in rows.categories if row.id == 0), None)
    others = [row for row in rows.categories if row is not first]
    if first is None or not others or first.supercategory not in ("none", "", None, UNSET):
        return None
    if not all(row.supercategory in (first.name, row.name) for row in others):
        return None
    return None if any(row.category_id == 0 for row in rows.annotations) else 0


def name_by_url(url: str) -> str:
    """Folder and file of an image's address."""
    return "/".join(url.split("/")[-2:])


def add_names(images: Sequence[ImageRow]) -> None:
    """LVIS names files by the address of their image alone: train2017/000000391895.jpg."""
    for row in images:
        if row.file_name is UNSET and isinstance(row.coco_url, str):
            row.file_name = name_by_url(row.coco_url)


def decode(path: Path, kind: Any) -> Any:
    """The JSON file as `kind`. A byte order mark is no damage; depth and size are bounded. Raises `UserError`."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: an annotation file must be a regular file, no folder, pipe or device")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(
                f"{path}: {path.stat().st_size} bytes are more than the {MAX_BYTES} that are read"
            )
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such annotation file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        encoding = json.detect_encoding(raw[:4])
        data = raw if encoding == "utf-8" else raw.decode(encoding).encode("utf-8")
        return _parsed(data, kind)
    except msgspec.ValidationError as error:
        tool = tool_of(path)
        hint = f"; it is {ADVICE[tool]}" if tool else ""
        raise UserError(f"{path}: {_misshapen(str(error))}{hint}") from None
    except RecursionError:
        raise UserError(f"{path}: not valid JSON (nested too deeply)") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); is the file whole?") from None


def _parsed(data: bytes, kind: Any) -> Any:
    """Strictly and fast; Python's own reader takes NaN and says line and column of what is wrong. To both, a byte that
    is no text is wrong only in what is read."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        if "out of range" not in str(error):  # 1e400, where nothing may read it
            raise
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    text = data.decode(errors="surrogateescape")
    kind = AT_ONCE.get(kind, kind)
    try:
        return msgspec.convert(json.loads(text), kind)
    except UnicodeEncodeError:  # a name of a field, where nothing reads it
        return msgspec.convert(json.loads(text, object_pairs_hook=_printable), kind)


def _printable(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name.encode(errors="replace").decode(): value for name, value in pairs}


def _misshapen(text: str) -> str:
    """msgspec's message in our words."""
    missing = re.search(r"missing required field `(\w+)`", text)
    wrong = re.search(r"Expected `(\w+)`, got `(\w+)`(?: - at `\$\.?(.*?)`)?$", text)
    section = missing.group(1) if missing else wrong.group(3) if wrong else None
    if section in SECTIONS:
        return f"a COCO file must have a list '{section}'"
    if wrong:
        wanted, got, where = wrong.groups()
        return f"{where or 'a COCO file'} must be an {wanted}, but got {got}"
    return f"not a COCO file ({text})"
