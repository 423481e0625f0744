"""Starts, watches and ends the processes of a trial.

`ForkServer` is a handle on a node's fork server (forkserver.py); `TrialProcess` is one trial in it: its records as
they are written, its exit, a watchdog, and `kill`, which ends every process of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl.errors import AutoMLError, Resumable, UserError
from automl.executors.base import (
    FINISHED,
    OUT_OF_MEMORY,
    OUT_OF_MEMORY_CODE,
    STOPPED,
    Beat,
    Event,
    Exit,
    TrialJob,
)
from automl.liveness import Liveness
from automl.tail import MetricsTail, last_line, size_of

POLL_S = 0.05  # between two looks at a trial's files
GRACE_S = 5.0  # between SIGTERM and SIGKILL
# glibc gives blocks of over 32 MB back when they are freed, and a training step on a CPU asks for them again, zeroed
# page by page: a ninth of a small step. These keep them; a trial ends with its process anyway.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
READY_TIMEOUT_S = 300.0  # for the fork server's imports
TELL_S = 8.0  # between two lines of one who waits for them
CUDA_OUT_OF_MEMORY = (
    "CUDA out of memory",
    "OutOfMemoryError",
)  # in the last line of a trainer that let torch say it
LONGEST_PATH = 107  # bytes in a unix socket's address

# `-m` and `-c` put the current folder first in sys.path, where a user's file may shadow a module; so the path is set
# before anything is imported (sys itself is built in).
_BOOT = "import sys; sys.path[:] = sys.argv.pop(1).split(':'); from automl.forkserver import main; main()"


@dataclass(frozen=True)
class ServerPlan:
    """What a process on any node needs to find or start the run's fork server there. The server ends when nobody
    has been connected for `idle_s`."""

    folder: str
    preload: tuple[str, ...]
    cwd: str
    idle_s: float = 20.0


def start_fork_server(preload: Sequence[str], socket_dir: Path | str | None = None) -> ForkServer:
    """Start this run's fork server, which imports the modules `preload` while the caller goes on.

    The caller owns it: all trials end when the handle is closed or the calling process dies. Its folder
    (`socket_dir`, by default a new one in the temporary directory) is made with mode 0700 and removed at the end.
    """
    folder = socket_dir or tempfile.mkdtemp(prefix="automl-")
    return ForkServer(ServerPlan(str(folder), tuple(preload), os.getcwd()), owner=True)


def check_temporary() -> None:
    """Raises `UserError` where the temporary directory has too long a name for a fork server's socket in it: asked
    before a run begins. Trials keep their temporary files there, so that no other folder will do."""
    _check_length(os.path.join(tempfile.gettempdir(), "automl-12345678", "socket"))


def _check_length(path: str) -> None:
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise UserError(
            f"{path}: a socket's path has at most {LONGEST_PATH} bytes; set TMPDIR to a shorter folder"
        )


class ForkServer:
    """A handle on a node's fork server; starts one where none answers, under a lock against other processes.

    The owner's handle starts it at once, and ties it and all its trials to this process.
    """

    def __init__(self, plan: ServerPlan, owner: bool = False) -> None:
        self.plan = plan
        self._owner, self._began = owner, time.monotonic()
        self._path = os.path.join(plan.folder, "socket")
        self._owning: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        _check_length(self._path)
        if owner:
            self.connect().close()

    def wait_ready(self, say: Callable[[str], Any] = lambda text: None) -> dict[str, Any]:
        """Wait for the imports, and `say` every few seconds that they are waited for. Returns {"ready": pid, "threads":
        number of threads in the server}. Raises `AutoMLError` with the end of the server's log when they fail."""
        modules = ", ".join(self.plan.preload) or "nothing"
        try:
            with self._dial() as connection:
                connection.sendall(b'{"ask": true}\n')
                _await(connection, READY_TIMEOUT_S, self._began, "starting the trainer", say)
                reply = connection.makefile().readline()
        except TimeoutError:
            raise AutoMLError(f"importing {modules} took more than {READY_TIMEOUT_S:g} s") from None
        except OSError:  # it is no longer there
            reply = ""
        if not reply:
            raise Resumable(
                f"the process that starts trials (it imports {modules}) has ended: {self.last_words()}"
            )
        return dict(json.loads(reply))

    def connect(self) -> socket.socket:
        """A new connection. The server may still be importing; it answers afterwards."""
        with contextlib.suppress(OSError):
            return self._dial()
        with self._lock():
            with contextlib.suppress(OSError):  # another process has been faster
                return self._dial()
            self._launch()
            if self._owner:
                if self._owning is not None:  # to a server that has died
                    self._owning.close()
                self._owning = self._dial()
                self._owning.sendall(b'{"own": true}\n')
            return self._dial()

    def last_words(self) -> str:
        """The last line of the server's log."""
        return last_line(Path(self.plan.folder, "server.log")) or "it left no message"

    def close(self) -> None:
        """As the owner, end the server and all trials; else nothing. May be called twice."""
        if self._owning is None:
            return
        self._owning.close()
        self._owning = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2.0)  # it is done at once, unless in the midst of an import
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.plan.folder, ignore_errors=True)

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _dial(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        _make_private(self.plan.folder)
        with open(os.path.join(self.plan.folder, "lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _launch(self) -> None:
        """Listen first, then start: whoever connects from now on is heard once the imports are done."""
        if not os.path.isdir(self.plan.cwd):
            raise AutoMLError(
                f"{self.plan.cwd} does not exist on {socket.gethostname()}: a run on several machines needs its "
                "working directory, data and results on a file system that all of them share"
            )
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        path = ":".join(os.path.abspath(entry) for entry in sys.path)
        # One thread: a pool started by an import would hang every child (see forkserver.py).
        env = {
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
            **KEEP_MEMORY,
            **os.environ,
            "OMP_NUM_THREADS": "1",
        }
        with (
            socket.socket(socket.AF_UNIX) as listener,
            open(os.path.join(self.plan.folder, "server.log"), "wb") as log,
        ):
            listener.bind(self._path)
            listener.listen(128)
            number = listener.fileno()
            argv = [path, str(number), self.plan.folder, str(self.plan.idle_s), *self.plan.preload]
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *argv],
                cwd=self.plan.cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[number],
                start_new_session=True,
            )


def _await(
    connection: socket.socket, timeout_s: float, began: float, what: str, say: Callable[[str], Any]
) -> None:
    """Until there is something to read; `say` is told the seconds since `began`. Raises `TimeoutError`."""
    until, due = time.monotonic() + timeout_s, began + TELL_S
    while not select.select([connection], [], [], max(0.0, min(due, until) - time.monotonic()))[0]:
        if (now := time.monotonic()) >= until:
            raise TimeoutError
        say(f"{what}: {now - began:.0f} s so far")
        due = now + TELL_S


def _make_private(folder: str) -> None:
    """Make the folder, or check that it is ours alone: whoever may write there could answer for the server."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    state = os.lstat(folder)
    if state.st_uid != os.getuid() or state.st_mode & 0o077 or os.path.islink(folder):
        raise AutoMLError(f"{folder} must be a folder of this user with mode 0700; remove it and try again")


class TrialProcess:
    """One trial, from its start. Not started yet while the fork server still imports.

    `gpus`: ids for CUDA_VISIBLE_DEVICES; a job without GPUs sees none. Records that metrics.jsonl already holds (a
    resumed trial) are not delivered again.
    """

    def __init__(self, job: TrialJob, server: ForkServer, gpus: Sequence[int | str] = ()) -> None:
        self.job = job
        self._server = server
        self._folder = Path(job.trial_dir)
        self._metrics = MetricsTail(self._folder / "metrics.jsonl")
        self._log_began_at = size_of(self._folder / "log.txt")
        self._pids: list[int] = []
        self._stop_reason: str | None = None
        self._exit: Exit | None = None
        self._over = False
        self._received = b""
        self._liveness = Liveness(self._folder, job.silence_timeout_s)
        self._connection = server.connect()
        self._send({"run": self._request(gpus)})

    @property
    def over(self) -> bool:
        """The exit has been delivered."""
        return self._over

    def poll(self, wait_s: float = 0.0) -> list[Event]:
        """What is new: records in order, at times a `Beat`, at the very end one `Exit`. Waits for up to `wait_s` for
        something."""
        until = time.monotonic() + wait_s
        while True:
            events = self._look()
            left_s = until - time.monotonic()
            if events or left_s <= 0 or self._over:
                return events
            if self._exit is None:
                select.select([self._connection], [], [], min(left_s, POLL_S))

    def kill(self, reason: str = STOPPED, grace_s: float = GRACE_S) -> None:
        """End the trial: SIGTERM to all its processes, SIGKILL after `grace_s`. Its exit comes through `poll`, with
        this reason unless it ended by itself first."""
        self._end(reason, signal.SIGTERM, grace_s)

    def close(self) -> None:
        """Give up on the trial: what still runs of it is killed at once, and no exit is delivered."""
        self._connection.close()
        self._over = True

    # ---- to and from the server ---------------------------------------------------------------------------

    def _request(self, gpus: Sequence[int | str]) -> dict[str, Any]:
        job = self.job
        cores = job.cpus if job.num_gpus == 0 else len(os.sched_getaffinity(0))
        return {
            "number": job.number,
            "ranks": job.ranks,
            "trial_dir": os.path.abspath(job.trial_dir),
            "entry": job.entry,
            "command": [word.replace("{spec}", job.spec_path) for word in job.command],
            "spec_path": job.spec_path,
            "launch_env": {
                "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus)),
                "OMP_NUM_THREADS": str(max(1, int(cores / job.ranks))),
            },
            "env": dict(job.env),
        }

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the server has gone; the next look finds out
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def _look(self) -> list[Event]:
        if self._over:
            return []
        if self._exit is None:
            self._listen()
        ended = self._exit  # read before the records: none can be written after it
        events: list[Event] = []
        try:
            while records := self._metrics.read():
                events.extend(records)
            if ended is not None and ended.finished:
                events.extend(self._metrics.rest())
        except ValueError as error:
            broken = f"{self._metrics.path} is broken: {error}"
            self._end(broken, signal.SIGTERM, GRACE_S)
            ended = ended and Exit(None, broken)
        if ended is not None:
            self._over = True
            self._connection.close()
            return [*events, ended]
        if self._pids:
            self._watch(len(events))
            if beat := self._liveness.beat():
                events.append(Beat(beat))
        return events

    def _listen(self) -> None:
        """Take in what the server has said."""
        while self._exit is None and select.select([self._connection], [], [], 0)[0]:
            try:
                block = self._connection.recv(1 << 16)
            except ConnectionError:
                block = b""
            if not block:
                self._exit = self._lost()
                return
            *lines, self._received = (self._received + block).split(b"\n")
            for line in lines:
                self._hear(json.loads(line))

    def _hear(self, message: dict[str, Any]) -> None:
        if "started" in message:
            self._pids = message["started"]
            self._liveness.start()
        elif "refused" in message:
            self._exit = Exit(None, f"could not be started: {message['refused']}")
        elif message["killed"] and self._stop_reason is not None:
            self._exit = Exit(None, self._stop_reason)
        else:
            self._exit = Exit(message["exited"], self._why(message["exited"], message["rank"]))

    def _lost(self) -> Exit:
        """The server is gone. Its children went with it (PDEATHSIG); theirs may not have."""
        for pid in self._pids[:1]:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        if self._stop_reason is not None:
            return Exit(None, self._stop_reason)
        state = "lost with its fork server" if self._pids else "could not be started: the fork server failed"
        return Exit(None, f"{state}: {self._server.last_words()}", lost=bool(self._pids))

    def _why(self, code: int, rank: int) -> str:
        where = f" in rank {rank}" if self.job.ranks > 1 else ""
        if code == 0:
            return FINISHED
        if code < 0:
            name = next((s.name for s in signal.Signals if s == -code), "a real-time signal")
            guess = "out of memory?" if code == -signal.SIGKILL else name
            return f"killed by signal {-code} ({guess}){where}"
        line = last_line(self._folder / "log.txt", self._log_began_at)
        if code == OUT_OF_MEMORY_CODE or any(word in line for word in CUDA_OUT_OF_MEMORY):
            return f"{OUT_OF_MEMORY}{where}" + (f": {line}" if line else "")
        return f"exit code {code}{where}" + (f"; last line of log: {line}" if line else "; it logged nothing")

    # ---- ending it ----------------------------------------------------------------------------------------------

    def _end(self, reason: str, number: signal.Signals, grace_s: float) -> None:
        if self._exit is None:
            self._listen()
        if self._stop_reason is not None or self._exit is not None:
            return
        self._stop_reason = reason
        if (
            not self._pids
        ):  # the server still imports, or has not got to it: it drops what is asked and then left
            self._connection.close()
            self._exit = Exit(None, reason)
            return
        self._send({"kill": number, "grace_s": grace_s})

    def _watch(self, records: int) -> None:
        """End the trial when it has been silent for too long. SIGABRT lets Python write where it hangs to the log."""
        if records:
            self._liveness.record()
        limit_s = self._liveness.look()
        if limit_s is not None:
            self._end(f"silent for {limit_s:g} s", signal.SIGABRT, GRACE_S)


def wait_for_an_end(trials: Collection[TrialProcess], wait_s: float) -> None:
    """Until the server has said something of one of the trials, for up to `wait_s`."""
    if all(trial._exit is None for trial in trials):
        select.select([trial._connection for trial in trials], [], [], wait_s)
