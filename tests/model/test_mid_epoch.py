"""A training goes on from the checkpoint of a step as if it had not been interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from model import checkpoint as ckpt
from model.actions import train
from model.errors import UserError
from model.lightning import DetectorModule
from model.mid_epoch import check, order_of
from model.spec import put, resolve
from tests.conftest import TINY
from tests.model.test_train import limited, lines, spec_of

pytestmark = pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning", "ignore::Warning:torch")
STEPWISE = {
    "train__checkpoint_interval_unit": "step", "train__ema_decay": 0.5, "train__validation_interval": 2,
}  # fmt: skip


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, list[int]]]:
    """(epoch, batch, image ids) of every training step."""
    found: list[tuple[int, int, list[int]]] = []
    whole = DetectorModule.training_step

    def step(self: DetectorModule, batch: Any, index: int) -> Any:
        found.append((self.current_epoch, index, [int(target["image_id"]) for target in batch[2]]))
        return whole(self, batch, index)

    monkeypatch.setattr(DetectorModule, "training_step", step)
    return found


def test_the_rest_of_the_images_is_trained_on_and_the_epoch_told(
    tiny: dict[str, Any], demo: Path, tmp_path: Path, seen: list[tuple[int, int, list[int]]]
) -> None:
    """From within an epoch, from its last step, and from within the last one, which is always validated."""
    train.run(spec_of(tiny, demo, tmp_path / "whole", **STEPWISE))
    whole, told = seen.copy(), lines(tmp_path / "whole/metrics.jsonl")
    assert [line["checkpoint"] for line in told] == [ckpt.file_name(0, 3), ckpt.file_name(1, 6)]
    for epoch, step in ((0, 1), (0, 3), (1, 5)):
        seen.clear()
        folder, path = tmp_path / f"from_{step}", tmp_path / "whole" / ckpt.file_name(epoch, step)
        train.run(spec_of(tiny, demo, folder, train__resume_training_checkpoint_path=str(path), **STEPWISE))
        assert seen == whole[step:]
        again = lines(folder / "metrics.jsonl")
        for a, b in zip(told[-len(again) :], again, strict=True):
            assert {**a, "elapsed_s": 0, "memory_mb": 0} == {**b, "elapsed_s": 0, "memory_mb": 0}
        assert len(again) == (1 if step > 1 else 2)


def test_memory_that_runs_out_within_an_epoch_loses_no_step(
    tiny: dict[str, Any], demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.run(spec_of(tiny, demo, tmp_path / "roomy", **STEPWISE))
    limited(monkeypatch, 2, "training_step", after=1)
    train.run(spec_of(tiny, demo, tmp_path / "short", **STEPWISE))
    roomy, short = (lines(tmp_path / name / "metrics.jsonl") for name in ("roomy", "short"))
    assert [(r["epoch"], r["step"]) for r in short] == [(r["epoch"], r["step"]) for r in roomy]
    for a, b in zip(roomy, short, strict=True):
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=0.1)
    saved = torch.load(tmp_path / "short" / ckpt.file_name(1, 5), weights_only=True)
    assert saved["mid_epoch"]["steps"] == len(saved["mid_epoch"]["losses"]) == 2


def checkpoint(**entries: Any) -> dict[str, Any]:
    progress = {"current": {"ready": 4, "started": 4, "processed": 3}}
    return {"loops": {"fit_loop": {"epoch_progress": progress}}, **entries}


@pytest.mark.parametrize(
    ("leaf", "value"),
    [("dataset.batch_size", 2), ("dataset.train_sampler", "uniform_sampler"), ("train.seed", 3)],
)
def test_an_epoch_in_another_order_is_not_gone_on_with(leaf: str, value: Any) -> None:
    spec = resolve("train", TINY)
    found = checkpoint(mid_epoch={"steps": 2, "order": order_of(spec, 12, 1)})
    check(found, order_of(spec, 12, 1), "a.pth")
    put(spec, leaf, value)
    with pytest.raises(UserError, match=f"a.pth was written within epoch 4, after step 2 .*{leaf}"):
        check(found, order_of(spec, 12, 1), "a.pth")
    with pytest.raises(UserError, match="images 12 -> 11"):
        check(found, order_of(spec, 11, 1), "a.pth")


def test_one_that_does_not_say_what_was_done_is_not_gone_on_with() -> None:
    with pytest.raises(UserError, match="by an earlier version"):
        check(checkpoint(), {}, "a.pth")
