"""One driver for a study in a shared database. A folder's lock keeps a second driver out of the folder; a copy of the
folder has a lock of its own, and the same study.

The study's attribute `driver` says from where it was last driven. On PostgreSQL the driver also holds an advisory lock,
in a transaction that it leaves open: the server lets go of it when the driver dies, wherever that was.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import run_json
from automl.errors import StudyBusy, UserError
from automl.programs import command
from automl.storage import is_running

if TYPE_CHECKING:
    from automl.study import Study

# Of a machine that went off without a word the server would know after hours; in seconds, seconds, tries.
KEEPALIVES = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}


@contextmanager
def sole_driver(study: Study, root: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Be the one that drives `study`, which is in a shared database, from the run folder `root`. Raises `StudyBusy`
    while another folder's driver lives; a folder of the same study that is still there is told of."""
    before = _before(study)
    other = Path(before.get("root", ""))
    here = bool(before) and os.path.realpath(other) == os.path.realpath(root)
    there = bool(before) and not here and _holds(other, study.name)
    with _locked(study) as free:
        mine = here and before.get("host") == socket.gethostname()  # its lock is ours: that driver is dead
        if (not free and not mine) or (there and is_running(other)):
            raise StudyBusy(_words(study.name, root, before))
        if there:
            say(
                f"note: {other} is a folder of the same study and was the last to go on with it; what was trained "
                "there since this copy was made is not in this folder: go on with one of the two only"
            )
        now = {"root": str(root), "host": socket.gethostname()}
        study.storage.set_study_user_attr(study._id, "driver", now)
        yield


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
def _locked(study: Study) -> Iterator[bool]:
    """Hold the study's lock, if the database knows such; False where another has it."""
    import sqlalchemy

    engine: Any = getattr(study.storage, "engine", None)
    if engine is None or engine.dialect.name != "postgresql":
        yield True
        return
    key = int.from_bytes(hashlib.sha256(study.name.encode()).digest()[:8], "big", signed=True)
    connection = sqlalchemy.create_engine(engine.url, poolclass=sqlalchemy.pool.NullPool).connect()
    try:
        for name, value in KEEPALIVES.items():
            connection.execute(sqlalchemy.text(f"SET {name} = {value}"))
        take = sqlalchemy.text("SELECT pg_try_advisory_xact_lock(:key)")
        yield bool(connection.execute(take, {"key": key}).scalar())
    finally:
        with suppress(sqlalchemy.exc.SQLAlchemyError):  # the server may have been away since
            connection.close()
