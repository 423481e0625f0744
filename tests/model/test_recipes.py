"""What makes a training learn better at the same inference graph, and the recipes that bundle it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from model import start, weights
from model.actions import train
from model.boxes import cxcywh_to_xyxy, paired_iou
from model.build import build_criterion, build_from, build_model
from model.denoising import Denoising, attention_mask
from model.lightning import DetectorModule, moving_average, rate_factor
from model.parameters import PARAMETERS, RECIPES
from model.spec import default_spec, get, put, resolve
from tests.conftest import with_data
from tests.model.choices import as_good_as_the_best
from tests.model.fitted import fitted

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "facts" / "deformable_detr.json"
pytestmark = pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning", "ignore::Warning:torch")


@pytest.fixture
def tiny(tiny: dict[str, Any]) -> dict[str, Any]:
    """On finer maps: a two-stage model needs more cells than queries."""
    tiny["model"]["return_interm_indices"] = [1, 2]
    return tiny


def two_images() -> list[dict[str, Any]]:
    torch.manual_seed(5)
    return [
        {"labels": torch.tensor([1, 2, 3]), "boxes_cxcywh": torch.rand(3, 4) * 0.3 + 0.3},
        {"labels": torch.tensor([2]), "boxes_cxcywh": torch.rand(1, 4) * 0.3 + 0.3},
    ]


# The loss written out again, one scalar at a time.


def focal_by_hand(logit: float, positive: bool) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


def varifocal_by_hand(logit: float, score: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    weight = score if score > 0 else 0.75 * p**2
    return -weight * (score * math.log(p) + (1 - score) * math.log(1 - p))


def iou_by_hand(a: list[float], b: list[float]) -> tuple[float, float]:
    """(IoU, GIoU) of two cxcywh boxes."""
    (ax, ay, aX, aY), (bx, by, bX, bY) = (
        (c[0] - c[2] / 2, c[1] - c[3] / 2, c[0] + c[2] / 2, c[1] + c[3] / 2) for c in (a, b)
    )
    shared = max(0.0, min(aX, bX) - max(ax, bx)) * max(0.0, min(aY, bY) - max(ay, by))
    union = (aX - ax) * (aY - ay) + (bX - bx) * (bY - by) - shared
    hull = (max(aX, bX) - min(ax, bx)) * (max(aY, bY) - min(ay, by))
    return shared / union, shared / union - (hull - union) / hull


def assignment_by_hand(logits: Any, boxes: Any, labels: list[int], wanted: Any) -> dict[int, int]:
    """query -> object by the published cost, solved by scipy."""
    from scipy.optimize import linear_sum_assignment

    if not labels:
        return {}
    cost = torch.zeros(len(logits), len(labels), dtype=torch.float64)
    p = logits.double().sigmoid()
    for j, (label, box) in enumerate(zip(labels, wanted.tolist(), strict=True)):
        positive = 0.25 * (1 - p[:, label]) ** 2 * -(p[:, label] + 1e-8).log()
        negative = 0.75 * p[:, label] ** 2 * -(1 - p[:, label] + 1e-8).log()
        l1 = (boxes.double() - torch.tensor(box, dtype=torch.float64)).abs().sum(-1)
        giou = torch.tensor([iou_by_hand(b, box)[1] for b in boxes.tolist()])
        cost[:, j] = 2 * (positive - negative) + 5 * l1 - 2 * giou
    rows, columns = linear_sum_assignment(cost.numpy())
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))


def terms_by_hand(
    layer: Any, targets: Any, count: float, varifocal: bool = False, assigned: Any = None, real: Any = None
) -> list[float]:
    """[loss_ce, loss_bbox, loss_giou] of one layer."""
    ce = l1 = giou = 0.0
    for image, target in enumerate(targets):
        logits, boxes = layer["pred_logits"][image].detach(), layer["pred_boxes"][image].detach()
        labels = target["labels"].tolist()
        match = (
            assigned[image] if assigned else assignment_by_hand(logits, boxes, labels, target["boxes_cxcywh"])
        )
        for query in range(len(logits)):
            if real is not None and not real[image, query]:
                continue
            obj = match.get(query)
            for k, logit in enumerate(logits[query].tolist()):
                positive = obj is not None and labels[obj] == k
                if varifocal:
                    box = boxes[query].tolist()
                    score = iou_by_hand(box, target["boxes_cxcywh"][obj].tolist())[0] if positive else 0.0
                    ce += varifocal_by_hand(logit, score)
                else:
                    ce += focal_by_hand(logit, positive)
            if obj is not None:
                found, box = boxes[query].tolist(), target["boxes_cxcywh"][obj].tolist()
                l1 += sum(abs(a - b) for a, b in zip(found, box, strict=True))
                giou += 1 - iou_by_hand(found, box)[1]
    return [ce / count, l1 / count, giou / count]


@pytest.mark.parametrize("class_loss", ["focal", "varifocal"])
@pytest.mark.parametrize("two_stage", [False, True])
def test_every_term_of_every_layer_equals_an_independent_formula(
    tiny: dict[str, Any], two_stage: bool, class_loss: str
) -> None:
    tiny["model"] |= {
        "two_stage": two_stage, "mixed_selection": two_stage, "denoising_queries": 12, "hybrid_queries": 20,
        "hybrid_repeat": 2, "class_loss": class_loss,
    }  # fmt: skip
    torch.manual_seed(0)
    detector, targets = build_model(tiny), two_images()
    with torch.no_grad():
        for head in (*detector.class_embed, *(h.last for h in detector.bbox_embed)):
            head.weight.add_(0.3 * torch.randn_like(head.weight))
    outputs = detector(torch.randn(2, 3, 96, 96), None, targets)
    losses = build_criterion(tiny)(outputs, targets)
    vari, real = class_loss == "varifocal", outputs["noised"].real
    twice = [{k: torch.cat([v, v]) for k, v in t.items()} for t in targets]
    known = [dict(zip(q.tolist(), o.tolist(), strict=True)) for q, o in outputs["noised"].matches]
    assert outputs["noised"].copies == 2  # 12 queries, twice 3 objects
    wanted = {
        "_0": terms_by_hand(outputs["aux_outputs"][0], targets, 4, vari),
        "": terms_by_hand(outputs, targets, 4, vari),
        "_o2m_0": terms_by_hand(outputs["hybrid_outputs"][0], twice, 8, vari),
        "_o2m": terms_by_hand(outputs["hybrid_outputs"][1], twice, 8, vari),
        "_dn_0": terms_by_hand(outputs["noised_outputs"][0], targets, 8, vari, known, real),
        "_dn": terms_by_hand(outputs["noised_outputs"][1], targets, 8, vari, known, real),
    }
    if two_stage:
        binary = [t | {"labels": torch.zeros_like(t["labels"])} for t in targets]
        wanted["_enc"] = terms_by_hand(outputs["enc_outputs"], binary, 4, vari)
    names = {
        f"{term}{suffix}": value
        for suffix, values in wanted.items()
        for term, value in zip(("loss_ce", "loss_bbox", "loss_giou"), values, strict=True)
    }
    assert set(losses) == {*names, "loss", "class_error"}
    for name, value in names.items():
        assert float(losses[name].detach()) == pytest.approx(value, rel=1e-5), name
    total = sum((2 * ce + 5 * l1 + 2 * giou) for ce, l1, giou in wanted.values())
    assert float(losses["loss"].detach()) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("two_stage", [False, True])
def test_what_training_adds_changes_no_prediction(tiny: dict[str, Any], two_stage: bool) -> None:
    """Same weights with and without extra queries: the matched ones see none of them, and inference has none."""
    tiny["model"] |= {"two_stage": two_stage, "mixed_selection": two_stage}
    plain = build_model(tiny)
    tiny["model"] |= {"denoising_queries": 30, "hybrid_queries": 25}
    helped = build_model(tiny)
    extra = set(helped.state_dict()) - set(plain.state_dict())
    assert all(name.startswith(weights.TRAINING_ONLY) for name in extra)
    assert set(weights.load(helped, plain.state_dict())) == extra
    assert weights.load(plain, helped.state_dict()) == []
    for module in (plain, helped):  # in training mode, but with the same statistics
        for norm in module.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.eval()
    images = torch.randn(2, 3, 96, 96)
    b = helped(images, None, two_images())
    chosen = b["enc_outputs"]["chosen"][:, : b["pred_logits"].shape[1]] if two_stage else None
    a = plain(images, None, two_images(), chosen)
    if two_stage:
        assert as_good_as_the_best(a["enc_outputs"]["pred_logits"][..., 0], chosen, atol=1e-5)
    assert b["noised_outputs"][0]["pred_logits"].shape[1] == 30
    assert b["hybrid_outputs"][0]["pred_logits"].shape[1] == 25
    assert torch.allclose(a["pred_logits"], b["pred_logits"], atol=1e-5)
    assert torch.allclose(a["pred_boxes"], b["pred_boxes"], atol=1e-6)
    assert set(helped.eval()(images, None, two_images())) == set(plain.eval()(images))


def test_every_parameter_of_the_full_recipe_learns(tiny: dict[str, Any]) -> None:
    tiny["model"] |= {
        "two_stage": True, "mixed_selection": True, "denoising_queries": 12, "hybrid_queries": 20,
        "look_forward_twice": True,
    }  # fmt: skip
    torch.manual_seed(0)
    detector, criterion = build_model(tiny), build_criterion(tiny)
    for _ in range(2):  # the box heads start at zero
        criterion(detector(torch.randn(2, 3, 96, 96), None, two_images()), two_images())["loss"].backward()
        with torch.no_grad():
            for p in detector.parameters():
                p.add_(p.grad, alpha=-1e-3)
    still = [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert still == []


def test_noised_objects() -> None:
    """Positives stay within half a side, negatives go beyond; each group holds both, of every object."""
    model = {
        "hidden_dim": 32, "denoising_queries": 60, "denoising_label_noise": 0.5, "denoising_box_noise": 0.4,
        "two_stage": False,
    }  # fmt: skip
    torch.manual_seed(0)
    targets = two_images()
    noised = Denoising(model, 4).draw(targets)
    assert noised.copies == 10
    assert noised.labels.shape == noised.real.shape == (2, 60)
    assert noised.real.sum(1).tolist() == [60, 20]
    queries, objects = noised.matches[0]
    corners = cxcywh_to_xyxy(noised.boxes_cxcywh)
    clean = cxcywh_to_xyxy(targets[0]["boxes_cxcywh"])[objects]
    half = targets[0]["boxes_cxcywh"][objects][:, 2:].repeat(1, 2) / 2
    near = ((corners[0, queries] - clean).abs() / half).amax(1)
    far = ((corners[0, queries + 3] - clean).abs() / half).amin(1)
    assert near.max() <= 0.4 + 1e-5
    assert near.max() > 0.3
    inside = (corners[0, queries + 3] > 0).all(1) & (corners[0, queries + 3] < 1).all(1)
    assert far[inside].min() >= 0.4 - 1e-5
    kept = (noised.labels[0, queries] == targets[0]["labels"][objects]).float().mean()
    assert 0.6 < kept < 1.0


def test_an_image_without_objects_can_be_denoised(tiny: dict[str, Any]) -> None:
    tiny["model"]["denoising_queries"] = 10
    nothing = [{"labels": torch.zeros(0, dtype=torch.int64), "boxes_cxcywh": torch.zeros(0, 4)}]
    detector = build_model(tiny)
    losses = build_criterion(tiny)(detector(torch.randn(1, 3, 64, 64), None, nothing), nothing)
    losses["loss"].backward()
    assert losses["loss_ce_dn"] == 0
    assert detector.denoising.label_enc.weight.grad is not None  # every rank has the same gradients to share


def test_who_may_see_whom() -> None:
    blocked = attention_mask(torch.tensor([0, 1, 2, 3]))  # matched, hybrid, two groups of noised ones
    assert blocked.int().tolist() == [[0, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]]


def test_gradients_reach_the_layer_before_only_when_looking_forward_twice(tiny: dict[str, Any]) -> None:
    reached = []
    for twice in (False, True):
        tiny["model"]["look_forward_twice"] = twice
        torch.manual_seed(0)
        detector = build_model(tiny)
        with torch.no_grad():
            detector.bbox_embed[0].last.weight.normal_(std=0.1)
        detector(torch.randn(1, 3, 64, 64))["pred_boxes"].sum().backward()
        reached.append(bool(detector.bbox_embed[0].last.weight.grad is not None))
    assert reached == [False, True]


def test_learning_rates_by_hand() -> None:
    optim = {
        "lr_scheduler": "MultiStep", "lr_steps": [2, 3], "lr_decay": 0.1, "lr_step_size": 2, "warmup_steps": 0
    }  # fmt: skip
    factor = rate_factor(optim, 40, 10)
    assert [factor(s) for s in (0, 19, 20, 30)] == pytest.approx([1, 1, 0.1, 0.01])
    factor = rate_factor(optim | {"lr_scheduler": "StepLR"}, 40, 10)
    assert [factor(s) for s in (0, 19, 20, 39)] == pytest.approx([1, 1, 0.1, 0.1])
    factor = rate_factor(optim | {"lr_scheduler": "Cosine", "warmup_steps": 4}, 40, 10)
    assert [factor(s) for s in (0, 1, 20, 40)] == pytest.approx(
        [0.25, 0.5 * (1 + math.cos(math.pi / 40)) / 2, 0.5, 0], abs=1e-9
    )


def test_the_average_follows_weights_and_statistics() -> None:
    network = torch.nn.BatchNorm1d(1)
    follower = moving_average(network, 0.9)
    for value in (1.0, 2.0, 3.0):
        with torch.no_grad():
            network.weight.fill_(value)
        network.running_mean.fill_(10 * value)
        network.num_batches_tracked.add_(1)
        follower.update_parameters(network)
    after = 1.0
    for n, value in ((1, 2.0), (2, 3.0)):
        decay = min(0.9, (1 + n) / (10 + n))
        after = decay * after + (1 - decay) * value
    assert float(follower.module.weight.detach()) == pytest.approx(after)
    assert float(follower.module.running_mean) == pytest.approx(10 * after)
    assert int(follower.module.num_batches_tracked) == 3
    assert not follower.module.weight.requires_grad


def test_a_training_with_everything_on_keeps_its_average(
    tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:

    tiny["model"] |= {"denoising_queries": 20, "two_stage": True, "mixed_selection": True}
    tiny["train"] |= {"ema_decay": 0.9, "num_epochs": 1, "results_dir": str(tmp_path)}
    tiny["train"]["optim"] = {"lr_scheduler": "Cosine", "warmup_steps": 2, "lr": 1e-3}
    spec = resolve("train", with_data(tiny, demo))
    path = train.run(spec)["checkpoint"]
    raw = torch.load(path, weights_only=True)["state_dict"]
    name = "transformer.encoder.layers.0.linear1.weight"
    assert not torch.equal(raw[f"model.{name}"], raw[f"ema.module.{name}"])
    detector, _ = build_from(path, spec)
    assert torch.equal(detector.get_parameter(name), raw[f"ema.module.{name}"])
    other = build_model(spec)
    assert weights.load(other, path) == []
    assert torch.equal(other.get_parameter(name), raw[f"ema.module.{name}"])
    again = train.run(resolve("train", with_data(tiny | {"train": tiny["train"] | {"num_epochs": 2, "resume_training_checkpoint_path": path}}, demo)))  # fmt: skip
    resumed = torch.load(again["checkpoint"], weights_only=True)
    assert int(resumed["state_dict"]["ema.n_averaged"]) == 6


# Recipes


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_valid_idempotent_and_gives_way_to_what_is_written(name: str) -> None:
    full = resolve("train", {"train": {"recipe": name}})
    assert resolve("train", full) == full
    for leaf, value in RECIPES[name].items():
        assert get(full, leaf) == value
    own = resolve("train", {"train": {"recipe": name}, "model": {"dropout_ratio": 0.05}})
    assert own["model"]["dropout_ratio"] == 0.05


def test_the_default_recipe_is_the_table() -> None:
    assert RECIPES["default"] == {}
    every = default_spec("train")
    every["dataset"]["eval_class_ids"] = None  # the first class alone is nobody's choice
    assert resolve("train", {}) == every


@pytest.mark.skipif(not SHARED.exists(), reason="needs the table of TAO's parameters")
def test_the_tao_recipe_has_tao_s_values() -> None:
    found = json.loads(SHARED.read_text())
    tao = dict(found["parameters_in_every_action"]) | found["parameters_by_action"].get("train", {})
    spec = resolve("train", {"train": {"recipe": "tao"}})
    training = {n: f.get("default") for n, f in tao.items() if n.startswith(("model.", "train."))}
    assert len(training) >= 60
    assert {n: get(spec, n) for n in training} == training


def test_recipes_touch_only_what_exists_and_reset_what_is_ours() -> None:
    names = {p.name for p in PARAMETERS}
    assert all(set(recipe) <= names for recipe in RECIPES.values())
    assert set(RECIPES["published"]) >= set(RECIPES["tao"]) - {"model.tao_compat"}


def test_a_recipe_reaches_a_run_that_starts_from_the_template(own_demo: Path, tmp_path: Path) -> None:
    """The engine merges over a template that has every leaf; the leaves nobody set come from here."""
    spec = default_spec("train")
    put(spec, "train.recipe", "published")
    filled = fitted(spec, own_demo, tmp_path)["fill"]
    assert filled["train.num_epochs"] == 50
    assert filled["train.optim.lr_steps"] == [40]
    assert filled["model.dropout_ratio"] == 0.1


@pytest.mark.parametrize(
    ("leaf", "value", "chosen"),
    [
        ("model.num_queries", 200, "dino"),
        ("train.recipe", "tao", "tao"),
        ("train.resume_training_checkpoint_path", "some.pth", "default"),
        ("model.with_box_refine", False, "default"),
    ],
)
def test_the_engine_trains_dino_s_additions_unless_something_forbids_it(
    leaf: str, value: Any, chosen: str, own_demo: Path, tmp_path: Path
) -> None:
    spec = default_spec("train")
    put(spec, leaf, value)
    if leaf.endswith("_path"):
        put(spec, leaf, str(tmp_path / value))
        (tmp_path / value).write_bytes(b"")
    filled = fitted(spec, own_demo, tmp_path / "work")["fill"]
    assert filled.get("train.recipe", get(spec, "train.recipe")) == chosen
    assert filled.get("model.two_stage", False) == (chosen == "dino")
    assert not get(default_spec("train"), "model.two_stage")  # the other commands' default


def test_iou_is_giou_s_first_part() -> None:
    a = cxcywh_to_xyxy(torch.tensor([[0.5, 0.5, 0.4, 0.4]]))
    b = cxcywh_to_xyxy(torch.tensor([[0.6, 0.5, 0.4, 0.4]]))
    assert float(paired_iou(a, b)) == pytest.approx(
        iou_by_hand([0.5, 0.5, 0.4, 0.4], [0.6, 0.5, 0.4, 0.4])[0]
    )


def test_the_module_trains_on_what_the_spec_asks_for(tiny: dict[str, Any]) -> None:
    tiny["model"]["denoising_queries"] = 10
    module = DetectorModule(resolve("train", tiny), [])
    module.train()
    loss = module.training_step((torch.randn(2, 3, 64, 64), None, two_images()), 0)
    loss.backward()
    assert module.model.denoising.label_enc.weight.grad.abs().any()


@pytest.mark.parametrize("leaf", ["train.pretrained_model_path", "train.start"])
@pytest.mark.parametrize(
    ("file", "chosen"),
    [
        ("tao", "default"),
        ("two stages", "dino"),
        ("ours", "dino"),
        ("ours, published", "published"),
        ("ours, two stages", "dino"),
        ("backbone", "dino"),
    ],
)
def test_a_detector_that_one_starts_from_keeps_its_network(
    file: str, chosen: str, leaf: str, own_demo: Path, tmp_path: Path, tiny: dict[str, Any]
) -> None:
    """All of its tensors are taken then; a backbone fits any."""
    tiny["model"] |= {"two_stage": "two stages" in file, "with_box_refine": True}
    detector = build_model(tiny)
    named = {"ours": "dino", "ours, published": "published"}.get(file, "default")
    recorded = resolve("train", {"train": {"recipe": named}})
    ours = {"state_dict": {f"model.{k}": v for k, v in detector.state_dict().items()}, "spec": recorded}
    documents = {
        "tao": {"state_dict": weights.save(detector, "tao")},
        "two stages": {"model": detector.state_dict()},
        **dict.fromkeys(("ours", "ours, published", "ours, two stages"), ours),
        "backbone": detector.backbone.get_submodule("0.body").state_dict(),
    }
    torch.save(documents[file], tmp_path / "w.pth")
    spec = default_spec("train")
    put(spec, leaf, str(tmp_path / "w.pth"))
    found = fitted(spec, own_demo, tmp_path / "work")
    assert found["fill"]["train.recipe"] == chosen
    assert found["fill"].get("model.two_stage", False) == (chosen == "dino")
    assert ("would start anew" in found["reasons"]["train.recipe"]) == (chosen == "default")


def test_a_url_trains_the_same_network_before_and_after_it_was_fetched() -> None:
    """Nothing is known of it before; by what its copy on this machine holds, the same command would change."""
    spec = default_spec("train")
    put(spec, "train.start", "https://example.org/detector.pth")
    assert start.own_recipe(spec) is None
