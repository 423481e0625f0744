"""Learning curves of the real detector over its search space: a benchmark for searches. Appends to curves.jsonl;
started again, it goes on where it was.

    nice -n 19 python studies/detector_curves/record.py demo [--first 0] [--count 150] [--work FOLDER]
    nice -n 19 python studies/detector_curves/record.py near [--first 0] [--count 150] [--work FOLDER]
    nice -n 19 python studies/detector_curves/record.py bccd --data ../shared/data/bccd --count 50

Configuration 0 is the default; the others are a scrambled Sobol sequence over the unit cube of the recommended space,
so that any first part of them covers it. `near`: what `make demo` searches (its space, 12 epochs, its precision), and
draws from the prior around the default, with half its spread and with all of it by turns; so too `bccd`, for nothing
far from the default was any good. The first 25 are trained twice, with another seed. One core alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from automl.fgp.cube import Cube
from automl.plan import Plan, prepare
from automl.request import RunRequest
from automl.rundir import write_yaml
from automl.spec import put
from studies.machine import describe

HERE = Path(__file__).resolve().parent
TWICE = 25
NEAR, SPREADS = ("near", "bccd"), (0.5, 1.0)
SHARED = {"space": "recommended", "epochs": 9, "trainings": 1}
FP32 = "train.precision=fp32"  # as the first were trained, also where the CPU has bf16
TASKS: dict[str, dict[str, Any]] = {
    "demo": {"demo": True, "sets": (FP32,)},
    "near": {"demo": True, "space": "tao", "epochs": None},
    "bccd": {"preset": "demo", "sets": (FP32, "dataset.augmentation.scales=[192,224,256]")},
}


def configurations(plan: Plan, task: str, count: int) -> list[dict[str, Any]]:
    """The default, then Sobol's points or draws around it, decoded."""
    if task in NEAR:
        cube, rng = Cube.of(plan.space, []), np.random.default_rng(0)
        points = (cube.near_default(rng, 1, SPREADS[i % len(SPREADS)])[0] for i in range(256))
        drawn = [cube.values(plan.space, point) for point in points]
    else:
        points = qmc.Sobol(plan.space.dimensions, scramble=True, rng=0).random(256)
        drawn = [plan.space.decode(p) for p in points]
    return [plan.space.default, *drawn][:count]


def train(plan: Plan, params: dict[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """One training: its records, seconds, how it ended."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    full = plan.space.apply(plan.spec, params)
    for key in plan.bundle.output_keys("train"):
        put(full, key, str(folder))
    put(full, "train.seed", seed)
    write_yaml(folder / "spec.yaml", full)
    began = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w") as log:
        code = subprocess.run(
            plan.bundle.command("train", str(folder / "spec.yaml")), stdout=log, stderr=log, env=environment
        ).returncode
    lines = folder / "metrics.jsonl"
    records = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    found = {"code": code, "seconds": round(time.monotonic() - began, 1), "records": records}
    shutil.rmtree(folder)
    return found


def main(options: argparse.Namespace) -> None:
    options.work.mkdir(parents=True, exist_ok=True)
    request = RunRequest("deformable_detr", **(SHARED | TASKS[options.task]), data=options.data)
    plan = prepare(request, options.work / options.task)
    out = HERE / "curves.jsonl"
    done = set()
    if out.exists():
        rows = map(json.loads, out.read_text().splitlines())
        done = {(row["task"], row["number"], row["seed"]) for row in rows}
    jobs = [(number, 0) for number in range(options.first, options.first + options.count)]
    jobs += [(number, 1) for number, _ in jobs if number < TWICE]
    drawn = configurations(plan, options.task, options.first + options.count)
    for number, seed in jobs:
        if (options.task, number, seed) in done:
            continue
        row = {"task": options.task, "number": number, "seed": seed, "params": drawn[number]}
        row |= train(plan, drawn[number], 1234 + seed, options.work / f"{options.task}_{number}_{seed}")
        with out.open("a") as file:
            file.write(json.dumps(row | {"space": plan.space.digest, "machine": describe()}) + "\n")
        print(number, seed, row["code"], row["seconds"], flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--work", type=Path, default=Path("curves_work"))
    main(parser.parse_args())
