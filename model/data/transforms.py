"""From an image to the detector's input: the published augmentations, with each image resampled once.

The published pipeline resizes, crops and resizes again; here the same draws, in the same order, are composed into one
source rectangle and one target size, so that a pixel is interpolated once and an image costs one resize. Sizes and
boxes are those of the step-by-step pipeline (tests/model/data/test_pipeline.py runs it on torchvision's transforms
beside this one), but that a crop begins and ends at a whole pixel of the original.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from model.parameters import default_of

LSJ_RANGE = (0.1, 2.0)  # large-scale jitter (arXiv:2012.07177)
MIN_SIDE_PX = 1e-3  # a box that a crop leaves no side of is dropped, as published; the rest is rounding


@dataclass(frozen=True)
class View:
    """Part of an image (xyxy px of the original) shown at a size (H, W) px, mirrored or not."""

    box: tuple[int, int, int, int]
    size: tuple[int, int]
    flip: bool = False


def short_side(height: int, width: int, short: int, longest: int | None) -> tuple[int, int]:
    """(H, W) with the short side at `short` px unless that makes the long side longer than `longest`; rounded as
    published (datasets/transforms.py of fundamentalvision/Deformable-DETR)."""
    low, high = min(height, width), max(height, width)
    if longest and high / low * short > longest:
        short = max(1, round(longest * low / high))
    long = int(short * high / low)
    return (short, long) if height <= width else (long, short)


class TrainTransform:
    """Draws a View for each training image. `random` is the caller's numpy Generator."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.augment = spec["dataset"]["augmentation"]
        self.max_pixels = max_pixels(spec)
        self.exact = exact_size(spec, "train")
        self.normalise = Normalise(spec)

    def __call__(
        self, image: Image.Image, target: dict[str, Any], random: np.random.Generator
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        return self.normalise(image, target, self.view(image.height, image.width, random))

    def view(self, height: int, width: int, random: np.random.Generator) -> View:
        """Draws flip, crop and sizes in the published order: a crop's place is one of the flipped image."""
        flip = bool(random.random() < self.augment["horizontal_flip_prob"])
        side = self.augment["fixed_random_crop"]
        box, size = self._jitter(height, width, side, random) if side else self._crop(height, width, random)
        if flip:
            box = (width - box[2], box[1], width - box[0], box[3])
        return View(box, self.exact or size, flip)

    def _crop(self, height: int, width: int, random: np.random.Generator) -> tuple[Any, tuple[int, int]]:
        """Half of the images whole, half a random crop; then a random short side."""
        box, shown = (0, 0, width, height), (height, width)
        if random.random() < 0.5:
            h, w = short_side(height, width, int(random.choice(self.augment["train_random_resize"])), None)
            low, high = self.augment["train_random_crop_min"], self.augment["train_random_crop_max"]
            crop_w = int(random.integers(min(low, w), min(high, w) + 1))
            crop_h = int(random.integers(min(low, h), min(high, h) + 1))
            left, top = int(random.integers(0, w - crop_w + 1)), int(random.integers(0, h - crop_h + 1))
            box, shown = _scaled((left, top, crop_w, crop_h), (w, h), (width, height)), (crop_h, crop_w)
        short = int(random.choice(self.augment["scales"]))
        return box, short_side(*shown, short, self.augment["random_resize_max_size"])

    def _jitter(
        self, height: int, width: int, side: int, random: np.random.Generator
    ) -> tuple[Any, tuple[int, int]]:
        """Large-scale jitter: scale so that the image fits a square of 0.1 to 2 times `side`, then a random crop
        of `side`; what is smaller is padded by the collate."""
        scale = float(random.uniform(*LSJ_RANGE)) * side / max(height, width)
        h, w = max(1, round(height * scale)), max(1, round(width * scale))
        crop_h, crop_w = min(h, side), min(w, side)
        left, top = int(random.integers(0, w - crop_w + 1)), int(random.integers(0, h - crop_h + 1))
        return _scaled((left, top, crop_w, crop_h), (w, h), (width, height)), (crop_h, crop_w)


def _scaled(
    xywh: tuple[int, int, int, int], size: tuple[int, int], original: tuple[int, int]
) -> tuple[int, int, int, int]:
    """A rectangle of an image resized to (W, H) as xyxy px of the `original` (W, H), rounded to whole pixels."""
    (left, top, w, h), sx, sy = xywh, original[0] / size[0], original[1] / size[1]
    x, y = min(round(left * sx), original[0] - 1), min(round(top * sy), original[1] - 1)
    return x, y, max(x + 1, round((left + w) * sx)), max(y + 1, round((top + h) * sy))


class EvalTransform:
    """The whole image, at exactly `size` (H, W) when given, else by its short side."""

    def __init__(self, spec: Mapping[str, Any], size: tuple[int, int] | None = None) -> None:
        self.augment, self.exact = spec["dataset"]["augmentation"], size
        self.max_pixels = max_pixels(spec)
        self.normalise = Normalise(spec)

    def __call__(
        self, image: Image.Image, target: dict[str, Any], random: Any = None
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        whole = (0, 0, image.width, image.height)
        return self.normalise(image, target, View(whole, self.size(image.height, image.width)))

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) px that an image is shown at."""
        short, longest = self.augment["test_random_resize"], self.augment["random_resize_max_size"]
        return self.exact or short_side(height, width, short, longest)


class Normalise:
    """Cuts a View out of an image, scales pixels to mean 0 and deviation 1, and moves the boxes along."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        augment = spec["dataset"]["augmentation"]
        std = torch.tensor(augment["input_std"], dtype=torch.float32)
        self.scale = (1 / (255 * std)).reshape(3, 1, 1)
        self.shift = (torch.tensor(augment["input_mean"], dtype=torch.float32) / std).reshape(3, 1, 1)

    def __call__(
        self, image: Image.Image, target: dict[str, Any], view: View
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """target: boxes_xyxy_px [N, 4] and labels [N] of the original image. Returns [3, H, W] float32 and the
        target with boxes_cxcywh [N, 4], 0-1 of the view, instead."""
        pixels = shown(image, view).to(torch.float32, memory_format=torch.contiguous_format)
        boxes, keep = visible(target["boxes_xyxy_px"], view)
        moved = {k: v for k, v in target.items() if k != "boxes_xyxy_px"}
        moved |= {"boxes_cxcywh": torch.from_numpy(boxes), "labels": torch.from_numpy(target["labels"][keep])}
        return pixels.mul_(self.scale).sub_(self.shift), moved


def shown(image: Image.Image, view: View) -> torch.Tensor:
    """The view of an RGB image, [3, H, W] uint8. torch resamples bytes as Pillow does (bilinear, antialiased, to
    within one level) with the processor's vector instructions, in half of the time."""
    left, top, right, bottom = view.box
    part = torch.from_numpy(np.array(np.asarray(image)[top:bottom, left:right])).permute(2, 0, 1)[None]
    if part.shape[2:] != view.size:
        part = F.interpolate(part, view.size, mode="bilinear", antialias=True)
    return part[0].flip(-1) if view.flip else part[0]


def visible(boxes_xyxy_px: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Boxes cut to a view, as cxcywh 0-1 of it [M, 4] float32, and which of the N are left [N] bool."""
    left, top, right, bottom = view.box
    extent = np.array([right - left, bottom - top] * 2, dtype=np.float32)
    inside = (boxes_xyxy_px - np.array([left, top, left, top], dtype=np.float32)) / extent
    inside = inside.clip(0, 1)
    h, w = view.size
    sides_px = (inside[:, 2:] - inside[:, :2]) * np.array([w, h], dtype=np.float32)
    keep: np.ndarray = np.all(sides_px > MIN_SIDE_PX, axis=1)
    inside = inside[keep]
    if view.flip:
        inside = np.stack([1 - inside[:, 2], inside[:, 1], 1 - inside[:, 0], inside[:, 3]], axis=1)
    cxcywh = np.concatenate([(inside[:, :2] + inside[:, 2:]) / 2, inside[:, 2:] - inside[:, :2]], axis=1)
    return cxcywh.astype(np.float32), keep


def usual_size(spec: Mapping[str, Any], sizes: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """(H, W) px at which most images of these (H, W) are validated; the first of several that are as many."""
    transform = EvalTransform(spec, exact_size(spec, "train"))
    counts = Counter(transform.size(int(h), int(w)) for h, w in sizes)
    return max(counts, key=lambda size: counts[size]) if counts else None


def max_pixels(spec: Mapping[str, Any]) -> int:
    """The largest image that is opened."""
    return int(spec["dataset"].get("max_image_pixels", default_of("dataset.max_image_pixels")))


def exact_size(spec: Mapping[str, Any], action: str) -> tuple[int, int] | None:
    """(H, W) when an action's input_height and input_width are both set."""
    section = spec.get(action, {})
    height, width = section.get("input_height"), section.get("input_width")
    return (int(height), int(width)) if height and width else None


def canvas(spec: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, int]:
    """The fixed size (H, W) that a training image of `size` is padded to, so that memory stays level."""
    augment = spec["dataset"]["augmentation"]
    if augment["fixed_random_crop"]:
        return augment["fixed_random_crop"], augment["fixed_random_crop"]
    short, long = max(augment["scales"]), max(augment["random_resize_max_size"], max(augment["scales"]))
    fixed = (short, long) if size[1] >= size[0] else (long, short)
    return max(fixed[0], size[0]), max(fixed[1], size[1])


def batch_images(
    images: list[torch.Tensor], sizes: list[tuple[int, int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images padded at the bottom and right to the largest of `sizes` -> [B, 3, H, W] float32 and the mask
    [B, H, W] bool, True on padding."""
    height, width = max(s[0] for s in sizes), max(s[1] for s in sizes)
    if all(image.shape[1:] == (height, width) for image in images):
        return torch.stack(images), torch.zeros(len(images), height, width, dtype=torch.bool)
    batch = torch.zeros(len(images), 3, height, width)
    mask = torch.ones(len(images), height, width, dtype=torch.bool)
    for i, image in enumerate(images):
        _, h, w = image.shape
        batch[i, :, :h, :w] = image
        mask[i, :h, :w] = False
    return batch, mask
