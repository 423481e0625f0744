"""Looking at many images at once, and what is left of those who died at it."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from model.data import cache, images, looks


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 25), min_size=1, max_size=40), st.integers(1, 8))
def test_no_more_pixels_at_one_time_than_there_is_room_for(counts: list[int], threads: int) -> None:
    room, lock, now, most = looks._Pixels(10), threading.Lock(), [0, 0], [0, 0]

    def decode(count: int) -> None:
        with room.room_for(count):
            with lock:
                now[0], now[1] = now[0] + count, now[1] + 1
                most[0] = max(most[0], now[0] if now[1] > 1 else 0)
            with lock:
                now[0], now[1] = now[0] - count, now[1] - 1

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode, counts))
    assert room.left == 10
    assert most[0] <= max(10, *counts)  # one that is larger alone has all the room


def test_what_a_killed_process_left_half_made_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path))
    for name in ("abc.999999.partial", "abcd.999999.partial"):
        (tmp_path / name).mkdir()
    target = cache.once(tmp_path / "abc", lambda folder: (folder / "x").touch())
    assert os.listdir(target) == ["x"]
    assert not (tmp_path / "abc.999999.partial").exists()
    assert (tmp_path / "abcd.999999.partial").exists()


def save_turned(path: Path, how: str) -> None:
    """100x40 px, shown as 40x100."""
    image, exif = Image.new("RGB", (100, 40), "red"), Image.Exif()
    exif[0x0112] = 6
    if how == "behind the pixels":
        image.save(path)
        whole, body = path.read_bytes(), b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        path.write_bytes(whole[:-12] + chunk + whole[-12:])
    elif how == "XMP":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
        image.save(path, pnginfo=info)
    else:
        image.save(path, exif=exif)


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize(
    ("suffix", "how"), [("tif", ""), ("jpg", ""), ("png", ""), ("png", "behind the pixels"), ("png", "XMP")]
)
def test_turned_images_are_upright_to_every_reader(
    suffix: str, how: str, decode: bool, tmp_path: Path
) -> None:
    save_turned(path := tmp_path / f"x.{suffix}", how)
    found = looks.look(path, decode)
    assert (found.stored, found.size, found.orientation, found.problem) == ((100, 40), (40, 100), 6, "")
    assert images.open_rgb(path).size == (40, 100)
    with images.opened(path) as file:
        assert images.upright_size(file) == (40, 100)
