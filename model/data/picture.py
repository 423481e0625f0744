"""A picture of a dataset: one HTML page that opens without a network. What is in it, what a person who trains
detectors would look at first, and sixteen images with their boxes."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageDraw

from model.data import check
from model.data.classes import outside_ids
from model.data.coco import Options, load_sources
from model.data.facts import FEW
from model.data.images import CHECKED, open_rgb
from model.data.problems import listed
from model.data.seen import SMALL_PX, factors, training_scale
from model.data.sources import without_secrets
from model.data.tree import SPLITS
from model.errors import UserError, number_of
from model.spec import get
from model.told import told

SHEET = 16  # images with boxes
SIDE_PX = 320  # of the longer side of an image of the sheet
COLOURS = ("#d64541", "#3478c8", "#f0b428", "#3ca05a", "#9650b4", "#e67e22", "#16a085", "#7f8c8d")
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#222}
body{overflow-wrap:anywhere} table{overflow-wrap:normal}
h1{font-size:1.5rem} h2{font-size:1.15rem;margin-top:2rem} .dim{color:#777} .problem{color:#b3261e}
table{border-collapse:collapse;font-variant-numeric:tabular-nums} td,th{padding:.2rem .7rem;text-align:right}
td:first-child,th:first-child{text-align:left} th{border-bottom:2px solid #888} tr:nth-child(even){background:#f4f4f6}
.charts,.sheet{display:flex;flex-wrap:wrap;gap:1rem} .sheet figure{margin:0;max-width:250px} .sheet img{width:250px}
figcaption{font-size:12px;color:#777;overflow-wrap:anywhere} .scroll{overflow-x:auto}
"""


@dataclass(frozen=True)
class Split:
    """One split as arrays; T boxes of N images, crowds left out."""

    name: str
    paths: list[Path]  # [N]
    boxes_xywh_px: np.ndarray  # [T, 4]
    owner: np.ndarray  # [T] index of the box's image
    labels: np.ndarray  # [T] category ids
    sizes: np.ndarray  # [N, 2] (W, H) px
    names: Mapping[Any, str] = field(default_factory=dict)  # category id -> name


@told("looking at the data", aside=True)
def write(spec: Mapping[str, Any], data_dir: str | None, target: Path, work_dir: Path) -> list[str]:
    """Write the page to `target`. Returns what it warns of. Raises `UserError` for data that are not there; those with
    problems are shown with their problems."""
    found = check.inspect(spec, data_dir, work_dir=work_dir)
    names = {c["id"]: str(c["name"]) for c in found["facts"].get("classes", [])}
    title = html.escape(without_secrets(data_dir or "dataset"))
    splits = (
        []
        if found["problems"]
        else [s for s in (read(found["fill"], n, Options.of(spec)) for n in SPLITS) if s is not None]
    )
    warnings = [*found["warnings"], *advice(splits, names, spec)]
    parts = [
        f"<h1>{title}</h1>",
        f"<p>{html.escape(found['facts'].get('layout', ''))}</p>",
        *_lines("Problems", found["problems"], "problem"),
        *_lines("Worth a look", warnings, ""),
    ]
    if splits:
        parts += [
            _counts(splits),
            _classes(splits, names),
            *_charts(splits, training_scale(spec)),
            _sheet(splits, names),
        ]
    head = f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(head + "\n".join(parts), encoding="utf-8")
    return [*found["problems"], *warnings]


def read(fill: Mapping[str, Any], name: str, options: Options) -> Split | None:
    """The split that the leaves of `check.inspect` name, as training reads it."""
    sources = fill.get(f"dataset.{name}_data_sources") or []
    if name == "test" and fill.get("dataset.test_data_sources.json_file"):
        sources = [{key: fill[f"dataset.test_data_sources.{key}"] for key in ("json_file", "image_dir")}]
    if not sources:
        return None
    data = load_sources(sources, options=options)
    ids, counts = outside_ids(data.categories), ~np.asarray(data.crowd)
    return Split(
        name, [data.file(n) for n in range(len(data))], np.asarray(data.boxes_xywh_px)[counts],
        np.repeat(np.arange(len(data)), np.diff(data.starts))[counts],
        _column([ids[i] for i in data.labels[counts].tolist()]),
        data.sizes[:, ::-1].astype(float), {ids[int(c["id"])]: str(c["name"]) for c in data.categories},
    )  # fmt: skip


def _column(ids: list[Any]) -> np.ndarray:
    """[T] the ids as they are: numpy would make floats of those beyond 64 bits, and texts of numbers among texts."""
    return np.array(ids, dtype=None if all(type(i) is int and abs(i) < 1 << 63 for i in ids) else object)


def trained_sides(split: Split, scale: tuple[float, float, bool]) -> np.ndarray:
    """[T, 2] width and height of the boxes in px as training sees them."""
    sizes = split.sizes[split.owner] if len(split.owner) else np.ones((0, 2))
    return split.boxes_xywh_px[:, 2:] * factors(sizes, scale)


def sizes_of(sides: np.ndarray) -> np.ndarray:
    """[T, 2] sides -> [T] roots of areas: what the plan measures objects by, and COCO's small, medium and large."""
    return np.sqrt(np.maximum(sides.prod(axis=1), 0))


def advice(splits: Sequence[Split], names: Mapping[Any, str], spec: Mapping[str, Any]) -> list[str]:
    """What somebody who has trained detectors would say on seeing these data."""
    lines = []
    for split in splits[:1]:
        counts = Counter(split.labels.tolist())
        few = [f"{names[i]} ({counts[i]})" for i in names if 0 < counts[i] < FEW]
        if few:
            lines.append(f"{split.name}: classes of fewer than {FEW} objects: {', '.join(few)}")
        ranked = [n for _, n in counts.most_common()]
        if len(ranked) > 1 and ranked[0] > 100 * ranked[-1]:
            lines.append(
                f"{split.name}: the commonest class has {ranked[0] // ranked[-1]} times the objects of the rarest"
            )
    for split in splits:
        small = sizes_of(trained_sides(split, training_scale(spec))) < SMALL_PX
        if small.any():
            share, counts = f"{100 * small.mean():.0f} %", Counter(split.labels.tolist())
            tenth = [
                names.get(i, str(i))
                for i, n in Counter(split.labels[small].tolist()).items()
                if n >= counts[i] / 10
            ]
            whose = f", a tenth or more of {listed(tenth)}" if tenth else ""
            number = f"{number_of(int(small.sum()), 'object')} ({share})"
            lines.append(f"{split.name}: {number} smaller than {SMALL_PX} px at the training size{whose}")
        bare = len(split.paths) - len(np.unique(split.owner))
        if bare > len(split.paths) / 2:
            lines.append(
                f"{split.name}: {bare} of {number_of(len(split.paths), 'image')} "
                f"{'has' if bare == 1 else 'have'} no object"
            )
        most = max(np.bincount(split.owner, minlength=1).tolist())
        if most > int(get(spec, "model.num_queries") or most):
            lines.append(
                f"{split.name}: up to {number_of(most, 'object')} an image, more than model.num_queries"
            )
    return lines


# ---- the page ---------------------------------------------------------------------------------------------------


def _lines(title: str, lines: Sequence[str], style: str) -> list[str]:
    if not lines:
        return []
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return [f"<h2>{title}</h2><ul class='{style}'>{items}</ul>"]


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f"<div class=scroll><table><tr>{top}</tr>{body}</table></div>"


def _counts(splits: Sequence[Split]) -> str:
    rows = []
    for s in splits:
        each = np.bincount(s.owner, minlength=len(s.paths)).tolist()
        low, high = ("x".join(map(str, of(axis=0).astype(int).tolist())) for of in (s.sizes.min, s.sizes.max))
        rows.append((
            s.name, len(s.paths), len(s.labels), f"{sum(each) / len(each):.1f} ({min(each)} to {max(each)})",
            each.count(0), low if low == high else f"{low} to {high}",
        ))  # fmt: skip
    return _table(("", "images", "boxes", "boxes an image", "images without", "image sizes, px"), rows)


def _classes(splits: Sequence[Split], names: Mapping[Any, str]) -> str:
    counts = {s.name: Counter(s.labels.tolist()) for s in splits}
    rows = [(f"{i} {name}", *(counts[s.name][i] for s in splits)) for i, name in names.items()]
    return "<h2>Objects by class</h2>" + _table(("class", *(s.name for s in splits)), rows)


def _charts(splits: Sequence[Split], scale: tuple[float, float, bool]) -> list[str]:
    sides = np.concatenate([trained_sides(s, scale) for s in splits])
    shape = sides[:, 0] / np.maximum(sides[:, 1], 1e-9)
    each = np.concatenate([np.bincount(s.owner, minlength=len(s.paths)) for s in splits])
    return [
        "<h2>Sizes and shapes</h2><div class=charts>",
        _bars(
            "size of objects at the training size, px",
            sizes_of(sides),
            (0, 8, 16, 32, 64, 128, 256, 512, np.inf),
        ),
        _bars("width / height", shape, (0, 0.2, 0.33, 0.5, 0.8, 1.25, 2, 3, 5, np.inf)),
        _bars("objects in an image", each, (0, 1, 2, 3, 5, 10, 20, 50, 100, np.inf), whole=True),
        "</div>",
    ]


def _bars(title: str, values: np.ndarray, edges: Sequence[float], whole: bool = False) -> str:
    """A histogram as SVG; the last bin is open. Of `whole` numbers a bin is told by its first and last."""
    counts = [int(((values >= a) & (values < b)).sum()) for a, b in pairwise(edges)]
    top = max([*counts, 1])
    rows = []
    for n, count in enumerate(counts):
        low, high = edges[n], edges[n + 1] - whole
        label = f"from {low:g}" if np.isinf(high) else f"{low:g} to {high:g}" if low < high else f"{low:g}"
        y, length = 18 * n, 150 * count / top
        rows.append(
            f"<text x=90 y={y + 13} text-anchor=end>{label}</text><rect x=96 y={y + 3} width={length:.1f} height=12 "
            f"fill=#3478c8 /><text x={100 + length:.1f} y={y + 13}>{count}</text>"
        )
    return (
        f"<figure><figcaption>{title}</figcaption><svg width=320 height={18 * len(counts)} font-size=12 "
        f"font-family=system-ui,sans-serif>{''.join(rows)}</svg></figure>"
    )


def _sheet(splits: Sequence[Split], names: Mapping[Any, str]) -> str:
    split = splits[0]
    chosen = np.unique(np.linspace(0, len(split.paths) - 1, SHEET).round().astype(int))
    figures = [_figure(split, int(n), names) for n in chosen]
    return f"<h2>{number_of(len(figures), 'image')} of {split.name}</h2><div class=sheet>{''.join(figures)}</div>"


def _figure(split: Split, index: int, names: Mapping[Any, str]) -> str:
    path = split.paths[index]
    try:
        image = open_rgb(path, CHECKED)
    except UserError as error:
        return f"<figure><figcaption class=problem>{html.escape(str(error))}</figcaption></figure>"
    width = image.width
    image.thumbnail((SIDE_PX, SIDE_PX))
    share, pen = image.width / width, ImageDraw.Draw(image)
    order = list(names)
    for n in np.flatnonzero(split.owner == index):
        x, y, w, h = split.boxes_xywh_px[n] * share
        (label,) = split.labels[n : n + 1].tolist()
        colour = COLOURS[order.index(label) % len(COLOURS)] if label in names else "#ffffff"
        pen.rectangle((x, y, max(x, x + w), max(y, y + h)), outline=colour, width=2)
        corner, name = (x + 2, y + 2), names.get(label, str(label))
        # On the box's colour: text in it is lost where the image has it too.
        pen.rectangle(pen.textbbox(corner, name), fill=colour)
        pen.text(corner, name, fill="black")
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    data = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return f"<figure><img src='{data}'><figcaption>{html.escape(path.name)}</figcaption></figure>"
