"""One COCO file over folders of several splits: the folders are the split, and the file is parted in the cache."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from model.data.cache import cache_dir, once
from model.data.documents import as_it_is
from model.data.paths import find_images, walk
from model.data.sources import digest
from model.data.tree import SPLITS, Sources, SplitNames, counted
from model.errors import UserError

FORMAT = 1  # of the files written; another number, another place


def parted(source: dict[str, str]) -> tuple[Sources, list[str]]:
    """(the sources by split, what a person should know) of a COCO file that no name gives to a split. It is parted
    where every image lies in a folder that names a split, of which one is for training; else all is for training."""
    whole: Sources = {split: [source] if split == "train" else [] for split in SPLITS}
    folder = Path(source["image_dir"])
    folders = [f"{below}/." for below, names in walk(folder) if names] if folder.is_dir() else []
    names = SplitNames.of(folders)
    named = set(map(names.split_of, folders))
    if "train" not in named or len(named - {None}) < 2:
        return whole, []
    try:
        document = as_it_is(source["json_file"])
    except UserError:
        return whole, []  # told when it is read
    files = find_images(folder, [image["file_name"] for image in document["images"]])
    where = [
        names.split_of(f"{path.relative_to(folder).parent.as_posix()}/.") or ""
        if path.is_relative_to(folder)
        else ""
        for path in files
    ]
    counts = Counter(where)
    if "" in counts or "train" not in counts or len(counts) < 2:
        return whole, _not_used(source, counts)
    ids = {image["id"]: split for image, split in zip(document["images"], where, strict=True)}
    boxes = Counter(ids[a["image_id"]] for a in document["annotations"])
    used = [split for split in SPLITS if boxes[split]]
    if "train" not in used:
        return whole, []
    key = hashlib.sha256(json.dumps([FORMAT, digest(Path(source["json_file"])), where]).encode()).hexdigest()
    target = once(cache_dir() / "parted" / key[:32], lambda partial: _write(document, ids, used, partial))
    sources = {
        split: [source | {"json_file": str(target / f"{split}.json")}] if split in used else []
        for split in SPLITS
    }
    told = ", ".join(f"{counted(counts[split], 'image')} for {split}" for split in used)
    notes = [f"{source['json_file']}: parted by the folders of its images: {told}"]
    notes += [
        f"{source['json_file']}: {counted(counts[split], 'image')} for {split} without boxes, not used"
        for split in SPLITS
        if counts[split] and split not in used
    ]
    return sources, notes


def _not_used(source: dict[str, str], counts: Counter[str]) -> list[str]:
    named = [split for split in SPLITS if counts[split]]
    if len(named) < 2:
        return []
    return [
        f"{source['json_file']}: all for training, though images lie in folders of {' and '.join(named)}: "
        f"{counted(counts[''], 'image')} in none of these"
    ]


def _write(document: dict[str, Any], ids: dict[Any, str], used: list[str], folder: Path) -> None:
    for split in used:
        part = document | {
            "images": [image for image in document["images"] if ids[image["id"]] == split],
            "annotations": [a for a in document["annotations"] if ids[a["image_id"]] == split],
        }
        (folder / f"{split}.json").write_text(json.dumps(part))
