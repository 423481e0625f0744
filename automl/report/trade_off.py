"""Of a search for a metric and the predicted latency: its front in words, in the plane of both, and as a table."""

from __future__ import annotations

from automl.front import Place
from automl.latency import figure_ms
from automl.metric import counted, figure
from automl.report import svg
from automl.report.gather import Facts
from automl.report.search import ROOM, in_order, style, told
from automl.report.svg import Axis, Dot, Line
from automl.request import LATENCY
from automl.study import DEFAULT

BEYOND = 1.5  # spans of the front that are drawn of what is worse


def sentence(facts: Facts) -> str:
    """Which trial is the knee, of what, and what the default is beside it."""
    place = next(place for place in facts.front if place.knee)
    of = counted(sum(t.finished for t in facts.trials), "finished trial")
    who = "The default configuration" if place.number == DEFAULT else f"Trial {place.number}"
    on = f"the knee of the front of {len(facts.front)}" if len(facts.front) > 1 else "alone on the front"
    text = (
        f"{who} is {on} among {of}, with {facts.metric.name} {figure(place.value)} at epoch {place.epoch + 1} and a "
        f"predicted {figure_ms(place.ms)}"
    )
    default = facts.trial(DEFAULT)
    if place.number == DEFAULT or default is None or default.ms is None:
        return f"{text}."
    if default.value is None:
        return f"{text}. The default configuration is not to compare with: {default.reason}."
    part = "" if default.finished else " (not run to its end)"
    return f"{text}; the default configuration{part} has {figure(default.value)} and {figure_ms(default.ms)}."


def plane(facts: Facts) -> str:
    """Every trial with a metric by latency and metric, the front as steps: what is reached by any latency."""
    shown = [(t, t.value, t.ms) for t in in_order(facts) if t.value is not None and t.ms is not None]
    if not shown:
        return ""
    bounds = _worth_seeing(facts)
    shown = [(t, max(bounds[0], min(bounds[1], value)), ms) for t, value, ms in shown]
    x = Axis(LATENCY, [ms for *_, ms in shown], room=ROOM)
    y = Axis(facts.metric.name, [value for _, value, _ in shown], room=ROOM)
    sx, sy = svg.scales(x, y)
    front = {place.number for place in facts.front}
    drawn = [
        Dot(ms, value, f"{told(facts, t)}, predicted {figure_ms(ms)}{', on the front' if t.number in front else ''}",
            f"dot {style(facts, t)}{' front' if t.number in front else ''}", t.number)
        for t, value, ms in shown
    ]  # fmt: skip
    steps = svg.line(Line("the front", _steps(facts.front), "line best"), sx, sy) if len(front) > 1 else ""
    knee = next(((place.ms, place.value) for place in facts.front if place.knee), None)
    mark = f'<circle class="knee" cx="{sx(knee[0])}" cy="{sy(knee[1])}" r="9"/>' if knee else ""
    return svg.dots(x, y, drawn).replace("</svg>", f"{steps}{mark}</svg>", 1)


def _worth_seeing(facts: Facts) -> tuple[float, float]:
    """The metrics that are drawn at their place; others lie at the edge: one trial that diverged would hide all."""
    values = [place.value for place in facts.front]
    known = facts.trial(DEFAULT)
    values += [known.value] if known is not None and known.value is not None else []
    span = max(values) - min(values) or abs(max(values)) or 1.0
    low, high = min(values) - BEYOND * span, max(values) + BEYOND * span
    return (low, max(values)) if facts.metric.maximize else (min(values), high)


def _steps(front: list[Place]) -> list[tuple[float, float]]:
    points = []
    for before, place in zip([None, *front], front, strict=False):
        points += [(place.ms, before.value)] if before else []
        points.append((place.ms, place.value))
    return points


def table(facts: Facts) -> list[tuple[int, bool, str, str, int, str]]:
    """(trial, whether it is the knee, metric, ms, epoch from 1, folder below the run's) of the front, fastest first."""
    return [
        (p.number, p.knee, figure(p.value), figure_ms(p.ms), p.epoch + 1, p.folder or "not handed over yet")
        for p in facts.front
    ]
