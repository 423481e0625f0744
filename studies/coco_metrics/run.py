"""How fast the twelve COCO numbers are, beside pycocotools and faster-coco-eval, from the same detections and with
equal results. Writes results.json.

    python studies/coco_metrics/run.py [--images 5000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.coco_metrics import NAMES, CocoMetrics
from model.data.coco import CocoData
from studies.machine import describe
from tests.model.coco_document import ground_truth

CLASSES, DETECTIONS, OBJECTS = 80, 100, 7.3  # COCO val2017 has 7.3 objects an image


def dataset(images: int) -> CocoData:
    random = np.random.default_rng(0)
    counts = random.poisson(OBJECTS, images)
    total = int(counts.sum())
    wh = np.exp(random.uniform(np.log(8), np.log(400), (total, 2)))
    xy = random.uniform(0, 1, (total, 2)) * (640 - wh).clip(1)
    return CocoData(
        files=np.array([f"{i}.jpg".encode() for i in range(images)]),
        image_ids=np.arange(1, images + 1),
        sizes=np.full((images, 2), 640, dtype=np.int32),
        starts=np.concatenate([[0], np.cumsum(counts)]),
        boxes_xywh_px=np.concatenate([xy, wh], 1),
        labels=random.integers(1, CLASSES + 1, total),
        crowd=random.random(total) < 0.01,
        areas=wh.prod(1) * random.uniform(0.5, 1.0, total),
        categories=[{"id": i, "name": str(i)} for i in range(1, CLASSES + 1)],
        source=np.zeros(images, dtype=np.int16),
    )


def detections(data: CocoData) -> list[dict[str, Any]]:
    """Each object found up to three times, jittered, in its class or another; the rest of the 100 are noise."""
    random = np.random.default_rng(1)
    found = []
    for i in range(len(data)):
        rows = slice(data.starts[i], data.starts[i + 1])
        near = np.repeat(data.boxes_xywh_px[rows], 3, 0)[:DETECTIONS]
        near = near * random.uniform(0.85, 1.15, near.shape)
        far = np.concatenate(
            [random.uniform(0, 400, (DETECTIONS, 2)), random.uniform(8, 200, (DETECTIONS, 2))], 1
        )
        boxes = np.concatenate([near, far])[:DETECTIONS]
        labels = random.integers(1, CLASSES + 1, DETECTIONS)
        same = np.repeat(data.labels[rows], 3)[:DETECTIONS]
        labels[: len(same)] = np.where(random.random(len(same)) < 0.8, same, labels[: len(same)])
        scores = np.round(random.random(DETECTIONS), 4)  # with ties
        xyxy = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        found.append({"image_id": i + 1, "scores": scores, "labels": labels, "boxes_xyxy_px": xyxy})
    return found


def ours(data: CocoData, found: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[float]:
    metrics = CocoMetrics(data)
    metrics.update(found)
    scores = metrics.compute()
    return [scores[name] for name in NAMES]


def with_api(coco: Any, evaluator: Any, truth: dict[str, Any], rows: list[dict[str, Any]]) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        ground = coco()
        ground.dataset = truth
        ground.createIndex()
        evaluation = evaluator(ground, ground.loadRes([dict(row) for row in rows]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(v) for v in evaluation.stats[:12]]


def main(images: int, rounds: int) -> dict[str, Any]:
    from faster_coco_eval import COCO as FasterCOCO
    from faster_coco_eval import COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data = dataset(images)
    found = detections(data)
    collected = CocoMetrics(data)
    collected.update(found)
    rows, truth = collected.results(), ground_truth(data)
    ways: dict[str, Callable[[], list[float]]] = {
        "ours": lambda: ours(data, found, rows),
        "faster-coco-eval": lambda: with_api(FasterCOCO, COCOeval_faster, truth, rows),
        "pycocotools": lambda: with_api(COCO, COCOeval, truth, rows),
    }
    numbers: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            numbers[name] = way()
            seconds[name].append(round(time.perf_counter() - began, 3))
    differences = {
        name: max(abs(a - b) for a, b in zip(numbers[name], numbers["pycocotools"], strict=True))
        for name in ways
    }
    assert differences["ours"] <= 1e-9, differences
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "images": images, "detections_per_image": DETECTIONS, "classes": CLASSES, "objects": len(data.labels),
        "numbers": dict(zip(NAMES, numbers["ours"], strict=True)), "largest_difference_from_pycocotools": differences,
        "seconds": seconds, "times_as_fast_as_pycocotools":
            {name: round(medians["pycocotools"] / value, 1) for name, value in medians.items()},
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results = {"machine": describe(), **main(options.images, options.rounds)}
    text = json.dumps(results, indent=1)
    (Path(__file__).parent / "results.json").write_text(text + "\n")
    print(text)
