"""What a report shows of an evaluation: resampled scores, kinds of mistakes, pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model import error_types, resampling, review
from model.actions.evaluate import _write
from model.coco_metrics import CocoMetrics
from model.data.coco import load_sources
from model.error_types import (
    BACKGROUND,
    BOTH,
    CALLED,
    CONFUSED,
    FOUND,
    IGNORED,
    MISPLACED,
    MISSED,
    PLACED,
    RIGHT,
    TWICE,
)


def dataset(
    folder: Path, objects: list[tuple[int, int, tuple[float, ...], int]], images: int = 2, classes: int = 2
):
    """Images of 100x100; objects as (image id, category, xywh, crowd)."""
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    for n in range(1, images + 1):
        Image.new("RGB", (100, 100), (90, 120, 90)).save(folder / "images" / f"{n}.png")
    document = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 100, "height": 100} for n in range(1, images + 1)
        ],
        "annotations": [
            {
                "id": n + 1,
                "image_id": i,
                "category_id": c,
                "bbox": list(b),
                "area": b[2] * b[3],
                "iscrowd": crowd,
            }
            for n, (i, c, b, crowd) in enumerate(objects)
        ],
        "categories": [{"id": n, "name": f"class {n}"} for n in range(1, classes + 1)],
    }
    (folder / "annotations.json").write_text(json.dumps(document))
    source = {"json_file": str(folder / "annotations.json"), "image_dir": str(folder)}
    return load_sources([source])


def predicted(image_id: int, *rows: tuple[float, int, tuple[float, ...]]) -> dict:
    """rows: (score, label, xyxy)."""
    return {
        "image_id": image_id,
        "scores": np.array([r[0] for r in rows]),
        "labels": np.array([r[1] for r in rows], dtype=np.int64),
        "boxes_xyxy_px": np.array([r[2] for r in rows], dtype=float).reshape(-1, 4),
    }


def random_case(folder: Path, seed: int, images: int = 12, crowds: float = 0.1):
    """Objects and noisy detections of them, crowds among the objects."""
    random = np.random.default_rng(seed)
    objects, found = [], []
    for image in range(1, images + 1):
        rows = []
        for _ in range(int(random.integers(0, 6))):
            x, y, w, h = random.uniform(0, 60), random.uniform(0, 60), *random.uniform(8, 38, 2)
            label = int(random.integers(1, 4))
            objects.append((image, label, (x, y, w, h), int(random.random() < crowds)))
            for _ in range(int(random.integers(0, 3))):
                dx, dy = random.normal(0, 3, 2)
                said = label if random.random() < 0.8 else int(random.integers(1, 4))
                rows.append((float(random.random()), said, (x + dx, y + dy, x + dx + w, y + dy + h)))
        if rows:
            found.append(predicted(image, *rows))
    data = dataset(folder, objects or [(1, 1, (5, 5, 20, 20), 0)], images, classes=3)
    metrics = CocoMetrics(data)
    metrics.update(found)
    return metrics


@pytest.mark.parametrize("seed", range(6))
def test_each_image_drawn_once_is_the_evaluation_itself(seed: int, tmp_path: Path) -> None:
    metrics = random_case(tmp_path, seed)
    evaluation = metrics.evaluate()
    once = resampling.mean_ap(evaluation.matches, np.ones((1, 12), int), 3)
    assert once[0] == pytest.approx(metrics.compute()["mAP"], abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_an_image_drawn_never_is_an_image_left_out(seed: int, tmp_path: Path) -> None:
    """Against the evaluation of a dataset without those images."""
    metrics = random_case(tmp_path / "all", seed)
    weights = np.array([[1] * 6 + [0] * 6])
    half = resampling.mean_ap(metrics.evaluate().matches, weights, 3)[0]
    data = metrics.data
    rows = slice(0, int(data.starts[6]))
    owner = np.repeat(data.image_ids, np.diff(data.starts))
    objects = [
        (int(owner[n]), int(data.labels[n]), tuple(data.boxes_xywh_px[n].tolist()), int(data.crowd[n]))
        for n in range(rows.stop)
    ]
    smaller = CocoMetrics(dataset(tmp_path / "half", objects, 6, classes=3))
    smaller.update([{"image_id": i, **found} for i, found in metrics.found.items() if i <= 6])
    assert half == pytest.approx(smaller.compute()["mAP"], abs=1e-12)


def test_the_draws_follow_from_the_number_of_images() -> None:
    one, two = resampling.draws(17, 30), resampling.draws(17, 30)
    assert (one == two).all()
    assert (one.sum(axis=1) == 17).all()
    assert len(np.unique(one, axis=0)) == 30


def test_every_kind_of_mistake(tmp_path: Path) -> None:
    """One detection of each kind on one image, and what becomes of the objects."""
    data = dataset(
        tmp_path,
        [
            (1, 1, (0, 0, 20, 20), 0),  # found, and found twice
            (1, 1, (50, 0, 20, 20), 0),  # called class 2
            (1, 2, (0, 50, 20, 20), 0),  # badly placed
            (1, 2, (80, 80, 15, 15), 0),  # missed
            (1, 1, (40, 40, 30, 30), 1),  # a crowd
        ],
    )
    found = {
        1: predicted(
            1,
            (0.99, 1, (0, 0, 20, 20)),
            (0.98, 1, (1, 1, 20, 20)),
            (0.97, 2, (50, 0, 70, 20)),
            (0.96, 2, (10, 50, 30, 70)),
            (0.95, 1, (8, 58, 26, 76)),
            (0.94, 1, (45, 45, 60, 60)),
            (0.93, 2, (80, 30, 95, 45)),
            (0.10, 2, (80, 80, 95, 95)),  # below the threshold
        )
    }
    one = error_types.judge(data, found, [1, 2], 0.5)[0]
    assert one.kinds.tolist() == [RIGHT, TWICE, CONFUSED, MISPLACED, BOTH, IGNORED, BACKGROUND]
    assert one.fates.tolist() == [FOUND, CALLED, PLACED, MISSED]
    assert one.mistakes == 6
    table = error_types.confusion([one], [1, 2])
    assert table.tolist() == [[1, 1, 0], [0, 0, 2], [2, 2, 0]]
    assert error_types.counts([one])["missed"] == 1


@pytest.mark.parametrize("seed", range(8))
def test_every_object_and_every_detection_is_counted_once(seed: int, tmp_path: Path) -> None:
    metrics = random_case(tmp_path, seed)
    judged = error_types.judge(metrics.data, metrics.found, [1, 2, 3], 0.3)
    table = error_types.confusion(judged, [1, 2, 3])
    counted = sum(int((one.kinds != IGNORED).sum()) for one in judged)
    assert table[:, :3].sum() == counted
    assert table[:3].sum() == (~np.asarray(metrics.data.crowd)).sum()
    assert np.trace(table) == sum(int((one.kinds == RIGHT).sum()) for one in judged)
    fates = np.concatenate([one.fates for one in judged])
    assert np.trace(table) == (fates == FOUND).sum()
    assert table[:3, :3].sum() - np.trace(table) == (fates == CALLED).sum()
    assert table[:3, 3].sum() == np.isin(fates, (PLACED, MISSED)).sum()


def test_right_at_a_threshold_is_what_the_evaluation_calls_a_hit(tmp_path: Path) -> None:
    """Of images without crowds or ties both ways of matching find the same number of objects."""
    from model import operating_point

    metrics = random_case(tmp_path, 3, crowds=0.0)
    point = operating_point.at(metrics.evaluate().ranked, 0.3)
    judged = error_types.judge(metrics.data, metrics.found, [1, 2, 3], 0.3)
    right = sum(int((one.kinds == RIGHT).sum()) for one in judged)
    assert right / len(metrics.data.labels) == pytest.approx(point.recall)


def test_the_document_and_its_pictures(tmp_path: Path) -> None:
    metrics = random_case(tmp_path / "data", 1)
    folder = tmp_path / "evaluate"
    folder.mkdir()
    _write(metrics, 0.4, folder, {"split": "test"}, None)
    document = json.loads((folder / "report.json").read_text())
    assert {part["kind"] for part in document["parts"]} == {"bars", "lines", "table", "matrix", "pictures"}
    pictures = [p for part in document["parts"] if part["kind"] == "pictures" for p in part["pictures"]]
    assert len(pictures) == 12
    assert all((folder / p["file"]).is_file() for p in pictures)
    assert len(document["resamples"]["values"]["test_mAP"]) == resampling.DRAWS
    fates = [one.fates for one in error_types.judge(metrics.data, metrics.found, [1, 2, 3], 0.4)]
    drawn = [rect for picture in pictures for rect in picture["panels"][0]["rects"]]
    assert sorted(rect["mark"] for rect in drawn) == sorted(np.concatenate(fates).tolist())
    line = next(part for part in document["parts"] if part["kind"] == "lines")
    assert line["marks"] == [{"x": 0.4, "name": "0.400"}]


def test_a_detector_that_finds_nothing_has_a_document_too(tmp_path: Path) -> None:
    metrics = CocoMetrics(dataset(tmp_path / "data", [(1, 1, (0, 0, 20, 20), 0)]))
    (tmp_path / "out").mkdir()
    _write(metrics, None, tmp_path / "out", {"split": "val"}, None)
    document = json.loads((tmp_path / "out" / "report.json").read_text())
    assert dict(document["parts"][0]["rows"])["missed objects"] == 1
    assert review.SIDE_PX == document["parts"][-1]["pictures"][0]["width"]
