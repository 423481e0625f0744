"""Charts as SVG text, in colours that the page's style gives, so that they follow light and dark. Text from elsewhere is
escaped here. Widths are of a drawing that scales with its column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from rich.cells import cell_len

LONGEST_LABEL = 14  # letters of a text over a box, or it hides the picture; all of it where one points
LONGEST_TICK = 16
W, H = 520, 280  # of a chart
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 40
MOST_POINTS = 120  # of a line; more are thinned out
MOST_TEXTS = 10  # on a picture; more are shown where one points, and when it is enlarged
LETTER = 0.06  # height of the letters on a picture, in parts of its width
PAGE, MARGIN, NEAREST_AXES = 1044, 80, 66  # px: of a window of 1100; beside parallel axes; between them
MOST_TICKS = 12  # of an axis of whole numbers that shows each
FEWEST_DIGITS, MOST_DIGITS = 4, 15  # of a number
LETTER_WIDTH = 7.2  # drawing units that a column of a text takes; wide letters take two
FURTHEST, NEAREST = 1e307, 1e-300  # values drawn, and their distance


@dataclass(frozen=True)
class Line:
    """A line of a chart; `style` is a class of the page's style, `key` marks what belongs to one trial."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "line"
    key: int | None = None


@dataclass(frozen=True)
class Scale:
    """Values -> drawing units from `start` to `end`; log for what is positive."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        value = within(value)
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        if self.high <= self.low:
            return [self.low]
        if self.log:
            return _log_ticks(self.low, self.high)
        step = _step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten; with their double and fivefold where they are few; the ends where there is none of these."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        found = [float(f"{n}e{p}") for p in powers for n in factors]
        found = [v for v in found if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
        if len(found) > 2:
            return found
    return found if len(found) == 2 else [low, high]


def _step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.999)


@dataclass(frozen=True)
class Axis:
    """How one axis of a chart is scaled: `values` decide its ends unless `bounds` does, with the share `room` of their
    distance more on both sides; `names` are of a scale of words, at 0, 1, 2...; `at` says where its ticks are."""

    title: str
    values: Sequence[float] = ()
    bounds: tuple[float, float] | None = None
    log: bool = False
    names: Sequence[str] = field(default_factory=tuple)
    whole: bool = False
    at: Sequence[float] = ()
    room: float = 0.0

    def scale(self, start: float, end: float) -> Scale:
        if self.names:
            return Scale(-0.5, len(self.names) - 0.5, start, end)
        low, high = self.bounds or (min(self.values, default=0.0), max(self.values, default=1.0))
        low, high = within(low), within(high)
        if high - low < NEAREST:
            low, high = (low / 2, high * 2) if self.log else (low - 0.5, high + 0.5)
        elif not self.bounds:
            start, end = start + self.room * (end - start), end - self.room * (end - start)
        return Scale(low, high, start, end, self.log)

    def ticks(self, scale: Scale) -> list[tuple[float, str]]:
        if self.names:
            return [(n, name) for n, name in enumerate(self.names)]
        found = self.at or (_whole_ticks(scale) if self.whole and not self.log else scale.ticks())
        found = [v for v in found if not self.whole or float(v).is_integer()]
        return [(v, number(v, digits(found))) for v in found]


def _whole_ticks(scale: Scale) -> list[float]:
    """The ends, and multiples of a round step between them; every number where they are few."""
    low, high = math.ceil(scale.low), math.floor(scale.high)
    step = 1 if high - low <= MOST_TICKS else max(1, round(_step((high - low) / 5)))
    between = set(range(-(-low // step) * step, high + 1, step))
    return [float(n) for n in sorted(between | {low, high})]


def within(value: float) -> float:
    """What a diverged trial reports may be a number whose distance to another is none."""
    return max(-FURTHEST, min(FURTHEST, value))


def number(value: Any, digits: int = FEWEST_DIGITS) -> str:
    """A value in few characters; numbers that differ in their first `digits` stay apart."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return str(value)


def digits(values: Iterable[Any]) -> int:
    """How many show what such numbers differ by: four, and more where that is small beside themselves."""
    known = [v for v in values if isinstance(v, float) and math.isfinite(v)]
    size = max(map(abs, known), default=0.0)
    spread = max(known, default=0.0) - min(known, default=0.0)
    if not 0 < spread < size:
        return FEWEST_DIGITS
    return min(MOST_DIGITS, max(FEWEST_DIGITS, math.ceil(math.log10(size / spread)) + 2))


def chart(x: Axis, y: Axis, body: list[str], height: int = H) -> str:
    """Axes with ticks and titles around a body that `scales` has placed."""
    sx, sy = scales(x, y, height)
    parts, ticks = [], y.ticks(sy)
    for value, name in ticks:
        at = sy(value)
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{W - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{_cut(name, LONGEST_TICK)}</text>')
    for value, name in _spaced(x.ticks(sx), sx):
        at = sx(value)
        parts.append(f'<path class="tick" d="M{at} {height - BOTTOM}v4"/>')
        middle = min(at, W - 3.5 * min(len(name), LONGEST_TICK))
        parts.append(
            f'<text x="{middle:g}" y="{height - BOTTOM + 17}" text-anchor="middle">{_cut(name, LONGEST_TICK)}</text>'
        )
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{height - BOTTOM}H{W - RIGHT}"/>')
    parts.append(
        f'<text class="title" x="{(LEFT + W - RIGHT) / 2}" y="{height - 5}" text-anchor="middle">{escape(x.title)}</text>'
    )
    beyond = max(0.0, room([name for _, name in ticks], LONGEST_TICK) + 8 - LEFT)
    return svg(W, height, [*parts, *body], f"{y.title} over {x.title}", beyond)


def scales(x: Axis, y: Axis, height: int = H) -> tuple[Scale, Scale]:
    return x.scale(LEFT, W - RIGHT), y.scale(height - BOTTOM, TOP)


def svg(width: float, height: float, parts: Sequence[str], label: str, beyond: float = 0.0) -> str:
    """A drawing; `beyond`: so much lies to the left of 0."""
    box = f"{-beyond:g} 0 {width + beyond:g} {height:g}"
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def room(names: Iterable[str], longest: int) -> float:
    """Drawing units that the widest of the names takes, each cut after `longest` letters."""
    return LETTER_WIDTH * max((cell_len(shortened(name, longest)) for name in names), default=0)


def lines(x: Axis, y: Axis, drawn: Sequence[Line], marks: Sequence[tuple[float, str]] = ()) -> str:
    """Lines over a common x; `marks` are named upright lines."""
    sx, sy = scales(x, y)
    body = [line(each, sx, sy) for each in drawn]
    for at, name in marks:
        place, side = sx(at), "end" if sx(at) > W / 2 else "start"
        body.append(f'<path class="mark" d="M{place} {TOP}V{H - BOTTOM}"/>')
        body.append(
            f'<text class="title" x="{place + (-5 if side == "end" else 5)}" y="{TOP + 11}" text-anchor="{side}">{escape(name)}</text>'
        )
    return chart(x, y, body)


def line(each: Line, sx: Scale, sy: Scale) -> str:
    """A line; one of a single point is a dot."""
    points = thinned(each.points)
    key = "" if each.key is None else f' data-t="{each.key}"'
    title = f"<title>{escape(each.name)}</title>" if each.name else ""
    if len(points) == 1:
        x, y = points[0]
        return f'<circle class="{each.style} dot" cx="{sx(x)}" cy="{sy(y)}" r="3"{key}>{title}</circle>'
    path = "L".join(f"{sx(x):g} {sy(y):g}" for x, y in points)
    return f'<path class="{each.style}" d="M{path}"{key}>{title}</path>' if points else ""


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST_POINTS of them, the last one among them."""
    step = max(1, math.ceil(len(points) / MOST_POINTS))
    kept = list(points[::step])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    name: str
    style: str = "dot"
    key: int | None = None


def dots(x: Axis, y: Axis, drawn: Sequence[Dot], height: int = H) -> str:
    sx, sy = scales(x, y, height)
    body = [
        f'<circle class="{d.style}" cx="{sx(d.x)}" cy="{sy(d.y)}" r="{5 if "winner" in d.style or "default" in d.style else 3.5}"'
        f"{'' if d.key is None else f' data-t={d.key!r}'}><title>{escape(d.name)}</title></circle>"
        for d in drawn
    ]
    return chart(x, y, body, height)


def bars(
    rows: Sequence[tuple[str, float]], intervals: Sequence[tuple[float, float]] = (), percent: bool = False
) -> str:
    """Horizontal bars with their values; `intervals` are thin lines over them, one each; `percent`: values are parts
    of 1."""
    top = max([*(value for _, value in rows), *(high for _, high in intervals), 1e-12])
    names, parts = max(170.0, room([name for name, _ in rows], 26) + 12), []
    for n, (name, value) in enumerate(rows):
        y, length = 24 * n + 4, (W - names - 62) * max(value, 0) / top
        end = length
        parts.append(f'<text x="{names - 8}" y="{y + 13}" text-anchor="end">{_cut(name, 26)}</text>')
        parts.append(f'<rect class="bar" x="{names}" y="{y + 2}" width="{length:.1f}" height="14"/>')
        if intervals:
            low, high = ((W - names - 62) * max(v, 0) / top for v in intervals[n])
            end = max(length, high)
            parts.append(f'<path class="whisker" d="M{names + low:.1f} {y + 9}H{names + high:.1f}"/>')
        parts.append(
            f'<text x="{names + end + 6:.1f}" y="{y + 13}">{f"{100 * value:.0f} %" if percent else number(value)}</text>'
        )
    return svg(W, 24 * len(rows) + 8, parts, "bars")


def matrix(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    row_title: str,
    column_title: str,
) -> str:
    """A table of counts, the darker the larger its share of the row."""
    cell = max(22, min(64, (W - 130) // max(1, len(columns))))
    left, head, parts = max(126.0, room(rows, 16) + 12), 84, []
    for n, name in enumerate(columns):
        x = left + cell * (n + 0.5)
        turn = f'text-anchor="start" transform="rotate(-40 {x:g} {head - 8})"'
        parts.append(f'<text x="{x:g}" y="{head - 8}" {turn}>{_cut(name, 13)}</text>')
    for m, (name, row) in enumerate(zip(rows, values, strict=True)):
        y, total = head + cell * m, sum(row) or 1
        parts.append(
            f'<text x="{left - 8}" y="{y + cell / 2 + 4:g}" text-anchor="end">{_cut(name, 16)}</text>'
        )
        for n, value in enumerate(row):
            share = value / total
            style = "cell strong" if share > 0.55 else "cell"
            parts.append(
                f'<rect class="heat" x="{left + cell * n}" y="{y}" width="{cell - 2}" height="{cell - 2}" '
                f'fill-opacity="{share:.2f}"><title>{escape(f"{row_title} {name}, {column_title} {columns[n]}: {value}")}</title></rect>'
                f'<text class="{style}" x="{left + cell * n + cell / 2 - 1:g}" y="{y + cell / 2 + 3:g}" text-anchor="middle">{value if value else ""}</text>'
            )
    width = max(W, left + cell * len(columns) + 60)
    return svg(width, head + cell * len(rows) + 6, parts, f"{row_title} by {column_title}")


def parallel(axes: Sequence[Axis], drawn: Sequence[tuple[Sequence[float | None], str, str, int]]) -> str:
    """Parallel coordinates: a line for each trial (values, one an axis, None where it has none; name; style; key). Up
    to 14 axes fit the page; of more, or in a narrow window, the last are scrolled to."""
    gap = max(NEAREST_AXES, min(150, (PAGE - 2 * MARGIN) // max(1, len(axes) - 1)))
    width, top, bottom = gap * (len(axes) - 1) + 2 * MARGIN, 30, 270
    placed = [(MARGIN + gap * n, axis, axis.scale(bottom, top)) for n, axis in enumerate(axes)]
    levels = -(-2 * MARGIN // gap)  # of titles, so that none covers its neighbour's
    parts = []
    for values, name, style, key in drawn:
        runs: list[list[str]] = [[]]
        for value, (x, _, scale) in zip(values, placed, strict=True):
            if value is None:
                runs.append([])
            else:
                runs[-1].append(f"{x:g} {scale(value):g}")
        path = "".join("M" + "L".join(run) for run in runs if run)
        parts.append(f'<path class="{style}" d="{path}" data-t="{key}"><title>{escape(name)}</title></path>')
    for n, (x, axis, scale) in enumerate(placed):
        parts.append(f'<path class="axis" d="M{x} {top}V{bottom}"/>')
        parts += _named_ends(x, axis, scale, top, bottom, gap)
        y = bottom + 38 + 16 * (n % levels)
        parts.append(
            f'<text class="title" x="{x}" y="{y}" text-anchor="middle">{_cut(axis.title, 24)}</text>'
        )
    drawing = svg(width, bottom + 28 + 16 * levels, parts, "every trial over its parameters")
    return f'<div class="wide" style="--w:{width}px">{drawing}</div>'


def _named_ends(x: float, axis: Axis, scale: Scale, top: float, bottom: float, gap: float) -> list[str]:
    """The ends of an upright axis in numbers, clear of the lines; words stand beside their place, as long as the next
    axis, `gap` away, leaves room."""
    if axis.names:
        letters = min(9, int((gap - 5) / LETTER_WIDTH))
        return [
            f'<text class="halo" x="{x + 5}" y="{scale(v) + 4:g}">{_cut(text, letters)}</text>'
            for v, text in axis.ticks(scale)
        ]
    return [
        f'<text x="{x}" y="{y}" text-anchor="middle">{number(v, digits((scale.low, scale.high)))}</text>'
        for y, v in ((top - 8, scale.high), (bottom + 16, scale.low))
    ]


def picture(
    data_uri: str,
    width: float,
    height: float,
    panels: Sequence[dict[str, Any]],
    marks: Sequence[dict[str, Any]],
    number_: int,
) -> str:
    """An image once in the file, shown in each panel with its rectangles over it."""
    name, parts = f"i{number_}", []
    for n, panel in enumerate(panels):
        source = (
            f'<image id="{name}" href="{data_uri}" width="{width:g}" height="{height:g}"/>'
            if n == 0
            else f'<use href="#{name}"/>'
        )
        size = (
            LETTER * width
        )  # of letters, so that they are as large as the page's wherever the picture is shown
        shown = panel.get("rects", ())
        rects = "".join(marked(rect, marks, size) for rect in shown)
        crowd = ' class="crowd"' if len(shown) > MOST_TEXTS else ""
        inside = f'<g font-size="{size:.4g}"{crowd}>{rects}</g>'
        drawing = svg(width, height, [source if data_uri else "", inside], str(panel.get("title", "")))
        title = f"<span>{escape(str(panel['title']))}</span>" if panel.get("title") else ""
        parts.append(f'<div class="panel">{drawing}{title}</div>')
    return "".join(parts)


def marked(rect: dict[str, Any], marks: Sequence[dict[str, Any]], size: float = 12.0) -> str:
    """A rectangle with its text, in letters of `size`, over it."""
    mark = marks[int(rect["mark"])] if 0 <= int(rect.get("mark", -1)) < len(marks) else {}
    style = f"c-{mark.get('colour', 'blue')}" + (" dashed" if mark.get("dashed") else "")
    x, y, w, h = (float(rect[key]) for key in ("x", "y", "w", "h"))
    text = escape(shortened(str(rect.get("text", "")), LONGEST_LABEL))
    title = escape(f"{rect.get('text', '')}: {mark.get('name', '')}")
    label = f'<text class="{style}" x="{x + 2:g}" y="{max(y - size / 4, 0.8 * size):.4g}">{text}</text>'
    return f'<rect class="{style}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}"><title>{title}</title></rect>{label}'


def _spaced(ticks: list[tuple[float, str]], scale: Scale) -> list[tuple[float, str]]:
    """Those whose text has room beside its neighbours'."""
    kept: list[tuple[float, str]] = []
    for value, name in ticks:
        needed = 7 * (min(len(name), LONGEST_TICK) + 1)
        if not kept or scale(value) - scale(kept[-1][0]) >= needed:
            kept.append((value, name))
    return kept


def shortened(text: str, length: int) -> str:
    """At most `length` letters, the middle left out: a name's end often tells as much as its beginning."""
    if len(text) <= length:
        return text
    end = length // 3
    return f"{text[: length - 1 - end]}…{text[-end:]}"


def _cut(text: str, length: int) -> str:
    """Escaped, with an ellipsis and the whole as a title where it is too long."""
    if len(text) <= length:
        return escape(text)
    return f"{escape(text[: length - 1])}…<title>{escape(text)}</title>"
