"""`automl_policy`: on (search), off (train one plain spec), or on but not runnable, and why."""

from __future__ import annotations

from typing import Any

from automl.bundle import ModelBundle
from automl.errors import PolicyError, UserError

ON = ("on", "true", "yes", "enabled")
OFF = ("off", "false", "no", "disabled")


def parse(value: Any, where: str) -> bool:
    """True for on. YAML reads a bare `off` as the boolean False, so booleans count. Raises `UserError` else."""
    word = str(value).strip().lower()
    if word in ON or word in OFF:
        return word in ON
    raise UserError(f"{where}: automl_policy must be on or off, but got {value!r}")


def resolve(bundle: ModelBundle, from_cli: str | None, from_file: Any) -> bool:
    """Whether to search: the command line wins over the spec file, the default is on.

    Raises `PolicyError` ("AutoML is enabled but not runnable") when the model cannot be searched.
    """
    if from_cli is not None:
        on = parse(from_cli, "--automl-policy")
    elif from_file is not None:
        on = parse(from_file, "spec file")
    else:
        on = True
    if on and (reason := not_runnable(bundle)):
        raise PolicyError(
            f"AutoML is enabled but not runnable: {reason}. Mend it, or train one plain spec with --automl-policy off"
        )
    return on


def not_runnable(bundle: ModelBundle) -> str | None:
    """Why this model cannot be searched, or None."""
    if not bundle.skill.get("automl_enabled", True):
        return f"{bundle.name} says automl_enabled: false"
    try:
        schema = bundle.schema("train")
    except UserError as error:
        return f"the train schema cannot be read ({error})"
    if not isinstance(schema.get("properties"), dict):
        return f"{bundle.schema_path('train')} has no properties"
    return None
