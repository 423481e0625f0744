"""8-bit weights: ONNX by ONNX Runtime, checkpoints by torchao. Every result is compared with what it came from."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from model.errors import NotRunnable, UserError
from model.spec import Spec, load, require
from model.status import Status, failure_told, results_folder

CALIBRATION_IMAGES = 8


def main(spec_path: str) -> None:
    """Quantize by the spec in a file."""
    run(load("quantize", spec_path))


@failure_told("quantize")
def run(spec: Spec) -> dict[str, Any]:
    """Writes `<name>.int8.onnx` (backend onnxruntime) or `<name>.int8.pth` (torchao) and drift.json: how far the
    outputs moved. Raises `UserError` for a combination that does not exist, `NotRunnable` without its package."""
    section = spec["quantize"]
    require(spec, "quantize.model_path")
    source = Path(section["model_path"])
    if not source.is_file():
        raise UserError(f"quantize.model_path: {source} does not exist")
    folder = results_folder(spec, "quantize")
    status = Status(folder, spec["model_name"])
    status.write("STARTED", "Starting quantization.")
    backend = section["backend"]
    if backend.startswith("modelopt"):
        raise NotRunnable(
            f"quantize.backend {backend} is not part of this version; use onnxruntime or torchao"
        )
    made = _onnx(spec, source, folder) if backend == "onnxruntime" else _torchao(spec, source, folder)
    (folder / "drift.json").write_text(json.dumps(made, indent=1) + "\n")
    status.write("SUCCESS", "Quantization finished.")
    size = f"{made['bytes'] / 1e6:.1f} MB of {made['bytes_before'] / 1e6:.1f}"
    print(f"{made['file']}: {size}, logits moved by {made['logits_relative_l2']:.3f} (relative L2)")
    return made


def _onnx(spec: Spec, source: Path, folder: Path) -> dict[str, Any]:
    from model.deploy import precision
    from model.deploy.runners import OrtRunner

    section = spec["quantize"]
    if source.suffix != ".onnx":
        raise UserError(
            f"quantize.model_path must be an .onnx file for backend onnxruntime, but got {source}"
        )
    target = folder / f"{source.stem}.int8.onnx"
    skip = [*precision.HEADS, *section["skip_names"]]
    before = OrtRunner(str(source))
    assert before.size is not None
    if section["mode"] == "static_ptq":
        images = spec["dataset"]["quant_calibration_data_sources"]["image_dir"]
        folders = [images] if images else [s["image_dir"] for s in spec["dataset"]["train_data_sources"]]
        precision.to_int8(
            source, target, precision.calibration_images(folders, spec, before.size, CALIBRATION_IMAGES), skip
        )
    else:
        precision.to_int8_weights(source, target, skip)
    return _drift(before, OrtRunner(str(target)), before.size, source, target)


def _torchao(spec: Spec, source: Path, folder: Path) -> dict[str, Any]:
    section = spec["quantize"]
    if section["mode"] != "weight_only_ptq":
        raise UserError(
            "quantize.backend torchao has mode weight_only_ptq only; for static_ptq use onnxruntime"
        )
    if find_spec("torchao") is None:
        raise NotRunnable(
            "quantize.backend torchao needs the package torchao; pip install torchao, or use onnxruntime"
        )
    import fnmatch

    import torch
    from torch import nn
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    from model.deploy.precision import HEADS
    from model.deploy.runners import TorchRunner

    before, after = TorchRunner(str(source), spec), TorchRunner(str(source), spec)
    skip = [*HEADS, *section["skip_names"]]

    def chosen(module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Linear) and not any(fnmatch.fnmatch(name, pattern) for pattern in skip)

    quantize_(after.detector, Int8WeightOnlyConfig(), filter_fn=chosen)
    target = folder / f"{source.stem}.int8.pth"
    torch.save(after.detector.state_dict(), target)
    return _drift(before, after, (256, 256), source, target)


def _drift(before: Any, after: Any, size: tuple[int, int], source: Path, target: Path) -> dict[str, Any]:
    """How far each class's logits, in descending order, moved on four noise images. A two-stage model's queries may
    change places."""
    import torch

    images = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(4, *size, dtype=torch.bool)
    a, b = (runner.infer(images, mask)["pred_logits"].sort(dim=1).values for runner in (before, after))
    return {
        "file": str(target),
        "bytes": target.stat().st_size,
        "bytes_before": source.stat().st_size,
        "logits_relative_l2": float((a - b).norm() / a.norm()),
        "max_probability_difference": float((a.sigmoid() - b.sigmoid()).abs().max()),
    }
