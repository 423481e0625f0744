"""results.jsonl -> recipes.png: what each run scored on the test set, and ours on the validation set epoch by epoch.

python studies/bccd_from_scratch/picture.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from studies.bccd_from_scratch.run import HERE, PEERS

PEER_COLOUR, OUR_COLOUR = "#888888", "#2a7de1"


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), width_ratios=[1, 1.3])
    timed: dict[tuple[str, float], list[float]] = {}
    for run in runs:
        if run["minutes"]:
            timed.setdefault((run["entrant"], run["minutes"]), []).append(run["test"]["mAP"])
    for place, ((entrant, _), scores) in enumerate(timed.items()):
        colour = PEER_COLOUR if entrant.removesuffix("_pretrained") in PEERS else OUR_COLOUR
        left.bar(place, sum(scores) / len(scores), color=colour, alpha=0.5)
        left.scatter([place] * len(scores), scores, color=colour, zorder=2)
    names = [entrant.replace("_", "\n") + f"\n{minutes:g} minutes" for entrant, minutes in timed]
    left.set_xticks(range(len(timed)), names, fontsize=7)
    left.set_title("test mAP; a dot a seed")
    for run in runs:
        if "val_mAP" in run:
            values = run["val_mAP"]
            style = {"linewidth": 2.2} if run["minutes"] else {"linewidth": 1, "alpha": 0.7}
            label = f"{run['entrant']}, seed {run['seed']}"
            right.plot(range(1, len(values) + 1), values, label=label, **style)
    right.set_title("val mAP by epoch; bold: runs of a given time")
    right.set_xlabel("epoch")
    right.legend(fontsize=7, loc="lower right")
    for axes in (left, right):
        axes.set_ylim(0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(
        [json.loads(line) for line in (HERE / "results.jsonl").read_text().splitlines()], HERE / "recipes.png"
    )
