"""The composed augmentations beside the published ones done step by step with torchvision's transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from model.data.transforms import EvalTransform, TrainTransform
from model.spec import resolve

SCALES = [96, 128, 160]


def spec_of(**augmentation: Any) -> dict[str, Any]:
    small = {
        "scales": SCALES, "random_resize_max_size": 200, "train_random_resize": [80, 100, 120],
        "train_random_crop_min": 50, "train_random_crop_max": 90, "fixed_random_crop": None, "test_random_resize": 96,
    }  # fmt: skip
    return resolve("train", {"dataset": {"augmentation": small | augmentation}})


def published_size(size: tuple[int, int], short: int, longest: int | None) -> list[int]:
    """(H, W) as get_size_with_aspect_ratio of the published datasets/transforms.py computes it."""
    h, w = size
    if longest is not None and max(h, w) / min(h, w) * short > longest:
        short = round(longest * min(h, w) / max(h, w))
    if (w <= h and w == short) or (h <= w and h == short):
        return [h, w]
    return [int(short * h / w), short] if w < h else [short, int(short * w / h)]


def step_by_step(image: Image.Image, boxes: np.ndarray, spec: dict[str, Any], random: Any) -> tuple[Any, Any]:
    """Flip, then resize or (resize, crop, resize), each on its own; (image, boxes xyxy px of the result)."""
    augment = spec["dataset"]["augmentation"]
    thing = tv_tensors.BoundingBoxes(
        torch.from_numpy(boxes), format="XYXY", canvas_size=(image.height, image.width)
    )
    both = [image, thing]

    def each(function: Any, *arguments: Any) -> None:
        both[:] = [function(item, *arguments) for item in both]

    if random.random() < augment["horizontal_flip_prob"]:
        each(F.horizontal_flip)
    side = augment["fixed_random_crop"]
    if side:
        scale = random.uniform(0.1, 2.0) * side / max(image.height, image.width)
        each(F.resize, [max(1, round(image.height * scale)), max(1, round(image.width * scale))])
        width, height = both[0].size
        crop_h, crop_w = min(height, side), min(width, side)
        left, top = random.integers(0, width - crop_w + 1), random.integers(0, height - crop_h + 1)
        each(F.crop, int(top), int(left), crop_h, crop_w)
    else:
        if random.random() < 0.5:
            short = int(random.choice(augment["train_random_resize"]))
            each(F.resize, published_size((image.height, image.width), short, None))
            width, height = both[0].size
            low, high = augment["train_random_crop_min"], augment["train_random_crop_max"]
            crop_w = int(random.integers(low, min(high, width) + 1))
            crop_h = int(random.integers(low, min(high, height) + 1))
            left, top = random.integers(0, width - crop_w + 1), random.integers(0, height - crop_h + 1)
            each(F.crop, int(top), int(left), crop_h, crop_w)
        short = int(random.choice(augment["scales"]))
        width, height = both[0].size
        each(F.resize, published_size((height, width), short, augment["random_resize_max_size"]))
    return both[0], F.clamp_bounding_boxes(both[1])


def picture(width: int, height: int) -> Image.Image:
    """Smooth, so that resampling once or thrice shows nearly the same."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 17 + c) * np.cos(y / 23 - c) * 100 + 128 for c in range(3)]
    return Image.fromarray(np.stack(waves, -1).astype(np.uint8))


def cxcywh(xyxy: np.ndarray) -> np.ndarray:
    return np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1)


@pytest.mark.parametrize("fixed", [None, 96])
@pytest.mark.parametrize("size", [(150, 110), (90, 190)])
def test_the_same_draws_give_the_same_sizes_boxes_and_pixels(
    size: tuple[int, int], fixed: int | None
) -> None:
    spec = spec_of(fixed_random_crop=fixed)
    transform, image = TrainTransform(spec), picture(*size)
    corners = np.random.default_rng(7).uniform(0, 1, (6, 2, 2)) * size
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)
    mean, std = (torch.tensor(spec["dataset"]["augmentation"][f"input_{n}"]) for n in ("mean", "std"))
    sizes = set()
    for seed in range(40):
        target = {"boxes_xyxy_px": boxes, "labels": np.arange(len(boxes))}
        shown, moved = transform(image, target, np.random.default_rng(seed))
        wanted, wanted_boxes = step_by_step(image, boxes, spec, np.random.default_rng(seed))
        assert (shown.shape[2], shown.shape[1]) == wanted.size
        xyxy = (wanted_boxes.as_subclass(torch.Tensor) / torch.tensor([*wanted.size, *wanted.size])).numpy()
        view = transform.view(size[1], size[0], np.random.default_rng(seed))
        cut = view.box != (0, 0, *size)
        # A crop is rounded to whole pixels of the original: half a pixel at either end, as a share of the crop.
        slack = 1.0 / min(view.box[2] - view.box[0], view.box[3] - view.box[1]) if cut else 2e-5
        assert abs(moved["boxes_cxcywh"].numpy() - cxcywh(xyxy)[moved["labels"]]).max(initial=0) < slack
        sides = (xyxy[:, 2:] - xyxy[:, :2]).min(1)
        lost = np.setdiff1d(np.flatnonzero(sides > 1e-5), moved["labels"])
        assert (sides[lost] < slack).all()
        levels = (shown.permute(1, 2, 0) * std + mean) * 255
        assert (levels - torch.from_numpy(np.array(wanted)).float()).abs().mean() < 4
        sizes.add(wanted.size)
    assert len(sizes) > 4


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1000, 200), (333, 500), (96, 96)])
def test_evaluation_sizes_are_the_published_ones(size: tuple[int, int]) -> None:
    wanted = published_size((size[1], size[0]), 96, 200)
    assert EvalTransform(spec_of()).size(size[1], size[0]) == tuple(wanted)


def test_a_box_that_a_crop_only_touches_is_dropped_and_a_sliver_is_kept() -> None:
    from model.data.transforms import View, visible

    boxes = np.array([[0, 0, 50, 50], [0, 0, 50.2, 50]], dtype=np.float32)
    _, keep = visible(boxes, View((50, 0, 100, 100), (100, 50)))
    assert keep.tolist() == [False, True]


def test_images_smaller_than_the_smallest_crop_are_cropped_no_further() -> None:
    transform = TrainTransform(spec_of(train_random_resize=[20], horizontal_flip_prob=0.0))
    views = [transform.view(40, 60, np.random.default_rng(seed)) for seed in range(20)]
    assert {view.box for view in views} == {(0, 0, 60, 40)}


LEAVES: dict[str, tuple[Any, Any]] = {
    "scales": ([96], [160]), "random_resize_max_size": (100, 400), "train_random_resize": ([80], [120]),
    "train_random_crop_min": (40, 80), "train_random_crop_max": (60, 110), "fixed_random_crop": (None, 64),
    "horizontal_flip_prob": (0.0, 1.0), "input_mean": ([0.5, 0.5, 0.5], [0.1, 0.1, 0.1]),
    "input_std": ([0.2, 0.2, 0.2], [0.3, 0.3, 0.3]),
}  # fmt: skip


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_leaf_of_the_augmentation_acts(leaf: str) -> None:
    image, target = picture(150, 110), {"boxes_xyxy_px": np.zeros((0, 4), np.float32), "labels": np.zeros(0)}

    def shown(value: Any) -> list[torch.Tensor]:
        transform = TrainTransform(spec_of(**{leaf: value}))
        return [transform(image, target, np.random.default_rng(seed))[0] for seed in range(8)]

    pairs = zip(*map(shown, LEAVES[leaf]), strict=True)
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in pairs)
