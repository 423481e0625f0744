"""`--max-latency`: what is predicted to be slower is refused, and everything else is as without it."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from automl import latency, loop, plan_json, run_figures, show
from automl.cli import guarded
from automl.errors import UserError
from automl.plan import prepare
from automl.progress import Progress
from automl.request import RunRequest, parse_ms, write_ms
from automl.storage import load_study

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "numpy_net"
HOOKS = """
def measure(specs, folder, say):
    with open(FILE, "a") as file:
        file.write("measured\\n")
    say(f"timing {len(specs)}")
    return {"ms_each": 0.5, "text": "timed in no time"}

def predict(spec, timed):
    return 1 + spec["model"]["width"] * timed["ms_each"]
"""
SAMPLERS = ("fgp", "tpe:n_startup_trials=3", "gp:n_startup_trials=3", "random")


def model(root: Path, hooks: str = HOOKS, **points: str) -> Path:
    """numpy_net with the hooks: a network takes 1 ms and half of one for each unit, so the default of 16 takes 9."""
    shutil.copytree(EXAMPLE, root)
    (root / "numpy_latency.py").write_text(hooks.replace("FILE", repr(str(root / "measured.txt"))))
    path = root / "references" / "skill_info.yaml"
    skill = yaml.safe_load(path.read_text())
    named = {"latency": "numpy_latency:predict", "time_latency": "numpy_latency:measure"}
    skill["entry_points"] = {name: at for name, at in (named | points).items() if at}
    skill["actions"]["train"]["command"] = f"{sys.executable} {{model_dir}}/train.py {{config_path}}"
    path.write_text(yaml.safe_dump(skill))
    return root


def request(root: Path, ms: float = 6.0, **more: Any) -> RunRequest:
    asked = {
        "trials": 8,
        "epochs": 1,
        "executor": "local",
        "scheduler": "none",
        "sampler": "random",
        "log": ("none",),
    }
    return RunRequest(model=str(root), max_latency_ms=ms, **(asked | more))


def told(root: Path) -> str:
    out = io.StringIO()
    show.status(Console(file=out, width=200), root)
    return out.getvalue()


def trials(root: Path) -> list[Any]:
    document = json.loads((root / "run.json").read_text())
    study = load_study(document, root)
    assert study is not None
    return study.trials()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_above_the_limit_is_trained(tmp_path: Path, sampler: str) -> None:
    root = model(tmp_path / "model")
    outcome = loop.run(
        request(root, sampler=sampler, scheduler="fgp"), tmp_path / "run", Progress(quiet=True)
    )
    found = trials(tmp_path / "run")
    default, rest = found[0], found[1:]
    assert default.state.name == "PRUNED"
    assert default.user_attrs["reason"] == "predicted 9 ms, allowed 6ms; not trained"
    assert not (tmp_path / "run" / "trials" / "0000").exists()
    assert len(rest) == 8  # the default is no training
    assert all(t.user_attrs["params"]["model.width"] <= 10 for t in rest)
    assert all(t.user_attrs["predicted_ms"] <= 6 for t in rest)
    assert rest[0].user_attrs["params"] == found[0].user_attrs["params"] | {
        "model.width": rest[0].user_attrs["params"]["model.width"]
    }
    assert outcome.default is None and outcome.winner.number
