"""The scheduler of the model in model.py: whom to pause, who goes on, who won."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import ClassVar

import numpy as np

from automl import seeds
from automl.fgp.model import Model
from automl.fgp.settings import SETTINGS
from automl.scheduling import Scheduler, Verdict, View


class FreezeThaw(Scheduler):
    """Pauses a trial that will hardly become the best, at epochs grace * 2^j, and lets the paused one go on that
    promises more for its epochs than a new configuration. Once `ENOUGH` ran to their end, none is paused."""

    several: ClassVar[bool] = True

    def decide(self, view: View, number: int, epoch: int, num_epochs: int) -> Verdict | None:
        curve = view.trials[number].intermediate_values
        before = max((e for e in curve if e < epoch), default=-1) + 1
        view = view.of_length(num_epochs)
        if epoch not in view.reached:
            return None
        model = Model(view, (number, epoch + 1), fresh=False)
        if not _worth_pausing(model, number, epoch + 1):
            return None
        at_rung = any(before < rung <= epoch + 1 for rung in model.rungs)
        if model.by_ends or not at_rung or len(model.valued) < 2:
            return None
        mine = view.text(view.reached[epoch][number])
        if view.resumable and 0 < number <= len(SETTINGS.first) and epoch + 1 <= model.rungs[0]:
            return Verdict("pause", f"{mine} by epoch {epoch + 1}: one of the first draws waits there")
        chance = model.condition().chance(model.runs[number])
        if chance >= SETTINGS.hopeless:
            return None
        of = "" if model.trade is None else " of those at most as slow"
        return Verdict(
            "pause", f"{mine} by epoch {epoch + 1} has a chance of {chance:.0%} to become the best{of}"
        )

    def promote(self, view: View) -> int | None:
        budget = view.budget
        model = Model.of(view) if view.paused else None
        if model is None or not model.knows:
            return None
        new = (budget.new and budget.whole) or _to_come(model)
        if new and len(view.trials) <= len(SETTINGS.first):
            return None
        waiting = [
            run
            for run in map(model.runs.each.__getitem__, sorted(view.paused))
            if run.epochs and not run.failed and 0 < model.epochs - run.epochs <= budget.free
        ]
        if not waiting:
            return None
        least = SETTINGS.worthless
        if new:  # asked for first, as it may change what is to be beaten
            next_one = model.propose(seeds.of_sampler(view.seed, len(view.trials)))
            least = next_one.gain / model.epochs / float(model.pace.cost(next_one.point[None])[0])
        rate = model.rate(waiting)
        best = int(np.argmax(rate))
        return waiting[best].number if rate[best] > least else None

    def winner(self, view: View, among: Collection[int]) -> int | None:
        # What does not fit into curves is no noise of ends, and would let the prior outweigh what was measured.
        model = Model(view).condition(anew=True)
        whole = [run for run in model.valued if run.number in among]
        # Who hands over what has measured worse than the default would have to explain it.
        least = next((run.top for run in whole if run.number == 0), -math.inf)
        whole = [run for run in whole if run.top >= least]
        if (
            len({run.top for run in whole}) < 2
        ):  # equal ones: the model knows no better than the lowest number
            return None
        mean, _ = model.at_end(whole)
        return whole[int(np.argmax(mean))].number


def _worth_pausing(model: Model, number: int, done: int) -> bool:
    """Whether another training could use the epochs that a pause would set free."""
    budget, rest = model.view.budget, model.epochs - done
    needed = (model.epochs - epoch - 1 for other, epoch in model.view.paused.items() if other != number)
    if budget.new or min(needed, default=math.inf) <= budget.free + rest:
        return True
    return budget.missing <= rest + _may_come_free(model, number)


def _to_come(model: Model) -> bool:
    """Whether a new configuration may be asked for once enough of those that run are paused: with as many at a time as
    the budget has trainings, one pause is too little for one."""
    return 0 < model.view.budget.missing <= _may_come_free(model)


def _may_come_free(model: Model, but: int = 0) -> int:
    """The epochs that pauses of those that run at their next rungs would set free, the default and one trial aside."""
    if model.by_ends:
        return 0
    running = (run for run in model.runs.where(model.runs.column("running")) if run.number not in (0, but))
    rungs = (next((rung for rung in model.rungs if rung > run.epochs), model.epochs) for run in running)
    return sum(model.epochs - rung for rung in rungs)
