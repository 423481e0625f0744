"""What is said of ranges that a search has left: see fgp/cube.py for when it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automl.space.leaf import short
from automl.trial_attributes import WIDENED

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def widened_text(number: int, ranges: Mapping[str, Sequence[Any]]) -> str:
    """The note for one trial."""
    where = ", ".join(f"{name} may be {short(low)} .. {short(high)}" for name, (low, high) in ranges.items())
    return f"the best trials lie at the end of a range: from trial {number} on, {where}"


def widened(trials: Sequence[FrozenTrial]) -> Iterator[tuple[int, Mapping[str, Sequence[Any]]]]:
    """(number, ranges) of each trial of a study for which ranges were widened, in their order."""
    for trial in trials:
        if ranges := trial.user_attrs.get(WIDENED):
            yield trial.number, ranges


def widenings(trials: Sequence[FrozenTrial]) -> list[str]:
    """One note for each trial for which ranges were widened."""
    return [widened_text(number, ranges) for number, ranges in widened(trials)]
