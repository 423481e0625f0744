"""A spec -> the detector and its loss: plain calls, no registry."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model import checkpoint as ckpt
from model.backbone import classifier_names, norm_of
from model.criterion import Criterion
from model.detector import DeformableDETR
from model.spec import get, resolve
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


def build_from(path: str | Path, spec: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(detector in eval mode with the checkpoint's weights, checkpoint), after `checkpoint.check_spec`."""
    checkpoint = ckpt.load(path, spec.get("encryption_key", ""))
    ckpt.check_spec(checkpoint, spec, str(path))
    recorded = copy.deepcopy(checkpoint["spec"])
    # Its norm layers were settled by the pretrained files of that time, which need not be here any more.
    recorded["model"]["backbone_norm"] = norm_of(recorded)
    recorded["model"]["pretrained_backbone_path"] = ""
    recorded["model"]["exact_padding"] = get(spec, "model.exact_padding", False)  # no matter of the weights
    detector = build_model(recorded)
    detector.load_state_dict(checkpoint["state_dict"], strict=True)
    return detector.eval(), checkpoint


def full(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The spec with every model, dataset and train leaf present."""
    parts = {key: value for key, value in spec.items() if key in ("model", "dataset", "train")}
    return resolve("train", parts)
