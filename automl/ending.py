"""Whether a run is at its end, for all who tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.documents import load_json
from automl.errors import UserError
from automl.storage import is_running

if TYPE_CHECKING:
    from automl.study import Study


def unconfirmed(document: Mapping[str, Any], end: Mapping[str, Any]) -> bool:
    """Whether a run was stopped before it had done what `--confirm` asks for."""
    default, winner = end.get("default") or {}, end.get("winner") or {}
    asked = document["searching"] and document["request"].get("confirm") and default
    return bool(asked and default.get("number") != winner.get("number") and not end.get("confirmed"))


def ended(root: Path, study: Study | None, running: bool | None = None) -> dict[str, Any] | None:
    """outcome.json of a run that is at its end; None where a driver is at work, trials are not at their end or came
    after the winner was handed over. `running`: whether a driver is at work, None: to be found out."""
    trials = study.trials() if study else []
    running = is_running(root) if running is None else running
    if running or not trials or any(trial.state.name == "RUNNING" for trial in trials):
        return None
    try:
        outcome = load_json(root / "outcome.json", 1 << 24)
        known = outcome.get("trials") or len(trials)  # earlier versions do not say
        return outcome | {"trials": known} if known == len(trials) else None
    except (OSError, UserError, AttributeError):
        return None
