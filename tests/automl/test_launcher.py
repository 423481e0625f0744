"""The fork server and the trial process, with real processes and real faults."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.errors import AutoMLError
from automl.executors.base import Exit, TrialJob
from automl.launcher import ForkServer, ServerPlan, TrialProcess, start_fork_server
from automl.tail import MetricsTail, last_line
from tests.contracts.test_executors import living, make_job, runs

PATIENCE_S = 20.0


@pytest.fixture
def server() -> Iterator[ForkServer]:
    with start_fork_server([]) as server:
        yield server


def finish(trial: TrialProcess) -> tuple[list[dict[str, Any]], Exit]:
    """All records and the exit."""
    records: list[dict[str, Any]] = []
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        for event in trial.poll(1.0):
            if isinstance(event, Exit):
                assert trial.over
                assert trial.poll() == []
                return records, event
            records.append(event)
    raise TimeoutError(f"no exit of {trial.job} within {PATIENCE_S} s")


def run(server: ForkServer, job: TrialJob) -> tuple[list[dict[str, Any]], Exit]:
    return finish(TrialProcess(job, server))


def wait_until(condition: Any) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    assert condition()


# ---- the server -----------------------------------------------------------------------------------------------------


def test_its_folder_is_private_and_removed_at_the_end() -> None:
    server = start_fork_server([])
    folder = Path(server.plan.folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    pid = server.wait_ready()["ready"]
    server.close()
    server.close()
    assert not folder.exists()
    assert not runs(pid)


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(AutoMLError, match="must be a folder of this user with mode 0700"):
        start_fork_server([], tmp_path / "open")


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AutoMLError, match="set TMPDIR to a shorter folder"):
        start_fork_server([], tmp_path / ("x" * 100))


def test_imports_that_fail_are_told_with_their_reason() -> None:
    with start_fork_server(["json", "no_such_module"]) as server:
        with pytest.raises(
            AutoMLError, match=r"it imports json, no_such_module\) has ended: ModuleNotFoundError"
        ):
            server.wait_ready()


def test_imports_that_initialise_cuda_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text(
        "class cuda:\n    @staticmethod\n    def is_initialized(): return True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with start_fork_server(["torch"]) as server:
        with pytest.raises(AutoMLError, match="initialises CUDA when imported"):
            server.wait_ready()


def test_what_an_import_prints_is_not_repeated_in_every_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "talkative.py").write_text("import sys\nsys.stdout.write('hello from the import')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONUNBUFFERED", "")
    with start_fork_server(["talkative"]) as server:
        run(server, make_job(tmp_path, 0, {"epochs": 0}))
    assert (tmp_path / "0000/log.txt").read_text() == "the end\n"


def test_a_users_folder_does_not_shadow_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')\n")
    monkeypatch.chdir(tmp_path)
    with start_fork_server([]) as server:
        assert run(server, make_job(tmp_path, 0, {"epochs": 1}))[1].finished


def test_it_ends_when_nobody_is_connected(tmp_path: Path) -> None:
    """As on another machine of a cluster, where no driver owns it."""
    plan = ServerPlan(str(tmp_path / "s"), (), os.getcwd(), idle_s=0.5)
    server = ForkServer(plan)
    assert run(server, make_job(tmp_path, 0, {"epochs": 1, "epoch_s": 1.0}))[1].finished
    pid = server.wait_ready()["ready"]
    server._process.wait(PATIENCE_S)  # type: ignore[union-attr]
    assert not runs(pid)
    assert run(server, make_job(tmp_path, 1, {"epochs": 1}))[1].finished  # a new one


def test_two_processes_share_one_server(tmp_path: Path, server: ForkServer) -> None:
    pid = server.wait_ready()["ready"]
    joined = ForkServer(server.plan)
    assert run(joined, make_job(tmp_path, 0, {"epochs": 1}))[1].finished
    assert joined.wait_ready()["ready"] == pid
    joined.close()
    assert server.wait_ready()["ready"] == pid


def test_it_keeps_no_zombies_and_no_temporary_files(tmp_path: Path, server: ForkServer) -> None:
    for number, then in enumerate(["end", "strays", "sigkill", "crash", "env"]):
        run(server, make_job(tmp_path, number, {"epochs": 1, "then": then}))
    pid = server.wait_ready()["ready"]

    def parents() -> list[str]:
        command = ["ps", "-eo", "ppid="]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    wait_until(lambda: str(pid) not in parents())
    assert sorted(os.listdir(server.plan.folder)) == ["lock", "server.log", "socket"]
    assert Path(server.plan.folder, "server.log").read_text() == ""


def test_a_killed_server_takes_its_trials_along_and_is_replaced(tmp_path: Path, server: ForkServer) -> None:
    job = make_job(tmp_path, 0, {"epochs": 1, "then": "strays_and_hang", "stubborn": True})
    trial = TrialProcess(job, server)
    wait_until((tmp_path / "0000/pid-stray1").exists)
    os.kill(server.wait_ready()["ready"], signal.SIGKILL)
    records, exit = finish(trial)
    assert [record["epoch"] for record in records] == [0]
    assert exit == Exit(None, "lost with its fork server: it left no message", lost=True)
    for name in ("pid-0", "pid-stray0"):
        wait_until(lambda name=name: not runs(int((tmp_path / "0000" / name).read_text())))
    assert run(server, make_job(tmp_path, 1, {"epochs": 1}))[1].finished
    os.kill(int((tmp_path / "0000/pid-stray1").read_text()), signal.SIGKILL)  # a session of its own: not ours


def test_it_stays_single_threaded_and_its_children_do_not(tmp_path: Path) -> None:
    """numpy and torch would each start a pool; see forkserver.py for why they must not, before a fork."""
    with start_fork_server(["numpy", "torch", "torch.utils.data"]) as server:
        assert server.wait_ready()["threads"] == 1
        job = make_job(tmp_path, 0, {"epochs": 0, "then": "torch"}, cpus=2, silence_timeout_s=60.0)
        assert run(server, job)[1] == Exit(0, "finished")
    report = json.loads((tmp_path / "0000/torch.json").read_text())
    assert report["threads_set"] == 2
    assert report["threads_seen"] >= 2
    assert report["total"] == 1500 * 1500
    assert report["batches"] == [6, 22]


# ---- one trial ----------------------------------------------------------------------------------------------------


def test_a_trial_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path, server: ForkServer) -> None:
    trial = TrialProcess(make_job(tmp_path, 0, {"epochs": 1, "then": "hang", "stubborn": True}), server)
    while not trial.poll(1.0):
        pass
    trial.kill("stopped: enough", grace_s=0.3)
    trial.kill("stopped: again")
    assert finish(trial)[1] == Exit(None, "stopped: enough")
    assert living(tmp_path / "0000") == []


def test_a_trial_that_ended_before_the_kill_has_its_own_exit(tmp_path: Path, server: ForkServer) -> None:
    trial = TrialProcess(make_job(tmp_path, 0, {"epochs": 2}), server)
    wait_until(lambda: last_line(tmp_path / "0000/log.txt") == "the end")
    wait_until(lambda: living(tmp_path / "0000") == [])
    trial.kill()
    records, exit = finish(trial)
    assert (len(records), exit) == (2, Exit(0, "finished"))


def test_killed_while_the_server_still_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with start_fork_server(["slow"]) as server:
        trial = TrialProcess(make_job(tmp_path, 0, {"epochs": 1}), server)
        assert trial.poll() == []
        trial.kill("stopped: too late")
        assert finish(trial) == ([], Exit(None, "stopped: too late"))
        assert run(server, make_job(tmp_path, 1, {"epochs": 1}))[1].finished
    assert not (tmp_path / "0000/log.txt").exists()


def test_closing_kills_at_once(tmp_path: Path, server: ForkServer) -> None:
    trial = TrialProcess(make_job(tmp_path, 0, {"epochs": 1, "then": "hang", "stubborn": True}), server)
    while not trial.poll(1.0):
        pass
    trial.close()
    wait_until(lambda: living(tmp_path / "0000") == [])
    assert trial.poll() == []


def test_a_missing_trial_folder_is_told(tmp_path: Path, server: ForkServer) -> None:
    job = TrialJob(0, str(tmp_path / "nowhere"), str(tmp_path / "spec.json"), entry="json:loads")
    records, exit = run(server, job)
    assert records == []
    assert exit.code == 1
    assert "it logged nothing" in exit.reason


def test_a_missing_command_is_told(tmp_path: Path, server: ForkServer) -> None:
    job = make_job(tmp_path, 0, {}, entry="", command=("no-such-program", "{spec}"))
    assert run(server, job)[1] == Exit(
        127,
        "exit code 127; last line of log: cannot run no-such-program: No such file or directory",
    )


def test_the_message_of_sys_exit_is_told(tmp_path: Path, server: ForkServer) -> None:
    exit = run(server, make_job(tmp_path, 0, {"epochs": 0, "then": "goodbye"}))[1]
    assert exit == Exit(1, "exit code 1; last line of log: goodbye")


def test_a_log_is_continued_and_only_the_new_part_is_quoted(tmp_path: Path, server: ForkServer) -> None:
    job = make_job(
        tmp_path, 0, {"epochs": 0}, entry="", command=(sys.executable, "-c", "raise SystemExit(6)")
    )
    (tmp_path / "0000/log.txt").write_text("an earlier error\n")
    assert run(server, job)[1].reason == "exit code 6; it logged nothing"
    assert (tmp_path / "0000/log.txt").read_text() == "an earlier error\n"


def test_a_working_trial_is_not_called_silent(tmp_path: Path, server: ForkServer) -> None:
    """Six times its timeout in all, but never so long without a record."""
    job = make_job(tmp_path, 0, {"epochs": 6, "epoch_s": 0.5}, silence_timeout_s=1.0)
    assert run(server, job)[1].finished


def test_environment_and_threads_of_a_job(tmp_path: Path, server: ForkServer) -> None:
    fields = {"cpus": 3, "env": (("WISH", "granted"), ("TMPDIR", "/dev/shm"))}
    run(server, make_job(tmp_path, 0, {"epochs": 0, "then": "env"}, **fields))
    seen = json.loads((tmp_path / "0000/env-0.json").read_text())
    assert (seen["OMP_NUM_THREADS"], seen["WISH"], seen["TMPDIR"]) == ("3", "granted", "/dev/shm")
    assert seen["RANK"] is None
    assert seen["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "either an entry or a command"),
        ({"entry": "m:f", "command": ("x",)}, "either an entry or a command"),
        ({"entry": "m.f"}, "'package.module:function'"),
        ({"entry": "m:f", "ranks": 0}, "ranks >= 1"),
        ({"entry": "m:f", "num_gpus": -1}, "num_gpus >= 0"),
        ({"entry": "m:f", "cpus": 0}, "cpus > 0"),
        ({"entry": "m:f", "num_gpus": 1.5}, "a whole number or a share below 1"),
    ],
)
def test_jobs_that_contradict_themselves(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrialJob(0, "d", "s", **fields)


# ---- reading along ----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    old=st.lists(st.integers(), max_size=3),
    cut=st.sampled_from(["", "{", '{"epoch": 7}', '{"epoch": "ü']),
    new=st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5)), max_size=8),
    sizes=st.lists(st.integers(1, 30), min_size=1),
)
def test_the_tail_gives_each_new_line_once_however_it_is_written(
    tmp_path_factory: pytest.TempPathFactory,
    old: list[int],
    cut: str,
    new: list[dict[str, Any]],
    sizes: list[int],
) -> None:
    path = tmp_path_factory.mktemp("tail") / "metrics.jsonl"
    path.write_text("".join(f'{{"epoch": {epoch}}}\n' for epoch in old) + cut)
    tail = MetricsTail(path)
    left = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in new).encode()
    seen: list[dict[str, Any]] = []
    while left:
        size = sizes[len(left) % len(sizes)]
        with open(path, "ab") as file:
            file.write(left[:size])
        left = left[size:]
        seen += tail.read()
    assert seen == new
    assert tail.read() == []
    assert path.read_bytes().startswith("".join(f'{{"epoch": {epoch}}}\n' for epoch in old).encode())
    assert sum(1 for _ in path.open()) == len(old) + len(new)


def test_the_tail_gives_what_is_whole_before_it_complains(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    assert tail.read() == []
    path.write_text('{"epoch": 0}\n[1]\n{"epoch": 1}\n')
    assert tail.read() == [{"epoch": 0}]
    for _ in range(2):
        with pytest.raises(ValueError, match="must be a JSON object"):
            tail.read()


def test_the_tail_notices_a_file_that_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 0}\n')
    tail = MetricsTail(path)
    path.write_text("")
    with pytest.raises(ValueError, match="must only append"):
        tail.read()
