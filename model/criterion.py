"""The training loss: focal for classes, L1 and GIoU for boxes, on every decoder layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from model.boxes import cxcywh_to_xyxy, paired_giou, paired_iou
from model.matcher import Match, match

GAMMA = 2.0


class Criterion(nn.Module):
    """outputs, targets -> {"loss": weighted sum, "loss_ce", "loss_bbox", "loss_giou" of the last layer, the same
    with `_0`... for earlier layers, "class_error": share of matched queries with another top class, in percent}.

    The same terms with `_enc` for a two-stage encoder's cells (every object as class 0, as published), and, again
    per layer, `_o2m` for hybrid and `_dn` for noised queries.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = spec["model"]
        weights = {"loss_ce": "cls_loss_coef", "loss_bbox": "bbox_loss_coef", "loss_giou": "giou_loss_coef"}
        self.weights = {name: float(self.model[key]) for name, key in weights.items()}
        if "boxes" not in self.model["loss_types"]:
            self.weights = {"loss_ce": self.weights["loss_ce"]}

    def forward(self, outputs: dict[str, Any], targets: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        count = self._object_count(targets, outputs["pred_logits"].device)
        layers = [*outputs.get("aux_outputs", []), outputs]
        matches = self._match(layers, targets)
        losses = self._layers(layers, targets, matches, count, "")
        if "enc_outputs" in outputs:
            cells = [outputs["enc_outputs"]]
            binary = [target | {"labels": torch.zeros_like(target["labels"])} for target in targets]
            losses |= self._layers(cells, binary, self._match(cells, binary), count, "_enc")
        if "hybrid_outputs" in outputs:
            repeat = self.model["hybrid_repeat"]
            copies = [
                {"labels": t["labels"].repeat(repeat), "boxes_cxcywh": t["boxes_cxcywh"].repeat(repeat, 1)}
                for t in targets
            ]
            extra = outputs["hybrid_outputs"]
            losses |= self._layers(extra, copies, self._match(extra, copies), count * repeat, "_o2m")
        if "noised_outputs" in outputs:
            extra, noised = outputs["noised_outputs"], outputs["noised"]
            known = [noised.matches] * len(extra)
            losses |= self._layers(extra, targets, known, count * noised.copies, "_dn", noised.real)
        total = sum(self.weights[_term(name)] * value for name, value in losses.items())
        error = class_error(outputs["pred_logits"], targets, matches[-1])
        return {**losses, "class_error": error, "loss": torch.as_tensor(total)}

    def _match(
        self, layers: list[dict[str, torch.Tensor]], targets: list[dict[str, Any]]
    ) -> list[list[Match]]:
        logits = torch.stack([layer["pred_logits"] for layer in layers])
        boxes = torch.stack([layer["pred_boxes"] for layer in layers])
        return match(logits, boxes, targets, self.model)

    def _layers(
        self, layers: list[dict[str, torch.Tensor]], targets: list[dict[str, Any]],
        matches: list[list[Match]], count: float, name: str, real: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:  # fmt: skip
        """Every layer's terms, with `name` and, but for the last, the layer's number appended."""
        losses: dict[str, torch.Tensor] = {}
        for index, (layer, of_layer) in enumerate(zip(layers, matches, strict=True)):
            suffix = name if index == len(layers) - 1 else f"{name}_{index}"
            terms = self._layer(
                layer["pred_logits"].float(), layer["pred_boxes"].float(), targets, of_layer, count, real
            )
            losses |= {term + suffix: terms[term] for term in self.weights}
        return losses

    def _layer(
        self, logits: torch.Tensor, boxes: torch.Tensor, targets: list[dict[str, Any]], matches: list[Match],
        count: float, real: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:  # fmt: skip
        """logits [B, Q, K], boxes [B, Q, 4]; real [B, Q] bool: the queries that count, None: all."""
        images, queries = _matched_indices(matches)
        labels = torch.cat([t["labels"][objects] for t, (_, objects) in zip(targets, matches, strict=True)])
        wanted = torch.cat(
            [t["boxes_cxcywh"][objects] for t, (_, objects) in zip(targets, matches, strict=True)]
        ).float()
        found = boxes[images, queries]
        corners, wanted_corners = cxcywh_to_xyxy(found), cxcywh_to_xyxy(wanted)
        score = torch.zeros_like(logits)
        if self.model["class_loss"] == "varifocal":
            score[images, queries, labels] = paired_iou(corners.detach(), wanted_corners)
            class_loss = varifocal(logits, score)
        else:
            score[images, queries, labels] = 1.0
            class_loss = focal(logits, score, self.model["focal_alpha"])
        if real is not None:
            class_loss = class_loss[real]
        return {
            "loss_ce": class_loss.sum() / count,
            "loss_bbox": F.l1_loss(found, wanted, reduction="sum") / count,
            "loss_giou": (1 - paired_giou(corners, wanted_corners)).sum() / count,
        }

    def _object_count(self, targets: list[dict[str, Any]], device: torch.device) -> float:
        """Objects per process, averaged over all processes, at least 1. In evaluation those of this process alone,
        whose batches need not be as many as another's."""
        count = torch.tensor(float(sum(len(t["labels"]) for t in targets)), device=device)
        world = 1
        if self.training and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(count)
            world = torch.distributed.get_world_size()
        return max(1.0, float(count) / world)


def focal(logits: torch.Tensor, onehot: torch.Tensor, alpha: float) -> torch.Tensor:
    """Sigmoid focal loss (Lin et al. 2017, arXiv:1708.02002) of every element. The published `.mean(1) *
    num_queries` is a sum over the queries."""
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, onehot, reduction="none")
    miss = p + onehot - 2 * p * onehot  # 1 - p_t
    return (alpha * onehot + (1 - alpha) * (1 - onehot)) * miss**GAMMA * entropy


def varifocal(logits: torch.Tensor, score: torch.Tensor, alpha: float = 0.75) -> torch.Tensor:
    """Varifocal loss (Zhang et al. 2020, arXiv:2008.13367) of every element: positives are weighed by the score they
    shall reach, the IoU of their box."""
    p = logits.sigmoid().detach()
    weight = torch.where(score > 0, score, alpha * p**GAMMA)
    return weight * F.binary_cross_entropy_with_logits(logits, score, reduction="none")


def _term(name: str) -> str:
    """`loss_ce` of `loss_ce_dn_0`."""
    return "_".join(name.split("_")[:2])


def class_error(logits: torch.Tensor, targets: list[dict[str, Any]], matches: list[Match]) -> torch.Tensor:
    images, queries = _matched_indices(matches)
    if not len(images):
        return logits.new_zeros(())
    labels = torch.cat([t["labels"][objects] for t, (_, objects) in zip(targets, matches, strict=True)])
    return 100.0 * (logits[images, queries].argmax(-1) != labels).float().mean()


def _matched_indices(matches: list[Match]) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and query index of every match."""
    images = torch.cat([torch.full_like(q, i) for i, (q, _) in enumerate(matches)])
    return images, torch.cat([q for q, _ in matches])
