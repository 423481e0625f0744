"""Files that list images for several splits at once: a table with a column for each, and JSON of many shapes; and
tables of one column and lists of JSON, for the split that their name tells."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Any

from model.data.paths import stem_of
from model.data.tree import exact_split

TABLES = (".csv", ".tsv", ".json")
MAX_BYTES = 16 << 20
HEAD = 4096  # characters that tell what parts a table's cells


def splits_in(path: Path, known: Set[str], said: str = "") -> dict[str, tuple[str, ...]]:
    """{split: names of images} that a table or a JSON file gives, most of which are `known` stems; none of another.
    `said` is the split that its name tells, if any."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return {}
        text = path.read_text(encoding="utf-8-sig")
        is_json = path.suffix.lower() == ".json"
        names = _of_object(text, known) if is_json else _of_table(text, known)
        if said and not names:
            names = {said: _of_list(text) if is_json else _of_column(text, known)}
    except (OSError, ValueError, RecursionError, csv.Error):
        return {}
    every = [name for listed in names.values() for name in listed]
    most = 2 * sum(stem_of(name) in known for name in every) > len(every)
    return {split: tuple(listed) for split, listed in names.items()} if most else {}


def _of_object(text: str, known: Set[str]) -> dict[str, list[str]]:
    """Of {"train": [names], "val": [names]}, {name: "train"}, [{"image": name, "split": "train"}], also one level
    deeper; none of a document that gives an image to two splits, as folds do."""
    if "train" not in text or '"annotations"' in text:
        return {}
    found: dict[str, dict[str, None]] = {}
    for name, split in _pairs_in(json.loads(text), known, 3):
        found.setdefault(split, {})[name] = None
    twice = len({name for names in found.values() for name in names}) < sum(map(len, found.values()))
    return {s: list(names) for s, names in found.items()} if len(found) > 1 and not twice else {}


def _of_list(text: str) -> list[str]:
    """Of ["a.png", "b.png"]."""
    loaded = json.loads(text) if text.lstrip()[:1] == "[" else []
    return loaded if all(isinstance(each, str) for each in loaded) and _are_single(loaded) else []


def _of_column(text: str, known: Set[str]) -> list[str]:
    """Of rows of one cell, below a head perhaps."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]
    if any(len(row) > 1 for row in rows) or "\t" in text or ";" in text:
        return []
    names = [name for (name,) in rows if name]
    names = names[1:] if names and stem_of(names[0]) not in known else names
    return names if _are_single(names) else []


def _are_single(names: list[str]) -> bool:
    """Whether no name stands twice: numbers that do are values, such as classes."""
    return len(set(names)) == len(names)


def _pairs_in(node: Any, known: Set[str], depth: int) -> Iterable[tuple[str, str]]:
    """(an image's name, its split) of all that a JSON document says."""
    for key, value in node.items() if isinstance(node, dict) else ():
        named = exact_split(f"{key}/.")
        if named and isinstance(value, list):
            yield from ((name, named) for each in value if (name := _name_in(each, known)))
        elif isinstance(value, str) and stem_of(str(key)) in known and (said := exact_split(f"{value}/.")):
            yield str(key), said
        elif isinstance(value, dict | list) and depth:
            yield from _pairs_in(value, known, depth - 1)
    for row in node if isinstance(node, list) else ():
        if isinstance(row, dict) and (name := _name_in(row, known)):
            said_by = [s for v in row.values() if isinstance(v, str) and (s := exact_split(f"{v}/."))]
            yield from ((name, said) for said in said_by[:1])


def _name_in(value: Any, known: Set[str]) -> str:
    """The image's name that a value is, or that a row has; "" for none."""
    texts = value.values() if isinstance(value, dict) else [value]
    return next((t for t in texts if isinstance(t, str) and stem_of(t) in known), "")


def _of_table(text: str, known: Set[str]) -> dict[str, list[str]]:
    """Of rows with an image's name and, in a column of its own, the name of its split, below a head perhaps."""
    delimiter = max(",;\t", key=text[:HEAD].count)
    rows = [
        [cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter) if row
    ]
    width = min(map(len, rows[1:]), default=0)
    named = next(
        (c for c in range(width) if 2 * sum(stem_of(r[c]) in known for r in rows[1:]) >= len(rows)), None
    )
    if named is None:
        return {}
    if len(rows[0]) < width or stem_of(rows[0][named]) not in known:
        rows = rows[1:]
    for column in range(width):
        splits = [exact_split(f"{row[column]}/.") for row in rows]
        if splits and None not in splits and "train" in splits and len(set(splits)) > 1:
            found: dict[str, list[str]] = {}
            for row, split in zip(rows, splits, strict=True):
                found.setdefault(str(split), []).append(row[named])
            return {split: list(dict.fromkeys(names)) for split, names in found.items()}
    return {}
