"""JSON with the same limits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from safe_documents.limits import MAX_BYTES, MAX_DEPTH, DocumentError, text_of

HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """A JSON file's value, nested at most MAX_DEPTH deep. Raises `DocumentError`; `OSError`s pass."""
    text = text_of(path, max_bytes)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DocumentError(f"{path}: not valid JSON: {error}") from None
    except RecursionError:
        raise DocumentError(f"{path}: is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:  # a number of more digits than Python takes
        raise DocumentError(f"{path}: {str(error).split(';')[0]}") from None
    if deeper_than(value, MAX_DEPTH):
        raise DocumentError(f"{path}: is nested deeper than {MAX_DEPTH} levels")
    if HALF_CHARACTER.search(text) and not _is_text(value):
        raise DocumentError(f"{path}: must hold Unicode, but has half of a surrogate pair")
    return value


def _is_text(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def deeper_than(value: Any, depth: int) -> bool:
    """Whether lists and mappings are nested more than `depth` deep."""
    level = [value]
    for _ in range(depth + 1):
        level = [part for part in level if isinstance(part, (dict, list))]
        if not level:
            return False
        level = [part for parts in level for part in (parts.values() if isinstance(parts, dict) else parts)]
    return True
