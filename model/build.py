"""A spec -> the detector and its loss: plain calls, no registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.criterion import Criterion
from model.detector import DeformableDETR
from model.spec import resolve


def build_model(spec: Mapping[str, Any]) -> DeformableDETR:
    """The detector of a (partial) train spec, freshly initialised; pretrained backbone weights loaded when named."""
    return DeformableDETR(full(spec))


def build_criterion(spec: Mapping[str, Any]) -> Criterion:
    """The training loss of a (partial) train spec."""
    return Criterion(full(spec))


def full(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The spec with every model, dataset and train leaf present."""
    parts = {key: value for key, value in spec.items() if key in ("model", "dataset", "train")}
    return resolve("train", parts)
