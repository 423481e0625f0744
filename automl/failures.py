"""Whose fault a failure is: the trial's own, or a machine's on which none would go well (a full disk, data that are
gone, a GPU that fell out). Where it is the machine's the run ends for now, and its trials stay open."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from automl import faults, same_data
from automl.errors import AutoMLError
from automl.executors.base import MAX_LOSSES, MAX_STARTS
from automl.metric import counted, first_of
from automl.programs import command
from automl.trial_attributes import DOUBTED

if TYPE_CHECKING:
    from automl.executors.base import Exit
    from automl.plan import Plan
    from automl.rundir import RunDir
    from automl.study import Study

FEW = 3  # so many in a row end a run, before any trial has got through an epoch or where a search ends with them
MANY = 8  # and so many in its middle: spaces in which many a configuration cannot be trained are searched too


def check_machine(exit: Exit, plan: Plan, run: RunDir, count_full: Callable[[], int]) -> None:
    """Raise what ends the run for now where a trial failed for want of room or of the data; it stays RUNNING, and goes
    on with the run. `count_full`: see `faults.check_room`."""
    faults.check_room(exit, run.root, count_full)
    if exit.code and exit.code > 0 and not exit.out_of_memory:
        same_data.check_unchanged(plan, run.root)


def again(number: int, exit: Exit, study: Study, say: Callable[[str], object]) -> bool:
    """Whether a trial is started again after a failure, which is then told."""
    if exit.lost and study.count_retry(number, "lost") < MAX_LOSSES:
        say(f"trial {number} was {exit.reason}; starting it again")
        return True
    if exit.worth_another_try and study.count_retry(number) < MAX_STARTS:
        say(f"trial {number} failed ({exit.reason}); starting it once more")
        return True
    return False


class InARow:
    """Failures before a first epoch, in a row, that are told to nobody yet. They are the trials' own as soon as one
    that began after the first of them gets through an epoch. Without a search there is one training, and whatever it
    failed of may be mended."""

    def __init__(self, study: Study, run: RunDir, searching: bool) -> None:
        self.study, self.run, self.searching = study, run, searching
        self.reasons: dict[int, str] = {}  # number -> why it failed
        self._quiet: set[int] = set()  # trials whose process has reported no epoch
        self._later: set[int] = set()  # those begun since the first of `reasons`

    def begun(self, number: int) -> None:
        """A process of a trial starts."""
        self._quiet.add(number)
        if self.reasons:
            self._later.add(number)

    def got_on(self, number: int) -> dict[int, str]:
        """A trial has reported an epoch; returns the failures that it shows to be the trials' own."""
        self._quiet.discard(number)
        return self.take() if number in self._later else {}

    def take(self) -> dict[int, str]:
        """The failures, number -> reason; the row begins anew."""
        found, self.reasons = self.reasons, {}
        self._later.clear()
        return found

    def add(self, number: int, exit: Exit, reason: str) -> bool:
        """Whether this failure is one of them: any is before something has gone well. One that has ended a run before,
        at the same place, is the trial's."""
        own = number not in self._quiet or exit.out_of_memory or self.study.retries(number, DOUBTED)
        if own and self.searching and self.study.epochs_reported:
            return False
        self.reasons[number] = reason
        return True

    def too_many(self) -> bool:
        """Nothing more is begun."""
        return len(self.reasons) >= (MANY if self.study.epochs_reported else FEW)

    def may_end(self) -> bool:
        """Too few at a search's end to doubt the machine."""
        return self.searching and 0 < len(self.reasons) < FEW and self.study.epochs_reported > 0

    def check_end(self, told: Iterable[str] = ()) -> None:
        """Raise `AutoMLError`, where nothing runs any more, for so many that the machine may be at fault. Its trials
        stay open, and are tried once more with the run. `told`: of failures before."""
        if not self.reasons or self.may_end():
            return
        for number in self.reasons:
            self.study.count_retry(number, DOUBTED)
        several, root = len(self.reasons) > 1, self.run.root
        head, lines = "no trial got through an epoch:", [*told, *self._texts()]
        if self.study.epochs_reported and self.searching:
            in_a_row = "in a row, without an epoch in between" if several else "without another epoch"
            head, lines = f"{counted(len(self.reasons), 'trial')} failed {in_a_row}:", self._texts()
        elif self.study.epochs_reported:
            head = f"the training failed; the best so far is handed over by: {command('best', root)} --export"
        which = "they are" if several else "it is"
        then = f"once that is mended, {which} tried again by: {command('resume', root)}"
        raise AutoMLError("\n".join([head, *lines, then]))

    def _texts(self) -> list[str]:
        """A line for each reason, with the log of the first."""
        by_reason: dict[str, list[int]] = {}
        for number in sorted(self.reasons):
            by_reason.setdefault(self.reasons[number], []).append(number)
        found = []
        for reason, (first, *others) in by_reason.items():
            named = f"; the same of trial{'s' if others[1:] else ''} {first_of([str(n) for n in others])}"
            found.append(self.run.failure(first, reason) + (named if others else ""))
        return found
