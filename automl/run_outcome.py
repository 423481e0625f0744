"""How a run ended, as outcome.json tells it, and whether it is at its end, for all who tell of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import provenance
from automl.cut import is_cut
from automl.documents import load_json
from automl.errors import UserError
from automl.forms import COUNT, TEXT, TEXT_OR_NULL, fits
from automl.locks import is_running
from automl.metric import Metric, figure
from automl.programs import command
from automl.rundir import RunDir

if TYPE_CHECKING:
    from automl.study import Study, TrialResult

FILE, LARGEST = "outcome.json", 1 << 24  # bytes

_TEXTS = {"type": "array", "items": TEXT}
_SEEDS = {
    "type": "array", "minItems": 3, "maxItems": 3,
    "prefixItems": [{"type": "integer"}, {"type": "number"}, {"type": "number"}],
}  # fmt: skip
_BEST = {
    "type": ["object", "null"],
    "required": ["number"],
    "properties": {"number": COUNT, "epoch": COUNT, "value": {"type": "number"}},
}
_STAGE = {
    "type": "object",
    "required": ["name", "message", "metrics"],
    "properties": {
        "name": TEXT,
        "ok": {"type": "boolean"},
        "message": TEXT,
        "command": TEXT,
        "metrics": {"type": "object"},
        "shows": _TEXTS,
        "lower": _TEXTS,
        "failed": {"type": "boolean"},
        "report": TEXT,
    },
}
_CONFIRMED = {
    "type": ["object", "null"],
    "properties": {
        "seen": {"type": "number"},
        "pairs": {"type": "array", "items": _SEEDS},
        "failed": _TEXTS,
        "cut": {"type": "boolean"},
    },
    "additionalProperties": False,
}
_FORM = {
    "type": "object",
    "required": ["stages"],
    "properties": {
        "root": TEXT,
        "winner": _BEST,
        "default": _BEST,
        "stages": {"type": "array", "items": _STAGE},
        "next": TEXT,
        "warning": TEXT_OR_NULL,
        "confirmed": _CONFIRMED,
        "trials": COUNT,
        "epochs": COUNT,
    },
}


def read(root: Path) -> dict[str, Any]:
    """outcome.json of a run; empty while there is none. Raises `UserError` for one that is not of its form."""
    path = root / FILE
    found: Any = None
    try:
        found = load_json(path, LARGEST)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UserError:
        pass
    if not fits(_FORM, found):
        raise UserError(f"{path}: is damaged; {command('resume', root)} writes it again")
    return dict(found)


def unconfirmed(document: Mapping[str, Any], end: Mapping[str, Any]) -> bool:
    """Whether a run was stopped before it had done what `--confirm` asks for."""
    default, winner = end.get("default") or {}, end.get("winner") or {}
    asked = document["searching"] and document["request"].get("confirm") and default
    if not default.get("complete", True):
        return False  # there is nothing to confirm over it
    return bool(asked and default.get("number") != winner.get("number") and not end.get("confirmed"))


def at_end(root: Path, outcome: Mapping[str, Any], study: Study | None, running: bool) -> bool:
    """Whether `outcome`, of outcome.json, is that of a run at its end: no driver is at work (`running`), trials are at
    theirs and did not come after the winner was handed over, and all of it is there."""
    trials = study.trials() if study else []
    going = any(trial.state.name == "RUNNING" and not is_cut(trial) for trial in trials)
    if running or not outcome or not trials or going:
        return False
    known = outcome.get("trials") or len(trials)  # earlier versions do not say
    handed, winner = provenance.read(RunDir(root).best), outcome.get("winner")
    there = not winner or (provenance.is_whole(handed) and handed.get("trial") == winner["number"])
    # What was cut when it was handed over may have gone on since.
    grown = study is not None and study.epochs_trained > outcome.get("epochs", math.inf)
    return bool(known == len(trials) and there and not grown)


def ended(root: Path, study: Study | None) -> dict[str, Any] | None:
    """outcome.json of a run that is at its end, else None."""
    try:
        outcome = read(root)
    except UserError:
        return None  # it is written again when the run goes on
    if study is None or not at_end(root, outcome, study, is_running(root)):
        return None
    return outcome | {"trials": len(study.trials())}


def outdone(study: Study, metric: Metric, winner: TrialResult) -> str | None:
    """What to say where another trial measured better than the winner: one that ended and was not named, or one that
    was not trained to its end. None where no other did, and where latency counts beside the metric."""
    better = [b for b in study.ranked() if metric.better(b.value, winner.value)]
    if study.several or not better:
        return None
    first = better[0]
    text = f"trial {first.number} measured {figure(first.value)} at epoch {first.epoch + 1}"
    if not first.complete:
        going = study.state(first.number) == "RUNNING"  # what it once waited for is over
        why = "" if going else study.frozen(first.number).user_attrs.get("reason")
        return f"{text}, and has not been trained to its end{f': {why}' if why else ''}"
    if study.named_winner() != winner.number:
        return None  # what was handed over in its place is told as such
    return (
        f"{text}; trial {winner.number} is named, which by all that was measured of it and the others is expected to "
        "be better (--scheduler none goes by what was measured)"
    )
