"""INT8 graphs: what is quantized, by what, and what of the settings acts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from model.actions import gen_trt_engine, quantize
from model.deploy import calibration
from model.deploy.precision import chosen, to_int8_weights
from model.deploy.runners import OrtRunner
from model.errors import NotRunnable, UserError
from model.spec import put, resolve
from tests.model.deployed import spec_of


def spec_for(made: tuple[Path, dict[str, Any]], demo: Path, out: Path, **leaves: Any) -> dict[str, Any]:
    spec = spec_of("quantize", made[0], **{f"quantize__{k}": v for k, v in leaves.items()})
    put(spec, "dataset.quant_calibration_data_sources.image_dir", str(demo / "train" / "images"))
    put(spec, "quantize.results_dir", str(out))
    return spec


def quantizers(path: str | Path) -> dict[str, int]:
    """{name of a quantized tensor's scale: number of scales}."""
    graph = onnx.load(path).graph
    sizes = {t.name: int(np.prod(t.dims)) for t in graph.initializer}
    return {n.input[1]: sizes[n.input[1]] for n in graph.node if n.op_type == "DequantizeLinear"}


def scales(path: str | Path) -> list[float]:
    graph = onnx.load(path).graph
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    names = sorted({n.input[1] for n in graph.node if n.op_type == "QuantizeLinear"})
    return [float(values[n].max()) for n in names]


@pytest.mark.parametrize("mode", ["weight_only_ptq", "static_ptq"])
def test_it_runs_as_handed_over_and_reports_the_drift(
    each: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path, mode: str
) -> None:
    drift = quantize.run(spec_for(each, demo, tmp_path, mode=mode))
    assert drift["calibration_images"] == 12  # all there are, of the 100 by default
    assert drift["compared_on"] == "8 images"
    assert 0 < drift["logits_relative_l2"] < (0.5 if mode == "static_ptq" else 0.05)
    assert drift["bytes"] < 0.5 * drift["bytes_before"]
    assert json.loads((tmp_path / "drift.json").read_text()) == drift
    graph = onnx.load(drift["file"]).graph
    assert {n.domain for n in graph.node} == {""}
    activations = any(n.op_type == "QuantizeLinear" for n in graph.node)
    assert activations == (mode == "static_ptq")
    assert not any("class_embed" in n.name for n in graph.node if n.op_type == "DequantizeLinear")


def test_only_images_that_training_uses_calibrate(
    own_demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the annotations, where splits share a folder and masks lie in it, but for damaged ones, which fail
    nothing; without annotations all of a folder that can be read."""
    folder, names = own_demo / "train" / "images", sorted(os.listdir(own_demo / "train" / "images"))
    annotations = json.loads((own_demo / "train" / "annotations.json").read_text())
    kept = [row for row in annotations["images"] if row["file_name"] in names[:8]]
    ids = {row["id"] for row in kept}
    boxes = [row for row in annotations["annotations"] if row["image_id"] in ids]
    (tmp_path / "a.json").write_text(json.dumps(annotations | {"images": kept, "annotations": boxes}))
    (folder / names[0]).write_bytes((folder / names[0]).read_bytes()[:200])
    spec = resolve("quantize", {"dataset": {"mended_share": 0.2}})
    source = {"image_dir": str(folder), "json_file": str(tmp_path / "a.json")}
    found = calibration.drawn([source], spec, (64, 64), 100, at_most=True)
    assert sorted(path.name for path in found.paths) == names[1:8]
    assert capsys.readouterr().out == ""
    found = calibration.drawn([{"image_dir": str(folder)}], spec, (64, 64), 11)
    assert sorted(path.name for path in found.paths) == names[1:]
    assert f"{names[0]} cannot be read as an image" in capsys.readouterr().out
    with pytest.raises(
        UserError, match=r"needs 12 images, but .* hold 11 that can be read: .*cannot be read"
    ):
        calibration.drawn([{"image_dir": str(folder)}], spec, (64, 64), 12)
    spec["dataset"]["max_image_pixels"] = 4095
    with pytest.raises(UserError, match="hold 0 that can be read: .*64x64 px are more than"):
        calibration.drawn([{"image_dir": str(folder)}], spec, (64, 64), 1)


def test_training_images_that_calibrate_must_have_their_annotations(demo: Path, tmp_path: Path) -> None:
    source = {"image_dir": str(demo / "train" / "images"), "json_file": str(tmp_path / "gone.json")}
    with pytest.raises(
        UserError, match=r"the images that calibrate are not there: .*gone\.json; name others by"
    ):
        quantize._sources(resolve("quantize", {"dataset": {"train_data_sources": [source]}}))


def test_folders_of_training_calibrate_an_engine_by_their_annotations() -> None:
    source = {"image_dir": "/data/images", "json_file": "/data/train.json"}
    spec = resolve("gen_trt_engine", {"dataset": {"train_data_sources": [source]}})
    other = {"image_dir": "/data/more"}
    assert gen_trt_engine._sources(spec, ["/data/images", "/data/more"]) == [source, other]


def test_a_graph_of_a_fixed_batch(made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path) -> None:
    """Of the same ranges as the one of any batch, which it is but for its input's shape."""
    model = onnx.load(made[0] / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, tmp_path / "two.onnx")
    for name, path in (("any", made[0] / "model.onnx"), ("two", tmp_path / "two.onnx")):
        quantize.run(spec_for(made, demo, tmp_path / name, model_path=str(path), max_drop=None))
    any_batch, two = (scales(next((tmp_path / name).glob("*.int8.onnx"))) for name in ("any", "two"))
    assert len(any_batch) > 10
    assert two == pytest.approx(any_batch, rel=1e-4)


def test_a_checkpoint_takes_the_file_exported_from_it(
    made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path
) -> None:
    spec = spec_for(made, demo, tmp_path, mode="weight_only_ptq", model_path=str(made[0] / "model.pth"))
    assert quantize.run(spec)["bytes_before"] == (made[0] / "model.onnx").stat().st_size
    assert not (tmp_path / "model.onnx").exists()


def test_weights_are_rounded_to_their_channel_s_scale(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    graph = onnx.load(made[0] / "model.onnx")
    nodes = chosen(graph, [], [])
    to_int8_weights(made[0] / "model.onnx", tmp_path / "w.onnx", nodes)
    made_graph = onnx.load(tmp_path / "w.onnx").graph
    old = {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}
    new = {t.name: onnx.numpy_helper.to_array(t) for t in made_graph.initializer}
    count = 0
    for node in made_graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        name, axis = node.output[0].rsplit("_dequantized_", 1)
        shape = [-1 if i == int(axis) else 1 for i in range(old[name].ndim)]
        scale = new[node.input[1]].reshape(shape)
        error = np.abs(new[node.input[0]] * scale - old[name])
        assert (error <= 0.501 * scale + 1e-12).all()
        assert name not in new  # the weight itself is gone
        count += 1
    assert count > 20
    images, mask = torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.bool)
    a, b = (OrtRunner(str(p)).infer(images, mask) for p in (made[0] / "model.onnx", tmp_path / "w.onnx"))
    assert (a["pred_logits"] - b["pred_logits"]).abs().max() < 0.2


def test_the_same_images_each_time(made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path) -> None:
    files = []
    for name, count in (("a", 3), ("b", 3), ("c", 4)):
        drift = quantize.run(spec_for(made, demo, tmp_path / name, calibration_images=count))
        assert drift["calibration_images"] == count
        files.append(scales(drift["file"]))
    assert files[0] == files[1] != files[2]


def test_algorithms_find_other_ranges(made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path) -> None:
    found = {}
    for algorithm in ("minmax", "max", "entropy", "percentile"):
        drift = quantize.run(
            spec_for(made, demo, tmp_path / algorithm, algorithm=algorithm, calibration_images=3)
        )
        found[algorithm] = scales(drift["file"])
    assert found["minmax"] == found["max"]
    assert len({tuple(v) for v in found.values()}) == 3
    assert sum(found["percentile"]) <= sum(found["minmax"])  # outliers are cut off


@pytest.mark.parametrize(
    ("layers", "skip", "inside", "outside"),
    [
        (["Linear"], [], "linear1", "backbone"),
        (["Conv2d"], [], "backbone", "linear1"),
        (["transformer.encoder*"], [], "encoder", "decoder"),
        (["class_embed*"], [], "class_embed", "encoder"),  # a head, when it is named
        ([{"module_name": "transformer.decoder.layers.1.linear1", "weights": {"dtype": "int8"}, "activations": {"dtype": "int8"}}], [], "decoder.layers.1.linear1", "linear2"),
        ([], ["backbone*"], "encoder", "backbone"),
    ],
)  # fmt: skip
def test_layers_and_skip_names(
    made: tuple[Path, dict[str, Any]], layers: list[Any], skip: list[str], inside: str, outside: str
) -> None:
    found = chosen(onnx.load(made[0] / "model.onnx"), quantize.layers_of(layers), skip)
    assert any(inside in name for name in found)
    assert not any(outside in name for name in found)


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        ({"skip_names": ["nothing*"]}, "no node of the graph matches 'nothing"),
        ({"layers": ["nothing*"]}, "no node of the graph matches 'nothing"),
        ({"layers": ["Conv2d"], "skip_names": ["*"]}, "no layer to quantize"),
        ({"layers": [{"module_name": "x", "weights": {"dtype": "fp8"}}]}, "must hold patterns"),
        ({"layers": [7]}, "must hold patterns"),
        ({"algorithm": "awq_lite"}, "which NVIDIA ModelOpt alone has"),
        ({"device": "tpu"}, "must be cpu, cuda or cuda:NUMBER"),
        ({"backend_kwargs": {"speed": 1}}, "backend_kwargs must hold .*reduce_range.*but got speed"),
        ({"backend_kwargs": {"calibrate_method": 1}}, "but got calibrate_method"),
        ({"backend_kwargs": {"weight_type": "int5"}}, "weight_type must be one of"),
        ({"backend_kwargs": {"reduce_range": True}, "mode": "weight_only_ptq"}, "must be empty for mode"),
    ],
)
def test_what_cannot_be_is_refused(
    made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path, leaves: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        quantize.run(spec_for(made, demo, tmp_path, **leaves))
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize("backend", ["torchao", "modelopt.onnx", "modelopt.pytorch"])
def test_backends_that_are_not_there_are_refused_before_work(
    made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path, backend: str
) -> None:
    with pytest.raises(NotRunnable, match=f"{backend}: .*use onnxruntime"):
        quantize.run(spec_for(made, demo, tmp_path / "out", backend=backend))
    assert not list((tmp_path / "out").glob("*.onnx"))


def test_static_needs_images(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must name the images that calibrate"):
        quantize.run(spec_of("quantize", made[0], quantize__results_dir=str(tmp_path / "out")))
    assert not list((tmp_path / "out").glob("*.onnx"))
    drift = quantize.run(
        spec_of("quantize", made[0], quantize__results_dir=str(tmp_path), quantize__mode="weight_only_ptq")
    )
    assert drift["compared_on"] == "noise"


def test_options_of_the_backend_act(made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path) -> None:
    few = {"calibration_images": 2}
    plain = quantize.run(spec_for(made, demo, tmp_path / "a", **few))
    one_scale = quantize.run(
        spec_for(made, demo, tmp_path / "b", backend_kwargs={"per_channel": False}, **few)
    )
    assert max(quantizers(plain["file"]).values()) > max(quantizers(one_scale["file"]).values()) == 1


def test_the_device_acts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Stand-in: ONNX Runtime with a GPU."""
    import onnxruntime

    assert quantize.providers(device="cpu") == ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert quantize.providers(device="cuda") == ["CPUExecutionProvider"]
        assert "the CPU calibrates" in capsys.readouterr().out
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert quantize.providers(device="cuda:1")[0] == ("CUDAExecutionProvider", {"device_id": 1})


def test_what_nvidia_s_backends_pass_over_is_passed_over(
    made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {"default_layer_dtype": "fp8_e4m3fn", "default_activation_dtype": "native"}
    quantize.run(spec_for(made, demo, tmp_path, mode="weight_only_ptq", **kinds))
    told = capsys.readouterr().out
    assert "warning: quantize.default_layer_dtype is fp8_e4m3fn, but has no effect" in told
    assert "default_activation_dtype" not in told
