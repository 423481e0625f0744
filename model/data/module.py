"""The LightningDataModule: datasets, samplers, loaders, the same on one process or many."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from model.data.coco import CocoData, load_sources
from model.data.transforms import EvalTransform, TrainTransform, batch_images, canvas, exact_size, to_rgb
from model.errors import UserError

CACHE_BYTES = 512 << 20  # decoded images kept per loader process


class DetectionDataset(Dataset[tuple[torch.Tensor, dict[str, Any]]]):
    """Item i: image [3, H, W] and target {"labels", "boxes_cxcywh", "image_id", "orig_size"}. Boxes of crowds are
    left out of training; the metrics know them. Recently decoded images are kept, up to CACHE_BYTES.

    Item `epoch * len(self) + i` is image i with that epoch's augmentation, drawn from (seed, epoch, i) alone: the
    same in any worker and after any restart.
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
        boxes = self.data.boxes_xywh_px[rows][plain]
        target = {
            "boxes_xyxy_px": np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
            "labels": self.data.labels[rows][plain],
            "image_id": int(self.data.image_ids[index]),
            "orig_size": tuple(int(v) for v in self.data.sizes[index]),
        }
        return self.transform(self._image(index), target, np.random.default_rng([self.seed, epoch, index]))

    def _image(self, index: int) -> Image.Image:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        path = self.data.files[index]
        try:
            with Image.open(path) as file:
                image = to_rgb(file)
                image.load()
        except OSError as error:
            raise UserError(f"{path}: cannot be read as an image ({error})") from None
        size = image.width * image.height * 3
        if size <= CACHE_BYTES:
            self._kept[index] = image
            self._kept_bytes += size
            while self._kept_bytes > CACHE_BYTES:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= dropped.width * dropped.height * 3
        return image


class TrainSampler(Sampler[int]):
    """A permutation per epoch, split over the ranks, the same whatever came before: seeded by (seed, epoch).

    `kind` uniform_sampler draws each source equally often (with replacement), the others all images once.
    """

    def __init__(
        self, data: CocoData, kind: str, seed: int, rank: int, world: int, epoch: Callable[[], int]
    ) -> None:
        """`epoch` tells the current one; Lightning's own `set_epoch` is an epoch behind after a resume."""
        self.data, self.kind, self.seed, self.rank, self.world, self.epoch = (
            data,
            kind,
            seed,
            rank,
            world,
            epoch,
        )

    def __len__(self) -> int:
        return len(self.data) // self.world

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch()
        random = np.random.default_rng([self.seed, epoch])
        if self.kind == "uniform_sampler":
            counts = np.bincount(self.data.source)
            weights = 1.0 / counts[self.data.source]
            order = random.choice(len(self.data), len(self.data), p=weights / weights.sum())
        else:
            order = random.permutation(len(self.data))
        order += epoch * len(self.data)  # see DetectionDataset
        return iter(order[self.rank : len(self) * self.world : self.world].tolist())


class EvalSampler(Sampler[int]):
    """Every image once over the ranks, in order; ranks left short repeat an image so that all take as many steps
    (collectives would wait for ever), and the metrics count each image id once."""

    def __init__(self, count: int, rank: int, world: int) -> None:
        self.count, self.rank, self.world = count, rank, world

    def __len__(self) -> int:
        return -(-self.count // self.world)

    def __iter__(self) -> Iterator[int]:
        return iter([(self.rank + i * self.world) % self.count for i in range(len(self))])


class DataModule(pl.LightningDataModule):
    """Train and validation data of a full train spec. `classes` and `val_data` are there after `setup`."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.spec = spec

    def setup(self, stage: str | None = None) -> None:
        if hasattr(self, "train_data"):
            return
        dataset = self.spec["dataset"]
        self.train_data = load_sources(dataset["train_data_sources"])
        self.val_data = load_sources(dataset["val_data_sources"])
        self.classes = self.train_data.categories
        top = int(self.train_data.labels.max(initial=0))
        if top >= dataset["num_classes"]:
            raise UserError(
                f"dataset.num_classes must be above the largest category id {top}, but got {dataset['num_classes']}"
            )

    def train_dataloader(self) -> DataLoader[Any]:
        dataset, seed = self.spec["dataset"], max(0, self.spec["train"]["seed"])
        rank, world = _place()
        if len(self.train_data) < dataset["batch_size"] * world:
            raise UserError(
                f"the training set must hold a whole batch of {dataset['batch_size'] * world} images over all "
                f"processes, but has {len(self.train_data)}"
            )
        sampler = TrainSampler(self.train_data, dataset["train_sampler"], seed, rank, world, self._epoch)
        items = DetectionDataset(self.train_data, TrainTransform(self.spec), seed)
        return self._loader(items, sampler, drop_last=True, seed=seed + rank, pad=self._pads())

    def steps_per_epoch(self) -> int:
        """Optimizer steps, at least 1; whole batches only."""
        return max(1, len(self.train_data) // _place()[1] // self.spec["dataset"]["batch_size"])

    def val_dataloader(self) -> DataLoader[Any]:
        rank, world = _place()
        items = DetectionDataset(self.val_data, EvalTransform(self.spec, exact_size(self.spec, "train")), 0)
        return self._loader(
            items, EvalSampler(len(self.val_data), rank, world), drop_last=False, seed=0, pad=False
        )

    def _epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer else 0

    def _pads(self) -> bool:
        return bool(self.spec["dataset"]["augmentation"]["fixed_padding"]) and not exact_size(
            self.spec, "train"
        )

    def _loader(
        self, items: Dataset[Any], sampler: Sampler[int], drop_last: bool, seed: int, pad: bool
    ) -> Any:
        workers = loader_workers(self.spec["dataset"]["workers"])
        return DataLoader(
            items,
            batch_size=self.spec["dataset"]["batch_size"],
            sampler=sampler,
            num_workers=workers,
            collate_fn=Collate(self.spec if pad else None),
            drop_last=drop_last,
            pin_memory=bool(self.spec["dataset"]["pin_memory"]) and torch.cuda.is_available(),
            persistent_workers=workers > 0,
            generator=torch.Generator().manual_seed(seed),
            multiprocessing_context="fork" if workers else None,
        )


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
    """No more loader processes than cores beside the trainer's own; 0 on a single core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(wanted, cores - 1))


def _place() -> tuple[int, int]:
    """(rank, number of processes)."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
