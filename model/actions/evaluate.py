"""Score a checkpoint, ONNX file or engine on the test set."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model import operating_point, precision_recall, review
from model.coco_evaluation import Evaluation
from model.coco_metrics import NAMES, CocoMetrics, summarise, summarise_classes
from model.data.classes import outside_ids, uncounted
from model.data.coco import CocoData, Options, load_sources
from model.data.sources import is_url
from model.errors import UserError, number_of
from model.operating_point import OperatingPoint
from model.spec import Spec, batch_size, require
from model.spec_file import load
from model.status import Status, failure_told, results_folder

if TYPE_CHECKING:
    from model.deploy.beside import Beside
    from model.deploy.runner import Runner

OTHER_TEST = "dataset.test_data_sources.json_file=FILE dataset.test_data_sources.image_dir=FOLDER"
OTHER_VAL = "dataset.val_data_sources='[{json_file: FILE, image_dir: FOLDER}]'"
APART = 0.005  # mAP by which two files of one model may differ unsaid


def main(spec_path: str) -> None:
    """Evaluate the spec in a file."""
    run(load("evaluate", spec_path))


@failure_told("evaluate")
def run(spec: Spec) -> dict[str, Any]:
    """Writes results.json (COCO results by the ids of each image's own annotation file), metrics.json, per_class.csv,
    precision_recall.html, and report.json with pictures (model/review.py) to `<results_dir>/evaluate`; in several
    processes the first one does, and each scores a part of the images.

    Returns the metrics: test_mAP, test_mAP50 (val_... for evaluate.split val), COCO's twelve numbers; with
    evaluate.beside "beside" {"file", "mAP"} and "difference"; threshold, precision, recall, f1 of the score with
    the best F1 on these images (null where nothing is found); val_threshold and the same three at it, where the model
    file knows the score that was best on validation; "per_class" [{"id", "name", "boxes", "AP", "AP50", "threshold",
    "precision", "recall", "f1"}]; "scored" {"split", "images", "sources"}: what data it was.
    """
    from model.deploy.beside import opened
    from model.deploy.runners import open_runner
    from model.distributed import gather, group, start_ranks

    section, sources = spec["evaluate"], sources_of(spec)
    folder = results_folder(spec, "evaluate")
    if start_ranks(spec, "evaluate"):
        return dict(json.loads((folder / "metrics.json").read_text()))
    with group() as (rank, world):
        runner = open_runner(spec, "evaluate")
        data = load_data(sources, spec, runner.classes)
        metrics = CocoMetrics(data, class_ids=spec["dataset"]["eval_class_ids"])
        scored = {"split": section["split"], "images": len(data), "sources": sources}
        status = _begin(folder, spec, data, scored) if rank == 0 else None
        second = opened(spec, data, metrics.categories(), quiet=rank > 0)
        metrics.update(gather(predictions(spec, runner, data, rank, world)))
        beside = _beside(second, data, rank, world)
    if status is None:
        return {}
    result = _write(metrics, runner.threshold, folder, scored, beside)
    figures = {k: v for k, v in result.items() if k.startswith(f"{section['split']}_")}
    status.write("SUCCESS", "Evaluation finished.", figures)
    _print(result, len(data), folder, section["split"])
    return result


def sources_of(spec: Mapping[str, Any]) -> list[dict[str, str]]:
    """The sources that `evaluate.split` names. Raises `UserError` when there are none, and for paths that are not
    there, with how other data are named."""
    if spec["evaluate"]["split"] == "test":
        if not any(spec["dataset"]["test_data_sources"].get(key) for key in ("json_file", "image_dir")):
            if not any(s.get("json_file") for s in spec["dataset"]["val_data_sources"]):
                raise UserError(
                    "no data are named, and a model file does not say where they are: give "
                    f"-e RUN/best/evaluate.yaml, or {OTHER_TEST}"
                )
            raise UserError(
                "dataset.test_data_sources is empty: the data that this was trained on had no test split; score what "
                f"it was validated on by evaluate.split=val, or name test data: {OTHER_TEST}"
            )
        require(spec, "dataset.test_data_sources.json_file", "dataset.test_data_sources.image_dir")
        return _there("dataset.test_data_sources", [spec["dataset"]["test_data_sources"]], OTHER_TEST)
    listed = [s for s in spec["dataset"]["val_data_sources"] if s.get("json_file") and s.get("image_dir")]
    if not listed:
        raise UserError("dataset.val_data_sources must be given for evaluate.split val")
    return _there("dataset.val_data_sources", listed, OTHER_VAL)


def _there(leaf: str, sources: list[dict[str, str]], other: str) -> list[dict[str, str]]:
    found = [(key, each[key]) for each in sources for key in ("json_file", "image_dir")]
    gone = [
        f"{leaf}, {key}: {path} is not there"
        for key, path in found
        if not (is_url(path) or Path(path).exists())
    ]
    if gone:
        raise UserError("\n".join([*gone, f"name the data as they are called here: {other}"]))
    return sources


def load_data(
    sources: list[dict[str, str]], spec: Mapping[str, Any], recorded: list[dict[str, Any]]
) -> CocoData:
    """The sources, read by the classes that the model file recorded. Raises `UserError` when they contradict."""
    counted = spec["dataset"]["eval_class_ids"] or ()
    return load_sources(sources, spec["dataset"]["dataset_type"], Options.of(spec), recorded or None, counted)


def _begin(folder: Path, spec: Spec, data: CocoData, scored: Mapping[str, Any]) -> Status:
    status = Status(folder, spec["model_name"])
    status.write("STARTED", "Starting evaluation.")
    files = ", ".join(f"{s['json_file']} (images: {s['image_dir']})" for s in scored["sources"])
    left = uncounted(data.categories, spec["dataset"]["eval_class_ids"])
    for line in (
        f"{number_of(scored['images'], 'image')} of {files}",
        *data.notes,
        *([left] if left else []),
    ):
        print(f"data: {line}")
    return status


def _beside(second: Beside | None, data: CocoData, rank: int, world: int) -> dict[str, Any] | None:
    """{"file", "mAP"} of the second model on the same images, None when there is none."""
    from model.distributed import gather

    if second is None:
        return None
    metrics = CocoMetrics(data, class_ids=second.spec["dataset"]["eval_class_ids"])
    found = gather(predictions(second.spec, second.runner, data, rank, world))
    metrics.update(second.relabelled(found))
    return None if rank else {"file": second.file, "mAP": metrics.compute()["mAP"]}


def predictions(
    spec: Mapping[str, Any], runner: Runner, data: CocoData, rank: int = 0, world: int = 1
) -> list[dict[str, Any]]:
    """This rank's images, each once, with their detections at or above `evaluate.conf_threshold`."""
    from model.data.loaders import eval_loader
    from model.data.transforms import EvalTransform
    from model.deploy.runners import input_size
    from model.postprocess import postprocess
    from model.told import counted

    section = spec["evaluate"]
    transform = EvalTransform(spec, input_size(runner, spec, "evaluate"))
    size = batch_size(spec, "evaluate")
    loader = eval_loader(data, transform, size, spec["dataset"]["workers"], rank=rank, world=world)
    found = []
    for images, mask, targets in counted(loader, "evaluate", len(loader), quiet=rank > 0):
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


def _write(
    metrics: CocoMetrics, known: float | None, folder: Path, scored: Mapping[str, Any],
    beside: dict[str, Any] | None,
) -> dict[str, Any]:  # fmt: skip
    """`known`: the score that was best on validation, where the model file says it; `scored`: see `run`."""
    split = scored["split"]
    evaluation, categories = metrics.evaluate(), metrics.categories()
    scores = summarise(evaluation, categories)
    names = {c["id"]: c["name"] for c in metrics.data.categories}
    result: dict[str, Any] = {f"{split}_{n}": scores[n] for n in ("mAP", "mAP50")}
    result |= {n: scores[n] for n in NAMES}
    if beside:
        result |= {"beside": beside, "difference": scores["mAP"] - beside["mAP"]}
    result |= _point(operating_point.best(evaluation.ranked))
    if known is not None:
        there = operating_point.at(evaluation.ranked, known)
        result |= {f"val_threshold{'_' + n if n != 'threshold' else ''}": v for n, v in _point(there).items()}
    result |= {"per_class": _per_class(metrics, evaluation, names), "scored": dict(scored)}
    (folder / "results.json").write_text(json.dumps(metrics.results()))
    (folder / "metrics.json").write_text(json.dumps(result, indent=1) + "\n")
    with (folder / "per_class.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(result["per_class"][0]))
        writer.writeheader()
        writer.writerows(result["per_class"])
    drawn = precision_recall.page(evaluation, [names[i] for i in categories])
    (folder / "precision_recall.html").write_text(drawn)
    review.write(metrics, evaluation, result, split, folder)
    return result


def _per_class(
    metrics: CocoMetrics, evaluation: Evaluation, names: Mapping[int, str]
) -> list[dict[str, Any]]:
    labels, ids = metrics.data.labels[~metrics.data.crowd], outside_ids(metrics.data.categories)
    rows = []
    for index, (i, ap) in enumerate(zip(metrics.categories(), summarise_classes(evaluation), strict=True)):
        row = {"id": ids[i], "name": names[i], "boxes": int((labels == i).sum()), **ap}
        rows.append(row | _point(operating_point.best(evaluation.ranked, index)))
    return rows


def _point(point: OperatingPoint | None) -> dict[str, float | None]:
    if point is None:
        return {"threshold": None, "precision": None, "recall": None, "f1": None}
    return point.as_dict()


def _print(result: Mapping[str, Any], images: int, folder: Path, split: str) -> None:
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
    figures = f"{split}_mAP {result[f'{split}_mAP']:.4f}, {split}_mAP50 {result[f'{split}_mAP50']:.4f}"
    print(f"{figures} on {number_of(images, 'image')}{_compared(result)}; files: {folder}")


def _compared(result: Mapping[str, Any]) -> str:
    """What is said of the second model."""
    if "beside" not in result:
        return ""
    apart = abs(result["difference"])
    more = f", and they differ by {apart:.4f}, more than {APART}: this is not what was scored"
    name, score = Path(result["beside"]["file"]).name, result["beside"]["mAP"]
    return f"; {name} has {score:.4f}{more if apart > APART else ''}"
