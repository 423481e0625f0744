"""Trials on this machine, without Ray: one loop that looks at every running trial twenty times a second, and when one
ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from automl.errors import UserError
from automl.executors.base import DEADLINE, ROUNDING, Decision, Driver, Executor, Exit, TrialJob, deliver
from automl.launcher import POLL_S, ForkServer, TrialProcess, start_fork_server, wait_for_an_end
from automl.metric import counted


class LocalExecutor(Executor):
    """Up to `concurrency` trials at a time, each on GPUs of its own from `gpus` (ids for CUDA_VISIBLE_DEVICES), or on a
    share of one.

    The fork server starts importing the modules `preload` when the executor is made, so make it early; `say` is told
    while they are waited for.
    """

    def __init__(
        self,
        concurrency: int = 1,
        gpus: Sequence[int | str] = (),
        preload: Sequence[str] = (),
        say: Callable[[str], Any] = lambda text: None,
    ) -> None:
        if concurrency < 1:
            raise UserError(f"concurrency must be at least 1, got {concurrency}")
        self.concurrency = concurrency
        self.gpus, self.say = list(gpus), say
        self._server = start_fork_server(preload)

    def run(self, driver: Driver) -> None:
        self._server.wait_ready(say=self.say)
        loop = _Loop(driver, self._server, self.concurrency, self.gpus)
        try:
            while loop.step():
                wait_for_an_end(loop.running.values(), POLL_S)
        finally:
            loop.close()

    def close(self) -> None:
        self._server.close()


class _Loop:
    """The state of one `run`."""

    def __init__(self, driver: Driver, server: ForkServer, slots: int, gpus: Sequence[int | str]) -> None:
        self.driver, self.server, self.slots = driver, server, slots
        self.free: dict[int | str, float] = dict.fromkeys(gpus, 1.0)  # share of each GPU that no trial has
        self.running: dict[int, TrialProcess] = {}
        self.gpus_of: dict[int, list[int | str]] = {}
        self.stopped: set[int] = set()  # told to stop by the driver; it wants no more records of them
        self.waiting: TrialJob | None = None  # for GPUs
        self.ending = False

    def step(self) -> bool:
        """Look at everything once; False when there is nothing left to do."""
        for number in list(self.running):
            self._serve(number)
        if not self.ending and self.driver.deadline_passed():
            self._end_all()
        if not self.ending:
            self._fill()  # last, so that a slot that has just become free does not wait for the next look
        over = self.ending or (self.waiting is None and self.driver.finished())
        return bool(self.running) or not over

    def close(self) -> None:
        for trial in self.running.values():
            trial.close()

    def _fill(self) -> None:
        while len(self.running) < self.slots:
            job = self.waiting or self.driver.next_job()
            self.waiting = None
            if job is None:
                return
            if job.num_gpus > len(self.free):
                raise UserError(
                    f"a trial needs {counted(job.num_gpus, 'GPU')}, but this run may use {len(self.free)}: let a "
                    "trial take fewer, or give the run more"
                )
            gpus = self._take(job.num_gpus)
            if gpus is None:
                self.waiting = job
                return
            self.gpus_of[job.number] = gpus
            self.running[job.number] = TrialProcess(job, self.server, gpus)

    def _take(self, wanted: float) -> list[int | str] | None:
        """GPUs for a job, now taken: whole ones, or a share of the one that is least used; None when there is none."""
        share, count = min(wanted, 1.0), math.ceil(wanted)
        roomiest = sorted(self.free, key=lambda gpu: -self.free[gpu])[:count]
        if any(self.free[gpu] < share - ROUNDING for gpu in roomiest):
            return None
        for gpu in roomiest:
            self.free[gpu] -= share
        return roomiest

    def _give_back(self, job: TrialJob) -> None:
        for gpu in self.gpus_of.pop(job.number):
            self.free[gpu] = min(1.0, self.free[gpu] + min(job.num_gpus, 1.0))

    def _serve(self, number: int) -> None:
        """Hand the trial's news to the driver."""
        trial = self.running[number]
        for event in trial.poll():
            if isinstance(event, Exit):
                del self.running[number]
                self._give_back(trial.job)
                self.stopped.discard(number)
                self.driver.on_exit(number, event)
            elif number not in self.stopped:
                decision = deliver(self.driver, number, event)
                if decision is not Decision.CONTINUE:
                    self.stopped.add(number)
                    trial.kill(decision.value)

    def _end_all(self) -> None:
        self.ending = True
        for trial in self.running.values():
            trial.kill(DEADLINE)
        if self.waiting is not None:
            self.driver.on_exit(self.waiting.number, Exit(None, DEADLINE))
            self.waiting = None
