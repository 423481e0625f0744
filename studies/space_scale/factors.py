"""The scale and the default-first start each alone, with a bad default, and on real training curves. See README.md.

    python -m studies.space_scale.factors [--seeds 24] [--trials 30]

Two objectives: a synthetic detector, written down in `Detector`, and the LCBench surrogate (real training curves of
small networks on 34 data sets) where ../shared/data/lcbench is there. Two spaces of the same schema, with and without
the default as the first trial, under two samplers; every cell of the table has the same seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna

from automl import bundle
from automl.space import SearchSpace, compile_space
from automl.space.schema import Schema
from studies import machine

HERE = Path(__file__).resolve().parent
LCBENCH = HERE.parents[2] / "shared" / "data" / "lcbench"
ARMS = ("linear", "linear, default first", "compiled", "compiled, default first")
SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "TPE": lambda seed: optuna.samplers.TPESampler(seed=seed),
}
Objective = Callable[[Mapping[str, Any]], float]


class Detector:
    """A made-up mean average precision. Each rate has a best value, lognormal around the default: `spread` is the
    standard deviation in decades, so 0.3 is a default that is usually right within a factor of 2 and 1.0 one that is
    usually wrong by 10. Learning rates ten times above their best diverge. More queries and layers help a little."""

    WIDTHS: ClassVar = {
        "lr": 0.5,
        "lr_backbone": 0.8,
        "weight_decay": 1.2,
        "lr_decay": 1.0,
        "lr_linear_proj_mult": 1.0,
    }

    def __init__(self, default: Mapping[str, Any], spread: float, seed: int) -> None:
        rng = random.Random(f"detector {spread} {seed}")
        self.best = {
            key: math.log10(default[f"train.optim.{key}"]) + rng.gauss(0, spread) for key in self.WIDTHS
        }

    def __call__(self, params: Mapping[str, Any]) -> float:
        off = {key: math.log10(params[f"train.optim.{key}"]) - best for key, best in self.best.items()}
        if off["lr"] > 1:
            return 0.0
        fit = math.exp(-sum(0.5 * (off[key] / width) ** 2 for key, width in self.WIDTHS.items()))
        size = min(1.0, params["model.num_queries"] / 300) ** 0.1 * (params["model.enc_layers"] / 6) ** 0.05
        flip = 1 - 0.1 * (params["dataset.augmentation.horizontal_flip_prob"] - 0.5) ** 2
        return 0.5 * fit * size * flip


def leaf(kind: str, default: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    keys = {"type": kind, "default": default, "minimum": low, "maximum": high, "automl_enabled": True}
    return keys | more


LCBENCH_SCHEMA = {
    "type": "object",
    "properties": {
        "batch_size": leaf("int", 128, 16, 512),
        "learning_rate": leaf("float", 0.01, 1e-4, 0.1),
        "max_dropout": leaf("float", 0.2, 0.0, 1.0),
        "max_units": leaf("int", 256, 64, 1024),
        "momentum": leaf("float", 0.9, 0.1, 0.99),
        "num_layers": leaf("int", 3, 1, 5),
        "weight_decay": leaf("float", 1e-4, 1e-5, 0.1),
    },
}


LCBENCH_ORDER = (  # in which the surrogate takes its numbers
    "epoch", "batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout",
)  # fmt: skip


class LCBench:
    """Validation accuracy (0 to 1) after 52 epochs on one data set, from the surrogate network."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(LCBENCH / "model.onnx"), options)
        self.tasks = json.loads((LCBENCH / "encoding.json").read_text())["OpenML_task_id"]
        self.names = [name for name in self.tasks if name.isdigit()]

    def objective(self, number: int) -> Objective:
        task = self.tasks[self.names[number % len(self.names)]]

        def accuracy(params: Mapping[str, Any]) -> float:
            values = {"epoch": 52, **params}
            row = [values[name] for name in LCBENCH_ORDER]
            inputs = {"x_cat": np.array([[task]], np.int32), "x_cont": np.array([row], np.float32)}
            return float(self.session.run(None, inputs)[0][0][1]) / 100

        return accuracy


def linear_space(schema: Mapping[str, Any]) -> SearchSpace:
    """The same parameters uniform between the schema's bounds; an infinite end becomes 10 times the default (2 times
    for an integer), as TAO 7.2 has it."""
    compiled, read, search = compile_space(schema), Schema(schema), {}
    for p in compiled.parameters:
        domain = read.leaf(p.name).domain
        if domain is None:
            continue
        most = domain.high if math.isfinite(domain.high) else p.default * (2 if domain.whole else 10)
        search[p.name] = {"valid_min": domain.low, "valid_max": most, "log": False}
    return compile_space(schema, search=search)


def best_so_far(
    space: SearchSpace, objective: Objective, sampler: str, seed: int, trials: int, first: bool
) -> list[float]:
    """The best value after each trial."""
    study = optuna.create_study(direction="maximize", sampler=SAMPLERS[sampler](seed))
    if first:
        study.enqueue_trial(space.enqueue_params(space.default))
    best: list[float] = []
    for _ in range(trials):
        trial = study.ask()
        value = objective({**space.default, **space.suggest(trial)})
        study.tell(trial, value)
        best.append(max([*best[-1:], value]))
    return best


def compare(
    schema: Mapping[str, Any], objective: Callable[[int], Objective], seeds: int, trials: int
) -> dict[str, Any]:
    spaces = {"linear": linear_space(schema), "compiled": compile_space(schema)}
    table: dict[str, Any] = {}
    for sampler in SAMPLERS:
        for arm in ARMS:
            space = spaces[arm.split(",")[0]]
            curves = [
                best_so_far(space, objective(seed), sampler, seed, trials, "first" in arm)
                for seed in range(seeds)
            ]
            table[f"{sampler}, {arm}"] = curves
    return {
        "cells": {key: summary(table, key) for key in table},
        "curves": {key: mean(c) for key, c in table.items()},
    }


def mean(curves: list[list[float]]) -> list[float]:
    return [round(float(x), 4) for x in np.mean(curves, axis=0)]


def summary(table: Mapping[str, list[list[float]]], key: str) -> dict[str, float]:
    """Mean and spread over seeds, and what the arm is worth over the linear space under the same seeds."""
    curves, plain = np.array(table[key]), np.array(table[f"{key.split(',')[0]}, linear"])
    gain = curves[:, -1] - plain[:, -1]
    return {
        "mean_at_10": round(float(curves[:, 9].mean()), 4),
        "mean": round(float(curves[:, -1].mean()), 4),
        "sd": round(float(curves[:, -1].std(ddof=1)), 4),
        "gain_over_linear": round(float(gain.mean()), 4),
        "standard_error": round(float(gain.std(ddof=1) / math.sqrt(len(gain))), 4),
    }


def plot(results: Mapping[str, Any]) -> None:
    """factors.svg: one panel an objective, the mean of the best value so far under TPE."""
    parts = []
    for panel, (title, found) in enumerate(results["objectives"].items()):
        curves = {arm: found["curves"][f"TPE, {arm}"] for arm in ARMS}
        low = min(min(curve) for curve in curves.values())
        high = max(max(curve) for curve in curves.values())
        parts.append(f'<g transform="translate({50 + 300 * panel},30)"><text y="-12">{title}</text>')
        parts.append('<path d="M0 0V200H240" fill="none" stroke="#888"/>')
        parts.append(f'<text x="-44" y="8">{high:.3f}</text><text x="-44" y="200">{low:.3f}</text>')
        parts.append('<text x="205" y="216">trials</text>')
        for number, (arm, curve) in enumerate(curves.items()):
            step, tall = 240 / (len(curve) - 1), 200 / (high - low)
            points = " ".join(f"{step * i:.1f},{200 - tall * (y - low):.1f}" for i, y in enumerate(curve))
            colour, dash = ("#c33", "#26a")[number // 2], ("5 4", "none")[number % 2]
            line = f'stroke="{colour}" stroke-dasharray="{dash}" stroke-width="1.8"'
            parts.append(f'<polyline points="{points}" fill="none" {line}/>')
            if panel == 0:
                x = 230 * number
                parts.append(f'<path d="M{x} 240h24" {line}/><text x="{x + 30}" y="244">{arm}</text>')
        parts.append("</g>")
    width = 60 + 300 * len(results["objectives"])
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 290" font-family="sans-serif" font-size="12">'
    body = "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>"])
    (HERE / "factors.svg").write_text(body + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--trials", type=int, default=30)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    schema = bundle.resolve("deformable_detr").schema("train")
    default = {name: Schema(schema).leaf(name).default for name in Schema(schema)}
    objectives: dict[str, Any] = {}
    for name, spread in (("detector, good default", 0.3), ("detector, poor default", 1.0)):

        def detector(seed: int, spread: float = spread) -> Objective:
            return Detector(default, spread, seed)

        objectives[name] = compare(schema, detector, arguments.seeds, arguments.trials)
    if LCBENCH.exists():
        real = LCBench()
        objectives["LCBench, 34 data sets"] = compare(LCBENCH_SCHEMA, real.objective, 34, arguments.trials)
    results = {
        "machine": machine.describe(),
        "seeds": arguments.seeds,
        "trials": arguments.trials,
        "objectives": objectives,
    }
    (HERE / "factors.json").write_text(json.dumps(results, indent=1) + "\n")
    plot(results)
    for name, found in objectives.items():
        for key, cell in found["cells"].items():
            print(f"{name:26s} {key:34s} {cell}")


if __name__ == "__main__":
    main()
