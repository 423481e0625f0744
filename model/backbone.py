"""ResNet feature extractors under the published names (`backbone.0.body.*`), with a norm that can be trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d

from model.errors import UserError

STAGE_STRIDE = 4  # of layer1; each later stage doubles it


class Backbone(nn.Module):
    """images [B, 3, H, W] -> the asked stages' maps, finest first. `channels` lists their widths."""

    def __init__(self, body: nn.Module, channels: list[int]) -> None:
        super().__init__()
        self.body, self.channels = body, channels

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return list(self.body(images).values())


def norm_of(spec: Mapping[str, Any]) -> str:
    """`model.backbone_norm` with `auto` decided: frozen statistics make sense only for pretrained weights."""
    norm = spec["model"]["backbone_norm"]
    if norm != "auto":
        return str(norm)
    pretrained = spec["model"]["pretrained_backbone_path"] or spec["train"]["pretrained_model_path"]
    return "frozen" if pretrained else "batch"


def build_backbone(spec: Mapping[str, Any]) -> Backbone:
    """The backbone of a full spec. Raises `UserError` for one that is not built in."""
    model = spec["model"]
    name, stages = model["backbone"], [i for i in model["return_interm_indices"] if i < 4]
    if not name.startswith("resnet_"):
        raise UserError(
            f"model.backbone '{name}' is not built in; use resnet_18, resnet_34, resnet_50 or resnet_101"
        )
    norms: dict[str, Callable[[int], nn.Module]] = {
        "frozen": FrozenBatchNorm2d,
        "batch": nn.BatchNorm2d,
        "group": lambda channels: nn.GroupNorm(32, channels),
    }
    norm = norm_of(spec)
    factory = getattr(torchvision.models, name.replace("_", ""))
    resnet = factory(
        weights=None, norm_layer=norms[norm], replace_stride_with_dilation=[False, False, model["dilation"]]
    )
    widths = [64, 128, 256, 512] if name in ("resnet_18", "resnet_34") else [256, 512, 1024, 2048]
    body = IntermediateLayerGetter(resnet, {f"layer{i + 1}": str(i) for i in stages})
    for parameter_name, parameter in body.named_parameters():
        # With pretrained weights the stem and first stage stay, as published; random ones must learn everywhere.
        early = not any(f"layer{i}" in parameter_name for i in (2, 3, 4))
        if not model["train_backbone"] or (norm == "frozen" and early):
            parameter.requires_grad_(False)
    return Backbone(body, [widths[i] for i in stages])
