"""Export, engines, quantization and inference on an untrained tiny network with its degenerate start broken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from model.actions import export, gen_trt_engine, inference, quantize
from model.deploy import engine as engines
from model.deploy import onnx_export
from model.deploy.onnx_export import LeanDetector
from model.deploy.precision import bits_of, chosen, matching, to_int8_weights
from model.deploy.runners import OrtRunner
from model.errors import ModelError, NotRunnable, UserError
from model.spec import put
from tests.model.deployed import CLASSES, key_of, lively, spec_of


def test_the_file_is_opset_17_dynamic_and_equal_to_torch(each: tuple[Path, dict[str, Any]]) -> None:
    folder, sidecar = each
    graph = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert [o.version for o in graph.opset_import if o.domain == ""] == [17]
    assert {node.domain for node in graph.graph.node} == {""}  # no operator of ours
    assert not graph.functions
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert [o.name for o in graph.graph.output] == ["pred_logits", "pred_boxes"]
    assert max(sidecar["max_abs_logits"], sidecar["max_abs_boxes"]) <= 1e-4
    assert json.loads((folder / "model.json").read_text()) == sidecar
    assert sidecar["classes"] == CLASSES


def test_a_graph_is_kept_for_a_network_that_is_the_same_to_the_last_weight(tiny: dict[str, Any]) -> None:
    """As the tests keep them, see conftest.py."""
    detector = lively(tiny)
    own = key_of(LeanDetector(detector, 64, 64), True)
    assert key_of(LeanDetector(lively(tiny), 64, 64), True) == own
    others = [(LeanDetector(detector, *size), rest) for size, rest in (((64, 96), True), ((64, 64), False))]
    others.append((LeanDetector(detector, 64, 64, [1]), True))
    assert len({own, *(key_of(*other) for other in others)}) == 4
    with torch.no_grad():
        detector.transformer.level_embed[0, 0] += 1e-6
    assert key_of(LeanDetector(detector, 64, 64), True) != own


def test_the_graph_s_outputs_are_those_of_the_whole_detector(
    each: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = each
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(9))
    mask = torch.zeros(3, 64, 64, dtype=torch.bool)
    detector = lively(json.loads((folder / "partial.json").read_text()))
    got, chosen = OrtRunner(str(folder / "model.onnx")).infer(images, mask), None
    if detector.two_stage:
        (chosen,) = chosen_cells(folder / "model.onnx", images)
    with torch.no_grad():
        wanted = detector(images, mask, None, chosen)
    assert torch.allclose(got["pred_logits"], wanted["pred_logits"], atol=1e-4)
    assert torch.allclose(got["pred_boxes"], wanted["pred_boxes"], atol=1e-5)
    assert wanted["pred_boxes"].std() > 0.01  # else agreement would mean nothing


def chosen_cells(path: Path, images: torch.Tensor) -> list[torch.Tensor]:
    graph = onnx.load(path)
    graph.graph.output.append(onnx.ValueInfoProto(name="chosen_cells"))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(v) for v in session.run(["chosen_cells"], {"inputs": images.numpy()})]


def test_nodes_are_named_after_modules(made: tuple[Path, dict[str, Any]]) -> None:
    graph = onnx.load(made[0] / "model.onnx")
    assert matching(graph, ["*encoder.layers.0*"])
    assert matching(graph, ["*class_embed*"])
    assert matching(graph, ["transformer.encoder.layers.0.linear1"])  # a module, whatever its operators
    with pytest.raises(UserError, match="no node of the graph matches 'nothing"):
        matching(graph, ["nothing*"])


def test_an_existing_file_is_not_overwritten(made: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="exists already"):
        export.run(spec_of("export", made[0]))


@pytest.mark.parametrize(
    ("leaf", "value", "message"),
    [
        ("model.dec_layers", 3, "model.dec_layers: 2, 3"),
        ("export.opset_version", 11, "from 17 to 20"),
        ("export.format", "xdl", "must be onnx"),
        ("export.input_channel", 1, "must be 3"),
    ],
)
def test_refusals_of_export(made: tuple[Path, dict[str, Any]], leaf: str, value: Any, message: str) -> None:
    spec = spec_of("export", made[0])
    put(spec, leaf, value)
    put(spec, "export.onnx_file", str(made[0] / "other.onnx"))
    with pytest.raises(UserError, match=message):
        export.run(spec)
    assert not (made[0] / "other.onnx").exists()


def compared(made: tuple[Path, dict[str, Any]], graph: onnx.ModelProto) -> Any:
    onnx.save(graph, made[0] / "bent.onnx")
    detector = lively(json.loads((made[0] / "partial.json").read_text()))
    return onnx_export.compare(LeanDetector(detector, 64, 64), made[0] / "bent.onnx", (64, 64), (1, 3))


def test_a_file_that_differs_from_torch_is_refused(each: tuple[Path, dict[str, Any]]) -> None:
    graph = onnx.load(each[0] / "model.onnx")
    assert compared(each, graph)["max_abs_logits"] <= 1e-4
    for tensor in graph.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and "class_embed" in tensor.name:
            values = onnx.numpy_helper.to_array(tensor) + 0.01
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    with pytest.raises(ModelError, match="differs from torch"):
        compared(each, graph)


def test_a_two_stage_file_that_takes_other_cells_is_refused(two_stage: tuple[Path, dict[str, Any]]) -> None:
    """The outputs for the same choice are equal all the same."""
    graph = onnx.load(two_stage[0] / "model.onnx")
    (best,) = (node for node in graph.graph.node if node.op_type == "TopK")
    attributes = [a for a in best.attribute if a.name != "largest"]
    del best.attribute[:]
    best.attribute.extend([*attributes, onnx.helper.make_attribute("largest", 0)])
    with pytest.raises(ModelError, match="differs from torch"):
        compared(two_stage, graph)


def test_engine_without_tensorrt_says_what_is_missing(made: tuple[Path, dict[str, Any]]) -> None:
    if engines.available("tensorrt")[1] is None:
        pytest.skip("TensorRT is here")
    with pytest.raises(NotRunnable, match="this machine lacks"):
        gen_trt_engine.run(spec_of("gen_trt_engine", made[0]))


@pytest.mark.parametrize("kind", ["FP16", "INT8"])
def test_prepared_graphs_run_and_stay_near(each: tuple[Path, dict[str, Any]], demo: Path, kind: str) -> None:
    spec = spec_of("gen_trt_engine", each[0], gen_trt_engine__tensorrt__data_type=kind)
    put(spec, "gen_trt_engine.tensorrt.calibration.cal_image_dir", [str(demo / "train" / "images")])
    put(spec, "gen_trt_engine.tensorrt.calibration.cal_batches", 4)
    prepared = gen_trt_engine.prepare(spec, each[0] / "model.onnx", each[0] / "model.engine")
    assert prepared.name == f"model.{kind.lower()}.onnx"
    assert bits_of(prepared) == kind
    assert prepared.stat().st_size < (each[0] / "model.onnx").stat().st_size
    images, mask = torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.bool)
    a, b = (
        OrtRunner(str(p)).infer(images, mask)["pred_logits"].sigmoid().sort(dim=1).values
        for p in (each[0] / "model.onnx", prepared)
    )
    assert (a - b).abs().max() < (0.02 if kind == "FP16" else 0.2)


def test_a_graph_in_fewer_bits_is_not_made_again(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    half = spec_of("gen_trt_engine", made[0], gen_trt_engine__tensorrt__data_type="FP16")
    source = gen_trt_engine.prepare(half, made[0] / "model.onnx", tmp_path / "m.engine")
    before = source.read_bytes()
    assert gen_trt_engine.prepare(half, source, tmp_path / "m.engine") == source
    whole = spec_of("gen_trt_engine", made[0], gen_trt_engine__tensorrt__data_type="INT8")
    with pytest.raises(UserError, match="data_type is INT8, but the weights of .* are FP16"):
        gen_trt_engine.prepare(whole, source, tmp_path / "m.engine")
    with pytest.raises(UserError, match="must have weights in FP32, .* are FP16"):
        quantize.run(spec_of("quantize", made[0], quantize__model_path=str(source)))
    assert source.read_bytes() == before


@pytest.mark.parametrize(("source", "engine"), [("m.onnx", "m.onnx"), ("m.fp16.onnx", "m.engine")])
def test_an_engine_is_not_written_onto_its_graph(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, source: str, engine: str
) -> None:
    shutil.copy(made[0] / "model.onnx", tmp_path / source)
    spec = spec_of("gen_trt_engine", made[0], gen_trt_engine__tensorrt__data_type="FP16")
    put(spec, "gen_trt_engine.onnx_file", str(tmp_path / source))
    put(spec, "gen_trt_engine.trt_engine", str(tmp_path / engine))
    with pytest.raises(UserError, match="which is gen_trt_engine.onnx_file; give another name"):
        gen_trt_engine.run(spec)
    assert (tmp_path / source).read_bytes() == (made[0] / "model.onnx").read_bytes()


def test_too_few_calibration_images(made: tuple[Path, dict[str, Any]], demo: Path) -> None:
    spec = spec_of("gen_trt_engine", made[0], gen_trt_engine__tensorrt__data_type="INT8")
    put(spec, "gen_trt_engine.tensorrt.calibration.cal_image_dir", [str(demo / "val" / "images")])
    calibration = spec["gen_trt_engine"]["tensorrt"]["calibration"]
    calibration |= {"cal_batches": 20, "cal_batch_size": 2}
    with pytest.raises(UserError, match="needs 40 images"):
        gen_trt_engine.prepare(spec, made[0] / "model.onnx", made[0] / "model.engine")


def test_the_cache_keeps_ranges_while_nothing_changes(
    made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "deep" / "ranges.json"
    spec = spec_of("gen_trt_engine", made[0], gen_trt_engine__tensorrt__data_type="INT8")
    calibration = spec["gen_trt_engine"]["tensorrt"]["calibration"]
    calibration |= {"cal_image_dir": [str(demo / "train" / "images")], "cal_cache_file": str(cache)}

    def prepared(name: str, images: int = 2) -> bytes:
        calibration["cal_batches"] = images
        return gen_trt_engine.prepare(spec, made[0] / "model.onnx", tmp_path / name).read_bytes()

    first = prepared("a.engine")
    ranges = json.loads(cache.read_text())
    stamp = cache.stat().st_mtime_ns
    assert prepared("b.engine") == first
    assert cache.stat().st_mtime_ns == stamp  # read, not written
    assert prepared("c.engine", images=3) != first
    assert json.loads(cache.read_text()) != ranges
    put(spec, "dataset.augmentation.input_mean", [0.0, 0.0, 0.0])
    before = cache.read_text()
    prepared("d.engine", images=3)
    assert cache.read_text() != before
    (tmp_path / "theirs.cache").write_text("TRT-8601-EntropyCalibration2")
    calibration["cal_cache_file"] = str(tmp_path / "theirs.cache")
    with pytest.raises(UserError, match="no calibration cache of this program"):
        prepared("e.engine")
    assert (tmp_path / "theirs.cache").read_text().startswith("TRT")


@pytest.mark.parametrize("kind", ["FP16", "INT8"])
def test_layers_precision_acts(
    made: tuple[Path, dict[str, Any]],
    demo: Path,
    tmp_path: Path,
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = spec_of("gen_trt_engine", made[0], gen_trt_engine__tensorrt__data_type=kind)
    tensorrt = spec["gen_trt_engine"]["tensorrt"]
    tensorrt["calibration"]["cal_image_dir"] = [str(demo / "train" / "images")]
    sizes = []
    for layers_precision in ([], ["backbone*:fp32"], ["*:fp32"]):
        tensorrt["layers_precision"] = layers_precision
        if kind == "INT8" and layers_precision == ["*:fp32"]:
            with pytest.raises(UserError, match="no layer to quantize"):
                gen_trt_engine.prepare(spec, made[0] / "model.onnx", tmp_path / "m.engine")
            continue
        prepared = gen_trt_engine.prepare(spec, made[0] / "model.onnx", tmp_path / "m.engine")
        sizes.append(prepared.stat().st_size)
    assert sizes == sorted(set(sizes))  # more and more of it stays large
    tensorrt |= {"layers_precision": ["nothing*:fp32"]}
    with pytest.raises(UserError, match="no node of the graph matches 'nothing"):
        gen_trt_engine.prepare(spec, made[0] / "model.onnx", tmp_path / "m.engine")
    tensorrt |= {"layers_precision": ["*:fp32"], "data_type": "FP32"}
    gen_trt_engine.prepare(spec, made[0] / "model.onnx", tmp_path / "m.engine")
    assert "layers_precision has no effect: FP32 has nothing to keep" in capsys.readouterr().out


def test_batch_profile_must_ascend(made: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="min <= opt <= max"):
        gen_trt_engine.run(spec_of("gen_trt_engine", made[0], gen_trt_engine__tensorrt__min_batch_size=4))


def test_a_fixed_batch_and_another_profile_are_refused(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    graph = onnx.load(made[0] / "model.onnx")
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(graph, tmp_path / "two.onnx")
    spec = spec_of("gen_trt_engine", made[0], gen_trt_engine__onnx_file=str(tmp_path / "two.onnx"))
    with pytest.raises(UserError, match=r"fixed batch of 2, .* but got \(1, 1, 1\)"):
        gen_trt_engine.run(spec)
    assert engines.batch_profile(spec["gen_trt_engine"] | {"batch_size": 2}, 2) == (2, 2, 2)


def test_targets_that_rtx_does_not_know(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    spec = spec_of("gen_trt_engine", made[0], gen_trt_engine__builder="tensorrt_rtx")
    put(spec, "gen_trt_engine.trt_engine", str(tmp_path / "m.engine"))
    put(spec, "gen_trt_engine.rtx_targets", ["SM90"])
    with pytest.raises(UserError, match=r"rtx_targets must hold .*SM89.* but got SM90"):
        gen_trt_engine.run(spec)


@pytest.mark.parametrize("kind", ["FP32", "FP16", "INT8", "weights"])
def test_nvidia_s_parser_and_builder_take_the_file(
    each: tuple[Path, dict[str, Any]], demo: Path, kind: str
) -> None:
    pytest.importorskip("tensorrt_rtx")
    source, data_type = each[0] / "model.onnx", kind
    if kind == "weights":
        source, data_type = each[0] / "weights.onnx", "INT8"
        to_int8_weights(each[0] / "model.onnx", source, chosen(onnx.load(each[0] / "model.onnx"), [], []))
    spec = spec_of(
        "gen_trt_engine", each[0], gen_trt_engine__builder="tensorrt_rtx", gen_trt_engine__onnx_file=str(source),
        gen_trt_engine__trt_engine=str(each[0] / f"{kind}.engine"), gen_trt_engine__tensorrt__data_type=data_type,
    )  # fmt: skip
    put(spec, "gen_trt_engine.tensorrt.calibration.cal_image_dir", [str(demo / "train" / "images")])
    made_engine = gen_trt_engine.run(spec)
    assert made_engine["bytes"] > 100_000
    beside = json.loads((each[0] / f"{kind}.engine.json").read_text())
    assert beside["classes"] == CLASSES
    assert beside["builder"] == "tensorrt_rtx"
    assert engines.builder_of(str(each[0] / f"{kind}.engine")) == "tensorrt_rtx"
    assert (each[0] / f"{kind}.engine").stat().st_size == made_engine["bytes"]


@pytest.mark.parametrize("model", ["model.pth", "model.onnx"])
def test_inference_writes_pictures_and_labels(
    made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path, model: str
) -> None:
    spec = spec_of(
        "inference", made[0], inference__checkpoint=str(made[0] / model), inference__conf_threshold=0.0
    )
    put(spec, "inference.results_dir", str(tmp_path / "out"))
    put(spec, "dataset.infer_data_sources.image_dir", [str(demo / "test" / "images")])
    result = inference.run(spec)
    assert result["images"] == 4
    assert len(list((tmp_path / "out" / "images_annotated").iterdir())) == 4
    fields = (tmp_path / "out" / "labels" / "0001.txt").read_text().splitlines()[0].split()
    assert len(fields) == 16
    assert fields[0] in ("red_cell", "square", "triangle", "0")
    left, top, right, bottom = map(float, fields[4:8])
    assert 0 <= left <= right <= 64
    assert 0 <= top <= bottom <= 64


def test_inference_class_names_come_from_the_classmap(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "classes.txt").write_text("one\ntwo\nthree\n")
    spec = spec_of("inference", made[0])
    put(spec, "dataset.infer_data_sources.classmap", str(tmp_path / "classes.txt"))
    assert inference.class_names(spec, CLASSES) == {1: "one", 2: "two", 3: "three"}
    put(spec, "dataset.infer_data_sources.classmap", str(tmp_path / "none.txt"))
    with pytest.raises(UserError, match="does not exist"):
        inference.class_names(spec, CLASSES)


def test_a_class_has_one_colour_in_every_process() -> None:
    assert inference.own_colour("WBC") == (36, 242, 222) or inference.own_colour(
        "WBC"
    ) == inference.own_colour("WBC")
    assert inference.own_colour("WBC") != inference.own_colour("RBC")


def test_a_size_that_is_not_the_file_s_is_refused(made: tuple[Path, dict[str, Any]]) -> None:
    from model.deploy.runners import input_size

    spec = spec_of("inference", made[0], inference__input_height=128)
    with pytest.raises(UserError, match="must be 64 and 64"):
        input_size(OrtRunner(str(made[0] / "model.onnx")), spec, "inference")
