"""KITTI labels: a text file an image, a line an object.

Lists of images say the splits (image_sets.py), else the folders' names. A line has 15 fields: type, truncated,
occluded, alpha, left, top, right, bottom (px), three sizes, three places and a rotation in space; a 16th, a score, is
what detectors add (kitti_lines.py). DontCare marks regions without labels, which are left out (no_classes.py).
Category ids count from 1 in alphabetical order of the types.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from model.data.classes import TRIMMED
from model.data.coco_boxes import SCORED, is_detected
from model.data.convert_yolo import TWINS, labels_apart
from model.data.image_sets import Entries, lists_of, meant
from model.data.images import READ_SUFFIXES
from model.data.kitti_lines import are_scored, is_line, may_be_scored, type_and_numbers
from model.data.label_files import (
    Box,
    LabelFiles,
    Parsed,
    by_folders,
    refuse,
    without_unlabelled,
)
from model.data.no_classes import LEFT_OUT, is_no_class
from model.data.other_labels import lost_labels, without_orphans
from model.data.paths import composed, stem_of
from model.data.tree import Tree, parent
from model.errors import UserError, number_of
from safe_documents import DocumentError, read_yaml

LABEL_DIRS = ("label_2", "labels", "label")
PLACES = {  # folders of images, the likeliest first -> those of their labels
    "image_2": LABEL_DIRS,
    "images": ("labels", "label", "label_2"),
    "image": ("label", "labels", "label_2"),
    "data": ("labels", "label", "label_2"),  # of FiftyOne
}
LOOKED_AT = 200  # label files that may be KITTI's


@dataclass(frozen=True)
class Options:
    """What a person says of KITTI: {type: class} of those that count, None for all as they are; the names of the
    folders of images and of labels, "" for the usual ones."""

    classes: Mapping[str, str] | None = None
    image_dir: str = ""
    label_dir: str = ""

    def class_of(self, kind: str) -> str | None:
        """The class of a type, None for one that is left out; case only matters where two keys differ in it alone."""
        if self.classes is None or kind in self.classes:
            return kind if self.classes is None else self.classes[kind]
        return next((v for key, v in sorted(self.classes.items()) if key.lower() == kind.lower()), None)


def read_classes(path: Path) -> dict[str, str]:
    """{KITTI type: class} of a YAML or JSON file. Raises `UserError`."""
    try:
        mapping = read_yaml(path)
    except (OSError, DocumentError) as error:
        raise UserError(f"--classes {path}: {error}") from None
    if not isinstance(mapping, dict) or not all(isinstance(v, str) for v in mapping.values()):
        raise UserError(f"--classes {path}: must be a mapping of KITTI types to class names")
    return {str(kind): name for kind, name in mapping.items()}


def find(tree: Tree, options: Options | None = None) -> LabelFiles | None:
    """The KITTI dataset in a folder, or None. With `options`, which say that it is one, raises `UserError` where there
    is none."""
    pairs = _pairs(tree, options or Options())
    labels = [tree.path(label) for label in pairs.values() if label]
    if not _are_kitti(labels):
        if options:
            raise UserError(_why_none(tree, options, labels))
        return None
    options = options or Options()
    labelled = {image for image, label in pairs.items() if label}
    lists = lists_of(tree, labelled)
    by_split, notes = _by_list(tree, pairs, lists) if lists else _by_folder(tree, pairs, labelled)
    whole = {tree.path(image): tree.path(label) if label else None for image, label in pairs.items()}
    found = {
        split: [(tree.path(i), whole[tree.path(i)]) for i in images] for split, images in by_split.items()
    }
    notes += without_orphans(tree, found, whole)
    splits, more = without_unlabelled(found, "label_2/NAME.txt for image_2/NAME.png")
    labels = [label for listed in splits.values() for _, label in listed if label]
    scored = are_scored(labels)
    if options.classes is not None:
        _refuse_none_kept(labels, options, scored)
    notes = (*(f"KITTI: {note}" for note in notes), *more, *lost_labels(tree, found))
    said = repr(sorted(options.classes.items())) if options.classes is not None else ""
    said += f" as of 2, {'with' if scored else 'without'} scores"
    told = {image for image, label in whole.items() if label}
    told.update(image for listed in found.values() for image, _ in listed)
    return LabelFiles(
        "KITTI", splits, {}, partial(parse, options=options, scored=scored), notes, read_as=said, told=told
    )


def _why_none(tree: Tree, options: Options, labels: Sequence[Path]) -> str:
    if labels:
        return (
            f"{labels[0]}: holds no KITTI labels, for which these options are: lines of a type and 14 numbers"
        )
    images, places = options.image_dir or " or ".join(PLACES), options.label_dir or " or ".join(LABEL_DIRS)
    return f"{tree.root}: no folder holds {images} beside {places}, with label files called like images"


# ---- which label file is an image's --------------------------------------------------------------------------------


def _pairs(tree: Tree, options: Options) -> dict[str, str | None]:
    """{image: its label file, or None} of all folders of images that have a folder of labels, or labels in them."""
    folders: dict[str, list[str]] = {}  # in one case -> as they are
    for folder in tree.folders:
        folders.setdefault(folder.casefold(), []).append(folder)
    found: dict[str, str | None] = {}
    for folder in tree.image_folders:
        places = [p for place in _places(folder, options) for p in folders.get(place, ())]
        texts = [_texts(tree, place) for place in places]
        names = [name for name in tree.folders[folder] if name.lower().endswith(READ_SUFFIXES)]
        of_image = {
            n: next((of[s] for of in texts if (s := composed(Path(n).stem)) in of), None) for n in names
        }
        # Texts beside images may be anything, such as captions.
        if any(p != folder for p in places) or _are_kitti([tree.path(t) for t in of_image.values() if t]):
            found |= {f"{folder}/{name}".lstrip("/"): label for name, label in of_image.items()}
    return _of_first_folders(found, options) if any(found.values()) or options.image_dir else _apart(tree)


def _places(folder: str, options: Options) -> Iterable[str]:
    """Where the labels of a folder's images may lie, the likeliest first, in one case: in a folder called like labels
    where the path has one called like images, else beside them."""
    parts = folder.casefold().split("/")
    image_dirs = {options.image_dir.casefold(): LABEL_DIRS} if options.image_dir else PLACES
    for at in reversed(range(len(parts))):
        for images, usual in image_dirs.items():
            end = at + images.count("/") + 1
            if "/".join(parts[at:end]) == images:
                for labels in (options.label_dir.casefold(),) if options.label_dir else usual:
                    yield "/".join((*parts[:at], labels, *parts[end:]))
    if not (options.image_dir or options.label_dir):
        yield folder.casefold()


def _texts(tree: Tree, folder: str) -> dict[str, str]:
    """{stem in one Unicode form: path} of the label files in a folder."""
    names = [name for name in tree.folders[folder] if name.lower().endswith(".txt")]
    names.sort(key=lambda name: name.endswith(".txt"))  # of x.TXT and x.txt the latter
    return {composed(name[: -len(".txt")]): f"{folder}/{name}".lstrip("/") for name in names}


def _of_first_folders(pairs: Mapping[str, str | None], options: Options) -> dict[str, str | None]:
    """Without the folders all of whose labels are those of others, such as images/ beside image_2/ and label_2/."""
    rank = {image: _rank(image, options) for image in pairs}
    first: dict[str, int] = {}
    for image, label in pairs.items():
        if label:
            first[label] = min(rank[image], first.get(label, rank[image]))
    lost = {i for i, label in pairs.items() if label and first[label] < rank[i]}
    kept = {parent(i) for i, label in pairs.items() if label and i not in lost}
    dropped = {parent(i) for i in lost} - kept
    return {i: label for i, label in pairs.items() if i not in lost and parent(i) not in dropped}


def _rank(image: str, options: Options) -> int:
    """Of the folder's name among those of images."""
    parts = parent(image).casefold().split("/")
    ranks = [n for n, name in enumerate(PLACES) if name in parts]
    return 0 if options.image_dir else min(ranks, default=len(PLACES))


def _apart(tree: Tree) -> dict[str, str | None]:
    """As YOLO's: labels/train of images/, or labels/ of train/."""
    found = labels_apart(tree, (*LABEL_DIRS, *TWINS), _is_kitti)
    folders = {parent(image) for image in found}
    return {image: found.get(image) for image in tree.images if parent(image) in folders}


def _refuse_none_kept(labels: Sequence[Path], options: Options, scored: bool) -> None:
    """Raise `UserError` where the options leave out every type."""
    types: set[str] = set()
    for label in labels:
        try:
            types |= {line.kind for line in read_objects(label, scored) if not is_no_class(line.kind)}
        except (OSError, ValueError):
            return  # told when it is read
        if any(map(options.class_of, types)):
            return
    raise UserError(f"no object has a class to keep; types found: {', '.join(sorted(types)) or 'none'}")


# ---- which split ---------------------------------------------------------------------------------------------------


def _by_folder(
    tree: Tree, pairs: Mapping[str, str | None], labelled: Collection[str]
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    return by_folders(tree, {i: (parent(i), parent(label or "")) for i, label in pairs.items()}, labelled)


def _by_list(
    tree: Tree, pairs: Mapping[str, str | None], lists: Entries
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Images by the split whose list names them. Raises `UserError` for names without an image, but for a test set
    that is not there at all."""
    known: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}  # whether in a folder for testing
    for image in pairs:
        of_test = tree.split_of(f"{parent(image)}/.") == "test"
        known[of_test].setdefault(stem_of(image), []).append(image)
    wanted = {split: list(dict.fromkeys(entries)) for split, entries in lists.items()}
    others = {stem_of(name) for split, names in wanted.items() if split != "test" for _, name in names}
    found: dict[str, list[str]] = {}
    problems, notes = [], []
    for split, names in wanted.items():
        # testing/ has the names of training/ again.
        apart = split == "test" and bool(known[True] or others & {stem_of(name) for _, name in names})
        near = {(at, name): meant(at, name, known[apart].get(stem_of(name), ())) for at, name in names}
        if split == "test" and not any(near.values()):
            notes.append(f"a list names {number_of(len(names), 'image')} for test, none is there with labels")
            continue
        found[split] = list(dict.fromkeys(images[0] for images in near.values() if len(images) == 1))
        problems += [
            f"{tree.path(at)}: names {name}, of which there {'are several images' if images else 'is no image'}"
            for (at, name), images in near.items()
            if len(images) != 1
        ]
    refuse(problems)
    listed = {image for images in found.values() for image in images}
    left = [image for image, label in pairs.items() if label and image not in listed]
    if left and "train" not in wanted:
        found["train"] = left
        notes.append(f"{number_of(len(left), 'image')} in no list are for training")
    elif left:
        notes.append(f"{number_of(len(left), 'image')} with labels in no list, not used")
    return {split: images for split, images in found.items() if images}, tuple(notes)


# ---- a label file --------------------------------------------------------------------------------------------------


def parse(path: Path, size: tuple[int, int], options: Options = Options(), scored: bool = True) -> Parsed:
    """One label file; `scored` as `are_scored`. Raises `ValueError` naming every broken line."""
    remarks: Counter[str] = Counter()
    objects, places = [], []
    for line in read_objects(path, scored):
        name = None if is_no_class(line.kind) else options.class_of(line.kind)
        if name:
            objects.append((name, line.box))
            places.append(f":{line.number}")
            remarks[SCORED] += line.is_detected
            remarks[TRIMMED] += line.is_trimmed
        else:
            remarks[LEFT_OUT if is_no_class(line.kind) else f"objects of {line.kind} left out"] += 1
    return Parsed(list(objects), None, +remarks, places)


def _are_kitti(labels: Iterable[Path]) -> bool:
    """Whether one of the first files that hold something is KITTI's; those that are broken are told by their line."""
    filled = (path for path in labels if path.is_file() and path.stat().st_size)
    return any(map(_is_kitti, islice(filled, LOOKED_AT)))


def _is_kitti(path: Path) -> bool:
    try:
        return is_line(path.read_text(encoding="utf-8-sig").split("\n", 1)[0].split())
    except (OSError, UnicodeDecodeError):
        return False


@dataclass(frozen=True)
class Line:
    """A line's number, from 1, and what it says."""

    number: int
    kind: str
    box: Box
    is_detected: bool  # with a detector's score
    is_trimmed: bool  # whether its type has blanks around it, or several in a row


def read_objects(path: Path, scored: bool = True) -> list[Line]:
    """Every line that holds something; `scored` as `are_scored`. Raises `ValueError` naming every broken line."""
    objects, problems = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            objects.append(_object(number, line, scored))
        except ValueError as error:
            problems.append(f"{number}: {error}")
    if problems:
        raise ValueError("\n".join(problems))
    return objects


def _object(number: int, line: str, scored: bool) -> Line:
    fields = line.split()
    kind, numbers = type_and_numbers(fields, scored)
    left, top, right, bottom = numbers[3:7]
    if not all(map(math.isfinite, (left, top, right, bottom))) or right < left or bottom < top:
        raise ValueError(
            f"left <= right and top <= bottom must hold, but got {left:g} {top:g} {right:g} {bottom:g}"
        )
    found = scored and may_be_scored(fields) and is_detected(float(fields[-1]))
    return Line(number, kind, (left, top, right, bottom), found, _is_trimmed(line, fields, kind))


def _is_trimmed(line: str, fields: Sequence[str], kind: str) -> bool:
    """Whether blanks of a type were left out, not those of columns set below each other."""
    rest = " ".join(fields).removeprefix(f"{kind} ")
    return line.rstrip().endswith(f" {rest}") and line.rstrip() != f"{kind} {rest}"
