"""run.json: what was asked and settled when a run began, and the same plan made of it again.

A resumed run goes by what is recorded, never by what a spec file or a data folder holds by now; what differs is named.
Paths inside the run folder move with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from automl import bundle as bundles
from automl import (
    confirmed,
    hooks,
    latency,
    metric,
    run_history,
    same_data,
    same_model,
    same_spec,
    secret_leaves,
    spec,
)
from automl.errors import UserError
from automl.machine import find_machine
from automl.plan import Plan, compile_for, merge
from automl.programs import command
from automl.request import RunRequest
from automl.run_json import moved
from automl.rundir import RunDir
from automl.space import SearchSpace

SPACE_KEYS = (
    "kind",
    "range",
    "low",
    "high",
    "scale",
    "choices",
    "condition",
)  # of a parameter's record, that decide


def describe(plan: Plan, root: Path, study: str) -> dict[str, Any]:
    """run.json: what was asked, what was settled, what it runs on. `study` is the study's name in the storage, which
    it may share with those of other runs."""
    return {
        "study": study,
        "root": str(root),
        "request": plan.request.to_json(),
        "model": plan.bundle.name,
        "model_reference": plan.bundle.reference,
        "model_state": same_model.state(plan.bundle, root),
        "metric": {"name": plan.metric.name, "maximize": plan.metric.maximize},
        "searching": plan.searching,
        "spec": plan.spec,
        "engine_keys": plan.engine_keys,
        "sources": {k: v for k, v in plan.sources.items() if v != spec.TEMPLATE},
        "filled": plan.filled,
        "reasons": plan.reasons,
        "facts": plan.facts,
        "latency": dict(plan.latency.timed) if plan.latency else None,
        **({} if plan.said is None else {"said": same_spec.otherwise(plan)}),
        "space_digest": plan.space.digest,
        "fixed": dict(plan.space.fixed),
        **run_history.of(plan),
        "space": [parameter.record() for parameter in plan.space.parameters],
    }


def restore(folder: RunDir, changes: Mapping[str, Any], searching: bool = True) -> Plan:
    """The plan of a run that exists, with `changes` to its request; not `searching`: one that only hands over, for
    which the search space may be another by now. Raises `UserError` when the model is no longer there or another, the
    search space is another, or a file that the run needs is gone."""
    if changes.get("executor") == "local":
        changes = {"ray_address": None, **changes}
    document, model, told = _begun(folder, changes)
    told = [*same_model.changes(document, model), *told]
    if data := changes.get("data"):
        document = same_data.follow(document, model, data, folder.root)
    else:
        document, more = same_data.at_hand(document, model, folder.root)
        told += more
    unmoved = {name: value for name, value in changes.items() if name != "data"}
    request = replace(RunRequest.from_json(document["request"]), **unmoved)
    base, facts, sources = document["spec"], document.get("facts", {}), document.get("sources", {})
    space = _space(document, model, request, folder.root, searching)
    hooks.check_spec(model, base)
    confirmed.check(request, model, base, space, document["searching"])
    _check_files(model, base, folder.root, request.data)
    machine, notes = find_machine(request, base, sources, model)
    plan = Plan(
        request=request, bundle=model, searching=document["searching"], spec=base, sources=sources,
        filled=document.get("filled", {}), facts=facts, warnings=[*told, *notes], space=space, machine=machine,
        metric=metric.of_run(document), stages=model.stages_of(request.stages), reasons=document.get("reasons", {}),
        engine_keys=document["engine_keys"], said=document.get("said"),
    )  # fmt: skip
    plan.history = run_history.recorded(document)
    if request.max_latency_ms is not None or request.objectives:
        plan.latency = latency.predicting(request, model, space, base, document.get("latency") or {})
    plan.warnings.extend(_differences(plan))
    return plan


def refusal(folder: RunDir, searching: bool = True) -> str | None:
    """Why `restore` would refuse, as far as the model and the search space say; None where they do not."""
    try:
        document, model, _ = _begun(folder, {})
        _space(document, model, RunRequest.from_json(document["request"]), folder.root, searching)
    except UserError as error:
        return str(error)
    return None


def _begun(
    folder: RunDir, changes: Mapping[str, Any]
) -> tuple[dict[str, Any], bundles.ModelBundle, list[str]]:
    """(run.json for the folder and the model of now, the model, what to say of it). Raises `UserError`."""
    found = folder.read_run()
    reference = found.get("model_reference") or found["request"].get("model")
    there = moved(reference, found.get("root"), folder.root)
    model = _model(changes.get("model"), there, folder.root)
    same_model.check_name(found, model, folder.root)
    document, told = same_model.completed(_moved(found, folder.root, secret_leaves.mark(model)), model)
    if document.get("engine_keys") is None:  # written before they were recorded
        document["engine_keys"] = merge(RunRequest.from_json(document["request"]), model)[1]
    return document, model, told


def _space(
    document: Mapping[str, Any], model: bundles.ModelBundle, request: RunRequest, root: Path, searching: bool
) -> SearchSpace:
    """The run's search space. To hand over, what it fixes is enough. Raises `UserError` for another than recorded."""
    if not searching and "fixed" in document:
        return SearchSpace((), fixed=tuple(document["fixed"].items()))
    base, facts, keys = document["spec"], document.get("facts", {}), document["engine_keys"]
    space = compile_for(model, base, request, keys, facts, document["searching"])
    if space.digest == document["space_digest"] or not (searching and document["searching"]):
        return space
    lines = _other_parameters(document, space) or ["what is fixed, or the engine that reads the schema"]
    raise UserError(
        f"{root}: the search space is another than this run began with, and trials of both cannot be compared:\n"
        + "".join(f"  {line}\n" for line in lines)
        + f"To search on, put back {model.schema_path('train')} as it was, or install the versions that run.json has; "
        f"a new run learns from this one by --warm-start {root}. The best there is: {command('best', root, '--export')}"
    )


def _other_parameters(document: Mapping[str, Any], space: SearchSpace) -> list[str]:
    """What differs between the parameters that run.json has and those of now, a line each."""
    rows = document.get("space") or []
    then = {row["name"]: row for row in rows if isinstance(row, dict) and "name" in row}
    if not then:
        return []
    now = {
        row["name"]: row
        for row in json.loads(json.dumps([p.record() for p in space.parameters], default=str))
    }
    lines = [f"{name}: no longer searched" for name in then if name not in now]
    lines += [f"{name}: searched by now" for name in now if name not in then]
    for name in then.keys() & now.keys():
        before, after = ([row.get(key) for key in SPACE_KEYS] for row in (then[name], now[name]))
        if before != after:
            lines.append(f"{name}: {_range(then[name])}, and now {_range(now[name])}")
    return sorted(lines)


def _range(row: Mapping[str, Any]) -> str:
    return " ".join(str(row[key]) for key in ("kind", "range", "condition") if row.get(key))


def _model(moved_to: str | None, recorded: str | None, root: Path) -> bundles.ModelBundle:
    """The run's model, or what has taken its place."""
    if moved_to or not recorded or not Path(recorded).is_absolute() or Path(recorded).exists():
        return bundles.resolve(moved_to or recorded)
    raise UserError(
        f"{recorded}: the model's folder is not there; where it is now: {command('resume', root)} --model FOLDER"
    )


def _moved(document: dict[str, Any], root: Path, mark: str) -> dict[str, Any]:
    """run.json with paths inside the run's folder of then turned into paths inside its folder of now."""
    return dict(moved(document, document.get("root"), root, mark)) | {"root": str(root)}


def _check_files(model: bundles.ModelBundle, base: dict[str, Any], root: Path, data: str | None) -> None:
    """Files and folders that the train action takes in must still be there."""
    found = [(leaf, node[key]) for leaf, node, key in model.inputs("train", base)]
    gone = [f"{leaf}: {path}" for leaf, path in found if not Path(path).exists()]
    if gone:
        where = f", or say where the data are now: {command('resume', root)} --data DIR" if data else ""
        raise UserError(
            f"{root}: what this run trains on is gone; put it back and resume{where}:\n  " + "\n  ".join(gone)
        )


def _differences(plan: Plan) -> list[str]:
    """What the spec file says by now and the run, which goes on as recorded, does not."""
    if not plan.request.spec_file:
        return []
    try:
        merged, engine_keys = merge(plan.request, plan.bundle)
    except UserError as error:
        why = str(error).splitlines()[0]
        return [f"the spec file can no longer be read as it was; the run goes on as recorded ({why})"]
    return same_spec.changes(plan, merged, engine_keys)
