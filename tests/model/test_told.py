"""What goes on is said, at least every ten seconds, and only then."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import told


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 30), min_size=1, max_size=30))
def test_a_line_after_every_item_that_ends_later_than_that_after_the_last(took: list[float]) -> None:
    now, lines = [0.0], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda text, flush: lines.append((now[0], text)))
        for seconds in told.counted(took, "evaluate", len(took), clock=lambda: now[0]):
            now[0] += seconds
    expected, last, at = [], 0.0, 0.0
    for seconds in took[:-1]:
        at += seconds
        if at - last >= told.EVERY_S:
            last = at
            expected.append(at)
    assert [at for at, _ in lines] == expected
    assert all(f" of {len(took)}, about " in text for _, text in lines)


def test_all_items_come_through_and_a_quiet_one_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(told.counted(range(5), "x", 5, quiet=True, clock=lambda: 1 / 0)) == list(range(5))
    assert list(told.counted(range(5), "x", 5)) == list(range(5))
    assert capsys.readouterr().out == ""


def test_what_cannot_be_counted_says_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(told, "EVERY_S", 0.01)
    printed = ""
    with told.told("export"):
        while not printed:
            time.sleep(0.01)
            printed = capsys.readouterr().out
    assert printed.startswith("export: 0 s so far\n")


def test_another_may_take_the_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(told, "EVERY_S", 0.01)
    taken: list[str] = []
    with told.told("latency: timing", say=taken.append):
        while not taken:
            time.sleep(0.01)
    assert taken[0] == "latency: timing: 0 s so far"
    assert capsys.readouterr().out == ""


def test_where_it_is_stands_behind_beside_what_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(told, "EVERY_S", 0.01)
    said = capsys.readouterr()

    @told.told("looking at the data", aside=True)
    def look() -> None:
        nonlocal said
        told.at("3 of 4 images looked at")
        said = capsys.readouterr()
        while not said.err:
            time.sleep(0.01)
            said = capsys.readouterr()

    for _ in range(2):
        look()
        assert said.out == ""
        assert said.err.startswith("looking at the data: 0 s so far; 3 of 4 images looked at\n")
