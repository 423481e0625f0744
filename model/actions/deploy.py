"""Operating points: smaller and faster forms of one checkpoint, scored and timed; the one that fits is exported."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shlex
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model import elastic
from model.actions.evaluate import load_data, sources_of
from model.data.coco import Options
from model.data.sources import digest
from model.deploy import front_page, handed, survey, targets, timing
from model.deploy.measurements import Measurements
from model.deploy.points import Form, Point, Wish, limits, ranked, slower, told_ms
from model.errors import ModelError, UserError, number_of
from model.programs import typed
from model.spec import Spec, require
from model.spec_file import load
from model.status import Status, failure_told, results_folder
from model.told import told

PRECISIONS = ("FP32", "FP16", "INT8")
READING = "reading checkpoint and data"
APART = (
    1.1  # times what was measured first that a point may take, measured again, unsaid; or the other way round
)
# times the limit that the fastest may have taken to be worth a file and a second look: four programs beside it on two
# cores made a network's 0.8 s 4.0 s, more was not seen
NEAR = 4.0
TRIES = 3  # points that are measured again before one of them is taken, or none
MEASURED_BY = ("calibration_images", "target")  # leaves


def main(spec_path: str) -> None:
    """Measure and choose by the spec in a file."""
    run(load("deploy", spec_path))


@failure_told("deploy")
def run(spec: Spec) -> dict[str, Any]:
    """Writes points.json, points.svg, README.md and the chosen model.onnx; measured.json keeps what was measured of the
    same checkpoint, data and hardware, which is not measured again. Returns what points.json holds.

    Raises `UserError` when no point fits, with the table written; `NotRunnable` for a target this machine lacks.
    """
    from model.build import build_from

    section = spec["deploy"]
    wish, limit_ms = check(spec)
    pace = survey.Pace(0, 0, section["rounds"], limit_ms and limit_ms / 1e3)
    print(READING, flush=True)  # what was imported before it has taken seconds
    with told(READING):
        detector, checkpoint = build_from(section["checkpoint"], spec)
        forms = forms_of(section, detector, checkpoint)
        sources = _sources(spec)
        folder = results_folder(spec, "deploy")
        status = Status(folder, spec["model_name"])
        status.write("STARTED", "Starting deploy.")
        made = Maker(spec, detector, checkpoint)
        kept = Measurements.read(folder / "measured.json", _key(spec, sources))
        data = {split: load_data(listed, spec, made.classes) for split, listed in sources.items()}
    _measure(made, forms, data, kept, pace)
    table = handed.Table(folder, kept.key, forms, section["target"])
    table.write(kept)
    try:
        chosen = _export(made, table, kept, wish, pace, survey.timed_images(data["val"]))
    finally:  # by what was measured last, also where nothing was chosen
        for point in front_page.front(table.points(kept)):
            print(f"front: {front_page.line(point)}")
    status.write("SUCCESS", "Deploy finished.", {"val_mAP": chosen.val_mAP, "latency_ms": chosen.ms})
    print(f"{len(table.points(kept))} of {number_of(len(forms), 'point')}: {folder / 'README.md'}")
    file = targets.own_form(section["target"], table.model)
    print(f"chosen: {front_page.line(chosen)}; file: {file}")
    pictures = list(sources.values())[-1][0]["image_dir"]
    words = shlex.join(["inference", "--checkpoint", str(file), str(pictures)])
    print(f"next: {typed('deformable_detr')} {words}")
    return table.document(kept, chosen)


def check(spec: Spec) -> tuple[Wish, float | None]:
    """(what is wished, the limit of time in ms), of a spec that can be followed by all that is told without reading a
    file. Raises `UserError`, `NotRunnable`."""
    section = spec["deploy"]
    require(spec, "deploy.checkpoint")
    found = limits(section)
    for text in section["sizes"]:
        _size(text)
    if unknown := set(section["precisions"]) - set(PRECISIONS) or not section["precisions"]:
        raise UserError(f"deploy.precisions must be of {', '.join(PRECISIONS)}, but got {unknown or 'none'}")
    targets.check(section["target"])
    return found


def _measure(
    made: Maker, forms: Sequence[Form], data: Mapping[str, Any], kept: Measurements, pace: survey.Pace
) -> None:
    """What is asked for and not known yet; what is known, and what stays unknown, is said."""
    count = made.spec["deploy"]["points"]
    asked = survey.spread(forms, count) if count else forms
    lacking = [form for form in asked if form not in kept.points]
    if known := len([form for form in forms if form in kept.points]):
        print(f"{number_of(known, 'point')} as measured before: {kept.path}; remove it to measure anew")
    pace.units, pace.points, pace.cost, pace.needed = (
        len(survey.units(lacking)),
        len(lacking),
        kept.cost,
        not known,
    )
    survey.measured(made, lacking, data, kept, pace)
    if left := [form for form in asked if form not in kept.points]:
        print(
            f"the table is not whole, it lacks {number_of(len(left), 'point')}; the same command, with more "
            "time, goes on"
        )


def forms_of(section: Mapping[str, Any], detector: Any, checkpoint: Mapping[str, Any]) -> list[Form]:
    """Every combination that the spec asks for. Raises `UserError` for one that the network has not."""
    from model.actions.export import FALLBACK, validated_size

    deepest, most = len(detector.transformer.decoder.layers), detector.num_queries
    layers = section["dec_layers"] or elastic.depths(deepest)
    queries = section["num_queries"] or elastic.counts(most)
    for name, values, top in (("dec_layers", layers, deepest), ("num_queries", queries, most)):
        if not all(1 <= v <= top for v in values):
            raise UserError(f"deploy.{name} must be from 1 to {top}, what the network has, but got {values}")
    height, width = validated_size(checkpoint) or FALLBACK
    sizes = [_size(text) for text in section["sizes"]] or [
        (height, width),
        (elastic.part(height), elastic.part(width)),
    ]
    return [
        Form(layer, count, *size, kind)
        for size in dict.fromkeys(sizes) for count in dict.fromkeys(queries)
        for kind in dict.fromkeys(section["precisions"]) for layer in dict.fromkeys(layers)
    ]  # fmt: skip


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

        sources = [s for s in self.spec["dataset"]["train_data_sources"] if s.get("image_dir")]
        if not sources:
            raise UserError(
                "dataset.train_data_sources must name the images that calibrate deploy.precisions INT8"
            )
        return drawn(sources, self.spec, size, self.spec["deploy"]["calibration_images"], at_most=True)

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
    made: Maker, table: handed.Table, kept: Measurements, wish: Wish, pace: survey.Pace, images: Sequence[Path]
) -> Point:  # fmt: skip
    """Hand over the point that is meant by what was measured last: the first one is measured again and the choice made
    anew, until it falls on one that was. After one that does not keep the limit those are tried that would, were they
    as much slower as it was. Where none keeps it by what is known, the fastest is measured again before that is said,
    if it took at most `NEAR` times the limit. No second one is begun that by the forecast would end after the pace's
    limit. Raises `ModelError` when none does, `UserError` when none can."""
    place = table.folder / ".tried"
    shutil.rmtree(place, ignore_errors=True)  # of one that was killed
    try:
        return _tried(made, table, kept, wish, pace, images, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _tried(
    made: Maker, table: handed.Table, kept: Measurements, wish: Wish, pace: survey.Pace, images: Sequence[Path],
    place: Path,
) -> Point:  # fmt: skip
    tried: dict[Form, Path] = {}
    worse, refused = 1.0, not any(map(wish.fits, table.points(kept)))
    while point := _meant(table.points(kept), wish, tried, worse, TRIES if pace.fits_ending() else 1):
        if point.form in tried:
            table.hand_over(kept, point, tried[point.form])
            _say_apart(point, ranked(table.points(kept), wish)[0])
            return point
        if not tried:
            pace.say_ending()
        tried[point.form] = folder = place / str(len(tried))
        folder.mkdir(parents=True)
        point = _measured_again(made, table.target, point, folder, images)
        kept.add_points({point.form: point})
        if not wish.fits(point):
            print(f"does not hold: {_told(point)}")
            worse = max(worse, slower(point, point.ms))
    table.write(kept)
    if refused:
        ranked(table.points(kept), wish)  # says how near they come
    if len(tried) < TRIES and not pace.fits_ending() and any(map(wish.fits, table.points(kept))):
        print("deploy.max_time leaves no time to measure another again; the same command goes on with it")
    raise ModelError(
        "no point keeps what was asked for when its file is measured again; other work on this machine? remove "
        "measured.json and try again, or allow more:\n  "
        + "\n  ".join(_told(kept.points[form]) for form in tried)
    )


def _told(point: Point) -> str:
    return f"{point.form}: {told_ms(point)}, {point.bytes / 1e6:.6g} MB"


def _meant(
    points: Sequence[Point], wish: Wish, tried: Collection[Form], worse: float, most: int
) -> Point | None:
    """The point to hand over or, where it was not tried yet, to measure again first; after `most` one of the tried.
    None: nothing is left that may keep the limit. Raises `UserError` where nothing can."""
    if not any(map(wish.fits, points)):
        near = NEAR * (wish.latency_ms or 0)
        others = [p for p in points if p.ms <= near and replace(wish, latency_ms=None).fits(p)]
        if others and not tried:
            return min(others, key=lambda p: p.ms)
        return None if tried else ranked(points, wish)[0]

    def hopeful(p: Point) -> bool:
        return not wish.latency_ms or p.again_ms is not None or p.latency_ms * worse <= wish.latency_ms

    left = (p for p in ranked(points, wish) if p.form in tried or (len(tried) < most and hopeful(p)))
    return next(left, None)


def _measured_again(made: Maker, target: str, point: Point, folder: Path, images: Sequence[Path]) -> Point:
    """A point by its file, which is written into the folder and measured alone as the target runs it."""
    print("writing the chosen point", flush=True)
    with told("writing the chosen point"):
        path = targets.write_own_form(target, _file_of(made, point, folder / "model.onnx"))
    print("timing the chosen point again", flush=True)
    size = sum(each.stat().st_size for each in (path, path.with_suffix(".bin")) if each.is_file())
    return replace(point, again_ms=_again(made.spec, path, images), bytes=size)


def _again(spec: Spec, path: Path, images: Sequence[Path]) -> float:
    """ms an image, measured alone."""
    section = spec["deploy"]
    opened = targets.opener(section["target"], path)
    return timing.measure({0: opened}, images, spec, section["rounds"], section["runs"])[0].whole


def _say_apart(point: Point, first: Point) -> None:
    """`first`: what is meant by the numbers alone."""
    times = slower(point, point.ms)
    if not 1 / APART <= times <= APART:
        print(
            f"warning: measured again it took {point.ms:.1f} ms, {times:.2f} times the {point.latency_ms:.1f} ms that "
            "were measured first: what else this machine does counts; remove measured.json to measure all anew when it "
            "is idle"
        )
    if first != point:
        print(
            f"warning: {first.form} comes before it by its {first.ms:.1f} ms, but was not measured again this time"
        )


def _file_of(made: Maker, point: Point, path: Path) -> Path:
    """The form's file, which says of itself what the form measured."""
    from model.deploy import card, shrink

    form, size = point.form, (point.form.height, point.form.width)
    with tempfile.TemporaryDirectory(prefix="deploy-") as temporary:
        several = made.files(Path(temporary), size, form.queries, [form.layers], [form.precision])
        shrink.cut(several[form.precision], path, form.layers)
    metrics = {name: getattr(point, name) for name in ("val_mAP", "val_f1", "test_mAP")}
    own = card.in_form(made.card, str(form), metrics | {"val_threshold": point.threshold})
    card.put(path, replace(card.asked(own, made.spec["deploy"]["conf_threshold"]), size=size))
    return path


def _key(spec: Spec, sources: Mapping[str, Any]) -> str:
    """A digest of all that a point follows from: checkpoint, data and how they are read, hardware."""
    section, dataset = spec["deploy"], spec["dataset"]
    train = dataset["train_data_sources"]
    named = [s["json_file"] for listed in (*sources.values(), train) for s in listed if s.get("json_file")]
    files = {str(Path(file).resolve()) for file in named}
    stamps = [[f, Path(f).stat().st_mtime_ns] for f in sorted(files) if Path(f).is_file()]
    said = [
        digest(Path(section["checkpoint"])),
        {name: section[name] for name in MEASURED_BY},
        sources,
        train,
        [dataset["dataset_type"], dataset["eval_class_ids"], str(Options.of(spec))],
        stamps,
        spec["model"]["num_select"],
        platform.node(),
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
