"""The two text files that NVIDIA DeepStream's nvinfer wants beside an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

GREEN_STD = 0.226  # nvinfer knows one scale for all channels; this is the mean deviation of ImageNet


def write_nvdsinfer(onnx_file: Path, sidecar: dict[str, Any]) -> None:
    """`labels.txt` (line = category id, 0 is background) and `nvdsinfer_config.yaml` beside the ONNX file.

    `maintain-aspect-ratio` is 0 because this detector's evaluation resizes without keeping the aspect.
    """
    names = {c["id"]: c["name"] for c in sidecar["classes"]}
    last = max(names, default=0)
    labels = [names.get(i, "background") for i in range(last + 1)]
    (onnx_file.parent / "labels.txt").write_text("\n".join(labels) + "\n")
    _, channels, height, width = sidecar["input"]["shape"]
    settings = {
        "property": {
            "gpu-id": 0,
            "onnx-file": onnx_file.name,
            "labelfile-path": "labels.txt",
            "infer-dims": f"{channels};{height};{width}",
            "net-scale-factor": 1 / (255 * GREEN_STD),
            "offsets": ";".join(f"{255 * m:.2f}" for m in sidecar["mean"]),
            "model-color-format": 0,
            "network-type": 0,
            "network-mode": 2,
            "cluster-mode": 4,
            "num-detected-classes": len(labels),
            "output-blob-names": "pred_logits;pred_boxes",
            "parse-bbox-func-name": "NvDsInferParseCustomDDETRTAO",
            "custom-lib-path": "libnvds_infercustomparser_tao.so",
            "maintain-aspect-ratio": 0,
            "output-tensor-meta": 1,
            "gie-unique-id": 1,
            "workspace-size": 1024,
        },
        "class-attrs-all": {"topk": 20, "pre-cluster-threshold": sidecar.get("threshold") or 0.5},
    }
    (onnx_file.parent / "nvdsinfer_config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
