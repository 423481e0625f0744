"""The role of a scheduler: what it is shown of a study, and what it may answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from automl.budget import Budget
from automl.metric import figure

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl.latency import Latency

T = TypeVar("T")
Curve = Mapping[int, float]  # 0-based epoch -> metric


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
    `earlier` are another run's; `paused`: number -> epoch; `resumable`: the trial that is decided of could go on.
    `memo` is for what follows from the rest alone, `version` differs when the rest does. `fits`: whether a
    configuration, in real values, may be trained at all; None: any. A sampler that asks saves draws, for what does not
    fit is drawn again. Where the predicted latency is an objective, `ms`: number -> milliseconds, and `latency`
    predicts them; None: it is none."""

    trials: Sequence[FrozenTrial]
    reached: Mapping[int, Mapping[int, float]]
    paused: Mapping[int, int] = field(default_factory=dict)
    text: Callable[[float], str] = figure
    space: Any = None
    seed: int = 0
    sign: float = 1.0
    earlier: Sequence[FrozenTrial] = ()
    budget: Budget = field(default_factory=Budget)
    version: int = 0
    memo: MutableMapping[Any, Any] = field(default_factory=dict)
    resumable: bool = True
    fits: Callable[[Mapping[str, Any]], bool] | None = None
    ms: Mapping[int, float] | None = None
    latency: Latency | None = None

    def kept(self, name: str, key: Any, make: Callable[[], T]) -> T:
        """What `make` made when it was last asked for by this name, where `key` is still the same; else it is made."""
        if self.memo.get(name, (None,))[0] != key:
            self.memo[name] = key, make()
        made: T = self.memo[name][1]
        return made

    def at_most_as_slow(self, number: int) -> View:
        """The same with what trials reached that are predicted at most as slow as this one, itself among them: a faster
        trial is no worse for what slower ones reach. Where latency is no objective, all."""
        if self.ms is None:
            return self
        ms, most = self.ms, self.ms[number]
        kept = {
            epoch: {n: v for n, v in there.items() if ms[n] <= most} for epoch, there in self.reached.items()
        }
        return replace(self, reached=kept)

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
    """Lets every trial run to its end. `several`: may be asked in a search for a metric and latency (`View.ms`): its
    `decide` compares by `reached` alone, which then holds what is at most as slow, and its `promote` heeds `ms`."""

    several: ClassVar[bool] = False

    def decide(self, view: View, number: int, epoch: int, num_epochs: int) -> Verdict | None:
        """After a trial's epoch (0-based; never its last, never of the default configuration): None to go on."""
        return None

    def promote(self, view: View) -> int | None:
        """The paused trial that goes on now; None for a new configuration instead."""
        return None

    def winner(self, view: View, among: Collection[int]) -> int | None:
        """Which of these COMPLETE trials is handed over, at the end of a search; None: the one with the best value."""
        return None
