"""The texts within a document: turned one by one, and paths in them from the file's own folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any


def map_texts(node: Any, turn: Callable[[str], str]) -> Any:
    """A copy of a document with every text in its mappings' values and lists turned; keys and other values stay."""
    if isinstance(node, Mapping):
        return {key: map_texts(value, turn) for key, value in node.items()}
    if isinstance(node, list):
        return [map_texts(value, turn) for value in node]
    return turn(node) if isinstance(node, str) else node


def placed(node: Any, folder: str, here: str) -> Any:
    """The document with `here/..` in its texts turned into a path in `folder`, `here` being the word for that."""

    def at(text: str) -> str:
        mark, found, rest = text.partition(here)
        return mark + os.path.normpath(folder + rest) if found else text

    return map_texts(node, at)


def no_text(value: Any) -> str:
    """What stands where text should, for a message: its kind alone, as what should be text may be a secret."""
    words = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return words.get(type(value), type(value).__name__) + "; quote it if it is meant as text"
