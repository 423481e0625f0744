"""COCO's twelve numbers and each class's AP, for detections and a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from model.coco_evaluation import IOU_THRESHOLDS, Boxes, Evaluation, evaluate
from model.data.classes import not_categories, outside_id, written_ids
from model.data.coco import CocoData
from model.errors import UserError

NAMES = (
    "mAP", "mAP50", "mAP75", "mAP_small", "mAP_medium", "mAP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip


class CocoMetrics:
    """Collects predictions, then scores them against `data`; with `class_ids`, only those categories count (None or
    empty: all).

    Predictions of one image may come twice (a distributed sampler repeats some); the first counts.
    """

    def __init__(self, data: CocoData, class_ids: Sequence[int] | None = None) -> None:
        self.data, self.class_ids = data, check_class_ids(data, class_ids)
        self.found: dict[int, dict[str, np.ndarray]] = {}

    def update(self, predictions: Sequence[dict[str, Any]]) -> None:
        """Each: {"image_id", "scores" [N], "labels" [N], "boxes_xyxy_px" [N, 4]}, arrays or tensors on the CPU."""
        for prediction in predictions:
            arrays = {n: np.asarray(prediction[n]) for n in ("scores", "labels", "boxes_xyxy_px")}
            self.found.setdefault(int(prediction["image_id"]), arrays)

    def results(self) -> list[dict[str, Any]]:
        """The predictions as a COCO results list (boxes xywh px), with the ids that each image's own annotation file
        has; without those of a class that it lacks while its id is another class's there."""
        rows, images = [], self.data.outside_image_ids()
        source = dict(zip(self.data.image_ids.tolist(), self.data.source.tolist(), strict=True))
        labels_found = {int(n) for each in self.found.values() for n in each["labels"]}
        listed = self.data.listed or [()] * (1 + max(source.values(), default=0))
        written = [written_ids(self.data.categories, each, labels_found) for each in listed]
        for image_id, prediction in self.found.items():
            categories = written[source[image_id]]
            boxes = xyxy_to_xywh(prediction["boxes_xyxy_px"]).tolist()
            scores = prediction["scores"].astype(np.float64).tolist()
            labels = prediction["labels"].tolist()
            rows += [
                {
                    "image_id": images.get(image_id, image_id), "category_id": categories[label],
                    "bbox": box, "score": score,
                }
                for label, box, score in zip(labels, boxes, scores, strict=True)
                if label in categories
            ]  # fmt: skip
        return rows

    def compute(self) -> dict[str, Any]:
        """The twelve numbers (0-1, -1 where nothing of that size is annotated) and "per_class": {id: AP}."""
        return summarise(self.evaluate(), self.categories())

    def categories(self) -> list[int]:
        """The ids that count, rising."""
        return self.class_ids or sorted(int(c["id"]) for c in self.data.categories)

    def evaluate(self) -> Evaluation:
        """Raises `UserError` for a prediction of an image that the dataset lacks."""
        images, categories = np.unique(self.data.image_ids), np.array(self.categories(), dtype=np.int64)
        owner = np.repeat(self.data.image_ids, np.diff(self.data.starts))
        rows = np.isin(self.data.labels, categories)
        truth = _boxes(owner, self.data.labels, self.data.boxes_xywh_px, rows, images, categories)
        strangers = np.setdiff1d(np.fromiter(self.found, np.int64, len(self.found)), images)
        if len(strangers):
            raise UserError(f"predictions of images {strangers[:5].tolist()}, which the annotations lack")
        owner = np.repeat(list(self.found), [len(p["scores"]) for p in self.found.values()])
        scores, labels, boxes = (
            np.concatenate([p[name] for p in self.found.values()] or [np.zeros(shape)])
            for name, shape in (("scores", (0,)), ("labels", (0,)), ("boxes_xyxy_px", (0, 4)))
        )
        kept = np.isin(labels, categories)
        found = _boxes(owner, labels.astype(np.int64), xyxy_to_xywh(boxes), kept, images, categories)
        areas, crowd = self.data.areas[rows].astype(np.float64), np.asarray(self.data.crowd[rows])
        return evaluate(truth, areas, crowd, found, scores[kept].astype(np.float64), len(categories))


def check_class_ids(data: CocoData, class_ids: Sequence[int] | None) -> list[int] | None:
    """The labels of these category ids, sorted, None for all. Raises `UserError` for one that is no category of the
    data."""
    if wrong := not_categories(data.categories, class_ids):
        raise UserError(wrong)
    return (
        sorted({int(c["id"]) for c in data.categories if outside_id(c) in class_ids}) if class_ids else None
    )


def summarise(evaluation: Evaluation, categories: Sequence[int]) -> dict[str, Any]:
    """As `CocoMetrics.compute` returns."""
    precision, recall = evaluation.precision, evaluation.recall
    iou75 = int(np.argmin(abs(IOU_THRESHOLDS - 0.75)))
    parts = (
        precision[..., 0], precision[0, ..., 0], precision[iou75, ..., 0],
        precision[..., 1], precision[..., 2], precision[..., 3],
        recall[:, :, 0, 0], recall[:, :, 0, 1], recall[:, :, 0, 2],
        recall[:, :, 1, 2], recall[:, :, 2, 2], recall[:, :, 3, 2],
    )  # fmt: skip
    per_class = {c: aps["AP"] for c, aps in zip(categories, summarise_classes(evaluation), strict=True)}
    return {name: _mean(part) for name, part in zip(NAMES, parts, strict=True)} | {"per_class": per_class}


def summarise_classes(evaluation: Evaluation) -> list[dict[str, float]]:
    """{"AP", "AP50"} of each class; -1 where the class has no object."""
    of_class = np.moveaxis(evaluation.precision[..., 0], 2, 0)  # [K, T, R]
    return [{"AP": _mean(values), "AP50": _mean(values[0])} for values in of_class]


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """[N, 4] -> [N, 4] float64."""
    boxes = boxes.astype(np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _boxes(
    owner: np.ndarray, labels: np.ndarray, xywh: np.ndarray, rows: np.ndarray, images: np.ndarray,
    categories: np.ndarray,
) -> Boxes:  # fmt: skip
    return Boxes(
        np.searchsorted(images, owner[rows]).astype(np.int64),
        np.searchsorted(categories, labels[rows]),
        np.asarray(xywh[rows], dtype=np.float64),
    )


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0
