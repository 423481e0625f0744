"""Score a checkpoint, ONNX file or engine on the test set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.coco_metrics import NAMES, CocoMetrics
from model.data.coco import CocoData, load_sources
from model.spec import Spec, load, require
from model.status import Status


def main(spec_path: str) -> None:
    """Evaluate the spec in a file."""
    run(load("evaluate", spec_path))


def run(spec: Spec) -> dict[str, Any]:
    """Writes results.json (COCO results), metrics.json and precision_recall.html to `<results_dir>/evaluate`.

    Returns the metrics: test_mAP, test_mAP50, COCO's twelve numbers, "per_class" [{"id", "name", "AP"}].
    """
    require(spec, "dataset.test_data_sources.json_file", "dataset.test_data_sources.image_dir")
    folder = Path(spec["evaluate"]["results_dir"] or Path(spec["results_dir"] or "results") / "evaluate")
    folder.mkdir(parents=True, exist_ok=True)
    status = Status(folder, spec["model_name"])
    status.write("STARTED", "Starting evaluation.")
    data = load_sources([spec["dataset"]["test_data_sources"]])
    metrics = CocoMetrics(data, class_ids=spec["dataset"]["eval_class_ids"] or None)
    metrics.update(predictions(spec, data))
    scores = metrics.compute()
    names = {c["id"]: c["name"] for c in data.categories}
    result = {"test_mAP": scores["mAP"], "test_mAP50": scores["mAP50"], **{n: scores[n] for n in NAMES}}
    result["per_class"] = [
        {"id": i, "name": names.get(i, str(i)), "AP": ap} for i, ap in scores["per_class"].items()
    ]
    (folder / "results.json").write_text(json.dumps(metrics.results()))
    (folder / "metrics.json").write_text(json.dumps(result, indent=1) + "\n")
    _draw_precision_recall(metrics, names, folder / "precision_recall.html")
    status.write(
        "SUCCESS", "Evaluation finished.", {k: v for k, v in result.items() if k.startswith("test_")}
    )
    _print(result, len(data), folder)
    return result


def predictions(spec: Mapping[str, Any], data: CocoData) -> list[dict[str, Any]]:
    """Every image's detections, above `evaluate.conf_threshold`, each image once, the last partial batch too."""
    from torch.utils.data import DataLoader

    from model.data.module import Collate, DetectionDataset, loader_workers
    from model.data.transforms import EvalTransform
    from model.deploy.runners import input_size, open_runner
    from model.postprocess import postprocess

    section = spec["evaluate"]
    runner = open_runner(spec, "evaluate")
    items = DetectionDataset(data, EvalTransform(spec, input_size(runner, spec, "evaluate")), 0)
    size = section["batch_size"] if section["batch_size"] > 0 else spec["dataset"]["batch_size"]
    workers = loader_workers(spec["dataset"]["workers"])
    found = []
    for images, mask, targets in DataLoader(items, size, num_workers=workers, collate_fn=Collate(None)):
        outputs = runner.infer(images, mask)
        sizes = [target["orig_size"] for target in targets]
        for target, one in zip(
            targets, postprocess(outputs, sizes, spec["model"]["num_select"]), strict=True
        ):
            keep = one["scores"] >= section["conf_threshold"]
            found.append(
                {"image_id": target["image_id"]} | {name: values[keep] for name, values in one.items()}
            )
    return found


def _print(result: Mapping[str, Any], images: int, folder: Path) -> None:
    width = max((len(c["name"]) for c in result["per_class"]), default=5)
    print(f"{'class':<{width}}     AP")
    for row in result["per_class"]:
        print(f"{row['name']:<{width}}  {row['AP']:.3f}")
    figures = f"test_mAP {result['test_mAP']:.4f}, test_mAP50 {result['test_mAP50']:.4f}"
    print(f"{figures} on {images} images; files: {folder}")


def _draw_precision_recall(metrics: CocoMetrics, names: Mapping[int, str], path: Path) -> None:
    """Precision over recall at IoU 0.5, one line a class."""
    import plotly.graph_objects as go

    evaluation = metrics.evaluate()
    figure = go.Figure(layout={"template": "plotly_white", "title": "Precision and recall at IoU 0.5"})
    if evaluation is not None:
        recall = evaluation.params.recThrs
        for index, category in enumerate(evaluation.params.catIds):
            precision = evaluation.eval["precision"][0, :, index, 0, -1]
            figure.add_scatter(
                x=recall, y=precision.clip(min=0), name=names.get(int(category), str(category))
            )
    figure.update_xaxes(title="recall", range=[0, 1.01])
    figure.update_yaxes(title="precision", range=[0, 1.01])
    figure.write_html(path, include_plotlyjs=True)
