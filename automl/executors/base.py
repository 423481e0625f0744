"""What an executor is, and the three small things it trades with the driver: a job, its records, its exit.

The driver (study and scheduler) decides; the executor starts, watches and stops trials. `Executor.run` calls the
driver back from one thread, so a driver needs no locks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

FINISHED = "finished"
STOPPED = "stopped"
DEADLINE = "stopped: the time budget is used up"


@dataclass(frozen=True)
class TrialJob:
    """One training to run. Exactly one of `entry` and `command` is set.

    `entry` is `"package.module:function"`, called as `function(spec_path)` in a forked, preloaded child; `command`
    is an argument vector in which `{spec}` stands for the spec's path. `ranks` processes run together (torchrun's
    variables when more than one) on `num_gpus` GPUs (0: none is visible) and `cpus` cores in all.
    `silence_timeout_s`: kill when neither metrics.jsonl nor log.txt has grown for so long. `env` wins over every
    variable the launcher sets. Raises `ValueError` for a job that contradicts itself.
    """

    number: int
    trial_dir: str
    spec_path: str
    entry: str = ""
    command: tuple[str, ...] = ()
    num_gpus: int = 0
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


@dataclass(frozen=True)
class Exit:
    """How a trial ended. `code`: its own exit code, negative for a signal that came from elsewhere; None when it did
    not end by itself (stopped, silent, never started, lost with its machine). `reason` is for people."""

    code: int | None
    reason: str

    @property
    def finished(self) -> bool:
        """The training ran to its own end."""
        return self.code == 0

    @property
    def stopped(self) -> bool:
        """The driver's decision ended it (a scheduler's stop, the deadline)."""
        return self.reason.startswith(STOPPED)


class Driver(Protocol):
    """Decides what runs. All methods are called from the thread that called `Executor.run`."""

    def next_job(self) -> TrialJob | None:
        """A job to start now, or None when there is none now. Asked only when there is room for one more."""

    def finished(self) -> bool:
        """No more jobs will ever come; running ones may go on."""

    def on_record(self, number: int, record: dict[str, Any]) -> bool:
        """One line of the trial's metrics.jsonl, in order. False stops the trial; it gets no more records."""

    def on_exit(self, number: int, exit: Exit) -> None:
        """The trial's processes are gone. Exactly once per job, after its last record."""

    def deadline_passed(self) -> bool:
        """True stops everything now."""


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
