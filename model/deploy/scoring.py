"""mAP of the layers of several model files of one input size, over one reading of the images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model import operating_point
from model.coco_metrics import CocoMetrics, summarise
from model.data.coco import CocoData
from model.data.loaders import eval_loader
from model.data.transforms import EvalTransform
from model.deploy.runner import Runner
from model.deploy.runners import OrtRunner
from model.deploy.shrink import outputs_of
from model.errors import UserError
from model.postprocess import postprocess
from model.told import counted

KEPT_BYTES = 1 << 29  # of decoded images, held between two scorings


@dataclass(frozen=True)
class Scored:
    """mAP on all images, and the score threshold with the best F1 there; None where nothing is right."""

    mAP: float
    f1: float | None = None
    threshold: float | None = None

    def metrics(self) -> dict[str, float | None]:
        """By the names of a training's own figures on validation."""
        return {"val_mAP": self.mAP, "val_f1": self.f1, "val_threshold": self.threshold}


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


class Batches:
    """All images of `data` at `size` (H, W), as (images, mask, targets): decoded once while they fit KEPT_BYTES, else
    each time they are asked for."""

    def __init__(self, data: CocoData, size: tuple[int, int], spec: Mapping[str, Any]) -> None:
        self.data = data
        fits = len(data) * size[0] * size[1] * 12 <= KEPT_BYTES
        self.kept: list[Any] | None = [] if fits else None
        dataset = spec["dataset"]
        self.loader = eval_loader(data, EvalTransform(spec, size), dataset["batch_size"], dataset["workers"])

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        if self.kept:
            yield from self.kept
            return
        found = []
        for images, mask, targets in self.loader:
            if self.kept is not None:
                found.append((images.clone(), mask.clone(), targets))  # loaders' shared memory is small
            yield images, mask, targets
        if self.kept is not None:
            self.kept = found


def score(
    files: Mapping[Any, Path], layers: Mapping[Any, Sequence[int]], batches: Batches, spec: Mapping[str, Any],
    what: str = "scoring",
) -> dict[tuple[Any, int], Scored]:  # fmt: skip
    """{(file's key, layer): Scored} on all images; layers: those wanted of each file; what: how it is called while it
    goes on. Raises `UserError` for a file whose numbers are not finite."""
    graphs = {key: Layers(path) for key, path in files.items()}
    wanted = [(key, layer) for key in graphs for layer in layers[key]]
    counted_ids = spec["dataset"]["eval_class_ids"]
    metrics = {each: CocoMetrics(batches.data, class_ids=counted_ids) for each in wanted}
    for images, _, targets in counted(batches, what, len(batches)):
        if targets[0]["epoch"]:  # a repeat, see EvalBatches
            continue
        for key, graph in graphs.items():
            for layer, outputs in graph.infer(images, layers[key]).items():
                metrics[key, layer].update(_detections(outputs, targets, spec, files[key]))
    return {each: _score(found) for each, found in metrics.items()}


def score_file(path: Path, batches: Batches, spec: Mapping[str, Any]) -> Scored:
    """A plain graph's on all images, in ONNX Runtime on the CPU. Raises as `score`."""
    return score_runner(OrtRunner(str(path), torch.device("cpu")), batches, spec, path.name)


def score_runner(
    runner: Runner, batches: Batches, spec: Mapping[str, Any], what: str = "the graph"
) -> Scored:
    """A runner's figures on all images."""
    metrics = CocoMetrics(batches.data, class_ids=spec["dataset"]["eval_class_ids"])
    for images, mask, targets in counted(batches, f"scoring {what}", len(batches)):
        if not targets[0]["epoch"]:  # else a repeat, see EvalBatches
            metrics.update(_detections(runner.infer(images, mask), targets, spec, what))
    return _score(metrics)


def _detections(
    outputs: dict[str, torch.Tensor],
    targets: Sequence[Mapping[str, Any]],
    spec: Mapping[str, Any],
    file: Path | str,
) -> list[dict[str, Any]]:
    if not all(bool(torch.isfinite(values).all()) for values in outputs.values()):
        raise UserError(
            f"{file}: its outputs are not finite; leave its number format out, or more layers in floating point"
        )
    found = postprocess(outputs, [t["orig_size"] for t in targets], spec["model"]["num_select"])
    arrays = [{name: np.asarray(values) for name, values in one.items()} for one in found]
    return [{"image_id": t["image_id"]} | one for t, one in zip(targets, arrays, strict=True)]


def _score(metrics: CocoMetrics) -> Scored:
    evaluation = metrics.evaluate()
    mAP, line = (
        float(summarise(evaluation, metrics.categories())["mAP"]),
        operating_point.best(evaluation.ranked),
    )
    return Scored(mAP, line.f1, line.threshold) if line else Scored(mAP)
