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

from model.deploy.points import Form, Point, Wish, ranked
from model.errors import ModelError, UserError
from model.spec import Spec, load, require
from model.status import Status, failure_told, results_folder

PRECISIONS = ("FP32", "FP16", "INT8")
TIMED_IMAGES = 16
HOLDS = (
    1.1  # times the limit, or what was measured first, that a chosen point may take when it is measured again
)
TRIES = 3  # points that may fail to hold before none is taken
MEASURED_BY = ("dec_layers", "num_queries", "sizes", "precisions", "calibration_images", "target")  # leaves


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
    from model.deploy import front_page, targets

    section = spec["deploy"]
    require(spec, "deploy.checkpoint")
    wish = Wish.of(section)
    targets.check(section["target"])
    detector, checkpoint = ckpt.build_from(section["checkpoint"], spec)
    forms = forms_of(section, detector, checkpoint)
    sources = _sources(spec)
    folder = results_folder(spec, "deploy")
    status = Status(folder, spec["model_name"])
    status.write("STARTED", "Starting deploy.")
    made = Maker(spec, detector, checkpoint)
    key = _key(spec, sources)
    points = _known(folder, key) or _measured(made, forms, sources)
    _write(folder, key, points)
    front_page.write(folder, points, None, section["target"], platform.processor() or platform.machine())
    for point in front_page.front(points):
        print(f"front: {front_page.line(point)}")
    chosen, again = _export(made, ranked(points, wish), wish, folder)
    front_page.write(folder, points, chosen, section["target"], platform.processor() or platform.machine())
    _write(folder, key, points, chosen, again)
    status.write("SUCCESS", "Deploy finished.", {"val_mAP": chosen.val_mAP, "latency_ms": chosen.latency_ms})
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
    return [
        Form(layer, count, *size, kind)
        for size in dict.fromkeys(sizes) for count in dict.fromkeys(queries)
        for kind in dict.fromkeys(section["precisions"]) for layer in dict.fromkeys(layers)
    ]  # fmt: skip


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
    from model.actions.evaluate import sources_of

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


def _measured(made: Maker, forms: Sequence[Form], sources: Mapping[str, Any]) -> list[Point]:
    """Score, then time, every form."""
    from model.actions.evaluate import load_data
    from model.deploy import scoring, shrink, targets, timing

    spec = made.spec
    data = {split: load_data(listed, spec, made.classes) for split, listed in sources.items()}
    files: dict[Form, Path] = {}
    scores: dict[str, dict[Form, tuple[float, float | None]]] = {split: {} for split in data}
    with tempfile.TemporaryDirectory(prefix="deploy-") as temporary:
        for height, width in dict.fromkeys((f.height, f.width) for f in forms):
            here = [f for f in forms if (f.height, f.width) == (height, width)]
            layers = list(dict.fromkeys(f.layers for f in here))
            kinds = list(dict.fromkeys(f.precision for f in here))
            whole: dict[tuple[int, str], Path] = {}
            for count in dict.fromkeys(f.queries for f in here):
                print(f"exporting {count} queries at {width}x{height}")
                folder = Path(temporary, f"{width}x{height}_{count}")
                several = made.files(folder, (height, width), count, layers, kinds)
                whole |= {(count, kind): path for kind, path in several.items()}
            for split, each in data.items():
                print(f"scoring {len(here)} points at {width}x{height} on {split}")
                found = scoring.score(whole, layers, (height, width), each, spec)
                scores[split] |= {f: found[(f.queries, f.precision), f.layers] for f in here}
            for form in here:
                source = whole[form.queries, form.precision]
                files[form] = source.with_name(f"{form.precision}_{form.layers}.onnx")
                shrink.cut(source, files[form], form.layers)
            for path in whole.values():
                path.unlink()
        opened = {form: targets.opener(spec["deploy"]["target"], path) for form, path in files.items()}
        times = timing.measure(
            opened, _timed_images(data["val"]), spec, spec["deploy"]["rounds"], spec["deploy"]["runs"]
        )
        sizes = {form: path.stat().st_size for form, path in files.items()}
    return [_point(form, scores, times[form], sizes[form]) for form in forms]


def _timed_images(data: Any) -> list[Path]:
    return [data.file(i) for i in range(min(TIMED_IMAGES, len(data)))]


def _point(form: Form, scores: Mapping[str, Any], times: Any, size: int) -> Point:
    mAP, threshold = scores["val"][form]
    test = scores["test"][form][0] if "test" in scores else None
    return Point(form, mAP, test, threshold, times.whole, times.low, times.high, times.network, size)


def _export(made: Maker, candidates: Sequence[Point], wish: Wish, folder: Path) -> tuple[Point, float]:
    """Write the first point whose latency holds when it is measured again, and return it with that. Raises
    `ModelError` when TRIES have not."""
    from model.actions.evaluate import load_data
    from model.deploy import targets, timing

    spec, told = made.spec, []
    images = _timed_images(load_data(_sources(spec)["val"], spec, made.classes))
    for point in candidates[:TRIES]:
        path = _file_of(made, point, folder / ".model.onnx")
        opened = targets.opener(spec["deploy"]["target"], path)
        times = timing.measure({0: opened}, images, spec, spec["deploy"]["rounds"], spec["deploy"]["runs"])
        if times[0].whole <= HOLDS * (wish.latency_ms or point.latency_ms) or not wish.latency_ms:
            path.replace(folder / "model.onnx")
            return point, times[0].whole
        path.unlink()
        told.append(f"{point.form}: {point.latency_ms:.1f} ms, measured again {times[0].whole:.1f} ms")
        print(f"does not hold: {told[-1]}")
    raise ModelError(
        "no point holds its latency when it is measured again; other work on this machine? remove points.json and "
        "try again, or allow more:\n  " + "\n  ".join(told)
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
    folder: Path, key: str, points: Sequence[Point], chosen: Point | None = None, again: float | None = None
) -> None:
    document = {"key": key, "chosen": chosen.row() if chosen else None, "again_ms": again}
    text = json.dumps(document | {"points": [p.row() for p in points]}, indent=1)
    (folder / "points.json").write_text(text + "\n")
