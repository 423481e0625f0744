"""The attention operator on CPUs, beside plain torch (grid_sample) and torch.compile of it. Writes results.json and
bench.png.

    python studies/bench_ms_deform_attn/bench.py [--seconds 3] [--quick]

Each round times every way in turn, so that whatever else the machine does hits all alike. Twice: "cold", when another
way has just filled the caches with its own and given its memory back, and "warm", the mean of calls in a row that
last BLOCK_S or more together, right after the cold one. A model is in between: linear layers run before each
attention.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.ops import live, ms_deform_attn, ms_deform_attn_reference
from studies.machine import describe

HERE = Path(__file__).resolve().parent
M, D, P = 8, 32, 4
PYRAMIDS = {640: [(80, 80), (40, 40), (20, 20), (10, 10)], 320: [(40, 40), (20, 20), (10, 10), (5, 5)]}
CASES = {
    f"{kind} {size}, batch {batch}": (size, batch, None if kind == "encoder" else 300)
    for kind in ("encoder", "decoder")
    for size in (640, 320)
    for batch in (1, 2)
}
GOALS = {
    "encoder": (40, 25),
    "decoder": (10, 8),
}  # times as fast as plain torch: forward, forward and backward
MIN_ROUNDS, STATES, BLOCK_S = 5, ("cold", "warm"), 0.02


def problem(size: int, batch: int, queries: int | None) -> tuple[torch.Tensor, ...]:
    """value, locations, weights, grad_out. Encoder: every cell looks around itself, a few cells away, as an untrained
    model does; decoder: queries look anywhere."""
    shapes, random = PYRAMIDS[size], torch.Generator().manual_seed(0)
    S, L = sum(h * w for h, w in shapes), len(shapes)
    Q = queries or S
    if queries is None:
        centres = torch.cat(
            [
                torch.stack(
                    [(torch.arange(w) + 0.5).repeat(h) / w, (torch.arange(h) + 0.5).repeat_interleave(w) / h],
                    -1,
                )
                for h, w in shapes
            ]
        )
        centres = centres.expand(batch, S, 2)
    else:
        centres = torch.rand(batch, Q, 2, generator=random)
    angle = torch.arange(M) * (2 * torch.pi / M)
    steps = torch.stack([angle.cos(), angle.sin()], -1)[:, None, None] * torch.arange(1, P + 1)[:, None]
    offsets = steps + torch.randn(batch, Q, M, L, P, 2, generator=random)
    size_xy = torch.tensor([[w, h] for h, w in shapes])[:, None]
    return (
        torch.randn(batch, S, M, D, generator=random),
        centres[:, :, None, None, None] + offsets / size_xy,
        torch.randn(batch, Q, M, L * P, generator=random).softmax(-1).view(batch, Q, M, L, P),
        torch.randn(batch, Q, M * D, generator=random),
    )


def ways(compiled: bool) -> dict[str, Any]:
    found = {"kernel": ms_deform_attn, "torch": ms_deform_attn_reference}
    return found | (
        {"torch.compile": torch.compile(ms_deform_attn_reference, dynamic=False)} if compiled else {}
    )


def calls(function: Any, case: tuple[int, int, int | None]) -> dict[str, Callable[[], Any]]:
    value, locations, weights, grad_out = problem(*case)
    shapes = PYRAMIDS[case[0]]
    leaves = [t.clone().requires_grad_() for t in (value, locations, weights)]

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return function(value, shapes, locations, weights)

    def both() -> list[torch.Tensor]:
        out = function(leaves[0], shapes, leaves[1], leaves[2])
        return [out.detach(), *torch.autograd.grad(out, leaves, grad_out)]

    return {"forward": forward, "forward and backward": both}


def check_equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> dict[str, float]:
    """Largest difference over the largest element. A sample on the edge of two cells has two right slopes, so of
    grad_locations the share of elements that differ is told too."""
    names = ("out", "grad_value", "grad_locations", "grad_weights")
    found = {}
    for name, a, b in zip(names, ours, theirs, strict=True):
        relative = (a - b).abs() / b.abs().max()
        if name == "grad_locations":
            found["share of grad_locations apart by over 1e-4"] = float((relative > 1e-4).float().mean())
            assert found["share of grad_locations apart by over 1e-4"] < 1e-4, found
        else:
            found[name] = float(relative.max())
            assert found[name] < 1e-5, found
    return found


def timed(call: Callable[[], Any], calls: int = 1) -> float:
    """Mean seconds of calls in a row."""
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls


def summary(times: dict[str, list[float]]) -> dict[str, Any]:
    """Milliseconds of each way, and by round how many times as fast as each peer the kernel is."""
    found: dict[str, Any] = {}
    for name, seconds in times.items():
        first, median, third = statistics.quantiles(seconds, n=4)
        spread = {"median_ms": median, "quartile_1_ms": first, "quartile_3_ms": third, "min_ms": min(seconds)}
        found[name] = {key: round(1e3 * value, 3) for key, value in spread.items()} | {"rounds": len(seconds)}
    found["times_as_fast"] = {
        f"as {name}": round(
            statistics.median(a / b for a, b in zip(seconds, times["kernel"], strict=True)), 1
        )
        for name, seconds in times.items()
        if name != "kernel"
    }
    return found


def measure(case: tuple[int, int, int | None], seconds: float, compiled: bool) -> dict[str, Any]:
    torch.compiler.reset()  # or the eighth shape runs uncompiled
    runs = {name: calls(function, case) for name, function in ways(compiled).items()}
    equal = check_equal(runs["kernel"]["forward and backward"](), runs["torch"]["forward and backward"]())
    result: dict[str, Any] = {"differences": equal}
    for pass_ in ("forward", "forward and backward"):
        for run in runs.values():  # warm up, and let torch.compile compile
            run[pass_](), run[pass_]()
        times: dict[str, dict[str, list[float]]] = {s: {name: [] for name in runs} for s in STATES}
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline or len(times["warm"]["torch"]) < MIN_ROUNDS:
            for name, run in runs.items():
                cold = timed(run[pass_])
                times["cold"][name].append(cold)
                times["warm"][name].append(timed(run[pass_], math.ceil(BLOCK_S / cold)))
        result[pass_] = {state: summary(times[state]) for state in STATES}
    return result


def draw(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    names = list(results)
    passes = ("forward", "forward and backward")
    for offset, goal, pass_, colour in ((-0.2, 0, passes[0], "#2b6cb0"), (0.2, 1, passes[1], "#9f7aea")):
        values = [results[n][pass_]["warm"]["times_as_fast"]["as torch"] for n in names]
        bars = axes.bar([i + offset for i in range(len(names))], values, 0.38, label=pass_, color=colour)
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
        cold = [results[n][pass_]["cold"]["times_as_fast"]["as torch"] for n in names]
        at = [i + offset for i in range(len(names))]
        axes.plot(at, cold, "_", color="black", markersize=9, label="cold caches" if goal == 0 else None)
        goals = [GOALS[n.split()[0]][goal] for n in names]
        axes.plot(at, goals, "x", color="#c05621", label="goal" if goal == 0 else None)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=8)
    axes.set_ylabel("times as fast as plain torch")
    axes.set_title("Multi-scale deformable attention on the CPU, through the public operator")
    axes.legend()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3, help="per case and pass")
    parser.add_argument(
        "--quick", action="store_true", help="five rounds without torch.compile, nothing written"
    )
    options = parser.parse_args()
    torch.manual_seed(0)
    machine = describe() | {"threads": torch.get_num_threads(), "kernel": live("cpu")[1]}
    results = {}
    for name, case in CASES.items():
        results[name] = measure(case, 0 if options.quick else options.seconds, not options.quick)
        goal = GOALS[name.split()[0]]
        print(name, end=":")
        for pass_, wanted in zip(("forward", "forward and backward"), goal, strict=True):
            fast = {state: results[name][pass_][state]["times_as_fast"] for state in STATES}
            print(f"  {pass_} {fast} (goal {wanted})", end="")
        print(flush=True)
    if options.quick:
        return
    (HERE / "results.json").write_text(json.dumps({"machine": machine, "cases": results}, indent=1) + "\n")
    draw(results, HERE / "bench.png")


if __name__ == "__main__":
    main()
