"""Multi-scale deformable attention in plain torch: the truth that kernels are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def ms_deform_attn_reference(
    value: torch.Tensor,
    spatial_shapes: torch.Tensor | Sequence[tuple[int, int]],
    locations: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Sample each level at P points per head and mix them (Zhu et al. 2020, arXiv:2010.04159, eq. 3).

    value [B, S, M, D]; spatial_shapes [L, 2] rows (H, W); locations [B, Q, M, L, P, 2] as (x, y), 0..1 spans the
    map from its top-left corner, outside reads zero; weights [B, Q, M, L, P]. Returns [B, Q, M*D].
    Computes in the widest of the dtypes and returns value's.
    """
    B, _, M, D = value.shape
    Q, L, P = locations.shape[1], locations.shape[3], locations.shape[4]
    shapes = spatial_shapes.tolist() if isinstance(spatial_shapes, torch.Tensor) else spatial_shapes
    sampled = _sampled(value, shapes, locations, order=(0, 2, 3, 1, 4, 5))  # [B*M, D, Q, P]
    mixed = torch.stack(sampled, dim=-2).flatten(-2)  # [B*M, D, Q, L*P]
    weight = weights.transpose(1, 2).reshape(B * M, 1, Q, L * P)
    return (mixed * weight).sum(-1).view(B, M * D, Q).transpose(1, 2).to(value.dtype)


def ms_deform_attn_in_graph(
    value: torch.Tensor, shapes: Sequence[tuple[int, int]], locations: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The same in the form that exported graphs hold: points come before queries, so that a runtime's Concat, Mul and
    ReduceSum work along rows of Q instead of P or L*P numbers, which takes ONNX Runtime two thirds of the time."""
    B, _, M, D = value.shape
    Q, L, P = locations.shape[1], locations.shape[3], locations.shape[4]
    sampled = _sampled(value, shapes, locations, order=(0, 2, 3, 4, 1, 5))  # [B*M, D, P, Q]
    weight = weights.permute(0, 2, 3, 4, 1).reshape(B * M, 1, L * P, Q)
    mixed = (torch.cat(sampled, dim=2) * weight).sum(2)  # [B*M, D, Q]
    return mixed.view(B, M * D, Q).transpose(1, 2).to(value.dtype)


def _sampled(
    value: torch.Tensor, shapes: Sequence[tuple[int, int]], locations: torch.Tensor, order: tuple[int, ...]
) -> list[torch.Tensor]:
    """What each level has at its locations, [B*M, D, ., .] of the last two sizes of `locations` in this order, which
    begins with B, M, L and ends with (x, y)."""
    B, _, M, D = value.shape
    widest = torch.promote_types(value.dtype, locations.dtype)
    maps = value.to(widest).split([h * w for h, w in shapes], dim=1)
    grids = (2 * locations - 1).permute(order)
    sampled = []
    for level, (h, w) in enumerate(shapes):
        image = maps[level].permute(0, 2, 3, 1).reshape(B * M, D, h, w)
        grid = grids[:, :, level].flatten(0, 1)
        sampled.append(F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
    return sampled
