"""The score with the best F1: against counting by hand over every line that could be drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import operating_point
from model.coco_evaluation import Ranked
from model.coco_metrics import CocoMetrics
from model.data.coco import load_sources


def ranked_of(rows: list[tuple[float, int, bool]], objects: list[int]) -> Ranked:
    rows = sorted(rows, key=lambda row: -row[0])
    score, label, hit = (np.array([row[i] for row in rows]) for i in range(3))
    return Ranked(score.astype(float), label.astype(int), hit.astype(bool), np.array(objects))


ROWS = st.lists(
    st.tuples(st.sampled_from([0.05, 0.1, 0.3, 0.30001, 0.5, 0.9, 1.0]), st.integers(0, 2), st.booleans()),
    max_size=25,
)


@given(rows=ROWS, missed=st.tuples(*[st.integers(0, 3)] * 3))
@settings(max_examples=300, deadline=None)
def test_no_line_has_a_better_f1(rows: list[tuple[float, int, bool]], missed: tuple[int, ...]) -> None:
    objects = [sum(hit for _, k, hit in rows if k == label) + missed[label] for label in range(3)]
    ranked = ranked_of(rows, objects)
    for label in (None, 0, 1, 2):
        own = [row for row in rows if label is None or row[1] == label]
        count = sum(objects) if label is None else objects[label]

        def f1(line: float, own: Any = own, count: int = count) -> float:
            above = [hit for score, _, hit in own if score >= line]
            return 2 * sum(above) / (len(above) + count) if above or count else 0.0

        found = operating_point.best(ranked, label)
        if not any(hit for *_, hit in own):
            assert found is None
            continue
        assert found is not None
        assert found.f1 == pytest.approx(max(f1(score) for score, *_ in own))
        assert found.f1 == pytest.approx(f1(found.threshold))
        assert operating_point.at(ranked, found.threshold, label) == found
        assert all(abs(found.threshold - score) > 1e-7 for score, *_ in own)  # no rounding moves one across


def test_counts_of_a_line_that_nothing_reaches() -> None:
    ranked = ranked_of([(0.4, 0, True)], [2])
    assert operating_point.at(ranked, 0.9).as_dict() == {
        "threshold": 0.9, "precision": 0.0, "recall": 0.0, "f1": 0.0,
    }  # fmt: skip
    assert operating_point.at(ranked, 0.1).recall == 0.5


def test_what_ranks_is_what_coco_counts(demo: Path) -> None:
    """Perfect boxes, one twice, one of a class that is not there: P and R by hand."""
    source = {"image_dir": str(demo / "val" / "images"), "json_file": str(demo / "val" / "annotations.json")}
    data = load_sources([source], "serialized")
    truth = json.loads((demo / "val" / "annotations.json").read_text())["annotations"]
    metrics = CocoMetrics(data)
    by_image: dict[int, list[Any]] = {}
    for row in truth:
        by_image.setdefault(row["image_id"], []).append(row)
    for image, rows in by_image.items():
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
        labels, scores = [row["category_id"] for row in rows], [0.9] * len(rows)
        if image == min(by_image):
            boxes, labels, scores = [*boxes, boxes[0]], [*labels, labels[0]], [*scores, 0.8]
        metrics.update(
            [{"image_id": image, "boxes_xyxy_px": np.array(boxes), "labels": np.array(labels), "scores": np.array(scores)}]
        )  # fmt: skip
    ranked = metrics.evaluate().ranked
    assert ranked.hit.tolist() == [True] * len(truth) + [False]
    best = operating_point.best(ranked)
    assert best is not None
    assert (best.precision, best.recall, best.f1, best.threshold) == (1.0, 1.0, 1.0, pytest.approx(0.85))
    all_of_them = operating_point.at(ranked, 0.5)
    assert all_of_them.precision == pytest.approx(len(truth) / (len(truth) + 1))
