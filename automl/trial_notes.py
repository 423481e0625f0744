"""What a trial's folder says of it for a study whose database is lost: its configuration, what the search noted when
it proposed it, and how it ended or that it waits.

It is a stranger's file as well as ours: what has not this form is as good as not there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.documents import load_json
from automl.ending import State
from automl.errors import SpecError
from automl.fgp import FITTED
from automl.forms import COUNT, fits
from automl.rundir import RunDir, write_text
from automl.trial_attributes import AGAIN, REDRAWN, WIDENED

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

FILE = "trial.json"
OURS = ("spec.yaml", "metrics.jsonl", FILE)
MAX_BYTES = 1_000_000
LONGEST_REASON = 4000  # characters


def _pair_of(form: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": form, "minItems": 2, "maxItems": 2}


_NUMBER = {"type": "number", "minimum": -1e300, "maximum": 1e300}
_THETA = {"type": "number", "minimum": -20, "maximum": 20}
_MS = {"type": "number", "minimum": 0, "maximum": 1e12}
_NOTED = {
    REDRAWN: {
        "type": "object",
        "required": ["count", "fastest_ms", "slowest_ms"],
        "properties": {"count": COUNT, "fastest_ms": _MS, "slowest_ms": _MS},
    },
    WIDENED: {"type": "object", "additionalProperties": _pair_of(_NUMBER)},
    AGAIN: COUNT,
    "seconds": {"type": "number", "minimum": 0, "maximum": 1e9},
    "timed_s": {"type": "number", "minimum": 0, "maximum": 1e9},
    "timed": COUNT,
    "starts": {"type": "array", "items": COUNT, "maxItems": 10_000},
}
_FORM = {
    "type": "object",
    "required": ["number", "params", "state"],
    "properties": {
        "number": COUNT,
        "params": {"type": "object"},
        "noted": {"type": "object", "properties": _NOTED, "additionalProperties": False},
        "fitted": {
            "type": "array", "minItems": 2, "maxItems": 3,
            "prefixItems": [
                COUNT,
                {"type": "array", "items": _THETA},
                {"type": "array", "items": _pair_of({"type": "string"})},
            ],
        },
        "state": {"enum": ["RUNNING", "PAUSED", "COMPLETE", "PRUNED", "FAIL"]},
        "reason": {"type": "string"},
        "paused": COUNT,
        "waited": COUNT,
        "ended": {"type": "number", "minimum": 0, "maximum": 1e11},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """`noted`: user attributes; `system`: system attributes; `paused`: the epoch after which it waits, `waited`: the
    last such epoch, -1 for none; `ended`: when, in seconds since 1970."""

    params: dict[str, Any]
    state: State = "RUNNING"
    reason: str = ""
    paused: int = -1
    waited: int = -1
    ended: float = 0.0
    noted: Mapping[str, Any] = field(default_factory=dict)
    system: Mapping[str, Any] = field(default_factory=dict)


def count(root: Path) -> int:
    """How many trials a run has by their folders: one more than the highest number that has a file of a trial's."""
    folders = RunDir(root).trials().items()
    return max((n + 1 for n, folder in folders if any((folder / name).is_file() for name in OURS)), default=0)


def write(folder: Path, trial: FrozenTrial) -> None:
    """Keep a trial as it now is in the study."""
    attrs, epochs = trial.user_attrs, {}
    for name in ("paused", "waited"):
        if attrs.get(name, -1) >= 0:
            epochs[name] = int(attrs[name])
    waiting = "paused" in epochs and not trial.state.is_finished()
    document: dict[str, Any] = {
        "number": trial.number,
        "params": attrs["params"],
        "state": "PAUSED" if waiting else trial.state.name,
        "reason": attrs.get("reason", ""),
        "noted": {name: attrs[name] for name in _NOTED if name in attrs},
        **epochs,
    }
    if trial.datetime_complete is not None:
        document["ended"] = trial.datetime_complete.timestamp()
    if FITTED in trial.system_attrs:
        document["fitted"] = trial.system_attrs[FITTED]
    if (folder / FILE).is_dir():
        (folder / FILE).rename(folder / f"{FILE}.set_aside_{time.time_ns()}")
    write_text(folder / FILE, json.dumps(document) + "\n")


def read(folder: Path, number: int) -> Kept | None:
    """What `write` kept of trial `number`; None where there is nothing of its form."""
    if not (folder / FILE).is_file():  # a pipe of this name would never end
        return None
    try:
        found = load_json(folder / FILE, MAX_BYTES)
        json.dumps(found, allow_nan=False)  # nan is neither below a minimum nor above a maximum
    except (SpecError, OSError, ValueError):
        return None
    if not fits(_FORM, found) or found["number"] != number:
        return None
    noted, system = found.get("noted", {}), {FITTED: found["fitted"]} if "fitted" in found else {}
    goings = len(noted.get("starts", ())) + 1  # each trains at most what there was once more
    strange = noted.get(AGAIN, 0) > goings * (found.get("waited", -1) + 1)
    if strange or (system and found["fitted"][0] > number):
        return None
    reason = "".join(c for c in found.get("reason", "")[:LONGEST_REASON] if c.isprintable() or c in "\n\t")
    paused, waited = int(found.get("paused", -1)), int(found.get("waited", -1))
    return Kept(
        found["params"], found["state"], reason, paused, waited, found.get("ended", 0.0), noted, system
    )
