"""One COCO file that holds several splits, as lists of images beside it, its rows or its images' folders say; it is
parted in the cache."""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from model.data.cache import cache_dir, once
from model.data.coco_rows import decode
from model.data.documents import as_it_is
from model.data.image_sets import meant
from model.data.paths import find_images, stem_of, walk
from model.data.sources import digest, stage_file
from model.data.tree import SPLITS, Sources, SplitNames, exact_split
from model.errors import UserError, number_of

FORMAT = 3  # of the files written; another number, another place
# What a key of image rows is called that may say their split in a way that is not read (0 and 1, true).
HINTS = re.compile(r"split|subset|fold|partition|phase|is_?(train|val|test)", re.IGNORECASE)
WORDS = b'"train,"Train,"TRAIN,train",Train",split,Split,subset,fold,phase,partition,is_train,is_val'.split(
    b","
)
LOOKED_AT = 50  # rows whose keys are looked at

Lists = Mapping[str, Iterable[tuple[str, str]]]  # split -> (list that says so, name)


def parted(source: dict[str, str], lists: Lists) -> tuple[Sources, list[str]]:
    """(the sources by split, what a person should know) of a COCO file that no name gives to a split. It is parted
    where `lists`, a key of its rows or folders give images to several splits, of which one is for training; else all
    is for training. Raises `UserError` where lists name images that are not in the file."""
    whole: Sources = {split: [source] if split == "train" else [] for split in SPLITS}
    folder, listed = Path(source["image_dir"]), {split: list(entries) for split, entries in lists.items()}
    names = _folders_that_tell(folder)
    rows_may = _may_say(Path(source["json_file"]))
    if names is None and not rows_may and not ("train" in listed and len(listed) > 1):
        return whole, []
    try:
        document = as_it_is(source["json_file"])
    except UserError:
        return whole, []  # told when it is read
    if "train" in listed and len(listed) > 1:
        shown = ", ".join(dict.fromkeys(place for entries in listed.values() for place, _ in entries))
        where = _by_lists(source["json_file"], document, listed)
        return _part(source, document, where, f"by {shown}")
    key, where = _by_rows(document["images"])
    if where:
        return _part(source, document, where, f'by "{key}" of its rows')
    if names is None:
        return whole, [
            f'{source["json_file"]}: "{key}" of its rows is not read as their split'
        ] if key else []
    files = find_images(folder, [image["file_name"] for image in document["images"]])
    where = [
        names.split_of(f"{path.relative_to(folder).parent.as_posix()}/.") or ""
        if path.is_relative_to(folder)
        else ""
        for path in files
    ]
    if "" in where or not _parts(where):
        return whole, _not_used(source, Counter(where))
    return _part(source, document, where, "by the folders of its images")


def _folders_that_tell(folder: Path) -> SplitNames | None:
    """How the folders below one name splits; None where they do not name train and another."""
    folders = [f"{below}/." for below, names in walk(folder) if names] if folder.is_dir() else []
    names = SplitNames.of(folders)
    named = set(map(names.split_of, folders)) - {None}
    return names if "train" in named and len(named) > 1 else None


def _may_say(path: Path) -> bool:
    """Whether a JSON file may say splits in its rows, found without parsing it."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return any(text.find(word) >= 0 for word in WORDS)
    except (OSError, ValueError):  # ValueError: an empty file
        return False


def _by_rows(images: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """(the key of the rows that says their splits, the split of each image); a key may lie in another ("extra.split").
    Without one (a key that may and is not understood, or "", [])."""
    flat = [_flat(image) for image in images]
    doubtful = ""
    for key in dict.fromkeys(key for row in flat[:LOOKED_AT] for key in row):
        where = [_said(row.get(key)) for row in flat]
        if HINTS.search(key) and "train" not in where and set(where) - {""}:
            where = [split or "train" for split in where]  # those of val alone say so
        if _parts(where) and ("" not in where or HINTS.search(key)):
            return key, where
        if HINTS.search(key) and len({str(row.get(key)) for row in flat}) > 1:
            doubtful = key
    return doubtful, []


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    inner = {f"{k}.{n}": v for k, value in row.items() if isinstance(value, dict) for n, v in value.items()}
    return {k: v for k, v in row.items() if not isinstance(v, dict) and k not in ("id", "file_name")} | inner


def _said(value: Any) -> str:
    """The split that a value of a row names: "val", or ["night", "val"]."""
    texts = value if isinstance(value, list) else [value]
    named = {exact_split(f"{text}/.") for text in texts if isinstance(text, str)} - {None}
    return str(named.pop()) if len(named) == 1 else ""


def _parts(where: list[str]) -> bool:
    return "train" in where and len(set(where) - {""}) > 1


def _by_lists(path: str, document: dict[str, Any], lists: Mapping[str, list[tuple[str, str]]]) -> list[str]:
    """The split of each image, "" of those in no list."""
    names = [str(image["file_name"]) for image in document["images"]]
    by_stem: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        by_stem.setdefault(stem_of(name), []).append(name)
    said: dict[str, set[str]] = {}
    doubtful: list[str] = []
    missing: list[str] = []
    for split, entries in lists.items():
        for source, name in entries:
            found = meant(source, name, by_stem.get(stem_of(name), ()))
            if len(found) == 1:  # cam0/1.jpg is not cam1/1.jpg
                said.setdefault(found[0], set()).add(split)
            else:
                (doubtful if found else missing).append(name)
    doubtful += [name for name, count in Counter(names).items() if count > 1 and name in said]
    doubtful += [name for name, splits in said.items() if len(splits) > 1]
    if doubtful or missing:
        what = f"may mean any of several images by {doubtful[0]}" if doubtful else f"name {missing[0]}"
        raise UserError(
            f"{path}: its images are listed by split, but the lists {what}"
            f"{'' if doubtful else ', which it does not have'}; write a COCO file for each split, or mend the lists"
        )
    return [next(iter(said.get(name, {""}))) for name in names]


def _part(
    source: dict[str, str], document: dict[str, Any], where: list[str], by: str
) -> tuple[Sources, list[str]]:
    file, counts = source["json_file"], Counter(where)
    ids = {image["id"]: split for image, split in zip(document["images"], where, strict=True)}
    # Boxes of no image go where all would be without parting, and are counted when that is read.
    of_box = [ids.get(a["image_id"], "train") for a in document["annotations"]]
    boxes = Counter(ids[a["image_id"]] for a in document["annotations"] if a["image_id"] in ids)
    used = [split for split in SPLITS if boxes[split]]
    if "train" not in used:
        return {split: [source] if split == "train" else [] for split in SPLITS}, []
    key = hashlib.sha256(json.dumps([FORMAT, digest(Path(file)), where]).encode()).hexdigest()
    split_of = {"images": [ids[image["id"]] for image in document["images"]], "annotations": of_box}
    target = once(cache_dir() / "parted" / key[:32], lambda partial: _write(source, split_of, used, partial))
    sources = {
        split: [source | {"json_file": str(target / f"{split}.json")}] if split in used else []
        for split in SPLITS
    }
    told = ", ".join(f"{number_of(counts[split], 'image')} for {split}" for split in used)
    notes = [f"{file}: parted {by}: {told}"]
    notes += [
        f"{file}: {number_of(counts[split], 'image')} for {split} without boxes, not used"
        for split in SPLITS
        if counts[split] and split not in used
    ]
    notes += [f"{file}: {number_of(counts[''], 'image')} in no split, not used"] if counts[""] else []
    return sources, notes


def _not_used(source: dict[str, str], counts: Counter[str]) -> list[str]:
    named = [split for split in SPLITS if counts[split]]
    if len(named) < 2:
        return []
    return [
        f"{source['json_file']}: all for training, though images lie in folders of {' and '.join(named)}: "
        f"{number_of(counts[''], 'image')} in none of these"
    ]


def _write(
    source: Mapping[str, str], split_of: Mapping[str, Sequence[str]], used: Sequence[str], folder: Path
) -> None:
    """Rows as they stand in the file, so that all that is put right or left out is counted when a part is read."""
    file = stage_file(source["json_file"])
    document = {"read_from": str(file)} | decode(file, dict[str, Any]) | {"parted": True}
    for split in used:
        part = {key: [*compress(document[key], (s == split for s in of))] for key, of in split_of.items()}
        (folder / f"{split}.json").write_text(json.dumps(document | part))
