"""What the first hour shows: the objects that the command printed at the end of a run draws, and how close its
threshold comes to the best. Adds a line to results.jsonl for every run.

    make demo                                                   # or automl run --data DIR ...
    python studies/first_hour/run.py RUN                        # RUN: the run folder that it printed

The command is run as it was printed, by the shell; the data must have a test set.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from automl.spec import get, load
from studies.machine import describe

HERE = Path(__file__).resolve().parent
OVERLAP = 0.5  # IoU from which on a box of the right class is a hit
Box = tuple[float, float, float, float]  # xyxy, px


def iou(a: Box, b: Box) -> float:
    """Of two boxes; 0 where they do not meet."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0.0) * max(h, 0.0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return both / (sum(areas) - both) if both else 0.0


def truth(path: Path) -> dict[str, list[tuple[str, Box]]]:
    """{file stem: [(class, box)]} of a COCO file, crowds left out."""
    document = json.loads(path.read_text())
    names = {c["id"]: c["name"].replace(" ", "_") for c in document["categories"]}
    stems = {i["id"]: Path(i["file_name"]).stem for i in document["images"]}
    found: dict[str, list[tuple[str, Box]]] = {stem: [] for stem in stems.values()}
    for each in document["annotations"]:
        if not each.get("iscrowd"):
            x, y, w, h = each["bbox"]
            found[stems[each["image_id"]]].append((names[each["category_id"]], (x, y, x + w, y + h)))
    return found


def drawn(label: Path) -> list[tuple[str, Box, float]]:
    """[(class, box, score)] of a label file of `inference`, best first."""
    rows = []
    for line in label.read_text().splitlines():
        name, _, rest = line.partition(" 0.00 0 ")
        numbers = [float(word) for word in rest.split()]
        rows.append((name, (numbers[1], numbers[2], numbers[3], numbers[4]), numbers[-1]))
    return sorted(rows, key=lambda row: -row[2])


def hits(objects: list[tuple[str, Box]], found: list[tuple[str, Box, float]]) -> int:
    """How many of the drawn boxes are right, each object taken once, the best score first."""
    left, count = list(objects), 0
    for name, box, _ in found:
        matching = [o for o in left if o[0] == name and iou(o[1], box) >= OVERLAP]
        if matching:
            left.remove(max(matching, key=lambda o: iou(o[1], box)))
            count += 1
    return count


def main(run: Path) -> dict[str, Any]:
    command = json.loads((run / "outcome.json").read_text())["next"]
    printed = subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout
    labels = Path(printed.rsplit("pictures and labels: ", 1)[1].strip()) / "labels"
    wanted = truth(Path(get(load(run / "best" / "inference.yaml"), "dataset.test_data_sources.json_file")))
    found = {path.stem: drawn(path) for path in labels.rglob("*.txt")}
    counted = Counter(
        objects=sum(map(len, wanted.values())),
        drawn=sum(map(len, found.values())),
        right=sum(hits(wanted[stem], found.get(stem, [])) for stem in wanted),
    )
    figures = json.loads((run / "best" / "evaluate" / "metrics.json").read_text())
    names = ("test_mAP", "test_mAP50", "val_threshold", "val_threshold_f1", "f1")
    return {
        "command": command, "printed": printed.strip().splitlines()[-1], **counted,
        "recall": round(counted["right"] / counted["objects"], 3),
        "precision": round(counted["right"] / max(1, counted["drawn"]), 3),
        "evaluate": {name: figures[name] for name in names}, "machine": describe(),
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    line = main(parser.parse_args().run)
    with (HERE / "results.jsonl").open("a") as out:
        out.write(json.dumps(line) + "\n")
    print(json.dumps({name: line[name] for name in ("recall", "precision", "objects", "drawn", "evaluate")}))
