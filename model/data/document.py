"""One COCO annotation file as columns: what `documents.read` gives."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from model.data.problems import shown

# Of the boxes, beside their owner.
COLUMNS = ("category", "boxes_xywh_px", "areas", "crowd", "rows", "outlined")


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
    rows: np.ndarray  # [T] int64, places among the annotations of documents.as_it_is
    annotation_ids: list[Any]  # [T], or a Place, for messages
    categories: list[dict[str, Any]]  # [{"id", "name"}], in the order of the file
    mended: dict[str, int]  # what was put right -> how often
    outlined: np.ndarray  # [T] bool, see coco_boxes.outlined
    placeholder: str = ""  # the name of a category 0 that stood above the others and is left out

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def counts(self) -> np.ndarray:
        """[T] bool: the boxes that are trained on and scored, which crowds are not."""
        return ~self.crowd

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
        ids = [self.annotation_ids[n] for n in np.flatnonzero(keep)]
        return replace(
            self, annotation_ids=ids, **{name: getattr(self, name)[keep] for name in ("owner", *COLUMNS)}
        )

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
