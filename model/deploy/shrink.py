"""Smaller forms of a trained network, without training: fewer queries, fewer decoder layers, fewer bits.

A graph of one input size and number of queries is made once with the predictions of every wanted layer, scored as a
whole, and cut.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from model.deploy import onnx_export, precision
from model.deploy.calibration import Calibration
from model.deploy.card import Card
from model.deploy.onnx_export import OUTPUTS, names_of
from model.detector import DeformableDETR


def with_queries(detector: DeformableDETR, count: int, order: Sequence[int] | None) -> DeformableDETR:
    """A copy that asks `count` queries. Two-stage they come ranked by the encoder, so that the best stay; learned ones
    by `order`, most useful first, see `usefulness`."""
    made = copy.deepcopy(detector)
    made.num_queries = count
    if order is not None and made.query_embed is not None:
        kept = made.query_embed.weight.detach()[torch.as_tensor(order[:count])]
        made.query_embed = nn.Embedding.from_pretrained(kept, freeze=True)
    return made


@torch.inference_mode()
def usefulness(detector: DeformableDETR, images: Calibration) -> list[int] | None:
    """Learned queries, those first that see most on these images: by the mean over images of the highest score of any
    class. None for a two-stage network."""
    if detector.two_stage:
        return None
    total = torch.zeros(detector.num_queries)
    for i in range(len(images)):
        logits = detector(torch.from_numpy(images[i]))["pred_logits"]
        total += logits[0].sigmoid().amax(-1)
    return [int(i) for i in total.argsort(descending=True, stable=True)]


def make(
    detector: DeformableDETR, folder: Path, size: tuple[int, int], layers: Sequence[int], card: Card,
    precisions: Sequence[str], images: Calibration | None,
) -> dict[str, Path]:  # fmt: skip
    """{number format: ONNX file} of one size (H, W), with the predictions of all of `layers`."""
    whole = folder / "fp32.onnx"
    earlier = [i for i in layers if i != len(detector.transformer.decoder.layers)]
    onnx_export.export(detector, whole, *size, card=card, layers=earlier)
    files = {"FP32": whole, "FP16": folder / "fp16.onnx", "INT8": folder / "int8.onnx"}
    if "FP16" in precisions:
        precision.to_fp16(whole, files["FP16"])
    if "INT8" in precisions:
        assert images is not None
        nodes = precision.chosen(onnx.load(whole), [], [])
        precision.to_int8(whole, files["INT8"], images, nodes)
    return {name: files[name] for name in precisions}


def outputs_of(graph_outputs: Sequence[str], layer: int) -> tuple[str, str]:
    """Names of a layer's logits and boxes in a graph of several; the last layer has the usual ones."""
    own = names_of(layer)
    return own if own[0] in graph_outputs else (OUTPUTS[0], OUTPUTS[1])


def cut(source: Path, target: Path, layer: int) -> None:
    """The file with the predictions of one layer as its only ones, and without what they do not need."""
    graph = onnx.load(source)
    wanted = outputs_of([o.name for o in graph.graph.output], layer)
    kept = [o for o in graph.graph.output if o.name in wanted]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    _drop_what_nobody_reads(graph.graph)
    if wanted != OUTPUTS:
        _rename(graph.graph, dict(zip(wanted, OUTPUTS, strict=True)))
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, target)


def _drop_what_nobody_reads(graph: Any) -> None:
    """Also sorts the nodes, which converters leave unsorted."""
    maker = {name: node for node in graph.node for name in node.output}
    kept, needed, stack = [], set(), [(o.name, False) for o in graph.output]
    while stack:
        name, inputs_done = stack.pop()
        if inputs_done:
            kept.append(maker[name])
        elif name not in needed:
            needed.add(name)
            if name in maker:
                needed |= set(maker[name].output)
                stack += [(name, True), *((each, False) for each in maker[name].input)]
    del graph.node[:]
    graph.node.extend(kept)
    for field in (graph.initializer, graph.value_info):
        stay = [entry for entry in field if entry.name in needed]
        del field[:]
        field.extend(stay)


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Tensors under new names; what is called like a new one already gives way."""
    turned = names | {new: f"{new}_of_last" for new in names.values() if new not in names}
    for node in graph.node:
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                field[i] = turned.get(name, name)
    for entry in (*graph.output, *graph.value_info, *graph.initializer):
        entry.name = turned.get(entry.name, entry.name)
