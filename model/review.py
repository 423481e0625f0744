"""What a person looks at after an evaluation, as a document with pictures: `report.json`, which a report shows as it is
(references/trial_contract.md tells its form)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model import error_types, operating_point, resampling
from model.coco_evaluation import AREAS_PX2, Evaluation
from model.coco_metrics import CocoMetrics
from model.data.images import CHECKED, open_rgb
from model.error_types import BACKGROUND, BOTH, CONFUSED, IGNORED, MISPLACED, RIGHT, TWICE, Judged
from model.errors import UserError, number_of

WORST, DRAWN = 12, 12  # images shown
SIDE_PX = 360  # of a picture's longer side
MOST_CLASSES = 25  # of a confusion matrix; the others are left out, the most confused are kept
MARKS = (
    {"name": "object found", "colour": "green"},
    {"name": "object called another class", "colour": "orange", "dashed": True},
    {"name": "object badly placed", "colour": "purple", "dashed": True},
    {"name": "object missed", "colour": "red", "dashed": True},
    {"name": "right", "colour": "green"},
    {"name": "wrong class", "colour": "orange"},
    {"name": "badly placed", "colour": "purple"},
    {"name": "background", "colour": "red"},
    {"name": "found twice", "colour": "grey"},
)
OF_KIND = {RIGHT: 4, CONFUSED: 5, BOTH: 5, MISPLACED: 6, BACKGROUND: 7, TWICE: 8}


def write(
    metrics: CocoMetrics, evaluation: Evaluation, result: dict[str, Any], split: str, folder: Path
) -> None:
    """Write `folder`/report.json and the pictures it names. `result` is what evaluate writes to metrics.json."""
    threshold, chosen = _threshold(result)
    labels = metrics.categories()
    judged = error_types.judge(metrics.data, metrics.found, labels, threshold)
    names = {c["id"]: str(c["name"]) for c in metrics.data.categories}
    shown = [names[i] for i in labels]
    document = {
        "section": f"Detections on {split}",
        "links": [{"name": "precision over recall of each class", "file": "precision_recall.html"}],
        "intro": f"At a score of {threshold:.3f}, {chosen}: the line above which a detection counts. "
        "It is right when it overlaps an object of its class by an IoU of .5 or more that no better one has found."
        + _at_threshold(result),
        "resamples": _resamples(metrics, evaluation, split),
        "parts": [
            _errors(judged),
            _over_score(evaluation, threshold),
            _classes(result["per_class"]),
            _sizes(metrics, result),
            _confusion(judged, labels, shown),
            *_pictures(metrics, judged, names, folder),
        ],
    }
    (folder / "report.json").write_text(json.dumps(document) + "\n")


def _threshold(result: dict[str, Any]) -> tuple[float, str]:
    """(score to draw the line at, how it was chosen)."""
    if result.get("val_threshold") is not None:
        return float(result["val_threshold"]), "the one with the best F1 on validation"
    if result.get("threshold") is not None:
        return float(result["threshold"]), "the one with the best F1 on these images, which flatters it"
    return 0.5, "since nothing was found that could tell a better one"


def _at_threshold(result: dict[str, Any]) -> str:
    """Precision, recall and F1 there."""
    of = "val_threshold_" if result.get("val_threshold") is not None else ""
    figures = [
        f"{name} {result[of + name.lower()]:.3f}"
        for name in ("precision", "recall", "F1")
        if result.get(of + name.lower())
    ]
    return f" There: {', '.join(figures)}." if figures else ""


def _resamples(metrics: CocoMetrics, evaluation: Evaluation, split: str) -> dict[str, Any]:
    """Two models with the same "draws" may be compared value by value."""
    images = len(np.unique(metrics.data.image_ids))
    drawn = resampling.mean_ap(evaluation.matches, resampling.draws(images), len(metrics.categories()))
    key = f"{split}, {images} images, {len(metrics.data.labels)} boxes, seed {resampling.SEED}"
    return {
        "of": number_of(images, "image"),
        "draws": key,
        "values": {f"{split}_mAP": [round(v, 6) if v == v else None for v in drawn.tolist()]},
    }


def _errors(judged: Sequence[Judged]) -> dict[str, Any]:
    found = error_types.counts(judged)
    told = {"missed": "missed objects", "background": "on the background", "right": "right"}
    return {
        "kind": "bars",
        "title": "Right, and the kinds of mistakes",
        "rows": [[told.get(name, name), count] for name, count in found.items()],
        "note": "Kinds as TIDE tells them: confused is another class at the right place; badly placed overlaps its "
        "object by an IoU of .1 to .5; missed objects are none of these.",
    }


def _over_score(evaluation: Evaluation, threshold: float) -> dict[str, Any]:
    drawn = [(score, operating_point.at(evaluation.ranked, score)) for score in (0.02 * n for n in range(50))]
    drawn = [(round(score, 2), point) for score, point in drawn if point.recall > 0] or drawn
    scores, points = [score for score, _ in drawn], [point for _, point in drawn]
    return {
        "kind": "lines",
        "title": "Precision, recall and F1 over the score",
        "x": "score",
        "range": [0, 1],
        "series": [
            {"name": name, "x": scores, "y": [round(getattr(p, name.lower()), 4) for p in points]}
            for name in ("Precision", "Recall", "F1")
        ],
        "marks": [{"x": threshold, "name": f"{threshold:.3f}"}],
    }


def _classes(per_class: Sequence[dict[str, Any]]) -> dict[str, Any]:
    keys = ("AP", "AP50", "precision", "recall", "f1", "threshold")
    rows = [[row["name"], row["boxes"], *(_figure(row[key]) for key in keys)] for row in per_class]
    return {
        "kind": "table",
        "title": "Each class",
        "columns": ["class", "objects", "AP", "AP50", "precision", "recall", "F1", "at score"],
        "rows": rows,
        "note": "Precision, recall and F1 at the class's own best score on these images. "
        "An AP of few objects says little.",
    }


def _sizes(metrics: CocoMetrics, result: dict[str, Any]) -> dict[str, Any]:
    keep = np.isin(metrics.data.labels, metrics.categories()) & ~np.asarray(metrics.data.crowd)
    areas = np.asarray(metrics.data.areas)[keep]
    rows = []
    for name, (low, high) in zip(("small", "medium", "large"), AREAS_PX2[1:], strict=True):
        side = f"from {low**0.5:.0f}" + (f" to {high**0.5:.0f} px" if high < 1e9 else " px")
        count = int(((areas >= low) & (areas < high)).sum())
        rows.append([name, side, count, _figure(result[f"mAP_{name}"]), _figure(result[f"AR_{name}"])])
    return {
        "kind": "table",
        "title": "By size",
        "columns": ["objects", "side", "number", "AP", "recall (AR)"],
        "rows": rows,
    }


def _figure(value: float | None) -> float | None:
    return None if value is None or value < 0 else round(value, 4)


def _confusion(judged: Sequence[Judged], labels: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    table = error_types.confusion(judged, labels)
    wrong = table.sum(axis=0) + table.sum(axis=1) - 2 * np.diag(table)
    kept = sorted(np.argsort(-wrong[:-1], kind="stable")[:MOST_CLASSES].tolist())
    left = len(labels) - len(kept)
    rows = [*kept, len(labels)]
    return {
        "kind": "matrix",
        "title": "Confusion matrix",
        "row_title": "is",
        "column_title": "called",
        "rows": [*(names[n] for n in kept), "no object"],
        "columns": [*(names[n] for n in kept), "not found"],
        "values": table[np.ix_(rows, rows)].tolist(),
        "note": "A row adds up to the objects of its class, a column to the detections. Each object stands once, under "
        "what a detection at its place (IoU of .5 or more) called it, the right class before others; all further "
        "detections, on the background, badly placed, found twice or a second wrong name, stand in 'no object'."
        + (f" The {len(kept)} classes with the most mistakes; {left} more are left out." if left else ""),
    }


# ---- pictures ---------------------------------------------------------------------------------------------------


def _pictures(
    metrics: CocoMetrics, judged: Sequence[Judged], names: dict[int, str], folder: Path
) -> list[dict[str, Any]]:
    """The worst images and some drawn by chance among the others, written to `folder`/pictures."""
    worst = sorted((one for one in judged if one.mistakes), key=lambda one: (-one.mistakes, one.index))[
        :WORST
    ]
    taken = {one.index for one in worst}
    others = [one for one in judged if one.index not in taken]
    order = np.random.default_rng(0).permutation(len(others))[:DRAWN]
    drawn = [others[n] for n in sorted(order.tolist())]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    titles = ((worst, "The images with the most mistakes"), (drawn, "Images drawn by chance from the others"))
    return [
        {
            "kind": "pictures",
            "title": f"{title} ({len(chosen)})",
            "legend": MARKS,
            "pictures": [_picture(metrics, one, names, folder) for one in chosen],
        }
        for chosen, title in titles
        if chosen
    ]


def _picture(metrics: CocoMetrics, one: Judged, names: dict[int, str], folder: Path) -> dict[str, Any]:
    path = metrics.data.file(one.index)
    height, width = (int(v) for v in metrics.data.sizes[one.index])
    share = SIDE_PX / max(height, width)
    target = folder / "pictures" / f"{one.index:06d}.jpg"
    wrong = f"{number_of(one.mistakes, 'mistake')}" if one.mistakes else "no mistake"
    picture: dict[str, Any] = {"caption": f"{path.name}: {wrong}"}
    try:
        image = open_rgb(path, CHECKED)
        image.thumbnail((SIDE_PX, SIDE_PX))
        image.save(target, "JPEG", quality=75)
        picture |= {"file": f"pictures/{target.name}"}
    except UserError as error:
        picture["caption"] += f" ({error})"
    fates = one.fates.tolist()  # MARKS begins with what they mean
    shown = np.flatnonzero(one.kinds != IGNORED)
    called = [f"{names[int(one.labels[n])]} {one.scores[n]:.2f}" for n in shown]
    found = [OF_KIND[int(one.kinds[n])] for n in shown]
    objects = [names[int(label)] for label in one.object_labels]
    return picture | {
        "width": round(width * share),
        "height": round(height * share),
        "panels": [
            {"title": "truth", "rects": _rects(one.objects_xyxy_px * share, objects, fates)},
            {"title": "detections", "rects": _rects(one.boxes_xyxy_px[shown] * share, called, found)},
        ],
    }


def _rects(boxes_xyxy_px: np.ndarray, texts: Sequence[str], marks: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {
            "x": round(x, 1),
            "y": round(y, 1),
            "w": round(max(x2 - x, 0), 1),
            "h": round(max(y2 - y, 0), 1),
            "text": text,
            "mark": mark,
        }
        for (x, y, x2, y2), text, mark in zip(boxes_xyxy_px.tolist(), texts, marks, strict=True)
    ]
