"""The callback that writes down what each epoch brought."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from model import checkpoint as ckpt
from model.errors import ModelError
from model.heartbeat import memory
from model.lightning import DetectorModule
from model.status import Status, append_line

LOOK = 50  # batches between two looks at their losses, for which a GPU must be waited for


def stepped(trainer: pl.Trainer, batch: int) -> bool:
    """Whether the optimizer has taken its step after this batch of an epoch; epochs hold whole steps only."""
    return (batch + 1) % trainer.accumulate_grad_batches == 0


def _rate(trainer: pl.Trainer) -> float:
    return float(trainer.optimizers[0].param_groups[0]["lr"])


class EpochRecorder(pl.Callback):
    """At the end of each epoch: checkpoint, `metrics.jsonl`, `status.json`, in that order, so that a line in
    `metrics.jsonl` always names a checkpoint that is whole. `last` is the newest one, None before the first. An epoch
    that is run again, after memory ran out, is not told again."""

    def __init__(self, folder: Path, spec: Mapping[str, Any]) -> None:
        self.folder, self.spec = folder, spec
        self.status = Status(folder, spec["model_name"])
        self.started = time.monotonic()
        self.last_epoch_end = self.started
        self.said_first_step = False
        self.last: Path | None = None
        self.recorded = -1  # epoch

    def successor(self) -> EpochRecorder:
        """A recorder for a new network that goes on where this one stands; Lightning ties a callback to its network."""
        new = EpochRecorder(self.folder, self.spec)
        new.started, new.last, new.recorded = self.started, self.last, self.recorded
        return new

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """An earlier training's files leave the folder only now: all processes have loaded what they start from."""
        # Lightning leaves it out where a resume begins within an epoch.
        self.on_train_epoch_start(trainer, module)
        if trainer.is_global_zero and self.recorded < 0:
            if place := ckpt.make_room(self.folder, trainer.ckpt_path):
                latest = place / ckpt.LATEST
                more = f". train.resume_training_checkpoint_path={latest} goes on with that one instead"
                print(
                    f"{self.folder} held an earlier training: its checkpoints and metrics.jsonl are in {place} now"
                    + more * latest.is_file()
                )

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.lr = _rate(trainer)
        if trainer.current_epoch + 1 == self.spec["train"]["num_epochs"]:
            trainer.check_val_every_n_epoch = 1  # the last epoch is validated whatever the interval

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.lr = _rate(trainer)  # this step's: at an epoch's end the optimizer has the next one's

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.said_first_step and trainer.is_global_zero:
            self.said_first_step = True
            self.status.write("RUNNING", "First training step done.", seconds_from_start=self._elapsed())
        train, ended = self.spec["train"], batch_idx + 1 >= trainer.num_training_batches
        due = trainer.global_step % train["checkpoint_interval"] == 0 and stepped(trainer, batch_idx)
        # After the epoch's last step it is written with what the validation brought, and counts the epoch as done.
        due = due and train["checkpoint_interval_unit"] == "step" and not ended
        if due or (batch_idx + 1) % LOOK == 0:
            self._check_finite(trainer, module, LOOK)
        if due:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, DetectorModule)
        train, epoch = self.spec["train"], trainer.current_epoch
        last = epoch + 1 == train["num_epochs"]
        self._check_finite(trainer, module, 0)
        done = epoch + 1 if train["checkpoint_interval_unit"] == "epoch" else trainer.global_step
        due = done % train["checkpoint_interval"] == 0
        name = self._save(trainer) if due or last else None
        kpi = {} if math.isnan(loss := module.train_loss()) else {"train_loss": loss}  # null: has diverged
        kpi |= module.val_metrics
        if trainer.is_global_zero and epoch > self.recorded:
            now, self.recorded = time.monotonic(), epoch
            append_line(
                self.folder / "metrics.jsonl",
                {"epoch": epoch, "step": trainer.global_step}
                | kpi
                | {"lr": self.lr, "memory_mb": memory()["memory_mb"]}
                | {"elapsed_s": self._elapsed(), "checkpoint": name},
            )
            if trainer.logger:
                trainer.logger.log_metrics(kpi, step=trainer.global_step)
            self.status.write(
                "RUNNING",
                f"Epoch {epoch + 1} of {train['num_epochs']} done.",
                kpi,
                epoch=epoch,
                max_epoch=train["num_epochs"] - 1,
                time_per_epoch=round(now - self.last_epoch_end, 3),
                eta=round((now - self.last_epoch_end) * (train["num_epochs"] - epoch - 1), 1),
            )
            self.last_epoch_end = now

    def _check_finite(self, trainer: pl.Trainer, module: pl.LightningModule, batches: int) -> None:
        """Raise `ModelError` where the loss of the last `batches`, 0: of the epoch, is not finite, for it stays so. A
        line of metrics.jsonl says it before, with null for `train_loss`, and no checkpoint is written."""
        if not isinstance(module, DetectorModule) or (step := module.diverged(batches)) is None:
            return
        epoch = trainer.current_epoch
        if trainer.is_global_zero:
            line = {
                "epoch": epoch,
                "step": trainer.global_step,
                "train_loss": None,
                "elapsed_s": self._elapsed(),
            }
            append_line(self.folder / "metrics.jsonl", line | {"checkpoint": None})
        raise ModelError(
            f"the loss is not finite from step {step} of epoch {epoch + 1} on: the training has diverged. Lower "
            "train.optim.lr, keep train.clip_grad_norm above 0, or look for extreme boxes in the data"
        )

    def _save(self, trainer: pl.Trainer) -> str:
        """Write the checkpoint whole or not at all, then move the `latest` link; returns the file's name."""
        path = self.folder / ckpt.file_name(trainer.current_epoch, trainer.global_step)
        trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            ckpt.link_latest(path)
        self.last = path
        return path.name

    def _elapsed(self) -> float:
        return round(time.monotonic() - self.started, 3)
