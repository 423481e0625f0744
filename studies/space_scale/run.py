"""What the scale of a search space, and trying the default first, are worth on one fixed objective. Writes results.json
and curves.png.

    python studies/space_scale/run.py [--seeds 24] [--trials 30]

The objective is written below, open to be argued with: a detector's mAP as a product of what each parameter costs when
it is off its best value, with learning rates, decays and factors counted in decades, a cliff where training diverges,
and noise as between two trainings. Its best values are moved away from the default by a fixed draw, one seed each, so
that the default is good but not the best.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from automl import bundle, samplers
from automl.space import SearchSpace, compile_space
from automl.spec import get, put
from studies.machine import describe

HERE = Path(__file__).resolve().parent
CEILING, NOISE, TOLERANCE = 0.56, 0.006, 1.6  # tolerance: of all parameters, widens what follows
# Of each parameter: how far its best value is moved from the default (standard deviation, in `unit`), and how far off
# the metric falls to 61 %.
DECADES = {
    "train.optim.lr": (0.3, 0.45),
    "train.optim.lr_backbone": (0.4, 0.9),
    "train.optim.weight_decay": (0.5, 1.6),
    "train.optim.lr_linear_proj_mult": (0.4, 1.2),
    "train.optim.lr_decay": (0.2, 1.2),
    "model.num_queries": (0.15, 0.6),
    "model.num_select": (0.1, 0.9),
    "dataset.batch_size": (0.2, 0.6),
}
STEPS = {
    "model.enc_layers": (1.0, 4.0),
    "model.dec_layers": (1.0, 4.0),
    "dataset.augmentation.horizontal_flip_prob": (0.1, 0.6),
    "dataset.augmentation.train_random_crop_min": (60.0, 400.0),
    "dataset.augmentation.train_random_crop_max": (80.0, 500.0),
}
DIVERGES_AT_DECADES = 0.9  # above the best learning rate


class Objective:
    def __init__(self, spec: Mapping[str, Any], seed: int) -> None:
        self.random = np.random.default_rng([seed, 1])
        moved = np.random.default_rng([seed, 0])
        self.best: dict[str, float] = {}
        for name, (spread, _) in DECADES.items():
            self.best[name] = get(spec, name) * 10 ** moved.normal(0, spread)
        for name, (spread, _) in STEPS.items():
            self.best[name] = get(spec, name) + moved.normal(0, spread)

    def true(self, params: Mapping[str, Any]) -> float:
        cost = 0.0
        for name, value in params.items():
            if name in DECADES:
                cost += (
                    math.log10(max(value, 1e-30) / self.best[name]) / DECADES[name][1] / TOLERANCE
                ) ** 2 / 2
            elif name in STEPS:
                cost += ((value - self.best[name]) / STEPS[name][1] / TOLERANCE) ** 2 / 2
        over = math.log10(max(params.get("train.optim.lr", 1e-30), 1e-30) / self.best["train.optim.lr"])
        return 0.0 if over > DIVERGES_AT_DECADES else CEILING * math.exp(-cost)

    def __call__(self, params: Mapping[str, Any]) -> float:
        value = self.true(params)
        return max(0.0, value + self.random.normal(0, NOISE)) if value else 0.0


def linear_over_valid(space: SearchSpace, schema: Mapping[str, Any], trial: Any) -> dict[str, Any]:
    """What an engine does that reads bounds as ranges: uniform between minimum and maximum; open ends at ten times the
    default; relations mended by clamping."""
    found: dict[str, Any] = {}
    for p in space.parameters:
        leaf: Any = schema
        for key in p.name.split("."):
            leaf = leaf["properties"][key]
        low, high = float(leaf.get("minimum", 0)), float(leaf.get("maximum", 10 * p.default))
        if p.kind == "int":
            found[p.name] = trial.suggest_int(p.name, int(low), int(high))
        else:
            found[p.name] = trial.suggest_float(p.name, low, high)
    if "model.num_select" in found:
        found["model.num_select"] = min(found["model.num_select"], found["model.num_queries"])
    crop = "dataset.augmentation.train_random_crop_"
    if f"{crop}max" in found:
        found[f"{crop}max"] = max(found[f"{crop}max"], found[f"{crop}min"] + 1)
    return found


def search(
    way: str, sampler: str, seed: int, trials: int, space: SearchSpace, schema: Any, spec: Any
) -> list[float]:
    """The true metric of the best trial so far, after each trial."""
    import optuna

    objective = Objective(spec, seed)
    study = optuna.create_study(direction="maximize", sampler=samplers.make(sampler, seed))
    if way == "ours, default first":
        study.enqueue_trial(space.enqueue_params(space.default))
    best, curve, top = -1.0, [], 0.0
    for _ in range(trials):
        trial = study.ask()
        params = (
            linear_over_valid(space, schema, trial)
            if way == "linear over what is valid"
            else space.suggest(trial)
        )
        value = objective(params)
        study.tell(trial, value)
        if value > best:
            best, top = value, objective.true(params)
        curve.append(top)
    return curve


WAYS = ("linear over what is valid", "ours", "ours, default first")


def draw(curves: dict[str, dict[str, list[list[float]]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(curves), figsize=(5.2 * len(curves), 4), sharey=True, layout="constrained"
    )
    for axis, (sampler, of_way) in zip(axes, curves.items(), strict=True):
        for way, runs in of_way.items():
            values = np.array(runs)
            x = range(1, values.shape[1] + 1)
            axis.plot(x, np.median(values, 0), label=way)
            axis.fill_between(x, *np.quantile(values, [0.25, 0.75], axis=0), alpha=0.2)
        axis.set_title(f"sampler: {sampler}")
        axis.set_xlabel("trials")
    axes[0].set_ylabel("true metric of the best trial (median, quartiles)")
    axes[0].legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=130)


def main(seeds: int, trials: int) -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    schema = bundle.resolve("deformable_detr").schema("train")
    spec = json.loads(json.dumps(schema["default"]))
    put(spec, "dataset.num_classes", 4)
    put(spec, "dataset.augmentation.fixed_random_crop", None)
    space = compile_space(schema, spec)
    curves: dict[str, dict[str, list[list[float]]]] = {
        sampler: {
            way: [search(way, sampler, seed, trials, space, schema, spec) for seed in range(seeds)]
            for way in WAYS
        }
        for sampler in ("tpe", "random")
    }
    draw(curves, HERE / "curves.png")
    default = [Objective(spec, seed).true(space.default) for seed in range(seeds)]

    def after(trial: int) -> dict[str, Any]:
        return {
            s: {w: summary([r[trial - 1] for r in runs]) for w, runs in of.items()}
            for s, of in curves.items()
        }

    return {
        "seeds": seeds, "trials": trials, "parameters": [p.name for p in space.parameters], "best_possible": CEILING,
        "default": summary(default),
        "after_all_trials": after(trials), "after_10_trials": after(10),
    }  # fmt: skip


def summary(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {name: round(v, 3) for name, v in (("median", middle), ("quartile_1", low), ("quartile_3", high))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--trials", type=int, default=30)
    options = parser.parse_args()
    results = {"machine": describe(), **main(options.seeds, options.trials)}
    text = json.dumps(results, indent=1)
    (HERE / "results.json").write_text(text + "\n")
    print(text)
