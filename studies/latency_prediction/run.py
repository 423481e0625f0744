"""Predicted beside measured latency of configurations drawn from the recommended space: `rows.jsonl`.

The first timing is the product's own. Its networks are then timed again in the same rounds as the drawn ones, so that
what the formula misses can be told from what else the machine did in between.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from automl.plan import Plan, prepare
from automl.request import RunRequest
from model.deploy import first_timing, targets, timing
from model.deploy.calibration import load_image
from model.latency import costs, key_of, projected_of, rates_of, size_of
from model.postprocess import postprocess
from model.spec import overlaid
from studies import machine

HERE = Path(__file__).parent
ROUNDS, RUNS = 5, 6
CPU_RUNS = 15


def planned(preset: str, folder: Path) -> Plan:
    request = RunRequest(demo=True, preset=preset, space="recommended", executor="local", trials=20)
    return prepare(request, folder / "work")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--out", type=Path, default=HERE / "rows.jsonl")
    parser.add_argument(
        "--cpu-time", action="store_true", help="one thread, by its processor's time and not the wall's"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = study(planned(given.preset, Path(temporary)), given.count, Path(temporary), given.cpu_time)
    given.out.write_text("".join(json.dumps(row) + "\n" for row in [machine.describe(), *rows]))


def cpu_times(
    files: Mapping[Any, Path], images: Sequence[Path], spec: dict[str, Any]
) -> dict[Any, timing.Times]:
    """What `timing.measure` gives, of one thread and by the time that the processor gave it: other work on the machine
    counts only where it takes caches and memory."""
    taken: dict[Any, list[float]] = {key: [] for key in files}
    torch.set_num_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for _ in range(3):
        for key, path in files.items():
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            size = tuple(session.get_inputs()[0].shape[2:])
            for i in range(1 + CPU_RUNS // 3):
                began = time.process_time()
                pixels, original = load_image(images[i % len(images)], spec, size)
                found = session.run(["pred_logits", "pred_boxes"], {"inputs": pixels[None]})
                outputs = dict(zip(("pred_logits", "pred_boxes"), map(torch.from_numpy, found), strict=True))
                postprocess(outputs, [original], spec["model"]["num_select"])
                taken[key] += [1e3 * (time.process_time() - began)] * bool(i)
    return {
        key: timing.Times(*np.percentile(ms, [50, 10, 90]), network=float("nan")) for key, ms in taken.items()
    }


def study(plan: Plan, count: int, folder: Path, cpu_time: bool = False) -> list[dict[str, Any]]:
    """A row for each network: predicted by the first timing and by one of the same rounds, and what it took."""

    def full(params: dict[str, Any]) -> dict[str, Any]:
        return overlaid("train", plan.space.apply(plan.spec, params))

    draws = [full(plan.space.default), *map(full, plan.space.sample(200))]
    images = first_timing._images(draws[0], folder)
    sizes = [first_timing._size(path, draws[0]) for path in images]
    at = size_of(draws[0], sizes)
    projected = {key_of(draws[0], at): projected_of(key_of(draws[0], at))}
    parts = [costs(spec, at, projected)[2:] for spec in draws]
    began = time.monotonic()
    first = first_timing._exported(draws, parts, sizes, projected, folder / "first", print, began)
    if cpu_time:
        early = cpu_times({i: path for i, (_, _, path) in enumerate(first)}, images, draws[0])
        points = [
            {"ms": early[i].whole, "costs": cost, "shape": first_timing._named(spec)}
            for i, (spec, cost, _) in enumerate(first)
        ]
    else:
        points = first_timing._timed(first, images, print)
    print(f"first timing: {time.monotonic() - began:.0f} s, {len(points)} networks", flush=True)
    tested = [full(params) for params in plan.space.sample(count, seed=1)]
    files = {("first", i): path for i, (_, _, path) in enumerate(first)}
    for i, spec in enumerate(tested):
        files["drawn", i] = next(iter(first_timing._files(spec, at, folder / f"drawn{i}")))[1]
        print(f"exported {i + 1} of {count} ({first_timing._named(spec)})", flush=True)
    opened = {key: targets.opener("cpu", path) for key, path in files.items()}
    times = (
        cpu_times(files, images, draws[0])
        if cpu_time
        else timing.measure(opened, images, draws[0], ROUNDS, RUNS)
    )
    each = [point["costs"] for point in points]
    rates = rates_of(each, [point["ms"] for point in points])
    again = rates_of(each, [times["first", i].whole for i in range(len(points))])

    def row(kind: str, i: int, shape: str, cost: list[float]) -> dict[str, Any]:
        found = times[kind, i]
        return {
            "kind": kind, "shape": shape, "predicted_ms": float(np.dot(rates, cost)),
            "same_rounds_ms": float(np.dot(again, cost)), "measured_ms": found.whole, "low_ms": found.low,
            "high_ms": found.high, "costs": cost,
        }  # fmt: skip

    rows = [row("first", i, point["shape"], point["costs"]) for i, point in enumerate(points)]
    rows += [
        row("drawn", i, first_timing._named(spec), costs(spec, at, projected))
        for i, spec in enumerate(tested)
    ]
    return [{"rates": rates, "rates_same_rounds": again, "points": points}, *rows]


if __name__ == "__main__":
    main()
