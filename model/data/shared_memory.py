"""Room in /dev/shm, through which loader processes hand over their batches. Docker gives a container 64 MB of it, which
is one batch of the published sizes; torch drops a batch that finds no room, and the training waits for it for ever."""

from __future__ import annotations

import os
import sys
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, NoReturn

SHM = Path("/dev/shm")
AHEAD = 2  # batches that each process has ready (`DataLoader`'s prefetch_factor)
SPARE = 2  # for the loader of the other split, and trainings beside
BYTES_A_PIXEL = 13  # three float32 and the mask
ADVICE = "give the container more (docker run --shm-size=8g, or --ipc=host), or set dataset.workers=0"


def room() -> float:
    """Bytes free in /dev/shm; none in one that cannot be written; infinite on systems that have none."""
    if not SHM.is_dir():
        return float("inf")
    there = os.statvfs(SHM)
    return 0.0 if there.f_flag & os.ST_RDONLY else float(there.f_bavail * there.f_frsize)


def processes(wanted: int, batch: int, pixels: int, share: float = 1.0) -> int:
    """At most `wanted` loader processes, as many as have room for their batches of so many images of `pixels` each, in
    a `share` of it that this training, or rank, may take."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    own = share * min(room(), sys.maxsize) / (SPARE * ranks)
    return min(wanted, int(own // (AHEAD * BYTES_A_PIXEL * batch * pixels)))


def lacking(wanted: int, here: int) -> str:
    """What to say where fewer processes are `here` than `wanted`; "" else."""
    if here >= wanted:
        return ""
    by = (
        f"{here} of {wanted} processes read images"
        if here
        else "no processes beside it read images, which is slower"
    )
    return f"/dev/shm has {room() / 1e6:.0f} MB free, so that {by}; {ADVICE}"


def end_without_room(worker: int) -> None:
    """Of a loader process, as its `worker_init_fn`: to end where a batch cannot be handed over."""

    def end(error: BaseException, batch: Any) -> NoReturn:
        print(f"error: no batch can be handed over: {error}; {ADVICE}", file=sys.stderr, flush=True)
        os._exit(1)

    Queue._on_queue_feeder_error = staticmethod(end)  # type: ignore[attr-defined]


def loader_ended(error: BaseException) -> str:
    """What to say where a loader process has ended, of torch's error about it; "" of any other."""
    if not (isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")):
        return ""
    why = "the machine's memory was used up" if "Killed" in str(error) else f"/dev/shm has no room ({ADVICE})"
    said = str(error).partition("\n")[0].rstrip(".")
    return f"a process that reads images has ended, as it does where {why}; {said}"
