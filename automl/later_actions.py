"""What a spec says of the actions after training: a file in TAO's dialect holds the sections of all of them."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping
from typing import Any

from automl import hooks, spec
from automl.bundle import ModelBundle
from automl.errors import SpecError
from automl.spec import SourcedSpec


def take_out(merged: SourcedSpec, model: ModelBundle) -> dict[str, dict[str, Any]]:
    """{action: its section}, taken out of a train spec that has no such section itself. Raises `SpecError` for what
    that action does not know or forbids."""
    template = model.template("train")
    others = [action for action in model.actions if action in merged.spec and action not in template]
    if others and model.schema_path("train").is_file():
        others = [action for action in others if action not in model.schema("train")["properties"]]
    found = {action: _checked(model, action, merged.spec.pop(action), merged.sources) for action in others}
    return found | {action: given for action in model.actions if (given := _shared(merged, action))}


def _shared(merged: SourcedSpec, action: str) -> dict[str, Any]:
    """What was set of a section that the train spec has too, and keeps."""
    names = [n for n, s in merged.sources.items() if n.startswith(f"{action}.") and s != spec.TEMPLATE]
    there = {
        name: spec.get(merged.spec, name) for name in names if action != "train" and action in merged.spec
    }
    return dict(spec.nest(there).get(action, {}))


def _checked(model: ModelBundle, action: str, section: Any, sources: Mapping[str, str]) -> dict[str, Any]:
    """What is set of a section."""
    template = model.template(action)
    full = SourcedSpec(copy.deepcopy(template))
    full.overlay({action: {} if section is None else section}, action)
    if model.schema_path(action).is_file():
        spec.validate(full.spec, model.schema(action), sources, template)
    else:
        known = {name for name, _ in spec.leaves(template)}
        for name, hint in spec.unknown(template, known, full.sources):
            if not any(name.startswith(f"{whole}.") for whole in known):
                raise SpecError(f"{sources.get(name, action)}: unknown key '{name}'{hint}")
    hooks.check_spec(model, full.spec, action)
    return dict(spec.nest({name: spec.get(full.spec, name) for name in full.sources}).get(action, {}))


def leaves(model: ModelBundle, engine_keys: Mapping[str, Any], action: str) -> dict[str, Any]:
    """{leaf: value} that an action's spec takes from such a section: all but the files that the winner brings."""
    given = _given(model, engine_keys, action)
    return {name: value for name, value in given.items() if not brought(model, action, name)}


def passed_over(
    model: ModelBundle, engine_keys: Mapping[str, Any], merged: SourcedSpec, placed: bool = False
) -> list[str]:
    """What to say of the leaves that are not taken; `placed`: the run's folder was named by its option."""
    names = [
        name
        for action in model.actions
        for name, value in _given(model, engine_keys, action).items()
        if value and brought(model, action, name)
    ]
    lines = [] if placed else _folders(model, merged)
    if names:
        source = merged.sources.get(names[0], "the spec")
        lines.append(f"{', '.join(names)} of {source} will be the winner's own files and folders instead")
    return lines


def _folders(model: ModelBundle, merged: SourcedSpec) -> list[str]:
    """Of the leaves that say where a training writes: each trial is given its own."""
    template = model.template("train")
    named = {
        name: value
        for name in model.output_keys("train")
        if name in merged.sources
        and (value := spec.get(merged.spec, name)) not in (None, "", spec.MANDATORY, spec.get(template, name))
    }
    if not named:
        return []
    first = next(iter(named))
    return [
        f"{', '.join(named)} of {merged.sources[first]} is passed over, as each trial writes to a folder of its own "
        f"in the run's; to say where that lies: --results-dir {shlex.quote(str(named[first]))}"
    ]


def _given(model: ModelBundle, engine_keys: Mapping[str, Any], action: str) -> dict[str, Any]:
    """A mapping that is a leaf by itself, such as colours by class, is whole."""
    if not engine_keys.get(action):
        return {}
    return dict(spec.leaves({action: engine_keys[action]}, known=dict(spec.leaves(model.template(action)))))


def brought(model: ModelBundle, action: str, name: str) -> bool:
    """The leaf names a file that the winner has of its own, by its role or by `files`."""
    return name in model.roles(action) or model.is_settled(name)
