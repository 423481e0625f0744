"""A checkpoint says the rest: evaluate, inference and export without a spec file, and the best one in a folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

from model import checkpoint as ckpt
from model import weights
from model.actions import evaluate, gen_trt_engine, inference, quantize, train
from model.build import build_from, build_model
from model.cli import guarded, parse_overrides
from model.errors import UserError
from model.parameters import ACTIONS, MODEL_FILES, ONNX_FILES
from model.spec import TABLE, get, leaves, resolve
from model.spec_file import load
from model.status import append_line
from tests.conftest import TINY, with_data

pytestmark = pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning", "ignore::Warning:torch")
CLASSES = [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}, {"id": 3, "name": "triangle"}]


def checkpoint_of(path: Path, data: Path, metrics: dict[str, Any] | None = None) -> Path:
    torch.manual_seed(0)
    partial = with_data(json.loads(json.dumps(TINY)), data)
    detector = build_model(partial)
    for parameter in detector.parameters():
        if parameter.dim() > 1 and parameter.abs().sum() == 0:
            torch.nn.init.normal_(parameter, std=0.2)
    state = {f"model.{k}": v for k, v in detector.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"state_dict": state, "spec": resolve("train", partial), "classes": CLASSES}
    torch.save(document | {"metrics": metrics or {}}, path)
    return path


@pytest.fixture(scope="module")
def made(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    return checkpoint_of(folder / "model.pth", demo, {"val_threshold": 0.25})


@pytest.mark.parametrize("action", ["evaluate", "inference", "export"])
def test_the_spec_of_a_checkpoint_fills_what_is_not_said(action: str, made: Path) -> None:
    spec = load(action, None, {f"{action}.checkpoint": str(made), "model.num_select": 7})
    assert spec["model"] | {"num_select": 7} == resolve("train", TINY)["model"] | {"num_select": 7}
    assert spec["model"]["num_select"] == 7  # what a person says goes before
    assert spec["dataset"]["num_classes"] == 4
    assert spec[action]["input_height"] == 64
    build_from(made, spec)


@pytest.mark.parametrize("whole_folder", [False, True])
def test_a_checkpoint_says_the_rest_to_quantize(made: Path, tmp_path: Path, whole_folder: bool) -> None:
    """As it does to the others, or a network of the default sizes would be looked for in it."""
    leaves = {"quantize.model_path": str(made.parent if whole_folder else made)}
    leaves |= {"quantize.mode": "weight_only_ptq", "results_dir": str(tmp_path)}
    spec = load("quantize", None, leaves)
    assert spec["model"] == resolve("train", TINY)["model"]
    assert spec["quantize"]["model_path"] == str(made)
    found = quantize.run(spec)
    assert Path(found["file"]) == tmp_path / "quantize" / "model.int8.onnx"
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = build_from(made, spec)[0](images, torch.zeros(2, 64, 64, dtype=torch.bool))
    session = onnxruntime.InferenceSession(found["file"], providers=["CPUExecutionProvider"])
    logits = session.run(["pred_logits"], {"inputs": images.numpy()})[0]
    assert 0 < (torch.from_numpy(logits) - exact["pred_logits"]).abs().max() < 0.3


def test_an_engine_is_made_of_no_checkpoint_and_the_way_is_told(made: Path, tmp_path: Path) -> None:
    leaves = {"gen_trt_engine.trt_engine": str(tmp_path / "m.engine"), "results_dir": str(tmp_path)}
    told = rf"must be an \.onnx file, but got .*export export\.checkpoint={made} export\.onnx_file=.*model\.onnx$"
    with pytest.raises(UserError, match=told):
        gen_trt_engine.run(load("gen_trt_engine", None, leaves | {"gen_trt_engine.onnx_file": str(made)}))
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(made.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"damaged\.onnx: not a readable ONNX file"):
        gen_trt_engine.run(load("gen_trt_engine", None, leaves | {"gen_trt_engine.onnx_file": str(damaged)}))


def test_every_action_on_a_model_file_is_in_one_table() -> None:
    assert {*MODEL_FILES, *ONNX_FILES} == set(ACTIONS) - {"train"}
    for action, names in {**MODEL_FILES, **ONNX_FILES}.items():
        assert all(f"{action}.{name}" in TABLE for name in names)


@pytest.mark.parametrize("action", ["evaluate", "inference", "export"])
def test_half_a_size_is_not_made_whole_by_the_checkpoint_s(action: str, made: Path) -> None:
    given = {f"{action}.checkpoint": str(made), f"{action}.input_width": 96}
    with pytest.raises(UserError, match=rf"{action}\.input_width must be set together, but got None and 96"):
        load(action, None, given)


def test_a_leaf_that_contradicts_the_checkpoint_is_still_refused(made: Path) -> None:
    spec = load("evaluate", None, {"evaluate.checkpoint": str(made), "model.enc_layers": 3})
    with pytest.raises(UserError, match="model.enc_layers: 1, 3"):
        build_from(made, spec)


def test_evaluate_without_a_spec_file(made: Path, demo: Path, tmp_path: Path) -> None:
    pairs = parse_overrides([f"evaluate.checkpoint={made}", f"results_dir={tmp_path}"])
    metrics = evaluate.run(load("evaluate", None, pairs))  # on the test set that the training named
    assert metrics["test_mAP"] >= 0
    assert metrics["val_threshold"] == 0.25
    assert {"threshold", "precision", "recall", "f1"} <= set(metrics) & set(metrics["per_class"][0])
    written = json.loads((tmp_path / "evaluate" / "metrics.json").read_text())
    assert written == metrics
    if metrics["f1"] is not None:
        assert metrics["f1"] >= metrics["val_threshold_f1"]


def test_inference_on_a_folder_named_without_brackets(
    made: Path, demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = demo / "test" / "images"
    pairs = [f"inference.checkpoint={made}", f"results_dir={tmp_path}"]
    pairs.append(f"dataset.infer_data_sources.image_dir={images}")
    found = inference.run(load("inference", None, parse_overrides(pairs)))
    assert found["images"] == 4
    assert "at least 0.250 (best F1 on validation) in 4 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "known", "words"),
    [
        (None, 0.9999, "0 objects with a score of at least 1.000 (best F1 on validation)"),
        (0.9999, 0.1, "0 objects with a score of at least 1.000 (inference.conf_threshold)"),
        (None, None, "with a score of at least 0.500 (the model file knows none of its own)"),
    ],
)
def test_the_threshold_and_its_source_are_named(
    asked: float | None, known: float | None, words: str, demo: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = checkpoint_of(tmp_path / "m.pth", demo, {} if known is None else {"val_threshold": known})
    leaves = {
        "inference.checkpoint": str(path), "inference.conf_threshold": asked, "results_dir": str(tmp_path),
        "dataset.infer_data_sources.image_dir": str(demo / "test" / "images"),
    }  # fmt: skip
    found = inference.run(load("inference", None, leaves))
    said = capsys.readouterr().out
    assert words in said
    assert ("the highest score is" in said) == (found["detections"] == 0)


@pytest.mark.parametrize("layout", ["official", "tao", "hugging_face"])
def test_weights_of_other_programs_are_run_by_the_spec(
    layout: str, made: Path, demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = load("evaluate", None, {"evaluate.checkpoint": str(made), "results_dir": str(tmp_path)})
    ours, _ = build_from(made, spec)
    file = tmp_path / "foreign.pth"
    torch.save({"state_dict": weights.save(ours, layout)}, file)
    said = {key: spec[key] for key in ("model", "dataset", "results_dir")}
    given = {name: value for name, value in leaves(said, TABLE) if not TABLE[name].dead}
    size = {"evaluate.input_height": 64, "evaluate.input_width": 64}
    own, other = (
        load("evaluate", None, given | size | {"evaluate.checkpoint": str(f)}) for f in (made, file)
    )
    theirs, told = build_from(file, other)
    state = theirs.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in ours.state_dict().items() if k in state)
    assert told["classes"] == []
    assert ("model.tao_compat=true" in capsys.readouterr().err) == (layout == "tao")
    assert evaluate.run(other)["test_mAP"] == evaluate.run(own)["test_mAP"]
    for leaf, wrong, words in (
        ("dataset.num_classes", 9, "dataset.num_classes must be 4, its rows of classes, but got 9"),
        (
            "model.enc_layers",
            3,
            r"leaves of model\. must, as it was trained; does not fit this network\n  missing",
        ),
    ):
        with pytest.raises(UserError, match=words):
            build_from(file, load("evaluate", None, given | {"evaluate.checkpoint": str(file), leaf: wrong}))


def test_a_file_that_tao_encrypted_is_told_as_such(tmp_path: Path) -> None:
    torch.save({"state_dict_encrypted": b"abc", "epoch": 1}, tmp_path / "m.pth")
    with pytest.raises(UserError, match="is encrypted by TAO; save it there without"):
        build_from(tmp_path / "m.pth", load("export", None, {"export.checkpoint": str(tmp_path / "m.pth")}))


def test_a_wrong_checkpoint_is_one_message(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "foreign.pth").write_bytes(b"no checkpoint")
    cases = {
        "no.pth": "no such checkpoint",
        "": "holds no checkpoint",
        "foreign.pth": "not a readable weights file",
    }
    test = {"image_dir": str(demo / "test" / "images"), "json_file": str(demo / "test" / "annotations.json")}
    for name, message in cases.items():
        leaves = {"evaluate.checkpoint": str(tmp_path / name), "dataset.test_data_sources": test}
        leaves |= {"dataset.eval_class_ids": [1], "results_dir": str(tmp_path / "results")}
        assert guarded(lambda leaves=leaves: evaluate.run(load("evaluate", None, leaves))) == 2
        assert message in capsys.readouterr().err


# ---- the best one in a folder ---------------------------------------------------------------------------------


def trial(folder: Path, scores: list[float | None], gone: tuple[int, ...] = ()) -> None:
    folder.mkdir(parents=True)
    lines = []
    for epoch, score in enumerate(scores):
        name = f"model_epoch_{epoch:03d}_step_00001.pth"
        if epoch not in gone:
            (folder / name).write_bytes(b"")
        metric = {} if score is None else {"val_mAP": score, "val_loss": 1 - score}
        lines.append(json.dumps({"epoch": epoch, "checkpoint": name} | metric))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"epoch": 9, "val_mAP": 1.0, "checkpo')


def test_a_removal_of_hydra_s_says_what_there_is() -> None:
    with pytest.raises(UserError, match=r"but got '~a\.b'; ~ takes nothing out here: a\.b=VALUE gives it"):
        parse_overrides(["~a.b"])


def test_the_best_epoch_of_a_training_or_a_trial(tmp_path: Path) -> None:
    trial(tmp_path / "train", [0.1, 0.5, None, 0.5, 0.3])
    for folder in (tmp_path / "train", tmp_path):
        path, said = ckpt.best_in(folder)
        assert path.name == "model_epoch_001_step_00001.pth"  # of equals the first
        assert said == "epoch 2, val_mAP 0.5000"
    trial(tmp_path / "other", [0.1, 0.5, 0.4], gone=(1,))
    path, said = ckpt.best_in(tmp_path / "other")
    assert path.name == "model_epoch_002_step_00001.pth"
    assert "0.5000 was reached, but its checkpoint is gone" in said


def test_lines_of_what_was_run_again_do_not_count(tmp_path: Path) -> None:
    """A training that was resumed in its folder keeps what stood before; one begun anew keeps nothing."""
    trial(tmp_path / "train", [0.1, 0.5, 0.9, 0.8])
    (tmp_path / "train" / "metrics.jsonl").write_text("")

    def best_after(*told: tuple[int, float]) -> str:
        for epoch, value in told:
            name = f"model_epoch_{epoch:03d}_step_00001.pth"
            line = {"epoch": epoch, "val_mAP": value, "checkpoint": name}
            append_line(tmp_path / "train" / "metrics.jsonl", line)
        return ckpt.best_in(tmp_path)[1]

    assert best_after((0, 0.1), (1, 0.5), (2, 0.9), (3, 0.8)) == "epoch 3, val_mAP 0.9000"
    assert best_after((2, 0.3), (3, 0.4)) == "epoch 2, val_mAP 0.5000"
    assert best_after((0, 0.2)) == "epoch 1, val_mAP 0.2000"


def test_room_is_made_for_a_training_that_begins_anew(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    trial(folder, [0.1, 0.5])
    ckpt.link_latest(folder / "model_epoch_001_step_00001.pth")
    (folder / "status.json").write_text("")
    assert ckpt.make_room(folder, folder / ckpt.LATEST) is None
    assert ckpt.make_room(folder, None) == folder / "earlier_1"
    assert ckpt.best_in(folder / "earlier_1")[1] == "epoch 2, val_mAP 0.5000"
    assert {p.name for p in folder.iterdir()} == {"earlier_1", "status.json"}
    assert (folder / "earlier_1" / ckpt.LATEST).is_file()
    (folder / "model_epoch_000_step_00001.pth").write_bytes(b"")
    (folder / "metrics.jsonl").write_text("")
    assert ckpt.make_room(folder, None) is None  # a trial that the engine starts again
    append_line(folder / "metrics.jsonl", {"epoch": 0})
    assert ckpt.make_room(folder, folder / "earlier_1" / ckpt.LATEST) == folder / "earlier_2"


def test_the_best_trial_of_a_run_by_the_run_s_own_metric(tmp_path: Path) -> None:
    trial(tmp_path / "trials" / "0000", [0.2, 0.4])
    trial(tmp_path / "trials" / "0001", [0.6, 0.3])
    assert ckpt.best_in(tmp_path)[0].parent.name == "0001"
    for name in (
        "0001_bak",
        "set_aside_0002_0",
        ".ipynb_checkpoints",
    ):  # of no trial of this run, however good
        stray = shutil.copytree(tmp_path / "trials" / "0001", tmp_path / "trials" / name)
        lines = (stray / "metrics.jsonl").read_text()
        (stray / "metrics.jsonl").write_text(re.sub(r'("val_mAP": )[0-9.]+', r"\g<1>0.99", lines))
    assert ckpt.best_in(tmp_path)[0].parent.name == "0001"
    (tmp_path / "run.json").write_text(json.dumps({"metric": {"name": "val_loss", "maximize": False}}))
    path, said = ckpt.best_in(tmp_path)
    assert (path.parent.name, path.name) == ("0001", "model_epoch_000_step_00001.pth")
    assert "val_loss 0.4000" in said
    assert ckpt.best_in(tmp_path / "trials" / "0000")[0].name == "model_epoch_001_step_00001.pth"
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "model.pth").write_bytes(b"")
    for folder in (tmp_path, tmp_path / "best"):
        assert ckpt.best_in(folder) == (tmp_path / "best" / "model.pth", "the winner of the run")


def test_a_training_s_folder_in_place_of_its_checkpoint(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: train, find the threshold at validation, evaluate the folder."""
    partial = with_data(json.loads(json.dumps(TINY)), demo)
    partial["train"] |= {"results_dir": str(tmp_path / "run"), "start": "scratch"}
    train.run(resolve("train", partial))
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    best = max(records, key=lambda r: (r["val_mAP"], -r["epoch"]))
    leaves = {"evaluate.checkpoint": str(tmp_path / "run"), "results_dir": str(tmp_path)}
    spec = load("evaluate", None, leaves)
    assert get(spec, "evaluate.checkpoint") == str(tmp_path / "run" / best["checkpoint"])
    assert f"(epoch {best['epoch'] + 1}, val_mAP {best['val_mAP']:.4f})" in capsys.readouterr().out
    assert ckpt.load(get(spec, "evaluate.checkpoint"))["metrics"].get("val_threshold") == best.get(
        "val_threshold"
    )
    assert evaluate.run(spec)["test_mAP"] >= 0
