"""A dataset's folder in which files are packed: annotations in gzip, COCO's own train2017.zip and
annotations_trainval2017.zip side by side. It is laid out once in the cache, what is not packed as links."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from model.data.archives import ARCHIVES, MAX_BYTES
from model.data.cache import cache_dir, came_from, once
from model.data.paths import walk
from model.data.sources import digest, unpacked
from model.data.tree import Tree, parent, split_of
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
        archives = {path: _files(unpacked(tree.path(path))) for path in opened if not _is_zipped(path)}
        for path, own in _own_folders(archives).items():
            for place, file in archives[path].items():
                _link(folder, "/".join(filter(None, (parent(path), own, place))), file, path, owner)
        for path in filter(_is_zipped, opened):
            _unzip(tree.path(path), folder / path[:-3])

    target = once(cache_dir() / "laid_out" / hashlib.sha256(key.encode()).hexdigest()[:32], make)
    return came_from(target, tree.root)


def _is_zipped(path: str) -> bool:
    return path.lower().endswith(ZIPPED)


def _files(inside: Path) -> dict[str, Path]:
    """{path in an archive: where it lies unpacked}."""
    return {
        (f"{below}/{name}" if below else name): inside / below / name
        for below, names in walk(inside)
        for name in names
    }


def _own_folders(archives: Mapping[str, Mapping[str, Path]]) -> dict[str, str]:
    """{archive: the folder of its name, "" where its content may lie beside it}. An archive has a folder of its own
    when files lie in it without one, and when it alone tells the split: train.zip and val.zip may both hold images/.
    So has each that tells a split where one of them holds another alone, as val.zip does that holds training/."""
    within = {path: set(map(_split_within, files)) - {None} for path, files in archives.items()}
    telling = {path for path in archives if split_of(path)}
    against = any(len(within[path]) == 1 and split_of(path) not in within[path] for path in telling)
    return {
        path: _plain_name(path)
        if any("/" not in file for file in files) or (path in telling and (against or not within[path]))
        else ""
        for path, files in archives.items()
    }


def _plain_name(archive: str) -> str:
    """The name of an archive without its suffix, which may be of two parts; other dots stay."""
    name = archive.rsplit("/", 1)[-1]
    suffix = max((s for s in ARCHIVES if name.lower().endswith(s)), key=len)
    return name[: -len(suffix)]


def _split_within(file: str) -> str | None:
    """The split named by a file's folder, or by an annotation file; pictures are called as it happens."""
    return split_of(file if file.lower().endswith((".json", ".yaml")) else f"{parent(file)}/.")


def _link(folder: Path, place: str, target: Path, origin: str, owner: dict[str, str]) -> None:
    if place in owner:
        raise UserError(
            f"{owner[place]} and {origin} both hold {place}: give one of them as the dataset, "
            "or unpack each into a folder of its own"
        )
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
