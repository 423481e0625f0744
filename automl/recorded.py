"""run.json: what was asked and settled when a run began, and the same plan made of it again.

A resumed run goes by what is recorded, never by what a spec file or a data folder holds by now; what differs is named.
Paths inside the run folder move with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from automl import bundle as bundles
from automl import confirmed, hooks, latency, metric, same_data, same_model, same_spec, secret_leaves, spec
from automl.errors import UserError
from automl.machine import find_machine, hardware
from automl.plan import Plan, compile_for, merge
from automl.programs import command
from automl.provenance import versions
from automl.request import RunRequest
from automl.run_json import moved
from automl.rundir import RunDir


def describe(plan: Plan, root: Path, study: str) -> dict[str, Any]:
    """run.json: what was asked, what was settled, what it runs on. `study` is the study's name in the storage, which
    it may share with those of other runs."""
    return {
        "study": study,
        "root": str(root),
        "request": plan.request.to_json(),
        "model": plan.bundle.name,
        "model_reference": plan.bundle.reference,
        "model_state": same_model.state(plan.bundle),
        "metric": {"name": plan.metric.name, "maximize": plan.metric.maximize},
        "searching": plan.searching,
        "spec": plan.spec,
        "engine_keys": plan.engine_keys,
        "sources": {k: v for k, v in plan.sources.items() if v != spec.TEMPLATE},
        "filled": plan.filled,
        "reasons": plan.reasons,
        "facts": plan.facts,
        "latency": dict(plan.latency.timed) if plan.latency else None,
        "said": same_spec.otherwise(plan),
        "space_digest": plan.space.digest,
        "versions": versions(plan.bundle.packages),
        "machine": hardware(),
        "space": [parameter.record() for parameter in plan.space.parameters],
    }


def restore(folder: RunDir, changes: Mapping[str, Any]) -> Plan:
    """The plan of a run that exists, with `changes` to its request. Raises `UserError` when the model is no longer
    there, the search space is another by now, or a file that the run needs is gone."""
    found = folder.read_run()
    if changes.get("executor") == "local":
        changes = {"ray_address": None, **changes}
    reference = found.get("model_reference") or found["request"].get("model")
    there = moved(reference, found.get("root"), folder.root)
    model = _model(changes.get("model"), there, folder.root)
    same_model.check_name(found, model, folder.root)
    document, added = same_model.completed(_moved(found, folder.root, secret_leaves.mark(model)), model)
    told, more = [*same_model.changes(found, model), *added], list[str]()
    if data := changes.get("data"):
        document = same_data.follow(document, model, data, folder.root)
    else:
        document, more = same_data.at_hand(document, model, folder.root)
    unmoved = {name: value for name, value in changes.items() if name != "data"}
    request = replace(RunRequest.from_json(document["request"]), **unmoved)
    base, facts = document["spec"], document.get("facts", {})
    engine_keys = document.get("engine_keys")
    if engine_keys is None:  # written before they were recorded
        engine_keys = merge(request, model)[1]
    searching = document["searching"]
    space = compile_for(model, base, request, engine_keys, facts, searching)
    if space.digest != document["space_digest"] and searching:
        raise UserError(
            f"{folder.root}: what was asked for makes another search space than the one this run began with: the "
            "model's train schema has changed, or the engine that reads it (versions are in run.json). Install what it "
            f"began with, or start a new run, which --warm-start {folder.root} lets learn from this one"
        )
    hooks.check_spec(model, base)
    confirmed.check(request, model, base, space, searching)
    _check_files(model, base, folder.root, request.data)
    machine, notes = find_machine(request, base, document.get("sources", {}), model)
    notes = [*told, *more, *notes]
    plan = Plan(
        request, model, searching, base, document.get("sources", {}), document.get("filled", {}), facts, notes, space,
        machine, metric.of_run(document), model.stages_of(request.stages), {}, "",
        document.get("reasons", {}), engine_keys, said=document.get("said") or {},
    )  # fmt: skip
    if request.max_latency_ms is not None or request.objectives:
        plan.latency = latency.predicting(request, model, space, base, document.get("latency") or {})
    plan.warnings.extend(_differences(plan, document.get("said") is None))
    return plan


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


def _differences(plan: Plan, of_earlier: bool) -> list[str]:
    """What the spec file says by now and the run, which goes on as recorded, does not."""
    if not plan.request.spec_file:
        return []
    try:
        merged, engine_keys = merge(plan.request, plan.bundle)
    except UserError as error:
        why = str(error).splitlines()[0]
        return [f"the spec file can no longer be read as it was; the run goes on as recorded ({why})"]
    return same_spec.changes(plan, merged, engine_keys, of_earlier)
