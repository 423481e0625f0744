"""The spec of an action as a command reads it: a file, what replaces its leaves, and what its checkpoint says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoint import complete
from model.spec import Spec, put, read, resolve

FROM_CHECKPOINT = (
    "evaluate",
    "inference",
    "export",
    "deploy",
)  # actions for which a checkpoint of ours says the rest


def load(action: str, path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Spec:
    """Read a YAML spec file (None: an empty one), apply `{dotted name: value}` overrides, add what the checkpoint says
    that the action is given, resolve."""
    document = read(Path(path)) if path is not None else {}
    for name, value in (overrides or {}).items():
        put(document, name, value)
    where = "command line" if path is None else str(path)
    if action in FROM_CHECKPOINT:
        document = complete(action, document)
    return resolve(action, document, where)
