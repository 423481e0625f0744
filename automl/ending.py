"""How a trial stands and how it ended."""

from __future__ import annotations

from typing import Literal, NamedTuple

# RUNNING, COMPLETE, PRUNED and FAIL are Optuna's. Of those that it calls RUNNING some are PAUSED by the scheduler, CUT
# by a budget, or WAITING for a driver where none runs.
State = Literal["RUNNING", "WAITING", "PAUSED", "CUT", "COMPLETE", "PRUNED", "FAIL"]


class Ending(NamedTuple):
    """What is told of a trial whose processes are gone: COMPLETE, PRUNED or FAIL end it, PAUSED and CUT leave it open;
    `reason` is for people."""

    state: State
    reason: str
