"""The private cache that all trials and runs share: what is made in it is made once, and messages name the person's own
files, not what was made of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock

from model.errors import FULL, UserError

PLACE = r"/(?:[a-z_]+/)?[0-9a-f]{32}(?![0-9a-zA-Z])"  # below the cache: an archive's content, data laid out or fetched
ANOTHER = "set the environment variable DETR_CACHE_DIR to a folder that can"
LARGER = "set the environment variable DETR_CACHE_DIR to a folder on a larger disk"
ANNOTATIONS = "annotations"  # what every training keeps, below the cache
CUT_OFF = re.compile(r"\d+ requested and \d+ written")  # numpy's words of a full disk, without an errno


def cache_dir() -> Path:
    """`$DETR_CACHE_DIR`, else `~/.cache/deformable_detr`; readable by its owner alone. Raises `UserError` where it
    cannot be made."""
    try:
        root = Path(os.environ.get("DETR_CACHE_DIR") or Path.home() / ".cache" / "deformable_detr")
    except RuntimeError as error:
        raise UserError(f"{error}, where the cache folder would be; {ANOTHER}") from None
    with _telling_of_the_cache(root):
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root


@contextlib.contextmanager
def _telling_of_the_cache(root: Path) -> Iterator[None]:
    """Raise a `UserError` where the block can make nothing in the cache at `root`. What is wrong with other files,
    which the block may read, stays what it is."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise UserError(f"{root}: no space left for the cache folder; free some, or {LARGER}") from None
        place = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else None
        if place is None or not (place.is_relative_to(root) or root.is_relative_to(place)):
            raise
        what = (error.strerror or str(error)).lower()
        below = f" ({place.relative_to(root)})" if root in place.parents else ""
        raise UserError(
            f"{root}: the cache folder must be one that can be written, but: {what}{below}; {ANOTHER}"
        ) from None


def is_full(error: BaseException) -> bool:
    """Whether a disk had no room for what was written."""
    return isinstance(error, OSError) and (error.errno in FULL or bool(CUT_OFF.search(str(error))))


def check_cache() -> None:
    """Raises `UserError` where a training could keep nothing in the cache; to be asked before the first one. One that
    can be read and is filled will do: a training says what it lacks."""
    root = cache_dir()
    folder = root / ANNOTATIONS
    with _telling_of_the_cache(root):
        try:
            folder.mkdir(exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"x")
        except OSError as error:
            if is_full(error) or not _is_filled(folder):
                raise


def _is_filled(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK) and folder.is_dir() and any(folder.iterdir())


def once(
    target: Path, make: Callable[[Path], None], holds: Callable[[Path], bool] = lambda folder: True
) -> Path:
    """The folder `target`, made by `make` unless it is there and still `holds`: by one process while others wait,
    whole or not at all. Raises `UserError` where the cache cannot be read or written, or its disk is full."""

    def good() -> bool:
        return target.is_dir() and holds(target)

    with _telling_of_the_cache(cache_dir()):
        if good():
            return target
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(f"{target}.lock"):
            if not good():
                _make(target, make)
    return target


def _make(target: Path, make: Callable[[Path], None]) -> None:
    # Of the dead: who holds the lock is the only one.
    for left in target.parent.glob(f"{target.name}.*.partial"):
        shutil.rmtree(left, ignore_errors=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    partial.mkdir(mode=0o700)
    try:
        make(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


# ---- what messages call it ----------------------------------------------------------------------------------------


def came_from(target: Path, origin: str | Path) -> Path:
    """`target`, a folder of the cache, with a record of what it was made of: an archive, a folder or a URL."""
    text = in_own_words(str(origin))
    record = target.with_name(f"{target.name}.from")
    with contextlib.suppress(OSError):
        if not record.is_file() or record.read_text(errors="surrogateescape") != text:
            partial = record.with_name(f"{record.name}.{os.getpid()}.partial")
            partial.write_text(text, errors="surrogateescape")
            partial.replace(record)
    return target


def in_own_words(text: str) -> str:
    """A message in which the places of the cache are called by what they were made of."""
    root = str(cache_dir())
    return re.sub(re.escape(root) + PLACE, _origin, text) if root in text else text


def _origin(place: re.Match[str]) -> str:
    try:
        return Path(f"{place[0]}.from").read_text(errors="surrogateescape")
    except OSError:
        return place[0]


def all_in_own_words(texts: Iterable[str]) -> list[str]:
    """As `in_own_words`, of each."""
    return list(map(in_own_words, texts))


@contextlib.contextmanager
def refusing_in_own_words() -> Iterator[None]:
    """Raise a `UserError` of the block, or of the decorated function, as `in_own_words`."""
    try:
        yield
    except UserError as error:
        raise type(error)(in_own_words(str(error))) from None
