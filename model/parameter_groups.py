"""The parts of the network that a spec names: which are trained, and at which rate. Needs no Lightning, whose import
takes seconds: the engine asks `check_parts` before a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from model.build import build_model
from model.errors import UserError, did_you_mean
from model.parameters import default_of


def parameter_groups(module: nn.Module, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The optimizer's three groups, told apart by name as published: backbone, sampling offsets and reference
    points, the rest. Each trainable parameter is in exactly one; an empty group is left out. Raises `UserError` for a
    word that no parameter's name contains, unless it is a default."""
    optim, model = spec["train"]["optim"], spec["model"]
    _check_words(module, model)
    groups: dict[str, dict[str, Any]] = {
        "transformer": {"params": [], "lr": optim["lr"]},
        "backbone": {"params": [], "lr": optim["lr_backbone"]},
        "linear_proj": {"params": [], "lr": optim["lr"] * optim["lr_linear_proj_mult"]},
    }
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if any(word in name for word in model["backbone_names"]):
            groups["backbone"]["params"].append(parameter)
        elif any(word in name for word in model["linear_proj_names"]):
            groups["linear_proj"]["params"].append(parameter)
        else:
            groups["transformer"]["params"].append(parameter)
    return [{"name": name, **group} for name, group in groups.items() if group["params"]]


def _check_words(module: nn.Module, model: Mapping[str, Any]) -> None:
    names = [name for name, _ in module.named_parameters()]
    for leaf in ("backbone_names", "linear_proj_names"):
        for word in set(model[leaf]) - set(default_of(f"model.{leaf}")):
            if not any(word in name for name in names):
                parts = {part for name in names for part in name.split(".")}
                hint = did_you_mean(word, parts) or f"; they are called like {names[0]}"
                raise UserError(f"model.{leaf}: no parameter's name contains '{word}'{hint}")


def freeze(detector: nn.Module, paths: list[str]) -> None:
    """Stop training the modules at these dotted paths. Raises `UserError` for a path that does not exist, and where
    nothing is left to train."""
    for path in paths:
        try:
            detector.get_submodule(path).requires_grad_(False)
        except AttributeError:
            top = ", ".join(name for name, _ in detector.named_children())
            raise UserError(f"train.freeze: no module '{path}'; the detector has {top}") from None
    if paths and not any(parameter.requires_grad for parameter in detector.parameters()):
        raise UserError(f"train.freeze {list(paths)} leaves nothing to train; take a part out of it")
    detector.train(detector.training)  # its frozen norms keep their statistics


def check_parts(spec: Mapping[str, Any]) -> None:
    """Raises `UserError` for a full spec that names parts which its network has not, or asks what it cannot do."""
    detector = build_model({**spec, "model": {**spec["model"], "pretrained_backbone_path": ""}})
    freeze(detector, spec["train"]["freeze"])
    parameter_groups(detector, spec)
