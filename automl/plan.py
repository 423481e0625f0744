"""From a request to everything that is settled before the first trial: bundle, base spec, data facts, space,
machine. `automl plan` shows it, `automl run` runs it; both come through `prepare`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from automl import bundle as bundles
from automl import policy, spec
from automl.bundle import ModelBundle
from automl.errors import UserError
from automl.machine import Machine, find_machine
from automl.request import RunRequest
from automl.spec import SourcedSpec

if TYPE_CHECKING:
    from automl.space import SearchSpace


@dataclass
class Plan:
    request: RunRequest
    bundle: ModelBundle
    searching: bool
    spec: dict[str, Any]  # the base spec, which is also the default configuration
    sources: dict[str, str]
    filled: dict[str, Any]  # leaves that the data determined
    facts: dict[str, Any]
    warnings: list[str]
    space: SearchSpace
    machine: Machine
    estimate: dict[str, Any] = field(default_factory=dict)


class NoSpace:
    """The search space of a run without a search: one configuration, the base spec."""

    default: Mapping[str, Any] = MappingProxyType({})
    parameters: tuple[Any, ...] = ()
    left_out: tuple[Any, ...] = ()
    digest = "off"

    def suggest(self, trial: Any) -> dict[str, Any]:
        return {}

    def enqueue_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def apply(self, base: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
        return spec.nest(dict(spec.leaves(base)))


def prepare(request: RunRequest, work_dir: Path) -> Plan:
    """Settle everything before the first trial; files that the data need (a validation split, demo images) go to
    `work_dir`. Raises `UserError` listing every problem of spec and data."""
    request = request.with_budget()
    model = bundles.resolve(request.model)
    if request.demo:
        request = _with_demo(request, model, work_dir)
    merged, engine_keys = merge(request, model)
    searching = policy.resolve(model, request.policy, engine_keys.get("automl_policy"))
    # Without a search a missing or broken schema is no obstacle: the model's own check still holds.
    schema = None if not searching and policy.not_runnable(model) else model.schema("train")
    if schema:
        spec.validate(merged.spec, schema, merged.sources)
    facts, filled, warnings = _read_data(request, model, merged, work_dir)
    check_spec(model, merged.spec)
    space: Any = NoSpace()
    if searching:
        from automl.space import compile_space

        images = facts.get("train", {}).get("images")
        limits = {"dataset.batch_size": images} if images else {}
        space = compile_space(
            schema or {}, merged.spec, tune=request.tune, fix=request.fix,
            search=engine_keys.get("search"), limits=limits,
        )  # fmt: skip
    machine, notes = find_machine(request, merged.spec, merged.sources, model)
    estimate = model.call("estimate")
    hours = estimate(merged.spec, facts, machine.gpus_per_trial) if estimate else {}
    return Plan(
        request,
        model,
        searching,
        merged.spec,
        merged.sources,
        filled,
        facts,
        warnings + notes,
        space,
        machine,
        hours,
    )


def merge(request: RunRequest, model: ModelBundle) -> tuple[SourcedSpec, dict[str, Any]]:
    """Template < preset < file < --set, and the engine's own keys of the file. Unknown keys are told apart later,
    against the schema."""
    merged = SourcedSpec(model.template("train"))
    if request.preset:
        partial, path = model.preset(request.preset)
        merged.overlay(partial, path.stem)
    engine_keys: dict[str, Any] = {}
    if request.spec_file:
        document = spec.load(Path(request.spec_file))
        engine_keys = {key: document.pop(key) for key in spec.ENGINE_KEYS if key in document}
        merged.overlay(document, request.spec_file)
    pairs = spec.parse_set(request.sets, model.skill.get("spec_shorthand_keys", {}))
    merged.overlay(spec.nest(pairs), "--set")
    return merged, engine_keys


def check_spec(model: ModelBundle, full: Mapping[str, Any]) -> None:
    """Let the model check what ties several leaves together. Raises `UserError`."""
    check = model.call("check_spec")
    if check is None:
        return
    try:
        check("train", full)
    except Exception as error:
        if getattr(error, "exit_code", None) == 2:
            raise UserError(str(error)) from None
        raise


def _with_demo(request: RunRequest, model: ModelBundle, work_dir: Path) -> RunRequest:
    from dataclasses import replace

    write_demo = model.call("demo_data")
    if write_demo is None:
        raise UserError(f"{model.name} has no demo data; give --data DIR")
    folder = work_dir / "demo_data"
    if not folder.exists():
        write_demo(folder)
    return replace(request, data=str(folder), preset=request.preset or "demo")


def _read_data(
    request: RunRequest, model: ModelBundle, merged: SourcedSpec, work_dir: Path
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """(facts, leaves filled in from them, warnings), the merged spec completed in place."""
    inspect = model.call("inspect_data")
    if inspect is None:
        return {}, {}, []
    found = inspect(merged.spec, request.data, work_dir=work_dir)
    if found["problems"]:
        raise UserError("\n".join(found["problems"]))
    filled = merged.fill(found["fill"], "data")
    return found["facts"], filled, list(found["warnings"])
