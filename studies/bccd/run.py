"""Blood cells on two CPU cores: one plain training, then a search of twelve trials. Writes results.json.

    python studies/bccd/run.py DATA --work FOLDER

DATA holds train/, val/ and test/ of BCCD (364 microscope images, 3 classes). Folders of runs that FOLDER holds
already are read, not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from studies.machine import describe

AUTOML = str(Path(sys.executable).parent / "automl")
RUNS = {
    "plain": ["--automl-policy", "off", "--set", "num_epochs=12", "--stages", "evaluate"],
    "search": ["--trials", "12", "--time", "56m", "--set", "num_epochs=5", "--stages", "evaluate,export"],
}
WINNER = {"trial": "number", "val_mAP": "value", "params": "params"}


def run(name: str, data: str, work: Path) -> dict[str, Any]:
    folder = work / name
    words = ["run", "--data", data, "--preset", "small", *RUNS[name], "--results-dir", str(folder)]
    if not (folder / "outcome.json").exists():
        began = time.time()
        subprocess.run([AUTOML, *words], check=True)
        (folder / "wall_s").write_text(str(round(time.time() - began)))
    return {"command": " ".join(["automl", *words]), **read(folder)}


def read(folder: Path) -> dict[str, Any]:
    """What a finished run says of itself."""
    import optuna

    outcome = json.loads((folder / "outcome.json").read_text())
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'study.db'}")
    trials = study.get_trials()
    tests = {
        s["name"]: {k: s["metrics"][k] for k in ("test_mAP", "test_mAP50")}
        for s in outcome["stages"]
        if s["metrics"]
    }
    wall = folder / "wall_s"
    return {
        "git": json.loads((folder / "run.json").read_text())["versions"]["git"],
        "search_s": study.user_attrs["elapsed_s"],
        "wall_s": int(wall.read_text()) if wall.exists() else None,
        "winner": {new: outcome["winner"][old] for new, old in WINNER.items()},
        "default_val_mAP": outcome["default"]["value"] if outcome["default"] else None,
        "test": tests,
        "epochs": sum(len(t.intermediate_values) for t in trials),
        "states": [t.state.name for t in trials],
        "val_mAP": [round(max(t.intermediate_values.values(), default=0.0), 4) for t in trials],
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": describe()}
    for name in RUNS:
        results[name] = run(name, options.data, options.work)
    text = json.dumps(results, indent=1)
    (Path(__file__).parent / "results.json").write_text(text + "\n")
    print(text)
