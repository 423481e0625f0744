"""Trials that the time cut: they stay open for a driver with more of it, and the best of them may be handed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from automl.metric import first_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

CUT = "CUT"  # their state, in a person's words
OFF = CUT, "the time budget was used up"


def is_cut(trial: FrozenTrial) -> bool:
    """Whether the time cut it, and no driver has gone on with it."""
    return trial.state.name == "RUNNING" and bool(trial.user_attrs.get("cut"))


def text(trials: Sequence[FrozenTrial]) -> str:
    """What to say of them; "" without any."""
    numbers = [str(trial.number) for trial in trials if is_cut(trial)]
    if not numbers:
        return ""
    which, those = ("trials", "them") if numbers[1:] else ("trial", "it")
    return f"the time cut {which} {first_of(numbers)}: resumed with a larger --time, the run goes on with {those}"
