"""Multi-scale deformable attention: one function, and the fastest way to compute it that this machine has."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from model.ops import operator
from model.ops.reference import ms_deform_attn_in_graph, ms_deform_attn_reference

__all__ = ["live", "ms_deform_attn", "ms_deform_attn_reference"]

live = operator.live
_live = torch.compiler.assume_constant_result(lambda device: operator.live(device)[0])
_exporting = getattr(torch.compiler, "is_exporting", lambda: False)


def ms_deform_attn(
    value: torch.Tensor,
    spatial_shapes: torch.Tensor | Sequence[tuple[int, int]],
    locations: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Sample each level at P points per head and mix them (Zhu et al. 2020, arXiv:2010.04159, eq. 3).

    value [B, S, M, D] in float32, float64, bfloat16 or float16; spatial_shapes [L, 2] rows (H, W), better a list
    than a tensor; locations [B, Q, M, L, P, 2] as (x, y), 0..1 spans the map from its top-left corner, outside reads
    zero; weights [B, Q, M, L, P]. Returns [B, Q, M*D] in value's dtype. Locations, weights and sums are float32
    (float64 for a float64 value) whatever autocast does: at width 167 a bfloat16 location is a third of a cell
    off. Differentiable once. Raises `ValueError` when shapes do not belong together.

    Exported graphs (torch.export, ONNX) hold grid_sample, not an operator of ours.
    """
    rows = spatial_shapes.tolist() if isinstance(spatial_shapes, torch.Tensor) else spatial_shapes
    fine = torch.float64 if value.dtype == torch.float64 else torch.float32
    locations, weights = locations.to(fine), weights.to(fine)
    if _exporting() or torch.jit.is_tracing():
        return ms_deform_attn_in_graph(value, rows, locations, weights)
    if not _live(value.device.type) or not operator.takes(value, *locations.shape[3:5]):
        return ms_deform_attn_reference(value, rows, locations, weights)
    flat = [size for row in rows for size in row]
    return torch.ops.detr_automl.ms_deform_attn.default(value, flat, locations, weights)
