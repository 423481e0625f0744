"""Looking at many images at once, and what is left of those who died at it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data import cache, looks


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
