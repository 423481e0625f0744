"""rows.jsonl, rows12.jsonl and peers.jsonl -> regret.svg: mean regret over what was spent, with its 95 % interval.

python -m studies.search.picture [--tables]

With --tables the numbers of README.md besides: of each arm the mean and its standard error over tasks (the seeds of a
task are averaged first), and last the standard errors over seeds (the tasks of a seed are averaged first): a seed draws
the same configurations on every task, so chance in them does not average out over tasks.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("rows12.jsonl", "rows.jsonl", "peers.jsonl")
BUDGETS = (5, 8, 10, 20, 30)
STYLES = {  # what is drawn, in this order: name, colour, dashes
    "fgp": ("fgp", "#c33", "none"),
    "tpe+halving": ("TPE + halving", "#26a", "none"),
    "gp": ("Optuna's GP", "#26a", "5 3"),
    "random": ("random", "#888", "none"),
    "smac-mf": ("SMAC3, multi-fidelity", "#283", "none"),
    "smac-hpo": ("SMAC3, whole trainings", "#283", "5 3"),
    "neps-priorband": ("NePS, PriorBand", "#a3a", "none"),
    "syne-bohb": ("Syne Tune, BOHB", "#b70", "none"),
    "syne-botorch": ("Syne Tune, BoTorch", "#b70", "5 3"),
    "syne-ashacqr": ("Syne Tune, ASHA + CQR", "#b70", "2 3"),
}
WIDE, TALL, GAP = 330, 260, 50
LEAST_TASKS = 22  # an arm that was not played on so many is not drawn

Kind = tuple[str, str, int]  # arm, default, workers
Losses = dict[tuple[str, int], list[float]]  # (task, seed) -> the loss at each budget


def read(files: Iterable[str] = FILES) -> dict[Kind, Losses]:
    """Searches on the held-out tasks; one that is in several files is taken from the first."""
    found: dict[Kind, Losses] = {}
    for path in map(HERE.joinpath, files):
        for line in path.read_text().splitlines() if path.exists() else []:
            row = json.loads(line)
            if row.get("tasks") == "held-out" and row["objective"].startswith("lcbench"):
                kind = row["arm"], row["default"], row["workers"]
                at = row["objective"].removeprefix("lcbench "), row["seed"]
                found.setdefault(kind, {}).setdefault(at, [row["loss_at"][str(n)] for n in BUDGETS])
    return found


def tasks_of(losses: Losses) -> set[str]:
    return {task for task, _ in losses}


def over_pairs(losses: Losses) -> list[tuple[float, float]]:
    """(mean, half its 95 % interval) at each budget, each pair of task and seed counted as one."""
    columns = zip(*losses.values(), strict=True)
    return [(statistics.fmean(c), 1.96 * statistics.stdev(c) / math.sqrt(len(c))) for c in map(list, columns)]


def averaged(losses: Losses, part: int) -> list[tuple[float, float]]:
    """(mean, standard error) at each budget, over the means of the tasks (`part` 0) or of the seeds (1)."""
    means = []
    for mine in sorted({at[part] for at in losses}):
        values = [found for at, found in losses.items() if at[part] == mine]
        means.append([statistics.fmean(column) for column in zip(*values, strict=True)])
    return [(statistics.fmean(c), _error(c)) for c in map(list, zip(*means, strict=True))]


def _error(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def tables(found: Mapping[Kind, Losses]) -> str:
    lines = []
    for (arm, default, workers), losses in sorted(found.items(), key=lambda item: item[0][1:]):
        if len(tasks_of(losses)) > 1:
            cells = " | ".join(f"{mean:.3f} ± {error:.3f}" for mean, error in averaged(losses, 0))
            cells += " | over seeds " + ", ".join(f"{error:.3f}" for _, error in averaged(losses, 1))
            about = (
                f"{default} default, {workers} workers, {len(tasks_of(losses))} tasks, {len(losses)} searches"
            )
            lines.append(f"| {arm} ({about}) | {cells} |")
    return "\n".join(lines)


def draw(found: Mapping[Kind, Losses]) -> str:
    """The picture: one panel a default."""
    panels = {
        default: {arm: found[arm, default, 1] for arm in STYLES if _whole(found, (arm, default, 1))}
        for default in ("good", "bad")
    }
    lines = [over_pairs(losses) for arms in panels.values() for losses in arms.values()]
    low = math.floor(5 * min(mean - half for line in lines for mean, half in line)) / 5
    high = math.ceil(5 * max(mean + half for line in lines for mean, half in line)) / 5
    parts = [
        _panel(number, f"mean regret, {default} default", arms, low, high)
        for number, (default, arms) in enumerate(panels.items())
    ]
    parts += _legend([arm for arm in STYLES if any(arm in arms for arms in panels.values())])
    height = TALL + 70 + 18 * ((len(STYLES) + 2) // 3)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * (WIDE + GAP) + 20} {height}"'
    head += ' font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>"]) + "\n"


def _whole(found: Mapping[Kind, Losses], kind: Kind) -> bool:
    return kind in found and len(tasks_of(found[kind])) >= LEAST_TASKS


def _panel(number: int, title: str, arms: Mapping[str, Losses], low: float, high: float) -> str:
    def x(trainings: int) -> float:
        return WIDE * math.log(trainings / BUDGETS[0]) / math.log(BUDGETS[-1] / BUDGETS[0])

    def y(value: float) -> float:
        return TALL * (high - value) / (high - low)

    parts = [f'<g transform="translate({GAP + (WIDE + GAP) * number},24)"><text y="-8">{title}</text>']
    parts.append(f'<path d="M0 0V{TALL}H{WIDE}" fill="none" stroke="#888"/>')
    for n in BUDGETS:
        parts.append(f'<text x="{x(n):.0f}" y="{TALL + 16}" text-anchor="middle">{n}</text>')
    parts.append(
        f'<text x="{WIDE / 2:.0f}" y="{TALL + 32}" text-anchor="middle">trainings\' worth of epochs</text>'
    )
    for tenth in range(round(10 * low), round(10 * high) + 1, 2):
        at = y(tenth / 10)
        parts.append(f'<path d="M0 {at:.1f}H{WIDE}" stroke="{"#999" if tenth == 0 else "#eee"}"/>')
        parts.append(f'<text x="-6" y="{at + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>')
    for arm, losses in arms.items():
        _, colour, dash = STYLES[arm]
        line = over_pairs(losses)
        upper = [f"{x(n):.1f},{y(mean + half):.1f}" for n, (mean, half) in zip(BUDGETS, line, strict=True)]
        lower = [f"{x(n):.1f},{y(mean - half):.1f}" for n, (mean, half) in zip(BUDGETS, line, strict=True)]
        middle = [f"{x(n):.1f},{y(mean):.1f}" for n, (mean, _) in zip(BUDGETS, line, strict=True)]
        parts.append(f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{colour}" opacity="0.12"/>')
        parts.append(
            f'<polyline points="{" ".join(middle)}" fill="none" stroke="{colour}" stroke-dasharray="{dash}" '
            'stroke-width="1.8"/>'
        )
    return "\n".join([*parts, "</g>"])


def _legend(arms: list[str]) -> list[str]:
    parts = []
    for number, arm in enumerate(arms):
        name, colour, dash = STYLES[arm]
        x, y = GAP + 240 * (number % 3), TALL + 78 + 18 * (number // 3)
        parts.append(
            f'<path d="M{x} {y}h26" stroke="{colour}" stroke-dasharray="{dash}" stroke-width="1.8"/>'
        )
        parts.append(f'<text x="{x + 32}" y="{y + 4}">{name}</text>')
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", action="store_true")
    arguments = parser.parse_args()
    found = read()
    (HERE / "regret.svg").write_text(draw(found))
    if arguments.tables:
        print(tables(found))


if __name__ == "__main__":
    main()
