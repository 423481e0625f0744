"""Score a checkpoint, ONNX file or engine on the test set."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model import operating_point
from model.coco_evaluation import RECALL_THRESHOLDS, Evaluation
from model.coco_metrics import NAMES, CocoMetrics, summarise, summarise_classes
from model.data.coco import CocoData, load_sources
from model.operating_point import OperatingPoint
from model.spec import Spec, load, require
from model.status import Status, failure_told, results_folder

if TYPE_CHECKING:
    from model.deploy.runners import Runner


def main(spec_path: str) -> None:
    """Evaluate the spec in a file."""
    run(load("evaluate", spec_path))


@failure_told("evaluate")
def run(spec: Spec) -> dict[str, Any]:
    """Writes results.json (COCO results), metrics.json, per_class.csv and precision_recall.html to
    `<results_dir>/evaluate`; in several processes the first one does, and each scores a part of the images.

    Returns the metrics: test_mAP, test_mAP50, COCO's twelve numbers; threshold, precision, recall, f1 of the score with
    the best F1 on these images (null where nothing is found); val_threshold and the same three at it, where the model
    file knows the score that was best on validation; "per_class" [{"id", "name", "boxes", "AP", "AP50", "threshold",
    "precision", "recall", "f1"}].
    """
    from model.deploy.runners import open_runner
    from model.distributed import gather, group, start_ranks

    require(spec, "dataset.test_data_sources.json_file", "dataset.test_data_sources.image_dir")
    folder = results_folder(spec, "evaluate")
    if start_ranks(spec, "evaluate"):
        return dict(json.loads((folder / "metrics.json").read_text()))
    with group() as (rank, world):
        data = load_sources([spec["dataset"]["test_data_sources"]], spec["dataset"]["dataset_type"])
        metrics = CocoMetrics(data, class_ids=spec["dataset"]["eval_class_ids"])
        runner = open_runner(spec, "evaluate")
        if rank:
            gather(predictions(spec, runner, data, rank, world))
            return {}
        folder.mkdir(parents=True, exist_ok=True)
        status = Status(folder, spec["model_name"])
        status.write("STARTED", "Starting evaluation.")
        metrics.update(gather(predictions(spec, runner, data, rank, world)))
    result = _write(metrics, runner.threshold, folder)
    status.write(
        "SUCCESS", "Evaluation finished.", {k: v for k, v in result.items() if k.startswith("test_")}
    )
    _print(result, len(data), folder)
    return result


def predictions(
    spec: Mapping[str, Any], runner: Runner, data: CocoData, rank: int = 0, world: int = 1
) -> list[dict[str, Any]]:
    """This rank's images, each once, with their detections at or above `evaluate.conf_threshold`."""
    from rich.progress import track

    from model.data.module import eval_loader
    from model.data.transforms import EvalTransform
    from model.deploy.runners import input_size
    from model.postprocess import postprocess

    section = spec["evaluate"]
    transform = EvalTransform(spec, input_size(runner, spec, "evaluate"))
    size = section["batch_size"] if section["batch_size"] > 0 else spec["dataset"]["batch_size"]
    loader = eval_loader(data, transform, size, spec["dataset"]["workers"], rank=rank, world=world)
    found = []
    for images, mask, targets in track(loader, "evaluate", len(loader), transient=True, disable=rank > 0):
        if targets[0]["epoch"]:  # a repeat, see EvalBatches
            continue
        outputs = runner.infer(images, mask)
        sizes = [target["orig_size"] for target in targets]
        for target, one in zip(
            targets, postprocess(outputs, sizes, spec["model"]["num_select"]), strict=True
        ):
            keep = one["scores"] >= section["conf_threshold"]
            found.append(
                {"image_id": target["image_id"]}
                | {name: values[keep].numpy() for name, values in one.items()}
            )
    return found


def _write(metrics: CocoMetrics, known: float | None, folder: Path) -> dict[str, Any]:
    """`known`: the score that was best on validation, where the model file says it."""
    evaluation, categories = metrics.evaluate(), metrics.categories()
    scores = summarise(evaluation, categories)
    names = {c["id"]: c["name"] for c in metrics.data.categories}
    result = {"test_mAP": scores["mAP"], "test_mAP50": scores["mAP50"], **{n: scores[n] for n in NAMES}}
    result |= _point(operating_point.best(evaluation.ranked))
    if known is not None:
        there = operating_point.at(evaluation.ranked, known)
        result |= {f"val_threshold{'_' + n if n != 'threshold' else ''}": v for n, v in _point(there).items()}
    result["per_class"] = _per_class(metrics, evaluation, names)
    (folder / "results.json").write_text(json.dumps(metrics.results()))
    (folder / "metrics.json").write_text(json.dumps(result, indent=1) + "\n")
    with (folder / "per_class.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(result["per_class"][0]))
        writer.writeheader()
        writer.writerows(result["per_class"])
    _draw_precision_recall(evaluation, [names[i] for i in categories], folder / "precision_recall.html")
    return result


def _per_class(
    metrics: CocoMetrics, evaluation: Evaluation, names: Mapping[int, str]
) -> list[dict[str, Any]]:
    labels = np.asarray(metrics.data.labels)
    rows = []
    for index, (i, ap) in enumerate(zip(metrics.categories(), summarise_classes(evaluation), strict=True)):
        row = {"id": i, "name": names[i], "boxes": int((labels == i).sum()), **ap}
        rows.append(row | _point(operating_point.best(evaluation.ranked, index)))
    return rows


def _point(point: OperatingPoint | None) -> dict[str, float | None]:
    if point is None:
        return {"threshold": None, "precision": None, "recall": None, "f1": None}
    return point.as_dict()


def _print(result: Mapping[str, Any], images: int, folder: Path) -> None:
    width = max(5, *(len(c["name"]) for c in result["per_class"]))
    print(f"{'class':<{width}}   boxes     AP   AP50  best F1    P      R   at score")
    for row in result["per_class"]:
        best = (
            "  none found"
            if row["f1"] is None
            else f"  {row['f1']:7.3f}  {row['precision']:5.3f}  {row['recall']:5.3f}     {row['threshold']:5.3f}"
        )
        print(f"{row['name']:<{width}}  {row['boxes']:6}  {row['AP']:5.3f}  {row['AP50']:5.3f}{best}")
    if result["threshold"] is None:
        print("no detection is right, so there is no threshold to recommend")
    else:
        point = OperatingPoint(*(result[n] for n in ("threshold", "precision", "recall", "f1")))
        print(f"best F1 of all classes on these images: {point}")
    if result.get("val_threshold") is not None:
        words = ("val_threshold", "val_threshold_precision", "val_threshold_recall", "val_threshold_f1")
        print(f"at the score that was best on validation: {OperatingPoint(*(result[n] for n in words))}")
    figures = f"test_mAP {result['test_mAP']:.4f}, test_mAP50 {result['test_mAP50']:.4f}"
    print(f"{figures} on {images} images; files: {folder}")


def _draw_precision_recall(evaluation: Evaluation, names: list[str], path: Path) -> None:
    """Precision over recall at IoU 0.5, one line a class."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={"template": "plotly_white", "title": "Precision and recall at IoU 0.5"})
    for index, name in enumerate(names):
        figure.add_scatter(x=RECALL_THRESHOLDS, y=evaluation.precision[0, :, index, 0].clip(min=0), name=name)
    figure.update_xaxes(title="recall", range=[0, 1.01])
    figure.update_yaxes(title="precision", range=[0, 1.01])
    figure.write_html(path, include_plotlyjs=True)
