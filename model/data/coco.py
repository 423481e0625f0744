"""COCO annotation files as compact arrays, mended and labelled: what training, validation and evaluation read.

A file is parsed once. Its arrays are kept in the cache as plain .npy files, which every trial and every loader
process maps into memory: they hold one copy together, however many they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from model.data import exif_sizes, same_objects
from model.data.broken_images import readable
from model.data.cache import ANNOTATIONS, all_in_own_words, cache_dir, once, refusing_in_own_words
from model.data.classes import Table
from model.data.copied import count_copies
from model.data.document import COLUMNS, Document
from model.data.documents import read
from model.data.images import MAX_PIXELS
from model.data.looks import Look, look_at, stamp
from model.data.mending import COPIED, OTHER_SUFFIX, Rules, mend
from model.data.paths import explain, find_images, images_in, renamed
from model.data.problems import Problems, shown
from model.data.sources import digest, stage, stage_file
from model.data.tree import given, near_namesakes
from model.errors import UserError
from model.spec import get

CACHE_FORMAT = 8  # of the arrays on disk; another number, another place


@dataclass(frozen=True)
class CocoData:
    """N images and T boxes. Boxes of image i are rows `starts[i]:starts[i + 1]` of the box arrays."""

    files: np.ndarray  # [N] bytes, paths
    image_ids: np.ndarray  # [N] int64; the files' own where they are whole numbers, else from 1
    sizes: np.ndarray  # [N, 2] int32, (H, W) px
    starts: np.ndarray  # [N + 1] int64
    boxes_xywh_px: np.ndarray  # [T, 4] float64, as in the file
    labels: np.ndarray  # [T] int64, category ids, or numbers from 0 (model/data/classes.py)
    crowd: np.ndarray  # [T] bool
    areas: np.ndarray  # [T] float64, px^2
    categories: list[dict[str, Any]]  # [{"id": label, "name"[, "category_id"]}], by label
    source: np.ndarray  # [N] int16, which of several sources an image is from
    image_keys: np.ndarray = field(
        default_factory=lambda: np.zeros(0, "S1")
    )  # [N] bytes, the files' own ids as
    # JSON, where they are no whole numbers; else [0]
    notes: tuple[str, ...] = ()  # what was mended
    listed: Sequence[Sequence[tuple[Any, int]]] = ()  # of each source, its file's (category id, label or -1)

    def __len__(self) -> int:
        return len(self.files)

    def file(self, index: int) -> Path:
        return Path(os.fsdecode(self.files[index]))

    def outside_image_ids(self) -> dict[int, Any]:
        """{image id: id in the file}, empty where they are the same."""
        keys = (json.loads(key) for key in self.image_keys)
        return dict(zip(self.image_ids.tolist(), keys, strict=True)) if len(self.image_keys) else {}


@dataclass(frozen=True)
class Part:
    """One source: what names it, its document, the files of its images and what they are."""

    source: Mapping[str, str]
    document: Document
    paths: list[Path]
    looks: list[Look]
    left_out: tuple[Path, ...] = ()  # images that cannot be read

    def with_images(self, keep: np.ndarray) -> Part:
        rows = np.flatnonzero(keep)
        paths, looks = [self.paths[n] for n in rows], [self.looks[n] for n in rows]
        return replace(self, document=self.document.with_images(keep), paths=paths, looks=looks)


@dataclass(frozen=True)
class Options:
    """How sources are read."""

    rules: Rules
    by_name: bool = False
    max_pixels: int = MAX_PIXELS

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Options:
        by_name = bool(get(spec, "dataset.match_classes_by_name", False))
        return cls(Rules.of(spec), by_name, int(get(spec, "dataset.max_image_pixels", MAX_PIXELS)))


def read_part(
    source: Mapping[str, str], options: Options, problems: Problems, decode: bool = False
) -> Part | None:
    """A source read, its images looked at (decoded or not) and its boxes mended; None when there are problems."""
    document, folder = read(source["json_file"], problems), stage(source["image_dir"])
    if document is None:
        return None
    paths = find_images(folder, document.file_names)
    document = document.counted(OTHER_SUFFIX, renamed(document.file_names, paths))
    document = document.counted(COPIED, count_copies(document.file_names, paths))
    looks = look_at(paths, decode, options.max_pixels)
    keep = readable(document, paths, looks, options.rules, problems)
    part = Part(source, document, paths, looks).with_images(keep)
    part = replace(part, document=exif_sizes.upright(part.document, part.looks))
    part = replace(part, left_out=tuple(paths[n] for n in np.flatnonzero(~keep)))
    document, paths, looks = part.document, part.paths, part.looks
    for n, (path, found) in enumerate(zip(paths, looks, strict=True)):
        if problem := _file_problem(document, n, path, folder, found):
            problems.add(problem[0], f"{document.where}: image {shown(document.image_ids[n])}: {problem[1]}")
    if not problems:
        _refuse_shared_names(document, paths, folder, problems)
    if problems:
        return None
    part = _one_row_a_file(replace(part, document=_with_sizes(document, looks)), problems)
    document = mend(part.document, options.rules, problems)
    same_objects.note_twins(document, problems)
    return replace(part, document=document)


def _refuse_shared_names(document: Document, paths: Sequence[Path], folder: Path, problems: Problems) -> None:
    """Rows of one file where another file of that name lies near: those of two merged exports, whose boxes would all
    lie on the picture of one."""
    shared = [path for path, rows in Counter(paths).items() if rows > 1]
    for path, other in near_namesakes(folder, shared).items():
        problems.add(
            "shared name",
            f"{document.where}: several images are called {path.name}, and {path} and {other} are: "
            "write the folder before each file_name, as in cam0/x.jpg",
        )


def _one_row_a_file(part: Part, problems: Problems) -> Part:
    """Rows of the same file as one, the first, with the boxes of all: each alone would call the others' objects
    background. Those that label the same objects are told in `problems`."""
    first = {path: n for n, path in reversed(list(enumerate(part.paths)))}
    row = np.array([first[path] for path in part.paths], np.int64)
    keep = row == np.arange(len(row))
    if keep.all():
        return part
    same_objects.check(part.document, row, problems)
    document, owner = part.document, row[part.document.owner]
    order = np.argsort(owner, kind="stable")
    columns = {name: getattr(document, name)[order] for name in COLUMNS}
    ids = [document.annotation_ids[n] for n in order.tolist()]
    merged = replace(document, owner=owner[order], annotation_ids=ids, **columns)
    merged = merged.counted("image rows of a file that has another row merged with it", (~keep).sum())
    return replace(part, document=merged).with_images(keep)


def _file_problem(
    document: Document, n: int, path: Path, folder: Path, found: Look
) -> tuple[str, str] | None:
    """(kind, what is wrong) with the file of image n."""
    name, (height, width) = document.file_names[n], document.sizes[n].tolist()
    if found.problem and not _is_file(path):
        return "missing file", f"{shown(name)[1:-1]} is not in {folder}{explain(folder, name)}"
    if found.problem:
        return "unreadable", found.problem
    if not height or found.size == (width, height):
        return None
    says = f"the annotations say {width}x{height}"
    if found.turned and found.stored == (width, height):
        text = f"{name} is turned by its EXIF orientation: {_px(found.size)} upright, {_px(found.stored)} as stored"
        return "exif", f"{text}, and {says}; {exif_sizes.advice(document, n)}"
    return "size", f"{name} is {_px(found.size)}, {says}{exif_sizes.size_hint(document, n, found)}"


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} px"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _with_sizes(document: Document, looks: Sequence[Look]) -> Document:
    """Sizes that the file does not say are read from the images."""
    unknown = np.flatnonzero((document.sizes == 0).any(axis=1))
    sizes = document.sizes.copy()
    for n in unknown.tolist():
        sizes[n] = looks[n].size[::-1]
    return replace(document, sizes=sizes).counted("image sizes read from the files", len(unknown))


@refusing_in_own_words()
def load_sources(
    sources: Sequence[Mapping[str, str]],
    kind: str = "serialized",
    options: Options | None = None,
    classes: Sequence[Mapping[str, Any]] | None = None,
    counted: Sequence[Any] | None = None,
) -> CocoData:
    """Several sources as one dataset, images in the files' order; image ids that clash are numbered anew from 1.
    Data that are seen for the first time, or whose annotations or images have changed since, are checked, and refused
    when damaged (`UserError`).

    `kind` is a dataset.dataset_type: serialized arrays are mapped from the cache, those of default lie in the memory
    of each process. `classes`: those of the training set or checkpoint, which the sources must agree with and whose
    labels are taken; `counted`: the category ids that count, all when empty.
    """
    options = options or Options(Rules())
    listed = given(sources)
    if not listed:
        raise UserError("no data source is given")
    found = [(stage_file(s["json_file"]), stage(s["image_dir"])) for s in listed]
    for path, _ in found:
        if not path.is_file():
            raise UserError(f"{path}: no such annotation file")
    places = [[digest(path), str(folder.resolve()), (folder / "images").is_dir()] for path, folder in found]
    settled = [repr(options), list(classes or []), list(counted or [])]
    key = json.dumps([CACHE_FORMAT, *places, *settled])
    target = cache_dir() / ANNOTATIONS / hashlib.sha256(key.encode()).hexdigest()[:32]

    def make(partial: Path) -> None:
        problems = Problems()
        parts = [read_part(source, options, problems) for source in listed]
        problems.refuse()
        there = [p for p in parts if p]
        data = joined(there, options.by_name, problems, classes, counted or ())
        problems.refuse()
        if not len(data.labels):
            unknown = any(len(part.document.category) for part in there)
            what = "boxes of a known class that counts" if unknown else "boxes" if len(data) else "images"
            problems.add("empty", f"{', '.join(s['json_file'] for s in listed)}: it has no {what}")
        problems.refuse()
        left = [path for part in there for path in part.left_out]
        _write(replace(data, notes=tuple(all_in_own_words(problems.notes))), left, partial)

    return _read(once(target, make, _images_as_they_were), shared=kind == "serialized")


def images_of(sources: Sequence[Mapping[str, str | None]], options: Options) -> list[Path]:
    """The images that training and validation on these sources use, sorted: those of the annotations but for what is
    left out, and all of the folder where a source has no annotations. Raises `UserError` as `load_sources` does."""
    named = [source for source in sources if source.get("json_file")]
    bare = [source["image_dir"] for source in sources if source not in named and source.get("image_dir")]
    found = {image for folder in bare if folder for image in images_in(stage(folder))}
    if named:
        data = load_sources(given(named), options=options)
        found |= {data.file(n) for n in range(len(data))}
    return sorted(found)


def joined(
    parts: Sequence[Part],
    by_name: bool,
    problems: Problems,
    classes: Sequence[Mapping[str, Any]] | None = None,
    counted: Sequence[Any] = (),
) -> CocoData:
    """Parts as one dataset; contradictions between them are in `problems`."""
    table = Table(by_name) if classes is None else Table.of(classes, "the training set", by_name)
    ids = [table.read(part.document, problems, classes is None, counted) for part in parts]
    categories = table.classes() if classes is None else [dict(c) for c in classes]
    labels = {c.get("category_id", c["id"]): c["id"] for c in categories}
    of_parts = [[labels.get(i, -1) if i is not None else -1 for i in of_part] for of_part in ids]
    pairs = list(zip(parts, of_parts, strict=True))
    read_parts = [_arrays(part, own, n) for n, (part, own) in enumerate(pairs)]
    data = _join(read_parts, [i for part in parts for i in part.document.image_ids], categories)
    listed = [[(c["id"], n) for c, n in zip(p.document.categories, own, strict=True)] for p, own in pairs]
    return replace(data, listed=listed)


def _arrays(part: Part, labels: list[int], source: int) -> dict[str, np.ndarray]:
    """One source's columns; boxes whose class is left out (-1) are, too."""
    label = np.array(labels, dtype=np.int64)[part.document.category]
    document = part.document.with_boxes(label >= 0)
    counts = np.bincount(document.owner, minlength=len(document))
    return {
        "files": np.array([os.fsencode(path) for path in part.paths], dtype=np.bytes_),
        "sizes": document.sizes.astype(np.int32),
        "counts": counts,
        "boxes_xywh_px": document.boxes_xywh_px,
        "labels": label[label >= 0],
        "crowd": document.crowd,
        "areas": document.areas,
        "source": np.full(len(document), source, dtype=np.int16),
    }


def _join(parts: list[dict[str, np.ndarray]], ids: list[Any], categories: list[dict[str, Any]]) -> CocoData:
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    starts = np.concatenate([[0], np.cumsum(columns.pop("counts"))]).astype(np.int64)
    arrays: dict[str, Any] = columns | _image_ids(ids)
    return CocoData(**arrays, starts=starts, categories=categories)


def _image_ids(ids: list[Any]) -> dict[str, np.ndarray]:
    """The ids themselves where they are whole numbers; else numbers from 1, and the ids as JSON beside them unless
    two sources share some."""
    unique = len(set(ids)) == len(ids)
    if unique and all(type(i) is int and abs(i) < 1 << 62 for i in ids):
        return {"image_ids": np.array(ids, dtype=np.int64)}
    numbers = {"image_ids": np.arange(1, len(ids) + 1)}
    return numbers | ({"image_keys": np.array([json.dumps(i).encode() for i in ids])} if unique else {})


ARRAYS = tuple(
    field.name for field in fields(CocoData) if field.name not in ("categories", "notes", "listed")
)


def _write(data: CocoData, left_out: Sequence[Path], folder: Path) -> None:
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(data, name), allow_pickle=False)
    seen = np.array([*data.files.tolist(), *map(os.fsencode, left_out)], np.bytes_)
    for name, array in (("seen", seen), ("stamps", _stamps(seen))):
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    (folder / "categories.json").write_text(json.dumps([data.categories, data.notes, data.listed]))


def _stamps(files: np.ndarray) -> np.ndarray:
    """[N, 4] uint64, what tells that a file is another one; 0 where there is none."""
    return np.array([stamp(file) or (0, 0, 0, 0) for file in files.tolist()], np.uint64).reshape(-1, 4)


def _images_as_they_were(folder: Path) -> bool:
    """Whether every image file is still the one that was looked at."""
    try:
        files, stamps = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("seen", "stamps"))
    except OSError:  # another process is writing it anew
        return False
    return np.array_equal(_stamps(files), stamps)


def _read(folder: Path, shared: bool) -> CocoData:
    arrays = {}
    for name in ARRAYS:
        array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        arrays[name] = array if shared else np.array(array)
    categories, notes, listed = json.loads((folder / "categories.json").read_text())
    return CocoData(**arrays, categories=categories, notes=tuple(notes), listed=listed)
