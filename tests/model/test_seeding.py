"""train.seed -1: a number is drawn, told, recorded, and used for all that draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model import checkpoint as ckpt
from model.actions import train
from model.errors import UserError
from model.seeding import seeded
from model.spec import get, put, resolve
from tests.model.test_train import lines, spec_of

pytestmark = pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning", "ignore::Warning:torch")


def test_a_seed_beyond_32_bits_is_refused() -> None:
    with pytest.raises(UserError, match=r"train\.seed must be below 4294967296.* but got 4294967296"):
        resolve("train", {"train": {"seed": 2**32}})


def test_a_new_one_each_time(tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    put(tiny, "train.seed", -1)
    spec = resolve("train", tiny)
    drawn = [get(seeded(spec), "train.seed") for _ in range(3)]
    assert len(set(drawn)) == 3
    assert capsys.readouterr().out.splitlines() == [f"train.seed: {seed} (drawn)" for seed in drawn]
    assert get(spec, "train.seed") == -1
    put(spec, "train.seed", 7)
    assert seeded(spec) == spec


def test_the_training_is_that_of_the_number_it_records(
    tiny: dict[str, Any], demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaves = {"train__num_epochs": 1, "train__seed": -1}
    made = train.run(spec_of(tiny, demo, tmp_path / "a", **leaves))["checkpoint"]
    seed = get(ckpt.load(made)["spec"], "train.seed")
    assert f"train.seed: {seed} (drawn)" in capsys.readouterr().out
    train.run(spec_of(tiny, demo, tmp_path / "b", **leaves | {"train__seed": seed}))
    a, b = (lines(tmp_path / name / "metrics.jsonl")[0] for name in ("a", "b"))
    assert [a[n] for n in ("train_loss", "val_loss")] == [b[n] for n in ("train_loss", "val_loss")]
    resumed = spec_of(tiny, demo, tmp_path / "c", **leaves, train__resume_training_checkpoint_path=made)
    assert get(seeded(resumed), "train.seed") == seed


def test_the_processes_that_a_training_starts_get_one_number(
    tiny: dict[str, Any], demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(train, "start_ranks", lambda spec, action: given.append(spec) or True)
    train.run(spec_of(tiny, demo, tmp_path, train__seed=-1))
    assert get(given[0], "train.seed") >= 0


@pytest.mark.parametrize("several", ["launched", "machines"])
def test_processes_that_would_each_draw_are_refused(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, several: str
) -> None:
    put(tiny, "train.seed", -1)
    put(tiny, "train.num_nodes", 2 if several == "machines" else 1)
    if several == "launched":
        monkeypatch.setenv("LOCAL_RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"train\.seed must be a number from 0 .* got -1"):
        seeded(resolve("train", tiny))
