"""What an action leaves in status.json when it fails."""

from __future__ import annotations

import errno
import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from model import cli, status
from model.errors import ProcessEnded, UserError
from model.parameters import ACTIONS
from model.spec import default_spec, put
from model.status import Status, failure_told, results_folder


def last(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "status.json").read_text().splitlines()[-1])


def spec_of(action: str, root: Path) -> dict[str, Any]:
    spec = default_spec(action)
    put(spec, "results_dir", str(root))
    return spec


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_that_cannot_begin_says_so(action: str, tmp_path: Path) -> None:
    """Nothing is given: no data, no checkpoint."""
    spec = spec_of(action, tmp_path)
    with pytest.raises(UserError) as caught:
        import_module(f"model.actions.{action}").run(spec)
    found = last(results_folder(spec, action))
    assert (found["status"], found["verbosity"]) == ("FAILURE", "ERROR")
    assert found["message"] == f"UserError: {caught.value}"


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "error", [UserError("a mistake"), ZeroDivisionError("a bug"), KeyboardInterrupt(), SystemExit(3)]
)
def test_whatever_ends_an_action_is_told(action: str, error: BaseException, tmp_path: Path) -> None:
    @failure_told(action)
    def run(spec: dict[str, Any]) -> None:
        Status(results_folder(spec, action), "x").write("STARTED", "Starting.")
        raise error

    spec = spec_of(action, tmp_path)
    with pytest.raises(type(error)) as caught:
        run(spec)
    assert caught.value is error
    assert last(results_folder(spec, action))["message"] == f"{type(error).__name__}: {error}"


def test_a_folder_that_cannot_be_written_to_does_not_hide_the_error(tmp_path: Path) -> None:
    @failure_told("train")
    def run(spec: dict[str, Any]) -> None:
        (tmp_path / "file").write_text("")
        raise UserError("a mistake")

    with pytest.raises(UserError, match="a mistake"):
        run(spec_of("train", tmp_path / "file"))


def test_an_engines_status_lies_beside_it(tmp_path: Path) -> None:
    spec = spec_of("gen_trt_engine", tmp_path / "results")
    put(spec, "gen_trt_engine.trt_engine", str(tmp_path / "engines/a.engine"))
    assert results_folder(spec, "gen_trt_engine") == tmp_path / "engines"


def test_one_of_several_processes_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in ("1", "0", ""):
        monkeypatch.setenv("RANK", rank)
        Status(tmp_path).write("RUNNING", f"rank {rank}")
    found = [json.loads(line)["message"] for line in (tmp_path / "status.json").read_text().splitlines()]
    assert found == ["rank 0", "rank "]


GLOO = RuntimeError("[/x/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:4711")


def failing(rank: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the last line of status.json says once a process of two has failed."""

    @failure_told("train")
    def run(spec: dict[str, Any]) -> None:
        raise error

    for name, value in (("RANK", rank), ("WORLD_SIZE", "2" if rank else "")):
        monkeypatch.setenv(name, value)
    spec = spec_of("train", tmp_path)
    with pytest.raises(type(error)):
        run(spec)
    found = last(results_folder(spec, "train"))
    assert found["status"] == "FAILURE"
    return str(found["message"])


@pytest.mark.parametrize("seen", [GLOO, ProcessEnded("train: a process ended with exit code 1")])
def test_the_process_that_failed_is_told_and_not_what_others_saw_of_it(
    seen: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status.time, "time", lambda: 4711.0)
    why = failing("1", ValueError("boom"), tmp_path, monkeypatch)
    assert why == "Process 1 of 2, counted from 0: ValueError: boom"
    assert failing("0" if seen is GLOO else "", seen, tmp_path, monkeypatch) == why
    assert failing("0", UserError("own"), tmp_path, monkeypatch) == "UserError: own"
    assert (
        failing("1", UserError("own"), tmp_path, monkeypatch) == "UserError: own"
    )  # as all have it, told once


def test_a_process_that_was_killed_is_said_to_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train").mkdir()
    earlier = '{"status": "FAILURE", "timestamp": 1.0, "message": "of an earlier training"}\n'
    (tmp_path / "train/status.json").write_text(earlier)
    seen = failing("0", GLOO, tmp_path, monkeypatch)
    assert seen == f"Another of the processes seems to have ended; its output says why. RuntimeError: {GLOO}"
    assert failing("1", GLOO, tmp_path, monkeypatch) == seen
    why = failing("1", ValueError("boom"), tmp_path, monkeypatch)
    assert why == "Process 1 of 2, counted from 0: ValueError: boom"
    assert failing("1", GLOO, tmp_path / "first", monkeypatch) == seen
    ended = failing("", ProcessEnded("train: a process ended"), tmp_path / "parent", monkeypatch)
    assert ended == "ProcessEnded: train: a process ended"
    assert failing("", GLOO, tmp_path / "alone", monkeypatch) == f"RuntimeError: {GLOO}"


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("kind", ["a file", "below a file", "too long", "NUL", "dead link", "not allowed"])
def test_a_folder_that_cannot_be_is_refused_by_every_action_before_anything_else(
    action: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    places = {"a file": "file", "below a file": "file/a/b", "too long": "x" * 300 + "/a", "NUL": "a\0b", "dead link": "link"}  # fmt: skip
    if kind == "not allowed":  # to root nothing is
        monkeypatch.setattr("os.access", lambda *_: False)
    spec = spec_of(action, tmp_path / places.get(kind, "new"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"^results_dir") as caught:
        import_module(f"model.actions.{action}").run(spec)
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_the_system_refuses_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """/proc lets root in, and takes no folder; files of an action may lie elsewhere, too."""
    with pytest.raises(UserError, match="results_dir: /proc/x/train cannot be made"):
        Status("/proc/x/train")
    (tmp_path / "file").touch()
    assert cli.guarded(lambda: (tmp_path / "file" / "x").write_text("")) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/file/x: not a directory\n"
    for names, told in (
        (("from", None, "to"), "to: no space left on device"),
        ((), "no space left on device"),
    ):
        full = OSError(errno.ENOSPC, "No space left on device", *names)
        assert cli.guarded(lambda full=full: (_ for _ in ()).throw(full)) == 2
        assert capsys.readouterr().err == f"error: {told}\n"
    with pytest.raises(OSError, match="no file"):  # tells nothing: a fault of the program
        cli.guarded(lambda: (_ for _ in ()).throw(OSError("no file")))


@pytest.mark.parametrize("data", ["Ä\n", b"\0\1", memoryview(b"\0\1")])
def test_a_file_has_its_name_once_its_bytes_are_on_the_disk(
    data: str | bytes | memoryview, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What loses its power in between finds the file as it was."""
    path, synced = tmp_path / "file", []
    path.write_text("before")
    whole = data.encode() if isinstance(data, str) else bytes(data)

    def fsync(number: int) -> None:
        synced.append((path.read_text(), Path(f"/proc/self/fd/{number}").read_bytes() == whole))

    monkeypatch.setattr(os, "fsync", fsync)
    status.write_whole(path, data)
    assert synced == [("before", True)]
    assert path.read_bytes() == whole
