"""The torch operator `detr_automl::ms_deform_attn`: its shapes, its gradient, and which kernel runs it."""

from __future__ import annotations

import functools
import importlib
import logging
import os
from collections.abc import Sequence
from typing import Any

import torch

from model.ops import build, native

log = logging.getLogger(__name__)
Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

library = torch.library.Library("detr_automl", "DEF")
library.define("ms_deform_attn(Tensor value, SymInt[] shapes, Tensor locations, Tensor weights) -> Tensor")
library.define(
    "ms_deform_attn_backward(Tensor grad_out, Tensor value, SymInt[] shapes, Tensor locations, Tensor weights)"
    " -> (Tensor, Tensor, Tensor)"
)


@functools.cache
def live(device: str) -> tuple[bool, str]:
    """(whether a kernel of ours runs on this type of device, which one or why not). Builds it when first asked;
    warns, once, when attention must run in plain torch instead. `DETR_ATTENTION=torch` asks for that."""
    if os.environ.get("DETR_ATTENTION") == "torch":
        return False, "plain torch: DETR_ATTENTION=torch"
    try:
        if device == "cpu":
            return True, f"{native.variants()[0]} kernel"
        usable, why = _cuda().status() if device == "cuda" else (False, f"there is no kernel for '{device}'")
    except (build.BuildError, ImportError) as error:
        usable, why = False, str(error)
    if usable:
        return True, why
    log.warning(
        "attention on %s runs in plain torch, many times slower than the compiled kernel: %s", device, why
    )
    return False, f"plain torch: {why}"


def takes(value: torch.Tensor, levels: int, points: int) -> bool:
    """Whether the live kernel covers this problem; what it does not cover is far outside any known model."""
    kernels = _cuda() if value.device.type == "cuda" else native
    return bool(kernels.takes(value, levels, points))


def _cuda() -> Any:
    return importlib.import_module("model.ops.cuda")


def check(value: Any, shapes: Sequence[Any], locations: Any, weights: Any) -> None:
    """Raises `ValueError` unless the shapes and dtypes belong together."""
    if value.dim() != 4 or locations.dim() != 6 or weights.dim() != 5 or locations.shape[5] != 2:
        raise ValueError(
            "ms_deform_attn takes value [B, S, M, D], locations [B, Q, M, L, P, 2] and weights [B, Q, M, L, P], but "
            f"got {[*value.shape]}, {[*locations.shape]} and {[*weights.shape]}"
        )
    (B, S, M, _), (_, Q, _, L, P, _) = value.shape, locations.shape
    if (
        tuple(weights.shape) != (B, Q, M, L, P)
        or tuple(locations.shape[:3]) != (B, Q, M)
        or len(shapes) != 2 * L
    ):
        raise ValueError(
            f"value {[*value.shape]}, {len(shapes) // 2} spatial shapes, locations {[*locations.shape]} and weights "
            f"{[*weights.shape]} must agree in B, Q, M, L and P"
        )
    if sum(h * w for h, w in pairs(shapes)) != S:
        raise ValueError(f"spatial shapes {pairs(shapes)} must hold the {S} cells of value")
    fine = torch.float64 if value.dtype == torch.float64 else torch.float32
    if locations.dtype != fine or weights.dtype != fine:
        raise ValueError(
            f"locations and weights must be {fine} where value is {value.dtype}, but got {locations.dtype} "
            f"and {weights.dtype}"
        )


def pairs(flat: Sequence[int]) -> list[tuple[int, int]]:
    """[h0, w0, h1, w1, ...] -> [(h0, w0), (h1, w1), ...]"""
    return list(zip(flat[::2], flat[1::2], strict=True))


def _forward(
    value: torch.Tensor, shapes: list[int], locations: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    check(value, shapes, locations, weights)
    levels, device = pairs(shapes), value.device.type
    value, locations, weights = value.contiguous(), locations.contiguous(), weights.contiguous()
    if device == "cuda":
        return _cuda().forward(value, levels, locations, weights)
    return native.forward(value.to(locations.dtype), levels, locations, weights).to(value.dtype)


def _backward(
    grad_out: torch.Tensor,
    value: torch.Tensor,
    shapes: list[int],
    locations: torch.Tensor,
    weights: torch.Tensor,
) -> Gradients:
    levels, device = pairs(shapes), value.device.type
    grad_out, value = grad_out.contiguous(), value.contiguous()
    locations, weights = locations.contiguous(), weights.contiguous()
    if device == "cuda":
        deterministic = torch.are_deterministic_algorithms_enabled()
        return _cuda().backward(grad_out, value, levels, locations, weights, deterministic=deterministic)
    fine = locations.dtype
    grads = native.backward(grad_out.to(fine), value.to(fine), levels, locations, weights)
    return grads[0].to(value.dtype), grads[1], grads[2]


library.impl("ms_deform_attn", _forward, "CompositeExplicitAutograd")
library.impl("ms_deform_attn_backward", _backward, "CompositeExplicitAutograd")


@torch.library.register_fake("detr_automl::ms_deform_attn", lib=library)
def _(value: torch.Tensor, shapes: list[int], locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    check(value, shapes, locations, weights)
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])


@torch.library.register_fake("detr_automl::ms_deform_attn_backward", lib=library)
def _(
    grad_out: torch.Tensor,
    value: torch.Tensor,
    shapes: list[int],
    locations: torch.Tensor,
    weights: torch.Tensor,
) -> Gradients:
    a, b, c = (
        torch.empty_like(t, memory_format=torch.contiguous_format) for t in (value, locations, weights)
    )
    return a, b, c


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    value, ctx.shapes, locations, weights = inputs
    ctx.save_for_backward(value, locations, weights)


def _differentiate(ctx: Any, grad_out: torch.Tensor) -> tuple[Any, ...]:
    value, locations, weights = ctx.saved_tensors
    by_value, by_locations, by_weights = torch.ops.detr_automl.ms_deform_attn_backward.default(
        grad_out, value, ctx.shapes, locations, weights
    )
    return by_value, None, by_locations, by_weights


def _no_second_derivative(ctx: Any, *grads: Any) -> None:
    raise RuntimeError("ms_deform_attn can be differentiated once, not twice")


torch.library.register_autograd(
    "detr_automl::ms_deform_attn", _differentiate, setup_context=_keep, lib=library
)
torch.library.register_autograd("detr_automl::ms_deform_attn_backward", _no_second_derivative, lib=library)
