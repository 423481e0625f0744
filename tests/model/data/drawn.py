"""One drawn dataset, and the ways in which tools write it to disk: names, folders and numbers as they do."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model.data.documents import as_it_is
from model.data.paths import find_images
from model.data.sources import stage
from model.data.tree import Data

NAMES = ("red car", "blue")
COUNTS = {"train": 6, "val": 3, "test": 2}
SIZE = (80, 60)


@dataclass(frozen=True)
class Picture:
    """A picture's name without suffix, and its objects: (class, x, y, w, h px)."""

    stem: str
    boxes: tuple[tuple[str, float, float, float, float], ...]

    @property
    def name(self) -> str:
        return f"{self.stem}.png"


Drawn = dict[str, list[Picture]]


def draw(folder: Path) -> Drawn:
    """Pictures in `folder`, all names different; the second of each split has no object. Boxes lie on quarters."""
    random = np.random.default_rng(5)
    folder.mkdir(parents=True)
    drawn: Drawn = {}
    for split, count in COUNTS.items():
        for n in range(count):
            stem = f"{split} {n}.v2" if n == 2 else f"{split}_{n}"
            Image.fromarray(random.integers(0, 255, (SIZE[1], SIZE[0], 3)).astype(np.uint8)).save(
                folder / f"{stem}.png"
            )
            boxes = [
                (
                    NAMES[int(random.integers(2))],
                    *(float(v) / 4 for v in random.integers((4, 4, 20, 20), (150, 120, 160, 110))),
                )
                for _ in range(0 if n == 1 else 2)
            ]
            drawn.setdefault(split, []).append(Picture(stem, tuple(boxes)))
    return drawn


def seen(data: Data) -> dict[str, dict[str, list[tuple[str, float, float, float, float]]]]:
    """{split: {stem of the picture that is really there: its boxes}} of what was found."""
    found: dict[str, dict[str, list[tuple[str, float, float, float, float]]]] = {}
    for split, sources in data.sources.items():
        for source in sources:
            document = as_it_is(source["json_file"])
            names = {c["id"]: c["name"] for c in document["categories"]}
            folder = stage(source["image_dir"])
            paths = find_images(folder, [image["file_name"] for image in document["images"]])
            for image, path in zip(document["images"], paths, strict=True):
                assert path.is_file(), path
                boxes = [
                    (names[a["category_id"]], *a["bbox"])
                    for a in document["annotations"]
                    if a["image_id"] == image["id"]
                ]
                found.setdefault(split, {})[path.stem] = boxes
    return found


def coco(pictures: list[Picture], name: Callable[[Picture], str] = lambda p: p.name, first: int = 1) -> dict:
    """A COCO document; category ids count from `first`."""
    images = [
        {"id": n, "file_name": name(p), "width": SIZE[0], "height": SIZE[1]}
        for n, p in enumerate(pictures, 1)
    ]
    annotations = [
        {
            "image_id": n,
            "category_id": NAMES.index(c) + first,
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for n, p in enumerate(pictures, 1)
        for c, *box in p.boxes
    ]
    for n, a in enumerate(annotations, 1):
        a["id"] = n
    categories = [{"id": n, "name": c, "supercategory": ""} for n, c in enumerate(NAMES, first)]
    return {"images": images, "annotations": annotations, "categories": categories}


def put(path: Path, content: str | dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def move(pictures: Path, root: Path, drawn: Drawn, place: str) -> None:
    """The pictures to `place`, in which {split} stands for the split."""
    for split, listed in drawn.items():
        folder = root / place.format(split=split)
        folder.mkdir(parents=True, exist_ok=True)
        for picture in listed:
            shutil.copy(pictures / picture.name, folder)


def every(drawn: Drawn) -> list[Picture]:
    return [picture for listed in drawn.values() for picture in listed]


# ---- the layouts; each writes to `root` ---------------------------------------------------------------------------


def ours(root: Path, pictures: Path, drawn: Drawn) -> None:
    move(pictures, root, drawn, "{split}/images")
    for split, listed in drawn.items():
        put(root / split / "annotations.json", coco(listed))


def standard(root: Path, pictures: Path, drawn: Drawn) -> None:
    move(pictures, root, drawn, "{split}2017")
    for split, listed in drawn.items():
        put(root / f"annotations/instances_{split}2017.json", coco(listed))
        put(
            root / f"annotations/captions_{split}2017.json",
            {"images": [{"file_name": "x"}], "annotations": []},
        )
        put(root / f"annotations/person_keypoints_{split}2017.json", coco(listed[:1]))


def standard_below_images(root: Path, pictures: Path, drawn: Drawn) -> None:
    move(pictures, root, drawn, "images/{split}2017")
    for split, listed in drawn.items():
        put(root / f"annotations/instances_{split}2017.json", coco(listed))


def roboflow(root: Path, pictures: Path, drawn: Drawn) -> None:
    for split, listed in drawn.items():
        place = {"val": "valid"}.get(split, split)
        move(pictures, root, {split: listed}, place)
        document = coco(listed)
        document["categories"] = [{"id": 0, "name": "shapes", "supercategory": "none"}] + [
            c | {"supercategory": "shapes"} for c in document["categories"]
        ]
        put(root / place / "_annotations.coco.json", document)
    put(root / "README.dataset.txt", "shapes")


def cvat(root: Path, pictures: Path, drawn: Drawn) -> None:
    move(pictures, root, drawn, "images")
    put(root / "annotations/instances_default.json", coco(every(drawn)))


def label_studio(root: Path, pictures: Path, drawn: Drawn) -> None:
    move(pictures, root, drawn, "images")
    for path in (root / "images").iterdir():
        path.rename(path.with_name(f"0a1b2c3d-{path.name}"))
    put(root / "result.json", coco(every(drawn), lambda p: f"images\\0a1b2c3d-{p.name}", first=0))


def fiftyone(root: Path, pictures: Path, drawn: Drawn) -> None:
    move(pictures, root, drawn, "{split}/data")
    for split, listed in drawn.items():
        put(root / split / "labels.json", coco(listed))


def one_file(root: Path, pictures: Path, drawn: Drawn) -> None:
    move(pictures, root, drawn, "photos")
    put(root / "boxes.json", coco(every(drawn)))


def yolo_lines(picture: Picture) -> str:
    lines = [
        f"{NAMES.index(c)} {(x + w / 2) / SIZE[0]:.6f} {(y + h / 2) / SIZE[1]:.6f} {w / SIZE[0]:.6f} {h / SIZE[1]:.6f}"
        for c, x, y, w, h in picture.boxes
    ]
    return "\n".join(lines)


def yolo(root: Path, pictures: Path, drawn: Drawn) -> None:
    """As Ultralytics wants it; no label file where there is no object."""
    move(pictures, root, drawn, "images/{split}")
    for split, listed in drawn.items():
        for picture in listed:
            if picture.boxes:
                put(root / f"labels/{split}/{picture.stem}.txt", yolo_lines(picture))
    put(
        root / "data.yaml",
        "path: ../datasets/shapes\ntrain: images/train\nval: images/val\ntest: images/test\nnames:\n  0: red car\n  1: blue\n",
    )


def yolo_roboflow(root: Path, pictures: Path, drawn: Drawn) -> None:
    for split, listed in drawn.items():
        place = {"val": "valid"}.get(split, split)
        move(pictures, root, {split: listed}, f"{place}/images")
        for picture in listed:
            put(root / place / f"labels/{picture.stem}.txt", yolo_lines(picture))
    put(
        root / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['red car', 'blue']\n",
    )


def yolo_lists(root: Path, pictures: Path, drawn: Drawn) -> None:
    """As CVAT exports YOLO 1.1: obj.data, lists of names below data/."""
    for split, listed in drawn.items():
        move(pictures, root, {split: listed}, f"obj_{split}_data")
        put(root / f"{split}.txt", "".join(f"data/obj_{split}_data/{p.name}\n" for p in listed))
        for picture in listed:
            put(root / f"obj_{split}_data/{picture.stem}.txt", yolo_lines(picture))
    put(root / "obj.names", "red car\nblue\n")
    lists = "".join(f"{split} = data/{split}.txt\n" for split in drawn)
    put(root / "obj.data", f"classes = 2\n{lists}names = data/obj.names\nbackup = backup/\n")


def voc_xml(picture: Picture, database: str = "Unknown", first: int = 0) -> str:
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = picture.name
    ET.SubElement(ET.SubElement(root, "source"), "database").text = database
    size = ET.SubElement(root, "size")
    for side, value in zip(("width", "height", "depth"), (*SIZE, 3), strict=True):
        ET.SubElement(size, side).text = str(value)
    for c, x, y, w, h in picture.boxes:
        node = ET.SubElement(root, "object")
        ET.SubElement(node, "name").text = c
        part = ET.SubElement(node, "part")  # of VOC's person layout
        ET.SubElement(part, "name").text = "head"
        ET.SubElement(ET.SubElement(part, "bndbox"), "xmin").text = "1"
        box = ET.SubElement(node, "bndbox")
        for corner, value in zip(
            ("xmin", "ymin", "xmax", "ymax"), (x + first, y + first, x + w, y + h), strict=True
        ):
            ET.SubElement(box, corner).text = str(value)
    return ET.tostring(root, "unicode")


def voc(root: Path, pictures: Path, drawn: Drawn) -> None:
    """As the challenge wrote it, from 1; the lists of one class stand beside those of the splits."""
    home = root / "VOCdevkit/VOC2012"
    move(pictures, home, drawn, "JPEGImages")
    for split, listed in drawn.items():
        put(home / f"ImageSets/Main/{split}.txt", "".join(f"{p.stem}\n" for p in listed))
        put(home / f"ImageSets/Main/blue_{split}.txt", "".join(f"{p.stem} -1\n" for p in listed))
        for picture in listed:
            put(home / f"Annotations/{picture.stem}.xml", voc_xml(picture, "The VOC2012 Database", 1))
    put(home / "ImageSets/Main/trainval.txt", "".join(f"{p.stem}\n" for p in drawn["train"] + drawn["val"]))


def voc_by_folder(root: Path, pictures: Path, drawn: Drawn) -> None:
    """As labelImg leaves it: files beside the images, edges from 0."""
    for split, listed in drawn.items():
        move(pictures, root, {split: listed}, split)
        for picture in listed:
            put(root / split / f"{picture.stem}.xml", voc_xml(picture))


def kitti(root: Path, pictures: Path, drawn: Drawn) -> None:
    for split, listed in drawn.items():
        move(pictures, root, {split: listed}, f"{split}/image_2")
        for picture in listed:
            lines = [
                f"{c} 0.0 0 -1 {x} {y} {x + w} {y + h} -1 -1 -1 -1 -1 -1 -1"
                for c, x, y, w, h in picture.boxes
            ]
            put(
                root / f"{split}/label_2/{picture.stem}.txt",
                "\n".join([*lines, "DontCare -1 -1 -10 1 1 5 5 -1 -1 -1 -1 -1 -1 -1"]),
            )


# layout -> (writer, what it is called, whether it keeps the splits)
LAYOUTS: dict[str, tuple[Callable[[Path, Path, Drawn], None], str, bool]] = {
    "ours": (ours, "COCO by split, 3 splits", True),
    "standard": (standard, "standard COCO, 3 splits", True),
    "standard below images": (standard_below_images, "standard COCO, 3 splits", True),
    "Roboflow": (roboflow, "Roboflow COCO export, 3 splits", True),
    "CVAT": (cvat, "CVAT COCO export, 1 split", False),
    "Label Studio": (label_studio, "Label Studio COCO export, 1 split", False),
    "FiftyOne": (fiftyone, "FiftyOne COCO export, 3 splits", True),
    "one file": (one_file, "COCO, 1 split", False),
    "YOLO": (yolo, "YOLO (data.yaml), 3 splits", True),
    "YOLO of Roboflow": (yolo_roboflow, "YOLO (data.yaml), 3 splits", True),
    "YOLO of CVAT": (yolo_lists, "YOLO (obj.data), 3 splits", True),
    "VOC": (voc, "Pascal VOC, 3 splits", True),
    "VOC by folder": (voc_by_folder, "Pascal VOC, 3 splits", True),
    "KITTI": (kitti, "KITTI, 3 splits", True),
}
