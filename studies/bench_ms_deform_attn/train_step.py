"""A whole training step on CPUs at 640x640, batch 1: ours beside transformers' DeformableDetrForObjectDetection with
the same backbone, layers, queries and auxiliary losses, in turn in one run. Writes results_train_step.json.

    python studies/bench_ms_deform_attn/train_step.py [--rounds 5] [--size 640]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.build import build_criterion, build_model
from model.lightning import parameter_groups
from model.ops import live
from model.spec import resolve
from studies.machine import describe

CLASSES, OBJECTS = 91, 8


def targets() -> tuple[torch.Tensor, torch.Tensor]:
    """labels [8], boxes cxcywh [8, 4]."""
    random = torch.Generator().manual_seed(0)
    centre, extent = torch.rand(OBJECTS, 2, generator=random), torch.rand(OBJECTS, 2, generator=random)
    return torch.randint(1, CLASSES, (OBJECTS,), generator=random), torch.cat(
        [0.3 + 0.4 * centre, 0.1 + 0.3 * extent], 1
    )


def ours(images: torch.Tensor, mask: torch.Tensor) -> tuple[Callable[[], Any], int]:
    spec = resolve(
        "train",
        {
            "model": {
                "backbone": "resnet_50",
                "backbone_norm": "frozen",
                "dropout_ratio": 0.1,
                "aux_loss": True,
            },
            "dataset": {"num_classes": CLASSES},
            "train": {"activation_checkpoint": False},
        },
    )
    module, criterion = build_model(spec).train(), build_criterion(spec)
    optimizer = torch.optim.AdamW(parameter_groups(module, spec), lr=1e-6, fused=True)
    labels, boxes = targets()

    def step() -> float:
        optimizer.zero_grad()
        loss = criterion(module(images, mask), [{"labels": labels, "boxes_cxcywh": boxes}])["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.1)
        optimizer.step()
        return float(loss.detach())

    return step, sum(p.numel() for p in module.parameters() if p.requires_grad)


def theirs(images: torch.Tensor, mask: torch.Tensor) -> tuple[Callable[[], Any], int]:
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection

    config = DeformableDetrConfig(
        use_timm_backbone=True, use_pretrained_backbone=False, backbone="resnet50", num_labels=CLASSES,
        auxiliary_loss=True, with_box_refine=True, two_stage=False, num_queries=300, dropout=0.1,
    )  # fmt: skip
    module = DeformableDetrForObjectDetection(config).train()
    for name, parameter in module.named_parameters():  # as published, and as ours does
        if "backbone" in name and not any(f"layer{i}" in name for i in (2, 3, 4)):
            parameter.requires_grad_(False)
    trainable = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-6, fused=True)
    labels, boxes = targets()

    def step() -> float:
        optimizer.zero_grad()
        found = module(
            pixel_values=images, pixel_mask=(~mask).long(), labels=[{"class_labels": labels, "boxes": boxes}]
        )
        found.loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 0.1)
        optimizer.step()
        return float(found.loss.detach())

    return step, sum(p.numel() for p in trainable)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=640)
    options = parser.parse_args()
    torch.manual_seed(0)
    machine = describe() | {"threads": torch.get_num_threads(), "kernel": live("cpu")[1]}
    images = torch.randn(1, 3, options.size, options.size)
    mask = torch.zeros(1, options.size, options.size, dtype=torch.bool)
    steps = {"ours": ours(images, mask), "transformers": theirs(images, mask)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step, _ in steps.values():
        step()  # warm up
    for _ in range(options.rounds):
        for name, (step, _) in steps.items():
            began = time.perf_counter()
            step()
            times[name].append(round(time.perf_counter() - began, 3))
    ratios = [b / a for a, b in zip(times["ours"], times["transformers"], strict=True)]
    results = {
        "machine": machine,
        "size_px": options.size,
        "trainable_parameters": {name: count for name, (_, count) in steps.items()},
        "seconds": times,
        "times_as_fast": {
            "median": round(statistics.median(ratios), 2),
            "each": [round(r, 2) for r in ratios],
        },
    }
    text = json.dumps(results, indent=1)
    (Path(__file__).parent / "results_train_step.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
