"""A spec -> the detector and its loss: plain calls, no registry."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model import checkpoint as ckpt
from model.backbone import classifier_names, norm_of
from model.criterion import Criterion
from model.detector import DeformableDETR
from model.errors import UserError
from model.filling import published_classes
from model.spec import get, resolve
from model.weights import CLASS_HEADS, is_tao, load, load_backbone, read


def build_model(spec: Mapping[str, Any]) -> DeformableDETR:
    """The detector of a (partial) train spec, freshly initialised; pretrained backbone weights loaded when named, but
    not for a training that goes on from a checkpoint, which has them."""
    resolved = full(spec)
    detector = DeformableDETR(resolved)
    model = resolved["model"]
    if model["pretrained_backbone_path"] and not resolved["train"]["resume_training_checkpoint_path"]:
        body, beyond = detector.backbone.get_submodule("0.body"), classifier_names(model["backbone"])
        load_backbone(body, model["pretrained_backbone_path"], beyond)
    return detector


def build_criterion(spec: Mapping[str, Any]) -> Criterion:
    """The training loss of a (partial) train spec."""
    return Criterion(full(spec))


def build_from(path: str | Path, spec: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(detector in eval mode with the checkpoint's weights, checkpoint), after `checkpoint.check_spec`; of weights that
    say nothing of their network, in any layout, the detector that the spec describes."""
    try:
        checkpoint = ckpt.load(path, spec.get("encryption_key", ""))
    except ckpt.Foreign:
        return _foreign(path, spec)
    ckpt.check_spec(checkpoint, spec, str(path))
    recorded = copy.deepcopy(checkpoint["spec"])
    # Its norm layers were settled by the pretrained files of that time, which need not be here any more.
    recorded["model"]["backbone_norm"] = norm_of(recorded)
    recorded["model"]["pretrained_backbone_path"] = ""
    recorded["model"]["exact_padding"] = get(spec, "model.exact_padding", False)  # no matter of the weights
    detector = build_model(recorded)
    detector.load_state_dict(checkpoint["state_dict"], strict=True)
    return detector.eval(), checkpoint


def _foreign(path: str | Path, spec: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """`build_from` of another program's weights, which must fit the spec's network whole."""
    told = copy.deepcopy({key: spec[key] for key in ("model", "dataset")})
    told["model"]["pretrained_backbone_path"] = ""
    if told["model"]["backbone_norm"] == "auto":
        told["model"]["backbone_norm"] = "batch"  # out of training the same as frozen
    found = read(path, spec.get("encryption_key", ""))
    detector = build_model(told)
    try:
        left = load(detector, found)
    except UserError as error:
        raise UserError(
            f"{path}: says nothing of its network, so that the leaves of model. must, as it was trained; "
            f"{str(error).removeprefix('the state dict: ')}"
        ) from None
    if any(name.startswith(CLASS_HEADS) for name in left):
        rows = len(next(v for k, v in found.items() if re.search(r"class_embed\.\d+\.weight$", k)))
        asked = spec["dataset"]["num_classes"]
        raise UserError(f"{path}: dataset.num_classes must be {rows}, its rows of classes, but got {asked}")
    if not told["model"]["tao_compat"] and is_tao(found):
        print(
            f"note: {path} is in TAO's layout; model.tao_compat=true ignores padding in attention, as TAO does",
            file=sys.stderr,
        )
    classes = [{"id": number, "name": name} for number, name in (published_classes(found) or {}).items()]
    return detector.eval(), {"spec": full(told), "classes": classes}


def full(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The spec with every model, dataset and train leaf present."""
    parts = {key: value for key, value in spec.items() if key in ("model", "dataset", "train")}
    return resolve("train", parts)
