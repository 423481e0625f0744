"""One parameter as its schema describes it, and which values are valid for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automl.errors import SpaceError
from automl.space.domain import Clauses, Domain, is_number
from automl.space.words import as_number, short

_TYPES: dict[str, tuple[type, str]] = {
    "bool": (bool, "true or false"), "text": (str, "text"), "mapping": (Mapping, "a mapping"),
}  # fmt: skip


@dataclass(frozen=True)
class Leaf:
    """One parameter as its schema describes it. `kind` is int, float, bool, text, choice, ordered, list, subset,
    mapping or null; `domain` is there for int and float, `choices` wherever an enum is."""

    name: str
    path: tuple[str, ...]
    kind: str
    word: str = ""  # the schema's own word for the type
    default: Any = None
    nullable: bool = False
    domain: Domain | None = None
    choices: tuple[Any, ...] = ()
    weights: tuple[float, ...] = ()
    cond: Clauses = ()
    depends_on: tuple[tuple[str | None, str], ...] = ()
    hint: tuple[tuple[str, Any], ...] = ()  # our own search hint: low, high, log
    active_when: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    items: Leaf | None = None
    bounds_by_item: tuple[Domain, ...] = ()  # of a list whose minimum or maximum is a list
    min_items: int = 0
    max_items: int | None = None
    unique: bool = False
    pattern: str | None = None
    branches: tuple[Leaf, ...] = ()  # anyOf: what else is valid, though not searched
    unread: tuple[str, ...] = ()  # keywords that restrict it in ways we do not model

    def typed(self, value: Any) -> Any:
        """A value in the parameter's own type where that loses nothing: "1e-4" of a float is a number."""
        if self.kind == "list" and isinstance(value, (list, tuple)):
            kind = self.items.kind if self.items else "float"
            return [coerced(element, kind) for element in value]
        return coerced(value, self.kind, self.choices)

    def problem(self, value: Any) -> str | None:
        """Why the value is not valid here, in words that follow the name; None when it is."""
        if value is None and self.nullable:
            return None
        own = self._own_problem(value)
        return None if own and any(branch.problem(value) is None for branch in self.branches) else own

    def _own_problem(self, value: Any) -> str | None:
        if self.kind in ("subset", "list"):
            return self._list_problem(value) or self._element_problem(value)
        if self.choices:
            return _not_among(value, self.choices)
        if self.domain:
            return self.domain.problem(value)
        wanted, noun = _TYPES.get(self.kind, (object, ""))
        if not isinstance(value, wanted):
            return f"must be {noun}, but got {value!r}"
        if self.pattern and isinstance(value, str) and not _matches(self.pattern, value):
            return f"must match {self.pattern}, but got {value!r}"
        return None

    def _list_problem(self, value: Any) -> str | None:
        if not isinstance(value, (list, tuple)):
            return f"must be a list, but got {value!r}"
        if len(value) < self.min_items or (self.max_items is not None and len(value) > self.max_items):
            most = "" if self.max_items is None else f" and at most {self.max_items}"
            return f"must have at least {self.min_items}{most} elements, but got {value!r}"
        distinct = self.unique or (self.kind == "subset" and self.choices)
        if distinct and any(same(a, b) for i, a in enumerate(value) for b in value[:i]):
            return f"must not repeat an element, but got {value!r}"
        return None

    def _element_problem(self, value: Sequence[Any]) -> str | None:
        for i, element in enumerate(value):
            domain = self.item_domain(i)
            wrong = _not_among(element, self.choices) if self.kind == "subset" and self.choices else None
            wrong = wrong or (self.items.problem(element) if self.items else None)
            wrong = wrong or (domain.problem(element) if domain and is_number(element) else None)
            if wrong:
                return f"[{i}] {wrong}"
        return None

    def item_domain(self, index: int) -> Domain | None:
        """The bounds of one element of a list of numbers, when the list has bounds."""
        if self.bounds_by_item:
            return self.bounds_by_item[min(index, len(self.bounds_by_item) - 1)]
        return self.items.domain if self.items else None


def _not_among(value: Any, choices: tuple[Any, ...]) -> str | None:
    if any(same(value, choice) for choice in choices):
        return None
    return f"must be one of {', '.join(map(short, choices))}, but got {value!r}"


def same(a: Any, b: Any) -> bool:
    """Equality that tells True from 1."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return True


def coerced(value: Any, kind: str, choices: Sequence[Any] = ()) -> Any:
    """A value in a parameter's own type where that loses nothing; otherwise the value as it is."""
    if value is None or any(same(value, choice) for choice in choices):
        return value
    plain = str(value).strip().lower()
    if choices and kind in ("choice", "ordered"):
        return next((c for c in choices if str(c).strip().lower() == plain), value)
    if kind == "bool" and isinstance(value, str):
        return {"true": True, "false": False}.get(plain, value)
    if kind in ("int", "float"):
        return _as_number(value, kind)
    return list(value) if isinstance(value, tuple) else value


def _as_number(value: Any, kind: str) -> Any:
    try:
        value = float(value) if isinstance(value, str) else value
    except ValueError:
        return value
    if not is_number(value):
        return list(value) if isinstance(value, tuple) else value
    if kind == "float":
        return float(value)
    return int(value) if value == int(value) else value


def checked_weights(raw: Any, count: int, where: str) -> tuple[float, ...]:
    """`option_weights` as `count` shares that sum to 1. Raises `SpaceError` naming the parameter."""
    listed = isinstance(raw, (list, tuple))
    shares = [as_number(w, where, "option_weights") for w in raw] if listed else []
    if len(shares) != count or not all(is_number(w) and w >= 0 for w in shares) or not any(shares):
        raise SpaceError(f"{where}: option_weights must be {count} numbers >= 0, not all 0, but got {raw!r}")
    total = sum(w for w in shares if w is not None)
    return tuple((w or 0.0) / total for w in shares)
