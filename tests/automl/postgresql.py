"""A PostgreSQL server of its own for tests and studies: on loopback, in a temporary folder, ended with its `with`."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PASSWORD = "pa/ss#wo?rd%40"


def binaries() -> str | None:
    """The folder of Debian's server programs (not on PATH there), or of those on PATH; None without."""
    found = sorted(
        glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(Path(p).parent.name.split(".")[0])
    )
    on_path = shutil.which("initdb")
    return found[-1] if found else str(Path(on_path).resolve().parent) if on_path else None


@contextmanager
def server(max_connections: int = 200) -> Iterator[str]:
    """Yields `postgresql://automl:...@127.0.0.1:PORT/`, to which a database's name is added; `postgres` is there."""
    with controlled(max_connections) as (url, _):
        yield url


@contextmanager
def controlled(max_connections: int = 200) -> Iterator[tuple[str, Callable[[str], None]]]:
    """Also yields what is called with `stop` and `start`."""
    folder = tempfile.mkdtemp(prefix="automl-pg-")
    programs, port = binaries(), _free_port()
    assert programs is not None
    Path(folder, "password").write_text(PASSWORD)
    as_postgres = _as_postgres(folder)
    _call(
        as_postgres,
        programs,
        "initdb",
        "-D",
        f"{folder}/data",
        "-U",
        "automl",
        "-A",
        "scram-sha-256",
        "--pwfile",
        f"{folder}/password",
        "-N",
    )
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off -c max_connections={max_connections}"
    control = [programs, "pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log"]

    def command(word: str) -> None:
        more = ("-o", options) if word == "start" else ("-m", "immediate")
        _call(as_postgres, *control, *more, word)

    try:
        command("start")
        yield f"postgresql://automl:{_quoted(PASSWORD)}@127.0.0.1:{port}/", command
    finally:
        with suppress(subprocess.CalledProcessError):
            command("stop")
        shutil.rmtree(folder, ignore_errors=True)


def make_database(url: str, name: str) -> str:
    """A new empty database on the server; returns its URL."""
    import psycopg

    with psycopg.connect(url + "postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]
    return url + name


def _as_postgres(folder: str) -> list[str]:
    """The server refuses to run as root."""
    if os.getuid() != 0:
        return []
    shutil.chown(folder, "postgres", "postgres")
    shutil.chown(f"{folder}/password", "postgres", "postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def _call(before: list[str], programs: str, name: str, *words: str) -> None:
    with tempfile.TemporaryFile() as out:  # no pipe: the server would keep it open
        done = subprocess.run(
            [*before, f"{programs}/{name}", *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            timeout=120,
            cwd="/",
        )
        out.seek(0)
        if done.returncode and "stop" not in words:
            raise RuntimeError(f"{name}: {out.read().decode()}")


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
