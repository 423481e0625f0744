"""Specs: nested dicts of settings, resolved strictly against the table in `parameters.py`.

`resolve("train", {...})` fills defaults and refuses unknown keys, wrong types, values out of bounds, and
combinations that cannot train. A spec that passes is the spec that runs; nothing is repaired.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model.deploy import card
from model.errors import UserError, did_you_mean, number_of
from model.parameters import (
    ACTIONS,
    BATCH,
    DILATED,
    MANDATORY,
    ONNX_FILES,
    PARAMETERS,
    RECIPES,
    Param,
    default_of,
    model_file,
    of_action,
)
from model.values import as_spelled, check_value
from safe_documents import DocumentError, interpolated, no_text, placed, read_yaml, unsaid

Spec = dict[str, Any]

# Leaves that decide the shape or meaning of the weights: they travel with a checkpoint, and an action given
# a checkpoint recorded with other values refuses.
ARCHITECTURE = tuple(
    "dataset.num_classes model.backbone model.backbone_norm model.return_interm_indices model.num_feature_levels "
    "model.dilation model.hidden_dim model.nheads model.enc_layers model.dec_layers model.dim_feedforward "
    "model.enc_n_points model.dec_n_points model.num_queries model.with_box_refine model.two_stage model.mixed_selection model.tao_compat".split()
)
OF_PARTS = tuple(
    "train.freeze model.backbone_names model.linear_proj_names model.dilation model.backbone_norm "
    "model.return_interm_indices".split()
)
TABLE = {param.name: param for param in PARAMETERS}
SECRET = ("encryption_key",)
COUNTED = "dataset.eval_class_ids"
HERE = "${here}"  # in a spec file: the folder that it lies in


def get(spec: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """The leaf `a.b.c` of a nested mapping, or `default`."""
    node: Any = spec
    for key in name.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return default
        node = node[key]
    return node


def put(spec: Spec, name: str, value: Any) -> None:
    """Set the leaf `a.b.c` in place, making the levels above it. Raises `UserError` where one is a value."""
    *above, last = name.split(".")
    for key in above:
        spec = spec.setdefault(key, {})
        if not isinstance(spec, dict):
            raise UserError(f"{name}: '{key}' must be a section, but it is the value {spec!r}")
    spec[last] = value


def default_spec(action: str) -> Spec:
    """Every parameter of the action at its default."""
    spec: Spec = {}
    for param in of_action(_known_action(action)):
        put(spec, param.name, copy.deepcopy(param.default))
    return spec


def resolve(action: str, partial: Mapping[str, Any], where: str = "spec") -> Spec:
    """The action's full spec: defaults, overlaid with the leaves of its `train.recipe`, with what the ONNX file or
    engine that it names says of itself, and with `partial`.

    Raises `UserError` with every unknown key, wrong type, broken bound and broken rule at once.
    """
    spec = overlaid(action, partial, where)
    broken = _half_sizes(spec) + ([] if runs_a_finished_graph(action, spec) else broken_rules(spec))
    if problems := [f"{where}: {line}" for line in broken]:
        raise UserError("\n".join(problems))
    return spec


def overlaid(action: str, partial: Mapping[str, Any], where: str = "spec") -> Spec:
    """The same, rules over several leaves not asked."""
    given = check_leaves(action, partial, where)
    params = {p.name: p for p in of_action(action)}
    spec = default_spec(action)
    if (
        COUNTED not in given
    ):  # its default is TAO's, the first class alone, which nobody chose who does not say so
        put(spec, COUNTED, None)
    recipe = RECIPES[given.get("train.recipe", "default")]
    for name, value in {**recipe, **card.leaves(action, given), **given}.items():
        keys = params[name].default if params[name].type == "collection" else {}
        put(spec, name, copy.deepcopy({**keys, **value} if keys and isinstance(value, dict) else value))
    return spec


def check_leaves(action: str, partial: Mapping[str, Any], where: str = "spec") -> dict[str, Any]:
    """{dotted name: value} of the leaves, each known and valid by itself; rules over several are not asked. Null says
    nothing for a section and where the default is empty, as TAO writes what was not given.

    Raises `UserError` with every unknown key, wrong type and broken bound at once.
    """
    params = {p.name: p for p in of_action(_known_action(action))}
    given = {
        n: as_spelled(params[n], v) if n in params else v
        for n, v in leaves(stated(partial), params)
        if not (v is None and _empty(n, params))
    }
    problems = [f"{where}: {_unknown(name, action, params)}" for name in given if name not in params]
    for p, value in ((params[name], value) for name, value in given.items() if name in params):
        if wrong := check_value(p, value):
            got = no_text(value) if p.free_text else repr(value)
            problems.append(f"{where}: {p.name} must be {wrong}, but got {got}")
        elif p.dead and value != p.default:
            problems.append(f"{where}: {p.name} must stay {p.default!r}, but got {value!r}. {p.doc}")
    if problems:
        raise UserError("\n".join(problems))
    return given


def stated(node: Mapping[str, Any], prefix: str = "") -> Spec:
    """A document without what is still `???`, which OmegaConf takes for not given; only a leaf that has no default
    keeps it."""
    found: Spec = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        param = TABLE.get(name)
        if param is None and isinstance(value, Mapping):
            found[key] = stated(value, f"{name}.")
        elif not unsaid(value) or (param is None and not _empty(name, TABLE)):
            found[key] = _without_unsaid(value)
        elif param is not None and param.default == MANDATORY:
            found[key] = MANDATORY
    return found


def _without_unsaid(value: Any) -> Any:
    """Of mappings, also in a list, the keys that say something."""
    if isinstance(value, list):
        return [_without_unsaid(each) for each in value]
    return {k: v for k, v in value.items() if not unsaid(v)} if isinstance(value, dict) else value


def with_references(document: Spec) -> tuple[Spec, dict[str, str]]:
    """(a spec file's document with `${a.b}` resolved, {leaf: what is wrong with its}); what the document does not give
    cannot be referred to, as a recipe or a checkpoint may say it later. Raises `UserError` for one that grows without
    bound."""
    try:
        found, wrong = interpolated(document, document, secret=SECRET)
    except DocumentError as error:
        raise UserError(str(error)) from None
    instead = "; give @FILE, or the environment variable DETR_ENCRYPTION_KEY"
    return found, {leaf: why + instead * (leaf in SECRET) for leaf, why in wrong.items()}


def _empty(name: str, params: Mapping[str, Param]) -> bool:
    """A section, or a leaf whose default is empty."""
    return (
        params[name].default in ("", [], {})
        if name in params
        else any(n.startswith(f"{name}.") for n in params)
    )


def read(path: Path) -> Spec:
    """The mapping in a YAML file, as it stands; `${here}` in a text is the file's folder. Raises `UserError`."""
    try:
        document = read_yaml(path)
    except DocumentError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"{path}: no such spec file ({error.strerror})") from None
    document = {} if document is None else document
    if not isinstance(document, dict):
        raise UserError(f"{path}: a spec must be a mapping, but got {type(document).__name__}")
    return dict(placed(document, os.path.realpath(path.parent), HERE))


def nest(values: Mapping[str, Any]) -> Spec:
    """{dotted name: value} -> nested dict."""
    spec: Spec = {}
    for name, value in values.items():
        put(spec, name, value)
    return spec


def require(spec: Mapping[str, Any], *names: str) -> None:
    """Raise `UserError` naming the leaves among `names` that are empty or still `???`."""
    missing = [name for name in names if get(spec, name) in (None, "", MANDATORY)]
    if missing:
        raise UserError("\n".join(f"{name} must be given" for name in missing))


def batch_size(spec: Mapping[str, Any], action: str) -> int:
    """Images per step of an action with a batch of its own: that, else `dataset.batch_size`, else the default's."""
    asked = (spec[action]["batch_size"], spec["dataset"]["batch_size"], default_of(BATCH))
    return int(next(size for size in asked if size > 0))


def runs_a_finished_graph(action: str, spec: Mapping[str, Any]) -> bool:
    """Whether the network comes whole from an ONNX file or an engine, so that no rule of its making binds."""
    section = spec.get(action, {})
    return (
        action in ONNX_FILES
        or bool(section.get("trt_engine"))
        or model_file(action, section).endswith(card.GRAPHS)
    )


def broken_rules(spec: Mapping[str, Any]) -> list[str]:
    """Rules that tie several leaves together, as messages; a full spec of any action in, empty when all hold."""
    model, augmentation = spec["model"], spec["dataset"]["augmentation"]
    seed = get(spec, "train.seed", 0)
    scores = model["num_queries"] * spec["dataset"]["num_classes"]
    crop = augmentation["train_random_crop_min"], augmentation["train_random_crop_max"]
    rules = (
        (model["num_select"] < scores + (spec["dataset"]["num_classes"] == 1), f"model.num_select must be < model.num_queries * dataset.num_classes = {scores}, but got {model['num_select']}"),
        (len(model["return_interm_indices"]) == model["num_feature_levels"], f"len(model.return_interm_indices) must equal model.num_feature_levels, but got {model['return_interm_indices']} and {model['num_feature_levels']}"),
        (sorted(set(model["return_interm_indices"])) == model["return_interm_indices"] and set(model["return_interm_indices"]) <= {0, 1, 2, 3, 4}, f"model.return_interm_indices must be increasing numbers from 0 to 4, but got {model['return_interm_indices']}"),
        (model["nheads"] > 0 and model["hidden_dim"] > 0 and model["hidden_dim"] % model["nheads"] == 0, f"model.hidden_dim must be a multiple of model.nheads, but got {model['hidden_dim']} and {model['nheads']}"),
        (model["hidden_dim"] % 32 == 0, f"model.hidden_dim must be a multiple of 32 (group norm), but got {model['hidden_dim']}"),
        (augmentation["fixed_random_crop"] is not None or crop[0] < crop[1], f"dataset.augmentation.train_random_crop_max must be > train_random_crop_min, but got {crop[1]} and {crop[0]}"),
        (not model["dilation"] or model["backbone"] in DILATED, f"model.dilation needs {' or '.join(DILATED)}, but model.backbone is {model['backbone']}"),
        (model["with_box_refine"] or not model["two_stage"], "model.two_stage needs model.with_box_refine"),
        (model["hybrid_queries"] == 0 or model["hybrid_repeat"] <= model["hybrid_queries"], "model.hybrid_repeat must be at most model.hybrid_queries"),
        (set(model["loss_types"]) <= {"labels", "boxes"} and "labels" in model["loss_types"], f"model.loss_types must hold labels and may hold boxes, but got {model['loss_types']}"),
        (seed < 2**32, f"train.seed must be below {2**32}, which generators take no more of, but got {seed}"),
        (len(augmentation["input_mean"]) == 3 and all(0 <= v <= 1 for v in augmentation["input_mean"]), f"dataset.augmentation.input_mean must be three numbers in [0, 1], as pixels are scaled to that, but got {augmentation['input_mean']}"),
        (len(augmentation["input_std"]) == 3 and all(v > 0 for v in augmentation["input_std"]), f"dataset.augmentation.input_std must be three numbers above 0, of pixels that are scaled to [0, 1], but got {augmentation['input_std']}"),
        (augmentation["fixed_random_crop"] is not None or augmentation["train_random_resize"], "dataset.augmentation.train_random_resize must name a side where fixed_random_crop is null, but got []"),
    )  # fmt: skip
    return [message for holds, message in rules if not holds] + _broken_limits(spec)


def _half_sizes(spec: Mapping[str, Any]) -> list[str]:
    """Of every action that resizes images, the size of which one side is given; that of an engine's file is checked."""
    found = []
    for action in ("train", "evaluate", "inference", "export"):
        height, width = (get(spec, f"{action}.input_{side}") for side in ("height", "width"))
        if (height is None) != (width is None):
            asked = f"but got {height} and {width}"
            found.append(f"{action}.input_height and {action}.input_width must be set together, {asked}")
    return found


def _broken_limits(spec: Mapping[str, Any]) -> list[str]:
    """Of the amounts that `deploy` takes as text."""
    from model.deploy import points

    try:
        points.limits(spec.get("deploy"))
    except UserError as error:
        return [str(error)]
    return []


def notes(spec: Mapping[str, Any], section: str = "") -> list[str]:
    """What a valid spec asks for in vain: leaves (of one section, such as `export.`) that are set but cannot act beside
    others, and rates that never drop."""
    found = []
    for param in (p for p in PARAMETERS if p.name.startswith(section)):
        value = get(spec, param.name, param.default)
        if value == param.default:
            continue
        for other, values in (param.active_when or {}).items():
            if get(spec, other, values[0]) not in values:
                found.append(
                    f"{param.name} is {value!r}, but has no effect while {other} is {get(spec, other)!r}"
                )
    if section:
        return found
    if any(v > 1 for v in get(spec, "dataset.augmentation.input_std", [])):
        found.append(
            "dataset.augmentation.input_std has numbers above 1, but pixels are scaled to [0, 1]: of 0 to 255?"
        )
    optim, epochs = get(spec, "train.optim", {}), get(spec, "train.num_epochs", 0)
    steps, size = optim.get("lr_steps"), optim.get("lr_step_size")
    own = steps != default_of("train.optim.lr_steps")  # what nobody set is nobody's mistake
    if own and optim.get("lr_scheduler") == "MultiStep" and all(drop >= epochs for drop in steps):
        found.append(f"train.optim.lr_steps {steps} lie beyond train.num_epochs {epochs}: no drop")
    if optim.get("lr_scheduler") == "StepLR" and size >= epochs:
        found.append(
            f"train.optim.lr_step_size {size} is not reached in {number_of(epochs, 'epoch')}: no drop"
        )
    return found


def names_parts(spec: Mapping[str, Any]) -> bool:
    """Whether a spec names parts of the network, or asks for what not every backbone has: only a network that is built
    can tell whether that is there."""
    params = [param for param in PARAMETERS if param.name in OF_PARTS]
    return any(get(spec, p.name, p.default) != p.default for p in params) or str(
        get(spec, "model.backbone")
    ).startswith("timm/")


def unfit_device(train: Mapping[str, Any], on_gpu: bool) -> str:
    """What the section `train` asks for that a training with or without a GPU cannot do; "" for nothing."""
    if train["accelerator"] == "gpu" and not on_gpu:
        return "train.accelerator is gpu, but torch finds no CUDA device; set it to auto or cpu"
    if train["precision"] == "fp16" and not on_gpu:
        return "train.precision fp16 needs a GPU; on a CPU use fp32 or bf16"
    return ""


def architecture_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The architecture-shaping leaves in which two specs differ, as `name: value in a, value in b`."""
    default = {p.name: p.default for p in PARAMETERS}  # of leaves that an older checkpoint does not know
    values = [(n, get(a, n, default[n]), get(b, n, default[n])) for n in ARCHITECTURE]
    return [f"{n}: {x!r}, {y!r}" for n, x, y in values if same_network(x) != same_network(y)]


def same_network(value: Any) -> Any:
    """A leaf's value, equal where the network is: NVIDIA's own names of the GCViT backbones and TAO's mean the same."""
    return re.sub(r"^gcvit_", "gc_vit_", value) if isinstance(value, str) else value


def _known_action(action: str) -> str:
    if action not in ACTIONS:
        raise UserError(f"unknown action '{action}'; must be one of {', '.join(ACTIONS)}")
    return action


def leaves(
    node: Mapping[str, Any], params: Mapping[str, Param], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every leaf; a mapping that is itself a parameter (a collection) is one leaf."""
    for key, value in node.items():
        name = f"{prefix}{key}"
        if name not in params and isinstance(value, Mapping):
            yield from leaves(value, params, f"{name}.")
        else:
            yield name, value


def _unknown(name: str, action: str, params: Mapping[str, Param]) -> str:
    elsewhere = sorted({a for p in PARAMETERS if p.name == name for a in p.actions})
    if elsewhere:
        return f"{name} belongs to {', '.join(elsewhere)}, not to {action}"
    return f"unknown key '{name}'" + did_you_mean(name, params)
