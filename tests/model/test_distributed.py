"""Two processes on CPUs (gloo), started as torchrun starts them, do what one process does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.errors import UserError
from model.spec import put, resolve

RUN = "import sys; from importlib import import_module; import_module(sys.argv[1]).main(sys.argv[2])"


def run(action: str, path: Path, ranks: int, nodes: bool = False) -> None:
    """An action in `ranks` processes, with the environment that torchrun would give them, or that orchestrators give
    the one process of a machine; one rank is this process."""
    if ranks == 1:
        import_module(f"model.actions.{action}").main(str(path))
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    places = [
        {"RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
        for r in range(ranks)
    ]
    if nodes:
        places = [{"NODE_RANK": str(r), "WORLD_SIZE": str(ranks)} for r in range(ranks)]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, f"model.actions.{action}", str(path)],
            env=common | place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for place in places
    ]  # fmt: skip
    for process in running:
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output


def train_spec(
    tiny: dict[str, Any], demo: Path, folder: Path, batch: int, strategy: str = "ddp", resume: str = ""
) -> Path:
    spec = resolve("train", tiny)
    for split in ("train", "val"):
        source = {
            "image_dir": str(demo / split / "images"),
            "json_file": str(demo / split / "annotations.json"),
        }
        put(spec, f"dataset.{split}_data_sources", [source])
    for name, value in (
        ("results_dir", str(folder)), ("train.results_dir", str(folder)), ("train.num_epochs", 2),
        ("dataset.batch_size", batch), ("dataset.workers", 1), ("train.accelerator", "cpu"),
        ("dataset.augmentation.horizontal_flip_prob", 0.0), ("model.backbone", "resnet_18"), ("model.backbone_norm", "group"),
        ("dataset.train_sampler", "default_sampler"), ("train.distributed_strategy", strategy),
        ("train.resume_training_checkpoint_path", resume), ("train.ema_decay", 0.9),
    ):  # fmt: skip
        put(spec, name, value)
    folder.mkdir()
    (folder / "spec.yaml").write_text(yaml.safe_dump(dict(spec)))
    return folder / "spec.yaml"


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, demo: Path) -> tuple[Path, Path]:
    """The folders of one training in one process with batches of 4, and in two with batches of 2."""
    from tests.conftest import TINY

    root = tmp_path_factory.mktemp("ranks")
    for name, batch, ranks in (("one", 4, 1), ("two", 2, 2)):
        run("train", train_spec(json.loads(json.dumps(TINY)), demo, root / name, batch), ranks)
    return root / "one", root / "two"


def test_two_ranks_train_as_one_process_with_the_summed_batch(trained: tuple[Path, Path]) -> None:
    """Group norm, because batch statistics are per process on a CPU."""
    one, two = map(records, trained)
    assert [r["step"] for r in one] == [r["step"] for r in two] == [3, 6]
    for a, b in zip(one, two, strict=True):
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=1e-3)
        assert b["val_loss"] == pytest.approx(a["val_loss"], rel=1e-3)
        assert b["val_mAP"] == pytest.approx(a["val_mAP"], abs=1e-3)


def test_the_weights_are_those_of_one_process(trained: tuple[Path, Path]) -> None:
    import torch

    import model.checkpoint as ckpt

    a, b = (ckpt.load(folder / "dd_model_latest.pth")["state_dict"] for folder in trained)
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.allclose(value.float(), b[name].float(), atol=5e-4), name


def test_one_process_a_machine_trains_as_one_process_with_the_summed_batch(
    trained: tuple[Path, Path], tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:
    path = train_spec(tiny, demo, tmp_path / "nodes", 2)
    spec = yaml.safe_load(path.read_text())
    put(spec, "train.num_nodes", 2)
    path.write_text(yaml.safe_dump(spec))
    run("train", path, 2, nodes=True)
    for a, b in zip(records(trained[0]), records(tmp_path / "nodes"), strict=True):
        assert b["step"] == a["step"]
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=1e-3)
        assert b["val_loss"] == pytest.approx(a["val_loss"], rel=1e-3)
    told = [
        line["status"] for line in map(json.loads, (tmp_path / "nodes/status.json").read_text().splitlines())
    ]
    assert (told.count("STARTED"), told.count("SUCCESS")) == (1, 1)


ORCHESTRATED = {"WORLD_SIZE": "2", "NODE_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("nodes", "changes", "message"),
    [
        (2, {"NODE_RANK": None}, "the environment has no NODE_RANK"),
        (2, {"MASTER_ADDR": None, "MASTER_PORT": ""}, "the environment has no MASTER_ADDR, MASTER_PORT"),
        (2, {"NODE_RANK": "2"}, "NODE_RANK is below it"),
        (3, {}, "train.num_nodes is 3 and train.num_gpus 1, but the environment says WORLD_SIZE=2"),
        (1, {}, "train.num_nodes is 1 and train.num_gpus 1, but the environment says WORLD_SIZE=2"),
    ],
)
def test_machines_that_contradict_the_spec_are_an_error(
    monkeypatch: pytest.MonkeyPatch, nodes: int, changes: dict[str, str | None], message: str
) -> None:
    from model.distributed import start_ranks

    for name, value in {**ORCHESTRATED, **changes}.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=message):
        start_ranks({"train": {"num_nodes": nodes, "num_gpus": 1}}, "train")


def test_several_gpus_on_several_machines_are_started_by_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    from model.distributed import torchrun

    for name, value in ORCHESTRATED.items():
        monkeypatch.setenv(name, value)
    words = torchrun("train", Path("spec.yaml"), [0, 1], ("2", "1"))
    assert words[3:9] == [
        "--nnodes=2", "--node-rank=1", "--rdzv-backend=static", "--master-addr=127.0.0.1", "--master-port=29500",
        "--nproc-per-node=2",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("key", ["", "secret"])
def test_fsdp_trains_as_one_process_and_goes_on_from_its_checkpoint(
    trained: tuple[Path, Path], tiny: dict[str, Any], demo: Path, tmp_path: Path, key: str
) -> None:
    import torch

    import model.checkpoint as ckpt

    put(tiny, "encryption_key", key)
    run("train", train_spec(tiny, demo, tmp_path / "whole", 2, "fsdp"), 2)
    first = records(tmp_path / "whole")[0]["checkpoint"]
    resume = str(tmp_path / "whole" / first)
    run("train", train_spec(tiny, demo, tmp_path / "resumed", 2, "fsdp", resume), 2)
    wanted = ckpt.load(trained[0] / "dd_model_latest.pth")["state_dict"]
    for folder in (tmp_path / "whole", tmp_path / "resumed"):
        last, one = records(folder)[-1], records(trained[0])[-1]
        assert last["step"] == one["step"]
        assert last["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)
        assert last["val_loss"] == pytest.approx(one["val_loss"], rel=1e-3)
        found = ckpt.load(folder / "dd_model_latest.pth", key)["state_dict"]
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.allclose(value.float(), found[name].float(), atol=5e-4), name


@pytest.mark.slow
def test_elastic_steps_leave_the_same_layers_out_on_all_ranks(
    tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:
    """FSDP gathers each layer from all ranks: one that leaves it out lets the others wait for ever."""
    put(tiny, "train.elastic", True)
    put(tiny, "model.dec_layers", 3)
    run("train", train_spec(tiny, demo, tmp_path / "elastic", 2, "fsdp"), 2)
    assert [line["step"] for line in records(tmp_path / "elastic")] == [3, 6]


@pytest.mark.parametrize(
    ("leaves", "wanted"),
    [
        ({}, "DDPStrategy"),
        ({"train.distributed_strategy": "fsdp"}, "Fsdp"),
        ({"train.distributed_strategy": "fsdp", "train.precision": "fp16"}, UserError),
    ],
)
def test_the_strategy_asked_for_is_taken_or_refused(
    tiny: dict[str, Any], leaves: dict[str, Any], wanted: Any
) -> None:
    from model.actions.train import _strategy

    spec = resolve("train", tiny)
    for name, value in leaves.items():
        put(spec, name, value)
    if wanted is UserError:
        with pytest.raises(UserError, match="does not go with"):
            _strategy(spec, 2)
    else:
        assert type(_strategy(spec, 2)).__name__ == wanted
    assert _strategy(spec, 1) == "auto"


def test_two_ranks_evaluate_each_image_once(trained: tuple[Path, Path], demo: Path, tmp_path: Path) -> None:
    """Three images over two ranks: one rank repeats an image, which must not count."""
    annotations = json.loads((demo / "test" / "annotations.json").read_text())
    dropped = annotations["images"].pop()["id"]
    annotations["annotations"] = [a for a in annotations["annotations"] if a["image_id"] != dropped]
    (tmp_path / "three.json").write_text(json.dumps(annotations))
    trained_spec = yaml.safe_load((trained[0] / "spec.yaml").read_text())
    found = []
    for name, ranks in (("one", 1), ("two", 2)):
        spec = resolve("evaluate", {k: trained_spec[k] for k in ("model", "dataset")})
        put(
            spec,
            "dataset.test_data_sources",
            {"image_dir": str(demo / "test" / "images"), "json_file": str(tmp_path / "three.json")},
        )
        for key, value in (
            ("checkpoint", str(trained[0] / "dd_model_latest.pth")),
            ("results_dir", str(tmp_path / name)),
            ("batch_size", 1),
            ("conf_threshold", 0.0),
        ):
            put(spec, f"evaluate.{key}", value)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(dict(spec)))
        run("evaluate", tmp_path / f"{name}.yaml", ranks)
        results = json.loads((tmp_path / name / "results.json").read_text())
        key = lambda r: (r["image_id"], -r["score"], r["bbox"])  # noqa: E731
        found.append((json.loads((tmp_path / name / "metrics.json").read_text()), sorted(results, key=key)))
    (metrics_one, one), (metrics_two, two) = found
    assert len(one) == len(two) > 0
    assert {r["image_id"] for r in two} == {i["id"] for i in annotations["images"]}
    assert metrics_two["test_mAP"] == pytest.approx(metrics_one["test_mAP"], abs=1e-9)
    assert [r["score"] for r in two] == pytest.approx([r["score"] for r in one], abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "environment", "message"),
    [
        ({"train.num_nodes": 2}, {}, "num_nodes"),
        (
            {"train.num_nodes": 2},
            {"LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0"},
            "train.num_nodes is 2, but the launcher started 2 processes, 2 of them here",
        ),
    ],
)
def test_a_launcher_that_contradicts_the_spec_is_an_error(
    tiny: dict[str, Any],
    settings: dict[str, Any],
    environment: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from model.actions.train import build_trainer

    spec = resolve("train", tiny)
    for name, value in settings.items():
        put(spec, name, value)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        build_trainer(spec, [])
    assert message in str(caught.value)


def test_gpu_ids_must_fit_their_number() -> None:
    from model.distributed import gpu_ids

    assert gpu_ids({"num_gpus": 2, "gpu_ids": [0]}, "train") == [0, 1]
    assert gpu_ids({"num_gpus": 2, "gpu_ids": [3, 1]}, "train") == [3, 1]
    for wrong in ([0, 1, 2], [1, 1]):
        with pytest.raises(UserError, match=r"train\.gpu_ids must name"):
            gpu_ids({"num_gpus": 2, "gpu_ids": wrong}, "train")


def test_evaluation_on_several_gpus_is_started_by_torchrun_and_warned_of_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stand-ins: no test machine has several GPUs."""
    import torch

    from model import distributed

    spec = {"evaluate": {"num_gpus": 2, "gpu_ids": [3, 1], "num_nodes": 1}}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not distributed.start_ranks(spec, "evaluate")
    assert "warning: evaluate.num_gpus is 2, but there is no GPU" in capsys.readouterr().out
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    started: list[Any] = []

    def start(words: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        started.append((words, env["CUDA_VISIBLE_DEVICES"]))
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", start)
    assert distributed.start_ranks(spec, "evaluate")
    words, visible = started[0]
    assert visible == "3,1"
    assert words[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert words[5:9] == ["-m", "model.cli", "evaluate", "-e"]
