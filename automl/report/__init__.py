"""report.html: one file a person opens in a browser, with no network: what was gained, pictures, curves, what mattered,
the data, and how to run it again. What is of the model comes from documents that its stages write (parts.py)."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import run_history
from automl.comparison import OF_DEFAULT
from automl.documents import is_empty
from automl.errors import UserError
from automl.metric import figure
from automl.programs import command
from automl.report import mattered, parts, search, svg, trade_off, verdict
from automl.report.gather import DATA_FOLDER, Facts, TrialFacts, facts_of
from automl.request import RunRequest
from automl.rundir import write_text
from automl.space.leaf import change, is_number
from safe_documents import dump_yaml

if TYPE_CHECKING:
    from jinja2 import Template

    from automl.study import Study

__all__ = ["DATA_FOLDER", "figures", "write"]

HERE = Path(__file__).parent


def write(
    root: Path, study: Study | None = None, running: bool | None = None, out: Path | None = None
) -> Path:
    """Write `out`, by default `<run>/report.html`; returns its path. Safe while the run goes on; a driver gives its own
    `study`, and whether it is still `running`. Raises `UserError` for a run that has no trials yet, and where the file
    cannot be written."""
    path, text = out or root / "report.html", page(facts_of(root, study, running))
    try:
        write_text(path, text)
    except PermissionError:
        raise UserError(f"{path}: may not be written; write it elsewhere: --out FILE.html") from None
    return path


def page(facts: Facts) -> str:
    """The report as one HTML document that makes no request."""
    judged = what_mattered(facts)
    found = [share for share in judged.shares if share.found]
    return template().render(
        facts=facts, figure=figure, svg=svg, verdict=verdict, search=search, trade_off=trade_off,
        changed=_changed(facts), command=_command(facts),
        mattered=judged, bars=[(s.name.rsplit(".", 1)[-1], round(s.share, 3)) for s in found],
        intervals=[(s.low, s.high) for s in found],
        used={search.style(facts, t) for t in facts.trials}, material=_drawn(facts),
        spec_text=dump_yaml(facts.document["spec"]),
        style=(HERE / "page.css").read_text(), script=(HERE / "page.js").read_text(), fact_rows=_fact_rows(facts),
        others=[s for s in facts.stages if not str(s["name"]).endswith(OF_DEFAULT)],
    )  # fmt: skip


@cache
def template() -> Template:
    """Compiled once: a run writes its page again and again."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2")


def figures(root: Path) -> dict[str, Any]:
    """Everything that the report counts, as plain data: the verdict, winner and default, every trial with its curve
    (epochs from 1), the comparisons with their intervals, what mattered."""
    facts = facts_of(root)
    return {
        "run": str(root), "running": facts.running, "metric": asdict(facts.metric), "winner": facts.winner,
        "verdict": verdict.sentences(facts), "comparisons": [asdict(c) | {"gain": c.gain} for c in facts.comparisons],
        "trials": [asdict(t) for t in facts.trials], "elapsed_s": facts.elapsed_s, "stages": facts.stages,
        "front": [asdict(place) | {"epoch": place.epoch + 1} for place in facts.front],
        "confirmed": facts.confirmed and asdict(facts.confirmed),
        "mattered": asdict(what_mattered(facts)),
    }  # fmt: skip


def what_mattered(facts: Facts) -> mattered.Mattered:
    """Judged on the trials that ran to their end, or on all at an epoch they share (mattered.py)."""
    tried = [
        mattered.Tried(t.params, _by_epoch(facts, t), t.finished and t.value is not None)
        for t in facts.trials
        if t.state != "FAIL"
    ]
    return mattered.judge(tried, {name: _searched(facts, name) for name in facts.names})


def _by_epoch(facts: Facts, trial: TrialFacts) -> list[float]:
    """The best up to each epoch; up to the first that was measured, what that brought."""
    better, found = max if facts.metric.maximize else min, list[float]()
    for epoch, value in trial.curve:
        best = better(value, found[-1]) if found else value
        found += [found[-1] if found else best] * (epoch - 1 - len(found)) + [best]
    return found


def _searched(facts: Facts, name: str) -> mattered.Searched:
    row = facts.space.get(name, {})
    axis, _ = search.axis_of(facts, name)
    numbers = [row.get(end) if is_number(row.get(end)) else None for end in ("low", "high")]
    choices = [v for v in row.get("choices") or () if is_number(v)]
    return mattered.Searched(numbers[0], numbers[1], axis.log, tuple(choices))


def _changed(facts: Facts) -> list[tuple[str, str, str]]:
    """(parameter, default, winner) of what the winner changed."""
    top = facts.trial(facts.winner)
    if top is None:
        return []
    rows = [(name, facts.base(name), value) for name, value in top.params.items()]
    return [(name, *change(before, after)) for name, before, after in rows if before != after]


def _drawn(facts: Facts) -> dict[str, list[tuple[str, str, str, str]]]:
    """{"result": ..., "data": ...}: (title, words, links, HTML) of the model's documents."""
    pictures = parts.Pictures(facts.material)
    found: dict[str, list[tuple[str, str, str, str]]] = {"result": [], "data": []}
    for document, folder in facts.material:
        place = "data" if folder.name == DATA_FOLDER else "result"
        html = parts.section(document, folder, pictures)
        more = parts.links(document, folder, facts.root)
        found[place].append((str(document.get("section", "")), str(document.get("intro", "")), more, html))
    return found


def _command(facts: Facts) -> str:
    """What asks for the same run again, as a person types it; where to is left open, for there this run lies."""
    request = replace(RunRequest.from_json(facts.document["request"]), results_dir=None)
    return command("run", *request.words())


def _fact_rows(facts: Facts) -> list[tuple[str, str]]:
    """What the run stands on: versions, machine (and what later starts had otherwise), date, data."""
    document = facts.document
    rows: list[tuple[str, Any]] = [("model", document["model"]), ("run folder", facts.root)]
    if facts.started:
        rows.append(("started", f"{facts.started:%Y-%m-%d %H:%M}"))
    rows += [(str(k), v) for k, v in (document.get("machine") or {}).items()]
    rows += [(name, version) for name, version in document.get("versions", {}).items()]
    rows += [(f"from {when} on", words) for when, words in run_history.told(document)]
    for described, _ in facts.material:
        known = described.get("facts")
        rows += [(str(k), v) for k, v in known.items()] if isinstance(known, dict) else []
    return [(name, str(value)) for name, value in rows if not is_empty(value)]
