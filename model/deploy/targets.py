"""What runs a model file that is timed: ONNX Runtime on the CPU or a GPU, TensorRT, OpenVINO."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from model.deploy.card import OPENVINO, read
from model.deploy.runner import Runner
from model.deploy.runners import OrtRunner
from model.errors import NotRunnable


def check(target: str) -> None:
    """Raise `NotRunnable` when this machine lacks what a target needs."""
    if lacking := missing(target):
        raise NotRunnable(f"deploy.target {target} needs {lacking}")


def missing(target: str) -> str | None:
    """What a target needs and this machine lacks, in words; None: nothing."""
    if target == "gpu":
        import onnxruntime

        there = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        return None if there else "ONNX Runtime for GPUs and an NVIDIA GPU (pip install onnxruntime-gpu)"
    if target == "tensorrt":
        from model.deploy.engine import available

        return available("tensorrt", running=True)[1]
    if target == "openvino" and importlib.util.find_spec("openvino") is None:
        return OPENVINO
    return None


def opener(target: str, path: Path) -> Callable[[], Runner]:
    """What opens a file anew on a target; an engine is built at once."""
    if target == "tensorrt":
        return _engine(path)
    if target == "openvino":
        from model.deploy.openvino import OpenVinoRunner

        return lambda: OpenVinoRunner(str(path))
    device = torch.device("cpu" if target == "cpu" else "cuda:0")
    return lambda: OrtRunner(str(path), device)


def own_form(target: str, path: Path) -> Path:
    """What a target is given of an .onnx file: for OpenVINO the .xml beside it, else the file itself."""
    return path.with_suffix(".xml") if target == "openvino" else path


def write_own_form(target: str, path: Path) -> Path:
    """The same, written."""
    own = own_form(target, path)
    if own != path:
        from model.deploy import openvino

        openvino.save(path, own, read(path))
    return own


def _engine(path: Path) -> Callable[[], Runner]:
    from model.deploy import engine
    from model.spec import default_spec

    built, section = path.with_suffix(".engine"), default_spec("gen_trt_engine")["gen_trt_engine"]
    trt: Any = engine.available("tensorrt")[0]
    engine.build(trt, path, built, section)
    return lambda: engine.TrtRunner(str(built))
