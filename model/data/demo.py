"""A small dataset to try everything on: coloured shapes on textured ground, the same bytes for the same seed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "triangle")
COLOURS = ((214, 69, 65), (52, 120, 200), (240, 180, 40), (60, 160, 90), (150, 80, 180))
MARGIN_PX = 2


def write_demo(
    folder: Path,
    seed: int = 0,
    images: tuple[int, int, int] = (200, 40, 40),
    size: tuple[int, int] = (128, 128),
) -> None:
    """`folder`/{train,val,test}/{images/, annotations.json}; `images` per split, `size` (H, W) px."""
    for n, (split, count) in enumerate(zip(("train", "val", "test"), images, strict=True)):
        _write_split(Path(folder) / split, np.random.default_rng([seed, n]), count, size)


def _write_split(folder: Path, random: np.random.Generator, count: int, size: tuple[int, int]) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    height, width = size
    document: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    document["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    for number in range(1, count + 1):
        name = f"{number:04d}.png"
        picture, shapes = draw_image(random, height, width)
        picture.save(folder / "images" / name)
        document["images"].append({"id": number, "file_name": name, "width": width, "height": height})
        for category, box in shapes:
            x, y, w, h = box
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
    (folder / "annotations.json").write_text(json.dumps(document))


def draw_image(
    random: np.random.Generator, height: int, width: int
) -> tuple[Image.Image, list[tuple[int, tuple[float, float, float, float]]]]:
    """One picture and its shapes as (category id, box xywh px); shapes hardly overlap."""
    picture = Image.fromarray(_ground(random, height, width))
    pen = ImageDraw.Draw(picture)
    shapes: list[tuple[int, tuple[float, float, float, float]]] = []
    for _ in range(int(random.integers(1, 5))):
        for _ in range(20):
            side = float(random.integers(height // 6, height * 2 // 5))
            x = float(random.integers(MARGIN_PX, int(width - side) - MARGIN_PX))
            y = float(random.integers(MARGIN_PX, int(height - side) - MARGIN_PX))
            if all(_apart((x, y, side, side), other) for _, other in shapes):
                kind = int(random.integers(len(CLASSES)))
                box = _draw(pen, kind, x, y, side, COLOURS[int(random.integers(len(COLOURS)))])
                shapes.append((kind + 1, box))
                break
    return picture, shapes


def _ground(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Grey-brown noise over a slow wave, [H, W, 3] uint8."""
    y, x = np.mgrid[:height, :width]
    angle, period = random.uniform(0, math.pi), random.uniform(20, 60)
    wave = 12 * np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period)
    base = random.uniform(90, 170, size=3)
    noise = random.normal(0, 10, size=(height, width, 3))
    return (base + wave[..., None] + noise).clip(0, 255).astype(np.uint8)


def _draw(
    pen: ImageDraw.ImageDraw, kind: int, x: float, y: float, side: float, colour: tuple[int, int, int]
) -> tuple[float, float, float, float]:
    """Draw a shape filling the square and return the box of its pixels."""
    right, bottom = x + side - 1, y + side - 1
    if CLASSES[kind] == "circle":
        pen.ellipse((x, y, right, bottom), fill=colour)
    elif CLASSES[kind] == "square":
        pen.rectangle((x, y, right, bottom), fill=colour)
    else:
        pen.polygon([(x + (side - 1) / 2, y), (x, bottom), (right, bottom)], fill=colour)
    return (x, y, side, side)


def _apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two boxes xywh overlap by less than a tenth of the smaller."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return w <= 0 or h <= 0 or w * h < 0.1 * min(a[2] * a[3], b[2] * b[3])
