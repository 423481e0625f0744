"""Where the file names of annotations lie on this disk: as the tools write them, not as one would wish them.

A name is taken as it stands, then with `\\` for `/`, without percent-encoding, in any Unicode form and case. One of the
two paths must end with the other ("images/x.jpg" is x.jpg of images/, "x.jpg" is cam/x.jpg); of an absolute path or a
URL, which another machine wrote, the end alone must agree. Whatever is found must be the only one: two that fit are
none.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from operator import attrgetter
from os.path import splitext
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from model.data.copied import own_copies
from model.data.images import READ_SUFFIXES, UNREAD, how_to_convert, is_drawn, is_image

JUNK = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")  # folders that systems leave, besides hidden ones
UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file
DRIVE = re.compile(r"^[A-Za-z]:/")
SHOWN = 3
SUFFIXES = frozenset(READ_SUFFIXES)
OF_IMAGES = SUFFIXES | frozenset(UNREAD)
LETTERS = re.compile(r"\.[a-z]{2,4}")  # suffixes of files that are no images to us
MASKS = ("segmentation", "annotat", "mask")  # in the names of folders whose pictures may be labels
# Names that say so and nothing else, unlike with_mask, batch2_annotated and segmentation_project.
ONLY_MASKS = re.compile(
    r"(segmentation(class|object)\w*|(segmentation|annotation|mask|image|label)s?|annotated|segm?|gt|ground|truth|class"
    r"|object|semantic|instances?|binary|colou?r|png|train(ing)?|val(id(ation)?)?|test(ing)?|[\W\d_])+"
)
# Lines and blocks of the code page in which zip files keep other names.
MANGLED = re.compile("[\u2500-\u259f]")

Parts = tuple[str, ...]


def is_hidden(name: str) -> bool:
    """Hidden files, macOS's `._` companions, and folders that systems leave behind."""
    return name.startswith(".") or name in JUNK


def walk(root: Path) -> list[tuple[str, list[str]]]:
    """[(folder below `root`, "" for itself; its file names)], sorted; links are followed, each folder once, under its
    own name where that lies below `root` too, and none to a folder that it lies in. Pipes, sockets and devices are no
    files."""
    seen: set[tuple[int, int]] = set()
    found, left, links = [], [""], list[str]()
    while left or links:
        below = left.pop() if left else links.pop(links.index(min(links)))
        folder = os.path.join(root, below)
        try:
            stat = os.stat(folder)
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            entries = [entry for entry in os.scandir(folder) if not is_hidden(entry.name)]
        except OSError:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        for entry in sorted(entries, key=attrgetter("name")):
            if entry.is_dir() and not _leads_back(entry):
                (links if entry.is_symlink() else left).append(
                    f"{below}/{entry.name}" if below else entry.name
                )
        found.append((below, sorted(entry.name for entry in entries if _is_file(entry))))
    return sorted(found, key=lambda one: one[0].split("/") if one[0] else [])


def images_in(folder: Path) -> Iterator[Path]:
    """Every image at any depth, as `walk` finds it, in order of the names."""
    for path in sorted(Path(folder, below, name) for below, names in walk(folder) for name in names):
        if is_image(path):
            yield path


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a regular file, or a link to nothing, which its reader tells."""
    return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))


def _leads_back(entry: os.DirEntry[str]) -> bool:
    """Whether a link leads to a folder that it lies in, above the one that is walked perhaps."""
    if not entry.is_symlink():
        return False
    home, target = os.path.realpath(os.path.dirname(entry.path)), os.path.realpath(entry.path)
    return os.path.commonpath([home, target]) == target


def in_any_form(folder: Path, name: str) -> Path | None:
    """The file of a folder that is called so, in whatever Unicode form: macOS writes a letter and its accent apart."""
    if (path := folder / name).is_file():
        return path
    if name.isascii():
        return None
    try:
        names = _in_one_form(folder, folder.stat().st_mtime_ns)
    except OSError:
        return None
    found = names.get(composed(name), [])
    return folder / found[0] if len(found) == 1 else None


def composed(text: str) -> str:
    """A text in one Unicode form."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


@lru_cache(maxsize=64)
def _in_one_form(folder: Path, changed_ns: int) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for entry in os.scandir(folder):
        if not entry.name.isascii() and entry.is_file():
            names.setdefault(composed(entry.name), []).append(entry.name)
    return names


def find_image(folder: Path, name: str) -> Path:
    """Where a file name of the annotations lies; when it is nowhere, a path that can be asked and is not there."""
    if name.startswith("/") and (own := _resolver(folder).find(name)):
        return own
    return _direct(folder, name) or _resolver(folder).find(name) or _nowhere(folder, name)


def find_images(folder: Path, names: Sequence[str]) -> list[Path]:
    """`find_image` of many names, fast. A file that several names would share is only that of the name that says it
    exactly. Where no name of a suffix, or without one, is found, those are taken whose stem is that of one other image:
    x.jpg, x.dcm or x may have become x.png."""
    resolver = Resolver(folder)
    own = own_copies(folder, names, resolver.known)
    located = [folder / own[name] if name in own else resolver.locate(name) for name in names]
    _take_other_suffixes(resolver, names, located)
    found = [path or _nowhere(folder, name) for name, path in zip(names, located, strict=True)]
    guessed: dict[Path, set[str]] = {}
    for name, path in zip(names, found, strict=True):
        if name not in resolver.known and path != folder / name:
            guessed.setdefault(path, set()).add(name)
    taken = {path for path, by in guessed.items() if len(by) > 1}
    if guessed:
        taken |= guessed.keys() & {folder / name for name in names if name in resolver.known}
    if taken:
        found = [
            _nowhere(folder, name) if path in taken and name not in resolver.known else path
            for name, path in zip(names, found, strict=True)
        ]
    return found


def _take_other_suffixes(resolver: Resolver, names: Sequence[str], located: list[Path | None]) -> None:
    """Fill in the files of names that were not found, by suffix all of them or none: a single one is rather missing."""
    if all(located):
        return
    by_suffix: dict[str, list[int]] = {}
    for n, name in enumerate(names):
        by_suffix.setdefault(_suffix(name), []).append(n)
    for rows in by_suffix.values():
        if all(located[n] is None for n in rows):
            for n in rows:
                found = resolver.of_stem(names[n])
                located[n] = resolver.folder.joinpath(*found[0]) if len(found) == 1 else None


def _suffix(name: str) -> str:
    """Of the file that a name ends in, in one case; "" where that looks like none, as in frame.0001."""
    last = next((FORMS[-1](parts[-1]) for parts, _ in readings(name)), "")
    suffix = os.path.splitext(last)[1]
    return suffix if suffix in OF_IMAGES or LETTERS.fullmatch(suffix) else ""


def renamed(names: Sequence[str], paths: Sequence[Path]) -> int:
    """How many of the paths found for names are files with another suffix."""
    return sum(
        not name.endswith(path.name)
        and all(FORMS[-1](parts[-1]) != FORMS[-1](path.name) for parts, _ in readings(name))
        for name, path in zip(names, paths, strict=True)
    )


def explain(folder: Path, name: str) -> str:
    """Why a name was not found, to be put behind the message: "; did you mean 'x.jpg'?", or nothing."""
    return _resolver(folder).explain(name)


def _direct(folder: Path, name: str) -> Path | None:
    try:
        path = folder / name
        return path if name and path.is_file() else None
    except (OSError, ValueError):  # too long a name, a null byte
        return None


def _nowhere(folder: Path, name: str) -> Path:
    """`folder / name`, or something like it where no disk takes that name."""
    try:
        (folder / name).stat()
    except FileNotFoundError:
        return folder / name
    except (OSError, ValueError):
        pass
    return folder / f"{name[:40]!a}, which is no file name"


@lru_cache(maxsize=64)
def _cached(folder: Path, changed_ns: int) -> Resolver:
    return Resolver(folder)


def _resolver(folder: Path) -> Resolver:
    try:
        return _cached(folder, folder.stat().st_mtime_ns)
    except OSError:
        return Resolver(folder)


class Resolver:
    """All files of a folder by their last part, in three strictnesses: as they are, decoded, in any case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = [f"{below}/{name}" if below else name for below, names in walk(folder) for name in names]
        self.known = set(self.files)
        self._by_last: dict[int, dict[str, list[Parts]]] = {}  # of a form, once it is needed

    def ending_in(self, form: int, last: str) -> list[Parts]:
        """Files whose last part reads `last` in a form."""
        if form not in self._by_last:
            index = self._by_last.setdefault(form, {})
            for file in self.files:
                parts = tuple(file.split("/"))
                index.setdefault(FORMS[form](parts[-1]), []).append(parts)
        return self._by_last[form].get(last, [])

    def locate(self, name: str) -> Path | None:
        """As `find_image`, but asks the disk only for names that lead out of the folder or to hidden files."""
        if name in self.known:
            return self.folder / name
        outside = name.startswith("/") or any(part.startswith(".") for part in name.split("/"))
        return (_direct(self.folder, name) if outside else None) or self.find(name)

    def find(self, name: str) -> Path | None:
        """The only file that the name can mean, or None."""
        found = self.candidates(name)
        return self.folder.joinpath(*found[0]) if len(found) == 1 else None

    def candidates(self, name: str) -> list[Parts]:
        """Files that the name can mean, by the strictest reading that finds any."""
        for parts, anywhere in readings(name):
            for number, form in enumerate(FORMS):
                wanted = tuple(map(form, parts))
                near = [
                    (common_end(wanted, tuple(map(form, f))), f) for f in self.ending_in(number, wanted[-1])
                ]
                fitting = [(n, f) for n, f in near if anywhere or n == min(len(f), len(wanted))]
                if fitting:
                    longest = max(n for n, _ in fitting)
                    return [f for n, f in fitting if n == longest]
        return []

    def of_stem(self, name: str) -> list[Parts]:
        """Images, but no masks, that differ from a name in the suffix alone, or have one where it has none."""
        suffix = _suffix(name)
        for cut in (suffix,) if suffix in SUFFIXES else ("", suffix):
            for parts, anywhere in readings(name):
                wanted = (*map(FORMS[-1], parts[:-1]), FORMS[-1](parts[-1]).removesuffix(cut))
                found = [
                    f
                    for f in self._by_stem.get(wanted[-1], ())
                    if anywhere
                    or common_end(wanted, (*map(FORMS[-1], f[:-1]), wanted[-1])) == min(len(f), len(wanted))
                ]
                if found:
                    photos = [f for f in found if not speaks_of_masks("/".join(f[:-1]))]
                    return photos or [f for f in found if not is_drawn(self.folder.joinpath(*f))]
        return []

    @cached_property
    def _by_stem(self) -> dict[str, list[Parts]]:
        index: dict[str, list[Parts]] = {}
        for file in self.files:
            *folders, last = file.split("/")
            if last.lower().endswith(READ_SUFFIXES) and not says_only_masks("/".join(folders)):
                index.setdefault(_stem(last), []).append((*folders, last))
        return index

    def explain(self, name: str) -> str:
        """What to do about a name that was not found."""
        found = ["/".join(parts) for parts in self.candidates(name)]
        if len(found) > 1:
            return f"; it may be any of {', '.join(found[:SHOWN])}"
        lasts = {file.rsplit("/", 1)[-1]: file for file in reversed(self.files)}
        last = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
        if not name.isascii() and (odd := next(filter(MANGLED.search, lasts), "")):
            return (
                f"; a name such as '{odd}' is one in another encoding than UTF-8 (GBK, Shift JIS, ...): pack the "
                "archive anew with names in UTF-8, or rename the images"
            )
        near = [last] if last in lasts else difflib.get_close_matches(last, lasts, n=1, cutoff=0.7)
        what = how_to_convert(near[0]) if near else ""
        return f"; did you mean '{lasts[near[0]]}'?" + (f" {what}" if what else "") if near else ""


def speaks_of_masks(folder: str) -> bool:
    """Whether a part of a folder's path has a word in it for pictures that are labels; photos may lie there too."""
    return any(word in folder.casefold() for word in MASKS)


def says_only_masks(folder: str) -> bool:
    """Whether a part of a folder's path says that pictures that are labels lie there, and nothing else."""
    return any(
        speaks_of_masks(part) and ONLY_MASKS.fullmatch(part) is not None
        for part in folder.casefold().split("/")
    )


def _stem(last: str) -> str:
    """A file's name in one case, without its suffix."""
    return os.path.splitext(FORMS[-1](last))[0]


def decoded(part: str) -> str:
    """Without percent-encoding and in one Unicode form."""
    return unicodedata.normalize("NFC", unquote(part)).strip()


FORMS: tuple[Callable[[str], str], ...] = (str, decoded, lambda part: decoded(part).casefold())


def readings(name: str) -> Iterable[tuple[Parts, bool]]:
    """The ways to read a name: (its parts, whether the folders in front mean nothing here)."""
    plain = re.sub(r"^file:/+", "/", name.strip().replace("\\", "/"))
    anywhere = plain.startswith(("/", "~")) or bool(DRIVE.match(plain)) or "://" in plain
    if "://" in plain or "/local-files/" in plain:  # Label Studio serves /data/local-files/?d=images/x.jpg
        split = urlsplit(plain)
        inner = parse_qs(split.query).get("d", [""])[0]
        plain, anywhere = (inner or split.path or plain), True
    parts = tuple(p for p in DRIVE.sub("", plain).split("/") if p not in ("", ".", "..", "~"))
    if not parts:
        return
    yield parts, anywhere
    if UPLOAD.match(parts[-1]):
        yield (UPLOAD.sub("", parts[-1]),), True


def common_end(a: Parts, b: Parts) -> int:
    """How many last parts two paths share."""
    same = 0
    for x, y in zip(reversed(a), reversed(b), strict=False):
        if x != y:
            break
        same += 1
    return same


def stem_of(name: str) -> str:
    """The last part of an image's path or name, in one case and without the suffix of an image."""
    last = FORMS[-1](name.replace("\\", "/").rsplit("/", 1)[-1])
    stem, suffix = splitext(last)
    return stem if suffix in SUFFIXES else last


def plain_stem(last: str) -> str:
    """A file's name as it is written, without the suffix of an image."""
    stem, suffix = splitext(last)
    return stem if suffix.lower() in SUFFIXES else last


def both_ends(own: Parts, other: Parts) -> tuple[int, int]:
    """How many folders two paths share at the front, and of the others at the end."""
    front = common_end(own[::-1], other[::-1])
    return front, common_end(own[front:], other[front:])
