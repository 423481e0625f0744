"""Train one spec: data, detector, Lightning's Trainer; then the folder holds checkpoints and metrics."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

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
    module = DetectorModule(spec, data.classes, data.val_data)
    if train["pretrained_model_path"]:
        from model import weights

        left = weights.load(module.model, train["pretrained_model_path"], spec["encryption_key"])
        if left:
            print(f"start anew, for the file lacks them or has other classes: {', '.join(left)}")
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
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", train["num_gpus"] if on_gpu else 1))
    distributed = local_ranks * train["num_nodes"] > 1
    return pl.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=_devices(spec, local_ranks) if on_gpu else local_ranks,
        num_nodes=train["num_nodes"],
        strategy=train["distributed_strategy"] if distributed else "auto",
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
        plugins=[EncryptedCheckpoints(spec["encryption_key"])] if spec["encryption_key"] else None,
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


def _devices(spec: Spec, local_ranks: int) -> Any:
    """The GPUs named by train.gpu_ids when they are as many as asked for; a launcher that has hidden the other
    GPUs numbers its own from 0."""
    ids = spec["train"]["gpu_ids"]
    launched = "LOCAL_RANK" in os.environ or "CUDA_VISIBLE_DEVICES" in os.environ
    return ids if len(ids) == local_ranks and not launched else local_ranks


def _out_of_memory(spec: Spec, detail: str) -> str:
    batch = spec["dataset"]["batch_size"]
    advice = f"try dataset.batch_size={batch // 2}" if batch > 1 else "try smaller images"
    more = [] if spec["train"]["activation_checkpoint"] else ["train.activation_checkpoint=true"]
    more += ["train.precision=bf16"] if spec["train"]["precision"] == "fp32" else []
    wishes = ", or ".join([advice, *more])
    return f"CUDA out of memory at dataset.batch_size={batch}: {wishes}. {detail.splitlines()[0]}"
