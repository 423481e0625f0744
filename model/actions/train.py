"""Train one spec: data, detector, Lightning's Trainer; then the folder holds checkpoints and metrics."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import model.checkpoint as ckpt
from model import wandb_runs
from model.distributed import LAUNCH, gpu_ids, launched, leave, start_ranks
from model.errors import OutOfMemory, UserError, number_of
from model.seeding import seeded
from model.spec import Spec, notes, require, unfit_device
from model.spec_file import load
from model.status import Status, failure_told, results_folder

PRECISIONS = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}


def main(spec_path: str) -> None:
    """Train the spec in a file; what the engine's launcher calls in a fresh process."""
    run(load("train", spec_path))


@failure_told("train")
def run(spec: Spec) -> dict[str, Any]:
    """Train a full spec. Returns {"checkpoint": path of the last one, **metrics of the last validation}.

    A batch for which memory does not suffice is cut into parts whose gradients are summed up, from the last checkpoint
    on. Raises `UserError` for what the spec or data got wrong, `OutOfMemory` when a single image does not fit, or one
    of several processes runs out.
    """
    require(spec, "dataset.train_data_sources")
    with ckpt.setting_aside(results_folder(spec, "train")):
        return _run(seeded(spec))


def _run(spec: Spec) -> dict[str, Any]:
    folder = results_folder(spec, "train")
    spec = _validated(spec, folder)
    if start_ranks(spec, "train"):
        return {"checkpoint": str(folder / ckpt.LATEST)}
    status = Status(folder, spec["model_name"])
    status.write("STARTED", "Starting training.")
    for line in notes(spec):
        print(f"warning: {line}")
        status.write("RUNNING", f"Warning: {line}")
    result = _fit(spec, folder, status)
    leave()
    if int(os.environ.get("RANK") or 0) == 0:
        _tell(result, spec, folder)
    status.write(
        "SUCCESS", "Train finished successfully.", {k: v for k, v in result.items() if k != "checkpoint"}
    )
    return result


def _validated(spec: Spec, folder: Path) -> Spec:
    """The spec with images to validate on. Of several processes each finds the same."""
    from model.data.check import with_validation

    spec, lines = with_validation(spec, folder / "data")
    for line in lines if int(os.environ.get("RANK") or 0) == 0 else ():
        print(f"data: {line}")
    return spec


def _tell(result: dict[str, Any], spec: Spec, folder: Path) -> None:
    """How a training ended."""
    if spec["train"]["is_dry_run"]:
        print("the dry run went through: one batch of training and one of validation; no checkpoint was kept")
    elif result["checkpoint"]:
        named = ("val_mAP", "val_mAP50")
        figures = ", ".join(f"{name} {result[name]:.4f}" for name in named if name in result)
        print(
            f"{figures or 'trained'}; checkpoint: {result['checkpoint']}; each epoch: {folder}/metrics.jsonl"
        )


def _fit(spec: Spec, folder: Path, status: Status) -> dict[str, Any]:
    """Train, with batches in more parts each time that memory runs out."""
    from model import memory
    from model.recorder import EpochRecorder

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Lightning's loader would begin the epoch anew; ours leaves out what is done (`mid_epoch`).
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch")
    recorder = EpochRecorder(folder, spec)
    resume, parts, batch = (
        spec["train"]["resume_training_checkpoint_path"] or None,
        1,
        spec["dataset"]["batch_size"],
    )
    while True:
        try:
            return _train(spec, folder, recorder, resume, parts)
        except Exception as error:
            if wrong := _norm_of_one_value(error, batch // parts):
                raise UserError(wrong) from None
            if not memory.is_out_of_memory(error):
                raise
            detail = str(error).partition("\n")[0]
        # Out of the except block the error's frames are gone, and with them the batch and the network.
        recorder = recorder.successor()
        more = memory.more_parts(batch, parts) if not launched() else None
        if more is None:
            raise OutOfMemory(memory.advice(spec, detail))
        memory.free()
        parts = more
        if recorder.last is not None and recorder.last.is_file():
            resume = str(recorder.last)
        line = (
            f"Out of memory: going on with batches of {batch} in {parts} parts, gradients summed up. {detail}"
        )
        print(line)
        status.write("RUNNING", line)


def _norm_of_one_value(error: Exception, batch: int) -> str:
    """What to do about torch's error of a norm that would divide a single value by its spread; "" for any other."""
    if not (isinstance(error, ValueError) and "more than 1 value per channel" in str(error)):
        return ""
    return (
        f"a norm of the network gets a single value of each channel from {number_of(batch, 'image')} of this "
        "size, and cannot "
        "train on that; set dataset.batch_size to 2 or more, larger images (train.input_height and input_width, or "
        f"dataset.augmentation) or, for a ResNet, model.backbone_norm=group. {error}"
    )


def _train(spec: Spec, folder: Path, recorder: Any, resume: str | None, parts: int) -> dict[str, Any]:
    """One training, from `resume` where given, each batch in `parts`."""
    import pytorch_lightning as pl
    import torch

    from model import mid_epoch, start
    from model import resume as resuming
    from model.data.module import DataModule
    from model.heartbeat import Heartbeat
    from model.lightning import DetectorModule
    from model.parameter_groups import freeze
    from model.patience import Patience

    train = spec["train"]
    pl.seed_everything(train["seed"], workers=True, verbose=False)
    torch.backends.cudnn.benchmark = train["cudnn"]["benchmark"]
    torch.backends.cudnn.deterministic = train["cudnn"]["deterministic"]
    batch = spec["dataset"]["batch_size"]
    data = DataModule({**spec, "dataset": {**spec["dataset"], "batch_size": batch // parts}})
    data.setup("fit")
    spec, begin = start.settled(spec)
    if begin.warning:
        print(f"warning: {begin.warning}")
    module = DetectorModule(spec, data.classes, data.val_data)
    freeze(module.model, train["freeze"])  # before: what is frozen must be loaded
    if resume is None:
        for line in start.load(module.model, begin, spec, data.classes):
            print(line)
    elif begin.kind != "resume":  # memory ran out, and the checkpoint has all weights
        print(f"goes on from {resume}")
    module.begin_average()
    if train["verbose"]:
        print(module.model)
    callbacks = (
        []
        if train["is_dry_run"]
        else [recorder, Heartbeat(folder, spec["model_name"]), Patience(folder, spec)]
    )
    trainer = build_trainer(spec, callbacks, parts, data.steps_per_epoch() // parts * parts)
    if resume:
        recorded = ckpt.load(resume, spec["encryption_key"])
        resuming.check(recorded, spec, data.classes, resume)
        resuming.check_network(recorded, module.model, resume)
        order = mid_epoch.order_of(spec, len(data.train_data), trainer.world_size)
        mid_epoch.check(recorded, order, resume)
        for line in resuming.new_rates(recorded, spec):
            print(f"resumed with {line}")
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
    if train["is_dry_run"]:
        return {"checkpoint": None, **module.val_metrics}
    return {"checkpoint": str(folder / ckpt.LATEST), "train_loss": module.train_loss(), **module.val_metrics}


def build_trainer(spec: Spec, callbacks: list[Any], parts: int = 1, batches: int = 0) -> Any:
    """Lightning's Trainer as the spec asks; started by torchrun-style variables, it takes its place among them. With
    `parts` above 1 it takes a step after so many batches, and `batches` in an epoch."""
    import pytorch_lightning as pl
    import torch

    from model.checkpoint_io import Checkpoints

    train = spec["train"]
    on_gpu = train["accelerator"] != "cpu" and torch.cuda.is_available()
    if wrong := unfit_device(train, on_gpu):
        raise UserError(wrong)
    devices = _devices(spec, on_gpu)
    return pl.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=devices,
        num_nodes=train["num_nodes"],
        strategy=_strategy(
            spec, (devices if isinstance(devices, int) else len(devices)) * train["num_nodes"]
        ),
        sync_batchnorm=on_gpu,  # statistics of the whole batch; torch has it for GPUs alone
        precision=PRECISIONS[train["precision"]],  # type: ignore[arg-type]
        max_epochs=train["num_epochs"],
        check_val_every_n_epoch=min(train["validation_interval"], train["num_epochs"]),
        gradient_clip_val=train["clip_grad_norm"] or None,
        accumulate_grad_batches=parts,
        limit_train_batches=batches if parts > 1 else None,
        fast_dev_run=train["is_dry_run"],
        num_sanity_val_steps=0,
        logger=wandb_runs.logger(spec, str(results_folder(spec, "train"))),
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        callbacks=callbacks,
        plugins=[Checkpoints(spec["encryption_key"])],
        default_root_dir=str(results_folder(spec, "train")),
    )


def _devices(spec: Spec, on_gpu: bool) -> int | list[int]:
    """The GPUs to use, by number, or how many processes a launcher has started here, which must be what the spec asks
    for: a launcher shows each process its own GPUs, numbered from 0."""
    train, nodes = spec["train"], spec["train"]["num_nodes"]
    if launched():
        here, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        if world != here * nodes:
            raise UserError(
                f"train.num_nodes is {nodes}, but the launcher started {number_of(world, 'process')}, {here} of "
                "them here"
            )
        if on_gpu and here != train["num_gpus"]:
            raise UserError(
                f"train.num_gpus is {train['num_gpus']}, but the launcher started {number_of(here, 'process')}"
            )
        return here
    if nodes > 1:
        raise UserError(f"train.num_nodes is {nodes}: {LAUNCH}")
    return gpu_ids(train, "train") if on_gpu else 1


def _strategy(spec: Spec, processes: int) -> Any:
    """DDP, or FSDP2 with the parameters spread over all processes."""
    from pytorch_lightning.strategies import DDPStrategy

    from model.checkpoint_io import Fsdp

    train = spec["train"]
    if processes == 1:
        return "auto"
    if train["distributed_strategy"] == "ddp":
        # Which heads a loss reaches depends on aux_loss, loss_types and what is in a batch.
        return DDPStrategy(find_unused_parameters=True)
    if train["precision"] == "fp16":
        raise UserError(
            "train.precision fp16 does not go with train.distributed_strategy fsdp; use bf16 or fp32"
        )
    return Fsdp(processes, spec["encryption_key"])
