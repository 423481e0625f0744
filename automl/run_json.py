"""run.json on disk: written whole and without secrets, read with every part checked before anything uses it."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automl.documents import load_json
from automl.errors import UserError
from automl.locks import is_running
from safe_documents import map_texts

FORMAT = 2  # 1: request.epochs was the budget, now request.total_epochs
MAX_BYTES = 64 << 20
PARTS: dict[str, type] = {  # those of this version's format; a run of an earlier one may lack the optional ones
    "format": int, "study": str, "request": dict, "model": str, "searching": bool, "spec": dict, "space_digest": str,
    "root": str, "model_reference": str, "metric": dict, "metric.name": str, "metric.maximize": bool,
    "engine_keys": dict, "reasons": dict, "latency": dict, "said": dict, "fixed": dict, "model_state": dict,
    "sources": dict, "filled": dict, "facts": dict, "facts.train": dict, "facts.val": dict, "facts.test": dict,
    "facts.classes": list, "versions": dict, "machine": dict,
    "begun": str, "starts": list, "later_facts": list,
}  # fmt: skip
ENTRIES: dict[str, dict[str, type]] = {  # of the lists among them
    "starts": {"when": str, "versions": dict, "machine": dict},
    "later_facts": {"when": str, "facts": dict},
}
NEEDED = ("study", "request", "spec", "searching", "space_digest", "model")
NULLABLE = ("engine_keys", "model_reference", "latency")
ABSENT = object()
METRIC = {"name", "maximize"}
WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
}


def read(path: Path) -> dict[str, Any]:
    """The document. Raises `UserError` when there is none, it is damaged, or of a later format."""
    try:
        document = load_json(path, MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        if (path.parent / "trials").is_dir():
            raise UserError(f"{path}: is gone{_without(path)}") from None
        if is_running(path.parent):
            raise UserError(
                f"{path.parent}: a run is being prepared there; look again once its trials begin"
            ) from None
        raise UserError(f"{path.parent}: not a run folder (no run.json); automl run makes one") from None
    except UserError as error:
        raise UserError(f"{error}{_without(path)}") from None
    if not isinstance(document, dict):
        raise _damaged(path, "it", "a mapping", document)
    later = document.get("format", 0)
    if type(later) is int and later > FORMAT:
        raise UserError(f"{path}: format {later} is newer than this version's {FORMAT}")
    check_parts(path, document)
    if later in (0, 1) and "epochs" in document["request"]:
        document["request"]["total_epochs"] = document["request"].pop("epochs")
    check_request(path, document["request"])
    return document


def _without(path: Path) -> str:
    """What is there without it."""
    return (
        f", and the run cannot go on without it; its trials and their checkpoints are in {path.parent / 'trials'}, "
        f"what was handed over in {path.parent / 'best'}"
    )


def check_parts(path: Path, document: Mapping[str, Any]) -> None:
    missing = [name for name in NEEDED if name not in document]
    if missing:
        raise UserError(f"{path}: is damaged: it has no '{missing[0]}'; put a copy of it back")
    for name, kind in PARTS.items():
        node: Any = document
        for key in name.split("."):
            node = node.get(key, ABSENT) if isinstance(node, Mapping) else ABSENT
        if node is not ABSENT and type(node) is not kind and not (node is None and name in NULLABLE):
            raise _damaged(path, name, WORDS[kind], node)
    for name, keys in ENTRIES.items():
        for entry in document.get(name, ()):
            if not (isinstance(entry, dict) and all(type(entry.get(k)) is kind for k, kind in keys.items())):
                raise _damaged(path, name, f"a list of mappings with {', '.join(keys)}", entry)
    if "metric" in document and set(document["metric"]) != METRIC:
        raise _damaged(path, "metric", "a mapping of name and maximize", document["metric"])


def check_request(path: Path, request: Mapping[str, Any]) -> None:
    """Each option that is there must be of its field's type; options unknown here are told when the run goes on."""
    from automl.request import RunRequest

    for name, hint in typing.get_type_hints(RunRequest).items():
        if name in request and not fits(request[name], hint):
            raise _damaged(path, f"request.{name}", f"of the kind {_said(hint)}", request[name])


def fits(value: Any, hint: Any) -> bool:
    """Whether a value as JSON has it is of a field's type."""
    if isinstance(hint, types.UnionType):
        return any(fits(value, one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return isinstance(value, list) and all(isinstance(v, str) for v in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is hint


def _said(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _damaged(path: Path, name: str, wanted: str, got: Any) -> UserError:
    shown = repr(got)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return UserError(f"{path}: is damaged: {name} must be {wanted}, but is {shown}; put a copy of it back")


def moved(node: Any, before: str | None, root: Path, mark: str = "") -> Any:
    """The same of any document of a run whose folder was `before`; None: it is not known. `mark`: what stands before
    the path where a text refers to a secret (`secret_leaves.mark`)."""
    old, now = (before or "").rstrip("/"), str(root)
    if not old or old == now:
        return node

    def at(text: str) -> str:
        begun = mark if mark and text.startswith(f"{mark}{old}/") else ""
        path = text[len(begun) :]
        return begun + now + path[len(old) :] if path == old or path.startswith(f"{old}/") else text

    return map_texts(node, at)
