"""Full disks, read-only folders, damaged files, databases out of reach: what the operating system and the storage
raise, as one message each. Nothing else is caught: a bug keeps its traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.errors import AutoMLError, StorageError, UserError
from automl.executors.base import NO_SPACE
from automl.programs import command

if TYPE_CHECKING:
    from automl.executors.base import Exit

FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)
AWAY_S, LOOK_AGAIN_S = 120.0, 2.0  # how long a database server may be away, and from try to try
ANSWER_S = 10  # for a server to answer one that connects; it may be there and stand still
STOPS = 3  # of a run, for a trial that finds no room after the same epoch
ENOUGH_BYTES = 256 << 10  # less free is a full disk: SQLite then says no more than "disk I/O error"
# PostgreSQL's codes: read-only, without rights, no such database, schema, table or column.
REFUSED = ("25006", "42501", "3D000", "3F000", "42P01", "42703")
NO_THREAD = "can't start new thread"  # Python's words for the system's EAGAIN
# What SQLite says, and what it means. The database of a run lies in its folder.
DAMAGED = (
    "malformed", "not a database", "no such table", "no such column", "file is encrypted", "unsupported file format",
    "Could not decode",
)  # fmt: skip


@contextlib.contextmanager
def told_of(root: Path, url: str | None = None) -> Iterator[None]:
    """Raise what the storage or the operating system raises within as an error of ours, with what to do about the
    run in `root`, whose database is at `url` (None: in the folder)."""
    try:
        yield
    except AutoMLError:
        raise
    except Exception as error:
        if (message := told(error, root, url)) is None:
            raise
        raise message from None


@contextlib.contextmanager
def rows_of(root: Path, url: str | None = None) -> Iterator[None]:
    """Like `told_of`, around the reading of a study's rows and nothing else: SQLite looks at its pages and not at what
    stands in them, so that whatever cannot be made of a row is damage."""
    try:
        with told_of(root, url):
            yield
    except AutoMLError:
        raise
    except Exception as error:
        raise _damaged(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", root, url) from None


def told(error: BaseException, root: Path | None = None, url: str | None = None) -> AutoMLError | None:
    """The error of ours for a fault of disk or database, else None."""
    for cause in causes(error):
        if isinstance(cause, OSError):
            return _of_system(cause, root)
        if isinstance(cause, sqlite3.Error):
            return _of_sqlite(cause, root, url)
        if _is_of_database(cause) or _is_refused(cause):
            return _of_server(cause, root, url)
        if isinstance(cause, RuntimeError) and NO_THREAD in str(cause):
            return _none_more(root)
    return None


def no_space(root: Path | None, path: object = None) -> AutoMLError:
    """What to say, and do, when a disk is full."""
    place = Path(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else root
    then = f": {command('resume', root)}" if root else " try again"
    return StorageError(f"no space left on {_mount(place) if place else 'the disk'}; free some and{then}")


def room_lacking(place: Path, words: str) -> str:
    """Which disk has no room left, for what failed with these words and writes below `place`; "" where none is known
    to."""
    full = is_full(place) or any(each in words.lower() for each in NO_SPACE)
    return f"no space left on {_mount(place)}" if full else ""


def is_full(place: Path | str) -> bool:
    """Whether the disk of a folder has no room left."""
    return shutil.disk_usage(place).free < ENOUGH_BYTES


def check_room(exit: Exit, root: Path, count: Callable[[], int]) -> None:
    """Raise `StorageError`, with which the run ends for now, where a trial has ended for want of room on a disk; it
    stays RUNNING, and goes on with the run. On the disk of the run nothing goes well; for others its words tell. Where
    no disk is full that is known here, they do so a few times at one place, which `count` counts: a training may ask
    for room that no disk has. So does `AutoMLError` where no process could be started for it."""
    if exit.code is None and f"[Errno {errno.EAGAIN}]" in exit.reason:
        raise _none_more(root)
    if is_full(root) and (exit.code != 2 or exit.out_of_space):
        raise no_space(root)
    if exit.out_of_space and is_full(tempfile.gettempdir()):
        raise no_space(root, tempfile.gettempdir())
    if exit.out_of_space and count() <= STOPS:
        raise StorageError(f"no room on a disk: {exit.reason}; free some and: {command('resume', root)}")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from, and what database libraries wrap."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        original = getattr(error, "orig", None)  # sqlalchemy's DBAPIError
        error = original if isinstance(original, BaseException) else error.__cause__


def is_away(error: BaseException) -> bool:
    """Whether a database server did not answer, or ended the connection: it may be back in a moment."""
    return any(map(_is_of_database, causes(error)))


def patiently(
    write: Callable[[], Any],
    made: Callable[[], Any] | None,
    say: Callable[[str], object],
    at_once: bool,
) -> Any:
    """Call `write`, again and again while the database server is away, which may be for `AWAY_S`, or not at all with
    `at_once`; trials go on meanwhile, and what they report is on disk. One that stands still is waited for as long as
    it does. Where a write must not be done twice, `made` says what it would return if only its answer was lost, else
    None."""
    until, again = time.monotonic() + AWAY_S, False
    with _WATCH.over(say) as answered:
        while True:
            try:
                found = made() if again and made else None
                return write() if found is None else found
            except Exception as error:
                if at_once or not is_away(error) or time.monotonic() > until:
                    raise
            if not again:
                answered()
                say(f"the database does not answer; trying again for {AWAY_S:.0f} s")
            again = True
            time.sleep(LOOK_AGAIN_S)


class _Watch:
    """Says of a write that it has taken long. One thread looks at all of them, each second: one for each write would
    cost more than most writes do, and where no other may be started the run would end for it."""

    def __init__(self) -> None:
        self.waiting: dict[object, tuple[float, Callable[[str], object]]] = {}
        self.thread: threading.Thread | None = None

    @contextlib.contextmanager
    def over(self, say: Callable[[str], object]) -> Iterator[Callable[[], object]]:
        """Watch over the block, until it calls what it is given."""
        key = object()
        self.waiting[key] = (time.monotonic() + ANSWER_S, say)
        if self.thread is None or not self.thread.is_alive():
            self.thread = threading.Thread(target=self._look, name="database", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread may be started: then nothing is said
                self.thread.start()
        try:
            yield partial(self.waiting.pop, key, None)
        finally:
            self.waiting.pop(key, None)

    def _look(self) -> None:
        while True:
            time.sleep(1.0)
            for key, (due, say) in list(self.waiting.items()):
                if time.monotonic() < due:
                    continue
                if self.waiting.pop(key, None) is not None:
                    say("the database does not answer; waiting for it, trials go on meanwhile")


_WATCH = _Watch()


def check_place(folder: Path, option: str) -> None:
    """Raises `UserError`, naming the `option` that gives another place, where nothing can be written in `folder`, which
    need not be there yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "is a file" if there.is_file() else "cannot be written to"
        raise UserError(f"{option} {folder}: {there} {what}; name another folder")


def _of_system(error: OSError, root: Path | None) -> AutoMLError | None:
    name = error.filename
    if error.errno in FULL:
        return no_space(root, name)
    if name is None and error.errno == errno.EAGAIN:
        return _none_more(root)
    where = os.fsdecode(name) if isinstance(name, (str, bytes)) else str(name or root or "")
    if error.errno is None or not where:
        return None
    if error.errno in NOT_ALLOWED:
        return UserError(f"{where}: {_words(error)}; this must be a place that can be read and written")
    return StorageError(f"{where}: {_words(error)}")


def _none_more(root: Path | None) -> AutoMLError:
    """What to say where the system starts no further process or thread."""
    then = f": {command('resume', root)}" if root and root.is_dir() else " try again"
    return AutoMLError(
        "no more processes and threads may be started (ulimit -u, or a container's limit); end some or have the "
        f"limit raised, and{then}"
    )


def _words(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _of_sqlite(error: sqlite3.Error, root: Path | None, url: str | None) -> AutoMLError | None:
    text, where = str(error), _database(root, url)
    if "disk is full" in text or ("disk I/O" in text and root and is_full(root)):
        return no_space(root)
    if any(words in text for words in DAMAGED):
        return _damaged(text, root, url)
    if "readonly" in text:
        return UserError(f"{where}: cannot be written ({text})")
    if type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError):  # the others tell of a wrong program
        return StorageError(f"{where}: {text}{_resume(root)}")
    return None


def _damaged(text: str, root: Path | None, url: str | None) -> UserError:
    away = "delete the study in it" if url else "move it away"
    return UserError(
        f"{_database(root, url)}: is damaged ({text}); put a copy of it back, or {away} and have it made again from "
        f"the trials' folders{_resume(root, ': ')}"
    )


def _database(root: Path | None, url: str | None) -> str:
    from automl.database_url import shown

    if url:
        return f"the database {shown(url)}"
    return f"{root}/study.db" if root else "the run's study.db"


def _is_of_database(error: BaseException) -> bool:
    """Whether a database server's driver raised it for a reason outside the program."""
    sqlalchemy: Any = sys.modules.get("sqlalchemy")
    if sqlalchemy is None or not isinstance(error, sqlalchemy.exc.DBAPIError):
        return False
    kinds = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError)
    return isinstance(error, kinds) and not isinstance(error.orig, sqlite3.Error)


def _is_refused(error: BaseException) -> bool:
    """Whether a database server would not do it: one that is read-only (a standby), without rights or its tables."""
    sqlalchemy: Any = sys.modules.get("sqlalchemy")
    if sqlalchemy is None or not isinstance(error, sqlalchemy.exc.DBAPIError):
        return False
    original: Any = error.orig
    return str(getattr(original, "sqlstate", None) or getattr(original, "pgcode", "")) in REFUSED


def _of_server(error: Any, root: Path | None, url: str | None) -> AutoMLError:
    from automl.database_url import without_secrets

    said = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]
    said = without_secrets(said, url) if url else said
    name = _database(None, url) if url else "the database"
    if "timeout expired" in said:
        return StorageError(f"{name} does not answer; it was given {ANSWER_S} s{_resume(root)}")
    return StorageError(f"{name}: {said}{_resume(root)}")


def _resume(root: Path | None, before: str = "; once that is mended: ") -> str:
    if root and not root.is_dir():
        return f"; {root} is gone: where it was moved, `automl resume` with its new place goes on"
    return f"{before}{command('resume', root)}" if root else ""


def _mount(path: Path) -> Path:
    """Where the file system of a path is mounted."""
    path = path.absolute()
    while not os.path.ismount(path) and path != path.parent:
        path = path.parent
    return path
