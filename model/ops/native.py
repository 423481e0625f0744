"""The compiled CPU kernels behind plain functions of contiguous tensors (csrc/README.md has the layouts)."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence

import torch

from model.errors import UserError
from model.ops import build

MAX_LEVELS, MAX_SAMPLES = 8, 128  # csrc/ms_deform_attn/cpu.h
INT32_MAX = 2**31 - 1

Shapes = Sequence[tuple[int, int]]


class Call(ctypes.Structure):
    """MsdaCall of csrc/ms_deform_attn/binding.cpp, field for field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("B", "S", "M", "D", "Q", "L", "P")),
        ("shapes", ctypes.c_int64 * (2 * MAX_LEVELS)),
        *((name, ctypes.c_void_p) for name in ("value", "locations", "weights", "grad_out")),
        *((name, ctypes.c_void_p) for name in ("out", "grad_value", "grad_locations", "grad_weights")),
        *((name, ctypes.c_int64) for name in ("is_double", "threads", "variant")),
    ]


@functools.cache
def load() -> ctypes.CDLL:
    """The library, built if need be, with torch's OpenMP pool handed to it. Raises `build.BuildError`."""
    try:
        library = ctypes.CDLL(str(build.library()))
    except (OSError, UserError) as error:
        raise build.BuildError(f"the library could not be built or loaded: {error}") from error
    library.msda_variant_name.restype = ctypes.c_char_p
    library.msda_use_openmp.argtypes = [ctypes.c_void_p]
    library.msda_use_openmp(_openmp_parallel())
    return library


def _openmp_parallel() -> int | None:
    """Address of GOMP_parallel in the OpenMP runtime that torch has loaded: two pools would fight for the cores.
    None where there is none; the library then starts threads of its own."""
    try:
        with open("/proc/self/maps") as maps:
            paths = {line.split()[-1] for line in maps if ".so" in line}
    except OSError:
        return None
    for path in sorted(p for p in paths if any(n in p for n in ("libgomp", "libiomp5", "libomp."))):
        try:
            return ctypes.cast(ctypes.CDLL(path).GOMP_parallel, ctypes.c_void_p).value
        except (OSError, AttributeError):
            continue
    return None


def variants() -> list[str]:
    """The instruction sets that this processor can run, best first."""
    return [_name(i) for i in _usable()]


@functools.cache
def _usable() -> tuple[int, ...]:
    library = load()
    return tuple(i for i in range(library.msda_variants()) if library.msda_variant_usable(i))


def _name(variant: int) -> str:
    return str(load().msda_variant_name(variant).decode())


def takes(value: torch.Tensor, levels: int, points: int) -> bool:
    """Whether the kernels cover this problem; what they do not cover is far outside any known model."""
    S, M, D = value.shape[1:]
    return levels <= MAX_LEVELS and levels * points <= MAX_SAMPLES and S * M * D <= INT32_MAX


def forward(
    value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor,
    variant: str | None = None, threads: int | None = None,
) -> torch.Tensor:  # fmt: skip
    """value [B, S, M, D], locations [B, Q, M, L, P, 2], weights [B, Q, M, L, P], contiguous and all float32 or all
    float64 -> [B, Q, M*D]. By default the best variant on torch's number of threads."""
    B, Q, M = locations.shape[:3]
    out = value.new_empty(B, Q, M * value.shape[3])
    call = _call(value, shapes, locations, weights, variant, threads)
    call.out = out.data_ptr()
    _run(load().msda_forward, call)
    return out


def backward(
    grad_out: torch.Tensor, value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor,
    variant: str | None = None, threads: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """grad_out [B, Q, M*D], the rest as in `forward` -> the gradients of value, locations and weights."""
    grads = torch.empty_like(value), torch.empty_like(locations), torch.empty_like(weights)
    call = _call(value, shapes, locations, weights, variant, threads)
    call.grad_out = grad_out.data_ptr()
    call.grad_value, call.grad_locations, call.grad_weights = (g.data_ptr() for g in grads)
    _run(load().msda_backward, call)
    return grads


def _call(
    value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor,
    variant: str | None, threads: int | None,
) -> Call:  # fmt: skip
    call = Call(*value.shape, locations.shape[1], *locations.shape[3:5])
    call.shapes[: 2 * len(shapes)] = [size for shape in shapes for size in shape]
    call.value, call.locations, call.weights = value.data_ptr(), locations.data_ptr(), weights.data_ptr()
    call.is_double = value.dtype == torch.float64
    call.threads = torch.get_num_threads() if threads is None else threads
    call.variant = _usable()[0 if variant is None else variants().index(variant)]
    return call


def _run(function: Callable[[object], int], call: Call) -> None:
    if call.B * call.Q * call.M == 0 and not call.grad_value:
        return
    if function(ctypes.byref(call)) != 0:
        raise MemoryError("no memory is left for one head's values")
