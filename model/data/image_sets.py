"""Lists of names in ImageSets/ that say which images are for which split, as Pascal VOC and the readers of KITTI write
them: train.txt, val.txt, test.txt, trainval.txt, a name a line."""

from __future__ import annotations

from model.data.label_files import lines_of
from model.data.tree import WORDS, Tree, split_of

LISTS = {"default", *(word for words in WORDS.values() for word in words)}


def lists_of(tree: Tree, place: str) -> dict[str, list[tuple[str, str]]]:
    """{split: [(folder of the ImageSets, name)]} of the lists in folders that end in `place`, such as
    "imagesets/main"; trainval counts where train is missing."""
    found: dict[str, list[tuple[str, str]]] = {}
    whole: list[tuple[str, str]] = []
    for path in tree.files(".txt"):
        folder, _, file = path.rpartition("/")
        stem = file[:-4].casefold()
        if not f"/{folder.casefold()}".endswith(f"/{place}") or stem not in LISTS:
            continue
        home = folder[: len(folder) - len(place)].rstrip("/")
        names = [(home, name) for line in lines_of(tree.path(path)) if (name := _name(line))]
        if stem == "trainval":
            whole += names
        else:
            found.setdefault(split_of(stem) or "train", []).extend(names)
    if whole and "train" not in found:
        held = set(found.get("val", ()))
        found["train"] = [name for name in whole if name not in held]
    return {split: names for split, names in found.items() if names}


def _name(line: str) -> str:
    """The name in a line of a list: quoted, or before a flag of -1, 0 or 1, or the whole line."""
    if line.startswith('"'):
        return line[1:].partition('"')[0]
    name, _, flag = line.rpartition(" ")
    return name.strip() if flag in ("-1", "0", "1") and name else line
