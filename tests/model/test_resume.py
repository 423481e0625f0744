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
from model.build import build_from, build_model
from model.errors import ModelError, UserError
from model.lightning import rate_factor
from model.spec import get, put, resolve
from tests.conftest import TINY, with_data

pytestmark = pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning", "ignore::Warning:torch")


def trained(demo: Path, folder: Path, **leaves: Any) -> str:
    """The path of a tiny training's last checkpoint."""
    partial = with_data(json.loads(json.dumps(TINY)), demo)
    put(partial, "train.results_dir", str(folder))
    for leaf, value in leaves.items():
        put(partial, leaf.replace("__", "."), value)
    return str(train.run(resolve("train", partial))["checkpoint"])


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


@pytest.mark.parametrize("leaf", ["train.pretrained_model_path", "model.pretrained_backbone_path"])
@pytest.mark.parametrize("named", [True, False])
def test_what_the_first_training_began_from_is_no_longer_needed(
    leaf: str, named: bool, demo: Path, tmp_path: Path
) -> None:
    """Its norms are frozen for having begun from a file, which the resumed spec may name or not."""
    weights = build_model(resolve("train", TINY))
    own = weights.backbone.get_submodule("0.body") if "backbone" in leaf else weights
    torch.save(own.state_dict(), tmp_path / "weights.pth")

    def partial(epochs: int) -> dict[str, Any]:
        made = with_data(json.loads(json.dumps(TINY)), demo)
        made["train"] |= {"results_dir": str(tmp_path / str(epochs)), "num_epochs": epochs}
        return made

    first, again, once_more = partial(1), partial(2), partial(3)
    for spec in (first, again) if named else (first,):
        put(spec, leaf, str(tmp_path / "weights.pth"))
    path = train.run(resolve("train", first))["checkpoint"]
    (tmp_path / "weights.pth").unlink()
    for spec in (again, once_more):
        put(spec, "train.resume_training_checkpoint_path", path)
        path = train.run(resolve("train", spec))["checkpoint"]
    detector, checkpoint = build_from(
        path, resolve("evaluate", {"model": first["model"], "dataset": first["dataset"]})
    )
    assert get(checkpoint["spec"], leaf) == str(tmp_path / "weights.pth")
    assert not any("num_batches_tracked" in name for name in detector.state_dict())  # frozen norms count none


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


def test_the_rates_drop_at_the_spec_s_epoch_whatever_the_batch(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """12 images: 3 steps an epoch, then 6; by steps alone the drop would come an epoch late, by 3 of 6."""
    first = trained(demo, tmp_path / "first", train__num_epochs=1, train__optim__lr_steps=[2])
    trained(
        demo, tmp_path / "second", train__num_epochs=3, train__optim__lr_steps=[2], dataset__batch_size=2,
        train__resume_training_checkpoint_path=first,
    )  # fmt: skip
    told = [json.loads(line) for line in (tmp_path / "second/metrics.jsonl").read_text().splitlines()]
    assert [line["lr"] for line in told] == pytest.approx([2e-4, 2e-5])
    assert "resumed after 1 epoch of 6 steps, other than before: the rates go by step 6, not 3" in (
        capsys.readouterr().out
    )


CLASSES = [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}]


@pytest.mark.parametrize(
    ("leaf", "value", "message"),
    [
        ("train.optim.optimizer", "SGD", "train.optim.optimizer: 'AdamW' -> 'SGD'"),
        ("train.freeze", ["backbone"], "train.freeze"),
        ("train.ema_decay", 0.9, "train.ema_decay: 0.0 -> 0.9"),
        ("model.num_queries", 120, "model.num_queries"),
        ("model.denoising_queries", 20, "model.denoising_queries: 0 -> 20"),
        ("model.hybrid_queries", 50, "model.hybrid_queries: 0 -> 50"),
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


def test_queries_of_the_training_without_parameters_of_their_own_may_change() -> None:
    """More noised ones; those of hybrid matching where the encoder's cells start all queries."""
    partial = json.loads(json.dumps(TINY))
    partial["model"] |= {"denoising_queries": 20, "two_stage": True, "with_box_refine": True}
    recorded = {"spec": resolve("train", partial), "classes": CLASSES, "optimizer_states": [{}]}
    partial["model"] |= {"denoising_queries": 40, "hybrid_queries": 50}
    spec = resolve("train", partial)
    resume.check(recorded, spec, CLASSES, "a.pth")
    state = build_model(recorded["spec"]).state_dict()
    resume.check_network({"state_dict": state}, build_model(spec), "a.pth")


@pytest.mark.parametrize(
    ("leaves", "line"),
    [
        ({"hybrid_queries": 50}, r"hybrid_embed\.weight: none -> \(50, 64\)$"),
        ({"num_queries": 120}, r"query_embed\.weight: \(100, 64\) -> \(120, 64\)$"),
        ({"backbone_norm": "group"}, r"backbone\.0\.body\.bn1\.num_batches_tracked: \(\) -> none\n(.*\n){7}  and \d+ others$"),
    ],
)  # fmt: skip
def test_a_network_that_is_another_is_told_by_its_tensors(leaves: dict[str, Any], line: str) -> None:
    """Whichever leaf it is, in words before Lightning loads it."""
    partial = json.loads(json.dumps(TINY))
    partial["model"]["backbone"] = "resnet_18"  # which may have another norm
    state = build_model(partial).state_dict()
    resume.check_network({"state_dict": state}, build_model(partial), "a.pth")
    partial["model"] |= leaves
    with pytest.raises(UserError, match=rf"a\.pth cannot be gone on from(.|\n)*\n  {line}"):
        resume.check_network({"state_dict": state}, build_model(partial), "a.pth")


def test_a_training_compares_the_tensors(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Lightning would fail on them."""
    partial = with_data(json.loads(json.dumps(TINY)), demo)
    partial["train"] |= {"results_dir": str(tmp_path / "a"), "num_epochs": 1}
    partial["train"]["resume_training_checkpoint_path"] = train.run(resolve("train", partial))["checkpoint"]
    partial["model"]["hybrid_queries"] = 50
    monkeypatch.setattr(resume, "check", lambda *what: None)
    with pytest.raises(UserError, match="hybrid_embed"):
        train.run(resolve("train", partial))


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


@pytest.mark.parametrize("epochs", [3, 4])
def test_a_training_that_is_over_has_nothing_to_go_on_with(epochs: int) -> None:
    spec = resolve("train", TINY)
    progress = {"current": {"processed": 4}}
    loops = {"fit_loop": {"epoch_progress": progress}}
    found = {"optimizer_states": [{}], "spec": spec, "loops": loops}
    put(spec, "train.num_epochs", epochs)
    with pytest.raises(UserError, match=f"a.pth is at epoch 4 of {epochs}: .*raise train.num_epochs"):
        resume.check(found, spec, None, "a.pth")
    put(spec, "train.num_epochs", 5)
    resume.check(found, spec, None, "a.pth")


def test_a_folder_is_no_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    (tmp_path / "model_epoch_003.pth").touch()
    spec = resolve("train", TINY)
    put(spec, "train.resume_training_checkpoint_path", str(tmp_path))
    with pytest.raises(UserError, match=r"is a folder \(.* has model_epoch_003\.pth\)"):
        start.settle(spec)


def test_a_damaged_checkpoint_of_its_own_is_set_aside(demo: Path, tmp_path: Path) -> None:
    """So that the engine, which starts a trial once more, finds the one before it, or none."""
    own = Path(trained(demo, tmp_path / "run", train__num_epochs=1)).resolve()
    other = tmp_path / "other" / own.name
    other.parent.mkdir()
    whole = own.read_bytes()
    for path in (own, other):
        path.write_bytes(whole[: len(whole) // 2] + b"\x55" * 8 + whole[len(whole) // 2 + 8 :])
    leaves = {"train__num_epochs": 2, "train__resume_training_checkpoint_path": str(other)}
    with pytest.raises(UserError, match="is damaged"):
        trained(demo, tmp_path / "run", **leaves)
    assert other.is_file()
    with pytest.raises(ModelError, match=f"it is called {own.name}.damaged now") as told:
        trained(demo, tmp_path / "run", **leaves | {"train__resume_training_checkpoint_path": str(own)})
    assert told.value.exit_code == 1
    assert not own.exists()
