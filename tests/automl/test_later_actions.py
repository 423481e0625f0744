"""Sections of other actions in one spec file, as TAO's files have them: checked, carried to the stages, never lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from automl import bundle, handoff, later_actions, restored_plan, spec
from automl.errors import UserError
from automl.plan import check_merged, merge
from automl.request import RunRequest
from model import spec_file as model_spec

ONE_FILE = {
    "train": {"num_epochs": 1},
    "evaluate": {"conf_threshold": 0.05, "checkpoint": "/a/b.pth", "results_dir": None},
    "inference": {"conf_threshold": 0.33, "color_map": {"square": "red"}},
    "export": {"opset_version": 18, "onnx_file": "/a/b.onnx"},
    "gen_trt_engine": {"tensorrt": {"data_type": "FP16"}},
    "quantize": {"calibration_images": 9},  # the train spec has it too
}


def asked(tmp_path: Path, document: Any, **more: Any) -> RunRequest:
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(document))
    return RunRequest(model="deformable_detr", demo=True, spec_file=str(tmp_path / "one.yaml"), **more)


def test_every_section_goes_to_its_action(tmp_path: Path) -> None:
    detector = bundle.resolve("deformable_detr")
    sets = ("export.opset_version=19", "evaluate.input_width=96", "evaluate.input_height=64")
    merged, keys = merge(asked(tmp_path, ONE_FILE, sets=sets), detector)
    assert not {"evaluate", "inference", "export", "gen_trt_engine"} & {*merged.spec}
    plan: Any = SimpleNamespace(bundle=detector, request=RunRequest(), engine_keys=keys)
    best = tmp_path / "best"
    handoff.write_specs(
        detector, merged.spec, best / "model.pth", best, {"val_threshold": 0.2}, handoff.asked_leaves(plan)
    )
    found = {a: spec.load(best / f"{a}.yaml") for a in detector.actions if a != "train"}
    plain = handoff.action_spec(
        detector, "export", merged.spec, None, best, {"inference.conf_threshold": 0.2}
    )
    assert plain["export"]["conf_threshold"] is None  # what validation suggests, the file knows itself
    assert found["evaluate"]["evaluate"]["conf_threshold"] == 0.05
    assert found["evaluate"]["evaluate"]["input_width"] == 96
    assert found["evaluate"]["evaluate"]["checkpoint"].endswith("model.pth")
    assert found["inference"]["inference"]["conf_threshold"] == 0.33  # his, not what validation suggests
    assert found["export"]["export"]["conf_threshold"] == 0.33
    assert found["deploy"]["deploy"]["conf_threshold"] == 0.33
    assert found["inference"]["inference"]["color_map"] == {"square": "red"}
    assert found["export"]["export"]["opset_version"] == 19
    assert found["export"]["export"]["onnx_file"].endswith("best/model.onnx") or found["export"]["export"][
        "onnx_file"
    ].endswith("}/model.onnx")
    assert found["quantize"]["quantize"]["calibration_images"] == 9
    assert merged.spec["quantize"]["calibration_images"] == 9
    assert found["gen_trt_engine"]["gen_trt_engine"]["tensorrt"]["data_type"] == "FP16"


def test_choices_in_letters_of_another_case_are_taken_as_the_model_takes_them(tmp_path: Path) -> None:
    detector = bundle.resolve("deformable_detr")
    document = {"gen_trt_engine": {"tensorrt": {"data_type": "int8"}}, "train": {"precision": "BF16"}}
    merged, keys = merge(asked(tmp_path, document, sets=("train.optim.lr_scheduler=multistep",)), detector)
    check_merged(merged, detector)
    assert keys["gen_trt_engine"]["tensorrt"]["data_type"] == "INT8"
    assert merged.spec["train"]["precision"] == "bf16"
    assert merged.spec["train"]["optim"]["lr_scheduler"] == "MultiStep"


def test_what_the_winner_brings_itself_is_told(tmp_path: Path) -> None:
    detector = bundle.resolve("deformable_detr")
    merged, keys = merge(asked(tmp_path, ONE_FILE), detector)
    (told,) = later_actions.passed_over(detector, keys, merged)
    assert "evaluate.checkpoint, export.onnx_file of " in told
    assert "one.yaml will be the winner's own files and folders instead" in told


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"evaluate": {"conf_treshold": 0.1}}, r"one\.yaml: unknown key 'evaluate\.conf_treshold'; did you mean"),
        ({"evaluate": {"conf_threshold": 7}}, r"one\.yaml: evaluate\.conf_threshold must be .*, but got 7"),
        ({"evaluate": 3}, r"one\.yaml: evaluate must be a section, but got 3"),
        ({"evaluate": ""}, r"one\.yaml: evaluate must be a section, but got ''"),
        ({"evaluate": []}, r"one\.yaml: evaluate must be a section, but got \[\]"),
        ({"export": {"gpu_id": 1}}, r"export\.gpu_id must stay 0, but got 1"),
        ({"evalute": {"conf_threshold": 0.1}}, None),
    ],
)  # fmt: skip
def test_what_is_wrong_in_one_is_told_before_the_first_trial(
    section: dict[str, Any], message: str | None, tmp_path: Path
) -> None:
    detector = bundle.resolve("deformable_detr")
    if message is None:  # no action: the train schema tells
        merged, _ = merge(asked(tmp_path, section), detector)
        with pytest.raises(UserError, match="unknown key 'evalute'"):
            spec.validate(merged.spec, detector.schema("train"), merged.sources, detector.template("train"))
        return
    with pytest.raises(UserError, match=message):
        merge(asked(tmp_path, section), detector)


def test_an_empty_section_says_nothing(tmp_path: Path) -> None:
    detector = bundle.resolve("deformable_detr")
    assert merge(asked(tmp_path, {"evaluate": None, "export": {}}), detector)[1] in (
        {"evaluate": {}, "export": {}},
        {"evaluate": {}},
    )


def test_a_run_keeps_them_to_its_end_and_when_it_is_resumed(tmp_path: Path) -> None:
    """With a foreign model whose other action has no schema."""
    example = Path(__file__).resolve().parents[2] / "examples" / "numpy_net"
    model = tmp_path / "model"
    shutil.copytree(example, model)
    skill = yaml.safe_load((model / "references" / "skill_info.yaml").read_text())
    skill["actions"]["score"] = {"command": "true {config_path}"}
    (model / "references" / "skill_info.yaml").write_text(yaml.safe_dump(skill))
    (model / "references" / "spec_template_score.yaml").write_text("score: {shots: 3, by: {kind: a}}\n")
    (tmp_path / "one.yaml").write_text("score: {shots: 5}\n")

    def automl(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "automl", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=200)

    options = ["--model", str(model), "-e", "one.yaml", "--trials", "2", "--results-dir", "run"]
    ended = automl("run", *options, "--executor", "local")
    assert ended.returncode == 0, ended.stderr
    written = yaml.safe_load((tmp_path / "run" / "best" / "score.yaml").read_text())
    assert written["score"] == {"shots": 5, "by": {"kind": "a"}}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["engine_keys"]["score"] == {"shots": 5}
    resumed = automl("resume", "run")
    assert resumed.returncode == 0
    assert "has changed" not in resumed.stderr + resumed.stdout
    (tmp_path / "one.yaml").write_text("score: {shots: 7}\n")
    resumed = automl("resume", "run")
    assert "score.shots is 7 there, 5 here" in resumed.stderr + resumed.stdout
    (tmp_path / "one.yaml").write_text("score: {shot: 7}\n")
    refused = automl("plan", *options[:4])
    assert refused.returncode == 2
    assert "unknown key 'score.shot'; did you mean" in refused.stderr


def test_plans_keep_the_request(tmp_path: Path) -> None:
    """--set of another action's leaf is a pair like any."""
    detector = bundle.resolve("deformable_detr")
    request = replace(RunRequest(model="deformable_detr", demo=True), sets=("evaluate.conf_threshold=0.1",))
    assert merge(request, detector)[1]["evaluate"] == {"conf_threshold": 0.1}


def test_what_was_not_given_may_be_null(tmp_path: Path) -> None:
    """As TAO writes it into the spec of a training that ran."""
    names = ["results_dir", "train.results_dir", "train.pretrained_model_path", "encryption_key"]
    detector = bundle.resolve("deformable_detr")
    document = spec.nest(dict.fromkeys(names)) | {
        "evaluate": {"results_dir": None, "trt_engine": None}, "inference": {"color_map": None},
        "gen_trt_engine": {"tensorrt": None}, "quantize": None, "model": None,
    }  # fmt: skip
    merged, keys = merge(asked(tmp_path, document), detector)
    assert [spec.get(merged.spec, name) for name in names] == [
        spec.get(detector.template("train"), name) for name in names
    ]
    assert not {*names} & {name for name, source in merged.sources.items() if source.endswith("one.yaml")}
    spec.validate(merged.spec, detector.schema("train"), merged.sources, detector.template("train"))
    assert later_actions.passed_over(detector, keys, merged) == []
    assert model_spec.load("train", tmp_path / "one.yaml")["results_dir"] == ""


def test_where_a_spec_file_has_results_written_is_passed_over_and_told(tmp_path: Path) -> None:
    detector = bundle.resolve("deformable_detr")
    document = {
        "results_dir": "/my results",
        "train": {"results_dir": "/t"},
        "evaluate": {"results_dir": "/e"},
    }
    request = asked(tmp_path, document)
    merged, keys = merge(request, detector)
    first, second = later_actions.passed_over(detector, keys, merged)
    assert first.startswith(f"results_dir, train.results_dir of {request.spec_file} is passed over")
    assert first.endswith("--results-dir '/my results'")
    assert second.startswith("evaluate.results_dir of ")
    assert later_actions.leaves(detector, keys, "evaluate") == {}
    assert later_actions.passed_over(detector, keys, merged, placed=True) == [second]
    for plain in ({}, {"results_dir": ""}, {"results_dir": "???"}):
        assert later_actions.passed_over(detector, {}, merge(asked(tmp_path, plain), detector)[0]) == []


def test_what_is_still_to_be_given_is_not_given(tmp_path: Path) -> None:
    """As OmegaConf takes `???`: nobody's passphrase, nobody's file."""
    detector = bundle.resolve("deformable_detr")
    document = {
        "results_dir": "???", "encryption_key": "???", "dataset": {"batch_size": "???"},
        "model": {"num_queries": 200}, "wandb": "???",
        "evaluate": {"checkpoint": "???", "conf_threshold": "???"},
        "gen_trt_engine": {"tensorrt": {"calibration": {"cal_image_dir": ["???"]}}},
    }  # fmt: skip
    merged, keys = merge(asked(tmp_path, document, sets=("model.num_queries=???",)), detector)
    assert merged.spec["encryption_key"] == merged.spec["results_dir"] == ""
    assert merged.spec["model"]["num_queries"] == 200
    of_file = {name for name, source in merged.sources.items() if source.endswith("one.yaml")}
    assert {name for name in of_file if spec.get(merged.spec, name) is not None} == {"model.num_queries"}
    assert not keys["evaluate"]
    assert later_actions.passed_over(detector, keys, merged) == []
    with pytest.raises(UserError, match=r"unknown key 'modl"):
        check_merged(merge(asked(tmp_path, {"modl": "???"}), detector)[0], detector)


@pytest.mark.parametrize("leaf", ["model.pretrained_backbone_path", "train.freeze"])
def test_null_takes_back_what_a_file_says(tmp_path: Path, leaf: str) -> None:
    detector = bundle.resolve("deformable_detr")
    document = spec.nest({leaf: ["backbone"] if "freeze" in leaf else "/a.pth"})
    merged, _ = merge(asked(tmp_path, document, sets=(f"{leaf}=null",)), detector)
    assert spec.get(merged.spec, leaf) == spec.get(detector.template("train"), leaf)
    assert leaf not in merged.sources  # the model may settle it


REFERRING = {
    "results_dir": "/r",
    "model_name": "${model.backbone} of ${dataset.batch_size}",
    "train": {"validation_interval": "${train.num_epochs}", "results_dir": "${results_dir}/train"},
    "evaluate": {"checkpoint": "${results_dir}/a.pth", "conf_threshold": "${inference.conf_threshold}"},
    "inference": {"conf_threshold": 0.25, "outline_width": "${train.num_epochs}"},
    "gen_trt_engine": {"timing_cache": "${results_dir}/timing", "trt_engine": "${nothing}/a.engine"},
}


def test_references_are_resolved_after_what_replaces_leaves(tmp_path: Path) -> None:
    """But those to where a later action writes, by that action."""
    detector = bundle.resolve("deformable_detr")
    request = asked(tmp_path, REFERRING, sets=("dataset.batch_size=3", "train.num_epochs=2"))
    merged, keys = merge(request, detector)
    assert merged.spec["model_name"] == "resnet_18 of 3"  # the demo's network
    assert merged.spec["train"]["validation_interval"] == 2
    assert merged.spec["train"]["results_dir"] == "/r/train"
    assert keys["evaluate"]["conf_threshold"] == 0.25
    assert keys["inference"]["outline_width"] == 2
    plan: Any = SimpleNamespace(bundle=detector, request=RunRequest(), engine_keys=keys)
    best = tmp_path / "best"
    handoff.write_specs(detector, merged.spec, best / "model.pth", best, {}, handoff.asked_leaves(plan))
    full = model_spec.load("gen_trt_engine", best / "gen_trt_engine.yaml")["gen_trt_engine"]
    assert full["timing_cache"] == f"{best}/timing"
    assert full["trt_engine"] == f"{best}/model.engine"
    began: Any = SimpleNamespace(
        request=request, bundle=detector, spec=merged.spec, engine_keys=keys, sources=merged.sources, said={}
    )
    assert restored_plan._differences(began) == []


@pytest.mark.parametrize(
    ("leaf", "text", "told"),
    [
        (
            "train.pretrained_model_path",
            "${results_dir}/a.pth",
            r"names \$\{results_dir\}, which is not given",
        ),
        ("inference.outline_width", "${train.num_epoch}", "which is not given here"),
        ("wandb.name", "${train.checkpoint_interval}", "which is not given here"),  # a run may fill it
        ("wandb.name", "${oc.env:HOME}", "calls a resolver"),
        ("wandb.name", "${wandb.name}", "refers to itself"),
        ("wandb.name", "${encryption_key}", "which is secret"),
    ],
)
def test_references_that_lead_nowhere_are_refused(tmp_path: Path, leaf: str, text: str, told: str) -> None:
    detector = bundle.resolve("deformable_detr")
    document = spec.nest({leaf: text, "results_dir": "???", "train.results_dir": "${results_dir}/train"})
    with pytest.raises(UserError, match=rf"one\.yaml: {leaf} .*{told}"):
        merge(asked(tmp_path, document), detector)


def test_texts_of_a_model_that_reads_no_references_are_left_alone(tmp_path: Path) -> None:
    from tests.automl.toy import toy

    model = bundle.resolve(str(toy(tmp_path / "toy")))
    (tmp_path / "one.yaml").write_text("resume: ${oc.env:HOME}\n")
    merged, _ = merge(RunRequest(spec_file=str(tmp_path / "one.yaml")), model)
    assert merged.spec["resume"] == "${oc.env:HOME}"
