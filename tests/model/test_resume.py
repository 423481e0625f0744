"""A resumed training takes the spec's rates, or says why it cannot go on."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model import resume, start
from model.actions import train
from model.errors import UserError
from model.lightning import rate_factor
from model.spec import put, resolve
from tests.conftest import TINY, with_data

pytestmark = pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning", "ignore::Warning:torch")


def test_the_rates_of_the_spec_go_on(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def trained(name: str, **leaves: Any) -> tuple[Any, Any]:
        partial = with_data(json.loads(json.dumps(TINY)), demo)
        partial["train"] |= {"results_dir": str(tmp_path / name)}
        for leaf, value in leaves.items():
            put(partial, leaf.replace("__", "."), value)
        spec = resolve("train", partial)
        path = train.run(spec)["checkpoint"]
        return spec, (path, torch.load(path, weights_only=True))

    _, (first, _) = trained("first", train__num_epochs=1, train__optim__lr=4e-4)
    _, (_, went_on) = trained(
        "second", train__num_epochs=2, train__optim__lr=1e-5, train__optim__weight_decay=0.01,
        train__optim__lr_steps=[9], train__resume_training_checkpoint_path=first,
    )  # fmt: skip
    groups = {g["name"]: g for g in went_on["optimizer_states"][0]["param_groups"]}
    assert groups["transformer"]["initial_lr"] == 1e-5
    assert groups["transformer"]["lr"] == pytest.approx(1e-5)
    assert all(g["weight_decay"] == 0.01 for g in groups.values())
    assert went_on["lr_schedulers"][0]["base_lrs"] == [g["initial_lr"] for g in groups.values()]
    said = capsys.readouterr().out
    assert "resumed with train.optim.lr: 0.0004 -> 1e-05" in said
    assert "resumed with train.optim.weight_decay: 0.0001 -> 0.01" in said


@pytest.mark.parametrize("step", [0, 3, 17])
def test_unchanged_rates_stay_to_the_last_bit(step: int) -> None:
    optim = resolve("train", TINY)["train"]["optim"] | {"warmup_steps": 5, "lr_steps": [2]}
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([{"params": [weight], "lr": 3e-4}], weight_decay=optim["weight_decay"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_factor(optim, 40, 6))
    for _ in range(step):
        optimizer.step()
        schedule.step()
    before = copy.deepcopy([{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups])
    resume.take_rates(optimizer, schedule, [{"lr": 3e-4}], optim)
    assert [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups] == before
    assert schedule.get_last_lr() == [before[0]["lr"]]


CLASSES = [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}]


@pytest.mark.parametrize(
    ("leaf", "value", "message"),
    [
        ("train.optim.optimizer", "SGD", "train.optim.optimizer: 'AdamW' -> 'SGD'"),
        ("train.freeze", ["backbone"], "train.freeze"),
        ("train.ema_decay", 0.9, "train.ema_decay: 0.0 -> 0.9"),
        ("model.num_queries", 120, "model.num_queries"),
    ],
)
def test_what_an_optimizer_s_state_does_not_fit_is_refused(leaf: str, value: Any, message: str) -> None:
    recorded = {"spec": resolve("train", TINY), "classes": CLASSES, "optimizer_states": [{}]}
    partial = json.loads(json.dumps(TINY))
    resume.check(recorded, resolve("train", partial), CLASSES, "a.pth")
    put(partial, leaf, value)
    with pytest.raises(UserError, match="a.pth") as caught:
        resume.check(recorded, resolve("train", partial), CLASSES, "a.pth")
    assert message in str(caught.value)


def test_other_classes_are_refused() -> None:
    recorded = {"spec": resolve("train", TINY), "classes": CLASSES, "optimizer_states": [{}]}
    swapped = [{"id": 1, "name": "square"}, {"id": 2, "name": "circle"}]
    with pytest.raises(UserError, match="was trained on other classes"):
        resume.check(recorded, resolve("train", TINY), swapped, "a.pth")


def test_weights_alone_are_no_training_to_go_on_with() -> None:
    """As they lie in best/."""
    recorded = {"spec": resolve("train", TINY), "classes": CLASSES}
    with pytest.raises(UserError, match="train.pretrained_model_path=best/model.pth"):
        resume.check(recorded, resolve("train", TINY), CLASSES, "best/model.pth")


def test_a_checkpoint_of_another_recipe_says_which() -> None:
    dino = resolve("train", {**TINY, "train": {**TINY["train"], "recipe": "dino"}})
    found = {"optimizer_states": [{}], "spec": dino}
    with pytest.raises(UserError, match=r"set that too$") as error:
        resume.check(found, resolve("train", TINY), None, "it.pth")
    assert "train.recipe=dino" in str(error.value)
    resume.check(found, dino, None, "it.pth")


def test_a_folder_is_no_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    (tmp_path / "model_epoch_003.pth").touch()
    spec = resolve("train", TINY)
    put(spec, "train.resume_training_checkpoint_path", str(tmp_path))
    with pytest.raises(UserError, match=r"is a folder \(.* has model_epoch_003\.pth\)"):
        start.settle(spec)
