"""An image file, whatever its format and pixel type, as upright 8-bit RGB; and which files are images."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from model.errors import UserError
from model.parameters import default_of

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")  # of what is written
COLOURS = 64  # a mask has no more
# What Pillow raises for damaged files.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    MemoryError,
    Image.DecompressionBombError,
)
MAX_PIXELS = int(default_of("dataset.max_image_pixels"))
CHECKED = sys.maxsize  # of an image that was looked at before, within the limit of the spec
# Documents and drawings that Pillow would hand to other programs.
NO_PICTURES = ("EPS", "PDF", "WMF", "FPX", "MPEG", "GRIB", "HDF5", "BUFR", "FITS", "STUB")
BY_CONTENT = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "JPEG2000")  # what a name need not tell
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
WHITES = (1.0, 255.0, 65535.0)  # of floats and of whole numbers of 32 bits
OVERSHOOT = 1.5  # times white: what a cubic or Lanczos filter makes of an edge
OVERSHOT = 0.05  # of the pixels that are not black, the share there that may be cut off
STRAY = 0.001  # of these, pixels of any value that say nothing of white; one of LARGE
LARGE = 100  # pixels
DIM = 1 / 8  # of white: an image that stays below looks black

Image.MAX_IMAGE_PIXELS = None  # `opened` has a limit of its own, which a spec can raise
Image.init()
FORMATS = tuple(name for name in Image.ID if name not in NO_PICTURES)
READ_SUFFIXES = tuple(
    sorted({".mpo", *(s for s, name in Image.registered_extensions().items() if name in FORMATS)})
)  # .mpo: JPEG with a second picture behind it
# Raw ones are TIFF to Pillow, which finds a small preview in them.
RAW = (".dng", ".nef", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw")
UNREAD = (".heic", ".heif", ".hif", ".jxl", ".jxr", ".exr", ".dcm", *RAW)


def opened(path: Path, max_pixels: int = MAX_PIXELS, formats: tuple[str, ...] = FORMATS) -> Any:
    """Pillow's image of a file, not yet decoded. Raises one of BROKEN, `UserError` for too many pixels."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError("no regular file")  # to open a pipe may wait for ever
    try:
        file = Image.open(path, formats=formats)
    except UnidentifiedImageError as error:
        empty = "" if os.path.getsize(path) else "the file is empty"
        raise OSError(how_to_convert(path) or empty or str(error)) from None
    if file.format == "TIFF" and Path(path).suffix.lower() in RAW:
        file.close()
        raise OSError(how_to_convert(path))
    if file.width * file.height > max_pixels:
        size = f"{file.width}x{file.height}"
        file.close()
        raise UserError(
            f"{path}: {size} px are more than dataset.max_image_pixels {max_pixels}; raise it if the file is trusted"
        )
    return file


def how_to_convert(path: str | Path) -> str:
    """What to do about an image that has a suffix of those that are not read, or nothing."""
    suffix = Path(path).suffix.lower()
    return f"{suffix} is not read, convert such images to JPEG, PNG or TIFF" if suffix in UNREAD else ""


def open_rgb(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The decoded image. Raises `UserError` naming the file when it cannot be read."""
    try:
        with opened(path, max_pixels) as file:
            image = to_rgb(file)
            image.load()
            return image
    except BROKEN as error:
        raise UserError(f"{path}: cannot be read as an image ({error})") from None


def is_drawn(path: Path) -> bool:
    """Whether a picture has as few colours as a mask, and no photo."""
    try:
        with opened(path) as image:
            return image.getcolors(COLOURS) is not None
    except (*BROKEN, UserError):
        return False  # told when it is read


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB with EXIF rotation applied; greys of more than 8 bits are scaled, not cut off; NaN is black."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float32)
        top = white(image.mode, values)
        shares = np.nan_to_num(values, nan=0.0).clip(0, top) / top
        image = Image.fromarray((shares * 255).clip(0, 255).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def white(mode: str, values: np.ndarray) -> float:
    """The value of white: told by the pixel type where it does, else the least usual one that holds the image. A few
    pixels beyond it are cut off: what resampling leaves above white, and dead pixels of a sensor. Where many are a bit
    beyond, the brightest of them is white."""
    if mode.startswith("I;16"):
        return 65535.0
    lit = values[np.isfinite(values) & (values > 0)]
    top = float(lit.max(initial=0.0))
    for usual in WHITES:
        if top <= usual:
            return usual
        if (usual > 1 or mode == "F") and (near := _white_near(usual, lit)):
            return near
    return top


def _white_near(white: float, lit: np.ndarray) -> float:
    """White of pixels that are not black, some of them beyond `white`, if it is that or a bit more; else 0."""
    strays = int(STRAY * lit.size) or int(lit.size >= LARGE)
    place = lit.size - 1 - strays
    most, top = (float(v) for v in np.partition(lit, (place, lit.size - 1))[[place, -1]])
    # Some bright spots on what is black to the next white are an image of that.
    if most > OVERSHOOT * white or (top > OVERSHOOT * white and most < DIM * white):
        return 0.0
    few = int((lit > white).sum()) <= OVERSHOT * lit.size + strays
    return white if few else max(white, most)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of the pixels as an opened file holds them; Pillow says those of a TIFF as they are upright."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(0x0100, image.width)), int(tags.get(0x0101, image.height))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an opened file after EXIF rotation, without decoding."""
    width, height = stored_size(image)
    return (height, width) if image.getexif().get(0x0112) in TURNED else (width, height)


def size_in_file(path: Path) -> tuple[int, int] | None:
    """(width, height) px of the upright image by its file's head, None where it cannot be read. The spec's limit of
    pixels is held where they are decoded."""
    try:
        with opened(path, CHECKED) as file:
            # Pillow decodes a PNG to find an orientation behind its pixels.
            large = file.width * file.height > MAX_PIXELS and file.format == "PNG" and "exif" not in file.info
            return stored_size(file) if large else upright_size(file)
    except BROKEN:
        return None


def is_image_name(path: Path) -> bool:
    """Whether the suffix is one of an image's."""
    return path.suffix.lower() in READ_SUFFIXES


def is_image(path: Path) -> bool:
    """Told by the name, or by the content where that does not say."""
    if is_image_name(path):
        return True
    try:
        with Image.open(path, formats=BY_CONTENT):
            return True
    except BROKEN:
        return False
