"""rows.jsonl -> rows.svg and the errors in per cent: python -m studies.latency_prediction.picture [ROWS.jsonl]"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
W, H, LEFT, BOTTOM, ROOM = 460, 420, 60, 50, 12
STYLE = (
    "text{font:12px sans-serif;fill:#5c6670} .line{stroke:#9aa4ad;stroke-dasharray:5 3} .axis{stroke:#5c6670}"
)


def errors(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    """Per cent by which each drawn network took another time than predicted; above 0 where it was predicted slower."""
    drawn = [row for row in rows if row.get("kind") == "drawn"]
    return np.array([100 * (row[name] / row["measured_ms"] - 1) for row in drawn])


def told(rows: list[dict[str, Any]], name: str) -> str:
    off, drawn = errors(rows, name), [row for row in rows if row.get("kind") == "drawn"]
    ranks = [np.argsort(np.argsort([row[key] for row in drawn])) for key in (name, "measured_ms")]
    rank = np.corrcoef(*ranks)[0, 1]
    return (
        f"{name}: median error {np.median(abs(off)):.1f} %, largest {abs(off).max():.1f} %, mean {off.mean():+.1f} %, "
        f"rank correlation {rank:.2f}"
    )


def figure(rows: list[dict[str, Any]]) -> str:
    shown = [row for row in rows if "kind" in row]
    values = [row[key] for row in shown for key in ("measured_ms", "predicted_ms", "same_rounds_ms")]
    low, high = 0.95 * min(values), 1.05 * max(values)

    def at(predicted: float, measured: float) -> tuple[float, float]:
        x, y = ((v - low) / (high - low) for v in (measured, predicted))
        return LEFT + x * (W - LEFT - ROOM), H - BOTTOM - y * (H - BOTTOM - ROOM)

    body = "".join(_dot(*at(row["predicted_ms"], row["measured_ms"]), row["kind"], True) for row in shown)
    body += "".join(_dot(*at(row["same_rounds_ms"], row["measured_ms"]), row["kind"], False) for row in shown)
    (x0, y0), (x1, y1) = at(low, low), at(high, high)
    body += f'<line class="line" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/>'
    body += f'<path class="axis" fill="none" d="M{LEFT} {ROOM}V{H - BOTTOM}H{W - ROOM}"/>'
    for tick in np.linspace(low, high, 5):
        (x, _), (_, y) = at(low, tick), at(tick, low)
        body += f'<text x="{x}" y="{H - BOTTOM + 18}" text-anchor="middle">{tick:.0f}</text>'
        body += f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:.0f}</text>'
    body += (
        f'<text x="{W / 2}" y="{H - 10}" text-anchor="middle">measured ms, from image file to boxes</text>'
    )
    body += f'<text transform="translate(14 {H / 2}) rotate(-90)" text-anchor="middle">predicted ms</text>'
    body += '<circle cx="80" cy="24" r="4" fill="#0b6bcb"/><text x="90" y="28">by the first timing</text>'
    body += '<circle cx="80" cy="42" r="4" fill="none" stroke="#0b6bcb"/>'
    body += '<text x="90" y="46">by one of the same rounds</text>'
    body += '<circle cx="80" cy="60" r="4" fill="#b85c00"/><text x="90" y="64">networks of the first timing</text>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" width="{W}" height="{H}">'
    return f'{head}<style>{STYLE}</style><rect width="{W}" height="{H}" fill="#fff"/>{body}</svg>\n'


def _dot(x: float, y: float, kind: str, full: bool) -> str:
    colour = "#0b6bcb" if kind == "drawn" else "#b85c00"
    fill = f'fill="{colour}"' if full else f'fill="none" stroke="{colour}"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" {fill}/>'


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.with_suffix(".svg").write_text(figure(rows))
    for name in ("predicted_ms", "same_rounds_ms"):
        print(told(rows, name))
    for row in rows:
        if "kind" in row:
            print(
                f"| {row['kind']} | {row['shape']} | {row['predicted_ms']:.0f} | {row['same_rounds_ms']:.0f} | "
                f"{row['measured_ms']:.0f} | {100 * (row['predicted_ms'] / row['measured_ms'] - 1):+.0f} % | "
                f"{100 * (row['same_rounds_ms'] / row['measured_ms'] - 1):+.0f} % |"
            )


if __name__ == "__main__":
    main()
