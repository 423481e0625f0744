"""Multi-scale deformable attention."""

from __future__ import annotations

from model.ops.reference import ms_deform_attn_reference as ms_deform_attn

__all__ = ["ms_deform_attn"]
