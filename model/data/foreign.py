"""Annotations in formats that are not read, and how to export what is read from the tool that wrote them."""

from __future__ import annotations

import re
from pathlib import Path

from model.data.tree import Tree

HEAD = 1 << 16  # bytes of a file that tell its format
LOOKED_AT = 20  # files of each kind
XML_ROOT = re.compile(rb"<\s*([A-Za-z_][\w.-]*)")
ADVICE = {
    "CVAT": "the own format of CVAT: export the task or project there as 'COCO 1.0' or "
    "'Ultralytics YOLO Detection 1.0', with images (Actions > Export dataset)",
    "Label Studio": "the own format of Label Studio: choose Export > COCO or YOLO (with images) there, not JSON",
    "Labelme": "of Labelme, one a picture: turn them into COCO with labelme2coco",
    "VIA": "of the VGG Image Annotator: choose Annotation > Export annotations (COCO format) there",
    "CreateML": "of CreateML: export COCO or YOLO from the tool that wrote it",
}


def how_to_export(tree: Tree) -> str:
    """What to do about the annotations in a folder, as "; annotations.xml is the own format of CVAT: export ...", or
    nothing."""
    for suffix in (".xml", ".json"):
        for below in list(tree.files(suffix))[:LOOKED_AT]:
            if tool := tool_of(tree.path(below)):
                return f"; {below} is {ADVICE[tool]}"
    return ""


def tool_of(path: Path) -> str:
    """The tool, of ADVICE, in whose own format a file is, told by its beginning; "" for another."""
    if path.suffix.lower() not in (".xml", ".json") or not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return ""
    return _of_xml(head) if path.suffix.lower() == ".xml" else _of_json(head.decode(errors="replace"))


def _of_xml(head: bytes) -> str:
    root = XML_ROOT.search(re.sub(rb"<[?!][^>]*>", b"", head))
    return "CVAT" if root and root[1] == b"annotations" else ""


def _of_json(head: str) -> str:
    start, keys = head.lstrip("\ufeff \r\n\t")[:1], set(re.findall(r'"([A-Za-z_]+)"\s*:', head))
    if start == "[":
        if keys >= {"data"} and keys & {"annotations", "completions", "predictions", "result"}:
            return "Label Studio"
        return "CreateML" if keys >= {"image", "annotations", "coordinates"} else ""
    if keys >= {"shapes", "imagePath"}:
        return "Labelme"
    return "VIA" if keys >= {"filename", "regions", "shape_attributes"} else ""
