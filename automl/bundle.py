"""A model's name or folder -> its schemas, templates and entry points.

A model is a folder with `schemas/` and `references/skill_info.yaml`. An installed one is found by name through
the `automl.models` entry points; any other by its path, no code needed.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

from automl.errors import UserError, did_you_mean

GROUP = "automl.models"


@dataclass(frozen=True)
class ModelBundle:
    name: str
    root: Path
    skill: dict[str, Any]  # references/skill_info.yaml

    @property
    def actions(self) -> list[str]:
        return list(self.skill["actions"])

    def schema_path(self, action: str) -> Path:
        return self.root / "schemas" / f"{action}.schema.json"

    def schema(self, action: str) -> dict[str, Any]:
        """The action's schema. Raises `UserError` naming the file when it is missing or broken."""
        path = self.schema_path(action)
        try:
            return dict(json.loads(path.read_text()))
        except FileNotFoundError:
            raise UserError(f"{path}: no such schema") from None
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: not valid JSON: {error}") from None

    def template(self, action: str) -> dict[str, Any]:
        """The action's default spec."""
        path = self.root / "references" / f"spec_template_{action}.yaml"
        if not path.is_file():
            raise UserError(f"{path}: no such template")
        return dict(yaml.safe_load(path.read_text()))

    def preset(self, name: str) -> tuple[dict[str, Any], Path]:
        """A named partial train spec, `references/preset_<name>.yaml`, and its path."""
        path = self.root / "references" / f"preset_{name}.yaml"
        if not path.is_file():
            known = sorted(p.stem.removeprefix("preset_") for p in path.parent.glob("preset_*.yaml"))
            raise UserError(
                f"no preset '{name}' (there are {', '.join(known) or 'none'}){did_you_mean(name, known)}"
            )
        return dict(yaml.safe_load(path.read_text())), path

    def command(self, action: str, spec_path: str) -> tuple[str, ...]:
        """The command line that runs an action on a spec file."""
        words = str(self.skill["actions"][action]["command"]).split()
        return tuple(word.replace("{config_path}", spec_path) for word in words)

    def spec_key(self, action: str, role: str) -> str | None:
        """The spec key that plays a role ("resume_model", "parent_model", "create_onnx_file") in an action."""
        roles = self.skill.get("spec_params", {}).get(action, {})
        return next((str(key) for key, value in roles.items() if value == role), None)

    def entry(self, purpose: str) -> str | None:
        """The entry point's `module:function`, or None when the model has none for this purpose."""
        value = self.skill.get("entry_points", {}).get(purpose)
        return str(value) if value else None

    def launch(self, action: str) -> str:
        """How an action is started on several GPUs: "per_gpu", one process each (the default of an entry point), or
        "once", since it starts its own (of a command). Raises `UserError` for another word in skill_info.yaml."""
        default = "per_gpu" if self.entry(action) else "once"
        word = str(self.skill["actions"][action].get("launch", default))
        if word not in ("once", "per_gpu"):
            raise UserError(
                f"{self.root / 'references' / 'skill_info.yaml'}: actions.{action}.launch must be once or per_gpu, "
                f"but got '{word}'"
            )
        return word

    def call(self, purpose: str) -> Callable[..., Any] | None:
        """The entry point itself, imported."""
        target = self.entry(purpose)
        if target is None:
            return None
        module, _, function = target.partition(":")
        return getattr(importlib.import_module(module), function)


def resolve(model: str) -> ModelBundle:
    """Find a model by installed name or by folder. Raises `UserError` with the known names."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if model in found:
        root = Path(found[model].load()())
    elif Path(model).is_dir():
        root = Path(model).resolve()
    else:
        known = sorted(found)
        raise UserError(f"no model '{model}' (installed: {', '.join(known)}){did_you_mean(model, known)}")
    info = root / "references" / "skill_info.yaml"
    if not info.is_file():
        raise UserError(f"{info}: a model folder must have it")
    skill = yaml.safe_load(info.read_text())
    return ModelBundle(skill.get("network_arch", root.name), root, skill)
