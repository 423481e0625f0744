"""How low regret can go: the best of 1,500 random configurations of each held-out task, the 20 best of which then climb
(8,400 more). And how much of the way from the default to there the searches in rows12.jsonl have gone.

    OMP_NUM_THREADS=1 python -m studies.search.ceiling     # a minute; writes ceiling.json
"""

from __future__ import annotations

import json
import statistics

import numpy as np

from studies.search.objectives import DEFAULTS, HELD_OUT, LCBench, tops
from studies.search.picture import BUDGETS, HERE, read

DRAWN, CLIMBING, NEIGHBOURS = 1500, 20, 20
STEPS = (0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)  # of the unit cube, three times each
EPOCHS = (
    26,
    40,
    52,
)  # curves rise and hardly fall again: the best of the later ones is within .001 of the best


def lowest(task: str) -> float:
    """Regret of the best that a long climb finds."""
    objective, rng = LCBench(task, "good"), np.random.default_rng(0)
    space = objective.space

    def values(points: np.ndarray) -> np.ndarray:
        return tops(task, [space.decode(list(point)) for point in points], EPOCHS)

    drawn = np.array([space.encode(params) for params in space.sample(DRAWN, seed=3)])
    found = values(drawn)
    best = np.argsort(-found)[:CLIMBING]
    points, found = drawn[best], found[best]
    for sd in np.repeat(STEPS, 3):
        moved = sd * rng.standard_normal((len(points), NEIGHBOURS, points.shape[1]))
        near = np.clip(points[:, None] + moved * (rng.random(moved.shape) < 0.5), 0, 1)
        there = values(near.reshape(-1, points.shape[1])).reshape(len(points), NEIGHBOURS)
        better = there.max(1) > found
        points[better] = near[np.arange(len(points)), there.argmax(1)][better]
        found = np.maximum(found, there.max(1))
    return objective.loss(float(found.max()))


def main() -> None:
    ends = {task: round(lowest(task), 4) for task in HELD_OUT}
    (HERE / "ceiling.json").write_text(json.dumps(ends, indent=1) + "\n")
    end = statistics.fmean(ends.values())
    print(f"lowest: {end:.3f} in the mean of {len(ends)} tasks")
    for default in ("good", "bad"):
        tasks = [LCBench(task, default) for task in HELD_OUT]
        start = statistics.fmean(t.loss(t.true(DEFAULTS[default])) for t in tasks)
        searches = list(read()["fgp", default, 1].values())
        way = [
            (start - statistics.fmean(row[k] for row in searches)) / (start - end)
            for k in range(len(BUDGETS))
        ]
        told = ", ".join(f"{share:.0%} @{n}" for n, share in zip(BUDGETS, way, strict=True))
        print(f"{default} default {start:.3f}: of the way from there {told}")


if __name__ == "__main__":
    main()
