"""8-bit ONNX by ONNX Runtime, from an ONNX file or a checkpoint. The result is compared with what it came from."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model.data.sources import digest, is_url
from model.errors import NotRunnable, UserError, number_of
from model.parameters import NOT_HERE, UNMEASURED_THRESHOLD
from model.spec import Spec, notes, require
from model.spec_file import load
from model.status import Status, failure_told, results_folder

COMPARED_IMAGES = 8
# Arguments of onnxruntime's quantize_static that other leaves set.
SET_ELSEWHERE = {
    "model_input", "model_output", "calibration_data_reader", "calibrate_method", "calibration_providers",
    "calibration_cache_path", "nodes_to_quantize", "nodes_to_exclude", "op_types_to_quantize",
}  # fmt: skip


def main(spec_path: str) -> None:
    """Quantize by the spec in a file."""
    run(load("quantize", spec_path))


@failure_told("quantize")
def run(spec: Spec) -> dict[str, Any]:
    """Writes `<name>.int8.onnx` and drift.json: how far the outputs moved, which layers stayed in floating point so
    that mAP fell by at most `quantize.max_drop`, and mAP before and after. Raises `UserError` for a combination that
    does not exist, `NotRunnable` for a backend that this version lacks; both before anything is written; `ModelError`
    for a drop that cannot be held."""
    from model.deploy import precision
    from model.deploy.calibration import drawn
    from model.deploy.runners import OrtRunner

    section = spec["quantize"]
    source, sources = _checked(spec), _sources(spec)
    layers, options, labelled = layers_of(section["layers"]), _options(section), _labelled(spec)
    folder = results_folder(spec, "quantize")
    for line in [*notes(spec, "quantize."), *_passed_over(section)]:
        print(f"warning: {line}")
    status = Status(folder, spec["model_name"])
    status.write("STARTED", "Starting quantization.")
    graph = source if source.suffix == ".onnx" else _as_onnx(spec, source, folder)
    before = OrtRunner(str(graph))
    assert before.size is not None
    images = (
        drawn(sources, spec, before.size, section["calibration_images"], at_most=True) if sources else None
    )
    nodes = precision.chosen(precision.onnx.load(graph), layers, section["skip_names"])
    target = folder / f"{source.stem}.int8.onnx"
    with tempfile.TemporaryDirectory(prefix="quantize-") as temporary:
        make = _maker(spec, graph, images, options, Path(temporary, "ranges.json"))
        tried = Path(temporary, "tried.int8.onnx")
        found, scored = _choice(spec, before, nodes, make, labelled, images, tried)
        nodes = found.nodes if found else nodes
        make(nodes, target)
    _say_of_itself(target, scored)
    made = {"layers": len(nodes), "calibration_images": len(images) if images is not None else 0}
    made |= _drift(before, OrtRunner(str(target)), images, graph, target) | (found.entries() if found else {})
    (folder / "drift.json").write_text(json.dumps(made, indent=1) + "\n")
    status.write("SUCCESS", "Quantization finished.", {"mAP": found.after} if found else {})
    size = f"{made['bytes'] / 1e6:.1f} MB of {made['bytes_before'] / 1e6:.1f}"
    print(f"{made['file']}: {size}, logits moved by {made['logits_relative_l2']:.3f} (relative L2)")
    if found:
        kept = f"; in floating point stay {', '.join(found.kept)}" if found.kept else ""
        print(f"mAP {found.after:.4f}, before {found.before:.4f}, on {found.images} validation images{kept}")
    return made


def _passed_over(section: Mapping[str, Any]) -> list[str]:
    leaves = ("default_layer_dtype", "default_activation_dtype")
    return [
        f"quantize.{leaf} is {section[leaf]}, but has no effect: quantize.layers says what is quantized"
        for leaf in leaves
        if section[leaf] != "native"
    ]


def _labelled(spec: Spec) -> list[dict[str, str]]:
    """The validation data by which `quantize.max_drop` is held; none where that is null, or, with a word, where there
    are no data. Raises `UserError` for data that are not there."""
    from model.actions.evaluate import sources_of

    if spec["quantize"]["max_drop"] is None:
        return []
    if not any(s.get("json_file") and s.get("image_dir") for s in spec["dataset"]["val_data_sources"]):
        print(
            "quantize.max_drop is not checked: dataset.val_data_sources names no labelled images, so that what mAP "
            "falls by is not known"
        )
        return []
    return sources_of(spec | {"evaluate": {"split": "val"}})


def _maker(
    spec: Spec, graph: Path, images: Any, options: Mapping[str, Any], cache: Path
) -> Callable[[Sequence[str], Path], None]:
    """What quantizes these nodes into a file; ranges are found once."""
    from model.deploy import precision

    section = spec["quantize"]
    if section["mode"] != "static_ptq":
        return lambda nodes, target: precision.to_int8_weights(graph, target, nodes)
    where = providers(section["device"])
    return lambda nodes, target: precision.to_int8(
        graph, target, images, nodes, section["algorithm"], where, options, cache
    )


def _choice(
    spec: Spec, before: Any, nodes: list[str], make: Callable[[Sequence[str], Path], None],
    labelled: list[dict[str, str]], images: Any, tried: Path,
) -> tuple[Any, Any]:  # fmt: skip
    """The `sensitivity.Choice` and what the file of its nodes scored, None and None without labelled images; `tried`: a
    file for what is tried."""
    from model.actions.evaluate import load_data
    from model.deploy import scoring, sensitivity
    from model.deploy.runners import OrtRunner

    if not labelled:
        return None, None
    data = load_data(labelled, spec, before.classes)
    batches = scoring.Batches(data, before.size, spec)

    scored = {}

    def score(some: list[str]) -> float:
        make(some, tried)
        scored[tuple(sorted(some))] = found = scoring.score_file(tried, batches, spec)
        return found.mAP

    def moved(some: list[str]) -> float:
        make(some, tried)
        return float(_outputs_moved(before, OrtRunner(str(tried)), images)["logits_relative_l2"])

    unharmed = scoring.score_runner(before, batches, spec).mAP
    choice = sensitivity.choose(nodes, spec["quantize"]["max_drop"], unharmed, score, moved, len(data))
    return choice, scored[tuple(sorted(choice.nodes))]


def _say_of_itself(target: Path, scored: Any) -> None:
    """Into the file what it scored; nothing of what it was made of stays where it was not."""
    from model.deploy import card

    if scored is None:
        print(
            "not scored: its metadata tell neither mAP nor score threshold, and "
            f"{UNMEASURED_THRESHOLD} counts unless one is given"
        )
        return
    own = card.read(target)
    card.put(target, card.in_form(own, own.trained["form"], scored.metrics()))


def layers_of(entries: list[Any]) -> list[str]:
    """Patterns over module names, or `Conv2d` and `Linear`: as text, or as TAO writes them, {"module_name",
    "weights": {"dtype"}, "activations": {"dtype"}}. Raises `UserError` for another form or number format."""
    found = []
    for entry in entries:
        name = entry.get("module_name") if isinstance(entry, Mapping) else entry
        kinds = (
            [entry.get(k, {}).get("dtype", "int8") for k in ("weights", "activations")]
            if isinstance(entry, Mapping)
            else []
        )
        if not isinstance(name, str) or set(kinds) - {"int8", "native"}:
            raise UserError(
                "quantize.layers must hold patterns over module names, Conv2d or Linear, or mappings of module_name, "
                f"weights.dtype and activations.dtype with int8, but got {entry!r}"
            )
        found.append(name)
    return found


def providers(device: str) -> list[str]:
    """ONNX Runtime's providers on `cuda`, `cuda:1` or `cpu`; the CPU, with a word, where there is no GPU."""
    import onnxruntime

    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise UserError(f"quantize.device must be cpu, cuda or cuda:NUMBER, but got {device}")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        print(f"quantize.device is {device}, but ONNX Runtime has no GPU here: the CPU calibrates")
        return ["CPUExecutionProvider"]
    return [("CUDAExecutionProvider", {"device_id": int(index or 0)}), "CPUExecutionProvider"]  # type: ignore[list-item]


def _checked(spec: Spec) -> Path:
    """The file to quantize, after all that can be told without reading it."""
    from model.deploy.precision import ALGORITHMS, bits_of

    section = spec["quantize"]
    require(spec, "quantize.model_path")
    source = Path(section["model_path"])
    if section["backend"] in NOT_HERE:
        raise NotRunnable(
            f"quantize.backend {section['backend']}: {NOT_HERE[section['backend']]}; use onnxruntime"
        )
    if section["mode"] == "static_ptq" and section["algorithm"] not in ALGORITHMS:
        raise UserError(
            f"quantize.algorithm must be {', '.join(ALGORITHMS)} for backend onnxruntime, but got "
            f"{section['algorithm']}, which NVIDIA ModelOpt alone has"
        )
    if not source.is_file():
        raise UserError(f"quantize.model_path: {source} does not exist")
    if source.suffix not in (".onnx", ".pth"):
        raise UserError(f"quantize.model_path must be an .onnx or a .pth file, but got {source}")
    if source.suffix == ".onnx" and (there := bits_of(source)) != "FP32":
        raise UserError(
            "quantize.model_path must have weights in FP32, as deformable_detr export writes them, but those of "
            f"{source} are {there}"
        )
    return source


def _options(section: Mapping[str, Any]) -> dict[str, Any]:
    """`quantize.backend_kwargs`, known to ONNX Runtime. Raises `UserError` for others."""
    from onnxruntime.quantization import QuantType, quantize_static

    given = dict(section["backend_kwargs"])
    known = set(inspect.signature(quantize_static).parameters) - SET_ELSEWHERE
    if section["mode"] != "static_ptq" and given:
        raise UserError(
            "quantize.backend_kwargs must be empty for mode weight_only_ptq, which has no options"
        )
    if unknown := sorted(set(given) - known):
        raise UserError(
            f"quantize.backend_kwargs must hold {', '.join(sorted(known))}, but got {', '.join(unknown)}"
        )
    for name in ("activation_type", "weight_type"):
        if name in given:
            try:
                given[name] = QuantType[given[name]]
            except KeyError:
                kinds = ", ".join(QuantType.__members__)
                raise UserError(
                    f"quantize.backend_kwargs.{name} must be one of {kinds}, but got {given[name]}"
                ) from None
    return given


def _as_onnx(spec: Spec, checkpoint: Path, folder: Path) -> Path:
    """The checkpoint's ONNX file: the one beside it when it was made from it, else a new one at the exported size."""
    from model.actions import export
    from model.deploy import card
    from model.spec import default_spec

    beside = checkpoint.with_suffix(".onnx")
    if beside.is_file() and card.read(beside).trained.get("sha256") == digest(checkpoint):
        return beside
    wanted = {**default_spec("export"), **{k: spec[k] for k in ("dataset", "model", "encryption_key")}}
    wanted["export"] |= {"checkpoint": str(checkpoint), "onnx_file": str(folder / f"{checkpoint.stem}.onnx")}
    path = folder / f"{checkpoint.stem}.onnx"
    path.unlink(missing_ok=True)
    export.write(wanted, path)
    return path


def _sources(spec: Spec) -> list[dict[str, str]]:
    """Whose images calibrate; none are needed where weights alone are quantized."""
    own = spec["dataset"]["quant_calibration_data_sources"]
    sources = [own] if own.get("image_dir") else spec["dataset"]["train_data_sources"]
    found = [source for source in sources if source.get("image_dir")]
    if not found and spec["quantize"]["mode"] == "static_ptq":
        raise UserError(
            "dataset.quant_calibration_data_sources.image_dir must name the images that calibrate mode static_ptq"
        )
    places = [place for source in found for place in source.values() if place]
    if gone := [place for place in places if not is_url(place) and not Path(place).exists()]:
        raise UserError(
            f"the images that calibrate are not there: {', '.join(gone)}; name others by "
            "dataset.quant_calibration_data_sources.image_dir=FOLDER"
        )
    return found


def _drift(before: Any, after: Any, images: Any, source: Path, target: Path) -> dict[str, Any]:
    return {
        "file": str(target),
        "bytes": target.stat().st_size,
        "bytes_before": source.stat().st_size,
    } | _outputs_moved(before, after, images)


def _outputs_moved(before: Any, after: Any, images: Any) -> dict[str, Any]:
    """How far each class's logits, in descending order, moved on a few images, or on noise without any. A two-stage
    model's queries may change places."""
    import numpy as np
    import torch

    size = before.size
    pixels = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(0))
    if images is not None:
        count = min(COMPARED_IMAGES, len(images))
        pixels = torch.from_numpy(np.concatenate([images[i] for i in range(count)]))
    mask = torch.zeros(len(pixels), *size, dtype=torch.bool)
    a, b = (runner.infer(pixels, mask)["pred_logits"].sort(dim=1).values for runner in (before, after))
    return {
        "compared_on": "noise" if images is None else number_of(len(pixels), "image"),
        "logits_relative_l2": float((a - b).norm() / a.norm()),
        "max_probability_difference": float((a.sigmoid() - b.sigmoid()).abs().max()),
    }
