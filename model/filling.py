"""A detector filled with what its training starts from, and what of that was taken, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from model import adapt, weights
from model.backbone import classifier_names, norm_of
from model.errors import UserError
from model.parameters import RESNETS
from model.spec import get, same_network

BACKBONE = "backbone."


def fill(
    detector: nn.Module,
    kind: str,
    path: Path,
    spec: Mapping[str, Any],
    classes: Sequence[Mapping[str, Any]] | None,
) -> tuple[list[str], list[str]]:
    """`start.load` of a start that has weights: of its kind, in this file. `classes`: None before they are read.
    Returns (sentences, names of what starts anew)."""
    if kind == "imagenet":
        _load_imagenet(detector, spec["model"]["backbone"], path)
        return ["all but the backbone starts anew"], beyond_backbone(detector)
    told = weights.read_told(path, spec["encryption_key"])
    if not weights.is_detector(told.weights):
        _load_backbone(detector, spec["model"]["backbone"], told.weights, path)
        return ["all but the backbone starts anew"], beyond_backbone(detector)
    ours = None if classes is None else {int(c["id"]): str(c["name"]) for c in classes}
    theirs = told.classes or published_classes(told.weights)
    lines, new = _load_detector(detector, told, theirs, ours, path, spec["model"]["backbone"])
    if theirs is adapt.COCO_CLASSES and kind == "file":
        lines.append("  its 91 rows of classes are taken for COCO's, as in the published models' files")
    return lines, new


def beyond_backbone(detector: nn.Module) -> list[str]:
    """The names of a detector's weights but for its backbone's."""
    return [name for name in detector.state_dict() if not name.startswith(BACKBONE)]


def refuse_random(detector: nn.Module, new: Iterable[str], spec: Mapping[str, Any], where: str) -> None:
    """Raise `UserError` where what is `new`, names of the detector that nothing was loaded for, would stay as it is,
    for it does not train: parameters, and statistics of norms. To be called when `train.freeze` has been applied."""
    fixed = {n for n, p in detector.named_parameters(remove_duplicate=False) if not p.requires_grad}
    for name, module in detector.named_modules():
        if hasattr(module, "running_mean") and not (isinstance(module, _NormBase) and module.training):
            fixed |= {f"{name}.{each}" for each, _ in module.named_buffers(recurse=False)}
    stuck = [name for name in new if name in fixed]
    if not stuck:
        return
    ways = [f"take it out of train.freeze {spec['train']['freeze']}"] if spec["train"]["freeze"] else []
    if any(name.startswith(BACKBONE) for name in stuck):
        ways += [] if spec["model"]["train_backbone"] else ["set model.train_backbone to true"]
        ways += ["set model.backbone_norm to batch"] if norm_of(spec) == "frozen" else []
    raise UserError(
        f"{where}: nothing is loaded for what does not train, which would stay random: {adapt.summary(stuck)}. "
        "Start from weights that have it, of the same model.backbone and model.backbone_norm, or let it train: "
        f"{' and '.join(ways)}"
    )


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
    told: weights.Told,
    theirs: Mapping[int, str] | None,
    ours: Mapping[int, str] | None,
    path: Path,
    backbone: str,
) -> tuple[list[str], list[str]]:
    theirs_named, found = told.weights, weights.published_names(told.weights, detector.state_dict())
    lines = [
        f"  names in the file begin with {p}, which is taken off"
        for p in weights.unknown_prefix(theirs_named)
    ]
    other = get(told.spec or {}, "model.backbone", backbone)
    if same_network(other) != same_network(backbone):  # some tensors of it would fit by chance
        found = {name: value for name, value in found.items() if not name.startswith(BACKBONE)}
        lines.append(f"  its backbone is {other}, so that model.backbone {backbone} starts anew")
    made = adapt.adapt(found, detector, theirs, ours)
    taken = made.weights.keys() - set(made.new)
    if not any(name.startswith("transformer.") and made.weights[name].dim() > 1 for name in taken):
        raise UserError(
            f"{path}: nothing of its transformer fits this network; {_why(theirs_named, found, made)}"
        )
    detector.load_state_dict(made.weights, strict=True)
    lines += [f"  {len(taken)} of {len(made.weights)} tensors are taken", *(f"  {c}" for c in made.changes)]
    lines += [f"  start anew: {adapt.summary(made.new)}"] if made.new else []
    lines += [f"  left in the file: {adapt.summary(made.left)}"] if made.left else []
    return lines, [*made.new, *made.partly, *_of_other_norms(made)]


def _of_other_norms(made: adapt.Adapted) -> list[str]:
    """The weights of norms that had statistics in the file and have none here: what follows them sees other values."""
    norms = [name.removesuffix("running_mean") for name in made.left if name.endswith(".running_mean")]
    return [name for norm in norms for name in (f"{norm}weight", f"{norm}bias") if name in made.weights]


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
