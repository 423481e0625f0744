"""The fork server: a process that imports the slow modules once and forks a child for every trial process.

`automl.launcher` starts it and talks to it over a unix socket, one connection a trial, one JSON object a line:

    to the server               from the server, once the imports are done
    {"own": true}
    {"ask": true}               {"ready": pid, "threads": n}
    {"run": {...}}              {"started": [pid of every rank]} or {"refused": why}
    {"kill": signal,            {"exited": code, "rank": the rank that ended so, "killed": by such a request?},
     "grace_s": s}              after which the server closes the connection

A connection that closes takes its trial along (SIGKILL); the owner's, which the driver holds, takes everything.
So whichever way a driver or a Ray actor dies, the kernel closes its sockets and its trials end.

Single-threaded, because only the forking thread lives on in a child: a lock or an OpenMP pool of any other thread
would hang it. Hence OMP_NUM_THREADS=1 here (set by the launcher), and threads are given out in the child.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, NoReturn

DYING_S = 1.0
COOKIE = "AUTOML_TRIAL_TMPDIR"  # in the environment of whatever a trial starts; finds what has left its group

RANK_NAMES = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"),
)

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before any fork


@dataclass
class _Trial:
    request: dict[str, Any]
    tmp: str
    group: int = 0
    pids: dict[int, int] = field(default_factory=dict)  # living pid -> rank
    killed: bool = False
    kill_at: float | None = None  # when SIGKILL follows; time.monotonic()
    code: int = 0
    rank: int = 0

    def signal(self, number: int) -> None:
        """Signal every process of the group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.group, number)


@dataclass
class _Client:
    socket: socket.socket
    received: bytes = b""
    trial: _Trial | None = None
    owner: bool = False


class _InChild(BaseException):
    """Raised in a fresh child to leave the server's frames."""

    def __init__(self, request: dict[str, Any], group: int, env: dict[str, str]) -> None:
        self.request, self.group, self.env = request, group, env


class Server:
    """Serves `listener` until the owner leaves or nobody has been there for `idle_s`. `run` raises `_InChild` in
    the children."""

    def __init__(self, listener: socket.socket, folder: str, idle_s: float) -> None:
        self.listener, self.folder, self.idle_s = listener, folder, idle_s
        self.selector = selectors.DefaultSelector()
        self.clients: dict[int, _Client] = {}
        self.trials: list[_Trial] = []
        self.owner_left = False
        self.idle_since = time.monotonic()
        self.wake_read, self.wake_write = socket.socketpair()
        for each in (listener, self.wake_read, self.wake_write):
            each.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ)
        self.selector.register(self.wake_read, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler is needed for the wake-up to be written
        signal.set_wakeup_fd(self.wake_write.fileno())

    def run(self) -> None:
        while not self._over():
            for key, _ in self.selector.select(self._patience_s()):
                if key.fileobj is self.listener:
                    self._accept()
                elif key.fileobj is self.wake_read:
                    with contextlib.suppress(BlockingIOError):
                        self.wake_read.recv(4096)
                elif key.fd in self.clients:
                    self._read(self.clients[key.fd])
            self._reap()
            self._kill_overdue()

    def close(self) -> None:
        """Close every socket of the server in this process; a child must not hold its siblings' connections."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for client in self.clients.values():
            client.socket.close()
        for each in (self.listener, self.wake_read, self.wake_write, self.selector):
            each.close()

    def _over(self) -> bool:
        if self.clients:
            self.idle_since = time.monotonic()
        idle = time.monotonic() - self.idle_since > self.idle_s
        return (self.owner_left or idle) and not self.trials

    def _patience_s(self) -> float:
        due = [trial.kill_at for trial in self.trials if trial.kill_at is not None]
        return min([1.0, *(max(0.0, at - time.monotonic()) for at in due)])

    # ---- connections --------------------------------------------------------------------------------------

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid() or self.owner_left:
            connection.close()
            return
        connection.setblocking(False)
        self.clients[connection.fileno()] = _Client(connection)
        self.selector.register(connection, selectors.EVENT_READ)

    def _read(self, client: _Client) -> None:
        gone = True
        try:
            while block := client.socket.recv(1 << 16):
                client.received += block
        except BlockingIOError:
            gone = False  # nothing more for now
        except ConnectionError:
            pass
        if gone:  # whatever it had asked for, nobody waits for it
            self._drop(client)
            return
        *lines, client.received = client.received.split(b"\n")
        for line in lines:
            self._obey(client, json.loads(line))

    def _obey(self, client: _Client, message: dict[str, Any]) -> None:
        if "own" in message:
            client.owner = True
        elif "ask" in message:
            self._send(client, {"ready": os.getpid(), "threads": len(os.listdir("/proc/self/task"))})
        elif "run" in message and client.trial is None:
            try:
                self._start(client, message["run"])
            except OSError as error:
                self._send(client, {"refused": f"{type(error).__name__}: {error}"})
                self._drop(client)  # and with it the ranks that did start
        elif "kill" in message and client.trial is not None:
            self._reap()  # what has ended by itself was not killed
            if client.trial is not None and client.trial.pids:
                client.trial.killed = True
                client.trial.kill_at = time.monotonic() + message["grace_s"]
                client.trial.signal(message["kill"])

    def _send(self, client: _Client, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it may have gone; reading will tell
            client.socket.sendall(json.dumps(message).encode() + b"\n")

    def _drop(self, client: _Client) -> None:
        self.selector.unregister(client.socket)
        del self.clients[client.socket.fileno()]
        client.socket.close()
        if client.trial is not None:
            client.trial.signal(signal.SIGKILL)
        if client.owner:
            self.owner_left = True
            for trial in self.trials:
                trial.signal(signal.SIGKILL)

    # ---- trials -----------------------------------------------------------------------------------------------

    def _start(self, client: _Client, request: dict[str, Any]) -> None:
        tmp = tempfile.mkdtemp(prefix=f"trial-{request['number']}-", dir=self.folder)
        trial = _Trial(request, tmp)
        port = _free_port() if request["ranks"] > 1 else 0
        for rank in range(request["ranks"]):
            env = {"TMPDIR": tmp, COOKIE: tmp, **request["launch_env"]}
            env |= _torchrun_env(rank, request["ranks"], port) if port else {}
            pid = os.fork()
            if pid == 0:
                raise _InChild(request, trial.group, env | request["env"])
            if not trial.group:
                trial.group, client.trial = pid, trial
                self.trials.append(trial)
            with contextlib.suppress(OSError):  # the child does the same; whoever is first
                os.setpgid(pid, trial.group)
            trial.pids[pid] = rank
        self._send(client, {"started": list(trial.pids)})

    def _reap(self) -> None:
        """Collect every dead child, orphans that fell to us included."""
        with contextlib.suppress(ChildProcessError):
            while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                trial = next((t for t in self.trials if dead.si_pid in t.pids), None)
                if trial is not None and len(trial.pids) == 1:
                    trial.signal(
                        signal.SIGKILL
                    )  # its workers; while the zombie still keeps the group's number
                _, status = os.waitpid(dead.si_pid, 0)
                if trial is not None:
                    self._ended(trial, dead.si_pid, os.waitstatus_to_exitcode(status))

    def _ended(self, trial: _Trial, pid: int, code: int) -> None:
        rank = trial.pids.pop(pid)
        if code != 0 and trial.code == 0:
            trial.code, trial.rank = code, rank
            if trial.pids:
                trial.signal(signal.SIGKILL)  # the other ranks would wait for this one for ever
        if trial.pids:
            return
        self.trials.remove(trial)
        _kill_strays(trial.tmp)
        shutil.rmtree(trial.tmp, ignore_errors=True)
        for client in [c for c in self.clients.values() if c.trial is trial]:
            client.trial = None
            self._send(client, {"exited": trial.code, "rank": trial.rank, "killed": trial.killed})
            self._drop(client)

    def _kill_overdue(self) -> None:
        for trial in self.trials:
            if trial.kill_at is not None and trial.kill_at <= time.monotonic():
                trial.kill_at = None
                trial.signal(signal.SIGKILL)


def _kill_strays(tmp: str) -> None:
    """Kill what a trial has started outside its group: torchrun gives each worker a session of its own. They are dead
    when it returns, which on a busy machine takes its time, or took longer than `DYING_S`."""
    mark, until, left = f"{COOKIE}={tmp}".encode(), time.monotonic() + DYING_S, True
    while left and time.monotonic() < until:
        left = False
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):  # the dead have none
                    os.kill(int(name), signal.SIGKILL)
                    left = True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _torchrun_env(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What torchrun gives each process of one node."""
    world, mine = str(ranks), str(rank)
    return {
        "RANK": mine,
        "LOCAL_RANK": mine,
        "WORLD_SIZE": world,
        "LOCAL_WORLD_SIZE": world,
        "GROUP_RANK": "0",
        "NODE_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": f"automl-{port}",
    }


# ---- the child ------------------------------------------------------------------------------------------------


def end_with(parent: int) -> None:
    """In a fresh child: let the kernel end it when its `parent` does, however that ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _run_child(child: _InChild, server_pid: int) -> int:
    """Be the trial process: its group, log, environment, threads; then its entry. Returns the exit code."""
    end_with(server_pid)
    with contextlib.suppress(OSError):
        os.setpgid(0, child.group)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")  # short of memory, the kernel should take a trial and leave the driver
    request = child.request
    _redirect(os.path.join(request["trial_dir"], "log.txt"))
    for name in RANK_NAMES:
        os.environ.pop(name, None)  # the driver's own place among processes is not the trial's
    os.environ.update(child.env)
    paths = dict(request["env"]).get("PYTHONPATH", "").split(os.pathsep)
    # PYTHONPATH is read by Python at its start alone
    sys.path[:0] = [path for path in paths if path and path not in sys.path]
    if request["command"]:
        return _execute(request["command"])
    tempfile.tempdir = None  # a path cached before the fork would be everybody's
    if torch := sys.modules.get("torch"):
        # OMP_NUM_THREADS was read when libgomp was loaded, in the server, where it is 1.
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
    faulthandler.enable()
    sys.argv = [request["entry"], request["spec_path"]]
    return _call(request["entry"], request["spec_path"])


def _redirect(log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    os.close(file)
    os.close(null)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _execute(command: list[str]) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would pass that on
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127


def _call(entry: str, spec_path: str) -> int:
    module, _, name = entry.partition(":")
    try:
        getattr(importlib.import_module(module), name)(spec_path)
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException as error:
        code = getattr(error, "exit_code", None)
        if not isinstance(code, int):
            traceback.print_exc()
            return 1
        sys.stdout.flush()
        # One line, so that the log's last line is the whole message.
        print("; ".join(filter(None, map(str.strip, str(error).splitlines()))), file=sys.stderr)
        return code or 1
    return 0


def _leave(code: int) -> NoReturn:
    """End the child as multiprocessing ends its own: waiting for threads, running exit handlers, but not taking
    every imported module apart, which costs a second with torch and Lightning."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


# ---- the process ----------------------------------------------------------------------------------------------


def _preload(modules: list[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise RuntimeError(
            f"one of the modules {modules} initialises CUDA when imported; no fork survives that"
        )
    sys.stdout.flush()  # or each child would write what is still in the buffer to its log
    gc.collect()
    gc.freeze()  # the children's collector would write to, and so copy, every page of it


def _clear_away(folder: str) -> None:
    """Remove the run's temporary files; Ray's processes may write there for some seconds after the driver."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(0.5)


def main() -> None:
    """`argv`: the listening socket's number, the socket's folder, idle_s, the modules to import."""
    number, folder, idle_s, *modules = sys.argv[1:]
    listener = socket.socket(fileno=int(number))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _preload(modules)
    server, server_pid = Server(listener, folder, float(idle_s)), os.getpid()
    child = None
    try:
        server.run()
    except _InChild as fork:
        child = fork
    server.close()
    if child is not None:
        # Out of the except block: an error of the trial must not be told as one that happened "during" another.
        _leave(_run_child(child.with_traceback(None), server_pid))
    if server.owner_left:
        _clear_away(folder)
