"""A stdout that can no longer be written: a run goes on without it, a command that is there to print says so."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import standard_streams
from tests.automl.toy import toy

# As in a terminal: a suite in the background is born ignoring SIGINT.
BOOT = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from {}.cli import main; main()"
)
PATIENCE_S = 120
GOES_ON = {
    "reader": "note: nobody reads stdout any more; it goes on without\n",
    "disk": "note: stdout cannot be written (no space left on device); it goes on without\n",
    "terminal": "note: stdout cannot be written (input/output error); it goes on without\n",
}


def begun(program: str, *words: object, unbuffered: bool = False, **streams: Any) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        [sys.executable, "-c", BOOT.format(program), *map(str, words)],
        env=environment | ({"PYTHONUNBUFFERED": "1"} if unbuffered else {}), text=True, **streams,
    )  # fmt: skip


def broken(how: str) -> int:
    """A descriptor, every write to which fails."""
    if how == "disk":
        return os.open("/dev/full", os.O_WRONLY)
    reading, writing = os.pipe() if how == "reader" else pty.openpty()
    os.close(reading)
    return writing


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("how", GOES_ON)
@pytest.mark.parametrize(("program", "words"), [("automl", ["--version"]), ("model", ["default_specs"])])
def test_what_is_there_to_print_ends_quietly_for_who_has_read_enough_and_else_with_one_line(
    program: str, words: list[str], how: str, unbuffered: bool, tmp_path: Path
) -> None:
    out = broken(how)
    process = begun(program, *words, unbuffered=unbuffered, stdout=out, stderr=subprocess.PIPE, cwd=tmp_path)
    os.close(out)
    said = process.communicate(timeout=PATIENCE_S)[1]
    why = {
        "disk": "error: stdout cannot be written: no space left on device\n",
        "terminal": "error: stdout cannot be written: input/output error\n",
    }
    assert (process.returncode, said) == (how != "reader", why.get(how, ""))


def words_of(root: Path, **spec: float) -> list[object]:
    words = ["--model", toy(root / "toy", **spec), "--executor", "local", "--trials", 2, "--stages", "none"]
    return ["run", *words, "--results-dir", root / "run"]


@pytest.mark.parametrize("how", GOES_ON)
def test_a_run_goes_on_without_its_stdout(how: str, tmp_path: Path) -> None:
    out = broken(how)
    process = begun("automl", *words_of(tmp_path), stdout=out, stderr=subprocess.PIPE)
    os.close(out)
    assert process.communicate(timeout=PATIENCE_S)[1] == GOES_ON[how]
    assert process.returncode == 0
    assert (tmp_path / "run/outcome.json").exists()


@pytest.mark.parametrize("program", ["automl", "model"])
def test_without_stdout_and_stderr_an_error_still_has_its_exit_code(program: str, tmp_path: Path) -> None:
    out = broken("reader")
    words = words_of(tmp_path) if program == "automl" else ["evaluate"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    process = begun(program, *words, stdout=out, stderr=out)
    os.close(out)
    assert process.wait(PATIENCE_S) == 2


def test_a_run_whose_reader_went_away_is_stopped_by_a_signal_and_goes_on(tmp_path: Path) -> None:
    process = begun(
        "automl", *words_of(tmp_path, epochs=4, pause_s=0.5), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("run folder: ")
    process.stdout.close()  # as a Ctrl-C ends `| tee log` too
    until = time.monotonic() + PATIENCE_S
    while not (tmp_path / "run/trials/0001/metrics.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    out = broken("reader")
    assert begun("automl", "resume", tmp_path / "run", stdout=out, stderr=out).wait(PATIENCE_S) == 0
    os.close(out)
    for number in range(2):
        lines = (tmp_path / f"run/trials/{number:04d}/metrics.jsonl").read_text().splitlines()
        assert len(lines) == 4


def test_a_pipe_that_another_program_made_non_blocking_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Node.js and ssh leave one to the commands that they start."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    size = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    os.write(writing, b"." * size)  # it is full
    read = []
    monkeypatch.setattr(
        standard_streams.select, "select", lambda *waited: read.append(os.read(reading, size))
    )
    with os.fdopen(writing, "wb"):
        assert standard_streams.Output(writing, "w", closefd=False).write(b"line") == 4
    assert [len(part) for part in read] == [size]
    with os.fdopen(reading, "rb") as rest:
        assert rest.read() == b"line"
