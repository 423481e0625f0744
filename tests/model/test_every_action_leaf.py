"""No setting of any action is dead: each leaf below an action's own name has a test that sees it act, or says why it
cannot. Training's are in test_every_leaf.py."""

from __future__ import annotations

import ast
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
import torch

from model.actions import evaluate, export, gen_trt_engine
from model.deploy import card
from model.deploy import engine as engines
from model.errors import UserError
from model.parameters import ACTIONS, of_action
from model.spec import put, resolve
from tests.conftest import TINY, with_data
from tests.model.deployed import spec_of

HERE = Path(__file__).parent
OWN, DEPLOY, QUANTIZE = "test_every_action_leaf.py", "test_deploy.py", "test_quantize.py"
EVALUATE, CARD, POINTS = "test_evaluate.py", "test_card.py", "test_points.py"

# leaf -> the test that sees its effect
SEEN = {
    **{f"{action}.{leaf}": (OWN, "test_devices_of_evaluate_and_inference_act") for action in ("evaluate", "inference") for leaf in ("num_gpus", "gpu_ids", "num_nodes")},
    **{f"{action}.{leaf}": (CARD, "test_which_file_to_run") for action in ("evaluate", "inference") for leaf in ("checkpoint", "trt_engine")},
    "evaluate.batch_size": (EVALUATE, "test_neighbours_in_a_batch_change_no_detection"),
    "evaluate.results_dir": (OWN, "test_folders_act"),
    **{f"evaluate.{leaf}": (EVALUATE, "test_leaves_of_evaluate_act") for leaf in ("conf_threshold", "input_height", "input_width")},
    **{f"evaluate.{leaf}": (OWN, "test_the_split_and_a_file_beside_act") for leaf in ("split", "beside")},
    "inference.batch_size": (EVALUATE, "test_a_batch_changes_no_label_file"),
    "inference.results_dir": (DEPLOY, "test_inference_writes_pictures_and_labels"),
    **{f"inference.{leaf}": (EVALUATE, "test_leaves_of_inference_act") for leaf in ("conf_threshold", "input_height", "input_width", "color_map", "outline_width")},
    "inference.is_internal": (EVALUATE, "test_results_by_source_when_internal"),
    **{f"export.{leaf}": (OWN, "test_leaves_of_export_act") for leaf in ("checkpoint", "onnx_file", "results_dir", "input_height", "input_width", "batch_size", "opset_version", "serialize_nvdsinfer", "verbose")},
    **{f"export.{leaf}": (DEPLOY, "test_refusals_of_export") for leaf in ("input_channel", "format")},
    "export.conf_threshold": (CARD, "test_an_export_at_another_size_tells_no_figures_of_the_validated_one"),
    "export.pre_post": ("test_standalone.py", "alone"),
    "quantize.model_path": (QUANTIZE, "test_a_checkpoint_takes_the_file_exported_from_it"),
    "quantize.results_dir": (QUANTIZE, "test_static_needs_images"),
    "quantize.backend": (QUANTIZE, "test_backends_that_are_not_there_are_refused_before_work"),
    "quantize.mode": (QUANTIZE, "test_it_runs_as_handed_over_and_reports_the_drift"),
    "quantize.algorithm": (QUANTIZE, "test_algorithms_find_other_ranges"),
    "quantize.calibration_images": (QUANTIZE, "test_the_same_images_each_time"),
    "quantize.max_drop": ("test_sensitivity.py", "test_the_drop_that_is_allowed_decides_what_stays_float"),
    "quantize.layers": (QUANTIZE, "test_layers_and_skip_names"),
    "quantize.skip_names": (QUANTIZE, "test_layers_and_skip_names"),
    **{f"quantize.default_{of}_dtype": (QUANTIZE, "test_what_nvidia_s_backends_pass_over_is_passed_over") for of in ("layer", "activation")},
    "quantize.device": (QUANTIZE, "test_the_device_acts"),
    "quantize.backend_kwargs": (QUANTIZE, "test_options_of_the_backend_act"),
    **{f"gen_trt_engine.{leaf}": (OWN, "test_leaves_of_the_builder_act") for leaf in ("onnx_file", "trt_engine", "batch_size", "timing_cache", "verbose", "rtx_targets", "tensorrt.workspace_size", "tensorrt.min_batch_size", "tensorrt.opt_batch_size", "tensorrt.max_batch_size")},
    **{f"gen_trt_engine.{leaf}": (OWN, "test_an_engine_has_the_size_of_its_file") for leaf in ("input_channel", "input_height", "input_width")},
    "gen_trt_engine.results_dir": (OWN, "test_folders_act"),
    "gen_trt_engine.builder": (DEPLOY, "test_nvidia_s_parser_and_builder_take_the_file"),
    "gen_trt_engine.gpu_id": (OWN, "test_the_gpu_of_a_build_acts"),
    "gen_trt_engine.tensorrt.data_type": (DEPLOY, "test_prepared_graphs_run_and_stay_near"),
    "gen_trt_engine.tensorrt.layers_precision": (DEPLOY, "test_layers_precision_acts"),
    "gen_trt_engine.tensorrt.calibration.cal_image_dir": (DEPLOY, "test_prepared_graphs_run_and_stay_near"),
    "gen_trt_engine.tensorrt.calibration.cal_cache_file": (DEPLOY, "test_the_cache_keeps_ranges_while_nothing_changes"),
    "gen_trt_engine.tensorrt.calibration.cal_batch_size": (DEPLOY, "test_too_few_calibration_images"),
    "gen_trt_engine.tensorrt.calibration.cal_batches": (DEPLOY, "test_too_few_calibration_images"),
    **{f"deploy.{leaf}": (POINTS, "test_leaves_of_deploy_act") for leaf in ("checkpoint", "results_dir", "target", "dec_layers", "num_queries", "sizes", "precisions")},
    **{f"deploy.{leaf}": (POINTS, "test_what_was_measured_is_not_measured_again") for leaf in ("max_latency", "min_map", "max_size", "calibration_images", "rounds", "runs")},
    "deploy.conf_threshold": (POINTS, "test_a_threshold_that_a_person_wants_stands_in_the_file"),
    "deploy.points": (POINTS, "test_so_many_points_and_no_more"),
    "deploy.max_time": (POINTS, "test_too_little_time_measures_one_unit_says_what_that_is_and_the_next_run_goes_on"),
}  # fmt: skip


def test_no_leaf_of_any_action_is_forgotten() -> None:
    others = [a for a in ACTIONS if a != "train"]
    own = {p.name: p for a in others for p in of_action(a) if p.name.startswith(f"{a}.")}
    assert {name for name, p in own.items() if not p.dead} - {"export.on_cpu"} == set(SEEN)
    for leaf, (file, test) in SEEN.items():
        tree = ast.parse((HERE / file).read_text())
        bodies = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == test]
        decorators = [ast.unparse(d) for n in bodies for d in n.decorator_list]
        text = " ".join([*map(ast.unparse, bodies), *decorators])
        assert leaf.split(".")[-1] in text, f"{test} does not name {leaf}"


def test_devices_of_evaluate_and_inference_act(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins: no test machine has several GPUs."""
    from model import distributed

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    started: list[Any] = []
    monkeypatch.setattr(
        subprocess, "run", lambda words, env: started.append(env) or subprocess.CompletedProcess(words, 0)
    )
    for action in ("evaluate", "inference"):
        spec = {action: {"num_gpus": 1, "gpu_ids": [3], "num_nodes": 1}}
        assert not distributed.start_ranks(spec, action)
        assert distributed.device(spec[action], action) == torch.device("cuda", 3)
        spec = {action: {"num_gpus": 2, "gpu_ids": [1, 3], "num_nodes": 1}}
        assert distributed.start_ranks(spec, action)
        assert started[-1]["CUDA_VISIBLE_DEVICES"] == "1,3"
        with pytest.raises(UserError, match=rf"{action}\.num_nodes is 2"):
            distributed.start_ranks({action: spec[action] | {"num_nodes": 2}}, action)


def scored(made: tuple[Path, dict[str, Any]], demo: Path, folder: Path, **leaves: Any) -> dict[str, Any]:
    """Metrics of the exported network, as one of the demo's classes."""
    graph = onnx.load(made[0] / "model.onnx")
    classes = [{"id": i + 1, "name": name} for i, name in enumerate(("circle", "square", "triangle"))]
    card.write_into(graph, replace(card.read(made[0] / "model.onnx"), classes=classes))
    onnx.save(graph, folder / "named.onnx")
    partial = with_data(json.loads(json.dumps({k: v for k, v in TINY.items() if k != "train"})), demo)
    partial["evaluate"] = {"checkpoint": str(folder / "named.onnx"), "results_dir": str(folder / "scores")}
    partial["evaluate"] |= leaves
    evaluate.run(resolve("evaluate", partial))
    return dict(json.loads((folder / "scores" / "metrics.json").read_text()))


def test_the_split_and_a_file_beside_act(
    made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path
) -> None:
    plain = scored(made, demo, tmp_path)
    assert "test_mAP" in plain
    assert "beside" not in plain
    other = scored(made, demo, tmp_path, split="val", beside=str(tmp_path / "named.onnx"))
    assert "test_mAP" not in other
    assert other["difference"] == 0


def test_folders_act(made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path) -> None:
    assert scored(made, demo, tmp_path)  # read from evaluate's results_dir
    spec = spec_of("gen_trt_engine", made[0], gen_trt_engine__results_dir=str(tmp_path / "engine"))
    if engines.available("tensorrt")[1]:
        with pytest.raises(UserError if torch.cuda.is_available() else Exception, match="this machine lacks"):
            gen_trt_engine.run(spec)
    assert (tmp_path / "engine" / "status.json").is_file()


def test_an_engine_has_the_size_of_its_file(made: tuple[Path, dict[str, Any]]) -> None:
    said = {"input_channel": 1, "input_height": 32, "input_width": 96}
    for name, value in said.items():
        spec = spec_of("gen_trt_engine", made[0], **{f"gen_trt_engine__{name}": value})
        with pytest.raises(UserError, match=f"gen_trt_engine.{name} is {value}, but the input of .* has"):
            gen_trt_engine.run(spec)
    right = {"input_channel": 3, "input_height": 64, "input_width": 64, "tensorrt__data_type": "int8"}
    spec = spec_of("gen_trt_engine", made[0], **{f"gen_trt_engine__{k}": v for k, v in right.items()})
    assert spec["gen_trt_engine"]["tensorrt"]["data_type"] == "INT8"
    with pytest.raises(UserError, match="cal_image_dir must be given"):
        gen_trt_engine.run(spec)


def test_leaves_of_export_act(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fixed batch, another size and opset; the file's default place."""
    leaves = {
        "checkpoint": str(made[0] / "model.pth"), "onnx_file": "", "results_dir": str(tmp_path), "input_height": 96,
        "input_width": 64, "batch_size": 2, "opset_version": 18, "serialize_nvdsinfer": True, "verbose": True,
    }  # fmt: skip
    export.run(spec_of("export", made[0], **{f"export__{k}": v for k, v in leaves.items()}))
    graph = onnx.load(tmp_path / "model.onnx")
    dims = [d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim]
    assert dims == [2, 3, 96, 64]
    assert graph.opset_import[0].version == 18
    assert "batch-size: 2" in (tmp_path / "nvdsinfer_config.yaml").read_text()
    assert "Conv" in capsys.readouterr().out
    missing = spec_of(
        "export", made[0], export__checkpoint="none.pth", export__onnx_file=str(tmp_path / "b.onnx")
    )
    with pytest.raises(UserError, match=r"none\.pth: no such checkpoint"):
        export.run(missing)


class Library:
    """NVIDIA's library as far as a build calls it; it records what it is told."""

    __name__, __version__ = "tensorrt_rtx", "1"
    BuilderFlag = SimpleNamespace()
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    ComputeCapability = SimpleNamespace(__members__=["SM80", "SM89", "NONE"], SM80="80", SM89="89")

    def __init__(self) -> None:
        self.told: list[Any] = []

    def Logger(self, level: str) -> str:
        self.told.append(("log", level))
        return level

    Logger.VERBOSE, Logger.ERROR = "verbose", "error"  # type: ignore[attr-defined]

    def OnnxParser(self, network: Any, logger: str) -> Any:
        return SimpleNamespace(parse=lambda data: self.told.append(("bytes", len(data))) or True)

    def Builder(self, logger: str) -> Any:
        tensor = SimpleNamespace(name="inputs", shape=(-1, 3, 64, 64))
        network = SimpleNamespace(num_layers=1, get_input=lambda i: tensor)
        cache = SimpleNamespace(serialize=lambda: b"times")
        config = SimpleNamespace(
            set_memory_pool_limit=lambda kind, size: self.told.append((kind, size)),
            add_optimization_profile=lambda p: None,
            set_compute_capability=lambda target, i: self.told.append(("target", i, target)),
            create_timing_cache=lambda known: self.told.append(("known", known)) or cache,
            set_timing_cache=lambda c, ignore_mismatch: None,
            get_timing_cache=lambda: cache,
        )
        return SimpleNamespace(
            create_network=lambda flags: network,
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: SimpleNamespace(
                set_shape=lambda name, *shapes: self.told.append(tuple(s[0] for s in shapes))
            ),
            build_serialized_network=lambda n, c: b"engine",
        )


def test_leaves_of_the_builder_act(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    def told(**leaves: Any) -> list[Any]:
        spec = spec_of("gen_trt_engine", made[0])
        for name, value in leaves.items():
            put(spec, f"gen_trt_engine.{name.replace('__', '.')}", value)
        library, section = Library(), spec["gen_trt_engine"]
        onnx_file, trt_engine = Path(section["onnx_file"]), tmp_path / "deep" / "m.engine"
        engines.build(library, onnx_file, trt_engine, section)
        assert trt_engine.read_bytes() == b"engine"
        return library.told

    size = (made[0] / "model.onnx").stat().st_size
    plain = [("log", "error"), ("bytes", size), ("workspace", 1 << 30), (1, 1, 1), ("target", 0, "89")]
    assert told() == plain
    assert told(verbose=True)[0] == ("log", "verbose")
    assert told(tensorrt__workspace_size=0) == [t for t in plain if t[0] != "workspace"]
    assert (2, 3, 4) in told(
        tensorrt__min_batch_size=2, tensorrt__opt_batch_size=3, tensorrt__max_batch_size=4
    )
    assert (5, 5, 5) in told(batch_size=5)
    assert told(rtx_targets=["SM80", "SM89"])[-2:] == [("target", 0, "80"), ("target", 1, "89")]
    timing_cache = tmp_path / "times"
    assert told(timing_cache=str(timing_cache))[-1] == ("known", b"")
    assert told(timing_cache=str(timing_cache))[-1] == ("known", b"times")


def test_the_gpu_of_a_build_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for two GPUs."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    engines.choose_gpu("tensorrt", gpu_id=1)
    engines.choose_gpu("tensorrt_rtx", gpu_id=0)
    assert chosen == [1]
    with pytest.raises(UserError, match="gpu_id must be below 2"):
        engines.choose_gpu("tensorrt", gpu_id=2)
