"""COCO files as tools lay them out: which files are annotations of which split, and where their images lie."""

from __future__ import annotations

import filecmp
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.data.cache import cache_dir
from model.data.coco_glance import is_json, made_of, sniff
from model.data.coco_rows import SECTIONS, Rows, add_names, decode
from model.data.image_sets import lists_of
from model.data.parted import parted
from model.data.paths import FORMS, common_end, explain, find_image, find_images, readings, walk
from model.data.sources import stage
from model.data.tree import (
    PLAIN_IMAGES,
    SPLITS,
    WORDS,
    Data,
    Sources,
    Tree,
    exact_split,
    parent,
    says_only,
    split_of,
    words_of,
)
from model.errors import UserError

COMPARED = 20  # pictures of two folders
UP = 4  # folders above a document in which its names may begin
# Names by which tools call the annotations of boxes, best first; then the split alone, as in val.json. Other names
# (train_old.json, annotations_predicted_val.json) come behind these, and what else COCO's folder holds comes last.
PREFERRED = ("_annotations.coco", "instances", "annotations", "labels", "result", "annotation")
PLAIN = {"default", *(word for words in WORDS.values() for word in words)}  # what may stand behind it
OURS = ("annotations.json", "_annotations.coco.json", "instances_")
# Written by model/data/check.py: so called, and with the file that it was made of at its end (document.py).
OWN = re.compile(r"(^|/)(train|val|test)_split_\d+\.json$")
OTHER_TASKS = ("captions", "person_keypoints", "stuff", "panoptic", "image_info")


@dataclass(frozen=True)
class Document:
    """A COCO file of the tree, not yet parsed."""

    path: str
    split: str | None
    names: tuple[str, ...]  # some of its file names

    @property
    def is_of_other_task(self) -> bool:
        return self.path.rsplit("/", 1)[-1].casefold().startswith(OTHER_TASKS)

    @property
    def rank(self) -> int:
        stem = self.path.rsplit("/", 1)[-1].casefold().removesuffix(".json")
        if self.is_of_other_task:
            return len(PREFERRED) + 2
        start = next((n for n, start in enumerate(PREFERRED) if stem.startswith(start)), len(PREFERRED))
        rest = re.findall("[a-z]+", stem.removeprefix((*PREFERRED, "")[start]))
        return start if set(rest) <= PLAIN else len(PREFERRED) + 1


def find(tree: Tree) -> Data | None:
    """The COCO files of a folder and their images; None where there are none. Raises `UserError` when it
    cannot be told which of several is meant."""
    found, notes = [], []
    for path in tree.files(".json"):
        if OWN.search(path) and (origin := made_of(tree.path(path))):
            notes.append(f"{path}: not read, a run wrote it of {origin}; give it another name to use it")
            continue
        sections, names = sniff(tree.path(path))
        # A file that is called so and is broken is not passed over: its reader tells what is wrong. Images for test
        # alone may lack boxes, whatever the layout.
        bare = tree.split_of(path) == "test" and "annotations" not in sections and is_json(tree.path(path))
        if set(SECTIONS) <= sections or (path.rsplit("/", 1)[-1].lower().startswith(OURS) and not bare):
            found.append(Document(path, tree.split_of(path), names))
        elif "images" in sections:
            notes.append(f"{path}: not read, it has no {' and no '.join(sorted(set(SECTIONS) - sections))}")
    chosen = choose(found, tree.root)
    if not chosen:
        return None
    _refuse_untold(tree, found, chosen)
    sources: Sources = {split: [] for split in SPLITS}
    for split, document in chosen.items():
        own, passed = source(tree, document)
        sources[split].append(own)
        notes += passed
    listed: list[Path] = []
    if set(chosen) == {"train"} and chosen["train"].split is None:
        whole = sources["train"][0]
        sources, told = parted(whole, lists_of(tree))
        notes += told
        listed = [] if whole in sources["train"] else _listed(whole)
    if len(chosen) > 1 and "train" in chosen and chosen["train"].split is None:
        notes.append(f"{chosen['train'].path}: taken for training, as no name says so of another")
    unread = [d for d in found if d not in chosen.values()]
    _refuse_two(tree, unread, chosen, sources)
    for left in unread:
        instead = f", {chosen[left.split].path} is" if left.split in chosen else ""
        notes.append(f"{left.path}: not read{instead}")
    return Data(sources, name_of(list(chosen.values())), tuple(notes), told=frozenset(listed))


def _listed(source: Mapping[str, str]) -> list[Path]:
    """The images that a COCO file lists."""
    images = decode(Path(source["json_file"]), Rows).images
    add_names(images)
    return find_images(stage(source["image_dir"]), [str(row.file_name) for row in images])


def _refuse_untold(tree: Tree, found: Iterable[Document], chosen: Mapping[str, Document]) -> None:
    """Raise `UserError` for a folder built like train/ whose name tells no split, where none is for val."""
    train = chosen.get("train")
    if train is None or train.split is None or "val" in chosen:
        return
    home, _, name = train.path.rpartition("/")
    for document in found:
        beside, _, same = document.path.rpartition("/")
        if document.split is None and same == name and home and beside and parent(home) == parent(beside):
            raise UserError(
                f"{tree.path(document.path)}: the name of its folder tells no split, as that of {train.path} does; "
                "call it val or test, or move it away"
            )


def _refuse_two(
    tree: Tree, unread: Iterable[Document], chosen: Mapping[str, Document], sources: Sources
) -> None:
    """Raise `UserError` for annotations of boxes that are not read and whose images no source has: another dataset."""
    used = [str(Path(s["image_dir"]).resolve()) for listed in sources.values() for s in listed]
    for left in (d for d in unread if not d.is_of_other_task):
        try:
            place = images_of(tree, left)
        except UserError:
            continue
        own = str(tree.path(place.path).resolve()) if place else ""
        if own and not any(f"{own}/".startswith(f"{u}/") or f"{u}/".startswith(f"{own}/") for u in used):
            read = chosen.get(left.split or "train") or next(iter(chosen.values()))
            raise UserError(
                f"{tree.root}: {read.path} and {left.path} label images of different folders, and only the first would "
                f"be read, as {'both may be' if left.split else 'no name says that the second is'} for "
                f"{left.split or 'train, val or test'}; give one of them to --data, name both in "
                "dataset.train_data_sources, or call their folders train and val"
            )


def one_file(path: Path) -> Data:
    """A single COCO file and its images, beside it or in the folder above."""
    sections, names = sniff(path)
    if missing := set(SECTIONS) - sections:
        raise UserError(f"{path}: a COCO file must have a list '{min(missing)}'")
    for root in (path.parent, path.parent.parent):
        tree = Tree(root, dict(walk(root)))
        document = Document(path.relative_to(root).as_posix(), None, names)
        if images_of(tree, document) is not None:
            break
    whole, passed = source(tree, document, alone=True)
    sources, notes = parted(whole, {})
    return Data(sources, f"COCO file {path.name}", (*notes, *passed, *_of_other_splits(path, root)))


def _of_other_splits(path: Path, root: Path) -> Iterable[str]:
    """A note on each COCO file beside a single one, or in a folder beside its own, whose name tells another split."""
    own = split_of(f"{path.parent.name}/{path.name}")
    beside = [p for p in sorted(path.parent.glob("*.json")) if p != path]
    beside += [p for p in sorted(path.parent.parent.glob(f"*/{path.name}")) if p != path]
    for other in beside if own else ():
        named = split_of(f"{other.parent.name}/{other.name}")
        if named in (None, own) or not set(SECTIONS) <= sniff(other)[0]:
            continue
        if not Document(other.name, named, ()).is_of_other_task:
            common = os.path.commonpath([os.path.abspath(other.parent), os.path.abspath(root)])
            yield f"{other}: for {named} by its name, not read; give {common} to have both"


def choose(found: Sequence[Document], root: Path) -> dict[str, Document]:
    """{split: its document}: by name; a document of no split is for training where there is no other."""
    by_split: dict[str, list[Document]] = {}
    for document in found:
        by_split.setdefault(document.split or "", []).append(document)
    if "train" not in by_split and "" in by_split:
        by_split["train"] = by_split[""]
    by_split.pop("", None)
    chosen = {}
    for split, documents in by_split.items():
        best = min(d.rank for d in documents)
        meant = [d for d in documents if d.rank == best]
        if len(meant) > 1:
            names = ", ".join(d.path for d in meant[:5])
            raise UserError(
                f"{root}: {len(meant)} annotation files may be for {split}: {names}; "
                "keep one, call them train and val, or name all that are meant in a spec file, without --data: "
                f"dataset.{split}_data_sources is a list"
            )
        chosen[split] = meant[0]
    return chosen


def name_of(chosen: Sequence[Document]) -> str:
    """The tool that writes files of such names."""
    last = {d.path.rsplit("/", 1)[-1] for d in chosen}
    if last == {"_annotations.coco.json"}:
        return "Roboflow COCO export"
    if last == {"instances_default.json"}:
        return "CVAT COCO export"
    if last == {"result.json"}:
        return "Label Studio COCO export"
    if last == {"labels.json"}:
        return "FiftyOne COCO export"
    if all(name.startswith("instances_") for name in last):
        return "standard COCO"
    if last == {"annotations.json"} and all(d.path.count("/") == 1 for d in chosen):
        return "COCO by split"
    return "COCO"


def source(tree: Tree, document: Document, alone: bool = False) -> tuple[dict[str, str], list[str]]:
    """({"image_dir", "json_file"} of a document, what a person should know): the folder in which its names are found,
    an archive near it, or a folder above. Raises `UserError` where no image is there and the document is `alone` or
    the tree has none."""
    found, home = images_of(tree, document), parent(document.path)
    folder = found.path if found else None
    archives = _archives(tree, document)
    if not found and not archives and (above := _above(tree, document)):
        note = f"{tree.path(document.path)}: its images are read from {above}, as their names lead there"
        return {"image_dir": str(above), "json_file": str(tree.path(document.path))}, [note]
    beside = bool(archives) and parent(archives[0]) == home
    if folder is None or (beside and not f"{folder}/".startswith(f"{home}/" if home else "")):
        images = f"{home}/images".lstrip("/")
        own = [f for f in tree.image_folders if tree.split_of(f"{f}/.") in (None, document.split)]
        others = (
            own[0] if len(own) == 1 else home
        )  # where no name fits, the only folder tells best what is wrong
        folder = archives[0] if archives else images if images in tree.folders else others
    notes = [
        f"{document.path}: {folder or '.'} holds its images; {other or '.'} has others of the same names, not used"
        for other in (found.others if found else ())
    ]
    if not found and not archives and (alone or not tree.images):
        _refuse_without_images(tree, document, folder)
    return {"image_dir": str(tree.path(folder)), "json_file": str(tree.path(document.path))}, notes


def _above(tree: Tree, document: Document) -> Path | None:
    """The folder above a document from where most of its names lead to files: labelme2coco writes names that begin at
    the folder where it was run. Names without a folder say too little, and beside what was unpacked other data lie."""
    home = tree.path(document.path).absolute().parent
    if home.resolve().is_relative_to(cache_dir().resolve()):
        return None
    read = (next(iter(readings(name)), ((), False))[0] for name in document.names)
    names = ["/".join(parts) for parts in read if len(parts) > 1][:COMPARED]
    found = (a for a in home.parents[:UP] if 2 * sum(os.path.isfile(a / name) for name in names) > len(names))
    return next(found, None) if names else None


def _refuse_without_images(tree: Tree, document: Document, folder: str) -> None:
    """Raise `UserError` where no name is found in any form."""
    where, names = tree.path(folder), document.names[:COMPARED]
    if names and not any(path.is_file() for path in find_images(where, names)):
        gone = f"{names[0]}, like its other images, is not in {where}{explain(where, names[0])}"
        raise UserError(
            f"{tree.path(document.path)}: {gone}; give the folder that holds both to --data, or name both in "
            "dataset.train_data_sources: json_file and image_dir, the folder from where such names lead to the images"
        )


def _archives(tree: Tree, document: Document) -> list[str]:
    """Archives that may hold its images: those in its folder; in the folders above those that name its split."""
    home = parent(document.path)
    own = [a for a in tree.archives(home) if tree.split_of(a) in (None, document.split)]
    if len(own) > 1:
        raise UserError(
            f"{tree.path(home)}: several archives ({', '.join(a.rsplit('/', 1)[-1] for a in own)}); keep one, "
            "or name it in the spec"
        )
    above = [a for a in tree.archives(parent(home)) if tree.split_of(a) == document.split] if home else []
    return own or above[:1]


@dataclass(frozen=True)
class ImageFolder:
    """Where a document's images lie, and the folders with pictures of the same names that are passed over."""

    path: str
    others: tuple[str, ...] = ()


def images_of(tree: Tree, document: Document) -> ImageFolder | None:
    """The folder below which the sampled names are found; None where no name is. Of several it is the one whose name
    says nothing but images and the document's split, nearest to it. Raises `UserError` where two of them fit alike and
    their pictures differ: the boxes of one would lie on the pictures of the other."""
    votes = _votes(tree, document)
    if not votes:
        return None
    home = document.path.split("/")[:-1]

    def merit(base: str) -> tuple[int, bool, int, int]:
        parts = base.split("/") if base else []
        near = common_end(tuple(reversed(parts)), tuple(reversed(home)))
        strange = sum(not says_only(words_of(p), document.split, PLAIN_IMAGES) for p in parts[near:])
        return -strange, tree.split_of(f"{base}/.") == document.split, votes[base], near

    most = max(votes.values())
    ranked = sorted((b for b in votes if 2 * votes[b] >= most), key=lambda b: (merit(b), b), reverse=True)
    best = ranked[0]
    if votes[best] < len(document.names) and (above := _common(tree, document, votes, best)) != best:
        return ImageFolder(above)
    others = [b for b in ranked[1:] if not _same_pictures(tree, document, best, b)]
    for other in others:
        if merit(other) == merit(best):
            raise UserError(
                f"{tree.path(document.path)}: its images may be those of {tree.path(best)} or of {tree.path(other)}, "
                "which have the same names and differ; keep one of the folders, or name it as image_dir in "
                f"dataset.{document.split or 'train'}_data_sources"
            )
    return ImageFolder(best, tuple(others))


def _votes(tree: Tree, document: Document) -> dict[str, int]:
    """{folder: how many of the sampled names are found below it}; those of another split only where no other is."""
    votes: dict[str, int] = {}
    for name in document.names:
        for base in set(bases(name, tree.by_last)):
            votes[base] = votes.get(base, 0) + 1
    if not document.split:
        return votes
    wanted = (None, document.split)
    own = {base: n for base, n in votes.items() if tree.split_of(f"{base}/.") in wanted}
    return own or {base: n for base, n in votes.items() if exact_split(f"{base}/.") in wanted}


def _same_pictures(tree: Tree, document: Document, a: str, b: str) -> bool:
    """Whether the files of the sampled names are the same in two folders."""
    for name in document.names[:COMPARED]:
        one, two = (find_image(tree.path(base), name) for base in (a, b))
        if one.is_file() and two.is_file() and not filecmp.cmp(one, two, shallow=False):
            return False
    return True


def _common(tree: Tree, document: Document, votes: Iterable[str], best: str) -> str:
    """Images of one document may lie in several folders: the folder above them all, if that finds more."""
    parts = [base.split("/") if base else [] for base in votes]
    same = 0
    while all(len(p) > same for p in parts) and len({p[same] for p in parts}) == 1:
        same += 1
    above = "/".join(parts[0][:same])
    finds = {b: sum(find_image(tree.path(b), n).is_file() for n in document.names) for b in {above, best}}
    return above if finds[above] > finds[best] else best


def bases(name: str, places: dict[str, list[str]]) -> Iterable[str]:
    """Folders below which a name of the annotations is found."""
    for parts, anywhere in readings(name):
        wanted = tuple(FORMS[-1](p) for p in parts)
        files = [place.split("/") for place in places.get(wanted[-1], ())]
        same = [common_end(wanted, tuple(FORMS[-1](p) for p in file)) for file in files]
        longest = max(same, default=0)
        for file, n in zip(files, same, strict=True):
            if n == longest:  # cam0/1.jpg is not cam1/1.jpg where there is a cam0
                yield "/".join(file[: len(file) - n])
        if anywhere and places.get(wanted[-1]):
            return
