"""`automl deploy`: the model's own action that makes of a run's winner what fits a device, on its handed-over spec."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from automl import bundle as bundles
from automl import portable, spec
from automl.errors import UserError
from automl.recorded import moved
from automl.rundir import RunDir


def run(root: Path, words: Sequence[str], known: Iterable[str]) -> int:
    """Run the action with the model's options `words` on the winner; returns its exit code. The spec it ran on is
    `best/<action>/<action>.yaml`. Raises `UserError` for a model without such an action, an option it does not know,
    and a run without a winner."""
    folder = RunDir(root)
    document = folder.read_run()
    model = bundles.resolve(document.get("model_reference") or document["model"])
    said = model.skill.get("deploy") or {}
    action = str(said.get("action", ""))
    if action not in model.actions:
        raise UserError(f"{model.name} has nothing to deploy with (its skill_info has no deploy.action)")
    pairs = model.set_pairs(words, known, said.get("options") or {})
    handed = folder.best / f"{action}.yaml"
    if not handed.is_file():
        raise UserError(
            f"{handed}: is not there; automl resume {root} hands the winner over (again) when the search is at its end"
        )
    full = moved(portable.read(model, handed), document.get("root"), root.absolute())
    for name, value in spec.parse_set(pairs, {}).items():
        spec.put(full, name, value)
    path = folder.best / action / f"{action}.yaml"
    path.parent.mkdir(exist_ok=True)
    portable.write(model, path, full, folder.best)
    return subprocess.run(model.command(action, str(path))).returncode
