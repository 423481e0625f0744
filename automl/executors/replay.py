"""Recorded learning curves on a virtual clock: a search of hours in milliseconds, to test schedulers and budgets."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from automl.errors import AutoMLError
from automl.executors.base import DEADLINE, FINISHED, Decision, Driver, Executor, Exit, TrialJob

Curve = Sequence["dict[str, Any] | Exit"]


class ReplayExecutor(Executor):
    """Plays `curves(job)`, records with `elapsed_s` (seconds since the trial's start, not falling), on `concurrency`
    slots. A curve may end with the `Exit` to report, at the time of its last record; else it has finished.

    `now_s` is the virtual time; give a driver `lambda: executor.now_s` as its clock.
    """

    def __init__(self, curves: Callable[[TrialJob], Curve], concurrency: int = 1) -> None:
        self.curves, self.concurrency = curves, concurrency
        self.now_s = 0.0

    def run(self, driver: Driver) -> None:
        """Raises `AutoMLError` when the driver waits although nothing runs: virtual time would stand still."""
        events: list[tuple[float, int, int, dict[str, Any] | Exit]] = []  # (time, tie-break, trial, event)
        order = itertools.count()
        running: set[int] = set()
        while True:
            if driver.deadline_passed():
                for number in sorted(running):
                    driver.on_exit(number, Exit(None, DEADLINE))
                return
            while len(running) < self.concurrency and (job := driver.next_job()) is not None:
                running.add(job.number)
                for at_s, event in self._timed(job):
                    heapq.heappush(events, (at_s, next(order), job.number, event))
            if not running:
                if driver.finished():
                    return
                raise AutoMLError("the driver has no job, is not finished and waits for nothing that runs")
            self.now_s, _, number, event = heapq.heappop(events)
            if driver.deadline_passed():
                continue  # it would have come too late
            if isinstance(event, Exit):
                running.discard(number)
                driver.on_exit(number, event)
            elif (decision := driver.on_record(number, event)) is not Decision.CONTINUE:
                events = [each for each in events if each[2] != number]
                heapq.heapify(events)
                running.discard(number)
                driver.on_exit(number, Exit(None, decision.value))

    def _timed(self, job: TrialJob) -> list[tuple[float, dict[str, Any] | Exit]]:
        """The curve with times on the virtual clock, its exit included."""
        timed: list[tuple[float, dict[str, Any] | Exit]] = []
        at_s = self.now_s
        for event in self.curves(job):
            if not isinstance(event, Exit):
                at_s = self.now_s + float(event["elapsed_s"])
            timed.append((at_s, event))
        if not timed or not isinstance(timed[-1][1], Exit):
            timed.append((at_s, Exit(0, FINISHED)))
        return timed
