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
from automl.checkpoints import so_far
from automl.errors import UserError
from automl.front import Place, places
from automl.locks import is_running
from automl.programs import command
from automl.rundir import RunDir
from automl.show import handed_over
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
    """{"trial", "value", "epoch", "complete", "params", "changed", "checkpoint", "checkpoint_epoch",
    "warning", "files", "files_of_trial", "front"} of what `automl best --export` would hand over; "checkpoint_epoch" is
    in the file. Raises `UserError` while no trial has a metric."""
    document = RunDir(root).read_run()
    study = load_study(document, root)
    run, metric = RunDir(root), metrics.of_run(document)
    chosen = so_far(study, run, metric) if study else None
    if study is None or chosen is None:
        raise UserError(f"{root}: no trial has a metric yet; see {command('status', root)}")
    top, held, folder = chosen.best, chosen.weights, run.best
    return {
        "trial": top.number,
        "default": top.number == 0 and document["searching"],
        "metric": metric.name,
        "value": top.value,
        "epoch": top.epoch + 1,
        "complete": top.complete,
        "params": top.params,
        "changed": {n: v for n, v in top.params.items() if spec.get(document["spec"], n) != v},
        "checkpoint": str(held.file) if held else None,
        "checkpoint_epoch": held.holds + 1 if held and held.holds is not None else None,
        "warning": chosen.warning,
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
