"""Leaves of a spec that are secret (role `key` in skill_info's spec_params): kept out of run.json, specs and logs.

A model that can take a secret from a file says so in skill_info:

    secrets: {reference: "@{path}", environment: NAME}

Then the secret lies in `<run>/secrets/`, for its owner's eyes, and every spec holds a reference to that file alone.
`environment` names the variable it is taken from when the spec has none, or the run's own file did not come with its
folder. Of another model's secrets, which stand in its specs, the run folder is closed to others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import spec
from automl.errors import UserError
from automl.rundir import RunDir, write_text
from safe_documents import IN_A_SECRET, refers

if TYPE_CHECKING:
    from automl.bundle import ModelBundle
    from automl.plan import Plan

ROLE = "key"
FOLDER = "secrets"
HIDDEN = "***"
AS_TEXT = "as text in UTF-8, but has other bytes; openssl rand -base64 32, say, writes one as text"


def names(bundle: ModelBundle, action: str) -> list[str]:
    """The secret leaves of an action."""
    roles = bundle.roles(action)
    return [str(name) for name, role in roles.items() if role == ROLE]


def mark(bundle: ModelBundle) -> str:
    """What stands before the path where a spec refers to a secret; nothing where the model takes none from files."""
    return _said(bundle).get("reference", "").partition("{path}")[0]


def instead(bundle: ModelBundle) -> str:
    """How a secret is given that may not stand as a reference in a spec."""
    found = ways(bundle)
    return f"; give {found}" if found else ""


def ways(bundle: ModelBundle) -> str:
    """Where a secret may be taken from, but for the spec itself; nothing where the model says of no place."""
    said = _said(bundle)
    file = said["reference"].replace("{path}", "FILE") if "reference" in said else ""
    variable = f"the environment variable {said['environment']}" if "environment" in said else ""
    return " or ".join(filter(None, (file, variable)))


def hidden_sets(sets: tuple[str, ...], bundle: ModelBundle) -> tuple[str, ...]:
    """The `KEY=VALUE` pairs with the values of secret leaves hidden."""
    secret, short = set(names(bundle, "train")), bundle.skill.get("spec_shorthand_keys", {})
    split = [(pair.partition("=")[0].strip(), pair) for pair in sets]
    return tuple(f"{name}={HIDDEN}" if short.get(name, name) in secret else pair for name, pair in split)


def put_away(plan: Plan, root: Path) -> list[str]:
    """Move the secrets of `plan.spec`, or of the environment, into the run folder; the spec refers to them there.
    Returns what to say of where they are from.

    Raises `UserError` when a file that the spec refers to is not there, cannot be read, is empty or no text, or holds
    another secret than the run's. In place of the run's own, where that is not there, the environment's is taken.
    """
    reference, told = _said(plan.bundle).get("reference"), list[str]()
    for name, secret in _read(plan.bundle, plan.spec, root, told.append).items():
        if not reference:
            root.chmod(0o700)
            continue
        path = root / FOLDER / name
        _keep(path, secret)
        spec.put(plan.spec, name, reference.replace("{path}", str(path)))
    return told


def check(bundle: ModelBundle, full: Mapping[str, Any]) -> None:
    """Raises `UserError` for a secret of a train spec, or of the environment, that `put_away` could not take: asked
    before a run begins."""
    _read(bundle, full, None, lambda text: None)


def _said(bundle: ModelBundle) -> dict[str, str]:
    return {key: str(value) for key, value in (bundle.skill.get("secrets") or {}).items()}


def _read(
    bundle: ModelBundle, full: Mapping[str, Any], root: Path | None, say: Callable[[str], Any]
) -> dict[str, str]:
    """{secret leaf: secret} of those that a train spec or the environment has; `root`: the run's folder, which may
    hold them already."""
    said, found = _said(bundle), dict[str, str]()
    reference, variable = said.get("reference", ""), said.get("environment", "")
    for name in names(bundle, "train"):
        given, elsewhere = str(spec.get(full, name) or ""), os.environ.get(variable, "")
        if given and reference and refers(given):
            raise UserError(f"{name} {IN_A_SECRET}{instead(bundle)}")
        kept = root / FOLDER / name if root else None
        of_variable = f"{name}: the environment variable {variable}"
        if variable and kept and _is_gone(given, reference, kept):
            found[name] = _in_place_of(kept, elsewhere, reference, of_variable, bundle)
            say(f"{of_variable} is taken for the run's own, as {kept} was not there")
        elif given:
            found[name] = _secret(given, reference, kept, name)
            if elsewhere and _other(elsewhere, reference, found[name]):
                say(f"{name}: the run's own is used; the environment variable {variable} holds another")
        elif elsewhere:
            found[name] = _secret(elsewhere, reference, None, of_variable)
            if root and RunDir(root).run_json.exists():
                say(f"{of_variable} is taken from now on; this run began without one")
    return found


def _is_gone(given: str, reference: str, kept: Path) -> bool:
    """Whether a spec refers to the file of a run's own, which did not come with the run's folder."""
    path = _place(given, reference)
    if path is None or (path.parent.name, path.name) != (FOLDER, kept.name):
        return False
    return not path.exists() and not kept.exists()


def _in_place_of(kept: Path, value: str, reference: str, where: str, bundle: ModelBundle) -> str:
    """The environment's secret, which the model takes for that of the files in the run's folder."""
    must = f"{where} must hold the secret that this run began with, as {kept} is not there (or put that back)"
    if not value:
        raise UserError(f"{must}, but is not set")
    secret, wrong = _secret(value, reference, None, where), bundle.call("check_secret")
    try:
        if wrong is not None:
            wrong(kept.name, secret, kept.parent.parent)
    except Exception as error:
        if getattr(error, "exit_code", None) != 2:
            raise
        raise UserError(f"{must}, but: {error}") from None
    return secret


def _other(value: str, reference: str, secret: str) -> bool:
    try:
        return _secret(value, reference, None, "") != secret
    except UserError:
        return True


def _place(value: str, reference: str) -> Path | None:
    """The file that a value refers to; None for a secret itself."""
    before, _, after = reference.partition("{path}")
    if not (reference and value.startswith(before) and value.endswith(after)):
        return None
    return Path(value[len(before) : len(value) - len(after)]).expanduser()


def _secret(value: str, reference: str, kept: Path | None, where: str) -> str:
    """The secret that a value is, or refers to; `where` is how messages call what it comes from."""
    path = _place(value, reference)
    if path is None:
        return _encodable(value, where)
    if kept and kept.exists() and path.name == kept.name and path.parent.name == FOLDER:
        path = kept  # the run's own, which may have moved with its folder
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except FileNotFoundError:
        raise UserError(f"{where}: {path} must hold the secret, but is not there") from None
    except UnicodeDecodeError:
        raise UserError(f"{where}: {path} must hold the secret {AS_TEXT}") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise UserError(f"{where}: {path} must be a file that holds the secret, but: {why}") from None
    if not secret:
        raise UserError(f"{where}: {path} must hold the secret, but is empty")
    return secret


def _encodable(secret: str, where: str) -> str:
    try:
        secret.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where} must be the secret {AS_TEXT}") from None
    return secret


def _keep(path: Path, secret: str) -> None:
    if path.exists() and _secret(f"{path}", "{path}", None, path.name) != secret:
        raise UserError(f"{path.name} is not the one this run began with; unset it to go on with that one")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_text(path, secret, mode=0o600)


def carry(bundle: ModelBundle, action: str, trained: Mapping[str, Any], full: dict[str, Any]) -> None:
    """Give a later action's spec the secrets (references to them) of the trained one."""
    values = [spec.get(trained, name) for name in names(bundle, "train")]
    for name, value in zip(names(bundle, action), values, strict=False):
        if value:
            spec.put(full, name, value)
