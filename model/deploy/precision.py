"""ONNX graphs in fewer bits: FP16 casts and INT8 Q/DQ pairs, written into the file itself."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from model.data.images import SUFFIXES
from model.errors import UserError

# Box arithmetic keeps full precision: an offset of a sampling point is a small number added to a large one.
HEADS = ("class_embed*", "bbox_embed*", "*sampling_offsets*", "*attention_weights*", "*reference_points*")


def has_quantizers(path: Path) -> bool:
    """Whether the graph carries Q/DQ pairs already."""
    graph = onnx.load(path, load_external_data=False).graph
    return any(node.op_type == "DequantizeLinear" for node in graph.node)


def to_fp16(source: Path, target: Path, keep_fp32: Sequence[str] = ()) -> None:
    """Weights and activations in FP16, inputs and outputs in FP32; the logit of box centres stays FP32 because
    1 - 1e-5 is 1 in FP16. `keep_fp32`: node name patterns, each of which must match."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    graph = onnx.load(source)
    blocked = matching(graph, keep_fp32)
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    converted = convert_float_to_float16(
        graph,
        keep_io_types=True,
        node_block_list=blocked,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, "Log", "Clip", "Sigmoid"],
    )
    onnx.save(converted, target)


def to_int8(source: Path, target: Path, images: Iterator[np.ndarray], skip: Sequence[str] = HEADS) -> None:
    """Static Q/DQ by ONNX Runtime, symmetric and per channel, biases left alone: the one form NVIDIA's parser takes.

    images: batches [1, 3, H, W] float32, preprocessed as for evaluation.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    graph = onnx.load(source)
    with contextlib.redirect_stdout(io.StringIO()):
        quantize_static(
            str(source), str(target), _Reader(images), quant_format=QuantFormat.QDQ, per_channel=True,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"], nodes_to_exclude=matching(graph, skip, strict=False),
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        )  # fmt: skip


def to_int8_weights(source: Path, target: Path, skip: Sequence[str] = HEADS) -> None:
    """INT8 weights, activations scaled as they come: no calibration, smaller file."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    excluded = matching(graph, skip, strict=False)
    quantize_dynamic(
        str(source),
        str(target),
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
        nodes_to_exclude=excluded,
    )


def matching(graph: onnx.ModelProto, patterns: Sequence[str], strict: bool = True) -> list[str]:
    """Names of nodes that match any pattern. Raises `UserError` for a pattern that matches none, when strict."""
    names = [node.name for node in graph.graph.node]
    found: list[str] = []
    for pattern in patterns:
        hits = fnmatch.filter(names, pattern)
        if strict and not hits:
            raise UserError(
                f"no node of the graph matches '{pattern}'; nodes are named like {', '.join(names[:3])}"
            )
        found += hits
    return sorted(set(found))


def calibration_images(
    folders: Sequence[str], spec: Mapping[str, Any], size: tuple[int, int], count: int, seed: int = 0
) -> Iterator[np.ndarray]:
    """`count` images [1, 3, H, W] float32 drawn from folders or archives. Raises `UserError` when there are fewer."""
    from model.data.sources import stage

    paths = sorted(p for f in folders for p in stage(f).rglob("*") if p.suffix.lower() in SUFFIXES)
    if len(paths) < count:
        raise UserError(
            f"calibration needs {count} images, but {', '.join(map(str, folders))} hold {len(paths)}"
        )
    order = np.random.default_rng(seed).permutation(len(paths))[:count]
    return (load_image(paths[i], spec, size)[0][None] for i in order)


def load_image(
    path: Path, spec: Mapping[str, Any], size: tuple[int, int] | None
) -> tuple[np.ndarray, tuple[int, int]]:
    """(pixels [3, H, W] float32 as evaluation sees them, (H, W) of the original). Raises `UserError`."""
    from model.data.images import open_rgb
    from model.data.transforms import EvalTransform

    image = open_rgb(path)
    nothing = {"boxes_xyxy_px": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}
    pixels, _ = EvalTransform(spec, size)(image, nothing)
    return pixels.numpy(), (image.height, image.width)


class _Reader:
    """ONNX Runtime's CalibrationDataReader."""

    def __init__(self, images: Iterator[np.ndarray]) -> None:
        self.images = images

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.images, None)
        return None if image is None else {"inputs": image}
