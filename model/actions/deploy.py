"""Operating points: smaller and faster forms of one checkpoint, scored and timed; the one that fits is exported."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.actions.evaluate import load_data, sources_of
from model.deploy import front_page, survey, targets, timing
from model.deploy.points import Form, Point, Wish, amount, ranked, slower
from model.errors import ModelError, UserError
from model.spec import Spec, load, require
from model.status import Status, failure_told, results_folder

PRECISIONS = ("FP32", "FP16", "INT8")
APART = (
    1.1  # times what was measured first that a point may take, measured again, unsaid; or the other way round
)
TRIES = 3  # points that may fail to hold the limit before none is taken
MEASURED_BY = (
    "dec_layers", "num_queries", "sizes", "precisions", "calibration_images", "target", "points", "max_time",
)  # leaves  # fmt: skip


def main(spec_path: str) -> None:
    """Measure and choose by the spec in a file."""
    run(load("deploy", spec_path))


@failure_told("deploy")
def run(spec: Spec) -> dict[str, Any]:
    """Writes points.json, points.svg, README.md and the chosen model.onnx; points that were measured before, of the
    same checkpoint, data and settings, are not measured again. Returns {"points": rows, "chosen": row, "again_ms"}.

    Raises `UserError` when no point fits, with the table written; `NotRunnable` for a target this machine lacks.
    """
    from model import checkpoint as ckpt

    section = spec["deploy"]
    require(spec, "deploy.checkpoint")
    wish, limit_ms = Wish.of(section), amount(section["max_time"], "deploy.max_time", ("s", "min", "h"))
    targets.check(section["target"])
    detector, checkpoint = ckpt.build_from(section["checkpoint"], spec)
    forms = forms_of(section, detector, checkpoint)
    sources = _sources(spec)
    folder = results_folder(spec, "deploy")
    status = Status(folder, spec["model_name"])
    status.write("STARTED", "Starting deploy.")
    made, key = Maker(spec, detector, checkpoint), _key(spec, sources)
    data = {split: load_data(listed, spec, made.classes) for split, listed in sources.items()}
    points = _known(folder, key) or survey.measured(made, forms, data, limit_ms and limit_ms / 1e3)
    _write(spec, folder, key, points)
    for point in front_page.front(points):
        print(f"front: {front_page.line(point)}")
    chosen, again = _export(made, points, wish, folder, survey.timed_images(data["val"]))
    _write(spec, folder, key, points, chosen, again)
    status.write("SUCCESS", "Deploy finished.", {"val_mAP": chosen.val_mAP, "latency_ms": again})
    print(f"{len(points)} points: {folder / 'README.md'}")
    print(f"chosen: {front_page.line(chosen)}; measured again {again:.1f} ms; file: {folder / 'model.onnx'}")
    return {"points": [p.row() for p in points], "chosen": chosen.row(), "again_ms": again}


def forms_of(section: Mapping[str, Any], detector: Any, checkpoint: Mapping[str, Any]) -> list[Form]:
    """Every combination that the spec asks for. Raises `UserError` for one that the network has not."""
    from model.actions.export import FALLBACK, validated_size

    deepest, most = len(detector.transformer.decoder.layers), detector.num_queries
    layers = section["dec_layers"] or sorted({-(-deepest * k // 3) for k in (1, 2, 3)}, reverse=True)
    queries = section["num_queries"] or sorted({max(1, most // k) for k in (1, 2, 4)}, reverse=True)
    for name, values, top in (("dec_layers", layers, deepest), ("num_queries", queries, most)):
        if not all(1 <= v <= top for v in values):
            raise UserError(f"deploy.{name} must be from 1 to {top}, what the network has, but got {values}")
    if unknown := set(section["precisions"]) - set(PRECISIONS) or not section["precisions"]:
        raise UserError(f"deploy.precisions must be of {', '.join(PRECISIONS)}, but got {unknown or 'none'}")
    height, width = validated_size(checkpoint) or FALLBACK
    sizes = [_size(text) for text in section["sizes"]] or [(height, width), (_part(height), _part(width))]
    found = [
        Form(layer, count, *size, kind)
        for size in dict.fromkeys(sizes) for count in dict.fromkeys(queries)
        for kind in dict.fromkeys(section["precisions"]) for layer in dict.fromkeys(layers)
    ]  # fmt: skip
    return survey.spread(found, section["points"]) if section["points"] else found


def _part(side: int) -> int:
    """Three quarters of a side, a multiple of 32 px."""
    return max(32, round(side * 0.75 / 32) * 32)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or min(int(v) for v in match.groups()) < 32:
        raise UserError(f"deploy.sizes must hold WIDTHxHEIGHT from 32 px, such as 640x480, but got '{text}'")
    return int(match[2]), int(match[1])


def _sources(spec: Spec) -> dict[str, list[dict[str, str]]]:
    """{split: sources} of what is scored; validation must be there, test may."""
    found = {"val": sources_of(spec | {"evaluate": {"split": "val"}})}
    test = spec["dataset"]["test_data_sources"]
    return found | ({"test": [test]} if test.get("json_file") and test.get("image_dir") else {})


class Maker:
    """Makes the files of forms: one export for a size and a number of queries, then number formats, then layers."""

    def __init__(self, spec: Spec, detector: Any, checkpoint: Mapping[str, Any]) -> None:
        from model.deploy import card

        self.spec, self.detector, self.classes = spec, detector, checkpoint["classes"]
        own = card.of_checkpoint(checkpoint, spec["deploy"]["checkpoint"])
        self.card = replace(own, num_select=spec["model"]["num_select"])
        card.check(self.card, spec, spec["deploy"]["checkpoint"])
        self.order: Any = None  # of learned queries, when it is needed

    def images(self, size: tuple[int, int]) -> Any:
        """Those that calibrate. Raises `UserError` when there is none."""
        from model.deploy.calibration import drawn

        folders = [s["image_dir"] for s in self.spec["dataset"]["train_data_sources"] if s.get("image_dir")]
        if not folders:
            raise UserError(
                "dataset.train_data_sources must name the images that calibrate deploy.precisions INT8"
            )
        return drawn(folders, self.spec, size, self.spec["deploy"]["calibration_images"], at_most=True)

    def files(
        self,
        folder: Path,
        size: tuple[int, int],
        queries: int,
        layers: Sequence[int],
        precisions: Sequence[str],
    ) -> dict[str, Path]:
        """{number format: file} with the predictions of all layers."""
        from model.deploy import shrink

        folder.mkdir(parents=True, exist_ok=True)
        smaller = self.detector
        if queries < self.detector.num_queries:
            if self.order is None and not self.detector.two_stage:
                self.order = shrink.usefulness(self.detector, self.images(size))
            smaller = shrink.with_queries(self.detector, queries, self.order)
        images = self.images(size) if "INT8" in precisions else None
        return shrink.make(smaller, folder, size, layers, self.card, precisions, images)


def _export(
    made: Maker, points: Sequence[Point], wish: Wish, folder: Path, images: Sequence[Path]
) -> tuple[Point, float]:
    """Write the first point that keeps the limit when it is measured again, and return it with that latency; after one
    that does not, those are tried that would, were they as much slower as it was. Raises `ModelError` when none does.
    """
    candidates, worse = ranked(points, wish), 1.0
    told: list[str] = []
    while candidates and len(told) < TRIES:
        point, *candidates = candidates
        path = _file_of(made, point, folder / ".model.onnx")
        again = _again(made.spec, path, images)
        if wish.latency_ms is None or again <= wish.latency_ms:
            path.replace(folder / "model.onnx")
            _say_apart(point, again)
            return point, again
        path.unlink()
        told.append(f"{point.form}: {point.latency_ms:.1f} ms, measured again {again:.1f} ms")
        print(f"does not hold: {told[-1]}")
        worse = max(worse, slower(point, again))
        candidates = [p for p in candidates if p.latency_ms * worse <= wish.latency_ms]
    raise ModelError(
        f"no point holds {wish.latency_ms:g} ms when it is measured again; other work on this machine? remove "
        "points.json and try again, or allow more:\n  " + "\n  ".join(told)
    )


def _again(spec: Spec, path: Path, images: Sequence[Path]) -> float:
    """ms an image, measured alone."""
    opened = targets.opener(spec["deploy"]["target"], path)
    return timing.measure({0: opened}, images, spec, spec["deploy"]["rounds"], spec["deploy"]["runs"])[
        0
    ].whole


def _say_apart(point: Point, again: float) -> None:
    times = slower(point, again)
    if not 1 / APART <= times <= APART:
        print(
            f"warning: measured again it took {again:.1f} ms, {times:.2f} times the {point.latency_ms:.1f} ms of the "
            "table: what else this machine does counts; remove points.json to measure all anew when it is idle"
        )


def _file_of(made: Maker, point: Point, path: Path) -> Path:
    """The form's file, with its own threshold in its card."""
    import onnx

    from model.deploy import card, shrink

    form, size = point.form, (point.form.height, point.form.width)
    with tempfile.TemporaryDirectory(prefix="deploy-") as temporary:
        several = made.files(Path(temporary), size, form.queries, [form.layers], [form.precision])
        path.parent.mkdir(parents=True, exist_ok=True)
        shrink.cut(several[form.precision], path, form.layers)
    graph = onnx.load(path)
    metrics = {
        name: v for name, v in (("val_mAP", point.val_mAP), ("test_mAP", point.test_mAP)) if v is not None
    }
    trained = made.card.trained | {"form": str(form), "metrics": metrics}
    card.write_into(graph, replace(made.card, size=size, threshold=point.threshold, trained=trained))
    onnx.save(graph, path)
    return path


def _key(spec: Spec, sources: Mapping[str, Any]) -> str:
    """A digest of all that the points follow from."""
    section = spec["deploy"]
    files = {str(Path(s["json_file"]).resolve()) for listed in sources.values() for s in listed}
    stamps = [[f, Path(f).stat().st_mtime_ns] for f in sorted(files) if Path(f).is_file()]
    said = [
        {name: section[name] for name in MEASURED_BY},
        stamps,
        spec["model"]["num_select"],
        platform.node(),
    ]
    digest = hashlib.sha256(Path(section["checkpoint"]).read_bytes())
    digest.update(json.dumps(said, sort_keys=True).encode())
    return digest.hexdigest()


def _known(folder: Path, key: str) -> list[Point]:
    """The points of an earlier time, none when they are of something else."""
    path = folder / "points.json"
    try:
        document = json.loads(path.read_text())
        points = [Point.of(row) for row in document["points"]] if document["key"] == key else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if points:
        print(f"{len(points)} points as measured before: {path}; remove it to measure anew")
    return points


def _write(
    spec: Spec, folder: Path, key: str, points: Sequence[Point], chosen: Point | None = None, again: float | None = None
) -> None:  # fmt: skip
    """points.json, and the page with its picture."""
    document = {"key": key, "chosen": chosen.row() if chosen else None, "again_ms": again}
    text = json.dumps(document | {"points": [p.row() for p in points]}, indent=1)
    (folder / "points.json").write_text(text + "\n")
    machine = platform.processor() or platform.machine()
    front_page.write(folder, points, chosen, again, spec["deploy"]["target"], machine)
