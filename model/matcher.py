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

    Costs are the losses' weights times focal, L1 and -GIoU. One cost tensor for all layers and images, one copy
    to the host.
    """
    N, B, Q, _ = logits.shape
    counts = [len(t["labels"]) for t in targets]
    labels = torch.cat([t["labels"] for t in targets])
    if not len(labels):
        empty = torch.empty(0, dtype=torch.int64, device=logits.device)
        return [[(empty, empty)] * B for _ in range(N)]
    wanted = torch.cat([t["boxes_cxcywh"] for t in targets]).float()
    p = logits.float().sigmoid()[..., labels].flatten(0, 2)  # [N*B*Q, T]
    flat = boxes.float().flatten(0, 2)
    alpha = model["focal_alpha"]
    negative = (1 - alpha) * p**2 * -(1 - p + 1e-8).log()
    positive = alpha * (1 - p) ** 2 * -(p + 1e-8).log()
    cost = model["cls_loss_coef"] * (positive - negative)
    cost = cost + model["bbox_loss_coef"] * torch.cdist(flat, wanted, p=1)
    cost = cost - model["giou_loss_coef"] * pairwise_giou(cxcywh_to_xyxy(flat), cxcywh_to_xyxy(wanted))
    table = torch.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6).view(N, B, Q, -1).cpu()
    device = logits.device
    found = []
    for layer in table:
        of_layer = []
        for image, part in enumerate(layer.split(counts, dim=-1)):
            rows, columns = linear_sum_assignment(part[image].numpy())
            of_layer.append((torch.as_tensor(rows, device=device), torch.as_tensor(columns, device=device)))
        found.append(of_layer)
    return found
