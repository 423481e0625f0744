"""Where a training starts: what is decided, fetched, taken from weights of another shape, and said."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from model import adapt, checkpoint, fetch, start, weights
from model.actions import train
from model.backbone import norm_of
from model.build import build_criterion, build_from, build_model
from model.data.sources import digest
from model.errors import UserError
from model.parameter_groups import freeze
from model.spec import default_spec, get, put, resolve
from tests.conftest import TINY, with_data
from tests.model.fitted import fitted
from tests.model.loopback import Hub

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning", "ignore::Warning:torch")

VARIANTS = {
    "plain": {"with_box_refine": False},
    "refining": {"with_box_refine": True},
    "two-stage": {"with_box_refine": True, "two_stage": True},
}
SMALL = {
    "backbone": "resnet_18", "hidden_dim": 64, "nheads": 4, "dim_feedforward": 96, "enc_layers": 2, "dec_layers": 3,
    "num_queries": 120, "num_select": 50, "dropout_ratio": 0.0,
}  # fmt: skip
PEOPLE = [{"id": 1, "name": "Person"}, {"id": 2, "name": "platelet"}, {"id": 3, "name": "hot_dog"}]


def theirs_of(variant: str, small: bool = True) -> Any:
    """transformers' model as published, or a small one of the same layout."""
    sizes = {
        "d_model": 64, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 96,
        "decoder_ffn_dim": 96, "encoder_layers": 2, "decoder_layers": 3, "num_queries": 120,
        "two_stage_num_proposals": 120,
    }  # fmt: skip
    config = transformers.DeformableDetrConfig(
        backbone_config=transformers.TimmBackboneConfig(
            backbone="resnet18" if small else "resnet50", features_only=True, use_pretrained_backbone=False,
            out_indices=[2, 3, 4],
        ),
        num_labels=91, tie_word_embeddings=variant == "plain", **VARIANTS[variant], **(sizes if small else {}),
    )  # fmt: skip
    return transformers.DeformableDetrForObjectDetection(config)


def hub_names(state: dict[str, torch.Tensor], variant: str) -> dict[str, torch.Tensor]:
    """As the hub's files name them: version 4's names, each tensor once (safetensors drops further names)."""
    ours = weights.published_names(state, ())
    named = weights.hugging_face_names(ours, version=4)
    if variant == "plain":
        return {k: v for k, v in named.items() if "_embed." not in k or "_embed.0." in k}
    kinds = ("bbox_embed.", "class_embed.") if variant == "two-stage" else ("bbox_embed.",)
    return {(f"model.decoder.{k}" if k.startswith(kinds) else k): v for k, v in named.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """{variant: model.safetensors of a small one, every weight drawn}."""
    made = {}
    for number, variant in enumerate(VARIANTS):
        torch.manual_seed(number)
        network = theirs_of(variant)
        state = {k: v.clone() for k, v in network.state_dict().items()}
        for name, value in state.items():
            if value.is_floating_point() and "running_var" not in name:
                state[name] = value + 0.05 * torch.randn_like(value)
        if variant == "plain":  # one head of many names
            for name in state:
                if "_embed." in name and not name.startswith("model."):
                    state[name] = state[name.replace(f"embed.{name.split('.')[1]}.", "embed.0.")]
        made[variant] = tmp_path_factory.mktemp("published") / "model.safetensors"
        save_file({k: v.contiguous().clone() for k, v in hub_names(state, variant).items()}, made[variant])
    return made


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, Path]) -> Iterator[Hub]:
    """The hub serves all three; small networks count as what COCO's weights fit."""
    import huggingface_hub

    server = Hub()
    server.files = {f"{start.COCO[v].repo}/model.safetensors": path for v, path in files.items()}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(start, "COCO_BACKBONE", "resnet_18")
    monkeypatch.setattr(start, "COCO_WIDTH", 64)
    monkeypatch.setattr(start, "TORCHVISION", f"{server.url}/models/")
    yield server
    server.close()


@pytest.fixture
def torch_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's and timm's own cache folder, empty; no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def spec_of(start_with: str = "coco", variant: str = "two-stage", **model: Any) -> dict[str, Any]:
    partial = {
        "model": SMALL | VARIANTS[variant] | model,
        "dataset": {"num_classes": 4},
        "train": {"start": start_with, "activation_checkpoint": False},
    }
    return resolve("train", partial)


def loaded(spec: dict[str, Any], classes: list[dict[str, Any]] = PEOPLE) -> tuple[Any, str]:
    """(the detector, what was said) as a training begins."""
    spec, begin = start.settled(spec)
    detector = build_model(spec)
    return detector, "\n".join(start.load(detector, begin, spec, classes))


# ---- the hub --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_published_model_is_fetched_loads_and_learns(
    variant: str, online: Hub, files: dict[str, Path]
) -> None:
    spec = spec_of(variant=variant)
    assert start.describe(spec)["cached"] is False
    assert start.describe(spec)["size"] == files[variant].stat().st_size
    assert start.fetch(spec) == {"train.start": "coco"}
    assert online.fetched == ["model.safetensors"]
    detector, said = loaded(spec)
    assert norm_of(spec) == "frozen"
    wanted = weights.published_names(weights.read(files[variant]), ())
    state = detector.state_dict()
    anew = {k for k, v in state.items() if k not in wanted or v.shape != wanted[k].shape}
    assert {k for k in anew if not k.endswith("num_batches_tracked")} <= {
        k for k in state if k.startswith("class_embed.")
    }
    assert all(torch.equal(v, wanted[k]) for k, v in state.items() if k not in anew)
    assert "class heads keep the rows of Person, hot_dog" in said
    one_step(detector, spec)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("layers", "queries"), [(1, 100), (3, 120), (5, 250)])
def test_layers_and_queries_stay_free(
    variant: str, layers: int, queries: int, online: Hub, files: dict[str, Path]
) -> None:
    spec = spec_of(variant=variant, enc_layers=layers, dec_layers=layers, num_queries=queries)
    start.fetch(spec)
    detector, said = loaded(spec)
    assert "start anew" not in said
    old = weights.published_names(weights.read(files[variant]), ())
    new = detector.state_dict()
    for part, theirs in (("encoder", 2), ("decoder", 3)):
        for layer in range(layers):
            origin = min(layer, theirs - 1)
            name = f"transformer.{part}.layers.{{}}.linear1.weight"
            assert torch.equal(new[name.format(layer)], old[name.format(origin)])
    head = "bbox_embed.{}.layers.2.weight"
    assert torch.equal(new[head.format(layers - 1)], old[head.format(min(layers, 3) - 1)])
    if variant == "two-stage":  # the head behind the layers' rates the encoder's cells
        assert torch.equal(new[head.format(layers)], old[head.format(3)])
        assert torch.equal(new[f"class_embed.{layers}.weight"][0], old["class_embed.3.weight"][0])
    else:
        embed = new["query_embed.weight"]
        assert torch.equal(embed, old["query_embed.weight"].repeat(3, 1)[:queries])
    assert ("encoder layers are taken" in said) == (layers == 1)
    assert ("is copied to layer" in said) == (layers > 2)
    one_step(detector, spec)


def one_step(detector: Any, spec: dict[str, Any]) -> None:
    """A fine-tuning step moves the weights and stays finite."""
    torch.manual_seed(0)
    targets = [{"labels": torch.tensor([1]), "boxes_cxcywh": torch.tensor([[0.5, 0.5, 0.3, 0.3]])}] * 2
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=1e-3)
    loss = build_criterion(spec)(detector.train()(torch.randn(2, 3, 64, 64), None, targets), targets)["loss"]
    loss.backward()
    before = detector.transformer.level_embed.clone()
    optimizer.step()
    assert torch.isfinite(loss)
    assert not torch.equal(before, detector.transformer.level_embed)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_published_sizes_fit_whole(variant: str) -> None:
    """Shapes alone, at full size: nothing starts anew, and no published name is left over."""
    with torch.device("meta"):
        theirs = theirs_of(variant, small=False)
        spec = resolve("train", {"model": VARIANTS[variant], "dataset": {"num_classes": 91}})
        ours = build_model(spec | {"train": spec["train"] | {"start": "coco"}})
    found = weights.published_names(hub_names(theirs.state_dict(), variant), ours.state_dict())
    made = adapt.adapt(found, ours, None, {})
    assert made.new == ()
    assert made.changes == (
        "the weights do not name their classes: all 91 rows of the class heads are kept, row by category id",
    )
    left = {k for k in set(found) - set(made.weights) if not k.endswith("num_batches_tracked")}
    assert left == set()


def test_one_fetch_serves_all_and_then_no_network_is_needed(
    online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of()
    for _ in range(3):
        start.fetch(spec)
    assert online.fetched == ["model.safetensors"]
    online.close()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert start.settle(spec_of("auto")).kind == "coco"
    assert not start.settle(spec).missing
    loaded(spec)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids"):
        start.settle(spec_of(variant="plain"))


FETCH = "from model import start; start.COCO_BACKBONE = 'resnet_18'; start.COCO_WIDTH = 64; import json, sys; start.fetch(json.loads(sys.argv[1]))"


def test_two_runs_that_start_at_once_fetch_once(online: Hub) -> None:
    online.slow_s = 2.0
    command = [sys.executable, "-c", FETCH, json.dumps(spec_of())]
    both = [subprocess.Popen(command, env=dict(os.environ)) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert online.fetched == ["model.safetensors"]


def test_a_download_that_breaks_goes_on_where_it_stopped(online: Hub, files: dict[str, Path]) -> None:
    online.breaks = 2
    start.fetch(spec_of())
    assert online.fetched == ["model.safetensors"]
    assert len(online.ranges) == 2
    assert start.settle(spec_of()).path.read_bytes() == files["two-stage"].read_bytes()


def test_what_arrives_damaged_is_not_kept(online: Hub) -> None:
    online.damages = True
    with pytest.raises(UserError, match="arrived damaged"):
        start.fetch(spec_of())
    assert start.settle(spec_of()).missing
    online.damages = False
    start.fetch(spec_of())
    loaded(spec_of())


def test_a_hub_without_the_file_is_named(online: Hub) -> None:
    online.files.clear()
    with pytest.raises(UserError, match="404"):
        start.fetch(spec_of())
    assert start.settle(spec_of("auto")).kind == "scratch"


# ---- torch's files ----------------------------------------------------------------------------------------------


def test_torchvision_s_file_is_fetched_checked_and_resumed(online: Hub, tmp_path: Path) -> None:
    network = torchvision.models.resnet18()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    name = f"resnet18-{digest(tmp_path / 'w.pth')[:8]}.pth"
    online.files[f"models/{name}"] = tmp_path / "w.pth"
    online.breaks = 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(start.RESNETS, "resnet_18", (name,))
        spec = spec_of("imagenet", hidden_dim=32)
        assert start.fetch(spec) == {"train.start": "imagenet"}
        assert len(online.ranges) == 2
        detector, said = loaded(spec)
        assert "all but the backbone starts anew" in said
        weight = detector.get_parameter("backbone.0.body.layer4.1.conv2.weight")
        assert torch.equal(weight, network.layer4[1].conv2.weight)
        patch.setitem(start.RESNETS, "resnet_18", ("resnet18-00000000.pth",))
        online.files["models/resnet18-00000000.pth"] = tmp_path / "w.pth"
        with pytest.raises(UserError, match="arrived damaged"):
            start.fetch(spec)


def test_the_resnets_files_are_torchvision_s() -> None:
    from torchvision.models import get_model_weights

    for backbone, names in start.RESNETS.items():
        known = {w.url for w in get_model_weights(backbone.replace("_", ""))}
        assert {start.TORCHVISION + name for name in names} == known


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("timm/mobilenetv3_small_050", None),
        ("gc_vit_xxtiny", "gcvit_xxtiny"),
        ("gcvit_xxtiny", "gcvit_xxtiny"),
        ("resnet_18", None),
    ],
)
def test_what_torch_s_and_timm_s_caches_hold_is_taken_by_name(
    backbone: str, name: str | None, torch_files: Path
) -> None:
    import timm

    spec = spec_of("imagenet", backbone=backbone)
    with pytest.raises(UserError, match="are not on this machine"):
        start.settle(spec)
    assert start.settle(spec_of("auto", backbone=backbone)).kind == "scratch"
    torch.manual_seed(3)
    if backbone == "resnet_18":
        classifier = torchvision.models.resnet18()
        torch.save(classifier.state_dict(), torch_files / start.RESNETS[backbone][0])
    else:
        classifier = timm.create_model(name or backbone.removeprefix("timm/"))
        url = start._imagenet_files(backbone)[-1].url
        torch.save(classifier.state_dict(), torch_files / url.rpartition("/")[2])
    assert start.settle(spec_of("auto", backbone=backbone)).kind == "imagenet"
    detector, said = loaded(spec)
    assert "ImageNet weights of" in said
    sums = sorted(round(float(v.double().sum()), 6) for v in classifier.state_dict().values() if v.dim() == 4)
    body = detector.backbone.state_dict()
    conv = [round(float(v.double().sum()), 6) for v in body.values() if v.dim() == 4]
    assert len(conv) > 5
    assert set(conv) <= set(sums)


def test_a_hub_file_of_timm_s(online: Hub, tmp_path: Path) -> None:
    import timm

    classifier = timm.create_model("mobilenetv3_small_050")
    save_file(classifier.state_dict(), tmp_path / "model.safetensors")
    spec = spec_of("imagenet", backbone="timm/mobilenetv3_small_050")
    repo = start._imagenet_files("timm/mobilenetv3_small_050")[0].repo
    online.files[f"{repo}/model.safetensors"] = tmp_path / "model.safetensors"
    start.fetch(spec)
    detector, _ = loaded(spec)
    assert torch.equal(
        detector.backbone.state_dict()["0.body.conv_stem.weight"], classifier.conv_stem.weight.detach()
    )


@pytest.mark.parametrize("backbone", ["gc_vit_large", "gcvit_large_384", "timm/no_such_network"])
def test_a_backbone_without_published_weights_says_so(backbone: str, torch_files: Path) -> None:
    with pytest.raises(UserError, match="no weights of .* are published"):
        start.settle(spec_of("imagenet", backbone=backbone))
    begin = start.settle(spec_of("auto", backbone=backbone))
    assert begin.kind == "scratch"
    assert "no weights of" in begin.warning


# ---- what is decided --------------------------------------------------------------------------------------------


def test_auto_without_a_network_trains_from_scratch_and_says_how_not_to(
    own_demo: Path, tmp_path: Path
) -> None:
    spec = default_spec("train")
    found = fitted(spec, own_demo, tmp_path)
    assert found["fill"]["train.start"] == "scratch"
    assert found["fill"]["train.optim.lr_backbone"] == 1e-4
    (warning,) = [w for w in found["warnings"] if "random weights" in w]
    assert "automl fetch coco" in warning
    assert "train.start=PATH" in warning
    put(spec, "train.start", "scratch")
    assert not [w for w in fitted(spec, own_demo, tmp_path)["warnings"] if "random" in w]


def test_a_run_from_coco_takes_all_that_is_published(own_demo: Path, tmp_path: Path, online: Hub) -> None:
    """No part of the published decoder starts anew, so the contents come from the encoder's boxes."""
    spec = default_spec("train")
    for name, value in SMALL.items():
        put(spec, f"model.{name}", value)
    fill = fitted(spec, own_demo, tmp_path)["fill"]
    assert (fill["train.start"], fill["train.recipe"]) == ("coco", "dino")
    assert fill.get("model.two_stage", get(spec, "model.two_stage")) is True
    assert fill["model.mixed_selection"] is False
    assert "train.optim.lr_backbone" not in fill
    for name, value in fill.items():
        put(spec, name, value)
    start.fetch(spec)
    _, said = loaded(spec)
    assert "start anew: denoising.label_enc" in said


@pytest.mark.parametrize("kind", ["auto", "scratch"])
def test_frozen_norms_want_pretrained_weights(kind: str, torch_files: Path, tmp_path: Path) -> None:
    """Of nothing they would be random for good; GCViT has none."""
    spec = spec_of(kind, backbone="resnet_18", backbone_norm="frozen")
    for look in (start.describe, start.fetch, start.settled):
        with pytest.raises(UserError, match=r"backbone_norm frozen .* set it to auto or batch"):
            look(spec)
    assert start.settle(spec_of(kind, backbone="gc_vit_xxtiny", backbone_norm="frozen")).kind == "scratch"
    (tmp_path / "w.pth").write_bytes(b"")
    put(spec, "model.pretrained_backbone_path", str(tmp_path / "w.pth"))
    assert start.settle(spec).kind == "given"


@pytest.mark.parametrize("leaf", ["train.pretrained_model_path", "model.pretrained_backbone_path"])
def test_the_two_path_keys_win_and_must_exist(leaf: str, tmp_path: Path) -> None:
    spec = spec_of("coco")
    put(spec, leaf, str(tmp_path / "w.pth"))
    with pytest.raises(UserError, match=rf"{leaf}: .*w\.pth must be a weights file"):
        start.settle(spec)
    (tmp_path / "w.pth").write_bytes(b"")
    assert start.settle(spec).kind == ("file" if leaf == "train.pretrained_model_path" else "given")


@pytest.mark.parametrize(
    "leaf", ["train.pretrained_model_path", "train.start", "model.pretrained_backbone_path"]
)
@pytest.mark.parametrize("look", [start.describe, start.fetch])
def test_a_file_that_fits_nothing_is_refused_before_the_first_training(
    leaf: str, look: Callable[[Any], Any], tmp_path: Path
) -> None:
    torch.save(build_model(spec_of("scratch")).state_dict(), tmp_path / "w.pth")
    spec = spec_of("scratch")
    put(spec, "model.hidden_dim", 2 * get(spec, "model.hidden_dim"))
    if leaf == "model.pretrained_backbone_path":
        torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "w.pth")
    put(spec, leaf, str(tmp_path / "w.pth"))
    with pytest.raises(
        UserError, match=r"w\.pth: (nothing of its transformer fits|does not fit) this network"
    ):
        look(spec)


def test_weights_of_a_file_are_taken_alike_by_both_names(tmp_path: Path) -> None:
    """Also where the network has other layers, whose start is told."""
    source = build_model(spec_of("scratch"))
    torch.save(source.state_dict(), tmp_path / "w.pth")
    told = []
    for leaf in ("train.pretrained_model_path", "train.start"):
        spec = spec_of("scratch")
        put(spec, "model.dec_layers", 1 + get(spec, "model.dec_layers"))
        put(spec, leaf, str(tmp_path / "w.pth"))
        detector, said = loaded(spec)
        name = "transformer.encoder.layers.0.linear1.weight"
        assert torch.equal(detector.get_parameter(name), source.get_parameter(name))
        told.append(said.partition("\n")[2])
    assert told[0] == told[1]
    assert "layer" in told[0]


@pytest.mark.parametrize("leaf", ["train.pretrained_model_path", "train.start"])
@pytest.mark.parametrize(
    "file", ["run/best/model.pth", "run/model.pth", "run/pytorch_model.bin", "run/trials/3/e1.pth"]
)
def test_a_folder_starts_from_the_best_in_it(leaf: str, file: str, tmp_path: Path) -> None:
    source = build_model(spec_of("scratch"))
    (tmp_path / file).parent.mkdir(parents=True)
    torch.save(source.state_dict(), tmp_path / file)
    if "trials" in file:
        (tmp_path / file).with_name("metrics.jsonl").write_text(
            '{"epoch": 1, "val_mAP": 0.3, "checkpoint": "e1.pth"}\n'
        )
    spec = spec_of("scratch")
    put(spec, leaf, str(tmp_path / "run"))
    detector, _ = loaded(spec)
    name = "transformer.encoder.layers.0.linear1.weight"
    assert torch.equal(detector.get_parameter(name), source.get_parameter(name))
    assert start.fetch(spec) == {leaf: str(tmp_path / file)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/no/such.pth", "must be a weights file"),
        (str(Path(__file__).parent), "holds no checkpoint that was validated"),
        ("file:///no/such.pth", "must be a weights file"),
        ("http://127.0.0.1:9/w.pth", "is out of reach"),
        ("http://127.0.0.1:9/", "must end in a file's name"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_starts(
    text: str, message: str, monkeypatch: pytest.MonkeyPatch, own_demo: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    spec = default_spec("train")
    put(spec, "train.start", text)
    with pytest.raises(UserError, match=message):
        fitted(spec, own_demo, tmp_path)


def test_a_file_s_address_is_its_path_and_the_plan_is_told_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my w.pth").write_bytes(b"")
    torch.save(build_model(spec_of("scratch")).state_dict(), tmp_path / "my w.pth")
    monkeypatch.chdir(tmp_path)
    for text in ("./my w.pth", f"file://{tmp_path}/my%20w.pth"):
        assert start.describe(spec_of(text))["path"] == str(tmp_path / "my w.pth")
    assert start.describe(spec_of("scratch"))["path"] is None
    assert "not looked at" in start.describe(spec_of("s3://bucket/w.pth"))["text"]


def test_weights_of_another_backbone_are_named_with_their_file(tmp_path: Path) -> None:
    torch.save({"conv9.weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: does not fit model\.backbone resnet_18; set that to"):
        start.describe(spec_of(str(tmp_path / "w.pth")))


@pytest.mark.parametrize("content", [b"hello\n", b'{"a": 1}', b"\x80\x04K\x01."])
def test_what_holds_no_weights_is_told_in_words_of_ours(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"w\.pth: ") as told:
        weights.read(tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: ") as also:
        checkpoint.load(tmp_path / "w.pth")
    assert str(also.value) == str(told.value)
    assert "weights_only" not in str(told.value)
    assert "(101)" not in str(told.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_are_no_numbers_are_refused(bad: float, suffix: str, tmp_path: Path) -> None:
    state = {"a.weight": torch.ones(2), "b.weight": torch.tensor([1.0, bad])}
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    with pytest.raises(UserError, match=r"must hold finite numbers, but b\.weight has NaN or infinity"):
        weights.read(path)


def test_foreign_weights_that_do_not_fit_their_checksums_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some programs write none, so that it is a warning."""
    path = tmp_path / "w.pth"
    torch.save({"a.weight": torch.ones(4096)}, path)
    weights.read(path)
    assert capsys.readouterr().err == ""
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"\0\0\x80\x3f" * 64) + 128] ^= 1
    path.write_bytes(whole)
    weights.read(path)
    assert "w.pth may be damaged: " in capsys.readouterr().err


def test_a_start_that_is_no_word_and_no_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = resolve("train", {"train": {"start": "cocoo"}})
    with pytest.raises(UserError, match="scratch, or a path or URL.* got 'cocoo', .* did you mean 'coco'"):
        start.settle(spec)
    torch.save({"w": torch.zeros(1)}, "cocoo")
    assert start.settle(spec).path == Path("cocoo")


def test_coco_s_weights_want_their_backbone() -> None:
    with pytest.raises(UserError, match="needs model.backbone resnet_50"):
        start.settle(resolve("train", {"model": {"backbone": "resnet_18"}, "train": {"start": "coco"}}))


@pytest.mark.parametrize("query", ["key=secret", "only_get=1&key=secret"])
def test_a_url_of_one_s_own(query: str, online: Hub, files: dict[str, Path]) -> None:
    online.files["mine/w.safetensors"] = files["refining"]
    spec = spec_of(f"{online.url}/mine/w.safetensors?{query}", variant="refining")
    said: list[str] = []
    assert start.fetch(spec, said.append) == {"train.start": spec["train"]["start"]}
    assert "secret" not in " ".join(said) + start.describe(spec)["text"]
    before = len(online.fetched)
    start.fetch(spec)
    assert len(online.fetched) == before
    loaded(spec)


def test_on_a_cluster_the_weights_lie_where_all_machines_see_them(online: Hub, tmp_path: Path) -> None:
    value = start.fetch(spec_of(), print, tmp_path / "run")["train.start"]
    assert Path(value) == tmp_path / "run" / "start" / "model.safetensors"
    online.close()
    _, said = loaded(spec_of(value))
    assert "class heads keep the rows of Person" in said


def test_fetch_by_name_takes_what_the_engine_would_train(online: Hub) -> None:
    path = fetch.named("coco", {"model": SMALL})
    assert "two-stage" in path
    assert "box-refine-two-stage" not in fetch.named("coco", {"model": SMALL}, engine=False)
    with pytest.raises(UserError, match="coco or imagenet"):
        fetch.named("coc")


# ---- trainings --------------------------------------------------------------------------------------------------


def test_a_training_from_a_checkpoint_of_another_shape(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two decoder layers become three, classes of the same name keep their rows, and the checkpoint says its start."""
    torch.manual_seed(0)
    old = build_model(TINY)
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.dim() > 1 else None
    names = [{"id": 1, "name": "triangle"}, {"id": 2, "name": "hexagon"}, {"id": 3, "name": "circle"}]
    state = {f"model.{k}": v for k, v in old.state_dict().items()}
    torch.save({"state_dict": state, "spec": resolve("train", TINY), "classes": names}, tmp_path / "old.pth")
    partial = with_data(json.loads(json.dumps(TINY)), demo)
    partial["model"]["dec_layers"] = 3
    partial["train"] |= {
        "start": str(tmp_path / "old.pth"), "results_dir": str(tmp_path), "num_epochs": 1,
        "freeze": ["transformer", "class_embed"],
    }  # fmt: skip
    result = train.run(resolve("train", partial))
    said = capsys.readouterr().out
    assert "decoder layer 2 is copied to layer 3" in said
    assert "class heads keep the rows of circle, triangle" in said
    made = checkpoint.load(result["checkpoint"])
    head, before = made["state_dict"]["class_embed.0.weight"], old.state_dict()["class_embed.0.weight"]
    assert torch.equal(head[1], before[3])  # circle
    assert torch.equal(head[3], before[1])  # triangle
    assert not torch.equal(head[2], before[2])
    assert get(made["spec"], "train.start") == str(tmp_path / "old.pth")


def test_a_training_never_asks_a_server_and_records_what_it_started_from(
    demo: Path, tmp_path: Path, online: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = with_data(json.loads(json.dumps(TINY)), demo)
    partial["train"] |= {"results_dir": str(tmp_path), "num_epochs": 1}
    result = train.run(resolve("train", partial))
    assert online.fetched == []
    assert "warning: training starts from random weights" in capsys.readouterr().out
    made = checkpoint.load(result["checkpoint"])
    assert get(made["spec"], "train.start") == "scratch"
    detector, _ = build_from(result["checkpoint"], resolve("evaluate", {k: partial[k] for k in ("model", "dataset")}))  # fmt: skip
    assert any("running_mean" in n and "num_batches" not in n for n in detector.state_dict())
    partial["train"]["start"] = "imagenet"
    with pytest.raises(UserError, match="a training fetches nothing itself"):
        train.run(resolve("train", partial))


# ---- what does not train must be loaded --------------------------------------------------------------------------


RESNET = {"backbone": "resnet_18", "backbone_norm": "batch"}
STUCK = "nothing is loaded for what does not train, which would stay random: "


@pytest.mark.parametrize(
    ("before", "leaves", "wrong"),
    [
        ({"backbone_norm": "group"}, {}, "backbone.0 .*set model.backbone_norm to batch$"),
        ({"backbone_norm": "group"}, {"backbone_norm": "batch"}, ""),
        (
            {"backbone_norm": "group"},
            {"backbone_norm": "batch", "train_backbone": False},
            "backbone.0 .*set model.train_backbone to true$",
        ),
        ({"backbone_norm": "batch"}, {"backbone_norm": "frozen", "train_backbone": False}, ""),
        ({"backbone_norm": "batch"}, {"backbone_norm": "group"}, ""),
        ({"backbone_norm": "batch"}, {"backbone_norm": "group", "train_backbone": False}, "backbone.0 "),
        ({"backbone": "resnet_34"}, {}, "backbone.0 "),
        ({"backbone": "resnet_34"}, {"backbone_norm": "batch"}, ""),
        (
            {"num_feature_levels": 1, "return_interm_indices": [3]},
            {"freeze": ["transformer"]},
            "transformer.level_embed",
        ),
        ({"dec_layers": 2}, {"freeze": ["transformer"]}, ""),
        ("scratch", {"train_backbone": False}, "backbone.0 .*set model.train_backbone to true$"),
        ("scratch", {"freeze": ["backbone"]}, r"backbone.0 .*take it out of train.freeze \['backbone'\]$"),
        ("scratch", {}, ""),
        ("backbone", {"train_backbone": False}, ""),
        ("backbone", {"freeze": ["transformer.encoder"]}, "transformer.encoder.layers.0 "),
        ("given", {"train_backbone": False}, ""),
        ("given", {"freeze": ["transformer.encoder"]}, "transformer.encoder.layers.0 "),
    ],
)
def test_what_starts_anew_must_train(before: Any, leaves: dict[str, Any], wrong: str, tmp_path: Path) -> None:
    """A training with random frozen features, or norms by statistics of nothing, learns nothing and says nothing."""
    file = tmp_path / "w.pth"
    old = spec_of("scratch", **RESNET | (before if isinstance(before, dict) else {}))
    source = build_model(old)
    state = {f"model.{k}": v for k, v in source.state_dict().items()}
    if isinstance(before, dict):
        torch.save({"state_dict": state, "spec": old, "classes": PEOPLE}, file)
    else:
        torch.save(source.get_submodule("backbone.0.body").state_dict(), file)
    new = spec_of(str(file) if isinstance(before, dict) or before == "backbone" else "scratch")
    for name, value in leaves.items():
        put(new, f"train.{name}" if name == "freeze" else f"model.{name}", value)
    put(new, "model.pretrained_backbone_path", str(file) if before == "given" else "")
    looks: tuple[Callable[[Any], Any], ...] = (start.describe, start.fetch, frozen_and_loaded)
    for look in looks:
        if not wrong:
            look(new)
            continue
        with pytest.raises(UserError, match=STUCK + wrong):
            look(new)


def frozen_and_loaded(spec: dict[str, Any]) -> None:
    spec, begin = start.settled(spec)
    detector = build_model(spec)
    freeze(detector, spec["train"]["freeze"])
    start.load(detector, begin, spec, PEOPLE)


def test_published_weights_are_looked_at_beforehand_where_parts_stay_as_loaded(
    torch_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), torch_files / start.RESNETS["resnet_18"][0])
    for leaves, wrong in (
        ({"train_backbone": False}, ""),
        ({"backbone_norm": "group"}, "does not fit model.backbone resnet_18"),
    ):
        spec = spec_of("imagenet", **leaves)
        with pytest.raises(UserError, match=wrong) if wrong else nullcontext():
            start.describe(spec)


def test_another_backbone_starts_anew_as_a_whole_and_what_is_left_is_told(tmp_path: Path) -> None:
    """Some tensors of another fit by chance."""
    old = spec_of("scratch", backbone="resnet_34")
    state = {f"model.{k}": v + 1 for k, v in build_model(old).state_dict().items()}
    torch.save({"state_dict": state, "spec": old, "classes": PEOPLE}, tmp_path / "ours.pth")
    torch.save(state, tmp_path / "others.pth")
    new = spec_of(str(tmp_path / "ours.pth"), backbone_norm="batch")
    detector, said = loaded(new)
    assert "its backbone is resnet_34, so that model.backbone resnet_18 starts anew" in said
    weight = "backbone.0.body.layer1.0.conv1.weight"
    assert not torch.equal(detector.get_parameter(weight), state[f"model.{weight}"])
    _, said = loaded(spec_of(str(tmp_path / "others.pth"), backbone_norm="batch"))
    assert "left in the file: backbone.0 (" in said


THREE = {"num_feature_levels": 3, "return_interm_indices": [1, 2, 3]}


@pytest.mark.parametrize(
    ("before", "after", "new", "left"),
    [
        ({}, {}, "", ""),
        ({"num_queries": 120}, {"num_queries": 150}, "", ""),
        ({"enc_layers": 2, "dec_layers": 3}, {"enc_layers": 1, "dec_layers": 1}, "", ""),
        ({"enc_layers": 1, "dec_layers": 1}, {"enc_layers": 2, "dec_layers": 3}, "", ""),
        (THREE, {}, "input_proj.3 (4 tensors)", ""),
        ({}, THREE, "", "input_proj.3 (4 tensors)"),
        ({"two_stage": False}, {}, "transformer.enc_output ", "transformer.reference_points (2 tensors), query_embed"),
        ({}, {"two_stage": False}, "transformer.reference_points (2 tensors), query_embed", "transformer.enc_output "),
    ],
)  # fmt: skip
def test_what_is_new_and_what_is_left_is_named(
    before: dict[str, Any], after: dict[str, Any], new: str, left: str, tmp_path: Path
) -> None:
    torch.save(build_model(spec_of("scratch", **before)).state_dict(), tmp_path / "w.pth")
    _, said = loaded(spec_of(str(tmp_path / "w.pth"), **after))
    for words, what in (("start anew: ", new), ("left in the file: ", left)):
        assert (f"  {words}{what}" in said) if what else (words not in said)


@pytest.mark.parametrize(
    ("before", "after", "origins", "said"),
    [
        ({}, THREE, [0, 1, 2], "feature levels 1, 2, 3, of 4"),
        (THREE, {}, [0, 1, 2, None], "feature levels 1, 2, 3, of 3, and starts anew for 4"),
        (
            THREE,
            {"return_interm_indices": [2, 3], "num_feature_levels": 2},
            [1, 2],
            "feature levels 1, 2, of 3",
        ),
    ],
)
def test_attention_keeps_what_it_learned_of_levels_that_are_the_same(
    before: dict[str, Any], after: dict[str, Any], origins: list[int | None], said: str, tmp_path: Path
) -> None:
    """A network that looks at some levels with its others' values is told by its offsets, head by head."""
    old, file = spec_of("scratch", **before), tmp_path / "w.pth"
    source = build_model(old)
    for parameter in source.transformer.parameters():
        torch.nn.init.normal_(parameter)
    torch.save(source.state_dict(), file)
    detector, told = loaded(spec_of(str(file), **after))
    assert f"attention is taken for {said}\n" in told
    made, given = (d.transformer.decoder.layers[1].cross_attn for d in (detector, source))
    for name in ("sampling_offsets", "attention_weights"):
        new, was = (
            getattr(m, name).weight.reshape(m.heads, m.levels, -1, SMALL["hidden_dim"]) for m in (made, given)
        )
        for own, their in enumerate(origins):
            assert their is None or torch.equal(new[:, own], was[:, their])
    embeds = [d.transformer.level_embed for d in (detector, source)]
    assert all(torch.equal(embeds[0][o], embeds[1][t]) for o, t in enumerate(origins) if t is not None)
    frozen = spec_of(str(file), **after)
    put(frozen, "train.freeze", ["transformer"])
    with pytest.raises(UserError, match="transformer.level_embed") if None in origins else nullcontext():
        start.describe(frozen)


# ---- shapes -----------------------------------------------------------------------------------------------------


SHAPES = st.fixed_dictionaries(
    {
        "enc_layers": st.integers(1, 4),
        "dec_layers": st.integers(1, 4),
        "num_queries": st.integers(100, 260),
        "dim_feedforward": st.sampled_from([32, 48]),
        "variant": st.sampled_from(list(VARIANTS)),
        "levels": st.sampled_from([[2, 3], [1, 2, 3], [3, 4]]),
        "classes": st.integers(2, 5),
    }
)


def drawn(shape: dict[str, Any]) -> Any:
    model = TINY["model"] | VARIANTS[shape["variant"]]
    model |= {n: shape[n] for n in ("enc_layers", "dec_layers", "num_queries", "dim_feedforward")}
    model |= {"return_interm_indices": shape["levels"], "num_feature_levels": len(shape["levels"])}
    return build_model({"model": model, "dataset": {"num_classes": shape["classes"]}})


@given(old=SHAPES, new=SHAPES)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_weights_fit_any_shape_and_what_is_new_is_listed(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    torch.manual_seed(1)
    source, target = drawn(old), drawn(new)
    names = {i: f"class {i}" for i in range(1, old["classes"])}
    found = {k: v + 1.0 if v.is_floating_point() else v for k, v in source.state_dict().items()}
    made = adapt.adapt(found, target, names, {i: f"class {i}" for i in range(1, new["classes"])})
    target.load_state_dict(made.weights, strict=True)
    assert all(torch.isfinite(v).all() for v in target.state_dict().values())
    before = drawn(new).state_dict()
    for name in made.weights:
        if name in made.new:
            assert made.weights[name].shape == before[name].shape
    if old["variant"] == new["variant"] and old["levels"] == new["levels"]:
        alike = old["dim_feedforward"] == new["dim_feedforward"]
        allowed = () if alike else ("linear1.", "linear2.")
        assert [n for n in made.new if not any(word in n for word in allowed)] == []


CARS = [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}, {"id": 3, "name": "truck"}]


@pytest.mark.parametrize(
    ("layout", "rows", "said"),
    [
        ("official", (3, 1, 8), "class heads keep the rows of car, person, truck\n.*taken for COCO's"),
        ("hugging_face", (3, 1, 8), "class heads keep the rows of car, person, truck\n.*taken for COCO's"),
        ("tao", (1, 2, 3), "do not name their classes: all 91 rows .* are kept"),
    ],
)
def test_91_rows_are_coco_s_in_a_published_layout_alone(
    layout: str, rows: tuple[int, ...], said: str, tmp_path: Path
) -> None:
    """TAO writes 91, its default, for whatever classes it trains."""
    torch.manual_seed(4)
    spec = spec_of("scratch", "refining")
    put(spec, "dataset.num_classes", 91)
    source = build_model(spec)
    for parameter in source.class_embed.parameters():
        torch.nn.init.normal_(parameter)
    named = weights.save(source, layout)
    torch.save({"model": named} if layout == "official" else {"state_dict": named}, tmp_path / "w.pth")
    put(spec, "train.start", str(tmp_path / "w.pth"))
    detector, told = loaded(spec, CARS)
    before, after = (d.class_embed[0].weight for d in (source, detector))
    assert all(torch.equal(after[own], before[their]) for own, their in enumerate(rows, 1))
    assert re.search(said, told)
    planned = start.describe(spec)["text"]
    assert ("do not name their classes" in planned, "COCO" in planned) == (layout == "tao", layout != "tao")


def test_class_heads_of_another_number_of_rows_without_names_start_anew(tmp_path: Path) -> None:
    spec = spec_of("scratch", "refining")
    torch.save({"state_dict": weights.save(build_model(spec), "tao")}, tmp_path / "w.pth")
    put(spec, "train.start", str(tmp_path / "w.pth"))
    put(spec, "dataset.num_classes", 91)
    _, said = loaded(spec, CARS)
    assert "class heads start anew: the weights do not name their classes, and have 4 rows, not 91" in said


@pytest.mark.parametrize("prefix", ["detr.", "module.model.", "student."])
def test_what_stands_before_all_names_is_taken_off_and_said(prefix: str, tmp_path: Path) -> None:
    source, spec = build_model(spec_of("scratch")), spec_of("scratch")
    torch.save({f"{prefix}{k}": v for k, v in source.state_dict().items()}, tmp_path / "w.pth")
    put(spec, "train.start", str(tmp_path / "w.pth"))
    detector, said = loaded(spec)
    name = "transformer.encoder.layers.0.linear1.weight"
    assert torch.equal(detector.get_parameter(name), source.get_parameter(name))
    assert f"names in the file begin with {prefix}, which is taken off" in said
    assert "start anew" not in said.replace("class heads start anew", "")


@pytest.mark.parametrize("names", [("student.", "teacher."), ("body.",)])
def test_names_that_are_others_are_shown(names: tuple[str, ...], tmp_path: Path) -> None:
    """Where two detectors are in the file, or one of another program."""
    state, spec = build_model(spec_of("scratch")).state_dict(), spec_of("scratch")
    found = {f"{n}{k}": v for n in names for k, v in state.items()}
    if len(names) == 1:
        found = {k.replace("transformer.", "former."): v for k, v in found.items()}
    torch.save(found, tmp_path / "w.pth")
    put(spec, "train.start", str(tmp_path / "w.pth"))
    with pytest.raises(
        UserError, match=rf"its names are others: {names[0]}.*where the network has transformer"
    ):
        loaded(spec)


def test_the_same_shape_and_classes_take_everything_to_the_bit() -> None:
    torch.manual_seed(2)
    source, target = build_model(TINY), build_model(TINY)
    names = {1: "circle", 2: "square", 3: "triangle"}
    made = adapt.adapt(source.state_dict(), target, names, names)
    assert made.new == ()
    rows = [k for k in made.weights if k.startswith("class_embed.")]
    for key, value in made.weights.items():
        kept = value[1:] if key in rows else value  # no class has id 0
        assert torch.equal(kept, source.state_dict()[key][1:] if key in rows else source.state_dict()[key])


def test_embeddings_of_noised_labels_go_by_the_names_of_classes_as_the_heads_do() -> None:
    torch.manual_seed(3)
    partial = TINY | {"model": TINY["model"] | {"denoising_queries": 20}}
    source, target = build_model(partial), build_model(partial)
    found, name = source.state_dict(), "denoising.label_enc.weight"
    made = adapt.adapt(found, target, {1: "cat", 2: "dog"}, {1: "dog", 2: "cat", 3: "cow"})
    fresh = target.state_dict()[name]
    wanted = torch.stack([fresh[0], found[name][2], found[name][1], fresh[3]])
    assert torch.equal(made.weights[name], wanted)
    assert name in adapt.adapt(found, target, {1: "cat"}, {1: "nut"}).new
    assert torch.equal(adapt.adapt(found, target, None, {1: "nut"}).weights[name], found[name])
