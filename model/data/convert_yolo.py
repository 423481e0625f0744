"""YOLO labels: a line an object, "class cx cy w h" as shares of the image, or a polygon "class x1 y1 x2 y2 ...".

data.yaml names the classes and where the images of each split are: a folder, a list of folders, or a text file with a
name a line. Darknet's obj.data says the same. Without either, classes.txt names the classes and images/ stands beside
labels/. Category ids are the classes' numbers + 1, unless several
classes.txt number them differently (yolo_config.py, yolo_names.py).
"""

from __future__ import annotations

import math
import os
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from model.data.coco_boxes import DETECTED
from model.data.image_sets import by_lists, lists_of
from model.data.kitti_lines import is_number
from model.data.label_files import (
    LabelFiles,
    Parsed,
    by_folders,
    refuse,
    without_unlabelled,
)
from model.data.other_labels import lost_labels, without_orphans
from model.data.paths import composed, in_any_form, stem_of
from model.data.tree import Tree, parent
from model.data.yolo_config import Config, find_config
from model.data.yolo_images import configured, of_other_keys
from model.data.yolo_lines import hold_labels
from model.data.yolo_lists import TWINS, twins_of
from model.data.yolo_names import NAME_FILES, SPARE, names_of
from model.data.yolo_numbers import counted_from_one
from model.data.yolo_poses import SAY_POSES, refuse_unsaid_poses
from model.data.yolo_tracks import are_tracked
from model.errors import UserError

NO_LABELS = (*NAME_FILES, *SPARE)
OVERSHOOT = 0.01  # how far outside 0..1 rounding may take a coordinate
BEYOND = 0.5  # and how far a point of an outline may lie: boxes that are turned at the border reach beyond, and are cut
SIXTH = (
    f"lines with a sixth field, taken as a confidence and passed over: {DETECTED} Where it is an angle the boxes are "
    "wrong: give the upright box around each turned one"
)
TRACKED = (
    "lines whose sixth field is a track's number, as of CVAT's Ultralytics YOLO Detection Track, passed over (where it "
    "is an angle the boxes are wrong)"
)
WANTED = "labels/NAME.txt for images/NAME.jpg, or NAME.txt beside NAME.jpg"
APART = "put the labels of images/train into labels/train, and so for each folder"


def find(tree: Tree, file: Path | None = None) -> LabelFiles | None:
    """The YOLO dataset in a folder, or None. Raises `UserError` for one that is there and cannot be read."""
    gone: tuple[str, ...] = ()
    apart: dict[Path, Path] = {}
    told: set[Path] = set()
    config = find_config(tree, file)
    if config is None or not config.entries:
        images, apart, gone, told = _by_folder(tree)
        if not images:
            return None
        layout = "YOLO"
    else:
        images, gone = configured(config)
        spare, more = of_other_keys(config, images)
        told = told.union(more, *images.values())
        images, parted = _parted_by_lists(tree, config, images) if "train" in images else (images, ())
        gone = (*gone, *spare, *parted)
        layout = f"YOLO ({config.path.name})"
    labels_of = _labels_of(image for paths in images.values() for image in paths)
    pairs = {
        split: [(image, apart.get(image) or labels_of[image]) for image in paths]
        for split, paths in images.items()
    }
    placed = _labels_of(map(tree.path, tree.images)) | apart
    orphans = without_orphans(tree, pairs, placed)
    splits, notes = without_unlabelled(pairs, WANTED)
    labels = [label for listed in splits.values() for _, label in listed if label is not None]
    names = names_of(tree, config, labels)
    doubts: tuple[str, ...] = ()
    if config is None or config.keypoints is None:
        doubts = refuse_unsaid_poses(config.path if config else tree.root, labels)
    keypoints, tracked = (config.keypoints if config else None) or 0, are_tracked(labels)
    notes = (
        *gone,
        *(f"YOLO: {note}" for note in orphans),
        *notes,
        *names.notes,
        *doubts,
        *(config.notes if config else ()),
        *lost_labels(tree, pairs, NO_LABELS),
    )
    known = {(str(label.parent), *sorted(numbers.items())) for label, numbers in names.of_label.items()}
    return LabelFiles(
        layout, splits, names.ids,
        lambda path, size: parse(path, size, names.of_label[path], keypoints, tracked),
        notes, read_as=repr((keypoints, tracked, sorted(known))),
        told=told.union(*images.values()), doubts=lambda: counted_from_one(names),
    )  # fmt: skip


def parse(
    path: Path, size: tuple[int, int], numbers: Mapping[int, int], keypoints: int = 0, tracked: bool = False
) -> Parsed:
    """One label file; `numbers` are {number in the file: category id}, `tracked` as `are_tracked`. Raises `ValueError`
    naming every broken line."""
    objects, problems, places, sixth = [], [], [], 0
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        fields = line.split()
        if fields:
            try:
                objects.append(_object(fields, size, numbers, keypoints, tracked))
                places.append(f":{number}")
                sixth += len(fields) == 6
            except ValueError as error:
                problems.append(f"{number}: {error}")
    if problems:
        raise ValueError("\n".join(problems))
    return Parsed(objects, None, {TRACKED if tracked else SIXTH: sixth} if sixth else {}, places)


def _object(
    fields: list[str], size: tuple[int, int], numbers: Mapping[int, int], keypoints: int, tracked: bool
) -> tuple[int | str, tuple[float, float, float, float]]:
    try:
        kind, *values = (float(v) for v in fields)
    except ValueError:
        raise ValueError(_no_numbers(fields)) from None
    if kind not in numbers:
        raise ValueError(f"class {fields[0]} has no name; there are {len(numbers)}, from {min(numbers)}")
    if keypoints and len(values) > 5:
        if len(values) != 4 + keypoints:
            raise ValueError(
                f"a pose must have 4 numbers and {keypoints} by kpt_shape, but has {len(values)}"
            )
        values = values[:4]
    box = len(values) in (4, 5)
    if len(values) == 5 and not tracked and not 0 <= values[4] <= 1:
        raise ValueError(
            f"a sixth field may be a confidence, from 0 to 1, but got {fields[5]} in '{' '.join(fields)}': where it is "
            "an angle, give the upright box around the turned one; remove it in any case, or, where it is a track's "
            "number, export Ultralytics YOLO Detection from CVAT, without Track"
        )
    values = values[:4] if box else values
    if not box and (len(values) < 6 or len(values) % 2):
        raise ValueError(
            f"a label must be a class and 4 numbers, or a class and 3 or more points, but got '{' '.join(fields)}'"
            + (f"; {SAY_POSES}" if len(values) > 6 and len(values) % 3 == 1 else "")
        )
    over = OVERSHOOT if box else BEYOND
    if not all(math.isfinite(v) and -over <= v <= 1 + over for v in values):
        raise ValueError(
            f"coordinates must be shares of the image, from 0 to 1, but got '{' '.join(fields)}'"
        )
    if box:
        cx, cy, w, h = values
        left, top, right, bottom = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    else:
        left, right, top, bottom = min(values[::2]), max(values[::2]), min(values[1::2]), max(values[1::2])
    return numbers[int(kind)], (left * size[0], top * size[1], right * size[0], bottom * size[1])


def _no_numbers(fields: list[str]) -> str:
    """Why a line's fields are no numbers, and what they must be."""
    text = " ".join(fields)
    words = [number for number, field in enumerate(fields) if not is_number(field)]
    if any("," in field and all(map(is_number, filter(None, field.split(",")))) for field in fields):
        return f"numbers must have a decimal point, and blanks between them, but got '{text}'"
    if words == [0] and fields[0] != "#":
        return f"a class must be its number in the list of names, from 0, but got '{text}'"
    if words == [8] and len(fields) in (9, 10):
        return f"'{text}' is a line of DOTA; a label must be a class's number and the points as shares of the image"
    return f"a label must be a class's number and 4 numbers or more, but got '{text}'"


def _parted_by_lists(
    tree: Tree, config: Config, images: dict[str, list[Path]]
) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """(the images by split, notes) of a configuration that names the same images for train and val: the lists beside
    it decide, as where it names none. As they are where it names other images, or lists itself, or no list is of
    these."""
    whole = set(images["train"])
    named = [entry for split in ("train", "val") for entry in config.entries.get(split, ())]
    if whole != set(images.get("val", ())) or any(entry.lower().endswith(".txt") for entry in named):
        return images, ()
    own = {os.path.abspath(tree.path(path)): path for path in tree.images}
    meant = {own.get(os.path.abspath(i), ""): label for i, label in _labels_of(images["train"]).items()}
    if "" in meant:
        return images, ()
    same = f"{config.path}: train and val name the same images"
    try:
        lists = lists_of(tree, {path for path, label in meant.items() if label})
    except UserError as error:  # such as folds: it says all the same where the images are
        return images, (f"{same}, and no list parts them: {error}",)
    by = ", ".join(dict.fromkeys(source for entries in lists.values() for source, _ in entries))
    stems = set(map(stem_of, meant))
    if other := next((n for of in lists.values() for _, n in of if stem_of(n) not in stems), ""):
        return images, (
            f"{same}; {by} would part them, but also name {other}, which is none of them: not followed",
        )
    if not lists:
        return images, ()
    found, notes = by_lists(tree, meant, lists)
    parted = {split: [tree.path(path) for path in paths] for split, paths in found.items()}
    others = {split: paths for split, paths in images.items() if set(paths) != whole}
    note = f"{same}, which are parted by {by}"
    return others | parted, (note, *(f"YOLO: {each}" for each in notes))


# ---- without a configuration ------------------------------------------------------------------------------------


def _by_folder(
    tree: Tree,
) -> tuple[dict[str, list[Path]], dict[Path, Path], tuple[str, ...], set[Path]]:
    """(images of every folder whose labels lie in the folder's twin, by split; labels that lie elsewhere, by image;
    notes; the images of which these may speak). A split is that of the lists that name an image, else of its folders;
    all are for training where none names one."""
    may = {folder for folder in tree.image_folders if _may_have_labels(tree, folder)}
    meant = {path: tree.path(path) for path in tree.images if parent(path) in may}
    labels_of = _labels_of(meant.values())
    places = {path: labels_of[image] for path, image in meant.items()}
    apart = {} if any(places.values()) else labels_apart(tree, TWINS, _is_of_numbers)
    folders = {parent(image) for image in apart}
    places |= {image: None for image in tree.images if parent(image) in folders}
    places |= {image: tree.path(label) for image, label in apart.items()}
    if not hold_labels(label for label in places.values() if label is not None):
        return {}, {}, (), set()
    labelled = {path for path, label in places.items() if label}
    lists = lists_of(tree, labelled)
    by_split, notes = (
        by_lists(tree, places, lists)
        if lists
        else by_folders(
            tree, {path: (parent(path), parent(apart.get(path, ""))) for path in places}, labelled
        )
    )
    found = {split: [tree.path(path) for path in paths] for split, paths in by_split.items()}
    own = {tree.path(image): tree.path(label) for image, label in apart.items()}
    return found, own, tuple(f"YOLO: {note}" for note in notes), set(map(tree.path, labelled))


def _may_have_labels(tree: Tree, folder: str) -> bool:
    return "images" in folder.lower().split("/") or any(
        n.lower().endswith(".txt") and n.lower() not in NO_LABELS for n in tree.folders[folder]
    )


def labels_apart(tree: Tree, label_dirs: Collection[str], is_own: Callable[[Path], bool]) -> dict[str, str]:
    """{image: its label file} where labels/ has other folders in it than the images lie in: labels/train of images/,
    or labels/ of train/; of most images or of none. Raises `UserError` where several images or label files share a
    stem and the first file `is_own`, of the form that is looked for."""
    by_stem: dict[str, list[str]] = {}
    for image in tree.images:
        if image not in tree.masks:
            by_stem.setdefault(composed(Path(image).stem), []).append(image)
    found: dict[str, str] = {}
    by_label: dict[str, str] = {}
    problems = []
    for label in tree.files(".txt"):
        above = parent(label).split("/")
        at = next((n for n, folder in enumerate(above) if folder in label_dirs), None)
        if at is None or label.rsplit("/", 1)[-1].lower() in NO_LABELS:
            continue
        home = "".join(f"{folder}/" for folder in above[:at])
        near = [image for image in by_stem.get(composed(Path(label).stem), ()) if image.startswith(home)]
        by_label |= {label: near[0]} if near else {}
        if len(near) > 1 or (near and near[0] in found):
            other = f"{found[near[0]]} too is called like it" if len(near) == 1 else f"or to {near[1]}"
            problems.append(f"{tree.path(label)}: may belong to {near[0]}, {other}; {APART}")
        elif near:
            found[near[0]] = label
    if 2 * len(by_label) < sum(tree.image_folders[f] for f in {parent(image) for image in by_label.values()}):
        return {}  # a few beside labels of another form
    first = next((path for label in by_label if _fields(path := tree.path(label))), None)
    if first and is_own(first):
        refuse(problems)
    return found


def _is_of_numbers(label: Path) -> bool:
    return all(map(is_number, _fields(label)))


def _fields(label: Path) -> list[bytes]:
    return label.read_bytes().removeprefix(BOM_UTF8).split()


def _labels_of(images: Iterable[Path]) -> dict[Path, Path | None]:
    """The label file of each image: in labels/ where the path says images/, else beside it. Each folder is listed
    once."""
    found: dict[Path, Path | None] = {}
    places: dict[Path, list[tuple[Path, set[str]]]] = {}
    for image in images:
        folder = image.parent
        if folder not in places:
            places[folder] = [(place, _listed_names(place)) for place in (*twins_of(folder), folder)]
        tries = (
            place / name
            for place, names in places[folder]
            for name in (f"{image.stem}.txt", f"{image.stem}.TXT")
            if name in names
        )
        found[image] = next((path for path in tries if path.is_file()), None)
    taken = set(found.values())
    for image in [i for i, label in found.items() if label is None and not i.stem.isascii()]:
        alike = (in_any_form(place, f"{image.stem}.txt") for place, _ in places[image.parent])
        found[image] = next((label for label in alike if label is not None and label not in taken), None)
    return found


def _listed_names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()
