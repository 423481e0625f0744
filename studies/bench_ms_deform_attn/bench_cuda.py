"""The attention kernels on a GPU, beside plain torch (grid_sample), torch.compile of it, and the published design
(published.cu), at 800x1333. Needs torch and a CUDA device, nothing else. Writes results_cuda.json.

    python studies/bench_ms_deform_attn/bench_cuda.py [--batch 2 4] [--rounds 50]

Results are compared first; then each round times every way once, in turn, with CUDA events around it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.ops import cuda, cuda_compile, cuda_driver
from model.ops.reference import ms_deform_attn_reference

HERE = Path(__file__).resolve().parent
SHAPES = [(100, 167), (50, 84), (25, 42), (13, 21)]
M, D, L, P = 8, 32, 4, 4
LINE_BYTES = 128  # of L1: one a clock and multiprocessor
TENSORS = tuple[torch.Tensor, ...]


def problem(batch: int, device: torch.device) -> TENSORS:
    """value, locations, weights, grad_out of an untrained encoder: every cell looks a few cells around itself."""
    S = sum(h * w for h, w in SHAPES)
    random = torch.Generator().manual_seed(0)
    centres = torch.cat(
        [
            torch.stack(
                [((torch.arange(w) + 0.5) / w).repeat(h), ((torch.arange(h) + 0.5) / h).repeat_interleave(w)],
                -1,
            )
            for h, w in SHAPES
        ]
    )
    angle = torch.arange(M) * (2 * math.pi / M)
    steps = torch.stack([angle.cos(), angle.sin()], -1)[:, None, None] * torch.arange(1, P + 1)[:, None]
    offsets = steps + torch.randn(batch, S, M, L, P, 2, generator=random)
    sizes = torch.tensor([[w, h] for h, w in SHAPES])[:, None]
    made = (
        torch.randn(batch, S, M, D, generator=random),
        centres[None, :, None, None, None] + offsets / sizes,
        torch.randn(batch, S, M, L * P, generator=random).softmax(-1).view(batch, S, M, L, P),
        torch.randn(batch, S, M * D, generator=random),
    )
    return tuple(t.to(device) for t in made)


class Published:
    """The published design, float32 alone: other values are converted before and after, as its users do."""

    def __init__(self, capability: int, device: int) -> None:
        defines = {f"MSDA_{name}": value for name, value in zip("MDLP", (M, D, L, P), strict=True)}
        image = cuda_compile.compiled(HERE / "published.cu", defines, capability)
        self.kernels = {
            n: cuda_driver.Kernel(image, f"published_{n}", device) for n in ("forward", "backward")
        }
        self.levels = cuda.Levels.of(SHAPES)

    def forward(self, value: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        B, Q, S = value.shape[0], locations.shape[1], value.shape[1]
        wide = value.float()
        out = torch.empty(B, Q, M * D, device=value.device)
        pointers = [ctypes.c_void_p(t.data_ptr()) for t in (wide, locations, weights, out)]
        count = out.numel()
        sizes = [self.levels, ctypes.c_int(Q), ctypes.c_int(S), ctypes.c_longlong(count)]
        self.kernels["forward"].launch((math.ceil(count / 1024), 1, 1), 1024, [*pointers, *sizes])
        return out.to(value.dtype)

    def backward(
        self, grad_out: torch.Tensor, value: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor
    ) -> TENSORS:
        B, Q, S = value.shape[0], locations.shape[1], value.shape[1]
        grad, wide = grad_out.float(), value.float()
        made = torch.zeros_like(wide), torch.empty_like(locations), torch.empty_like(weights)
        pointers = [ctypes.c_void_p(t.data_ptr()) for t in (grad, wide, locations, weights, *made)]
        sizes = [self.levels, ctypes.c_int(Q), ctypes.c_int(S)]
        self.kernels["backward"].launch((B * Q * M, 1, 1), D, [*pointers, *sizes])
        return made[0].to(value.dtype), made[1], made[2]


def ways(
    inputs: TENSORS, published: Published, compiled: Callable[..., Any]
) -> dict[str, dict[str, Callable[[], Any]]]:
    """{way: {"forward", "backward"}}; the backward of torch's ways replays a kept graph."""
    value, locations, weights, grad_out = inputs
    found = {
        "ours": {
            "forward": lambda: cuda.forward(value, SHAPES, locations, weights),
            "backward": lambda: cuda.backward(
                grad_out, value, SHAPES, locations, weights, deterministic=False
            ),
        },
        "published design": {
            "forward": lambda: published.forward(value, locations, weights),
            "backward": lambda: published.backward(grad_out, value, locations, weights),
        },
    }
    for name, function in (("torch", ms_deform_attn_reference), ("torch.compile", compiled)):
        leaves = [t.detach().clone().requires_grad_() for t in (value, locations, weights)]
        out = function(leaves[0], SHAPES, leaves[1], leaves[2])

        def forward(function: Any = function) -> Any:
            with torch.no_grad():
                return function(value, SHAPES, locations, weights)

        def backward(out: Any = out, leaves: Any = leaves) -> Any:
            return torch.autograd.grad(out, leaves, grad_out, retain_graph=True)

        found[name] = {"forward": forward, "backward": backward}
    return found


def check(runs: dict[str, dict[str, Callable[[], Any]]], inputs: TENSORS) -> dict[str, dict[str, float]]:
    """Each way's largest error against float64, over the largest element; for locations, where a sample on the edge
    of two cells has two right slopes, the share of elements that are off."""
    value, locations, weights, grad_out = (t[:1].double() for t in inputs)  # one image, for memory
    leaves = [t.clone().requires_grad_() for t in (value, locations, weights)]
    out = ms_deform_attn_reference(leaves[0], SHAPES, leaves[1], leaves[2])
    truth = [out.detach(), *torch.autograd.grad(out, leaves, grad_out)]
    found = {}
    for name, run in runs.items():
        got = [run["forward"](), *run["backward"]()]
        errors = [(g[:1].double() - t).abs() / t.abs().max() for g, t in zip(got, truth, strict=True)]
        found[name] = {
            "out": float(errors[0].max()), "grad_value": float(errors[1].max()),
            "grad_weights": float(errors[3].max()),
            "share of grad_locations off by over 1 %": float((errors[2] > 0.01).double().mean()),
        }  # fmt: skip
    for key, error in found["ours"].items():
        assert error <= 2 * found["torch"][key] + 1e-3, (key, found)
    return found


def timed(call: Callable[[], Any]) -> float:
    """Milliseconds on the GPU."""
    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    began.record()
    call()
    ended.record()
    torch.cuda.synchronize()
    return float(began.elapsed_time(ended))


def measure(batch: int, dtype: torch.dtype, rounds: int, bytes_per_s: float) -> dict[str, Any]:
    device = torch.device("cuda", torch.cuda.current_device())
    properties = torch.cuda.get_device_properties(device)
    plain = problem(batch, device)
    inputs = (plain[0].to(dtype), plain[1], plain[2], plain[3].to(dtype))
    published = Published(10 * properties.major + properties.minor, device.index)
    runs = ways(inputs, published, torch.compile(ms_deform_attn_reference, dynamic=False))
    result: dict[str, Any] = {"errors": check(runs, inputs)}
    floors = floors_ms(batch, dtype, bytes_per_s, properties)
    for pass_ in ("forward", "backward"):
        for run in runs.values():
            for _ in range(5):
                run[pass_]()
        torch.cuda.synchronize()
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                times[name].append(timed(run[pass_]))
        medians = {name: statistics.median(t) for name, t in times.items()}
        result[pass_] = {
            "median_ms": medians, "min_ms": {name: min(t) for name, t in times.items()},
            "times_as_fast_as": {n: round(medians[n] / medians["ours"], 2) for n in medians if n != "ours"},
            "floors_ms": floors[pass_],
            "share_of_floor": {name: round(ms / medians["ours"], 3) for name, ms in floors[pass_].items()},
        }  # fmt: skip
    return result


def floors_ms(
    batch: int, dtype: torch.dtype, bytes_per_s: float, properties: Any
) -> dict[str, dict[str, float]]:
    """What no kernel of this form can beat: every tensor through memory once; and, forward, every corner's row as one
    L1 line (or part of one), a line a clock and multiprocessor, at 1.7 GHz."""
    S = sum(h * w for h, w in SHAPES)
    item = torch.empty(0, dtype=dtype).element_size()
    rows, samples = batch * S * M * D, batch * S * M * L * P
    forward = rows * item * 2 + samples * 12
    backward = rows * item * 2 + rows * 4 * 2 + samples * 24
    lines = samples * 4 * max(1, D * item / LINE_BYTES)
    return {
        "forward": {
            "memory": 1e3 * forward / bytes_per_s,
            "L1 lines": 1e3 * lines / (properties.multi_processor_count * 1.7e9),
        },
        "backward": {"memory": 1e3 * backward / bytes_per_s},
    }


def copy_bandwidth() -> float:
    """Bytes a second of a large copy, read and written."""
    a = torch.empty(1 << 28, dtype=torch.float32, device="cuda")
    b = torch.empty_like(a)
    for _ in range(3):
        b.copy_(a)
    return 2 * a.numel() * 4 / (statistics.median(timed(lambda: b.copy_(a)) for _ in range(10)) / 1e3)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=50)
    return parser.parse_args(words)


def main() -> None:
    options = parse()
    usable, why = cuda.status()
    if not usable:
        raise SystemExit(f"no kernel can run here: {why}")
    torch.backends.cuda.matmul.allow_tf32 = False
    bandwidth = copy_bandwidth()
    results: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "python": platform.python_version(),
        "compiler": cuda_compile.find().name, "command": " ".join(["python", *sys.argv]),
        "copy_GB_per_s": round(bandwidth / 1e9),
    }  # fmt: skip
    for batch in options.batch:
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            results[f"{name}, batch {batch}"] = measure(batch, dtype, options.rounds, bandwidth)
            print(name, batch, json.dumps(results[f"{name}, batch {batch}"], indent=1), flush=True)
            torch.cuda.empty_cache()
    (HERE / "results_cuda.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
