"""The storage on a real PostgreSQL server: drivers that start together, secrets, what is told when it is not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError

from automl import loop
from automl.errors import StorageError, UserError
from automl.faults import told_of
from automl.progress import Progress
from automl.request import RunRequest
from automl.rundir import RunDir
from automl.storage import load_study, open_storage, read_storage
from automl.study import Study
from tests.automl import postgresql
from tests.automl.fakes import TinySpace
from tests.automl.toy import toy

pytest.importorskip("psycopg")
pytestmark = pytest.mark.skipif(postgresql.binaries() is None, reason="needs PostgreSQL's server programs")
OPEN = """
import sys
from pathlib import Path
from automl.storage import open_storage
from automl.study import Study
from tests.automl.fakes import TinySpace
number, url = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
study = Study(open_storage(url, Path("unused")), f"study {number}", TinySpace(), "random", 0)
for _ in range(3):
    study.tell(study.ask()[0], "FAIL", "only asked")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql.server() as url:
        yield url


def test_drivers_that_start_together_on_an_empty_database_all_start(server: str) -> None:
    url = postgresql.make_database(server, "together")
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(number), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for number in range(6)
    ]  # fmt: skip
    for driver in drivers:
        assert driver.stdout is not None
        driver.stdout.readline()
    ended = []
    for driver in drivers:
        assert driver.stdin is not None
        driver.stdin.write("\n")
        driver.stdin.flush()
    for driver in drivers:
        ended.append(driver.communicate(timeout=200)[1])
    assert [d.returncode for d in drivers] == [0] * len(drivers), ended
    storage = open_storage(url, Path("unused"))
    studies = {s.study_name: len(storage.get_all_trials(s._study_id)) for s in storage.get_all_studies()}
    assert studies == {f"study {number}": 3 for number in range(6)}


def test_a_run_there_is_resumed_looked_at_and_shows_no_password(server: str, tmp_path: Path) -> None:
    url, root = postgresql.make_database(server, "run"), tmp_path / "run"
    request = RunRequest(model=str(toy(tmp_path / "toy")), executor="local", stages=(), trials=2, storage=url)
    loop.run(request, root, Progress(quiet=True))
    loop.resume(root, {"trials": 3}, Progress(quiet=True))
    study = load_study(RunDir(root).read_run(), root)
    assert study is not None
    assert len(study.trials()) == 3
    assert not (root / "study.db").exists()
    secret = (postgresql.PASSWORD.encode(), url.split(":")[2].split("@")[0].encode())
    holding = [p.name for p in root.rglob("*") if p.is_file() and any(s in p.read_bytes() for s in secret)]
    assert holding == ["storage_url"]
    with pytest.raises(StorageInternalError) as caught:
        read_storage(url, root).set_study_user_attr(study._id, "a", 1)
    assert "read-only transaction" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("alter database {name} set default_transaction_read_only = on", "read-only transaction"),
        ("drop schema public cascade; create schema public", "does not exist"),
        ("alter table trials rename column state to other", "does not exist"),
    ],
)
def test_a_server_that_would_not_write_is_told_in_one_line(
    sql: str, words: str, server: str, tmp_path: Path
) -> None:
    """A standby, tables that are gone or of another program."""
    import psycopg

    name = f"refusing_{abs(hash(sql))}"
    url = postgresql.make_database(server, name)
    study = Study(open_storage(url, tmp_path), "refused", TinySpace(), "random", 0)
    study.ask()
    with psycopg.connect(url, autocommit=True) as connection:
        for each in sql.format(name=name).split(";"):
            connection.execute(each)
    study.close()
    with pytest.raises(StorageError, match=f"{words}.*automl resume") as caught, told_of(tmp_path, url):
        study.tell(0, "FAIL", "asked alone")
    assert "\n" not in str(caught.value)
    assert postgresql.PASSWORD not in str(caught.value)


def test_an_empty_database_to_look_at_stays_empty(server: str) -> None:
    import psycopg

    url = postgresql.make_database(server, "empty")
    assert read_storage(url, Path("unused")).get_all_studies() == []
    with psycopg.connect(url) as connection:
        assert connection.execute(
            "select count(*) from pg_tables where schemaname = 'public'"
        ).fetchone() == (0,)


def test_what_does_not_open_is_told_in_one_line_before_anything_is_written(
    server: str, tmp_path: Path
) -> None:
    model = toy(tmp_path / "toy")
    for url, words in (
        (server + "nowhere", '"nowhere" does not exist'),
        (server.replace("%2540@", "@") + "postgres", "password authentication failed"),
        ("postgresql://automl:s3cret@127.0.0.1:9/x", "refused"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            loop.run(
                RunRequest(model=str(model), executor="local", storage=url),
                tmp_path / "run",
                Progress(quiet=True),
            )
        assert "\n" not in str(caught.value)
        assert "s3cret" not in str(caught.value)
        assert str(caught.value).count("postgresql") == 1
        assert not (tmp_path / "run").exists()


def test_a_server_that_comes_back_in_time_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the answer to a new trial was lost, and not the trial."""
    import psycopg
    import sqlalchemy

    from automl.study import Study
    from tests.automl.fakes import TinySpace

    monkeypatch.setattr("automl.faults.LOOK_AGAIN_S", 0.1)
    with postgresql.controlled() as (server, command):
        study = Study(open_storage(server + "postgres", tmp_path), "one", TinySpace(), "random", 0)
        said: list[str] = []
        study.say = said.append

        def away(write: Any = None) -> None:
            command("stop")
            threading.Timer(1.0, command, ("start",)).start()

        for call in (
            lambda: study.ask(),
            lambda: study.report(0, 0, 0.5),
            lambda: study.tell(0, "COMPLETE", "finished"),
        ):
            away()
            call()
        create = study.storage.create_new_trial
        lost: list[int] = []

        def losing(*args: Any, **named: Any) -> Any:
            lost.append(create(*args, **named))
            raise sqlalchemy.exc.OperationalError("COMMIT", {}, psycopg.OperationalError("connection lost"))

        monkeypatch.setattr(study.storage, "create_new_trial", losing)
        assert study.ask()[0] == 1
        assert len(lost) == 1
        assert len(said) >= 3
        assert all("does not answer; trying again" in text for text in said)
        again = Study.reading(open_storage(server + "postgres", tmp_path), "one")
        assert [t.state.name for t in again.trials()] == ["COMPLETE", "RUNNING"]
        assert again.frozen(0).value == 0.5


def test_a_server_that_goes_away_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl.faults.AWAY_S", 0.5)
    from automl.faults import told_of
    from automl.study import Study
    from tests.automl.fakes import TinySpace

    with postgresql.server() as server:
        url = server + "postgres"
        study = Study(open_storage(url, tmp_path), "one", TinySpace(), "random", 0)
        study.ask()
    said: list[str] = []
    study.say = said.append
    with pytest.raises(StorageError, match="automl resume") as caught, told_of(tmp_path, url):
        study.report(0, 0, 0.5)
    with pytest.raises(StorageError, match="automl resume"), told_of(tmp_path, url):
        study.set_elapsed_s(5.0, now=True)  # as the run ends
    assert len(said) == 1
    assert "\n" not in str(caught.value)
    assert postgresql.PASSWORD not in str(caught.value)


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[tuple[str, Callable[[signal.Signals], None]]]:
    """(URL, what sends a signal to all of the server's processes)."""
    with postgresql.server() as server:
        url = server + "postgres"
        port = url.split(":")[-1].split("/")[0]
        found = subprocess.run(
            ["pgrep", "-f", f"postgres.* -p {port} "], capture_output=True, text=True
        ).stdout

        def send(what: signal.Signals) -> None:
            first = int(found.split()[0])
            rest = subprocess.run(["pgrep", "-P", str(first)], capture_output=True, text=True).stdout
            for pid in (first, *map(int, rest.split())):
                os.kill(pid, what)

        yield url, send
        send(signal.SIGCONT)


def test_a_server_that_stands_still_is_given_up_by_who_reads_and_waited_for_by_the_driver(
    frozen: tuple[str, Callable[[signal.Signals], None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from automl.study import Study
    from tests.automl.fakes import TinySpace

    monkeypatch.setattr("automl.faults.ANSWER_S", 2)
    url, send = frozen
    study = Study(open_storage(url, tmp_path), "one", TinySpace(), "random", 0)
    study.ask()
    said: list[str] = []
    study.say = said.append
    send(signal.SIGSTOP)
    threading.Timer(10.0, send, (signal.SIGCONT,)).start()
    began = time.monotonic()
    document = {"request": {"storage": url}, "study": "one"}
    with pytest.raises(StorageError, match="does not answer; it was given 2 s") as caught:
        load_study(document, tmp_path)
    assert time.monotonic() - began < 6
    assert postgresql.PASSWORD not in str(caught.value)
    with pytest.raises(StorageError, match="does not answer"):
        open_storage(url, tmp_path)
    assert time.monotonic() - began < 9
    study.report(0, 0, 0.5)
    assert time.monotonic() - began > 9
    said.clear()
    send(signal.SIGSTOP)
    threading.Timer(5.0, send, (signal.SIGCONT,)).start()
    study.report(0, 1, 0.25)
    assert said == ["the database does not answer; waiting for it, trials go on meanwhile"]
    again = load_study(document, tmp_path)
    assert again is not None
    assert again.frozen(0).intermediate_values == {0: 0.5, 1: 0.25}
