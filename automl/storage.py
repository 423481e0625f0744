"""The Optuna storage: SQLite in the run folder, or any database by URL. Only the driver writes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from automl.errors import StudyBusy, UserError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


def open_storage(url: str | None, run_root: Path) -> RDBStorage:
    """`url` None: `<run>/study.db` in WAL mode, six times cheaper per ask than SQLite's default journal.

    Raises `UserError` when the database cannot be opened.
    """
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is None:
        run_root.mkdir(parents=True, exist_ok=True)
        _use_wal(run_root / "study.db")
        return optuna.storages.RDBStorage(
            sqlite_url(run_root), engine_kwargs={"connect_args": {"timeout": 60}, "pool_pre_ping": True}
        )
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        shown = sqlalchemy.engine.make_url(url).render_as_string(hide_password=True) if "://" in url else url
        raise UserError(
            f"--storage {shown}: cannot open it ({type(error).__name__}); check host, user and driver"
        ) from None


def sqlite_url(run_root: Path) -> str:
    return f"sqlite:///{(run_root / 'study.db').resolve()}"


def _use_wal(path: Path) -> None:
    """WAL is a property of the file: set once, it holds for every later connection, the dashboard's too."""
    import sqlite3

    with sqlite3.connect(path, timeout=60) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


class RunLock:
    """Held by the driver of a run. The kernel lets go of it when the driver dies, however it dies."""

    def __init__(self, run_root: Path) -> None:
        run_root.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(run_root / "run.lock")
        self._root = run_root

    def __enter__(self) -> RunLock:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StudyBusy(
                f"{self._root}: another driver is running it; see automl status {self._root}"
            ) from None
        return self

    def __exit__(self, *_: Any) -> None:
        self._lock.release()


def is_running(run_root: Path) -> bool:
    """Whether some driver holds the run's lock right now."""
    try:
        with RunLock(run_root):
            return False
    except StudyBusy:
        return True
