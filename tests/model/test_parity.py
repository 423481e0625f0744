"""Equal to an independent Deformable DETR, that of transformers, weights carried over by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from model import weights
from model.build import build_model
from model.errors import UserError
from tests.model.choices import as_good_as_the_best

transformers = pytest.importorskip("transformers")

VARIANTS = {
    "plain": {"with_box_refine": False},
    "refine": {"with_box_refine": True},
    "two-stage": {"with_box_refine": True, "two_stage": True},
}


def ours_of(variant: str, **more: Any) -> Any:
    model = {
        "backbone": "resnet_18", "hidden_dim": 64, "nheads": 4, "dim_feedforward": 96, "enc_layers": 2,
        "dec_layers": 3, "num_queries": 100, "num_select": 50, "dec_n_points": 3, "dropout_ratio": 0.0,
    }  # fmt: skip
    spec = {"model": model | VARIANTS[variant] | more, "dataset": {"num_classes": 5}}
    return build_model(spec).eval()


def theirs_of(variant: str) -> Any:
    """With every weight and statistic drawn anew, so that nothing is hidden by zeros."""
    config = transformers.DeformableDetrConfig(
        backbone_config=transformers.TimmBackboneConfig(
            backbone="resnet18", features_only=True, use_pretrained_backbone=False, out_indices=[2, 3, 4]
        ),
        d_model=64, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=96,
        decoder_ffn_dim=96, encoder_layers=2, decoder_layers=3, num_queries=100, two_stage_num_proposals=100,
        num_labels=5, decoder_n_points=3, dropout=0.0, tie_word_embeddings=variant == "plain", **VARIANTS[variant],
    )  # fmt: skip
    torch.manual_seed(3)
    network = transformers.DeformableDetrForObjectDetection(config).eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if "running_var" in name:
                tensor.uniform_(0.5, 2.0)
            elif "sampling_offsets.bias" in name:
                tensor.uniform_(-3.0, 3.0)
            elif tensor.is_floating_point() and ("norm" in name or "running" in name or ".bn" in name):
                tensor.add_(0.1 * torch.randn_like(tensor))
            elif tensor.is_floating_point() and "backbone" not in name:
                tensor.add_(0.05 * torch.randn_like(tensor))
    if VARIANTS[variant].get("with_box_refine"):
        network.model.decoder.bbox_embed = network.bbox_embed
    if VARIANTS[variant].get("two_stage"):
        network.model.decoder.class_embed = network.class_embed
    return network


def padded_batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(4)
    images, mask = torch.randn(2, 3, 128, 160), torch.zeros(2, 128, 160, dtype=torch.bool)
    mask[1, 90:], mask[1, :, 121:] = True, True
    return images.masked_fill(mask[:, None], 0.0), mask


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_padded_batch_gives_what_transformers_gives(variant: str) -> None:
    theirs, ours = theirs_of(variant), ours_of(variant)
    assert weights.load(ours, theirs.state_dict()) == []
    images, mask = padded_batch()
    with torch.no_grad():
        wanted = theirs(pixel_values=images, pixel_mask=(~mask).long())
        # theirs has no other record of its choice
        chosen = wanted.enc_outputs_class[..., 0].topk(100).indices if variant == "two-stage" else None
        got = ours(images, mask, None, chosen)
    assert wanted.logits.std() > 0.1
    assert wanted.pred_boxes.std() > 0.01
    assert (wanted.logits[0] - wanted.logits[1]).abs().max() > 0.1
    assert torch.allclose(got["pred_logits"], wanted.logits, rtol=0, atol=1e-5)
    assert torch.allclose(got["pred_boxes"], wanted.pred_boxes, rtol=0, atol=1e-6)
    if variant == "two-stage":
        cells = wanted.enc_outputs_coord_logits.sigmoid()
        assert torch.allclose(got["enc_outputs"]["pred_boxes"], cells, rtol=0, atol=1e-6)
        assert torch.allclose(got["enc_outputs"]["pred_logits"], wanted.enc_outputs_class, rtol=0, atol=1e-5)
        assert as_good_as_the_best(got["enc_outputs"]["pred_logits"][..., 0], chosen, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_round_trip_through_every_layout_changes_no_bit(variant: str, tmp_path: Path) -> None:
    source, target = ours_of(variant, backbone_norm="frozen"), ours_of(variant, backbone_norm="frozen")
    a = source.state_dict()
    for layout in weights.LAYOUTS:
        torch.save(weights.save(source, layout), tmp_path / "w.pth")
        with torch.no_grad():
            for parameter in target.parameters():
                parameter.zero_()
        assert weights.load(target, tmp_path / "w.pth") == []
        b = target.state_dict()
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_takes_our_weights_under_its_names(variant: str) -> None:
    theirs = theirs_of(variant)
    saved = weights.save(ours_of(variant, backbone_norm="frozen"), "hugging_face")
    assert set(saved) == set(theirs.state_dict())
    theirs.load_state_dict(saved, strict=True)


def test_safetensors_of_version_4_names(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    source, target = ours_of("refine"), ours_of("refine")
    state = {k: v.clone().contiguous() for k, v in weights.save(source, "hugging_face_v4").items()}
    assert "model.decoder.layers.0.self_attn.out_proj.weight" in state
    assert "model.encoder.layers.1.fc1.weight" in state
    assert "model.backbone.conv_encoder.model.conv1.weight" in state
    save_file(state, tmp_path / "model.safetensors")
    assert weights.load(target, tmp_path / "model.safetensors") == []
    assert torch.equal(target.bbox_embed[2].layers[1].weight, source.bbox_embed[2].layers[1].weight)


def test_tao_s_prefix_and_no_mask_option_reproduce_what_tao_computes() -> None:
    """TAO passes no mask to the attention, so padding carries values; its weights expect that."""
    normal = ours_of("refine")
    weights.load(normal, theirs_of("refine").state_dict())
    tao = ours_of("refine", tao_compat=True)
    weights.load(tao, weights.save(normal, "tao"))
    images, mask = padded_batch()
    with torch.no_grad():
        a, b = normal(images, mask)["pred_logits"], tao(images, mask)["pred_logits"]
    assert torch.allclose(a[0], b[0], atol=1e-5)  # nothing padded
    assert (a[1] - b[1]).abs().max() > 1e-2


def test_heads_that_differ_do_not_fit_into_one() -> None:
    saved = weights.save(ours_of("refine"), "official")
    saved["class_embed.1.weight"] = saved["class_embed.1.weight"] + 1
    with pytest.raises(UserError, match="need model.with_box_refine"):
        weights.load(ours_of("plain"), {k: v for k, v in saved.items() if "decoder.bbox" not in k})


def test_weights_of_one_stage_do_not_fit_two_stages() -> None:
    with pytest.raises(UserError) as caught:
        weights.load(ours_of("two-stage"), weights.save(ours_of("refine"), "hugging_face"))
    assert "missing: bbox_embed.3.layers.0.bias, " in str(caught.value)
    assert "unexpected: query_embed.weight, transformer.reference_points" in str(caught.value)


def test_two_stages_of_few_cells_give_as_many_queries() -> None:
    detector = ours_of("two-stage", mixed_selection=True)
    outputs = detector(torch.randn(2, 3, 64, 64))
    assert outputs["pred_logits"].shape == (2, 64 + 16 + 4 + 1, 5)
    assert outputs["pred_boxes"].isfinite().all()


def moved(cells: torch.Tensor, small: list[tuple[int, int]], large: list[tuple[int, int]]) -> torch.Tensor:
    """Numbers of cells, counted over levels of the small sizes (H, W) -> the same cells counted over the large."""
    where, offset = torch.empty(sum(h * w for h, w in small), dtype=torch.long), 0
    start = 0
    for (h, w), (height, width) in zip(small, large, strict=True):
        rows = torch.arange(h)[:, None] * width + torch.arange(w)
        where[start : start + h * w] = offset + rows.flatten()
        start, offset = start + h * w, offset + height * width
    return where[cells]


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_a_batch_changes_no_detection_when_padding_is_exact(variant: str) -> None:
    """Sides that are no multiple of any stride; the neighbour is larger both ways."""
    detector = ours_of(variant, exact_padding=True)
    weights.load(detector, theirs_of(variant).state_dict())
    torch.manual_seed(1)
    image, mask = torch.randn(1, 3, 101, 131), torch.ones(2, 170, 200, dtype=torch.bool)
    batch = torch.randn(2, 3, 170, 200)
    batch[:1, :, :101, :131] = image
    mask[0, :101, :131], mask[1] = False, False
    chosen = None
    with torch.no_grad():
        alone = detector(image)
        if variant == "two-stage":
            sizes = [[tuple(m.shape[2:]) for m in detector.project(x)] for x in (image, batch)]
            own = detector(batch[1:])["enc_outputs"]["chosen"]
            chosen = torch.cat([moved(alone["enc_outputs"]["chosen"], *sizes), own])
        padded = detector(batch, mask, None, chosen)
        if chosen is not None:
            free = detector(batch, mask)["enc_outputs"]
            scores = free["pred_logits"][..., 0].gather(1, free["chosen"])
            best = padded["enc_outputs"]["pred_logits"][..., 0].gather(1, chosen)
            assert torch.allclose(scores, best, rtol=0, atol=1e-5)
    assert (alone["pred_logits"][0] - padded["pred_logits"][0]).abs().max() <= 1e-5
    assert (alone["pred_boxes"][0] - padded["pred_boxes"][0]).abs().max() <= 1e-5
    assert (alone["pred_logits"][0] - padded["pred_logits"][1]).abs().max() > 0.1
