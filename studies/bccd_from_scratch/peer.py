"""transformers' Deformable DETR trained from scratch by a plain loop, for a given wall time.

The published recipe: AdamW at 2e-4 (backbone, sampling offsets and reference points at a tenth), weight decay 1e-4,
gradients clipped at 0.1, dropout 0.1, one drop of the rates by ten after 80 % of the training, last weights taken.
Without pretrained weights batch norm trains, and nothing is frozen. Images come from our loader, whose train pipeline
is the published one and costs the loop less than torchvision's would.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.build import build_model
from model.coco_metrics import CocoMetrics
from model.data.coco import load_sources
from model.data.loaders import eval_loader
from model.data.module import DataModule
from model.data.transforms import EvalTransform, exact_size
from model.postprocess import postprocess

LR, SLOW = 2e-4, 0.1
SLOW_NAMES = ("backbone", "reference_points", "sampling_offsets")
WEIGHT_DECAY, CLIP, DROPOUT, DROP_AT = 1e-4, 0.1, 0.1, 0.8
COUNTED = ("mAP", "mAP50", "mAP75", "mAP_small", "mAP_medium", "mAP_large")


def build(spec: Mapping[str, Any]) -> nn.Module:
    """The network of the spec's sizes: same backbone, levels, layers, widths and queries, boxes refined."""
    import transformers

    sizes = spec["model"]
    backbone = sizes["backbone"]
    backbone = backbone.removeprefix("timm/") if "/" in backbone else backbone.replace("_", "")
    config = transformers.DeformableDetrConfig(
        backbone_config=transformers.TimmBackboneConfig(
            backbone=backbone, features_only=True, use_pretrained_backbone=False, out_indices=[2, 3, 4]
        ),
        d_model=sizes["hidden_dim"], num_feature_levels=sizes["num_feature_levels"],
        encoder_layers=sizes["enc_layers"], decoder_layers=sizes["dec_layers"],
        encoder_ffn_dim=sizes["dim_feedforward"], decoder_ffn_dim=sizes["dim_feedforward"],
        encoder_attention_heads=sizes["nheads"], decoder_attention_heads=sizes["nheads"],
        encoder_n_points=sizes["enc_n_points"], decoder_n_points=sizes["dec_n_points"],
        num_queries=sizes["num_queries"], num_labels=spec["dataset"]["num_classes"],
        dropout=DROPOUT, activation_dropout=DROPOUT, attention_dropout=DROPOUT, auxiliary_loss=True,
        with_box_refine=sizes["with_box_refine"], two_stage=False, tie_word_embeddings=False,
    )  # fmt: skip
    network = transformers.DeformableDetrForObjectDetection(config)
    if sizes["with_box_refine"]:
        network.model.decoder.bbox_embed = network.bbox_embed
    if sizes["pretrained_backbone_path"]:
        # Ours, of the same weights and frozen norms: transformers' freezing drops the activations that timm's
        # EfficientNets keep in their norms.
        network.model.backbone.model = build_model(spec).backbone[0]
    else:
        _train_batch_norm(network)
    return network.requires_grad_(True)


def _train_batch_norm(module: nn.Module) -> None:
    """transformers replaces every batch norm of the backbone by a frozen one; of random weights that cannot work."""
    for name, child in module.named_children():
        if type(child).__name__ == "DeformableDetrFrozenBatchNorm2d":
            setattr(module, name, nn.BatchNorm2d(len(child.weight)))
        else:
            _train_batch_norm(child)


def train(
    network: nn.Module, data: DataModule, seconds: float, lr: float = LR, slow: float = SLOW
) -> list[dict[str, float]]:
    """Train for a wall time, the start of the loader included. Returns a row per epoch."""
    began, epoch, rows, dropped, out_of_time = time.monotonic(), 0, [], False, False
    names = dict(network.named_parameters())
    slowly = [p for n, p in names.items() if any(word in n for word in SLOW_NAMES)]
    others = [p for n, p in names.items() if not any(word in n for word in SLOW_NAMES)]
    optimizer = torch.optim.AdamW(
        [{"params": others, "lr": lr}, {"params": slowly, "lr": lr * slow}], weight_decay=WEIGHT_DECAY
    )
    loader = data.train_dataloader()
    loader.sampler.epoch = lambda: epoch  # type: ignore[attr-defined]
    network.train()
    while not out_of_time:
        losses = []
        for images, mask, targets in loader:
            if not dropped and time.monotonic() - began > DROP_AT * seconds:
                dropped = True
                for group in optimizer.param_groups:
                    group["lr"] *= 0.1
            labels = [{"class_labels": t["labels"], "boxes": t["boxes_cxcywh"]} for t in targets]
            loss = network(images, (~mask).long(), labels=labels).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            losses.append(float(loss.detach()))
            if out_of_time := time.monotonic() - began > seconds:
                break
        epoch += 1
        rows.append(
            {"epoch": epoch, "train_loss": sum(losses) / len(losses), "seconds": time.monotonic() - began}
        )
        print(rows[-1], flush=True)
    return rows


@torch.no_grad()
def score(
    network: nn.Module, spec: Mapping[str, Any], sources: Sequence[Mapping[str, str]]
) -> dict[str, float]:
    """The COCO numbers on a data set, detections chosen and counted as ours are."""
    network.eval()
    data = load_sources(sources)
    metrics = CocoMetrics(data)
    transform = EvalTransform(spec, exact_size(spec, "train"))
    for images, mask, targets in eval_loader(data, transform, spec["dataset"]["batch_size"], 0):
        found = network(images, (~mask).long())
        outputs = {"pred_logits": found.logits, "pred_boxes": found.pred_boxes}
        sizes = [t["orig_size"] for t in targets]
        detections = postprocess(outputs, sizes, spec["model"]["num_select"])
        metrics.update([{"image_id": t["image_id"], **d} for t, d in zip(targets, detections, strict=True)])
    scores = metrics.compute()
    return {name: float(scores[name]) for name in COUNTED}


def run(spec: Mapping[str, Any], seconds: float, folder: Path, **rates: float) -> dict[str, Any]:
    """Train, save the weights, score them on both sets."""
    torch.manual_seed(spec["train"]["seed"])
    network = build(spec)
    data = DataModule(spec)
    data.setup("fit")
    began = time.monotonic()
    rows = train(network, data, seconds, **rates)
    wall_s = time.monotonic() - began
    torch.save(network.state_dict(), folder / "weights.pth")
    return {
        "epochs": len(rows), "wall_s": round(wall_s), "losses": [round(r["train_loss"], 3) for r in rows],
        "val": score(network, spec, spec["dataset"]["val_data_sources"]),
        "test": score(network, spec, [spec["dataset"]["test_data_sources"]]),
    }  # fmt: skip
