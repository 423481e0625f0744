"""What the engine asks the model before a run: the facts of the data, and about how long training takes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.data import check
from model.data import facts as of_data
from model.info import cores
from model.spec import check_leaves, get
from model.told import told

# GFLOP of one forward pass at 640x640, of which training makes three. Counted from the layers' shapes.
BACKBONE_GFLOP = {"resnet_18": 30, "resnet_34": 60, "resnet_50": 67, "resnet_101": 128}
OTHER_BACKBONE_GFLOP = 60
CPU_GFLOPS_PER_CORE = 25.0  # sustained in training, measured on one Zen 4 core
GPU_GFLOPS = 20_000.0  # sustained in fp32/TF32 training on a data-centre GPU; an estimate
STEP_OVERHEAD_S = 0.05


@told("looking at the data", aside=True)
def inspect(spec: Mapping[str, Any], data_dir: str | None, work_dir: Path) -> dict[str, Any]:
    """`model.data.check.inspect`; raises `UserError` when a leaf is not valid by itself."""
    check_leaves("train", spec)
    return check.inspect(spec, data_dir, work_dir=work_dir)


def data_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[str]]:
    """`model.data.facts.changes`, for a run that goes on."""
    return of_data.changes(before, now)


def estimate(
    spec: Mapping[str, Any], facts: Mapping[str, Any], gpus: float, cpus: float | None = None
) -> dict[str, Any]:
    """{"epoch_s": seconds of one epoch with its validation on so many GPUs, or without any on so many cores (None: all
    of this process), "basis": how it was guessed}; within a factor of three or so."""
    images = facts.get("train", {}).get("images", 0)
    validated = facts.get("val", {}).get("images", 0)
    gflop = 3 * images + validated
    gflop *= _forward_gflop(spec)
    count = cpus or cores()
    speed = gpus * GPU_GFLOPS if gpus else count * CPU_GFLOPS_PER_CORE
    steps = images / max(1, int(get(spec, "dataset.batch_size")) * max(1, gpus))
    what = "GPU" if gpus else f"{count:g} CPU core"
    basis = f"guessed from {_forward_gflop(spec):.0f} GFLOP an image and {what} speed, may be 3 times off"
    return {"epoch_s": gflop / speed + steps * STEP_OVERHEAD_S, "basis": basis}


def _forward_gflop(spec: Mapping[str, Any]) -> float:
    model, share = spec["model"], pixels(spec) / 640**2
    tokens = 8500 * share  # four levels at 640x640
    width, feed = model["hidden_dim"], model["dim_feedforward"]
    encoder = model["enc_layers"] * tokens * (8 * width * width + 4 * width * feed) / 1e9
    decoder = model["dec_layers"] * model["num_queries"] * (16 * width * width + 4 * width * feed) / 1e9
    decoder += model["dec_layers"] * tokens * 2 * width * width / 1e9
    return BACKBONE_GFLOP.get(model["backbone"], OTHER_BACKBONE_GFLOP) * share + encoder + decoder


def pixels(spec: Mapping[str, Any]) -> float:
    """Pixels of a training image, at most."""
    train, augmentation = spec["train"], spec["dataset"]["augmentation"]
    if train["input_height"] and train["input_width"]:
        return float(train["input_height"] * train["input_width"])
    if augmentation["fixed_random_crop"]:
        return float(augmentation["fixed_random_crop"] ** 2)
    return float(max(augmentation["scales"]) * augmentation["random_resize_max_size"])
