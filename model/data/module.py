"""The LightningDataModule: datasets, samplers, loaders, the same on one process or many."""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from model.data.classes import misfits
from model.data.coco import CocoData, Options, load_sources
from model.data.coco_boxes import NO_CROWDS
from model.data.images import open_rgb
from model.data.transforms import EvalTransform, TrainTransform, batch_images, canvas, exact_size
from model.distributed import place
from model.errors import UserError

CACHE_BYTES = 512 << 20  # decoded images kept per loader process


class DetectionDataset(Dataset[tuple[torch.Tensor, dict[str, Any]]]):
    """Item i: image [3, H, W] and target {"labels", "boxes_cxcywh", "image_id", "orig_size", "epoch"}. Boxes of
    crowds are left out of training; the metrics know them. Recently decoded images are kept, up to CACHE_BYTES.

    Item `epoch * len(self) + i` is image i with that epoch's augmentation, drawn from (seed, epoch, i) alone: the
    same in any worker and after any restart. In an evaluation, epoch 1 marks a repeat, see `EvalBatches`.
    """

    def __init__(self, data: CocoData, transform: Any, seed: int) -> None:
        self.data, self.transform, self.seed = data, transform, seed
        self._kept: OrderedDict[int, Image.Image] = OrderedDict()
        self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, dict[str, Any]]:
        epoch, index = divmod(item, len(self.data))
        rows = slice(self.data.starts[index], self.data.starts[index + 1])
        plain = ~self.data.crowd[rows]
        boxes = self.data.boxes_xywh_px[rows][plain].astype(np.float32)
        target = {
            "boxes_xyxy_px": np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
            "labels": self.data.labels[rows][plain],
            "image_id": int(self.data.image_ids[index]),
            "orig_size": tuple(int(v) for v in self.data.sizes[index]),
            "epoch": epoch,
        }
        return self.transform(self._image(index), target, np.random.default_rng([self.seed, epoch, index]))

    def _image(self, index: int) -> Image.Image:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        image = open_rgb(self.data.file(index), self.transform.max_pixels)
        size = image.width * image.height * 3
        if size <= CACHE_BYTES:
            self._kept[index] = image
            self._kept_bytes += size
            while self._kept_bytes > CACHE_BYTES:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= dropped.width * dropped.height * 3
        return image


class TrainSampler(Sampler[int]):
    """The order of an epoch, split over the ranks, the same whatever came before: seeded by (seed, epoch).

    `kind` default_sampler: all images once, shuffled. non_uniform_sampler: the same, but each rank keeps to its own
    share of the images, so that it need hold or cache no other. uniform_sampler: each source equally often, images
    drawn with replacement.
    """

    def __init__(
        self, data: CocoData, kind: str, seed: int, rank: int, world: int, epoch: Callable[[], int],
        done: Callable[[int], int] = lambda epoch: 0,
    ) -> None:  # fmt: skip
        """`epoch` tells the current one; Lightning's own `set_epoch` is an epoch behind after a resume. `done`: how
        many of an epoch's images, of this rank's, are left out."""
        self.done = done
        self.data, self.kind, self.seed = data, kind, seed
        self.rank, self.world, self.epoch = rank, world, epoch

    def __len__(self) -> int:
        return len(self.data) // self.world

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch()
        own = self._order(np.random.default_rng([self.seed, epoch])) + epoch * len(self.data)
        return iter(own[self.done(epoch) :].tolist())

    def _order(self, random: np.random.Generator) -> np.ndarray:
        """This rank's images."""
        if self.kind == "non_uniform_sampler":
            return random.permutation(np.arange(self.rank, len(self.data), self.world))[: len(self)]
        if self.kind == "uniform_sampler":
            weights = 1.0 / np.bincount(self.data.source).clip(1)[self.data.source]
            order = random.choice(len(self.data), len(self.data), p=weights / weights.sum())
        else:
            order = random.permutation(len(self.data))
        return order[self.rank : len(self) * self.world : self.world]


class EvalBatches(Sampler[list[int]]):
    """Batches of images that have the same size after the transform, so that none is padded and an image's detections
    do not depend on its neighbours. Batches go round the ranks. Ranks left short repeat their first, or the first of
    all, numbered as of epoch 1, so that all take as many steps (collectives would wait for ever)."""

    def __init__(
        self, sizes: Sequence[tuple[int, int]], batch_size: int, rank: int = 0, world: int = 1
    ) -> None:
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, size in enumerate(sizes):
            by_size.setdefault(size, []).append(index)
        batches = [
            group[i : i + batch_size] for group in by_size.values() for i in range(0, len(group), batch_size)
        ]
        self.batches = batches[rank::world]
        for _ in range(-(-len(batches) // world) - len(self.batches)):
            self.batches.append([index + len(sizes) for index in (self.batches or batches)[0]])

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def eval_loader(
    data: CocoData, transform: EvalTransform, batch_size: int, workers: int, pin_memory: bool = False,
    rank: int = 0, world: int = 1,
) -> DataLoader[Any]:  # fmt: skip
    """Every image once over the ranks, in unpadded batches."""
    sizes = [transform.size(int(h), int(w)) for h, w in data.sizes]
    workers = loader_workers(workers)
    return DataLoader(
        DetectionDataset(data, transform, 0),
        batch_sampler=EvalBatches(sizes, batch_size, rank, world),
        num_workers=workers,
        collate_fn=Collate(None),
        pin_memory=pin_memory and torch.cuda.is_available(),
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
    )


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
        for line in dict.fromkeys((*self.train_data.notes, *self.val_data.notes)) if place()[0] == 0 else ():
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
                f"the training set must hold a whole batch of {dataset['batch_size'] * world} images over all "
                f"processes, but has {len(self.train_data)}"
            )
        workers = loader_workers(dataset["workers"])
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
            f": {int(data.crowd.sum())} boxes are crowds (iscrowd 1); {NO_CROWDS}" if data.crowd.any() else ""
        )
        raise UserError(f"no box to {purpose}{crowds}")


def _boxed(data: CocoData) -> set[int]:
    """The labels that have a box which is no crowd."""
    return set(data.labels[~data.crowd].tolist())


class Collate:
    """Items -> (images [B, 3, H, W], mask [B, H, W] bool, targets), padded to a fixed canvas when given a spec."""

    def __init__(self, padded_by: Mapping[str, Any] | None) -> None:
        self.spec = padded_by

    def __call__(self, items: list[tuple[torch.Tensor, dict[str, Any]]]) -> Any:
        images = [image for image, _ in items]
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        if self.spec is not None:
            sizes = [canvas(self.spec, size) for size in sizes]
        return (*batch_images(images, sizes), [target for _, target in items])


def loader_workers(wanted: int) -> int:
    """No more loader processes than cores beside the trainer's own; 0 on a single core, and where OpenVINO is loaded:
    its threads do not survive the fork, and the process dies of SIGSEGV."""
    if "openvino" in sys.modules:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(wanted, cores - 1))
