"""The LightningDataModule: the data of a training, the same on one process or many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from model.data.classes import misfits, uncounted
from model.data.coco import CocoData, Options, load_sources
from model.data.coco_boxes import NO_CROWDS
from model.data.loaders import Collate, DetectionDataset, TrainSampler, eval_loader, loader_workers
from model.data.shared_memory import end_without_room
from model.data.transforms import EvalTransform, TrainTransform, exact_size
from model.distributed import place
from model.errors import UserError, number_of
from model.facts import pixels


class DataModule(pl.LightningDataModule):
    """Train and validation data of a full train spec. `classes` and `val_data` are there after `setup`."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.spec = spec
        self._left_out = (-1, 0)

    def leave_out(self, epoch: int, batches: int) -> None:
        """Begin this epoch, from 0, after so many batches of each process."""
        self._left_out = (epoch, batches)

    def setup(self, stage: str | None = None) -> None:
        if hasattr(self, "train_data"):
            return
        dataset, options, kind = (
            self.spec["dataset"],
            Options.of(self.spec),
            self.spec["dataset"]["dataset_type"],
        )
        self.train_data = load_sources(dataset["train_data_sources"], kind, options)
        self.classes = self.train_data.categories
        self.val_data = load_sources(
            dataset["val_data_sources"], kind, options, self.classes, dataset["eval_class_ids"]
        )
        left = uncounted(self.classes, dataset["eval_class_ids"])
        notes = (*self.train_data.notes, *self.val_data.notes, *([left] if left else []))
        for line in dict.fromkeys(notes) if place()[0] == 0 else ():
            print(f"data: {line}")
        _check_something_is_left(self.train_data, "train on")
        _check_something_is_left(self.val_data, "validate with")
        boxed = {"train": _boxed(self.train_data), "val": _boxed(self.val_data)}
        if wrong := misfits(dataset, self.classes, boxed):
            raise UserError("\n".join(wrong))

    def train_dataloader(self) -> DataLoader[Any]:
        dataset, seed = self.spec["dataset"], self.spec["train"]["seed"]
        rank, world = place()
        if len(self.train_data) < dataset["batch_size"] * world:
            raise UserError(
                "the training set must hold a whole batch of "
                f"{number_of(dataset['batch_size'] * world, 'image')} over all "
                f"processes, but has {len(self.train_data)}"
            )
        workers = loader_workers(dataset["workers"], dataset["batch_size"], int(pixels(self.spec)))
        return DataLoader(
            DetectionDataset(self.train_data, TrainTransform(self.spec), seed),
            batch_size=dataset["batch_size"],
            sampler=TrainSampler(
                self.train_data, dataset["train_sampler"], seed, rank, world, self._epoch, self._done
            ),
            num_workers=workers,
            collate_fn=Collate(self.spec if self._pads() else None),
            drop_last=True,
            pin_memory=dataset["pin_memory"] and torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=end_without_room,
            generator=torch.Generator().manual_seed(seed + rank),
            multiprocessing_context="fork" if workers else None,
        )

    def steps_per_epoch(self) -> int:
        """Optimizer steps, at least 1; whole batches only."""
        return max(1, len(self.train_data) // place()[1] // self.spec["dataset"]["batch_size"])

    def val_dataloader(self) -> DataLoader[Any]:
        dataset, transform = self.spec["dataset"], EvalTransform(self.spec, exact_size(self.spec, "train"))
        return eval_loader(
            self.val_data,
            transform,
            dataset["batch_size"],
            dataset["workers"],
            dataset["pin_memory"],
            *place(),
        )

    def _epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer else 0

    def _done(self, epoch: int) -> int:
        first, batches = self._left_out
        return batches * int(self.spec["dataset"]["batch_size"]) if epoch == first else 0

    def _pads(self) -> bool:
        return bool(self.spec["dataset"]["augmentation"]["fixed_padding"]) and not exact_size(
            self.spec, "train"
        )


def _check_something_is_left(data: CocoData, purpose: str) -> None:
    """Raise `UserError` when no object is left."""
    if data.crowd.all():
        crowds = (
            f": all {number_of(int(data.crowd.sum()), 'box')} in it "
            f"{'is a crowd' if len(data.crowd) == 1 else 'are crowds'} (iscrowd 1); {NO_CROWDS}"
            if data.crowd.any()
            else ""
        )
        raise UserError(f"no box to {purpose}{crowds}")


def _boxed(data: CocoData) -> set[int]:
    """The labels that have a box which is no crowd."""
    return set(data.labels[~data.crowd].tolist())
