"""Is what a search hands over better than the default on images that neither saw? Appends a line for each search to
results.jsonl.

    python studies/against_default/run.py demo --seeds 0 1 2 3 4 --work FOLDER
    python studies/against_default/run.py bccd|bccd_one_stage --data DATA --seeds 0 1 2 --work FOLDER

`demo` is what `make demo` runs: 8 trainings of 12 epochs. `bccd`: 12 trainings of 5 epochs on blood cells (364
microscope images), preset `small`; `bccd_one_stage` starts from the default that there was before recipe `dino`. A
search whose folder is whole is read, not run again, and one that was begun goes on; its default is trial 0, of the same
search, trained as long.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from automl.confirmed import Confirmed
from automl.metric import Metric, signed
from studies.machine import describe

HERE = Path(__file__).resolve().parent
AUTOML = str(Path(sys.executable).parent / "automl")
BCCD = ["--preset", "small", "--trainings", "12", "--set", "num_epochs=5", "--stages", "evaluate"]
TASKS = {
    "demo": ["--demo", "--trainings", "8"],
    "bccd": BCCD,
    "bccd_one_stage": [*BCCD, "--set", "train.recipe=default", "--set", "dataset.batch_size=4"],
}


def search(task: str, data: list[str], seed: int, work: Path) -> dict[str, Any]:
    folder = work / f"{task}_{seed}"
    words = ["run", "--model", "deformable_detr", *TASKS[task], *data, "--seed", str(seed)]
    begun = (folder / "run.json").exists()
    if not (folder / "outcome.json").exists():
        began = time.time()
        how = ["resume", str(folder)] if begun else [*words, "--results-dir", str(folder)]
        subprocess.run([AUTOML, *how], check=True)
        if not begun:
            (folder / "wall_s").write_text(str(round(time.time() - began)))
    return {"task": task, "seed": seed, **read(folder)}


def read(folder: Path) -> dict[str, Any]:
    """What a finished search says of itself; the winner may be the default. "wall_s": null of one that was resumed."""
    outcome = json.loads((folder / "outcome.json").read_text())
    winner, default, wall = outcome["winner"], outcome["default"], folder / "wall_s"
    tests = {
        s["name"]: s["metrics"]["test_mAP"] for s in outcome["stages"] if s["name"].startswith("evaluate")
    }
    of_default = tests.get("evaluate_of_default", tests["evaluate"])
    return {
        "winner": winner["number"], "configurations": outcome["trials"],
        "val": round(winner["value"], 4), "val_of_default": round(default["value"], 4),
        "test": round(tests["evaluate"], 4), "test_of_default": round(of_default, 4),
        "wall_s": int(wall.read_text()) if wall.exists() else None, "params": winner["params"],
    }  # fmt: skip


def told(rows: list[dict[str, Any]]) -> str:
    metric = Metric("test_mAP")
    found = Confirmed(0.0, [(row["seed"], row["test"], row["test_of_default"]) for row in rows])
    mean, bounds = statistics.fmean(found.gains(metric)), found.interval(metric)
    others = sum(row["winner"] != 0 for row in rows)
    spread = f", 95 % over seeds {signed(bounds[0])} to {signed(bounds[1])}" if bounds else ""
    return f"{others} of {len(rows)} winners are not the default; {metric.name} {signed(mean)}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE / "results.jsonl")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in options.seeds:
        about = describe()
        data = ["--data", options.data] if options.data else []
        rows.append(search(options.task, data, seed, options.work))
        with options.out.open("a") as file:
            file.write(json.dumps({**rows[-1], "machine": about}) + "\n")
        print(told(rows))


if __name__ == "__main__":
    main()
