"""Going on from a checkpoint with another spec: what is taken from the spec, and what cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from model.checkpoint import check_spec
from model.data.classes import outside_ids
from model.errors import UserError, number_of
from model.parameters import default_of
from model.spec import get

# The optimizer's state is kept by parameter group, and an average of the weights is there or not.
FIXED = (
    "train.optim.optimizer", "train.freeze", "model.train_backbone", "model.backbone_names",
    "model.linear_proj_names",
)  # fmt: skip
TAKEN = (
    "train.optim.lr", "train.optim.lr_backbone", "train.optim.lr_linear_proj_mult", "train.optim.weight_decay",
    "train.optim.momentum", "train.optim.lr_scheduler", "train.optim.lr_steps", "train.optim.lr_decay",
    "train.optim.lr_step_size", "train.optim.warmup_steps",
)  # fmt: skip


INSTEAD = "start from its weights by train.pretrained_model_path instead"
SHOWN = 8  # tensors of a message


def check(
    checkpoint: Mapping[str, Any],
    spec: Mapping[str, Any],
    classes: Sequence[Mapping[str, Any]] | None,
    where: str,
) -> None:
    """Raise `UserError` when the checkpoint cannot go on under this spec with these classes (None: not known yet)."""
    if not checkpoint.get("optimizer_states"):
        raise UserError(
            f"{where} holds the weights alone, without what a training needs to go on; start a new one from them by "
            f"train.pretrained_model_path={where}, or go on from a checkpoint of the training's own folder "
            "(model_epoch_*.pth)"
        )
    check_spec(checkpoint, spec, where)
    _check_something_is_left(checkpoint, spec, where)
    recorded = checkpoint["spec"]
    wrong = [line for name in FIXED if (line := _difference(recorded, spec, name))]
    if bool(_leaf(recorded, "train.ema_decay")) != bool(_leaf(spec, "train.ema_decay")):
        wrong.append(_difference(recorded, spec, "train.ema_decay") or "")
    before_queries, queries = _training_s_queries(recorded), _training_s_queries(spec)
    wrong += [_difference(recorded, spec, n) or "" for n in queries if before_queries[n] != queries[n]]
    if wrong:
        lines = "\n".join(f"  {line}" for line in wrong)
        raise UserError(f"{where} cannot be gone on from with other settings of these; {INSTEAD}:\n{lines}")
    if classes is None:
        return
    before, now = (
        {outside_ids([c])[c["id"]]: c["name"] for c in of} for of in (checkpoint["classes"], classes)
    )
    if before != now:
        raise UserError(f"{where} was trained on other classes: {before}, but the data have {now}")


def check_network(checkpoint: Mapping[str, Any], detector: Any, where: str) -> None:
    """Raise `UserError` when the checkpoint's tensors are not the detector's by name and shape, whatever leaf made it
    so: the optimizer's state belongs to each of them."""
    before, now = (
        {name: tuple(value.shape) for name, value in state.items()}
        for state in (checkpoint["state_dict"], detector.state_dict())
    )
    names = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if names:
        lines = [f"  {name}: {before.get(name, 'none')} -> {now.get(name, 'none')}" for name in names[:SHOWN]]
        more = [f"  and {len(names) - SHOWN} others"] if len(names) > SHOWN else []
        raise UserError(
            f"{where} cannot be gone on from, for this spec makes another network; set what differs as it was, or "
            f"{INSTEAD} (tensor: shape in the checkpoint -> now):\n" + "\n".join(lines + more)
        )


def _training_s_queries(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the training's own queries have parameters for, by leaf: noised ones an embedding of classes, those of
    hybrid matching their own where queries are learned."""
    learned = _leaf(spec, "model.mixed_selection") or not _leaf(spec, "model.two_stage")
    return {
        "model.denoising_queries": _leaf(spec, "model.denoising_queries") > 0,
        "model.hybrid_queries": _leaf(spec, "model.hybrid_queries") if learned else 0,
    }


def _check_something_is_left(checkpoint: Mapping[str, Any], spec: Mapping[str, Any], where: str) -> None:
    done = get(checkpoint, "loops.fit_loop.epoch_progress.current.processed", 0)
    epochs = spec["train"]["num_epochs"]
    if done >= epochs:
        raise UserError(
            f"{where} is at epoch {done} of {epochs}: nothing is left to train; raise train.num_epochs"
        )


def new_rates(checkpoint: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    """The optimizer's settings that change with this resume, as `leaf: before -> now`."""
    return [line for name in TAKEN if (line := _difference(checkpoint["spec"], spec, name))]


def count_epochs(schedule: Any, epochs: int, steps: int, within: int) -> str:
    """Let a restored schedule stand where so many epochs of `steps` and `within` steps of the next have brought it: it
    counted the checkpoint's, of another batch size, number of processes or of images perhaps. Returns a sentence about
    it, "" where it stood there."""
    before, schedule.last_epoch = schedule.last_epoch, epochs * steps + within
    if before == schedule.last_epoch:
        return ""
    return (
        f"resumed after {number_of(epochs, 'epoch')} of {number_of(steps, 'step')}, other than before: the "
        "rates go by step "
        f"{schedule.last_epoch}, not {before}"
    )


def take_rates(
    optimizer: Any, schedule: Any, groups: Sequence[Mapping[str, Any]], optim: Mapping[str, Any]
) -> None:
    """Give a restored optimizer the spec's rates, where the schedule stands; restoring brought the checkpoint's."""
    factor = schedule.lr_lambdas[0](schedule.last_epoch)
    schedule.base_lrs = [group["lr"] for group in groups]
    for group, base in zip(optimizer.param_groups, schedule.base_lrs, strict=True):
        group |= {"initial_lr": base, "lr": base * factor, "weight_decay": optim["weight_decay"]}
        if "momentum" in group:
            group["momentum"] = optim["momentum"]
    schedule._last_lr = [group["lr"] for group in optimizer.param_groups]


def _difference(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> str | None:
    a, b = _leaf(before, name), _leaf(now, name)
    return None if a == b else f"{name}: {a!r} -> {b!r}"


def _leaf(spec: Mapping[str, Any], name: str) -> Any:
    return get(spec, name, default_of(name))
