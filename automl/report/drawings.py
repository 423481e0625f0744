"""Drawings that stand alone, as SVG files that bring their colours with them: a trial's curves, an image with its
rectangles."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from automl import records
from automl.report import svg
from automl.report.gather import columns_of
from automl.report.parts import embedded

MOST_CURVES, COLUMNS = 12, 3
GAP, HEAD = 8, 24  # px between panels, over a chart
COLOURS = re.sub(
    r"\s+",
    " ",
    """text{font:12px sans-serif;fill:#5c6670} .title{fill:#1d2228} .grid{stroke:#e3e6ea;fill:none}
    .axis,.tick{stroke:#5c6670;fill:none} .line{stroke:#0b6bcb;stroke-width:1.6;fill:none} .dot{fill:#0b6bcb}
    rect{fill:none;stroke-width:2} .dashed{stroke-dasharray:5 3} .c-green{stroke:#12813f} .c-red{stroke:#c62828}
    .c-orange{stroke:#b85c00} .c-purple{stroke:#7b3fb3} .c-blue{stroke:#0b6bcb} .c-grey{stroke:#6b7480}
    text[class^=c-]{fill:#fff;stroke:#000;stroke-width:2.5px;paint-order:stroke}""",
)


def curves(path: Path) -> str:
    """Every number of a trial's records (metrics.jsonl) over its epochs, three charts in a row: a dashboard shows it
    small, in a card that is wider than high."""
    charts = []
    for name, points in columns_of(records.read(path)[0]).items():
        if len({value for _, value in points}) > 1 and name != "step":
            x = svg.Axis("epoch", [epoch for epoch, _ in points], whole=True)
            y = svg.Axis(name, [value for _, value in points])
            charts.append((name, svg.lines(x, y, [svg.Line("", points, "line")])))
    body, across, down = "", svg.W + GAP, svg.H + HEAD
    charts = charts[:MOST_CURVES]
    for place, (name, chart) in enumerate(charts):
        left, top = place % COLUMNS * across, place // COLUMNS * down
        body += f'<text class="title" x="{left + svg.LEFT}" y="{top + 16}">{escape(name)}</text>'
        body += _placed(chart, left, top + HEAD, svg.W, svg.H)
    rows = max(1, math.ceil(len(charts) / COLUMNS))
    return _file(across * max(1, min(len(charts), COLUMNS)), down * rows, body)


def pictures_of(document: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Sequence[Any]]]:
    """(picture, its marks) of a stage's report document, in order."""
    found = []
    for part in document.get("parts", ()):
        if isinstance(part, dict) and part.get("kind") == "pictures":
            marks = part.get("marks") or part.get("legend") or []
            found += [(picture, marks) for picture in part.get("pictures", ())]
    return found


def picture(each: Mapping[str, Any], marks: Sequence[Any], folder: Path) -> str:
    """An image of the folder with its rectangles, the panels side by side."""
    width, height = float(each["width"]), float(each["height"])
    uri = embedded(folder, str(each.get("file", "")))
    body = ""
    for place, panel in enumerate(each["panels"]):
        left = place * (width + GAP)
        image = f'<image href="{uri}" width="{width:g}" height="{height:g}"/>' if uri else ""
        rects = "".join(svg.marked(rect, marks) for rect in panel.get("rects", ()))
        drawing = svg.svg(width, height, [image, rects], str(panel.get("title", "")))
        body += f'<text class="title" x="{left:g}" y="16">{escape(str(panel.get("title", "")))}</text>'
        body += _placed(drawing, left, HEAD, width, height)
    return _file(len(each["panels"]) * (width + GAP), height + HEAD, body)


def _placed(drawing: str, x: float, y: float, width: float, height: float) -> str:
    """An SVG element inside another."""
    return f'<svg x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"{drawing.removeprefix("<svg")}'


def _file(width: float, height: float, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'style="background:#fff"><style>{COLOURS}</style>{body}</svg>'
    )
