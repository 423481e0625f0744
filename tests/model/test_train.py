"""The train action for real, on twelve pictures: files, metrics, resuming, options."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from automl.records import parse
from model import checkpoint as ckpt
from model import weights
from model.actions import evaluate, inference, train
from model.build import build_model
from model.data import check, loaders
from model.deploy.card import of_checkpoint
from model.errors import ModelError, OutOfMemory, UserError
from model.lightning import DetectorModule
from model.parameter_groups import freeze, parameter_groups
from model.spec import put, resolve
from tests.conftest import with_data

pytestmark = pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning", "ignore::Warning:torch")


def spec_of(tiny: dict[str, Any], demo: Path, folder: Path, **leaves: Any) -> dict[str, Any]:
    spec = with_data(tiny, demo)
    put(spec, "train.results_dir", str(folder))
    for name, value in leaves.items():
        put(spec, name.replace("__", "."), value)
    return resolve("train", spec)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_training_leaves_what_the_contract_says(tiny: dict[str, Any], demo: Path, tmp_path: Path) -> None:
    result = train.run(spec_of(tiny, demo, tmp_path))
    records = lines(tmp_path / "metrics.jsonl")
    assert [r["epoch"] for r in records] == [0, 1]
    assert [r["step"] for r in records] == [3, 6]
    for record in records:
        assert (tmp_path / record["checkpoint"]).is_file()
        for name in ("train_loss", "val_loss", "val_mAP", "val_mAP50", "elapsed_s"):
            assert isinstance(record[name], float)
    assert records[1]["checkpoint"] == "model_epoch_001_step_00006.pth"
    assert (tmp_path / "dd_model_latest.pth").resolve().name == records[1]["checkpoint"]
    status = lines(tmp_path / "status.json")
    assert [status[0]["status"], status[-1]["status"]] == ["STARTED", "SUCCESS"]
    assert isinstance(status[-1]["kpi"]["val_mAP"], float)
    assert result["val_loss"] == records[1]["val_loss"]
    saved = ckpt.load(result["checkpoint"])
    assert saved["classes"] == [
        {"id": 1, "name": "circle"},
        {"id": 2, "name": "square"},
        {"id": 3, "name": "triangle"},
    ]
    assert saved["spec"]["model"]["hidden_dim"] == 32


def test_same_seed_same_training(tiny: dict[str, Any], demo: Path, tmp_path: Path) -> None:
    losses = []
    for name in ("a", "b"):
        train.run(spec_of(tiny, demo, tmp_path / name))
        losses.append(
            [(r["train_loss"], r["val_loss"], r["val_mAP"]) for r in lines(tmp_path / name / "metrics.jsonl")]
        )
    assert losses[0] == losses[1]


def test_a_resumed_training_goes_on_where_it_stopped(
    tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:
    whole = spec_of(tiny, demo, tmp_path / "whole", train__num_epochs=3, train__optim__lr_steps=[2])
    train.run(whole)
    first = lines(tmp_path / "whole" / "metrics.jsonl")
    resumed = spec_of(
        tiny, demo, tmp_path / "resumed", train__num_epochs=3, train__optim__lr_steps=[2],
        train__resume_training_checkpoint_path=str(tmp_path / "whole" / first[0]["checkpoint"]),
    )  # fmt: skip
    train.run(resumed)
    second = lines(tmp_path / "resumed" / "metrics.jsonl")
    assert [r["epoch"] for r in second] == [1, 2]
    assert [r["step"] for r in second] == [6, 9]
    a, b = (ckpt.load(tmp_path / n / "dd_model_latest.pth") for n in ("whole", "resumed"))
    assert a["lr_schedulers"][0]["_last_lr"] == b["lr_schedulers"][0]["_last_lr"]
    assert a["optimizer_states"][0]["state"][0]["step"] == b["optimizer_states"][0]["state"][0]["step"]
    figures = ("train_loss", "val_loss", "val_mAP")
    assert [[r[f] for f in figures] for r in second] == [[r[f] for f in figures] for r in first[1:]]


def test_a_second_training_in_the_folder_makes_room(
    tiny: dict[str, Any], demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may start from a checkpoint of the one before; resumed, it goes on in the same lines."""
    train.run(spec_of(tiny, demo, tmp_path, train__num_epochs=1))
    first = tmp_path / lines(tmp_path / "metrics.jsonl")[0]["checkpoint"]
    again = spec_of(tiny, demo, tmp_path, train__num_epochs=1, train__pretrained_model_path=str(first))
    train.run(again)
    said = capsys.readouterr().out
    assert f"{tmp_path} held an earlier training" in said
    assert (
        f"train.resume_training_checkpoint_path={tmp_path}/earlier_1/dd_model_latest.pth goes on with" in said
    )
    assert (tmp_path / "earlier_1" / first.name).is_file()
    assert [r["epoch"] for r in lines(tmp_path / "metrics.jsonl")] == [0]
    put(again, "train.resume_training_checkpoint_path", str(first))
    put(again, "train.num_epochs", 2)
    train.run(again)
    assert [r["epoch"] for r in lines(tmp_path / "metrics.jsonl")] == [0, 1]
    assert not (tmp_path / "earlier_2").exists()


def test_resuming_another_architecture_lists_the_leaves(
    tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:
    train.run(spec_of(tiny, demo, tmp_path / "a", train__num_epochs=1))
    other = spec_of(
        tiny, demo, tmp_path / "b", model__enc_layers=2, model__num_queries=120,
        train__resume_training_checkpoint_path=str(tmp_path / "a" / "dd_model_latest.pth"),
    )  # fmt: skip
    with pytest.raises(UserError) as caught:
        train.run(other)
    assert "model.enc_layers: 1, 2" in str(caught.value)
    assert "model.num_queries: 100, 120" in str(caught.value)


def test_three_groups_by_name(tiny: dict[str, Any]) -> None:
    spec = resolve("train", tiny)
    detector = build_model(spec)
    groups = {g["name"]: g for g in parameter_groups(detector, spec)}
    assert groups["backbone"]["lr"] == 2e-5
    assert groups["linear_proj"]["lr"] == pytest.approx(2e-5)
    assert groups["transformer"]["lr"] == 2e-4
    assert sum(len(g["params"]) for g in groups.values()) == len(list(detector.parameters()))
    offsets = [
        p for n, p in detector.named_parameters() if "sampling_offsets" in n or "reference_points" in n
    ]
    assert {id(p) for p in groups["linear_proj"]["params"]} == {id(p) for p in offsets}


def test_freeze_stops_what_it_names_and_refuses_what_it_does_not_know(tiny: dict[str, Any]) -> None:
    detector = build_model(tiny)
    freeze(detector, ["backbone", "transformer.encoder"])
    assert not any(
        p.requires_grad
        for n, p in detector.named_parameters()
        if n.startswith(("backbone", "transformer.encoder"))
    )
    assert all(p.requires_grad for n, p in detector.named_parameters() if n.startswith("transformer.decoder"))
    with pytest.raises(UserError, match="no module 'bakbone'"):
        freeze(detector, ["bakbone"])
    with pytest.raises(UserError, match=r"train.freeze \[.*'query_embed'.*\] leaves nothing to train"):
        freeze(detector, [name for name, _ in detector.named_children()])


@pytest.mark.parametrize("backbone", ["resnet_18", "timm/mobilenetv3_small_050"])
def test_norms_of_frozen_parts_keep_their_statistics(tiny: dict[str, Any], backbone: str) -> None:
    """Those without parameters too; a trained part's follow the batch."""
    tiny["model"] |= {"backbone": backbone, "backbone_norm": "batch"}
    images = torch.rand(2, 3, 64, 64)

    def moved(detector: Any) -> set[str]:
        before = {name: value.clone() for name, value in detector.named_buffers()}
        detector.train().project(images)
        return {name for name, value in detector.named_buffers() if not torch.equal(value, before[name])}

    detector = build_model(tiny)
    assert moved(detector)
    detector.get_submodule("backbone.0").register_module("bare", torch.nn.BatchNorm2d(3, affine=False))
    freeze(detector, ["backbone"])
    assert not moved(detector)
    assert not detector.get_submodule("backbone.0.bare").training
    tiny["model"]["train_backbone"] = False
    detector = build_model(tiny)
    assert detector.training
    assert torch.equal(detector.project(images)[0], detector.eval().project(images)[0])


def test_a_frozen_backbone_s_norms_do_not_train(tiny: dict[str, Any], demo: Path, tmp_path: Path) -> None:
    tiny["model"]["backbone_norm"] = "batch"
    torch.save(build_model(tiny).get_submodule("backbone.0.body").state_dict(), tmp_path / "w.pth")
    spec = spec_of(tiny, demo, tmp_path, train__num_epochs=1, train__start=str(tmp_path / "w.pth"), train__freeze=["backbone"])  # fmt: skip
    state = ckpt.load(train.run(spec)["checkpoint"])["state_dict"]
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    assert means
    assert not any(mean.any() for mean in means)


@pytest.mark.parametrize(
    "optim",
    [{"optimizer": "SGD", "momentum": 0.8}, {"lr_scheduler": "StepLR", "lr_step_size": 1, "lr_decay": 0.5}],
)
def test_optimizers_and_schedules(
    tiny: dict[str, Any], demo: Path, tmp_path: Path, optim: dict[str, Any]
) -> None:
    spec = spec_of(tiny, demo, tmp_path, **{f"train__optim__{k}": v for k, v in optim.items()})
    train.run(spec)
    saved = ckpt.load(tmp_path / "dd_model_latest.pth")
    if "momentum" in optim:
        assert saved["optimizer_states"][0]["param_groups"][0]["momentum"] == 0.8
    else:
        assert saved["lr_schedulers"][0]["_last_lr"][0] == pytest.approx(2e-4 * 0.25)


def test_intervals(tiny: dict[str, Any], demo: Path, tmp_path: Path) -> None:
    train.run(
        spec_of(
            tiny,
            demo,
            tmp_path,
            train__num_epochs=3,
            train__validation_interval=2,
            train__checkpoint_interval=2,
        )
    )
    records = lines(tmp_path / "metrics.jsonl")
    assert ["val_mAP" in r for r in records] == [False, True, True]
    assert [bool(r["checkpoint"]) for r in records] == [False, True, True]


def test_a_checkpoint_of_an_epoch_that_was_not_validated_carries_no_figures(
    tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:
    train.run(spec_of(tiny, demo, tmp_path, train__num_epochs=4, train__validation_interval=2))
    paths = [tmp_path / line["checkpoint"] for line in lines(tmp_path / "metrics.jsonl")]
    assert [bool(ckpt.load(path)["metrics"]) for path in paths] == [False, True, False, True]
    card = of_checkpoint(ckpt.load(paths[2]))
    assert card.threshold is None
    assert card.trained["metrics"] == {}


def test_a_checkpoint_of_a_step_holds_that_step_s_average(
    tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:
    spec = spec_of(
        tiny, demo, tmp_path, train__num_epochs=1, train__ema_decay=0.5,
        train__checkpoint_interval_unit="step",
    )  # fmt: skip
    train.run(spec)
    states = [torch.load(path, weights_only=True)["state_dict"] for path in sorted(tmp_path.glob("model_*"))]
    assert [int(state["ema.n_averaged"]) for state in states] == [1, 2, 3]
    name = "transformer.encoder.layers.0.linear1.weight"
    for before, after in itertools.pairwise(states):
        share = 1 - (1 + int(before["ema.n_averaged"])) / (10 + int(before["ema.n_averaged"]))
        wanted = before[f"ema.module.{name}"].lerp(after[f"model.{name}"], share)
        assert torch.allclose(after[f"ema.module.{name}"], wanted, atol=1e-7)


def test_an_average_begins_from_the_weights_that_were_loaded(
    tiny: dict[str, Any], demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train.run(spec_of(tiny, demo, tmp_path / "first", train__num_epochs=1))["checkpoint"]
    begun: list[Any] = []
    monkeypatch.setattr("pytorch_lightning.Trainer.fit", lambda self, module, **rest: begun.append(module))
    monkeypatch.setattr("model.lightning.DetectorModule.train_loss", lambda self: 0.0)
    train.run(
        spec_of(
            tiny,
            demo,
            tmp_path / "second",
            train__ema_decay=0.5,
            train__seed=7,
            train__pretrained_model_path=str(first),
        )
    )
    loaded = ckpt.load(first)["state_dict"]
    average = dict(begun[0].ema.module.named_parameters())
    name = "transformer.encoder.layers.0.linear1.weight"
    assert torch.equal(average[name], loaded[name])


@pytest.mark.parametrize(("unit", "step"), [("epoch", 6), ("step", 5)])
def test_a_loss_that_is_not_finite_ends_a_training(
    tiny: dict[str, Any], demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str, step: int
) -> None:
    """From the second step of the second epoch on; a checkpoint of a step is not written with such weights."""
    from model.criterion import Criterion

    forward, calls = Criterion.forward, []

    def failing(self: Any, outputs: Any, targets: Any) -> Any:
        calls.append(torch.is_grad_enabled())
        broken = torch.is_grad_enabled() and calls.count(True) >= 5
        return {k: v * float("nan") if broken else v for k, v in forward(self, outputs, targets).items()}

    monkeypatch.setattr(Criterion, "forward", failing)
    with pytest.raises(ModelError, match="not finite from step 2 of epoch 2 on") as caught:
        train.run(spec_of(tiny, demo, tmp_path, train__num_epochs=3, train__checkpoint_interval_unit=unit))
    assert caught.value.exit_code == 1
    told = lines(tmp_path / "metrics.jsonl")
    last = {name: told[-1][name] for name in ("epoch", "step", "train_loss", "checkpoint")}
    assert last == {"epoch": 1, "step": step, "train_loss": None, "checkpoint": None}
    assert parse(told[-1]).diverged(("train_loss",)) == "train_loss"
    assert len(told) == 2
    assert lines(tmp_path / "status.json")[-1]["status"] == "FAILURE"
    states = [torch.load(path, weights_only=True)["state_dict"] for path in tmp_path.glob("model_*")]
    assert all(value.isfinite().all() for state in states for value in state.values())


@pytest.mark.parametrize(
    ("precision", "lost", "step"),
    [
        ("fp32", [2], 3), ("bf16", [], None), ("fp16", [2, 5], None), ("fp16", range(8, 20), 9),
        ("fp16", [2, *range(8, 20)], 9), ("fp16", [2, *range(11, 20)], None),
    ],
)  # fmt: skip
def test_what_the_scaler_leaves_out_is_no_divergence(
    tiny: dict[str, Any], precision: str, lost: Any, step: int | None
) -> None:
    module = DetectorModule(resolve("train", tiny), [])
    module.spec["train"]["precision"] = precision
    module._trainer = SimpleNamespace(  # type: ignore[assignment]
        strategy=SimpleNamespace(reduce=lambda value, **rest: value), accumulate_grad_batches=1
    )
    module._losses = [torch.tensor(float("inf") if n in lost else 1.0) for n in range(20)]
    found = module.diverged(0)
    assert found == step
    assert math.isfinite(module.train_loss()) == (precision == "fp16" or not lost)


@pytest.mark.parametrize(
    ("lost", "told", "ends"),
    [
        ([2], [True, True, True, True], None),  # a batch of the first epoch
        ([4, 5, 6], [True, False, True, True], None),  # a whole epoch
        (range(3, 99), [True, False, False, None], "step 1 of epoch 4"),  # for ever: no epoch holds ten
    ],
)
def test_a_line_tells_the_loss_of_what_the_scaler_kept(
    tiny: dict[str, Any], demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: Any,
    told: list[bool | None], ends: str | None,
) -> None:  # fmt: skip
    """Epochs of three batches. A CPU has no fp16, and what is added to a loss leaves its gradients as they are."""
    from model.criterion import Criterion

    forward, calls = Criterion.forward, []

    def failing(self: Any, outputs: Any, targets: Any) -> Any:
        calls.append(torch.is_grad_enabled())
        more = float("inf") if torch.is_grad_enabled() and calls.count(True) in lost else 0.0
        return {k: v + more for k, v in forward(self, outputs, targets).items()}

    monkeypatch.setattr(Criterion, "forward", failing)
    monkeypatch.setattr(DetectorModule, "_scaled", lambda self: True)
    ending = (
        pytest.raises(ModelError, match=f"not finite from {ends} on") if ends else contextlib.nullcontext()
    )
    with ending:
        train.run(spec_of(tiny, demo, tmp_path, train__num_epochs=4))
    found = lines(tmp_path / "metrics.jsonl")
    assert [line["train_loss"] is not None if "train_loss" in line else False for line in found[:3]] == told[
        :3
    ]
    assert len(found) == 4
    assert parse(found[3]).diverged(("train_loss",)) == ("train_loss" if ends else None)
    assert not any(parse(line).diverged(("train_loss",)) for line in found[:3])


@pytest.mark.parametrize("named", [[], [{"image_dir": "", "json_file": ""}]])
def test_without_a_validation_set_a_fifth_is_held_out_as_automl_run_does(
    named: list[Any], tiny: dict[str, Any], demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def images(source: dict[str, str]) -> list[str]:
        return [image["file_name"] for image in json.loads(Path(source["json_file"]).read_text())["images"]]

    leaves = {"dataset__val_data_sources": named, "train__seed": 5}
    spec = spec_of(tiny, demo, tmp_path / "a", train__num_epochs=1, **leaves)
    path = train.run(spec)["checkpoint"]
    assert "no validation set: 2 of the 12 training images, drawn by train.seed, are held out" in (
        capsys.readouterr().out
    )
    found = check.inspect(spec, work_dir=tmp_path)["fill"]
    ours = ckpt.load(path)["spec"]["dataset"]
    for split, count in (("train", 10), ("val", 2)):
        wanted = images(found[f"dataset.{split}_data_sources"][0])
        assert images(ours[f"{split}_data_sources"][0]) == wanted
        assert len(wanted) == count
    leaves |= {"train__resume_training_checkpoint_path": path, "train__num_epochs": 2}
    again = ckpt.load(train.run(spec_of(tiny, demo, tmp_path / "b", **leaves))["checkpoint"])["spec"][
        "dataset"
    ]
    assert images(again["val_data_sources"][0]) == images(ours["val_data_sources"][0])


def test_of_a_single_image_nothing_can_be_held_out(
    tiny: dict[str, Any], own_demo: Path, tmp_path: Path
) -> None:
    file = own_demo / "train/annotations.json"
    document = json.loads(file.read_text())
    document["images"] = document["images"][:1]
    only = document["images"][0]["id"]
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] == only]
    file.write_text(json.dumps(document))
    with pytest.raises(UserError, match="no image can be held out for validation: there is only one"):
        train.run(spec_of(tiny, own_demo, tmp_path, dataset__val_data_sources=[]))


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_without_loader_processes_the_same_is_trained_scored_and_found(
    tiny: dict[str, Any], demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaders, "cores", lambda: 4)
    begun: list[int] = []
    begin = DataLoader.__init__

    def noted(self: Any, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        begun.append(self.num_workers)

    monkeypatch.setattr(DataLoader, "__init__", noted)
    found = []
    for workers in (0, 1):
        begun.clear()
        leaves = {"train__num_epochs": 1, "dataset__workers": workers}
        made = train.run(spec_of(tiny, demo, tmp_path / str(workers), **leaves))
        partial = with_data(tiny, demo) | {"results_dir": str(tmp_path / str(workers))}
        del partial["train"]
        partial["evaluate"] = {"checkpoint": made["checkpoint"], "split": "val"}
        scored = evaluate.run(resolve("evaluate", partial))
        del partial["evaluate"]
        partial["dataset"]["infer_data_sources"] = {"image_dir": [str(demo / "val/images")]}
        partial["inference"] = {"checkpoint": made["checkpoint"]}
        inference.run(resolve("inference", partial))
        assert set(begun) == {workers}
        found.append((made["train_loss"], made["val_loss"], scored["val_mAP"]))
    assert found[0] == found[1]


def test_a_dry_run_saves_nothing(tiny: dict[str, Any], demo: Path, tmp_path: Path) -> None:
    result = train.run(spec_of(tiny, demo, tmp_path, train__is_dry_run=True))
    assert result["checkpoint"] is None
    assert not list(tmp_path.glob("*.pth"))


def test_a_dry_run_of_a_resume_runs_its_batch_wherever_the_checkpoint_stands(
    tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:
    """At the end of the first epoch, of the second, and within that."""
    leaves = {"train__checkpoint_interval_unit": "step", "train__validation_interval": 2}
    train.run(spec_of(tiny, demo, tmp_path / "whole", train__num_epochs=2, **leaves))
    for epoch, step in ((0, 3), (1, 5), (1, 6)):
        path = str(tmp_path / "whole" / ckpt.file_name(epoch, step))
        resumed = {"train__resume_training_checkpoint_path": path, "train__num_epochs": 3, **leaves}
        result = train.run(spec_of(tiny, demo, tmp_path / "dry", train__is_dry_run=True, **resumed))
        assert result["val_loss"] > 0
        assert not list((tmp_path / "dry").glob("*.pth"))


def test_bf16_trains_on_a_cpu_and_fp16_says_that_it_cannot(
    tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:
    result = train.run(spec_of(tiny, demo, tmp_path / "bf16", train__num_epochs=1, train__precision="bf16"))
    assert result["val_loss"] < 1e3
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="fp16 needs a GPU"):
            train.run(spec_of(tiny, demo, tmp_path / "fp16", train__precision="fp16"))
        with pytest.raises(UserError, match="finds no CUDA device"):
            train.run(
                spec_of(tiny, demo, tmp_path / "gpu", train__precision="fp32", train__accelerator="gpu")
            )


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_validation_in_bf16_records_what_evaluate_finds_of_its_checkpoint(
    ema: float, tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:
    """Trials are ranked by it, and what is handed over computes in fp32 whatever training did."""
    leaves = {"train__num_epochs": 6, "train__optim__lr": 2e-3, "train__ema_decay": ema}
    trained = train.run(spec_of(tiny, demo, tmp_path, train__precision="bf16", **leaves))
    told = {"checkpoint": trained["checkpoint"], "split": "val", "batch_size": 4}
    partial = with_data(tiny, demo) | {"results_dir": str(tmp_path), "evaluate": told}
    found = evaluate.run(resolve("evaluate", {k: v for k, v in partial.items() if k != "train"}))
    assert 0 < found["val_mAP"] == pytest.approx(trained["val_mAP"], abs=1e-12)
    assert found["val_mAP50"] == pytest.approx(trained["val_mAP50"], abs=1e-12)
    assert found["threshold"] == pytest.approx(trained["val_threshold"], abs=1e-6)


def limited(monkeypatch: pytest.MonkeyPatch, images: int, where: str, after: int = 0) -> list[bool]:
    """A machine that has no room for more images at a time, from the call `after` on: no GPU here can be filled up, so
    torch's error is raised where the network's own would be. Returns a list that gets, for each network for which there
    was no room, whether it was still there when its memory had been given back."""
    from model import memory
    from model.lightning import DetectorModule

    whole, free = getattr(DetectorModule, where), memory.free
    calls: list[int] = []
    failed: list[weakref.ref[Any]] = []
    left: list[bool] = []

    def look() -> None:
        free()
        left.extend(network() is not None for network in failed)

    monkeypatch.setattr(memory, "free", look)

    def step(self: DetectorModule, batch: Any, index: int) -> Any:
        calls.append(index)
        if len(batch[0]) > images and len(calls) > after:
            failed.append(weakref.ref(self))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore words")
        return whole(self, batch, index)

    monkeypatch.setattr(DetectorModule, where, step)
    return left


@pytest.mark.parametrize(
    ("where", "after"),
    [("training_step", 0), ("training_step", 4), ("validation_step", 0), ("validation_step", 1)],
)
def test_out_of_memory_goes_on_with_parts_of_a_batch(
    tiny: dict[str, Any], demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, after: int
) -> None:
    """From the last checkpoint on; each epoch is told once, and as many steps are taken as without."""
    train.run(spec_of(tiny, demo, tmp_path / "roomy", train__ema_decay=0.5))
    left = limited(monkeypatch, 2, where, after)
    train.run(spec_of(tiny, demo, tmp_path / "short", train__ema_decay=0.5))
    assert left == [False]
    roomy, short = (lines(tmp_path / name / "metrics.jsonl") for name in ("roomy", "short"))
    assert (
        [(r["epoch"], r["step"]) for r in short]
        == [(r["epoch"], r["step"]) for r in roomy]
        == [(0, 3), (1, 6)]
    )
    for a, b in zip(roomy, short, strict=True):
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=0.1)
    told = [line["message"] for line in lines(tmp_path / "short/status.json")]
    assert [m for m in told if "Out of memory" in m] == [
        "Out of memory: going on with batches of 4 in 2 parts, gradients summed up. "
        "CUDA out of memory. Tried to allocate 2 GiB"
    ]
    saved = ckpt.load(tmp_path / "short/dd_model_latest.pth")
    assert saved["spec"]["dataset"]["batch_size"] == 4


def test_an_image_that_does_not_fit_is_out_of_memory(
    tiny: dict[str, Any], demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 0, "training_step")
    with pytest.raises(
        OutOfMemory,
        match="try dataset.batch_size=2, or train.activation_checkpoint=true, or train.precision=bf16",
    ) as caught:
        train.run(spec_of(tiny, demo, tmp_path))
    assert caught.value.exit_code == 4
    assert lines(tmp_path / "status.json")[-1]["status"] == "FAILURE"


@pytest.mark.parametrize(
    ("batch", "parts"), [(8, [2, 4, 8]), (6, [2, 6]), (1, []), (7, [7]), (12, [2, 4, 12])]
)
def test_a_batch_is_cut_into_equal_parts(batch: int, parts: list[int]) -> None:
    from model.memory import more_parts

    found = [1]
    while (more := more_parts(batch, found[-1])) is not None:
        found.append(more)
    assert found[1:] == parts


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("CUDA out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, wanted: bool) -> None:
    from model.memory import is_out_of_memory

    assert is_out_of_memory(error) is wanted


def test_a_heartbeat_says_where_a_training_stands(
    tiny: dict[str, Any], demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from model import heartbeat

    monkeypatch.setattr(heartbeat, "BEAT_S", 0.0)
    beats: list[dict[str, Any]] = []
    replace = Path.replace

    def seen(self: Path, target: Path) -> Path:
        if Path(target).name == "heartbeat":
            beats.append(json.loads(self.read_text()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", seen)
    train.run(spec_of(tiny, demo, tmp_path))
    assert json.loads((tmp_path / "heartbeat").read_text()) == beats[-1]
    training = [beat for beat in beats if beat["validating"] is None]
    assert [(beat["epoch"], beat["step"]) for beat in training] == [
        (0, 0), (0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (1, 6)
    ]  # fmt: skip
    assert {beat["steps"] for beat in beats} == {6}
    assert all(beat["loss"] > 0 and beat["images_per_s"] > 0 for beat in training[1:])
    assert [beat["validating"] for beat in beats if beat["validating"]].count(1.0) == 2
    etas = [beat["eta_s"] for beat in beats]
    assert etas[0] is None
    assert etas[-1] == 0
    assert beats[-1]["memory_mb"] > 50
    printed = capsys.readouterr().out
    told = [
        line["message"] for line in lines(tmp_path / "status.json") if "step" in line and "kpi" not in line
    ]
    assert told == [line for line in printed.splitlines() if line.startswith("epoch ")]
    assert len(told) == len(beats)
    assert told[0].startswith("epoch 1 of 2, step 0 of 6, ")
    assert f"checkpoint: {tmp_path / 'dd_model_latest.pth'}" in printed


def test_a_heart_that_cannot_beat_does_not_end_a_training(
    tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:
    (tmp_path / "heartbeat").mkdir()
    result = train.run(spec_of(tiny, demo, tmp_path, train__num_epochs=1))
    assert result["checkpoint"]


def test_a_norm_of_a_single_value_is_told(tiny: dict[str, Any], demo: Path, tmp_path: Path) -> None:
    """One image whose last map has one cell."""
    small = {"dataset__batch_size": 1, "train__input_height": 32, "train__input_width": 32}
    spec = spec_of(tiny, demo, tmp_path, **small, train__start="scratch")
    with pytest.raises(UserError, match=r"a single value .* set dataset\.batch_size to 2 or more"):
        train.run(spec)


def test_a_label_above_num_classes_is_found_before_training(
    tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="above the largest category id 3, but got 2"):
        train.run(spec_of(tiny, demo, tmp_path, dataset__num_classes=2))


@pytest.mark.parametrize("damage", ["missing", "garbage", "foreign"])
def test_unreadable_checkpoints(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.pth"
    if damage == "garbage":
        path.write_bytes(b"PK\x03\x04 not a checkpoint")
    elif damage == "foreign":
        torch.save({"model": {}}, path)
    with pytest.raises(UserError, match=r"a\.pth"):
        ckpt.load(path)


def test_a_checkpoint_of_which_a_few_bytes_changed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": {"model.w": torch.ones(5000)}, "spec": {}}, path)
    assert ckpt.load(path)["state_dict"]["w"].sum() == 5000
    whole = path.read_bytes()
    place = whole.index(b"\0\0\x80\x3f" * 400) + 800
    path.write_bytes(whole[:place] + b"\x55" * 8 + whole[place + 8 :])
    with pytest.raises(UserError, match=r"a\.pth: is damaged \(.*data/0 in it does not fit its checksum\)"):
        ckpt.load(path)
    with pytest.raises(UserError, match=r"a\.pth: is damaged"):
        weights.read(path)


@pytest.mark.parametrize("place", range(0, 140, 7))
def test_a_damaged_head_in_a_checkpoint_is_no_traceback(tmp_path: Path, place: int) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": {"model.w": torch.ones(5)}, "spec": {}}, path)
    whole = bytearray(path.read_bytes())
    at = place if place < 70 else len(whole) - place
    whole[at] ^= 0x80
    path.write_bytes(whole)
    with contextlib.suppress(UserError):
        assert ckpt.load(path)["state_dict"]["w"].sum() == 5


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "spec": {}, "evil": logging.getLogger()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="not a readable weights file"):
        ckpt.load(tmp_path / "a.pth")


def test_evaluate_scores_every_image_once_and_refuses_another_architecture(
    tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:
    trained = train.run(spec_of(tiny, demo, tmp_path / "train"))
    spec = with_data({k: v for k, v in tiny.items() if k != "train"}, demo)
    put(spec, "results_dir", str(tmp_path))
    put(spec, "evaluate.checkpoint", trained["checkpoint"])
    put(spec, "evaluate.input_height", 64)
    put(spec, "evaluate.input_width", 64)
    put(spec, "evaluate.batch_size", 3)  # 4 images: the last batch is not full
    result = evaluate.run(resolve("evaluate", spec))
    found = json.loads((tmp_path / "evaluate" / "results.json").read_text())
    assert {row["image_id"] for row in found} == {1, 2, 3, 4}
    assert len(found) == 4 * 50
    assert json.loads((tmp_path / "evaluate" / "metrics.json").read_text()) == result
    assert {row["name"] for row in result["per_class"]} == {"circle", "square", "triangle"}
    put(spec, "model.dec_layers", 3)
    with pytest.raises(UserError, match="model.dec_layers: 2, 3"):
        evaluate.run(resolve("evaluate", spec))
