"""mAP of the layers of several model files of one input size, over one reading of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model import operating_point
from model.coco_metrics import CocoMetrics, summarise
from model.data.coco import CocoData
from model.data.module import eval_loader
from model.data.transforms import EvalTransform
from model.deploy.shrink import outputs_of
from model.errors import UserError
from model.postprocess import postprocess


class Layers:
    """A graph with the predictions of several layers, in ONNX Runtime on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]

    def infer(self, images: torch.Tensor, layers: Sequence[int]) -> dict[int, dict[str, torch.Tensor]]:
        """images [B, 3, H, W] -> {layer: pred_logits [B, Q, K], pred_boxes [B, Q, 4]}."""
        values = dict(zip(self.names, self.session.run(self.names, {"inputs": images.numpy()}), strict=True))
        found = {}
        for layer in layers:
            logits, boxes = outputs_of(self.names, layer)
            found[layer] = {
                "pred_logits": torch.from_numpy(values[logits]),
                "pred_boxes": torch.from_numpy(values[boxes]),
            }
        return found


def score(
    files: Mapping[Any, Path], layers: Sequence[int], size: tuple[int, int], data: CocoData,
    spec: Mapping[str, Any],
) -> dict[tuple[Any, int], tuple[float, float | None]]:  # fmt: skip
    """{(file's key, layer): (mAP, the score threshold with the best F1)} on all images of `data`, at `size` (H, W).
    Raises `UserError` for a file whose numbers are not finite."""
    graphs = {key: Layers(path) for key, path in files.items()}
    wanted = [(key, layer) for key in graphs for layer in layers]
    metrics = {each: CocoMetrics(data, class_ids=spec["dataset"]["eval_class_ids"]) for each in wanted}
    loader = eval_loader(
        data, EvalTransform(spec, size), spec["dataset"]["batch_size"], spec["dataset"]["workers"]
    )
    for images, _, targets in loader:
        if targets[0]["epoch"]:  # a repeat, see EvalBatches
            continue
        for key, graph in graphs.items():
            for layer, outputs in graph.infer(images, layers).items():
                metrics[key, layer].update(_detections(outputs, targets, spec, files[key]))
    return {each: _score(found) for each, found in metrics.items()}


def _detections(
    outputs: dict[str, torch.Tensor],
    targets: Sequence[Mapping[str, Any]],
    spec: Mapping[str, Any],
    file: Path,
) -> list[dict[str, Any]]:
    if not all(bool(torch.isfinite(values).all()) for values in outputs.values()):
        raise UserError(
            f"{file}: its outputs are not finite; leave its number format out of deploy.precisions"
        )
    found = postprocess(outputs, [t["orig_size"] for t in targets], spec["model"]["num_select"])
    arrays = [{name: np.asarray(values) for name, values in one.items()} for one in found]
    return [{"image_id": t["image_id"]} | one for t, one in zip(targets, arrays, strict=True)]


def _score(metrics: CocoMetrics) -> tuple[float, float | None]:
    evaluation = metrics.evaluate()
    line = operating_point.best(evaluation.ranked)
    return float(summarise(evaluation, metrics.categories())["mAP"]), line.threshold if line else None
