"""What a search brought, in plain words: for the report, the closing lines and `Outcome`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl.forecast import clock
from automl.front import times_as_fast
from automl.latency import figure_ms
from automl.metric import counted, figure
from automl.programs import command
from automl.report import trade_off
from automl.report.gather import Facts
from automl.report.search import style
from automl.request import LATENCY
from automl.space.leaf import is_number
from automl.stages import SKIPPED
from automl.study import DEFAULT


def sentences(facts: Facts) -> list[str]:
    """What was gained, what the other figures say of it, and how far to believe it."""
    top, default = facts.trial(facts.winner), facts.trial(DEFAULT)
    if top is None or top.value is None:
        return ["No trial has a metric yet."]
    metric, searched = facts.metric, facts.document["searching"]
    found = f"{metric.name} {figure(top.value)} at epoch {top.best_epoch}"
    if not searched:
        lines = [f"One plain training, without a search: {found}."]
    else:
        lines = [trade_off.sentence(facts) if facts.front else _gain(facts, found)]
    lines += [f"{text[0].upper()}{text[1:]}." for text in [facts.warning or facts.outdone] if text]
    if not facts.complete:
        who = f"Trial {top.number}" if searched else "It"
        lines.append(f"{who} has not run to its end; this is its best epoch.")
    if not searched:
        return lines
    lines += [f"{facts.redrawn}."] if facts.redrawn else []
    lines += [f"{text[0].upper()}{text[1:]}." for text in facts.widened]
    if facts.ended and not facts.running and not facts.unfinished:
        lines.append(f"The search ended: {facts.ended}.")
    times = times_as_fast(facts.front, default.ms if default else None)
    lines += [f"{c.words(times)}." for c in facts.comparisons]
    if facts.confirmed:
        text = facts.confirmed.words(metric, times)
        lines.append(f"{text[0].upper()}{text[1:]}.")
    if default is not None and top.number != DEFAULT and default.value is not None:
        lines.append(_flatters(facts))
    return lines


def _gain(facts: Facts, found: str) -> str:
    top, default = facts.trial(facts.winner), facts.trial(DEFAULT)
    others = counted(sum(t.finished for t in facts.trials), "finished trial")
    if top is not None and not top.finished:
        others = counted(sum(t.value is not None for t in facts.trials), "trial")
    if top is not None and top.number == DEFAULT and not facts.outdone:
        so_far = "So far nothing was gained" if facts.running or facts.open else "Nothing was gained"
        return f"{so_far}: the default configuration is the best of {others}, with {found}."
    values = [t.value for t in facts.trials if t.finished and t.value is not None]
    named = top is not None and top.value is not None and facts.metric.best([top.value, *values]) != top.value
    place = "was named the winner" if named else "is the best"
    who = f"Trial {facts.winner}" if facts.winner != DEFAULT else "The default configuration"
    text = f"{who} {place} of {others}, with {found}"
    if facts.winner == DEFAULT:
        return f"{text}."
    if default is not None and default.value is None and default.reason and default.state == "PRUNED":
        return f"{text}. The default configuration is not to compare with: {default.reason}."
    if default is None or default.value is None or top is None or top.value is None:
        return f"{text}."
    gain = facts.metric.gain(top.value, default.value)
    over = f"the default configuration ({figure(default.value)} at epoch {default.best_epoch})"
    if not default.finished:
        why = f": {default.reason}" if default.reason else ""
        return f"{text}. There is no gain to tell over {over}, which has not run to its end{why}."
    return f"{text}: {figure(gain)} better than {over}."


def _flatters(facts: Facts) -> str:
    epochs = sum(len(t.curve) for t in facts.trials)
    text = (
        f"The best of {counted(epochs, 'epoch')} in {counted(len(facts.trials), 'trial')}, picked by the figure that "
        f"is told here, flatters {facts.metric.name} of the winner"
    )
    if facts.comparisons:
        return f"{text}; the search has not seen what {', '.join(c.name for c in facts.comparisons)} were measured on."
    return f"{text}; no figure here is of data that the search has not seen."


def standing(facts: Facts) -> str:
    """Whether it goes on, and what it has taken."""
    states = [t.state for t in facts.trials]
    each = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    word = "Running" if facts.running else "Interrupted" if facts.unfinished else "Ended"
    more = f" To go on: {command('resume', facts.root)}" if word == "Interrupted" else ""
    return f"{word}; {counted(len(states), 'trial')} ({each}), {clock(facts.elapsed_s)} of search.{more}"


def table(facts: Facts) -> tuple[list[str], list[list[str | float | None]]]:
    """(columns, rows) of winner and default: the metric, then every figure that both have, or that the one has that is
    both."""
    alone = _figures_of_one(facts)
    several = [f"predicted {LATENCY}"] if facts.front else []
    columns = [
        "",
        "trial",
        facts.metric.name,
        *several,
        "at epoch",
        *(c.name for c in facts.comparisons),
        *alone,
    ]
    rows: list[list[str | float | None]] = []
    first = "winner" if facts.document["searching"] else "trained"
    for word, number, figures in (
        (first, facts.winner, [*(c.winner for c in facts.comparisons), *alone.values()]),
        ("default", DEFAULT, [c.default for c in facts.comparisons]),
    ):
        trial = facts.trial(number)
        if (
            trial is not None
            and trial.value is not None
            and (word == first or style(facts, trial) == "default")
        ):
            ms = [figure_ms(trial.ms or 0.0).removesuffix(" ms") for _ in several]
            rows.append([word, trial.number, trial.value, *ms, trial.best_epoch, *figures])
    return columns, rows


def _figures_of_one(facts: Facts) -> dict[str, float]:
    """{stage and figure: value} that the stages show of a winner that was compared with nothing."""
    if facts.comparisons:
        return {}
    ended = [stage for stage in facts.stages if stage.get("ok")]
    shown = ((stage, name, stage["metrics"].get(name)) for stage in ended for name in stage.get("shows", ()))
    return {
        f"{stage['name']}: {name}": value
        for stage, name, value in shown
        if is_number(value) and name != facts.metric.name
    }


def how_ended(stage: Mapping[str, Any]) -> str:
    """How a stage ended, in a word."""
    return "done" if stage.get("ok") else "failed" if stage.get("failed") else SKIPPED


def told(stage: Mapping[str, Any]) -> str:
    """What a stage says, without the word for how it ended, which stands before it."""
    return str(stage["message"]).removeprefix(how_ended(stage)).lstrip(" :,;")
