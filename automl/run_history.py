"""What each start of a run had: versions and machine, and which of them trained what.

run.json's `versions` and `machine` are those that the run began with, when it `begun`; `starts` are the later ones that
had others than the one before. They are numbered from 0, the begin; a trial's folder says which of them trained it
where it was another (`starts.json`: [epoch that it trained from, number of the start]).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.documents import load_json
from automl.errors import SpecError
from automl.forms import COUNT, fits
from automl.machine import hardware
from automl.provenance import UNKNOWN, versions
from automl.rundir import write_json

if TYPE_CHECKING:
    from automl.plan import Plan

FILE = "starts.json"
MAX_BYTES = 1 << 20
HISTORY = (
    "begun",
    "versions",
    "machine",
    "starts",
    "later_facts",
)  # of run.json: what a resume adds to, or keeps
_FORM = {"type": "array", "items": {"type": "array", "items": COUNT, "minItems": 2, "maxItems": 2}}


def now() -> str:
    """ISO 8601 with seconds and the offset to UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def shown(when: str) -> str:
    """The same as a person reads it."""
    return when[:16].replace("T", " ")


def of(plan: Plan) -> dict[str, Any]:
    """The history of the plan's run; one that has none begins now."""
    if not plan.history:
        plan.history = {"begun": now(), **_had(plan), "starts": []}
    return plan.history


def recorded(document: Mapping[str, Any]) -> dict[str, Any]:
    """The history that run.json tells. An earlier version wrote no `begun`, and at each start its versions anew."""
    found = {name: document[name] for name in HISTORY if name in document}
    return {"versions": {}, "machine": {}, "starts": []} | found


def go_on(plan: Plan) -> None:
    """Note this start of a run that goes on in the plan's history, where it has another machine or other versions; of
    the latter a warning of the plan's tells."""
    history, had = plan.history, _had(plan)
    before = (history, *history["starts"])[-1]
    unknown = "begun" not in history and before is history
    if unknown or any(differing(before[name], had[name]) for name in had):
        history["starts"] = [*history["starts"], {"when": now(), **had}]
    changed = differing(history["versions"], had["versions"]) if history["versions"] else {}
    if changed:
        began = (
            "this run began" if "begun" in history else "this run was last recorded"
        )  # by an earlier version
        then, there = (", ".join(f"{name} {pair[n]}" for name, pair in changed.items()) for n in (0, 1))
        plan.warnings.append(
            f"{began} with {then}, and goes on with {there}; trials of both are compared as if it were one"
        )


def _had(plan: Plan) -> dict[str, Any]:
    return {"versions": versions(plan.bundle.packages), "machine": hardware()}


def differing(then: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{name: (then, there)} of what two mappings have otherwise; "none" where one of them lacks it. What one of them
    does not know is not compared."""
    pairs = {name: (then.get(name, "none"), there.get(name, "none")) for name in {**then, **there}}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and UNKNOWN not in pair}


def told(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(when, what it had otherwise than the one before) of the later starts of a run, in words."""
    found, before = [], recorded(document)
    for start in before["starts"]:
        changed = {
            **differing(before["machine"], start["machine"]),
            **differing(before["versions"], start["versions"]),
        }
        words = ", ".join(f"{name} {there}" for name, (_, there) in changed.items())
        found += [(shown(start["when"]), words)] if words else []
        before = start
    return found


# ---- which of them trained a trial --------------------------------------------------------------------------------


def note(folder: Path, plan: Plan, epoch: int) -> None:
    """Keep in a trial's folder that this start trains it from this epoch on."""
    number, kept = len(of(plan)["starts"]), [pair for pair in _of_trial(folder) or [] if pair[0] < epoch]
    if (kept[-1][1] if kept else 0) != number:
        kept.append([epoch, number])
    write_json(folder / FILE, kept) if kept else (folder / FILE).unlink(missing_ok=True)


def _of_trial(folder: Path) -> list[list[int]] | None:
    """[epoch, number of the start], in order; None where the file says nothing."""
    if not (folder / FILE).is_file():
        return []
    try:
        found = load_json(folder / FILE, MAX_BYTES)
    except (OSError, SpecError):
        return None
    return found if fits(_FORM, found) else None


def trained(plan: Plan, folder: Path, epoch: int) -> dict[str, Any]:
    """Of what a trial's folder holds of an epoch: {"versions": those of the start that trained the epoch, where that is
    known, "earlier_epochs_with": other ones of starts that trained those before it, "handed_over_with": those of
    now, where they are others}."""
    found, there = _versions_of(of(plan), _of_trial(folder), epoch), versions(plan.bundle.packages)
    if not found:
        return {"handed_over_with": there}
    *before, last = found
    others = [each for n, each in enumerate(before) if each != last and each not in before[:n]]
    more = {"earlier_epochs_with": others} if others else {}
    return {"versions": last, **more, **({} if there == last else {"handed_over_with": there})}


def _versions_of(
    history: Mapping[str, Any], pairs: Sequence[Sequence[int]] | None, epoch: int
) -> list[dict[str, Any]]:
    """Of the starts that trained up to an epoch, in order; none where that is not known."""
    if pairs is None:
        return []
    starts = [history, *history["starts"]]
    first = [] if pairs and pairs[0][0] == 0 else [[0, 0]]
    numbers = [number for at, number in (*first, *pairs) if at <= epoch]
    if max(numbers) >= len(starts) or (0 in numbers and "begun" not in history):
        return []
    return [starts[number]["versions"] for number in numbers]
