"""What kind of mistake each detection is, and what became of each object, at one score threshold.

The kinds are TIDE's (Bolya et al., ECCV 2020), counted at the threshold that a person would deploy with: a detection
that is not right is a second one of an object, of another class (IoU of .5 or more with it), badly placed (.1 to .5
with one of its class), both, or on the background; an object that none of these explains was missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.data.coco import CocoData

RIGHT, TWICE, CONFUSED, MISPLACED, BOTH, BACKGROUND, IGNORED = range(7)
KINDS = ("right", "found twice", "confused", "badly placed", "confused and badly placed", "background")
# Of an object: right, called another class, badly placed, not found at all.
FOUND, CALLED, PLACED, MISSED = range(4)
NEAR, FAR = 0.5, 0.1  # IoU of a match, and below which two boxes have nothing to do with each other


@dataclass(frozen=True)
class Judged:
    """One image: n detections of at least the threshold by falling score, g objects that count."""

    index: int  # of the image in the data
    boxes_xyxy_px: np.ndarray  # [n, 4]
    labels: np.ndarray  # [n]
    scores: np.ndarray  # [n]
    kinds: np.ndarray  # [n], RIGHT to IGNORED
    with_object: np.ndarray  # [n] the object that it is or was taken for, -1 for none
    objects_xyxy_px: np.ndarray  # [g, 4]
    object_labels: np.ndarray  # [g]
    fates: np.ndarray  # [g], FOUND to MISSED: the best that a detection makes of it

    @property
    def mistakes(self) -> int:
        """Wrong detections and missed objects."""
        return int(np.isin(self.kinds, (RIGHT, IGNORED), invert=True).sum() + (self.fates == MISSED).sum())


def judge(
    data: CocoData, found: Mapping[int, Mapping[str, np.ndarray]], labels: Sequence[int], threshold: float
) -> list[Judged]:
    """Every image of `data`, with `found` {image id: {"scores", "labels", "boxes_xyxy_px"}}; only `labels` count."""
    nothing = {"scores": np.zeros(0), "labels": np.zeros(0, np.int64), "boxes_xyxy_px": np.zeros((0, 4))}
    return [
        _judge(data, index, found.get(int(image_id), nothing), labels, threshold)
        for index, image_id in enumerate(data.image_ids)
    ]


def _judge(
    data: CocoData, index: int, found: Mapping[str, np.ndarray], labels: Sequence[int], threshold: float
) -> Judged:
    keep = np.flatnonzero((found["scores"] >= threshold) & np.isin(found["labels"], labels))
    keep = keep[np.argsort(-found["scores"][keep], kind="stable")]
    boxes, label = np.asarray(found["boxes_xyxy_px"])[keep].astype(float), np.asarray(found["labels"])[keep]
    rows = slice(int(data.starts[index]), int(data.starts[index + 1]))
    xywh, own = np.asarray(data.boxes_xywh_px[rows]), np.asarray(data.labels[rows])
    crowd, counts = np.asarray(data.crowd[rows]), np.isin(own, labels)
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    objects, object_labels = corners[counts & ~crowd], own[counts & ~crowd]
    kinds, partner = _kinds(boxes, label, objects, object_labels)
    crowds = _overlap(boxes, corners[crowd])[0] >= NEAR  # of a detection's own area
    covered = (crowds & (label[:, None] == own[crowd][None])).any(axis=1)
    kinds[covered & (kinds != RIGHT)] = IGNORED
    fates = np.full(len(objects), MISSED)
    for kind, fate in ((MISPLACED, PLACED), (CONFUSED, CALLED), (RIGHT, FOUND)):
        fates[partner[kinds == kind]] = fate
    return Judged(
        index, boxes, label, np.asarray(found["scores"])[keep], kinds, partner, objects, object_labels, fates
    )


def _kinds(
    boxes: np.ndarray, labels: np.ndarray, objects: np.ndarray, object_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(kind, object or -1) of each detection, best score first."""
    kinds, partner = np.full(len(boxes), BACKGROUND), np.full(len(boxes), -1)
    if not len(objects):
        return kinds, partner
    iou = _overlap(boxes, objects)[1]
    same = labels[:, None] == object_labels[None]
    free = np.ones(len(objects), bool)
    for n in range(len(boxes)):
        reach = np.where(same[n] & free, iou[n], 0.0)
        if reach.max() >= NEAR:
            partner[n], kinds[n] = np.argmax(reach), RIGHT
            free[partner[n]] = False
    for n in np.flatnonzero(kinds != RIGHT).tolist():
        of_class, of_other = np.where(same[n], iou[n], 0.0), np.where(same[n], 0.0, iou[n])
        for kind, reach, least in (
            (TWICE, of_class, NEAR), (CONFUSED, of_other, NEAR), (MISPLACED, of_class, FAR), (BOTH, of_other, FAR),
        ):  # fmt: skip
            if reach.max() >= least:
                kinds[n], partner[n] = kind, np.argmax(reach)
                break
    return kinds, partner


def _overlap(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n, m] of xyxy boxes [n, 4] and [m, 4]: the intersection as a share of a's area, and the IoU."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inter = np.prod(np.maximum(sides, 0), axis=2)
    area_a, area_b = (np.prod(np.maximum(x[:, 2:] - x[:, :2], 0), axis=1) for x in (a, b))
    union = area_a[:, None] + area_b[None] - inter
    zero = np.zeros_like(inter)
    share = np.divide(inter, area_a[:, None] + zero, out=zero.copy(), where=area_a[:, None] + zero > 0)
    return share, np.divide(inter, union, out=zero, where=union > 0)


def confusion(judged: Iterable[Judged], labels: Sequence[int]) -> np.ndarray:
    """[K + 1, K + 1] counts: objects of class i called j; the last row is detections without an object of their own,
    the last column objects that nothing has found."""
    place = {label: n for n, label in enumerate(labels)}
    table = np.zeros((len(labels) + 1, len(labels) + 1), np.int64)
    for one in judged:
        called = np.zeros(len(one.object_labels), bool)
        for label, kind, partner in zip(one.labels.tolist(), one.kinds, one.with_object, strict=True):
            if kind == RIGHT:
                table[place[label], place[label]] += 1
                called[partner] = True
            elif kind == CONFUSED and one.fates[partner] != FOUND and not called[partner]:
                table[place[int(one.object_labels[partner])], place[label]] += 1
                called[partner] = True
            elif kind != IGNORED:
                table[-1, place[label]] += 1
        for label in one.object_labels[~called].tolist():
            table[place[label], -1] += 1
    return table


def counts(judged: Iterable[Judged]) -> dict[str, Any]:
    """{kind: how many detections}, and "missed": objects that no detection explains."""
    total, missed = np.zeros(len(KINDS) + 1, np.int64), 0
    for one in judged:
        total += np.bincount(one.kinds, minlength=len(KINDS) + 1)
        missed += int((one.fates == MISSED).sum())
    return {**{name: int(total[n]) for n, name in enumerate(KINDS)}, "missed": missed}
