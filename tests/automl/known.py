"""A search whose truth is known: twelve parameters, of which three have an effect, in a known order. Trials are curves on a
virtual clock, so that sixty of them take seconds."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import yaml

from automl import restored_plan
from automl.driver import SearchDriver
from automl.executors.base import Exit, TrialJob
from automl.executors.replay import ReplayExecutor
from automl.plan import prepare
from automl.progress import Progress
from automl.request import RunRequest
from automl.rundir import RunDir
from automl.storage import open_storage
from automl.study import Study
from tests.automl.test_policy_bundle import make_model

EPOCHS = 12
TRUTH = ("rate", "batch", "decay")  # by their share of the variance, see `quality`


def number(
    low: float, high: float, default: float, kind: str = "number", log: bool = False
) -> dict[str, Any]:
    """A parameter that is searched over all that is valid."""
    hint = {"low": low, "high": high, "log": log}
    return {
        "type": kind, "minimum": low, "maximum": high, "default": default, "automl_enabled": True, "search": hint,
    }  # fmt: skip


SCHEMA = {
    "type": "object",
    "properties": {
        "rate": number(1e-5, 1e-2, 1e-4, log=True),
        "batch": {"type": "integer", "enum": [1, 2, 4, 8, 16], "default": 4, "automl_enabled": True},
        "decay": number(1e-6, 1e-2, 1e-3, log=True),
        "layers": number(1, 6, 3, "integer"),
        "dropout": number(0.0, 0.5, 0.1),
        "flip": number(0.0, 1.0, 0.5),
        "schedule": {
            "type": "string",
            "enum": ["step", "cosine", "flat"],
            "default": "step",
            "automl_enabled": True,
        },
        "warmup": number(0, 1000, 100, "integer"),
        "queries": number(50, 400, 100, "integer"),
        "ema": {"type": "boolean", "default": False, "automl_enabled": True},
        "clip": number(0.01, 1.0, 0.1, log=True),
        "jitter": number(0.0, 1.0, 0.2),
        "epochs": {"type": "integer", "default": EPOCHS},
        "results_dir": {"type": "string", "default": ""},
    },
}


def quality(spec: dict[str, Any], seed: int) -> float:
    """About .2 to .65. Over draws from the whole space .45 of the variance are the rate's, .33 the batch size's, .17 the
    decay's, and .05 are noise."""
    rate = -(abs(math.log10(spec["rate"]) + 3.2) - 0.78) / 0.49  # parts of mean 0 and standard deviation 1
    batch = (math.log2(spec["batch"]) - 2) / 1.41
    decay = -(abs(math.log10(spec["decay"]) + 4.2) - 1.01) / 0.59
    noise = random.Random(seed).gauss(0, 1)
    return 0.42 + 0.07 * (0.67 * rate + 0.57 * batch + 0.41 * decay + 0.22 * noise)


def rise(top: float) -> list[float]:
    """A training's values, epoch by epoch, up to nearly `top`."""
    return [round(top * (1 - math.exp(-(epoch + 1) / 3.5)), 5) for epoch in range(EPOCHS)]


def curve(job: TrialJob) -> list[dict[str, Any] | Exit]:
    """The lines of a trial, as a trainer would write them."""
    spec = yaml.safe_load(Path(job.spec_path).read_text())
    top = quality(spec, job.number)
    lines: list[dict[str, Any] | Exit] = []
    for epoch, score in enumerate(rise(top)):
        lines.append({
            "epoch": epoch, "score": score, "train_loss": 9 * (1.2 - top) * math.exp(-epoch / 5) + 1,
            "val_loss": 7 * (1.3 - top) * math.exp(-epoch / 6) + 1.2, "rate": spec["rate"] * (0.1 if epoch > 8 else 1),
            "memory_mb": 900 + 110 * spec["batch"], "elapsed_s": (epoch + 1) * (20 + 6 * spec["layers"]),
        })  # fmt: skip
    return lines


def written(study: Study, run: RunDir) -> None:
    """Write each trial's lines into its folder, up to where it was stopped."""
    for trial in study.trials():
        folder = run.trial(trial.number)
        job = TrialJob(trial.number, str(folder), str(folder / "spec.yaml"), command=("none",))
        lines = [json.dumps(line) for line in curve(job)[: study.epochs_of(trial.number)]]
        (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))


def searched(folder: Path, **request: Any) -> Path:
    """The run folder of a whole search without the hand-over."""
    make_model(
        folder / "toy", metrics={"score": "maximize"}, epochs_key="epochs",
        spec_params={"train": {"results_dir": "output_dir"}},
    )  # fmt: skip
    (folder / "toy" / "schemas" / "train.schema.json").write_text(json.dumps(SCHEMA))
    properties: dict[str, Any] = SCHEMA["properties"]  # type: ignore[assignment]
    template = {name: part["default"] for name, part in properties.items()}
    (folder / "toy" / "references" / "spec_template_train.yaml").write_text(yaml.safe_dump(template))
    asked = RunRequest(model=str(folder / "toy"), executor="local", **request)
    run = RunDir(folder / "run")
    plan = prepare(asked, run.root)
    run.write_run(restored_plan.describe(plan, run.root, "known"))
    storage = open_storage(None, run.root)
    study = Study(storage, "known", plan.space, asked.sampler, asked.seed, True, [dict(plan.space.default)])
    executor = ReplayExecutor(curve, plan.machine.concurrency)
    driver = SearchDriver(plan, study, run, Progress(quiet=True), clock=lambda: executor.now_s)
    executor.run(driver)
    study.set_elapsed_s(executor.now_s, now=True)
    written(study, run)
    study.close()
    return run.root
