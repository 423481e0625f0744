"""A detector filled with what its training starts from, and what of that was taken, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from model import adapt, weights
from model.backbone import classifier_names
from model.errors import UserError
from model.parameters import RESNETS


def fill(
    detector: nn.Module,
    kind: str,
    path: Path,
    spec: Mapping[str, Any],
    classes: Sequence[Mapping[str, Any]] | None,
) -> list[str]:
    """`start.load` of a start that has weights: of its kind, in this file. `classes`: None before they are read."""
    if kind == "imagenet":
        _load_imagenet(detector, spec["model"]["backbone"], path)
        return ["all but the backbone starts anew"]
    told = weights.read_told(path, spec["encryption_key"])
    found = told.weights
    if not weights.is_detector(found):
        _load_backbone(detector, spec["model"]["backbone"], found, path)
        return ["all but the backbone starts anew"]
    ours = None if classes is None else {int(c["id"]): str(c["name"]) for c in classes}
    theirs = told.classes or published_classes(found)
    lines = _load_detector(detector, found, theirs, ours, path)
    if theirs is adapt.COCO_CLASSES and kind == "file":
        lines.append("  its 91 rows of classes are taken for COCO's, as in the published models' files")
    return lines


def published_classes(found: weights.Weights) -> Mapping[int, str] | None:
    """COCO's, of weights under the names of a published model, the paper's or Hugging Face's, with as many rows; None:
    not known. Lightning, and so TAO, writes a prefix before the names, and TAO 91 rows, its default, for whatever
    classes it trains."""
    heads = weights.published_names(found, ()).get(
        "class_embed.0.weight"
    )  # wanted are none: no prefix is taken off
    return adapt.COCO_CLASSES if heads is not None and len(heads) == max(adapt.COCO_CLASSES) + 1 else None


def _load_detector(
    detector: nn.Module,
    found: weights.Weights,
    theirs: Mapping[int, str] | None,
    ours: Mapping[int, str] | None,
    path: Path,
) -> list[str]:
    prefix = [
        f"  names in the file begin with {p}, which is taken off" for p in weights.unknown_prefix(found)
    ]
    theirs_named, found = found, weights.published_names(found, detector.state_dict())
    made = adapt.adapt(found, detector, theirs, ours)
    taken = made.weights.keys() - set(made.new)
    if not any(name.startswith("transformer.") and made.weights[name].dim() > 1 for name in taken):
        raise UserError(
            f"{path}: nothing of its transformer fits this network; {_why(theirs_named, found, made)}"
        )
    detector.load_state_dict(made.weights, strict=True)
    lines = [
        *prefix,
        f"  {len(taken)} of {len(made.weights)} tensors are taken",
        *(f"  {c}" for c in made.changes),
    ]
    return [*lines, f"  start anew: {adapt.summary(made.new)}"] if made.new else lines


def _why(theirs: weights.Weights, found: weights.Weights, made: adapt.Adapted) -> str:
    """Its names are others, or its widths."""
    if any(name.startswith("transformer.") for name in found.keys() & made.weights.keys()):
        return "compare model.hidden_dim"
    named, ours = ([n for n in names if "decoder.layers.0." in n] for names in (theirs, made.weights))
    return f"its names are others: {', '.join(named[:2])}, where the network has {', '.join(ours[:2])}"


def _load_backbone(detector: nn.Module, backbone: str, found: Mapping[str, Any], path: Path) -> None:
    body = detector.get_submodule("backbone.0.body")
    try:
        weights.load_backbone(body, found, classifier_names(backbone))
    except UserError as error:
        _, _, what = str(error).partition("\n")
        raise UserError(
            f"{path}: does not fit model.backbone {backbone}; set that to the backbone of these weights\n{what}"
        ) from None


def _load_imagenet(detector: nn.Module, backbone: str, path: Path) -> None:
    """timm knows how its older files are to be read, so it reads them into its own classifier first."""
    from model import gcvit

    found = weights.read(path)
    if backbone in RESNETS:
        return _load_backbone(detector, backbone, found, path)
    import timm

    size = gcvit.size_name(backbone)
    name = size.replace("gc_vit_", "gcvit_") if size else backbone.removeprefix("timm/")
    try:
        made = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": found})
    except Exception as error:  # of torch, of timm's own reading
        why = str(error).splitlines()[0][:200]
        raise UserError(f"{path}: timm cannot read it as {name} ({why})") from None
    found = made.state_dict()
    if size:
        found = gcvit.from_timm(detector.get_submodule("backbone.0.body").state_dict(), found)
    _load_backbone(detector, backbone, found, path)
