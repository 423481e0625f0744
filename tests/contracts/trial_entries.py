"""What the trials of the executor tests do. A spec is a JSON file: {"epochs": n, "epoch_s": s, "then": fault}."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn


class BadSpec(Exception):
    exit_code = 2


def train(spec_path: str) -> None:
    """Write `epochs` records, `epoch_s` apart, counting on from what is there; then fall to the fault named."""
    spec = json.loads(Path(spec_path).read_text())
    folder = Path(spec_path).parent
    rank = int(os.environ.get("RANK", "0"))
    (folder / f"pid-{rank}").write_text(str(os.getpid()))
    if spec.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if rank == 0:
        _write_epochs(folder, spec)
    FAULTS[spec.get("then", "end")](folder, rank)


def _write_epochs(folder: Path, spec: dict[str, Any]) -> None:
    metrics = folder / "metrics.jsonl"
    first = len(metrics.read_text().splitlines()) if metrics.exists() else 0
    for epoch in range(first, first + spec["epochs"]):
        time.sleep(spec.get("epoch_s", 0.0))
        with open(metrics, "a") as file:
            file.write(json.dumps({"epoch": epoch, "elapsed_s": time.time()}) + "\n")


def _end(folder: Path, rank: int) -> None:
    print("the end")


def _crash(folder: Path, rank: int) -> NoReturn:
    raise ValueError("boom")


def _user_error(folder: Path, rank: int) -> NoReturn:
    raise BadSpec("2 problems:\n  - lr must be positive\n  - no such file")


def _real_time_signal(folder: Path, rank: int) -> None:
    os.kill(os.getpid(), 40)
    time.sleep(60)


def _sigkill(folder: Path, rank: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(folder: Path, rank: int) -> None:
    time.sleep(3600)


def _freeze(folder: Path, rank: int) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _beat(folder: Path, rank: int) -> None:
    """Three times the silence that is allowed, with something to show all the time."""
    for step in range(30):
        time.sleep(0.1)
        words = {"step": step, "loss": 0.5, "eta_s": None, "text": "[/x]"}
        (folder / "beat.new").write_text(json.dumps(words))
        (folder / "beat.new").replace(folder / "heartbeat")


def _out_of_memory(folder: Path, rank: int) -> NoReturn:
    print("no room for a batch of 8")
    raise SystemExit(4)


def _cuda_out_of_memory(folder: Path, rank: int) -> NoReturn:
    print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.")
    raise SystemExit(1)


def _system_exit(folder: Path, rank: int) -> None:
    raise SystemExit(7)


def _say_goodbye(folder: Path, rank: int) -> None:
    sys.exit("goodbye")


def _half_line(folder: Path, rank: int) -> None:
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"epoch": ')


def _broken_line(folder: Path, rank: int) -> None:
    with open(folder / "metrics.jsonl", "a") as file:
        file.write("nonsense\n")
        file.flush()
        time.sleep(3600)


def _report_env(folder: Path, rank: int) -> None:
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"]
    names += ["NODE_RANK", "GROUP_RANK"]
    names += ["TORCHELASTIC_RUN_ID", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TMPDIR", "WISH"]
    report = {name: os.environ.get(name) for name in names} | {"cwd": os.getcwd(), "argv": sys.argv}
    (folder / f"env-{rank}.json").write_text(json.dumps(report))


def _rank_one_fails(folder: Path, rank: int) -> None:
    if rank == 1:
        while not (folder / "metrics.jsonl").exists():
            time.sleep(0.01)
        time.sleep(0.1)
        raise RuntimeError("rank one is out")
    time.sleep(3600)


def _leave_strays(folder: Path, rank: int) -> None:
    """A child in the trial's group, and one in a session of its own."""
    children = [
        subprocess.Popen(["sleep", "3600"]),
        subprocess.Popen(["sleep", "3600"], start_new_session=True),
    ]
    for index, child in enumerate(children):
        (folder / f"pid-stray{index}").write_text(str(child.pid))


def _strays_and_hang(folder: Path, rank: int) -> None:
    _leave_strays(folder, rank)
    time.sleep(3600)


def _torch_work(folder: Path, rank: int) -> None:
    """A multi-threaded operation and two loading processes, in a child of a server that has imported torch."""
    import torch
    from torch.utils.data import DataLoader

    square = torch.ones(1500, 1500)
    total = float((square @ square).exp().clamp(max=1.0).sum())
    batches = [batch.sum().item() for batch in DataLoader(list(range(8)), batch_size=4, num_workers=2)]
    report = {
        "threads_set": torch.get_num_threads(),
        "threads_seen": len(os.listdir("/proc/self/task")),
        "total": total,
        "batches": batches,
        "python_threads": threading.active_count(),
    }
    (folder / "torch.json").write_text(json.dumps(report))


FAULTS = {
    "end": _end,
    "crash": _crash,
    "user_error": _user_error,
    "sigkill": _sigkill,
    "real_time_signal": _real_time_signal,
    "hang": _hang,
    "freeze": _freeze,
    "beat": _beat,
    "out_of_memory": _out_of_memory,
    "cuda_out_of_memory": _cuda_out_of_memory,
    "system_exit": _system_exit,
    "goodbye": _say_goodbye,
    "half_line": _half_line,
    "broken_line": _broken_line,
    "env": _report_env,
    "rank_one_fails": _rank_one_fails,
    "strays": _leave_strays,
    "strays_and_hang": _strays_and_hang,
    "torch": _torch_work,
}
