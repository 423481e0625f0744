import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

from model.coco_metrics import NAMES, CocoMetrics
from model.data.coco import CocoData
from model.errors import UserError
from tests.model.coco_document import ground_truth


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
        truth.dataset = ground_truth(data)
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


def rows_of(
    boxes: list[list[float]], scores: list[float], labels: list[int], image_id: int = 10
) -> dict[str, object]:
    xywh = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    return {
        "image_id": image_id,
        "scores": np.array(scores),
        "labels": np.array(labels),
        "boxes_xyxy_px": xyxy,
    }


def data_of(
    boxes: list[list[float]],
    labels: list[int],
    crowd: list[bool] | None = None,
    ids: tuple[int, ...] = (0, 5),
) -> CocoData:
    """All objects on image 10; image 11 is empty."""
    array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return CocoData(
        files=np.array(["a", "b"], dtype=np.bytes_), image_ids=np.array([10, 11]), sizes=np.full((2, 2), 512),
        starts=np.array([0, len(array), len(array)]), boxes_xywh_px=array, labels=np.array(labels, dtype=np.int64),
        crowd=np.array(crowd or [False] * len(array), dtype=bool), areas=array[:, 2:].prod(1),
        categories=[{"id": i, "name": str(i)} for i in ids], source=np.zeros(2, dtype=np.int16),
    )  # fmt: skip


def check(data: CocoData, found: list[dict], class_ids: list[int] | None = None) -> dict:
    """Our scores, after comparing them with pycocotools'."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    metrics = CocoMetrics(data, class_ids)
    metrics.update(found)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = ground_truth(data)
        truth.createIndex()
        reference = COCOeval(truth, truth.loadRes(metrics.results()), "bbox")
        if class_ids:
            reference.params.catIds = class_ids
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    scores = metrics.compute()
    assert [scores[name] for name in NAMES] == pytest.approx(reference.stats.tolist(), abs=1e-9)
    for k, category in enumerate(sorted(reference.params.catIds)):
        precision = reference.eval["precision"][:, :, k, 0, -1]
        wanted = precision[precision > -1].mean() if (precision > -1).any() else -1.0
        assert scores["per_class"][category] == pytest.approx(wanted, abs=1e-9)
    return scores


SMALL, LARGE = [10.0, 10.0, 20.0, 20.0], [100.0, 100.0, 200.0, 200.0]


def test_id_zero_sizes_that_are_not_there_and_classes_without_objects() -> None:
    scores = check(data_of([SMALL], [0]), [rows_of([SMALL, LARGE], [0.9, 0.8], [0, 5])])
    assert scores["mAP"] == pytest.approx(1.0)
    assert scores["mAP_small"] == pytest.approx(1.0)
    assert scores["mAP_large"] == -1.0
    assert scores["per_class"] == {0: pytest.approx(1.0), 5: -1.0}


def test_a_crowd_takes_any_number_of_detections_and_costs_nothing() -> None:
    data = data_of([SMALL, LARGE], [0, 0], [False, True])
    inside = [[110.0 + 5 * i, 110.0, 60.0, 60.0] for i in range(5)]
    scores = check(data, [rows_of([*inside, SMALL], [0.9] * 5 + [0.5], [0] * 6)])
    assert scores["mAP"] == pytest.approx(1.0)


def test_detections_on_an_empty_image_and_of_no_object_are_false_positives() -> None:
    data = data_of([SMALL], [0])
    wrong = rows_of([LARGE], [0.95], [0], image_id=11)
    assert check(data, [rows_of([SMALL], [0.9], [0]), wrong])["mAP"] == pytest.approx(0.5)


def test_more_than_a_hundred_detections_and_equal_scores() -> None:
    """The hit comes after a hundred others of the same score, in the order they were found."""
    boxes = [[200.0 + i, 300.0, 5.0, 5.0] for i in range(100)] + [SMALL]
    scores = check(data_of([SMALL], [0]), [rows_of(boxes, [0.5] * 101, [0] * 101)])
    assert scores["AR100"] == 0.0
    scores = check(data_of([SMALL], [0]), [rows_of(boxes[1:], [0.5] * 100, [0] * 100)])
    assert (scores["AR10"], scores["AR100"]) == (0.0, 1.0)


def test_overlaps_on_a_threshold_count_and_of_equal_overlaps_the_last_wins() -> None:
    data = data_of([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 20.0], [5.0, 0.0, 10.0, 10.0]], [0, 0, 0])
    check(data, [rows_of([[0, 0, 10, 20], [0, 0, 10, 10], [2.5, 0, 10, 10]], [0.9, 0.8, 0.7], [0, 0, 0])])
    half = check(data_of([[0.0, 0.0, 10.0, 10.0]], [0]), [rows_of([[0, 0, 10, 5]], [0.9], [0])])
    assert half["mAP50"] == pytest.approx(1.0)
    assert half["mAP"] == pytest.approx(0.1)


def test_class_ids_hide_the_others_and_unknown_ones_are_an_error() -> None:
    data = data_of([SMALL, LARGE], [0, 5])
    found = [rows_of([SMALL], [0.9], [0])]
    assert check(data, found, [0])["mAP"] == pytest.approx(1.0)
    assert check(data, found, [5])["mAP"] == 0.0
    assert check(data, found)["mAP"] == pytest.approx(0.5)
    with pytest.raises(UserError, match=r"\[1\] are no categories"):
        CocoMetrics(data, [1])


def test_nothing_found_is_zero_where_there_was_something_to_find() -> None:
    scores = CocoMetrics(data_of([SMALL], [0])).compute()
    assert (scores["mAP"], scores["AR100"], scores["mAP_large"]) == (0.0, 0.0, -1.0)
    assert CocoMetrics(data_of([], [])).compute()["mAP"] == -1.0


def test_a_prediction_of_an_unknown_image_is_an_error() -> None:
    metrics = CocoMetrics(data_of([SMALL], [0]))
    metrics.update([rows_of([SMALL], [0.9], [0], image_id=99)])
    with pytest.raises(UserError, match="99"):
        metrics.compute()
