"""The spec of an action as a command reads it: a file, what replaces its leaves, and what its checkpoint says."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoint import complete
from model.errors import UserError
from model.parameters import ACTIONS, MODEL_FILES, of_action
from model.spec import Spec, check_leaves, get, put, read, resolve, stated, with_references
from safe_documents import unsaid


def load(action: str, path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Spec:
    """Read a YAML spec file (None: an empty one), which may hold the sections of other actions too, as TAO's do, apply
    `{dotted name: value}` overrides, resolve references to other keys, add what the checkpoint says that the action is
    given, resolve. Raises `UserError`."""
    where = "command line" if path is None else str(path)
    document = read(Path(path)) if path is not None else {}
    overrides = overrides or {}
    astray = {n: v for n, v in overrides.items() if n.partition(".")[0] in _others(action)}
    for name, value in overrides.items():
        if name not in astray and not (unsaid(value) and get(document, name) is not None):
            put(document, name, value)
    document, wrong = with_references(stated(document))
    document = _own(action, document, where, wrong)
    for name, value in astray.items():  # to be refused
        put(document, name, value)
    if action in MODEL_FILES:  # a checkpoint of ours says the rest
        document = complete(action, document)
    return resolve(action, document, where)


def _own(action: str, document: Spec, where: str, wrong: Mapping[str, str]) -> Spec:
    """A document without the sections of other actions, of which what is wrong is told and keeps this one from nothing.
    Raises `UserError` for a reference of the others that is `wrong`."""
    others = [key for key in document if key in _others(action)]
    for other in others:
        try:
            check_leaves(other, {other: document.pop(other) or {}}, where)
        except UserError as error:
            for line in str(error).splitlines():
                print(f"warning: {line}; {action} does not read it", file=sys.stderr)
    own = {leaf: why for leaf, why in wrong.items() if leaf.split(".")[0] not in others}
    if own:
        raise UserError("\n".join(f"{where}: {leaf} {why}" for leaf, why in own.items()))
    return document


def _others(action: str) -> set[str]:
    """The sections that this action's spec does not have."""
    return set(ACTIONS) - {param.name.partition(".")[0] for param in of_action(action)}
