"""Going on in the middle of an epoch, from the checkpoint of a step: the rest of its images, in the same order.

Such a checkpoint has an entry `mid_epoch`, None where an epoch has ended: {"steps": done in the epoch, "losses":
[steps] their means over all processes, "order": what the order of the images depends on}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from model.errors import UserError


def order_of(spec: Mapping[str, Any], images: int, processes: int) -> dict[str, Any]:
    """What must be the same for an epoch to be gone on with: another order has other images left."""
    return {
        "dataset.batch_size": spec["dataset"]["batch_size"],
        "dataset.train_sampler": spec["dataset"]["train_sampler"],
        "train.seed": spec["train"]["seed"],
        "processes": processes,
        "images": images,
    }


def told(
    checkpoint: Mapping[str, Any],
    parts: int,
    losses: Callable[[], torch.Tensor],
    order: Mapping[str, Any],
) -> dict[str, Any] | None:
    """The entry of a checkpoint of Lightning's that is about to be written, with each step's batch in `parts`; `losses`
    are the epoch's, one a batch."""
    if not is_open(checkpoint):
        return None
    steps = _batches(checkpoint)["current"]["ready"] // parts
    means = losses()[: steps * parts].reshape(steps, parts).mean(1)
    return {"steps": steps, "losses": means.cpu(), "order": dict(order)}


def is_open(checkpoint: Mapping[str, Any]) -> bool:
    """Whether the checkpoint's epoch was not over."""
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    return bool(epochs["started"] > epochs["processed"])


def check(checkpoint: Mapping[str, Any], order: Mapping[str, Any], where: str) -> None:
    """Raise `UserError` when the rest of the checkpoint's epoch would not be what it was."""
    if not is_open(checkpoint):
        return
    within = checkpoint.get("mid_epoch")
    epoch = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] + 1
    advice = "go on from the checkpoint of an epoch's end, or start from its weights by train.pretrained_model_path"
    if within is None:
        raise UserError(
            f"{where} was written within epoch {epoch} by an earlier version and does not say which images were done; "
            f"{advice}"
        )
    wrong = [
        f"{name} {value!r} -> {order[name]!r}"
        for name, value in within["order"].items()
        if value != order[name]
    ]
    if wrong:
        raise UserError(
            f"{where} was written within epoch {epoch}, after step {within['steps']} of it, whose order goes by what "
            f"is another now: {'; '.join(wrong)}. Leave it as it was, or {advice}"
        )


def go_on(checkpoint: dict[str, Any], parts: int) -> tuple[int, list[torch.Tensor]]:
    """Make a checkpoint that is being read count batches of `parts`, which memory may have asked for since. Returns
    (batches of the epoch that are done, their losses)."""
    if not is_open(checkpoint):
        return 0, []
    within = checkpoint["mid_epoch"]
    done = within["steps"] * parts
    # Lightning counts the batch that a checkpoint was written after as not completed, and looks for that.
    _batches(checkpoint)["current"] |= {
        "ready": done,
        "started": done,
        "processed": done,
        "completed": done - 1,
    }
    return done, list(within["losses"].repeat_interleave(parts))


def _batches(checkpoint: Mapping[str, Any]) -> Any:
    return checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
