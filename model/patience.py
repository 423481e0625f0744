"""A training that no longer improves ends: decided from its records alone, so that a resume changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from model import checkpoint as ckpt
from model.status import Status

Lines = Sequence[Mapping[str, Any]]
BETTER = {"val_mAP": 1, "val_loss": -1}  # sign of what is better


class Patience(pl.Callback):
    """Ends a training when `is_over`; all its processes by the first one's word. It comes after the recorder."""

    def __init__(self, folder: Path, spec: Mapping[str, Any]) -> None:
        self.folder, self.spec = folder, spec

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.current_epoch:  # a resume of one that was over
            self._end_when_over(trainer, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        done = trainer.current_epoch + 1
        if done < self.spec["train"]["num_epochs"]:
            self._end_when_over(trainer, done)

    def _end_when_over(self, trainer: pl.Trainer, done: int) -> None:
        patience = self.spec["train"]["patience"]
        over = patience > 0 and trainer.is_global_zero and is_over(self.spec, records(self.folder, done))
        if patience and trainer.strategy.broadcast(over):
            trainer.should_stop = True
            line = f"No new best in {patience} validated epochs: the training ends here (train.patience)."
            if trainer.is_global_zero:
                print(line)
                Status(self.folder, self.spec["model_name"]).write("RUNNING", line)


def records(folder: Path, done: int) -> Lines:
    """The lines of metrics.jsonl that belong together, of the first `done` epochs: a resume from an earlier one begins
    beside those of epochs that it trains anew."""
    return [line for line in ckpt.records(folder / "metrics.jsonl") if line["epoch"] < done]


def is_over(spec: Mapping[str, Any], lines: Lines) -> bool:
    """Whether a training of a full spec has nothing new to bring, and the last of its epochs is validated and has a
    checkpoint. Of an epoch that was not validated nobody knows whether it was a new best: it does not count."""
    if not lines or not lines[-1]["checkpoint"] or not _validated(lines[-1]):
        return False
    done = int(lines[-1]["epoch"]) + 1
    drops = [epoch for epoch in _drops(spec["train"]["optim"], done) if epoch < done]
    since = max([_newest_best(lines) + 1, *drops])
    in_vain = sum(_validated(line) and int(line["epoch"]) >= since for line in lines)
    return bool(in_vain >= spec["train"]["patience"])


def _validated(line: Mapping[str, Any]) -> bool:
    """A figure that is not finite is there as null."""
    return any(name in line for name in BETTER)


def _drops(optim: Mapping[str, Any], done: int) -> Sequence[int]:
    """The epochs, from 0, that begin with lower rates."""
    if optim["lr_scheduler"] == "MultiStep":
        return list(optim["lr_steps"])
    return (
        range(optim["lr_step_size"], done, optim["lr_step_size"]) if optim["lr_scheduler"] == "StepLR" else ()
    )


def _newest_best(lines: Lines) -> int:
    """The last epoch that brought a better val_mAP or val_loss than all before it; else the one before the first."""
    newest, best = int(lines[0]["epoch"]) - 1, dict.fromkeys(BETTER, float("-inf"))
    for line in lines:
        for name, sign in BETTER.items():
            value = line.get(name)
            if value is not None and sign * value > best[name]:
                best[name], newest = sign * value, int(line["epoch"])
    return newest
