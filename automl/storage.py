"""The Optuna storage: SQLite in the run folder, or any database by URL. Only the driver writes it; whoever reads
opens it so that nothing can be written."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from automl import database_url, faults
from automl.errors import StorageError, UserError
from automl.locks import is_running
from automl.metric import counted
from automl.programs import command
from automl.trial_attributes import WAITED

if TYPE_CHECKING:
    import sqlalchemy
    from optuna.storages import BaseStorage, RDBStorage

    from automl.study import Study

TIMEOUT_S = 60.0  # for another process's transaction
TRIES = 8  # of drivers that make the same tables at the same moment
NO_INDEX = (
    "unable to open",
    "readonly",
    "disk is full",
    "disk I/O",
)  # of what cannot be made beside a database
ADVISORY_LOCK = 0x6175746F6D6C  # "automl"


def open_storage(url: str | None, run_root: Path) -> RDBStorage:
    """For the driver. `url` None: `<run>/study.db` in WAL mode, six times cheaper per ask than SQLite's default.

    Raises `UserError` when the database cannot be opened or is damaged.
    """
    _quiet()
    with faults.told_of(run_root, url):
        if url is not None:
            return _server(url)
        run_root.mkdir(parents=True, exist_ok=True)
        _prepare(run_root / "study.db")
        return _sqlite(run_root / "study.db", "rw")


def load_study(document: dict[str, Any], run_root: Path) -> Study | None:
    """The study of a run, to look at only; `document` is its run.json. None when nothing has been asked yet.

    Raises `UserError` when it cannot be read, is not in its database although there are trials, or is a copy of
    earlier: what that shows is not how the search stands.
    """
    url, name = document["request"].get("storage"), document["study"]
    running = is_running(run_root)  # a driver that starts brings its study up to the folders
    with faults.rows_of(run_root, url):
        try:
            study = _study_in(url, run_root, name)
        except Exception as error:
            if not _lacks_its_index(error):
                raise
            study = _study_in(url, run_root, name)  # its driver died while it was read
        if study is None:
            _check_not_lost(url, run_root, name)
            return None
        words = "" if running else _behind(study, run_root)
        if words:  # unless a driver elsewhere, whose lock is not seen here, got on meanwhile
            study = study.reading(study.storage, name)
            words = _behind(study, run_root)
    if words:
        raise UserError(
            f"{_place(url, run_root)}: the study {name} is a copy of earlier: {words}; put the newer one back, or have "
            f"this one brought up to the folders: {command('resume', run_root)}"
        )
    return study


def _study_in(url: str | None, run_root: Path, name: str) -> Study | None:
    from automl.study import Study

    storage = read_storage(url, run_root)
    try:
        storage.get_study_id_from_name(name)
    except KeyError:
        return None
    return Study.reading(storage, name)


def _behind(study: Study, run_root: Path) -> str:
    """How the trials' folders are ahead of their study, which a driver always writes first; empty: they are not."""
    from automl import trial_notes
    from automl.rundir import RunDir

    trials, count = study.trials(), trial_notes.count(run_root)
    if count > len(trials):
        return f"it has {counted(len(trials), 'trial')}, and {run_root / 'trials'} those up to number {count - 1}"
    for trial in trials:
        if trial.state.is_finished():
            continue
        found = trial_notes.read(RunDir(run_root).trial(trial.number), trial.number)
        waits = found is not None and found.state == "PAUSED"
        if found and (found.paused > trial.user_attrs.get(WAITED, -1) if waits else found.state != "RUNNING"):
            return f"trial {trial.number} has not ended in it, and is {found.state} in {run_root / 'trials'}"
    return ""


def _place(url: str | None, run_root: Path) -> str:
    return database_url.shown(url) if url else str(run_root / "study.db")


def read_storage(url: str | None, run_root: Path) -> BaseStorage:
    """A storage that cannot be written; an empty one where there is none yet."""
    import optuna

    _quiet()
    path = run_root / "study.db"
    if url is not None:
        return _server(url, reading=True)
    if not path.exists():
        return optuna.storages.InMemoryStorage()
    try:
        return _sqlite(path, "ro")
    except Exception as error:
        if _is_unmade(path):
            return optuna.storages.InMemoryStorage()
        if not _lacks_its_index(error):
            raise
    return _copied(path) if _has_wal(path) else _sqlite(path, "ro&immutable=1")


def _check_not_lost(url: str | None, run_root: Path, study: str) -> None:
    from automl import trial_notes

    if count := trial_notes.count(run_root):
        raise UserError(
            f"{_place(url, run_root)}: the study {study} is not in it, but {run_root / 'trials'} holds trials up to "
            f"number {count - 1}; put the database back, or have it made again from them: {command('resume', run_root)}"
        )


def _quiet() -> None:
    import optuna

    optuna.logging.set_verbosity(
        optuna.logging.ERROR
    )  # what it warns of while it reads damaged rows is then raised


def _make(*args: Any, **kwargs: Any) -> RDBStorage:
    from automl.lean_storage import LeanStorage

    return LeanStorage(*args, **kwargs)


# ---- SQLite in the run folder ---------------------------------------------------------------------------------------


def _prepare(path: Path) -> None:
    """Make the file, or look for damage. WAL is a property of the file: set once, it holds for every connection."""
    connection = sqlite3.connect(path, timeout=TIMEOUT_S)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    finally:
        connection.close()
    if found != "ok":
        raise sqlite3.DatabaseError(f"malformed: {' '.join(str(found).split())[:200]}")


def _sqlite(path: Path, mode: str) -> RDBStorage:
    """`mode`: rw, ro, or ro&immutable=1, which needs no other file. The file must exist; it is opened by its path,
    whatever characters that has."""
    import sqlalchemy

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(_uri(path, mode), uri=True, timeout=TIMEOUT_S, check_same_thread=False)

    storage = _make("sqlite:///study.db", {"creator": connect}, skip_table_creation=mode != "rw")
    opened = os.stat(path).st_ino

    @sqlalchemy.event.listens_for(storage.engine, "checkout")
    def same_file(*_: Any) -> None:
        """What is written to a file that was deleted while open is lost without an error."""
        if not path.exists() or os.stat(path).st_ino != opened:
            raise StorageError(f"{path}: has been deleted or replaced while in use")

    return storage


def _lacks_its_index(error: Exception) -> bool:
    """Whether SQLite could not read because the folder cannot be written, or has no room: it makes the index of a WAL
    there."""
    texts = [str(cause) for cause in faults.causes(error) if isinstance(cause, sqlite3.OperationalError)]
    return any(words in text for text in texts for words in NO_INDEX)


def _has_wal(path: Path) -> bool:
    wal = path.with_name("study.db-wal")
    return wal.exists() and wal.stat().st_size > 0


def _is_unmade(path: Path) -> bool:
    """Whether nothing can stand in the file yet: a driver is about to make its tables, or died before it had."""
    if path.stat().st_size == 0 and not _has_wal(path):
        return True
    try:
        with contextlib.closing(sqlite3.connect(_uri(path, "ro"), uri=True, timeout=TIMEOUT_S)) as connection:
            return not connection.execute("SELECT count(*) FROM alembic_version").fetchone()[0]
    except sqlite3.OperationalError as error:  # Optuna writes that last
        return "no such table: alembic_version" in str(error)


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(str(path.resolve()))}?mode={mode}"


def _copied(path: Path) -> RDBStorage:
    """A copy to read, with what stands in the WAL alone."""
    files = [path, path.with_name("study.db-wal")]
    place = _roomy(2 * sum(file.stat().st_size for file in files))
    folder = tempfile.TemporaryDirectory(prefix="automl-read-", dir=place)
    for file in files:
        shutil.copyfile(file, Path(folder.name, file.name))
    storage = _sqlite(Path(folder.name, "study.db"), "rw")
    storage._automl_copy = folder  # type: ignore[attr-defined]  # it goes when the storage goes
    return storage


def _roomy(size: int) -> str | None:
    """A folder for temporary files with room for `size` bytes, in memory where the disk is full."""
    places = (os.environ.get("TMPDIR") or "/tmp", "/tmp", "/var/tmp", "/dev/shm")
    usable = [place for place in places if os.access(place, os.W_OK)]
    return next((p for p in usable if shutil.disk_usage(p).free > size + faults.ENOUGH_BYTES), None)


# ---- a database server ----------------------------------------------------------------------------------------------


def _server(text: str, reading: bool = False) -> Any:
    """Raises `UserError` when it cannot be opened; an empty database to read is an empty storage."""
    import optuna
    import sqlalchemy

    url = database_url.parse(text)
    options: dict[str, Any] = {"pool_pre_ping": True}
    patience = _patience(url)
    if reading:
        options["connect_args"] = patience
    if reading and url.get_backend_name() == "postgresql":
        options["execution_options"] = {"postgresql_readonly": True}
    # Optuna formats the URL, for which braces are doubled.
    plain = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    try:
        if reading and _is_new_file(url):
            return optuna.storages.InMemoryStorage()
        engine = _opened(url, patience, text)
        if reading and not sqlalchemy.inspect(engine).has_table("alembic_version"):
            return optuna.storages.InMemoryStorage()
        with _one_at_a_time(engine):
            return _made(lambda: _make(plain, options, skip_table_creation=reading))
    except UserError:
        raise
    except Exception as error:
        reason = faults.told(error, None, text) or (error if isinstance(error, RuntimeError) else None)
        if reason is None:
            raise
        if "does not answer" in str(reason):
            raise reason from None
        where = database_url.shown(text)
        said = str(reason).removeprefix(f"the database {where}: ")
        raise UserError(
            f"--storage {where}: cannot open it, check host, name, user and password (a run is given another "
            f"URL by automl resume RUN --storage URL): {said}"
        ) from None


def _opened(url: sqlalchemy.URL, patience: Mapping[str, Any], text: str) -> sqlalchemy.Engine:
    """An engine that has connected once. Raises `UserError` for options of the URL that its driver does not take, which
    each driver raises in its own way."""
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(
            url, poolclass=sqlalchemy.pool.NullPool, connect_args=dict(patience)
        )
        sqlalchemy.inspect(engine)
    except Exception as error:
        if not url.query or faults.told(error, None, text):
            raise
        said = (str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__])[0]
        where = database_url.shown(text).partition("?")[0]
        raise UserError(
            f"--storage {where}: its options ({', '.join(url.query)}) must be ones that {url.drivername} takes, but: "
            f"{database_url.without_secrets(said, text)}"
        ) from None
    return engine


def _is_new_file(url: sqlalchemy.URL) -> bool:
    """Whether it is an SQLite file that a driver can make: to look at it would make it."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return False
    file = Path(url.database)
    return not file.exists() and os.access(file.parent, os.W_OK | os.X_OK)


def _patience(url: sqlalchemy.URL) -> dict[str, int]:
    """What lets a server's driver give up on a connection, where the URL does not say it: else it waits for ever."""
    knows = url.get_driver_name() in ("psycopg", "psycopg2", "pymysql", "mysqldb")
    return {"connect_timeout": faults.ANSWER_S} if knows and "connect_timeout" not in url.query else {}


@contextlib.contextmanager
def _one_at_a_time(engine: sqlalchemy.Engine) -> Iterator[None]:
    """Drivers that start together on an empty PostgreSQL make its tables one after the other."""
    import sqlalchemy

    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        yield


def _made(make: Callable[[], RDBStorage]) -> RDBStorage:
    """Made again where another driver made the same tables at the same moment."""
    import sqlalchemy

    for left in reversed(range(TRIES)):
        try:
            return make()
        except Exception as error:
            races = [c for c in faults.causes(error) if isinstance(c, sqlalchemy.exc.DBAPIError)]
            lost = any(
                "exist" in str(c.orig).lower() or isinstance(c, sqlalchemy.exc.IntegrityError) for c in races
            )
            if not left or not lost:
                raise
            time.sleep(random.uniform(0.05, 0.5))
    raise AssertionError


# ---- who drives a run -----------------------------------------------------------------------------------------------
