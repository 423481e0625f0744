"""A spec -> the detector and its loss: plain calls, no registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.backbone import classifier_names
from model.criterion import Criterion
from model.detector import DeformableDETR
from model.spec import resolve
from model.weights import load_backbone


def build_model(spec: Mapping[str, Any]) -> DeformableDETR:
    """The detector of a (partial) train spec, freshly initialised; pretrained backbone weights loaded when named."""
    resolved = full(spec)
    detector = DeformableDETR(resolved)
    model = resolved["model"]
    if model["pretrained_backbone_path"]:
        body, beyond = detector.backbone.get_submodule("0.body"), classifier_names(model["backbone"])
        load_backbone(body, model["pretrained_backbone_path"], beyond)
    return detector


def build_criterion(spec: Mapping[str, Any]) -> Criterion:
    """The training loss of a (partial) train spec."""
    return Criterion(full(spec))


def full(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The spec with every model, dataset and train leaf present."""
    parts = {key: value for key, value in spec.items() if key in ("model", "dataset", "train")}
    return resolve("train", parts)
