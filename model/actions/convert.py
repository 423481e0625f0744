"""KITTI labels -> COCO: a folder that `automl run --data` takes, the same bytes for the same input and seed; with what
only KITTI has, sequences and a mapping of types. Other datasets: `export_dataset`."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from model.actions.export_dataset import link
from model.data.convert_kitti import find_sequences, is_unlabelled, read_objects
from model.data.images import BROKEN, READ_SUFFIXES, upright_size
from model.data.sources import stage
from model.errors import UserError
from safe_documents import DocumentError, read_yaml

SHOWN = 5


@dataclass(frozen=True)
class Frame:
    """One image with its objects: (type, box xyxy px)."""

    path: Path
    name: str  # below the dataset's images/
    sequence: str
    size: tuple[int, int]  # (W, H) px
    objects: list[tuple[str, tuple[float, float, float, float]]]


def convert(
    source: str, target: Path, val_share: float = 0.2, seed: int = 0, by_sequence: bool = False,
    classes: Path | None = None, image_dir: str = "", label_dir: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Write `target`/{train,val}/{annotations.json, images/} from the KITTI folders (or archive, or URL) in `source`.

    A sequence is a folder that holds an image and a label folder; `by_sequence` puts each wholly into train or val.
    `classes` is a YAML or JSON file {KITTI type: class}; types it lacks are left out. Category ids count from 1 in
    alphabetical order. Returns what was written. Raises `UserError` with every broken label line at once.
    """
    if not 0 <= val_share < 1:
        raise UserError(f"--val-share must be in [0, 1), but got {val_share}")
    if target.exists() and any(target.iterdir()):
        raise UserError(f"{target} is not empty; give a new folder")
    frames = read_frames(stage(source), image_dir, label_dir)
    mapping = read_mapping(classes) if classes else None
    types = {kind for frame in frames for kind, _ in frame.objects if not is_unlabelled(kind)}
    names = {kind: class_of(kind, mapping) for kind in sorted(types)}
    kept = sorted({name for name in names.values() if name})
    if not kept:
        raise UserError(f"no object has a class to keep; types found: {', '.join(sorted(types)) or 'none'}")
    ids = {name: number for number, name in enumerate(kept, 1)}
    train, val = split(frames, val_share, seed, by_sequence)
    numbers = {frame.name: number for number, frame in enumerate(frames, 1)}
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        for part, members in (("train", train), ("val", val)):
            if members:
                _write(partial / part, members, numbers, names, ids)
        if target.exists():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    dropped = Counter(k for f in frames for k, _ in f.objects if is_unlabelled(k) or not names[k])
    kept_boxes = [(b, f.size) for f in frames for k, b in f.objects if not is_unlabelled(k) and names[k]]
    if outside := sum(min(_within(box, size)[2:]) <= 0 for box, size in kept_boxes):
        dropped["objects without extent in their image"] = outside
    return {"train": len(train), "val": len(val), "classes": ids, "left_out": dict(sorted(dropped.items()))}


def read_frames(root: Path, image_dir: str = "", label_dir: str = "") -> list[Frame]:
    """Every labelled image, in order of sequence and file name. Raises `UserError` listing what is wrong."""
    frames, problems = [], []
    for folder, images, labels in find_sequences(root, image_dir, label_dir):
        sequence = folder.relative_to(root).as_posix() if folder != root else ""
        paths = sorted(p for p in images.iterdir() if p.suffix.lower() in READ_SUFFIXES and p.is_file())
        stems = Counter(path.stem for path in paths)
        problems += [f"{images}: {n} images are called {stem}" for stem, n in sorted(stems.items()) if n > 1]
        stray = sorted({p.stem for p in labels.glob("*.txt")} - set(stems))
        problems += [f"{labels / stem}.txt: no image of that name in {images}" for stem in stray]
        for path in paths:
            try:
                size, objects = _read_size(path), read_labels(labels / f"{path.stem}.txt")
            except UserError as error:
                problems += str(error).splitlines()
                continue
            frames.append(Frame(path, (Path(sequence) / path.name).as_posix(), sequence, size, objects))
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError("\n".join(problems[:SHOWN] + more))
    if not frames:
        raise UserError(f"{root}: the image folders hold no images")
    return frames


def read_labels(path: Path) -> list[tuple[str, tuple[float, float, float, float]]]:
    """(type, box xyxy px) of every line; an empty file is an image without objects. Raises `UserError` naming file
    and line."""
    if not path.is_file():
        raise UserError(f"{path}: no such label file; an image without objects needs an empty one")
    try:
        return [(kind, box) for _, kind, box in read_objects(path)]
    except ValueError as error:
        raise UserError("\n".join(f"{path}:{line}" for line in str(error).splitlines())) from None


def read_mapping(path: Path) -> dict[str, str]:
    """{KITTI type: class name} of a YAML or JSON file. Raises `UserError`."""
    try:
        mapping = read_yaml(path)
    except (OSError, DocumentError) as error:
        raise UserError(f"--classes {path}: {error}") from None
    if not isinstance(mapping, dict) or not all(isinstance(v, str) for v in mapping.values()):
        raise UserError(f"--classes {path}: must be a mapping of KITTI types to class names")
    return mapping


def class_of(kind: str, mapping: Mapping[str, str] | None) -> str | None:
    """The class of a KITTI type, None for one that is left out; case only matters where the mapping says so."""
    if mapping is None or kind in mapping:
        return kind if mapping is None else mapping[kind]
    return next((name for key, name in sorted(mapping.items()) if key.lower() == kind.lower()), None)


def split(
    frames: Sequence[Frame], val_share: float, seed: int, by_sequence: bool
) -> tuple[list[Frame], list[Frame]]:
    """(train, val), both in the order of `frames`, drawn by `seed`: by image, or whole sequences until val has its
    share. Neither is empty, unless `val_share` is 0. Raises `UserError` when there is too little to split."""
    if val_share == 0:
        return list(frames), []
    units = sorted({frame.sequence if by_sequence else frame.name for frame in frames})
    if len(units) < 2:
        what = "sequence" if by_sequence else "image"
        raise UserError(f"a split needs two {what}s, but there is {len(units)}; --val-share 0 makes none")
    counts = Counter(frame.sequence if by_sequence else frame.name for frame in frames)
    held: set[str] = set()
    for index in np.random.default_rng(seed).permutation(len(units))[: len(units) - 1]:
        if held and sum(counts[unit] for unit in held) >= round(val_share * len(frames)):
            break
        held.add(units[index])
    in_val = [(frame.sequence if by_sequence else frame.name) in held for frame in frames]
    train = [frame for frame, inside in zip(frames, in_val, strict=True) if not inside]
    return train, [frame for frame, inside in zip(frames, in_val, strict=True) if inside]


def _write(
    folder: Path, frames: Sequence[Frame], numbers: Mapping[str, int], names: Mapping[str, str | None],
    ids: Mapping[str, int],
) -> None:  # fmt: skip
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for frame in frames:
        copy = folder / "images" / frame.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        link(frame.path, copy)
        width, height = frame.size
        number = numbers[frame.name]
        images.append({"id": number, "file_name": frame.name, "width": width, "height": height})
        for kind, box in frame.objects:
            x, y, w, h = _within(box, frame.size)
            if not is_unlabelled(kind) and (name := names[kind]) and w > 0 and h > 0:
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": number, "category_id": ids[name],
                     "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
                )  # fmt: skip
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document))


def _within(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """xywh px of the part of a box (xyxy px) in an image of (W, H) px; a side is 0 or less where there is none."""
    left, top, right, bottom = box
    x, y = min(max(left, 0.0), size[0]), min(max(top, 0.0), size[1])
    return x, y, min(right, size[0]) - x, min(bottom, size[1]) - y


def _read_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as file:
            return upright_size(file)
    except BROKEN as error:
        raise UserError(f"{path}: cannot be read as an image ({error})") from None
