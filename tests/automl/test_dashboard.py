"""The dashboard over a real socket: who is answered, what may be changed."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from automl import dashboard
from automl.errors import UserError
from automl.rundir import RunDir
from automl.storage import open_storage
from automl.study import Study
from tests.automl.fakes import TinySpace

Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    RunDir(tmp_path).write_run(
        {
            "study": "tiny",
            "spec": {},
            "searching": True,
            "space_digest": "",
            "model": "toy",
            "request": {"storage": None, "metric": "score"},
        }
    )
    Study(open_storage(None, tmp_path), "tiny", TinySpace(), "random", 0).ask()
    return tmp_path


@pytest.fixture(params=["read-only", "--write"])
def served(request: pytest.FixtureRequest, run: Path) -> Iterator[tuple[str, int, str]]:
    """(mode, port, the line that was printed)."""
    words = [
        "dashboard",
        str(run),
        "--port",
        "0",
        *([request.param] if request.param.startswith("--") else []),
    ]
    with started(*words) as (_, port, line):
        yield request.param, port, line


# A suite in the background is born ignoring SIGINT, and so are its children.
BOOT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from automl.cli import main; main()"


@contextmanager
def started(*words: str) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """(the process, its port, the line that was printed)."""
    process = subprocess.Popen(
        [sys.executable, "-c", BOOT, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield process, int(re.findall(r":(\d+)/", line)[0]), line
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(port: int, method: str, path: str, host: str | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = {"Host": host or f"127.0.0.1:{port}", **{k.replace("_", "-"): v for k, v in headers.items()}}
    connection.request(method, path, headers=sent)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_the_middle_of_requests_and_nothing_is_printed(
    run: Path, number: signal.Signals
) -> None:
    with started("dashboard", str(run), "--port", "0") as (process, port, line):
        page, over = line.split("/dashboard")[1].split()[0], threading.Event()

        def poll() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError, http.client.HTTPException):
                    ask(port, "GET", f"/api{page}")

        with socket.create_connection(("127.0.0.1", port)) as gone:  # reset
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.sendall(b"GET / HT")
        pollers = [threading.Thread(target=poll, daemon=True) for _ in range(3)]
        for poller in pollers:
            poller.start()
        time.sleep(1)
        process.send_signal(number)
        assert process.wait(30) == 128 + number
        over.set()
        assert process.stdout is not None
        assert process.stdout.read() == ""


def test_a_study_that_is_taken_away_is_told_in_lines(run: Path) -> None:
    with started("dashboard", str(run), "--port", "0") as (process, port, line):
        page = line.split("/dashboard")[1].split()[0]
        assert ask(port, "GET", f"/api{page}")[0] == 200
        for part in run.glob("study.db*"):
            part.unlink()
        asked = (f"/api{page}", f"/api{page}/param_importances") * 2
        assert [ask(port, "GET", path)[0] for path in asked] == [500] * 4
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stdout is not None
        told = process.stdout.read().splitlines()
        assert all(line.startswith("error: ") for line in told)  # each that differs once
        assert len(told) <= 2
        assert re.match(r"error: .*study\.db: has been deleted or replaced", told[0])


def test_a_connection_that_says_nothing_keeps_no_signal_waiting(run: Path) -> None:
    with (
        started("dashboard", str(run), "--port", "0") as (process, port, _),
        socket.create_connection(("127.0.0.1", port)),
    ):
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


@pytest.mark.parametrize("why", ["taken", "not allowed"])
def test_a_port_that_cannot_be_had_is_told(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # it does not answer, and has it
        if why == "not allowed":
            monkeypatch.setattr(dashboard._Server, "server_bind", refused)
        port = held.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} .* on 127.0.0.1; choose another with --port"):
            dashboard._server(port)


def test_who_is_answered_and_what_may_change(served: tuple[str, int, str], run: Path) -> None:
    mode, port, line = served
    assert f"http://127.0.0.1:{port}/dashboard/studies/1 " in line
    assert ("read-only" in line) == (mode == "read-only")
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LocalHost:{port}", f"[::1]:{port}"):
        status, text = ask(port, "GET", "/api/studies", host)
        assert (status, json.loads(text)["study_summaries"][0]["study_name"]) == (200, "tiny")
    assert ask(port, "GET", "/dashboard/studies/1")[0] == 200
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        f"127.0.0.1.evil.example:{port}",
        f"localhost:{port + 1}",
        "0.0.0.0",
    ):
        assert ask(port, "GET", "/api/studies", host)[0] == 403
        assert ask(port, "DELETE", "/api/studies/1", host, Origin=f"http://{host}")[0] == 403
    for origin in (
        None,
        "null",
        "http://evil.example",
        f"http://localhost:{port}",
        f"https://127.0.0.1:{port}",
    ):
        headers = {"Origin": origin} if origin else {}
        assert ask(port, "DELETE", "/api/studies/1", **headers)[0] == 403
        assert ask(port, "POST", "/api/studies", **headers)[0] == 403
    own = {"Origin": f"http://127.0.0.1:{port}"}
    assert (
        ask(port, "POST", "/api/studies/1/rename", **own)[0] == 403
    )  # it would copy what is shown over what is stored
    names = [study.study_name for study in open_storage(None, run).get_all_studies()]
    assert names == ["tiny"]
    status, _ = ask(port, "DELETE", "/api/studies/1", Origin=f"http://127.0.0.1:{port}")
    assert status == (204 if mode == "--write" else 403)
    assert [s.study_name for s in open_storage(None, run).get_all_studies()] == (
        [] if mode == "--write" else names
    )
