"""The peer: published.cu behind two functions of CUDA tensors. float32, 32 channels a head."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from model.ops import cuda, cuda_compile, cuda_driver

SOURCE = Path(__file__).with_name("published.cu")
FORWARD_THREADS, CHANNELS = 1024, 32
Kernels = Callable[[str], Any]
Levels = tuple[torch.Tensor, torch.Tensor]


@functools.cache
def kernel(name: str) -> cuda_driver.Kernel:
    device = cuda._device(torch.device("cuda"))
    return cuda_driver.Kernel(cuda_compile.compiled(SOURCE, {}, device.capability), name, device.index)


class Sizes(ctypes.Structure):
    """As in the .cu file."""

    _fields_ = [
        (name, ctypes.c_int)
        for name in ("images", "rows", "heads", "channels", "levels", "queries", "points")
    ]


def _sizes(value: torch.Tensor, locations: torch.Tensor) -> Sizes:
    (B, S, M, D), (_, Q, _, L, P, _) = value.shape, locations.shape
    if D != CHANNELS or value.dtype != torch.float32:
        raise ValueError(
            f"the published kernel is for float32 and {CHANNELS} channels, but got {value.dtype} and {D}"
        )
    return Sizes(B, S, M, D, L, Q, P)


def levels(shapes: cuda.Shapes, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """int64 sizes [L, 2] and first rows [L], which the published kernels read from the device."""
    sizes = torch.tensor(shapes, device=device)
    areas = sizes.prod(1)
    return sizes, areas.cumsum(0) - areas


def forward(
    value: torch.Tensor, levels: Levels, locations: torch.Tensor, weights: torch.Tensor,
    kernels: Kernels | None = None,
) -> torch.Tensor:  # fmt: skip
    sizes = _sizes(value, locations)
    out = value.new_empty(*locations.shape[:2], value.shape[2] * value.shape[3])
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (value, locations, weights, out, *levels)]
    blocks = -(-out.numel() // FORWARD_THREADS)
    (kernels or kernel)("published_forward").launch((blocks, 1, 1), FORWARD_THREADS, [*pointers, sizes])
    return out


def backward(
    grad_out: torch.Tensor, value: torch.Tensor, levels: Levels, locations: torch.Tensor, weights: torch.Tensor,
    kernels: Kernels | None = None,
) -> cuda.Gradients:  # fmt: skip
    """As published: all three gradients start as zeros."""
    sizes = _sizes(value, locations)
    grads = torch.zeros_like(value), torch.zeros_like(locations), torch.zeros_like(weights)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (grad_out, value, locations, weights, *grads, *levels)]
    blocks = grad_out.numel() // CHANNELS
    (kernels or kernel)("published_backward").launch((blocks, 1, 1), CHANNELS, [*pointers, sizes])
    return grads
