"""The training loss: focal for classes, L1 and GIoU for boxes, on every decoder layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from model.boxes import cxcywh_to_xyxy, paired_giou
from model.matcher import Match, match

GAMMA = 2.0


class Criterion(nn.Module):
    """outputs, targets -> {"loss": weighted sum, "loss_ce", "loss_bbox", "loss_giou" of the last layer, the same
    with `_0`... for earlier layers and, two-stage, `_enc` for the encoder's cells (all objects as class 0, as
    published), "class_error": share of matched queries with another top class, in percent}."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = spec["model"]
        weights = {"loss_ce": "cls_loss_coef", "loss_bbox": "bbox_loss_coef", "loss_giou": "giou_loss_coef"}
        self.weights = {name: self.model[key] for name, key in weights.items()}
        if "boxes" not in self.model["loss_types"]:
            self.weights = {"loss_ce": self.weights["loss_ce"]}

    def forward(self, outputs: dict[str, Any], targets: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        layers = [*outputs.get("aux_outputs", []), outputs]
        logits = torch.stack([layer["pred_logits"] for layer in layers]).float()
        boxes = torch.stack([layer["pred_boxes"] for layer in layers]).float()
        matches = match(logits, boxes, targets, self.model)
        count = self._object_count(targets, logits.device)
        losses: dict[str, torch.Tensor] = {}
        for index in range(len(layers)):
            suffix = "" if index == len(layers) - 1 else f"_{index}"
            losses |= self._layer(logits[index], boxes[index], targets, matches[index], count, suffix)
        if "enc_outputs" in outputs:
            losses |= self._cells(outputs["enc_outputs"], targets, count)
        total = sum(self._weight(name) * value for name, value in losses.items())
        error = class_error(logits[-1], targets, matches[-1])
        return {**losses, "class_error": error, "loss": torch.as_tensor(total)}

    def _weight(self, name: str) -> float:
        return next(weight for start, weight in self.weights.items() if name.startswith(start))

    def _cells(
        self, cells: dict[str, torch.Tensor], targets: list[dict[str, Any]], count: float
    ) -> dict[str, torch.Tensor]:
        """The encoder's cells tell objects from background, so every object is of class 0."""
        binary = [target | {"labels": torch.zeros_like(target["labels"])} for target in targets]
        logits, boxes = cells["pred_logits"].float(), cells["pred_boxes"].float()
        matches = match(logits[None], boxes[None], binary, self.model)[0]
        return self._layer(logits, boxes, binary, matches, count, "_enc")

    def _layer(
        self,
        logits: torch.Tensor,
        boxes: torch.Tensor,
        targets: list[dict[str, Any]],
        matches: list[Match],
        count: float,
        suffix: str,
    ) -> dict[str, torch.Tensor]:
        images, queries = _flat(matches)
        labels = torch.cat([t["labels"][objects] for t, (_, objects) in zip(targets, matches, strict=True)])
        wanted = torch.cat(
            [t["boxes_cxcywh"][objects] for t, (_, objects) in zip(targets, matches, strict=True)]
        ).float()
        onehot = torch.zeros_like(logits)
        onehot[images, queries, labels] = 1.0
        found = boxes[images, queries]
        giou = paired_giou(cxcywh_to_xyxy(found), cxcywh_to_xyxy(wanted))
        terms = {
            "loss_ce": focal(logits, onehot, self.model["focal_alpha"]) / count,
            "loss_bbox": F.l1_loss(found, wanted, reduction="sum") / count,
            "loss_giou": (1 - giou).sum() / count,
        }
        return {name + suffix: terms[name] for name in self.weights}

    def _object_count(self, targets: list[dict[str, Any]], device: torch.device) -> float:
        """Objects per process, averaged over all processes, at least 1."""
        count = torch.tensor(float(sum(len(t["labels"]) for t in targets)), device=device)
        world = 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(count)
            world = torch.distributed.get_world_size()
        return max(1.0, float(count) / world)


def focal(logits: torch.Tensor, onehot: torch.Tensor, alpha: float) -> torch.Tensor:
    """Summed sigmoid focal loss (Lin et al. 2017, arXiv:1708.02002). The published `.mean(1) * num_queries` is a
    sum over the queries."""
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, onehot, reduction="none")
    miss = p + onehot - 2 * p * onehot  # 1 - p_t
    return ((alpha * onehot + (1 - alpha) * (1 - onehot)) * miss**GAMMA * entropy).sum()


def class_error(logits: torch.Tensor, targets: list[dict[str, Any]], matches: list[Match]) -> torch.Tensor:
    images, queries = _flat(matches)
    if not len(images):
        return logits.new_zeros(())
    labels = torch.cat([t["labels"][objects] for t, (_, objects) in zip(targets, matches, strict=True)])
    return 100.0 * (logits[images, queries].argmax(-1) != labels).float().mean()


def _flat(matches: list[Match]) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and query index of every match."""
    images = torch.cat([torch.full_like(q, i) for i, (q, _) in enumerate(matches)])
    return images, torch.cat([q for q, _ in matches])
