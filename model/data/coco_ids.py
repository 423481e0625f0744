"""Ids that do not stand there as they are written: '1' or '01' for 1, the name of a category for its id."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NUMBER = re.compile(r"[-+]?[0-9]{1,300}")
OTHER_TYPE = "written as another type ('1' for 1)"
BY_NAME = "that are names"
ORPHANS = "boxes of images that are not listed left out"
READINGS = tuple(f"{what} ids {how}" for what in ("image", "category") for how in (OTHER_TYPE, BY_NAME))


class Meant:
    """The ids that a text or number may mean, of `known` ({id: row}) and their names."""

    def __init__(self, known: Mapping[Any, int], names: Sequence[str] = ()) -> None:
        self.by_text = _grouped(zip(map(_as_text, known), known, strict=True))
        self.by_name = _grouped(zip(names, known, strict=False))

    def ids(self, value: Any) -> tuple[list[Any], str]:
        """(ids, how it was read)."""
        same = self.by_text.get(_as_text(value), [])
        named = self.by_name.get(value.strip(), []) if isinstance(value, str) else []
        return list(dict.fromkeys([*same, *named])), OTHER_TYPE if same else BY_NAME


def _grouped(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for text, value in pairs:
        found.setdefault(text, []).append(value)
    return found


def _as_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = str(value).strip() if isinstance(value, (str, float)) or abs(value) < 10**300 else ""
    return str(int(text)) if NUMBER.fullmatch(text) else text
