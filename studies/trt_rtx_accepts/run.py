"""Do NVIDIA's parser and builder take our ONNX? Builds engines of an untrained detector with TensorRT-RTX, which
needs no GPU to build. Writes results.json.

    pip install tensorrt-rtx && python studies/trt_rtx_accepts/run.py [--backbone resnet_50] [--size 640]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.actions import export, gen_trt_engine
from model.build import build_model
from model.spec import put, resolve
from studies.machine import describe


def build_all(backbone: str, size: int, layers: int) -> dict[str, Any]:
    spec = resolve("train", {"model": {"backbone": backbone, "enc_layers": layers, "dec_layers": layers}})
    torch.manual_seed(0)
    detector = build_model(spec)
    with torch.no_grad():  # break the zero start, so that nothing folds away
        for parameter in detector.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    results: dict[str, Any] = {"parameters_m": round(sum(p.numel() for p in detector.parameters()) / 1e6, 2)}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        state = {f"model.{k}": v for k, v in detector.state_dict().items()}
        torch.save({"state_dict": state, "spec": spec, "classes": [], "metrics": {}}, folder / "model.pth")
        for n in range(4):
            noise = np.random.default_rng(n).integers(0, 255, (size, size, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{n}.png")
        began = time.perf_counter()
        results["export"] = export.run(spec_of("export", spec, folder, size))
        results["export"]["seconds"] = round(time.perf_counter() - began, 1)
        for kind in ("FP32", "FP16", "INT8"):
            action = spec_of("gen_trt_engine", spec, folder, size)
            put(action, "gen_trt_engine.tensorrt.data_type", kind)
            put(action, "gen_trt_engine.tensorrt.workspace_size", 4096)
            began = time.perf_counter()
            try:
                results[kind] = gen_trt_engine.run(action)
            except Exception as error:
                results[kind] = {"refused": str(error)[:500]}
            results[kind]["seconds"] = round(time.perf_counter() - began, 1)
    return results


def spec_of(action: str, trained: dict[str, Any], folder: Path, size: int) -> dict[str, Any]:
    spec = resolve(action, {"model": trained["model"], "dataset": trained["dataset"]})
    leaves = {
        "export": {"checkpoint": folder / "model.pth", "onnx_file": folder / "model.onnx"},
        "gen_trt_engine": {"onnx_file": folder / "model.onnx", "trt_engine": folder / "model.engine"},
    }[action]
    for name, value in leaves.items():
        put(spec, f"{action}.{name}", str(value))
    if action == "export":
        put(spec, "export.input_height", size)
        put(spec, "export.input_width", size)
    else:
        put(spec, "gen_trt_engine.builder", "tensorrt_rtx")
        put(spec, "gen_trt_engine.tensorrt.calibration.cal_image_dir", [str(folder)])
        put(spec, "gen_trt_engine.tensorrt.calibration.cal_batches", 4)
    return spec


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet_50")
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--layers", type=int, default=6)
    options = parser.parse_args()
    results = {"machine": describe(), **build_all(options.backbone, options.size, options.layers)}
    text = json.dumps(results, indent=1)
    (Path(__file__).parent / "results.json").write_text(text + "\n")
    print(text)
