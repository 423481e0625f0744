"""An image file, whatever its format and pixel type, as upright 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from model.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# What Pillow raises for damaged files.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def open_rgb(path: Path) -> Image.Image:
    """The decoded image. Raises `UserError` naming the file when it cannot be read."""
    try:
        with Image.open(path) as file:
            image = to_rgb(file)
            image.load()
            return image
    except BROKEN as error:
        raise UserError(f"{path}: cannot be read as an image ({error})") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB with EXIF rotation applied; greys of more than 8 bits are scaled, not cut off."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float32)
        image = Image.fromarray((values / _white(image.mode, values) * 255).clip(0, 255).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def _white(mode: str, values: np.ndarray) -> float:
    """The value of white: told by the pixel type where it does, else the least usual one that holds all values."""
    if mode.startswith("I;16"):
        return 65535.0
    top = float(values.max(initial=0.0))
    return next((white for white in (1.0, 255.0, 65535.0) if top <= white), top)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) after EXIF rotation, without decoding."""
    turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
    return (image.height, image.width) if turned else (image.width, image.height)
