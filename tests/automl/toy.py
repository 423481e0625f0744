"""A model that trains in no time: a command of twenty lines, to be run by the real driver and executor."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.automl.test_policy_bundle import make_model

TRAINER = """
import json, sys, time
spec = {}
for line in open(sys.argv[1]):
    name, _, value = line.strip().partition(": ")
    spec[name] = value.strip("'\\"")
folder, resumed = spec["results_dir"], spec["resume"]
first = int(resumed.split("_")[-1].split(".")[0]) + 1 if resumed else 0
for epoch in range(first, int(spec["epochs"])):
    time.sleep(float(spec["pause_s"]))
    name = f"epoch_{epoch}.ckpt"
    with open(f"{folder}/{name}", "wb") as file:
        file.write(b"0" * int(spec["kilobytes"]) * 1024)
    line = {"epoch": epoch, "score": float(spec["lr"]) * (epoch + 1), "checkpoint": name}
    with open(f"{folder}/metrics.jsonl", "a") as file:
        file.write(json.dumps(line) + chr(10))
"""
SCHEMA = {
    "type": "object",
    "properties": {
        "lr": {"type": "number", "minimum": 0.001, "maximum": 1.0, "default": 0.1, "automl_enabled": True},
        "epochs": {"type": "integer", "default": 2},
        "pause_s": {"type": "number", "default": 0.0},
        "kilobytes": {"type": "integer", "default": 1},
        "resume": {"type": "string", "default": ""},
        "results_dir": {"type": "string", "default": ""},
    },
}


def toy(root: Path, **spec: float) -> Path:
    """The model's folder; `spec` changes its template: epochs, pause_s (of an epoch), kilobytes (of a checkpoint)."""
    make_model(
        root, actions={"train": {"command": f"{sys.executable} {root / 'trainer.py'} {{config_path}}"}},
        metrics={"score": "maximize"}, epochs_key="epochs", checkpoint_glob="*.ckpt",
        spec_params={"train": {"results_dir": "output_dir", "resume": "resume_model"}},
    )  # fmt: skip
    (root / "trainer.py").write_text(TRAINER)
    (root / "schemas" / "train.schema.json").write_text(json.dumps(SCHEMA))
    template = {name: part["default"] for name, part in SCHEMA["properties"].items()} | spec  # type: ignore[attr-defined]
    lines = [f"{name}: {json.dumps(value)}" for name, value in template.items()]
    (root / "references" / "spec_template_train.yaml").write_text("\n".join(lines))
    return root
