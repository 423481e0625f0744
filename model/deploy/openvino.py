"""Intel's OpenVINO (`pip install 'detr-automl[openvino]'`): writes its own form of an ONNX file, and runs either on the
CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import torch

from model.deploy.card import OPENVINO, Card, beside_engine, read, refuse_standalone
from model.deploy.runner import Runner, in_batches
from model.errors import NotRunnable, UserError


def package() -> ModuleType:
    """The package openvino, which tells nobody that it is used.

    Left alone its import reports to a server, from a process forked off a thread: no business of a training machine,
    three seconds where there is no network, and a fork of a process whose other threads hold locks.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # its import fails, a stub steps in
    import openvino

    return openvino


def save(onnx_file: Path, xml: Path, card: Card) -> None:
    """Write the graph as `xml`, its weights, all of 32 bits, as .bin and its card as .xml.json beside it."""
    openvino = package()
    openvino.save_model(openvino.Core().read_model(str(onnx_file)), str(xml), compress_to_fp16=False)
    beside_engine(xml).write_text(json.dumps(card.entries(), indent=1) + "\n")


# Left alone it computes in bf16 where the CPU can, which is another network than the one that was measured.
HINTS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


class OpenVinoRunner(Runner):
    """Of an .onnx or .xml file."""

    def __init__(self, path: str) -> None:
        try:
            openvino = package()
        except ImportError:
            raise NotRunnable(f"{path}: running it needs {OPENVINO}") from None

        if not Path(path).is_file():
            raise UserError(f"{path}: no such file")
        self.card = read(path)
        try:
            core = openvino.Core()
            graph = core.read_model(path)
            self.model = core.compile_model(graph, "CPU", HINTS)
        except RuntimeError as error:
            raise UserError(
                f"{path}: OpenVINO cannot load it ({str(error).strip().splitlines()[-1]})"
            ) from None
        refuse_standalone([name for each in graph.inputs for name in each.names], path)
        shape = graph.input("inputs").partial_shape
        self.size = (shape[2].get_length(), shape[3].get_length())
        self.batch = shape[0].get_length() if shape[0].is_static else None

    def infer(self, images: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """The graph has no mask input: images must fill it."""

        def run(part: torch.Tensor) -> list[torch.Tensor]:
            found = self.model({"inputs": part.numpy()})
            return [torch.from_numpy(found[name].copy()) for name in ("pred_logits", "pred_boxes")]

        return in_batches(images, self.batch, run)
