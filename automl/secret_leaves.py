"""Leaves of a spec that are secret (role `key` in skill_info's spec_params): kept out of run.json, specs and logs.

A model that can take a secret from a file says so in skill_info:

    secrets: {reference: "@{path}", environment: NAME}

Then the secret lies in `<run>/secrets/`, for its owner's eyes, and every spec holds a reference to that file alone.
`environment` names the variable it is taken from when the spec has none. Of another model's secrets, which stand in its
specs, the run folder is closed to others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import spec
from automl.errors import UserError
from automl.rundir import write_text

if TYPE_CHECKING:
    from automl.bundle import ModelBundle
    from automl.plan import Plan

ROLE = "key"
FOLDER = "secrets"
HIDDEN = "***"


def names(bundle: ModelBundle, action: str) -> list[str]:
    """The secret leaves of an action."""
    roles = bundle.roles(action)
    return [str(name) for name, role in roles.items() if role == ROLE]


def mark(bundle: ModelBundle) -> str:
    """What stands before the path where a spec refers to a secret; nothing where the model takes none from files."""
    return str((bundle.skill.get("secrets") or {}).get("reference", "")).partition("{path}")[0]


def hidden_sets(sets: tuple[str, ...], bundle: ModelBundle) -> tuple[str, ...]:
    """The `KEY=VALUE` pairs with the values of secret leaves hidden."""
    secret, short = set(names(bundle, "train")), bundle.skill.get("spec_shorthand_keys", {})
    split = [(pair.partition("=")[0].strip(), pair) for pair in sets]
    return tuple(f"{name}={HIDDEN}" if short.get(name, name) in secret else pair for name, pair in split)


def put_away(plan: Plan, root: Path) -> None:
    """Move the secrets of `plan.spec`, or of the environment, into the run folder; the spec refers to them there.

    Raises `UserError` when a file that the spec refers to is not there, or holds another secret than the run's.
    """
    said = plan.bundle.skill.get("secrets") or {}
    for name in names(plan.bundle, "train"):
        value = spec.get(plan.spec, name) or os.environ.get(str(said.get("environment")), "")
        if not value:
            continue
        if "reference" not in said:
            root.chmod(0o700)
            continue
        path = root / FOLDER / name
        _keep(path, _secret(str(value), str(said["reference"]), path, name))
        spec.put(plan.spec, name, str(said["reference"]).replace("{path}", str(path)))


def _secret(value: str, reference: str, kept: Path, name: str) -> str:
    """The secret that a value is, or refers to."""
    before, _, after = reference.partition("{path}")
    if not (value.startswith(before) and value.endswith(after)):
        return value
    path = Path(value[len(before) : len(value) - len(after)]).expanduser()
    if kept.exists() and path.name == kept.name and path.parent.name == FOLDER:
        path = kept  # the run's own, which may have moved with its folder
    try:
        return path.read_text().rstrip("\r\n")
    except FileNotFoundError:
        raise UserError(f"{name}: {path} must hold the secret, but is not there") from None


def _keep(path: Path, secret: str) -> None:
    if not secret:
        raise UserError(f"{path.name}: the file that it refers to is empty")
    if path.exists() and path.read_text() != secret:
        raise UserError(f"{path.name} is not the one this run began with; unset it to go on with that one")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_text(path, secret, mode=0o600)


def carry(bundle: ModelBundle, action: str, trained: Mapping[str, Any], full: dict[str, Any]) -> None:
    """Give a later action's spec the secrets (references to them) of the trained one."""
    values = [spec.get(trained, name) for name in names(bundle, "train")]
    for name, value in zip(names(bundle, action), values, strict=False):
        if value:
            spec.put(full, name, value)
