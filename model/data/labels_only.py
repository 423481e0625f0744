"""A folder of labels without the images, or of images without the labels, of which the folder above holds the others:
what was given is a part of a dataset."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice

from model.data.cache import cache_dir
from model.data.foreign import LINES
from model.data.images import READ_SUFFIXES
from model.data.other_labels import form_of
from model.data.paths import walk
from model.data.tree import Tree, parent
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
LOOKED_AT = 20  # files
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
        beside = _beside(tree, READ_SUFFIXES)
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
    or "; Annotations holds no .xml" where a folder for them is empty and not for another split; else nothing."""
    if tree.images and not any(tree.files(*TEXTS)) and (beside := _beside(tree, TEXTS)):
        return f"; give the folder above, {tree.root.absolute().parent}, with {beside}, which may hold their labels"
    for folder in tree.folders:
        wanted = OF_FOLDER.get(folder.rsplit("/", 1)[-1].casefold())
        of_others = images and tree.split_of(f"{folder}/.") not in (None, tree.split_of(f"{images}/."))
        if wanted and not of_others and not _holds(tree, folder, wanted):
            return f"; {folder} holds no {' or '.join(wanted)} file, which the labels would be"
    return ""


def _holds(tree: Tree, folder: str, suffixes: tuple[str, ...]) -> bool:
    return any(f"{parent(file)}/".startswith(f"{folder}/") for file in tree.files(*suffixes))


def _beside(tree: Tree, suffixes: tuple[str, ...]) -> str:
    """The name of a folder beside the one of `tree` that holds files of these suffixes, those with an image's name for
    one that is here; "" where there is none, and beside what was unpacked, where other data lie."""
    own, stems = tree.root.absolute(), {_stem(file) for file in tree.files("")}
    if own.resolve().is_relative_to(cache_dir().resolve()):
        return ""

    def fits(name: str) -> bool:
        of_images = (*LABELS, *READ_SUFFIXES)
        return name.lower().endswith(suffixes) and (
            not name.lower().endswith(of_images) or _stem(name) in stems
        )

    try:
        folders = sorted(
            p for p in own.parent.iterdir() if p.is_dir() and p != own and not p.name.startswith(".")
        )
    except OSError:
        return ""
    for folder in folders[:LOOKED_AT]:
        if any(fits(name) for _, names in islice(walk(folder), LOOKED_AT) for name in names):
            return folder.name
    return ""


def _stem(file: str) -> str:
    return file.rsplit("/", 1)[-1].rpartition(".")[0]
