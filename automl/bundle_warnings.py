"""What a person should know of a model folder before it is searched, not after."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from automl import bundle as bundles
from automl import hooks, skill, spec
from automl.bundle import ModelBundle
from automl.errors import did_you_mean
from automl.programs import find_program
from automl.request import RunRequest

# Not pad_token and its like, nor the keys of a mapping.
SECRET = re.compile(
    r"passw(or)?d$|passphrase$|^token$|(^|_)secret$|(api|access|auth|hub|hf|secret|private|encryption)_?(key|token)$",
    re.I,
)


def foresee(model: ModelBundle, request: RunRequest, full: Mapping[str, Any], searching: bool) -> list[str]:
    """One line for each."""
    found = [*_unread(model), *_of_command(model)]
    if searching and not model.skill.get("metrics") and request.metric is None:
        found.append(
            f"{model.name} declares no metrics: {bundles.NO_METRIC.name} is minimised; another: --metric NAME:maximize"
        )
    if model.epochs_key and spec.get(full, model.epochs_key, spec.MISSING) is spec.MISSING:
        names = [name for name, _ in spec.leaves(full)]
        found.append(
            f"{_where(model)}: epochs_key {model.epochs_key} is no leaf of the spec"
            f"{did_you_mean(model.epochs_key, names)}; no trial is stopped early"
        )
    elif searching and model.epochs(full) is None:
        value = spec.get(full, model.epochs_key) if model.epochs_key else None
        why = (
            f"{model.epochs_key} is {value!r}, no number from 1"
            if model.epochs_key
            else f"{model.name} says nowhere how many epochs a training has (epochs_key)"
        )
        found.append(f"{why}: no trial is stopped early")
    found += [*_roles_of_nothing(model, full), *_open_secrets(model, full)]
    if not model.can_resume:
        found.append(
            f"{model.name} has no leaf with the role resume_model: a trial that is cut off starts anew"
        )
    if not model.checkpoint_glob and not model.can_resume:
        found.append(
            "the winner's checkpoint is handed over if its records name one; else its specs and provenance alone, "
            "and later actions that need one are not run"
        )
    return found


def _where(model: ModelBundle) -> str:
    return str(model.root / "references" / "skill_info.yaml")


def _unread(model: ModelBundle) -> Iterator[str]:
    """Words of skill_info.yaml that look like one that is read. Others may be there: the dialect has more of them."""
    roles = {
        role
        for of_action in model.skill.get("spec_params", {}).values()
        for role in (of_action or {}).values()
    }
    for kind, words, known in (
        ("", model.skill, skill.KEYS),
        ("entry_points: ", model.skill.get("entry_points", {}), skill.PURPOSES),
        ("spec_params: role ", roles, {*skill.ROLES, *model.named_files}),
    ):
        for word in words:
            if word not in known and (hint := did_you_mean(str(word), known, 0.8)):
                yield f"{_where(model)}: {kind}'{word}' is not read{hint}"


def _roles_of_nothing(model: ModelBundle, full: Mapping[str, Any]) -> Iterator[str]:
    """Leaves of the train spec that have a role, but that neither the spec nor the schema has."""
    roles = model.roles("train")
    for leaf, hint in hooks.unknown_leaves(model, full, roles):
        yield f"{_where(model)}: spec_params: {leaf} ({roles[leaf]}) is no leaf of the spec{hint}"


def _open_secrets(model: ModelBundle, full: Mapping[str, Any]) -> Iterator[str]:
    """Leaves that by their names hold a secret, and whose role does not say so."""
    roles = model.roles("train")
    for leaf, value in spec.leaves(full):
        if SECRET.search(leaf.rpartition(".")[2]) and value and isinstance(value, str) and leaf not in roles:
            yield (
                f"{leaf} is named like a secret, and stands in the clear in run.json, specs and pages; the role key "
                f"for it, under spec_params in {_where(model)}, keeps it out"
            )


def _of_command(model: ModelBundle) -> Iterator[str]:
    """What of the training's command line this machine cannot follow."""
    if model.entry("train"):
        return
    program, *words = model.command_words("train", "spec.yaml")
    if not find_program(program):
        yield f"the command of train, '{program}', is not on this machine's PATH: trials here will fail"
    for word in words:
        if word.startswith(str(model.root)) and not Path(word).exists():
            yield f"the command of train names {word}, which is not there: trials here will fail"
        if not Path(word).exists() and (model.root / word).is_file():
            yield (
                f"the command of train names {word}, which is not there, for trials start in a folder of their own; "
                f"did you mean {{model_dir}}/{word}? Trials here will fail"
            )
        for name in re.findall(r"(?<!\$)\{(\w+)\}", word):
            yield (
                f"{_where(model)}: the command of train has {{{name}}}, but filled in are "
                f"{', '.join(f'{{{n}}}' for n in bundles.PLACEHOLDERS)}{did_you_mean(name, bundles.PLACEHOLDERS)}"
            )
