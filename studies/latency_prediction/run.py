"""Predicted beside measured latency of configurations drawn from the recommended space: `rows.jsonl`, `figure.svg`.

The first timing is the product's own. Its networks are then timed again in the same rounds as the drawn ones, so that
what the formula misses can be told from what else the machine did in between.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from automl.plan import Plan, prepare
from automl.request import RunRequest
from model.deploy import first_timing, targets, timing
from model.latency import costs, key_of, predict, projected_of, rates_of, size_of
from model.spec import overlaid
from studies import machine

HERE = Path(__file__).parent
ROUNDS, RUNS = 5, 6


def planned(preset: str, folder: Path) -> Plan:
    request = RunRequest(demo=True, preset=preset, space="recommended", executor="local", trials=20)
    return prepare(request, folder / "work")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--out", type=Path, default=HERE / "rows.jsonl")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = study(planned(given.preset, Path(temporary)), given.count, Path(temporary))
    given.out.write_text("".join(json.dumps(row) + "\n" for row in [machine.describe(), *rows]))


def study(plan: Plan, count: int, folder: Path) -> list[dict[str, Any]]:
    """A row for each network: what was predicted by the first timing and by one of the same rounds, and what it took."""

    def full(params: dict[str, Any]) -> dict[str, Any]:
        return overlaid("train", plan.space.apply(plan.spec, params))

    draws = [full(plan.space.default), *map(full, plan.space.sample(200))]
    images = first_timing._images(draws[0], folder)
    sizes = [first_timing._size(path) for path in images]
    at = size_of(draws[0], sizes)
    projected = {key_of(draws[0], at): projected_of(key_of(draws[0], at))}
    each = [costs(spec, at, projected) for spec in draws]
    began = time.monotonic()
    first = first_timing._exported(
        draws, [c[2:] for c in each], sizes, projected, folder / "first", print, began
    )
    points = first_timing._timed(first, images, print)
    timed = {
        "rates": rates_of([p["costs"] for p in points], [p["ms"] for p in points]),
        "images": sizes,
        "projected": projected,
    }
    print(f"first timing: {time.monotonic() - began:.0f} s, {len(points)} networks", flush=True)
    files = {("first", i): path for i, (_, _, path) in enumerate(first)}
    tested = [full(params) for params in plan.space.sample(count, seed=1)]
    for i, spec in enumerate(tested):
        files["drawn", i] = next(iter(first_timing._files(spec, at, folder / f"drawn{i}")))[1]
        print(f"exported {i + 1} of {count} ({first_timing._named(spec)})", flush=True)
    opened = {key: targets.opener("cpu", path) for key, path in files.items()}
    times = timing.measure(opened, images, draws[0], ROUNDS, RUNS)
    again = timed | {
        "rates": rates_of([p["costs"] for p in points], [times["first", i].whole for i in range(len(points))])
    }
    rows = [
        {"kind": "first", "shape": p["shape"], "predicted_ms": float(np.dot(timed["rates"], p["costs"])), "first_ms": p["ms"],
         "same_rounds_ms": float(np.dot(again["rates"], p["costs"])), "measured_ms": times["first", i].whole}
        for i, p in enumerate(points)
    ]  # fmt: skip
    rows += [
        {"kind": "drawn", "shape": first_timing._named(spec), "predicted_ms": predict(spec, timed),
         "same_rounds_ms": predict(spec, again), "measured_ms": times["drawn", i].whole,
         "low_ms": times["drawn", i].low, "high_ms": times["drawn", i].high, "costs": costs(spec, at, projected)}
        for i, spec in enumerate(tested)
    ]  # fmt: skip
    return [{"rates": timed["rates"], "rates_same_rounds": again["rates"], "points": points}, *rows]


if __name__ == "__main__":
    main()
