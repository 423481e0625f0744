import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

from model.coco_metrics import NAMES, CocoMetrics
from model.data.coco import CocoData


def random_data(seed: int, images: int = 30) -> CocoData:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 8, images)
    total = int(counts.sum())
    xy, wh = random.uniform(0, 300, (total, 2)), random.uniform(4, 200, (total, 2))
    return CocoData(
        files=[Path(f"{i}.png") for i in range(images)],
        image_ids=np.arange(10, 10 + images),
        sizes=np.full((images, 2), 512, dtype=np.int32),
        starts=np.concatenate([[0], np.cumsum(counts)]),
        boxes_xywh_px=np.concatenate([xy, wh], 1).astype(np.float32),
        labels=random.choice([1, 3, 7], total),
        crowd=random.random(total) < 0.05,
        areas=wh.prod(1).astype(np.float32),
        categories=[{"id": i, "name": str(i)} for i in (1, 3, 7)],
        source=np.zeros(images, dtype=np.int16),
    )


def noisy_predictions(data: CocoData, seed: int) -> list[dict]:
    random = np.random.default_rng(seed)
    found = []
    for i in range(len(data)):
        rows = slice(data.starts[i], data.starts[i + 1])
        boxes = np.repeat(data.boxes_xywh_px[rows], 2, axis=0) * random.uniform(
            0.8, 1.2, (2 * (rows.stop - rows.start), 4)
        )
        labels = np.where(random.random(len(boxes)) < 0.8, np.repeat(data.labels[rows], 2), 3)
        scores = random.integers(1, 20, len(boxes)) / 20  # with ties
        xyxy = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        found.append(
            {"image_id": int(data.image_ids[i]), "scores": scores, "labels": labels, "boxes_xyxy_px": xyxy}
        )
    return found


@pytest.mark.parametrize("class_ids", [None, [1], [3, 7]])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_twelve_numbers_equal_pycocotools(seed: int, class_ids: list[int] | None) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data = random_data(seed)
    metrics = CocoMetrics(data, class_ids)
    metrics.update(noisy_predictions(data, seed))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = data.ground_truth()
        truth.createIndex()
        reference = COCOeval(truth, truth.loadRes(metrics.results()), "bbox")
        if class_ids:
            reference.params.catIds = class_ids
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    scores = metrics.compute()
    assert [scores[name] for name in NAMES] == pytest.approx(reference.stats.tolist(), abs=1e-9)
    assert np.mean([v for v in scores["per_class"].values() if v >= 0]) == pytest.approx(
        scores["mAP"], abs=1e-9
    )


def test_perfect_predictions_score_one_and_none_score_zero() -> None:
    data = random_data(5)
    metrics = CocoMetrics(data)
    assert metrics.compute()["mAP"] == 0.0
    boxes = data.boxes_xywh_px
    xyxy = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    for i, (a, b) in enumerate(zip(data.starts[:-1], data.starts[1:], strict=True)):
        metrics.update(
            [
                {
                    "image_id": data.image_ids[i],
                    "scores": np.ones(b - a),
                    "labels": data.labels[a:b],
                    "boxes_xyxy_px": xyxy[a:b],
                }
            ]
        )
    assert metrics.compute()["mAP"] == pytest.approx(1.0)


def test_an_image_counts_once() -> None:
    data = random_data(3)
    once, twice = CocoMetrics(data), CocoMetrics(data)
    predictions = noisy_predictions(data, 3)
    once.update(predictions)
    twice.update(predictions + predictions)
    assert once.compute() == twice.compute()
