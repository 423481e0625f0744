"""Reading the spellings that schemas use for numbers and booleans, and writing values for people."""

from __future__ import annotations

import json
import math
from typing import Any

from automl.errors import SpaceError

MISSING = "???"  # OmegaConf's mark for "must be given"


def is_missing(value: Any) -> bool:
    return isinstance(value, str) and value == MISSING


def as_number(raw: Any, where: str, key: str) -> float | None:
    """A number, "0.5", "inf"; None for nothing. Raises `SpaceError` naming the parameter and the key."""
    if raw is None or raw == "":
        return None
    if isinstance(raw, str):
        try:
            raw = float(raw.strip())
        except ValueError:
            raise SpaceError(f"{where}: {key} must be a number, but got {raw!r}") from None
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or raw != raw:
        raise SpaceError(f"{where}: {key} must be a number, but got {raw!r}")
    if abs(raw) > 1e300 or (isinstance(raw, int) and abs(raw) > 2**53):
        return math.inf if raw > 0 else -math.inf  # beyond what a double counts exactly: no bound to speak of
    return raw


def as_bool(raw: Any, where: str, key: str) -> bool | None:
    """True, "TRUE", "false", 1; None for nothing or "". Raises `SpaceError` naming the parameter and the key."""
    if raw is None or isinstance(raw, bool):
        return raw
    word = raw.strip().lower() if isinstance(raw, str) else raw
    if word in ("true", "false", 1, 0):
        return word in ("true", 1)
    if word == "":
        return None
    raise SpaceError(f"{where}: {key} must be true or false, but got {raw!r}")


def short(value: Any) -> str:
    """A value as a person writes it: 0.0002, true, [90, 180]; a long list by its ends."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (int, float)):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    if isinstance(value, (list, tuple)) and len(value) > 6:
        return f"[{short(value[0])}, {short(value[1])}, ..., {short(value[-1])}]"
    return value if isinstance(value, str) else json.dumps(value, default=str)
