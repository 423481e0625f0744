"""Runs an ONNX file with Intel's OpenVINO on the CPU (`pip install openvino`)."""

from __future__ import annotations

from pathlib import Path

import torch

from model.deploy.card import read
from model.deploy.runner import Runner
from model.errors import NotRunnable, UserError


class OpenVinoRunner(Runner):
    def __init__(self, path: str) -> None:
        try:
            import openvino
        except ImportError:
            raise NotRunnable(
                f"{path}: running it needs the package openvino (pip install openvino)"
            ) from None
        if not Path(path).is_file():
            raise UserError(f"{path}: no such ONNX file")
        self.card = read(path)
        model = openvino.Core().compile_model(path, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        shape = model.input("inputs").partial_shape
        self.size = (shape[2].get_length(), shape[3].get_length())
        self.model = model

    def infer(self, images: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.model({"inputs": images.numpy()})
        return {n: torch.from_numpy(found[n].copy()) for n in ("pred_logits", "pred_boxes")}
