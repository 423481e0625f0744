"""A spec -> the detector and its loss: plain calls, no registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.criterion import Criterion
from model.detector import DeformableDETR
from model.spec import resolve
from model.weights import load_backbone


def build_model(spec: Mapping[str, Any]) -> DeformableDETR:
    """The detector of a (partial) train spec, freshly initialised; pretrained backbone weights loaded when named."""
    resolved = full(spec)
    detector = DeformableDETR(resolved)
    if resolved["model"]["pretrained_backbone_path"]:
        load_backbone(
            detector.backbone.get_submodule("0.body"), resolved["model"]["pretrained_backbone_path"]
        )
    return detector


def build_criterion(spec: Mapping[str, Any]) -> Criterion:
    """The training loss of a (partial) train spec."""
    return Criterion(full(spec))


def full(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The spec with every model, dataset and train leaf present."""
    parts = {key: value for key, value in spec.items() if key in ("model", "dataset", "train")}
    return resolve("train", parts)
