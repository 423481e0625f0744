import math

import pytest
import torch
from torch import nn

from model.backbone import norm_of
from model.boxes import cxcywh_to_xyxy, inverse_sigmoid, pairwise_giou
from model.build import build_criterion, build_model
from model.matcher import match
from model.ops import ms_deform_attn
from model.position import sine_embedding
from model.postprocess import postprocess
from model.spec import resolve


def naive_attention(value, shapes, locations, weights):
    """Sampling written as loops, one scalar bilinear read at a time."""
    B, _, M, D = value.shape
    _, Q, _, L, P, _ = locations.shape
    out = torch.zeros(B, Q, M, D, dtype=value.dtype)
    starts = [sum(h * w for h, w in shapes[:level]) for level in range(L)]
    for b in range(B):
        for q in range(Q):
            for m in range(M):
                for level, (h, w) in enumerate(shapes):
                    for p in range(P):
                        x = float(locations[b, q, m, level, p, 0]) * w - 0.5
                        y = float(locations[b, q, m, level, p, 1]) * h - 0.5
                        for dy in (0, 1):
                            for dx in (0, 1):
                                cx, cy = math.floor(x) + dx, math.floor(y) + dy
                                share = (1 - abs(x - cx)) * (1 - abs(y - cy))
                                if 0 <= cx < w and 0 <= cy < h:
                                    cell = value[b, starts[level] + cy * w + cx, m]
                                    out[b, q, m] += weights[b, q, m, level, p] * share * cell
    return out.flatten(2)


@pytest.mark.parametrize("queries", [1, 5])
def test_attention_equals_loops_inside_at_the_border_and_outside(queries: int) -> None:
    torch.manual_seed(queries)
    shapes = [(4, 6), (2, 3)]
    value = torch.randn(2, 30, 2, 3, dtype=torch.float64)
    locations = torch.rand(2, queries, 2, 2, 3, 2, dtype=torch.float64) * 1.6 - 0.3
    weights = torch.rand(2, queries, 2, 2, 3, dtype=torch.float64)
    wanted = naive_attention(value, shapes, locations, weights)
    assert torch.allclose(ms_deform_attn(value, shapes, locations, weights), wanted, atol=1e-12)
    assert torch.allclose(ms_deform_attn(value, torch.tensor(shapes), locations, weights), wanted, atol=1e-12)


def test_position_embedding_of_one_cell_by_hand() -> None:
    embedding = sine_embedding(torch.ones(1, 2, 3, dtype=torch.bool), 8)
    x = (2 - 0.5) / 3 * 2 * math.pi  # second column of three
    wanted = [math.sin(x), math.cos(x), math.sin(x / 100), math.cos(x / 100)]
    assert torch.allclose(embedding[0, 4:, 0, 1], torch.tensor(wanted), atol=1e-5)


def test_giou_of_known_boxes() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    b = torch.tensor([[0.0, 0.0, 2.0, 2.0], [2.0, 2.0, 4.0, 4.0], [1.0, 0.0, 3.0, 2.0]])
    assert torch.allclose(pairwise_giou(a, b), torch.tensor([[1.0, -0.5, 1 / 3]]), atol=1e-6)


def test_inverse_sigmoid_inverts_and_stays_finite() -> None:
    x = torch.linspace(0.001, 0.999, 50)
    assert torch.allclose(inverse_sigmoid(x).sigmoid(), x, atol=1e-6)
    assert inverse_sigmoid(torch.tensor([0.0, 1.0])).isfinite().all()


def test_shapes_and_ranges(tiny) -> None:
    outputs = build_model(tiny)(torch.randn(2, 3, 64, 64))
    assert outputs["pred_logits"].shape == (2, 100, 4)
    assert outputs["pred_boxes"].shape == (2, 100, 4)
    assert len(outputs["aux_outputs"]) == 1
    assert ((outputs["pred_boxes"] > 0) & (outputs["pred_boxes"] < 1)).all()


def test_model_package_offers_build_model_lazily() -> None:
    import model

    assert model.build_model is build_model
    with pytest.raises(AttributeError, match="no attribute 'bild_model'"):
        _ = model.bild_model


def test_untrained_scores_are_the_prior(tiny) -> None:
    detector = build_model(tiny)
    assert torch.allclose(detector.class_embed[0].bias.sigmoid(), torch.full((4,), 0.01))
    assert detector.bbox_embed[0].layers[-1].bias.tolist() == [0, 0, -2, -2]
    assert detector.bbox_embed[1].layers[-1].bias.tolist() == [0, 0, 0, 0]


def test_the_published_start(tiny) -> None:
    torch.manual_seed(0)
    detector = build_model(tiny)
    attention = detector.transformer.encoder.layers[0].self_attn
    offsets = attention.sampling_offsets.bias.view(4, 2, 4, 2)  # heads, levels, points, xy
    for head, direction in enumerate([(1, 0), (0, 1), (-1, 0), (0, -1)]):
        for point in range(4):
            wanted = torch.tensor(direction) * (point + 1.0)
            assert torch.allclose(offsets[head, :, point], wanted.expand(2, 2), atol=1e-6)
    for layer in (attention.sampling_offsets, attention.attention_weights):
        assert not layer.weight.any()
    assert not attention.attention_weights.bias.any()
    for layer in (attention.value_proj, attention.output_proj):
        assert layer.weight.abs().max() <= math.sqrt(6 / 64)  # xavier
        assert not layer.bias.any()
    for drawn in (detector.transformer.level_embed, detector.query_embed.weight):
        assert float(drawn.detach().std()) == pytest.approx(1.0, rel=0.25)
    for head in detector.bbox_embed:
        assert not head.layers[-1].weight.any()
    tiny["model"]["two_stage"] = True
    assert not any(head.layers[-1].bias.any() for head in build_model(tiny).bbox_embed)


@pytest.mark.parametrize("refine", [False, True])
def test_heads_are_one_module_without_refinement_and_copies_with_it(tiny, refine: bool) -> None:
    tiny["model"]["with_box_refine"] = refine
    detector = build_model(tiny)
    assert (detector.class_embed[0] is detector.class_embed[1]) == (not refine)
    names = [n for n, _ in detector.named_parameters() if n.startswith("bbox_embed")]
    assert len(names) == 6 * (2 if refine else 1)  # each once in the optimizer
    assert "bbox_embed.1.layers.0.weight" in detector.state_dict()  # under every name in a file


def test_two_stage_boxes_of_nowhere_leave_finite_gradients_in_bf16(tiny) -> None:
    """Cells on padding have infinite logits; none may turn into NaN."""
    tiny["model"] |= {"two_stage": True, "mixed_selection": True, "return_interm_indices": [1, 2]}
    detector, criterion = build_model(tiny), build_criterion(tiny)
    mask = torch.zeros(2, 96, 96, dtype=torch.bool)
    mask[1, 20:] = True  # fewer usable cells than queries
    targets = [{"labels": torch.tensor([1]), "boxes_cxcywh": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}] * 2
    with torch.autocast("cpu", torch.bfloat16):
        outputs = detector(torch.randn(2, 3, 96, 96), mask)
    loss = criterion(outputs, targets)["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in detector.parameters())


def test_transformer_ignores_what_lies_under_the_mask(tiny) -> None:
    """Exactly, whatever the padded cells hold; the backbone is left out, whose border effects are its own."""
    torch.manual_seed(0)
    detector = build_model(tiny).eval()
    with torch.no_grad():
        for p in detector.transformer.parameters():
            p.add_(0.05 * torch.randn_like(p))
    masks = [torch.zeros(1, 8, 8, dtype=torch.bool), torch.zeros(1, 4, 4, dtype=torch.bool)]
    masks[0][:, :, 4:], masks[1][:, :, 2:] = True, True
    results = []
    for filler in (0.0, 7.0):
        torch.manual_seed(1)
        maps = [torch.randn(1, 32, 8, 8), torch.randn(1, 32, 4, 4)]
        for m, mask in zip(maps, masks, strict=True):
            m.masked_fill_(mask[:, None], filler)
        positions = [sine_embedding(~mask, 32) for mask in masks]
        memory = detector.transformer.encode(maps, masks, positions, padded=True)
        results.append(detector.decode_queries(*memory)[0][-1])
    assert torch.allclose(results[0], results[1], atol=1e-5)


def test_tao_compatibility_lets_padding_through(tiny) -> None:
    tiny["model"]["tao_compat"] = True
    detector = build_model(tiny).eval()
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, :, 32:] = True
    maps = detector.project(torch.randn(1, 3, 64, 64))
    masks = [torch.zeros(1, *m.shape[2:], dtype=torch.bool) for m in maps]
    *_, padding = detector.transformer.encode(maps, masks, [torch.zeros_like(m) for m in maps], padded=True)
    assert padding is None


@pytest.mark.parametrize(
    ("norm", "pretrained", "wanted"),
    [
        ("auto", "", "batch"),
        ("auto", "weights.pth", "frozen"),
        ("group", "weights.pth", "group"),
        ("frozen", "", "frozen"),
    ],
)
def test_norm_of_a_backbone_without_weights_can_learn(tiny, norm: str, pretrained: str, wanted: str) -> None:
    tiny["model"] |= {"backbone_norm": norm, "pretrained_backbone_path": pretrained}
    assert norm_of(resolve("train", tiny)) == wanted


def test_from_scratch_every_parameter_learns(tiny) -> None:
    torch.manual_seed(0)
    detector, criterion = build_model(tiny), build_criterion(tiny)
    targets = [{"labels": torch.tensor([1]), "boxes_cxcywh": torch.tensor([[0.5, 0.5, 0.3, 0.3]])}] * 2
    for _ in range(
        2
    ):  # the box heads start at zero, so what is before them gets its gradient in the second step
        loss = criterion(detector(torch.randn(2, 3, 64, 64)), targets)["loss"]
        detector.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in detector.parameters():
                if p.grad is not None:
                    p.add_(p.grad, alpha=-1e-3)
    still = [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert still == []


def test_a_network_can_learn_two_images_by_heart(tiny) -> None:
    torch.manual_seed(0)
    detector, criterion = build_model(tiny), build_criterion(tiny)
    images = torch.randn(2, 3, 64, 64)
    targets = [
        {
            "labels": torch.tensor([1, 2]),
            "boxes_cxcywh": torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.3, 0.4]]),
        },
        {"labels": torch.tensor([3]), "boxes_cxcywh": torch.tensor([[0.5, 0.5, 0.6, 0.4]])},
    ]
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-3)
    first = None
    for _ in range(80):
        loss = criterion(detector(images), targets)["loss"]
        first = first or float(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 0.5)
        optimizer.step()
    assert float(loss.detach()) < first / 3
    found = postprocess(detector(images), [(64, 64)] * 2, 3)
    assert set(found[0]["labels"][:2].tolist()) == {1, 2}
    assert found[1]["labels"][0] == 3


def test_loss_equals_an_independent_formula() -> None:
    spec = {"model": {"aux_loss": False}, "dataset": {"num_classes": 3}}
    torch.manual_seed(0)
    logits, boxes = (
        torch.randn(2, 100, 3, dtype=torch.float64),
        torch.rand(2, 100, 4, dtype=torch.float64) * 0.5 + 0.1,
    )
    targets = [
        {"labels": torch.tensor([1, 2]), "boxes_cxcywh": torch.rand(2, 4) * 0.4 + 0.2},
        {"labels": torch.tensor([], dtype=torch.int64), "boxes_cxcywh": torch.zeros(0, 4)},
    ]
    losses = build_criterion(spec)({"pred_logits": logits, "pred_boxes": boxes}, targets)
    full = resolve("train", spec)["model"]
    (queries, objects), _ = match(logits[None].float(), boxes[None].float(), targets, full)[0]
    focal = l1 = giou = 0.0
    assigned = dict(zip(queries.tolist(), objects.tolist(), strict=True))
    for image in range(2):
        for query in range(100):
            for k in range(3):
                positive = (
                    image == 0 and query in assigned and int(targets[0]["labels"][assigned[query]]) == k
                )
                p = 1 / (1 + math.exp(-float(logits[image, query, k])))
                focal += -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)
    for query, obj in assigned.items():
        found, wanted = boxes[0, query].float(), targets[0]["boxes_cxcywh"][obj]
        l1 += float((found - wanted).abs().sum())
        giou += 1 - float(pairwise_giou(cxcywh_to_xyxy(found[None]), cxcywh_to_xyxy(wanted[None])))
    assert float(losses["loss_ce"]) == pytest.approx(focal / 2, rel=1e-5)
    assert float(losses["loss_bbox"]) == pytest.approx(l1 / 2, rel=1e-5)
    assert float(losses["loss_giou"]) == pytest.approx(giou / 2, rel=1e-5)
    assert float(losses["loss"]) == pytest.approx((2 * focal + 5 * l1 + 2 * giou) / 2, rel=1e-5)


def test_images_without_objects_train_too(tiny) -> None:
    nothing = {"labels": torch.zeros(0, dtype=torch.int64), "boxes_cxcywh": torch.zeros(0, 4)}
    losses = build_criterion(tiny)(build_model(tiny)(torch.randn(1, 3, 64, 64)), [nothing])
    assert losses["loss"].isfinite()
    assert losses["loss_bbox"] == 0


def test_labels_only_loss_leaves_boxes_out(tiny) -> None:
    tiny["model"]["loss_types"] = ["labels"]
    target = {"labels": torch.tensor([1]), "boxes_cxcywh": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}
    losses = build_criterion(tiny)(build_model(tiny)(torch.randn(1, 3, 64, 64)), [target])
    assert "loss_bbox" not in losses


def test_postprocess_takes_the_best_scores_over_queries_and_classes_inside_the_image() -> None:
    logits = torch.full((1, 3, 2), -5.0)
    logits[0, 2, 1], logits[0, 0, 0] = 3.0, 1.0
    boxes = torch.tensor([[[0.5, 0.6, 1.2, 1.0], [0.1, 0.1, 0.1, 0.1], [0.2, 0.5, 0.6, 0.2]]])
    found = postprocess({"pred_logits": logits, "pred_boxes": boxes}, [(100, 200)], 2)[0]
    assert found["labels"].tolist() == [1, 0]
    assert torch.allclose(
        found["boxes_xyxy_px"], torch.tensor([[0.0, 40.0, 100.0, 60.0], [0.0, 10.0, 200.0, 100.0]])
    )  # cut at the border
    assert len(postprocess({"pred_logits": logits, "pred_boxes": boxes}, [(100, 200)], 100)[0]["scores"]) == 6


def test_activation_checkpointing_changes_no_gradient(tiny) -> None:
    gradients = []
    for checkpointing in (False, True):
        tiny["train"]["activation_checkpoint"] = checkpointing
        torch.manual_seed(0)
        detector = build_model(tiny)
        detector(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))[
            "pred_boxes"
        ].sum().backward()
        gradients.append(detector.transformer.encoder.layers[0].linear1.weight.grad)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
