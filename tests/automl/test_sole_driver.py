"""A run's folder that was copied or moved, and its study in a database that both would write to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from automl import loop
from automl.errors import StudyBusy
from automl.locks import run_lock
from automl.progress import Progress
from automl.request import RunRequest
from automl.rundir import RunDir
from automl.sole_driver import sole_driver
from automl.storage import load_study, open_storage
from automl.study import Study
from tests.automl import postgresql
from tests.automl.fakes import TinySpace
from tests.automl.toy import toy

HOLD = """
import sys
from pathlib import Path
from automl.sole_driver import sole_driver
from automl.storage import open_storage
from automl.study import Study
from tests.automl.fakes import TinySpace
url, root = sys.argv[1:]
study = Study(open_storage(url, Path("unused")), "one", TinySpace(), "random", 0)
with sole_driver(study, Path(root), print):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run, its study in a database beside it that any number of folders may share."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    request = RunRequest(model=str(toy(tmp_path / "toy")), executor="local", stages=(), trials=1, storage=url)
    loop.run(request, tmp_path / "run", Progress(quiet=True))
    return tmp_path / "run"


def noted(root: Path, trials: int) -> str:
    """What `automl resume` notes."""
    said: list[str] = []
    progress = Progress(quiet=True)
    progress.note = said.append  # type: ignore[method-assign]
    loop.resume(root, {"trials": trials}, progress)
    return "\n".join(said)


def count(root: Path) -> int:
    study = load_study(RunDir(root).read_run(), root)
    assert study is not None
    return len(study.trials())


def test_a_copy_is_refused_while_the_first_lives_and_told_of_it_afterwards(run: Path) -> None:
    copy = run.with_name("copy")
    shutil.copytree(run, copy)
    with run_lock(run), pytest.raises(StudyBusy, match=f"from {run} on .*--warm-start {copy}"):
        noted(copy, 2)
    assert count(run) == 1
    assert f"note: {run} is a folder of the same study" in noted(copy, 2)
    assert f"note: {copy} is a folder of the same study" in noted(run, 3)
    assert "same study" not in noted(run, 4)
    assert count(copy) == 4


def test_a_moved_folder_goes_on(run: Path) -> None:
    moved = run.rename(run.with_name("moved"))
    assert "same study" not in noted(moved, 2)
    run.symlink_to(moved)
    assert "same study" not in noted(run, 3)
    assert count(moved) == 3


def test_a_driver_ends_once_another_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its database knows no locks, and its folder is not seen from there."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    first, second = (Study(open_storage(url, tmp_path), "one", TinySpace(), "random", 0) for _ in range(2))
    now = [100.0]
    monkeypatch.setattr("automl.sole_driver.time.monotonic", lambda: now[0])
    with sole_driver(first, tmp_path / "run", print):
        first.set_elapsed_s(1.0, now=True)
        with sole_driver(second, tmp_path / "copy", print):
            first.set_elapsed_s(2.0, now=True)  # it has looked just now
            now[0] += 6
            with pytest.raises(
                StudyBusy, match=f"{tmp_path}/run: a driver is at work .* from {tmp_path}/copy on "
            ):
                first.set_elapsed_s(3.0, now=True)
            assert Study.reading(first.storage, "one").elapsed_s() == 2.0
            second.set_elapsed_s(4.0, now=True)


def test_what_a_run_has_opened_is_closed_when_another_drives_its_study(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of it: the first thing that is written at the end is refused as well."""
    closed = []
    monkeypatch.setattr("automl.sole_driver.LOOK_EACH_S", 0.0)
    monkeypatch.setattr(loop.Tracking, "close", lambda self: closed.append("trackers"))
    monkeypatch.setattr(loop.Keeper, "finish", lambda self: closed.append("report"))
    ask = Study.ask

    def overtaken(study: Study, *fixed: Any, **more: Any) -> Any:
        study.storage.set_study_user_attr(study._id, "driver", {"root": "/of/another/machine", "host": "b"})
        return ask(study, *fixed, **more)

    monkeypatch.setattr(Study, "ask", overtaken)
    with pytest.raises(StudyBusy, match="from /of/another/machine on b"):
        noted(run, 2)
    assert closed == ["trackers", "report"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    pytest.importorskip("psycopg")
    if postgresql.binaries() is None:
        pytest.skip("needs PostgreSQL's server programs")
    with postgresql.server() as url:
        yield url


@contextmanager
def elsewhere(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A driver of the study `one` whose folder is not seen from here; killed at the end."""
    words = [sys.executable, "-c", HOLD, url, "/of/another/machine"]
    driver = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield driver
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.communicate()


def is_ready(driver: subprocess.Popen[bytes]) -> bool:
    """Whether it drives; False: it was refused, for there is another."""
    assert driver.stdout is not None
    assert driver.stderr is not None
    ready = driver.stdout.readline() == b"ready\n"
    assert ready or b"StudyBusy" in driver.stderr.read()
    return ready


def test_a_lock_that_the_server_has_let_go_of_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    if postgresql.binaries() is None:
        pytest.skip("needs PostgreSQL's server programs")
    monkeypatch.setattr("automl.sole_driver.LOOK_EACH_S", 0.0)
    with postgresql.controlled() as (server, command):
        url = server + "postgres"
        study = Study(open_storage(url, tmp_path), "one", TinySpace(), "random", 0)
        with sole_driver(study, tmp_path, print):
            number = study.ask()[0]
            command("stop")
            command("start")
            study.report(number, 0, 0.5)
            with elsewhere(url) as second:
                assert not is_ready(second)
            command("stop")
            command("start")
            with elsewhere(url) as second:  # in between, before this one has looked
                assert is_ready(second)
                with pytest.raises(StudyBusy, match="in the database, from /of/another/machine on"):
                    study.report(number, 1, 0.25)
                study.still_alone = None
                assert Study.reading(study.storage, "one").frozen(number).intermediate_values == {0: 0.5}


def test_a_server_that_ends_idle_transactions_leaves_the_lock(server: str, tmp_path: Path) -> None:
    import psycopg

    url = postgresql.make_database(server, "idle")
    study = Study(open_storage(url, tmp_path), "one", TinySpace(), "random", 0)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER DATABASE idle SET idle_in_transaction_session_timeout = 200")
        with sole_driver(study, tmp_path, print):
            time.sleep(0.6)
            connection.execute("ALTER DATABASE idle RESET ALL")
            with elsewhere(url) as second:
                assert not is_ready(second)


def test_a_driver_elsewhere_keeps_others_out_until_it_dies(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder is not seen from here."""
    url = postgresql.make_database(server, "elsewhere")
    study = Study(open_storage(url, tmp_path), "one", TinySpace(), "random", 0)
    with elsewhere(url) as first:
        assert is_ready(first)
        with (
            pytest.raises(
                StudyBusy, match="a driver is at work on its study one in the database, from /of/another/m"
            ),
            sole_driver(study, tmp_path, print),
        ):
            pass
    until = time.monotonic() + 20
    while True:
        try:
            with sole_driver(study, tmp_path, print):
                break
        except StudyBusy:
            assert time.monotonic() < until
            time.sleep(0.1)
    # The same folder of the same machine is held by its own lock: what the server still thinks is of a dead driver.
    with sole_driver(study, tmp_path, print), sole_driver(study, tmp_path, print):
        pass
    with sole_driver(study, tmp_path, print):
        monkeypatch.setattr("socket.gethostname", lambda: "another")  # a copy in a place of the same name
        with pytest.raises(StudyBusy, match="a driver is at work"), sole_driver(study, tmp_path, print):
            pass
    with sole_driver(study, tmp_path, print):
        pass
