"""One training for networks of many sizes: every step draws how many decoder layers, queries and pixels it computes
with, all of the same weights, so that the forms that `deploy` cuts out have been trained as they are run (weight
sharing as in once-for-all networks, arXiv:1908.09791; for detectors RF-DETR, arXiv:2511.09554)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

WHOLE = 0.5  # share of the steps that train the whole network, which is to stay as good as it is without
SIDES = (1.0, 0.75)  # of an image


@dataclass(frozen=True)
class Subnet:
    """What a step computes with: decoder layers, queries, and the share of an image's sides."""

    layers: int
    queries: int
    side: float


def depths(deepest: int) -> list[int]:
    """How many decoder layers of `deepest` are worth offering: thirds, most first."""
    return sorted({-(-deepest * k // 3) for k in (1, 2, 3)}, reverse=True)


def counts(most: int) -> list[int]:
    """How many queries of `most`: all, a half, a quarter."""
    return sorted({max(1, most // k) for k in (1, 2, 4)}, reverse=True)


def part(side: int) -> int:
    """The smaller side, a multiple of 32 px."""
    return max(32, round(side * SIDES[-1] / 32) * 32)


def draws(*place: int) -> random.Random:
    """What the steps from a place on (seed, epoch and such) draw by. It must not hang on the rank: under FSDP each
    layer is gathered from all ranks, which wait for ever for one that leaves it out."""
    return random.Random(repr(place))


def draw(model: Mapping[str, Any], objects: int, choose: random.Random) -> Subnet:
    """A step's part of the network of a spec's `model`; never fewer queries than there are objects in an image of the
    batch, which may be more on one rank than on another. Whatever it returns, `choose` stands at the same place on
    all."""
    if choose.random() < WHOLE:
        return Subnet(model["dec_layers"], model["num_queries"], 1.0)
    queries = max(choose.choice(counts(model["num_queries"])), min(objects, model["num_queries"]))
    return Subnet(choose.choice(depths(model["dec_layers"])), queries, choose.choice(SIDES))


def smaller(images: torch.Tensor, mask: torch.Tensor, side: float) -> tuple[torch.Tensor, torch.Tensor]:
    """images [B, 3, H, W] and mask [B, H, W] (True: padding) with sides of that share, at least 32 px."""
    if side == 1.0:
        return images, mask
    size = [max(32, round(length * side)) for length in images.shape[-2:]]
    images = F.interpolate(images, size=size, mode="bilinear", antialias=True)
    return images, F.interpolate(mask[None].float(), size=size)[0].bool()
