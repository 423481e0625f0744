"""What OmegaConf, and so NVIDIA TAO, has in texts beside their letters: `???` for what is still to be given, and
`${a.b}` for the value of another key of the same document."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Collection, Mapping
from typing import Any

from safe_documents.json_reading import deeper_than
from safe_documents.limits import MAX_BYTES, MAX_DEPTH, DocumentError

UNSAID = "???"
REFERENCE = re.compile(r"\$\{([^{}]*)\}")
KEY = re.compile(r"[\w-]+(?:\.[\w-]+|\[\d+\])*")
MOST_STEPS = 32  # from a reference to what it comes to in the end
IN_A_SECRET = "has ${...}, which is resolved in no secret"
A_VALUE = 20  # bytes that a copied value counts for


def unsaid(value: Any) -> bool:
    """Whether a value is `???`, or a list or mapping of nothing else."""
    parts = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list):
        return bool(value) and all(map(unsaid, parts))
    return bool(value == UNSAID)


def interpolated(
    document: Mapping[str, Any], within: Mapping[str, Any], keep: Collection[str] = (),
    secret: Collection[str] = (),
) -> tuple[dict[str, Any], dict[str, str]]:  # fmt: skip
    """(the document with `${a.b}` resolved, {leaf: what is wrong with its}; a leaf that is wrong stays as it is).

    within: where keys are looked up. keep: keys to which references stay, for a later reader. secret: leaves in which
    a reference is wrong whatever it names, as the secret would be its letters, and that none may name. Raises
    `DocumentError` where it would grow without bound.
    """
    resolver = _Resolver(within, keep, secret)
    try:
        found = {key: resolver.node(value, key, ()) for key, value in document.items()}
    except RecursionError:
        found = None
    if found is None or deeper_than(found, MAX_DEPTH):
        raise DocumentError(f"references nest it deeper than {MAX_DEPTH} levels")
    return found, resolver.wrong


def refers(secret: str) -> bool:
    """Whether a secret has `${...}` in it; a path may, which stands behind what marks a file that holds the secret."""
    return bool(REFERENCE.search(secret)) and not _is_path(secret[max(0, secret.find("/")) :])


class _Wrong(Exception):
    """A reference that cannot be resolved, and why."""


class _Endless(_Wrong):
    """One that comes to no end, which tells its whole way."""


class _Resolver:
    def __init__(self, within: Mapping[str, Any], keep: Collection[str], secret: Collection[str]) -> None:
        self.within, self.keep, self.secret = within, keep, secret
        self.wrong: dict[str, str] = {}
        self.spent = 0

    def node(self, value: Any, leaf: str, way: tuple[str, ...]) -> Any:
        """A copy with its texts resolved; `way`: the keys that led here from the leaf that is being resolved."""
        if way:
            self._spend(A_VALUE)
        if isinstance(value, Mapping):
            return {key: self.node(each, f"{leaf}.{key}", way) for key, each in value.items()}
        if isinstance(value, list):
            return [self.node(each, f"{leaf}[{place}]", way) for place, each in enumerate(value)]
        if isinstance(value, str) and leaf in self.secret:
            if refers(value):
                self.wrong[leaf] = IN_A_SECRET
            return value
        if not isinstance(value, str) or "${" not in value or _is_path(value):
            return copy.copy(value)
        try:
            return self._text(value, way or (leaf,))
        except _Wrong as wrong:
            if way:  # the leaf that led here is told by what it names
                raise (
                    _Endless(str(wrong))
                    if isinstance(wrong, _Endless)
                    else _Wrong(f"names ${{{leaf}}}, which {wrong}")
                ) from None
            self.wrong[leaf] = str(wrong)
            return value

    def _text(self, text: str, way: tuple[str, ...]) -> Any:
        if "${" in REFERENCE.sub("", text):
            raise _Wrong("has ${ without its }, or one reference within another, which is not read here")
        if whole := REFERENCE.fullmatch(text):
            return self._value(whole[1].strip(), way)
        return REFERENCE.sub(lambda found: self._part(found[1].strip(), way), text)

    def _part(self, name: str, way: tuple[str, ...]) -> str:
        """The value of a key within a longer text."""
        value = self._value(name, way)
        if value in (None, "") or isinstance(value, Mapping | list):
            what = "is not given" if value in (None, "") else "is no single value"
            raise _Wrong(f"names ${{{name}}}, which {what}")
        self._spend(len(str(value)))
        return str(value)

    def _value(self, name: str, way: tuple[str, ...]) -> Any:
        if name in self.keep:
            return f"${{{name}}}"
        if ":" in name or name.startswith("."):
            what = "calls a resolver" if ":" in name else "is relative"
            raise _Wrong(
                f"has ${{{name}}}, which {what}; only keys of the document, such as ${{a.b}}, are read"
            )
        if name in way:
            raise _Endless(f"refers to itself: {' -> '.join((*way[way.index(name) :], name))}")
        if len(way) > MOST_STEPS:
            raise _Endless(f"goes over more than {MOST_STEPS} references")
        if name in self.secret:
            raise _Wrong(f"names ${{{name}}}, which is secret")
        return self.node(self._found(name), name, (*way, name))

    def _found(self, name: str) -> Any:
        there = _at(self.within, name) if KEY.fullmatch(name) else None
        if there is None or unsaid(there[0]):
            raise _Wrong(f"names ${{{name}}}, which is not given here")
        return there[0]

    def _spend(self, size: int) -> None:
        self.spent += size
        if self.spent > MAX_BYTES:
            raise DocumentError(f"references make it larger than {MAX_BYTES >> 20} MiB")


def _is_path(text: str) -> bool:
    """Whether a file or folder is called so, or one that the text leads through: then nothing in it is meant to be
    replaced."""
    end = text.find("/", text.rfind("${"))
    return os.path.lexists(text if end < 0 else text[:end])


def _at(document: Mapping[str, Any], name: str) -> tuple[Any] | None:
    """(the value of the key `a.b[0]`,), or None where there is none."""
    node: Any = document
    for key in re.findall(r"[^.\[\]]+", name):
        if isinstance(node, Mapping) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return (node,)
