"""What a plain YAML scalar means."""

from __future__ import annotations

import math
import re
from typing import Any

LARGEST = 1 << 63
PLAIN = "tag:yaml.org,2002:"
WORDS: dict[str, bool | None] = {
    word: value
    for value, names in (
        (True, "true True TRUE yes Yes YES on On ON"),
        (False, "false False FALSE no No NO off Off OFF"),
        (None, "null Null NULL ~"),
    )
    for word in names.split()
} | {"": None}
INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+|0b[01]+|0o[0-7]+")
FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")  # octal in YAML 1.1, decimal in 1.2: text


def scalar(text: str, tag: str | None, quoted: bool) -> Any:
    """A scalar's value: None, a bool, an int, a finite or infinite float, or text.

    Raises `ValueError` saying what is wrong with it.
    """
    if "\0" in text:
        raise ValueError("text must not hold a NUL character")
    if tag is None or tag == "!":
        return text if quoted or tag == "!" else _plain(text)
    if tag == PLAIN + "str":
        return text
    kinds = {PLAIN + "int": int, PLAIN + "float": float, PLAIN + "bool": bool, PLAIN + "null": type(None)}
    if tag not in kinds:
        raise ValueError(f"the tag {tag} is not allowed")
    value = _plain(text)
    if tag == PLAIN + "float" and type(value) is int:
        value = float(value)
    if type(value) is not kinds[tag]:
        raise ValueError(f"'{text}' is not of the kind its tag says")
    return value


def _plain(text: str) -> Any:
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        value = int(text, 0) if text[:2] in ("0x", "0b", "0o") else _decimal(text)
        if not -LARGEST <= value < LARGEST:
            raise ValueError(f"the number {_cut(text)} is beyond 64 bits")
        return value
    if FLOAT.fullmatch(text) and not LEADING_ZERO.fullmatch(text):
        number = float(text.replace("_", ""))
        if math.isinf(number):
            raise ValueError(f"the number {_cut(text)} is too large; .inf is infinity")
        return number
    if NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def _decimal(text: str) -> int:
    digits = text.replace("_", "")
    return int(digits) if len(digits) <= 20 else LARGEST  # Python converts at most 4,300 digits


def _cut(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:20]}..."
