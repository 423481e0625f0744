"""A whole training step on the CPU, 640x640, batch 1: our model beside transformers' Deformable DETR of the same
sizes, weights, frozen layers and optimizer, interleaved. Writes results_train_step.json beside itself.

    python studies/bench_ms_deform_attn/train_step.py [--rounds 7] [--quick]
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
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.build import build_criterion, build_model
from model.ops import live
from model.weights import load
from studies.machine import describe

SIDE, CLASSES, QUERIES, LAYERS, BOXES, DROPOUT = 640, 91, 300, 6, 8, 0.1
SPEC = {
    "model": {
        "backbone": "resnet_50", "backbone_norm": "frozen", "num_queries": QUERIES, "enc_layers": LAYERS,
        "dec_layers": LAYERS, "dropout_ratio": DROPOUT, "aux_loss": True,
    },
    "dataset": {"num_classes": CLASSES},
}  # fmt: skip
OURS, PEER = "ours", "transformers"
Step = Callable[[], torch.Tensor]


def transformers_model() -> nn.Module:
    import transformers

    config = transformers.DeformableDetrConfig(
        backbone_config=transformers.TimmBackboneConfig(
            backbone="resnet50", features_only=True, use_pretrained_backbone=False, out_indices=[2, 3, 4]
        ),
        num_queries=QUERIES, encoder_layers=LAYERS, decoder_layers=LAYERS, num_labels=CLASSES, dropout=DROPOUT,
        activation_dropout=DROPOUT, attention_dropout=DROPOUT, auxiliary_loss=True, with_box_refine=True,
        tie_word_embeddings=False,
    )  # fmt: skip
    network = transformers.DeformableDetrForObjectDetection(config)
    network.model.decoder.bbox_embed = network.bbox_embed
    return network


def freeze_alike(theirs: nn.Module) -> None:
    """The stem and the first stage, as our detector has them."""
    for name, parameter in theirs.named_parameters():
        if "backbone" in name and not any(f"layer{n}" in name for n in (2, 3, 4)):
            parameter.requires_grad_(False)


def trained(network: nn.Module) -> list[nn.Parameter]:
    return [p for p in network.parameters() if p.requires_grad]


def step(network: nn.Module, loss: Callable[[], torch.Tensor]) -> Step:
    optimizer = torch.optim.AdamW(trained(network), lr=1e-5, weight_decay=1e-4, fused=True)

    def run() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(trained(network), 0.1)
        optimizer.step()
        return value.detach()

    return run


def steps(seed: int = 0) -> tuple[dict[str, Step], dict[str, Any]]:
    """The two steps on one batch, and how far the two untrained models' outputs are apart."""
    torch.manual_seed(seed)
    theirs, ours, criterion = transformers_model(), build_model(SPEC), build_criterion(SPEC)
    left = load(ours, theirs.state_dict())
    freeze_alike(theirs)
    images = torch.randn(1, 3, SIDE, SIDE)
    boxes, labels = 0.1 + 0.3 * torch.rand(BOXES, 4), torch.randint(1, CLASSES, (BOXES,))
    mask, present = torch.zeros(1, SIDE, SIDE, dtype=torch.bool), torch.ones(1, SIDE, SIDE, dtype=torch.long)
    with torch.no_grad():
        wanted, got = theirs.eval()(images, present), ours.eval()(images, mask)
    found: dict[str, Any] = {
        "parameters_trained": {
            n: sum(p.numel() for p in trained(m)) for n, m in ((OURS, ours), (PEER, theirs))
        },
        "largest_difference": {
            "logits": float((got["pred_logits"] - wanted.logits).abs().max()),
            "boxes": float((got["pred_boxes"] - wanted.pred_boxes).abs().max()),
        },
        "left_out_of_the_comparison": left,
    }
    assert max(found["largest_difference"].values()) < 1e-3, found
    ours.train(), theirs.train()
    targets = [{"labels": labels, "boxes_cxcywh": boxes}]
    rows = [{"class_labels": labels, "boxes": boxes}]
    losses = {
        OURS: step(ours, lambda: criterion(ours(images, mask, targets), targets)["loss"]),
        PEER: step(theirs, lambda: theirs(images, present, labels=rows).loss),
    }
    return losses, found


def main(rounds: int) -> dict[str, Any]:
    ways, found = steps()
    ms: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        assert torch.isfinite(way())
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            ms[name].append((time.perf_counter() - began) * 1e3)
    ratios = [theirs / ours for ours, theirs in zip(ms[OURS], ms[PEER], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "path": live("cpu")[1], "threads": torch.get_num_threads(), "rounds": rounds, **found,
        "ms": {name: [round(value, 1) for value in values] for name, values in ms.items()},
        "times_as_fast": {
            "median": round(statistics.median(ratios), 2), "quartiles": [round(quartiles[i], 2) for i in (0, 2)],
            "of_minima": round(min(ms[PEER]) / min(ms[OURS]), 2),
        },
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="2 rounds, nothing written")
    options = parser.parse_args()
    results = {"machine": describe(), **main(2 if options.quick else options.rounds)}
    text = json.dumps(results, indent=1)
    print(text)
    if not options.quick:
        (Path(__file__).parent / "results_train_step.json").write_text(text + "\n")
