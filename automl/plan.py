"""From a request to everything that is settled before the first trial: bundle, base spec, data facts, space,
machine. `automl plan` shows it, `automl run` runs it; both come through `prepare`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from automl import bundle as bundles
from automl import metric as metrics
from automl import policy, spec
from automl.bundle import ModelBundle
from automl.errors import SpaceError, UserError
from automl.metric import Metric
from automl.request import RunRequest
from automl.space import SearchSpace
from automl.spec import SourcedSpec


@dataclass(frozen=True)
class Machine:
    """What trials run on. `gpus` are indices; `gpus_per_trial` is 0 on a machine without."""

    gpus: tuple[int, ...]
    gpus_per_trial: int
    cpus_per_trial: int
    concurrency: int


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
    metric: Metric  # what the search makes better
    estimate: dict[str, Any] = field(default_factory=dict)
    engine_keys: dict[str, Any] = field(default_factory=dict)  # `search`, `try`: the spec file's words to the engine

    @property
    def tries(self) -> list[dict[str, Any]]:
        """`try:` of the spec file, flat: configurations to run after the default."""
        return [dict(spec.leaves(entry)) for entry in self.engine_keys.get("try") or []]


def prepare(request: RunRequest, work_dir: Path) -> Plan:
    """Settle everything before the first trial; files that the data need (a validation split, demo images) go to
    `work_dir`. Raises `UserError` listing every problem of spec and data."""
    request = request.with_budget()
    model = bundles.resolve(request.model)
    metric = metrics.parse(request.metric, model.metrics)
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
    space = compile_for(model, merged.spec, request, engine_keys, facts, searching)
    check_tries(engine_keys.get("try"), space)
    machine = find_machine(request, merged.spec, model)
    estimate = model.call("estimate")
    hours = estimate(merged.spec, facts, machine.gpus_per_trial) if estimate else {}
    return Plan(
        replace(request, metric=metric.name), model, searching, merged.spec, merged.sources, filled, facts, warnings,
        space, machine, metric, hours, engine_keys,
    )  # fmt: skip


def compile_for(
    model: ModelBundle, base: Mapping[str, Any], request: RunRequest, engine_keys: Mapping[str, Any],
    facts: Mapping[str, Any], searching: bool,
) -> SearchSpace:  # fmt: skip
    """The search space around a base spec; one without parameters when nothing is searched."""
    if not searching:
        return SearchSpace(())
    from automl.space import compile_space

    images = facts.get("train", {}).get("images")
    limits = {"dataset.batch_size": images} if images else {}
    return compile_space(
        model.schema("train"), base, tune=request.tune, fix=request.fix, search=engine_keys.get("search"),
        limits=limits,
    )  # fmt: skip


def check_tries(tries: Any, space: SearchSpace) -> None:
    """Raises `UserError` when `try:` is no list of configurations that the space holds."""
    if tries is None:
        return
    if not isinstance(tries, list) or not all(isinstance(entry, dict) and entry for entry in tries):
        raise UserError(f"try: must be a list of mappings such as {{train.optim.lr: 0.0001}}, but got {tries!r}")
    for number, entry in enumerate(tries, 1):
        try:
            space.enqueue_params(dict(spec.leaves(entry)))
        except SpaceError as error:
            raise UserError(f"try, entry {number}: {error}") from None


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


def find_machine(request: RunRequest, base: Mapping[str, Any], model: ModelBundle) -> Machine:
    """How many trials at a time, on what. On a cluster (`--ray-address`) Ray knows better than this machine."""
    wanted = int(spec.get(base, model.skill.get("gpu_spec_key", "train.num_gpus"), 1))
    gpus = () if spec.get(base, "train.accelerator") == "cpu" else visible_gpus()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if request.ray_address and spec.get(base, "train.accelerator") != "cpu":
        return Machine(gpus, wanted, 1, request.concurrency or 0)
    if gpus:
        if wanted > len(gpus):
            raise UserError(f"train.num_gpus is {wanted}, but this machine has {len(gpus)} GPU(s)")
        at_a_time = request.concurrency or len(gpus) // wanted
        return Machine(gpus, wanted, max(1, cores // at_a_time), at_a_time)
    at_a_time = request.concurrency or 1
    return Machine((), 0, max(1, cores // at_a_time), at_a_time)


def visible_gpus() -> tuple[int, ...]:
    """Indices of the NVIDIA GPUs this process may use, found without importing torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(range(len([d for d in chosen.split(",") if d.strip() not in ("", "-1")])))
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(range(listing.stdout.count("GPU "))) if listing.returncode == 0 else ()
