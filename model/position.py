"""Sine position embeddings of a feature map, as Deformable DETR has them (DETR's lack the half-pixel shift)."""

from __future__ import annotations

import math

import torch

TEMPERATURE = 10_000.0


def sine_embedding(not_padding: torch.Tensor, channels: int) -> torch.Tensor:
    """not_padding [B, H, W] bool -> [B, channels, H, W] float32: half for y, half for x, sines and cosines
    interleaved, the position scaled to 2 pi over the part that is not padding."""
    y = not_padding.cumsum(1, dtype=torch.float32)
    x = not_padding.cumsum(2, dtype=torch.float32)
    y = (y - 0.5) / (y[:, -1:, :] + 1e-6) * (2 * math.pi)
    x = (x - 0.5) / (x[:, :, -1:] + 1e-6) * (2 * math.pi)
    return torch.cat([_waves(y, channels // 2), _waves(x, channels // 2)], dim=-1).permute(0, 3, 1, 2)


def sine_of_boxes(boxes_cxcywh: torch.Tensor, channels: int) -> torch.Tensor:
    """boxes [..., 4] 0-1 -> [..., 2 * channels] float32: cx, cy, w, h one after the other."""
    return _waves(boxes_cxcywh.float() * (2 * math.pi), channels // 2).flatten(-2)


def _waves(position: torch.Tensor, channels: int) -> torch.Tensor:
    index = torch.arange(channels, dtype=torch.float32, device=position.device)
    angles = position[..., None] / TEMPERATURE ** (2 * (index // 2) / channels)
    return torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(-2)
