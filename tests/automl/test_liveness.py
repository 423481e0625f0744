"""Silence, on a clock of its own, and what a heartbeat says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.liveness import LOOK_S, WATCHED, Liveness, read_beat


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def looked(liveness: Liveness, clock: Clock, seconds: int) -> float | None:
    """Look once a second for so long, or until the silence is too long."""
    for _ in range(seconds):
        clock.now += 1
        if limit_s := liveness.look():
            return limit_s
    return None


def watch(folder: Path, limit_s: float | None) -> tuple[Liveness, Clock]:
    clock = Clock()
    return Liveness(folder, limit_s, clock), clock


@pytest.mark.parametrize("name", WATCHED)
def test_each_file_counts_and_silence_counts_from_its_last_change(tmp_path: Path, name: str) -> None:
    liveness, clock = watch(tmp_path, 10)
    assert looked(liveness, clock, 9) is None
    (tmp_path / name).write_text("x")
    assert looked(liveness, clock, 11) is None
    assert looked(liveness, clock, 1) == 10


def test_a_heartbeat_of_the_same_size_counts(tmp_path: Path) -> None:
    liveness, clock = watch(tmp_path, 10)
    for _ in range(5):
        (tmp_path / "new").write_text("{}")
        (tmp_path / "new").replace(tmp_path / "heartbeat")
        assert looked(liveness, clock, 10) is None


def test_the_limit_follows_the_longest_epoch_of_a_trainer_without_a_heartbeat(tmp_path: Path) -> None:
    liveness, clock = watch(tmp_path, 10)
    clock.now += 8
    liveness.record()
    clock.now += 2
    liveness.record()
    (tmp_path / "metrics.jsonl").write_text("x")
    assert looked(liveness, clock, 30) == 24


def test_the_limit_of_a_trainer_with_a_heartbeat_stays(tmp_path: Path) -> None:
    liveness, clock = watch(tmp_path, 10)
    clock.now += 8
    liveness.record()
    (tmp_path / "heartbeat").write_text('{"step": 3}')
    liveness.look()
    assert liveness.beat() == {"step": 3.0}
    assert liveness.beat() is None
    assert looked(liveness, clock, 30) == 10


def test_off_is_never_too_long(tmp_path: Path) -> None:
    liveness, clock = watch(tmp_path, None)
    assert looked(liveness, clock, 100_000) is None


def test_a_driver_that_stood_still_has_not_seen_silence(tmp_path: Path) -> None:
    """A suspended machine, a slow database: the trial may have stood still as well."""
    liveness, clock = watch(tmp_path, 10)
    clock.now += 3600
    assert liveness.look() is None
    assert liveness.silent_s == LOOK_S


def test_a_heartbeat_from_before_the_start_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "heartbeat").write_text('{"step": 3}')
    liveness, _ = watch(tmp_path, 10)
    liveness.look()
    assert liveness.beat() is None


@settings(deadline=None, max_examples=100)
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_a_heartbeat_holds_is_no_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("beat") / "heartbeat"
    path.write_bytes(content)
    reading = read_beat(path)
    assert reading is None or all(isinstance(value, float) for value in reading.values())


@pytest.mark.parametrize(
    "content", ["[" * 4000, '{"step": 1' + "0" * 400 + "}", '{"a": NaN, "b": 1e999}', "null"]
)
def test_odd_heartbeats_say_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "heartbeat").write_text(content)
    assert not read_beat(tmp_path / "heartbeat")
