"""What results call the classes: the names that a model file recorded, or a class map's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.data.sources import stage_file
from model.errors import UserError

LEAF = "dataset.infer_data_sources.classmap"


def class_names(spec: Mapping[str, Any], recorded: list[dict[str, Any]]) -> dict[int, str]:
    """{label: name}: what the model file recorded, or what the class map's lines (the first is id 1) call it.

    A class map, which may lie at a URL, may also list the recorded names in their order. One that gives a recorded name
    to another class, or names classes that are not recorded and leaves recorded ones out, raises `UserError`; other
    names for the recorded classes are said.
    """
    names = {int(c["id"]): str(c["name"]) for c in recorded}
    classmap = spec["dataset"]["infer_data_sources"]["classmap"]
    if not classmap:
        return names
    lines = _lines(classmap)
    if [line for line in lines if line] == [names[i] for i in sorted(names)]:
        return names
    given = {i + 1: line for i, line in enumerate(lines) if line}
    for i, name in given.items():
        if name in names.values() and names.get(i) != name:
            raise UserError(_contradiction(classmap, i, name, names))
    if (spare := given.keys() - names.keys()) and (unnamed := names.keys() - given.keys()):
        raise UserError(_beside(classmap, min(spare), min(unnamed), names))
    for i, name in given.items():
        if names.get(i, name) != name:
            print(f"warning: {classmap} calls class {i} {name}, which the model recorded as {names[i]}")
    return names | given


def _lines(classmap: str) -> list[str]:
    path = stage_file(classmap)
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError:
        raise UserError(f"{LEAF}: {classmap} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{LEAF}: {classmap} cannot be read as text ({error})") from None


def _beside(classmap: str, line: int, unnamed: int, names: Mapping[int, str]) -> str:
    return (
        f"{LEAF}: line {line} of {classmap} calls class {line}, which the model does not have, and no line calls its "
        f"class {unnamed} ({names[unnamed]}), for the first line is class 1; leave the class map out to use the "
        "recorded names"
    )


def _contradiction(classmap: str, i: int, name: str, names: Mapping[int, str]) -> str:
    own = f"recorded as {names[i]}" if i in names else "not recorded"
    other = next(k for k, known in names.items() if known == name)
    return (
        f"{LEAF}: line {i} of {classmap} calls class {i} {name}, but in the model that class is {own} and {name} is "
        f"class {other}; leave the class map out to use the recorded names"
    )
