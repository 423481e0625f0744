"""Weights by name and strictly: what fits is loaded to the bit, what does not is listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision

from model import weights
from model.build import build_model
from model.errors import UserError


def same(a: Any, b: Any) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return set(x) == set(y) and all(torch.equal(x[k], y[k]) for k in x)


@pytest.mark.parametrize(
    "layout", ["plain", "official", "tao", "lightning", "data parallel", "refined heads twice"]
)
def test_every_layout_of_the_same_weights_loads_to_the_bit(
    tiny: dict[str, Any], tmp_path: Path, layout: str
) -> None:
    source, target = build_model(tiny), build_model(tiny)
    assert not same(source, target)
    state = source.state_dict()
    document: Any = {
        "plain": state,
        "official": {"model": state, "epoch": 3},
        "tao": {"state_dict": {f"model.model.{k}": v for k, v in state.items()}},
        "lightning": {"state_dict": {f"model.{k}": v for k, v in state.items()}, "epoch": 1},
        "data parallel": {f"module.{k}": v for k, v in state.items()},
        "refined heads twice": {
            "model": state
            | {f"transformer.decoder.{k}": v for k, v in state.items() if k.startswith("bbox_embed")}
        },
    }[layout]
    torch.save(document, tmp_path / "w.pth")
    assert weights.load(target, tmp_path / "w.pth") == []
    assert same(source, target)


def test_other_classes_keep_all_but_the_class_heads(tiny: dict[str, Any], tmp_path: Path) -> None:
    source = build_model(tiny)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    tiny["dataset"]["num_classes"] = 7
    target = build_model(tiny)
    heads = {k: v.clone() for k, v in target.state_dict().items() if k.startswith("class_embed")}
    left = weights.load(target, tmp_path / "w.pth")
    assert set(left) == set(heads)
    after = target.state_dict()
    assert all(torch.equal(after[k], heads[k]) for k in heads)
    assert all(torch.equal(after[k], v) for k, v in source.state_dict().items() if k not in heads)


def test_what_does_not_fit_is_listed(tiny: dict[str, Any], tmp_path: Path) -> None:
    state = build_model(tiny).state_dict()
    state["transformer.level_embed"] = torch.zeros(9, 9)
    state["stray"] = torch.zeros(1)
    del state["query_embed.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError) as caught:
        weights.load(build_model(tiny), tmp_path / "w.pth")
    for line in (
        "missing: query_embed.weight",
        "unexpected: stray",
        "of another shape: transformer.level_embed",
    ):
        assert line in str(caught.value)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_a_torchvision_classifier_fills_the_backbone(tiny: dict[str, Any], tmp_path: Path, norm: str) -> None:
    resnet = torchvision.models.resnet18(weights=None)
    torch.save(resnet.state_dict(), tmp_path / "resnet18.pth")
    tiny["model"] |= {"backbone": "resnet_18", "backbone_norm": norm}
    tiny["model"]["pretrained_backbone_path"] = str(tmp_path / "resnet18.pth")
    detector = build_model(tiny)
    body = detector.get_submodule("backbone.0.body")
    assert torch.equal(body.get_parameter("layer3.0.conv1.weight"), resnet.layer3[0].conv1.weight)
    learns = {n.split(".")[0] for n, p in body.named_parameters() if p.requires_grad}
    assert learns == (
        {"layer2", "layer3", "layer4"}
        if norm == "frozen"
        else {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}
    )


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "efficientnet_b0"])  # without and with squeezing
def test_efficientnet_pytorch_names_fill_a_timm_backbone(
    tiny: dict[str, Any], tmp_path: Path, name: str
) -> None:
    """That package's names in the order in which both networks compute."""
    classifier = timm.create_model(name)
    squeezed = ["_se_reduce", "_se_expand"] if name.endswith("b0") else []
    plain = ["_depthwise_conv", "_bn1", *squeezed, "_project_conv", "_bn2"]
    theirs = ["_conv_stem", "_bn0"]
    for number in range(16):
        theirs += [
            f"_blocks.{number}.{part}" for part in (["_expand_conv", "_bn0"] if number else []) + plain
        ]
    theirs += ["_conv_head", "_bn1", "_fc"]
    ours = list(dict.fromkeys(key.rpartition(".")[0] for key in classifier.state_dict()))
    names = dict(zip(ours, theirs, strict=True))
    state = {
        f"{names[k.rpartition('.')[0]]}.{k.split('.')[-1]}": v for k, v in classifier.state_dict().items()
    }
    torch.save(state, tmp_path / "w.pth")
    tiny["model"] |= {"backbone": f"timm/{name}", "pretrained_backbone_path": str(tmp_path / "w.pth")}
    body = build_model(tiny).get_submodule("backbone.0.body").state_dict()
    assert len(body) > 200
    for key, value in body.items():
        assert torch.equal(value, classifier.state_dict()[key]), key


def test_another_network_s_backbone_is_refused(tiny: dict[str, Any], tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "resnet50.pth")
    tiny["model"]["pretrained_backbone_path"] = str(tmp_path / "resnet50.pth")
    with pytest.raises(UserError, match="does not fit this network"):
        build_model(tiny)


@pytest.mark.parametrize("content", [{"epoch": 1}, b"garbage", None])
def test_files_that_hold_no_weights(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=r"w\.pth"):
        weights.read(path)
