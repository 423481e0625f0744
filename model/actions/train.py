"""Train one spec: data, detector, Lightning's Trainer; then the folder holds checkpoints and metrics."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from model.encryption import passphrase
from model.errors import ModelError, UserError
from model.spec import Spec, load, notes, require
from model.status import Status

PRECISIONS = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}


def main(spec_path: str) -> None:
    """Train the spec in a file; what the engine's launcher calls in a fresh process."""
    run(load("train", spec_path))


def folder_of(spec: Spec) -> Path:
    """Where this training writes."""
    return Path(spec["train"]["results_dir"] or Path(spec["results_dir"] or "results") / "train")


def run(spec: Spec) -> dict[str, Any]:
    """Train a full spec. Returns {"checkpoint": path of the last one, **metrics of the last validation}.

    Raises `UserError` for what the spec or data got wrong, `ModelError` when CUDA runs out of memory.
    """
    require(spec, "dataset.train_data_sources")
    folder = folder_of(spec)
    folder.mkdir(parents=True, exist_ok=True)
    status = Status(folder, spec["model_name"])
    status.write("STARTED", "Starting training.")
    for line in notes(spec):
        print(f"warning: {line}")
        status.write("RUNNING", f"Warning: {line}")
    try:
        result = _fit(spec, folder)
    except Exception as error:
        status.write("FAILURE", f"{type(error).__name__}: {error}")
        raise
    status.write(
        "SUCCESS", "Train finished successfully.", {k: v for k, v in result.items() if k != "checkpoint"}
    )
    return result


def _fit(spec: Spec, folder: Path) -> dict[str, Any]:
    import pytorch_lightning as pl
    import torch

    import model.checkpoint as ckpt
    from model import start
    from model.data.module import DataModule
    from model.lightning import DetectorModule, EpochRecorder, freeze

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

    train = spec["train"]
    pl.seed_everything(train["seed"] if train["seed"] >= 0 else None, workers=True, verbose=False)
    torch.backends.cudnn.benchmark = train["cudnn"]["benchmark"]
    torch.backends.cudnn.deterministic = train["cudnn"]["deterministic"]
    data = DataModule(spec)
    data.setup("fit")
    spec, begin = start.settled(spec)
    if begin.warning:
        print(f"warning: {begin.warning}")
    module = DetectorModule(spec, data.classes, data.val_data)
    for line in start.load(module.model, begin, spec, data.classes):
        print(line)
    freeze(module.model, train["freeze"])
    if train["verbose"]:
        print(module.model)
    trainer = build_trainer(spec, [] if train["is_dry_run"] else [EpochRecorder(folder, spec)])
    resume = train["resume_training_checkpoint_path"] or None
    if resume:
        ckpt.check_spec(ckpt.load(resume, spec["encryption_key"]), spec, resume)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(_out_of_memory(spec, str(error))) from error
    if train["is_dry_run"]:
        return {"checkpoint": None, **module.val_metrics}
    return {"checkpoint": str(folder / ckpt.LATEST), "train_loss": module.train_loss(), **module.val_metrics}


def build_trainer(spec: Spec, callbacks: list[Any]) -> Any:
    """Lightning's Trainer as the spec asks; started by torchrun-style variables, it takes its place among them."""
    import pytorch_lightning as pl
    import torch

    from model.lightning import EncryptedCheckpoints

    train = spec["train"]
    on_gpu = train["accelerator"] != "cpu" and torch.cuda.is_available()
    if train["accelerator"] == "gpu" and not on_gpu:
        raise UserError("train.accelerator is gpu, but torch finds no CUDA device; set it to auto or cpu")
    if train["precision"] == "fp16" and not on_gpu:
        raise UserError("train.precision fp16 needs a GPU; on a CPU use fp32 or bf16")
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
        fast_dev_run=train["is_dry_run"],
        num_sanity_val_steps=0,
        logger=wandb_logger(spec),
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        callbacks=callbacks,
        plugins=[EncryptedCheckpoints(spec["encryption_key"])]
        if passphrase(spec["encryption_key"])
        else None,
        default_root_dir=str(folder_of(spec)),
    )


def wandb_logger(spec: Spec) -> Any:
    """Lightning's W&B logger when wandb.enable is true, the package is here and a key is set; else False."""
    from importlib.util import find_spec

    settings = spec["wandb"]
    if not (settings["enable"] and find_spec("wandb") and os.environ.get("WANDB_API_KEY")):
        return False
    from pytorch_lightning.loggers import WandbLogger

    names = ("project", "entity", "group", "name", "tags", "reinit", "save_code", "sync_tensorboard")
    options: dict[str, Any] = {n: settings[n] or None for n in names}
    return WandbLogger(save_dir=str(folder_of(spec)), id=settings["run_id"] or None, **options)


def _devices(spec: Spec, on_gpu: bool) -> int | list[int]:
    """The GPUs to use, by number, or how many processes a launcher has started here, which must be what the spec asks
    for: a launcher shows each process its own GPUs, numbered from 0."""
    from model.distributed import gpu_ids, launched

    train, nodes = spec["train"], spec["train"]["num_nodes"]
    if launched():
        here, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        if world != here * nodes:
            raise UserError(
                f"train.num_nodes is {nodes}, but the launcher started {world} processes, {here} of them here"
            )
        if on_gpu and here != train["num_gpus"]:
            raise UserError(
                f"train.num_gpus is {train['num_gpus']}, but the launcher started {here} processes"
            )
        return here
    if nodes > 1:
        raise UserError(
            f"train.num_nodes is {nodes}: start it on every node, with torchrun --nnodes={nodes} "
            f"--nproc-per-node={train['num_gpus']} ... -m model.cli train -e spec.yaml"
        )
    if on_gpu:
        ids = gpu_ids(train, "train")
        return ids if "CUDA_VISIBLE_DEVICES" not in os.environ else len(ids)
    if train["num_gpus"] > 1:
        print(
            f"warning: train.num_gpus is {train['num_gpus']}, but there is no GPU; one process trains on the CPU"
        )
    return 1


def _strategy(spec: Spec, processes: int) -> Any:
    """DDP, or FSDP2 with the parameters spread over all processes."""
    from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy

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
    return ModelParallelStrategy(
        data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False
    )


def _out_of_memory(spec: Spec, detail: str) -> str:
    batch = spec["dataset"]["batch_size"]
    advice = f"try dataset.batch_size={batch // 2}" if batch > 1 else "try smaller images"
    more = [] if spec["train"]["activation_checkpoint"] else ["train.activation_checkpoint=true"]
    more += ["train.precision=bf16"] if spec["train"]["precision"] == "fp32" else []
    wishes = ", or ".join([advice, *more])
    return f"CUDA out of memory at dataset.batch_size={batch}: {wishes}. {detail.splitlines()[0]}"
