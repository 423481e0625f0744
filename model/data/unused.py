"""The images of a dataset that no split has: one account by folder, whatever the layout, with the labels that lie there
for them.

What readers have spoken of already (`Data.told`) is left out, and what is clearly no picture of the data's: masks of
images that are used, and previews.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from model.data.cache import cache_dir
from model.data.coco import Part
from model.data.images import READ_SUFFIXES, is_drawn
from model.data.other_labels import SUFFIXES, form_of
from model.data.paths import both_ends, is_hidden, says_only_masks, speaks_of_masks, stem_of
from model.data.tree import Data, words_of
from model.errors import number_of

SHOWN = 5
TRIED = 20  # files of a folder's images that are looked into for labels
MADE = (
    "converted",
    "parted",
)  # below the cache: COCO files made of others, whose readers told what they leave out
FORMS = ("YOLO", "Pascal VOC", "KITTI")
PREVIEWS = {"preview", "previews", "thumb", "thumbs", "thumbnail", "thumbnails"}
NAMED = re.compile(r"YOLO \((.*?\.[^.)\s]+)\)")  # the configuration in a layout
ENDS = re.compile(r"[_\-. ]")  # where a mask's name may add to that of its image

Folders = dict[str, list[str]]  # a folder's path -> its file names
Files = dict[str, set[str]]  # a folder's real path -> names


@dataclass(frozen=True)
class Left:
    """The images of a folder that are not used, whether all are, and the label files that are there for them."""

    folder: str
    names: list[str]
    whole: bool
    labels: list[str]

    def line(self, layout: str) -> str:
        """What is said of them."""
        images, such = number_of(len(self.names), "image"), f", such as {self.names[0]}, not used"
        if named := NAMED.match(layout):
            whole, part = f"{named[1]} does not name its {images}", f"{images} that {named[1]} does not name"
        elif form := next(filter(layout.startswith, FORMS), ""):
            whole = f"{form} does not take its" if self.labels else "no split and labels are known of its"
            whole, part = f"{whole} {images}", f"{images} of no split"
        else:
            whole, part = f"no annotations belong to its {images}", f"{images} in no annotation file"
        said = f"not read, {whole}" if self.whole else part + such
        files = number_of(len(self.labels), "label file")
        are = "is" if len(self.labels) == 1 else "are"
        there = f", though {files} for them {are} there, such as {self.labels[0]}" if self.labels else ""
        return f"{self.folder}: {said}{there}"


def lines(found: Data, parts: Mapping[str, Iterable[Part]]) -> list[str]:
    """A line on each of the first folders with images that no split has, those with labels first, and one on the
    others. `parts` are the splits as they were read from the sources of `found`."""
    paths = [path for each in parts.values() for part in each for path in (*part.paths, *part.left_out)]
    root = str(found.tree.root) if found.tree else ""
    known, read = _files([*paths, *found.told]), _files(found.labels)
    left = list(_left(_folders(found, parts), root, paths, known, read))
    left.sort(key=lambda one: not one.labels)
    said = [one.line(found.layout) for one in left[:SHOWN]]
    if more := left[SHOWN:]:
        images = number_of(sum(len(one.names) for one in more), "image")
        labels = sum(len(one.labels) for one in more)
        there = f", though {number_of(labels, 'label file')} for them are there" if labels else ""
        said.append(f"... and {number_of(len(more), 'more folder')} with {images} that are not used{there}")
    return said


def _folders(found: Data, parts: Mapping[str, Iterable[Part]]) -> Folders:
    """The folders of the dataset, and those elsewhere, in an archive perhaps, that hold images of COCO files."""
    tree = found.tree
    folders = {str(tree.path(below)): names for below, names in tree.folders.items()} if tree else {}
    elsewhere = sorted(_of_coco_files(parts) - folders.keys())
    known = set(map(os.path.realpath, folders)) if elsewhere else set()
    return folders | {
        folder: sorted(name for name in _names(folder) if not is_hidden(name))
        for folder in elsewhere
        if os.path.realpath(folder) not in known
    }


def _of_coco_files(parts: Mapping[str, Iterable[Part]]) -> set[str]:
    """The folders of the images that the person's own COCO files list."""
    made = tuple(str(cache_dir() / name) for name in MADE)
    return {
        os.path.dirname(path)
        for each in parts.values()
        for part in each
        if not part.source.get("json_file", "").startswith(made)
        for path in part.paths
    }


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _files(paths: Iterable[Path]) -> Files:
    """Paths by their real folders, of which there are few."""
    by_folder: Files = {}
    for path in paths:
        folder, name = os.path.split(path)
        by_folder.setdefault(folder, set()).add(name)
    found: Files = {}
    for folder, names in by_folder.items():
        found.setdefault(os.path.realpath(folder), set()).update(names)
    return found


def _left(folders: Folders, root: str, used: list[Path], known: Files, read: Files) -> Iterator[Left]:
    """The folders, most below `root`, with images that are not `known`, neither by their place nor through links;
    `read` are the label files in use."""
    own = _files(used)
    images = {f: [n for n in names if n.lower().endswith(READ_SUFFIXES)] for f, names in folders.items()}
    reals = {folder: os.path.realpath(folder) for folder, names in images.items() if names}
    unknown = {f: [n for n in images[f] if n not in known.get(real, ())] for f, real in reals.items()}
    unknown = {folder: names for folder, names in unknown.items() if names}
    if not unknown:
        return
    linked = {os.path.realpath(path) for path in used if os.path.islink(path)}
    stems = set(map(stem_of, map(str, used)))
    labels = _labels(folders, images, unknown, read)
    for folder, names in unknown.items():
        below = folder.removeprefix(root) if root else os.path.basename(folder)
        masks = speaks_of_masks(below) and (says_only_masks(below) or is_drawn(Path(folder, names[0])))
        kept = [
            name
            for name in names
            if not _is_known(f"{folder}/{name}", known, linked)
            and ((folder, name) in labels or not _is_other(below, name, stems if masks else set()))
        ]
        there = [label for name in kept if (label := labels.get((folder, name)))]
        if kept:
            hold = any(map(form_of, map(Path, there[:TRIED])))
            there = [label.removeprefix(f"{root}/") for label in there if hold]
            yield Left(folder, kept, not own.get(reals[folder]), there)


def _is_known(path: str, known: Files, linked: set[str]) -> bool:
    """Whether a used image is the same file, through links of either."""
    real = os.path.realpath(path) if linked or os.path.islink(path) else path
    folder, name = os.path.split(real)
    return real in linked or (real != path and name in known.get(folder, ()))


def _is_other(folder: str, name: str, stems: set[str]) -> bool:
    """Whether an image without labels is a preview by a name, or called like one of the photos whose mask it may be, or
    so but for what a mask's name adds."""
    if PREVIEWS & (words_of(folder.rpartition("/")[2]) | words_of(name.rpartition(".")[0])):
        return True
    stem = stem_of(name)
    return stem in stems or any(stem[: end.start()] in stems for end in ENDS.finditer(stem))


def _labels(folders: Folders, images: Folders, wanted: Folders, read: Files) -> dict[tuple[str, str], str]:
    """{(folder, image): the file that may be its label}: one of its stem that is not `read` already and to which no
    image of that stem that is used is as near."""
    meant = {(folder, name) for folder, names in wanted.items() for name in names}
    alike = _by_stems(images, {stem_of(name) for _, name in meant})
    same: dict[
        frozenset[str], frozenset[str]
    ] = {}  # sequences number their frames alike: one object for all of them
    places = {stem: same.setdefault(of := frozenset(by), of) for stem, by in alike.items()}
    found: dict[tuple[str, str], str] = {}
    for folder, names in folders.items():
        own = [name for name in names if name.lower().endswith(SUFFIXES)]
        taken = read.get(os.path.realpath(folder), set()) if own else set()
        nearest = cache(partial(_nearest, folder))
        for name in own:
            if name in taken or (stem := stem_of(name.rpartition(".")[0])) not in alike:
                continue
            near = [image for place in nearest(places[stem]) for image in alike[stem][place]]
            if meant.issuperset(near):
                found |= dict.fromkeys(near, f"{folder}/{name}")
    return found


def _by_stems(images: Folders, stems: set[str]) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """The images of each of the stems by their folders."""
    alike: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for folder, names in images.items():
        for name in names:
            if (stem := stem_of(name)) in stems:
                alike.setdefault(stem, {}).setdefault(folder, []).append((folder, name))
    return alike


def _nearest(own: str, folders: frozenset[str]) -> list[str]:
    """Those of the folders whose paths share most with one's own, at both ends."""
    parts = tuple(own.split("/"))
    near = {folder: sum(both_ends(parts, tuple(folder.split("/")))) for folder in folders}
    most = max(near.values())
    return [folder for folder, n in near.items() if n == most]
