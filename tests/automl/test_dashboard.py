"""The dashboard over a real socket: who is answered, what may be changed."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
    process = subprocess.Popen(
        [sys.executable, "-m", "automl.cli", *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    yield request.param, int(re.findall(r":(\d+)/", line)[0]), line
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
