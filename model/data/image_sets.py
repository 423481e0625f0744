"""Lists of names in ImageSets/ that say which images are for which split, as Pascal VOC and the readers of KITTI write
them: train.txt, val.txt, test.txt, trainval.txt, a name a line."""

from __future__ import annotations

from model.data.label_files import lines_of
from model.data.tree import WORDS, Tree, split_of

LISTS = {"default", *(word for words in WORDS.values() for word in words)}


def lists_of(tree: Tree, place: str) -> dict[str, list[tuple[str, str]]]:
    """{split: [(folder of the ImageSets, name)]} of the lists in folders that end in `place`, such as
    "imagesets/main". Of each folder, trainval without val is train where there is no such list, and trainval without
    train is val."""
    found: dict[str, list[tuple[str, str]]] = {}
    for home, lists in _by_home(tree, place).items():
        whole = lists.pop("trainval", [])
        for missing, other in (("train", "val"), ("val", "train")):
            if whole and missing not in lists:
                known = set(lists.get(other, ()))
                lists[missing] = [name for name in whole if name not in known]
        for split, names in lists.items():
            found.setdefault(split, []).extend((home, name) for name in names)
    return {split: names for split, names in found.items() if names}


def _by_home(tree: Tree, place: str) -> dict[str, dict[str, list[str]]]:
    """{folder of the ImageSets: {split or "trainval": names}}."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in tree.files(".txt"):
        folder, _, file = path.rpartition("/")
        stem = file[:-4].casefold()
        if not f"/{folder.casefold()}".endswith(f"/{place}") or stem not in LISTS:
            continue
        home = folder[: len(folder) - len(place)].rstrip("/")
        split = stem if stem == "trainval" else split_of(stem) or "train"
        names = [name for line in lines_of(tree.path(path)) if (name := _name(line))]
        found.setdefault(home, {}).setdefault(split, []).extend(names)
    return found


def _name(line: str) -> str:
    """The name in a line of a list: quoted, or before a flag of -1, 0 or 1, or the whole line."""
    if line.startswith('"'):
        return line[1:].partition('"')[0]
    name, _, flag = line.rpartition(" ")
    return name.strip() if flag in ("-1", "0", "1") and name else line
