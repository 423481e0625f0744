"""Every backbone: names, shapes, equality with an independent implementation, pretrained files, freezing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision

from automl.space.cli import read_space
from model.backbone import build_backbone, classifier_names
from model.build import build_model
from model.errors import UserError
from model.gcvit import SIZES, GCViT
from model.spec import default_spec, resolve
from model.weights import load_backbone


def backbone_of(name: str, **model: Any) -> Any:
    return build_backbone(resolve("train", {"model": {"backbone": name, **model}}))


STAGES = {"return_interm_indices": [0, 1, 2, 3], "num_feature_levels": 4}


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet_18", [64, 128, 256, 512]),
        ("resnet_34", [64, 128, 256, 512]),
        ("resnet_50", [256, 512, 1024, 2048]),
        ("resnet_101", [256, 512, 1024, 2048]),
        ("gc_vit_xxtiny", [64, 128, 256, 512]),
        ("timm/efficientnet_b0", [24, 40, 112, 320]),
        ("timm/convnext_atto", [40, 80, 160, 320]),
    ],
)
def test_four_maps_of_strides_4_to_32(name: str, channels: list[int]) -> None:
    backbone = backbone_of(name, **STAGES).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(c, 16 >> i, 24 >> i) for i, c in enumerate(channels)]
    assert backbone.channels == channels


@pytest.mark.parametrize("name", ["resnet_18", "gc_vit_xxtiny", "timm/mobilenetv3_small_050"])
def test_a_detector_on_it_learns_everywhere(tiny: dict[str, Any], name: str) -> None:
    tiny["model"]["backbone"] = name
    detector = build_model(tiny)
    with torch.no_grad():
        for head in detector.bbox_embed:
            head.last.weight.normal_(std=0.1)
    detector(torch.randn(2, 3, 64, 64))["pred_boxes"].sum().backward()
    body = [(n, p) for n, p in detector.named_parameters() if n.startswith("backbone.0.body.")]
    assert [n for n, p in body if p.grad is None] == []
    assert len(body) > 20


# GCViT

DEPTHS = {
    "gc_vit_xxtiny": 12e6, "gc_vit_xtiny": 20e6, "gc_vit_tiny": 28e6, "gc_vit_small": 51e6,
    "gc_vit_base": 90e6, "gc_vit_large": 201e6, "gc_vit_large_384": 202e6,
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_gcvit_has_the_published_number_of_parameters(name: str) -> None:
    """As of the paper's table, which counts the classifier."""
    with torch.device("meta"):
        network = GCViT(SIZES[name], [0, 1, 2, 3], checkpointing=False)
    count = sum(p.numel() for p in network.parameters()) + 1000 * SIZES[name].widths[3]
    assert count == pytest.approx(DEPTHS[name], rel=0.03)


def _arguments(kind: Any) -> dict[str, Any]:
    """What timm builds a size with."""
    found: dict[str, Any] = {}
    original = timm.models.gcvit._create_gcvit
    try:
        timm.models.gcvit._create_gcvit = lambda name, pretrained=False, **options: found.update(options)
        kind()
    finally:
        timm.models.gcvit._create_gcvit = original
    return found


def timm_name(name: str) -> str:
    """Our name in timm's GCViT, which puts the halving at the beginning of the next stage."""
    name = re.sub(r"^levels\.(\d)\.downsample\.", lambda m: f"stages.{int(m[1]) + 1}.downsample.", name)
    for ours, theirs in (
        ("patch_embed.proj.", "stem.conv1."), ("patch_embed.conv_down.", "stem.down."),
        ("levels.", "stages."), (".reduction.", ".reduction."), ("relative_position_bias_table", "rel_pos.relative_position_bias_table"),
        ("relative_position_index", "rel_pos.relative_position_index"), ("gamma1", "ls1.gamma"), ("gamma2", "ls2.gamma"),
        ("norm3.", "stages.3.norm."),
    ):  # fmt: skip
        name = (
            name.replace(ours, theirs) if not ours.startswith("norm3") or name.startswith("norm3") else name
        )
    name = re.sub(
        r"q_global_gen\.to_q_global\.(\d)\.", lambda m: f"global_block.blocks.conv{int(m[1]) + 1}.", name
    )
    for ours, theirs in (
        ("conv.0.", "conv_dw."), ("conv.2.fc.0.", "se.fc1."), ("conv.2.fc.2.", "se.fc2."), ("conv.3.", "conv_pw."),
    ):  # fmt: skip
        block = name.startswith("stem.") or ".downsample." in name
        name = name.replace(f"{'.' if block else ''}{ours}", f"{'.conv_block.' if block else ''}{theirs}")
    return name


@pytest.mark.parametrize("name", ["gc_vit_xxtiny", "gc_vit_small"])
def test_gcvit_equals_timm_s_at_224(name: str) -> None:
    """Two blocks a level: one with local, one with global queries."""
    depths = (2, 2, 2, 2)
    kind = getattr(timm.models.gcvit, name.replace("gc_vit", "gcvit"))
    theirs = timm.models.gcvit.GlobalContextVit(**_arguments(kind) | {"depths": depths}).eval()
    ours = GCViT(replace(SIZES[name], depths=depths), [0, 1, 2, 3], checkpointing=False).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for n, p in theirs.named_parameters():
            if "gamma" in n:
                p.uniform_(0.5, 1.0)
            elif "norm" in n or p.dim() == 1 or "bias" in n:
                p.add_(0.1 * torch.randn_like(p))
    state = theirs.state_dict()
    mapped = {}
    for n, value in ours.state_dict().items():
        source = state.get(timm_name(n))
        if source is None:
            assert n.startswith(("norm0", "norm1", "norm2")) or n.endswith("position_index"), n
            source = value
        mapped[n] = source.reshape(value.shape)
    ours.load_state_dict(mapped, strict=True)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        wanted, got = theirs.forward_features(images), ours(images)["3"]
    assert wanted.std() > 0.1
    assert (wanted - got).abs().max() < 1e-4 * wanted.abs().max()


def test_gcvit_takes_images_of_any_size_each_for_itself() -> None:
    torch.manual_seed(0)
    network = GCViT(SIZES["gc_vit_xxtiny"], [1, 2, 3], checkpointing=False).eval()
    images = torch.randn(2, 3, 75, 130)
    with torch.no_grad():
        maps, alone = network(images), network(images[1:])
    assert [tuple(m.shape[2:]) for m in maps.values()] == [(10, 17), (5, 9), (3, 5)]
    assert all(torch.allclose(maps[k][1:], alone[k], atol=1e-5) for k in maps)


def test_gcvit_of_384_pools_where_its_window_is_not_the_map() -> None:
    with torch.device("meta"):
        network = GCViT(SIZES["gc_vit_large_384"], [3], checkpointing=False)
    assert [len(level.q_global_gen.to_q_global) for level in network.levels] == [3, 2, 1, 1]
    assert network.levels[2].q_global_gen.to_q_global[0].halve
    assert not GCViT(SIZES["gc_vit_xxtiny"], [3], False).levels[2].q_global_gen.to_q_global[0].halve


def test_gcvit_s_names_are_nvidia_s() -> None:
    names = set(backbone_of("gc_vit_small", **STAGES).state_dict())
    for name in (
        "body.patch_embed.proj.weight", "body.patch_embed.conv_down.conv.2.fc.0.weight",
        "body.patch_embed.conv_down.reduction.weight", "body.levels.0.blocks.1.attn.qkv.weight",
        "body.levels.2.blocks.18.attn.relative_position_bias_table", "body.levels.0.blocks.0.gamma1",
        "body.levels.0.blocks.0.attn.relative_position_index", "body.levels.3.blocks.4.mlp.fc2.bias",
        "body.levels.0.q_global_gen.to_q_global.2.conv.3.weight", "body.levels.2.downsample.norm2.weight",
        "body.norm0.weight", "body.norm3.bias",
    ):  # fmt: skip
        assert name in names


def test_gcvit_checkpointing_changes_nothing() -> None:
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = GCViT(SIZES["gc_vit_xxtiny"], [0, 1], checkpointing)
        torch.manual_seed(1)
        network(torch.randn(1, 3, 64, 64))["1"].sum().backward()
        results.append(network.patch_embed.proj.weight.grad)
    assert torch.allclose(results[0], results[1], atol=1e-5)


# Pretrained files


def test_a_resnet_s_file_under_every_prefix(tmp_path: Path) -> None:
    source = torchvision.models.resnet18()
    body = backbone_of("resnet_18").body
    for prefix in ("", "module.", "backbone.", "model.", "backbone.0.body."):
        state = {prefix + k: v for k, v in source.state_dict().items()} | {"ema_decay": torch.zeros(1)}
        torch.save({"state_dict": state}, tmp_path / "w.pth")
        torch.nn.init.zeros_(body.get_parameter("layer4.1.conv2.weight"))
        load_backbone(body, tmp_path / "w.pth", classifier_names("resnet_18"))
        assert torch.equal(body.get_parameter("layer4.1.conv2.weight"), source.layer4[1].conv2.weight)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "convnext_atto"])
def test_a_timm_file_fills_timm_s_extractor(tmp_path: Path, name: str) -> None:
    from safetensors.torch import save_file

    source = timm.create_model(name)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    spec = {
        "model": {"backbone": f"timm/{name}", "pretrained_backbone_path": str(tmp_path / "w.safetensors")}
    }
    body = build_model(spec).get_submodule("backbone.0.body").state_dict()
    flat = {k.replace(".", "_"): v for k, v in source.state_dict().items()}
    assert len(body) > 20
    assert all(torch.equal(v, flat[k.replace(".", "_")]) for k, v in body.items())
    state = source.state_dict()
    del state["stem.0.weight" if name == "convnext_atto" else next(iter(state))]
    torch.save(state | {"stray": torch.zeros(1)}, tmp_path / "w.pth")
    spec["model"]["pretrained_backbone_path"] = str(tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"missing: .*\n  unexpected: stray"):
        build_model(spec)


def test_nvidia_s_classifier_file_fills_a_gcvit(tmp_path: Path) -> None:
    source = GCViT(SIZES["gc_vit_xxtiny"], [3], checkpointing=False)
    state = {k.replace("q_global_gen.", ""): v for k, v in source.state_dict().items() if "norm3" not in k}
    state |= {
        "norm.weight": torch.ones(512),
        "norm.bias": torch.ones(512),
        "head.weight": torch.ones(10, 512),
    }
    torch.save(state, tmp_path / "w.pth")
    spec = {"model": {"backbone": "gc_vit_xxtiny", "pretrained_backbone_path": str(tmp_path / "w.pth")}}
    body = build_model(spec).get_submodule("backbone.0.body")
    name = "levels.1.q_global_gen.to_q_global.1.conv.0.weight"
    assert torch.equal(body.get_parameter(name), source.get_parameter(name))


# Options


def test_train_backbone_false_stops_all_of_it() -> None:
    for name in ("resnet_18", "gc_vit_xxtiny", "timm/mobilenetv3_small_050"):
        assert not any(p.requires_grad for p in backbone_of(name, train_backbone=False).parameters())


def test_norms() -> None:
    frozen = backbone_of("timm/mobilenetv3_small_050", backbone_norm="frozen")
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in frozen.modules())
    assert any(
        isinstance(m, torch.nn.GroupNorm) for m in backbone_of("resnet_18", backbone_norm="group").modules()
    )


def test_dilation_keeps_the_last_map_fine() -> None:
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        a, b = (backbone_of("resnet_50", dilation=d)(image)[-1].shape for d in (False, True))
    assert (a[2], b[2]) == (2, 4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"backbone": "timm/no_such_net"}, "timm offers no feature maps of it"),
        ({"backbone": "timm/vit_tiny_patch16_224"}, "needs maps of stride"),
        ({"backbone": "timm/efficientnet_b0", "backbone_norm": "group"}, "group is for resnet"),
        ({"backbone": "gc_vit_tiny", "dilation": True}, "dilation needs resnet_50"),
        ({"backbone": "resnet_18", "dilation": True}, "needs resnet_50 or resnet_101"),
        ({"return_interm_indices": [4], "num_feature_levels": 1}, "must hold a stage from 0 to 3"),
    ],
)
def test_what_a_backbone_cannot_be(model: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_backbone(resolve("train", {"model": model}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        {"two_stage": True, "mixed_selection": True, "return_interm_indices": [1, 2]},
        {"backbone": "gc_vit_xxtiny"},
        {"backbone": "timm/mobilenetv3_small_050"},
    ],
)
def test_it_exports(tiny: dict[str, Any], tmp_path: Path, model: dict[str, Any]) -> None:
    from model.deploy.onnx_export import export

    tiny["model"] |= model
    written = export(build_model(tiny).eval(), tmp_path / "m.onnx", 96, 64)
    assert written["opset"] == 17
    assert max(written["max_abs_logits"], written["max_abs_boxes"]) < 1e-5


def test_what_the_widest_space_draws_can_be_built() -> None:
    """None has a backbone or a norm that only the builder would refuse, in the middle of a search."""
    space, random = read_space(None, "deformable_detr", None, None, None, "all"), np.random.default_rng(0)
    for point in random.random((60, space.dimensions)):
        full = resolve("train", space.apply(default_spec("train"), space.decode(point)))
        with torch.device("meta"):
            build_backbone(full)
