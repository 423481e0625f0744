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


def at_end(outcome: Mapping[str, Any], study: Study | None, running: bool) -> bool:
    """Whether `outcome`, of outcome.json, is that of a run at its end: no driver is at work (`running`), and trials are
    at theirs and did not come after the winner was handed over."""
    trials = study.trials() if study else []
    if running or not outcome or not trials or any(trial.state.name == "RUNNING" for trial in trials):
        return False
    known = outcome.get("trials") or len(trials)  # earlier versions do not say
    return bool(known == len(trials))


def ended(root: Path, study: Study | None) -> dict[str, Any] | None:
    """outcome.json of a run that is at its end, else None."""
    try:
        outcome = load_json(root / "outcome.json", 1 << 24)
    except (OSError, UserError):
        return None
    if study is None or not isinstance(outcome, dict) or not at_end(outcome, study, is_running(root)):
        return None
    return outcome | {"trials": len(study.trials())}
