"""Documents that people write, read for the engine: safe_documents, its errors as ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from automl.errors import SpecError
from safe_documents import MAX_BYTES, DocumentError, read_json, read_yaml


def load_yaml(source: Path | str, where: str = "") -> Any:
    """The value of a YAML file (`source` a Path) or of text; None for an empty one. `where`: how messages call it.

    Raises `SpecError` with file, line and column, also when there is no such file.
    """
    try:
        return read_yaml(source, where)
    except DocumentError as error:
        raise SpecError(str(error)) from None
    except OSError as error:
        raise SpecError(f"{where or source}: cannot be read: {error.strerror}") from None


def load_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """The value of a JSON file of at most `max_bytes`. Raises `SpecError`; `FileNotFoundError` passes."""
    try:
        return read_json(path, max_bytes)
    except DocumentError as error:
        raise SpecError(str(error)) from None


def is_empty(fact: Any) -> bool:
    """Whether a fact says nothing; it may be of any type."""
    return fact is None or (isinstance(fact, (str, list, dict)) and not fact)


def load_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object of a file, or of standard input for `-`; `what` it is, for messages. Raises `SpecError`."""
    try:
        document = load_yaml(sys.stdin.read(), "-") if str(path) == "-" else load_json(path)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(document, dict):
        raise SpecError(f"{path}: {what} must be a JSON object, but got {type(document).__name__}")
    return document
