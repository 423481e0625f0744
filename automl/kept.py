"""What a trial's folder says of it for a study whose database is lost: its configuration, what the search noted when
it proposed it, and how it ended or that it waits.

It is a stranger's file as well as ours: what has not this form is as good as not there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.documents import load_json
from automl.errors import SpecError
from automl.fgp import FITTED
from automl.pareto import PREDICTED
from automl.rundir import write_text
from automl.widening import WIDENED

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

FILE = "trial.json"
PAUSED = "PAUSED"
MAX_BYTES = 1_000_000


def _pair_of(form: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": form, "minItems": 2, "maxItems": 2}


_NUMBER = {"type": "number", "minimum": -1e300, "maximum": 1e300}
_MS = {"type": "number", "minimum": 0, "maximum": 1e12}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31}
_NOTED = {
    PREDICTED: _MS,
    "redrawn": {
        "type": "object",
        "required": ["count", "fastest_ms", "slowest_ms"],
        "properties": {"count": _COUNT, "fastest_ms": _MS, "slowest_ms": _MS},
    },
    WIDENED: {"type": "object", "additionalProperties": _pair_of(_NUMBER)},
}
_FORM = {
    "type": "object",
    "required": ["number", "params", "state"],
    "properties": {
        "number": _COUNT,
        "params": {"type": "object"},
        "noted": {"type": "object", "properties": _NOTED, "additionalProperties": False},
        "fitted": {
            "type": "array", "minItems": 2, "maxItems": 3,
            "prefixItems": [
                _COUNT,
                {"type": "array", "items": _NUMBER},
                {"type": "array", "items": _pair_of({"type": "string"})},
            ],
        },
        "state": {"enum": ["RUNNING", PAUSED, "COMPLETE", "PRUNED", "FAIL"]},
        "reason": {"type": "string"},
        "paused": _COUNT,
        "elapsed_s": {"type": "number", "minimum": 0, "maximum": 1e10},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """`noted`: user attributes; `system`: system attributes; `paused`: the epoch after which it waits; `elapsed_s`: how
    long the search had run when this was kept."""

    params: dict[str, Any]
    state: str = "RUNNING"
    reason: str = ""
    paused: int = -1
    elapsed_s: float = 0.0
    noted: Mapping[str, Any] = field(default_factory=dict)
    system: Mapping[str, Any] = field(default_factory=dict)


def write(folder: Path, trial: FrozenTrial, elapsed_s: float) -> None:
    """Keep a trial as it now is in the study, and how long that has run."""
    attrs, waits = trial.user_attrs, int(trial.user_attrs.get("paused", -1))
    waiting = waits >= 0 and not trial.state.is_finished()
    document = {
        "number": trial.number,
        "params": attrs["params"],
        "state": PAUSED if waiting else trial.state.name,
        "reason": attrs.get("reason", ""),
        "elapsed_s": elapsed_s,
        "noted": {name: attrs[name] for name in _NOTED if name in attrs},
    }
    if waiting:
        document["paused"] = waits
    if FITTED in trial.system_attrs:
        document["fitted"] = trial.system_attrs[FITTED]
    write_text(folder / FILE, json.dumps(document) + "\n")


def read(folder: Path, number: int) -> Kept | None:
    """What `write` kept of trial `number`; None where there is nothing of its form."""
    import jsonschema

    if not (folder / FILE).is_file():  # a pipe of this name would never end
        return None
    try:
        found = load_json(folder / FILE, MAX_BYTES)
        json.dumps(found, allow_nan=False)  # nan is neither below a minimum nor above a maximum
    except (SpecError, OSError, ValueError):
        return None
    if not jsonschema.Draft202012Validator(_FORM).is_valid(found) or found["number"] != number:
        return None
    noted, system = found.get("noted", {}), {FITTED: found["fitted"]} if "fitted" in found else {}
    if not noted.get(WIDENED, {}).keys() <= found["params"].keys():
        return None
    reason = "".join(letter for letter in found.get("reason", "") if letter.isprintable() or letter in "\n\t")
    waits, elapsed_s = int(found.get("paused", -1)), float(found.get("elapsed_s", 0.0))
    return Kept(found["params"], found["state"], reason, waits, elapsed_s, noted, system)
