"""What NVIDIA DeepStream's nvinfer wants: a graph that fits its preprocessing and its parser, labels, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import helper, numpy_helper

from model.deploy.card import Card, read
from model.errors import UserError
from model.parameters import UNMEASURED_THRESHOLD

PARSER = "NvDsInferParseCustomDDETRTAO"
LIBRARY = "/opt/nvidia/deepstream/deepstream/lib/libnvds_infercustomparser_tao.so"
NEVER = -100.0  # a logit that no sigmoid lifts
NOTE = f"""\
# The parser is built once, from github.com/NVIDIA-AI-IOT/deepstream_tao_apps, branch of your DeepStream release:
#   cd post_processor && CUDA_VER=<your CUDA, such as 12.6> make
#   cp libnvds_infercustomparser_tao.so {Path(LIBRARY).parent}/
# It takes class 0 for background. Frames are squeezed to the input's size, as the detector's evaluation does.
"""


def write_nvdsinfer(onnx_file: Path) -> None:
    """`<name>.deepstream.onnx`, `labels.txt` (line = number of the parser's class) and `nvdsinfer_config.yaml` beside
    an exported ONNX file. Raises `UserError` for a file that does not say how its input is normalised."""
    card, graph = read(onnx_file), onnx.load(onnx_file)
    if card.mean is None or card.std is None or card.size is None:
        raise UserError(
            f"{onnx_file}: DeepStream's settings need its size and normalisation, which it does not say"
        )
    classes = graph.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    shift = int(any(c["id"] == 0 for c in card.classes))
    _scale_channels(graph, card.std)
    if shift:
        _leave_class_0_empty(graph, classes)
    fitted = onnx_file.with_suffix(".deepstream.onnx")
    onnx.checker.check_model(graph)
    onnx.save(graph, fitted)
    names = {c["id"] + shift: " ".join(c["name"].split()) for c in card.classes}
    labels = [names.get(i, f"class_{i}" if i else "background") for i in range(classes + shift)]
    (onnx_file.parent / "labels.txt").write_text("\n".join(labels) + "\n")
    settings = yaml.safe_dump(_settings(card, fitted, graph, len(labels)), sort_keys=False)
    (onnx_file.parent / "nvdsinfer_config.yaml").write_text(NOTE + settings)


def _settings(card: Card, onnx_file: Path, graph: onnx.ModelProto, classes: int) -> dict[str, Any]:
    assert card.mean is not None
    assert card.std is not None
    assert card.size is not None
    batch = graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    return {
        "property": {
            "gpu-id": 0,
            "gie-unique-id": 1,
            "onnx-file": onnx_file.name,
            "labelfile-path": "labels.txt",
            "batch-size": batch or 1,
            "infer-dims": f"3;{card.size[0]};{card.size[1]}",
            "net-scale-factor": 1 / (255 * card.std[0]),
            "offsets": ";".join(repr(round(255 * m, 9)) for m in card.mean),
            "model-color-format": 0,  # RGB
            "scaling-filter": 1,  # bilinear
            "maintain-aspect-ratio": 0,
            "network-type": 0,
            "network-mode": 2,  # FP16
            "cluster-mode": 4,  # none: the detector gives each object once
            "num-detected-classes": classes,
            "output-blob-names": "pred_logits;pred_boxes",
            "parse-bbox-func-name": PARSER,
            "custom-lib-path": LIBRARY,
            "output-tensor-meta": 1,
            "workspace-size": 1024,  # MB
        },
        "class-attrs-all": {
            "topk": card.num_select or 300,
            "pre-cluster-threshold": UNMEASURED_THRESHOLD if card.threshold is None else card.threshold,
        },
    }


def _scale_channels(graph: onnx.ModelProto, std: list[float]) -> None:
    """nvinfer knows one scale for all channels, that of the first; the graph brings the others to theirs."""
    if len(set(std)) == 1:
        return
    name = graph.graph.input[0].name
    for node in graph.graph.node:
        node.input[:] = [f"{name}_scaled" if i == name else i for i in node.input]
    factor = np.array([std[0] / s for s in std], np.float32).reshape(1, 3, 1, 1)
    graph.graph.initializer.append(numpy_helper.from_array(factor, "channel_scale"))
    graph.graph.node.insert(
        0, helper.make_node("Mul", [name, "channel_scale"], [f"{name}_scaled"], "scale/Mul")
    )


def _leave_class_0_empty(graph: onnx.ModelProto, classes: int) -> None:
    """The parser drops class 0; where that is a class of its own, all move up by one."""
    output = graph.graph.output[0]
    name = output.name
    for node in graph.graph.node:
        node.output[:] = [f"{name}_of_classes" if o == name else o for o in node.output]
        node.input[:] = [f"{name}_of_classes" if i == name else i for i in node.input]
    graph.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 1, 0, 0, 0]), "one_class_before"))
    graph.graph.initializer.append(numpy_helper.from_array(np.array(NEVER, np.float32), "never"))
    inputs = [f"{name}_of_classes", "one_class_before", "never"]
    graph.graph.node.append(helper.make_node("Pad", inputs, [name], "shift/Pad"))
    output.type.tensor_type.shape.dim[2].dim_value = classes + 1
