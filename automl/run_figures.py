"""`automl status | best --json`: what they show as plain data. Epochs count from 1; what is not finite is null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from automl import metric as metrics
from automl import spec
from automl.errors import UserError
from automl.front import Place, places
from automl.locks import is_running
from automl.programs import command
from automl.rundir import RunDir
from automl.show import checkpoint_of, handed_over
from automl.storage import load_study
from automl.widening import widened


def text(document: Mapping[str, Any]) -> str:
    """As strict JSON, indented."""
    return json.dumps(_plain(document), indent=1, default=str, allow_nan=False)


def _plain(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


def status(root: Path) -> dict[str, Any]:
    """{"run", "running", "finished", "metric", "objectives", "front", "elapsed_s", "epochs", "trials", "widened"}; a
    run that has not begun has no trials. "epochs": trained in all; "widened": {number: {parameter: [lowest,
    highest]}}, from which trial on it may be so far."""
    from automl.report.gather import facts_of

    document = RunDir(root).read_run()
    study = load_study(document, root)
    running = is_running(root)
    facts = facts_of(root, study, running) if study is not None else None
    return {
        "run": str(root),
        "running": running,
        "finished": facts is not None and not running and not facts.unfinished,
        "metric": asdict(metrics.of_run(document)),
        "objectives": metrics.names_of(document),
        "front": _front(facts.front if facts else (), root),
        "elapsed_s": study.elapsed_s() if study else 0.0,
        "epochs": study.epochs_trained if study else 0,
        "trials": [asdict(trial) for trial in (facts.trials if facts else ())],
        "widened": dict(widened(study.trials() if study else ())),
    }


def best(root: Path) -> dict[str, Any]:
    """{"trial", "value", "epoch", "complete", "params", "changed", "checkpoint", "files",
    "files_of_trial", "front"}; "files_of_trial" is another where the winner's checkpoint was gone. Raises `UserError`
    while no trial has a metric."""
    document = RunDir(root).read_run()
    study = load_study(document, root)
    top = study.best() if study else None
    if study is None or top is None:
        raise UserError(f"{root}: no trial has a metric yet; see {command('status', root)}")
    checkpoint, folder = checkpoint_of(RunDir(root), top), RunDir(root).best
    return {
        "trial": top.number,
        "default": top.number == 0 and document["searching"],
        "metric": metrics.of_run(document).name,
        "value": top.value,
        "epoch": top.epoch + 1,
        "complete": top.complete,
        "params": top.params,
        "changed": {n: v for n, v in top.params.items() if spec.get(document["spec"], n) != v},
        "checkpoint": str(checkpoint) if checkpoint and checkpoint.exists() else None,
        "files": str(folder) if folder.is_dir() else None,
        "files_of_trial": handed_over(root),
        "front": _front(places(study, RunDir(root)), root),
    }


def _front(found: Sequence[Place], root: Path) -> list[dict[str, Any]]:
    """{"number", "value", "ms", "epoch" from 1, "knee", "folder"} of each, fastest first."""
    return [
        asdict(p) | {"epoch": p.epoch + 1, "folder": str(root / p.folder) if p.folder else None}
        for p in found
    ]
