"""JSON Schema of what files of a run hold: a stranger may have written them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NO_NUL = r"\A[^\0]*\Z"  # a path of a text with one is a `ValueError`
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31}
COUNT_OR_NULL = COUNT | {"type": ["integer", "null"]}
TEXT = {"type": "string", "pattern": _NO_NUL}
TEXT_OR_NULL = {"type": ["string", "null"], "pattern": _NO_NUL}


def fits(form: Mapping[str, Any], document: Any) -> bool:
    """Whether a document is of a form."""
    import jsonschema

    return bool(jsonschema.Draft202012Validator(form).is_valid(document))
