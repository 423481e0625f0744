"""Whether a run that goes on still has the data that it began with: the model looks at them as it did before the first
trial, and what it finds is compared with what run.json has of then."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from automl import hooks
from automl.errors import UserError
from automl.plan import Plan
from automl.programs import command


def check(plan: Plan, root: Path) -> None:
    """Changes nothing but facts that an earlier version did not record. Raises `UserError` for data with problems, or
    with other facts than those recorded: by the model's `data_changes`, else by the counts that both have."""
    found = _looked_at(plan)
    now = found.get("facts") or {}
    compare = plan.bundle.call("data_changes")
    changed = compare(plan.facts, now) if compare else _other_counts(plan.facts, now)
    if lines := hooks.texts(changed):
        raise UserError(
            f"{root}: the data have changed since this run began:\n{_indented(lines)}\n"
            f"Trials on both cannot be compared. Put the old data back, then {command('resume', root)}; or begin a new "
            f"run on those of now, which --warm-start {root} lets learn from this one"
        )
    if problems := hooks.texts(found.get("problems")):
        raise UserError(
            f"{root}: the data of this run have problems by now; put them back as they were, then "
            f"{command('resume', root)}:\n{_indented(problems)}"
        )
    plan.facts = {**now, **plan.facts}


def _looked_at(plan: Plan) -> dict[str, Any]:
    """What the model's check says of the data that the recorded spec names."""
    inspect = plan.bundle.call("inspect_data")
    if inspect is None:
        return {}
    named = "data" in plan.sources.values()  # the spec was filled in, and says by itself where they are
    with tempfile.TemporaryDirectory(prefix="automl-data-") as folder:
        found = inspect(copy.deepcopy(plan.spec), None if named else plan.request.data, work_dir=Path(folder))
    return hooks.answer(plan.bundle, "inspect_data", found)


def _other_counts(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name, then in before.items():
        there = now.get(name)
        if not (isinstance(then, Mapping) and isinstance(there, Mapping)):
            continue
        for key, count in then.items():
            if type(count) is int and type(there.get(key)) is int and there[key] != count:
                yield f"{name}: {key} was {count} and is {there[key]}"


def _indented(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for text in lines for line in text.splitlines())
