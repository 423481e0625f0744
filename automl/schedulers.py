"""Schedulers by name: what stops or pauses a trial before its last epoch, and which paused one goes on.

A scheduler is asked with a `View` of the study and keeps nothing, so nothing is lost when the driver dies. A new one
is a class here, or in any package under the entry point group `automl.schedulers`, and its line in `SCHEDULERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from automl.budget import Budget
from automl.roles import build, check_name

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Curve = Mapping[int, float]  # 0-based epoch -> metric
ETA = 3


@dataclass(frozen=True)
class Verdict:
    """`action`: stop (the trial ends) or pause (it may be promoted later from its checkpoint)."""

    action: str
    reason: str


@dataclass(frozen=True)
class View:
    """The study as samplers and schedulers see it. `reached[epoch][number]`: a trial's best metric up to that epoch, of
    those that got there, turned so that higher is better; `text` gives such a value as the trainer reported it.
    `trials` are Optuna's (values as reported, `user_attrs["params"]`), `sign` times a value is better when higher;
    `earlier` are another run's; `paused`: number -> epoch. `memo` is for what follows from the rest alone, `version`
    differs when the rest does."""

    trials: Sequence[FrozenTrial]
    reached: Mapping[int, Mapping[int, float]]
    paused: Mapping[int, int] = field(default_factory=dict)
    text: Callable[[float], str] = "{:.4f}".format
    space: Any = None
    seed: int = 0
    sign: float = 1.0
    earlier: Sequence[FrozenTrial] = ()
    budget: Budget = field(default_factory=Budget)
    version: int = 0
    memo: MutableMapping[Any, Any] = field(default_factory=dict)

    def of_length(self, num_epochs: int) -> View:
        """The same with the length of a full training told, where it was not."""
        if self.budget.num_epochs:
            return self
        return replace(self, budget=replace(self.budget, num_epochs=num_epochs))

    def standing(self, number: int, epoch: int) -> tuple[float, list[float]]:
        """(the trial's best up to the epoch, the same of all others that got there)."""
        there = self.reached.get(epoch, {})
        return there.get(number, -math.inf), [value for other, value in there.items() if other != number]


class Scheduler:
    """Lets every trial run to its end."""

    def decide(self, view: View, number: int, epoch: int, num_epochs: int) -> Verdict | None:
        """After a trial's epoch (0-based; never its last, never of the default configuration): None to go on."""
        return None

    def promote(self, view: View) -> int | None:
        """The paused trial that goes on now; None for a new configuration instead."""
        return None

    def winner(self, view: View, among: Collection[int]) -> int | None:
        """Which of these COMPLETE trials is handed over, at the end of a search; None: the one with the best value."""
        return None


class Halving(Scheduler):
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934) with reduction factor 3: at a third
    and a ninth of the epochs a trial goes on only while it is among the best third of those that got there.

    A tie with the last that may go on is no reason to stop: early in a training every metric can still be 0.
    """

    action: ClassVar[str] = "stop"

    def decide(self, view: View, number: int, epoch: int, num_epochs: int) -> Verdict | None:
        if epoch not in rungs(num_epochs):
            return None
        mine, others = view.standing(number, epoch)
        rank, allowed = sum(value > mine for value in others), _allowed(len(others) + 1)
        if rank < allowed:
            return None
        of = f"rank {rank + 1} of {len(others) + 1}; the best {allowed} go on"
        return Verdict(self.action, f"{view.text(mine)} at epoch {epoch + 1} is {of}")


class PausingHalving(Halving):
    """The same, but a trial that falls behind waits, and goes on when later results put it into the best third."""

    action: ClassVar[str] = "pause"

    def promote(self, view: View) -> int | None:
        for epoch in sorted(set(view.paused.values()), reverse=True):
            there = view.reached.get(epoch, {})
            best = sorted(there, key=lambda number: (-there[number], number))[: _allowed(len(there))]
            for number in best:
                if view.paused.get(number) == epoch:
                    return number
        return None


def fgp() -> Scheduler:
    """Freeze-thaw Gaussian process (fgp/): pauses what will hardly become the best, lets go on what promises more for
    its epochs than a new configuration, and names the winner by where the model expects trials to end."""
    from automl.fgp.search import FreezeThaw

    return FreezeThaw()


class Median(Scheduler):
    """Stop below the median of what at least three others had reached by the same epoch (Golovin et al. 2017,
    Vizier), from a third of the epochs on."""

    def decide(self, view: View, number: int, epoch: int, num_epochs: int) -> Verdict | None:
        if epoch + 1 < num_epochs / 3:
            return None
        mine, others = view.standing(number, epoch)
        if len(others) < 3:
            return None
        middle = sorted(others)[len(others) // 2]
        if mine >= middle:
            return None
        return Verdict(
            "stop", f"{view.text(mine)} at epoch {epoch + 1} is below the median {view.text(middle)}"
        )


SCHEDULERS: dict[str, Callable[..., Scheduler]] = {
    "fgp": fgp,
    "halving": Halving,
    "asha": PausingHalving,
    "median": Median,
    "none": Scheduler,
}


def rungs(num_epochs: int) -> list[int]:
    """The 0-based epochs at which successive halving compares: a ninth and a third of them, rounded up."""
    return sorted({math.ceil(num_epochs / ETA**k) - 1 for k in (1, 2)} - {num_epochs - 1})


def _allowed(there: int) -> int:
    return max(1, there // ETA)


def check(text: str) -> None:
    """Raises `UserError` when `text` ("NAME" or "NAME:option=value,...") names no scheduler."""
    check_name("--scheduler", text, SCHEDULERS, "automl.schedulers")


def make(text: str, **context: Any) -> Scheduler:
    """A scheduler from "NAME" or "NAME:option=value,...". Raises `UserError` for what it does not take."""
    return build("--scheduler", text, SCHEDULERS, "automl.schedulers", **context)
