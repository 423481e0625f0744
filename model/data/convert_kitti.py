"""KITTI labels: a text file an image, a line an object.

Lists of images say the splits (image_sets.py), else the folders' names. A line has 15 fields: type, truncated,
occluded, alpha, left, top, right, bottom (px), three sizes, three places and a rotation in space; a 16th, a score, is
what detectors add. DontCare marks regions without labels, which are left out.
Category ids count from 1 in alphabetical order of the types.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from model.data.image_sets import Entries, lists_of
from model.data.images import READ_SUFFIXES
from model.data.label_files import (
    Box,
    LabelFiles,
    Parsed,
    by_folders,
    refuse,
    without_unlabelled,
)
from model.data.other_labels import lost_labels, without_orphans
from model.data.paths import is_hidden, stem_of
from model.data.tree import Tree, counted, parent
from model.errors import UserError
from safe_documents import DocumentError, read_yaml

IMAGE_DIRS = ("image_2", "images", "image", "data")  # data: of FiftyOne
LABEL_DIRS = ("label_2", "labels", "label")
UNLABELLED = "DontCare"

Pair = tuple[Path, Path | None]  # an image, its label file
Pairs = dict[str, list[Pair]]  # split -> its images


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
    asked, options = options is not None, options or Options()
    try:
        sequences = find_sequences(tree.root, options.image_dir, options.label_dir)
    except UserError:
        if asked:
            raise
        return None
    files = (p for _, _, labels in sequences for p in sorted(labels.glob("*.txt")) if _is_visible(p))
    first = next((path for path in files if path.stat().st_size), None)
    if first is None or not _is_kitti(first):
        if asked:
            raise UserError(
                f"{first or tree.root}: {'holds' if first else 'there are'} no KITTI labels, for which these options "
                "are: lines of a type and 14 numbers"
            )
        return None
    folders = _by_folder(tree, sequences)
    lists = lists_of(tree, _labelled(tree, folders))
    found, notes = _by_list(folders, lists) if lists else _of_no_split(tree, folders)
    orphans = without_orphans(tree, found, (image for pairs in folders.values() for image, _ in pairs))
    notes = (*notes, *(f"KITTI: {note}" for note in orphans))
    splits, more = without_unlabelled(found, "label_2/NAME.txt for image_2/NAME.png")
    if options.classes is not None:
        _refuse_none_kept([label for pairs in splits.values() for _, label in pairs if label], options)
    told = (*notes, *more, *lost_labels(tree, found))
    said = repr(sorted(options.classes.items())) if options.classes is not None else ""
    return LabelFiles("KITTI", splits, {}, partial(parse, options=options), told, read_as=said)


def _refuse_none_kept(labels: Sequence[Path], options: Options) -> None:
    """Raise `UserError` where the options leave out every type."""
    types: set[str] = set()
    for label in labels:
        try:
            types |= {kind for _, kind, _ in read_objects(label) if not is_unlabelled(kind)}
        except (OSError, ValueError):
            return  # told when it is read
        if any(map(options.class_of, types)):
            return
    raise UserError(f"no object has a class to keep; types found: {', '.join(sorted(types)) or 'none'}")


def _labelled(tree: Tree, folders: Pairs) -> set[str]:
    return {
        image.relative_to(tree.root).as_posix()
        for pairs in folders.values()
        for image, label in pairs
        if label
    }


def _is_visible(path: Path) -> bool:
    return not is_hidden(path.name) and path.is_file()


def _by_folder(tree: Tree, sequences: Sequence[tuple[Path, Path, Path]]) -> Pairs:
    found: Pairs = {}
    for folder, images, labels in sequences:
        split = tree.split_of(f"{folder.relative_to(tree.root).as_posix()}/.") or ""
        for image in sorted(
            p for p in images.iterdir() if p.suffix.lower() in READ_SUFFIXES and _is_visible(p)
        ):
            label = labels / f"{image.stem}.txt"
            found.setdefault(split, []).append((image, label if label.is_file() else None))
    return found


def _of_no_split(tree: Tree, folders: Pairs) -> tuple[Pairs, tuple[str, ...]]:
    pairs = {
        image.relative_to(tree.root).as_posix(): (image, label)
        for listed in folders.values()
        for image, label in listed
    }
    found, notes = by_folders(
        tree,
        {image: (parent(parent(image)),) for image in pairs},
        {image for image, (_, label) in pairs.items() if label},
    )
    return {split: [pairs[i] for i in images] for split, images in found.items()}, tuple(
        f"KITTI: {n}" for n in notes
    )


def _by_list(folders: Pairs, lists: Entries) -> tuple[Pairs, tuple[str, ...]]:
    """Images by the split whose list names them. Raises `UserError` for names without an image, but for a test set
    that is not there at all."""
    known: dict[bool, dict[str, list[Pair]]] = {True: {}, False: {}}  # whether in a folder for testing
    for split, pairs in folders.items():
        for pair in pairs:
            known[split == "test"].setdefault(stem_of(pair[0].name), []).append(pair)
    wanted = {
        split: list(dict.fromkeys(stem_of(name) for _, name in names)) for split, names in lists.items()
    }
    others = {name for split, names in wanted.items() if split != "test" for name in names}
    found: Pairs = {}
    problems, notes = [], []
    for split, names in wanted.items():
        # testing/ has the names of training/ again.
        apart = split == "test" and bool(known[True] or others & set(names))
        near = {name: known[apart].get(name, []) for name in names}
        if split == "test" and not any(near.values()):
            notes.append(
                f"KITTI: a list names {counted(len(names), 'image')} for test, none is there with labels"
            )
            continue
        found[split] = [pairs[0] for pairs in near.values() if len(pairs) == 1]
        problems += [
            f"the list for {split} names {name}, of which there {'are several images' if pairs else 'is no image'}"
            for name, pairs in near.items()
            if len(pairs) != 1
        ]
    refuse(problems)
    listed = {image for pairs in found.values() for image, _ in pairs}
    left = [p for pairs in folders.values() for p in pairs if p[1] is not None and p[0] not in listed]
    if left and "train" not in wanted:
        found["train"] = left
        notes.append(f"KITTI: {counted(len(left), 'image')} in no list are for training")
    elif left:
        notes.append(f"KITTI: {counted(len(left), 'image')} with labels in no list, not used")
    return {split: pairs for split, pairs in found.items() if pairs}, tuple(notes)


def parse(path: Path, size: tuple[int, int], options: Options = Options()) -> Parsed:
    """One label file. Raises `ValueError` naming every broken line."""
    remarks: Counter[str] = Counter()
    objects, places = [], []
    for number, kind, box in read_objects(path):
        name = None if is_unlabelled(kind) else options.class_of(kind)
        if name:
            objects.append((name, box))
            places.append(f":{number}")
        else:
            what = f"{UNLABELLED} regions" if is_unlabelled(kind) else f"objects of {kind}"
            remarks[f"{what} left out"] += 1
    return Parsed(list(objects), None, remarks, places)


def is_unlabelled(kind: str) -> bool:
    """Whether a type marks a region without labels: DontCare, in any case."""
    return kind.casefold() == UNLABELLED.casefold()


def _is_kitti(path: Path) -> bool:
    try:
        fields = path.read_text().split("\n", 1)[0].split()
    except (OSError, UnicodeDecodeError):
        return False
    return len(fields) >= 15 and not _is_number(fields[0])


def find_sequences(root: Path, image_dir: str, label_dir: str) -> list[tuple[Path, Path, Path]]:
    """(folder, its image folder, its label folder), sorted. Raises `UserError` when there is none."""
    found = []
    for folder in sorted([root, *(p for p in root.rglob("*") if p.is_dir())]):
        images = [folder / name for name in ([image_dir] if image_dir else IMAGE_DIRS)]
        labels = [folder / name for name in ([label_dir] if label_dir else LABEL_DIRS)]
        pairs = [(folder, i, label) for i in images for label in labels if i.is_dir() and label.is_dir()]
        found += pairs[:1]
    if not found:
        wanted = f"{image_dir or ' or '.join(IMAGE_DIRS)} beside {label_dir or ' or '.join(LABEL_DIRS)}"
        raise UserError(f"{root}: no folder holds {wanted}")
    return found


def read_objects(path: Path) -> list[tuple[int, str, Box]]:
    """(line, type, box) of every line. Raises `ValueError` naming every broken line."""
    objects, problems = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            objects.append((number, *_object(fields)))
        except ValueError as error:
            problems.append(f"{number}: {error}")
    if problems:
        raise ValueError("\n".join(problems))
    return objects


def _object(fields: list[str]) -> tuple[str, Box]:
    """(type, box); a type may have blanks, the 14 or 15 numbers behind it may not be fewer or more."""
    numbers = next((n for n, field in enumerate(reversed(fields)) if not _is_number(field)), len(fields))
    kind = " ".join(fields[: len(fields) - numbers])
    two_lines = sum(map(_is_number, kind.split())) > 2
    if numbers not in (14, 15) or not kind or two_lines:
        if len(fields) in (15, 16):
            raise ValueError(f"14 fields behind the type must be numbers, but got '{fields[-numbers - 1]}'")
        raise ValueError(f"a KITTI line must have 15 fields, but got {len(fields)}")
    left, top, right, bottom = (float(v) for v in fields[-numbers:][3:7])
    if not all(map(math.isfinite, (left, top, right, bottom))) or right < left or bottom < top:
        raise ValueError(
            f"left <= right and top <= bottom must hold, but got {left:g} {top:g} {right:g} {bottom:g}"
        )
    return kind, (left, top, right, bottom)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
