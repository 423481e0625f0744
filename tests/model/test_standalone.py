"""The graph that stands alone: bytes of any size in, our inference's boxes, scores and labels out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from model.actions import export, gen_trt_engine, quantize
from model.deploy import card, standalone
from model.deploy.calibration import load_image
from model.deploy.infer import shrunk
from model.deploy.runners import OrtRunner
from model.errors import UserError
from model.postprocess import postprocess
from tests.model.choices import same_detections
from tests.model.deployed import spec_of

SHAPES = [
    (64, 64),
    (1, 1),
    (7, 300),
    (300, 7),
    (480, 640),
    (65, 63),
    (128, 128),
    (32, 32),
    (33, 200),
    (999, 40),
]
COUNT = 20  # drawn images


@pytest.fixture(scope="module")
def alone(
    made: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """(the file, its sidecar)."""
    path = tmp_path_factory.mktemp("alone") / "model.onnx"
    leaves = {"export__pre_post": True, "export__onnx_file": str(path)}
    return path, export.run(spec_of("export", made[0], **leaves))


def drawn(number: int) -> np.ndarray:
    """[H, W, 3] uint8: blocks of colour with noise on them."""
    random = np.random.default_rng(number)
    height, width = SHAPES[number % len(SHAPES)]
    blocks = random.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3)).repeat(9, 0).repeat(9, 1)
    noise = random.integers(-20, 20, (height, width, 3))
    return (blocks[:height, :width] + noise).clip(0, 255).astype(np.uint8)


def rows(boxes: Any, scores: Any, labels: Any) -> list[dict[str, Any]]:
    each = zip(boxes, scores, labels, strict=True)
    return [{"bbox": [float(v) for v in b], "score": float(s), "category_id": int(c)} for b, s, c in each]


def test_it_gives_what_our_inference_gives(
    made: tuple[Path, dict[str, Any]], alone: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Boxes to within a thousandth of a pixel on images of ten shapes; ours reads them from files."""
    import torch
    from PIL import Image

    plain, spec = OrtRunner(str(made[0] / "model.onnx")), spec_of("inference", made[0])
    session = onnxruntime.InferenceSession(str(alone[0]), providers=["CPUExecutionProvider"])
    for number in range(COUNT):
        image, file = drawn(number), tmp_path / f"{number}.png"
        Image.fromarray(image).save(file)
        pixels, original = load_image(file, spec, plain.size)
        outputs = plain.infer(torch.from_numpy(pixels)[None], torch.zeros(0))
        wanted = postprocess(outputs, [original], plain.card.num_select or 0)[0]
        boxes, scores, labels = session.run(list(standalone.OUTPUTS), {standalone.IMAGE: image[None]})
        assert boxes.dtype == scores.dtype == np.float32
        assert labels.dtype == np.int64
        assert scores[0].tolist() == sorted(scores[0].tolist(), reverse=True)
        ours = rows(wanted["boxes_xyxy_px"].numpy(), wanted["scores"], wanted["labels"])
        assert same_detections(ours, rows(boxes[0], scores[0], labels[0]), score=1e-5, box_px=1e-3)


@given(st.integers(1, 700), st.integers(1, 80), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_resampling_is_evaluation_s_to_the_bit(length: int, size: int, seed: int) -> None:
    """An axis of any length, longer or shorter than the other."""
    n = standalone.Nodes("t")
    weights, unit = standalone._weights(n, "length", size)
    standalone._bytes(n, n("MatMul", weights, n.cast("pixels", TensorProto.DOUBLE)), unit)
    ins = [helper.make_tensor_value_info("length", TensorProto.INT64, []), helper.make_tensor_value_info("pixels", TensorProto.UINT8, [None, 4])]  # fmt: skip
    out = helper.make_tensor_value_info(n.made[-1].output[0], TensorProto.DOUBLE, None)
    graph = helper.make_graph(n.made, "t", ins, [out], n.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(seed).integers(0, 256, (length, 4), np.uint8)
    found = session.run(None, {"length": np.array(length), "pixels": pixels})[0]
    assert np.array_equal(found, shrunk(pixels, size))


def test_what_it_says_of_itself(
    alone: tuple[Path, dict[str, Any]], made: tuple[Path, dict[str, Any]]
) -> None:
    assert card.read(alone[0]) == card.read(made[0] / "model.onnx")
    assert alone[1]["input"] == {"name": "image", "shape": [-1, -1, -1, 3], "layout": "NHWC RGB uint8"}
    assert set(alone[1]["outputs"]) == set(standalone.OUTPUTS)
    assert alone[1]["max_abs_scores"] <= standalone.TOLERANCE
    session = onnxruntime.InferenceSession(str(alone[0]), providers=["CPUExecutionProvider"])
    two = np.stack([drawn(4), drawn(4)[:, ::-1]])
    boxes, scores, labels = session.run(list(standalone.OUTPUTS), {"image": two})
    assert boxes.shape == (2, scores.shape[1], 4)
    assert labels.shape == scores.shape == (2, 50)
    assert boxes.min() >= 0
    assert (boxes <= np.array([640, 480, 640, 480])).all()


def test_where_a_plain_graph_is_wanted_it_is_refused(
    alone: tuple[Path, dict[str, Any]], made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"export\.pre_post.*plain graph is wanted"):
        OrtRunner(str(alone[0]))
    leaves = {
        "gen_trt_engine__onnx_file": str(alone[0]),
        "gen_trt_engine__trt_engine": str(tmp_path / "a.engine"),
    }
    with pytest.raises(UserError, match="plain graph is wanted"):
        gen_trt_engine.run(spec_of("gen_trt_engine", made[0], **leaves))
    leaves = {
        "quantize__model_path": str(alone[0]),
        "quantize__mode": "weight_only_ptq",
        "results_dir": str(tmp_path),
    }
    with pytest.raises(UserError, match="plain graph is wanted"):
        quantize.run(spec_of("quantize", made[0], **leaves))
    both = {
        "export__pre_post": True,
        "export__serialize_nvdsinfer": True,
        "export__onnx_file": str(tmp_path / "b.onnx"),
    }
    with pytest.raises(UserError, match="DeepStream resizes by itself"):
        export.run(spec_of("export", made[0], **both))
