"""Datasets, samplers, loaders, the same on one process or many. Needs no Lightning, whose import takes seconds."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from model.data import shared_memory
from model.data.coco import CocoData
from model.data.images import open_rgb
from model.data.transforms import EvalTransform, batch_images, canvas
from model.distributed import place
from model.info import cores

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
    workers = loader_workers(workers, batch_size, max((h * w for h, w in sizes), default=1))
    return DataLoader(
        DetectionDataset(data, transform, 0),
        batch_sampler=EvalBatches(sizes, batch_size, rank, world),
        num_workers=workers,
        collate_fn=Collate(None),
        pin_memory=pin_memory and torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=shared_memory.end_without_room,
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


def loader_workers(wanted: int, batch: int, pixels: int) -> int:
    """No more loader processes than cores beside the trainer's own, and than have room for `batch` images of so many
    pixels, which is said; 0 on a single core, and where OpenVINO is loaded: its threads do not survive the fork, and
    the process dies of SIGSEGV."""
    if "openvino" in sys.modules:
        return 0
    wanted = max(0, min(wanted, cores() - 1))
    workers = shared_memory.processes(wanted, batch, pixels)
    if (line := shared_memory.lacking(wanted, workers)) and place()[0] == 0:
        print(f"warning: {line}")
    return workers
