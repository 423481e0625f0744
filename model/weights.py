"""Foreign and own weights into the detector: by name, strictly, every mismatch listed.

Our parameter names are the published repository's, so its checkpoints, TAO's (the same under a prefix) and our own
differ only in what is wrapped around them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.errors import UserError

WRAPPERS = ("state_dict", "model", "module")  # entries of a checkpoint that may hold the weights
PREFIXES = ("model.model.", "model.", "module.", "backbone.0.body.", "backbone.")
CLASS_HEADS = "class_embed."
SHOWN = 8


def load(detector: nn.Module, path: str | Path) -> list[str]:
    """Fill a detector from a checkpoint file. Returns the names left as they were: the class heads when the class
    count differs, else none. Raises `UserError` listing missing, unexpected and mismatched names."""
    wanted = detector.state_dict()
    weights = _stripped(read(path), set(wanted))
    # The published box-refining models save the heads a second time, under the decoder.
    weights = {k: v for k, v in weights.items() if not k.startswith("transformer.decoder.bbox_embed.")}
    heads = [k for k in wanted if k.startswith(CLASS_HEADS)]
    other_classes = all(k in weights and weights[k].shape[1:] == wanted[k].shape[1:] for k in heads) and any(
        weights[k].shape != wanted[k].shape for k in heads
    )
    left = heads if other_classes else []
    for name in left:
        weights[name] = wanted[name]
    _load_strictly(detector, weights, path)
    return left


def load_backbone(body: nn.Module, path: str | Path) -> None:
    """Fill a ResNet body from a classifier's file (torchvision, timm or TAO names); its last layer is dropped.
    Stages that the body lacks are dropped too. Raises `UserError` for anything else that does not fit."""
    wanted = body.state_dict()
    weights = _stripped(read(path), set(wanted))
    dropped = ("fc.", "head.", "layer1.", "layer2.", "layer3.", "layer4.")
    weights = {k: v for k, v in weights.items() if k in wanted or not k.startswith(dropped)}
    frozen = not any(k.endswith("num_batches_tracked") for k in wanted)
    if frozen:
        weights = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    else:  # older files lack the counter, which only a cumulative average uses
        weights |= {k: v for k, v in wanted.items() if k.endswith("num_batches_tracked") and k not in weights}
    _load_strictly(body, weights, path)


def read(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a .pth file, whatever they are wrapped in. Raises `UserError`."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    try:
        document: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: not a readable weights file ({str(error).splitlines()[0][:200]})") from None
    while isinstance(document, Mapping) and not any(isinstance(v, torch.Tensor) for v in document.values()):
        inner = next((document[key] for key in WRAPPERS if key in document), None)
        if inner is None:
            raise UserError(f"{path}: holds no weights, only {', '.join(map(str, list(document)[:SHOWN]))}")
        document = inner
    return {str(k): v for k, v in document.items() if isinstance(v, torch.Tensor)}


def _stripped(weights: dict[str, torch.Tensor], wanted: set[str]) -> dict[str, torch.Tensor]:
    """The weights under the prefix with which most of their names are wanted."""
    choices = [{k.removeprefix(p): v for k, v in weights.items()} for p in ("", *PREFIXES)]
    return max(choices, key=lambda choice: len(wanted & set(choice)))


def _load_strictly(module: nn.Module, weights: Mapping[str, torch.Tensor], path: str | Path) -> None:
    wanted = module.state_dict()
    problems = {
        "missing": sorted(set(wanted) - set(weights)),
        "unexpected": sorted(set(weights) - set(wanted)),
        "of another shape": sorted(k for k in wanted if k in weights and weights[k].shape != wanted[k].shape),
    }
    lines = [f"  {kind}: {_listed(names)}" for kind, names in problems.items() if names]
    if lines:
        raise UserError(f"{path}: does not fit this network\n" + "\n".join(lines))
    module.load_state_dict(dict(weights), strict=True)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
