"""A graph that stands alone: bytes of an image of any size in, boxes in its pixels, scores and labels out.

Resize and normalisation are built around the plain graph, to the bit as evaluation has them (model/data/transforms.py):
a bilinear, antialiased resampling of bytes is two products with matrices that follow from the image's size, in whole
numbers of up to 22 bits, each rounded to bytes. ONNX's own Resize rounds nothing in between and moves boxes by more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.deploy.card import IMAGE, Card
from model.errors import ModelError

OUTPUTS = ("boxes", "scores", "labels")
BITS, LARGEST = (
    22,
    2.0**15,
)  # of Pillow's and torch's weights: at most so many, while the largest stays below 2^15
CORNERS = [[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]]  # cxcywh @ this: xyxy
TOLERANCE = 1e-5  # of scores, between the graph and the plain one on the same pixels


class Nodes:
    """Nodes and constants in the making; calling it adds a node of one output and returns that output's name."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.made: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def __call__(self, kind: str, *inputs: Any, called: str = "", **attributes: Any) -> str:
        called = called or f"{self.prefix}/{kind}_{len(self.made)}"
        texts = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self.made.append(
            helper.make_node(kind, texts, [called], f"{self.prefix}/{len(self.made)}", **attributes)
        )
        return called

    def cast(self, value: str, kind: int) -> str:
        return self("Cast", value, to=kind)

    def constant(self, value: Any) -> str:
        """Python's whole numbers are int64, its others double, arrays what they are."""
        name = f"{self.prefix}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def wrap(graph: onnx.ModelProto, card: Card) -> onnx.ModelProto:
    """The plain graph `inputs` -> `pred_logits`, `pred_boxes` as `image` [B, H, W, 3] uint8 RGB -> `boxes` [B, N, 4]
    xyxy in px of the image, `scores` [B, N] best first, `labels` [B, N] category ids; N: card.num_select."""
    own, made = graph.graph, onnx.ModelProto()
    made.CopyFrom(graph)
    batch = own.input[0].type.tensor_type.shape.dim[0]
    queries, classes = (own.output[0].type.tensor_type.shape.dim[i].dim_value for i in (1, 2))
    before, after = Nodes("pre"), Nodes("post")
    sides = _before(before, card)
    _after(after, sides, classes, min(card.num_select or queries, queries * classes))
    del made.graph.node[:], made.graph.input[:], made.graph.output[:]
    made.graph.node.extend([*before.made, *own.node, *after.made])
    made.graph.initializer.extend([*before.constants, *after.constants])
    kept = batch.dim_value or "batch"
    made.graph.input.append(
        helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [kept, "height", "width", 3])
    )
    kinds, shapes = (
        (TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64),
        ([kept, None, 4], *[[kept, None]] * 2),
    )
    for name, kind, shape in zip(OUTPUTS, kinds, shapes, strict=True):
        made.graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    onnx.checker.check_model(made, full_check=True)
    return made


def _before(n: Nodes, card: Card) -> str:
    """Adds what leads from `image` to `inputs`; returns the name of (W, H, W, H) as float32."""
    assert card.size is not None
    assert card.mean is not None
    assert card.std is not None
    shape = n("Shape", IMAGE)
    height, width = (n("Gather", shape, i, axis=0) for i in (1, 2))
    pixels = n.cast(n("Transpose", IMAGE, perm=[0, 3, 1, 2]), TensorProto.DOUBLE)
    across, unit = _weights(n, width, card.size[1])
    columns = _bytes(n, n("MatMul", pixels, n("Transpose", across, perm=[1, 0])), unit)
    down, unit = _weights(n, height, card.size[0])
    small = n.cast(_bytes(n, n("MatMul", down, columns), unit), TensorProto.FLOAT)
    std = np.array(card.std, np.float32)
    scaled = n("Mul", small, (1 / (255 * std)).astype(np.float32).reshape(3, 1, 1))
    n("Sub", scaled, (np.array(card.mean, np.float32) / std).reshape(3, 1, 1), called="inputs")
    return n.cast(n("Gather", shape, np.array([2, 1, 2, 1]), axis=0), TensorProto.FLOAT)


def _weights(n: Nodes, length: str, size: int) -> tuple[str, str]:
    """([size, length] whole numbers as double that resample an axis, what they are multiples of); `length` int64."""
    at = n.cast(n("Range", 0, length, 1), TensorProto.DOUBLE)
    scale = n("Div", n.cast(length, TensorProto.DOUBLE), float(size))
    reach = n("Max", scale, 1.0)
    centre = n("Mul", scale, np.arange(size)[:, None] + 0.5)
    low = n("Floor", n("Add", n("Sub", centre, reach), 0.5))
    high = n("Floor", n("Add", n("Add", centre, reach), 0.5))
    inside = n("And", n("GreaterOrEqual", at, low), n("Less", at, high))
    away = n("Abs", n("Div", n("Add", n("Sub", at, centre), 0.5), reach))
    raw = n("Where", inside, n("Max", n("Sub", 1.0, away), 0.0), 0.0)
    weights = n("Div", raw, n("ReduceSum", raw, np.array([1]), keepdims=1))
    units = 2.0 ** np.arange(BITS + 1)
    largest = n("Floor", n("Add", n("Mul", n("ReduceMax", weights, keepdims=0), units), 0.5))
    unit = n("ReduceMax", n("Where", n("Less", largest, LARGEST), units, 1.0), keepdims=0)
    return n("Floor", n("Add", n("Mul", weights, unit), 0.5)), unit


def _bytes(n: Nodes, sums: str, unit: str) -> str:
    return n("Clip", n("Floor", n("Add", n("Div", sums, unit), 0.5)), 0.0, 255.0)


def _after(n: Nodes, sides: str, classes: int, count: int) -> None:
    """Adds what leads from `pred_logits` and `pred_boxes` to the outputs; `sides`: (W, H, W, H)."""
    flat = n("Reshape", n("Sigmoid", "pred_logits"), np.array([0, -1]))
    index = "post/index"
    made = helper.make_node(
        "TopK", [flat, n.constant(np.array([count]))], ["scores", index], "post/TopK", axis=1
    )
    n.made.append(made)
    query = n("Div", index, classes)
    n("Sub", index, n("Mul", query, classes), called="labels")
    chosen = n("GatherND", "pred_boxes", n("Unsqueeze", query, np.array([-1])), batch_dims=1)
    corners = n("Clip", n("MatMul", chosen, np.array(CORNERS, np.float32)), np.float32(0), np.float32(1))
    n("Mul", corners, sides, called="boxes")


def write(path: Path, card: Card) -> dict[str, float]:
    """Put the plain graph in a file into one that stands alone, and compare them on images of two shapes. Returns
    {"max_abs_scores"}. Raises `ModelError` when they differ by more than TOLERANCE."""
    plain = onnx.load(path)
    whole = wrap(plain, card)
    onnx.save(whole, path)
    worst = max(_difference(plain, whole, card, shape) for shape in ((37, 90), (240, 130)))
    if not worst <= TOLERANCE:
        raise ModelError(
            f"{path}: its scores differ from the plain graph's by {worst:.2g}, more than {TOLERANCE}"
        )
    return {"max_abs_scores": worst}


def _difference(plain: onnx.ModelProto, whole: onnx.ModelProto, card: Card, shape: tuple[int, int]) -> float:
    """Of all scores, in descending order, on a noisy image of that shape."""
    import onnxruntime

    from model.deploy.infer import shrunk

    assert card.size is not None
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    columns = shrunk(image.swapaxes(0, 1), card.size[1])
    small = shrunk(columns.swapaxes(0, 1), card.size[0]).astype(np.float32).transpose(2, 0, 1)
    std = np.array(card.std, np.float32).reshape(3, 1, 1)
    mean = np.array(card.mean, np.float32).reshape(3, 1, 1)
    batch = whole.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    cpu = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(plain.SerializeToString(), providers=cpu)
    pixels = np.repeat((small / (255 * std) - mean / std)[None], batch, axis=0)
    logits = session.run(["pred_logits"], {"inputs": pixels})[0]
    session = onnxruntime.InferenceSession(whole.SerializeToString(), providers=cpu)
    scores = session.run(["scores"], {IMAGE: np.repeat(image[None], batch, axis=0)})[0]
    wanted = np.sort(1 / (1 + np.exp(-logits.reshape(batch, -1))), axis=1)[:, ::-1]
    return float(np.abs(scores - wanted[:, : scores.shape[1]]).max())
