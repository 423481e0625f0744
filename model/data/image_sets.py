"""Text files that list images, and the splits they give: ImageSets/ of Pascal VOC and KITTI, train.txt beside images/
and labels/, PaddleDetection's lines of an image and its label file.

A file is a list by what it holds, whatever it is called and wherever it lies: most of its lines begin with the path,
the name or the stem of an image, or of its label file. Its name says for which split it is. A table (image and split by
column) and a JSON object ({"train": [names]}) list images for several splits; a table of one column and a JSON list,
for the split that their name tells.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property, lru_cache

from model.data.images import READ_SUFFIXES
from model.data.label_files import SHOWN, lines_of, refuse
from model.data.other_labels import SUFFIXES as OF_LABELS
from model.data.paths import FORMS, common_end, plain_stem, stem_of
from model.data.split_tables import TABLES, splits_in
from model.data.tree import PLAIN, WORDS, Tree, exact_split, parent, says_only, split_of, words_of
from model.data.yolo_names import NAME_FILES, SPARE
from model.errors import UserError, number_of

# What the name of a list says beside a split.
OF_LISTS = PLAIN | {"list", "lists", "file", "files", "id", "ids", "name", "names"}
LISTS = {"default", *(word for words in WORDS.values() for word in words)}
HEAD = 4096  # bytes that tell whether a file may be a list
MAX_BYTES = 64 << 20
ELSEWHERE = 3
TEXTS = (".txt", ".lst", ".list")
COLUMNS = re.compile(r"-?\d+(\s+-?\d+)*")  # class, species and breed of Oxford's pets
FLAGS = ("-1", "0", "1")  # whether a class is there, in VOC's lists of one class
# Where a name may end: at the line's end, behind the suffix of an image, before whole numbers, the last or first blank.
# `_row` takes the first of these whose name is that of an image. (name, rest), where "night 1" and "a" are images:
END = re.compile("(.+)()")  # night 1.jpg -> (night 1.jpg, )
# night 1.jpg 0 -> (night 1.jpg, 0); a.jpg, labels/a.txt -> (a.jpg, labels/a.txt)
WHOLE = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, READ_SUFFIXES))}))[\s,;]+(.*)", re.IGNORECASE)
NUMBERED = re.compile(r"(.+?)\s+(-?\d+(?:\s+-?\d+)*)$")  # a 100 1 1 -> (a, 100 1 1)
LAST = re.compile(r"(.+)\s(\S+)")  # night 1 Annotations/1.xml -> (night 1, Annotations/1.xml)
FIRST = re.compile(r"([^\s,;]+)[\s,;]+(.*)")  # a cat, dog -> (a, cat, dog)
# The names of a list in one line: a.jpg, b c.jpg; else a.jpg b.jpg
BETWEEN = (re.compile(r"\s*[,;]\s*"), re.compile(r"\s+"))
UNFINISHED = re.compile(r"[^,;\s]*$")  # c.j of a.jpg,b.jpg,c.j, where the head of a file ends in a name
NUMBER = re.compile(r"\d+")
TWINS = 1000  # more texts than this that are called like images and a split are their labels
WHAT_TO_DO = (
    "call those that are meant train.txt and val.txt, name the sources in the spec, or delete the others"
)


@dataclass(frozen=True)
class ImageList:
    """A file that lists images; `split` is "train", "val", "test", "trainval", or "" where its name tells none."""

    path: str
    split: str
    names: tuple[str, ...]
    of_class: bool  # a flag behind every name

    @cached_property
    def stems(self) -> frozenset[str]:
        return frozenset(map(stem_of, self.names))

    @property
    def place(self) -> int:
        """VOC's lists for boxes lie in ImageSets/Main; then comes what else is in there, then others."""
        folders = parent(self.path).casefold().split("/")
        return {"main": 0, "imagesets": 1}.get(folders[-1], 2) if "imagesets" in folders else ELSEWHERE

    @property
    def rank(self) -> int:
        """train.txt comes before train2017.txt, and that before fold0_train.txt."""
        file = self.path.rsplit("/", 1)[-1]
        return 0 if _stem(file).casefold() in LISTS else 1 if exact_split(file) else 2


Entries = dict[str, list[tuple[str, str]]]  # split -> (list that says so, name)


def lists_of(tree: Tree, labelled: Collection[str] = ()) -> Entries:
    """The names by split of the lists that are meant. Of each dataset, trainval without val is train where there is no
    such list, and trainval without train is val. Raises `UserError` where it cannot be told which lists are meant, or
    for which split one is that names `labelled` images."""
    lists = lists_in(tree)
    homes: dict[str, list[ImageList]] = {}
    for one in lists:
        homes.setdefault(_home(tree, one.path), []).append(one)
    for_boxes = [
        home for home, members in homes.items() if any(m.place < ELSEWHERE and m.split for m in members)
    ]
    found: Entries = {}
    used: set[str] = set()
    for home, members in homes.items():
        if any(_within(home, other) or _within(other, home) for other in for_boxes):
            members = [m for m in members if m.place < ELSEWHERE]
        for split, entries in _completed(_chosen(tree, members)).items():
            found.setdefault(split, []).extend(entries)
            used |= {stem_of(name) for _, name in entries}
    _refuse_unsaid(tree, [one for one in lists if not one.split], used, labelled)
    return {split: entries for split, entries in found.items() if entries}


def _chosen(tree: Tree, members: Iterable[ImageList]) -> Entries:
    """The entries by split, or "trainval", of the lists of one dataset. Those of one class count where there are no
    others, and all together."""
    said = [m for m in members if m.split]
    said = [m for m in said if not m.of_class] or said
    said = [m for m in said if m.place == min(other.place for other in said)]
    found: Entries = {}
    for split in dict.fromkeys(m.split for m in said):
        own = [m for m in said if m.split == split]
        own = [m for m in own if m.rank == min(other.rank for other in own)]
        if len({m.stems for m in own}) > 1 and not all(m.of_class for m in own):
            raise UserError(f"{tree.root}: {_shown(own)} list different images for {split}; {WHAT_TO_DO}")
        found[split] = list({name: (m.path, name) for m in own for name in m.names}.values())
    return found


def _completed(lists: Entries) -> Entries:
    """Without trainval: what it says more than train or val is the other of them. trainval: a, b and val: b give
    train: a and val: b."""
    whole = lists.pop("trainval", [])
    for missing, other in (("train", "val"), ("val", "train")):
        if whole and missing not in lists:
            names = {name for _, name in lists.get(other, ())}
            known = set(map(stem_of, names))
            times = Counter(
                stem_of(name) for _, name in whole
            )  # cam0/1.jpg is not cam1/1.jpg, nor a.jpg A.jpg
            lists[missing] = [
                (source, name)
                for source, name in whole
                if name not in names and (times[stem_of(name)] > 1 or stem_of(name) not in known)
            ]
    return lists


def _refuse_unsaid(tree: Tree, lists: Iterable[ImageList], used: Set[str], labelled: Collection[str]) -> None:
    """Raise `UserError` for lists that tell no split and part the labelled images: they name such as no other list
    does, or, where there is no other, some and not all that are near and in folders for one split, or for none."""
    parting = []
    for one in lists:
        home = _home(tree, one.path)
        near = {(tree.split_of(f"{parent(i)}/."), stem_of(i)) for i in labelled if _within(i, home)}
        listed = {(split, stem) for split, stem in near if stem in one.stems}
        cut = {split for split, _ in listed} & {split for split, _ in near - listed}
        if {stem for _, stem in listed} - used if used else cut:
            parting.append(one)
    if parting:
        what = "labelled images of no other list" if used else "some of the labelled images"
        raise UserError(
            f"{tree.root}: {_shown(parting)}, which no name gives to a split, list{'s' * (len(parting) == 1)} {what}; "
            f"{WHAT_TO_DO}"
        )


def _shown(lists: list[ImageList]) -> str:
    more = f" and {len(lists) - SHOWN} more" if len(lists) > SHOWN else ""
    return ", ".join(one.path for one in lists[:SHOWN]) + more


def _home(tree: Tree, path: str) -> str:
    """The folder of the dataset that a list is of: above ImageSets/, else the nearest with images in or below it."""
    folders = path.split("/")[:-1]
    lower = [folder.casefold() for folder in folders]
    if "imagesets" in lower:
        return "/".join(folders[: lower.index("imagesets")])
    while folders and not any(_within(place, "/".join(folders)) for place in tree.image_folders):
        folders.pop()
    return "/".join(folders)


def _within(path: str, folder: str) -> bool:
    return not folder or f"{path}/".startswith(f"{folder}/")


# ---- which files are lists ----------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def lists_in(tree: Tree) -> tuple[ImageList, ...]:
    """All lists of a tree, each text read once, whoever asks."""
    return tuple(_found(tree))


def _found(tree: Tree) -> Iterable[ImageList]:
    known = set(map(stem_of, tree.images))
    folders = {FORMS[-1](part) for folder in tree.image_folders for part in folder.split("/")}
    known |= {folder for folder in folders if folder.startswith("#")}  # see `_is_remark`
    for path in tree.files(*TABLES):
        if stem_of(_stem(path)) not in known:  # that of one image
            splits = splits_in(tree.path(path), known, said_alone(path.rsplit("/", 1)[-1]))
            yield from (ImageList(path, split, names, False) for split, names in splits.items())
    texts = {path: path.rsplit("/", 1)[-1] for path in tree.files(*TEXTS)}
    texts |= {p: p.rsplit("/", 1)[-1] for p in tree.files("") if _is_bare_set(p)}
    twins = {path for path, file in texts.items() if stem_of(_stem(file)) in known}
    if len(said := {path for path in twins if _split(texts[path])}) <= TWINS:
        twins -= said
    for path, file in texts.items():
        by_name = _stem(file).casefold() in LISTS and "imagesets" in parent(path).casefold().split("/")
        if not by_name and (
            path in twins or file.lower() in (*NAME_FILES, *SPARE) or not _may_list(tree, path, known)
        ):
            continue
        split = _split(file)
        rows = _rows(lines_of(tree.path(path)), known, bool(said_alone(file)))
        if by_name or _names_images(rows, known, bool(split)):
            of_class = bool(rows) and all(rest in FLAGS for _, rest in rows)
            yield ImageList(path, split, tuple(name for name, _ in rows if name), of_class)


def _stem(file: str) -> str:
    return file.rpartition(".")[0] or file


def _is_bare_set(path: str) -> bool:
    """Whether a file in ImageSets/ is called train and no more."""
    *folders, file = path.casefold().split("/")
    return file in LISTS and "imagesets" in folders


def _split(file: str) -> str:
    return _split_of_words(NUMBER.sub("0", file))


@lru_cache(maxsize=1 << 12)  # of a hundred thousand names most differ in numbers alone
def _split_of_words(file: str) -> str:
    words = words_of(_stem(file))
    if "trainval" in words or words >= {"train", "val"}:
        return "trainval"
    return split_of(file) or ("train" if words == {"default"} else "")


def said_alone(file: str) -> str:
    """The split, or "trainval", that a file's name tells where it says nothing else, as val_list.txt and train2017.txt
    do; "" for others, such as fold0_train.txt. In such a list label files stand for their images; texts of other names
    that hold label files are reports of tools, such as test_missing.txt."""
    split = _split(file)
    return (
        split
        if split and says_only(words_of(_stem(file)), split.replace("trainval", "train"), OF_LISTS)
        else ""
    )


def _may_list(tree: Tree, path: str, known: Set[str]) -> bool:
    """Whether the first lines look like those of a list."""
    try:
        with tree.path(path).open("rb") as file:
            head = file.read(HEAD)
            text = head.decode("utf-8-sig", errors="ignore")
            large = file.seek(0, 2) > MAX_BYTES
    except OSError:
        return False
    lines = [line.strip() for line in text.splitlines()]
    if len(head) == HEAD:
        lines = lines[:-1] or [UNFINISHED.sub("", text)]
    if large or b"\0" in head:
        return False
    name = path.rsplit("/", 1)[-1]
    return _names_images(_rows(lines, known, bool(said_alone(name))), known, bool(_split(name)))


def _names_images(rows: Collection[tuple[str, str]], known: Set[str], split: bool) -> bool:
    """Whether most rows name images. What stands behind a name may be nothing, a flag or a path (a, a 1,
    a Annotations/a.xml); in a file whose name tells a split also whole numbers (a 25 1 2), and anything behind an
    image's whole name (a.jpg cat, dog). So captions are no list, labels are none either."""
    named = 0
    for name, rest in rows:
        plain = not rest or rest in FLAGS or ("." in rest and re.fullmatch(r"\S*[A-Za-z]\S*", rest))
        whole = name.lower().endswith(READ_SUFFIXES) or COLUMNS.fullmatch(rest)
        named += stem_of(name) in known and bool(plain or (split and whole))
    return 2 * named > len(rows)


def _rows(lines: Iterable[str], known: Set[str], labels: bool) -> list[tuple[str, str]]:
    """`_row` of each line that is no remark; of the only one there is, of each of the names in it. With
    `labels`, label files stand for their images."""
    left = [line for line in lines if line and not (line.startswith("#") and _is_remark(line, known))]
    for between in BETWEEN if len(left) == 1 else ():
        names = [name.strip("\"'") for name in between.split(left[0]) if name]
        names = [_of_label(name, known) if labels else name for name in names]
        stems = {stem_of(name) for name in names}
        whole = all(name.lower().endswith(READ_SUFFIXES) for name in names)
        plain = not labels and all(
            name.isdecimal() for name in names
        )  # anchors, where images are called 1, 2, 3
        if len(stems) > 1 and (whole or (between is BETWEEN[0] and stems <= known and not plain)):
            return [(name, "") for name in names]
    rows = [_row(line, known) for line in left]
    return [(_of_label(name, known), rest) for name, rest in rows] if labels else rows


def _is_remark(line: str, known: Set[str]) -> bool:
    """Whether a line that begins with # names no image of such a name, nor one in a folder of such a name: "# a" is
    a remark where there is an image a; "#1.jpg" is none where there is an image #1.jpg, nor is "#x/a.jpg" where a
    lies in a folder #x."""
    name, rest = _row(line, known)
    first = FORMS[-1](name.replace("\\", "/").split("/")[0])
    whole = not rest or rest in FLAGS or name.lower().endswith(READ_SUFFIXES)
    return not whole or stem_of(name) not in known or not {first, stem_of(first)} & known


def _of_label(name: str, known: Set[str]) -> str:
    """The image that a list names by its label file, as a stem: Annotations/a.xml is a."""
    stem = _without_suffix(name)
    is_one = stem != name and stem_of(name) not in known and stem_of(stem) in known and not WHOLE.match(name)
    return stem if is_one else name


def _without_suffix(name: str) -> str:
    """A name without the suffix of a label file."""
    return name.rpartition(".")[0] if name.lower().endswith(OF_LABELS) else name


def _row(line: str, known: Set[str]) -> tuple[str, str]:
    """(an image's name, what stands behind it) in a line: names may be quoted, and have blanks."""
    if line.startswith('"'):
        name, _, rest = line[1:].partition('"')
        return name, rest.strip()
    for cut in (END, WHOLE, NUMBERED, LAST, FIRST):
        if (match := cut.match(line)) and stem_of(match[1]) in known:
            return match[1], match[2]
    name, _, rest = line.rpartition(" ")
    return (name.strip(), rest) if rest in FLAGS and name else (line, "")


# ---- which images they mean ---------------------------------------------------------------------------------------


def by_lists(
    tree: Tree, images: Mapping[str, object], lists: Mapping[str, Iterable[tuple[str, str]]]
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """({split: its images}, notes) of images with their labels, or None. Images of no list go by their folders where
    these name a split that no list is for, or lie in another dataset than any list. Raises `UserError` for names
    without an image."""
    by_stem: dict[str, list[str]] = {}
    for image in images:
        by_stem.setdefault(stem_of(image), []).append(image)
    listed_by: dict[str, dict[str, None]] = {}  # an image may be named twice
    problems = []
    for split, entries in lists.items():
        for source, name in entries:
            fitting = meant(source, name, by_stem.get(stem_of(name), ()))
            if len(fitting) == 1:
                listed_by.setdefault(split, {})[fitting[0]] = None
            else:
                why = f"which may be any of {', '.join(fitting)}" if fitting else "of which there is no image"
                why += "" if fitting else tree.unread_image(name)
                problems.append(f"{tree.path(source)}: names {name}, {why}")
    refuse(problems)
    found = {split: list(members) for split, members in listed_by.items()}
    listed = {image for members in found.values() for image in members}
    left = [image for image in images if image not in listed]
    homes = {_home(tree, source) for entries in lists.values() for source, _ in entries}
    for image in left:
        split = tree.split_of(f"{parent(image)}/.") or "train"
        if split not in lists or not any(_within(image, home) for home in homes):
            found.setdefault(split, []).append(image)
            listed.add(image)
    rest = 0 if "train" in lists else len(found.get("train", ()))
    count = sum(images[image] is not None and image not in listed for image in left)
    shown = ", ".join(dict.fromkeys(source for entries in lists.values() for source, _ in entries))
    notes = [f"{number_of(count, 'image')} with labels in no list ({shown}), not used"] if count else []
    notes += [f"{number_of(rest, 'image')} in no list ({shown}) are for training"] if rest else []
    return found, tuple(notes)


def meant(source: str, name: str, images: Iterable[str]) -> list[str]:
    """Of images with a name's stem those that it fits best: by the whole name, by the folders before it, by the case
    and the form in which both are written (A.jpg is not a.jpg where both are there), and by how near they lie to the
    list."""
    plain = name.replace("\\", "/")
    parts = [p for p in FORMS[-1](plain).split("/") if p not in (".", "..", "")]
    exact = [p for p in plain.split("/") if p not in (".", "..", "")]
    home = tuple(reversed(source.split("/")[:-1]))

    def fit(image: str) -> tuple[bool, int, bool, int, int]:
        own, folded = image.split("/"), FORMS[-1](image).split("/")
        near = common_end(home, tuple(reversed(own[:-1])))
        same = common_end(tuple(own[:-1]), tuple(exact[:-1]))
        return (
            folded[-1] == parts[-1],
            common_end(tuple(folded[:-1]), tuple(parts[:-1])),
            plain_stem(own[-1]) == plain_stem(exact[-1]),
            same,
            near,
        )

    fits = {image: fit(image) for image in images} if exact else {}
    return [image for image in fits if fits[image] == max(fits.values())]
