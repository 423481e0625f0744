"""The exported graph on one processor core, 640x640, batch 1, beside the ways to run the same network: plain torch, our
compiled attention, OpenVINO, and transformers' model by torch's own exporter. Writes results.json beside itself.

    OMP_NUM_THREADS=1 python studies/graph_speed/run.py [--rounds 12] [--work FOLDER]

All run the same weights and have equal outputs before anything is timed (OpenVINO in float32, as it is asked to). Every
way has its turn in every round, after one run that does not count; ratios are of the same round and of processor time,
which other work on the machine disturbs less than the clock. What the graph's time goes to is ONNX Runtime's profile
of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.build import build_model
from model.deploy.onnx_export import LeanDetector, export
from model.ops import live
from model.weights import load
from studies.bench_ms_deform_attn.train_step import SIDE, SPEC, transformers_model
from studies.machine import describe

HERE = Path(__file__).resolve().parent
Way = Callable[[], tuple[np.ndarray, np.ndarray]]  # logits, boxes
PLAIN, EAGER, GRAPH, OPENVINO, THEIRS = (
    "plain torch", "compiled attention", "ONNX Runtime", "OpenVINO", "transformers in ONNX Runtime"
)  # fmt: skip
CLOSE = 2e-3  # of logits and boxes between ways; untrained weights


@contextmanager
def attention(kind: str) -> Any:
    """Which attention runs; it is asked once for a device."""
    before = os.environ.get("DETR_ATTENTION")
    os.environ["DETR_ATTENTION"] = kind
    live.cache_clear()
    try:
        yield
    finally:
        os.environ.pop("DETR_ATTENTION") if before is None else os.environ.update(DETR_ATTENTION=before)
        live.cache_clear()


def session(path: Path, profile: bool = False) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_profiling = profile
    options.profile_file_prefix = str(path.with_suffix(""))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def ways(folder: Path) -> tuple[dict[str, Way], Path, list[str]]:
    """The ways, our graph's file, and what could not be had."""
    torch.manual_seed(0)
    theirs, ours = transformers_model().eval(), build_model(SPEC).eval()
    load(ours, theirs.state_dict())
    images = torch.randn(1, 3, SIDE, SIDE)
    lean, graph, without = LeanDetector(ours, SIDE, SIDE), folder / "ours.onnx", []
    export(ours, graph, SIDE, SIDE, batch=1)
    mine = session(graph)

    @torch.inference_mode()
    def torch_way(kind: str) -> tuple[np.ndarray, np.ndarray]:
        with attention(kind):
            logits, boxes = lean(images)[:2]
        return logits.numpy(), boxes.numpy()

    def ort_way() -> tuple[np.ndarray, np.ndarray]:
        logits, boxes = mine.run(["pred_logits", "pred_boxes"], {"inputs": images.numpy()})
        return logits, boxes

    found: dict[str, Way] = {
        PLAIN: lambda: torch_way("torch"), EAGER: lambda: torch_way("compiled"), GRAPH: ort_way
    }  # fmt: skip
    for name, make in ((OPENVINO, openvino_way), (THEIRS, theirs_way)):
        try:
            found[name] = make(graph, theirs, images, folder)
        except Exception as error:
            without.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:300]}")
    return found, graph, without


def openvino_way(graph: Path, theirs: torch.nn.Module, images: torch.Tensor, folder: Path) -> Way:
    from model.deploy.openvino import package

    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = package().Core().compile_model(str(graph), "CPU", hints)

    def run() -> tuple[np.ndarray, np.ndarray]:
        found = model({"inputs": images.numpy()})
        return found["pred_logits"], found["pred_boxes"]

    return run


def theirs_way(graph: Path, theirs: torch.nn.Module, images: torch.Tensor, folder: Path) -> Way:
    class Pictured(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = theirs

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            present = torch.ones(1, SIDE, SIDE, dtype=torch.long)
            found = self.network(pixels, present)
            return found.logits, found.pred_boxes

    path = folder / "theirs.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Pictured().eval(), (images,), str(path), dynamo=True, input_names=["inputs"],
            output_names=["logits", "boxes"], verbose=False, optimize=False,  # that leaves a node without its input
        )  # fmt: skip
    run = session(path)

    def way() -> tuple[np.ndarray, np.ndarray]:
        logits, boxes = run.run(["logits", "boxes"], {"inputs": images.numpy()})
        return logits, boxes

    return way


def check(found: dict[str, Way]) -> dict[str, float]:
    """Largest difference of each way to plain torch. Raises `RuntimeError` above `CLOSE`."""
    wanted = found[PLAIN]()
    apart = {
        name: max(float(np.abs(a - b).max()) for a, b in zip(way(), wanted, strict=True))
        for name, way in found.items()
    }
    if max(apart.values()) > CLOSE:
        raise RuntimeError(f"the ways do not agree: {apart}")
    return apart


def timed(found: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """ms of processor time of each way in each round, of all the process's threads."""
    ms: dict[str, list[float]] = {name: [] for name in found}
    for number in range(rounds):
        for name in np.random.default_rng(number).permutation(list(found)):
            found[str(name)]()
            began = time.process_time()
            found[str(name)]()
            ms[str(name)].append((time.process_time() - began) * 1e3)
    return ms


def profile(graph: Path, runs: int = 4) -> dict[str, Any]:
    """Where ONNX Runtime spends a run: ms by kind of node, and by the part of the network its name begins with."""
    opened = session(graph, profile=True)
    images = np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE), np.float32)
    for _ in range(runs):
        opened.run(["pred_logits", "pred_boxes"], {"inputs": images})
    events = json.loads(Path(opened.end_profiling()).read_text())
    kinds: dict[str, float] = defaultdict(float)
    parts: dict[str, float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kinds[event["args"]["op_name"]] += event["dur"] / 1e3 / runs
            parts[part(event["name"])] += event["dur"] / 1e3 / runs

    def largest(table: dict[str, float]) -> dict[str, float]:
        return {k: round(v, 1) for k, v in sorted(table.items(), key=lambda item: -item[1])[:14]}

    return {"by_kind_ms": largest(kinds), "by_part_ms": largest(parts)}


def part(node: str) -> str:
    """backbone, encoder attention, encoder rest, decoder, ..."""
    words = node.replace("detector.", "").removesuffix("_kernel_time").lstrip("/").split("/")[0].split(".")
    if "encoder" in words or "decoder" in words:
        side = "encoder" if "encoder" in words else "decoder"
        attends = any("attn" in word or "attention" in word for word in words)
        return f"{side}, {'attention' if attends else 'rest'}"
    return words[0]


def main(rounds: int, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    found, graph, without = ways(folder)
    apart = check(found)
    ms = timed(found, rounds)
    names = list(found)
    ratio = {
        name: [plain / other for plain, other in zip(ms[PLAIN], ms[name], strict=True)] for name in names
    }
    return {
        "side": SIDE, "threads": 1, "rounds": rounds, "time": "of the processor", "kernel": live("cpu")[1],
        "largest_difference_to_plain_torch": apart, "could_not_be_had": without,
        "ms": {name: {"median": round(statistics.median(v), 1), "least": round(min(v), 1)} for name, v in ms.items()},
        "times_as_fast_as_plain_torch": {
            name: {
                "median": round(statistics.median(v), 2),
                "quartiles": [round(q, 2) for q in np.quantile(v, (0.25, 0.75)).tolist()],
            }
            for name, v in ratio.items()
        },
        "profile": profile(graph),
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--work", type=Path, help="where the graphs stay; default: nowhere")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = asked.work or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        results = {"machine": describe(), **main(asked.rounds, place)}
    text = json.dumps(results, indent=1)
    (HERE / "results.json").write_text(text + "\n")
    print(text)
