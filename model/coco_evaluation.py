"""COCO's box evaluation on whole arrays: the greedy matching of pycocotools, all images, classes, areas and IoU
thresholds at once.

What pycocotools does detection by detection is done here in rounds: round k matches the k-th detection of every
image and class. Only pairs that overlap enough for the lowest threshold take part, and those are few. Counts, ties
and roundings are pycocotools' own, so that the numbers are equal, not close.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = (1, 10, 100)  # per image and class
AREAS_PX2 = np.array([(0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10)])  # all, small, medium, large
PAIRS_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Boxes:
    """N boxes of images and classes that are given by their index, from 0."""

    image: np.ndarray  # [N] int64
    label: np.ndarray  # [N] int64
    xywh_px: np.ndarray  # [N, 4] float64

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: np.ndarray) -> Boxes:
        return Boxes(self.image[rows], self.label[rows], self.xywh_px[rows])


@dataclass(frozen=True)
class Ranked:
    """N detections that count, by falling score; a hit is an object that no better one has found."""

    score: np.ndarray  # [N] float64
    label: np.ndarray  # [N]
    hit: np.ndarray  # [N] bool
    objects: np.ndarray  # [K], of each class


@dataclass(frozen=True)
class Matches:
    """N detections of objects of every area, a class after the other, each by falling score; G objects that count."""

    image: np.ndarray  # [N]
    label: np.ndarray  # [N]
    hits: np.ndarray  # [T, N] bool
    counted: np.ndarray  # [T, N] bool, false for what matches something ignored
    object_image: np.ndarray  # [G]
    object_label: np.ndarray  # [G]


@dataclass(frozen=True)
class Evaluation:
    """T IoU thresholds, R recall thresholds, K classes, A areas, M detection limits; -1 where a class has no
    object of that area."""

    precision: np.ndarray  # [T, R, K, A], at the largest detection limit
    recall: np.ndarray  # [T, K, A, M]
    ranked: Ranked  # at the lowest IoU threshold, objects of every area
    matches: Matches


def evaluate(
    truth: Boxes, areas_px2: np.ndarray, crowd: np.ndarray, found: Boxes, scores: np.ndarray, classes: int
) -> Evaluation:
    """truth with areas [G] and crowd [G] bool (objects in the order of the file), found with scores [N]; equal
    scores keep their order. Every label must be < `classes`."""
    order = np.argsort(_group(truth, classes), kind="stable")
    truth, areas_px2, crowd = truth.take(order), areas_px2[order], crowd[order]
    order = np.lexsort((-scores, _group(found, classes)))
    rank = _rank_in_group(_group(found.take(order), classes))
    order, rank = order[rank < MAX_DETECTIONS[-1]], rank[rank < MAX_DETECTIONS[-1]]
    found, scores = found.take(order), scores[order]
    no_object = crowd | _outside(areas_px2)  # [A, G]: neither asked for nor counted against anyone
    matched, ignored = _match(truth, crowd, no_object, found, classes)
    ignored |= ~matched & _outside(found.xywh_px[:, 2] * found.xywh_px[:, 3])[:, None]
    order = np.lexsort((-scores, found.label))  # a class after the other
    limits = np.searchsorted(found.label[order], np.arange(classes + 1))
    counted, rank = ~ignored[:, :, order], rank[order]
    hits = matched[:, :, order] & counted
    objects = np.stack([np.bincount(truth.label[~row], minlength=classes) for row in no_object], axis=1)
    precision = np.full((len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), classes, len(AREAS_PX2)), -1.0)
    recall = np.full((len(IOU_THRESHOLDS), classes, len(AREAS_PX2), len(MAX_DETECTIONS)), -1.0)
    for label, area in zip(*np.nonzero(objects), strict=True):
        rows, count = slice(limits[label], limits[label + 1]), int(objects[label, area])
        own = hits[area, :, rows]
        for m, limit in enumerate(MAX_DETECTIONS):
            recall[:, label, area, m] = (own & (rank[rows] < limit)).sum(1) / count
        precision[:, :, label, area] = _precision(own, counted[area, :, rows], count)
    ranked = _ranked(scores[order], found.label[order], hits[0, 0], counted[0, 0], objects[:, 0])
    counting = truth.take(~no_object[0])
    matches = Matches(
        found.image[order], found.label[order], hits[0], counted[0], counting.image, counting.label
    )
    return Evaluation(precision, recall, ranked, matches)


def _ranked(
    score: np.ndarray, label: np.ndarray, hit: np.ndarray, counted: np.ndarray, objects: np.ndarray
) -> Ranked:
    at = np.argsort(-score, kind="stable")
    at = at[counted[at]]
    return Ranked(score[at], label[at], hit[at], objects)


def _precision(hits: np.ndarray, counted: np.ndarray, objects: int) -> np.ndarray:
    """Interpolated precision [T, R]; hits and counted [T, N] bool, detections by falling score. Precision only
    rises at a hit, so hits are all that the envelope needs."""
    first = np.searchsorted(np.arange(1, objects + 1) / objects, RECALL_THRESHOLDS)
    result = np.zeros((len(hits), len(first)))
    seen = np.cumsum(counted, axis=1, dtype=np.int32)
    for t, row in enumerate(hits):
        at = np.flatnonzero(row)
        precision = np.arange(1, len(at) + 1) / (seen[t, at] + np.spacing(1))
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        reached = first < len(at)
        result[t, reached] = envelope[first[reached]]
    return result


def _match(
    truth: Boxes, crowd: np.ndarray, no_object: np.ndarray, found: Boxes, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """(matched, matched to something ignored), both [A, T, N] bool. Both sets of boxes sorted by group, detections
    by falling score within it."""
    areas, thresholds = len(AREAS_PX2), np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    matched = np.zeros((areas, len(thresholds), len(found)), dtype=bool)
    ignored = np.zeros_like(matched)
    taken = np.zeros((areas, len(thresholds), len(truth)), dtype=bool)
    for detection, thing, iou in _rounds(truth, crowd, found, classes, thresholds[0]):
        starts = np.flatnonzero(np.diff(detection, prepend=-1))
        place = np.arange(len(detection)) - np.repeat(starts, np.diff(starts, append=len(detection)))
        # Of the things that are left the best overlap wins, the last of equals; counted ones go before ignored.
        value = place + len(detection) * ~no_object[:, None, thing]
        free = (~taken[:, :, thing] | crowd[thing]) & (iou >= thresholds[:, None])
        best = np.maximum.reduceat(np.where(free, value, -1), starts, axis=2)
        a, t, n = np.nonzero(best >= 0)
        winner = thing[starts[n] + best[a, t, n] % len(detection)]
        taken[a, t, winner] = True
        matched[a, t, detection[starts[n]]] = True
        ignored[a, t, detection[starts[n]]] = no_object[a, winner]
    return matched, ignored


def _rounds(
    truth: Boxes, crowd: np.ndarray, found: Boxes, classes: int, least: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(detection, truth, IoU) of every pair of a group with IoU >= `least`, round by round; within a round by
    detection, then by rising IoU, then by the truth's place in the file."""
    detection, thing, iou = _pairs(truth, crowd, found, classes, least)
    if not len(detection):
        return
    order = np.lexsort((thing, iou, detection))
    detection, thing, iou = detection[order], thing[order], iou[order]
    distinct, which = np.unique(detection, return_inverse=True)
    turn = _rank_in_group(_group(found.take(distinct), classes))[which]
    order = np.argsort(turn, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(turn[order])) + 1):
        yield detection[rows], thing[rows], iou[rows]


def _pairs(
    truth: Boxes, crowd: np.ndarray, found: Boxes, classes: int, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    groups, mine = _group(truth, classes), _group(found, classes)
    start, end = np.searchsorted(groups, mine), np.searchsorted(groups, mine, "right")
    kept: list[tuple[np.ndarray, ...]] = []
    for rows in _portions(end - start):
        count = (end - start)[rows]
        detection = np.repeat(rows, count)
        thing = np.arange(len(detection)) + np.repeat(start[rows] - (np.cumsum(count) - count), count)
        iou = _iou(found.xywh_px[detection], truth.xywh_px[thing], crowd[thing])
        near = iou >= least
        kept.append((detection[near], thing[near], iou[near]))
    if not kept:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    detection, thing, iou = (np.concatenate(part) for part in zip(*kept, strict=True))
    return detection, thing, iou


def _portions(counts: np.ndarray) -> Iterator[np.ndarray]:
    """Row numbers with a count, in portions of about PAIRS_AT_ONCE."""
    rows = np.flatnonzero(counts)
    portion = np.cumsum(counts[rows]) // PAIRS_AT_ONCE
    yield from (part for part in np.split(rows, np.flatnonzero(np.diff(portion)) + 1) if len(part))


def _iou(a: np.ndarray, b: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Of xywh boxes [N, 4] row by row; over the first one's own area where the second is a crowd."""
    sides = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    inter = np.where((sides > 0).all(1), sides[:, 0] * sides[:, 1], 0.0)
    own = a[:, 2] * a[:, 3]
    union = np.where(crowd, own, own + b[:, 2] * b[:, 3] - inter)
    result: np.ndarray = np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)
    return result


def _group(boxes: Boxes, classes: int) -> np.ndarray:
    """One number for image and class."""
    return boxes.image * classes + boxes.label


def _rank_in_group(groups: np.ndarray) -> np.ndarray:
    """How many of the same group come before; groups [N] sorted."""
    rank: np.ndarray = np.arange(len(groups)) - np.searchsorted(groups, groups)
    return rank


def _outside(areas_px2: np.ndarray) -> np.ndarray:
    """[A, N] bool: not in that range of areas; both ends belong to it."""
    return (areas_px2 < AREAS_PX2[:, :1]) | (areas_px2 > AREAS_PX2[:, 1:])
