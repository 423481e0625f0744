"""Pascal VOC labels: an XML file an image. Lists of images say the splits (image_sets.py), else the folders' names.

A box runs from pixel xmin to pixel xmax, counted from 1, where the file is of the VOC challenge or from Roboflow
(`source/database` tells, voc_glance.py); other tools (CVAT, LabelImg, datumaro, labelformat) write the edges
themselves, from 0.
Category ids count from 1 in alphabetical order of the names.
"""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from model.data.classes import TRIMMED
from model.data.coco_boxes import SCORED, is_detected
from model.data.image_sets import by_lists, lists_of
from model.data.kitti_lines import is_number
from model.data.label_files import Box, LabelFiles, Parsed, by_folders, without_unlabelled
from model.data.no_classes import LEFT_OUT, is_no_class
from model.data.other_labels import orphans_left_out
from model.data.tree import Tree, parent
from model.data.turned import TURNED, around_turned, inside
from model.data.voc_glance import Glance, counts_from_one, database_of, from_zero, notes_of
from model.data.voc_images import Pairs, pairs_of, photos
from model.data.voc_xml import NAMELESS, corners_of, is_empty, objects_of, read

DIFFICULT = "objects marked difficult, kept like the others"
EMPTY = "empty objects, of which nothing is said, passed over"


def find(tree: Tree) -> LabelFiles | None:
    """The VOC dataset in a folder, or None. Raises `UserError` for labels of no image that can be told."""
    glances = {path: Glance.at(tree.path(path)) for path in tree.files(".xml")}
    labels = [path for path, glance in glances.items() if glance.is_label]
    if not any(_is_voc(tree.path(path)) for path in labels[:3]) or _are_outlines(glances.values()):
        return None
    known = pairs_of(tree, labels)
    folders = {parent(image) for image in known.labels}
    pairs: dict[str, str | None] = {**known.labels}
    pairs |= {image: None for image in _unlabelled(tree, known) if parent(image) in folders}
    by_split, told = (
        by_lists(tree, pairs, lists)
        if (lists := lists_of(tree, {image for image, label in pairs.items() if label}))
        else _by_folder(tree, pairs)
    )
    bare = sum(label is None for label in pairs.values())
    orphans = {label: tree.unread_image(label.stem) for label in known.orphans}
    lost = orphans_left_out(orphans, map(tree.path, known.labels), bare)
    zero = from_zero(glances.values())
    notes = tuple(f"Pascal VOC: {note}" for note in (*known.notes(), *lost, *told, *notes_of(glances, zero)))
    found = {
        split: [(tree.path(i), tree.path(label) if (label := pairs[i]) else None) for i in images]
        for split, images in by_split.items()
    }
    splits, more = without_unlabelled(found, "NAME.xml for NAME.jpg")
    spoken = {*known.labels, *known.passed, *itertools.chain(*by_split.values())}
    return LabelFiles(
        "Pascal VOC", splits, {}, lambda path, size: parse(path, size, zero), notes + more,
        read_as=f"as of 4: {sorted(zero)}", told=set(map(tree.path, spoken)),
    )  # fmt: skip


def parse(path: Path, size: tuple[int, int], zero: Collection[str] = ()) -> Parsed:
    """One XML file; its size of the image counts where it has one. `zero`: databases that count pixels from 0 although
    they are called as those that count from 1. Raises `ValueError` naming every broken object."""
    root = read(path)
    said = _size(root)
    database = database_of(root.findtext("source/database") or "")
    first = int(counts_from_one(database) and database not in zero)
    objects, places, problems, swapped = [], [], [], []
    remarks: Counter[str] = Counter()
    for number, node in enumerate(objects_of(root), 1):
        text = node.findtext("name") or ""
        name = text.strip()
        if is_no_class(name) or is_empty(node):
            remarks[LEFT_OUT if name else EMPTY] += 1
            continue
        try:
            corners = corners_of(node)
            if not name:
                raise ValueError(NAMELESS)
            (left, right), (top, bottom) = sorted(corners[::2]), sorted(corners[1::2])
            box, is_turned = _upright(node, (left - first, top - first, right, bottom), said or size)
            objects.append((name, box))
            remarks[TURNED] += is_turned
            remarks[TRIMMED] += text != name and "\n" not in text  # lines set out the XML
            remarks[SCORED] += _is_detected(node)
            remarks[DIFFICULT] += (node.findtext("difficult") or "").strip() == "1"
            places.append(f": object {number}")
            swapped += [places[-1]] if (left, top, right, bottom) != corners else []
        except ValueError as error:
            problems.append(f" object {number} ({name or '?'}): {error}")
    if problems:
        raise ValueError("\n".join(problems))
    return Parsed(list(objects), said, +remarks, places, swapped)


def _upright(node: ET.Element, box: Box, size: tuple[int, int]) -> tuple[Box, bool]:
    """(the upright box around an object's, whether that is turned): CVAT gives an angle beside the box before the
    turn. Raises `ValueError` of an angle that is none."""
    texts = [
        a.findtext("value") for a in node.iterfind("attributes/attribute") if a.findtext("name") == "rotation"
    ]
    try:
        degrees = float(texts[0] or 0) if texts else 0.0
    except ValueError:
        return box, False
    if not math.isfinite(degrees):
        raise ValueError(f"its rotation must be degrees, but got {texts[0]}")
    if not degrees % 180:
        return box, False
    left, top, right, bottom = box
    around = around_turned((left, top, right - left, bottom - top), degrees)
    x, y, w, h = inside(around, size)
    return (x, y, x + w, y + h), True


def _is_detected(node: ET.Element) -> bool:
    """Whether an object has a confidence, as what a detector found, written as VOC, does."""
    texts = (node.findtext(name) or "" for name in ("score", "confidence"))
    return any(is_number(text) and is_detected(float(text)) for text in texts)


def _size(root: ET.Element) -> tuple[int, int] | None:
    """(W, H) px that the file says; None where it says none, or no number, as tools write that do not know it. Raises
    `ValueError` of a number that is none of pixels."""
    texts = [(root.findtext(f"size/{side}") or "").strip() for side in ("width", "height")]
    try:
        width, height = map(float, texts)
    except ValueError:
        return None
    if not (abs(width) < 1 << 31 and abs(height) < 1 << 31):  # infinite or NaN too
        raise ValueError(f" its size must be numbers of px, but got {' x '.join(texts)}")
    return (int(width), int(height)) if width >= 1 and height >= 1 else None


def _is_voc(path: Path) -> bool:
    try:
        return read(path).tag == "annotation"
    except (OSError, ValueError):
        return True  # broken: told when it is read


def _are_outlines(glances: Collection[Glance]) -> bool:
    """Whether no file has a box and some have polygons: those of LabelMe's web tool."""
    return not any(glance.boxes for glance in glances) and any(glance.outlines for glance in glances)


# ---- which split ---------------------------------------------------------------------------------------------------


def _unlabelled(tree: Tree, known: Pairs) -> Iterable[str]:
    """The images that no label is of, but for those beside an image of the same stem: masks, or copies of it."""
    return (
        image
        for image in photos(tree)
        if image not in known.labels
        and (image not in known.passed or parent(known.passed[image]) != parent(image))
    )


def _by_folder(tree: Tree, pairs: dict[str, str | None]) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    folders = {image: (parent(image), parent(label or "")) for image, label in pairs.items()}
    return by_folders(tree, folders, {image for image, label in pairs.items() if label})
