"""Raw outputs -> detections in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from model.boxes import cxcywh_to_xyxy


def postprocess(
    outputs: dict[str, Any], orig_sizes: Sequence[tuple[int, int]], num_select: int
) -> list[dict[str, torch.Tensor]]:
    """The `num_select` best of all query-class scores per image, best first.

    orig_sizes: (H, W) in px. Returns per image scores [N], labels [N] (category ids), boxes_xyxy_px [N, 4], cut at the
    image's border, as annotations are and as everything does that a network is handed over to (`infer.py`, the graph
    that stands alone, TAO Deploy): what is measured is what is delivered. The published code does not cut.
    """
    scores = outputs["pred_logits"].float().sigmoid().flatten(1)
    classes = outputs["pred_logits"].shape[-1]
    top, index = scores.topk(min(num_select, scores.shape[1]), dim=1)
    boxes = cxcywh_to_xyxy(outputs["pred_boxes"].float()).clamp(0, 1)
    boxes = boxes.gather(1, (index // classes)[..., None].expand(-1, -1, 4))
    sizes = torch.tensor([[w, h, w, h] for h, w in orig_sizes], dtype=boxes.dtype, device=boxes.device)
    boxes = boxes * sizes[:, None]
    return [
        {"scores": s, "labels": label, "boxes_xyxy_px": b}
        for s, label, b in zip(top, index % classes, boxes, strict=True)
    ]
