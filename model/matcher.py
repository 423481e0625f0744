"""Hungarian matching of predictions to objects (DETR, arXiv:2005.12872, with Deformable DETR's focal cost)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment

from model.boxes import cxcywh_to_xyxy, pairwise_giou

Match = tuple[torch.Tensor, torch.Tensor]  # (query indices, object indices) of one image, int64


@torch.no_grad()
def match(
    logits: torch.Tensor, boxes: torch.Tensor, targets: list[dict[str, Any]], model: Mapping[str, Any]
) -> list[list[Match]]:
    """logits [N, B, Q, K] and boxes [N, B, Q, 4] of N decoder layers -> matches[layer][image].

    Costs are the losses' weights times focal, L1 and -GIoU. One cost tensor for all layers and images, each image's
    predictions with its own objects, and one copy to the host.
    """
    counts = [len(t["labels"]) for t in targets]
    if not any(counts):
        empty = torch.empty(0, dtype=torch.int64, device=logits.device)
        return [[(empty, empty)] * len(counts) for _ in logits]
    labels, wanted, _ = pad_targets(targets, max(counts))
    p = logits.float().sigmoid()
    p = p.gather(-1, labels[None, :, None].expand(*p.shape[:3], -1))  # [N, B, Q, T]
    boxes, alpha = boxes.float(), model["focal_alpha"]
    negative = (1 - alpha) * p**2 * -(1 - p + 1e-8).log()
    positive = alpha * (1 - p) ** 2 * -(p + 1e-8).log()
    cost = model["cls_loss_coef"] * (positive - negative)
    cost = cost + model["bbox_loss_coef"] * torch.cdist(boxes, wanted[None], p=1)
    cost = cost - model["giou_loss_coef"] * pairwise_giou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(wanted)[None])
    table = torch.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6).cpu()
    return [
        [_assignment(costs[:, :count], logits.device) for costs, count in zip(of_layer, counts, strict=True)]
        for of_layer in table
    ]


def _assignment(costs: torch.Tensor, device: torch.device) -> Match:
    """costs [Q, T] on the host."""
    rows, columns = linear_sum_assignment(costs.numpy())
    return torch.as_tensor(rows, device=device), torch.as_tensor(columns, device=device)


def pad_targets(targets: list[dict[str, Any]], most: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """labels [B, most] int64, boxes_cxcywh [B, most, 4] float32 and which of them are real [B, most]."""
    device = targets[0]["labels"].device
    labels = torch.zeros(len(targets), most, dtype=torch.int64, device=device)
    boxes = torch.full((len(targets), most, 4), 0.5, device=device)
    real = torch.zeros(len(targets), most, dtype=torch.bool, device=device)
    for row, target in enumerate(targets):
        count = len(target["labels"])
        labels[row, :count], boxes[row, :count] = target["labels"], target["boxes_cxcywh"].float()
        real[row, :count] = True
    return labels, boxes, real
