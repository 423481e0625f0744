"""Label files of other formats as COCO files: one for each split, in the cache, under what the labels hold.

A format says which images and label files there are (`LabelFiles`) and how one label file is read. The rest is here:
sizes, ids, problems told all at once, the cache. Images stay where they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.data.cache import cache_dir, once
from model.data.images import size_in_file
from model.data.problems import times_of
from model.data.tree import SPLITS, WORDS, Data, Tree, exact_split, split_of, words_of
from model.errors import UserError, number_of

FORMAT = 8  # of the files written; another number, another place
UTF_8 = 'must be text in UTF-8; save it so, not as UTF-16 ("Unicode") or in an older encoding'
THREADS = 8
SHOWN = 5
UNREADABLE = (0, 0)  # the size of an image that cannot be read

Box = tuple[float, float, float, float]  # left, top, right, bottom, px


class Unlabelled(UserError):
    """Not one label file for all images: they may have labels in a form that is not read."""


@dataclass(frozen=True)
class Parsed:
    """One label file: (category id, or its name where the format has no ids; box) each, the image's size where the
    file tells it, and how much of what was left out or is worth a word."""

    objects: list[tuple[int | str, Box]]
    size: tuple[int, int] | None = None  # (W, H) px
    remarks: Mapping[str, int] = field(default_factory=dict)
    places: Sequence[str] = ()  # where each object stands in the file, such as ":3"
    swapped: Sequence[str] = ()  # those whose corners were


@dataclass(frozen=True)
class LabelFiles:
    """What a format's reader found. `names` is {category id: name}, empty where names come from the labels: these are
    then numbered from 1 in alphabetical order. `doubts`, asked for when all labels were read, are (what to add to a
    refusal of some, what to note where none is refused)."""

    layout: str
    splits: dict[str, list[tuple[Path, Path | None]]]  # (image, label file or None)
    names: dict[int, str]
    parse: Callable[[Path, tuple[int, int]], Parsed]  # (label file, image's (W, H) px); raises ValueError of
    # lines that begin with a line's number or a blank
    notes: tuple[str, ...] = ()
    read_as: str = ""  # whatever else decides how a label file is read
    told: Collection[Path] = ()  # images of which the notes speak, used or not
    doubts: Callable[[], tuple[str, str]] = lambda: ("", "")


def to_coco(found: LabelFiles) -> Data:
    """The same data as COCO files in the cache, written once. Raises `UserError` with every broken label at once."""
    refuse_shared(found)
    place = cache_dir() / "converted" / _key(found)
    target = once(place, lambda partial: _write(found, partial), _lacks_nothing)
    told = json.loads((target / "data.json").read_text())
    sources = {
        split: [{"image_dir": told["image_dirs"][split], "json_file": str(target / f"{split}.json")}]
        if split in told["image_dirs"]
        else []
        for split in SPLITS
    }
    labels = frozenset(label for pairs in found.splits.values() for _, label in pairs if label)
    notes = (*found.notes, *told["notes"])
    return Data(sources, found.layout, notes, told=frozenset(found.told), labels=labels)


def _key(found: LabelFiles) -> str:
    """Labels by content, images by place, size and time. Raises `UserError` for files that cannot be read."""
    digest = hashlib.sha256(
        json.dumps([FORMAT, found.layout, sorted(found.names.items()), found.read_as]).encode()
    )
    problems = []
    for split in SPLITS:
        for image, label in found.splits.get(split, ()):
            try:
                stat, content = image.stat(), label.read_bytes() if label else b""
            except OSError as error:
                what = "leads to a file that is not there" if image.is_symlink() else error.strerror
                problems.append(f"{error.filename or image}: {what}")
                continue
            text = f"\0{split}\0{image.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{label}\0"
            digest.update(text.encode(errors="surrogateescape") + content)
    refuse(problems)
    return digest.hexdigest()[:32]


def _lacks_nothing(folder: Path) -> bool:
    """Whether the images that could not be read, whose labels were passed over, still cannot. Neither size nor time
    tells: a mode that is put right or a file copied back with its time changes neither."""
    try:
        told = json.loads((folder / "data.json").read_text())
    except OSError:  # another process is writing it anew
        return False
    return all(size_in_file(Path(image)) is None for image in told["unreadable"])


def _write(found: LabelFiles, folder: Path) -> None:
    pairs = [(split, *pair) for split in SPLITS for pair in found.splits.get(split, ())]
    with ThreadPoolExecutor(THREADS) as pool:
        read = list(pool.map(lambda pair: _read(found, pair[1], pair[2]), pairs))
    advice, doubt = found.doubts()
    refuse([problem for _, problem in read if problem], advice)
    parsed = [p for p, _ in read if p is not None]
    names = found.names or _numbered(key for p in parsed for key, _ in p.objects)
    ids = {name: number for number, name in names.items()}
    folders, first = {}, 1
    for split in SPLITS:
        members = [(image, p) for (s, image, _), p in zip(pairs, parsed, strict=True) if s == split]
        if members:
            root = Path(os.path.commonpath([image.parent for image, _ in members]))
            folders[split] = str(root)
            document = _document(members, root, first, names, ids)
            document["swapped"] = [place for _, p in members for place in p.swapped]
            document["read_from"] = _place([label for s, _, label in pairs if s == split and label])
            first += len(members)
            (folder / f"{split}.json").write_text(json.dumps(document))
    remarks = sum((Counter(p.remarks) for p in parsed), Counter[str]())
    notes = [f"{found.layout}: {times_of(count, remark)}" for remark, count in sorted(remarks.items())]
    notes += [f"{found.layout}: {doubt}"] if doubt else []
    bare = sum(label is None for _, _, label in pairs)
    notes += (
        [f"{found.layout}: {number_of(bare, 'image')} without a label file, taken as without objects"]
        if bare
        else []
    )
    unread = [str(image) for (_, image, _), p in zip(pairs, parsed, strict=True) if p.size == UNREADABLE]
    told = {"image_dirs": folders, "notes": notes, "unreadable": unread}
    (folder / "data.json").write_text(json.dumps(told))


def _read(found: LabelFiles, image: Path, label: Path | None) -> tuple[Parsed | None, str]:
    """(the label file with its image's size, ""), or (None, what is wrong)."""
    size = size_in_file(image)
    if size is None:
        return Parsed([], UNREADABLE), ""  # told where all images are looked at: model/data/broken_images.py
    try:
        parsed = found.parse(label, size) if label else Parsed([])
    except UnicodeDecodeError:
        return None, f"{label}: {UTF_8}"
    except (OSError, ValueError) as error:
        return None, "\n".join(f"{label}:{line}" for line in str(error).splitlines())
    places, swapped = ([f"{label}{place}" for place in each] for each in (parsed.places, parsed.swapped))
    return Parsed(parsed.objects, parsed.size or size, parsed.remarks, places, swapped), ""


def _place(labels: Sequence[Path]) -> str:
    """The folder that a split's label files have in common, or the first of several far apart."""
    folders = list({label.parent for label in labels})
    if len(folders) == 1:
        return str(folders[0])
    common = Path(os.path.commonpath([folder.absolute() for folder in folders]))
    return str(common if len(common.parts) > 2 else labels[0].parent)


def _numbered(names: Iterable[int | str]) -> dict[int, str]:
    return dict(enumerate(sorted({str(name) for name in names}), 1))


def _document(
    members: list[tuple[Path, Parsed]], root: Path, first: int, names: Mapping[int, str],
    ids: Mapping[str, int],
) -> dict[str, Any]:  # fmt: skip
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (image, parsed) in enumerate(members, first):
        assert parsed.size
        name = image.relative_to(root).as_posix()
        images.append({"id": number, "file_name": name, "width": parsed.size[0], "height": parsed.size[1]})
        for place, (key, (left, top, right, bottom)) in zip(parsed.places, parsed.objects, strict=True):
            w, h = right - left, bottom - top
            category = key if isinstance(key, int) else ids[key]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": category,
                 "bbox": [left, top, w, h], "area": w * h, "iscrowd": 0,
                 "label_file": place}
            )  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in sorted(names.items())]
    return {"images": images, "annotations": annotations, "categories": categories}


def by_folders(
    tree: Tree, places: Mapping[str, Iterable[str]], labelled: Collection[str]
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """({split: its images}, what a person should know) of images and the folders that may name their split.
    Those of no split are for training where there are no others. Raises `UserError` where labelled images lie in a
    folder of no split beside train/ and none are for val (unseen/ may be that, and bus/ may be a class like train/),
    for names that only hint at a split beside others: train_old/ beside train/, test_track/ beside highway/, and for
    folders side by side that are called by different words for one split."""
    found: dict[str, list[str]] = {}
    hinting: dict[str, str] = {}  # split -> a folder that says more than the split
    exact: set[str] = set()
    told: dict[str, str | None] = {}  # by folder, of which there are few
    surely: set[str] = set()  # folders that say a split and no more
    naming: set[tuple[str, str]] = set()  # (split, a folder that says it)
    for image, folders in places.items():
        for folder in folders:
            if folder not in told:
                told[folder] = tree.split_of(f"{folder}/.")
                surely |= {folder} if exact_split(f"{folder}/.") else set()
        named = next(((s, f) for f in folders if (s := told[f])), ("", ""))
        naming.add(named)
        found.setdefault(named[0], []).append(image)
        if named[1] in surely:
            exact.add(named[0])
        elif image in labelled:
            hinting.setdefault(*named)
    loose = found.pop("", [])
    _refuse_two_words(tree, naming)
    for split, hint in hinting.items():
        if split in exact or (split and loose and not (exact or "train" in found)):
            other = "that says only so" if split in exact else f"of no split, such as that of {loose[0]}"
            raise UserError(
                f"{tree.path(hint)}: is its name that of a split, {split}? It says more, and there is a folder "
                f"{other}; call those that are meant train, val and test, with a number where there are several "
                "(train2), and move away or rename what is not"
            )
    if not loose or "train" not in found:
        return (found | {"train": loose} if loose else found), _pooled(loose, found)
    known = [image for image in loose if image in labelled]
    homes = {_home(tree, image) for image in found["train"]}
    beside = sorted({place for image in known for home in homes if (place := _place_in(image, home))})
    if beside and "val" not in found:
        raise UserError(
            f"{tree.path(beside[0])}: labelled images in a folder beside train, whose name tells no split; "
            "call it val or test, or put its images into train, or, if train is a class here, give that folder "
            "another name"
        )
    if not known:
        return found, ()
    return found, (f"{number_of(len(known), 'image')} in folders of no split, such as {known[0]}, not used",)


def _refuse_two_words(tree: Tree, naming: Iterable[tuple[str, str]]) -> None:
    """Raise `UserError` where folders side by side are called by different words for one split, as dev/ and eval/: one
    may be meant for another. Names that say more (VOC2007_train) and folders within a split are told apart by that."""
    by_words: dict[tuple[str, str], dict[str, str]] = {}
    for split, folder in sorted(naming):
        parts = folder.split("/") if split else []
        says = (
            n for n, part in enumerate(parts) if exact_split(f"{part}/.") or split_of(f"{part}/.") == split
        )
        n = next(says, len(parts))  # the outermost that names a split
        if n < len(parts) and (word := _only_word(parts[n])) in WORDS[split]:
            beside = by_words.setdefault((split, "/".join(parts[:n])), {})
            beside.setdefault(word, "/".join(parts[: n + 1]))
    for (split, _), beside in by_words.items():
        if len(beside) > 1:
            raise UserError(
                f"{tree.root}: {len(beside)} folders may be for {split}: {', '.join(beside.values())}; keep one, call "
                f"each by the split that it is, or, if all are meant, by one word and a number ({split}1, {split}2)"
            )


def _only_word(name: str) -> str:
    """The word that a folder's name is, but for digits behind it; "" where it is more."""
    words = words_of(name)
    bare = name.rstrip("0123456789").rstrip("_- .")
    return next(iter(words)) if len(words) == 1 and bare.isalpha() else ""


def _pooled(loose: Collection[str], found: Collection[str]) -> tuple[str, ...]:
    """What is said of images in several folders of no split, which all are for training."""
    folders = sorted({"/".join(image.split("/")[:-1]) or "." for image in loose})
    if not loose or (len(folders) < 2 and not found):
        return ()
    shown = ", ".join(folders[:SHOWN]) + (f" and {len(folders) - SHOWN} more" if len(folders) > SHOWN else "")
    return (f"{number_of(len(loose), 'image')} in folders of no split ({shown}) are for training",)


def _home(tree: Tree, image: str) -> str | None:
    """The folder, with a slash behind it, in which the folder lies that names an image's split."""
    parts = image.split("/")[:-1]
    above = ("".join(f"{part}/" for part in parts[:n]) for n in range(len(parts)))
    return next((f for n, f in enumerate(above) if tree.split_of(f"{f}{parts[n]}/.")), None)


def _place_in(image: str, home: str | None) -> str | None:
    """The folder within `home` that holds an image; None where it lies elsewhere or in `home` itself."""
    if home is None or not image.startswith(home) or "/" not in (rest := image.removeprefix(home)):
        return None
    return f"{home}{rest.split('/')[0]}"


def lines_of(path: Path) -> list[str]:
    """The lines of a text file, without blanks around them. Raises `UserError` where it is none."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {UTF_8} ({error})") from None


def refuse(problems: list[str], advice: str = "") -> None:
    """Raise `UserError` with the first of many problems and what to do about them all, unless there are none."""
    lines = [line for problem in problems for line in problem.splitlines()]
    if lines:
        more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise UserError("\n".join(lines[:SHOWN] + more + ([advice] if advice else [])))


def refuse_shared(found: LabelFiles) -> None:
    """Raise `UserError` where several images (x.jpg and x.png) would take one label file: only one can be meant."""
    by_label: dict[Path, set[Path]] = {}
    for pairs in found.splits.values():
        for image, label in pairs:
            if label is not None:
                by_label.setdefault(label, set()).add(image)
    refuse(
        [
            f"{label}: may belong to any of {', '.join(sorted(map(str, images)))}; keep one, or rename the others"
            for label, images in by_label.items()
            if len(images) > 1 and len({image.resolve() for image in images}) > 1
        ]
    )


def unlabelled(splits: Mapping[str, list[tuple[Path, Path | None]]]) -> list[str]:
    """Splits that have images and not one label file."""
    return [split for split, pairs in splits.items() if pairs and not any(label for _, label in pairs)]


def without_unlabelled(
    splits: Mapping[str, list[tuple[Path, Path | None]]], wanted: str
) -> tuple[dict[str, list[tuple[Path, Path | None]]], tuple[str, ...]]:
    """(the splits that have labels, a note on test images that have none). Training or validation images without any
    labels are a mistake: raises `UserError`, which says what is `wanted`, `Unlabelled` where no split has any."""
    kept = {split: pairs for split, pairs in splits.items() if pairs}
    notes = []
    for split in unlabelled(kept):
        where = kept[split][0][0].parent
        if split != "test":
            none = not any(label for pairs in splits.values() for _, label in pairs)
            raise (Unlabelled if none else UserError)(
                f"{where}: not one of the {number_of(len(kept[split]), 'image')} for {split} has a label file; "
                f"{wanted} is wanted"
            )
        notes.append(f"{where}: {number_of(len(kept.pop(split)), 'image')} for test without labels, not used")
    return kept, tuple(notes)
