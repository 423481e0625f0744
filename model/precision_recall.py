"""precision_recall.html: precision over recall at IoU 0.5, a line for each class, with the scores along it. A small
page that opens without a network and needs no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from model.coco_evaluation import RECALL_THRESHOLDS, Evaluation
from model.operating_point import of_label

SIDE, LEFT, TOP = 460, 46, 12  # of the square that is drawn in, px
EVERY = 10  # recall thresholds between two marks
STYLE = """:root{--bg:#fff;--fg:#1d2228;--dim:#5c6670;--line:#e3e6ea}
@media (prefers-color-scheme:dark){:root{--bg:#15181c;--fg:#e6e9ed;--dim:#9aa4af;--line:#2d333a}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);margin:0 auto;padding:1rem;max-width:60rem}
main{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}
svg{width:min(100%,33rem);height:auto;font-size:12px} text{fill:var(--dim)}
.grid{stroke:var(--line)} .line{fill:none;stroke-width:2} .mark{stroke:var(--bg)} g:hover .line{stroke-width:5}
td,th{padding:.1rem .6rem;text-align:right} td:first-child,th:first-child{text-align:left}
i{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin-right:.5em}"""


def page(evaluation: Evaluation, names: Sequence[str]) -> str:
    """`names`: of the classes, in the order of `evaluation`."""
    drawn, rows = [], []
    for index, name in enumerate(names):
        colour = f"hsl({(index * 137.5) % 360:.0f} 65% 48%)"
        precision = evaluation.precision[0, :, index, 0]
        told = "–" if (precision < 0).any() else f"{precision.mean():.3f}"
        objects = int(evaluation.ranked.objects[index])
        dot = f"<i style='background:{colour}'></i>"
        rows.append(f"<tr><td>{dot}{escape(name)}</td><td>{objects}</td><td>{told}</td></tr>")
        if told != "–":
            drawn.append(_line(name, precision.clip(min=0), reached(evaluation, index), colour))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>Precision and recall</title><style>{STYLE}</style><h1>Precision over recall at IoU 0.5</h1>"
        "<p>Point at a mark for its score: detections from that score on have about this precision and "
        "recall.</p><main>"
        f"<svg viewBox='0 0 {LEFT + SIDE + 14} {TOP + SIDE + 40}'>{_axes()}{''.join(drawn)}</svg>"
        f"<table><tr><th>class</th><th>objects</th><th>AP50</th></tr>{''.join(rows)}</table></main></html>\n"
    )


def reached(evaluation: Evaluation, index: int) -> np.ndarray:
    """[R] the score down to which detections must count for each recall threshold; NaN for what is never reached."""
    score, hit, objects = of_label(evaluation.ranked, index)
    recall = np.cumsum(hit) / max(1, objects)
    first = np.searchsorted(recall, RECALL_THRESHOLDS)
    return np.append(score, np.nan)[np.minimum(first, len(score))]


def _line(name: str, precision: np.ndarray, scores: np.ndarray, colour: str) -> str:
    places = [
        (LEFT + SIDE * r, TOP + SIDE * (1 - p)) for r, p in zip(RECALL_THRESHOLDS, precision, strict=True)
    ]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    marks = []
    rows = zip(places, RECALL_THRESHOLDS, precision, scores, strict=True)
    for (x, y), recall, value, score in list(rows)[::EVERY]:
        if np.isfinite(score):
            told = f"{name}: recall {recall:.2f}, precision {value:.3f} at a score of {score:.3f}"
            dot = f"<circle class=mark cx={x:.1f} cy={y:.1f} r=4 fill='{colour}'>"
            marks.append(f"{dot}<title>{escape(told)}</title></circle>")
    title = f"<title>{escape(name)}</title>"
    return f"<g>{title}<path class=line stroke='{colour}' d='M{path}'/>{''.join(marks)}</g>"


def _axes() -> str:
    middle = TOP + SIDE / 2
    parts = [
        f"<text x={LEFT + SIDE / 2} y={TOP + SIDE + 34} text-anchor=middle>recall</text>",
        f"<text x=12 y={middle} text-anchor=middle transform='rotate(-90 12 {middle})'>precision</text>",
    ]
    for tenth in range(0, 11, 2):
        x, y = LEFT + SIDE * tenth / 10, TOP + SIDE * (1 - tenth / 10)
        parts.append(f"<path class=grid d='M{x} {TOP}V{TOP + SIDE}M{LEFT} {y}H{LEFT + SIDE}'/>")
        parts.append(f"<text x={x} y={TOP + SIDE + 17} text-anchor=middle>{tenth / 10:g}</text>")
        parts.append(f"<text x={LEFT - 6} y={y + 4} text-anchor=end>{tenth / 10:g}</text>")
    return "".join(parts)
