"""A dataset's folder in which files are packed: annotations in gzip, COCO's own train2017.zip and
annotations_trainval2017.zip side by side. It is laid out once in the cache, what is not packed as links."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from model.data.paths import walk
from model.data.sources import MAX_BYTES, cache_dir, digest, once, unpacked
from model.data.tree import Tree, parent
from model.errors import UserError

ZIPPED = ".json.gz"
BLOCK = 1 << 20


def zipped_documents(tree: Tree) -> list[str]:
    """Annotations in gzip that are not there without it as well."""
    there = set(tree.files(".json"))
    return [path for path in tree.files(ZIPPED) if path[:-3] not in there]


def laid_out(tree: Tree, packed: Iterable[str]) -> Path:
    """The folder of `tree` with the files `packed` (below it) opened where they lie. Raises `UserError` for one that is
    broken, unsafe or too large, and for two that hold a file of the same name, as two exports of one dataset do."""
    opened = {path: digest(tree.path(path)) for path in packed}
    others = sorted(path for path in tree.files("") if path not in opened)
    key = json.dumps([str(tree.root.resolve()), sorted(opened.items()), others])

    def make(folder: Path) -> None:
        owner: dict[str, str] = {}
        for path in others:
            _link(folder, path, tree.path(path), path, owner)
        for path in opened:
            if path.lower().endswith(ZIPPED):
                _unzip(tree.path(path), folder / path[:-3])
                continue
            inside = unpacked(tree.path(path))
            for place, file in _placed(path, inside):
                _link(folder, place, file, path, owner)

    return once(cache_dir() / "laid_out" / hashlib.sha256(key.encode()).hexdigest()[:32], make)


def _placed(path: str, inside: Path) -> Iterator[tuple[str, Path]]:
    """(where it belongs, file) of an archive's content: beside the archive, or in a folder of its name when files lie
    in it without one."""
    content = list(walk(inside))
    own = (
        path.rsplit("/", 1)[-1].partition(".")[0]
        if any(names for below, names in content if not below)
        else ""
    )
    for below, names in content:
        for name in names:
            yield "/".join(part for part in (parent(path), own, below, name) if part), inside / below / name


def _link(folder: Path, place: str, target: Path, origin: str, owner: dict[str, str]) -> None:
    if place in owner:
        raise UserError(f"{owner[place]} and {origin} both hold {place}: give one of them as the dataset")
    owner[place] = origin
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).symlink_to(target.resolve())


def _unzip(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    left = min(MAX_BYTES, shutil.disk_usage(target.parent).free)
    try:
        with gzip.open(path) as source, target.open("xb") as out:
            while block := source.read(BLOCK):
                left -= len(block)
                if left < 0:
                    raise UserError(f"{path}: is larger than there is room for in {target.parent}")
                out.write(block)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be unpacked ({error})") from None
