"""What an executor is, and the small things it trades with the driver: a job, its records, its exit.

The driver (study and scheduler) decides; the executor starts, watches and stops trials. `Executor.run` calls the
driver back from one thread, so a driver needs no locks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

FINISHED = "finished"
STOPPED = "stopped"
PAUSED = "paused"
MAX_STARTS = 2  # a crashed training is started once more, from its last checkpoint
MAX_LOSSES = 10  # one that lost the process that had started it, so often
DEADLINE = "stopped: the time budget is used up"
OUT_OF_MEMORY = "out of memory"
OUT_OF_MEMORY_CODE = 4  # how a trainer says so; CUDA's own words in a log's last line count too
NO_SPACE = ("no space left", "disk quota exceeded")  # the operating system's words, in a log's last line
BROKEN = "metrics.jsonl is broken"  # the launcher's words
ROUNDING = 1e-6  # in sums of shares


def trials_on(gpus: int, each: float) -> int:
    """How many trials so many GPUs hold, of which each takes `each`; a share of one never spans two."""
    return gpus * int(1 / each + ROUNDING) if each < 1 else int(gpus // each)


class Decision(Enum):
    """What the driver wants of a trial after a record. STOP and PAUSE end its processes and it gets no more records;
    a paused trial may be handed out again later, as a job that goes on from a checkpoint."""

    CONTINUE = "continue"
    STOP = STOPPED
    PAUSE = PAUSED


@dataclass(frozen=True)
class Beat:
    """What a trial said in its file `heartbeat`: finite numbers by name (epoch, step, loss, eta_s...)."""

    reading: dict[str, float]


@dataclass(frozen=True)
class TrialJob:
    """One training to run. Exactly one of `entry` and `command` is set.

    `entry` is `"package.module:function"`, called as `function(spec_path)` in a forked, preloaded child; `command`
    is an argument vector in which `{spec}` stands for the spec's path. `ranks` processes run together (torchrun's
    variables when more than one) on `num_gpus` GPUs (0: none is visible; below 1: a share of one) and `cpus` cores in
    all. `silence_timeout_s`: kill when none of metrics.jsonl, log.txt, status.json and heartbeat has changed for so
    long; three times its longest epoch, where that is more, for a trial that writes no heartbeat. `env` wins over
    every variable the launcher sets. Raises `ValueError` for a job that contradicts itself.
    """

    number: int
    trial_dir: str
    spec_path: str
    entry: str = ""
    command: tuple[str, ...] = ()
    num_gpus: float = 0
    cpus: float = 1
    ranks: int = 1
    silence_timeout_s: float | None = None
    env: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if bool(self.entry) == bool(self.command):
            raise ValueError(
                f"a job has either an entry or a command, got {self.entry!r} and {self.command!r}"
            )
        if self.entry.count(":") != (1 if self.entry else 0):
            raise ValueError(f"entry must read 'package.module:function', got {self.entry!r}")
        if self.ranks < 1 or self.num_gpus < 0 or self.cpus <= 0:
            raise ValueError(
                f"need ranks >= 1, num_gpus >= 0, cpus > 0; got {self.ranks}, {self.num_gpus}, {self.cpus}"
            )
        if self.num_gpus % 1 and self.num_gpus > 1:
            raise ValueError(f"num_gpus must be a whole number or a share below 1, got {self.num_gpus}")


@dataclass(frozen=True)
class Exit:
    """How a trial ended. `code`: its own exit code, negative for a signal that came from elsewhere; None when it did
    not end by itself (stopped, silent, never started, lost with its machine). `reason` is for people. `lost`: the
    process that had started it is gone, which is no fault of the trial's."""

    code: int | None
    reason: str
    lost: bool = False

    @property
    def finished(self) -> bool:
        """The training ran to its own end."""
        return self.code == 0

    @property
    def stopped(self) -> bool:
        """The driver's decision ended it (a scheduler's stop, the deadline)."""
        return self.reason.startswith(STOPPED)

    @property
    def out_of_memory(self) -> bool:
        """It would run out of memory again: not to be started unchanged."""
        return self.reason.startswith(OUT_OF_MEMORY)

    @property
    def out_of_space(self) -> bool:
        """A disk had no room left for it: no fault of its own."""
        return any(word in self.reason.lower() for word in NO_SPACE)

    @property
    def worth_another_try(self) -> bool:
        """Not for a user's mistake, for what would run out of memory again, nor for records that nobody can read."""
        return self.code != 2 and not self.out_of_memory and BROKEN not in self.reason


Event = dict[str, Any] | Beat | Exit  # a trial's news: one of its records, a beat, at the very end its exit


class Driver(Protocol):
    """Decides what runs. All methods are called from the thread that called `Executor.run`."""

    def next_job(self) -> TrialJob | None:
        """A job to start now, or None when there is none now. Asked only when there is room for one more."""

    def finished(self) -> bool:
        """No more jobs will ever come; running ones may go on."""

    def on_record(self, number: int, record: dict[str, Any]) -> Decision:
        """One line of the trial's metrics.jsonl, in order."""

    def on_progress(self, number: int, reading: dict[str, float]) -> None:
        """Where a trial stands within an epoch, every few seconds, from trainers that say so (see `Beat`)."""

    def on_exit(self, number: int, exit: Exit) -> None:
        """The trial's processes are gone. Exactly once per job, after its last record."""

    def deadline_passed(self) -> bool:
        """True stops everything now."""


def deliver(driver: Driver, number: int, event: dict[str, Any] | Beat) -> Decision:
    """Hand a trial's news, other than its exit, to the driver."""
    if not isinstance(event, Beat):
        return driver.on_record(number, event)
    driver.on_progress(number, event.reading)
    return Decision.CONTINUE


class Executor(ABC):
    """Runs a driver's jobs, several at a time."""

    @abstractmethod
    def run(self, driver: Driver) -> None:
        """Run jobs until the driver has finished and nothing runs, or its deadline has passed.

        At the deadline every trial is stopped and reported with reason "stopped: ...". When `run` raises instead
        (the driver's own error, KeyboardInterrupt, no machine fit for a job), the trials are killed and *not*
        reported: their folders hold what they got to, for a resumed run to adopt.
        """

    def close(self) -> None:
        """Let go of what the executor holds (fork server, cluster); kills what still runs. May be called twice."""
        return None
