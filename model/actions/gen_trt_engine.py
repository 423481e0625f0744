"""Build a TensorRT engine from ONNX: bake the number format into the graph, then build strongly typed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.errors import NotRunnable, UserError
from model.parameters import MANDATORY
from model.programs import typed
from model.spec import Spec, require
from model.spec_file import load
from model.status import Status, failure_told, results_folder


def main(spec_path: str) -> None:
    """Build the engine of the spec in a file."""
    run(load("gen_trt_engine", spec_path))


@failure_told("gen_trt_engine")
def run(spec: Spec) -> dict[str, Any]:
    """Writes `gen_trt_engine.trt_engine`, and beside it the prepared ONNX for FP16 and INT8.

    Raises `NotRunnable` (exit code 3), after the preparation, where TensorRT or a GPU is missing.
    """
    section = spec["gen_trt_engine"]
    require(spec, "gen_trt_engine.onnx_file", "gen_trt_engine.trt_engine")
    source, engine = Path(section["onnx_file"]), Path(section["trt_engine"])
    if not source.is_file():
        raise UserError(
            f"gen_trt_engine.onnx_file: {source} does not exist; run deformable_detr export first"
        )
    if source.suffix != ".onnx":
        words = shlex.join([f"export.checkpoint={source}", f"export.onnx_file={source.with_suffix('.onnx')}"])
        raise UserError(
            f"gen_trt_engine.onnx_file must be an .onnx file, but got {source}; one is made of a checkpoint by: "
            f"{typed('deformable_detr')} export {words}"
        )
    _refuse_to_overwrite(source, engine)
    from model.deploy import card
    from model.deploy import engine as engines

    batch, size = card.input_shape(source)
    engines.batch_profile(section, batch)
    _check_size(section, source, size)
    card.check(card.read(source), spec, str(source))
    builder = "tensorrt" if section["builder"] == "auto" else section["builder"]
    engines.choose_gpu(builder, section["gpu_id"])
    status = Status(results_folder(spec, "gen_trt_engine"), spec["model_name"])
    status.write("STARTED", "Starting the engine.")
    prepared = prepare(spec, source, engine)
    trt, missing = engines.available(builder)
    if missing:
        raise NotRunnable(
            f"this machine lacks {missing}; {prepared} is ready to build from where package and GPU are"
        )
    made = engines.build(trt, prepared, engine, section)
    status.write("SUCCESS", "Engine built.")
    print(f"{engine}: {made['bytes'] / 1e6:.1f} MB, {made['layers']} layers, {builder} {made['version']}")
    return made


def _check_size(section: Spec, source: Path, size: tuple[int, int]) -> None:
    """Raises `UserError` where the file's input is not what the spec says of it."""
    found = {"input_channel": 3, "input_height": size[0], "input_width": size[1]}
    for name, value in found.items():
        if section[name] not in (None, value):
            raise UserError(
                f"gen_trt_engine.{name} is {section[name]}, but the input of {source} has {value}: an engine has the "
                "size of its file; export again with export.input_height and export.input_width, or leave it out"
            )


def prepare(spec: Spec, source: Path, engine: Path) -> Path:
    """The ONNX that the builder gets: as it is for FP32, else `<engine>.<fp16|int8>.onnx`."""
    from model.deploy import calibration, card, precision

    tensorrt = spec["gen_trt_engine"]["tensorrt"]
    kind, kept = tensorrt["data_type"], patterns_of(tensorrt["layers_precision"])
    there = precision.bits_of(source)
    if kind not in ("FP32", there) and there != "FP32":
        raise UserError(
            f"gen_trt_engine.tensorrt.data_type is {kind}, but the weights of {source} are {there}; give "
            f"gen_trt_engine.onnx_file as deformable_detr export wrote it, or data_type {there}"
        )
    if kind in ("FP32", there):
        if kept["fp32"] or kept["fp16"]:
            what = "FP32 has nothing to keep" if kind == "FP32" else f"{source} is {there} already"
            print(f"warning: gen_trt_engine.tensorrt.layers_precision has no effect: {what}")
        return source
    target = engine.with_suffix(f".{kind.lower()}.onnx")
    _refuse_to_overwrite(source, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if kind == "FP16":
        precision.to_fp16(source, target, kept["fp32"])
        return target
    section = tensorrt["calibration"]
    if section["cal_image_dir"] in (MANDATORY, []):
        raise UserError("gen_trt_engine.tensorrt.calibration.cal_image_dir must be given for INT8")
    images = calibration.drawn(
        _sources(spec, section["cal_image_dir"]),
        spec,
        card.input_shape(source)[1],
        section["cal_batch_size"] * section["cal_batches"],
    )
    nodes = precision.chosen(precision.onnx.load(source), [], [*kept["fp32"], *kept["fp16"]])
    cache = section["cal_cache_file"]
    ranges = None if cache in ("", MANDATORY) else Path(cache)
    precision.to_int8(source, target, images, nodes, cache=ranges)
    return target


def _refuse_to_overwrite(source: Path, written: Path) -> None:
    if written.exists() and written.samefile(source):
        raise UserError(
            f"gen_trt_engine.trt_engine: {written} would be written, which is gen_trt_engine.onnx_file; give another "
            "name"
        )


def _sources(spec: Spec, folders: Sequence[str]) -> list[dict[str, str]]:
    """Of a folder that training reads, its annotations too, for other splits may share it."""
    train = spec["dataset"]["train_data_sources"]
    found = [
        [s for s in train if s.get("image_dir") == folder] or [{"image_dir": folder}] for folder in folders
    ]
    return [source for each in found for source in each]


def patterns_of(entries: list[str]) -> dict[str, list[str]]:
    """`["encoder*:fp32"]` -> {"fp32": ["encoder*"], "fp16": []}. Raises `UserError` for another precision."""
    found: dict[str, list[str]] = {"fp32": [], "fp16": []}
    for entry in entries:
        pattern, _, kind = entry.rpartition(":")
        if not pattern or kind.lower() not in found:
            raise UserError(
                f"gen_trt_engine.tensorrt.layers_precision: '{entry}' must be PATTERN:fp32 or PATTERN:fp16"
            )
        found[kind.lower()].append(pattern)
    return found
