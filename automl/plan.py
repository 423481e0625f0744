"""From a request to everything that is settled before the first trial: bundle, base spec, data facts, space,
machine. `automl plan` shows it, `automl run` runs it; both come through `prepare`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import bundle as bundles
from automl import (
    confirmed,
    forecast,
    front,
    hooks,
    latency,
    later_actions,
    own_leaves,
    policy,
    portable,
    references,
    same_spec,
    samplers,
    schedulers,
    secret_leaves,
    spec,
    trackers,
    warm_start,
    web_url,
)
from automl.bundle import ModelBundle
from automl.bundle_warnings import foresee
from automl.errors import PolicyError, SpaceError, UserError
from automl.faults import check_place
from automl.latency import Latency, Limit
from automl.launcher import check_temporary
from automl.machine import Machine, find_machine
from automl.metric import Metric
from automl.programs import command
from automl.request import LATENCY, PLACES, RunRequest
from automl.rundir import RunDir, leaving_nothing
from automl.scheduling import View
from automl.skill import Stage
from automl.space import SearchSpace, compile_space
from automl.space.leaf import short
from automl.spec import SourcedSpec
from automl.storage import read_storage

if TYPE_CHECKING:
    from automl.study import Study
    from automl.warm_start import Lessons


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
    stages: tuple[Stage, ...] = ()  # what runs on the winner
    estimate: dict[str, Any] = field(default_factory=dict)
    start: str = ""  # what trainings begin with, in the model's words
    reasons: dict[str, str] = field(default_factory=dict)  # why leaves that the model settled are as they are
    # The spec's words to the engine (`search`, `try`) and to the actions after training.
    engine_keys: dict[str, Any] = field(default_factory=dict)
    latency: Latency | None = None  # what predicts it, where it is limited or an objective
    said: dict[str, Any] | None = None  # by the spec file, leaf by leaf; None where that was not recorded
    history: dict[str, Any] = field(default_factory=dict)  # what the run's starts had (run_history.py)

    @property
    def limit(self) -> Limit | None:
        """Of what a configuration's product may take."""
        return self.latency if isinstance(self.latency, Limit) else None

    @property
    def trade_off(self) -> Latency | None:
        """What predicts the second objective; None where there is one objective."""
        return self.latency if self.request.objectives else None

    @property
    def room(self) -> SearchSpace:
        """What trials may lie in: the space, of a sampler that widens ranges as far as those may go."""
        return samplers.room(self.request.sampler, self.space)

    def study(self, storage: Any, name: str, lessons: Lessons) -> Study:
        """The plan's study, made when it is not there: the default first, then what `try:` and `lessons` bring."""
        from automl.study import Study

        return Study(
            storage, name, self.space, self.request.sampler, self.request.seed, maximize=self.metric.maximize,
            fixed=[dict(self.space.default), *self.tries, *lessons.best], earlier=lessons.trials, limit=self.limit,
            latency=self.trade_off, names=(self.metric.name, LATENCY),
        )  # fmt: skip

    @property
    def first(self) -> int:
        """The trial that is trained first and to its end: the default's, or that of what is nearest to one that is too
        slow."""
        return 1 if self.limit and self.limit.nearest else 0

    @property
    def tries(self) -> list[dict[str, Any]]:
        """Configurations to run after the default: what is nearest to one that is too slow, then `try:` of the spec
        file, flat."""
        near = [self.limit.nearest] if self.limit and self.limit.nearest else []
        return [*near, *(dict(spec.leaves(entry)) for entry in self.engine_keys.get("try") or [])]


def aside(text: str) -> None:
    """To a person, where what is printed may be read by a program."""
    print(text, file=sys.stderr, flush=True)


def prepare(request: RunRequest, work_dir: Path, say: Callable[[str], Any] = aside) -> Plan:
    """Settle everything before the first trial; files that the data need (a validation split, demo data) go to
    `work_dir`, which a refusal leaves as it was; `say` is told of what takes long. Raises `UserError` listing every
    problem of spec and data."""
    with leaving_nothing(work_dir):
        return _prepare(request, work_dir, say)


def _prepare(asked: RunRequest, work_dir: Path, say: Callable[[str], Any]) -> Plan:
    model = bundles.resolve(asked.model)
    metric = front.metric_of(asked, model.metrics)
    stages = model.stages_of(asked.stages)
    model.launch("train")
    if asked.results_dir and RunDir(Path(asked.results_dir)).run_json.exists():
        raise UserError(
            f"{asked.results_dir} already holds a run; go on with it by: {command('resume', asked.results_dir)}"
        )
    _check_places(asked, metric)
    samplers.make(asked.sampler, 0, View((), {}))
    schedulers.make(asked.scheduler)
    trackers.check(asked.log)
    merged, engine_keys = merge(asked, model)
    said = same_spec.said(model, merged, engine_keys, asked.spec_file)
    searching = policy.resolve(model, asked.policy, engine_keys.get("automl_policy"))
    asked = replace(asked, objectives=front.named(asked, engine_keys if searching else {}))
    if asked.objectives:
        metric = front.metric_of(asked, model.metrics)
        _check_places(asked, metric)
        front.check(asked.sampler, asked.scheduler)
    asked.check_epochs(searching)
    request = asked.with_budget() if searching else asked
    # Without a search a missing or broken schema is no obstacle: the model's own check still holds.
    schema = None if not searching and policy.not_runnable(model) else model.schema("train")
    notes = check_merged(merged, model) if schema else []
    notes += [] if searching else request.check_off(k for k in spec.KEYS_OF_A_SEARCH if k in engine_keys)
    _check_stages(model, stages, merged.spec)
    secret_leaves.check(model, merged.spec)
    facts, filled, warnings = read_data(request, model, merged, work_dir)
    for action, full in product(model.actions, (merged.spec, engine_keys)):
        for _, node, key in model.inputs(action, full):
            if Path(node[key]).exists():
                node[key] = os.path.abspath(node[key])  # a resumed run may be started elsewhere
    machine, of_machine = find_machine(request, merged.spec, merged.sources, model)
    settled, reasons, more = settle(request, model, merged, facts, machine, searching)
    hooks.check_spec(model, merged.spec)
    space = compile_for(model, merged.spec, request, engine_keys, facts, searching)
    if searching:
        _must_search(space, model)
        check_tries(engine_keys.get("try"), samplers.room(request.sampler, space))
    confirmed.check(request, model, merged.spec, space, searching)
    hours = hooks.asked(model, "estimate", merged.spec, facts, machine.gpus_per_trial, machine.cpus_per_trial)
    begins = hooks.asked(model, "describe_start", merged.spec)
    notes += later_actions.passed_over(model, engine_keys, merged, bool(asked.results_dir))
    notes += [*warnings, *more, *of_machine, *foresee(model, request, merged.spec, searching)]
    plan = Plan(
        request=_absolute(request, model, merged.spec, begins.get("path")), bundle=model, searching=searching,
        spec=merged.spec, sources=merged.sources, filled=filled | settled, facts=facts, warnings=notes, space=space,
        machine=machine, metric=metric, stages=stages, estimate=hours, start=str(begins.get("text", "")),
        reasons=reasons, engine_keys=engine_keys,
        latency=latency.settle(request, model, space, merged.spec, work_dir, searching, say), said=said,
    )  # fmt: skip
    plan.warnings.extend([*forecast.warnings(plan), *_smaller(plan), *confirmed.pointless(plan)])
    return plan


def _check_stages(model: ModelBundle, stages: tuple[Stage, ...], full: Mapping[str, Any]) -> None:
    """What is missing is told now, and not when the winner is handed over. Raises `UserError`."""
    for stage in stages:
        template = model.template(stage.action)
        own = {name for name, _ in spec.leaves(template)}
        wrong = [
            *(("needs", "train", *each) for each in hooks.unknown_leaves(model, full, stage.needs)),
            *(
                ("sets", stage.action, *each)
                for each in spec.unknown(template, own, (leaf for leaf, _ in stage.sets))
            ),
        ]
        for word, action, name, hint in wrong:
            raise UserError(
                f"{model.name}: stages.{stage.name}.{word}: {name} is no leaf of the {action} spec{hint}"
            )


def _smaller(plan: Plan) -> list[str]:
    """On a CPU, the model's preset for one (`cpu_preset`), where the run would take more than a day."""
    name, expected = plan.bundle.skill.get("cpu_preset"), forecast.of(plan)
    if (
        not name
        or expected is None
        or plan.machine.gpus_per_trial
        or plan.request.preset
        or plan.request.demo
    ):
        return []
    total_s = expected.total_s(plan.request, plan.searching)
    if max(total_s, expected.training_s) <= forecast.DAY_S:
        return []
    return [
        f"on this CPU one training takes about {forecast.clock(expected.training_s)} and the run "
        f"{forecast.clock(total_s)}; --preset {name} is made for CPUs, and the plan with it says how long it takes"
    ]


def _check_places(request: RunRequest, metric: Metric) -> None:
    """Raises `UserError` for an earlier run, a database, a run folder or a temporary one that `run` could not use."""
    check_temporary()
    if request.warm_start:
        warm_start.check(Path(request.warm_start), metric)
    if request.storage:
        read_storage(request.storage, Path(request.results_dir or "."))
    if request.results_dir:
        folder = Path(request.results_dir).absolute()
        outer = next((path for path in folder.parents if RunDir(path).run_json.is_file()), None)
        if outer is not None:
            raise UserError(
                f"--results-dir {request.results_dir} lies in the run {outer}; name a folder beside it"
            )
        check_place(Path(request.results_dir), "--results-dir")


def fetch(what: Plan, folder: Path, say: Callable[[str], None]) -> None:
    """Bring what trainings start from to this machine before the first of them; on a cluster to the run's folder, which
    all machines see. The plan's spec then says where it is."""
    bring = what.bundle.call("fetch")
    if bring is None:
        return
    for name, value in bring(what.spec, say, folder if what.request.ray_address else None).items():
        spec.put(what.spec, name, value)


def compile_for(
    model: ModelBundle, base: Mapping[str, Any], request: RunRequest, engine_keys: Mapping[str, Any],
    facts: Mapping[str, Any], searching: bool,
) -> SearchSpace:  # fmt: skip
    """The search space around a base spec; one without parameters when nothing is searched."""
    if not searching:
        return SearchSpace(())
    space = compile_space(
        model.schema("train"), base, tune=request.tune, fix=request.fix, search=engine_keys.get("search"),
        limits=model.limits(facts), group=request.space, recommended=model.recommended,
    )  # fmt: skip
    own_leaves.refuse(((p.name, "") for p in space.parameters), model)
    return space


def check_tries(tries: Any, space: SearchSpace) -> None:
    """Raises `UserError` when `try:` is no list of configurations that the space holds."""
    if tries is None:
        return
    for number, entry in enumerate(tries if isinstance(tries, list) else [short(tries)], 1):
        if not (isinstance(entry, dict) and entry):
            like = "{train.optim.lr: 0.0001}, none of them empty (the default is tried anyway)"
            raise UserError(f"try: must be a list of mappings such as {like}, but got {short(entry)}")
        try:
            space.enqueue_params(dict(spec.leaves(entry)))
        except SpaceError as error:
            said = f"try, entry {number}: {error}"
            raise UserError(f"{said}; automl space show has what is searched, --tune adds to it") from None


def _must_search(space: SearchSpace, model: ModelBundle) -> None:
    """A search over nothing would be the same trial again and again."""
    if not space.parameters:
        raise PolicyError(
            f"AutoML is enabled but not runnable: {model.schema_path('train')} flags no parameter that can matter as "
            "automl_enabled; name some by --tune NAME or --tune NAME=low:high (automl space show lists what is left "
            "out), or train one plain spec with --automl-policy off"
        )


def _absolute(
    request: RunRequest, model: ModelBundle, full: dict[str, Any], begins_at: str | None = None
) -> RunRequest:
    """The same wherever it is resumed from, and without secrets. `begins_at`: the file that training starts from."""
    inputs = {str(node[key]) for _, node, key in model.inputs("train", full)} | {str(begins_at)}
    sets = (_absolute_pair(pair, inputs) for pair in secret_leaves.hidden_sets(request.sets, model))
    paths: dict[str, Any] = {"model": model.reference, "sets": tuple(sets)}
    for name in PLACES:
        given = getattr(request, name)
        if given and (name == "results_dir" or Path(given).exists()):  # that is yet to be made
            paths[name] = str(Path(given).resolve())
    return replace(request, **paths)


def _absolute_pair(pair: str, files: Collection[str]) -> str:
    """KEY=VALUE, where VALUE is one of those files, with its absolute path."""
    key, sign, value = pair.partition("=")
    path = os.path.abspath(os.path.expanduser(value)) if value else ""
    return f"{key}{sign}{path}" if path in files and os.path.isfile(path) else pair


def merge(request: RunRequest, model: ModelBundle) -> tuple[SourcedSpec, dict[str, Any]]:
    """Template < preset < file < --set, and what is not the training's: the engine's own keys of the file, the sections
    of later actions. Unknown keys are told apart later, against the schema."""
    merged = SourcedSpec(model.template("train"))
    if request.demo and not model.entry("demo_data"):
        raise UserError(f"{model.name} has no demo data; give --data DIR")
    if preset := request.preset or ("demo" if request.demo else None):
        partial, path = model.preset(preset)
        merged.overlay(partial, path.stem)
    engine_keys: dict[str, Any] = {}
    if request.spec_file:
        document = portable.read(model, Path(request.spec_file))
        keys = [key for key in spec.ENGINE_KEYS if key in document and key not in merged.spec]
        engine_keys = {key: document.pop(key) for key in keys}
        merged.overlay(document, request.spec_file)
    own_leaves.check_request(request, engine_keys, model)
    pairs = spec.parse_set(request.sets, model.skill.get("spec_shorthand_keys", {}))
    spec.check_fixed(request.fix, pairs)
    if request.epochs is not None:
        merged.overlay(spec.nest(_length(request.epochs, pairs, model)), "--epochs")
    merged.overlay(spec.nest(pairs), "--set")
    references.settle(merged, model)
    return merged, engine_keys | later_actions.take_out(merged, model)


def check_merged(merged: SourcedSpec, model: ModelBundle) -> list[str]:
    """Check a merged spec against the model's train schema. Raises `SpecError`; returns notes on the template."""
    others = (*spec.ENGINE_KEYS, *model.actions)
    return spec.validate(merged.spec, model.schema("train"), merged.sources, model.template("train"), others)


def _length(epochs: int, pairs: Mapping[str, Any], model: ModelBundle) -> dict[str, int]:
    """{leaf: epochs of each training}. Raises `UserError` when the model has no such leaf, or `--set` says another."""
    key = model.epochs_key
    if key is None:
        raise UserError(
            f"--epochs {epochs}: {model.name} says nowhere which leaf holds the epochs of a training (epochs_key); set "
            "it by --set KEY=VALUE"
        )
    if pairs.get(key, epochs) != epochs:
        raise UserError(
            f"--epochs {epochs} and --set {key}={pairs[key]} contradict each other; give one of them"
        )
    return {key: epochs}


def settle(
    request: RunRequest, model: ModelBundle, merged: SourcedSpec, facts: Mapping[str, Any], machine: Machine,
    searching: bool,
) -> tuple[dict[str, Any], dict[str, str], list[str]]:  # fmt: skip
    """(leaves that the model settled by data and machine, why, warnings), the merged spec completed in place; what a
    person or a preset set stays."""
    fit = model.call("settings")
    if fit is None:
        return {}, {}, []
    on = {
        "gpus": machine.gpus_per_trial, "cpus": machine.cpus_per_trial, "time_s": request.time_s,
        "searching": searching, "here": not request.ray_address,
    }  # fmt: skip
    found = hooks.answer(model, "settings", fit(merged.spec, facts, on, dict(merged.sources)))
    hooks.check_leaves(model, "settings", merged.spec, found.get("fill", {}))
    settled, reasons = merged.fill(found.get("fill", {}), "settings"), found.get("reasons", {})
    why = {name: reasons[name] for name in settled if name in reasons}
    return settled, why, hooks.texts(found.get("warnings"))


def _demo_data(model: ModelBundle, work_dir: Path) -> str:
    """The folder of the demo's data, drawn when it is not there."""
    write_demo = model.call("demo_data")
    folder = work_dir / "demo_data"
    if write_demo is not None and not folder.exists():
        write_demo(folder)
    return str(folder)


def read_data(
    request: RunRequest, model: ModelBundle, merged: SourcedSpec, work_dir: Path
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """(facts, leaves filled in from them, warnings), the merged spec completed in place."""
    data = _demo_data(model, work_dir) if request.demo else request.data
    inspect = model.call("inspect_data")
    if inspect is None:
        if request.data:
            raise UserError(
                f"--data {web_url.shown(request.data)}: {model.name} cannot read it (its skill_info has no "
                "entry_points.inspect_data); name the data in the spec, by --spec or --set"
            )
        return {}, {}, []
    found = hooks.answer(model, "inspect_data", inspect(merged.spec, data, work_dir=work_dir))
    if problems := hooks.texts(found.get("problems")):
        raise UserError("\n".join(problems))
    anew = found.get("replace") or {}  # what the check had to write anew
    hooks.check_leaves(model, "inspect_data", merged.spec, {**(found.get("fill") or {}), **anew})
    filled = merged.fill(found.get("fill") or {}, spec.DATA) | anew
    merged.overlay(spec.nest(anew), spec.DATA)
    return found.get("facts") or {}, filled, hooks.texts(found.get("warnings"))
