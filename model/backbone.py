"""Feature extractors under the published names (`backbone.0.body.*`): ResNets with a norm that can be trained, GCViT,
and whatever timm offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d

from model.errors import UserError
from model.gcvit import SIZES, GCViT, size_name

STAGE_STRIDE = 4  # of stage 0; each later stage doubles it


class Backbone(nn.Module):
    """images [B, 3, H, W] -> the asked stages' maps, finest first. `channels` lists their widths."""

    def __init__(self, body: nn.Module, channels: list[int], channels_last: bool = False) -> None:
        super().__init__()
        self.body, self.channels, self.channels_last = body, channels, channels_last

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps = self.body(images)
        if self.channels_last:
            return [m.permute(0, 3, 1, 2).contiguous() for m in maps]
        return list(maps.values() if isinstance(maps, dict) else maps)


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's, in place: no one needs the convolution's own output, so half of the traffic can go."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype != self.weight.dtype or (x.is_leaf and x.requires_grad):
            return super().forward(x)
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        bias = self.bias - self.running_mean * scale
        return x.mul_(scale[:, None, None]).add_(bias[:, None, None])


def norm_of(spec: Mapping[str, Any]) -> str:
    """`model.backbone_norm` with `auto` decided: frozen statistics make sense only for pretrained weights. A
    `train.start` that is still `auto` loads nothing (`model/start.py` settles it before a training)."""
    norm, train = spec["model"]["backbone_norm"], spec["train"]
    if norm != "auto":
        return str(norm)
    pretrained = spec["model"]["pretrained_backbone_path"] or train["pretrained_model_path"]
    starts = train.get("start", "scratch") not in ("scratch", "auto")  # an older checkpoint's spec lacks it
    return "frozen" if pretrained or starts else "batch"


def build_backbone(spec: Mapping[str, Any]) -> Backbone:
    """The backbone of a full spec. Raises `UserError` for what it cannot be."""
    model, norm = spec["model"], norm_of(spec)
    name, stages = model["backbone"], [i for i in model["return_interm_indices"] if i < 4]
    if not stages:
        raise UserError("model.return_interm_indices must hold a stage from 0 to 3")
    if gcvit := size_name(name):
        body: nn.Module = GCViT(SIZES[gcvit], stages, spec["train"]["activation_checkpoint"])
        backbone = Backbone(body, [SIZES[gcvit].widths[i] for i in stages])
    elif name.startswith("timm/"):
        backbone = _timm(name.removeprefix("timm/"), stages, norm)
    else:
        backbone = _resnet(name, stages, norm, model["dilation"])
    if not model["train_backbone"]:
        backbone.requires_grad_(False)
    return backbone


def _resnet(name: str, stages: list[int], norm: str, dilation: bool) -> Backbone:
    norms: dict[str, Callable[[int], nn.Module]] = {
        "frozen": FrozenNorm,
        "batch": nn.BatchNorm2d,
        "group": lambda channels: nn.GroupNorm(32, channels),
    }
    factory = getattr(torchvision.models, name.replace("_", ""))
    basic = name in ("resnet_18", "resnet_34")
    resnet = factory(
        weights=None, norm_layer=norms[norm], replace_stride_with_dilation=[False, False, dilation]
    )
    widths = [64, 128, 256, 512] if basic else [256, 512, 1024, 2048]
    body = IntermediateLayerGetter(resnet, {f"layer{i + 1}": str(i) for i in stages})
    for parameter_name, parameter in body.named_parameters():
        # With pretrained weights the stem and first stage stay, as published; random ones must learn everywhere.
        early = not any(f"layer{i}" in parameter_name for i in (2, 3, 4))
        if norm == "frozen" and early:
            parameter.requires_grad_(False)
    return Backbone(body, [widths[i] for i in stages])


def _timm(name: str, stages: list[int], norm: str) -> Backbone:
    """A timm model's maps of the strides 4 to 32 that are asked for."""
    from timm.layers import freeze_batch_norm_2d

    if norm == "group":
        raise UserError(
            f"model.backbone_norm group is for resnet_* backbones, but model.backbone is timm/{name}"
        )
    try:
        known = _extractor(name).feature_info.reduction()
    except (RuntimeError, AttributeError, AssertionError, TypeError) as error:
        raise UserError(f"model.backbone timm/{name}: timm offers no feature maps of it ({error})") from None
    strides = [STAGE_STRIDE * 2**i for i in stages]
    if not set(strides) <= set(known):
        raise UserError(
            f"model.return_interm_indices {stages} needs maps of stride {strides}, but timm/{name} has {known}"
        )
    body = _extractor(name, out_indices=[known.index(s) for s in strides])
    channels, last = body.feature_info.channels(), getattr(body, "output_fmt", "NCHW") == "NHWC"
    if norm == "frozen":
        body = freeze_batch_norm_2d(body)
    return Backbone(body, channels, last)


def _extractor(name: str, **options: Any) -> Any:
    import timm

    return timm.create_model(name, features_only=True, **options)


def classifier_names(backbone: str) -> set[str]:
    """What a file of a classifier of this kind may hold beyond the feature extractor: every name of a timm model; for
    the others the beginnings of their heads and stages."""
    if backbone.startswith("timm/"):
        import timm

        with torch.device("meta"):
            return set(timm.create_model(backbone.removeprefix("timm/")).state_dict())
    if size_name(backbone):
        return {"head.", "norm.", "norm0.", "norm1.", "norm2.", "norm3.", "levels."}
    return {"fc.", "head.", "layer1.", "layer2.", "layer3.", "layer4."}
