"""The operating points as a page: a table and a picture of mAP over latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from model.deploy.points import Point, front, slower, told_ms
from model.errors import number_of
from model.status import write_whole

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 420, 64, 48, 24  # px
COLOURS = {"FP32": "#3366cc", "FP16": "#dc8a00", "INT8": "#109618"}


def write(
    folder: Path, points: Sequence[Point], chosen: Point | None, combinations: int, target: str, machine: str
) -> None:
    """points.svg and README.md into the folder; combinations: how many points there could be."""
    write_whole(folder / "points.svg", picture(points, chosen))
    head = (
        "| layers | queries | input | format | mAP val | mAP test | latency ms | again ms | 10-90 % | network ms | MB "
        "| |\n"
    )
    rows = [head, "|" + "---|" * 12 + "\n"]
    best = front(points)
    for point in sorted(points, key=lambda p: p.ms):
        mark = "chosen" if point == chosen else "front" if point in best else ""
        rows.append(f"| {_cells(point)} | {mark} |\n")
    text = (
        "# Operating points\n\nFrom one trained network, without training it again; "
        f"{number_of(len(points), 'point')}, timed on "
        f"{target} ({machine}), batch 1.\nLatency: the median from image file to boxes, measured again, alone, for "
        "what was chosen or tried; that one counts then. The front: no other point is both faster and better on "
        "validation.\n\n![mAP over latency](points.svg)\n\n"
    )
    if left := combinations - len(points):
        text += (
            f"The table is not whole: {left} of {number_of(combinations, 'combination')} "
            f"{'is' if left == 1 else 'are'} not measured.\n\n"
        )
    write_whole(folder / "README.md", text + _chosen(chosen) + "".join(rows))


def _chosen(point: Point | None) -> str:
    if point is None or point.again_ms is None:
        return ""
    return (
        f"Chosen: {point.form}. When its file was written it was measured again, alone: **{point.again_ms:.2f} ms**, "
        f"{slower(point, point.again_ms):.2f} times what was measured first.\n\n"
    )


def _cells(point: Point) -> str:
    form, test = point.form, "" if point.test_mAP is None else f"{point.test_mAP:.4f}"
    again = "" if point.again_ms is None else f"{point.again_ms:.2f}"
    return " | ".join([
        str(form.layers), str(form.queries), f"{form.width}x{form.height}", form.precision, f"{point.val_mAP:.4f}",
        test, f"{point.latency_ms:.2f}", again, f"{point.low_ms:.1f}-{point.high_ms:.1f}", f"{point.network_ms:.2f}",
        f"{point.bytes / 1e6:.1f}",
    ])  # fmt: skip


def line(point: Point) -> str:
    """A point in one line, for a person."""
    test = "" if point.test_mAP is None else f", test {point.test_mAP:.4f}"
    return (
        f"{point.form}: mAP {point.val_mAP:.4f}{test}, {told_ms(point)} (network {point.network_ms:.1f}), "
        f"{point.bytes / 1e6:.1f} MB"
    )


def picture(points: Sequence[Point], chosen: Point | None) -> str:
    """SVG: mAP on validation over latency, the front as a line, a ring around the chosen point."""
    right = max(p.ms for p in points) * 1.05
    low, high = (f(p.val_mAP for p in points) for f in (min, max))
    margin = max(high - low, 0.02) * 0.08

    def place(latency: float, score: float) -> tuple[float, float]:
        x = LEFT + latency / right * (WIDTH - LEFT - 16)
        y = TOP + (high + margin - score) / (high - low + 2 * margin) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    parts = _axes(right, low, high, place)
    path = " ".join(f"{x},{y}" for x, y in (place(p.ms, p.val_mAP) for p in front(points)))
    parts.append(f'<polyline points="{path}" fill="none" stroke="#888" stroke-dasharray="4 3"/>')
    for point in points:
        x, y = place(point.ms, point.val_mAP)
        title = escape(line(point))
        parts.append(
            f'<circle cx="{x}" cy="{y}" r="4" fill="{COLOURS[point.form.precision]}"><title>{title}</title></circle>'
        )
        if point == chosen:
            parts.append(f'<circle cx="{x}" cy="{y}" r="9" fill="none" stroke="#c00" stroke-width="2"/>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _axes(right: float, low: float, high: float, place: object) -> list[str]:
    assert callable(place)
    parts = []
    for step in range(6):
        x, y = place(right * step / 5, low)[0], place(0, low + (high - low) * step / 5)[1]
        parts.append(f'<text x="{x}" y="{HEIGHT - 28}" text-anchor="middle">{right * step / 5:.3g}</text>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{low + (high - low) * step / 5:.3f}</text>'
        )
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 16}" y1="{y}" y2="{y}" stroke="#eee"/>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">latency, ms an image</text>')
    parts.append(f'<text x="{LEFT}" y="14">mAP on validation</text>')
    for i, (name, colour) in enumerate(COLOURS.items()):
        x = WIDTH - 190 + 62 * i
        parts.append(
            f'<circle cx="{x}" cy="10" r="4" fill="{colour}"/><text x="{x + 8}" y="14">{name}</text>'
        )
    return parts
