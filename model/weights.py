"""Foreign and own weights into the detector: by name, strictly, every mismatch listed.

Our parameter names are the published repository's. TAO's are the same under a prefix; Hugging Face has names of its
own (`hugging_face_name`), in two generations. The layout is recognised by the names in the file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model import checkpoint
from model.errors import UserError

WRAPPERS = ("state_dict", "model", "module")  # entries of a checkpoint that may hold the weights
PREFIXES = ("model.model.", "model.", "module.", "backbone.0.body.", "backbone.")
LAYOUTS = ("official", "tao", "hugging_face", "hugging_face_v4")
AVERAGE = "ema.module."  # in our own checkpoints, the weights to prefer
TRAINING_ONLY = (
    "denoising.",
    "hybrid_embed.",
)  # not part of the published model; a file may lack or have them
CLASS_HEADS = "class_embed."
# The published models save the heads that the decoder refines boxes and rates cells with a second time.
DUPLICATES = ("transformer.decoder.bbox_embed.", "transformer.decoder.class_embed.")
SHOWN = 8

Weights = dict[str, torch.Tensor]

# (our name, Hugging Face's), tried in order; "layers.N" stands for any layer.
_HUGGING_FACE = (
    ("backbone.0.body.", "model.backbone.model."),
    ("input_proj.", "model.input_proj."),
    ("query_embed.weight", "model.query_position_embeddings.weight"),
    ("transformer.encoder.layers.N.norm1.", "model.encoder.layers.N.self_attn_layer_norm."),
    ("transformer.encoder.layers.N.norm2.", "model.encoder.layers.N.final_layer_norm."),
    ("transformer.encoder.layers.N.linear1.", "model.encoder.layers.N.mlp.fc1."),
    ("transformer.encoder.layers.N.linear2.", "model.encoder.layers.N.mlp.fc2."),
    ("transformer.decoder.layers.N.norm2.", "model.decoder.layers.N.self_attn_layer_norm."),
    ("transformer.decoder.layers.N.norm1.", "model.decoder.layers.N.encoder_attn_layer_norm."),
    ("transformer.decoder.layers.N.norm3.", "model.decoder.layers.N.final_layer_norm."),
    ("transformer.decoder.layers.N.linear1.", "model.decoder.layers.N.mlp.fc1."),
    ("transformer.decoder.layers.N.linear2.", "model.decoder.layers.N.mlp.fc2."),
    ("transformer.decoder.layers.N.cross_attn.", "model.decoder.layers.N.encoder_attn."),
    ("transformer.decoder.layers.N.self_attn.out_proj.", "model.decoder.layers.N.self_attn.o_proj."),
    ("transformer.", "model."),
)
_V4 = (  # (version 5's, version 4's)
    ("model.backbone.model.", "model.backbone.conv_encoder.model."),
    ("model.decoder.layers.N.self_attn.o_proj.", "model.decoder.layers.N.self_attn.out_proj."),
    ("model.encoder.layers.N.mlp.", "model.encoder.layers.N."),
    ("model.decoder.layers.N.mlp.", "model.decoder.layers.N."),
)
_PACKED = re.compile(r"(transformer\.decoder\.layers\.\d+\.self_attn\.)in_proj_(weight|bias)")
_QKV = ("q_proj", "k_proj", "v_proj")


def load(detector: nn.Module, source: str | Path | Mapping[str, torch.Tensor], key: str = "") -> list[str]:
    """Fill a detector from a checkpoint file (with its `encryption_key`, if any) or a state dict of any layout.

    Returns the names left as they were: the class heads when the class count differs, and what only training uses
    and the source lacks. Raises `UserError` listing missing, unexpected and mismatched names.
    """
    where = source if isinstance(source, (str, Path)) else "the state dict"
    wanted = detector.state_dict()
    weights = published_names(read(source, key) if isinstance(source, (str, Path)) else source, wanted)
    weights = _without_counters(weights, wanted)
    weights = {k: v for k, v in weights.items() if k in wanted or not k.startswith(TRAINING_ONLY)}
    left = [k for k in wanted if k.startswith(TRAINING_ONLY) and not _fits(k, weights, wanted)]
    if _other_classes(weights, wanted):
        left += [k for k in wanted if k.startswith(CLASS_HEADS)]
    for name in left:
        weights[name] = wanted[name]
    _refuse_unequal_twins(detector, weights, where)
    _load_strictly(detector, weights, where)
    return left


def save(detector: nn.Module, layout: str) -> Weights:
    """The detector's weights as another program names them: one of LAYOUTS."""
    state = {k: v for k, v in detector.state_dict().items() if not k.startswith(TRAINING_ONLY)}
    for name in [n for n in state if n.startswith(("bbox_embed.", "class_embed."))]:
        refines = getattr(detector, "refine", False) if name.startswith("bbox") else False
        if refines or getattr(detector, "two_stage", False):
            state[f"transformer.decoder.{name}"] = state[name]
    if layout == "official":
        return dict(state)
    if layout == "tao":
        return {f"model.model.{name}": value for name, value in state.items()}
    if layout not in LAYOUTS:
        raise UserError(f"layout must be one of {', '.join(LAYOUTS)}, but got {layout!r}")
    return hugging_face_names(state, version=4 if layout.endswith("v4") else 5)


def load_backbone(
    body: nn.Module, source: str | Path | Mapping[str, torch.Tensor], beyond: Iterable[str]
) -> None:
    """Fill a backbone from a classifier's file or state dict (torchvision, timm, EfficientNet-PyTorch, NVIDIA or TAO
    names). What begins with a name in `beyond` (the classifier's head, stages that the body lacks) is dropped, and so
    are TAO's averages (`ema_`). A GCViT's norms of its outputs keep their start where the file has none. Raises
    `UserError` for anything else that does not fit."""
    path = source if isinstance(source, (str, Path)) else "the state dict"
    wanted, beyond = body.state_dict(), tuple(beyond)
    found = read(source) if isinstance(source, (str, Path)) else dict(source)
    if any(k.startswith("_blocks.") for k in found):
        found = _from_efficientnet_pytorch(found, beyond)
    flat = {k.replace(".", "_"): k for k in wanted}  # timm's extractors write some dots as underscores
    choices = [
        {flat.get(_flat(k, p), k.removeprefix(p)): v for k, v in found.items()} for p in ("", *PREFIXES)
    ]
    weights = max(choices, key=lambda choice: len(set(wanted) & set(choice)))
    dropped = (*beyond, "ema_")
    weights = {k: v for k, v in weights.items() if k in wanted or not k.startswith(dropped)}
    for name, value in wanted.items():
        if re.match(r"norm\d\.", name):
            weights.setdefault(name, value)
    _load_strictly(body, _without_counters(weights, wanted), path)


def _flat(name: str, prefix: str) -> str:
    """A backbone file's name without prefix and dots; NVIDIA's first GCViT files lack one level of theirs."""
    name = re.sub(r"(levels\.\d+\.)to_q_global\.", r"\1q_global_gen.to_q_global.", name.removeprefix(prefix))
    return name.replace(".", "_")


def _from_efficientnet_pytorch(weights: Weights, timm_names: Iterable[str]) -> Weights:
    """EfficientNet-PyTorch's names -> timm's. It numbers the blocks through, and counts norms from the expansion on,
    which a stage of expansion 1 lacks."""
    starts = (re.match(r"blocks\.(\d+)\.(\d+)\.", name) for name in timm_names)
    blocks = sorted({(int(start[1]), int(start[2])) for start in starts if start})
    expanded = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3", "_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand",
    }  # fmt: skip
    plain = expanded | {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    ends = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    renamed: Weights = {}
    for name, value in weights.items():
        head, *rest = name.split(".")
        if head == "_blocks" and int(rest[0]) < len(blocks):
            (stage, index), part = blocks[int(rest[0])], rest[1]
            parts = expanded if f"_blocks.{rest[0]}._expand_conv.weight" in weights else plain
            renamed[".".join([f"blocks.{stage}.{index}", parts.get(part, part), *rest[2:]])] = value
        else:
            renamed[".".join([ends.get(head, head), *rest])] = value
    return renamed


def read(path: str | Path, key: str = "") -> Weights:
    """The tensors of a .pth, .bin or .safetensors file, whatever they are wrapped in. Raises `UserError`."""
    return read_told(path, key).weights


@dataclass(frozen=True)
class Told:
    """The tensors of a file, and what a checkpoint of ours says beside them: {category id: name} and the spec it was
    trained with; None where it does not, or is another's."""

    weights: Weights
    classes: dict[int, str] | None = None
    spec: Mapping[str, Any] | None = None


def read_told(path: str | Path, key: str = "") -> Told:
    """The tensors of a file, and what it says of them. Raises `UserError`."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        return Told(_finite(path, _of_safetensors(path)))
    document: Any = checkpoint.read(path, key)
    ours = isinstance(document, Mapping) and "spec" in document
    if ours:
        checkpoint.refuse_damaged(path)
    elif record := checkpoint.damaged_record(path):  # others may have been written without checksums
        print(
            f"warning: {path} may be damaged: {record} in it does not fit its checksum; compare it with where it is "
            "from",
            file=sys.stderr,
        )
    classes, spec = (document.get("classes"), document["spec"]) if ours else (None, None)
    while isinstance(document, Mapping) and not any(isinstance(v, torch.Tensor) for v in document.values()):
        inner = next((document[key] for key in WRAPPERS if key in document), None)
        if inner is None and "state_dict_encrypted" in document:
            raise UserError(f"{path}: is encrypted by TAO; save it there without an encryption key")
        if inner is None:
            raise UserError(f"{path}: holds no weights, only {', '.join(map(str, list(document)[:SHOWN]))}")
        document = inner
    if not isinstance(document, Mapping):
        raise UserError(f"{path}: holds no weights but one {type(document).__name__}")
    weights = {str(k): v for k, v in document.items() if isinstance(v, torch.Tensor)}
    _finite(path, weights)
    return Told(weights, {int(c["id"]): str(c["name"]) for c in classes} if classes else None, spec)


def _of_safetensors(path: Path) -> Weights:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:
        raise UserError(f"{path}: not a readable weights file ({checkpoint.said(error)})") from None


def _finite(path: Path, weights: Weights) -> Weights:
    """The weights. Raises `UserError` where some are no numbers: a training that diverged, or a damaged file. Masks of
    attention hold infinity."""
    learnt = {k: v for k, v in weights.items() if v.is_floating_point() and "mask" not in k}
    wrong = [k for k, v in learnt.items() if not torch.isfinite(v).all()]
    if wrong:
        raise UserError(
            f"{path}: must hold finite numbers, but {_listed(wrong)} has NaN or infinity among them"
        )
    return weights


def unknown_prefix(weights: Iterable[str]) -> tuple[str, ...]:
    """What stands before the names of one detector in a file of another program, such as `student.`; () where nothing
    does, where that is known, and where there are several detectors."""
    found = {m[1] for name in weights if (m := re.match(r"(.*?)transformer\.decoder\.layers\.0\.", name))}
    return tuple(found) if len(found) == 1 and not found & {"", *PREFIXES} else ()


def is_detector(weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are a whole detector's, in any layout, and not a backbone's."""
    return any(re.search(r"(^|\.)decoder\.layers\.0\.", name) for name in weights)


def is_two_stage(weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether a detector's queries start from boxes that its encoder proposes: it then has layers for these."""
    return any(re.search(r"(^|\.)enc_output\.", name) for name in weights)


def is_tao(weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether a detector's names are those of a TAO file."""
    return any(k.startswith("model.model.transformer.") for k in weights)


def published_names(weights: Mapping[str, torch.Tensor], wanted: Iterable[str]) -> Weights:
    """A detector's weights of any layout under our names."""
    if any(k.startswith(AVERAGE) for k in weights):
        weights = {k[len(AVERAGE) :]: v for k, v in weights.items() if k.startswith(AVERAGE)}
    if any(k.startswith("model.decoder.layers.") for k in weights):
        found = _from_hugging_face(weights)
    else:
        found = _stripped(weights, set(wanted))
    return _with_twins(found)


def _with_twins(found: Weights) -> Weights:
    """Every head under its own name and no other. A safetensors file holds a tensor of several names under one of them:
    the heads of a refining model as the decoder's, the one head of a plain model as the first layer's."""
    kept = {k: v for k, v in found.items() if not k.startswith(DUPLICATES)}
    for name, value in found.items():
        if name.startswith(DUPLICATES):
            kept.setdefault(name.removeprefix("transformer.decoder."), value)
    layers = {int(n[1]) for k in kept if (n := re.match(r"transformer\.decoder\.layers\.(\d+)\.", k))}
    for kind in ("bbox_embed", CLASS_HEADS.rstrip(".")):
        heads = {k: v for k, v in kept.items() if k.startswith(f"{kind}.")}
        if heads and all(k.startswith(f"{kind}.0.") for k in heads):
            for layer in layers - {0}:
                kept |= {k.replace(".0.", f".{layer}.", 1): v for k, v in heads.items()}
    return kept


def hugging_face_names(weights: Mapping[str, torch.Tensor], version: int = 5) -> Weights:
    """Our names -> those of transformers' DeformableDetrForObjectDetection; query, key and value apart."""
    renamed: Weights = {}
    for name, value in weights.items():
        packed = _PACKED.fullmatch(name)
        parts = zip(_QKV, value.chunk(3), strict=True) if packed else [("", value)]
        for part, tensor in parts:
            ours = f"{packed[1]}{part}.{packed[2]}" if packed else name
            theirs = _renamed(ours, _HUGGING_FACE)
            renamed[_renamed(theirs, _V4) if version == 4 else theirs] = tensor
    return renamed


def _from_hugging_face(weights: Mapping[str, torch.Tensor]) -> Weights:
    to_v5 = [(theirs, ours) for ours, theirs in _V4 if ".mlp." not in ours]
    to_v5 += [
        (f"model.{part}.layers.N.fc", f"model.{part}.layers.N.mlp.fc") for part in ("encoder", "decoder")
    ]
    ours = {}
    for name, value in weights.items():
        ours[_renamed(_renamed(name, to_v5), [(b, a) for a, b in _HUGGING_FACE])] = value
    queries = [n for n in ours if n.startswith("transformer.decoder.") and ".self_attn.q_proj." in n]
    for name in queries:
        names = [name.replace("q_proj", part) for part in _QKV]
        if all(n in ours for n in names):
            ours[name.replace("q_proj.", "in_proj_")] = torch.cat([ours.pop(n) for n in names])
    return ours


def _renamed(name: str, table: Iterable[tuple[str, str]]) -> str:
    """`name` with the first fitting beginning exchanged."""
    number = re.search(r"layers\.(\d+)", name)
    for old, new in table:
        if number:
            old, new = old.replace("layers.N", number[0]), new.replace("layers.N", number[0])
        if name.startswith(old):
            return new + name[len(old) :]
    return name


def _stripped(weights: Mapping[str, torch.Tensor], wanted: set[str]) -> Weights:
    """The weights under the prefix with which most of their names are wanted."""
    prefixes = ("", *PREFIXES, *unknown_prefix(weights))
    choices = [{k.removeprefix(p): v for k, v in weights.items()} for p in prefixes]
    return max(choices, key=lambda choice: len(wanted & set(choice)))


def _without_counters(weights: Weights, wanted: Mapping[str, torch.Tensor]) -> Weights:
    """`num_batches_tracked`, which only a cumulative average uses, as the network has it: frozen norms and older files
    lack it."""
    counters = {k: v for k, v in wanted.items() if k.endswith("num_batches_tracked")}
    kept = {k: v for k, v in weights.items() if k in wanted or not k.endswith("num_batches_tracked")}
    return {**counters, **kept}


def _fits(name: str, weights: Weights, wanted: Mapping[str, torch.Tensor]) -> bool:
    return name in weights and weights[name].shape == wanted[name].shape


def _other_classes(weights: Weights, wanted: Mapping[str, torch.Tensor]) -> bool:
    heads = [k for k in wanted if k.startswith(CLASS_HEADS)]
    alike = all(k in weights and weights[k].shape[1:] == wanted[k].shape[1:] for k in heads)
    return alike and any(weights[k].shape != wanted[k].shape for k in heads)


def _refuse_unequal_twins(module: nn.Module, weights: Weights, where: str | Path) -> None:
    """A model without box refinement has one head under many names; several heads do not fit into it."""
    owners: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        first = owners.setdefault(id(parameter), name)
        both = first in weights and name in weights
        if both and not torch.equal(weights[first], weights[name]):
            raise UserError(
                f"{where}: {first} and {name} differ, but are one parameter in this network; weights of a "
                f"box-refining model need model.with_box_refine"
            )


def _load_strictly(module: nn.Module, weights: Mapping[str, torch.Tensor], where: str | Path) -> None:
    wanted = module.state_dict()
    problems = {
        "missing": sorted(set(wanted) - set(weights)),
        "unexpected": sorted(set(weights) - set(wanted)),
        "of another shape": sorted(k for k in wanted if k in weights and weights[k].shape != wanted[k].shape),
    }
    lines = [f"  {kind}: {_listed(names)}" for kind, names in problems.items() if names]
    if lines:
        raise UserError(f"{where}: does not fit this network\n" + "\n".join(lines))
    module.load_state_dict(dict(weights), strict=True)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
