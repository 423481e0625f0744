"""What the searches are judged on: LCBench's curves, and written ones that look like a detector's. Each objective has a
space, the length of a training, `curve(params, trial)` (higher is better) and `true(params)`, its end without noise.

The split of LCBench's tasks was drawn before anything was tuned on the first part: `TUNED` may be looked at while the
search is changed, `HELD_OUT` only to report.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from automl import bundle
from automl.space import SearchSpace, compile_space
from automl.spec import put
from studies.space_scale.factors import LCBENCH_ORDER, leaf
from studies.space_scale.run import Objective

HERE = Path(__file__).resolve().parent
BESIDE = [above / "shared" / "data" / "lcbench" for above in HERE.parents]
LCBENCH = Path(os.environ.get("LCBENCH") or next((path for path in BESIDE if path.exists()), BESIDE[2]))
TUNED = (
    "3945",
    "34539",
    "126026",
    "146212",
    "167149",
    "167161",
    "167184",
    "168329",
    "168335",
    "168908",
    "189862",
    "189909",
)
HELD_OUT = (
    "7593", "126025", "126029", "167104", "167152", "167168", "167181", "167185", "167190", "167200", "167201",
    "168330", "168331", "168868", "168910", "189354", "189865", "189866", "189873", "189905", "189906", "189908",
)  # fmt: skip
DEFAULTS = {  # good: the usual settings; poor: two things off; bad: nearly everything
    "good": {"batch_size": 128, "learning_rate": 0.01, "max_dropout": 0.2, "max_units": 256, "momentum": 0.9,
             "num_layers": 3, "weight_decay": 1e-4},
    "poor": {"batch_size": 128, "learning_rate": 0.002, "max_dropout": 0.5, "max_units": 256, "momentum": 0.7,
             "num_layers": 3, "weight_decay": 1e-3},
    "bad": {"batch_size": 450, "learning_rate": 4e-4, "max_dropout": 0.8, "max_units": 90, "momentum": 0.2,
            "num_layers": 5, "weight_decay": 0.03},
}  # fmt: skip
RANGES = ("batch_size=16:512:log", "learning_rate=1e-4:0.1:log", "max_dropout=0:1", "max_units=64:1024:log",
          "momentum=0.1:0.99:linear", "num_layers=1:5", "weight_decay=1e-5:0.1:log")  # fmt: skip
REFERENCE = 1200  # random configurations that regret is measured by


def lcbench_space(default: str) -> SearchSpace:
    """LCBench's own ranges round one of the defaults."""
    at = DEFAULTS[default]
    properties = {
        name: leaf("int" if isinstance(value, int) else "float", value, *_ends(name))
        for name, value in at.items()
    }
    return compile_space({"type": "object", "properties": properties}, dict(at), tune=RANGES)


def _ends(name: str) -> tuple[float, float]:
    low, high = next(text.split("=")[1].split(":")[:2] for text in RANGES if text.startswith(name))
    return float(low), float(high)


@cache
def _session() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(LCBENCH / "model.onnx"), options)


@cache
def _codes() -> dict[str, int]:
    found: dict[str, int] = json.loads((LCBENCH / "encoding.json").read_text())["OpenML_task_id"]
    return found


def _accuracies(task: str, rows: list[list[float]]) -> np.ndarray[Any, Any]:
    inputs = {
        "x_cat": np.full((len(rows), 1), _codes()[task], np.int32),
        "x_cont": np.array(rows, np.float32),
    }
    return np.asarray(_session().run(None, inputs)[0][:, 1], float) / 100


def tops(task: str, every: Sequence[Mapping[str, Any]], epochs: Sequence[int]) -> np.ndarray[Any, Any]:
    """(n,) the best accuracy of each configuration at these epochs."""
    rows = [[{"epoch": e, **params}[name] for name in LCBENCH_ORDER] for params in every for e in epochs]
    return np.asarray(_accuracies(task, rows).reshape(len(every), -1).max(1))


@cache
def _reference(task: str) -> tuple[float, float]:
    """(best, median) over epochs and `REFERENCE` random configurations."""
    found = tops(task, lcbench_space("good").sample(REFERENCE, seed=1), (13, 26, 39, 52))
    return float(found.max()), float(np.median(found))


class LCBench:
    """Validation accuracy over 52 epochs on one data set, from the surrogate network; no noise."""

    epochs = 52

    def __init__(self, task: str, default: str) -> None:
        self.name, self.task, self.space = f"lcbench {task}", task, lcbench_space(default)
        self.best, self.median = _reference(task)

    def curve(self, params: Mapping[str, Any], trial: int) -> list[float]:
        rows = [[{"epoch": e, **params}[name] for name in LCBENCH_ORDER] for e in range(1, self.epochs + 1)]
        return [float(v) for v in _accuracies(self.task, rows)]

    def true(self, params: Mapping[str, Any]) -> float:
        return max(self.curve(params, 0))

    def loss(self, value: float) -> float:
        """Regret: 0 the best of the reference, 1 its median."""
        return (self.best - value) / (self.best - self.median)


class Detector:
    """The written objective of studies/space_scale over a training: it rises with its learning rate, with noise as
    between two trainings and between two epochs. `moved`: decades by which the best learning rates lie off besides."""

    NOISE, EPOCH_NOISE = 0.006, 0.003

    def __init__(self, seed: int, moved: float = 0.0, epochs: int = 9) -> None:
        schema, spec = _schema_and_spec()
        self.space, self.epochs, self.seed = compile_space(schema, spec), epochs, seed
        self.objective = Objective(spec, seed)
        self.name = f"detector, moved {moved:g}" + (f", {epochs} epochs" if epochs != 9 else "")
        for name in ("train.optim.lr", "train.optim.lr_backbone"):
            self.objective.best[name] *= 10 ** (moved if seed % 2 else -moved)
        self.default = self.true(self.space.default)
        drawn = [params for draw in range(6) for params in self.space.sample(2000, seed=draw)]
        self.best = max(self.true(params) for params in drawn)
        for step in range(60):  # and a climb from the best of them
            self.best = max(self.best, self._climbed(drawn, step))

    def _climbed(self, drawn: list[dict[str, Any]], step: int) -> float:
        if not hasattr(self, "_at"):
            self._at = np.array(self.space.encode(max(drawn, key=self.true)))
        rng = np.random.default_rng([self.seed, step])
        points = np.clip(self._at + 0.1 * 0.95**step * rng.standard_normal((60, len(self._at))), 0, 1)
        values = [self.true(self.space.decode(list(point))) for point in points]
        if max(values) > self.true(self.space.decode(list(self._at))):
            self._at = points[int(np.argmax(values))]
        return max(values)

    def true(self, params: Mapping[str, Any]) -> float:
        return self.objective.true(params)

    def curve(self, params: Mapping[str, Any], trial: int) -> list[float]:
        """A slow start, then the fall of a power law; higher rates rise sooner."""
        rng = np.random.default_rng([self.seed, 7, trial])
        end = self.true(params)
        end = max(0.0, end + self.NOISE * rng.standard_normal()) if end else 0.0
        ahead = 0.5 * math.log10(max(params.get("train.optim.lr", 2e-4), 1e-9) / 2e-4)
        start = 1.0 + 0.25 * rng.standard_normal() - ahead
        e = np.arange(1, self.epochs + 1)
        rise = 1 / (1 + np.exp(-(e - 2 - start) / 0.7)) * (1 - 0.5 * e**-0.8) / (1 - 0.5 * self.epochs**-0.8)
        noise = self.EPOCH_NOISE * rng.standard_normal(self.epochs) * (rise > 0.1)
        return [float(v) for v in np.maximum(end * np.minimum(rise, 1) + noise, 0)]

    def loss(self, value: float) -> float:
        """1 the default, 0 the best there is: the part of the way still to go."""
        return (self.best - value) / max(self.best - self.default, 1e-3)


@cache
def _schema_and_spec() -> tuple[Any, Any]:
    schema = bundle.resolve("deformable_detr").schema("train")
    spec = json.loads(json.dumps(schema["default"]))
    put(spec, "dataset.num_classes", 4)
    put(spec, "dataset.augmentation.fixed_random_crop", None)
    return schema, spec
