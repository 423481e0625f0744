"""Whether a run that goes on still has the data that it began with: the model looks at them as it did before the first
trial, and what it finds is compared with what run.json has of then."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from automl import hooks, spec
from automl.errors import UserError
from automl.plan import Plan
from automl.programs import command
from automl.recorded import has_copies


def check(plan: Plan, root: Path) -> None:
    """Changes nothing but facts that an earlier version did not record. What a run has a copy of, and has changed where
    it came from since, is a warning of the plan's. Raises `UserError` for data with problems, or with other facts than
    those recorded: by the model's `data_changes`, else by the counts that both have."""
    named = "data" in plan.sources.values()  # the spec was filled in, and says by itself where they are
    found = _looked_at(plan, plan.spec, None if named else plan.request.data)
    now = found.get("facts") or {}
    if lines := _changes(plan, now):
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
    if named and (lines := _changed_since_copied(plan)):
        plan.warnings.append(
            f"{plan.request.data} has changed since this run began, which goes on with its copy of then "
            f"({'; '.join(lines)}); a run of its own can have the data of now, and learn from this one by --warm-start "
            f"{root}"
        )


def _changed_since_copied(plan: Plan) -> list[str]:
    """What is another by now in the folder or archive that a run's own copies were made of."""
    data = plan.request.data
    if not data or "://" in data or not Path(data).exists():
        return []
    if not has_copies(plan.bundle, plan.spec, data):
        return []  # what was looked at are these files themselves
    template, unfilled = plan.bundle.template("train"), copy.deepcopy(plan.spec)
    for name, source in plan.sources.items():
        if source == "data":
            spec.put(unfilled, name, copy.deepcopy(spec.get(template, name)))
    try:
        found = _looked_at(plan, unfilled, data)
    except UserError as error:
        return str(error).splitlines()[:1]
    return _changes(plan, found.get("facts") or {}) or hooks.texts(found.get("problems"))[:1]


def _changes(plan: Plan, now: Mapping[str, Any]) -> list[str]:
    compare = plan.bundle.call("data_changes")
    return hooks.texts(compare(plan.facts, now) if compare else _other_counts(plan.facts, now))


def _looked_at(plan: Plan, full: Mapping[str, Any], data: str | None) -> dict[str, Any]:
    """What the model's check says of the data that a spec names, or of those at `data`."""
    inspect = plan.bundle.call("inspect_data")
    if inspect is None:
        return {}
    with tempfile.TemporaryDirectory(prefix="automl-data-") as folder:
        found = inspect(copy.deepcopy(dict(full)), data, work_dir=Path(folder))
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
