"""The spec of an action as a command reads it: a file, what replaces its leaves, and what its checkpoint says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoint import complete
from model.parameters import ACTIONS, of_action
from model.spec import Spec, check_leaves, put, read, resolve

FROM_CHECKPOINT = (
    "evaluate",
    "inference",
    "export",
    "deploy",
)  # actions for which a checkpoint of ours says the rest


def load(action: str, path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Spec:
    """Read a YAML spec file (None: an empty one), which may hold the sections of other actions too, as TAO's do, apply
    `{dotted name: value}` overrides, add what the checkpoint says that the action is given, resolve. Raises
    `UserError`."""
    where = "command line" if path is None else str(path)
    document = _own(action, read(Path(path)), where) if path is not None else {}
    for name, value in (overrides or {}).items():
        put(document, name, value)
    if action in FROM_CHECKPOINT:
        document = complete(action, document)
    return resolve(action, document, where)


def _own(action: str, document: Spec, where: str) -> Spec:
    """A file without the sections of other actions, which must be right all the same."""
    sections = {param.name.partition(".")[0] for param in of_action(action)}
    for other in [key for key in document if key in ACTIONS and key not in sections]:
        check_leaves(other, {other: document.pop(other) or {}}, where)
    return document
