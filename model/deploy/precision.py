"""ONNX graphs in fewer bits: FP16 casts and INT8 Q/DQ pairs, written into the file itself. Its metadata say
what it is, and none of the figures of what it was made of."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from model.deploy import card
from model.deploy.calibration import Calibration, cached
from model.errors import UserError

# Box arithmetic keeps full precision: an offset of a sampling point is a small number added to a large one.
HEADS = ("class_embed*", "bbox_embed*", "*sampling_offsets*", "*attention_weights*", "*reference_points*")
KINDS = {
    "Conv2d": ("Conv",),
    "Linear": ("MatMul", "Gemm"),
}  # modules' names of the operators that have weights
OPERATORS = ("Conv", "MatMul", "Gemm")
ALGORITHMS = {"minmax": "MinMax", "max": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}


def bits_of(path: Path) -> str:
    """What the weights of a graph are in: INT8 (Q/DQ pairs or weights alone), FP16 or FP32. Raises `UserError`."""
    graph = card.loaded(path).graph
    if any(node.op_type == "DequantizeLinear" for node in graph.node):
        return "INT8"
    halves = any(weights.data_type == onnx.TensorProto.FLOAT16 for weights in graph.initializer)
    return "FP16" if halves else "FP32"


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
    own = card.read(source)  # FP16 moves scores by some ten thousandths: what suited before, does
    _save(converted, replace(card.in_form(own, _form(own, "FP16")), threshold=own.threshold), target)


def chosen(graph: onnx.ModelProto, layers: Sequence[str], skip: Sequence[str]) -> list[str]:
    """Names of the nodes to quantize: all with weights, or those that `layers` (patterns, Conv2d, Linear) name, but
    the heads, unless `layers` names them, and but what `skip` names. Raises `UserError` for a pattern without a node,
    and when nothing is left."""
    named = [p for p in layers if p not in KINDS]
    kinds = {op for kind in layers if kind in KINDS for op in KINDS[kind]} or (
        set() if layers else set(OPERATORS)
    )
    found = {node.name for node in graph.graph.node if node.op_type in kinds}
    found -= set(matching(graph, HEADS, strict=False))
    explicit = set(matching(graph, named))
    found |= {n.name for n in graph.graph.node if n.name in explicit and n.op_type in OPERATORS}
    found -= set(matching(graph, skip))
    if not found:
        raise UserError(
            f"quantize.layers {list(layers)} without skip_names {list(skip)} leaves no layer to quantize"
        )
    return sorted(found)


def to_int8(
    source: Path, target: Path, images: Calibration, nodes: Sequence[str], algorithm: str = "minmax",
    providers: Sequence[str] = (), options: Mapping[str, Any] | None = None, cache: Path | None = None,
) -> None:  # fmt: skip
    """Static Q/DQ by ONNX Runtime, symmetric and per channel, biases left alone: the one form NVIDIA's parser takes.

    nodes: names of what is quantized; options: further arguments of `quantize_static`, on top; cache: a file that
    keeps the ranges, see `calibration.cached`. One image is held at a time.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    given = dict(options or {})
    extra = {
        "ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, "CalibStridedMinMax": 1,
        **given.pop("extra_options", {}),
    }  # fmt: skip
    arguments = {
        "quant_format": QuantFormat.QDQ, "per_channel": True, "activation_type": QuantType.QInt8,
        "weight_type": QuantType.QInt8, **given,
    }  # fmt: skip
    batch = card.input_shape(source)[0] or 1
    with _quiet(), cached(cache, source, images, algorithm) as ranges:
        quantize_static(
            str(source), str(target), images.in_batches_of(batch),
            op_types_to_quantize=list(OPERATORS), nodes_to_quantize=list(nodes),
            calibrate_method=CalibrationMethod[ALGORITHMS[algorithm]], calibration_providers=list(providers) or None,
            calibration_cache_path=ranges, extra_options=extra, **arguments,
        )  # fmt: skip
    own = card.read(source)
    _save(onnx.load(target), card.in_form(own, _form(own, "INT8")), target)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without ONNX Runtime's advice to preprocess: the exported graph is."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def to_int8_weights(source: Path, target: Path, nodes: Sequence[str]) -> None:
    """INT8 weights, one scale an output channel, each behind a DequantizeLinear; activations stay as they are."""
    graph = onnx.load(source)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}
    wanted, made, before = set(nodes), set(), []
    for node in graph.graph.node:
        if node.name not in wanted or len(node.input) < 2 or node.input[1] not in constants:
            continue
        name, axis = node.input[1], _output_axis(node, constants[node.input[1]])
        node.input[1] = f"{name}_dequantized_{axis}"
        if node.input[1] not in made:
            made.add(node.input[1])
            graph.graph.initializer.extend(_int8(constants[name], f"{name}_{axis}", axis))
            inputs = [f"{name}_{axis}_{part}" for part in ("int8", "scale", "zero")]
            before.append(
                onnx.helper.make_node(
                    "DequantizeLinear", inputs, [node.input[1]], f"{node.name}/DequantizeLinear", axis=axis
                )
            )
    nodes_after = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*before, *nodes_after])
    _drop_unused(graph)
    onnx.checker.check_model(graph)
    own = card.read(source)
    _save(graph, card.in_form(own, _form(own, "INT8 weights")), target)


def _output_axis(node: onnx.NodeProto, weight: np.ndarray) -> int:
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else weight.ndim - 1


def _int8(weight: np.ndarray, name: str, axis: int) -> list[onnx.TensorProto]:
    """Symmetric: round(weight / scale), scale = largest magnitude of the channel / 127."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others), np.finfo(np.float32).tiny * 127) / 127
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    values = np.rint(weight / scale.reshape(shape)).astype(np.int8)
    parts = {"int8": values, "scale": scale.astype(np.float32), "zero": np.zeros(len(scale), np.int8)}
    return [
        onnx.numpy_helper.from_array(np.ascontiguousarray(v), f"{name}_{key}") for key, v in parts.items()
    ]


def _drop_unused(graph: onnx.ModelProto) -> None:
    used = {name for node in graph.graph.node for name in node.input}
    kept = [t for t in graph.graph.initializer if t.name in used]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)


def _form(own: card.Card, kind: str) -> str:
    """How a file is called that was made of another one, which may be no whole network itself."""
    return ", ".join(filter(None, (own.trained.get("form"), kind)))


def _save(graph: onnx.ModelProto, own: card.Card, target: Path) -> None:
    """With metadata, which converters may drop."""
    card.write_into(graph, own)
    onnx.save(graph, target)


def matching(graph: onnx.ModelProto, patterns: Sequence[str], strict: bool = True) -> list[str]:
    """Names (`module.path/Operator`) of nodes that, or whose module, match any pattern. Raises `UserError` for a
    pattern that matches none, when strict."""
    names = [node.name for node in graph.graph.node]
    found: list[str] = []
    for pattern in patterns:
        hits = [n for n in names if any(fnmatch.fnmatchcase(part, pattern) for part in (n, n.split("/")[0]))]
        if strict and not hits:
            raise UserError(
                f"no node of the graph matches '{pattern}'; nodes are named like {', '.join(names[:3])}"
            )
        found += hits
    return sorted(set(found))
