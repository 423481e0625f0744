"""references/skill_info.yaml: what it must look like. What it means is told in bundle.py and in
references/trial_contract.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from automl import spec
from automl.errors import UserError, did_you_mean
from automl.metric import DIRECTIONS

KINDS: dict[type, tuple[str, str]] = {
    dict: ("a mapping", "metrics copies files stages options entry_points spec_params spec_shorthand_keys cpu_when"),
    list: ("a list", "finite carries packages"),
    str: ("text", "network_arch epochs_key batch_key samples checkpoint_glob next gpu_spec_key"),
}  # fmt: skip


def load(root: Path) -> dict[str, Any]:
    """The document of a model folder, checked. Raises `UserError` naming the file and every mistake."""
    path = root / "references" / "skill_info.yaml"
    if not path.is_file():
        raise UserError(f"{path}: a model folder must have it")
    skill = spec.load(path)
    if problems := [*_kinds(skill), *_actions(skill)]:
        raise UserError("\n".join(f"{path}: {problem}" for problem in problems))
    return skill


def _kinds(skill: dict[str, Any]) -> list[str]:
    problems = [
        f"{name} must be {wanted}, but got {skill[name]!r}"
        for kind, (wanted, names) in KINDS.items()
        for name in names.split()
        if skill.get(name) is not None and not isinstance(skill[name], kind)
    ]
    metrics = skill.get("metrics")
    for name, way in (metrics if isinstance(metrics, dict) else {}).items():
        if way not in DIRECTIONS:
            problems.append(
                f"metrics.{name} must be maximize or minimize, but got {way!r}{did_you_mean(str(way), DIRECTIONS)}"
            )
    return problems


def _actions(skill: dict[str, Any]) -> list[str]:
    actions = skill.get("actions")
    if not isinstance(actions, dict) or "train" not in actions:
        return [f"actions must name train, but got {actions!r}"]
    problems = [
        f"actions.{name} must be a mapping, but got {action!r}"
        for name, action in actions.items()
        if not isinstance(action, dict)
    ]
    entries, stages = skill.get("entry_points"), skill.get("stages")
    told = isinstance(entries, dict) and entries.get("train")
    if not problems and not told and not actions["train"].get("command"):
        problems.append("actions.train.command must be given, or entry_points.train")
    for name, stage in (stages if isinstance(stages, dict) else {}).items():
        if name not in actions:
            problems.append(f"stages: '{name}' is no action{did_you_mean(str(name), actions)}")
        elif not isinstance(stage or {}, dict):
            problems.append(f"stages.{name} must be a mapping, but got {stage!r}")
    return problems
