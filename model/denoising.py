"""Extra decoder queries of the training alone: noised objects to be restored, and which queries see which.

DN-DETR (Li et al. 2022, arXiv:2203.01305) with DINO's contrastive negatives (Zhang et al. 2022, arXiv:2203.03605):
they need no matching, so that the decoder learns from the first step on. The inference graph stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from model.boxes import cxcywh_to_xyxy
from model.matcher import Match, pad_targets

MATCHED, HYBRID, NOISED = 0, 1, 2  # numbers of the groups of queries; noised groups count on from NOISED


@dataclass(frozen=True)
class Noised:
    """labels [B, D]; boxes_cxcywh [B, D, 4]; real [B, D] bool, False where an image has fewer objects than the batch's
    richest; group [D]; matches: per image which queries restore which object; copies: how often each object occurs."""

    labels: torch.Tensor
    boxes_cxcywh: torch.Tensor
    real: torch.Tensor
    group: torch.Tensor
    matches: list[Match]
    copies: int


class Denoising(nn.Module):
    """Targets -> queries of noised objects. In each group every object occurs twice: moved by less than half its
    size, to be restored, and by more, to be told apart from objects."""

    def __init__(self, model: Mapping[str, Any], classes: int) -> None:
        super().__init__()
        channels = model["hidden_dim"]
        self.classes, self.queries = classes, model["denoising_queries"]
        self.label_noise, self.box_noise = model["denoising_label_noise"], model["denoising_box_noise"]
        self.label_enc = nn.Embedding(classes, channels)
        self.position = None  # a two-stage decoder embeds boxes already
        if not model["two_stage"]:
            self.position = nn.Sequential(
                nn.Linear(2 * channels, channels), nn.ReLU(), nn.Linear(channels, channels)
            )

    def draw(self, targets: list[dict[str, Any]]) -> Noised:
        """Noise of torch's global generator. As many groups as fit into `denoising_queries`, at least one."""
        counts = [len(target["labels"]) for target in targets]
        most = max(1, *counts)
        groups = max(1, self.queries // (2 * most))
        labels, boxes, real = pad_targets(targets, most)
        shape = (len(targets), groups, 2, most)
        labels, real = (t[:, None, None].expand(shape).flatten(1) for t in (labels, real))
        boxes = boxes[:, None, None].expand(*shape, 4)
        device = labels.device
        negative = torch.arange(2, device=device).view(1, 1, 2, 1, 1)
        size = torch.arange(groups * 2 * most, device=device)
        return Noised(
            labels=self._other_labels(labels),
            boxes_cxcywh=moved(boxes, self.box_noise, negative).flatten(1, 3),
            real=real,
            group=NOISED + size // (2 * most),
            matches=[_positives(count, groups, most, device) for count in counts],
            copies=groups,
        )

    def _other_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Half of the `label_noise` share exchanged for random ones, as published."""
        change = torch.rand(labels.shape, device=labels.device) < self.label_noise / 2
        return torch.where(change, torch.randint_like(labels, self.classes), labels)

    def content(self, noised: Noised) -> torch.Tensor:
        """[B, D, C], zero where there is no object."""
        return self.label_enc(noised.labels) * noised.real[..., None]


def moved(boxes_cxcywh: torch.Tensor, noise: float, negative: torch.Tensor | int) -> torch.Tensor:
    """Each corner coordinate moved by up to `noise` * half the side, negatives (1, else 0) by 1 to 2 times that; kept
    in the image."""
    corners, half = cxcywh_to_xyxy(boxes_cxcywh), boxes_cxcywh[..., 2:].repeat(1, 1, 1, 1, 2) / 2
    step = torch.rand_like(corners) + negative
    sign = torch.where(torch.rand_like(corners) < 0.5, -1.0, 1.0)
    corners = (corners + sign * step * half * noise).clamp(0.0, 1.0)
    low, high = (
        torch.minimum(corners[..., :2], corners[..., 2:]),
        torch.maximum(corners[..., :2], corners[..., 2:]),
    )
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def attention_mask(group: torch.Tensor) -> torch.Tensor:
    """group [Q] -> [Q, Q] bool, True where the query of the row may not see that of the column: each sees its own
    group, the noised ones the matched ones as well, never the other way round."""
    row, column = group[:, None], group[None, :]
    return (row != column) & ~((row >= NOISED) & (column == MATCHED))


def _positives(count: int, groups: int, most: int, device: torch.device) -> Match:
    """Query j of a group's first half restores object j."""
    objects = torch.arange(count, device=device)
    starts = torch.arange(groups, device=device) * (2 * most)
    return (starts[:, None] + objects).flatten(), objects.repeat(groups)
