"""A training's sign of life: the file `heartbeat` in its folder, rewritten every few seconds while it gets on, and the
same as a line on stdout and in status.json."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from model.status import Status

BEAT_S = 5.0  # between two beats at least
FORMS = {
    "validating": "validation {:.0%}", "loss": "loss {:.3f}", "images_per_s": "{:.3g} images/s", "memory_mb": "{} MB",
    "eta_s": "{:.0f} s left",
}  # fmt: skip


class Heartbeat(pl.Callback):
    """Writes {"epoch", "step", "steps", "loss", "images_per_s", "memory_mb", "memory_total_mb", "eta_s", "validating"}:
    the epoch from 0, optimizer steps done and of the whole training, the last batch's loss, images a second since the
    last beat, the most memory taken so far (of the GPU, with all it has; or of the process on a CPU), seconds left of
    the training, and during a validation the share of it that is done (0-1). It beats only when a batch is done: a
    training that hangs falls silent."""

    def __init__(self, folder: Path, label: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.status = Status(folder, label)
        self.path, self.clock = folder / "heartbeat", clock
        self._began_at, self._began_with = clock(), 0  # batches that were done then
        self._beat_at, self._images = -BEAT_S, 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        done = getattr(module, "done", 0)  # of an epoch that a resume begins within
        self._began_at, self._began_with = self.clock(), trainer.current_epoch * self._batches(trainer) + done
        self._write(trainer, 0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch[0])
        if self._due():
            # Lightning has divided it by the parts of the batch.
            loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
            self._write(trainer, batch_idx + 1, loss=loss)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        self._images += len(batch[0])
        if self._due():
            share = (batch_idx + 1) / sum(trainer.num_val_batches)
            self._write(trainer, self._batches(trainer), validating=round(share, 3))

    def _due(self) -> bool:
        return self.clock() - self._beat_at >= BEAT_S

    @staticmethod
    def _batches(trainer: pl.Trainer) -> int:
        return int(trainer.num_training_batches)

    def _write(
        self, trainer: pl.Trainer, batch: int, loss: float | None = None, validating: float | None = None
    ) -> None:
        """`batch`: of the epoch's training batches, so many are done."""
        now, images = self.clock(), self._images
        pause_s, self._beat_at, self._images = now - self._beat_at, now, 0
        if not trainer.is_global_zero:
            return
        reading = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "steps": self._whole(trainer) // trainer.accumulate_grad_batches,
            "loss": loss,
            "images_per_s": round(images / pause_s, 2) if images else None,
            **memory(),
            "eta_s": self._eta_s(trainer, batch, now),
            "validating": validating,
        }
        temporary = self.path.with_name(f".heartbeat.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):  # on a full disk the next checkpoint will say so
            temporary.write_text(json.dumps(reading))
            temporary.replace(self.path)
            line = text(reading, trainer.max_epochs or 0)
            print(line, flush=True)
            self.status.write("RUNNING", line, None, epoch=reading["epoch"], step=reading["step"])

    def _whole(self, trainer: pl.Trainer) -> int:
        return (trainer.max_epochs or 0) * self._batches(trainer)

    def _eta_s(self, trainer: pl.Trainer, batch: int, now: float) -> float | None:
        """By the pace since the start, validations included."""
        whole = self._whole(trainer)
        done = min(whole, trainer.current_epoch * self._batches(trainer) + batch)
        since = done - self._began_with
        return round((now - self._began_at) / since * (whole - done), 1) if since > 0 else None


def text(reading: Mapping[str, Any], epochs: int) -> str:
    """A reading as a line: `epoch 3 of 12, step 40 of 240, loss 1.234, 8.1 images/s, 2310 MB, 130 s left`."""
    words = [f"epoch {reading['epoch'] + 1} of {epochs}", f"step {reading['step']} of {reading['steps']}"]
    for name, form in FORMS.items():
        if reading[name] is not None:
            words.append(form.format(reading[name]))
    return ", ".join(words)


def memory() -> dict[str, int]:
    """The most taken so far and, of a GPU, all that it has."""
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        return {"memory_mb": torch.cuda.max_memory_reserved() >> 20, "memory_total_mb": total >> 20}
    return {"memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}
