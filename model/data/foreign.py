"""Annotations in formats that are not read, and how to export what is read from the tool that wrote them."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from model.data.archives import ARCHIVES
from model.data.images import READ_SUFFIXES, UNREAD
from model.data.tree import Tree

HEAD = 1 << 16  # bytes of a file that tell its format
LOOKED_AT = 20  # files of each kind
XML_ROOT = re.compile(r"<\s*([A-Za-z_][\w.-]*)")
FROM_THERE = (
    "export it as COCO JSON (Roboflow: Download > COCO), YOLO or Pascal VOC from the tool that wrote it"
)
TABLES = "the lines of Python under 'Tables' in docs/data.md"
CONVERTED = "turn it into COCO JSON with a few lines of Python, as those under 'Tables' in docs/data.md"
LAST = "in a format that is not read: export as COCO, YOLO or Pascal VOC from the tool that wrote it"
BY_PYTHON = "the lines of Python under 'Data sets of Hugging Face' in docs/data.md write it as COCO"
BY_DATUMARO = (
    "with datumaro's Dataset.import_from('DIR', '{}').export('NEWDIR', 'coco_instances', save_media=True)"
)
ADVICE = {
    "CVAT": "the own format of CVAT: export the task or project there as 'COCO 1.0' or "
    "'Ultralytics YOLO Detection 1.0', with images (Actions > Export dataset)",
    "Label Studio": "the own format of Label Studio: choose Export > COCO or YOLO (with images) there, not JSON",
    "Labelme": "of Labelme, one a picture: turn them into COCO with labelme2coco",
    "LabelMe XML": f"of LabelMe's web tool, polygons in XML: turn it into COCO {BY_DATUMARO.format('label_me')}, or "
    "export COCO, YOLO or Pascal VOC from the tool that wrote it",
    "VIA": "of the VGG Image Annotator: choose Annotation > Export annotations (COCO format) there",
    "CreateML": "of CreateML: export COCO or YOLO from the tool that wrote it",
    "Supervisely": "of Supervisely, one a picture: export it as COCO JSON there (the app Export to COCO), or as YOLO",
    "VoTT": "of VoTT, which writes no COCO JSON: choose Pascal VOC as the provider in its export settings",
    "Datumaro": f"of Datumaro: turn it into COCO {BY_DATUMARO.format('datumaro')}",
    "Datumaro's binary": f"binary of Datumaro: turn it into COCO {BY_DATUMARO.format('datumaro_binary')}",
    "Datumaro's Arrow": f"a table in Arrow of Datumaro: turn it into COCO {BY_DATUMARO.format('arrow')}",
    "Detectron2": "dicts of Detectron2: write them as COCO with convert_to_coco_json of detectron2.data.datasets.coco",
    "Labelbox": f"of Labelbox, which exports its own form alone: {CONVERTED}",
    "SuperAnnotate": "of SuperAnnotate: turn it into COCO with its SDK (superannotate.export_annotation, COCO)",
    "Encord": "of Encord: choose COCO as the format of the label export there",
    "Darwin": "of V7 Darwin: choose COCO as the format of the export there",
    "SageMaker": f"a manifest of SageMaker Ground Truth: {CONVERTED}",
    "Vertex AI": f"of Google's Vertex AI: {CONVERTED}",
    "Azure": "of Azure Machine Learning: choose COCO as the format of the export there",
    "Hugging Face": f"the metadata of a data set of Hugging Face: {BY_PYTHON}",
    "Arrow": f"a table in Arrow, as save_to_disk of Hugging Face's datasets writes it: {BY_PYTHON}",
    "Parquet": f"a table in Parquet, as Hugging Face keeps data sets: {BY_PYTHON}",
    "WebDataset": f"of the image beside it, in no form that is read, as WebDataset's shards hold labels: {CONVERTED}",
    "TFRecord": "of TensorFlow: export it as COCO JSON (Roboflow: Download > COCO), YOLO or Pascal VOC instead",
    "ODVG": f"of Grounding DINO (ODVG), which is made from COCO: give that, or {CONVERTED}",
    "odgt": f"of CrowdHuman (odgt): {CONVERTED}",
    "Scale": f"of Scale: {CONVERTED}",
    "BDD": "of BDD100K or Scalabel: turn it into COCO with `python -m bdd100k.label.to_coco`",
    "Cityscapes": f"of Cityscapes: {CONVERTED}",
    "FiftyOne": "the own format of FiftyOne: export it as fiftyone.types.COCODetectionDataset",
    "Ultralytics": "of Ultralytics' platform, a value a line: turn it into YOLO with convert_ndjson_to_yolo of "
    "ultralytics.data.converter, which fetches the images",
    "MMDetection": f"the own format of MMDetection: {CONVERTED}",
    "KITTI tracking": f"of KITTI's tracking, a file a sequence: {CONVERTED}, or KITTI's detection, a file an image",
    "OIDv4": f"of OIDv4_ToolKit, corners in pixels: {CONVERTED}",
    "panoptic": "COCO of panoptic segmentation: give instances_*.json, which holds the boxes",
    "VisDrone": "of VisDrone: turn it into YOLO with the script in Ultralytics' VisDrone.yaml",
    "MOT": "of MOTChallenge, a box a line: export the task as COCO or YOLO from the tool that wrote it",
    "WIDER": f"of WIDER FACE: turn it into COCO {BY_DATUMARO.format('wider_face')}",
    "DOTA": "of DOTA, turned boxes: export upright ones as COCO, YOLO or Pascal VOC",
    "colours": "of masks in colours (CamVid, Cityscapes, KITTI), which are not read: export boxes, or the masks' "
    "outlines as COCO",
    "ICDAR": "of ICDAR, boxes of text without classes: export COCO, YOLO or Pascal VOC from the tool that wrote it",
    "CSV": f"a table: {FROM_THERE}; where no tool wrote it, as on Kaggle, {TABLES} write it as COCO",
    "TXT": f"a list of images with their boxes: {FROM_THERE}; where no tool wrote it, {TABLES} write it as COCO",
    "MATLAB": f"of MATLAB, which scipy.io.loadmat reads: {CONVERTED}",
    "GeoJSON": f"GeoJSON, as of xView: {CONVERTED}",
    "Edge Impulse": f"of Edge Impulse: {CONVERTED}",
    "TT100K": f"of TT100K: {CONVERTED}",
    "NWPU": f"of NWPU VHR-10, a box a line, as two corners and a class: {CONVERTED}",
    "bbGt": f"of Piotr's toolbox (bbGt), as ExDark has them, x, y, width and height: {CONVERTED}",
}
COCO = {"images", "file_name", "category_id"}
BY_SUFFIX = {
    ".datum": "Datumaro's binary",
    ".arrow": "Arrow",
    ".parquet": "Parquet",
    ".tfrecord": "TFRecord",
    ".record": "TFRecord",
    ".mat": "MATLAB",
    ".geojson": "GeoJSON",
}
NO_TEXT = (
    *READ_SUFFIXES,
    *UNREAD,
    *ARCHIVES,
    ".yaml",
    ".yml",
    ".md",
    ".py",
    ".html",
    ".pdf",
    ".xml",
    ".names",
)
ABOUT = re.compile(r"(^|/)(read_?me|licen[cs]e|classes|labels|requirements)[^/]*$", re.IGNORECASE)
BEGIN = 80  # characters of a line
SHARD = re.compile(r"\.(tfrecord|record)-\d+-of-\d+$")
LINES = (".jsonl", ".ndjson", ".odgt", ".manifest")  # JSON, a value a line
SUFFIXES = (".xml", ".json", *LINES, ".csv", ".labels", *BY_SUFFIX, ".txt")
# By keys that a tool alone writes; none of them is told of a file that has COCO's images.
BY_KEYS: tuple[tuple[str, set[str]], ...] = (
    ("Label Studio", {"rectanglelabels", "original_width"}),
    ("Labelbox", {"data_row", "projects"}),
    ("SuperAnnotate", {"metadata", "instances"}),
    ("Encord", {"label_hash", "data_units"}),
    ("Darwin", {"item", "slots", "annotations"}),
    ("SageMaker", {"source-ref"}),
    ("Vertex AI", {"imageGcsUri"}),
    ("Azure", {"image_url", "label", "topX"}),
    ("ODVG", {"detection", "instances"}),
    ("odgt", {"gtboxes"}),
    ("Scale", {"task_id", "response"}),
    ("BDD", {"labels", "box2d"}),
    ("Cityscapes", {"imgHeight", "imgWidth", "objects"}),
    ("FiftyOne", {"samples", "filepath"}),
    ("FiftyOne", {"classes", "labels", "bounding_box"}),
    ("Detectron2", {"file_name", "bbox_mode"}),
    ("Hugging Face", {"file_name", "objects"}),
    ("Ultralytics", {"task", "class_names"}),
    ("MMDetection", {"filename", "ann", "bboxes"}),
    ("MMDetection", {"data_list", "instances"}),
    ("VIA", {"attribute", "aname"}),
    ("TT100K", {"imgs", "objects", "category"}),
)
MASKS = ("segmentationobject", "segmentationclass", "instance", "semantic")  # folders of Pascal VOC and KITTI
TURNED = "labeltxt"  # the folder of DOTA's labels, whatever their classes are called
COLOURS = "label_colors.txt"  # of masks
HUGGING_FACE = re.compile(r"(?:[^\n]*[,\"])?file_name[\",\r\n]")  # the first line of its metadata.csv
# Texts of boxes by their first lines.
BY_LINES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("VisDrone", re.compile(r"(?:-?\d+,){7}-?\d+,?(?:\n|\Z)")),
    ("MOT", re.compile(r"\d+,-?\d+(?:,-?\d+(?:\.\d+)?){5,8}(?:\n|\Z)")),
    ("DOTA", re.compile(r"imagesource:|(?:-?\d+(?:\.\d+)? ){8}[A-Za-z][\w-]* [012](?:\n|\Z)")),
    ("WIDER", re.compile(r"\S.*\.(?:jpe?g|png)\n\d+\n(?:-?\d+(?:\.\d+)? ){4}(?:\S+ ){5}\S.*(?:\n|\Z)")),
    ("KITTI tracking", re.compile(r"\d+ -?\d+ \D\S* (?:-?\d+(?:\.\d+)? ){13}-?\d+(?:\.\d+)? *(?:\n|\Z)")),
    ("OIDv4", re.compile(r"[A-Za-z][^\d\n]*(?: \d+\.\d{6}){4} *(?:\n|\Z)")),
    (
        "ICDAR",
        re.compile(
            r"(?:-?\d+, ?){8}\D|(?!0?\.)(?:-?\d+(?:\.\d+)? ){3}-?\d+(?:\.\d+)?(?: \"[^\n]*)? *(?:\n|\Z)"
        ),
    ),
    ("NWPU", re.compile(r"\( *\d+, *\d+\),\( *\d+, *\d+\),\d+")),
    ("bbGt", re.compile(r"% bbGt version")),
    ("TXT", re.compile(r"[^;\n]+\.\w{3,4}(?:;\d+){4};\S+")),  # of GTSDB
    ("VIA", re.compile(r"\S*filename,.*region_shape_attributes")),
    (
        "Label Studio",
        re.compile(r"(?=.*\bannotator\b)(?=.*\bannotation_id\b|.*\blabel\b)\w+(?:,\w+)+(?:\n|\Z)"),
    ),
)
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
    if turned := next((f for f in tree.folders if f.rpartition("/")[2].casefold() == TURNED), ""):
        return f"; {turned} is {ADVICE['DOTA']}"
    for suffix in SUFFIXES:
        files = sorted(
            tree.files(suffix), key=lambda below: "annotations" not in below.rsplit("/", 1)[-1].lower()
        )
        for below in files[:LOOKED_AT]:
            if tool := tool_of(tree.path(below)):
                return f"; {below} is {ADVICE[tool]}"
    if shard := next((below for below in tree.files("") if SHARD.search(below.lower())), ""):
        return f"; {shard} is {ADVICE['TFRecord']}"
    if below := _beside_its_image(tree):
        return f"; {below} is {ADVICE['WebDataset']}"
    masks = next((f for f in tree.folders if f.rpartition("/")[2].casefold() in MASKS), "")
    return (
        f"; {masks} holds masks, which are not read: export boxes, or the masks' outlines as COCO"
        if masks
        else ""
    )


def how_it_begins(tree: Tree) -> str:
    """The first text that may hold annotations, in a form that nothing is known of: "; annotations may be in x.dat,
    which begins so: ..."; or of an archive that is not read; or nothing."""
    if packed := next(tree.files(".7z", ".rar"), ""):
        return f"; {packed} is an archive of a kind that is not read: unpack it"
    for below in islice((f for f in tree.files("") if not f.lower().endswith(NO_TEXT)), LOOKED_AT):
        line = next(iter(head_of(tree.path(below)).strip().splitlines()), "")[:BEGIN]
        if line.startswith("<annotation"):
            return f"; {below} looks like Pascal VOC labels without a suffix: call such files .xml"
        if line and line.isprintable() and "\ufffd" not in line and not ABOUT.search(below):
            return f"; annotations may be in {below}, which begins so: {line!r}; {CONVERTED.replace(' it ', ' them ')}"
    return ""


def _beside_its_image(tree: Tree) -> str:
    """The first file of JSON or of a class alone that is called as an image beside it is; "" where there is none."""
    stems = {image.rpartition(".")[0] for image in tree.images}
    twins = [below for below in tree.files(".cls", ".json") if below.rpartition(".")[0] in stems]
    return next((below for below in twins[:LOOKED_AT] if '"images"' not in head_of(tree.path(below))), "")


def tool_of(path: Path) -> str:
    """The tool, of ADVICE, in whose own format a file is, told by its beginning; "" for another."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or not path.is_file():
        return ""
    text = head_of(path)
    if suffix == ".arrow" and "datumaro" in text:
        return "Datumaro's Arrow"
    if suffix in BY_SUFFIX:
        return BY_SUFFIX[suffix]
    if suffix == ".xml":
        return _of_xml(text)
    if suffix == ".labels":
        return "Edge Impulse" if '"boundingBoxes"' in text else ""
    if path.name.lower() == "metadata.csv" and HUGGING_FACE.match(text.lstrip("\ufeff")):
        return "Hugging Face"
    if path.name.lower() == COLOURS:
        return "colours"
    return _of_json(text) if suffix in (".json", *LINES) else _of_lines(text)


def head_of(path: Path, errors: str = "replace") -> str:
    """The beginning of a file, "" of one that cannot be read; `errors` as `bytes.decode` has it."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD).decode(errors=errors)
    except OSError:
        return ""


def _of_lines(head: str) -> str:
    begin = head.lstrip("\ufeff \r\n\t").replace("\r\n", "\n")
    if tool := next((tool for tool, pattern in BY_LINES if pattern.match(begin)), ""):
        return tool
    first = next((line for line in head.lstrip("\ufeff").splitlines() if line.strip()), "").strip()
    columns = {name.strip().strip('"').casefold() for name in re.split("[,;\t]", first)}
    if (columns & LEFT and columns & BESIDE and len(columns) > 2) or ROW.fullmatch(first):
        return "CSV"
    return "TXT" if LISTED.fullmatch(first) else ""


def _of_xml(head: str) -> str:
    root = XML_ROOT.search(re.sub(r"<[?!][^>]*>", "", head))
    if root and root[1] == "annotation" and "<polygon" in head and "<bndbox" not in head:
        return "LabelMe XML"
    return "CVAT" if root and root[1] == "annotations" else ""


def _of_json(head: str) -> str:
    start, keys = head.lstrip("\ufeff \r\n\t")[:1], set(re.findall(r'"([\w-]+)"\s*:', head))
    if "segments_info" in keys:
        return "panoptic"
    if "images" not in keys and (tool := next((tool for tool, own in BY_KEYS if keys >= own), "")):
        return tool
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
