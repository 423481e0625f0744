"""How sure a score is: the mean AP of the same detections over images drawn again with replacement (bootstrap).

The draws follow from the number of images alone, so that two models scored on the same images are scored on the same
draws, and the difference of each pair of values is a paired bootstrap. Matching happens within an image and is not
repeated: only sums over images are.
"""

from __future__ import annotations

import numpy as np

from model.coco_evaluation import RECALL_THRESHOLDS, Matches

DRAWS = 1000
SEED = 20240229
AT_ONCE = 1 << 24  # weights of detections in memory


def draws(images: int, count: int = DRAWS) -> np.ndarray:
    """[count, images] how often each image was drawn, whole numbers that sum to `images` in each row."""
    random = np.random.default_rng([SEED, images])
    return np.stack([np.bincount(random.integers(0, images, images), minlength=images) for _ in range(count)])


def mean_ap(matches: Matches, weights: np.ndarray, classes: int) -> np.ndarray:
    """[R] COCO's mean AP (0-1) of `matches` with each image counted `weights` [R, I] times; NaN in a draw without any
    object. All weights 1 give COCO's own number."""
    rows = max(1, AT_ONCE // max(1, len(matches.image)))
    parts = [_mean_ap(matches, weights[n : n + rows], classes) for n in range(0, len(weights), rows)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _mean_ap(matches: Matches, weights: np.ndarray, classes: int) -> np.ndarray:
    limits = np.searchsorted(matches.label, np.arange(classes + 1))
    total, known = np.zeros(len(weights)), np.zeros(len(weights))
    for label in range(classes):
        objects = weights[:, matches.object_image[matches.object_label == label]].sum(axis=1)
        rows = slice(limits[label], limits[label + 1])
        own = weights[:, matches.image[rows]]
        ap = _class_ap(own, matches.hits[:, rows], matches.counted[:, rows], np.maximum(objects, 1))
        total += np.where(objects > 0, ap, 0.0)
        known += objects > 0
    return np.divide(total, known, out=np.full(len(weights), np.nan), where=known > 0)


def _class_ap(own: np.ndarray, hits: np.ndarray, counted: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """[R] AP of one class: own [R, n] weights, hits and counted [T, n], objects [R]. A hit of weight 0 is none: it adds
    no recall, and its precision is no more than that of the hit before it."""
    total = np.zeros(len(own))
    every = np.cumsum(own, axis=1)
    for hit, counts in zip(hits, counted, strict=True):
        at = np.flatnonzero(hit)
        seen = (every if counts.all() else np.cumsum(own * counts, axis=1))[:, at]
        right = np.cumsum(own[:, at], axis=1)
        precision = right / np.maximum(seen, 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(RECALL_THRESHOLDS, right / objects[:, None], side="right") * (right > 0)
        total += (envelope * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALL_THRESHOLDS)
    return total / len(hits)
