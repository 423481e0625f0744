"""One training for networks of many sizes: what is drawn, that a cut step computes what the cut network does, and that
the same is drawn again after an interruption."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from model import elastic
from model.actions import train
from model.build import build_criterion, build_model
from model.deploy.shrink import with_queries
from model.elastic import Subnet
from model.lightning import DetectorModule
from model.spec import put, resolve
from tests.conftest import TINY, with_data

pytestmark = pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning", "ignore::Warning:torch")

TWO_STAGE = {"model.two_stage": True, "model.with_box_refine": True}
KINDS: dict[str, dict[str, Any]] = {
    "one stage": {"model.two_stage": False},
    "two stages": TWO_STAGE,
    "mixed selection": TWO_STAGE | {"model.mixed_selection": True, "model.look_forward_twice": True},
    "hybrid": {"model.hybrid_queries": 6},
    "noised": TWO_STAGE | {"model.denoising_queries": 10},
    "mixed and hybrid": TWO_STAGE | {"model.mixed_selection": True, "model.hybrid_queries": 6},
    "no earlier layers": {"model.aux_loss": False},
}


def spec_of(**leaves: Any) -> dict[str, Any]:
    partial = json.loads(json.dumps(TINY))
    for name, value in ({"model.dec_layers": 3} | leaves).items():
        put(partial, name, value)
    return resolve("train", partial)


def inputs() -> tuple[torch.Tensor, torch.Tensor, list[dict[str, Any]]]:
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(2, 64, 96, dtype=torch.bool)
    boxes = torch.tensor([[0.4, 0.5, 0.3, 0.2], [0.6, 0.4, 0.2, 0.3]])
    targets = [
        {"labels": torch.tensor([1, 2])[:n], "boxes_cxcywh": boxes[:n], "image_id": torch.tensor(n)}
        for n in (2, 1)
    ]
    return images, mask, targets


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_computes_what_the_cut_network_does(kind: str) -> None:
    spec = spec_of(**KINDS[kind])
    detector = build_model(spec).eval()
    images, mask, _ = inputs()
    smaller = copy.deepcopy(with_queries(detector, 7, range(100)))
    with torch.inference_mode():
        found = detector(images, mask, subnet=Subnet(2, 7, 1.0))
        whole = smaller(images, mask)
        state, reference, _ = smaller.decode_queries(*smaller.encode(images, mask))
        wanted = smaller.predict_layer(1, state[1], reference[1])
    assert found["pred_logits"].shape[1] == 7
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)
    assert len(found.get("aux_outputs", [])) == (1 if spec["model"]["aux_loss"] else 0)
    if spec["model"]["aux_loss"]:
        torch.testing.assert_close(
            found["aux_outputs"][0]["pred_boxes"], whole["aux_outputs"][0]["pred_boxes"]
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_step_trains_what_it_ran_and_nothing_else(kind: str) -> None:
    spec = spec_of(**KINDS[kind])
    detector = build_model(spec).train()
    images, mask, targets = inputs()
    outputs = detector(images, mask, targets, subnet=Subnet(1, 5, 1.0))
    assert outputs["pred_logits"].shape[1] == 5
    assert [o["pred_logits"].shape[1] for o in outputs.get("hybrid_outputs", [])] == (
        [6] if "hybrid" in kind else []
    )
    loss = build_criterion(spec)(outputs, targets)["loss"]
    loss.backward()
    assert loss.isfinite()
    of_layers = [
        any(p.grad is not None and bool(p.grad.any()) for p in layer.parameters())
        for layer in detector.transformer.decoder.layers
    ]
    assert of_layers == [True, False, False]
    if detector.query_embed is not None:
        learned = detector.query_embed.weight.grad
        assert learned is not None
        assert [bool(row.any()) for row in learned[:6]] == [True] * 5 + [False]


def test_half_the_steps_train_the_whole_network_and_the_others_every_size() -> None:
    model = spec_of()["model"]
    choose = elastic.draws(3)
    drawn = Counter(elastic.draw(model, 0, choose) for _ in range(3000))
    assert drawn[Subnet(3, 100, 1.0)] / 3000 == pytest.approx(0.5 + 0.5 / 18, abs=0.04)
    assert {(c.layers, c.queries, c.side) for c in drawn} == {
        (layers, queries, side) for layers in (3, 2, 1) for queries in (100, 50, 25) for side in (1.0, 0.75)
    }
    assert elastic.draw(model, 0, elastic.draws(3)) == next(iter(drawn))


@pytest.mark.parametrize(("objects", "least"), [(0, 25), (60, 60), (1000, 100)])
def test_there_are_never_fewer_queries_than_objects(objects: int, least: int) -> None:
    choose = elastic.draws(3)
    assert min(elastic.draw(spec_of()["model"], objects, choose).queries for _ in range(200)) == least


def test_all_ranks_draw_the_same_layers_and_sizes_whatever_is_on_their_images() -> None:
    """A rank that leaves a layer out lets the others wait for it for ever."""
    drawn = []
    for rank in (0, 1):
        module = DetectorModule(spec_of(), [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DetectorModule, "global_rank", rank)
            module._seed()
        torch.rand(rank + 1)
        steps = [elastic.draw(module.spec["model"], 30 * rank, module._draws) for _ in range(50)]
        drawn.append([(step.layers, step.side) for step in steps])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 3


def test_a_smaller_image_keeps_what_is_padding() -> None:
    images, mask = torch.ones(1, 3, 64, 40), torch.zeros(1, 64, 40, dtype=torch.bool)
    mask[:, :, 20:] = True
    images, mask = elastic.smaller(images, mask, 0.75)
    assert images.shape == (1, 3, 48, 32)  # never below 32 px
    assert mask.shape == (1, 48, 32)
    assert not mask[0, :, :16].any()
    assert mask[0, :, 16:].all()


def test_a_resumed_training_draws_the_same_steps(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Subnet] = []
    draw = elastic.draw
    monkeypatch.setattr(elastic, "WHOLE", 0.0)
    monkeypatch.setattr(elastic, "draw", lambda *given: drawn.append(draw(*given)) or drawn[-1])

    def trained(name: str, epochs: int, resume: str = "") -> tuple[str, dict[str, torch.Tensor]]:
        partial = with_data(json.loads(json.dumps(TINY)), demo)
        partial["train"] |= {"results_dir": str(tmp_path / name), "num_epochs": epochs, "elastic": True}
        partial["train"] |= {"resume_training_checkpoint_path": resume}
        path = train.run(resolve("train", partial))["checkpoint"]
        return path, torch.load(path, weights_only=True)["state_dict"]

    _, through = trained("through", 2)
    steps, drawn[:] = list(drawn), []
    first, _ = trained("first", 1)
    _, resumed = trained("second", 2, first)
    assert drawn == steps
    assert len(set(steps)) > 1
    for name, value in through.items():
        torch.testing.assert_close(resumed[name], value, msg=name)
