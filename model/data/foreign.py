"""Annotations in formats that are not read, and how to export what is read from the tool that wrote them."""

from __future__ import annotations

import re
from pathlib import Path

from model.data.tree import Tree

HEAD = 1 << 16  # bytes of a file that tell its format
LOOKED_AT = 20  # files of each kind
XML_ROOT = re.compile(rb"<\s*([A-Za-z_][\w.-]*)")
FROM_THERE = (
    "export it as COCO JSON (Roboflow: Download > COCO), YOLO or Pascal VOC from the tool that wrote it"
)
ADVICE = {
    "CVAT": "the own format of CVAT: export the task or project there as 'COCO 1.0' or "
    "'Ultralytics YOLO Detection 1.0', with images (Actions > Export dataset)",
    "Label Studio": "the own format of Label Studio: choose Export > COCO or YOLO (with images) there, not JSON",
    "Labelme": "of Labelme, one a picture: turn them into COCO with labelme2coco",
    "VIA": "of the VGG Image Annotator: choose Annotation > Export annotations (COCO format) there",
    "CreateML": "of CreateML: export COCO or YOLO from the tool that wrote it",
    "Supervisely": "of Supervisely, one a picture: export it as COCO JSON there (the app Export to COCO), or as YOLO",
    "VoTT": "of VoTT, which writes no COCO JSON: choose Pascal VOC as the provider in its export settings",
    "Datumaro": "of Datumaro: export it as COCO JSON with `datum convert -f coco`",
    "CSV": f"a table: {FROM_THERE}",
    "TXT": f"a list of images with their boxes: {FROM_THERE}",
}
COCO = {"images", "file_name", "category_id"}
SUFFIXES = (".xml", ".json", ".csv", ".txt")
# Of a table's columns: those of Roboflow, TensorFlow, AutoVOC, Open Images, Kaggle.
LEFT = {"xmin", "x_min", "x1", "left", "bbox_x", "x", "bbox"}
BESIDE = {
    "ymin",
    "y_min",
    "y1",
    "top",
    "bbox_y",
    "y",
    "bbox",
    "label",
    "class",
    "class_id",
    "labelname",
    "image_id",
}
# "x.jpg 1,2,30,40,0 ..." of Roboflow's Keras YOLO, "x.jpg,1,2,30,40,name" of RetinaNet's tables without a head
LISTED = re.compile(r"\S.*\.\w{2,4}(?:[ \t]+\d+(?:\.\d+)?(?:,\d+(?:\.\d+)?){3},\w+)+\s*")
ROW = re.compile(r'"?[^,"]+\.(?:jpe?g|png|bmp|tiff?|webp)"?(?:,\s*-?\d+(?:\.\d+)?){4},.+', re.IGNORECASE)


def how_to_export(tree: Tree) -> str:
    """What to do about the annotations in a folder, as "; annotations.xml is the own format of CVAT: export ...", or
    nothing."""
    for suffix in SUFFIXES:
        files = sorted(
            tree.files(suffix), key=lambda below: "annotations" not in below.rsplit("/", 1)[-1].lower()
        )
        for below in files[:LOOKED_AT]:
            if tool := tool_of(tree.path(below)):
                return f"; {below} is {ADVICE[tool]}"
    return ""


def tool_of(path: Path) -> str:
    """The tool, of ADVICE, in whose own format a file is, told by its beginning; "" for another."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return ""
    if path.suffix.lower() == ".xml":
        return _of_xml(head)
    text = head.decode(errors="replace")
    return _of_json(text) if path.suffix.lower() == ".json" else _of_lines(text)


def _of_lines(head: str) -> str:
    first = next((line for line in head.lstrip("\ufeff").splitlines() if line.strip()), "").strip()
    columns = {name.strip().strip('"').casefold() for name in re.split("[,;\t]", first)}
    if (columns & LEFT and columns & BESIDE and len(columns) > 2) or ROW.fullmatch(first):
        return "CSV"
    return "TXT" if LISTED.fullmatch(first) else ""


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
    if keys >= {"classTitle", "exterior"} or (keys >= {"size", "objects", "description"} and not keys & COCO):
        return "Supervisely"
    if (
        keys >= {"asset", "regions"}
        or keys >= {"assets", "activeLearningSettings"}
        or (keys >= {"assets", "regions", "boundingBox"})
    ):
        return "VoTT"
    if keys >= {"items", "categories"} and not keys & COCO:
        return "Datumaro"
    return "VIA" if keys >= {"filename", "regions", "shape_attributes"} else ""
