"""The detector as an ONNX file: a lean graph of one input size, checked as a file and against torch.

The path is torch's exporter at opset 18, nodes named after their modules, onnxslim, then our own step down to 17:
the exporter's own conversion may leave an invalid file or silently stay at 18.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from model.deploy.card import Card, write_into
from model.detector import DeformableDETR
from model.errors import ModelError, UserError
from model.position import sine_embedding
from model.transformer import encoder_reference

EXPORTER_OPSET = 18
TOLERANCE = 1e-4  # largest difference to torch that is let through, logits and boxes
BATCHES = (1, 3)  # batch sizes compared when the batch is dynamic
OUTPUTS = ("pred_logits", "pred_boxes")
CELLS = ("cell_logits", "cell_boxes", "chosen_cells")  # tensors inside a two-stage graph, see `compare`


class LeanDetector(nn.Module):
    """inputs [B, 3, H, W] of one size, without padding -> (pred_logits, pred_boxes) of the last decoder layer; from a
    two-stage model also the logits [B, S, K] and boxes [B, S, 4] of all cells and the chosen ones [B, Q].

    Position embeddings and the encoder's references depend on the size alone, so they are constants here.
    """

    position: torch.Tensor
    reference: torch.Tensor

    def __init__(self, detector: DeformableDETR, height: int, width: int, layers: Sequence[int] = ()) -> None:
        """layers: numbers, from 1, of the decoder layers whose predictions are given, too; see `names_of`."""
        super().__init__()
        self.detector = detector.eval()
        self.layers = (len(detector.transformer.decoder.layers), *layers)
        self.names = [*OUTPUTS, *(n for i in layers for n in names_of(i)), *CELLS * detector.two_stage]
        with torch.no_grad():
            maps = detector.project(torch.zeros(1, 3, height, width))
        self.shapes = [(int(m.shape[2]), int(m.shape[3])) for m in maps]
        embed, channels = detector.transformer.level_embed, maps[0].shape[1]
        positions = [
            sine_embedding(torch.ones(1, h, w, dtype=torch.bool), channels).flatten(2).transpose(1, 2)
            + embed[i]
            for i, (h, w) in enumerate(self.shapes)
        ]
        self.ratios = torch.ones(1, len(self.shapes), 2)
        self.register_buffer("position", torch.cat(positions, dim=1).detach())
        self.register_buffer("reference", encoder_reference(self.shapes, self.ratios))

    def forward(self, inputs: torch.Tensor, chosen: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        detector = self.detector
        x = torch.cat([m.flatten(2).transpose(1, 2) for m in detector.project(inputs)], dim=1)
        for layer in detector.transformer.encoder.layers:
            x = layer(x, self.position, self.reference, self.shapes, None)
        states, references, cells = detector.decode_queries(x, self.shapes, self.ratios, None, chosen)
        each = [detector.predict_layer(i - 1, states[i - 1], references[i - 1]) for i in self.layers]
        found = [layer[name] for layer in each for name in OUTPUTS]
        return (*found, *(cells.values() if cells is not None else ()))


def names_of(layer: int) -> tuple[str, str]:
    """Tensors that hold the logits and boxes of an earlier decoder layer."""
    return f"pred_logits_{layer}", f"pred_boxes_{layer}"


def export(
    detector: DeformableDETR, path: Path, height: int, width: int, batch: int = -1, opset: int = 17,
    card: Card | None = None, layers: Sequence[int] = (), compared: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Write `path`, with `card` in its metadata; batch -1 is dynamic; `layers`: see `LeanDetector`. Returns {"opset",
    "nodes", "max_abs_logits", "max_abs_boxes"}; without the last two where not `compared`, of a file to be thrown away.

    Raises `UserError` for an opset that cannot be had, `ModelError` when the file is not equal to torch.
    """
    if not 17 <= opset <= 20:
        raise UserError(f"export.opset_version must be from 17 to 20, but got {opset}")
    lean = LeanDetector(detector, height, width, layers)
    example = torch.randn(2 if batch < 0 else batch, 3, height, width)
    graph = _lean_graph(lean, example, batch < 0, max(opset, EXPORTER_OPSET))
    del graph.graph.output[
        len(OUTPUTS) * len(lean.layers) :
    ]  # the cells stay tensors of the graph, under their names
    if opset < EXPORTER_OPSET:
        _down_to_17(graph)
    onnx.checker.check_model(graph, full_check=True)
    written = next(o.version for o in graph.opset_import if o.domain in ("", "ai.onnx"))
    if written != opset:
        raise ModelError(f"{path}: the file must have opset {opset}, but has {written}")
    if card is not None:
        write_into(graph, replace(card, size=(height, width)))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(graph, path)
    nodes = {"opset": written, "nodes": len(graph.graph.node)}
    if not compared:
        return nodes
    differences = compare(lean, path, (height, width), BATCHES if batch < 0 else (batch,))
    return {**nodes, **differences}


def compare(
    lean: LeanDetector, path: Path, size: tuple[int, int], batches: tuple[int, ...]
) -> dict[str, float]:
    """The largest absolute differences between ONNX Runtime and torch. Raises `ModelError` above TOLERANCE.

    Two-stage, rounding may exchange cells of nearly equal score, and with them queries. So the cells are compared
    before the choice, the chosen ones must have the scores of the best, and the rest is compared for the same choice.
    """
    import onnxruntime

    names = lean.names
    session = onnxruntime.InferenceSession(_showing(path, names), providers=["CPUExecutionProvider"])
    found = []
    for batch in batches:
        images = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(batch))
        values = session.run(names, {"inputs": images.numpy()})
        got = {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}
        with torch.no_grad():
            wanted = dict(zip(names, lean(images, got.get(CELLS[2])), strict=True))
        found.append(_differences(got, wanted))
    worst = torch.stack(found).amax(0).tolist()
    if not max(worst) <= TOLERANCE:
        raise ModelError(
            f"{path}: differs from torch by {worst[0]:.2g} (logits) and {worst[1]:.2g} (boxes), more than {TOLERANCE}"
        )
    return {"max_abs_logits": worst[0], "max_abs_boxes": worst[1]}


def _showing(path: Path, names: Sequence[str]) -> bytes:
    """The file with these of its tensors as outputs."""
    graph = onnx.load(path)
    shown = {output.name for output in graph.graph.output}
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in shown)
    return graph.SerializeToString()


def _differences(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> torch.Tensor:
    """[2]: the largest of logits, scores of the choice among them, and of boxes; infinite for a cell chosen twice."""
    each = {name: float((got[name] - wanted[name]).abs().max()) for name in wanted if name != CELLS[2]}
    logits, boxes = ([v for name, v in each.items() if kind in name] for kind in ("logits", "boxes"))
    if CELLS[2] in wanted:
        scores, chosen = wanted[CELLS[0]][..., 0], got[CELLS[2]]
        best = scores.topk(chosen.shape[1], dim=1).values
        logits.append(float((scores.gather(1, chosen) - best).abs().max()))
        logits += [math.inf] * int(not chosen.sort(dim=1).values.diff(dim=1).all())
    return torch.tensor([max(logits), max(boxes)])


def _lean_graph(lean: LeanDetector, example: torch.Tensor, dynamic: bool, opset: int) -> onnx.ModelProto:
    """Nearly all of an export's time."""
    graph = _exported(lean, example, dynamic, opset)
    _name_by_module(graph)
    return _slimmed(graph)


def _exported(lean: LeanDetector, example: torch.Tensor, dynamic: bool, opset: int) -> onnx.ModelProto:
    shapes = {"inputs": {0: torch.export.Dim("batch", min=1, max=256)}} if dynamic else None
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operator has no ONNX form
    for name in ("torch.onnx", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                lean, (example,), dynamo=True, opset_version=opset, input_names=["inputs"],
                output_names=lean.names, dynamic_shapes=shapes, verbose=False,
            )  # fmt: skip
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    assert program is not None
    return program.model_proto


def _name_by_module(graph: onnx.ModelProto) -> None:
    """Name nodes `module.path/Op`, so that patterns over module names select nodes later."""
    taken: dict[str, int] = {}
    for node in graph.graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "[]")
        path = next((s for s in reversed(_strings(scopes)) if s and not s.startswith("__")), "")
        parts = [s for s in _strings(scopes) if s]
        path = parts[-2] if len(parts) > 1 else path
        name = f"{path.removeprefix('detector.')}/{node.op_type}" if path else node.op_type
        taken[name] = taken.get(name, -1) + 1
        node.name = f"{name}_{taken[name]}" if taken[name] else name


def _strings(text: str) -> list[str]:
    import ast

    try:
        return [str(v) for v in ast.literal_eval(text)]
    except (ValueError, SyntaxError):
        return []


def _slimmed(graph: onnx.ModelProto) -> onnx.ModelProto:
    import onnxslim

    with contextlib.redirect_stdout(io.StringIO()):
        slim = onnxslim.slim(graph)
    return slim if slim is not None else graph


def _down_to_17(graph: onnx.ModelProto) -> None:
    """Opset 18 -> 17 in place, for the operators that changed between them and occur here: Split lost
    `num_outputs`, the Reduce family takes its axes as an attribute. What else may differ, the checker finds."""
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    for node in graph.graph.node:
        if node.op_type == "Split":
            _drop_attribute(node, "num_outputs")
        elif node.op_type == "Resize":  # what 18 added stands at its defaults here
            _drop_attribute(node, "antialias")
            _drop_attribute(node, "keep_aspect_ratio_policy")
        elif node.op_type.startswith("Reduce") and node.op_type != "ReduceSum":
            _drop_attribute(node, "noop_with_empty_axes")
            if len(node.input) > 1:
                axes = constants[node.input[1]].tolist()
                del node.input[1:]
                node.attribute.append(onnx.helper.make_attribute("axes", axes))
    for entry in graph.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = 17
    graph.ir_version = min(graph.ir_version, 8)
    graph.graph.ClearField("metadata_props")
    for node in graph.graph.node:
        node.ClearField("metadata_props")


def _drop_attribute(node: onnx.NodeProto, name: str) -> None:
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def print_graph(path: Path) -> None:
    """The file's inputs, outputs and nodes as text, weights left out."""
    graph = onnx.load(path)
    del graph.graph.initializer[:]
    print(onnx.printer.to_text(graph))
