"""What the commands print: plans, statuses, winners. Reads, formats, nothing else."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from automl import spec
from automl.errors import UserError
from automl.handoff import Outcome
from automl.progress import STATE_STYLE, clock, short
from automl.rundir import RunDir
from automl.storage import is_running, open_storage

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl.plan import Plan


def plan(console: Console, what: Plan, configurations: int) -> None:
    """Data, machine, space, the first configurations, and about how long it takes."""
    _data(console, what)
    machine = what.machine
    on = f"{len(machine.gpus)} GPU(s), {machine.gpus_per_trial} a trial" if machine.gpus_per_trial else "CPU"
    console.print(
        f"\n[bold]Machine[/]  {on}, {machine.concurrency or 'as many as the cluster holds'} trial(s) at a time"
    )
    if what.start:
        console.print(f"Start    {what.start}", highlight=False, markup=False)
    request = what.request
    budget = [f"{request.trials} trials"] if request.trials else []
    budget += [f"{request.epochs} epochs"] if request.epochs else []
    budget += [clock(request.time_s)] if request.time_s else []
    if not what.searching:
        console.print("[bold]Policy[/]   off: one plain training of the spec")
    else:
        console.print(
            f"[bold]Budget[/]   {', '.join(budget)}; {request.sampler}, {request.scheduler}, {request.metric}"
        )
        _space(console, what, configurations)
    if what.estimate:
        _estimate(console, what)
    command = "automl run" + "".join(f" {shlex.quote(word)}" for word in _words(what))
    console.print(f"\nNothing was trained. Next: {command}", highlight=False)


def _words(what: Plan) -> list[str]:
    """The request as options of `automl run`."""
    request, words = what.request, ["--model", what.request.model]
    if request.demo:
        words.append("--demo")
    elif request.data:
        words += ["--data", request.data]
    for option, value in (
        ("--spec", request.spec_file),
        ("--preset", None if request.demo else request.preset),
    ):
        words += [option, value] if value else []
    for option, values in (("--set", request.sets), ("--tune", request.tune), ("--fix", request.fix)):
        for value in values:
            words += [option, value]
    return words


def _data(console: Console, what: Plan) -> None:
    if not what.facts:
        return
    table = Table(title="Data", title_justify="left", box=None, header_style="bold")
    for name in ("", "images", "boxes"):
        table.add_column(name, justify="left" if not name else "right")
    for name in ("train", "val", "test"):
        facts = what.facts.get(name)
        if facts:
            table.add_row(name, str(facts.get("images")), str(facts.get("boxes")))
    console.print(table)
    classes = ", ".join(f"{c['id']} {c['name']}" for c in what.facts.get("classes", []))
    console.print(f"classes: {classes}", highlight=False)
    for name, value in what.filled.items():
        if not name.endswith("_data_sources"):
            console.print(f"filled in: {name} = {value}", highlight=False)
    for warning in what.warnings:
        console.print(f"[yellow]note:[/] {warning}", highlight=False)


def _space(console: Console, what: Plan, configurations: int) -> None:
    from automl.space.cli import print_space

    console.print()
    print_space(console, what.space)
    table = Table(title="\nFirst configurations", title_justify="left", box=None, header_style="bold")
    drawn = first_configurations(what, configurations)
    table.add_column("parameter")
    for number in range(len(drawn)):
        table.add_column("default" if number == 0 else f"trial {number}", justify="right")
    for name in what.space.default:
        table.add_row(name, *(short(params.get(name, "-")) for params in drawn))
    console.print(table)
    if what.request.sampler != "random" and configurations > 1:
        console.print("[dim]later trials also depend on the results of earlier ones[/]")


def first_configurations(what: Plan, count: int) -> list[dict[str, Any]]:
    """The default and what the sampler proposes first when nothing has been reported yet."""
    import optuna

    from automl.study import Study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = Study(
        optuna.storages.InMemoryStorage(), "plan", what.space, what.request.sampler, what.request.seed
    )
    study.enqueue_default()
    return [study.ask()[1] for _ in range(count)]


def _estimate(console: Console, what: Plan) -> None:
    seconds = what.estimate["epoch_s"]
    per_trial = seconds * int(spec.get(what.spec, "train.num_epochs", 1))
    text = f"about {clock(seconds)} an epoch, {clock(per_trial)} a full trial"
    if what.searching and what.request.trials:
        share = what.estimate.get("share", 0.45) if what.request.scheduler == "halving" else 1.0
        total = per_trial * (1 + (what.request.trials - 1) * share) / max(1, what.machine.concurrency)
        text += f", {clock(total)} for {what.request.trials} trials"
    console.print(f"[bold]Time[/]     {text} ({what.estimate['basis']})", highlight=False)


def status(console: Console, root: Path) -> None:
    """The trials of a run, read from its storage; safe while it runs."""
    document, trials = _read(root)
    metric = document["request"]["metric"]
    table = Table(box=None, header_style="bold")
    for name in ("trial", "state", "epochs", metric, "at epoch", "why"):
        table.add_column(name, justify="right" if name in ("trial", "epochs", metric, "at epoch") else "left")
    for trial in trials:
        curve = trial.intermediate_values
        value = max(curve.values(), default=None)
        at = min((e for e in curve if curve[e] == value), default=None)
        state = trial.state.name
        style = STATE_STYLE.get(state, "")
        table.add_row(
            str(trial.number),
            f"[{style}]{state}[/]" if style else state,
            str(max(curve, default=-1) + 1),
            "-" if value is None else f"{value:.4f}",
            "-" if at is None else str(at + 1),
            str(trial.user_attrs.get("reason", "")),
        )
    console.print(table)
    running = is_running(root)
    console.print(
        "a driver is running it" if running else f"no driver is running it; to go on: automl resume {root}"
    )


def best(console: Console, root: Path) -> None:
    """The best trial so far and what it changed."""
    from automl.study import Study

    document, trials = _read(root)
    if not any(trial.intermediate_values for trial in trials):
        raise UserError(f"{root}: no trial has a metric yet; see automl status {root}")
    study = Study.reading(open_storage(document["request"]["storage"], root), document["study"])
    top = study.best()
    assert top is not None
    console.print(
        f"trial {top.number}: {document['request']['metric']} {top.value:.4f} at epoch {top.epoch + 1}"
    )
    if not top.complete:
        console.print("[yellow]note:[/] no trial ran to its end; this is the best of those stopped")
    for name, value in top.params.items():
        before = spec.get(document["spec"], name)
        if before != value:
            console.print(f"  {name}: {short(before)} -> {short(value)}", highlight=False)
    folder = RunDir(root).best
    if folder.is_dir():
        console.print(f"files: {folder}")


def outcome(console: Console, result: Outcome) -> None:
    """The end of a run: winner, gain over the default, what each stage brought, the next command."""
    top, default = result.winner, result.default
    console.print(
        f"\n[bold]Winner[/]  trial {top.number}, {result.metric} {top.value:.4f} at epoch {top.epoch + 1}"
    )
    if not top.complete:
        console.print("[yellow]note:[/] no trial ran to its end; this is the best of those stopped")
    if default and default.number != top.number:
        part = "" if default.complete else " (stopped early)"
        console.print(f"default{part} {default.value:.4f}, gain {top.value - default.value:+.4f}")
    elif default and result.searched:
        console.print(
            "the default configuration won: nothing better was found, and its test figures are the winner's"
        )
    for stage in result.stages:
        mark = "[green]done[/]" if stage.ok else "[yellow]left[/]"
        console.print(f"{mark}  {stage.name}: {_stage_text(stage)}", highlight=False)
    folder = result.root / "best"
    console.print(f"files   {folder}", highlight=False)
    spec_file = folder / "inference.yaml"
    following = f"deformable_detr inference -e {spec_file} dataset.infer_data_sources.image_dir=[IMAGES]"
    console.print(
        f"next    {following if spec_file.exists() else f'ls {folder}'}", highlight=False, markup=False
    )


def _stage_text(stage: Any) -> str:
    figures = [f"{k} {stage.metrics[k]:.4f}" for k in ("test_mAP", "test_mAP50") if k in stage.metrics]
    if figures:
        return ", ".join(figures)
    return stage.message if stage.ok else f"{stage.message}\n      later: {stage.command}"


def _read(root: Path) -> tuple[dict[str, Any], list[FrozenTrial]]:
    """run.json and the trials of a run folder; a run whose storage has no study yet has none."""
    import optuna

    document = RunDir(root).read_run()
    storage = open_storage(document["request"]["storage"], root)
    try:
        study = optuna.load_study(study_name=document["study"], storage=storage)
    except KeyError:
        return document, []
    return document, study.get_trials(deepcopy=False)
