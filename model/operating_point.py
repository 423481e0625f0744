"""Which score to draw a line at: precision, recall and F1 of what lies above it, and the line with the best F1.

A detection is right when it overlaps an object of its class that no better one has found by an IoU of .5 or more, as in
COCO's evaluation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from model.coco_evaluation import Ranked


@dataclass(frozen=True)
class OperatingPoint:
    """Of the detections with a score of at least `threshold`: all numbers 0-1."""

    threshold: float
    precision: float
    recall: float
    f1: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"precision {self.precision:.3f}, recall {self.recall:.3f}, F1 {self.f1:.3f} at {self.threshold:.3f}"


def best(ranked: Ranked, label: int | None = None) -> OperatingPoint | None:
    """The line with the best F1 over all classes, or for one; of equals the highest. It lies half-way to the next lower
    score, so that no rounding moves a detection across it. None where nothing is right or there is no object."""
    score, hit, objects = of_label(ranked, label)
    if not hit.any():
        return None
    right = np.cumsum(hit)
    count = np.arange(1, len(score) + 1)
    last = np.append(score[1:] < score[:-1], True)  # equal scores are above a line together
    f1 = np.where(last, 2 * right / (count + objects), -1.0)
    at = int(np.argmax(f1))
    below = float(score[at + 1]) if at + 1 < len(score) else 0.0
    line = (float(score[at]) + below) / 2
    return OperatingPoint(line, float(right[at] / count[at]), float(right[at] / objects), float(f1[at]))


def at(ranked: Ranked, threshold: float, label: int | None = None) -> OperatingPoint:
    """What a given line brings; a precision of 0 where nothing lies above it."""
    score, hit, objects = of_label(ranked, label)
    count = int((score >= threshold).sum())
    right = int(hit[:count].sum())
    precision, recall = right / max(1, count), right / max(1, objects)
    return OperatingPoint(threshold, precision, recall, 2 * right / max(1, count + objects))


def of_label(ranked: Ranked, label: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    if label is None:
        return ranked.score, ranked.hit, int(ranked.objects.sum())
    rows = ranked.label == label
    return ranked.score[rows], ranked.hit[rows], int(ranked.objects[label])
