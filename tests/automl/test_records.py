"""One reader of metrics.jsonl: what counts as a record, what is said of a line that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl import records
from automl.records import BrokenRecord
from automl.tail import MetricsTail

ODD_LINES = [
    b"nonsense\n",
    b"[1, 2]\n",
    b"7\n",
    b"\xff\xfe\n",
    b'{"val_x": 0.5}\n',
    b'{"epoch": null, "val_x": 0.5}\n',
    b'{"epoch": -1, "val_x": 0.5}\n',
    b'{"epoch": 1.5, "val_x": 0.5}\n',
    b'{"epoch": true, "val_x": 0.5}\n',
    b'{"epoch": "soon", "val_x": 0.5}\n',
    b'{"epoch": NaN, "val_x": 0.5}\n',
    b'{"epoch": 1' + b"0" * 400 + b', "val_x": 0.5}\n',
    b'{"epoch": 1e400, "val_x": 0.5}\n',
    b'{"epoch": 1, "val_x": 0.5, "checkpoint": {"path": "a.pth"}}\n',
    b'{"epoch": 1, "val_x": 0.5, "checkpoint": 7}\n',
    b"[" * 100_000 + b"\n",
]


@pytest.mark.parametrize("line", ODD_LINES, ids=lambda line: line[:30].decode(errors="replace"))
def test_an_odd_line_is_told_with_its_number_and_what_came_before_is_kept(
    tmp_path: Path, line: bytes
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"epoch": 0, "val_x": 0.25}\n' + line + b'{"epoch": 2, "val_x": 0.5}\n')
    found, problem = records.read(path)
    assert [r.epoch for r in found] == [0]
    assert problem is not None
    assert problem.startswith("line 2: ")
    assert "must be" in problem
    assert "but got" in problem
    assert len(problem) < 400


@pytest.mark.parametrize("value", [[0.5], {"mean": 0.5}, True, "half", "0,5"], ids=lambda v: json.dumps(v))
def test_a_metric_that_is_no_number_is_told(value: Any) -> None:
    with pytest.raises(BrokenRecord, match="val_x must be a number, but got"):
        records.parse({"epoch": 0, "val_x": value}).number("val_x")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0.5, 0.5),
        (1, 1.0),
        ("0.5", 0.5),
        (" 5e-1 ", 0.5),
        (None, None),
        ("nan", None),
        (float("inf"), None),
        (10**400, None),
    ],
    ids=lambda value: str(value)[:8],
)
def test_numbers_as_trainers_write_them(value: Any, number: float | None) -> None:
    assert records.parse({"epoch": "3", "val_x": value}).number("val_x") == number
    assert records.parse({"epoch": 3.0}).epoch == 3


def test_other_keys_may_hold_anything() -> None:
    record = records.parse({"epoch": 0, "val_x": 1, "confusion": [[1, 2], [3, 4]], "note": {"a": None}})
    assert record.number("val_x") == 1
    assert record.number("absent") is None
    assert record.diverged(("train_loss",)) is None
    assert records.parse({"epoch": 0, "train_loss": None}).diverged(("train_loss",)) == "train_loss"
    assert records.parse({"epoch": 0, "train_loss": "nan"}).diverged(("train_loss",)) == "train_loss"


@given(st.binary(max_size=60))
def test_no_bytes_make_the_readers_fail_in_another_way(
    tmp_path_factory: pytest.TempPathFactory, line: bytes
) -> None:
    path = tmp_path_factory.mktemp("records") / "metrics.jsonl"
    path.write_bytes(b"")
    tail = MetricsTail(path)
    path.write_bytes(line)
    found, problem = records.read(path)
    assert problem is None or problem.startswith("line ")
    assert all(isinstance(r.epoch, int) for r in found)
    if problem and found == [] and tail_refuses(tail):
        return
    assert all(isinstance(d, dict) for d in tail.read())


def tail_refuses(tail: MetricsTail) -> bool:
    try:
        tail.read()
    except BrokenRecord:
        return True
    return False


def test_a_last_line_without_its_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 0}\n{"epoch": 1}\n{"epo')
    assert [r.epoch for r in records.read(path)[0]] == [0, 1]
    assert records.read(tmp_path / "none") == ([], None)


def test_blank_lines_say_nothing_and_count(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("")
    tail = MetricsTail(path)
    path.write_text('{"epoch": 0}\n\n   \r\n{"epoch": 1}\nno\n')
    found, problem = records.read(path)
    assert [r.epoch for r in found] == [0, 1]
    assert str(problem).startswith("line 5: ")
    assert [d["epoch"] for d in tail.read()] == [0, 1]
    with pytest.raises(BrokenRecord, match="line 5"):
        tail.read()


def test_after_a_good_end_a_last_line_may_lack_its_newline(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    assert tail.rest() == []
    path.write_text('{"epoch": 0}\n{"epoch": 1}')
    assert tail.read() == [{"epoch": 0}]
    assert tail.rest() == [{"epoch": 1}]
    assert tail.rest() == []
    assert [r.epoch for r in records.read(path)[0]] == [0, 1]
    with path.open("a") as file:
        file.write('{"epoch": ')
    assert tail.rest() == []
    assert records.read(path)[1] is None
