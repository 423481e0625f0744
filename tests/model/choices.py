"""What lies behind a choice of the k best: rounding exchanges nearly equal scores, and which are last in or just out.
So two computations are compared for the same choice, and the choice itself by its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch


def as_good_as_the_best(scores: torch.Tensor, chosen: torch.Tensor, atol: float) -> bool:
    """Whether the cells `chosen` [B, Q] are distinct and have, in order, the highest of the scores [B, S]."""
    best = scores.topk(chosen.shape[1], dim=1).values
    distinct = bool(chosen.sort(dim=1).values.diff(dim=1).all())
    return distinct and torch.allclose(scores.gather(1, chosen), best, rtol=0, atol=atol)


def same_detections(
    a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]], score: float, box_px: float
) -> bool:
    """Whether two lists of an image's best detections (category_id, score, bbox) are one up to `score` and `box_px`:
    each detection of either list has one of its own in the other, but for those as low as the last in."""
    if not a or not b:
        return len(a) == len(b)
    lowest = max(min(row["score"] for row in rows) for rows in (a, b)) + 2 * score
    return _covered(a, b, score, box_px, lowest) and _covered(b, a, score, box_px, lowest)


def _covered(a: Any, b: Any, score: float, box_px: float, lowest: float) -> bool:
    """Greedy, nearest first: rows that are near enough to two others are near enough to each other."""
    left = list(b)
    for row in sorted((r for r in a if r["score"] > lowest), key=lambda r: -r["score"]):
        near = [
            other for other in left
            if other["category_id"] == row["category_id"] and abs(other["score"] - row["score"]) <= score
            and np.allclose(other["bbox"], row["bbox"], atol=box_px, rtol=0)
        ]  # fmt: skip
        if not near:
            return False
        left.remove(min(near, key=lambda r: abs(r["score"] - row["score"])))
    return True
