"""references/skill_info.yaml: what it must look like. What it means is told in bundle.py and in
references/trial_contract.md."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl import spec
from automl.errors import UserError, did_you_mean
from automl.metric import DIRECTIONS

KINDS: dict[type, tuple[str, str]] = {
    dict: (
        "a mapping",
        "deploy metrics figures copies files stages options entry_points spec_params spec_shorthand_keys cpu_when",
    ),
    list: ("a list", "finite carries unread packages"),
    str: (
        "text",
        "network_arch epochs_key seed_key batch_key samples checkpoint_glob next here gpu_spec_key cpu_preset",
    ),
}  # fmt: skip
INNER: dict[str, tuple[type, str]] = {
    "spec_params": (dict, "a mapping"), "stages": (dict, "a mapping"), "cpu_when": (list, "a list"),
    "copies": (str, "text"), "files": (str, "text"), "options": (str, "text"), "spec_shorthand_keys": (str, "text"),
}  # fmt: skip
KEYS = {*" ".join(names for _, names in KINDS.values()).split(), *"""
    actions automl_enabled data_format automl_default_parameters automl_disabled_parameters gpu_ids_key nodes_key
    interpolates recommended secrets""".split()}  # fmt: skip
PURPOSES = """preload train inspect_data picture settings check_spec demo_data estimate describe_start describe_data
    fetch fetch_named latency package package_weights predict time_latency
    data_changes check_secret""".split()  # fmt: skip
ROLES = ("output_dir", "resume_model", "parent_model")


@dataclass(frozen=True)
class Stage:
    """An action that may run on the winner. `needs`: leaves without which it is left out; `shows`: figures of its
    metrics.json that a person wants to see; `default_too`: it also runs on the default configuration, to compare.
    With `sets` (leaf, value; `{best}` is the winner's folder) it is another run of an `action`, in a folder of its own,
    `after` a stage that went well, and asked for with that one."""

    name: str
    needs: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    default_too: bool = False
    action: str = ""
    after: str = ""
    report: str = ""  # a file beside its metrics.json that the report shows
    sets: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "action", self.action or self.name)

    def lacks(self, full: Mapping[str, Any]) -> list[str]:
        """The leaves that it needs and a train spec does not give."""
        return [key for key in self.needs if not spec.get(full, key)]


def stages(skill: Mapping[str, Any]) -> tuple[Stage, ...]:
    """What runs on the winner when nothing else is asked for."""
    found = skill.get("stages") or {}
    return tuple(
        Stage(
            name,
            tuple(given.get("needs", ())),
            tuple(given.get("shows", ())),
            bool(given.get("default_too")),
            str(given.get("action") or ""),
            str(given.get("after") or ""),
            str(given.get("report") or ""),
            tuple((str(leaf), value) for leaf, value in (given.get("sets") or {}).items()),
        )
        for name, given in ((str(n), g or {}) for n, g in found.items())
    )


def words_of(command: Any) -> list[str]:
    """A command's words: a list of them, or text as a shell would part it. Raises `ValueError`."""
    if isinstance(command, list):
        return [str(word) for word in command]
    return shlex.split(str(command).replace("\\\n", " "))


def load(root: Path) -> dict[str, Any]:
    """The document of a model folder, checked. Raises `UserError` naming the file and every mistake."""
    path = root / "references" / "skill_info.yaml"
    if not path.is_file():
        raise UserError(f"{path}: a model folder must have it")
    skill = {key: value for key, value in spec.load(path).items() if value is not None}
    if problems := [*_kinds(skill), *_actions(skill), *_deploys(skill)]:
        raise UserError("\n".join(f"{path}: {problem}" for problem in problems))
    for name in INNER.keys() - {
        "files",
        "stages",
    }:  # null says something there; elsewhere it is as good as nothing
        if name in skill:
            skill[name] = {key: value for key, value in skill[name].items() if value is not None}
    return skill


def _deploys(skill: dict[str, Any]) -> list[str]:
    action, known = _mapping(skill, "deploy").get("action"), _mapping(skill, "actions")
    if action is None or action in known:
        return []
    return [f"deploy.action '{action}' is no action{did_you_mean(str(action), known)}"]


def _kinds(skill: dict[str, Any]) -> list[str]:
    problems = [
        f"{name} must be true or false, but got {skill[name]!r}"
        for name in ("automl_enabled", "interpolates")
        if not isinstance(skill.get(name, True), bool)
    ]
    problems += [
        f"{name} must be {wanted}, but got {skill[name]!r}"
        for kind, (wanted, names) in KINDS.items()
        for name in names.split()
        if name in skill and not isinstance(skill[name], kind)
    ]
    for name, (kind, wanted) in INNER.items():
        for key, value in _mapping(skill, name).items():
            if value is not None and not isinstance(value, kind):
                problems.append(f"{name}.{key} must be {wanted}, but got {value!r}")
    for name, way in _mapping(skill, "metrics").items():
        if way not in tuple(DIRECTIONS):
            problems.append(
                f"metrics.{name} must be maximize or minimize, but got {way!r}{did_you_mean(str(way), DIRECTIONS)}"
            )
    return problems


def _mapping(skill: dict[str, Any], name: str) -> dict[str, Any]:
    value = skill.get(name)
    return value if isinstance(value, dict) else {}


def _actions(skill: dict[str, Any]) -> list[str]:
    actions = skill.get("actions")
    if not isinstance(actions, dict) or "train" not in actions:
        return [f"actions must name train, but got {actions!r}"]
    problems = [
        f"actions.{name} must be a mapping, but got {action!r}"
        for name, action in actions.items()
        if not isinstance(action, dict)
    ]
    told = _mapping(skill, "entry_points").get("train")
    if not problems and not told and not actions["train"].get("command"):
        problems.append("actions.train.command must be given, or entry_points.train")
    for name, action in actions.items() if not problems else ():
        try:
            words = words_of(action.get("command") or "x")
        except ValueError as error:
            words, problems = ["x"], [*problems, f"actions.{name}.command: {error}"]
        if not words:
            problems.append(f"actions.{name}.command must name a program")
    before: list[str] = []
    for name, stage in _mapping(skill, "stages").items():
        after = stage.get("after") if isinstance(stage, dict) else None
        if after and after not in before:
            problems.append(
                f"stages.{name}.after must name a stage before it, but got '{after}'{did_you_mean(str(after), before)}"
            )
        if isinstance(stage, dict) and stage.get("default_too") and stage.get("sets"):
            problems.append(f"stages.{name}: default_too and sets exclude each other")
        if not re.fullmatch(r"\w[\w.-]*", str(name)) or name == "train":
            problems.append(f"stages: a name must be of letters and digits, and not train, but got '{name}'")
        before.append(str(name))
        action = stage.get("action", name) if isinstance(stage, dict) else name
        if action not in actions:
            problems.append(f"stages: '{action}' is no action{did_you_mean(str(action), actions)}")
        if isinstance(stage, dict) and not isinstance(stage.get("sets", {}), dict):
            problems.append(f"stages.{name}.sets must be a mapping, but got {stage['sets']!r}")
        for part in ("needs", "shows"):
            if isinstance(stage, dict) and not isinstance(stage.get(part, []), list):
                problems.append(f"stages.{name}.{part} must be a list, but got {stage[part]!r}")
    return problems
