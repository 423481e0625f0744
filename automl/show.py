"""What the commands print: statuses, winners (plans: show_plan.py). Reads, formats, nothing else. Text that comes from
elsewhere (names, errors, logs) is printed as it is, never read as markup."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from automl import cut, latency, provenance, restored_plan, spec
from automl import metric as metrics
from automl.budget import ended_since_best
from automl.checkpoints import LINES, Checkpoints, so_far
from automl.comparison import compare
from automl.errors import UserError
from automl.front import places, times_as_fast
from automl.latency import figure_ms, pace
from automl.locks import is_running
from automl.metric import Metric, counted, figure, signed
from automl.pareto import ms_of
from automl.programs import command
from automl.progress import STATE_STYLE
from automl.request import LATENCY, RunRequest
from automl.run_outcome import ended, unconfirmed
from automl.rundir import RunDir
from automl.space.leaf import change
from automl.storage import load_study
from automl.widening import widenings

if TYPE_CHECKING:
    from automl.checkpoints import Winner
    from automl.front import Place
    from automl.handoff import Outcome
    from automl.stages import StageResult
    from automl.study import Study

NARROW = 60  # columns of a terminal, below which reasons have no room beside the figures


def say(console: Console, text: str, head: str = "", style: str = "bold") -> None:
    """One line: a styled word, then text as it is."""
    console.print(Text.assemble((head, style), text))


def status(console: Console, root: Path) -> None:
    """The trials of a run, read from its storage; safe while it runs."""
    document, study = _read(root)
    metric = metrics.of_run(document)
    running = is_running(root)  # a trial that nobody runs waits to be resumed
    _trials(console, study, Checkpoints(RunDir(root), metric), running)
    _front(console, places(study, RunDir(root)) if study else (), metric, RunDir(root))
    if text := latency.redrawn_text(
        study.trials() if study else (), document["request"].get("max_latency_ms")
    ):
        say(console, text)
    for text in widenings(study.trials() if study else ()):
        say(console, text)
    end, left = ended(root, study), cut.text(study.trials() if study else ())
    since_best = ended_since_best(study, None) if study else 0
    larger = RunRequest.from_json(document["request"]).larger(since_best, study.elapsed_s() if study else 0)
    going_on = f"to go on: {command('resume', root)}{f' {larger}' if left else ''}"
    why = None if running else restored_plan.refusal(RunDir(root))
    if why:
        going_on = f"it cannot go on: {why}"
    if running:
        say(console, "a driver is running it")
    elif end is None:
        say(console, f"no driver is running it; {going_on}")
    elif unconfirmed(document, end):
        say(console, f"the winner is in {RunDir(root).best}; it was stopped while this was being confirmed")
        say(console, f"no driver is running it; {going_on}")
    else:
        what = "the winner" if document["searching"] else "what was trained"
        if end.get("ended"):
            say(console, f"the search ended: {end['ended']}")
        say(console, f"it is finished; {what} is in {RunDir(root).best}")
        say(console, f"next    {_next(root, end)}")
        if left:
            say(console, left)
        if document["searching"] or left:
            what = "search" if document["searching"] else "train"
            say(console, going_on if why else f"to {what} on: {command('resume', root)} {larger}")


def _trials(console: Console, study: Study | None, here: Checkpoints, running: bool) -> None:
    """A row each. Figures are never cut: where there is no room beside them, the reasons stand below."""
    narrow = console.width < NARROW
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0) if narrow else (0, 1))
    several = [f"predicted {LATENCY}"] if study and study.several else []
    names = (
        "trial",
        "state",
        "epochs",
        here.metric.name,
        *several,
        "at epoch",
        *(() if narrow else ("why",)),
    )
    rows: list[list[str]] = []
    reasons: list[str] = []
    for trial in study.trials() if study else []:
        curve = trial.intermediate_values
        done = here.result(study, trial.number) if study and curve else None
        state = study.state(trial.number, running) if study else ""
        ended_or_waits = state not in ("RUNNING", "WAITING")  # what it was once cut or paused for is over
        reasons.append(str(trial.user_attrs.get("reason", "")) if ended_or_waits else "")
        row = [
            str(trial.number),
            state,
            str(study.epochs_of(trial.number) if study else 0),
            figure(done.value if done else None),
            *(figure_ms(ms_of(trial)).removesuffix(" ms") for _ in several),
            str(done.epoch + 1) if done else "-",
        ]
        rows.append(row if narrow else [*row, reasons[-1]])
    for n, name in enumerate(names):
        least = None if name == "why" else max([len(row[n]) for row in rows], default=1)
        justify: Any = "left" if name in ("state", "why") else "right"
        table.add_column(Text(name), justify=justify, min_width=least, overflow="fold")
    for row in rows:
        table.add_row(
            *(Text(text, STATE_STYLE.get(text, "") if n == 1 else "") for n, text in enumerate(row))
        )
    console.print(table)
    for row, reason in zip(rows, reasons, strict=True) if narrow else ():
        if reason and reason != "finished":
            say(console, f"trial {row[0]}: {reason}")


def _next(root: Path, end: Mapping[str, Any]) -> str:
    """The command that the run named at its end, of the place where it lies now."""
    told, before = str(end.get("next") or ""), str(end.get("root") or "")
    if not told or not RunDir(root).best.is_dir():
        return command("best", root)
    here, quoted = str(root.resolve()), shlex.quote(before)
    places = (
        rf"(?:{re.escape(quoted)}|{re.escape(before)})(?=['\s/]|$)"  # in one go: `here` may hold `before`
    )
    return re.sub(places, lambda m: shlex.quote(here) if m[0] == quoted else here, told) if before else told


def best(console: Console, root: Path) -> None:
    """The best trial so far, what it changed, and its files."""
    document, study = _read(root)
    run, metric = RunDir(root), metrics.of_run(document)
    chosen = so_far(study, run, metric) if study else None
    if study is None or chosen is None:
        raise UserError(f"{root}: no trial has a metric yet; see {command('status', root)}")
    top = chosen.best
    name = f"trial {top.number}" + (
        " (the default configuration)" if not top.number and document["searching"] else ""
    )
    say(console, f"{name}: {metric.name} {figure(top.value)} at epoch {top.epoch + 1}")
    _front(console, places(study, run), metric, run)
    if chosen.warning:
        say(console, f" {chosen.warning}", "note:", "yellow")
    if not top.complete:
        _stopped(console)
    for name, value in top.params.items():
        before = spec.get(document["spec"], name)
        if before != value:
            say(console, f"  {name}: {' -> '.join(change(before, value))}")
    say(console, f"checkpoint: {_checkpoint_text(run, chosen)}")
    if RunDir(root).best.is_dir():
        handed = handed_over(root)
        other = "" if handed == top.number else f", which holds trial {handed}"
        if handed is None:
            other = f", not all there yet; where nobody hands over: {_handing_over(root)}"
        say(console, f"files: {RunDir(root).best}{other}")
    elif why := restored_plan.refusal(RunDir(root), searching=False):
        say(console, f"it cannot be handed over: {why}")
    else:
        say(console, f"to have it now: {command('best', root, '--export')}")


def _handing_over(root: Path) -> str:
    """The command that does so, or why none does."""
    if restored_plan.refusal(RunDir(root)) is None:
        return command("resume", root)
    return restored_plan.refusal(RunDir(root), searching=False) or command("best", root, "--export")


def _front(console: Console, found: Sequence[Place], metric: Metric, run: RunDir) -> None:
    """The trials of a front, a line each, and where they lie."""
    if not found:
        return
    say(console, f" of {counted(len(found), 'trial')}, fastest first", "front")
    for place in found:
        at = f"  {run.root / place.folder}" if place.folder else ""
        say(console, f"  {place.words(metric)}{at}")
    if later := next((place.later for place in found if place.later), ""):
        say(console, f"  to score and make ready one that is not the knee: {later}")


def handed_over(root: Path) -> int | None:
    """The trial whose files best/ holds; None where that is not known, or not all of them are there."""
    found = provenance.read(RunDir(root).best)
    number = found.get("trial")
    return number if isinstance(number, int) and provenance.is_whole(found) else None


def _checkpoint_text(run: RunDir, chosen: Winner) -> str:
    """Where the checkpoint that scored is, or why none is told."""
    if chosen.weights is not None:
        return str(chosen.weights.file)
    if chosen.warning:
        return "none is there"
    named = (run.trial(chosen.best.number) / LINES).is_file()
    return (
        "none, the trainer names none"
        if named
        else f"not known, {run.trial(chosen.best.number)} has no records"
    )


def outcome(console: Console, result: Outcome) -> None:
    """The end of a run: winner, gain over the default, what each stage brought, the next command."""
    top, default, metric = result.winner, result.default, result.metric
    head = "Trained" if not result.searched else "Winner" if result.folder == "best" else "Best so far"
    say(
        console,
        f"  trial {top.number}, {metric.name} {figure(top.value)} at epoch {top.epoch + 1}",
        f"\n{head}",
    )
    _front(console, result.front, metric, RunDir(result.root))
    if not top.complete:
        _stopped(console)
    for told in filter(None, (result.failed, result.warning)):
        say(console, f" {told}", "note:", "yellow")
    if default and default.number != top.number:
        lower = "" if metric.maximize else " (lower is better)"
        gain = f"gain {signed(metric.gain(top.value, default.value))}"
        if not default.complete:
            gain = f"but at epoch {default.epoch + 1} and not run to its end: no gain can be told"
        at = f" at a predicted {figure_ms(result.default_ms)}" if result.default_ms else ""
        times = times_as_fast(result.front, result.default_ms)
        faster = f", {pace(times)}" if times else ""
        say(console, f"default {figure(default.value)}{at}{lower}, {gain}{faster}")
        for compared in compare([asdict(stage) for stage in result.stages], result.root, result.metric):
            say(console, compared.words(times), "  ")
        if result.confirmed:
            say(console, result.confirmed.words(metric, times), "  ")
    elif default is None and result.searched:
        say(console, " the default configuration has no metric: no gain can be told", "note:", "yellow")
    elif default and result.searched and not result.warning and top.complete:
        knee = "the default configuration is the knee of the front"
        so_far = "so far nothing is better than the default configuration"
        won = "the default configuration won: nothing better was found" if head == "Winner" else so_far
        say(console, knee if result.front else won)
    if result.checkpoint is None:
        say(
            console,
            " the trainer wrote no checkpoint; specs and provenance are handed over",
            "note:",
            "yellow",
        )
    for stage in result.stages:
        mark, style = (
            ("done", "green") if stage.ok else ("FAIL", "red") if stage.failed else ("left", "yellow")
        )
        say(console, f"  {stage.name}: {_stage_text(stage)}", mark, style)
    if result.folder == "best" and any(stage.failed for stage in result.stages):
        say(console, f"again   once that is mended: {command('resume', result.root)}")
    say(console, f"files   {result.root / result.folder}")
    if result.report:
        say(console, f"report  {result.report}")
    if result.next:
        say(console, f"next    {result.next}")


def _stopped(console: Console) -> None:
    say(console, " it has not run to its end; this is its best epoch", "note:", "yellow")


def _stage_text(stage: StageResult) -> str:
    if figures := stage.figures():
        return figures
    if stage.ok or not stage.command:
        return stage.message
    return f"{stage.message}\n      later: {stage.command}"


def _read(root: Path) -> tuple[dict[str, Any], Study | None]:
    """run.json and the study of a run folder; a run whose storage has none yet has None."""
    document = RunDir(root).read_run()
    return document, load_study(document, root)
