"""Any dataset that `--data` takes, as folders of our own layout: train/, val/, test/, each with annotations.json and
images/."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.data.cache import all_in_own_words, is_full, refusing_in_own_words
from model.data.check import Parts, check_boxes, settle
from model.data.coco import Part
from model.data.convert_kitti import Options
from model.data.documents import as_it_is
from model.data.layouts import in_place
from model.data.problems import Problems
from model.data.sources import stage
from model.data.tree import SPLITS, Data
from model.errors import UserError
from model.parameters import VAL_SHARE
from model.spec import nest, resolve

Document = dict[str, Any]
LABEL_FILES = ("label_file", "read_from", "parted", "swapped")  # of the cache's own documents


@refusing_in_own_words()
def write(
    source: str,
    target: Path,
    val_share: float = VAL_SHARE,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    kitti: Options | None = None,
    by_folder: bool = False,
) -> dict[str, Any]:
    """Write `target`; images are linked where the disk can, else copied. What a run would refuse is refused, and what
    it would mend is written mended; `overrides` are leaves of the train spec that decide on either. Where `source` has
    no validation set, `val_share` of its training images, drawn by `seed` with copies together (`by_folder`: with
    all images of a folder together), become one. With `kitti` it must be KITTI, read by these options. Returns
    {"splits": {split: images}, "classes": {name: id}, "layout", "notes"}. Raises `UserError`; then nothing is
    written."""
    if target.exists() and any(target.iterdir()):
        raise UserError(f"{target} is not empty; give a new folder")
    spec = resolve("train", nest({"train.seed": seed} | dict(overrides or {})))
    data = in_place(source, kitti=kitti)
    parts, names, notes = _as_a_run_uses_them(data, spec, val_share, by_folder)
    splits = {split: n for split in SPLITS if (n := sum(len(part.paths) for part in parts[split]))}
    with _made_whole(target) as partial:
        for split in splits:
            _write(partial / split, parts[split], names)
    classes = {name: i for i, name in names.items()}
    return {"splits": splits, "classes": classes, "layout": data.layout, "notes": [*data.notes, *notes]}


@contextlib.contextmanager
def _made_whole(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` when the block ends, and goes when it fails. One that is there already, and empty,
    stays: a shell may be in it, a disk be mounted on it. Raises `UserError` where nothing can be written."""
    there = target.is_dir()
    partial = (target if there else target.parent) / f".{target.name}.{os.getpid()}.partial"
    try:
        partial.mkdir(parents=True)
        yield partial
        if there:
            for made in list(partial.iterdir()):
                made.rename(target / made.name)
        else:
            partial.rename(target)
    except OSError as error:
        if is_full(error):
            advice = "no space left on its disk; free some, or name a folder on another"
            raise UserError(f"{target}: {advice}") from None
        place = Path(os.fsdecode(error.filename or ""))
        if not (place.is_relative_to(partial) or place == target or place in target.parents):
            raise
        why = (error.strerror or str(error)).lower()
        raise UserError(f"{target}: cannot be written to ({why}); name another folder") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _as_a_run_uses_them(
    data: Data, spec: Mapping[str, Any], val_share: float, by_folder: bool
) -> tuple[Parts, dict[Any, str], list[str]]:
    """(the splits, {category id: name}, what was mended or left out). Raises `UserError`."""
    problems = Problems()
    found = settle(data, spec, problems, val_share, by_folder)
    for split, listed in (found[0] if found else {}).items():
        if listed:
            check_boxes(split, listed, spec, problems)
    problems.refuse()
    assert found
    parts, table, _ = found
    return parts, table.names, all_in_own_words(problems.notes)


def _write(folder: Path, parts: Sequence[Part], names: Mapping[Any, str]) -> None:
    """annotations.json and images/ of a split: what was read of each row, and whatever else stood in it."""
    images: list[Document] = []
    annotations: list[Document] = []
    whole: Document = {}
    taken: dict[str, Path] = {}
    ids = [i for part in parts for i in part.document.image_ids]
    clash = len(set(ids)) < len(ids)
    for part in parts:
        raw = as_it_is(part.source["json_file"])
        whole = {key: value for key, value in raw.items() if key not in LABEL_FILES} | whole
        numbers = [len(images) + n + 1 if clash else i for n, i in enumerate(part.document.image_ids)]
        annotations += _annotations(part, raw, numbers, {name: i for i, name in names.items()})
        images += _images(folder / "images", part, raw, numbers, stage(part.source["image_dir"]), taken)
    annotation_ids = [row.get("id") for row in annotations]
    if None in annotation_ids or len({repr(i) for i in annotation_ids}) < len(annotation_ids):
        annotations = [row | {"id": n} for n, row in enumerate(annotations, 1)]
    known = {row["name"]: row for row in whole["categories"]}
    categories = [known.get(name, {}) | {"id": i, "name": name} for i, name in names.items()]
    whole |= {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(whole))


def _images(
    folder: Path, part: Part, raw: Document, numbers: Sequence[Any], origin: Path, taken: dict[str, Path]
) -> list[Document]:
    """The rows of a part's images, each linked into `folder` under a name of its own."""
    rows: list[Document] = []
    first = {row["id"]: row for row in reversed(raw["images"])}
    columns = zip(part.document.image_ids, numbers, part.paths, part.document.sizes.tolist(), strict=True)
    for i, number, path, (height, width) in columns:
        inside = path.is_relative_to(origin) and ".." not in path.parts
        name = path.relative_to(origin).as_posix() if inside else path.name
        if taken.setdefault(name, path) != path:
            name = f"{len(taken)}_{path.name}"
            taken[name] = path
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            link(path, folder / name)
        rows.append(first[i] | {"id": number, "file_name": name, "width": width, "height": height})
    return rows


def _annotations(
    part: Part, raw: Document, numbers: Sequence[Any], ids: Mapping[str, Any]
) -> list[Document]:  # fmt: skip
    """The rows of a part's boxes but for those of a class that is left out, as one that does not count."""
    of_class = [ids.get(c["name"]) for c in part.document.categories]
    kept = np.array([i is not None for i in of_class], bool)[part.document.category]
    document, rows = part.document.with_boxes(kept), []
    for n, (at, owner, category) in enumerate(
        zip(document.rows.tolist(), document.owner.tolist(), document.category.tolist(), strict=True)
    ):
        row = {key: value for key, value in raw["annotations"][at].items() if key not in LABEL_FILES}
        read = {"bbox": document.boxes_xywh_px[n].tolist(), "area": float(document.areas[n])}
        ids_of_row = {"image_id": numbers[owner], "category_id": of_class[category]}
        rows.append(row | ids_of_row | read | {"iscrowd": int(document.crowd[n])})
    return rows


def link(path: Path, target: Path) -> None:
    """The same bytes under another name, without a copy where the file system can."""
    try:
        os.link(path.resolve(), target)
    except OSError:
        shutil.copyfile(path, target)
