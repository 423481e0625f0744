"""A folder of labels without the images, or of images without the labels, of which the folder above holds the others:
what was given is a part of a dataset."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from model.data.cache import cache_dir
from model.data.coco_glance import sniff
from model.data.foreign import LINES
from model.data.images import READ_SUFFIXES
from model.data.other_labels import SUFFIXES, form_of
from model.data.paths import is_hidden, stem_of
from model.data.tree import Tree
from model.data.yolo_config import read_yaml
from model.data.yolo_names import ANY, CATEGORIES, NAME_FILES
from model.errors import UserError

LABELS = (".xml", ".txt")
YAML = (".yaml", ".yml")
TEXTS = (*LABELS, ".json", *YAML, ".data", ".csv", *LINES)
OF_FOLDER = {
    "annotations": (".xml", ".json"),
    "labels": LABELS,
    "label_2": (".txt",),
}  # what they should hold
OF_MANY = (".json", ".csv", ".xml", *LINES)  # files that may hold the labels of many images, which they name
BETWEEN = re.compile(r"[\s\"'/\\<>,=?]+")  # names in such a file
BEGIN = 1 << 20  # bytes of such a file
LARGEST = 1 << 30  # bytes of a COCO file that is looked through
FOLDERS, FILES, MOST = 100, 5_000, 50_000  # of a neighbour; of each of its folders; of all
SHARE, SURE = 0.1, 1000  # of the stems here, or of so many: fewer may be the same by chance
LOOKED_AT = 20  # files, or folders side by side
SMALL = 1 << 16  # bytes of a YAML file that is looked at


def refuse(tree: Tree) -> None:
    """Raise `UserError` where a folder holds label files, each of an image, and no image; files that name classes of
    YOLO may lie there too."""
    if tree.images or sum(1 for _ in tree.files(*YAML)) > LOOKED_AT:
        return
    files = [file for file in tree.files("") if not _names_classes(tree, file)]
    if not files or not all(file.lower().endswith(LABELS) for file in files):
        return
    if form := next(filter(None, (form_of(tree.path(file)) for file in files[:LOOKED_AT])), ""):
        tool = "; Label Studio exports both as 'YOLO with Images'" if any(tree.files(CATEGORIES)) else ""
        beside = _beside(tree, "images")
        above = (
            f"above, {tree.root.absolute().parent}, with the images in {beside}"
            if beside
            else "that holds both"
        )
        raise UserError(f"{tree.root}: holds {form} labels and no images; give the folder {above}{tool}")


def _names_classes(tree: Tree, file: str) -> bool:
    """Whether a file names classes of YOLO and no images. Any other YAML file is none, whatever stands in it."""
    if file.lower().endswith(YAML):
        path = tree.path(file)
        with suppress(UserError, OSError):
            config = read_yaml(path) if path.stat().st_size <= SMALL else None
            return config is not None and not config.entries
        return False
    return file.rsplit("/", 1)[-1].lower() in NAME_FILES or file.lower().endswith(ANY)


def hint(tree: Tree, images: str = "") -> str:
    """What to do about images without labels, those in a folder or all: "; give the folder above" where that has some,
    or "; Annotations holds no .xml" where a folder for them has none and is not for another split; else nothing, also
    where that folder holds labels in a form that is told otherwise."""
    if tree.images and not any(tree.files(*TEXTS)) and (beside := _beside(tree, "labels")):
        return f"; give the folder above, {tree.root.absolute().parent}, with {beside}, which may hold their labels"
    for folder in tree.folders:
        wanted = OF_FOLDER.get(folder.rsplit("/", 1)[-1].casefold())
        of_others = images and tree.split_of(f"{folder}/.") not in (None, tree.split_of(f"{images}/."))
        if wanted and not of_others and (what := _lacks(tree, folder, wanted)):
            return f"; {folder} holds {what}, which the labels would be"
    return ""


def _lacks(tree: Tree, folder: str, wanted: tuple[str, ...]) -> str:
    """What a folder holds in place of files with the suffixes that are wanted; "" where it has those, or labels."""
    inside = (file for file in tree.files("") if file.startswith(f"{folder}/"))
    others = [file for file in inside if not file.lower().endswith(READ_SUFFIXES)]
    may_be = [file for file in others if file.lower().endswith(SUFFIXES)]
    if any(file.lower().endswith(wanted) for file in others) or any(
        form_of(tree.path(file)) for file in may_be[:LOOKED_AT]
    ):
        return ""
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return (f"{others[0]}{more}, but " if others else "") + f"no {' or '.join(wanted)} file"


def _beside(tree: Tree, wanted: str) -> str:
    """The name of a folder beside the one of `tree` with the "images" of its labels, or the "labels" of its images; ""
    where there is none, and beside what was unpacked, where other data lie. A neighbour with both is a dataset of its
    own: the folder above would be read as that."""
    own = tree.root.absolute()
    if own.resolve().is_relative_to(cache_dir().resolve()):
        return ""
    stems = set(map(_stem, tree.images if wanted == "labels" else tree.files(*LABELS)))
    for folder in _neighbours(own):
        images, labels = _stems(folder)
        common = stems & (labels if wanted == "labels" else images)
        if not images & labels and common and len(common) >= SHARE * min(len(stems), SURE):
            return folder.name
    return ""


def _neighbours(own: Path) -> list[Path]:
    try:
        with os.scandir(own.parent) as entries:
            names = [e.name for e in entries if e.name != own.name and not is_hidden(e.name) and e.is_dir()]
    except OSError:
        return []
    return [own.parent / name for name in sorted(names)[:LOOKED_AT]]


def _stems(folder: Path) -> tuple[set[str], set[str]]:
    """(the stems of a folder's images, those of which it has labels, by their names or in files of many)."""
    files = list(islice(_glance(str(folder)), MOST))
    images, labels, of_many = (
        [file for file in files if file.lower().endswith(suffixes)]
        for suffixes in (READ_SUFFIXES, (*LABELS, ".json"), OF_MANY)
    )
    return set(map(_stem, images)), set(map(_stem, labels)).union(*map(_named_in, of_many[:LOOKED_AT]))


def _glance(folder: str) -> Iterator[str]:
    """Files in a folder and those below, the upper ones first: of a large one as many as are quickly listed."""
    left = [folder]
    for at in islice(left, FOLDERS):  # which grows
        with suppress(OSError), os.scandir(at) as entries:
            for entry in islice(entries, FILES):
                if is_hidden(entry.name):
                    continue
                if entry.is_dir():
                    left.append(entry.path)
                else:
                    yield entry.path


def _named_in(file: str) -> set[str]:
    """The stems of images that a file names: some of COCO's, else those in its beginning."""
    try:
        names = sniff(Path(file))[1] if file.endswith(".json") and os.path.getsize(file) <= LARGEST else ()
        with open(file, "rb") as opened:
            words = names or BETWEEN.split(opened.read(BEGIN).decode(errors="replace"))
    except OSError:
        return set()
    return {stem_of(word) for word in words if word.lower().endswith(READ_SUFFIXES)}


def _stem(file: str) -> str:
    """Of an image, or of the one that a label file belongs to by its name; in one case, as in the names of COCO."""
    return file.rsplit("/", 1)[-1].rpartition(".")[0].casefold()
