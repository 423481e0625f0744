"""Write a checkpoint as ONNX that says what it is, with a sidecar that tells how it was made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model.data.sources import digest
from model.deploy import card
from model.deploy.card import IMAGE
from model.errors import NotRunnable, UserError
from model.parameters import MANDATORY, UNMEASURED_THRESHOLD
from model.spec import Spec, notes, require
from model.spec_file import load
from model.status import Status, failure_told, results_folder

FALLBACK = (640, 640)  # px, of checkpoints that do not tell


def main(spec_path: str) -> None:
    """Export the spec in a file."""
    run(load("export", spec_path))


@failure_told("export")
def run(spec: Spec) -> dict[str, Any]:
    """Writes `export.onnx_file`, see `write`, and DeepStream's files when asked. Returns the sidecar. Raises
    `UserError` when the file exists already."""
    section = spec["export"]
    require(spec, "export.checkpoint")
    folder = results_folder(spec, "export")
    path = folder / "model.onnx" if section["onnx_file"] in ("", MANDATORY) else Path(section["onnx_file"])
    if section["format"] == "xdl":
        raise UserError("export.format must be onnx or openvino, but got xdl, which needs NVIDIA's own tools")
    if section["format"] == "openvino":
        from model.deploy import targets

        if lacking := targets.missing("openvino"):
            raise NotRunnable(f"export.format openvino needs {lacking}")
    if section["input_channel"] != 3:
        raise UserError(
            f"export.input_channel must be 3, the channels this detector sees, but got {section['input_channel']}"
        )
    if section["pre_post"] and section["serialize_nvdsinfer"]:
        raise UserError(
            "export.pre_post does not go with export.serialize_nvdsinfer: DeepStream resizes by itself"
        )
    beside = card.OPENVINO_FILES if section["format"] == "openvino" else ()
    for file in (path, *map(path.with_suffix, beside)):
        if file.exists():
            raise UserError(f"{file} exists already; move it away or name another export.onnx_file")
    for line in notes(spec, "export."):
        print(f"warning: {line}")
    status = Status(folder, spec["model_name"])
    status.write("STARTED", "Starting export.")
    sidecar = write(spec, path)
    if section["serialize_nvdsinfer"]:
        from model.deploy.deepstream import write_nvdsinfer

        write_nvdsinfer(path)
    if section["format"] == "openvino":
        from model.deploy import openvino

        openvino.save(path, path.with_suffix(".xml"), card.Card.of(sidecar))
        print(f"{path.with_suffix('.xml')}: the same for OpenVINO, its weights in .bin beside it")
    status.write("SUCCESS", "Export finished.")
    return sidecar


def write(spec: Spec, path: Path) -> dict[str, Any]:
    """Export `export.checkpoint` to `path`, which says in its metadata what it is, and a .json beside it (the same,
    sha256, opset, versions, differences to torch). Returns what the .json holds."""
    from model.build import build_from
    from model.deploy import onnx_export, standalone

    section = spec["export"]
    detector, checkpoint = build_from(section["checkpoint"], spec)
    height, width = graph_size(section, checkpoint)
    own = card.of_checkpoint(checkpoint, section["checkpoint"])
    own = replace(
        own, size=(height, width), num_select=spec["model"]["num_select"],
        trained=own.trained | {"sha256": digest(Path(section["checkpoint"]))},
    )  # fmt: skip
    card.check(own, spec, section["checkpoint"])
    if validated_size(checkpoint) not in (None, (height, width)):  # what was measured was so at another size
        own = card.in_form(own, f"{width}x{height}")
    own = card.asked(own, section["conf_threshold"])
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        made = onnx_export.export(
            detector, partial, height, width, section["batch_size"], section["opset_version"], own
        )
        if section["pre_post"]:
            made |= standalone.write(partial, own)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    sidecar = own.entries() | {
        "sha256": digest(path),
        "checkpoint": Path(section["checkpoint"]).name,
        **_ends(section, height, width),
        **made,
        "versions": {
            name: version(name) for name in ("torch", "onnx", "onnxruntime", "onnxscript", "onnxslim")
        },
    }
    path.with_suffix(".json").write_text(json.dumps(sidecar, indent=1) + "\n")
    if section["verbose"]:
        onnx_export.print_graph(path)
    takes = "images of any size (uint8), resized inside to" if section["pre_post"] else "input of"
    sized = f"{path}: {takes} {width}x{height} px, {_why(section, checkpoint)}"
    lines = [
        sized,
        f"{path}: opset {made['opset']}, {made['nodes']} nodes, largest difference to torch "
        f"{made['max_abs_logits']:.1e} (logits), {made['max_abs_boxes']:.1e} (boxes)",
    ]
    if validated_size(checkpoint) != (height, width):
        lines.reverse()  # a run shows the last
    print("\n".join(lines))
    return sidecar


def _ends(section: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    """What goes in and out of the graph."""
    batch = section["batch_size"]
    if section["pre_post"]:
        outputs = {
            "boxes": "[B, N, 4] xyxy px",
            "scores": "[B, N], best first",
            "labels": "[B, N] category ids",
        }
        return {
            "input": {"name": IMAGE, "shape": [batch, -1, -1, 3], "layout": "NHWC RGB uint8"},
            "outputs": outputs,
        }
    return {
        "input": {"name": "inputs", "shape": [batch, 3, height, width], "layout": "NCHW RGB"},
        "outputs": {"pred_logits": "[B, Q, K], sigmoid gives scores", "pred_boxes": "[B, Q, 4] cxcywh 0-1"},
    }


def graph_size(section: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> tuple[int, int]:
    """(H, W) px of the graph's input: the spec's, else the size that most images had when the checkpoint was
    validated."""
    asked = section["input_height"], section["input_width"]
    height, width = asked if asked[0] else validated_size(checkpoint) or FALLBACK
    return int(height), int(width)


def validated_size(checkpoint: Mapping[str, Any]) -> tuple[int, int] | None:
    """(H, W) px that most images had when a checkpoint was scored, None when it does not say."""
    from model.data.transforms import exact_size

    size = checkpoint.get("validated_size") or exact_size(checkpoint["spec"], "train")
    return (int(size[0]), int(size[1])) if size else None


def _why(section: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> str:
    validated, asked = validated_size(checkpoint), section["conf_threshold"]
    if not validated:
        return "at which the model was never scored: the checkpoint does not say how it was validated"
    if graph_size(section, checkpoint) != validated:
        unasked = f"{UNMEASURED_THRESHOLD} counts unless one is given"
        counts = unasked if asked is None else f"{asked:g} counts, as asked"
        return (
            f"but the model was validated at {validated[1]}x{validated[0]}: mAP and score threshold of that are left "
            f"out of the file, {counts}"
        )
    return "as most images had when the model was validated"
