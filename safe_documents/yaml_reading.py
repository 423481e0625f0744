"""YAML's events, put together into plain values under the limits."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from safe_documents.limits import MAX_BYTES, MAX_DEPTH, MAX_VALUES, DocumentError, text_of
from safe_documents.scalars import PLAIN, scalar

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
KINDS = {yaml.SequenceStartEvent: "seq", yaml.MappingStartEvent: "map"}


def read_yaml(source: Path | str, where: str = "") -> Any:
    """The value of a YAML file (`source` a Path) or text; None for an empty one. `where`: how messages call it.

    Raises `DocumentError` with line and column; for a file `FileNotFoundError` and other `OSError`s pass.
    """
    where = where or (str(source) if isinstance(source, Path) else "")
    text = text_of(source, MAX_BYTES) if isinstance(source, Path) else source
    prefix = f"{where}: " if where else ""
    try:
        return _Builder(yaml.parse(text, Loader=LOADER)).document()
    except yaml.YAMLError as error:
        told = " ".join(str(error).split()).replace(' in "<unicode string>",', " at")
        raise DocumentError(f"{prefix}not valid YAML: {told}") from None
    except _Refused as refused:
        raise DocumentError(f"{prefix}{refused}") from None
    except RecursionError:  # of PyYAML's parser in Python, where there is no libyaml
        raise DocumentError(f"{prefix}is nested deeper than {MAX_DEPTH} levels") from None


class _Refused(Exception):
    def __init__(self, event: Any, what: str) -> None:
        mark = event.start_mark
        super().__init__(f"line {mark.line + 1}, column {mark.column + 1}: {what}")


class _Builder:
    def __init__(self, events: Iterator[Any]) -> None:
        self.events = events
        self.anchors: dict[str, tuple[Any, int]] = {}  # name -> (value, how many values it is)
        self.count = 0

    def document(self) -> Any:
        value = None
        for number, event in enumerate(e for e in self.events if not _is_frame(e)):
            if number:
                raise _Refused(event, "a second document begins, but there must be one")
            value = self._value(event, 1)
        return value

    def _value(self, event: Any, depth: int) -> Any:
        before = self.count
        self._count(event, 1)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        else:
            value = self._collection(event, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = copy.deepcopy(value), self.count - before
        return value

    def _count(self, event: Any, more: int) -> None:
        self.count += more
        if self.count > MAX_VALUES:
            raise _Refused(event, f"there are more than {MAX_VALUES} values, those of aliases included")

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self.anchors:
            raise _Refused(event, f"*{event.anchor} must refer to an anchor that is complete before it")
        value, size = self.anchors[event.anchor]
        self._count(event, size - 1)
        return copy.deepcopy(value)

    def _scalar(self, event: Any) -> Any:
        try:
            return scalar(event.value, event.tag, quoted=not event.implicit[0])
        except ValueError as error:
            raise _Refused(event, str(error)) from None

    def _collection(self, event: Any, depth: int) -> Any:
        kind = KINDS[type(event)]
        if event.tag not in (None, "!", PLAIN + kind):
            raise _Refused(event, f"the tag {event.tag} is not allowed")
        if depth > MAX_DEPTH:
            raise _Refused(event, f"is nested deeper than {MAX_DEPTH} levels")
        return self._sequence(depth) if kind == "seq" else self._mapping(depth)

    def _sequence(self, depth: int) -> list[Any]:
        items = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                merged = self._merged(next(self.events), depth) | merged
                continue
            key = self._key(event, own)
            own[key] = self._value(next(self.events), depth + 1)
        return merged | own

    def _key(self, event: Any, taken: dict[str, Any]) -> str:
        key = self._value(event, 1) if isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)) else None
        if not isinstance(key, str):
            shown = f"'{event.value}'" if isinstance(event, yaml.ScalarEvent) else "a list or mapping"
            raise _Refused(event, f"a key must be text, but got {shown}; quote it if it is meant as text")
        if key in taken:
            raise _Refused(event, f"the key '{key}' stands there twice")
        return key

    def _merged(self, event: Any, depth: int) -> dict[str, Any]:
        """The value of `<<`: a mapping, or a list of them of which the first to name a key wins."""
        value = self._value(event, depth + 1)
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            raise _Refused(event, "<< must merge a mapping or a list of mappings")
        return {k: v for part in reversed(parts) for k, v in part.items()}


def _is_frame(event: Any) -> bool:
    """Whether an event marks where stream and documents begin and end."""
    frames = (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentStartEvent, yaml.DocumentEndEvent)
    return isinstance(event, frames)
