"""Times of multi-scale deformable attention on one GPU: ours, plain torch (grid_sample), its torch.compile, and the
published design; float32 and bfloat16, for which the published one converts, as its users do.

    python studies/bench_ms_deform_attn/bench_cuda.py [--batch 2 4] [--rounds 20] [--tune]

Needs torch with CUDA and nothing else. Results are compared before anything is timed; contestants take turns in one
run, each between CUDA events after a warm-up. The GPU is kept busy while a call is being queued, so the times are the
GPU's and Python's share is not in them. Writes results_cuda.json beside itself.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch._functorch.config

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.ops import cuda, cuda_compile, cuda_driver
from model.ops.reference import ms_deform_attn_reference
from studies import machine
from studies.bench_ms_deform_attn import published

HERE = Path(__file__).parent
DEVICE = "cuda"
SHAPES = ((100, 167), (50, 84), (25, 42), (13, 21))  # of a picture of 800x1333
M, D, L, P = 8, 32, 4, 4
ENCODER, DECODER = "encoder", "decoder"
WARM_UP, ROUNDS = 3, 20
# Relative to the largest element. Both round the same sums, so bfloat16 may differ by a unit in the last place, 2**-8.
SLACK = {torch.float32: 1e-4, torch.bfloat16: 5e-3}
BUSY_CYCLES = 5_000_000  # some 3 ms: longer than it takes to queue any contestant
LINE_BYTES = 128
L2_ROWS = 1 << 17  # 16 MiB: in the L2 of any GPU from 8.0 on
CLOCK_RATE_KHZ = 13  # CU_DEVICE_ATTRIBUTE_CLOCK_RATE
Run = Callable[[], Any]


def problem(queries: str, batch: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """value, locations, weights, grad_out. Encoder: each cell looks about itself, a few cells far, as a trained model
    does; decoder: 300 boxes anywhere."""
    torch.manual_seed(0)
    sizes = torch.tensor([(w, h) for h, w in SHAPES], device=DEVICE, dtype=torch.float32)
    if queries == ENCODER:
        centres = torch.cat([_centres(h, w) for h, w in SHAPES])
    else:
        centres = torch.rand(300, 2, device=DEVICE)
    Q = len(centres)
    angles = torch.arange(M, device=DEVICE) * (2 * torch.pi / M)
    ring = torch.stack([angles.cos(), angles.sin()], -1)
    ring = ring / ring.abs().amax(-1, keepdim=True)
    steps = torch.arange(1, P + 1, device=DEVICE)
    offsets = ring[:, None, None] * steps[:, None] + torch.randn(batch, Q, M, L, P, 2, device=DEVICE)
    locations = centres[None, :, None, None, None] + offsets / sizes[:, None]
    weights = torch.randn(batch, Q, M, L * P, device=DEVICE).softmax(-1).view(batch, Q, M, L, P)
    value = torch.randn(batch, sum(h * w for h, w in SHAPES), M, D, device=DEVICE).to(dtype)
    return value, locations, weights, torch.randn(batch, Q, M * D, device=DEVICE).to(dtype)


def _centres(height: int, width: int) -> torch.Tensor:
    y, x = torch.meshgrid(
        torch.arange(height, device=DEVICE), torch.arange(width, device=DEVICE), indexing="ij"
    )
    return torch.stack([(x + 0.5) / width, (y + 0.5) / height], -1).view(-1, 2)


def contestants(value: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor, grad_out: torch.Tensor
) -> dict[str, dict[str, Run]]:  # fmt: skip
    """Direction -> name -> what to time. Plain torch runs in float32 locations too, so bfloat16 is converted there."""
    levels = published.levels(SHAPES, value.device)
    dtype = value.dtype
    torch._dynamo.reset()  # the next problem is not a recompilation too many
    torch._functorch.config.donated_buffer = False  # or its backward could not run twice
    compiled = torch.compile(ms_deform_attn_reference, dynamic=False)

    def by_published() -> torch.Tensor:
        return published.forward(value.float(), levels, locations, weights).to(dtype)

    def back_by_published() -> cuda.Gradients:
        a, b, c = published.backward(grad_out.float(), value.float(), levels, locations, weights)
        return a.to(dtype), b, c

    forward = {
        "ours": lambda: cuda.forward(value, SHAPES, locations, weights),
        "published": by_published,
        "grid_sample": _without_graph(ms_deform_attn_reference, value, locations, weights),
        "torch.compile": _without_graph(compiled, value, locations, weights),
    }
    backward = {
        "ours": lambda: cuda.backward(grad_out, value, SHAPES, locations, weights, False),
        "ours, deterministic": lambda: cuda.backward(grad_out, value, SHAPES, locations, weights, True),
        "published": back_by_published,
        "grid_sample": _graph(ms_deform_attn_reference, value, locations, weights, grad_out),
        "torch.compile": _graph(compiled, value, locations, weights, grad_out),
    }
    return {"forward": forward, "backward": backward}


def _without_graph(
    attention: Any, value: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor
) -> Run:
    @torch.no_grad()
    def run() -> torch.Tensor:
        return attention(value.float(), SHAPES, locations, weights).to(value.dtype)

    return run


def _graph(
    attention: Any, value: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor, grad_out: torch.Tensor
) -> Run:  # fmt: skip
    leaves = [t.detach().clone().requires_grad_() for t in (value, locations, weights)]
    out = attention(leaves[0].float(), SHAPES, leaves[1], leaves[2]).to(value.dtype)
    return lambda: torch.autograd.grad(out, leaves, grad_out, retain_graph=True)


def verify(runs: dict[str, Run], dtype: torch.dtype) -> dict[str, float]:
    """Largest difference from plain torch, relative to its largest element; raises if any is too large.

    The gradient of a location jumps where a sample crosses a cell's centre, and rounding decides the side, so for it
    the mean difference is what counts.
    """
    expected = _tensors(runs["grid_sample"]())
    found = {}
    for name, run in runs.items():
        errors = [
            float((_size(mine - true, i) / true.abs().max()).float())
            for i, (mine, true) in enumerate(zip(_tensors(run()), expected, strict=True))
        ]
        found[name] = max(errors)
        if not found[name] <= SLACK[dtype]:
            raise RuntimeError(
                f"{name} differs from grid_sample by {errors}, relative to the largest element"
            )
    return found


def _tensors(result: Any) -> list[torch.Tensor]:
    return [t.double() for t in (result if isinstance(result, (tuple, list)) else [result])]


def _size(difference: torch.Tensor, index: int) -> torch.Tensor:
    return difference.abs().mean() if index == 1 else difference.abs().max()


def times_ms(runs: dict[str, Run], rounds: int = ROUNDS) -> dict[str, list[float]]:
    for run in runs.values():
        for _ in range(WARM_UP):
            run()
    torch.cuda.synchronize()
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(BUSY_CYCLES)
            start.record()
            run()
            end.record()
            end.synchronize()
            found[name].append(start.elapsed_time(end))
    return found


@dataclass(frozen=True)
class Rates:
    """What this GPU was measured to do, and its highest clock."""

    copy_bytes_per_s: float
    l2_rows_loaded_per_s: float  # of 128 bytes, scattered
    l2_rows_added_per_s: float  # sums of 32 float32 into such a row
    clock_hz: float

    @staticmethod
    def measured() -> Rates:
        device = torch.cuda.current_device()
        khz = ctypes.c_int()
        cuda_driver._call("cuDeviceGetAttribute", ctypes.byref(khz), CLOCK_RATE_KHZ, device)
        source = torch.empty(1 << 28, dtype=torch.float32, device=DEVICE)
        target = torch.empty_like(source)
        copy_ms = min(times_ms({"copy": lambda: target.copy_(source)})["copy"])
        return Rates(8e3 * source.numel() / copy_ms, *l2_rates(device), 1e3 * khz.value)


def l2_rates(device: int) -> tuple[float, float]:
    """Rows a second that l2_rate.cu loads, and adds to."""
    found = cuda.Device.of(device)
    image = cuda_compile.compiled(HERE / "l2_rate.cu", {}, found.capability)
    load, add = (cuda_driver.Kernel(image, name, device) for name in ("load_rows", "add_rows"))
    buffer, out = torch.zeros(L2_ROWS, 32, device=DEVICE), torch.zeros(1, device=DEVICE)
    place, last_row = ctypes.c_void_p(buffer.data_ptr()), ctypes.c_uint(L2_ROWS - 1)
    blocks, threads, rows_each = 16 * found.multiprocessors, 256, 512
    grid = (blocks, 1, 1)
    times = times_ms(
        {
            "load": lambda: load.launch(grid, threads, [place, ctypes.c_void_p(out.data_ptr()), last_row]),
            "add": lambda: add.launch(grid, threads, [place, last_row]),
        }
    )
    rows = blocks * threads // 8 * rows_each
    return 1e3 * rows / min(times["load"]), 1e3 * rows / min(times["add"])


def floors_ms(direction: str, tensors: tuple[torch.Tensor, ...], rates: Rates) -> dict[str, float]:
    """What bounds any kernel that reads 4 cells a sample and adds to them one by one.

    memory: what must be read and written once. L1: the cells' bytes, a line per multiprocessor and clock. L2 sums: the
    rows of grad_value, which L1 does not hold.
    """
    value, locations, weights, grad_out = tensors
    moved = sum(t.numel() * t.element_size() for t in (locations, weights, grad_out))
    cells = 4 * weights.numel()
    moved += min(value.numel(), cells * value.shape[3]) * value.element_size()  # a decoder needs few cells
    processors = torch.cuda.get_device_properties(value.device).multi_processor_count
    lines = cells * value.shape[3] * value.element_size() / LINE_BYTES
    found = {"L1": 1e3 * lines / (processors * rates.clock_hz)}
    if direction == "backward":
        # and three gradients; that of value is set to zero and added to in float32, and then converted
        moved += 2 * 4 * value.numel() + 4 * (locations.numel() + weights.numel())
        if value.dtype != torch.float32:
            moved += (4 + value.element_size()) * value.numel()
        found["L2 sums"] = 1e3 * cells * value.shape[3] / 32 / rates.l2_rows_added_per_s
    return {"memory": 1e3 * moved / rates.copy_bytes_per_s} | found


def without_l1_ms(tensors: tuple[torch.Tensor, ...], rates: Rates) -> float:
    """How long L2 takes to hand out all cells: no floor, since L1 catches some."""
    value, _, weights, _ = tensors
    lines = 4 * weights.numel() * value.shape[3] * value.element_size() / LINE_BYTES
    return 1e3 * lines / rates.l2_rows_loaded_per_s


def measure(
    queries: str, batch: int, dtype: torch.dtype, rates: Rates, rounds: int = ROUNDS
) -> dict[str, Any]:
    tensors = problem(queries, batch, dtype)
    row: dict[str, Any] = {"queries": queries, "batch": batch, "dtype": str(dtype).removeprefix("torch.")}
    for direction, runs in contestants(*tensors).items():
        errors = verify(runs, dtype)
        times = times_ms(runs, rounds)
        medians = {name: statistics.median(ms) for name, ms in times.items()}
        floors = floors_ms(direction, tensors, rates)
        row[direction] = {
            "difference_from_grid_sample": errors,
            "median_ms": medians,
            "fastest_ms": {name: min(ms) for name, ms in times.items()},
            "times_as_fast": {name: ms / medians["ours"] for name, ms in medians.items()},
            "floors_ms": floors,
            "share_of_floor": {name: ms / medians["ours"] for name, ms in floors.items()},
            "cells_from_l2_ms": without_l1_ms(tensors, rates),
        }
        if direction == "backward":
            adds = 4 * tensors[2].numel() * D
            row[direction]["sums_per_second"] = 1e3 * adds / medians["ours"]
        shown = {name: round(ms, 3) for name, ms in medians.items()}
        print(queries, batch, row["dtype"], direction, shown, flush=True)
    return row


def tune(batch: int = 2) -> list[dict[str, Any]]:
    """Our encoder times over block widths and register budgets: what to set
    `cuda.THREADS` and `cuda.BLOCKS_PER_SM` to."""
    rows = []
    kept = cuda.THREADS, dict(cuda.BLOCKS_PER_SM)
    for dtype in (torch.float32, torch.bfloat16):
        value, locations, weights, grad_out = problem(ENCODER, batch, dtype)
        for threads in (64, 128, 256):
            for blocks in (1, 2, 3, 4, 6, 8):
                cuda.THREADS = (threads,)
                cuda.BLOCKS_PER_SM |= {"FORWARD": blocks, "BACKWARD": blocks}
                times = times_ms(
                    {
                        "forward": lambda: cuda.forward(value, SHAPES, locations, weights),  # noqa: B023
                        "backward": lambda: cuda.backward(grad_out, value, SHAPES, locations, weights, False),  # noqa: B023
                    }
                )
                medians = {name: statistics.median(ms) for name, ms in times.items()}
                rows.append({"dtype": str(dtype), "threads": threads, "blocks": blocks, "median_ms": medians})
                print(rows[-1], flush=True)
    cuda.THREADS = kept[0]
    cuda.BLOCKS_PER_SM.update(kept[1])
    return rows


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[2, 4], help="images")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="times that each contestant is timed")
    parser.add_argument("--queries", nargs="+", choices=[ENCODER, DECODER], default=[ENCODER, DECODER])
    parser.add_argument("--tune", action="store_true", help="also sweep block widths and register budgets")
    parser.add_argument("--out", type=Path, default=HERE / "results_cuda.json")
    return parser.parse_args(words)


def main() -> None:
    options = parse()
    usable, why = cuda.status()
    if not usable:
        raise SystemExit(f"this study needs a GPU that the kernels run on: {why}")
    rates = Rates.measured()
    results: dict[str, Any] = {
        "machine": machine.describe(),
        "gpu": torch.cuda.get_device_name(),
        "kernel": why,
        "cuda": torch.version.cuda,
        "rates": asdict(rates),
        "rounds": options.rounds,
        "rows": [],
    }
    for queries in options.queries:
        for batch in options.batch:
            for dtype in (torch.float32, torch.bfloat16):
                results["rows"].append(measure(queries, batch, dtype, rates, options.rounds))
                torch.cuda.empty_cache()
                _write(options.out, results)
    if options.tune:
        results["tuning"] = tune()
        _write(options.out, results)


def _write(path: Path, results: dict[str, Any]) -> None:
    """After each row: a run that is cut short keeps what it has."""
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
