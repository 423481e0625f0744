"""Multi-scale deformable attention on NVIDIA GPUs of compute capability 8.0 and up.

The kernels are csrc/ms_deform_attn/cuda/ms_deform_attn.cu, compiled for the problem's type (heads, channels, levels,
points, dtypes) when it first comes up, about a second each, and cached. Nothing runs at import.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model import bundle_dir
from model.errors import UserError
from model.ops import cuda_compile, cuda_driver

Shapes = Sequence[tuple[int, int]]
Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

MAX_CHANNELS, MAX_LEVELS, MAX_POINTS = 128, 5, 16
MAX_GRID = 65535  # in y and z
OLDEST = 80  # compute capability
ALIGNMENT = 16  # bytes, of the widest access
THREADS = (256, 128, 64)  # of a block, widest first
# Of 256 threads; as many as fit without spills.
BLOCKS_PER_SM = {"FORWARD": 4, "BACKWARD": 3, "EXACT_BACKWARD": 2}
DTYPES = {torch.float32: "float", torch.float16: "Half", torch.bfloat16: "BFloat16"}


def source() -> Path:
    return bundle_dir() / "csrc" / "ms_deform_attn" / "cuda" / "ms_deform_attn.cu"


def status() -> tuple[bool, str]:
    """(whether the kernels run on the current device, on what or why not). Compiles one on its first call."""
    if not torch.cuda.is_available():
        return False, "torch finds no CUDA device"
    try:
        index = torch.cuda.current_device()
        device = Device.of(index)
        if device.capability < OLDEST:
            return False, f"compute capability {device.capability / 10:.1f} is older than {OLDEST / 10:.1f}"
        usual = Problem(torch.float32, torch.float32, 1, 1, 8, 32, 1, 4, 4, ((1, 1),) * 4)
        device.kernel(_instance("FORWARD", usual, device.capability))
        return True, f"CUDA kernel for sm_{device.capability}, compiled by {cuda_compile.find().name}"
    except (cuda_compile.CompileError, cuda_driver.CudaError, OSError, UserError) as error:
        return False, str(error)


def takes(value: torch.Tensor, levels: int, points: int) -> bool:
    """Whether the kernels cover this type of problem: float32, float16 or bfloat16; at most 128 channels a head,
    5 levels, 16 points and 2**30 rows."""
    return (
        value.dtype in DTYPES
        and value.shape[3] <= MAX_CHANNELS
        and levels <= MAX_LEVELS
        and points <= MAX_POINTS
        and value.shape[1] <= 2**30
    )


def forward(
    value: torch.Tensor, spatial_shapes_hw: Shapes, locations: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """value [B, S, M, D] in float32, float16 or bfloat16; locations [B, Q, M, L, P, 2] in float32; weights
    [B, Q, M, L, P] in float32 or value's dtype -> [B, Q, M*D] in value's dtype, summed in float32.

    Any strides. Locations may lie anywhere: outside a map is zero, and so is NaN. Raises `ValueError`,
    `CompileError` or `CudaError`.
    """
    problem = Problem.of(value, spatial_shapes_hw, locations, weights)
    out = value.new_empty(problem.B, problem.Q, problem.M * problem.D)
    _run("FORWARD", problem, value.device, [value, locations, weights], [out])
    return out


def backward(
    grad_out: torch.Tensor,
    value: torch.Tensor,
    spatial_shapes_hw: Shapes,
    locations: torch.Tensor,
    weights: torch.Tensor,
    deterministic: bool,
) -> Gradients:
    """The gradients of value, locations and weights, each in its tensor's dtype; grad_out [B, Q, M*D] as value.

    Many samples add to one row of grad_value. By default they do so in float32 in whatever order they come, so the
    last bits differ from run to run. `deterministic` sums in 64-bit fixed point instead, in which the order does not
    matter: slower, and as exact (the step is below 2**-40 of the largest possible term).
    """
    problem = Problem.of(value, spatial_shapes_hw, locations, weights)
    if grad_out.shape != (problem.B, problem.Q, problem.M * problem.D) or grad_out.dtype != value.dtype:
        raise ValueError(
            f"grad_out must be [{problem.B}, {problem.Q}, {problem.M * problem.D}] in {value.dtype}, "
            f"but got {[*grad_out.shape]} in {grad_out.dtype}"
        )
    given = [grad_out, value, locations, weights]
    grad_locations, grad_weights = (
        torch.empty_like(t, memory_format=torch.contiguous_format) for t in (locations, weights)
    )
    if deterministic and problem.items:
        scale, unit = fixed_point(grad_out, weights, terms=problem.Q * problem.P)
        sums = torch.zeros(value.shape, dtype=torch.int64, device=value.device)
        _run("EXACT_BACKWARD", problem, value.device, given, [sums, grad_locations, grad_weights, scale])
        return (sums.double() * unit).to(value.dtype), grad_locations, grad_weights
    sums = torch.zeros(value.shape, dtype=torch.float32, device=value.device)
    _run("BACKWARD", problem, value.device, given, [sums, grad_locations, grad_weights, None])
    return sums.to(value.dtype), grad_locations, grad_weights


def fixed_point(
    grad_out: torch.Tensor, weights: torch.Tensor, terms: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(scale [1] float32, its inverse [1] float64): a power of two that brings sums of `terms` products weight * grad
    up to 2**62 and no further. The inverse is NaN if a factor is not finite, and then all of grad_value is.
    """
    largest = grad_out.abs().amax().double() * weights.abs().amax().double()
    exponent = torch.frexp(largest).exponent.clamp(-1000, 1000)  # largest < 2**exponent; int32 for inf
    exponent = (62 - math.ceil(math.log2(max(terms, 1))) - exponent).clamp(max=126)  # float32 holds 2**126
    scale = torch.exp2(exponent.double()).reshape(1)
    return scale.float(), torch.where(largest.isfinite(), 1 / scale, math.nan)


@dataclass(frozen=True)
class Problem:
    """A problem's type and sizes, checked."""

    value: torch.dtype
    weight: torch.dtype
    B: int
    S: int
    M: int
    D: int
    Q: int
    L: int
    P: int
    shapes_hw: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls, value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor
    ) -> Problem:
        """Raises `ValueError` unless the tensors belong together and the kernels cover them."""
        if value.dim() != 4 or locations.dim() != 6 or locations.shape[5] != 2:
            raise ValueError(
                "value must be [B, S, M, D] and locations [B, Q, M, L, P, 2], but got "
                f"{[*value.shape]} and {[*locations.shape]}"
            )
        (B, S, M, D), (_, Q, _, L, P, _) = value.shape, locations.shape
        shapes = tuple((int(h), int(w)) for h, w in shapes)
        fits = (
            locations.shape[:3] == (B, Q, M)
            and weights.shape == (B, Q, M, L, P)
            and len(shapes) == L
            and all(h > 0 and w > 0 for h, w in shapes)
            and sum(h * w for h, w in shapes) == S
        )
        if not fits:
            raise ValueError(
                f"value {[*value.shape]}, spatial shapes {list(shapes)}, locations {[*locations.shape]} and weights "
                f"{[*weights.shape]} must agree in B, Q, M, L, P and in S = sum of H*W, with no empty level"
            )
        devices = {value.device, locations.device, weights.device}
        if not takes(value, L, P) or min(L, P, D) < 1 or Q > 2**30 or len(devices) > 1:
            raise ValueError(
                f"the CUDA kernels take float32, float16 or bfloat16 of 1 to {MAX_CHANNELS} channels, 1 to "
                f"{MAX_LEVELS} levels, 1 to {MAX_POINTS} points and one device, but got {value.dtype} "
                f"{[*value.shape]}, L={L}, P={P} on {', '.join(map(str, devices))}"
            )
        if locations.dtype != torch.float32 or weights.dtype not in (torch.float32, value.dtype):
            raise ValueError(
                f"locations must be float32 and weights float32 or {value.dtype}, "
                f"but got {locations.dtype} and {weights.dtype}"
            )
        return cls(value.dtype, weights.dtype, B, S, M, D, Q, L, P, shapes)

    @property
    def items(self) -> int:
        return self.B * self.Q * self.M


class Levels(ctypes.Structure):
    """As in the .cu file."""

    _fields_ = [(name, ctypes.c_int * MAX_LEVELS) for name in ("height", "width", "first_row")]

    @classmethod
    def of(cls, shapes: Shapes) -> Levels:
        levels, row = cls(), 0
        for i, (height, width) in enumerate(shapes):
            levels.height[i], levels.width[i], levels.first_row[i] = height, width, row
            row += height * width
        return levels


class Extent(ctypes.Structure):
    """As in the .cu file."""

    _fields_ = [(name, ctypes.c_int) for name in ("queries", "rows", "first_tile", "first_image")]


@dataclass(frozen=True)
class Device:
    index: int
    capability: int  # 90 for 9.0
    multiprocessors: int

    @staticmethod
    @functools.cache
    def of(index: int) -> Device:
        found = torch.cuda.get_device_properties(index)
        return Device(index, 10 * found.major + found.minor, found.multi_processor_count)

    @functools.cache  # noqa: B019 one per GPU, for as long as the process lives
    def kernel(self, defines: tuple[tuple[str, object], ...]) -> Any:
        """What launches the instance of the .cu file that the macros describe."""
        image = cuda_compile.compiled(source(), dict(defines), self.capability)
        return cuda_driver.Kernel(image, "ms_deform_attn", self.index)


def _device(device: torch.device) -> Device:
    return Device.of(torch.cuda.current_device() if device.index is None else device.index)


def lanes(kernel: str, problem: Problem, capability: int) -> tuple[int, int]:
    """(V, GROUP): neighbouring channels that a lane takes at once, and lanes that share one (query, head).

    Forward loads 16 bytes a lane. Backward takes four channels, since it adds to float32 rows 16 bytes at a time;
    where only single numbers can be added, one channel, and eight lanes fill a 32-byte sector.
    """
    vectors = capability >= 90 and kernel == "BACKWARD"
    most = 16 // problem.value.itemsize if kernel == "FORWARD" else 4 if vectors else 1
    V = math.gcd(most, problem.D)
    widest = 32 if kernel == "FORWARD" or vectors else 8
    return V, min(widest, 1 << (problem.D // V - 1).bit_length())


def _instance(kernel: str, problem: Problem, capability: int) -> tuple[tuple[str, object], ...]:
    V, group = lanes(kernel, problem, capability)
    return (
        ("MSDA_KERNEL", kernel),
        ("MSDA_VALUE", DTYPES[problem.value]),
        ("MSDA_WEIGHT", DTYPES[problem.weight]),
        *((f"MSDA_{name}", getattr(problem, name)) for name in "MDLP"),
        ("MSDA_THIN", int(any(1 in shape for shape in problem.shapes_hw))),
        ("MSDA_V", V),
        ("MSDA_GROUP", group),
        ("MSDA_BLOCKS", BLOCKS_PER_SM[kernel]),
    )


def _run(
    kernel: str,
    problem: Problem,
    where: torch.device,
    inputs: Sequence[torch.Tensor],
    outputs: Sequence[torch.Tensor | None],
) -> None:
    """Launch over all of the problem, in pieces where a grid is too small for it."""
    if problem.items == 0:
        return
    device = _device(where)
    launcher = device.kernel(_instance(kernel, problem, device.capability))
    group = lanes(kernel, problem, device.capability)[1]
    threads = _threads(problem, group, device.multiprocessors)
    ready = [_ready(t) for t in inputs]
    pointers = [ctypes.c_void_p(t.data_ptr() if t is not None else None) for t in (*ready, *outputs)]
    levels = Levels.of(problem.shapes_hw)
    tiles = math.ceil(problem.Q / (threads // group))
    for image, images in _pieces(problem.B):
        for tile, count in _pieces(tiles):
            extent = Extent(problem.Q, problem.S, tile, image)
            launcher.launch((problem.M, count, images), threads, [*pointers, levels, extent])


def _threads(problem: Problem, group: int, multiprocessors: int) -> int:
    """The widest block that still gives every multiprocessor two."""
    for threads in THREADS:
        if problem.B * problem.M * math.ceil(problem.Q / (threads // group)) >= 2 * multiprocessors:
            return threads
    return THREADS[-1]


def _pieces(total: int) -> Iterator[tuple[int, int]]:
    for first in range(0, total, MAX_GRID):
        yield first, min(MAX_GRID, total - first)


def _ready(tensor: torch.Tensor) -> torch.Tensor:
    """Contiguous, and aligned for the widest access."""
    tensor = tensor.contiguous()
    return tensor if tensor.data_ptr() % ALIGNMENT == 0 else tensor.clone()
