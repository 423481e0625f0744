"""Every image file of a dataset looked at once: its size, whether it can be read, and what it shows.

Results are kept in the cache by path, size and time of the file, so that the next plan of the same data is quick.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from model.data.cache import cache_dir
from model.data.images import BROKEN, MAX_PIXELS, TURNED, opened, stored_size, to_rgb, white
from model.errors import UserError, number_of
from model.info import cores
from model.told import at

CACHE_FORMAT = 4
UNREADABLE = "cannot be read as an image"
FLAT = 4  # of 255 grey levels: what differs by less looks like one shade
OF_TURNS = ("exif", "Raw profile type exif", "XML:com.adobe.xmp")  # what Pillow calls it in a PNG
SIDE = 9  # of the thumbnail whose neighbours are compared


@dataclass(frozen=True)
class Look:
    """What one image file is. Sizes are (W, H) px; `digest` and `likeness` are empty where it was not decoded."""

    stored: tuple[int, int] = (0, 0)
    turned: bool = False  # by EXIF, so that width and height of the upright image are exchanged
    problem: str = ""
    digest: str = ""  # SHA-256 of the upright RGB pixels
    likeness: str = ""  # 128 bits in hex that near copies share, most of them
    brightest: float = 0.0  # value over white, of greys of more than 8 bits
    gaps: int = 0  # pixels that are no finite number
    guessed_white: float = 0.0  # where the pixel type does not tell it
    flat: bool = False  # nearly all pixels of one shade, of greys of more than 8 bits
    orientation: int = 1  # EXIF's, 1 is upright

    @property
    def size(self) -> tuple[int, int]:
        return self.stored[::-1] if self.turned else self.stored


class _Pixels:
    """So many pixels, about 13 bytes each, are decoded at one time, however many threads there are: one alone may
    have more."""

    def __init__(self, most: int) -> None:
        self.most, self.left, self.given_back = most, most, threading.Condition()

    @contextlib.contextmanager
    def room_for(self, count: int) -> Iterator[None]:
        wanted = min(count, self.most)
        with self.given_back:
            self.given_back.wait_for(lambda: self.left >= wanted)
            self.left -= wanted
        try:
            yield
        finally:
            with self.given_back:
                self.left += wanted
                self.given_back.notify_all()


_DECODED = _Pixels(200_000_000)


def look(path: Path, decode: bool = True, max_pixels: int = MAX_PIXELS) -> Look:
    """Look at one file. Without `decode` only as far as damage can be told."""
    try:
        with opened(path, max_pixels) as file:
            stored = stored_size(file)
            # Pillow decodes a PNG to find an orientation that is not before its pixels; few have any.
            lazy = not decode and file.format == "PNG" and "exif" not in file.info
            late = lazy and _may_turn(file, path)
            orientation = 1 if lazy and not late else _orientation(file)
            turned = orientation in TURNED
            if not decode and not late and _seems_whole(file, path):
                return Look(stored, turned, orientation=orientation)
            with _DECODED.room_for(stored[0] * stored[1]):
                pixels = to_rgb(file)
                seen = (_digest(pixels), _likeness(pixels), *_range_of(file, pixels))
            return Look(stored, turned, "", *seen, orientation=orientation)
    except UserError as error:
        return Look(problem=str(error))
    except BROKEN as error:
        return Look(problem=f"{path} {UNREADABLE} ({error})")


def look_at(paths: Sequence[Path], decode: bool = True, max_pixels: int = MAX_PIXELS) -> list[Look]:
    """A look at each file, in parallel; what the cache knows of unchanged files is not looked at again."""
    known = _Known(paths)
    missing = [n for n, found in enumerate(known.looks) if not _suffices(found, decode, max_pixels)]
    threads = min(32, cores())
    with ThreadPoolExecutor(threads) as pool:
        looks = pool.map(lambda n: look(paths[n], decode, max_pixels), missing)
        for done, (n, found) in enumerate(zip(missing, looks, strict=True), 1):
            known.looks[n] = found
            at(f"{done} of {number_of(len(missing), 'image')} looked at")
    if missing:
        known.save()
    return [found or Look() for found in known.looks]


def first_whole(paths: Sequence[Path], count: int, max_pixels: int) -> tuple[list[Path], list[str]]:
    """(the first `count` images that can be decoded, what is wrong with those passed over for them)."""
    found: list[Path] = []
    damaged: list[str] = []
    for start in range(0, len(paths), max(1, count)):
        for path, seen in zip(
            batch := paths[start : start + count], look_at(batch, True, max_pixels), strict=True
        ):
            if seen.problem:
                damaged.append(seen.problem)
            else:
                found.append(path)
        if len(found) >= count:
            break
    return found[:count], damaged


def _suffices(found: Look | None, decode: bool, max_pixels: int) -> bool:
    """Whether it tells what another look would; the cache's may be of a run that allowed more pixels."""
    return found is not None and (bool(found.digest) or not decode) and math.prod(found.stored) <= max_pixels


class _Known:
    """The cache's looks at these files: one JSON file for each folder of images."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths, self.stamps = paths, [stamp(path) for path in paths]
        self.files: dict[str, dict[str, Any]] = {}
        self.looks = [self._find(path, of_file) for path, of_file in zip(paths, self.stamps, strict=True)]

    def _find(self, path: Path, of_file: list[int] | None) -> Look | None:
        kept = self._of_folder(path).get(path.name)
        if of_file is None or not kept or kept[0] != of_file:
            return None
        stored, *rest = kept[1]
        return Look((int(stored[0]), int(stored[1])), *rest)

    def _of_folder(self, path: Path) -> dict[str, Any]:
        folder = str(path.parent)
        if folder not in self.files:
            try:
                self.files[folder] = dict(json.loads(_cache_file(folder).read_text()))
            except (OSError, ValueError, TypeError):
                self.files[folder] = {}
        return self.files[folder]

    def save(self) -> None:
        """Damage is not kept: the next look is at a file that was mended."""
        for path, of_file, found in zip(self.paths, self.stamps, self.looks, strict=True):
            if of_file and found and not found.problem:
                self._of_folder(path)[path.name] = [of_file, astuple(found)]
        for folder, entries in self.files.items():
            target = _cache_file(folder)
            partial = target.with_suffix(f".{os.getpid()}.partial")
            with contextlib.suppress(OSError):  # a full or read-only disk: it is looked at again
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                partial.write_text(json.dumps(entries))
                partial.replace(target)


def read_by() -> str:
    """What decodes images here; another version may round otherwise."""
    return f"Pillow {PIL.__version__}, libjpeg {features.version('jpg')}, {platform.machine()}"


def _cache_file(folder: str) -> Path:
    key = f"{CACHE_FORMAT} {read_by()} {folder}"
    name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:32]
    return cache_dir() / "looks" / f"{name}.json"


def stamp(path: Path | bytes) -> list[int] | None:
    """[bytes, nanoseconds of the last change, inode, nanoseconds of the last change of any of these] of a file, None
    where there is none. Only the last tells of a file that was mended in place and given its old time."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns]


def _seems_whole(file: Any, path: Path) -> bool:
    """Whether a file is whole by what its format tells without decoding; False where it does not tell."""
    if file.format == "PNG":
        file.verify()  # checksums
        return True
    if file.format != "JPEG":
        return False
    return b"\xff\xd9" in _end_of(path, 4096)


def _may_turn(png: Any, path: Path) -> bool:
    """Whether a PNG has what may tell an orientation, before its pixels or behind them."""
    end = _end_of(path, 1 << 16)
    return any(name in png.info for name in OF_TURNS) or any(
        name.encode() in end for name in (*OF_TURNS, "eXIf")
    )


def _end_of(path: Path, size: int) -> bytes:
    with path.open("rb") as raw:
        raw.seek(max(0, path.stat().st_size - size))
        return raw.read()


def _digest(image: Image.Image) -> str:
    found = hashlib.sha256(f"{image.width}x{image.height}".encode())
    found.update(image.tobytes())
    return found.hexdigest()


def _likeness(image: Image.Image) -> str:
    """Whether each pixel of a small grey copy is darker than its neighbour, across and down (a difference hash)."""
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.int16)
    across, down = grey[:-1, :-1] < grey[:-1, 1:], grey[:-1, :-1] < grey[1:, :-1]
    return np.packbits(np.concatenate([across.ravel(), down.ravel()])).tobytes().hex()


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8; 1 where there is none or it is no such number."""
    found = image.getexif().get(0x0112)
    return next((n for n in range(1, 9) if n == found), 1)


def _range_of(image: Image.Image, pixels: Image.Image) -> tuple[float, int, float, bool]:
    """(the brightest finite value over white, how many pixels are not finite, white where it was guessed, whether
    the RGB `pixels` of it look like one shade); nothing of 8-bit images."""
    if not image.mode.startswith(("I", "F")):
        return 0.0, 0, 0.0, False
    values = np.asarray(image, dtype=np.float32)
    finite = values[np.isfinite(values)]
    top = float(np.max(finite)) if finite.size else 0.0
    whole = white(image.mode, values)
    low, high = np.percentile(np.asarray(pixels)[..., 0], [0.1, 99.9]) if values.size else (0, 0)
    guessed = whole if top > 0 and not image.mode.startswith("I;16") else 0.0
    return min(top / whole, 1.0), values.size - finite.size, guessed, bool(high - low < FLAT)
