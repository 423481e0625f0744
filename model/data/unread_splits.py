"""Files that part the images and are not followed: lists that say otherwise than what was read, and texts and tables
that name images, by numbers too, in a form that is not read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from msgspec import Struct

from model.data.coco_rows import ImageRow, add_names, decode
from model.data.foreign import HEAD, head_of
from model.data.image_sets import TEXTS, ImageList, lists_in
from model.data.other_labels import SUFFIXES as OF_LABELS
from model.data.other_labels import form_of
from model.data.paths import stem_of
from model.data.split_tables import TABLES
from model.data.tree import WORDS, Data, Tree, split_of, words_of
from model.data.yolo_names import NAME_FILES, SPARE
from model.errors import UserError, number_of

YAML = (".yaml", ".yml")
BINARY = (".npy", ".npz", ".pkl", ".pickle", ".mat", ".xlsx", ".xls")
SPLIT_WORD = re.compile(
    r"(?<![^\W_])(train|training|val|valid|validation|test|fold)(?![^\W_])", re.IGNORECASE
)
OF_SPLITS = {word for words in WORDS.values() for word in words} | {"split", "splits", "fold", "folds"}
BESIDE = set("default set sets list lists file files id ids name names index image images".split())
TOKEN = re.compile(r"[\w.\-]+")
LAST_NUMBER = re.compile(r"[0-9]{1,18}$")
MANY = 100  # images that the beginning of a longer text names
SURE = 4  # digits of a number that is hardly anything else where images have as many, with zeros in front
SHOWN = 5


@dataclass(frozen=True)
class Stems:
    """What a dataset's images are called."""

    all: frozenset[str]

    @cached_property
    def widths(self) -> set[int]:
        return {len(stem) for stem in self.all if stem.isdecimal() and stem[0] == "0"}

    @cached_property
    def by_value(self) -> dict[int, str]:
        """Stems by the number that they end in, where no other ends in it."""
        ends = [(int(match[0]), stem) for stem in self.all if (match := LAST_NUMBER.search(stem))]
        times = Counter(number for number, _ in ends)
        return {number: stem for number, stem in ends if times[number] == 1}

    def named(self, tokens: Set[str]) -> set[str]:
        """Those that stand among tokens: a number counts with the suffix of a file, or with the zeros of a name."""
        return {stem for token in tokens for stem in self._stems_of(token)}

    def _stems_of(self, token: str) -> Iterator[str]:
        plain = token.rpartition(".")[0] if token.lower().endswith(OF_LABELS) else token
        for name in {token, plain}:
            stem = stem_of(name)
            if stem in self.all and (not stem.isdecimal() or stem != token or self._is_padded(stem)):
                yield stem

    def _is_padded(self, stem: str) -> bool:
        return (len(stem) > 1 and stem[0] == "0") or (len(stem) >= SURE and len(stem) in self.widths)

    def numbered(self, tokens: Set[str]) -> set[str]:
        """Those that numbers among tokens mean by their value: 12 is 000012, and road_000012."""
        numbers = [int(token) for token in tokens if LAST_NUMBER.fullmatch(token)]
        return {self.by_value[number] for number in numbers if number in self.by_value}

    def are_many(self, stems: Set[str], text: str) -> bool:
        return len(stems) >= max(3, len(self.all) // 5) or (len(text) == HEAD and len(stems) > MANY)


@dataclass(frozen=True)
class Unfollowed:
    """A file that parts the images, the images that it names, as far as is known, and what to say of it."""

    path: str
    stems: frozenset[str]
    line: str


def unread_splits(tree: Tree, found: Data) -> tuple[tuple[str, ...], set[str]]:
    """(lines on the files that part the images otherwise than `found` does, the files that are told or followed)."""
    lists = lists_in(tree)
    unread = list(_unread(tree, {one.path for one in lists}))
    if not lists and not unread:
        return (), set()
    read = _read(found)
    told = [line for one in lists if (line := _contradicts(tree, one, read))]
    unread = [one for one in unread if not _is_followed(one, read)]
    lines = [*told, *(one.line for one in unread)]
    more = (
        [f"... and {number_of(len(lines) - SHOWN, 'more file')} of this kind"] if len(lines) > SHOWN else []
    )
    return (*lines[:SHOWN], *more), {*(one.path for one in lists), *(one.path for one in unread)}


# ---- against what was read ----------------------------------------------------------------------------------------


class Images(Struct):
    """A COCO file's images alone."""

    images: list[ImageRow] = []


def _read(found: Data) -> dict[str, set[str]]:
    """{stem: the splits that it is read for}."""
    read: dict[str, set[str]] = {}
    for split, sources in found.sources.items():
        for source in sources:
            with suppress(UserError):  # told when it is read
                rows = decode(Path(source["json_file"]), Images).images
                add_names(rows)
                for row in rows:
                    read.setdefault(stem_of(str(row.file_name)), set()).add(split)
    return read


def _contradicts(tree: Tree, one: ImageList, read: dict[str, set[str]]) -> str:
    """What to say of a list with images that are read for other splits alone; "" where it has none."""
    own = {"train", "val"} if one.split == "trainval" else {one.split}
    other = sorted(stem for stem in one.stems if one.split and read.get(stem, own).isdisjoint(own))
    if not other:
        return ""
    if any(one.stems == {stem for stem, of in read.items() if split in of} for split in read[other[0]]):
        return ""  # it gives another split: valid = test.txt of obj.data
    where = " and ".join(sorted(read[other[0]]))
    return (
        f"{tree.path(one.path)}: not followed: {len(other)} of its {number_of(len(one.stems), 'image')}, such as "
        f"{other[0]}, are read for {where}, not {one.split}"
    )


def _is_followed(one: Unfollowed, read: dict[str, set[str]]) -> bool:
    """Whether a file that is not read names only images that its name's split has, as the folders may say too."""
    split = split_of(one.path.rsplit("/", 1)[-1])
    apart = split != "train" or len(set().union(*read.values())) > 1
    return bool(split and one.stems and apart) and all(split in read.get(stem, ()) for stem in one.stems)


# ---- in a form that is not read -----------------------------------------------------------------------------------


def _unread(tree: Tree, lists: Set[str]) -> Iterator[Unfollowed]:
    stems = Stems(frozenset(map(stem_of, tree.images)))
    for path in tree.files(*TEXTS, *TABLES, ".jsonl", *YAML, *BINARY):
        file = path.rsplit("/", 1)[-1]
        if path in lists or stem_of(_stem(file)) in stems.all or file.lower() in (*NAME_FILES, *SPARE):
            continue
        words = words_of(_stem(file))
        called = bool(words & OF_SPLITS) and words <= OF_SPLITS | BESIDE
        text = "" if path.lower().endswith(BINARY) else head_of(tree.path(path), "ignore")
        named = _named(text, file, called, stems)
        if named:
            what = "names images and splits in a form that is not read; to part them so"
        elif called and _may_part(tree.path(path), text):
            what = "is called like a split, and what it holds is not read; where it parts the images"
        else:
            continue
        how = f"write train.txt and val.txt, a name a line, such as {tree.images[0].rsplit('/', 1)[-1]}"
        yield Unfollowed(path, frozenset(named), f"{tree.path(path)}: {what}, {how}")


def _named(text: str, file: str, called: bool, stems: Stems) -> set[str]:
    """The images that a text names, where these are many and it says a split. Numbers without zeros or a suffix count
    where it is `called` for a split and holds little else."""
    if _is_coco(text) or not (called or split_of(file) or SPLIT_WORD.search(text)):
        return set()
    tokens = set(TOKEN.findall(text))
    if stems.are_many(named := stems.named(tokens), text):
        return named
    numbered = stems.numbered(tokens) if called else set()
    return numbered if stems.are_many(numbered, text) and 2 * len(numbered) > len(tokens) else set()


def _may_part(path: Path, text: str) -> bool:
    """Whether a file that is called for a split may hold one: no labels of an image, no settings, no COCO file."""
    if path.suffix.lower() in BINARY:
        return path.is_file() and path.stat().st_size > 0
    plain = path.suffix.lower() not in YAML and not _is_coco(text)
    return bool(text.strip()) and plain and not form_of(path)


def _is_coco(text: str) -> bool:
    """Whether it is the beginning of a COCO file, or of a detector's results."""
    told = '"annotations"' in text or '"category_id"' in text
    return told or ('"images"' in text and '"file_name"' in text)


def _stem(file: str) -> str:
    return file.rpartition(".")[0] or file
