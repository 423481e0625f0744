"""How large objects are in the images that a training sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from model.data.problems import listed
from model.spec import get

MOST = 0.5  # of the images, which have the most frequent size
SMALL_PX = 8  # of an object's side at the training size, below which it is hardly seen


def training_scale(spec: Mapping[str, Any]) -> tuple[float, float, bool]:
    """(width, height, whether images are stretched to it) of training in px; an aspect kept fits into it."""
    width, height = get(spec, "train.input_width"), get(spec, "train.input_height")
    if width and height:
        return float(width), float(height), True
    scales = get(spec, "dataset.augmentation.scales") or [800]
    longest = float(get(spec, "dataset.augmentation.random_resize_max_size") or 1333)
    return longest, float(max(scales)), False


def factors(sizes: np.ndarray, scale: tuple[float, float, bool]) -> np.ndarray:
    """[N, 2] (W, H) px of images -> [N, 2] what training multiplies their widths and heights by."""
    width, height, stretched = scale
    if stretched:
        return np.array([width, height]) / sizes
    kept = np.minimum(height / sizes.min(axis=1), width / sizes.max(axis=1))
    return np.stack([kept, kept], axis=1)


def small_boxes(sizes: Mapping[str, Any], counted: Iterable[Any] | None) -> list[tuple[float, str]]:
    """[(tenth percentile of a class's boxes, as `facts_of` has it in "sizes", whose)], the smallest first, of the
    classes `counted` (empty: all). What an earlier version recorded knows that of all boxes alone."""
    ids = {None, *(counted or ())}
    found = [
        (float(of["share"]), str(of["name"]))
        for of in sizes.get("small_boxes") or ()
        if ids == {None} or of["id"] in ids
    ]
    return sorted(found) or [(float(sizes["small_box"]), "all classes")]


def hardly_seen(spec: Mapping[str, Any], sizes: Mapping[str, Any] | None) -> str:
    """Of which classes a tenth of the boxes or more is hardly seen in a training of this spec, and what to do; "" for
    none."""
    if not sizes:
        return ""
    short = float(sizes["short_px"])
    # The most frequent size may be that of two odd images where hardly any two are alike.
    usual = np.array([sizes["usual"][::-1] if sizes["alike"] >= MOST else (short * 4 / 3, short)], float)
    factor = float(np.sqrt(factors(usual, training_scale(spec)).prod()))
    shares = small_boxes(sizes, get(spec, "dataset.eval_class_ids"))
    sides = [(share * float(usual.min()) * factor, name) for share, name in shares]
    if not (small := [f"{name} ({side:.0f} px)" for side, name in sides if side < SMALL_PX]):
        return ""
    return (
        f"a tenth of the boxes is smaller than {SMALL_PX} px at the training size, and hardly seen: {listed(small)}; "
        "larger images show them (train.input_height and train.input_width), in more memory and time"
    )
