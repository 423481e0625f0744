"""YOLO labels: a line an object, "class cx cy w h" as shares of the image, or a polygon "class x1 y1 x2 y2 ...".

data.yaml names the classes and where the images of each split are: a folder, a list of folders, or a text file with a
name a line. Darknet's obj.data says the same. Without either, classes.txt names the classes and images/ stands beside
labels/. Category ids are the classes' numbers + 1.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from model.data.images import READ_SUFFIXES
from model.data.label_files import (
    LabelFiles,
    Parsed,
    by_folders,
    lines_of,
    refuse,
    refuse_orphans,
    without_unlabelled,
)
from model.data.paths import Resolver, walk
from model.data.tree import Tree, parent
from model.errors import UserError

KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt", "labels.txt")
OVERSHOOT = 0.01  # how far outside 0..1 rounding may take a coordinate
MOST = 100_000  # classes
MAX_BYTES = 1 << 20  # of a data.yaml
TWINS = ("labels", "Labels", "LABELS")  # of images/
DEEPEST = 3  # folders down to which a configuration is looked for


@dataclass(frozen=True)
class Config:
    """data.yaml or obj.data."""

    path: Path
    base: Path | None  # `path:` of the file, where that is here
    names: dict[int, str]
    entries: dict[str, list[str]]  # split -> folders or lists
    keypoints: int = 0  # values behind the box in a label of a pose
    within: Path | None = None  # the dataset's folder, where one was given: `../` does not lead out of it


def find(tree: Tree, file: Path | None = None) -> LabelFiles | None:
    """The YOLO dataset in a folder, or None. Raises `UserError` for one that is there and cannot be read."""
    gone: tuple[str, ...] = ()
    config = _config(tree, file)
    if config is None or not config.entries:
        (images, gone), names = _by_folder(tree), config.names if config else _named(tree)
        if not images:
            return None
        layout = "YOLO"
    else:
        (images, gone), names = _configured(config), config.names
        layout = f"YOLO ({config.path.name})"
    if not names:
        raise UserError(
            f"{tree.root}: YOLO labels without names: data.yaml or classes.txt must name the classes"
        )
    pairs = {split: [(image, _label(image)) for image in paths] for split, paths in images.items()}
    refuse_orphans(pairs, map(tree.path, tree.images))
    splits, notes = without_unlabelled(pairs)
    keypoints = config.keypoints if config else 0
    ids = {number + 1: name for number, name in names.items()}
    return LabelFiles(
        layout, splits, ids, lambda path, size: parse(path, size, names, keypoints), gone + notes
    )


def parse(path: Path, size: tuple[int, int], names: Mapping[int, str], keypoints: int = 0) -> Parsed:
    """One label file. Raises `ValueError` naming every broken line."""
    objects, problems, places = [], [], []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        fields = line.split()
        if fields:
            try:
                objects.append(_object(fields, size, names, keypoints))
                places.append(f":{number}")
            except ValueError as error:
                problems.append(f"{number}: {error}")
    if problems:
        raise ValueError("\n".join(problems))
    return Parsed(objects, places=places)


def _object(
    fields: list[str], size: tuple[int, int], names: Mapping[int, str], keypoints: int
) -> tuple[int | str, tuple[float, float, float, float]]:
    kind, *values = (float(v) for v in fields)
    if kind not in names:
        raise ValueError(f"class {fields[0]} has no name; there are {len(names)}, from {min(names)}")
    if keypoints and len(values) == 4 + keypoints:
        values = values[:4]
    box = len(values) in (4, 5)  # a fifth is the confidence that detectors write
    values = values[:4] if box else values
    if not box and (len(values) < 6 or len(values) % 2):
        raise ValueError(
            f"a label must be a class and 4 numbers, or a class and 3 or more points, but got '{' '.join(fields)}'"
        )
    if not all(math.isfinite(v) and -OVERSHOOT <= v <= 1 + OVERSHOOT for v in values):
        raise ValueError(
            f"coordinates must be shares of the image, from 0 to 1, but got '{' '.join(fields)}'"
        )
    if box:
        cx, cy, w, h = values
        left, top, right, bottom = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    else:
        left, right, top, bottom = min(values[::2]), max(values[::2]), min(values[1::2]), max(values[1::2])
    return int(kind) + 1, (left * size[0], top * size[1], right * size[0], bottom * size[1])


# ---- what the configuration says --------------------------------------------------------------------------------


def _config(tree: Tree, file: Path | None) -> Config | None:
    if file is not None:
        found = _read_yaml(file)
        if found is None:
            raise UserError(f"{file}: a YOLO file must have 'names' or 'nc'")
        return found
    near = [p for p in tree.files(".yaml", ".yml") if p.count("/") < DEEPEST]
    read = [(p, config) for p in near if (config := _read_yaml(tree.path(p))) is not None]
    read.sort(key=lambda item: (not item[1].entries, item[0].count("/"), not item[0].endswith("data.yaml")))
    if read:
        first, *others = read
        for path, config in others:
            if config.entries and path.count("/") == first[0].count("/") and path.endswith("data.yaml"):
                raise UserError(
                    f"{tree.root}: {first[0]} and {path} both describe a YOLO dataset; give one to --data"
                )
        return replace(first[1], within=tree.root)
    darknet = [p for p in tree.files(".data") if p.count("/") < DEEPEST]
    return _read_darknet(tree, darknet[0]) if darknet else None


def _read_yaml(path: Path) -> Config | None:
    """A data.yaml, or None for a file that is none. Every scalar stays text: `names: [yes, no]` are names."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        document = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (
        OSError,
        UnicodeDecodeError,
        yaml.YAMLError,
        RecursionError,
        TypeError,
    ):  # TypeError: a key that is a list
        return None
    if not isinstance(document, dict) or not ("names" in document or "nc" in document):
        return None
    _refuse_nesting(path, document)
    lower = {str(key).lower(): value for key, value in document.items()}
    entries = {split: _entries(lower | document, keys) for split, keys in KEYS.items()}
    shape = document.get("kpt_shape")
    digits = isinstance(shape, list) and all(n.isdigit() for n in shape)
    keypoints = math.prod(map(int, shape)) if digits and shape else 0
    named = document.get("path") or ""
    base = path.parent / named.replace("\\", "/")
    return Config(
        path, base if named and base.is_dir() else None, _names(path, document),
        {split: listed for split, listed in entries.items() if listed}, keypoints,
    )  # fmt: skip


def _refuse_nesting(path: Path, document: Mapping[str, Any]) -> None:
    """Raise `UserError` where text, or a list or mapping of text, is expected and something else stands."""
    flat = {"names", "kpt_shape", *(key for keys in KEYS.values() for key in keys)}
    for key in [key for key in document if isinstance(key, str) and key.lower() in flat]:
        value = document[key]
        inner = (
            [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        )
        if any(not isinstance(v, str) for v in inner) or (isinstance(value, dict) and key != "names"):
            raise UserError(f"{path}: {key} must be text or a list of texts, but holds lists or mappings")
    for key in {"path", "nc"} & document.keys():
        if not isinstance(document[key], str):
            raise UserError(f"{path}: {key} must be one value, but is a {type(document[key]).__name__}")


def _entries(document: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    value: Any = next((document[key] for key in keys if document.get(key)), [])
    return [str(v) for v in (value if isinstance(value, list) else [value]) if v]


def _names(path: Path, document: Mapping[str, Any]) -> dict[int, str]:
    names, count = document.get("names"), document.get("nc")
    try:
        if isinstance(names, dict):
            found = {int(key): str(name) for key, name in names.items()}
        elif isinstance(names, list):
            found = {number: str(name) for number, name in enumerate(names)}
        else:
            found = {number: f"class_{number}" for number in range(min(int(count or 0), MOST))}
        if count is not None and len(found) != int(count):
            raise UserError(f"{path}: nc is {count}, but there are {len(found)} names")
    except ValueError as error:
        raise UserError(f"{path}: names must be a list, or a mapping of numbers to names ({error})") from None
    return dict(sorted(found.items()))


def _read_darknet(tree: Tree, below: str) -> Config:
    path = tree.path(below)
    pairs = [line.split("=", 1) for line in lines_of(path) if "=" in line]
    document = {key.strip().lower(): value.strip() for key, value in pairs}  # CVAT writes Validation
    entries = {split: _entries(document, keys) for split, keys in KEYS.items()}
    names = Resolver(tree.root).find(document.get("names", "obj.names"))
    if names is None:
        raise UserError(f"{path}: its names, {document.get('names')}, are not there")
    return Config(
        path, None, _name_lines(names), {split: listed for split, listed in entries.items() if listed}
    )


def _name_lines(path: Path) -> dict[int, str]:
    """{line's number from 0: name}."""
    lines = lines_of(path)
    while lines and not lines[-1]:
        lines.pop()
    return dict(enumerate(lines))


def _configured(config: Config) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """(the images of every split that is there, a note on each that is not: tools name splits they did not write).
    Raises `UserError` where the images for training are not there."""
    images, notes = {}, []
    for split, entries in config.entries.items():
        if split == "train" or any(_found(config, entry) for entry in entries):
            images[split] = _images(config, split)
        else:
            notes.append(f"{config.path}: {split} names {', '.join(entries)}, which is not there: not read")
    return images, tuple(notes)


def _images(config: Config, split: str) -> list[Path]:
    """The images that the configuration names for a split, in order. Raises `UserError` for a place that is not
    there, and where two splits that are called differently turn out to be one."""
    places = [(_place(config, entry), entry) for entry in config.entries[split]]
    for other, entries in config.entries.items():
        for entry in entries if other != split else ():
            if any(place == _found(config, entry) and own != entry for place, own in places):
                raise UserError(f"{config.path}: {split} and {other} lead to the same place, {places[0][0]}")
    found: dict[Path, None] = {}
    for place, _ in places:
        for image in _listed(config, place) if place.is_file() else _below(place):
            found[image] = None
    if not found:
        raise UserError(f"{config.path}: {split} names no images ({', '.join(config.entries[split])})")
    return list(found)


def _place(config: Config, entry: str) -> Path:
    """As `_found`. Raises `UserError` where it is nowhere."""
    if (place := _found(config, entry)) is None:
        home = config.base or config.path.parent
        raise UserError(f"{config.path}: {entry} is neither in {home} nor anywhere else")
    return place


def _found(config: Config, entry: str) -> Path | None:
    """The folder or list that an entry names: below `path:`, beside the file, or as another machine called it."""
    home, plain = config.path.parent, entry.replace("\\", "/")
    parts = [p for p in plain.split("/") if p not in ("", ".", "..")]
    tries = [config.base / plain] if config.base else []
    if plain.startswith("../"):
        tries.append(home.joinpath(*parts))  # Roboflow's ../train/images lies beside its data.yaml
    tries += [home / plain, *(home.joinpath(*parts[n:]) for n in range(len(parts)))]
    if config.within is not None and config.base is None and plain.startswith("../"):
        top = os.path.abspath(
            config.within
        )  # a neighbour of the dataset that happens to be called test is not its test
        tries = [p for p in tries if os.path.abspath(p).startswith(top + os.sep)]
    place = next((place for place in tries if place.exists()), None)
    return place.resolve() if place and ".." in place.parts else place


def _below(folder: Path) -> list[Path]:
    return [
        folder / below / name
        for below, names in walk(folder)
        for name in names
        if name.lower().endswith(READ_SUFFIXES)
    ]


def _listed(config: Config, path: Path) -> list[Path]:
    """The images of a text file that names one a line."""
    homes = [path.parent, *([config.base] if config.base else []), config.path.parent]
    resolver, images, problems = Resolver(config.path.parent), [], []
    for number, name in enumerate(lines_of(path), 1):
        if name and not name.startswith("#"):
            direct = next((home / name for home in homes if (home / name).is_file()), None)
            image = direct or resolver.find(name)
            if image is None:
                problems.append(f"{path}:{number}: {name} is not there{resolver.explain(name)}")
            else:
                images.append(image)
    refuse(problems)
    return images


# ---- without a configuration ------------------------------------------------------------------------------------


def _named(tree: Tree) -> dict[int, str]:
    """Names a line, of the first known file."""
    for wanted in NAME_FILES:
        for path in tree.files(wanted):
            if path.rsplit("/", 1)[-1].lower() == wanted and path.count("/") < DEEPEST:
                return _name_lines(tree.path(path))
    return {}


def _by_folder(tree: Tree) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Images of every folder whose labels lie in the folder's twin, by split; all are for training where no path names
    one."""
    places: dict[str, tuple[str]] = {}
    for path in tree.images:
        parts = path.split("/")[:-1]
        if "images" not in (p.lower() for p in parts) and not any(
            n.lower().endswith(".txt") and n.lower() not in NAME_FILES for n in tree.folders[parent(path)]
        ):
            continue
        places[path] = (parent(path),)
    by_split, notes = by_folders(places, {path for path in places if _label(tree.path(path))})
    found = {split: [tree.path(path) for path in paths] for split, paths in by_split.items()}
    labels = (label for path in found.get("train", ()) if (label := _label(path)) is not None)
    filled = next((fields for label in labels if (fields := label.read_bytes().split())), [])
    if not filled or not all(map(_is_number, filled)):
        return {}, ()
    return found, tuple(f"YOLO: {note}" for note in notes)


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _label(image: Path) -> Path | None:
    """The label file of an image: in labels/ where the path says images/, else beside it."""
    parts = list(image.parent.parts)
    at = next((n for n in reversed(range(len(parts))) if parts[n].lower() == "images"), None)
    folders = [image.parent]
    if at is not None:
        folders = [Path(*parts[:at], twin, *parts[at + 1 :]) for twin in TWINS] + folders
    tries = (folder / f"{image.stem}{suffix}" for folder in folders for suffix in (".txt", ".TXT"))
    return next((path for path in tries if path.is_file()), None)
