"""COCO annotation files as compact arrays. The only home of ids and labels: a label *is* the category id.

A file is parsed once. Its arrays are kept in the cache as plain .npy files, which every trial and every loader
process maps into memory: they hold one copy together, however many they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from model.data.layout_coco import without_placeholder
from model.data.paths import find_image
from model.data.sources import cache_dir, digest, once, stage, stage_file
from model.errors import UserError

CACHE_FORMAT = 1  # of the arrays on disk; another number, another place


@dataclass(frozen=True)
class CocoData:
    """N images and T boxes. Boxes of image i are rows `starts[i]:starts[i + 1]` of the box arrays."""

    files: np.ndarray  # [N] bytes, paths
    image_ids: np.ndarray  # [N] int64
    sizes: np.ndarray  # [N, 2] int32, (H, W) px
    starts: np.ndarray  # [N + 1] int64
    boxes_xywh_px: np.ndarray  # [T, 4] float64, as in the file
    labels: np.ndarray  # [T] int64, category ids
    crowd: np.ndarray  # [T] bool
    areas: np.ndarray  # [T] float64, px^2
    categories: list[dict[str, Any]]  # [{"id", "name"}], by id
    source: np.ndarray  # [N] int16, which of several sources an image is from

    def __len__(self) -> int:
        return len(self.files)

    def file(self, index: int) -> Path:
        return Path(os.fsdecode(self.files[index]))

    def ground_truth(self) -> dict[str, Any]:
        """As a COCO document, for the metrics."""
        images = [
            {"id": int(i), "height": int(h), "width": int(w), "file_name": self.file(n).name}
            for n, (i, (h, w)) in enumerate(zip(self.image_ids, self.sizes, strict=True))
        ]
        owner = np.repeat(self.image_ids, np.diff(self.starts))
        annotations = [
            {
                "id": n + 1,
                "image_id": int(owner[n]),
                "category_id": int(self.labels[n]),
                "bbox": [float(v) for v in self.boxes_xywh_px[n]],
                "area": float(self.areas[n]),
                "iscrowd": int(self.crowd[n]),
            }
            for n in range(len(self.labels))
        ]
        return {"info": {}, "images": images, "annotations": annotations, "categories": self.categories}


def read_json(path: str | Path) -> dict[str, Any]:
    """A COCO document. Raises `UserError` naming file, line and column, or the section that is missing."""
    path = stage_file(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such annotation file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); is the file whole?") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: a COCO file must be an object, but got {type(document).__name__}")
    for section in ("images", "annotations", "categories"):
        if not isinstance(document.get(section), list):
            raise UserError(f"{path}: a COCO file must have a list '{section}'")
    return without_placeholder(document)


def load_sources(sources: Sequence[Mapping[str, str]], kind: str = "serialized") -> CocoData:
    """Several sources as one dataset, images in the files' order; image ids that clash are numbered anew from 1.
    Data that are seen for the first time are checked (`model.data.check`), and refused when damaged.

    `kind` is a dataset.dataset_type: serialized arrays are mapped from the cache, those of default lie in the memory
    of each process.
    """
    found = [(stage_file(s["json_file"]), stage(s["image_dir"])) for s in sources if s.get("json_file")]
    if not found:
        raise UserError("no data source has a json_file")
    for path, _ in found:
        if not path.is_file():
            raise UserError(f"{path}: no such annotation file")
    places = [[digest(path), str(folder.resolve()), (folder / "images").is_dir()] for path, folder in found]
    key = json.dumps([CACHE_FORMAT, *places])
    target = cache_dir() / "annotations" / hashlib.sha256(key.encode()).hexdigest()[:32]

    def make(partial: Path) -> None:
        from model.data.check import refuse_damaged

        documents = [(path, read_json(path), folder) for path, folder in found]
        refuse_damaged(documents)
        _write(_join([_parse(d, folder, n) for n, (_, d, folder) in enumerate(documents)]), partial)

    return _read(once(target, make), shared=kind == "serialized")


def _parse(document: Mapping[str, Any], folder: Path, source: int) -> CocoData:
    """One source."""
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for annotation in document["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    images = document["images"]
    ordered = [by_image.get(image["id"], []) for image in images]
    flat = [a for group in ordered for a in group]
    paths = [os.fsencode(find_image(folder, image["file_name"])) for image in images]
    return CocoData(
        files=np.array(paths, dtype=np.bytes_),
        image_ids=np.array([image["id"] for image in images], dtype=np.int64),
        sizes=np.array([(i["height"], i["width"]) for i in images], dtype=np.int32).reshape(-1, 2),
        starts=np.concatenate([[0], np.cumsum([len(group) for group in ordered])]).astype(np.int64),
        boxes_xywh_px=np.array([a["bbox"] for a in flat], dtype=np.float64).reshape(-1, 4),
        labels=np.array([a["category_id"] for a in flat], dtype=np.int64),
        crowd=np.array([bool(a.get("iscrowd", 0)) for a in flat], dtype=bool),
        areas=np.array([a.get("area", a["bbox"][2] * a["bbox"][3]) for a in flat], dtype=np.float64),
        categories=sorted(
            ({"id": c["id"], "name": c["name"]} for c in document["categories"]), key=lambda c: c["id"]
        ),
        source=np.full(len(images), source, dtype=np.int16),
    )


ARRAYS = tuple(field.name for field in fields(CocoData) if field.name != "categories")


def _write(data: CocoData, folder: Path) -> None:
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(data, name), allow_pickle=False)
    (folder / "categories.json").write_text(json.dumps(data.categories))


def _read(folder: Path, shared: bool) -> CocoData:
    arrays = {}
    for name in ARRAYS:
        array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        arrays[name] = array if shared else np.array(array)
    return CocoData(**arrays, categories=json.loads((folder / "categories.json").read_text()))


def _join(parts: list[CocoData]) -> CocoData:
    if len(parts) == 1:
        return parts[0]
    ids = np.concatenate([p.image_ids for p in parts])
    if len(np.unique(ids)) < len(ids):
        ids = np.arange(1, len(ids) + 1)
    counts = np.concatenate([np.diff(p.starts) for p in parts])
    names = {c["id"]: c for p in reversed(parts) for c in p.categories}
    return CocoData(
        files=np.concatenate([p.files for p in parts]),
        image_ids=ids,
        sizes=np.concatenate([p.sizes for p in parts]),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes_xywh_px=np.concatenate([p.boxes_xywh_px for p in parts]),
        labels=np.concatenate([p.labels for p in parts]),
        crowd=np.concatenate([p.crowd for p in parts]),
        areas=np.concatenate([p.areas for p in parts]),
        categories=[names[i] for i in sorted(names)],
        source=np.concatenate([p.source for p in parts]),
    )
