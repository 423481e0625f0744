"""Boxes: `cxcywh` and `xyxy`, IoU and GIoU."""

from __future__ import annotations

import torch


def cxcywh_to_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    """[..., 4] centre and size -> corners."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def pairwise_giou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Generalised IoU (Rezatofighi et al. 2019, arXiv:1902.09630) of xyxy boxes [..., N, 4] and [..., M, 4]."""
    return _giou(a[..., :, None, :], b[..., None, :, :])


def paired_giou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Generalised IoU of xyxy boxes [N, 4] with [N, 4], row by row."""
    return _giou(a, b)


def paired_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """IoU of xyxy boxes [N, 4] with [N, 4], row by row."""
    size_a, size_b = (a[..., 2:] - a[..., :2]).clamp(min=0), (b[..., 2:] - b[..., :2]).clamp(min=0)
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    shared = overlap.prod(-1)
    return shared / (size_a.prod(-1) + size_b.prod(-1) - shared).clamp(min=1e-9)


def _giou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    size_a, size_b = (a[..., 2:] - a[..., :2]).clamp(min=0), (b[..., 2:] - b[..., :2]).clamp(min=0)
    overlap = (
        (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    )
    union = size_a.prod(-1) + size_b.prod(-1) - overlap
    hull = (
        (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    )
    return overlap / union.clamp(min=1e-9) - (hull - union) / hull.clamp(min=1e-9)


def inverse_sigmoid(x: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """log(x / (1 - x)) with x kept within [eps, 1 - eps]. One clamp: torch's ONNX exporter turns the textbook form
    with two into an invalid file when it is applied twice to one tensor."""
    x = x.clamp(eps, 1 - eps)
    return torch.log(x / (1 - x))
