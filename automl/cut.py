"""Trials that --time or --total-epochs cut: they stay open for a driver with more of it, and the best of all may be one
of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from automl import trial_attributes
from automl.ending import Ending
from automl.metric import first_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl.study import Study

TIME, EPOCHS = Ending("CUT", "the time budget was used up"), Ending("CUT", "the budget of epochs was used up")


def is_cut(trial: FrozenTrial) -> bool:
    """Whether a budget cut this trial and no driver has gone on with it since. A paused one is not cut."""
    cut, paused = (trial.user_attrs.get(name) for name in (trial_attributes.CUT, trial_attributes.PAUSED))
    return trial.state.name == "RUNNING" and bool(cut) and (paused is None or paused < 0)


def for_good(study: Study, number: int, goes_on_at: int, first: int) -> Ending | None:
    """How a trial ends that was cut and has no checkpoint to go on from: trained from nothing again it would
    use up what others need. None for one that goes on, and for the `first`, which all is compared with."""
    if goes_on_at or number == first or not is_cut(study.frozen(number)):
        return None
    best = study.best()
    why = "was cut where the budget ended, and cannot go on without a checkpoint"
    return Ending("COMPLETE" if best is not None and best.number == number else "PRUNED", why)


def text(trials: Sequence[FrozenTrial]) -> str:
    """What to say of them; "" without any."""
    numbers = [str(trial.number) for trial in trials if is_cut(trial)]
    if not numbers:
        return ""
    cut, those = ("trials {} were", "them") if numbers[1:] else ("trial {} was", "it")
    which = cut.format(first_of(numbers))
    return f"{which} cut where the budget ended: resumed with a larger one, the run goes on with {those}"
