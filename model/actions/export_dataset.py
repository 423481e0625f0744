"""Any dataset that `--data` takes, as folders of our own layout: train/, val/, test/, each with annotations.json and
images/."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from model.data.coco import read_json
from model.data.layouts import in_place
from model.data.looks import look_at
from model.data.paths import explain, find_images
from model.data.sources import stage
from model.data.splits import groups_of, held_out
from model.data.tree import SPLITS
from model.errors import UserError

Document = dict[str, Any]


def write(source: str, target: Path, val_share: float = 0.2, seed: int = 0) -> dict[str, Any]:
    """Write `target`; images are linked where the disk can, else copied. Where `source` has no validation set,
    `val_share` of its training images, drawn by `seed` with copies together, become one. Returns {"splits": {split:
    images}, "classes": {name: id}, "layout", "notes"}. Raises `UserError`; then nothing is written."""
    if target.exists() and any(target.iterdir()):
        raise UserError(f"{target} is not empty; give a new folder")
    data = in_place(source)
    found = {
        split: [(read_json(s["json_file"]), stage(s["image_dir"])) for s in data.sources[split]]
        for split in SPLITS
    }
    documents = {split: parts[0] for split, parts in found.items() if parts}
    if "val" not in documents and val_share:
        document, folder = documents["train"]
        left, held = hold_out(document, folder, val_share, seed)
        documents |= {"train": (left, folder), "val": (held, folder)}
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        for split, (document, folder) in documents.items():
            _write(partial / split, document, folder)
        if target.exists():
            target.rmdir()
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {
        "splits": {split: len(document["images"]) for split, (document, _) in documents.items()},
        "classes": {c["name"]: c["id"] for c in documents["train"][0]["categories"]},
        "layout": data.layout,
        "notes": data.notes,
    }


def hold_out(document: Document, images: Path, share: float, seed: int) -> tuple[Document, Document]:
    """(what is left, what is held out) of a COCO document, by image; copies and versions of one photo stay together,
    as where a run draws its own validation set. Raises `UserError` where there are fewer than two such groups."""
    rows = document["images"]
    paths = find_images(images, [row["file_name"] for row in rows])
    shown: dict[Any, set[int]] = {row["id"]: set() for row in rows}
    number = {row["id"]: n for n, row in enumerate(document["categories"])}
    for row in document["annotations"]:
        if not row.get("iscrowd"):
            shown[row["image_id"]].add(number[row["category_id"]])
    groups = groups_of(paths, [found.digest for found in look_at(paths)])
    if len(set(groups)) < 2:
        text = f"a split needs two images that are not versions of one, but there is {len(set(groups))}"
        raise UserError(f"{text}; --val-share 0 makes none")
    mask = held_out([frozenset(shown[row["id"]]) for row in rows], groups, seed, share)
    held = {row["id"] for row, inside in zip(rows, mask, strict=True) if inside}
    return tuple(  # type: ignore[return-value]
        document
        | {
            "images": [i for i in rows if (i["id"] in held) == inside],
            "annotations": [a for a in document["annotations"] if (a["image_id"] in held) == inside],
        }
        for inside in (False, True)
    )


def _write(folder: Path, document: Document, images: Path) -> None:
    names = [row["file_name"] for row in document["images"]]
    paths = find_images(images, names)
    missing = [name for name, path in zip(names, paths, strict=True) if not path.is_file()]
    if missing:
        raise UserError(
            f"{missing[0]} is not in {images}{explain(images, missing[0])} ({len(missing)} are missing)"
        )
    rows, taken = [], dict[str, Path]()
    for row, path in zip(document["images"], paths, strict=True):
        name = (
            path.relative_to(images).as_posix()
            if path.is_relative_to(images) and ".." not in path.parts
            else path.name
        )
        if taken.setdefault(name, path) != path:
            name = f"{len(taken)}_{path.name}"
            taken[name] = path
        copy = folder / "images" / name
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            link(path, copy)
        rows.append(row | {"file_name": name})
    whole = {key: value for key, value in document.items() if key != "read_from"}
    annotations = [{k: v for k, v in row.items() if k != "label_file"} for row in document["annotations"]]
    whole |= {"images": rows, "annotations": annotations}
    (folder / "annotations.json").write_text(json.dumps(whole))


def link(path: Path, target: Path) -> None:
    """The same bytes under another name, without a copy where the file system can."""
    try:
        os.link(path.resolve(), target)
    except OSError:
        shutil.copyfile(path, target)
