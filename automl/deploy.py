"""`automl deploy`: the model's own action that makes of a run's winner what fits a device, on its handed-over spec."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from automl import bundle as bundles
from automl import hooks, metric, portable, provenance, secret_leaves, spec
from automl.bundle import ModelBundle
from automl.checkpoints import so_far
from automl.errors import AutoMLError, UserError
from automl.forkserver import end_with
from automl.locks import handing_over
from automl.metric import figure
from automl.programs import command
from automl.run_json import moved
from automl.rundir import RunDir
from automl.storage import load_study


def run(
    root: Path, words: Sequence[str], known: Iterable[str], say: Callable[[str], Any] = lambda text: None
) -> int:
    """Run the action with the model's options `words` on the winner, which `say` is told; returns its exit code. The
    spec it ran on is `best/<action>/<action>.yaml`. Raises `UserError` for a model without such an action, an option it
    does not know, a run without a winner, and one whose best/ another process writes in."""
    folder = RunDir(root)
    document = folder.read_run()
    model = model_of(document)
    action, options = action_of(model)
    pairs = model.set_pairs(words, known, options)
    with handing_over(root):
        whose = _handed_over(folder, action)
        path = _write(folder, document, model, action, pairs)
        say(_which(folder, document, whose))
        tie = partial(end_with, os.getpid())
        return subprocess.run(model.command(action, str(path)), preexec_fn=tie).returncode


def _handed_over(folder: RunDir, action: str) -> dict[str, Any]:
    """The provenance of what is handed over. Raises `UserError` where a spec to deploy by is not there, or may be
    another's than the weights beside it."""
    handed = folder.best / f"{action}.yaml"
    whose = provenance.read(folder.best)
    if not handed.is_file() or "trial" not in whose:
        what = handed if not handed.is_file() else folder.best / provenance.FILE
        raise UserError(
            f"{what}: is not there; {command('resume', folder.root)} hands the winner over (again) when the search is "
            "at its end"
        )
    return whose


def _which(folder: RunDir, document: dict[str, Any], whose: Mapping[str, Any]) -> str:
    """Whose weights are made ready, and whether another leads the search by now."""
    text = f"deploying trial {whose['trial']}"
    if (value := whose.get("value")) is not None:
        text += f" ({metric.of_run(document).name} {figure(value)})"
    try:
        study = load_study(document, folder.root)
        chosen = so_far(study, folder, metric.of_run(document)) if study else None
    except AutoMLError:
        return text  # the folder is enough to deploy from
    if chosen is None or (top := chosen.best).number == whose["trial"]:
        return text
    return (
        f"{text}; by now trial {top.number} ({figure(top.value)}) is the best; to hand it over: "
        f"{command('resume', folder.root)}"
    )


def _write(
    folder: RunDir, document: Mapping[str, Any], model: ModelBundle, action: str, pairs: Sequence[str]
) -> Path:
    """The spec that the action runs on, with `pairs` set."""
    handed, root = folder.best / f"{action}.yaml", folder.root
    full = portable.read(model, handed)
    full = moved(full, document.get("root"), root.absolute(), secret_leaves.mark(model))
    for name, value in spec.parse_set(pairs, {}).items():
        if spec.get(full, name, spec.MISSING) is spec.MISSING:
            raise UserError(
                f"{model.name}: its option sets {name}, which {handed} does not have (deploy.options)"
            )
        spec.put(full, name, value)
    hooks.check_spec(model, full, action)
    path = folder.best / action / f"{action}.yaml"
    path.parent.mkdir(exist_ok=True)
    portable.write(model, path, full, folder.best)
    return path


def model_of(document: Mapping[str, Any]) -> ModelBundle:
    """That of a run.json."""
    return bundles.resolve(document.get("model_reference") or document["model"])


def action_of(model: ModelBundle) -> tuple[str, dict[str, Any]]:
    """(the action that deploys, its {option: leaf}). Raises `UserError` where there is none."""
    said = model.skill.get("deploy") or {}
    action = str(said.get("action", ""))
    if action not in model.actions:
        raise UserError(f"{model.name} has nothing to deploy with (its skill_info has no deploy.action)")
    return action, dict(said.get("options") or {})


def options_told(words: Sequence[str]) -> str:
    """For help: the options of the run's model that `words` name, else of the one that is installed. Raises
    `UserError` where there is none."""
    runs = [Path(word) for word in words if (Path(word) / "run.json").is_file()]
    model = model_of(RunDir(runs[0]).read_run()) if runs else bundles.resolve(None)
    return model.options_told(*action_of(model))
