import numpy as np
import pytest
import torch
from PIL import Image

from model.data.images import to_rgb
from model.data.transforms import (
    EvalTransform,
    TrainTransform,
    View,
    batch_images,
    canvas,
    exact_size,
    short_side,
    visible,
)
from model.spec import resolve


def spec_of(**augmentation: object) -> dict:
    return resolve("train", {"dataset": {"augmentation": augmentation}})


def target(boxes: list[list[float]]) -> dict:
    return {
        "boxes_xyxy_px": np.array(boxes, dtype=np.float32).reshape(-1, 4),
        "labels": np.arange(len(boxes)) + 1,
    }


def gradient(width: int = 200, height: int = 100) -> Image.Image:
    """Red grows with x, green with y: a pixel tells where it came from."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))


@pytest.mark.parametrize(
    ("size", "short", "longest", "wanted"),
    [
        ((480, 640), 800, 1333, (800, 1066)),
        ((300, 900), 800, 1333, (444, 1332)),
        ((640, 480), 240, None, (320, 240)),
    ],
)
def test_short_side(size, short, longest, wanted) -> None:
    assert short_side(*size, short, longest) == wanted


def test_boxes_are_cut_moved_and_mirrored_with_the_view() -> None:
    boxes = np.array([[10, 10, 30, 30], [0, 0, 5, 5], [90, 40, 150, 80]], dtype=np.float32)
    found, keep = visible(boxes, View((10, 10, 110, 60), (50, 100)))
    assert keep.tolist() == [True, False, True]
    assert found[0] == pytest.approx([0.1, 0.2, 0.2, 0.4])
    assert found[1] == pytest.approx([0.9, 0.8, 0.2, 0.4])
    mirrored, _ = visible(boxes, View((10, 10, 110, 60), (50, 100), flip=True))
    assert mirrored[0] == pytest.approx([0.9, 0.2, 0.2, 0.4])


@pytest.mark.parametrize("fixed", [None, 96])
def test_pixels_and_boxes_stay_together_through_every_augmentation(fixed: int | None) -> None:
    """The centre of a box must show the pixel that was at its centre before, whatever was drawn."""
    spec = spec_of(fixed_random_crop=fixed, scales=[80, 120], train_random_resize=[90], train_random_crop_min=50, train_random_crop_max=80, random_resize_max_size=300)  # fmt: skip
    transform, random = TrainTransform(spec), np.random.default_rng(0)
    mean, std = torch.tensor([0.485, 0.456]), torch.tensor([0.229, 0.224])
    seen = 0
    for _ in range(60):
        image, moved = transform(gradient(), target([[60, 30, 100, 60]]), random)
        if not len(moved["labels"]):
            continue
        cx, cy, *_ = moved["boxes_cxcywh"][0]
        row, column = int(cy * image.shape[1]), int(cx * image.shape[2])
        shown = (image[:2, min(row, image.shape[1] - 1), min(column, image.shape[2] - 1)] * std + mean) * 255
        assert 55 <= shown[0] <= 105
        assert 25 <= shown[1] <= 65
        seen += 1
    assert seen > 20


def test_flip_probability_and_exact_size() -> None:
    spec = resolve("train", {"train": {"input_height": 40, "input_width": 60}, "dataset": {"augmentation": {"fixed_random_crop": None, "horizontal_flip_prob": 1.0}}})  # fmt: skip
    transform, random = TrainTransform(spec), np.random.default_rng(0)
    image, _ = transform(gradient(), target([]), random)
    assert image.shape == (3, 40, 60)
    assert image[0, 20, 0] > image[0, 20, -1]
    assert exact_size(spec, "train") == (40, 60)
    assert EvalTransform(spec, (40, 60))(gradient(), target([[0, 0, 100, 50]]))[1][
        "boxes_cxcywh"
    ].tolist() == [[0.25, 0.25, 0.5, 0.5]]


def test_normalisation_is_imagenet_s() -> None:
    image, _ = EvalTransform(spec_of(test_random_resize=100))(
        Image.new("RGB", (100, 100), (255, 0, 128)), target([])
    )
    assert image[:, 0, 0].tolist() == pytest.approx(
        [(1 - 0.485) / 0.229, -0.456 / 0.224, (128 / 255 - 0.406) / 0.225], abs=1e-5
    )


def test_the_same_seed_draws_the_same_views() -> None:
    transform = TrainTransform(spec_of(fixed_random_crop=None))
    views = [[transform.view(480, 640, np.random.default_rng([1, n])) for n in range(5)] for _ in range(2)]
    assert views[0] == views[1]
    assert len(set(views[0])) > 1


def test_padding_goes_to_the_bottom_and_right() -> None:
    images = [torch.ones(3, 4, 6), torch.ones(3, 5, 2)]
    batch, mask = batch_images(images, [(4, 6), (5, 2)])
    assert batch.shape == (2, 3, 5, 6)
    assert mask[0].sum() == 6
    assert mask[0, 4].all()
    assert mask[1, :, 2:].all()
    assert not mask[1, :, :2].any()
    assert batch[1, 0, :, 2:].abs().sum() == 0


def test_fixed_padding_follows_the_orientation() -> None:
    spec = spec_of(fixed_random_crop=None)
    assert canvas(spec, (500, 700)) == (800, 1333)
    assert canvas(spec, (700, 500)) == (1333, 800)
    assert canvas(spec_of(fixed_random_crop=256), (100, 256)) == (256, 256)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1", "I;16"])
def test_every_kind_of_image_becomes_rgb(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 5), 32768, dtype=np.uint16))
    else:
        image = Image.new("RGB", (5, 4), (128, 128, 128)).convert(mode)
    rgb = to_rgb(image)
    assert (rgb.mode, rgb.size) == ("RGB", (5, 4))
    if mode in ("L", "CMYK", "RGBA", "I;16"):
        assert abs(int(np.asarray(rgb)[0, 0, 0]) - 128) <= 1


def test_exif_rotation_is_applied() -> None:
    image = gradient(20, 10)
    exif = image.getexif()
    exif[0x0112] = 6
    import io

    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    assert to_rgb(Image.open(file)).size == (10, 20)
