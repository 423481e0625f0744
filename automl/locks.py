"""Locks of a run folder: who drives the run, who writes what it hands over."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from automl import faults
from automl.errors import StudyBusy
from automl.programs import command

SAID_S = 10.0  # from one sign of life to the next, of who waits
LOOK_S = 0.5  # a driver that starts waits so long for the lock, which `is_running` may hold for a moment


@contextlib.contextmanager
def alone(lock: Path, busy: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a lock file. The kernel lets go of it when its holder dies, however it dies. Raises `StudyBusy` with the
    words `busy` where another process still has it after `wait_s`."""
    held = FileLock(lock)
    try:
        with faults.told_of(lock.parent):
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.acquire(timeout=wait_s)
    except Timeout:
        raise StudyBusy(busy) from None
    try:
        yield
    finally:
        held.release()


def run_lock(run_root: Path) -> contextlib.AbstractContextManager[None]:
    """Held by the driver of a run. Raises `StudyBusy` while there is another."""
    busy = (
        f"{run_root}: another driver is running it; wait for its end or stop it with Ctrl-C, and see "
        f"{command('status', run_root)}"
    )
    return alone(run_root / "run.lock", busy, LOOK_S)


@contextlib.contextmanager
def handing_over(
    run_root: Path, wait_s: float = 0.0, say: Callable[[str], Any] = lambda text: None
) -> Iterator[None]:
    """Held by whoever writes what a run hands over; the lock lies beside it, as it may move. Raises `StudyBusy` while
    there is another, after `wait_s`, which `say` is told of every ten seconds."""
    lock, place = run_root / "best.lock", run_root / "best"
    busy = f"{place}: another automl deploy, run or resume is at work there; wait for its end"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(alone(lock, busy))
        except StudyBusy:
            if not wait_s:
                raise
            waiting = f"waiting for another automl command, such as deploy, that is at work in {place}"
            _enter(held, partial(alone, lock, busy), wait_s, waiting, say)
        yield


def _enter(
    held: contextlib.ExitStack,
    lock: Callable[[float], Any],
    wait_s: float,
    waiting: str,
    say: Callable[[str], Any],
) -> None:
    """Enter the lock within `wait_s`, by turns of `SAID_S`, and say at each that it is waited for."""
    for turn in range(max(1, math.ceil(wait_s / SAID_S))):
        say(f"{waiting} ({turn * SAID_S:.0f} s)" if turn else waiting)
        with contextlib.suppress(StudyBusy):
            held.enter_context(lock(min(SAID_S, wait_s)))
            return
    held.enter_context(lock(0.0))


def is_running(run_root: Path) -> bool:
    """Whether some driver holds the run's lock right now; asked without writing anything."""
    try:
        lock = os.open(run_root / "run.lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(lock)
    return False
