"""The LightningModule around the detector."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import takewhile
from operator import not_
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn
from torch.optim.swa_utils import AveragedModel

from model import elastic, mid_epoch, operating_point
from model.build import build_criterion, build_model
from model.coco_metrics import CocoMetrics, summarise
from model.data.transforms import usual_size
from model.distributed import gather
from model.parameter_groups import parameter_groups
from model.postprocess import postprocess
from model.resume import count_epochs, take_rates

IN_A_ROW = 10
Batch = tuple[torch.Tensor, torch.Tensor, list[dict[str, Any]]]


def rate_factor(optim: Mapping[str, Any], steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """step (from 0) of all `steps` -> what the learning rates are multiplied by: warm-up times schedule."""

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / optim["warmup_steps"]) if optim["warmup_steps"] else 1.0
        epoch = step // steps_per_epoch
        if optim["lr_scheduler"] == "Cosine":
            return warm * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2
        if optim["lr_scheduler"] == "StepLR":
            return warm * optim["lr_decay"] ** (epoch // optim["lr_step_size"])
        return warm * optim["lr_decay"] ** sum(epoch >= drop for drop in optim["lr_steps"])

    return factor


def moving_average(detector: nn.Module, decay: float) -> AveragedModel:
    """A copy of the detector that follows it by an exponential moving average of weights and statistics. After n steps
    the decay is at most (1 + n) / (10 + n), so that the first steps are soon forgotten (Tarvainen and Valpola 2017,
    arXiv:1703.01780)."""

    def average(averaged: Any, current: Any, count: torch.Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value, share) if mean.is_floating_point() else mean.copy_(value)

    follower = AveragedModel(detector, multi_avg_fn=average, use_buffers=True)
    return follower.requires_grad_(False)


class DetectorModule(pl.LightningModule):
    """Trains the detector of `spec`, validates by loss and COCO metrics.

    `classes` ([{"id", "name"}]) travels in the checkpoint. Once an epoch is validated, `val_metrics` holds `val_loss`,
    `val_mAP` and `val_mAP50`, and, where anything is found, `val_threshold` and `val_f1`: the score with the best F1.
    """

    def __init__(self, spec: Mapping[str, Any], classes: list[dict[str, Any]], val_data: Any = None) -> None:
        super().__init__()
        self.spec, self.classes, self.val_data = spec, classes, val_data
        self.model = build_model(spec)
        self.criterion = build_criterion(spec)
        decay = spec["train"]["ema_decay"]
        self.ema = moving_average(self.model, decay) if decay else None
        self.val_metrics: dict[str, float] = {}
        self._losses: list[torch.Tensor] = []  # of this epoch's batches
        self._before: list[torch.Tensor] = []  # of the last batches of earlier epochs
        self.done = 0  # batches of the first epoch, where a resume has begun within it
        self._val_losses: list[torch.Tensor] = []  # [summed loss, boxes] of every batch

    def configure_model(self) -> None:
        """Under FSDP, spread the parameters, and alike their average: each transformer layer's, and the rest
        together."""
        if not isinstance(self.trainer.strategy, ModelParallelStrategy):
            return
        from torch.distributed.fsdp import fully_shard

        assert self.device_mesh is not None
        mesh = self.device_mesh["data_parallel"]
        detectors: list[Any] = [self.model, *([] if self.ema is None else [self.ema.module])]
        for detector in detectors:
            for stack in (detector.transformer.encoder, detector.transformer.decoder):
                for layer in stack.layers:
                    fully_shard(layer, mesh=mesh)
            fully_shard(detector, mesh=mesh)

    def configure_optimizers(self) -> Any:
        optim = self.spec["train"]["optim"]
        groups = parameter_groups(self.model, self.spec)
        optimizer: torch.optim.Optimizer
        if optim["optimizer"] == "AdamW":
            optimizer = torch.optim.AdamW(
                groups, lr=optim["lr"], weight_decay=optim["weight_decay"], fused=self._fused()
            )
        else:
            optimizer = torch.optim.SGD(
                groups, lr=optim["lr"], momentum=optim["momentum"], weight_decay=optim["weight_decay"]
            )
        # Not the trainer's estimated_stepping_batches, which starts the loader before a resumed epoch is known.
        batches = self.trainer.datamodule.steps_per_epoch()  # type: ignore[attr-defined]
        self.steps = max(1, batches // self.trainer.accumulate_grad_batches)  # an epoch
        factor = rate_factor(optim, self.steps * self.spec["train"]["num_epochs"], self.steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _fused(self) -> bool:
        """One kernel instead of a dozen a tensor: a sixth of a small model's step on a CPU. Lightning will not clip
        the gradients of a fused optimizer in mixed precision."""
        return self.spec["train"]["precision"] == "fp32"

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        images, mask, targets = batch
        subnet = None
        if self.spec["train"]["elastic"]:
            subnet = elastic.draw(self.spec["model"], max(len(t["labels"]) for t in targets), self._draws)
            images, mask = elastic.smaller(images, mask, subnet.side)
        losses = self.criterion(self.model(images, mask, targets, subnet=subnet), targets)
        self._losses.append(losses["loss"].detach())
        return losses["loss"]

    def on_train_start(self) -> None:
        """The rates are the spec's, also where restoring a checkpoint brought others. Within an epoch Lightning calls
        no `on_train_epoch_start`."""
        optimizer, schedule = self.trainer.optimizers[0], self.trainer.lr_scheduler_configs[0].scheduler
        groups = parameter_groups(self.model, self.spec)
        parts = self.trainer.accumulate_grad_batches
        line = count_epochs(schedule, self.current_epoch, self.steps, self.done // parts)
        if line and self.trainer.is_global_zero and not self.spec["train"]["is_dry_run"]:
            print(line)
        take_rates(optimizer, schedule, groups, self.spec["train"]["optim"])
        self._losses = [loss.to(self.device) for loss in self._losses]
        self._seed(self.done)

    def begin_average(self) -> None:
        """Let the average stand where the network does: to be called when its weights have been loaded."""
        if self.ema is not None:
            self.ema.module.load_state_dict(self.model.state_dict())

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The average follows at once: Lightning's callbacks, which write checkpoints of a step, come before this
        module's `on_train_batch_end`."""
        super().optimizer_step(*args, **kwargs)
        if self.ema is not None:
            self.ema.update_parameters(self.model)

    def on_train_epoch_start(self) -> None:
        self._before = [*self._before, *self._losses][-(IN_A_ROW - 1) :]
        self._losses = []
        self.val_metrics = {}  # a checkpoint of an epoch that is not validated must not carry an earlier one's
        self._seed()

    def _seed(self, done: int = 0) -> None:
        """Dropout and noised queries draw from torch's generator, on each rank its own; seeded anew, an epoch after a
        resume draws what it would have drawn without the interruption. Within an epoch it draws anew."""
        seed, epoch, within = self.spec["train"]["seed"], self.current_epoch, [done] if done else []
        place = [seed, epoch, self.global_rank, *within]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        self._draws = elastic.draws(seed, epoch, *within)

    def train_loss(self) -> float:
        """The mean over this epoch's batches and all ranks; in fp16, whose scaler leaves out the steps of others, over
        the finite ones; nan without any."""
        losses = self._over_ranks(self._losses)
        return float((losses[losses.isfinite()] if self._scaled() else losses).mean())

    def diverged(self, batches: int) -> int | None:
        """The step, from 1 in this epoch, from which on the loss is not finite on some rank; None where it is in all of
        the last `batches` (0: of the epoch). In fp16, whose scaler leaves out single steps, None too unless the last
        `IN_A_ROW` are not, of which the first may lie in the epoch before. All ranks must call it; it waits for the
        device."""
        finite = self._over_ranks([*self._before, *self._losses][-batches:]).isfinite().tolist()
        if self._scaled():
            at = len(finite) - len(list(takewhile(not_, reversed(finite))))
            at = at if len(finite) - at >= IN_A_ROW else len(finite)
        else:
            at = finite.index(False) if False in finite else len(finite)
        if at == len(finite):
            return None
        return max(0, len(self._losses) - len(finite) + at) // self.trainer.accumulate_grad_batches + 1

    def _scaled(self) -> bool:
        return bool(self.spec["train"]["precision"] == "fp16")

    def on_validation_epoch_start(self) -> None:
        self._val_losses.clear()
        self._predictions: list[dict[str, Any]] = []

    def validation_step(self, batch: Batch, index: int) -> None:
        """In fp32 whatever training computes in: so is all that is handed over, and trials are ranked by this."""
        images, mask, targets = batch
        with torch.autocast(self.device.type, enabled=False):
            outputs = (self.model if self.ema is None else self.ema.module)(images, mask)
            if not targets[0]["epoch"]:  # a repeat, only there to keep the ranks in step
                self._score(outputs, targets)

    def _score(self, outputs: dict[str, Any], targets: list[dict[str, Any]]) -> None:
        """Keep a batch's loss and detections."""
        boxes = sum(len(target["labels"]) for target in targets)
        loss = self.criterion(outputs, targets)["loss"].detach() * max(1, boxes)  # it is a mean over boxes
        self._val_losses.append(torch.stack([loss, loss.new_tensor(float(boxes))]))
        sizes = [target["orig_size"] for target in targets]
        for target, found in zip(
            targets, postprocess(outputs, sizes, self.spec["model"]["num_select"]), strict=True
        ):
            self._predictions.append(
                {"image_id": int(target["image_id"])} | {key: value.cpu() for key, value in found.items()}
            )

    def on_validation_epoch_end(self) -> None:
        summed = (
            torch.stack(self._val_losses).sum(0) if self._val_losses else torch.zeros(2, device=self.device)
        )
        loss, boxes = self.trainer.strategy.reduce(summed, reduce_op="sum").tolist()
        self.val_metrics = {"val_loss": loss / max(1.0, boxes)}
        metrics = CocoMetrics(self.val_data, class_ids=self.spec["dataset"]["eval_class_ids"] or None)
        metrics.update(gather(self._predictions))
        evaluation = metrics.evaluate()
        scores = summarise(evaluation, metrics.categories())
        self.val_metrics |= {"val_mAP": float(scores["mAP"]), "val_mAP50": float(scores["mAP50"])}
        if (point := operating_point.best(evaluation.ranked)) is not None:
            self.val_metrics |= {"val_threshold": point.threshold, "val_f1": point.f1}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        recorded = dict(self.spec) | {"encryption_key": ""}
        checkpoint |= {"spec": recorded, "classes": self.classes, "metrics": dict(self.val_metrics)}
        size = usual_size(self.spec, self.val_data.sizes) if self.val_data is not None else None
        checkpoint["validated_size"] = list(size) if size else None  # what an export takes for its graph
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        order = mid_epoch.order_of(self.spec, len(data.train_data), self.trainer.world_size)
        checkpoint["mid_epoch"] = mid_epoch.told(
            checkpoint, self.trainer.accumulate_grad_batches, lambda: self._over_ranks(self._losses), order
        )
        # A checkpoint written at an epoch's end counts that epoch as not completed, and Lightning, going on from it,
        # hands the sampler the old epoch's number: the next epoch would see the same order and augmentations again.
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        for span in ("total", "current"):
            progress[span]["completed"] = progress[span]["processed"]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.spec["train"]["is_dry_run"]:
            del checkpoint[
                "loops"
            ]  # Lightning's dry run ends after a first step, so that a later one is none
            return
        self.done, self._losses = mid_epoch.go_on(checkpoint, self.trainer.accumulate_grad_batches)
        epoch = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        self.trainer.datamodule.leave_out(epoch, self.done)  # type: ignore[attr-defined]

    def _over_ranks(self, losses: list[torch.Tensor]) -> torch.Tensor:
        """[batches] their means over all ranks; all of them must call it."""
        own = torch.stack(losses) if losses else torch.zeros(0, device=self.device)
        return self.trainer.strategy.reduce(own, reduce_op="mean")
