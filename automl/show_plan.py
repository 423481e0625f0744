"""What `automl plan` and the start of a run print: data, machine, space, the first configurations, the time."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from automl import forecast, latency, spec, warm_start, web_url
from automl.documents import is_empty
from automl.metric import counted
from automl.programs import command
from automl.progress import short
from automl.request import LATENCY, OF_PAGE

if TYPE_CHECKING:
    from automl.plan import Plan
    from automl.warm_start import Lessons

from automl.show import say

LISTED = 20  # of classes and the like


def plan(console: Console, what: Plan, configurations: int) -> None:
    """Data, machine, space, the first configurations, and about how long it takes."""
    _data(console, what)
    machine = what.machine
    share = "by the first trial's memory" if machine.measured else f"{machine.gpus_per_trial:g} a trial"
    on = f"{counted(len(machine.gpus), 'GPU')}, {share}" if machine.gpus_per_trial else "CPU"
    at_a_time = (
        counted(machine.concurrency, "trial")
        if machine.concurrency
        else "as many trials as the cluster holds"
    )
    at_a_time = f"at most {at_a_time}" if machine.measured and machine.concurrency else at_a_time
    say(console, f"  {on}, {at_a_time} at a time", "\nMachine")
    _settings(console, what)
    if what.start:
        say(console, f"    {what.start}", "Start")
    if not what.searching:
        say(console, "   off: one plain training of the spec", "Policy")
    else:
        request = what.request
        way = " and ".join(dict.fromkeys((request.sampler, request.scheduler)))  # one word where both are one
        say(console, f"   {forecast.budget_text(request)}; by {way}; best by {_goal(what)}", "Budget")
        lessons = lessons_of(what)
        if lessons.of:
            say(console, lessons.text, "Warm start ")
        for line in latency.told(what.latency) if what.latency else ():
            say(console, f"  {line}", "Latency")
        _space(console, what, first_configurations(what, configurations, lessons))
    if expected := forecast.of(what):
        say(console, f"     {forecast.text(what, expected)}", "Time")
    stages = [stage.name for stage in what.stages if not stage.lacks(what.spec)]
    say(console, f"    {', '.join(stages) or 'its specs and provenance'}", "After")
    say(console, f"\nNothing was trained. Next: {command('run', *what.request.words())}")
    if what.request.data and what.bundle.entry("picture"):
        words = [web_url.shown(what.request.data), *what.request.words(OF_PAGE)]
        say(console, f"A page about the data: {command('data', *words)}")


def _goal(what: Plan) -> str:
    return f"{what.metric} and {LATENCY} (their front, and its knee)" if what.trade_off else str(what.metric)


def _data(console: Console, what: Plan) -> None:
    """The facts as the model gives them: counts by part of the data as a table, everything else a line each."""
    parts = {name: facts for name, facts in what.facts.items() if _is_counts(facts)}
    columns = list(dict.fromkeys(key for facts in parts.values() for key in facts))
    if parts:
        table = Table(title="Data", title_justify="left", box=None, header_style="bold")
        for name in ("", *columns):
            table.add_column(name, justify="right" if name else "left")
        for name, facts in parts.items():
            table.add_row(Text(name), *(Text(str(facts.get(key, ""))) for key in columns))
        console.print(table)
    for name, fact in what.facts.items():
        if name not in parts and not is_empty(fact):
            say(console, f"{'data' if name == 'layout' else name}: {_fact_text(fact)}")
    for name, value in what.filled.items():
        if what.sources.get(name) == spec.DATA and not (
            isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value)
        ):
            say(console, f"filled in: {name} = {value}")
    for warning in what.warnings:
        say(console, f" {warning}", "note:", "yellow")


def _settings(console: Console, what: Plan) -> None:
    """What the model settled by data and machine, each with its reason."""
    if not what.reasons:
        return
    say(console, " settled for these data and this machine; your own values win", "\nSettings")
    for name, why in what.reasons.items():
        say(console, f" = {short(spec.get(what.spec, name))}: {why}", f"  {name}", "")


def _is_counts(fact: Any) -> bool:
    return (
        isinstance(fact, Mapping) and bool(fact) and all(isinstance(n, (int, float)) for n in fact.values())
    )


def _fact_text(fact: Any) -> str:
    if isinstance(fact, Mapping):
        if isinstance(told := fact.get("text"), str):  # the rest is for programs
            return told
        return ", ".join(f"{name} {value}" for name, value in fact.items())
    if isinstance(fact, list):
        told = [" ".join(map(str, e.values())) if isinstance(e, Mapping) else str(e) for e in fact[:LISTED]]
        return ", ".join([*told, *([f"and {len(fact) - LISTED} more"] if fact[LISTED:] else [])])
    return str(fact)


def _space(console: Console, what: Plan, drawn: list[dict[str, Any]]) -> None:
    from automl.space.cli import print_space

    console.print()
    print_space(console, what.space, what.room)
    table = Table(
        title="\nFirst configurations",
        title_justify="left",
        box=None,
        header_style="bold",
        padding=(0, 1, 0, 0),
    )
    names = list(dict.fromkeys([*what.space.default, *(name for params in drawn for name in params)]))
    table.add_column("parameter", overflow="fold")  # nothing is cut short: it could be another's
    for number in range(len(drawn)):
        table.add_column("default" if number == 0 else f"trial {number}", justify="right", overflow="fold")
    for name in names:
        table.add_row(Text(name), *(Text(short(params.get(name, "-"))) for params in drawn))
    console.print(table)
    if what.request.sampler != "random" and len(drawn) > 1:
        say(console, "", "later trials also depend on the results of earlier ones", "dim")


def lessons_of(what: Plan) -> Lessons:
    """What the run named by `--warm-start` will teach this one."""
    if not what.request.warm_start:
        return warm_start.Lessons()
    with tempfile.TemporaryDirectory(prefix="automl-plan-") as folder:
        warm_start.bring(what, Path(folder))
        return warm_start.lessons(Path(folder), what.room)


def first_configurations(what: Plan, count: int, lessons: Lessons | None = None) -> list[dict[str, Any]]:
    """The default, what `try:` lists and `lessons` (None: those of `--warm-start`) bring, and what the sampler proposes
    first when nothing has been reported yet."""
    import optuna

    from automl.asking import NothingFits

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = what.study(optuna.storages.InMemoryStorage(), "plan", lessons or lessons_of(what))
    found: list[dict[str, Any]] = []
    with suppress(NothingFits):
        found += (study.ask()[1] for _ in range(min(count, what.request.trials or count)))
    return found
