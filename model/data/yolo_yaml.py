"""The YAML of a file that names the classes of YOLO labels, or its error: one that cannot be read is not passed over,
as older names would stand in for it without a word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from model.errors import UserError

MAX_BYTES = 1 << 20  # of a file that names classes
MEANT = ("data.yaml", "data.yml")
NULLS = ("~", "null", "Null", "NULL")  # values of YAML that are none: `test: null`
GLUED = re.compile(r"\s*[\w-]+:[^\s:/\\]")
# In the text of a file that names classes.
NAMING = re.compile(r"^[^\w\s#]*(names|nc)['\"]?\s*:", re.MULTILINE)
AWAY = "or take the file away if it is of something else"
QUOTES = f"; put names such as - or a: b in quotes, {AWAY}"
SAVE = f"; save it so, {AWAY}"


class _Loader(yaml.BaseLoader):
    """Every scalar stays text: `names: [yes, no]` are names. Keys that stand there twice are kept."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[str] = []

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    self.twice.append(f"{key.start_mark.line + 1}: the key '{key.value}' stands there twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def mapping_of(path: Path, given: bool) -> tuple[dict[Any, Any], list[str]] | None:
    """(the mapping in a file that names classes or their number, keys that stand there twice), or None. Raises
    `UserError` where the YAML cannot be read of a file that was `given`, is called data.yaml or has a line of names."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        loader = _Loader(path.read_text(encoding="utf-8-sig"))
        document = loader.get_single_data()
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, TypeError) as error:
        if given or _names_classes(path):  # TypeError: a key that is a list
            raise UserError(f"{path}: cannot be read as YAML in UTF-8 {_why(path, error)}") from None
        return None
    if isinstance(document, dict):
        kept = {key: value for key, value in document.items() if value not in NULLS}
        return (kept, loader.twice) if "names" in document or "nc" in document else None
    if (given or _names_classes(path)) and (hint := glued(path)):
        raise UserError(f"{path}: no key of YAML{hint}")
    return None


def _names_classes(path: Path) -> bool:
    return path.name.lower() in MEANT or NAMING.search(_text(path)) is not None


def _why(path: Path, error: Exception) -> str:
    """What is wrong, in brackets, and what to do about it."""
    what = QUOTES if isinstance(error, yaml.YAMLError | TypeError) else SAVE
    reason = " ".join(str(error).split()).replace('"<unicode string>", ', "")
    return f"({reason}){glued(path) or ('' if isinstance(error, OSError) else what)}"


def _text(path: Path) -> str:
    """What can be read of a file, also in UTF-16."""
    try:
        return path.read_bytes().replace(b"\0", b"").decode(errors="replace")
    except OSError:
        return ""


def glued(path: Path) -> str:
    """What to do about a line of a file such as "names:[cat]", or nothing."""
    lines = _text(path).splitlines()
    found = next(((n, line.strip()) for n, line in enumerate(lines, 1) if GLUED.match(line)), None)
    return f"; line {found[0]}, '{found[1][:60]}', needs a blank behind its colon" if found else ""
