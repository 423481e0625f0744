"""One way to run a detector, whatever its file: `.pth` by torch, `.onnx` by ONNX Runtime, `.engine` by TensorRT or
TensorRT-RTX, `.xml` by OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.build import build_from
from model.data.transforms import exact_size
from model.deploy.card import ENGINES, check, completed, of_checkpoint, of_texts, refuse_standalone
from model.deploy.engine import TrtRunner
from model.deploy.runner import Runner, in_batches
from model.errors import UserError
from model.parameters import model_file


class TorchRunner(Runner):
    def __init__(self, path: str, spec: Mapping[str, Any], device: torch.device | None = None) -> None:
        self.detector, checkpoint = build_from(path, spec)
        self.card = of_checkpoint(checkpoint, path)
        self.validated = exact_size(checkpoint["spec"], "train")
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.detector.to(self.device)

    @torch.inference_mode()
    def infer(self, images: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = self.detector(images.to(self.device), mask.to(self.device))
        return {name: outputs[name].float().cpu() for name in ("pred_logits", "pred_boxes")}


class OrtRunner(Runner):
    def __init__(self, path: str, device: torch.device | None = None) -> None:
        import onnxruntime

        if not Path(path).is_file():
            raise UserError(f"{path}: no such ONNX file")
        wanted: list[Any] = ["CPUExecutionProvider"]
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and device != torch.device("cpu"):
            index = device.index if device is not None else 0
            wanted.insert(0, ("CUDAExecutionProvider", {"device_id": index or 0}))
        try:
            self.session = onnxruntime.InferenceSession(path, providers=wanted)
        except Exception as error:
            raise UserError(f"{path}: ONNX Runtime cannot load it ({str(error).splitlines()[0]})") from None
        refuse_standalone([each.name for each in self.session.get_inputs()], path)
        shape = self.session.get_inputs()[0].shape
        self.size = (int(shape[2]), int(shape[3]))
        self.batch = shape[0] if isinstance(shape[0], int) else None
        self.card = completed(of_texts(self.session.get_modelmeta().custom_metadata_map), Path(path))

    def infer(self, images: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """The graph has no mask input: images must fill it."""

        def run(part: torch.Tensor) -> list[torch.Tensor]:
            found = self.session.run(["pred_logits", "pred_boxes"], {"inputs": part.numpy()})
            return [torch.from_numpy(each) for each in found]

        return in_batches(images, self.batch, run)


def open_runner(spec: Mapping[str, Any], action: str) -> Runner:
    """The runner of an action's `trt_engine`, else of its `checkpoint`. Raises `UserError` when neither is given, and
    when the spec normalises images otherwise than the file wants them."""
    path = model_file(action, spec[action])
    if not path:
        raise UserError(f"{action}: give {action}.checkpoint or {action}.trt_engine")
    runner = _runner_of(path, spec, action)
    check(runner.card, spec, path)
    return runner


def _runner_of(path: str, spec: Mapping[str, Any], action: str) -> Runner:
    from model.distributed import device

    where = device(spec[action], action)
    if spec[action]["trt_engine"] or path.endswith(ENGINES):
        return TrtRunner(path, where)
    if path.endswith(".onnx"):
        return OrtRunner(path, where)
    if path.endswith(".xml"):
        from model.deploy.openvino import OpenVinoRunner

        return OpenVinoRunner(path)
    if path.endswith(".pth"):
        return TorchRunner(path, spec, where)
    raise UserError(
        f"{path}: a model must be a .pth or .onnx file, an .engine, or OpenVINO's .xml; {action}.checkpoint "
        "names it"
    )


def input_size(runner: Runner, spec: Mapping[str, Any], action: str) -> tuple[int, int] | None:
    """(H, W) that images are resized to: what the file fixes, which the spec may not contradict, else the spec's, else
    the size at which the model was validated; None: short sides of dataset.augmentation.test_random_resize."""
    asked = exact_size(spec, action)
    if runner.size and asked and asked != runner.size:
        raise UserError(
            f"{action}.input_height and input_width must be {runner.size[0]} and {runner.size[1]}, the size of the "
            f"file's input, but got {asked[0]} and {asked[1]}; add {action}.input_height={runner.size[0]} "
            f"{action}.input_width={runner.size[1]}"
        )
    return runner.size or asked or runner.validated
