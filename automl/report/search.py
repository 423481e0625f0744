"""The charts and the table of a search: curves, each parameter in real values, parallel coordinates, costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from automl.forecast import clock
from automl.metric import counted, figure
from automl.report import svg
from automl.report.gather import Facts, TrialFacts
from automl.report.svg import Axis, Dot, Line
from automl.space.leaf import is_number, short
from automl.study import DEFAULT

MOST_COLUMNS = 9  # charts of further recorded numbers
LOG_SPAN = (
    30.0  # of values without a known scale: the largest over the least, from which they are drawn in log
)
ROOM = 0.04  # share of a chart of dots that stays free round them
STATES = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "PAUSED": "waiting",
    "CUT": "waiting",
    "WAITING": "waiting",
    "FAIL": "failed",
    "RUNNING": "running",
}


def style(facts: Facts, trial: TrialFacts) -> str:
    """The class of whatever shows a trial."""
    if trial.number == facts.winner:
        return "winner"
    if trial.number == DEFAULT and facts.document["searching"]:
        return "default"
    return STATES.get(trial.state, "running")


def in_order(facts: Facts) -> list[TrialFacts]:
    """As they are to be drawn: winner and default last, on top."""
    ranks = {"winner": 3, "default": 2, "complete": 1}
    return sorted(facts.trials, key=lambda t: ranks.get(style(facts, t), 0))


def told(facts: Facts, trial: TrialFacts) -> str:
    """A trial in a line, for whoever points at it."""
    value = (
        ""
        if trial.value is None
        else f", {facts.metric.name} {figure(trial.value)} at epoch {trial.best_epoch}"
    )
    words = {"winner": " (winner)", "default": " (default)"} if facts.document["searching"] else {}
    word = words.get(style(facts, trial), "")
    return f"trial {trial.number}{word}: {trial.state}{value}"


def curves(facts: Facts, name: str | None = None) -> str:
    """The metric, or another recorded number, over epochs from 1, a line for each trial."""
    found = [(t, t.curve if name is None else t.columns.get(name, [])) for t in in_order(facts)]
    points = [p for _, line in found for p in line]
    if not points:
        return ""
    ys = [y for _, y in points]
    log = name is not None and min(ys) > 0 and max(ys) > LOG_SPAN * min(ys) and max(ys) > 5 * median(ys)
    drawn = [Line(told(facts, t), line, f"line {style(facts, t)}", t.number) for t, line in found if line]
    x = Axis("epoch", [p[0] for p in points], whole=True)
    return svg.lines(x, Axis(name or facts.metric.name, ys, log=log), drawn)


def recorded(facts: Facts) -> list[tuple[str, str]]:
    """(name, chart) of the further numbers that trials recorded; what never changes is left out."""
    names = dict.fromkeys(name for t in facts.trials for name in t.columns)
    charts = []
    for name in names:
        values = {v for t in facts.trials for _, v in t.columns.get(name, ())}
        if name not in (facts.metric.name, "elapsed_s", "step") and len(values) > 1:
            charts.append((name, curves(facts, name)))
    return [*charts[:MOST_COLUMNS], *_seconds(facts)]


def _seconds(facts: Facts) -> list[tuple[str, str]]:
    """The time that epochs took."""
    drawn = [
        Line(told(facts, t), t.took, f"line {style(facts, t)}", t.number) for t in in_order(facts) if t.took
    ]
    points = [p for line in drawn for p in line.points]
    if len({y for _, y in points}) < 2:
        return []
    x, y = Axis("epoch", [e for e, _ in points], whole=True), Axis("s", [0.0, *(s for _, s in points)])
    return [("seconds of each epoch", svg.lines(x, y, drawn))]


def best_so_far(facts: Facts) -> str:
    """Each trial's value in the order of their numbers, and the best up to there."""
    ended = [t for t in facts.trials if t.value is not None and t.state != "FAIL"]
    if len(ended) < 2:
        return ""
    best, steps = None, []
    for t in ended:
        if t.finished and (best is None or facts.metric.better(t.value or 0.0, best)):
            best = t.value
        if best is not None:
            steps.append((float(t.number), best))
    x = Axis("trial", [t.number for t in ended], whole=True, room=ROOM)
    y = Axis(facts.metric.name, [t.value for t in ended if t.value is not None], room=ROOM)
    sx, sy = svg.scales(x, y)
    line = svg.line(Line("best so far", steps, "line best"), sx, sy)
    return svg.dots(x, y, _dots(facts, ((t, float(t.number)) for t in ended))).replace(
        "</svg>", f"{line}</svg>", 1
    )


def axis_of(facts: Facts, name: str) -> tuple[Axis, dict[int, float]]:
    """A parameter's axis in real values, and where on it each trial lies."""
    values = {t.number: t.params[name] for t in facts.trials if name in t.params}
    title, known = name.rsplit(".", 1)[-1], facts.space.get(name, {})
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values.values())
    if numeric and values:
        placed = {n: float(v) for n, v in values.items() if math.isfinite(v)}
        low, high = min(placed.values(), default=0.0), max(placed.values(), default=1.0)
        log = low > 0 and (bool(known.get("log")) or ("log" not in known and high / low > LOG_SPAN))
        whole = all(isinstance(v, int) for v in values.values())
        options = {float(v) for v in known.get("choices") or () if is_number(v)}
        at = sorted(v for v in {*options, *placed.values()} if low <= v <= high) if options else []
        log = log or (len(at) > 2 and low > 0 and are_multiples(at))
        return Axis(title, list(placed.values()), log=log, whole=whole, at=at, room=ROOM), placed
    listed = known.get("choices") or ()
    names = list(dict.fromkeys([*map(short, listed), *sorted(map(short, values.values()))]))
    names = [n for n in names if n in set(map(short, values.values()))]
    return Axis(title, names=names), {n: float(names.index(short(v))) for n, v in values.items()}


def are_multiples(values: Sequence[float]) -> bool:
    """Whether each is about the same multiple of the one before, as 1, 2, 4, 8."""
    ratios = [b / a for a, b in itertools.pairwise(values)]
    return max(ratios) < 1.1 * min(ratios)


def each_parameter(facts: Facts) -> list[tuple[str, str]]:
    """(name, chart): the metric over each parameter that varied, in real values."""
    charts = []
    y = Axis(facts.metric.name, [t.value for t in facts.trials if t.value is not None], room=ROOM)
    for name in facts.names:
        axis, placed = axis_of(facts, name)
        shown = [(t, placed[t.number]) for t in in_order(facts) if t.number in placed and t.value is not None]
        if len({at for _, at in shown}) > 1:
            charts.append((name, svg.dots(axis, y, _dots(facts, shown), height=220)))
    return charts


def _dots(facts: Facts, placed: Iterable[tuple[TrialFacts, float]]) -> list[Dot]:
    return [
        Dot(at, t.value, told(facts, t), f"dot {style(facts, t)}", t.number)
        for t, at in placed
        if t.value is not None
    ]


def parallel(facts: Facts) -> str:
    """Every trial with a value as a line over the metric, so that this is always in sight, and what varied."""
    shown = [t for t in in_order(facts) if t.value is not None]
    found = [axis_of(facts, name) for name in facts.names]
    found = [
        (axis, placed)
        for axis, placed in found
        if len({placed[t.number] for t in shown if t.number in placed}) > 1
    ]
    if len(shown) < 3 or len(found) < 2:
        return ""
    first = Axis(facts.metric.name, [t.value for t in shown if t.value is not None])
    rows = [
        (
            [t.value, *(placed.get(t.number) for _, placed in found)],
            told(facts, t),
            f"line {style(facts, t)}",
            t.number,
        )
        for t in shown
    ]
    return svg.parallel([first, *(axis for axis, _ in found)], rows)


def table(facts: Facts) -> tuple[list[str], list[dict[str, Any]]]:
    """(columns, rows): a row for each trial, what differs from the default first among its parameters."""
    total = sum(t.seconds or 0.0 for t in facts.trials)
    rows = []
    for t in facts.trials:
        changed = {n: v for n, v in t.params.items() if facts.base(n) != v}
        rows.append({
            "number": t.number, "style": style(facts, t), "state": t.state, "epochs": t.epochs,
            "value": t.value, "at": t.best_epoch, "seconds": t.seconds or 0.0,
            "time": clock(t.seconds) if t.seconds else "–", "share": (t.seconds or 0.0) / (total or 1.0),
            "part": f"{t.seconds / total:.0%}" if t.seconds else "–", "reason": t.reason,
            "params": pairs(changed) or ("the default configuration" if t.params else "")})  # fmt: skip
    return [
        "trial",
        "state",
        "epochs",
        facts.metric.name,
        "at epoch",
        "time",
        "of all time",
        "why it ended",
        "what it changed",
    ], rows


def pairs(params: dict[str, Any]) -> str:
    return ", ".join(f"{name.rsplit('.', 1)[-1]} {short(rounded(value))}" for name, value in params.items())


def rounded(value: Any) -> Any:
    """A number in four digits; anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def stopped(facts: Facts) -> str:
    """How many trials were stopped early, and what that saved against training each to its end."""
    ended = [
        t for t in facts.trials if t.state in ("COMPLETE", "PRUNED") and t.epochs
    ]  # some were refused untrained
    early: Sequence[TrialFacts] = [t for t in ended if t.state == "PRUNED"]
    if not early:
        return ""
    epochs = facts.epochs
    were = "was" if len(early) == 1 else "were"
    told = f"{len(early)} of {counted(len(ended), 'trial')} {were} stopped early"
    return f"{told}; {counted(epochs, 'epoch')} {'was' if epochs == 1 else 'were'} trained in all."
