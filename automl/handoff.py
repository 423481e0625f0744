"""The winner, ready to deploy: specs for every later action, provenance, and the stages that were asked for.

All of the winner's leaves that the model says it carries travel, tuned or not, so that no action can build another
network than the one that was trained; and every spec points at the checkpoint that scored, copied into `best/`.
"""

from __future__ import annotations

import copy
import math
import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import (
    ended_stages,
    later_actions,
    portable,
    previous_winner,
    provenance,
    run_history,
    secret_leaves,
    spec,
)
from automl.bundle import ModelBundle
from automl.checkpoints import Held, Weights, choose_winner, held_by_all
from automl.comparison import OF_DEFAULT, compared_with
from automl.confirmed import Confirmed
from automl.documents import load_json
from automl.errors import AutoMLError
from automl.faults import room_lacking
from automl.front import HERE, Place, folder_of, places, stay
from automl.locks import handing_over
from automl.machine import visible_gpus
from automl.metric import Metric, figure
from automl.pareto import ms_of
from automl.records import as_number
from automl.request import write_ms
from automl.run_outcome import outdone
from automl.rundir import RunDir, write_json
from automl.stages import StageResult, StageRun, run_package, run_slimming
from automl.study import DEFAULT, Study, TrialResult
from automl.trials import Trials

if TYPE_CHECKING:
    from automl.plan import Plan
    from automl.progress import Progress


PATIENCE_S = 1800.0  # with an `automl deploy` that is at work on the winner before


@dataclass
class Outcome:
    root: Path
    metric: Metric
    winner: TrialResult
    default: TrialResult | None
    stages: list[StageResult]
    searched: bool = True
    checkpoint: str | None = None  # the copy in best/; None: the trainer wrote none
    next: str = ""  # the command a person would run now; "": none
    warning: str | None = None  # why it is not the best trial at its best epoch
    report: Path | None = None  # the page about the run
    ended: str = ""  # what ended the search, where the number of trials or trainings does not say it
    failed: str = ""  # how many of the trials that this driver began, and why the first
    all_failed: bool = False  # those that it began
    folder: str = "best"  # below root
    confirmed: Confirmed | None = None  # what other seeds left of the gain
    trials: int = 0  # that there were
    epochs: int = 0  # that all of them had been trained
    front: list[Place] = field(default_factory=list)  # of a search for a metric and latency, fastest first
    default_ms: float | None = None  # there


def hand_over(plan: Plan, study: Study, run: RunDir, progress: Progress, ended: str = "") -> Outcome:
    """Write `best/` and run the stages asked for; a stage that fails is reported and the others go on. `ended`: see
    `Outcome`."""
    with handing_over(run.root, PATIENCE_S, progress.note):
        outcome = hand_over_to(plan, study, run, progress)
        outcome.ended = ended
        write_json(run.root / "outcome.json", asdict(outcome))
    return outcome


def hand_over_to(plan: Plan, study: Study, run: RunDir, progress: Progress) -> Outcome:
    """The same, into the folder that `run` names, and nothing is written elsewhere."""
    previous_winner.begin(run.best)
    trials = Trials(plan, run)
    held = held_by_all(run.best)
    chosen = choose_winner(study, trials, held)
    if chosen is None:
        raise AutoMLError(f"{run.root}: no trial has a metric yet")
    winner = chosen.best
    expected = f", {plan.latency.expected(winner.params)}" if plan.latency else ""
    progress.note(f"handing over trial {winner.number}{expected} ...")
    _rest_of_front(
        plan, study, trials, winner, held, run, progress
    )  # first: best/ may hold what was the knee
    if earlier := previous_winner.set_aside(plan.bundle, run.best, winner):
        progress.note(f"what {run.best} held before is in {earlier}")
    checkpoint = _product(plan, trials, winner, chosen.weights, run, progress)
    if study.several:
        previous_winner.clear_front(plan.bundle, run.best, stay(study, winner), progress.note)
    trained = trials.spec_of(winner.number, winner.params)
    default = default_result(study)
    stages = _stages(plan, study, trials, winner, default, checkpoint)
    results: list[StageResult] = []
    try:
        results = _run_stages(plan, stages, run.best, progress)
    finally:
        well = not any(result.failed for result in results)
        previous_winner.put_back(plan.bundle, run.best, well and bool(results))
    _settle(plan.bundle, stages, run.best)
    _add_figures(run.best, results)
    for result in results:
        result.report = os.path.relpath(result.report, run.root) if result.report else ""
    then = plan.bundle.next_command(run.best, trained) if checkpoint else ""
    warning = chosen.warning or _unmoved(plan, study, winner) or outdone(study, plan.metric, winner)
    return Outcome(
        root=run.root, metric=plan.metric, winner=winner, default=default, stages=results, searched=plan.searching,
        checkpoint=str(checkpoint) if checkpoint else None, next=then, warning=warning, folder=run.handed_over,
        trials=len(study.trials()), epochs=study.epochs_trained, front=places(study, run),
        default_ms=ms_of(study.frozen(DEFAULT)) if study.several else None,
    )  # fmt: skip


def _product(
    plan: Plan, trials: Trials, result: TrialResult, source: Weights | None, run: RunDir, progress: Progress
) -> Path | None:
    """A trial's checkpoint, `source`, the specs of all actions and provenance, in the folder that `run` names; returns
    the checkpoint there."""
    previous_winner.disown(run.best, result)
    checkpoint = _copied(source.file, run.best) if source else None
    trained = trials.spec_of(result.number, result.params, progress.note)
    figures = _figures(plan, trials, result)
    write_specs(plan.bundle, trained, checkpoint, run.best, figures, asked_leaves(plan))
    portable.write(plan.bundle, run.best / "train.yaml", _for_retraining(plan, trained, run.best), run.best)
    _slim(plan.bundle, checkpoint, progress)
    _write_provenance(plan, result, trained, checkpoint, source, run, figures, trials)
    return checkpoint


def _rest_of_front(
    plan: Plan, study: Study, trials: Trials, winner: TrialResult, held: Held,
    run: RunDir, progress: Progress,
) -> None:  # fmt: skip
    """The other trials of the front, each as the winner is handed over but for the stages; from what is `held`, where
    their own folders may have been tidied up."""
    for result in study.front():
        if result.number == winner.number:
            continue
        place = RunDir(run.root, f"{run.handed_over}/{folder_of(result.number)}")
        key = (result.number, result.epoch, result.value)
        source = held.get(key) or trials.of_result(study, result)
        if source is None and trials.names_checkpoints(result.number):
            progress.note(
                f"the checkpoint of trial {result.number} is not there; only its configuration is handed over"
            )
        _product(plan, trials, result, source, place, progress)
        path = place.best / provenance.FILE
        write_json(path, load_json(path, provenance.LARGEST) | {"later": _later(plan)})


def _later(plan: Plan) -> list[list[str]]:
    """The commands of the stages that were asked for, or of those that the model has where none were, on a folder that
    is handed over."""
    asked = [s for s in plan.stages or plan.bundle.stages if not s.sets and not s.lacks(plan.spec)]
    return [list(plan.bundle.command_words(s.action, f"{HERE}/{s.action}.yaml")) for s in asked]


def _unmoved(plan: Plan, study: Study, winner: TrialResult) -> str | None:
    """What to say of a winner whose metric never changed: it was chosen for nothing that it does."""
    values = list(study.frozen(winner.number).intermediate_values.values())
    if len(values) < 2 or len(set(values)) > 1:
        return None
    return (
        f"best value {figure(winner.value)}: {plan.metric.name} is that in every epoch, so nothing was learnt that it "
        "measures; train longer, or look at the data"
    )


def _run_stages(plan: Plan, stages: list[StageRun], best: Path, progress: Progress) -> list[StageResult]:
    gpus = plan.machine.gpus or (visible_gpus() if plan.machine.gpus_per_trial else ())
    aside = dict(previous_winner.aside(plan.bundle, best))
    results = [
        StageResult.skipped(stage.name, f"{lacking[0]} is not set")
        for stage in plan.stages
        if (lacking := stage.lacks(plan.spec))
    ]
    full = ""
    for run in stages:
        after = run.stage.after
        lacks_it = after and not any(result.ok for result in results if result.name == after)
        if why := full or (f"{after} did not go well" if lacks_it else ""):
            words = plan.bundle.command_words(run.stage.action, str(run.spec_path))
            results.append(StageResult.skipped(run.name, why, shlex.join(words)))
            continue
        result = ended_stages.run_once(plan.bundle, run, best, aside, gpus, progress.note)
        full = room_lacking(best, result.message) if result.failed else ""
        results.append(result)
    if any(result.ok for result in results) and (packed := run_package(plan.bundle, best, progress.note)):
        results.append(packed)
    return results


def _settle(bundle: ModelBundle, stages: list[StageRun], best: Path) -> None:
    """No spec that was handed over writes where the winner's figures are."""
    specs = {best / f"{action}.yaml": action for action in bundle.actions if action != "train"}
    specs |= {run.spec_path: run.stage.action for run in stages}
    for path, action in specs.items():
        portable.settle(bundle, action, path, best)


def default_result(study: Study) -> TrialResult | None:
    """How the default configuration, trial 0, did."""
    trials = study.trials()
    return study.result(DEFAULT) if trials and trials[DEFAULT].intermediate_values else None


def write_specs(
    bundle: ModelBundle, trained: Mapping[str, Any], checkpoint: Path | None, folder: Path,
    figures: Mapping[str, float] | None = None, asked: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """`<folder>/<action>.yaml` for every action but train, from its template, the winner's leaves, the files that pass
    from action to action, what its best epoch measured, and the leaves that a person has `asked` for."""
    given = {bundle.figures[name]: value for name, value in (figures or {}).items()} | dict(asked or {})
    for action in bundle.actions:
        if action == "train":
            continue
        full = action_spec(bundle, action, trained, checkpoint, folder, given)
        portable.write(bundle, folder / f"{action}.yaml", full, folder)


def asked_leaves(plan: Plan) -> dict[str, Any]:
    """{leaf: value} of what a person asks of the actions after training: their sections of his spec, and what was asked
    of the search and `automl deploy` has an option for, which keeps the limit that configurations were chosen by."""
    of_spec = [later_actions.leaves(plan.bundle, plan.engine_keys, action) for action in plan.bundle.actions]
    found = {leaf: value for each in of_spec for leaf, value in each.items()}
    for source, target in plan.bundle.copies.items():  # of one that was copied too
        if source in found:
            found.setdefault(target, found[source])
    return _limits(plan) | found


def _limits(plan: Plan) -> dict[str, str]:
    leaf = (plan.bundle.skill.get("deploy") or {}).get("options", {}).get("max-latency")
    ms = plan.request.max_latency_ms
    return {str(leaf): write_ms(ms)} if leaf and ms is not None else {}


def _figures(plan: Plan, trials: Trials, winner: TrialResult) -> dict[str, float]:
    """What the bundle wants of the record of the epoch that scored."""
    found = [r for r in trials.records(winner.number)[0] if r.epoch == winner.epoch]
    values = {name: as_number(r.values.get(name)) for r in found for name in plan.bundle.figures}
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def action_spec(
    bundle: ModelBundle, action: str, trained: Mapping[str, Any], checkpoint: Path | None, folder: Path,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One later action's spec: its template, the leaves that travel, and the files by the roles of `spec_params`:
    `output_dir` is `folder`, `parent_model` the checkpoint; `files` names the others. Of `given`, {leaf: value}, it
    takes the leaves that it has."""
    full = bundle.template(action)
    for name, value in spec.leaves(trained):
        if name.startswith(bundle.carries):
            spec.put(full, name, value)
    for key, role in bundle.roles(action).items():
        if role == "output_dir":
            spec.put(full, key, str(folder))
        elif role in bundle.named_files and not bundle.is_settled(key):
            spec.put(full, key, str(folder / bundle.named_files[role]))
        elif role == "parent_model" and checkpoint and not bundle.is_settled(key):
            spec.put(full, key, str(checkpoint))
    for key, file in bundle.named_files.items():
        _put_known(full, key, str(folder / file))
    for section in bundle.unread:
        if section != action:
            full.pop(section, None)
    secret_leaves.carry(bundle, action, trained, full)
    for source, target in bundle.copies.items():
        name, value = target.replace("{action}", action), spec.get_each(trained, source)
        if value not in (None, "", []):
            _put_known(full, name, value)
    for name, value in (given or {}).items():
        _put_known(full, name, value)
    return full


def _put_known(full: dict[str, Any], name: str, value: Any) -> None:
    if spec.get(full, name, spec.MISSING) is not spec.MISSING:
        spec.put(full, name, value)


def _stages(
    plan: Plan, study: Study, trials: Trials, winner: TrialResult, default: TrialResult | None, checkpoint: Path | None
) -> list[StageRun]:  # fmt: skip
    """What was asked for and has what it needs; those that compare run for the default configuration too when that is
    another trial whose checkpoint is still there."""
    best, found = trials.run.best, list[StageRun]()
    for stage in plan.stages:
        if stage.lacks(plan.spec):
            continue
        if stage.sets:
            found.append(StageRun(stage, stage.name, best / stage.name))
            _write_spec(plan, trials, winner, found[-1], checkpoint)
            continue
        found.append(StageRun(stage, stage.name, best))
        other = compared_with(winner, default)
        if not stage.default_too or other is None:
            continue
        if source := trials.of_result(study, other):
            found.append(StageRun(stage, stage.name + OF_DEFAULT, best / "default"))
            _write_spec(plan, trials, other, found[-1], _copied(source.file, found[-1].folder))
    return found


def _write_spec(
    plan: Plan, trials: Trials, result: TrialResult, run: StageRun, checkpoint: Path | None
) -> None:
    """Of a stage that has a folder of its own in best/."""
    best, trained = str(trials.run.best), trials.spec_of(result.number, result.params)
    full = action_spec(plan.bundle, run.stage.action, trained, checkpoint, run.folder, asked_leaves(plan))
    for leaf, value in run.stage.sets:
        spec.put(full, leaf, value.replace("{best}", best) if isinstance(value, str) else value)
    portable.write(plan.bundle, run.spec_path, full, trials.run.best)


def _copied(source: Path, folder: Path) -> Path:
    """Copy a checkpoint into `folder` as `model` with its own suffix, a folder with all that is in it, so that the
    copy is whole or as it was before; of a folder there is none for the moment between two renames."""
    target = folder / f"model{source.suffix}"
    if source == target:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{target.name}.{os.getpid()}.tmp"
    try:
        if source.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(source, temporary)
        else:
            shutil.copyfile(source, temporary)
    except OSError:  # a full disk needs the room
        shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink(missing_ok=True)
        raise
    before = folder / f".{target.name}.before.{os.getpid()}.tmp"
    if target.is_dir():  # removed it would be gone for as long as that takes
        target.rename(before)
    temporary.replace(target)
    shutil.rmtree(before, ignore_errors=True)
    return target


def _slim(bundle: ModelBundle, checkpoint: Path | None, progress: Progress) -> None:
    """Leave out of the copy what training alone needs; where that fails it is told, and the whole is handed over."""
    result = run_slimming(bundle, checkpoint, progress.note) if checkpoint and checkpoint.is_file() else None
    if result and not result.ok:
        progress.note(f"package_weights: {result.message}; the whole checkpoint is handed over")


def _for_retraining(plan: Plan, trained: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The winner's train spec, writing to a folder of its own."""
    full = copy.deepcopy(dict(trained))
    for number, key in enumerate(plan.bundle.output_keys("train")):
        if spec.get(full, key) is not None:
            spec.put(full, key, "" if number else str(folder / "retrain"))
    return full


def _add_figures(best: Path, results: list[StageResult]) -> None:
    """Into provenance.json, what the stages measured of the winner."""
    path = best / provenance.FILE
    found = {
        result.name: {name: result.metrics[name] for name in result.shows if name in result.metrics}
        for result in results if not result.name.endswith(OF_DEFAULT)
    }  # fmt: skip
    shown = {name: figures for name, figures in found.items() if figures}
    write_json(path, load_json(path, provenance.LARGEST) | {provenance.MEASURED: shown})


def _write_provenance(
    plan: Plan, winner: TrialResult, trained: Mapping[str, Any], checkpoint: Path | None,
    source: Weights | None, run: RunDir, figures: Mapping[str, float], trials: Trials,
) -> None:  # fmt: skip
    changed, held = spec.diff(plan.spec, trained), source.holds if source else None
    limited = {"latency": plan.latency.expected(winner.params)} if plan.latency else {}
    folders = plan.bundle.output_keys("train")  # a trial's own, and nowhere else
    write_json(
        run.best / provenance.FILE,
        {
            "run": os.path.relpath(run.run_json, run.best),
            "trial": winner.number,
            "complete": winner.complete,
            "metric": plan.metric.name,
            "direction": plan.metric.direction,
            "value": winner.value,
            "epoch": winner.epoch,
            "figures": dict(figures),
            "params": winner.params,
            "checkpoint": checkpoint.name if checkpoint else None,
            "checkpoint_epoch": held,  # a trainer may have written over what scored
            "checkpoint_sha256": provenance.sha256(checkpoint) if checkpoint else None,
            **limited,
            "changed_from_default": [change for change in changed if change[0] not in folders],
            **run_history.trained(
                plan, trials.run.trial(winner.number), winner.epoch if held is None else held
            ),
        },
    )
