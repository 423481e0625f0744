"""report.html: one file a person opens in a browser, with no network: the winner, the curves, what mattered."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import metric as metrics
from automl import spec
from automl.documents import load_json
from automl.errors import UserError
from automl.metric import Metric
from automl.progress import short
from automl.rundir import RunDir, write_text
from automl.stages import shown_figures
from automl.storage import is_running, load_study

if TYPE_CHECKING:
    import optuna
    import plotly.graph_objects as go

    from automl.study import Study

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem} h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums} td,th{padding:.2rem .7rem;text-align:left}
th{border-bottom:2px solid #888} tr:nth-child(even){background:#f4f4f6} .COMPLETE{color:#16794c}
.PRUNED{color:#946200} .FAIL{color:#b3261e} .dim{color:#777}
"""
ENOUGH = 4  # complete trials, below which importances and slices say nothing


def write(root: Path) -> Path:
    """Write `<run>/report.html` from the storage; returns its path. Safe while the run goes on."""
    document = RunDir(root).read_run()
    metric = metrics.of_run(document)
    study = load_study(document, root)
    if study is None:
        raise UserError(f"{root}: it has no trials yet; see automl status {root}")
    parts = [
        f"<h1>{html.escape(document['model'])}: {html.escape(root.name)}</h1>",
        _summary(root, document, study, metric),
        *_figures(study.study, metric.name),
        "<h2>Trials</h2>",
        _trials(study, metric, is_running(root)),
    ]
    path = root / "report.html"
    head = f"<!doctype html><meta charset=utf-8><title>{html.escape(root.name)}</title><style>{STYLE}</style>"
    write_text(path, head + "\n".join(parts))
    return path


def _summary(root: Path, document: dict[str, Any], study: Study, metric: Metric) -> str:
    top = study.best()
    if top is None:
        return "<p>No trial has a metric yet.</p>"
    head = "winner" if document["searching"] else "trained"
    rows = [(head, f"trial {top.number}"), (str(metric), f"{top.value:.4f} at epoch {top.epoch + 1}")]
    if study.frozen(0).intermediate_values and top.number:
        first = study.result(0)
        rows.append(("default configuration", f"{first.value:.4f}, gain {top.value - first.value:+.4f}"))
    rows += _stage_rows(root)
    for name, value in top.params.items():
        before = spec.get(document["spec"], name)
        if before != value:
            rows.append((name, f"{short(before)} → {short(value)}"))
    return _table(("", ""), [[html.escape(a), html.escape(b)] for a, b in rows])


def _stage_rows(root: Path) -> list[tuple[str, str]]:
    path = root / "outcome.json"
    if not path.exists():
        return []
    document = load_json(path)
    try:
        return [
            (
                str(stage["name"]),
                shown_figures(stage["metrics"], stage.get("shows", ())) or str(stage["message"]),
            )
            for stage in document["stages"]
        ]
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: is damaged; automl resume {root} writes it again") from None


def _figures(study: optuna.Study, metric: str) -> list[str]:
    """Learning curves, best-so-far, importances and slices; one that cannot be drawn yet is left out with why."""
    from optuna import visualization as vis

    def curves() -> go.Figure:
        figure = vis.plot_intermediate_values(study)
        return figure.update_xaxes(title="epoch").update_yaxes(title=metric)

    drawers: list[tuple[str, Callable[[], go.Figure]]] = [
        ("Learning curves", curves),
        ("Best so far", lambda: vis.plot_optimization_history(study, target_name=metric)),
        ("What mattered", lambda: vis.plot_param_importances(study, target_name=metric)),
        ("Each parameter", lambda: vis.plot_slice(study, target_name=metric)),
    ]
    complete = sum(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False))
    parts, script = [], "inline"
    for title, draw in drawers:
        parts.append(f"<h2>{title}</h2>")
        if title not in ("Learning curves", "Best so far") and complete < ENOUGH:
            parts.append(
                f"<p class=dim>Not drawn: it takes {ENOUGH} complete trials, and there are {complete}.</p>"
            )
            continue
        try:
            figure = draw()
        except (ValueError, RuntimeError, ZeroDivisionError) as error:
            parts.append(f"<p class=dim>Not drawn: {html.escape(str(error))}</p>")
            continue
        figure.update_layout(title=None, template="plotly_white", margin={"t": 20, "l": 60, "r": 20, "b": 50})
        parts.append(figure.to_html(full_html=False, include_plotlyjs=script == "inline"))
        script = "there already"
    return parts


def _trials(study: Study, metric: Metric, running: bool) -> str:
    rows = []
    for trial in study.trials():
        curve = trial.intermediate_values
        best = study.result(trial.number).value if curve else None
        params = ", ".join(
            f"{k.rsplit('.', 1)[-1]} {short(v)}" for k, v in trial.user_attrs.get("params", {}).items()
        )
        state = study.state(trial.number, running)
        rows.append(
            [
                str(trial.number),
                f"<span class={state}>{state}</span>",
                str(max(curve, default=-1) + 1),
                "" if best is None else f"{best:.4f}",
                html.escape(str(trial.user_attrs.get("reason", ""))),
                f"<span class=dim>{html.escape(params)}</span>",
            ]
        )
    return _table(("trial", "state", "epochs", metric.name, "why", "params"), rows)


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"
