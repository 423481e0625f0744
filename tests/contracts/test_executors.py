"""One contract for every executor: what a driver may rely on, with real faults.

Each executor runs all SCENARIOS once, two at a time; the tests look at what the driver was told and at what is left.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from automl.errors import AutoMLError, UserError
from automl.executors import local
from automl.executors.base import PAUSED, Decision, Executor, Exit, TrialJob
from automl.executors.local import LocalExecutor
from automl.executors.ray_tune import RayTuneExecutor
from automl.executors.replay import ReplayExecutor

ENTRY = "tests.contracts.trial_entries:train"
ROOT = Path(__file__).resolve().parents[2]
GONE_S = 10.0  # for processes to be gone after their driver


@dataclass(frozen=True)
class Scenario:
    spec: dict[str, Any]
    epochs_seen: list[int]
    code: int | None
    reason: str  # a part of it
    stop_at: int | None = None  # the driver's `decision` on this epoch is not to go on
    decision: Decision = Decision.STOP
    job: dict[str, Any] = field(default_factory=dict)
    before: str = ""  # in metrics.jsonl when the trial starts


COMMAND = (sys.executable, "-c", "import sys; print(sys.argv[1]); sys.exit(5)", "{spec}")
SCENARIOS = {
    "plain": Scenario({"epochs": 3, "epoch_s": 0.1}, [0, 1, 2], 0, "finished"),
    "burst": Scenario({"epochs": 500}, list(range(500)), 0, "finished"),
    "stopped": Scenario({"epochs": 1000, "epoch_s": 0.05}, [0, 1, 2, 3], None, "stopped", stop_at=3),
    "paused": Scenario(
        {"epochs": 1000, "epoch_s": 0.05}, [0, 1], None, "paused", stop_at=1, decision=Decision.PAUSE
    ),
    "stopped while silent": Scenario({"epochs": 1, "then": "hang"}, [0], None, "stopped", stop_at=0),
    "stopped, with strays": Scenario(
        {"epochs": 1, "then": "strays_and_hang"}, [0], None, "stopped", stop_at=0
    ),
    "crash": Scenario({"epochs": 2, "then": "crash"}, [0, 1], 1, "last line of log: ValueError: boom"),
    "user error": Scenario(
        {"epochs": 0, "then": "user_error"}, [], 2, "2 problems:; - lr must be positive; - no such file"
    ),
    "killed": Scenario({"epochs": 1, "then": "sigkill"}, [0], -9, "killed by signal 9 (out of memory?)"),
    "killed by a signal without a name": Scenario(
        {"epochs": 1, "then": "real_time_signal"}, [0], -40, "killed by signal 40 (a real-time signal)"
    ),
    "hang": Scenario({"epochs": 1, "then": "hang"}, [0], None, "silent for ", job={"silence_timeout_s": 1.0}),
    "frozen": Scenario(
        {"epochs": 1, "then": "freeze"}, [0], None, "silent for ", job={"silence_timeout_s": 1.0}
    ),
    "beating": Scenario({"epochs": 1, "then": "beat"}, [0], 0, "finished", job={"silence_timeout_s": 1.0}),
    "out of memory": Scenario(
        {"epochs": 1, "then": "out_of_memory"}, [0], 4, "out of memory: no room for a batch of 8"
    ),
    "out of memory, in torch's words": Scenario(
        {"epochs": 1, "then": "cuda_out_of_memory"}, [0], 1, "out of memory: torch.OutOfMemoryError: CUDA out"
    ),
    "system exit": Scenario({"epochs": 1, "then": "system_exit"}, [0], 7, "exit code 7"),
    "half a line": Scenario({"epochs": 2, "then": "half_line"}, [0, 1], 0, "finished"),
    "broken line": Scenario({"epochs": 2, "then": "broken_line"}, [0, 1], None, "metrics.jsonl is broken"),
    "resumed": Scenario(
        {"epochs": 2}, [2, 3], 0, "finished", before='{"epoch": 0}\n{"epoch": 1}\n{"epoch": 2, "cut sh'
    ),
    "ranks": Scenario(
        {"epochs": 1, "then": "env"}, [0], 0, "finished", job={"ranks": 2, "env": (("WISH", "granted"),)}
    ),
    "a rank fails": Scenario(
        {"epochs": 1, "then": "rank_one_fails"},
        [0],
        1,
        "in rank 1; last line of log: Runtime",
        job={"ranks": 2},
    ),
    "strays": Scenario({"epochs": 1, "then": "strays"}, [0], 0, "finished"),
    "command": Scenario({"epochs": 0}, [], 5, "spec.json", job={"entry": "", "command": COMMAND}),
    "no such entry": Scenario({"epochs": 0}, [], 1, "ModuleNotFoundError", job={"entry": "nowhere:train"}),
}
NAMES = list(SCENARIOS)


class Told:
    """A driver that hands out jobs and keeps what it is told."""

    def __init__(
        self, jobs: list[TrialJob], ends: dict[int, tuple[int | None, Decision]] | None = None
    ) -> None:
        self.jobs, self.ends = list(jobs), ends or {}
        self.readings: dict[int, list[dict[str, float]]] = {}
        self.open: set[int] = set()
        self.most_open = 0
        self.epochs: dict[int, list[int]] = {}
        self.exits: dict[int, list[Exit]] = {}
        self.on_each_record: Callable[[int], None] = lambda number: None
        self.late = False
        self.left_at_exit: dict[int, list[int]] = {}
        self.folders: dict[int, Path] = {}

    def next_job(self) -> TrialJob | None:
        if not self.jobs:
            return None
        job = self.jobs.pop(0)
        self.folders[job.number] = Path(job.trial_dir)
        self.open.add(job.number)
        self.most_open = max(self.most_open, len(self.open))
        return job

    def finished(self) -> bool:
        return not self.jobs

    def on_progress(self, number: int, reading: dict[str, float]) -> None:
        assert number in self.open
        self.readings.setdefault(number, []).append(reading)

    def on_record(self, number: int, record: dict[str, Any]) -> Decision:
        assert number in self.open
        self.epochs.setdefault(number, []).append(record["epoch"])
        self.on_each_record(number)
        epoch, decision = self.ends.get(number, (None, Decision.STOP))
        return decision if record["epoch"] == epoch else Decision.CONTINUE

    def on_exit(self, number: int, exit: Exit) -> None:
        self.open.discard(number)
        self.exits.setdefault(number, []).append(exit)
        self.left_at_exit[number] = living(self.folders[number])

    def deadline_passed(self) -> bool:
        return self.late


def living(folder: Path) -> list[int]:
    """Of the processes a trial has noted, those that still run (a zombie does not)."""
    return [pid for path in folder.glob("pid-*") if runs(pid := int(path.read_text() or "0"))]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def make_job(root: Path, number: int, spec: dict[str, Any], before: str = "", **fields: Any) -> TrialJob:
    folder = root / f"{number:04d}"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(spec))
    if before:
        (folder / "metrics.jsonl").write_text(before)
    fields = {"entry": ENTRY, **fields}
    return TrialJob(number=number, trial_dir=str(folder), spec_path=str(folder / "spec.json"), **fields)


def replayed(job: TrialJob) -> list[dict[str, Any] | Exit]:
    """The scenario as a recorded curve."""
    scenario = SCENARIOS[NAMES[job.number]]
    more = [] if scenario.stop_at is None else range(scenario.stop_at + 1, scenario.stop_at + 10)
    curve: list[dict[str, Any] | Exit] = [
        {"epoch": epoch, "elapsed_s": 10.0 * (at + 1)}
        for at, epoch in enumerate([*scenario.epochs_seen, *more])
    ]
    return curve if scenario.stop_at is not None else [*curve, Exit(scenario.code, scenario.reason)]


def make_executor(kind: str, concurrency: int) -> Executor:
    if kind == "local":
        return LocalExecutor(concurrency)
    if kind == "ray":
        return RayTuneExecutor(concurrency, gpus=())
    return ReplayExecutor(replayed, concurrency)


@pytest.fixture(scope="module", params=["local", "ray", "replay"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """All scenarios, run by one executor, two at a time."""
    root = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "ray":
            importlib.import_module("ray")  # as a program that uses Ray itself did, without our environment
        patch.setenv("HOME", str(root))
        before = dict(os.environ)
        driver = Told(
            [make_job(root, i, s.spec, s.before, **s.job) for i, s in enumerate(SCENARIOS.values())],
            {i: (s.stop_at, s.decision) for i, s in enumerate(SCENARIOS.values())},
        )
        driver.kind, driver.root, driver.sockets = request.param, root, {}  # type: ignore[attr-defined]
        if request.param == "ray":
            last = NAMES.index("stopped")  # the cluster is complete by then
            driver.on_each_record = lambda number: number == last and driver.sockets.update(ray_sockets())  # type: ignore[attr-defined]
        executor = make_executor(request.param, 2)
        try:
            executor.run(driver)
        finally:
            executor.close()
            executor.close()
        driver.env_kept = dict(os.environ) == before  # type: ignore[attr-defined]
        yield driver


def real(told: Told) -> Told:
    if told.kind == "replay":  # type: ignore[attr-defined]
        pytest.skip("no processes in a replay")
    return told


@pytest.mark.parametrize("name", NAMES)
def test_scenario_is_told_as_it_happened(told: Told, name: str) -> None:
    number, scenario = NAMES.index(name), SCENARIOS[name]
    assert told.epochs.get(number, []) == scenario.epochs_seen
    (exit,) = told.exits[number]
    assert exit.code == scenario.code
    assert scenario.reason in exit.reason
    assert exit.finished == (scenario.code == 0)
    given_up = scenario.stop_at is not None
    assert exit.stopped == (given_up and scenario.decision is Decision.STOP)
    assert exit.reason.startswith(PAUSED) == (given_up and scenario.decision is Decision.PAUSE)
    assert exit.out_of_memory == name.startswith("out of memory")


def test_readings_of_a_heartbeat_are_told(told: Told) -> None:
    assert set(real(told).readings) == {NAMES.index("beating")}
    steps = [reading.pop("step") for reading in told.readings[NAMES.index("beating")]]
    assert steps == sorted(set(steps))
    assert len(steps) > 1
    assert all(reading == {"loss": 0.5} for reading in told.readings[NAMES.index("beating")])


def test_two_trials_run_at_a_time_and_never_more(told: Told) -> None:
    assert told.most_open == 2


def test_no_process_is_left_when_an_exit_is_told(told: Told) -> None:
    real(told)
    assert told.left_at_exit == {number: [] for number in range(len(NAMES))}
    assert len(list(told.root.rglob("pid-*"))) > len(NAMES)  # type: ignore[attr-defined]


def test_ranks_get_torchruns_variables_and_others_do_not(told: Told) -> None:
    folder = real(told).folders[NAMES.index("ranks")]
    first, second = (json.loads((folder / f"env-{rank}.json").read_text()) for rank in (0, 1))
    assert (first["RANK"], second["RANK"]) == ("0", "1")
    assert (first["LOCAL_RANK"], second["LOCAL_RANK"]) == ("0", "1")
    assert {first["WORLD_SIZE"], second["WORLD_SIZE"], first["LOCAL_WORLD_SIZE"]} == {"2"}
    assert first["MASTER_PORT"] == second["MASTER_PORT"]
    assert first["MASTER_ADDR"] == "127.0.0.1"
    assert (first["NODE_RANK"], first["GROUP_RANK"]) == ("0", "0")
    assert first["TORCHELASTIC_RUN_ID"] == second["TORCHELASTIC_RUN_ID"] is not None
    assert (first["CUDA_VISIBLE_DEVICES"], first["WISH"]) == ("", "granted")
    assert first["cwd"] == os.getcwd()
    assert first["argv"] == [ENTRY, str(folder / "spec.json")]
    assert not Path(first["TMPDIR"]).exists()


def test_a_hanging_trial_says_where_it_hung(told: Told) -> None:
    log = (real(told).folders[NAMES.index("hang")] / "log.txt").read_text()
    assert "in _hang" in log


def test_the_environment_and_home_stay_as_they_were(told: Told) -> None:
    assert told.env_kept  # type: ignore[attr-defined]
    assert not (told.root / ".ray").exists()  # type: ignore[attr-defined]
    assert not (told.root / "ray_results").exists()  # type: ignore[attr-defined]


def test_ray_listens_on_this_machine_only(told: Told) -> None:
    if told.kind != "ray":  # type: ignore[attr-defined]
        pytest.skip("no Ray")
    sockets = told.sockets  # type: ignore[attr-defined]
    assert len(sockets) > 3
    assert {address for address in sockets.values() if not address.startswith("127.")} == set()


def ray_sockets() -> dict[str, str]:
    """inode -> IPv4 address, of every listening TCP socket of our Ray processes."""
    inodes: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if (b"/automl-" in command and b"/ray-" in command) or command.startswith(b"ray::"):
                links = [os.readlink(fd) for fd in (process / "fd").iterdir()]
                inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
        except OSError:
            continue
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and rest[5] in inodes:
                last_four = bytes.fromhex(local.split(":")[0])[-4:]  # also of an IPv4 address mapped to IPv6
                found[rest[5]] = ".".join(map(str, reversed(last_four)))
    return found


# ---- the deadline -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["local", "ray"])
def late(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Three jobs, one at a time: one ends (of a lost actor, with Ray), one is in a silent epoch when the deadline
    passes, one is never asked for."""
    root = tmp_path_factory.mktemp(f"late-{request.param}")
    hang = {"epochs": 1, "then": "hang"}
    lost = request.param == "ray"
    driver = Told([make_job(root, i, hang if i or lost else {"epochs": 1}) for i in range(3)])
    driver.kind = request.param  # type: ignore[attr-defined]

    def on_each_record(number: int) -> None:
        if number == 1:
            driver.late = True
        elif lost:
            for pid in ray_actors():
                os.kill(pid, signal.SIGKILL)

    driver.on_each_record = on_each_record
    executor = make_executor(request.param, 1)
    try:
        executor.run(driver)
    finally:
        executor.close()
    return driver


def ray_actors() -> list[int]:
    """The actors below this process; another run on the machine may have some too."""
    commands = {
        int(p.parent.name): p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()
    }
    actors = [pid for pid, command in commands.items() if command.startswith(b"ray::TrialActor")]
    return [pid for pid in actors if os.getpid() in ancestors(pid)]


def ancestors(pid: int) -> list[int]:
    found: list[int] = []
    while pid > 1:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            break
        pid = int(fields[1])
        found.append(pid)
    return found


def test_the_deadline_stops_what_runs_and_starts_nothing(late: Told) -> None:
    (exit,) = late.exits[1]
    assert exit.code is None
    assert exit.stopped
    assert "time budget" in exit.reason
    assert sorted(late.exits) == [0, 1]
    assert late.left_at_exit[1] == []


def test_a_lost_ray_actor_ends_its_trial_once(late: Told) -> None:
    if late.kind != "ray":  # type: ignore[attr-defined]
        pytest.skip("no actor")
    (exit,) = late.exits[0]
    assert exit.code is None
    assert exit.reason.startswith("lost with its Ray actor: ")
    assert "died" in exit.reason
    assert exit.lost  # no fault of the trial's
    deadline = time.monotonic() + GONE_S
    while living(late.folders[0]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert living(late.folders[0]) == []


# ---- a driver that dies ---------------------------------------------------------------------------------------------

DRIVER = """
    import signal, sys
    from pathlib import Path
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background is born ignoring it
    from tests.contracts.test_executors import Told, make_executor, make_job
    root = Path(sys.argv[2])
    spec = {"epochs": 1, "then": "strays_and_hang", "stubborn": True}
    make_executor(sys.argv[1], 2).run(Told([make_job(root, i, spec) for i in range(2)]))
"""


@pytest.mark.parametrize("kind", ["local", "ray"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_trial_outlives_its_driver(kind: str, number: signal.Signals, tmp_path: Path) -> None:
    short = tempfile.mkdtemp(dir="/tmp")
    driver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER), kind, str(tmp_path / "trials")],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": short},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 150  # Ray takes its time on a busy machine
        while len(list(tmp_path.rglob("pid-stray1"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.1)
        noted = [int(path.read_text()) for path in tmp_path.rglob("pid-*")]
        assert len(noted) == 6
        assert all(map(runs, noted))
        driver.send_signal(number)
        until = time.monotonic() + GONE_S
        while any(map(runs, noted)) and time.monotonic() < until:
            time.sleep(0.05)
        assert [pid for pid in noted if runs(pid)] == []
        driver.wait(GONE_S)
        while os.listdir(short) and time.monotonic() < until + GONE_S:
            time.sleep(0.1)
        assert os.listdir(short) == []
    finally:
        driver.kill()
        driver.wait()
        shutil.rmtree(short)


# ---- what only one of them does ---------------------------------------------------------------------------------


def test_an_error_of_the_driver_comes_out_and_ends_the_trials(tmp_path: Path) -> None:
    driver = Told([make_job(tmp_path, i, {"epochs": 1, "then": "hang"}) for i in range(2)])

    def fail(number: int) -> None:
        raise RuntimeError("the storage is gone")

    driver.on_each_record = fail
    executor = LocalExecutor(2)
    try:
        with pytest.raises(RuntimeError, match="the storage is gone"):
            executor.run(driver)
    finally:
        executor.close()
    assert driver.exits == {}
    assert [living(folder) for folder in driver.folders.values()] == [[], []]


def test_local_trials_have_gpus_of_their_own(tmp_path: Path) -> None:
    spec = {"epochs": 1, "epoch_s": 0.3, "then": "env"}
    jobs = [make_job(tmp_path, i, spec, num_gpus=n) for i, n in enumerate([2, 1, 1])]
    driver = Told(jobs)
    executor = LocalExecutor(3, gpus=[4, 5, 7])
    try:
        executor.run(driver)
    finally:
        executor.close()
    seen = [json.loads((folder / "env-0.json").read_text()) for folder in driver.folders.values()]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in seen[:2]] == ["4,5", "7"]
    assert seen[2]["CUDA_VISIBLE_DEVICES"] in {"4", "5", "7"}


@pytest.mark.timeout(120)
def test_a_trial_that_ends_makes_room_for_the_next_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the next of the looks, which here never comes."""
    monkeypatch.setattr(local, "POLL_S", 3600.0)
    driver = Told([make_job(tmp_path, i, {"epochs": 1}) for i in range(3)])
    executor = LocalExecutor(1)
    try:
        executor.run(driver)
    finally:
        executor.close()
    assert [exit.finished for i in range(3) for exit in driver.exits[i]] == [True] * 3


def test_a_local_job_with_too_many_gpus_is_refused(tmp_path: Path) -> None:
    executor = LocalExecutor(1, gpus=[0])
    try:
        with pytest.raises(UserError, match="needs 2 GPUs, but this run may use 1"):
            executor.run(Told([make_job(tmp_path, 0, {"epochs": 0}, num_gpus=2)]))
    finally:
        executor.close()


def test_imports_that_take_long_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl.launcher.TELL_S", 0.2)
    (tmp_path / "slow_to_import.py").write_text("import time; time.sleep(1)")
    monkeypatch.syspath_prepend(tmp_path)
    said: list[str] = []
    executor = LocalExecutor(1, preload=["slow_to_import"], say=said.append)
    try:
        executor.run(Told([]))
    finally:
        executor.close()
    assert said[1:]
    assert set(said) <= {f"starting the trainer: {seconds} s so far" for seconds in range(60)}


def test_failing_imports_are_told_before_any_job_is_asked_for() -> None:
    executor = LocalExecutor(1, preload=["no_such_module"])
    try:
        with pytest.raises(AutoMLError, match="No module named 'no_such_module'"):
            executor.run(Told([]))
    finally:
        executor.close()


@pytest.mark.parametrize("make", [LocalExecutor, RayTuneExecutor])
def test_no_concurrency_is_a_mistake(make: type[Executor]) -> None:
    with pytest.raises(UserError, match="concurrency must be at least 1"):
        make(concurrency=0)  # type: ignore[call-arg]


def test_ray_client_addresses_are_refused() -> None:
    with pytest.raises(UserError, match="on a machine of the cluster itself"):
        RayTuneExecutor(address="ray://head:10001")


class Clocked(Told):
    """Has a deadline in virtual time."""

    def __init__(self, jobs: list[TrialJob], limit_s: float) -> None:
        super().__init__(jobs)
        self.limit_s = limit_s
        self.executor: ReplayExecutor

    def deadline_passed(self) -> bool:
        return self.executor.now_s >= self.limit_s


def test_replay_keeps_virtual_time(tmp_path: Path) -> None:
    """Two slots; trials of 4 x 10 s; at 65 s two are done and two stand at 60 s, in their second epoch."""
    jobs = [make_job(tmp_path, i, {}) for i in range(6)]
    driver = Clocked(jobs, limit_s=65.0)
    executor = ReplayExecutor(
        lambda job: [{"epoch": e, "elapsed_s": 10.0 * (e + 1)} for e in range(4)], concurrency=2
    )
    driver.executor = executor
    executor.run(driver)
    assert driver.epochs == {0: [0, 1, 2, 3], 1: [0, 1, 2, 3], 2: [0, 1], 3: [0, 1]}
    assert [driver.exits[i][0].finished for i in range(4)] == [True, True, False, False]
    assert driver.exits[2][0].stopped
    assert driver.most_open == 2


def test_replay_refuses_to_wait_for_nothing() -> None:
    class Waiting(Told):
        def finished(self) -> bool:
            return False

    with pytest.raises(AutoMLError, match="waits for nothing that runs"):
        ReplayExecutor(replayed).run(Waiting([]))
