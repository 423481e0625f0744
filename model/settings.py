"""Settings that fit the data and the machine, each with its reason: what a training takes where nobody says otherwise.

`fit` is read from top to bottom; what a person set, or a preset, always wins, and later decisions go by it. No torch.
"""

from __future__ import annotations

import copy
import math
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model import bundle_dir, start, wandb_runs
from model.data.facts import misfits
from model.data.seen import hardly_seen, small_boxes
from model.data.shared_memory import lacking, processes
from model.errors import UserError, number_of
from model.facts import estimate, pixels
from model.info import cores
from model.parameters import NOT_HERE, RECIPES, SCALES, of_action
from model.spec import get, leaves, nest, put, resolve, unfit_device
from safe_documents import read_yaml

OWN_NETWORK = (
    "model.backbone",
    "model.enc_layers",
    "model.dec_layers",
)  # a file with these describes a network itself
DRY = (
    "train.is_dry_run must be false in a run: a dry one keeps no checkpoint and is scored by nothing; "
    "`deformable_detr train -e SPEC.yaml train.is_dry_run=true` does it"
)
SCRATCH_BACKBONE = 0.5  # of train.optim.lr, for a backbone from nothing (studies/bccd_from_scratch)
SMALL = "small"  # the preset of a CPU that is short of time

# What the tenth percentile of boxes should measure in the network's input, px, and how much images may grow for it.
GPU_BOX_PX, GPU_LOW_PX, GPU_GROWTH = 64, 320, 2.0
CPU_BOX_PX, CPU_LOW_PX, CPU_GROWTH = 40, 128, 1.5
CLASS_PART = 0.4  # of that, for the tenth percentile of each class
ENOUGH_PX = 16  # boxes of so many stored px are no reason to enlarge images on a CPU
PUBLISHED_SHORT, PUBLISHED_LONG = 800, 1333
ALIKE = 0.9  # share of images of one size, from which on all are resized to exactly that shape

STEPS = {"coco": 3000, "imagenet": 6000, "scratch": 10000}  # of one training, by what it starts from
FEWEST_EPOCHS, MOST_EPOCHS, HURRIED_EPOCHS = 12, 100, 6
SEARCH_SHARE, PLAIN_SHARE = 0.35, 0.8  # of --time, for one training
PATIENCE_SHARE, LEAST_PATIENCE = 0.3, 8  # of the epochs that are validated
GB_PER_MEGAPIXEL = 5.0  # of GPU memory for one image of a training in fp32, activations kept; an estimate
NATIVE_BF16 = 8.0  # compute capability


@dataclass
class Chosen:
    """A full train spec in the making: `take` sets a leaf unless it is `given`, and keeps the reason."""

    spec: dict[str, Any]
    given: frozenset[str]
    fill: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return get(self.spec, name)

    def take(self, name: str, value: Any, reason: str = "") -> None:
        if name in self.given:
            return
        put(self.spec, name, copy.deepcopy(value))
        self.fill[name] = value
        if reason:
            self.reasons[name] = reason

    def take_all(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self.take(name, value)


@dataclass(frozen=True)
class Machine:
    """`gpus` and `cpus` of one training; `time_s` of the whole run, None: no limit; `searching`: that time is for many
    trainings; `here`: trainings run on this machine, whose GPUs may be asked."""

    gpus: float = 0
    cpus: float = 1
    time_s: float | None = None
    searching: bool = True
    here: bool = True

    @property
    def one_training_s(self) -> float | None:
        """How long one training may take."""
        return self.time_s and self.time_s * (SEARCH_SHARE if self.searching else PLAIN_SHARE)


def fit(
    spec: Mapping[str, Any], facts: Mapping[str, Any], machine: Mapping[str, Any], sources: Mapping[str, str]
) -> dict[str, Any]:
    """Settle a train spec that has every leaf. `facts`: see `data/check.inspect`; `machine`: the fields of `Machine`;
    `sources`: {leaf: who set it} of what a person or a preset set. Returns {"fill": {leaf: value}, "reasons": {leaf:
    text}, "warnings": [text]}. Raises `UserError` for a start that cannot be had, and for leaves that contradict the
    data, the machine or a run."""
    on, chosen = Machine(**machine), Chosen(copy.deepcopy(dict(spec)), frozenset(sources))
    unfit = unfit_device(spec["train"], on_gpu=False) if on.here and not on.gpus else ""
    dry = DRY if spec["train"]["is_dry_run"] else ""
    if wrong := [*misfits(spec["dataset"], facts), *filter(None, [unfit, dry])]:
        raise UserError("\n".join(wrong))
    own = _is_settled(chosen.spec, sources)
    chosen.take("train.recipe", *_recipe(spec, own))
    named = RECIPES[chosen["train.recipe"]]
    chosen.take_all(named)
    chosen.given |= frozenset(name for name in named if chosen["train.recipe"] != "dino")
    hurry = not own and _in_a_hurry(chosen, facts, on)
    if hurry:
        for name, value in _small_network().items():
            chosen.take(name, value, hurry if name == "model.backbone" else "")
    begin = start.settle(chosen.spec)
    if begin.kind in start.NAMED:
        chosen.take("train.start", begin.kind)
    if begin.kind == "coco" and "train.recipe" in chosen.fill:
        chosen.take("model.mixed_selection", False, "the published contents come from the encoder's boxes")
    if begin.kind == "scratch":
        rate = SCRATCH_BACKBONE * float(chosen["train.optim.lr"])
        chosen.take(
            "train.optim.lr_backbone", rate, "a backbone from nothing learns at half the rate of the rest"
        )
    if not own:
        _fit_images(chosen, facts.get("sizes"), on)
        _fit_memory(chosen, on)
        chosen.take("dataset.workers", *_workers(on))
        chosen.take("train.num_epochs", *_epochs(chosen, facts, on, begin.kind))
        validated = int(chosen["train.num_epochs"]) // int(chosen["train.validation_interval"])
        patience = max(LEAST_PATIENCE, math.ceil(PATIENCE_SHARE * validated))
        if patience < validated:
            why = f"ends when {patience} validated epochs bring nothing new, counted anew after a drop of the rates"
            chosen.take("train.patience", patience, why)
    epochs = int(chosen["train.num_epochs"])
    if (drop := round(0.8 * epochs)) < epochs:
        chosen.take("train.optim.lr_steps", [drop], "at 80 % of the epochs")
    small = hardly_seen(chosen.spec, facts.get("sizes"))
    told = (
        begin.warning,
        small,
        _unkept(chosen["train"]),
        wandb_runs.lacking(chosen.spec),
        _not_here(chosen.spec),
        _few_loaders(chosen, on),
    )
    warnings = [*filter(None, told)]
    return {"fill": chosen.fill, "reasons": chosen.reasons, "warnings": warnings}


def _unkept(train: Mapping[str, Any]) -> str:
    """What a run loses where epochs are validated that have no checkpoint; "" for nothing."""
    every, unit, validated = (
        train[name] for name in ("checkpoint_interval", "checkpoint_interval_unit", "validation_interval")
    )
    if every == 1 or (unit == "epoch" and validated % every == 0):
        return ""
    return (
        f"with a checkpoint every {every} {unit}s not each validated epoch has one: the weights of the best may be "
        "lost, and a later one's handed over. train.checkpoint_interval_unit=epoch with "
        f"train.checkpoint_interval={validated} keeps them"
    )


def _not_here(spec: Mapping[str, Any]) -> str:
    """That the winner cannot be quantized as the spec says; "" where it can."""
    backend = get(spec, "quantize.backend")
    if backend not in NOT_HERE:
        return ""
    return (
        f"quantize.backend {backend} will refuse the winner ({NOT_HERE[backend]}); quantize.backend=onnxruntime, said "
        "now or when best/quantize.yaml is run, quantizes it"
    )


def _few_loaders(chosen: Chosen, on: Machine) -> str:
    """What to say where this machine has too little shared memory for the processes that read images; they become
    fewer then. Trainings share it by their cores, and each of their ranks has as many processes."""
    wanted = min(int(chosen["dataset.workers"]), cores() - 1)
    share = min(1.0, on.cpus / cores()) / max(1, math.ceil(on.gpus))
    batch = int(chosen["dataset.batch_size"])
    here = processes(wanted, batch, int(pixels(chosen.spec)), share) if on.here else wanted
    if said := lacking(wanted, here):
        chosen.take("dataset.workers", here, "for which /dev/shm has room")
    return said


def _is_settled(spec: Mapping[str, Any], sources: Mapping[str, str]) -> bool:
    """Whether a training is trained as it is: its recipe is one of those that say it all, it goes on from a checkpoint,
    or one file, no preset of ours, describes the network itself, as NVIDIA's do."""
    if get(spec, "train.recipe") in ("tao", "published") or get(
        spec, "train.resume_training_checkpoint_path"
    ):
        return True
    presets = {path.stem for path in (bundle_dir() / "references").glob("preset_*.yaml")}
    found = {sources.get(name, "") for name in OWN_NETWORK}
    return len(found) == 1 and not found & {"", "--set", *presets}


def _recipe(spec: Mapping[str, Any], own: bool = False) -> tuple[str, str]:
    """The spec's recipe, or the engine's choice: dino, whose two stages need box refinement, and which neither a
    training that goes on need have begun with nor a detector that one starts from have."""
    named = str(get(spec, "train.recipe", "default"))
    resumed = get(spec, "train.resume_training_checkpoint_path")
    if named != "default" or resumed or not get(spec, "model.with_box_refine"):
        return named, ""
    if own:
        return (
            named,
            "the file describes the network itself and is trained as it is; train.recipe=dino learns faster",
        )
    if (theirs := start.own_recipe(spec)) not in (None, "default", "dino"):
        return str(theirs), "the detector that it starts from was trained so"
    if theirs == "default":
        return named, "the detector that it starts from has not dino's parts, which would start anew"
    return "dino", "it learns fastest (studies/bccd_from_scratch)"


def recipe(spec: Mapping[str, Any]) -> str:
    """The name of the recipe that `automl run` trains a spec with."""
    return _recipe(spec)[0]


def completed(partial: Mapping[str, Any]) -> dict[str, Any]:
    """The full train spec of a partial one, with the engine's recipe."""
    named = {"train.recipe": recipe(resolve("train", partial))}
    return resolve("train", nest({**named, **dict(leaves(partial, {p.name: p for p in of_action("train")}))}))


def _small_network() -> dict[str, Any]:
    """The leaves of preset small that make the network and its rates; sizes of images and epochs are the data's."""
    document = read_yaml(bundle_dir() / "references" / f"preset_{SMALL}.yaml")
    found = {p.name: get(document, p.name) for p in of_action("train")}
    apart = ("dataset.augmentation.", "train.input_", "train.num_epochs", "dataset.workers")
    return {name: value for name, value in found.items() if value is not None and not name.startswith(apart)}


def _in_a_hurry(chosen: Chosen, facts: Mapping[str, Any], on: Machine) -> str:
    """Why the small network is taken, or nothing: a CPU, and the large one would not get through a training in time."""
    fixed = "model.backbone" in chosen.given or start.is_own(chosen.spec)
    if on.gpus or not on.time_s or fixed:
        return ""
    trial = Chosen(copy.deepcopy(chosen.spec), chosen.given)
    _fit_images(trial, facts.get("sizes"), on)
    needed = FEWEST_EPOCHS * float(estimate(trial.spec, facts, 0, on.cpus)["epoch_s"])
    if on.one_training_s is None or needed <= on.one_training_s:
        return ""
    return f"this CPU trains it within --time, which {FEWEST_EPOCHS} epochs of {chosen['model.backbone']} do not fit"


# ---- images ------------------------------------------------------------------------------------------------------


def short_side_px(
    sizes: Mapping[str, Any], gpu: bool, counted: Sequence[Any] | None = None
) -> tuple[int, str]:
    """(the short side that images get, in px, a multiple of 32; why): the small boxes of all should be large enough to
    see, and those of each class that is `counted` (empty: of every one), which mAP weighs alike."""
    wanted, low, growth = (
        (GPU_BOX_PX, GPU_LOW_PX, GPU_GROWTH) if gpu else (CPU_BOX_PX, CPU_LOW_PX, CPU_GROWTH)
    )
    stored, share = float(sizes["short_px"]), float(sizes["small_box"])
    least, name = small_boxes(sizes, counted)[0]

    def side(share: float, px: float, grown: bool) -> float:
        return min((growth if gpu or grown else 1) * stored, px / max(share, 1e-3))

    # On a CPU images grow for all boxes alone: twice the pixels for one class take twice the time.
    of_all = side(share, wanted, grown=share * stored < ENOUGH_PX)
    short = min(PUBLISHED_SHORT, max(low, of_all, side(least, CLASS_PART * wanted, grown=False)))
    short = min(PUBLISHED_SHORT, 32 * math.ceil(short / 32 - 0.25))
    why = f"makes the small boxes {share * short:.0f} px wide; they have {share * stored:.0f} as stored"
    if least < 0.9 * share:
        why += f"; those of {name} {least * short:.0f} px, {least * stored:.0f} as stored"
    return short, why


def _fit_images(chosen: Chosen, sizes: Mapping[str, Any] | None, on: Machine) -> None:
    """Sizes of images, unless a person set any of them: they only make sense together."""
    sized = [
        n for n in chosen.given if n.startswith(("dataset.augmentation.", "train.input_")) and not _loose(n)
    ]
    if sized or not sizes:
        return
    short, why = short_side_px(sizes, bool(on.gpus), chosen["dataset.eval_class_ids"])
    scale = short / PUBLISHED_SHORT
    named = "dataset.augmentation."
    chosen.take(f"{named}test_random_resize", short, why)
    chosen.take(f"{named}random_resize_max_size", round(PUBLISHED_LONG * scale))
    chosen.take(f"{named}scales", sorted({max(32, round(side * scale)) for side in SCALES}), "")
    chosen.take(f"{named}train_random_resize", [max(32, round(side * scale)) for side in (400, 500, 600)])
    chosen.take(f"{named}train_random_crop_min", max(32, round(384 * scale)))
    chosen.take(f"{named}train_random_crop_max", max(33, round(600 * scale)))
    chosen.take(
        f"{named}fixed_random_crop", None, "crops as published; large-scale jitter wants long trainings"
    )
    if on.gpus:
        return
    chosen.take(f"{named}fixed_padding", False)
    if sizes["alike"] >= ALIKE:
        height, width = sizes["usual"]
        factor = short / min(height, width)
        why = "so that no time goes into padding: nearly all images have this shape"
        chosen.take("train.input_height", round(height * factor), why)
        chosen.take("train.input_width", round(width * factor))


def _loose(name: str) -> bool:
    """Leaves of the augmentation that have nothing to do with sizes."""
    return name.endswith(("horizontal_flip_prob", "input_mean", "input_std", "fixed_padding"))


# ---- memory, numbers, cores -----------------------------------------------------------------------------------------


def _fit_memory(chosen: Chosen, on: Machine) -> None:
    if not on.gpus:
        chosen.take(
            "dataset.batch_size", 2, "small batches learn more in an epoch (studies/bccd_from_scratch)"
        )
        chosen.take("train.activation_checkpoint", False, "memory is not what a CPU is short of")
        if on.here and cpu_computes_in_bf16():
            why = "this CPU computes in it natively, a step takes 0.6 of the time (studies/cpu_bf16)"
            chosen.take("train.precision", "bf16", why)
        return
    found = gpus_here() if on.here else []
    if not found:
        return
    memory_gb, capability = min(m for _, m in found), min(c for c, _ in found)
    megapixels = chosen["dataset.augmentation.test_random_resize"] * chosen[
        "dataset.augmentation.random_resize_max_size"
    ] / 1e6  # fmt: skip
    one_gb, share = GB_PER_MEGAPIXEL * megapixels, min(1.0, on.gpus)
    if capability >= NATIVE_BF16 and "train.precision" not in chosen.given:
        chosen.take("train.precision", "bf16", "the GPU computes in it natively, faster and in less memory")
        one_gb *= 0.6
    batch = next((n for n in (4, 2) if n * one_gb / 2 < memory_gb * share), 1)
    chosen.take(
        "dataset.batch_size", batch, f"by {memory_gb:.0f} GB of GPU memory; halved if it does not suffice"
    )
    roomy = 1.5 * int(chosen["dataset.batch_size"]) * one_gb < memory_gb * share
    if roomy:
        chosen.take("train.activation_checkpoint", False, "the GPU's memory holds the activations")


def cpu_computes_in_bf16(told_by: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor has instructions for it, by what Linux says; not known elsewhere: False."""
    try:
        told = told_by.read_text()
    except OSError:
        return False
    return re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", told) is not None


def gpus_here() -> list[tuple[float, float]]:
    """(compute capability, memory in GB) of each NVIDIA GPU of this machine, found without torch."""
    asked = ["nvidia-smi", "--query-gpu=compute_cap,memory.total", "--format=csv,noheader,nounits"]
    try:
        listing = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout
        rows = [line.split(",") for line in listing.splitlines() if line.strip()]
        return [(float(capability), float(memory) / 1024) for capability, memory in rows]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def _workers(on: Machine) -> tuple[int, str]:
    free = max(1, int(on.cpus) - 1)
    most = 8 if on.gpus else 2  # where the CPU trains, loaders take its cores away
    return min(most, free), f"{on.cpus:g} cores a training"


# ---- length ----------------------------------------------------------------------------------------------------------


def _epochs(chosen: Chosen, facts: Mapping[str, Any], on: Machine, kind: str) -> tuple[int, str]:
    """So many that the training takes enough steps, as many as fit the time."""
    images = int(facts.get("train", {}).get("images", 0))
    batch = int(chosen["dataset.batch_size"]) * max(1, int(on.gpus))
    steps = STEPS.get(kind, STEPS["imagenet"])
    a_epoch = max(1, images // batch)
    epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(steps / a_epoch)))
    why = f"about {number_of(epochs * a_epoch, 'step')} on {number_of(images, 'image')}, started from {kind}"
    if on.one_training_s:
        guess = estimate(chosen.spec, facts, math.ceil(on.gpus), on.cpus)
        fits = int(on.one_training_s / float(guess["epoch_s"]))
        if fits < epochs:
            rest = ", with time left for other trainings" if on.searching else ""
            return max(HURRIED_EPOCHS, fits), f"as many as --time holds{rest}"
    return epochs, why
