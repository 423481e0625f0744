"""Schedulers by name: what stops or pauses a trial before its last epoch, and which paused one goes on.

A scheduler is asked with a `View` of the study and keeps nothing, so nothing is lost when the driver dies. A new one
is a class here, or in any package under the entry point group `automl.schedulers`, and its line in `SCHEDULERS`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from automl.errors import UserError
from automl.roles import build
from automl.scheduling import Scheduler, Verdict, View

ETA = 3


class Unhurried(Scheduler):
    """Lets every trial run to its end."""

    several: ClassVar[bool] = True


class Halving(Scheduler):
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934) with reduction factor 3: at a third
    and a ninth of the epochs a trial goes on only while it is among the best third of those that got there.

    A tie with the last that may go on is no reason to stop: early in a training every metric can still be 0.
    """

    action: ClassVar[str] = "stop"
    several: ClassVar[bool] = True

    def decide(self, view: View, number: int, epoch: int, num_epochs: int) -> Verdict | None:
        before = max((e for e in view.trials[number].intermediate_values if e < epoch), default=-1)
        if not any(before < rung <= epoch for rung in rungs(num_epochs)):  # not every epoch may be measured
            return None
        mine, others = view.standing(number, epoch)
        rank, allowed = sum(value > mine for value in others), _allowed(len(others) + 1)
        if rank < allowed:
            return None
        of = f"rank {rank + 1} of {len(others) + 1}; the best {allowed} go on"
        return Verdict(self.action, f"{view.text(mine)} by epoch {epoch + 1} is {of}")


class PausingHalving(Halving):
    """The same, but a trial that falls behind waits, and goes on when later results put it into the best third."""

    action: ClassVar[str] = "pause"

    def promote(self, view: View) -> int | None:
        for epoch in sorted(set(view.paused.values()), reverse=True):
            there = view.reached.get(epoch, {})
            for number in _best(there) if view.ms is None else sorted(view.paused):
                if view.paused.get(number) == epoch and self._goes_on(view, number, epoch):
                    return number
        return None

    @staticmethod
    def _goes_on(view: View, number: int, epoch: int) -> bool:
        return view.ms is None or number in _best(view.at_most_as_slow(number).reached.get(epoch, {}))


def fgp() -> Scheduler:
    """Freeze-thaw Gaussian process (fgp/): pauses what will hardly become the best, lets go on what promises more for
    its epochs than a new configuration, and names the winner by where the model expects trials to end."""
    from automl.fgp.scheduler import FreezeThaw

    return FreezeThaw()


class Median(Scheduler):
    """Stop below the median of what at least three others had reached by the same epoch (Golovin et al. 2017,
    Vizier), from a third of the epochs on."""

    several: ClassVar[bool] = True

    def decide(self, view: View, number: int, epoch: int, num_epochs: int) -> Verdict | None:
        if epoch + 1 < num_epochs / 3:
            return None
        mine, others = view.standing(number, epoch)
        if len(others) < 3:
            return None
        middle = statistics.median(others)
        if mine >= middle:
            return None
        return Verdict(
            "stop", f"{view.text(mine)} by epoch {epoch + 1} is worse than the median {view.text(middle)}"
        )


SCHEDULERS: dict[str, Callable[..., Scheduler]] = {
    "fgp": fgp,
    "halving": Halving,
    "asha": PausingHalving,
    "median": Median,
    "none": Unhurried,
}


def rungs(num_epochs: int) -> list[int]:
    """The 0-based epochs at which successive halving compares: a ninth and a third of them, rounded up."""
    return sorted({math.ceil(num_epochs / ETA**k) - 1 for k in (1, 2)} - {num_epochs - 1})


def _best(there: Mapping[int, float]) -> list[int]:
    """Those that may go on, best first."""
    return sorted(there, key=lambda number: (-there[number], number))[: _allowed(len(there))]


def _allowed(there: int) -> int:
    return max(1, there // ETA)


def make(text: str, **context: Any) -> Scheduler:
    """A scheduler from "NAME" or "NAME:option=value,...". Raises `UserError` for what it does not take."""
    made = build("--scheduler", text, SCHEDULERS, "automl.schedulers", **context)
    if not isinstance(made, Scheduler):
        raise UserError(
            f"--scheduler {text}: must be an automl.scheduling.Scheduler, but got {type(made).__name__}"
        )
    return made
