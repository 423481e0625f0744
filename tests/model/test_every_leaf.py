"""No setting is dead: each leaf of a train spec is changed and its effect seen; what cannot act says so."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from model.actions import train
from model.build import build_criterion, build_model
from model.errors import UserError
from model.lightning import DetectorModule
from model.parameter_groups import freeze, parameter_groups
from model.parameters import of_action
from model.postprocess import postprocess
from model.recorder import EpochRecorder
from model.spec import get, notes, put, resolve
from model.status import results_folder
from tests.conftest import TINY, with_data

HERE = Path(__file__).parent
OWN = ("model.", "train.", "wandb.")  # dataset.* and the other actions' leaves have tests of their own


def spec_of(*settings: dict[str, Any]) -> dict[str, Any]:
    partial = json.loads(json.dumps(TINY))
    partial["model"]["return_interm_indices"] = [1, 2]
    for leaves in settings:
        for name, value in leaves.items():
            put(partial, name, value)
    return resolve("train", partial)


def images_and_targets() -> tuple[Any, Any, Any]:
    random = torch.Generator().manual_seed(1)
    images, mask = torch.randn(2, 3, 96, 96, generator=random), torch.zeros(2, 96, 96, dtype=torch.bool)
    mask[1, 64:] = True
    targets = [
        {"labels": torch.tensor([1, 2]), "boxes_cxcywh": torch.rand(2, 4, generator=random) * 0.3 + 0.3},
        {"labels": torch.tensor([3]), "boxes_cxcywh": torch.rand(1, 4, generator=random) * 0.3 + 0.3},
    ]
    return images, mask, targets


def lively(spec: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    detector = build_model(spec)
    with torch.no_grad():
        for head in (*detector.bbox_embed, *detector.class_embed):
            (head if isinstance(head, nn.Linear) else head.last).weight.normal_(std=0.2)
    return detector


# Probes: a spec -> what of it can be compared.


def graph(spec: dict[str, Any]) -> Any:
    """Names, shapes and learning of the parameters, and the kinds of modules."""
    detector = build_model(spec)
    parameters = [(n, tuple(p.shape), p.requires_grad) for n, p in detector.named_parameters()]
    return parameters, [(n, repr(m)) for n, m in detector.named_modules() if not list(m.children())]


def outputs(spec: dict[str, Any]) -> Any:
    images, mask, _ = images_and_targets()
    with torch.no_grad():
        found = lively(spec).eval()(images, mask)
    return found["pred_logits"].tolist(), sorted(found)


def losses(spec: dict[str, Any]) -> Any:
    images, mask, targets = images_and_targets()
    detector = lively(spec)
    torch.manual_seed(2)
    with torch.no_grad():
        found = build_criterion(spec)(detector(images, mask, targets), targets)
    return {name: float(value) for name, value in found.items()}


def gradients(spec: dict[str, Any]) -> Any:
    images, mask, targets = images_and_targets()
    detector = lively(spec)
    build_criterion(spec)(detector(images, mask, targets), targets)["loss"].backward()
    return [float(p.grad.abs().sum()) for p in detector.parameters() if p.grad is not None]


def memory(spec: dict[str, Any]) -> Any:
    """How many tensors the forward pass keeps for the backward pass."""
    images, mask, _ = images_and_targets()
    detector, kept = lively(spec), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        detector(images, mask)
    return sum(kept)


def optimizer(spec: dict[str, Any]) -> Any:
    module = DetectorModule(spec, [])
    freeze(module.model, spec["train"]["freeze"])
    module._trainer = SimpleNamespace(
        datamodule=SimpleNamespace(steps_per_epoch=lambda: 10), accumulate_grad_batches=1
    )
    found = module.configure_optimizers()
    groups = [
        {k: v for k, v in g.items() if k != "params"} | {"count": len(g["params"])}
        for g in found["optimizer"].param_groups
    ]
    factor = found["lr_scheduler"]["scheduler"].lr_lambdas[0]
    return type(found["optimizer"]).__name__, groups, [factor(step) for step in range(0, 60, 3)]


def trainer(spec: dict[str, Any]) -> Any:
    """What Lightning's Trainer is given on a machine with four GPUs; a refusal is an effect as well."""
    import pytorch_lightning as pl

    seen: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl, "Trainer", lambda **options: seen.update(options))
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 4)
        try:
            train.build_trainer(spec, [])
        except UserError as error:
            return str(error)
    strategy = seen["strategy"]
    plugins = [(type(p).__name__, p.key) for p in seen.pop("plugins")]
    return {k: repr(v) for k, v in seen.items() if k != "strategy"}, plugins, getattr(strategy, "strategy_name", type(strategy).__name__), strategy if isinstance(strategy, str) else ""  # fmt: skip


def detections(spec: dict[str, Any]) -> Any:
    images, mask, _ = images_and_targets()
    with torch.no_grad():
        found = postprocess(lively(spec).eval()(images, mask), [(96, 96)] * 2, spec["model"]["num_select"])
    return len(found[0]["scores"])


def averages(spec: dict[str, Any]) -> Any:
    return DetectorModule(spec, []).ema is None


def folder(spec: dict[str, Any]) -> Any:
    return results_folder(spec, "train")


def transformed(spec: dict[str, Any]) -> Any:
    from model.data.transforms import exact_size

    return exact_size(spec, "train")


def weights_and_biases(spec: dict[str, Any]) -> Any:
    """What the logger is given; W&B itself stands in, for it needs an account."""
    import pytorch_lightning.loggers

    from model import wandb_runs

    seen: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", "x")
        patch.setattr(wandb_runs, "find_spec", lambda name: True)
        patch.setattr(
            pytorch_lightning.loggers, "WandbLogger", lambda **options: seen.update(options) or seen
        )
        return wandb_runs.logger(spec, ".") and seen


TWO = {"model.two_stage": True}
NOISE = {"model.denoising_queries": 8}
SGD = {"train.optim.optimizer": "SGD"}
FOUR = {"train.num_gpus": 2, "train.gpu_ids": [0, 1]}

# leaf -> (another value, probe, settings under which it acts)
CHANGES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "model.backbone": ("resnet_34", graph, {}),
    "model.backbone_norm": ("group", graph, {"model.backbone": "resnet_18"}),
    "model.train_backbone": (False, graph, {}),
    "model.return_interm_indices": ([2, 3], graph, {}),
    "model.num_feature_levels": (3, graph, {"model.return_interm_indices": [0, 1, 2]}),
    "model.dilation": (True, graph, {"model.backbone": "resnet_50", "model.return_interm_indices": [2, 3]}),
    "model.hidden_dim": (64, graph, {}),
    "model.nheads": (2, graph, {}),
    "model.enc_layers": (2, graph, {}),
    "model.dec_layers": (3, graph, {}),
    "model.dim_feedforward": (48, graph, {}),
    "model.enc_n_points": (2, graph, {}),
    "model.dec_n_points": (2, graph, {}),
    "model.dropout_ratio": (0.2, losses, {}),
    "model.num_queries": (110, graph, {}),
    "model.num_select": (20, detections, {}),
    "model.with_box_refine": (False, graph, {}),
    "model.two_stage": (True, graph, {}),
    "model.mixed_selection": (True, graph, TWO),
    "model.look_forward_twice": (True, gradients, {}),
    "model.denoising_queries": (8, losses, {}),
    "model.denoising_label_noise": (1.0, losses, NOISE),
    "model.denoising_box_noise": (0.3, losses, NOISE),
    "model.hybrid_queries": (12, losses, {}),
    "model.hybrid_repeat": (2, losses, {"model.hybrid_queries": 12}),
    "model.class_loss": ("varifocal", losses, {}),
    "model.aux_loss": (False, outputs, {}),
    "model.loss_types": (["labels"], losses, {}),
    "model.cls_loss_coef": (1.0, losses, {}),
    "model.bbox_loss_coef": (4.0, losses, {}),
    "model.giou_loss_coef": (1.0, losses, {}),
    "model.focal_alpha": (0.5, losses, {}),
    "model.tao_compat": (True, outputs, {}),
    "model.exact_padding": (True, outputs, {}),
    "model.backbone_names": (["backbone.0", "input_proj"], optimizer, {}),
    "model.linear_proj_names": (["reference_points"], optimizer, {}),
    "train.recipe": ("published", losses, {}),
    "train.num_epochs": (3, trainer, {}),
    "train.validation_interval": (2, trainer, {}),
    "train.num_gpus": (2, trainer, {"train.gpu_ids": [0, 1]}),
    "train.gpu_ids": ([2, 3], trainer, FOUR),
    "train.num_nodes": (2, trainer, {}),
    "train.accelerator": ("cpu", trainer, {}),
    "train.distributed_strategy": ("fsdp", trainer, FOUR),
    "train.precision": ("bf16", trainer, {}),
    "train.activation_checkpoint": (True, memory, {}),
    "train.clip_grad_norm": (0.0, trainer, {}),
    "train.ema_decay": (0.9, averages, {}),
    "train.freeze": (["transformer.encoder"], optimizer, {}),
    "train.input_height": (32, transformed, {}),
    "train.input_width": (32, transformed, {}),
    "train.is_dry_run": (True, trainer, {}),
    "train.results_dir": ("/elsewhere", folder, {}),
    "train.optim.optimizer": ("SGD", optimizer, {}),
    "train.optim.lr": (1e-3, optimizer, {}),
    "train.optim.lr_backbone": (1e-4, optimizer, {}),
    "train.optim.lr_linear_proj_mult": (0.5, optimizer, {}),
    "train.optim.momentum": (0.5, optimizer, SGD),
    "train.optim.weight_decay": (1e-2, optimizer, {}),
    "train.optim.lr_scheduler": ("Cosine", optimizer, {}),
    "train.optim.warmup_steps": (9, optimizer, {}),
    "train.optim.lr_steps": ([1], optimizer, {}),
    "train.optim.lr_step_size": (1, optimizer, {"train.optim.lr_scheduler": "StepLR"}),
    "train.optim.lr_decay": (0.5, optimizer, {"train.optim.lr_steps": [1]}),
    "results_dir": ("/elsewhere", folder, {}),
    "encryption_key": ("secret", trainer, {}),
    "wandb.enable": (True, weights_and_biases, {}),
    "wandb.project": ("p", weights_and_biases, {"wandb.enable": True}),
    "wandb.entity": ("e", weights_and_biases, {"wandb.enable": True}),
    "wandb.group": ("g", weights_and_biases, {"wandb.enable": True}),
    "wandb.name": ("n", weights_and_biases, {"wandb.enable": True}),
    "wandb.run_id": ("r", weights_and_biases, {"wandb.enable": True}),
    "wandb.tags": (["t"], weights_and_biases, {"wandb.enable": True}),
    "wandb.reinit": (True, weights_and_biases, {"wandb.enable": True}),
    "wandb.save_code": (True, weights_and_biases, {"wandb.enable": True}),
    "wandb.sync_tensorboard": (True, weights_and_biases, {"wandb.enable": True}),
}

# leaf -> the test that sees its effect where more than a value has to be changed
ELSEWHERE = {
    "model.pretrained_backbone_path": ("test_weights.py", "test_a_torchvision_classifier_fills_the_backbone"),
    "train.start": ("test_start.py", "test_a_training_from_a_checkpoint_of_another_shape"),
    "train.pretrained_model_path": ("test_every_leaf.py", "test_a_training_starts_from_other_weights"),
    "train.resume_training_checkpoint_path": ("test_train.py", "test_a_resumed_training_goes_on_where_it_stopped"),
    "train.checkpoint_interval": ("test_train.py", "test_intervals"),
    "train.checkpoint_interval_unit": ("test_every_leaf.py", "test_checkpoints_every_so_many_steps"),
    "train.elastic": ("test_elastic.py", "test_a_resumed_training_draws_the_same_steps"),
    "train.patience": ("test_patience.py", "test_a_training_ends"),
    "train.seed": ("test_every_leaf.py", "test_what_only_a_training_shows"),
    "train.verbose": ("test_every_leaf.py", "test_what_only_a_training_shows"),
    "train.cudnn.benchmark": ("test_every_leaf.py", "test_what_only_a_training_shows"),
    "train.cudnn.deterministic": ("test_every_leaf.py", "test_what_only_a_training_shows"),
    "model_name": ("test_every_leaf.py", "test_what_only_a_training_shows"),
}  # fmt: skip


@pytest.mark.parametrize("leaf", CHANGES)
def test_a_changed_leaf_acts(leaf: str) -> None:
    value, probe, settings = CHANGES[leaf]
    if leaf == "model.num_feature_levels":  # tied to the list it counts
        changed = spec_of(settings, {leaf: value})
        assert len(build_model(changed).input_proj) == 3
        return
    base = spec_of(settings)
    assert get(base, leaf) != value
    assert probe(base) == probe(spec_of(settings))
    assert probe(base) != probe(spec_of(settings, {leaf: value}))


def test_no_leaf_is_forgotten() -> None:
    leaves = {p.name for p in of_action("train") if p.name.startswith(OWN) or "." not in p.name}
    dead = {p.name for p in of_action("train") if p.dead}
    assert leaves - dead == set(CHANGES) | set(ELSEWHERE)
    assert not set(CHANGES) & set(ELSEWHERE)
    for file, test in ELSEWHERE.values():
        tree = ast.parse((HERE / file).read_text())
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_notes_are_silent_where_all_acts() -> None:
    assert notes(spec_of({"train.optim.lr_steps": [1]})) == []


@pytest.mark.parametrize("leaf", ["backbone_names", "linear_proj_names"])
def test_a_word_that_no_parameter_has_is_refused(leaf: str) -> None:
    spec = spec_of({f"model.{leaf}": ["backbone", "sampling_ofsets"]})
    with pytest.raises(
        UserError, match=rf"model\.{leaf}: no .* 'sampling_ofsets'; did you mean 'sampling_offsets'"
    ):
        parameter_groups(build_model(spec), spec)


def test_notes_of_what_cannot_act_under_other_settings() -> None:
    assert notes(spec_of({"train.optim.lr_steps": [1], "model.mixed_selection": True})) == [
        "model.mixed_selection is True, but has no effect while model.two_stage is False"
    ]
    assert "lie beyond train.num_epochs 2: no drop" in notes(spec_of({"train.optim.lr_steps": [2, 3]}))[0]
    assert notes(spec_of()) == []  # nobody set them
    assert "not reached in 2 epochs" in notes(spec_of({"train.optim.lr_scheduler": "StepLR"}))[0]


def test_checkpoints_every_so_many_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    monkeypatch.setattr(EpochRecorder, "_save", lambda self, t: saved.append(t.global_step))
    for unit, wanted in (("step", [2, 4]), ("epoch", [])):
        saved.clear()
        recorder = EpochRecorder(
            tmp_path, spec_of({"train.checkpoint_interval": 2, "train.checkpoint_interval_unit": unit})
        )
        for step in range(1, 6):
            recorder.on_train_batch_end(
                SimpleNamespace(
                    global_step=step,
                    is_global_zero=True,
                    accumulate_grad_batches=1,
                    num_training_batches=9,
                ),
                None,
                None,
                None,
                step,
            )
        assert saved == wanted


pytestmark = pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning", "ignore::Warning:torch")


def test_what_only_a_training_shows(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def dry(**leaves: Any) -> Any:
        partial = with_data(json.loads(json.dumps(TINY)), demo)
        partial |= {"model_name": leaves.pop("model_name", ""), "results_dir": str(tmp_path)}
        partial["train"] |= {"is_dry_run": True, **leaves}
        result = train.run(resolve("train", partial))
        flags = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
        return result["val_loss"], flags, capsys.readouterr().out

    before = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
    try:
        loss, flags, printed = dry(model_name="mine")
        assert flags == (False, True)
        assert "DeformableDETR(" not in printed
        assert "no drop" not in printed
        assert printed.splitlines()[-1].startswith(
            "the dry run went through: one batch of training and one of"
        )
        other, flags, printed = dry(seed=7, verbose=True, cudnn={"benchmark": True, "deterministic": False})
        assert flags == (True, False)
        assert "DeformableDETR(" in printed
        assert other != loss
    finally:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = before
    events = [json.loads(line) for line in (tmp_path / "train" / "status.json").read_text().splitlines()]
    assert events[0]["model_name"] == "mine"
    assert "model_name" not in events[-1]


def test_a_training_starts_from_other_weights(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With another number of classes, all but the class heads, which it says."""
    tiny = json.loads(json.dumps(TINY))
    tiny["dataset"]["num_classes"] = 6
    source = build_model(tiny)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    partial = with_data(json.loads(json.dumps(TINY)), demo)
    partial["model"]["backbone_norm"] = "batch"
    partial["train"] |= {
        "pretrained_model_path": str(tmp_path / "w.pth"), "results_dir": str(tmp_path), "num_epochs": 1,
        "freeze": ["transformer.encoder"],
    }  # fmt: skip
    result = train.run(resolve("train", partial))
    assert "start anew: class_embed" in capsys.readouterr().out
    saved = torch.load(result["checkpoint"], weights_only=True)["state_dict"]
    name = "transformer.encoder.layers.0.linear1.weight"
    assert torch.equal(saved[f"model.{name}"], source.get_parameter(name))
