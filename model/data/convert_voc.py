"""Pascal VOC labels: an XML file an image. Lists of images say the splits (image_sets.py), else the folders' names.

A box runs from pixel xmin to pixel xmax, counted from 1, where the file is of the VOC challenge or from Roboflow
(`source/database` tells); other tools (CVAT, LabelImg, datumaro, labelformat) write the edges themselves, from 0.
Category ids count from 1 in alphabetical order of the names.
"""

from __future__ import annotations

import filecmp
import math
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from pathlib import Path

from model.data.image_sets import by_lists, lists_of, stem_of
from model.data.images import READ_SUFFIXES
from model.data.label_files import Box, LabelFiles, Parsed, by_folders, refuse, without_unlabelled
from model.data.paths import Resolver, common_end
from model.data.tree import Tree, parent
from model.data.turned import TURNED, around_turned, inside
from model.errors import UserError

FROM_ONE = ("voc", "roboflow")  # in source/database
MASKS = "segmentation"  # folders of masks: SegmentationClass, SegmentationObject
FILENAME = re.compile(rb"<filename>([^<]*)</filename>")
HEAD = 1 << 12  # bytes in which it stands
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def find(tree: Tree) -> LabelFiles | None:
    """The VOC dataset in a folder, or None. Raises `UserError` for labels whose image is not there."""
    labels = [path for path in tree.files(".xml") if not path.startswith(MASKS)]
    if not any(_is_voc(tree.path(path)) for path in labels[:3]):
        return None
    pairs = _pairs(tree, labels)
    folders = {parent(image) for image in pairs}
    pairs |= {image: None for image in _photos(tree) if parent(image) in folders and image not in pairs}
    by_split, told = (
        by_lists(tree, pairs, lists)
        if (lists := lists_of(tree, {image for image, label in pairs.items() if label}))
        else _by_folder(tree, pairs)
    )
    notes = tuple(f"Pascal VOC: {note}" for note in told)
    found = {
        split: [(tree.path(i), tree.path(label) if (label := pairs[i]) else None) for i in images]
        for split, images in by_split.items()
    }
    splits, more = without_unlabelled(found, "NAME.xml for NAME.jpg")
    return LabelFiles("Pascal VOC", splits, {}, parse, notes + more)


def parse(path: Path, size: tuple[int, int]) -> Parsed:
    """One XML file; its size of the image counts where it has one. Raises `ValueError` naming every broken object."""
    root = _root(path)
    database = (root.findtext("source/database") or "").casefold()
    first = 1 if any(word in database for word in FROM_ONE) else 0
    objects, places, problems, difficult, turned = [], [], [], 0, 0
    for number, node in enumerate(root.findall("object"), 1):
        name = (node.findtext("name") or "").strip()
        try:
            if not name:
                raise ValueError("it has no name")
            left, top, right, bottom = _corners(node.findall("bndbox"))
            box, is_turned = _upright(node, (left - first, top - first, right, bottom), _size(root) or size)
            objects.append((name, box))
            turned += is_turned
            places.append(f": object {number}")
            difficult += (node.findtext("difficult") or "").strip() == "1"
        except ValueError as error:
            problems.append(f" object {number} ({name or '?'}): {error}")
    if problems:
        raise ValueError("\n".join(problems))
    remarks = {"objects marked difficult are kept like the others": difficult, TURNED: turned}
    remarks = {text: count for text, count in remarks.items() if count}
    return Parsed(list(objects), _size(root), remarks, places)


def _upright(node: ET.Element, box: Box, size: tuple[int, int]) -> tuple[Box, bool]:
    """(the upright box around an object's, whether that is turned): CVAT gives an angle beside the box before the
    turn."""
    texts = [
        a.findtext("value") for a in node.iterfind("attributes/attribute") if a.findtext("name") == "rotation"
    ]
    try:
        degrees = float(texts[0] or 0) if texts else 0.0
    except ValueError:
        return box, False
    if not degrees % 180 or not math.isfinite(degrees):
        return box, False
    left, top, right, bottom = box
    around = around_turned((left, top, right - left, bottom - top), degrees)
    x, y, w, h = inside(around, size)
    return (x, y, x + w, y + h), True


def _corners(boxes: list[ET.Element]) -> tuple[float, float, float, float]:
    if len(boxes) != 1:
        raise ValueError(f"an object must have one bndbox, but has {len(boxes) or 'none'}")
    texts = [(boxes[0].findtext(corner) or "").strip() for corner in CORNERS]
    left, top, right, bottom = (float(text) for text in texts)
    if not all(map(math.isfinite, (left, top, right, bottom))) or right < left or bottom < top:
        raise ValueError(f"xmin <= xmax and ymin <= ymax must hold, but got {' '.join(texts)}")
    return left, top, right, bottom


def _size(root: ET.Element) -> tuple[int, int] | None:
    try:
        width, height = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _root(path: Path) -> ET.Element:
    text = path.read_bytes()
    if b"<!ENTITY" in text or (b"<!DOCTYPE" in text and not re.search(rb"<!DOCTYPE\s+annotation\s*>", text)):
        raise ValueError(" labels need no document type, and one can do harm")
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(f" not valid XML ({error})") from None


def _is_voc(path: Path) -> bool:
    try:
        return _root(path).tag == "annotation"
    except (OSError, ValueError):
        return True  # broken: told when it is read


# ---- which image, which split -----------------------------------------------------------------------------------


def _photos(tree: Tree) -> Iterable[str]:
    return (i for i in tree.images if not any(p.casefold().startswith(MASKS) for p in i.split("/")[:-1]))


def _pairs(tree: Tree, labels: Iterable[str]) -> dict[str, str | None]:
    """{image: its label file}: the image of the same name that lies nearest, else the one that the file names."""
    by_stem: dict[str, list[str]] = {}
    for image in _photos(tree):
        by_stem.setdefault(_stem(image), []).append(image)
    found: dict[str, str | None] = {}
    problems, resolver = [], None
    for label in labels:
        near = _nearest(label, by_stem.get(_stem(label), ()))
        if len(near) != 1:
            resolver = resolver or Resolver(tree.root)
            named = _named(tree, label)
            near = [i for i in near if i.rsplit("/", 1)[-1] == named] or (
                ["/".join(p)] if named and len(p := (resolver.candidates(named) or [()])[0]) else []
            )
        if not near:
            problems.append(f"{tree.path(label)}: its image is not there")
        elif near[0] in found:
            problems.append(
                f"{tree.path(label)}: its image {near[0]} is that of {found[near[0]]} too; keep one"
            )
        elif other := _another(tree, label, near[0], by_stem):
            problems.append(
                f"{tree.path(label)}: may be of {near[0]} by its own name or of {other} by its <filename>, and both "
                "are there; rename it, or correct its <filename>"
            )
        else:
            found[near[0]] = label
    refuse(problems)
    return found


def _another(tree: Tree, label: str, image: str, by_stem: Mapping[str, list[str]]) -> str:
    """Another image than that of a label's stem which its <filename> names, and whose picture is not the same."""
    try:
        with tree.path(label).open("rb") as file:
            match = FILENAME.search(file.read(HEAD))
        said = stem_of(match[1].decode(errors="replace")) if match else ""
        if said in ("", stem_of(image), stem_of(label[:-4])):
            return ""
        others = [i for i in by_stem.get(_stem_said(_named(tree, label)), ()) if stem_of(i) != stem_of(image)]
        other = next(iter(_nearest(label, others)), "")
        same = not other or filecmp.cmp(tree.path(image), tree.path(other), shallow=False)
    except OSError:
        return ""  # told when it is read
    return "" if same else other


def _stem_said(name: str) -> str:
    """The last part of a name, without the suffix of an image."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return last[: -len(suffix)] if (suffix := os.path.splitext(last)[1]).lower() in READ_SUFFIXES else last


def _named(tree: Tree, label: str) -> str:
    try:
        return (_root(tree.path(label)).findtext("filename") or "").strip()
    except (OSError, ValueError):
        return ""


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].rpartition(".")[0]


def _nearest(label: str, images: Iterable[str]) -> list[str]:
    """Of images with the label's name those that share most folders with it, at either end of the path."""
    own = tuple(label.split("/")[:-1])

    def shared(image: str) -> int:
        other = tuple(image.split("/")[:-1])
        front = common_end(own[::-1], other[::-1])
        return front + common_end(own[front:], other[front:])

    scores = {image: shared(image) for image in images}
    return [image for image, score in scores.items() if score == max(scores.values())]


def _by_folder(tree: Tree, pairs: dict[str, str | None]) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    folders = {image: (parent(image), parent(label or "")) for image, label in pairs.items()}
    found, notes = by_folders(tree, folders, {image for image, label in pairs.items() if label})
    if "train" not in found:
        raise UserError("Pascal VOC labels, but none of them is for training")
    return found, notes
