"""How long a person waits: from `automl run` to the first training step, from a later trial's start to its first,
and for `automl --help`. Writes results.json beside this file.

    python studies/startup/measure.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from studies.machine import describe

AUTOML = str(Path(sys.executable).parent / "automl")
TRIALS = 7


def first_step_at(trial: Path) -> float:
    for line in (trial / "status.json").read_text().splitlines():
        record = json.loads(line)
        if record["message"].startswith("First training step"):
            return float(record["timestamp"])
    raise RuntimeError(f"{trial}: no training step")


def measure(executor: str) -> dict[str, object]:
    """One short search of the demo; spec.yaml's time is when the driver had settled the trial."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        began = time.time()
        subprocess.run(
            [AUTOML, "run", "--demo", "--set", "num_epochs=1", "--trials", str(TRIALS), "--stages", "none",
             "--scheduler", "none", "--executor", executor, "--results-dir", str(run)],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        trials = sorted((run / "trials").iterdir())
        later = [first_step_at(t) - (t / "spec.yaml").stat().st_mtime for t in trials[1:]]
        return {
            "run_to_first_step_s": round(first_step_at(trials[0]) - began, 2),
            "later_trial_to_first_step_s": [round(s, 2) for s in later],
            "later_median_s": round(statistics.median(later), 2),
        }


def help_seconds() -> float:
    times = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run([AUTOML, "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return round(statistics.median(times), 3)


if __name__ == "__main__":
    results = {"machine": describe(), "help_median_s": help_seconds()}
    for executor in ("ray", "local"):
        results[executor] = measure(executor)
    text = json.dumps(results, indent=1)
    (Path(__file__).parent / "results.json").write_text(text + "\n")
    print(text)
