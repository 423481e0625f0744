"""`automl deploy`: the model's own action that makes of a run's winner what fits a device, on its handed-over spec."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from automl import bundle as bundles
from automl import hooks, portable, spec
from automl.bundle import ModelBundle
from automl.errors import UserError
from automl.programs import command
from automl.run_json import moved
from automl.rundir import RunDir


def run(root: Path, words: Sequence[str], known: Iterable[str]) -> int:
    """Run the action with the model's options `words` on the winner; returns its exit code. The spec it ran on is
    `best/<action>/<action>.yaml`. Raises `UserError` for a model without such an action, an option it does not know,
    and a run without a winner."""
    folder = RunDir(root)
    document = folder.read_run()
    model = model_of(document)
    action, options = action_of(model)
    pairs = model.set_pairs(words, known, options)
    handed = folder.best / f"{action}.yaml"
    if not handed.is_file():
        raise UserError(
            f"{handed}: is not there; {command('resume', root)} hands the winner over (again) when the search is at "
            "its end"
        )
    full = moved(portable.read(model, handed), document.get("root"), root.absolute())
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
    return subprocess.run(model.command(action, str(path))).returncode


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
