"""A training that no longer improves ends, in one go or resumed, and never before its rates have dropped in vain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.actions import train
from model.parameters import default_of
from model.patience import is_over, records
from model.spec import default_spec, put
from tests.model.test_train import spec_of

VALUES = st.lists(st.none() | st.floats(0, 1, width=16), min_size=1, max_size=30)


def lines_of(values: list[float | None]) -> list[dict[str, Any]]:
    """None: an epoch that was not validated."""
    lines: list[dict[str, Any]] = [{"epoch": n, "checkpoint": "x"} for n in range(len(values))]
    return [
        line if value is None else line | {"val_mAP": value}
        for line, value in zip(lines, values, strict=True)
    ]


def spec_with(patience: int, drops: list[int]) -> dict[str, Any]:
    spec = default_spec("train")
    put(spec, "train.patience", patience)
    put(spec, "train.optim.lr_steps", drops)
    return spec


@settings(deadline=None)
@given(VALUES, st.integers(1, 12), st.lists(st.integers(1, 40), max_size=2))
def test_it_counts_from_the_newest_best_or_drop(
    values: list[float | None], patience: int, drops: list[int]
) -> None:
    since = 0
    best = -1.0
    for epoch, value in enumerate(values):
        if value is not None and value > best:
            best, since = value, epoch + 1
    since = max([since, *(drop for drop in drops if drop < len(values))])
    in_vain = sum(value is not None for value in values[since:])
    over = values[-1] is not None and in_vain >= patience
    assert is_over(spec_with(patience, drops), lines_of(values)) == over


def test_a_lower_loss_is_something_new() -> None:
    lines = lines_of([0.0] * 9)
    assert is_over(spec_with(5, []), lines)
    for line in lines:
        line["val_loss"] = 10.0 - line["epoch"]
    assert not is_over(spec_with(5, []), lines)


def test_it_ends_at_a_validated_epoch_and_counts_those_alone() -> None:
    rare = lines_of([None, 0.5, None, 0.1, None, 0.1, None])
    assert not any(is_over(spec_with(2, []), rare[:n]) for n in (1, 2, 3, 4, 5, 7))
    assert is_over(spec_with(2, []), rare[:6])
    assert not is_over(spec_with(1, []), lines_of([None] * 9))


def test_a_validation_whose_loss_is_not_finite_is_one() -> None:
    assert is_over(spec_with(1, []), [{"epoch": n, "val_loss": None, "checkpoint": "x"} for n in range(2)])


def test_it_waits_for_a_checkpoint() -> None:
    lines = lines_of([0.5, 0.1, 0.1])
    assert is_over(spec_with(2, []), lines)
    assert not is_over(spec_with(2, []), [*lines[:-1], lines[-1] | {"checkpoint": None}])


def test_lines_of_an_earlier_training_in_the_folder_do_not_count(tmp_path: Path) -> None:
    written = [*lines_of([0.9, 0.1, 0.1]), *lines_of([0.1, 0.2])]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written))
    assert [line["val_mAP"] for line in records(tmp_path, 2)] == [0.1, 0.2]
    assert list(records(tmp_path / "nowhere", 2)) == []


def test_a_resume_from_an_earlier_epoch_is_not_over_for_what_came_after(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines_of([0.5, 0.4, 0.3]))
    )
    assert is_over(spec_with(2, []), records(tmp_path, 3))
    assert not is_over(spec_with(2, []), records(tmp_path, 2))


def test_off_unless_asked_for() -> None:
    assert default_of("train.patience") == 0


def test_a_training_is_validated_before_it_ends(tiny: dict[str, Any], demo: Path, tmp_path: Path) -> None:
    spec = spec_of(
        tiny, demo, tmp_path, train__num_epochs=3, train__patience=1, train__validation_interval=3
    )  # fmt: skip
    assert "val_mAP" in train.run(spec)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("resumed", [False, True])
def test_a_training_ends(tiny: dict[str, Any], demo: Path, tmp_path: Path, resumed: bool) -> None:
    """With rates of next to nothing and a metric of 0 nothing improves but by chance."""
    spec = spec_of(
        tiny, demo, tmp_path / "run", train__num_epochs=9, train__patience=1, train__optim__lr=1e-12,
        train__optim__lr_backbone=1e-12, train__optim__lr_steps=[8],
    )  # fmt: skip
    if resumed:
        put(spec, "train.num_epochs", 1)
        put(spec, "train.patience", 0)
        put(spec, "train.optim.lr_steps", [1])
        train.run(spec)
        path = tmp_path / "run" / "train" / "metrics.jsonl"
        path = path if path.is_file() else next((tmp_path / "run").rglob("metrics.jsonl"))
        line = json.loads(path.read_text()) | {"val_mAP": 0.9, "val_loss": -1.0}
        path.write_text(json.dumps(line) + "\n")
        put(spec, "train.num_epochs", 9)
        put(spec, "train.patience", 1)
        put(spec, "train.optim.lr_steps", [8])
        put(spec, "train.resume_training_checkpoint_path", str(path.parent / line["checkpoint"]))
    train.run(spec)
    found = next((tmp_path / "run").rglob("metrics.jsonl")).read_text().splitlines()
    assert len(found) < 9
    last = json.loads((next((tmp_path / "run").rglob("status.json"))).read_text().splitlines()[-1])
    assert last["status"] == "SUCCESS"
