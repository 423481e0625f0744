"""One driver for a study in a shared database. A folder's lock keeps a second driver out of the folder; a copy of the
folder has a lock of its own, and the same study.

The study's attribute `driver` says who drove it last, and from where. On PostgreSQL the driver also holds an advisory
lock, in a session of its own: the server lets go of it when the driver dies, wherever that was. It does so too when it
is started anew, or ends the session, so that a driver that writes looks at both again, every few seconds.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import run_json
from automl.errors import StudyBusy, UserError
from automl.locks import is_running
from automl.programs import command

if TYPE_CHECKING:
    from automl.study import Study

# Of a machine that went off without a word the server would know after hours; in seconds, seconds, tries.
KEEPALIVES = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}
LOOK_EACH_S = 5.0  # of a driver that writes, whether it is still alone


@contextmanager
def sole_driver(study: Study, root: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Be the one that drives `study`, which is in a shared database, from the run folder `root`. Raises `StudyBusy`
    while another folder's driver lives; a folder of the same study that is still there is told of."""
    before = _before(study)
    other = Path(before.get("root", ""))
    here = bool(before) and os.path.realpath(other) == os.path.realpath(root)
    there = bool(before) and not here and _holds(other, study.name)
    with _locked(study) as taken:
        mine = here and before.get("host") == socket.gethostname()  # its lock is ours: that driver is dead
        if (not taken() and not mine) or (there and is_running(other)):
            raise StudyBusy(_words(study.name, root, before))
        if there:
            say(
                f"note: {other} is a folder of the same study and was the last to go on with it; what was trained "
                "there since this copy was made is not in this folder: go on with one of the two only"
            )
        now = {"root": str(root), "host": socket.gethostname(), "id": secrets.token_hex(8)}
        study.storage.set_study_user_attr(study._id, "driver", now)
        before_it, study.still_alone = study.still_alone, _looking(study, root, now, taken)
        try:
            yield
        finally:
            study.still_alone = before_it


def _looking(
    study: Study, root: Path, now: dict[str, str], taken: Callable[[], bool]
) -> Callable[[bool], None]:
    """What the study calls before it writes, with whether the database was away just now. Raises `StudyBusy` once
    another driver has begun. A lock that is not to be had is no such word: the server may still think that this
    driver's own lost session lives."""
    looked_at = -math.inf

    def look(at_once: bool) -> None:
        nonlocal looked_at
        if not at_once and time.monotonic() < looked_at + LOOK_EACH_S:
            return
        alone = taken()
        if (driver := _before(study)) != now:
            raise StudyBusy(_words(study.name, root, driver))
        looked_at = time.monotonic() if alone else -math.inf

    return look


def _before(study: Study) -> dict[str, str]:
    found = study.storage.get_study_user_attrs(study._id).get("driver")
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _words(name: str, root: Path, before: dict[str, str]) -> str:
    where = f", from {before['root']} on {before.get('host', '?')}" if "root" in before else ""
    return (
        f"{root}: a driver is at work on its study {name} in the database{where}; two would write to one study. "
        "End that one first (of one whose machine is gone the database knows within a minute), or begin a run of its "
        f"own: {command('run', '--warm-start', root)}"
    )


def _holds(folder: Path, study: str) -> bool:
    """Whether it is a run folder of that study."""
    try:
        return bool(run_json.read(folder / "run.json")["study"] == study)
    except (UserError, OSError):
        return False


@contextmanager
def _locked(study: Study) -> Iterator[Callable[[], bool]]:
    """What takes the study's lock, or anew where the server has let go of it, if the database knows such; it returns
    False where another has it."""
    engine: Any = getattr(study.storage, "engine", None)
    if engine is None or engine.dialect.name != "postgresql":
        yield lambda: True
        return
    lock = _Lock(
        engine.url, int.from_bytes(hashlib.sha256(study.name.encode()).digest()[:8], "big", signed=True)
    )
    try:
        yield lock.taken
    finally:
        lock.close()


class _Lock:
    """A session's advisory lock. In no transaction: servers end those that stay open and do nothing."""

    def __init__(self, url: Any, key: int) -> None:
        self.url, self.key = url, key
        self.connection: Any = None

    def taken(self) -> bool:
        """Whether this session has it now. Asked again, which the server counts, it also tells that the session lives;
        with one that was lost the lock is gone."""
        import sqlalchemy

        take = sqlalchemy.text("SELECT pg_try_advisory_lock(:key)")
        if self.connection is not None:
            try:
                return bool(self.connection.execute(take, {"key": self.key}).scalar())
            except sqlalchemy.exc.DBAPIError:
                self.close()
        self.connection = self._connected()
        return bool(self.connection.execute(take, {"key": self.key}).scalar())

    def _connected(self) -> Any:
        import sqlalchemy

        engine = sqlalchemy.create_engine(
            self.url, poolclass=sqlalchemy.pool.NullPool, isolation_level="AUTOCOMMIT"
        )
        connection = engine.connect()
        for name, value in KEEPALIVES.items():
            connection.execute(sqlalchemy.text(f"SET {name} = {value}"))
        return connection

    def close(self) -> None:
        import sqlalchemy

        with suppress(sqlalchemy.exc.SQLAlchemyError):  # the server may have been away since
            if self.connection is not None:
                self.connection.close()
        self.connection = None
