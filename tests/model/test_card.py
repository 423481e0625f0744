"""What a model file says of itself reaches every reader, in every number format; and the files handed over for it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml

from model.actions import export, gen_trt_engine, quantize
from model.deploy import card, package
from model.deploy.card import Card
from model.deploy.deepstream import write_nvdsinfer
from model.deploy.precision import to_fp16
from model.deploy.runners import OrtRunner, open_runner
from model.errors import NotRunnable, UserError
from model.spec import put, resolve
from model.spec_file import load
from tests.model.deployed import CLASSES, spec_of

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "tao_specs"
FULL = Card(
    CLASSES, (64, 96), [0.1, 0.2, 0.3], [0.25, 0.5, 1.0], 40, 0.31, {"run": "r", "metrics": {"val_mAP": 0.5}}
)


def with_card(source: Path, target: Path, new: Card) -> Path:
    graph = onnx.load(source)
    card.write_into(graph, new)
    onnx.save(graph, target)
    return target


def test_a_card_survives_a_file(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path = with_card(made[0] / "model.onnx", tmp_path / "a.onnx", FULL)
    assert card.read(path) == FULL
    assert OrtRunner(str(path)).card == FULL
    card.beside_engine(tmp_path / "a.engine").write_text(json.dumps(FULL.entries()))
    assert card.read(tmp_path / "a.engine") == FULL
    assert card.read(tmp_path / "none.engine") == Card()


def test_what_an_export_says(made: tuple[Path, dict[str, Any]]) -> None:
    found = card.read(made[0] / "model.onnx")
    assert (found.classes, found.size, found.num_select) == (CLASSES, (64, 64), 50)
    assert found.mean == [0.485, 0.456, 0.406]
    assert found.trained["checkpoint"] == "model.pth"
    texts = {p.key: p.value for p in onnx.load(made[0] / "model.onnx").metadata_props}
    assert "Apache-2.0" in texts["license"]


@pytest.mark.parametrize("action", ["FP16", "INT8", "static_ptq", "weight_only_ptq"])
def test_every_number_format_keeps_it_but_for_what_was_measured_on_another(
    made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path, action: str
) -> None:
    """FP16 keeps the threshold, as it moves no score by more than a thousandth."""
    source = with_card(made[0] / "model.onnx", tmp_path / "m.onnx", replace(FULL, size=(64, 64)))
    images = str(demo / "train" / "images")
    if action in ("FP16", "INT8"):
        spec = spec_of("gen_trt_engine", made[0], gen_trt_engine__tensorrt__data_type=action)
        put(spec, "gen_trt_engine.tensorrt.calibration.cal_image_dir", [images])
        target = gen_trt_engine.prepare(spec, source, tmp_path / "m.engine")
    else:
        partial = {"quantize": {"model_path": str(source), "mode": action}, "results_dir": str(tmp_path)}
        put(partial, "dataset.quant_calibration_data_sources.image_dir", images)
        put(partial, "model.return_interm_indices", [2, 3])
        put(partial, "model.num_feature_levels", 2)
        target = Path(quantize.run(resolve("quantize", partial))["file"])
    form = {"static_ptq": "INT8", "weight_only_ptq": "INT8 weights"}.get(action, action)
    trained = {"run": "r", "form": form, "metrics": {}}
    threshold = FULL.threshold if action == "FP16" else None
    assert card.read(target) == replace(FULL, size=(64, 64), threshold=threshold, trained=trained)


def test_a_form_of_a_form_names_both(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    small = card.in_form(FULL, "2 layers", {"val_mAP": 0.4, "test_mAP": None, "val_threshold": 0.2})
    assert (small.threshold, small.trained["metrics"]) == (0.2, {"val_mAP": 0.4, "val_threshold": 0.2})
    source = with_card(made[0] / "model.onnx", tmp_path / "m.onnx", replace(small, size=(64, 64)))
    to_fp16(source, tmp_path / "h.onnx")
    assert card.read(tmp_path / "h.onnx").trained == {"run": "r", "form": "2 layers, FP16", "metrics": {}}


def test_an_export_at_another_size_tells_no_figures_of_the_validated_one(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = torch.load(made[0] / "model.pth", weights_only=True)
    measured = {"metrics": {"val_mAP": 0.5, "val_threshold": 0.3}, "validated_size": [64, 64]}
    torch.save(whole | measured, tmp_path / "net.pth")
    for width, asked, threshold in ((64, None, 0.3), (96, None, None), (96, 0.15, 0.15), (64, 0.2, 0.2)):
        path, known = tmp_path / f"{width}{asked}.onnx", width == 64
        leaves = {"checkpoint": str(tmp_path / "net.pth"), "onnx_file": str(path), "input_width": width}
        leaves |= {"conf_threshold": asked}
        export.run(spec_of("export", made[0], **{f"export__{k}": v for k, v in leaves.items()}))
        own, last = card.read(path), capsys.readouterr().out.splitlines()[-1]
        assert (own.threshold, bool(own.trained["metrics"])) == (threshold, known)
        assert ("left out of the file" in last) != known
        assert known or f"{0.5 if asked is None else asked:g} counts" in last
        assert OrtRunner(str(path)).threshold == (threshold if asked is None else None)  # of validation
        page = package._page(tmp_path, own, package._figures(tmp_path, own), pictured=False)
        assert ("| scored | not at 96x64, the size of this file" in page) != known
        assert ("not measured for this file" in page) == (threshold is None)
        assert (f"Scores of {threshold} and more are objects" in page) == (threshold is not None)


def test_files_of_others_have_no_card(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    graph = onnx.load(made[0] / "model.onnx")
    onnx.helper.set_model_props(graph, {"names": "{0: 'x'}", "classes": "not ours", "stride": "32"})
    onnx.save(graph, tmp_path / "other.onnx")
    assert card.read(tmp_path / "other.onnx") == Card()
    (tmp_path / "other.json").write_text(json.dumps({"classes": CLASSES}))  # as older exports wrote
    assert OrtRunner(str(tmp_path / "other.onnx")).classes == CLASSES
    onnx.helper.set_model_props(graph, {"format": "detr-automl 1", "classes": "[{"})
    onnx.save(graph, tmp_path / "damaged.onnx")
    with pytest.raises(UserError, match="metadata of the ONNX file is damaged"):
        card.read(tmp_path / "damaged.onnx")


def test_the_file_stands_between_defaults_and_the_spec(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path = with_card(made[0] / "model.onnx", tmp_path / "m.onnx", FULL)
    spec = resolve("inference", {"inference": {"checkpoint": str(path)}})
    section, augmentation = spec["inference"], spec["dataset"]["augmentation"]
    assert (section["input_height"], section["input_width"], section["conf_threshold"]) == (64, 96, 0.31)
    assert (augmentation["input_mean"], augmentation["input_std"]) == (FULL.mean, FULL.std)
    assert spec["model"]["num_select"] == 40
    own = {"inference": {"checkpoint": str(path), "conf_threshold": 0.7}, "model": {"num_select": 9}}
    spec = resolve("inference", own)
    assert (spec["inference"]["conf_threshold"], spec["model"]["num_select"]) == (0.7, 9)
    wrong = {"inference": {"checkpoint": str(path)}, "dataset": {"augmentation": {"input_mean": [0, 0, 0]}}}
    with pytest.raises(UserError, match=r"input_mean must be \[0\.1, 0\.2, 0\.3\]"):
        open_runner(resolve("inference", wrong), "inference")


def test_an_engine_goes_before_a_checkpoint_and_alone_suffices(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "m.engine").write_bytes(b"x")
    for builder in ("tensorrt", "tensorrt_rtx"):
        entries = FULL.entries() | {"builder": builder}
        card.beside_engine(tmp_path / "m.engine").write_text(json.dumps(entries))
        for other in ({}, {"checkpoint": str(made[0] / "model.onnx")}):
            spec = resolve("evaluate", {"evaluate": {"trt_engine": str(tmp_path / "m.engine")} | other})
            assert spec["evaluate"]["input_width"] == 96
            if not torch.cuda.is_available():
                with pytest.raises(NotRunnable, match=r"m\.engine: running an engine needs"):
                    open_runner(spec, "evaluate")


@pytest.mark.parametrize(
    ("checkpoint", "engine", "message"),
    [("", "", "give inference.checkpoint or"), ("a.txt", "", "must be a .pth or .onnx"), ("a.engine", "", "a.engine: no such engine"), ("a.pth", "b.engine", "b.engine: no such engine")],
)  # fmt: skip
def test_which_file_to_run(
    made: tuple[Path, dict[str, Any]], checkpoint: str, engine: str, message: str
) -> None:
    spec = spec_of("inference", made[0], inference__checkpoint=checkpoint, inference__trt_engine=engine)
    with pytest.raises(UserError, match=message):
        open_runner(spec, "inference")


@pytest.mark.parametrize("section", ["evaluate", "inference", "gen_trt_engine"])
def test_no_rule_of_a_network_binds_a_finished_graph(section: str) -> None:
    """TAO's files name two feature levels beside four stages by default."""
    named = {"onnx_file": "/m.onnx"} if section == "gen_trt_engine" else {"trt_engine": "/results/m.engine"}
    partial = {"model": {"num_feature_levels": 2, "num_queries": 300}, "dataset": {"num_classes": 4}}
    assert resolve(section, partial | {section: named})["model"]["num_feature_levels"] == 2
    for action in ("export", "train", "evaluate", "inference"):
        with pytest.raises(UserError, match="num_feature_levels"):
            resolve(action, partial | ({} if action == "train" else {action: {"checkpoint": "a.pth"}}))


@pytest.mark.parametrize("action", ["evaluate", "inference", "gen_trt_engine"])
def test_tao_s_deploy_specs_load_as_they_are(action: str) -> None:
    """Two feature levels beside four stages by default: no rule of a network that is not built here."""
    path = SHARED / f"spec_template_deploy_{action}.yaml"
    if not path.is_file():
        pytest.skip("needs TAO's spec files")
    spec = load(action, path)
    for name, value in yaml.safe_load(path.read_text())[action].items():
        assert spec[action][name] == value or isinstance(value, dict)


# DeepStream

NVINFER = {  # documented keys of nvinfer's configuration file, and what each holds
    "property": {
        "gpu-id": int, "gie-unique-id": int, "onnx-file": str, "labelfile-path": str, "batch-size": int,
        "infer-dims": "ints", "net-scale-factor": float, "offsets": "floats", "model-color-format": int,
        "scaling-filter": int, "maintain-aspect-ratio": int, "network-type": int, "network-mode": int,
        "cluster-mode": int, "num-detected-classes": int, "output-blob-names": "words",
        "parse-bbox-func-name": str, "custom-lib-path": str, "output-tensor-meta": int, "workspace-size": int,
    },
    "class-attrs-all": {"topk": int, "pre-cluster-threshold": float},
}  # fmt: skip
READERS = {"ints": lambda v: [int(x) for x in v.split(";")], "floats": lambda v: [float(x) for x in v.split(";")], "words": lambda v: v.split(";")}  # fmt: skip


def read_nvinfer(path: Path) -> dict[str, dict[str, Any]]:
    document = yaml.safe_load(path.read_text())
    assert set(document) <= set(NVINFER)
    found: dict[str, dict[str, Any]] = {}
    for group, entries in document.items():
        for key, value in entries.items():
            kind = NVINFER[group][key]
            assert kind in READERS or isinstance(value, kind), key
            found.setdefault(group, {})[key] = READERS[kind](value) if kind in READERS else value
    return found


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        (CLASSES, ["background", "red cell", "square", "triangle"]),
        ([{"id": 0, "name": "cat"}, {"id": 2, "name": "dog"}], ["background", "cat", "class_2", "dog", "class_4"]),
    ],
)  # fmt: skip
def test_deepstream_sees_what_the_detector_sees(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, classes: list[dict[str, Any]], labels: list[str]
) -> None:
    """nvinfer's arithmetic and its parser's, which drops class 0, by hand, on the files written for them."""
    shutil.copy(made[0] / "model.onnx", tmp_path / "model.onnx")
    own = replace(card.read(tmp_path / "model.onnx"), classes=classes, threshold=0.22)
    source = with_card(made[0] / "model.onnx", tmp_path / "model.onnx", own)
    write_nvdsinfer(source)
    found = read_nvinfer(tmp_path / "nvdsinfer_config.yaml")
    settings = found["property"]
    assert found["class-attrs-all"] == {"topk": 50, "pre-cluster-threshold": 0.22}
    assert Path(settings["custom-lib-path"]).is_absolute()
    assert (tmp_path / "labels.txt").read_text().splitlines() == labels
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64)).astype(np.float32)
    offsets = np.array(settings["offsets"], np.float32).reshape(3, 1, 1)
    fed = settings["net-scale-factor"] * (pixels - offsets)
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (own.mean, own.std))
    wanted = OrtRunner(str(source)).infer(
        torch.from_numpy((pixels / 255 - mean) / std).float(), torch.zeros(0)
    )
    got = OrtRunner(str(tmp_path / settings["onnx-file"])).infer(
        torch.from_numpy(fed).float(), torch.zeros(0)
    )
    assert settings["num-detected-classes"] == len(labels) == got["pred_logits"].shape[-1]
    shift = got["pred_logits"].shape[-1] - wanted["pred_logits"].shape[-1]
    assert torch.allclose(got["pred_logits"][..., shift:], wanted["pred_logits"], atol=1e-3)
    assert torch.allclose(got["pred_boxes"], wanted["pred_boxes"], atol=1e-4)
    assert (got["pred_logits"][..., :shift] < -50).all()
    assert [tuple(settings["infer-dims"]), settings["output-blob-names"]] == [
        (3, 64, 64),
        ["pred_logits", "pred_boxes"],
    ]
