"""What a search may still spend, counted in epochs of training.

A running trial is given all the epochs to its end beforehand, and gives back what a pause or a stop saves: so nothing
is begun that cannot end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from automl.metric import counted
from automl.trial_attributes import REFUSED, WHOLE

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl.study import Study

FAILED_SHARE = (
    9  # a failed trial counts as at least so large a part (1 / 9) of a training, or searches would not end
)
BACK = "nothing brought it back: "
SLOWER = 1.05  # epochs to come may take so many times what those so far took


@dataclass(frozen=True)
class Budget:
    """`free`: epochs that nobody has been promised (inf: not limited); what goes on must need no more. `new`: a new
    configuration may be asked for; `whole`: and could run to its end. `missing`: where none may, the epochs that have
    to come free until one may; inf: none will be. `num_epochs`: of a full training; None where nobody knows. `time_s`:
    seconds to go, where it is the time that ends the search; inf: something else does."""

    free: float = math.inf
    new: bool = True
    whole: bool = True
    missing: float = math.inf
    num_epochs: int | None = None
    time_s: float = math.inf

    def why_waiting(self, needed: int, trial: FrozenTrial) -> str:
        """Why a trial that needs so many epochs more was left waiting: else for what it was paused."""
        if self.free < 1:
            return "the budget was used up"
        if needed > self.free:
            return f"the {self.free:.0f} epochs left of the budget would not bring it to its end"
        reason = str(trial.user_attrs.get("reason", ""))
        return BACK + reason.rpartition(BACK)[2]  # a driver may have died telling it


@dataclass(frozen=True)
class Time:
    """What is left of the time: `seconds`, in which at the pace so far one training gets through so many `epochs`, all
    that run side by side through `total`."""

    seconds: float
    epochs: float
    total: float

    @classmethod
    def of(cls, seconds: float, used_s: float, done: int, at_a_time: int) -> Time:
        """`done`: epochs trained in the `used_s` before, by so many at a time."""
        total = seconds * done / max(SLOWER * used_s, 1e-9)
        return cls(seconds, total / max(1, at_a_time), total)


@dataclass(frozen=True)
class Limits:
    """What was asked for. `trials`: configurations, each with the epochs of a full training, of which those that are
    saved go to paused ones; `trainings`: epochs of so many full trainings, and nothing that cannot end is begun;
    `epochs`: so many, the last training cut short where they end."""

    trials: int | None = None
    trainings: int | None = None
    epochs: int | None = None

    def used_up(self, study: Study, num_epochs: int | None) -> str:
        """Which of them keep a new training from being begun."""
        asked, said = _asked(study), []
        if self.trials is not None and asked >= self.trials:
            said.append(
                f"{counted(asked, 'trial')} {'is' if asked == 1 else 'are'} there, and --trials is {self.trials}"
            )
        if self.trainings is not None:
            used = f"{study.epochs_trained} are used"
            total = (
                f" is {counted(self.trainings * num_epochs, 'epoch')}, of which {used}" if num_epochs else ""
            )
            said.append(f"--trainings {self.trainings}{total}")
        return "; ".join(said) or "the budget is used up"

    def left(
        self, study: Study, num_epochs: int | None, time: Time | None = None,
        lengths: Mapping[int, int | None] = MappingProxyType({}),
    ) -> Budget:  # fmt: skip
        """`num_epochs` of a full training, `lengths` of trials that have others; `time`: None where it is not limited
        or the pace not known yet."""
        asked, whole = _asked(study), num_epochs or math.inf
        if num_epochs is None:
            most = min((n for n in (self.trials, self.trainings) if n is not None), default=math.inf)
            return Budget(new=asked < most)
        spent = _spent(study, num_epochs, lengths)
        free, new = math.inf, True
        if self.trials is not None:
            new = asked < self.trials
            free = num_epochs * min(self.trials, max(asked, 1)) - spent if asked else 0.0
        whole_ones = _less(_times(self.trainings, num_epochs), spent)
        room = min(whole_ones, math.inf if time is None else time.epochs)
        rest = _less(self.epochs, spent)  # the last training is cut short there
        # What runs beside may use them up.
        missing = whole - room if new and room == whole_ones < whole and rest > 0 else math.inf
        new = new and ((room >= whole and rest > 0) or not asked)
        counted = min(_less(_times(self.trials, num_epochs), spent), whole_ones, rest)
        time_s = time.seconds if time is not None and time.total <= counted else math.inf
        return Budget(min(free, room, rest), new, min(room, rest) >= whole, missing, num_epochs, time_s)


def _times(count: int | None, num_epochs: int) -> int | None:
    """The epochs of so many trainings."""
    return None if count is None else count * num_epochs


def _less(total: float | None, used: float) -> float:
    """What is left of a limit; infinite where there is none."""
    return math.inf if total is None else total - used


def bound(study: Study, number: int, epoch: int, num_epochs: int | None) -> None:
    """Count no epoch for a line beyond the last epoch of a trial's training: with a trainer that counts from 1, each
    trial would else use up one epoch more than it trains."""
    if num_epochs and epoch >= num_epochs and study.frozen(number).user_attrs.get(WHOLE) != num_epochs:
        before = study.epochs_of(number)
        study.note(number, **{WHOLE: num_epochs})
        study.epochs_trained += study.epochs_of(number) - before


def ended_since_best(study: Study, num_epochs: int | None) -> float:
    """How many trials have ended since the last one that is the best, or on the front, itself among them; of a later
    one that waits, the share of a full training of `num_epochs` that it was given."""
    ended = [t for t in study.trials() if t.state.is_finished() and not t.user_attrs.get(REFUSED)]
    ended.sort(key=lambda t: (t.datetime_complete, t.number))
    places = {t.number: place for place, t in enumerate(ended)}
    holders = study.holders()
    if not holders or not all(number in places for number in holders):
        return 0.0
    last, whole = max(places[number] for number in holders), num_epochs or math.inf
    waiting = (n for n in study.paused() if _began_after(study.frozen(n), ended[last]))
    return len(ended) - last + sum(min(1.0, study.epochs_of(n) / whole) for n in waiting)


def _began_after(trial: FrozenTrial, ended: FrozenTrial) -> bool:
    begun, end = trial.datetime_start, ended.datetime_complete
    return begun is not None and end is not None and begun > end


def _asked(study: Study) -> int:
    """Configurations asked for that may be trained."""
    return len(study.trials()) - len(study.refused)


def _spent(study: Study, num_epochs: int, lengths: Mapping[int, int | None]) -> int:
    """Epochs trained and promised."""
    least = math.ceil(num_epochs / FAILED_SHARE)
    promised = sum(max(0, (lengths.get(n) or num_epochs) - study.epochs_of(n)) for n in study.going)
    failed = sum(count * max(0, least - done) for done, count in study.failed_after.items())
    return study.epochs_trained + promised + failed
