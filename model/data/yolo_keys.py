"""Which keys of a YOLO configuration, data.yaml or obj.data, name the images of which split."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.data.tree import exact_split
from model.errors import UserError

KEYS = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}  # before others of these words
OTHERS = {"names", "nc", "path", "kpt_shape", "flip_idx", "backup", "classes", "results", "download"}
METRICS = {"coco", "voc", "imagenet"}  # what `eval` of an obj.data is about
OF_LABELS = re.compile(
    r"label|annotation|ann(s|o)?\b|json|csv|xml|mask|data|split", re.I
)  # test_labels: no images
LONGEST = 255  # letters of a place


def by_split(path: Path, document: Mapping[str, Any]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """({split: folders or lists}, {key that says no split: what may be such}) of a configuration: of the usual keys,
    else of the one whose name says that split, as `training` does. Raises `UserError` where several do."""
    lower = {key.lower(): value for key, value in document.items()} | dict(document)
    used = {split: next((key for key in keys if lower.get(key)), "") for split, keys in KEYS.items()}
    entries = {split: _texts(lower[key]) for split, key in used.items() if key}
    others = {
        key: places
        for key, value in document.items()
        if key.lower() not in {*OTHERS, *used.values()} and (places := _places(path, key, value))
    }
    for split in KEYS.keys() - entries.keys():
        named = [key for key in others if not OF_LABELS.search(key) and exact_split(f"{key}/.") == split]
        if len(named) > 1:
            raise UserError(
                f"{path}: {' and '.join(named)} may all be for {split}; call the one that is {split}, or name there "
                "what all of them name, and take the others away"
            )
        if named:
            entries[split] = others.pop(named[0])
    return {split: entries[split] for split in KEYS if entries.get(split)}, others


def _texts(value: Any) -> list[str]:
    return [str(v) for v in (value if isinstance(value, list) else [value]) if v]


def _places(path: Path, key: str, value: Any) -> list[str]:
    """What a key names where all of it may be folders or lists, else nothing."""
    texts = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str) and v]
    if len(texts) < len(_texts(value)) or (key.lower() == "eval" and METRICS.issuperset(texts)):
        return []
    return texts if all(_may_be_place(path.parent, text) for text in texts) else []


def _may_be_place(home: Path, text: str) -> bool:
    if len(text) > LONGEST or "\n" in text or "://" in text:
        return False
    return "/" in text or "\\" in text or bool(Path(text).suffix) or (home / text).exists()
