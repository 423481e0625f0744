"""Leaves that each trial is given by their role in skill_info, and that therefore nobody searches or fixes: a secret of
theirs would stand in run.json and on every page, and a folder or file of theirs would be passed over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from automl import secret_leaves
from automl.bundle import ModelBundle
from automl.errors import UserError
from automl.request import RunRequest
from automl.space.requests import named


def check_request(request: RunRequest, engine_keys: Mapping[str, Any], model: ModelBundle) -> None:
    """Raises `UserError`, which shows no value, for such a leaf in `--tune`, `--fix` or the spec's `search:`."""
    asked = named(request.tune, request.fix, engine_keys.get("search"))
    refuse(((name, f"{how} {name}: ") for how, name in asked), model)


def refuse(asked: Iterable[tuple[str, str]], model: ModelBundle) -> None:
    """The same for {leaf: what stands before the message}, given as pairs."""
    roles = model.roles("train")
    for name, before in asked:
        if name in roles:
            raise UserError(
                f"{before}{name} can neither be searched nor fixed: each trial is given its own ({roles[name]}); "
                + _instead(name, roles[name], model)
            )


def _instead(name: str, role: str, model: ModelBundle) -> str:
    if role == "output_dir":
        return "--results-dir names the run's folder"
    ways = secret_leaves.ways(model) if role == secret_leaves.ROLE else ""
    return f"--set {name}={ways or 'VALUE'} gives it"
