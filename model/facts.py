"""What the engine asks the model before a run: the facts of the data, the leaves they determine, and about how
long training takes. No torch."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model import start
from model.data import check
from model.parameters import RECIPES, of_action
from model.spec import check_leaves, get, leaves, nest, put, resolve

# GFLOP of one forward pass at 640x640, of which training makes three. Counted from the layers' shapes.
BACKBONE_GFLOP = {"resnet_18": 30, "resnet_34": 60, "resnet_50": 67, "resnet_101": 128}
OTHER_BACKBONE_GFLOP = 60
CPU_GFLOPS_PER_CORE = 25.0  # sustained in training, measured on one Zen 4 core
GPU_GFLOPS = 20_000.0  # sustained in fp32/TF32 training on a data-centre GPU; an estimate
STEP_OVERHEAD_S = 0.05

STARTING_POINTS = ("train.pretrained_model_path", "train.resume_training_checkpoint_path")
SCRATCH_BACKBONE = 0.5  # of train.optim.lr, for a backbone from nothing (studies/bccd_from_scratch)


def inspect(spec: Mapping[str, Any], data_dir: str | None, work_dir: Path) -> dict[str, Any]:
    """`model.data.check.inspect`, and what the start, the recipe and the number of epochs determine: the learning-rate
    drop is at about 80 % of the epochs unless the recipe names them. Raises `UserError` when a leaf is not valid by
    itself."""
    check_leaves("train", spec)
    found = check.inspect(spec, data_dir, work_dir=work_dir)
    if found["problems"]:
        return found
    fill, chosen = found["fill"], recipe(spec)
    begin = start.settle(_with(spec, RECIPES[chosen]))
    fill["train.optim.lr_steps"] = [max(1, round(0.8 * int(get(spec, "train.num_epochs"))))]
    fill |= {"train.recipe": chosen, **RECIPES[chosen]}
    if begin.kind in start.NAMED:
        fill["train.start"] = begin.kind
    if begin.kind == "coco" and chosen != get(spec, "train.recipe"):
        fill["model.mixed_selection"] = False  # the published contents come from the encoder's boxes
    if begin.kind == "scratch":
        fill["train.optim.lr_backbone"] = SCRATCH_BACKBONE * float(get(spec, "train.optim.lr"))
    found["warnings"] += [begin.warning] if begin.warning else []
    return found


def recipe(spec: Mapping[str, Any]) -> str:
    """The spec's `train.recipe`, or the engine's choice: dino, whose two stages need box refinement, and which weights
    trained otherwise do not fit."""
    chosen = str(get(spec, "train.recipe", "default"))
    given = any(get(spec, name) for name in STARTING_POINTS)
    return "dino" if chosen == "default" and not given and get(spec, "model.with_box_refine") else chosen


def completed(partial: Mapping[str, Any]) -> dict[str, Any]:
    """The full train spec of a partial one, with the engine's recipe."""
    chosen = {"train.recipe": recipe(resolve("train", partial))}
    return resolve(
        "train", nest({**chosen, **dict(leaves(partial, {p.name: p for p in of_action("train")}))})
    )


def _with(spec: Mapping[str, Any], fill: Mapping[str, Any]) -> dict[str, Any]:
    """A full spec with those leaves that are at their defaults filled in."""
    full, defaults = copy.deepcopy(dict(spec)), {p.name: p.default for p in of_action("train")}
    for name, value in fill.items():
        if get(full, name) == defaults[name]:
            put(full, name, value)
    return full


def estimate(spec: Mapping[str, Any], facts: Mapping[str, Any], gpus: int) -> dict[str, Any]:
    """{"epoch_s": seconds of one epoch with its validation, "basis": how it was guessed}; within a factor of
    three or so."""
    images = facts.get("train", {}).get("images", 0)
    validated = facts.get("val", {}).get("images", 0)
    gflop = 3 * images + validated
    gflop *= _forward_gflop(spec)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    speed = gpus * GPU_GFLOPS if gpus else cores * CPU_GFLOPS_PER_CORE
    steps = images / max(1, int(get(spec, "dataset.batch_size")) * max(1, gpus))
    basis = f"guessed from {_forward_gflop(spec):.0f} GFLOP an image and {'GPU' if gpus else f'{cores} CPU core'} speed"
    return {"epoch_s": gflop / speed + steps * STEP_OVERHEAD_S, "basis": basis + ", may be 3 times off"}


def _forward_gflop(spec: Mapping[str, Any]) -> float:
    model, share = spec["model"], _pixels(spec) / 640**2
    tokens = 8500 * share  # four levels at 640x640
    width, feed = model["hidden_dim"], model["dim_feedforward"]
    encoder = model["enc_layers"] * tokens * (8 * width * width + 4 * width * feed) / 1e9
    decoder = model["dec_layers"] * model["num_queries"] * (16 * width * width + 4 * width * feed) / 1e9
    decoder += model["dec_layers"] * tokens * 2 * width * width / 1e9
    return BACKBONE_GFLOP.get(model["backbone"], OTHER_BACKBONE_GFLOP) * share + encoder + decoder


def _pixels(spec: Mapping[str, Any]) -> float:
    """Pixels of a training image."""
    train, augmentation = spec["train"], spec["dataset"]["augmentation"]
    if train["input_height"] and train["input_width"]:
        return float(train["input_height"] * train["input_width"])
    if augmentation["fixed_random_crop"]:
        return float(augmentation["fixed_random_crop"] ** 2)
    return float(max(augmentation["scales"]) * augmentation["random_resize_max_size"])
