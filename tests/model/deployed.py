"""An untrained tiny network with its degenerate start broken, exported, and specs for it."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch

from model.actions import export
from model.build import build_model
from model.spec import put, resolve
from tests.conftest import TINY

CLASSES = [{"id": 1, "name": "red cell"}, {"id": 2, "name": "square"}, {"id": 3, "name": "triangle"}]


def lively(tiny: dict[str, Any]) -> Any:
    """A detector whose offsets, weights and heads are not at their zero start, with batch statistics."""
    torch.manual_seed(0)
    detector = build_model(tiny)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        detector.train()(torch.randn(4, 3, 64, 64))
    return detector.eval()


def make(folder: Path, **model: Any) -> tuple[Path, dict[str, Any]]:
    """(folder with model.pth, model.onnx and the network's partial spec, sidecar)."""
    partial = TINY | {"model": TINY["model"] | model}
    (folder / "partial.json").write_text(json.dumps(partial))
    state = {f"model.{k}": v for k, v in lively(partial).state_dict().items()}
    full = resolve("train", partial)
    torch.save({"state_dict": state, "spec": full, "classes": CLASSES, "metrics": {}}, folder / "model.pth")
    return folder, export.run(spec_of("export", folder, export__serialize_nvdsinfer=True))


def spec_of(action: str, folder: Path, **leaves: Any) -> dict[str, Any]:
    partial = json.loads((folder / "partial.json").read_text())
    del partial["train"]
    put(partial, "results_dir", str(folder))
    defaults = {
        "export": {"export.checkpoint": "model.pth", "export.onnx_file": "model.onnx"},
        "gen_trt_engine": {
            "gen_trt_engine.onnx_file": "model.onnx",
            "gen_trt_engine.trt_engine": "model.engine",
        },
        "inference": {"inference.checkpoint": "model.pth"},
        "quantize": {"quantize.model_path": "model.onnx"},
    }[action]
    for name, value in defaults.items():
        put(partial, name, str(folder / value))
    for side in ("height", "width"):
        if action in ("export", "inference"):
            put(partial, f"{action}.input_{side}", 64)
    for name, value in leaves.items():
        put(partial, name.replace("__", "."), value)
    return resolve(action, partial)


class Key(pickle.Pickler):
    """All that a module is, and its tensors by what they hold."""

    def persistent_id(self, thing: Any) -> Any:
        if not isinstance(thing, torch.Tensor):
            return None
        held = thing.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return str(thing.dtype), tuple(thing.shape), hashlib.sha256(held).hexdigest()


def key_of(lean: torch.nn.Module, *rest: Any) -> str:
    """Of all that its graph follows from."""
    Key(whole := io.BytesIO()).dump((lean, torch.is_grad_enabled(), *rest))
    return hashlib.sha256(whole.getbuffer()).hexdigest()
