"""Full disks, read-only folders, damaged and lost files: each command says one line, and what was computed goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from automl import cli, faults, loop
from automl.errors import AutoMLError, StorageError, UserError
from automl.executors.base import Exit
from automl.progress import Progress
from automl.request import RunRequest
from automl.rundir import RunDir
from automl.storage import load_study, open_storage
from automl.trackers import Tracking
from tests.automl.toy import toy

READING = ("status", "best", "report")
AUTOML = [sys.executable, "-m", "automl.cli"]


def request(model: Path, **more: Any) -> RunRequest:
    return RunRequest(model=str(model), executor="local", stages=(), seed=1, **{"trials": 3, **more})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a run of three trials."""
    root = tmp_path_factory.mktemp("finished")
    loop.run(request(toy(root / "toy")), root / "run", Progress(quiet=True))
    return root


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be damaged."""
    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """(exit code, everything printed) of `automl` with these words."""

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["automl", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        printed = capsys.readouterr()
        return int(caught.value.code or 0), printed.out + printed.err

    return call


def trials_of(root: Path) -> list[tuple[str, float | None]]:
    study = load_study(RunDir(root).read_run(), root)
    assert study is not None
    return [(t.state.name, t.value) for t in study.trials()]


# ---- run.json -----------------------------------------------------------------------------------------------------


def changed(**parts: Any) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | parts)


def without(name: str) -> Callable[[str], str]:
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != name})


def asked(**parts: Any) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | {"request": json.loads(text)["request"] | parts})


DAMAGES: dict[str, Callable[[str], str | bytes]] = {
    "empty": lambda _: "",
    "cut": lambda text: text[: len(text) // 2],
    "zeros": lambda text: b"\0" * len(text),
    "not text": lambda text: text.encode() + b"\xff\xfe",
    "a list": lambda _: "[1]",
    "a number": lambda _: "3",
    "null": lambda _: "null",
    "deep": lambda _: "[" * 100_000,
    "deep and whole": lambda _: '{"study": ' + "[" * 900 + "]" * 900 + "}",
    "no study": without("study"),
    "no request": without("request"),
    "no spec": without("spec"),
    "study is a number": changed(study=3),
    "request is a list": changed(request=[]),
    "spec is null": changed(spec=None),
    "searching is text": changed(searching="yes"),
    "metric is text": changed(metric="score"),
    "storage is a number": asked(storage=3),
    "seed is text": asked(seed="one"),
    "sets is text": asked(sets="a=b"),
    "a mapping of numbers": changed(facts={"train": 3}),
    "format is text": changed(format="1"),
    "a later format": changed(format=99),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_json_is_told_in_one_line(damage: str, run: Path, said: Any) -> None:
    path = run / "run.json"
    content = DAMAGES[damage](path.read_text())
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in (*READING, "resume"):
        code, text = said(command, run)
        assert (code, text.count("\n")) == (2, 1), text
        assert text.startswith(f"error: {path}: ")


def test_run_json_that_is_a_folder(run: Path, said: Any) -> None:
    (run / "run.json").unlink()
    (run / "run.json").mkdir()
    assert said("status", run)[0] == 2


# ---- study.db ------------------------------------------------------------------------------------------------------


def overwrite(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : len(data) // 2] = b"\xa5" * (len(data) // 2 - 4096)
    path.write_bytes(data)


DATABASES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 3]),
    "cut in its head": lambda path: path.write_bytes(path.read_bytes()[:60]),
    "text": lambda path: path.write_bytes(b"not a database at all, " * 500),
    "overwritten": overwrite,
    "another database": lambda path: (
        path.unlink(),
        sqlite3.connect(path).execute("create table a (b)").connection.close(),
    ),
}


@pytest.mark.parametrize("damage", DATABASES)
def test_a_damaged_database_is_told_in_one_line(damage: str, run: Path, said: Any) -> None:
    for name in ("study.db-wal", "study.db-shm"):
        (run / name).unlink(missing_ok=True)
    DATABASES[damage](run / "study.db")
    for command in (*READING, "dashboard"):
        code, text = said(command, run)
        assert (code, text.count("\n")) == (2, 1), text
        assert "study.db" in text
        assert "automl resume" in text


ROWS = {
    "a date": "update trials set datetime_start = '2026-13-45 xx' where number = 1",
    "a state": "update trials set state = 'COMPL_TE' where number = 1",
    "no text": "update trials set state = cast(x'ff50' as text) where number = 1",
    "a value": "update trial_user_attributes set value_json = '{\"lr\": 0.' where key = 'params'",
    "another kind": "update trial_user_attributes set value_json = '7' where key = 'params'",
    "an axis": "update trial_params set distribution_json = '{}'",
    "of the study": "insert into study_user_attributes (study_id, key, value_json) values (1, 'winner', 'x')",
}


@pytest.mark.parametrize("damage", ROWS)
def test_rows_that_say_nothing_are_told_in_one_line(damage: str, run: Path, said: Any) -> None:
    """SQLite finds its pages whole: only who reads the rows can tell."""
    with sqlite3.connect(run / "study.db") as connection:
        connection.execute("delete from study_user_attributes where key = 'winner'")
        assert connection.execute(ROWS[damage]).rowcount
    for command in (*READING, "resume", "dashboard"):
        code, text = said(command, run)
        assert (code, text.count("\n")) == (2, 1), text
        assert text.startswith(f"error: {run}/study.db: is damaged (")
        assert f"automl resume {run}" in text


def test_a_lost_database_is_made_again_from_the_trials_folders(run: Path, said: Any) -> None:
    before = trials_of(run)
    for path in run.glob("study.db*"):
        path.unlink()
    code, text = said("status", run)
    assert (code, text.count("\n")) == (2, 1)
    assert "holds trials up to number 2" in text
    assert not (run / "study.db").exists()
    code, text = said("resume", run)
    assert code == 0, text
    assert "made again from the folders of 3 trials" in text
    after = trials_of(run)
    assert len(after) == len(before)
    assert [a for a, b in zip(after, before, strict=True) if b[0] == "COMPLETE"] == [
        b for b in before if b[0] == "COMPLETE"
    ]


def test_resume_of_a_damaged_database_begins_nothing_anew(run: Path, said: Any) -> None:
    overwrite(run / "study.db")
    code, text = said("resume", run)
    assert (code, text.count("\n")) == (2, 1), text
    assert "is damaged" in text
    assert "move it away" in text
    for path in run.glob("study.db*"):  # as docs/troubleshooting.md says it too
        path.rename(run.parent / path.name)
    code, text = said("resume", run)
    assert code == 0, text
    assert "made again from the folders of 3 trials" in text
    page = (Path(cli.__file__).parents[1] / "docs" / "troubleshooting.md").read_text()
    assert "A damaged one is refused" in page
    assert "move the file away and resume" in page


# ---- folders that cannot be written -----------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a small disk of its own, by options; skips where that is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("needs root and mount")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a database may still be open


@pytest.mark.parametrize("wal", ["none", "empty", "full"])
@pytest.mark.parametrize("why", ["read-only", "no room", "no room anywhere"])
def test_a_folder_that_cannot_be_written_can_be_looked_at(
    why: str, wal: str, finished: Path, disk: Any, said: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = disk("size=20m")
    shutil.copytree(finished / "run", folder / "run")
    _leave_wal(wal, folder)
    if why == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    else:
        _fill(folder)
    if why == "no room anywhere":
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr("tempfile.tempdir", None)
    for command in ("status", "best"):
        code, text = said(command, folder / "run")
        assert code == 0, text
        assert "score" in text
    values = [value for _, value in trials_of(folder / "run")]
    assert (0.75 in values) == (wal == "full")
    assert said("report", folder / "run", "--out", tmp_path / "page.html")[0] == 0
    if why == "read-only":
        for command in ("report", "resume"):
            code, text = said(command, folder / "run")
            assert (code, text.count("\n")) == (2, 1), text
            assert "read-only file system" in text


def _leave_wal(wal: str, folder: Path) -> None:
    """A closed run; `full`: as a killed driver leaves it, the last value stands in the WAL alone."""
    for name in ("study.db-wal", "study.db-shm"):
        (folder / "run" / name).unlink(missing_ok=True)
    if wal == "empty":
        (folder / "run" / "study.db-wal").write_bytes(b"")
    if wal == "full":
        connection = sqlite3.connect(folder / "run" / "study.db")
        connection.execute("update trial_values set value = 0.75 where trial_value_id = 1")
        connection.commit()
        shutil.copyfile(folder / "run" / "study.db-wal", folder / "wal")
        connection.execute("update trial_values set value = 0.25 where trial_value_id = 1")
        connection.rollback()
        shutil.copyfile(folder / "run" / "study.db", folder / "db")
        connection.close()
        shutil.copyfile(folder / "db", folder / "run" / "study.db")
        shutil.copyfile(folder / "wal", folder / "run" / "study.db-wal")
        (folder / "run" / "study.db-shm").unlink(missing_ok=True)


def _fill(folder: Path) -> None:
    """To the last byte."""
    with open(folder / "filler", "wb", 0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_a_new_run_in_a_read_only_place(finished: Path, disk: Any, said: Any) -> None:
    folder = disk("size=1m", "ro")
    code, text = said(
        "run", "--model", finished / "toy", "--executor", "local", "--results-dir", folder / "run"
    )
    assert code == 2
    assert text.splitlines()[-1].startswith("error: ")
    assert "cannot be written to; name another folder" in text
    assert "Traceback" not in text


def automl(*words: object, timeout_s: float = 120) -> tuple[int, str]:
    """The real command in a process of its own."""
    done = subprocess.run([*AUTOML, *map(str, words)], capture_output=True, text=True, timeout=timeout_s)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("full", ["by checkpoints", "before it begins", "while the driver writes"])
def test_a_full_disk_of_one_megabyte_ends_in_one_line_and_the_run_goes_on_with_room(
    full: str, tmp_path: Path, disk: Any
) -> None:
    folder = disk("size=1m")
    size = 300 if full == "by checkpoints" else 1
    model = toy(tmp_path / "toy", kilobytes=size, epochs=4)
    filler = folder / "filler"
    if full != "by checkpoints":
        filler.write_bytes(b"0" * ((1020 if full == "before it begins" else 800) << 10))
    words = ["--model", model, "--executor", "local", "--trials", 14 if size == 1 else 3, "--stages", "none"]
    code, text = automl("run", *words, "--results-dir", folder / "run", "--scheduler", "none")
    assert code == 1, text
    last = text.splitlines()[-1]
    assert last == f"error: no space left on {folder}; free some and: automl resume {folder / 'run'}"
    assert "Traceback" not in text
    subprocess.run(["mount", "-o", "remount,size=40m", str(folder)], check=True)
    if full == "before it begins":
        return
    code, text = automl("resume", folder / "run")
    assert code == 0, text
    states = [state for state, _ in trials_of(folder / "run")]
    assert states == ["COMPLETE"] * (14 if size == 1 else 3)
    for number in range(len(states)):  # nothing was lost, and nothing ran twice
        lines = (folder / "run" / "trials" / f"{number:04d}" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2, 3]


# ---- a study that goes away while it runs -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["in the dashboard", "with its file"])
def test_a_study_deleted_during_a_run_is_told_in_one_line_and_resumed(how: str, tmp_path: Path) -> None:
    import optuna

    root, model = tmp_path / "run", toy(tmp_path / "toy", epochs=3, pause_s=0.2)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    words = [
        "--model",
        model,
        "--executor",
        "local",
        "--trials",
        200,
        "--stages",
        "none",
        "--results-dir",
        root,
    ]
    driver = subprocess.Popen(
        [*AUTOML, "run", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    until = time.monotonic() + 100
    while not (root / "trials" / "0001" / "metrics.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.05)
    if how == "with its file":
        for path in root.glob("study.db*"):
            path.unlink()
    else:
        optuna.delete_study(study_name=RunDir(root).read_run()["study"], storage=open_storage(None, root))
    text = driver.communicate(timeout=100)[0]
    assert driver.returncode in (1, 2), text
    assert "Traceback" not in text
    assert text.splitlines()[-1].startswith("error: ")
    assert "automl resume" in text.splitlines()[-1]
    total = len(list((root / "trials").iterdir())) + 1
    code, text = automl("resume", root, "--trials", total)
    assert code == 0, text
    assert "its study was gone from the database" in text
    assert len(trials_of(root)) == total


# ---- what is told, and what is not -----------------------------------------------------------------------------------------


TOLD = {
    "full": (OSError(errno.ENOSPC, "No space left on device"), StorageError, "no space left on"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded", "/x/y"), StorageError, "no space left on /"),
    "read-only": (OSError(errno.EROFS, "Read-only file system", "/x/y"), UserError, "/x/y: read-only file system"),
    "denied": (PermissionError(errno.EACCES, "Permission denied", "/x/y"), UserError, "/x/y: permission denied"),
    "input/output": (OSError(errno.EIO, "Input/output error", "/x/y"), StorageError, "/x/y: input/output error"),
    "processes": (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), AutoMLError, "no more processes"),
    "threads": (RuntimeError("can't start new thread"), AutoMLError, "no more processes and threads"),
    "busy": (sqlite3.OperationalError("database is locked"), StorageError, "database is locked"),
    "sqlite full": (sqlite3.OperationalError("database or disk is full"), StorageError, "no space left on"),
    "sqlite broken": (sqlite3.DatabaseError("database disk image is malformed"), UserError, "is damaged"),
    "sqlite read-only": (sqlite3.OperationalError("attempt to write a readonly database"), UserError, "cannot be written"),
}  # fmt: skip
BUGS: list[BaseException] = [
    ValueError("x"), KeyError("params"), TypeError("x"), sqlite3.ProgrammingError("x"), sqlite3.IntegrityError("x"),
    OSError("no number"), RecursionError(), AssertionError(),
]  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_faults_of_disk_and_database_are_told(name: str, tmp_path: Path) -> None:
    error, kind, words = TOLD[name]
    wrapped = RuntimeError("An exception is raised during the commit.")
    wrapped.__cause__ = error
    for raised in (error, wrapped):
        told = faults.told(raised, tmp_path)
        assert type(told) is kind
        assert words in str(told)
        assert "\n" not in str(told)


@pytest.mark.parametrize("bug", BUGS, ids=repr)
def test_a_bug_keeps_its_traceback(bug: BaseException, tmp_path: Path) -> None:
    assert faults.told(bug, tmp_path) is None
    with pytest.raises(type(bug)), faults.told_of(tmp_path):
        raise bug


def test_of_a_run_folder_that_was_moved_its_old_place_is_no_advice(tmp_path: Path) -> None:
    error = sqlite3.OperationalError("unable to open database file")
    assert f"automl resume {tmp_path}" in str(faults.told(error, tmp_path))
    gone = str(faults.told(error, tmp_path / "moved"))
    assert f"{tmp_path / 'moved'} is gone: where it was moved" in gone
    assert f"automl resume {tmp_path / 'moved'}" not in gone


# ---- no more processes and threads ---------------------------------------------------------------------------------------


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `ulimit -u`."""

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(faults, "_WATCH", faults._Watch())


@pytest.mark.usefixtures("no_threads")
def test_a_write_needs_no_thread(tmp_path: Path) -> None:
    assert faults.patiently(lambda: 7, None, print, at_once=False) == 7


def test_all_writes_are_watched_by_one_thread_that_tells_of_the_slow_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faults, "ANSWER_S", 0)
    before, told, said = threading.active_count(), threading.Event(), []

    def say(text: str) -> None:
        said.append(text)
        told.set()

    for number in range(50):
        assert faults.patiently(lambda number=number: number, None, str, at_once=False) == number  # type: ignore[misc]
    assert threading.active_count() <= before + 1
    assert faults.patiently(lambda: told.wait(60), None, say, at_once=False)
    assert said == ["the database does not answer; waiting for it, trials go on meanwhile"]


@pytest.mark.usefixtures("no_threads")
def test_a_tracker_without_a_thread_is_told_no_more(tmp_path: Path) -> None:
    said: list[str] = []
    tracking = Tracking(("tensorboard",), RunDir(tmp_path), "study", "score", said.append)
    tracking.record(0, 0, {"score": 0.5})
    tracking.record(0, 1, {"score": 0.5})
    tracking.close()
    assert said == ["note: tensorboard was told no more: can't start new thread"]


def test_a_trial_for_which_no_process_could_be_started_has_not_failed(tmp_path: Path) -> None:
    """The words of the real fork server, which has none to give."""
    refused = Exit(None, "could not be started: BlockingIOError: [Errno 11] Resource temporarily unavailable")
    with pytest.raises(AutoMLError, match="no more processes") as caught:
        faults.check_room(refused, tmp_path, lambda: 1)
    assert f"automl resume {tmp_path}" in str(caught.value)
    faults.check_room(Exit(None, "could not be started: FileNotFoundError: [Errno 2] x"), tmp_path, lambda: 1)
