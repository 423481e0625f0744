"""A run's folder that was copied or moved, and its study in a database that both would write to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from automl import loop
from automl.errors import StudyBusy
from automl.progress import Progress
from automl.request import RunRequest
from automl.rundir import RunDir
from automl.sole_driver import sole_driver
from automl.storage import load_study, open_storage, run_lock
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


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    pytest.importorskip("psycopg")
    if postgresql.binaries() is None:
        pytest.skip("needs PostgreSQL's server programs")
    with postgresql.server() as url:
        yield url


def test_a_driver_elsewhere_keeps_others_out_until_it_dies(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder is not seen from here."""
    url = postgresql.make_database(server, "elsewhere")
    study = Study(open_storage(url, tmp_path), "one", TinySpace(), "random", 0)
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, url, "/of/another/machine"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert first.stdout is not None
    assert first.stdout.readline() == b"ready\n"
    with (
        pytest.raises(
            StudyBusy, match="a driver is at work on its study one in the database, from /of/another/m"
        ),
        sole_driver(study, tmp_path, print),
    ):
        pass
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
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
