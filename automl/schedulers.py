"""Schedulers by name: what stops a trial before its last epoch. Each is a pure function of the learning curves
in the storage, so nothing is lost when the driver dies.

A curve is {epoch (0-based): metric}; a trial's worth at an epoch is its best metric up to then. Higher is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from automl.errors import UserError, did_you_mean

Curve = Mapping[int, float]


def never(epoch: int, curve: Curve, others: Sequence[Curve], num_epochs: int) -> str | None:
    """Let every trial run to its end."""
    return None


def successive_halving(epoch: int, curve: Curve, others: Sequence[Curve], num_epochs: int) -> str | None:
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934) with reduction factor 3: at a third
    and a ninth of the epochs a trial goes on only while it is among the best third of those that got there.

    A tie with the last that may go on is no reason to stop: early in a training every metric can still be 0.
    """
    if epoch not in rungs(num_epochs):
        return None
    mine = best_until(curve, epoch)
    there = sorted((best_until(o, epoch) for o in others if max(o, default=-1) >= epoch), reverse=True)
    rank = sum(value > mine for value in there)
    allowed = max(1, (len(there) + 1) // ETA)
    if rank < allowed:
        return None
    return f"{mine:.4f} at epoch {epoch + 1} is rank {rank + 1} of {len(there) + 1}; the best {allowed} go on"


def median(epoch: int, curve: Curve, others: Sequence[Curve], num_epochs: int) -> str | None:
    """Stop below the median of what at least three others had reached by the same epoch (Golovin et al. 2017,
    Vizier), from a third of the epochs on."""
    there = sorted(best_until(o, epoch) for o in others if max(o, default=-1) >= epoch)
    if len(there) < 3 or epoch + 1 < num_epochs / 3 or epoch + 1 >= num_epochs:
        return None
    middle = there[len(there) // 2]
    mine = best_until(curve, epoch)
    return f"{mine:.4f} at epoch {epoch + 1} is below the median {middle:.4f}" if mine < middle else None


ETA = 3
Scheduler = Callable[[int, Curve, Sequence[Curve], int], str | None]
SCHEDULERS: dict[str, Scheduler] = {"halving": successive_halving, "median": median, "none": never}


def rungs(num_epochs: int) -> list[int]:
    """The 0-based epochs at which successive halving compares: a ninth and a third of them, rounded up."""
    return sorted({math.ceil(num_epochs / ETA**k) - 1 for k in (1, 2)} - {num_epochs - 1})


def best_until(curve: Curve, epoch: int) -> float:
    """The best metric up to and including an epoch; -inf when there is none."""
    return max((value for at, value in curve.items() if at <= epoch), default=float("-inf"))


def make(name: str) -> Scheduler:
    """A scheduler by name. Raises `UserError` for an unknown one."""
    if name not in SCHEDULERS:
        raise UserError(
            f"--scheduler must be one of {', '.join(SCHEDULERS)}, but got '{name}'{did_you_mean(name, SCHEDULERS)}"
        )
    return SCHEDULERS[name]
