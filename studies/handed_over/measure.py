"""What is handed over against what was measured: the graph that stands alone beside our inference on 200 images, and
what the choice of layers by sensitivity brings a quantized graph beside minmax on everything. Writes results.json.

    automl run --demo --automl-policy off --executor local --epochs 30 --results-dir RUN
    python studies/handed_over/measure.py RUN [--images 200] [--rounds 5] [--out results.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.actions import export, quantize
from model.actions.evaluate import load_data, sources_of
from model.deploy import precision, scoring, standalone, survey, targets, timing
from model.deploy.calibration import load_image
from model.deploy.runners import OrtRunner
from model.postprocess import postprocess
from model.spec_file import load
from studies.machine import describe

DROPS = (0.01, 0.002)


def drawn(best: Path, folder: Path, count: int) -> Iterator[Path]:
    """Images of the run's test set, at sizes from 48 to 900 px, with noise on them."""
    spec = load("evaluate", best / "evaluate.yaml")
    known = sorted(Path(spec["dataset"]["test_data_sources"]["image_dir"]).glob("*.*"))
    for number in range(count):
        random = np.random.default_rng(number)
        width, height = (int(v) for v in random.integers(48, 901, 2))
        image = np.asarray(Image.open(known[number % len(known)]).convert("RGB").resize((width, height)))
        noisy = (image + random.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number}.png")
        yield folder / f"{number}.png"


def alone(best: Path, count: int) -> dict[str, Any]:
    """Largest differences between the graph that stands alone and our inference with the plain one."""
    import onnxruntime

    boxes, scores, compared, lost = 0.0, 0.0, 0, 0
    with tempfile.TemporaryDirectory() as text:
        whole = Path(text, "alone.onnx")
        export.run(
            load("export", best / "export.yaml", {"export.pre_post": True, "export.onnx_file": str(whole)})
        )
        session = onnxruntime.InferenceSession(str(whole), providers=["CPUExecutionProvider"])
        spec = load("inference", best / "inference.yaml", {"inference.checkpoint": str(best / "model.onnx")})
        runner = OrtRunner(str(best / "model.onnx"), torch.device("cpu"))
        for path in drawn(best, Path(text), count):
            pixels, original = load_image(path, spec, runner.size)
            outputs = runner.infer(torch.from_numpy(pixels)[None], torch.zeros(0))
            ours = postprocess(outputs, [original], spec["model"]["num_select"])[0]
            corners = ours["boxes_xyxy_px"].numpy()
            found = session.run(list(standalone.OUTPUTS), {"image": np.asarray(Image.open(path))[None]})
            scores = max(scores, float(np.abs(found[1][0] - ours["scores"].numpy()).max()))
            for corner, score, label in zip(
                corners, ours["scores"].tolist(), ours["labels"].tolist(), strict=True
            ):
                same = (found[2][0] == label) & (np.abs(found[1][0] - score) < 1e-5)
                if same.any():
                    boxes = max(boxes, float(np.abs(found[0][0][same] - corner).max(axis=1).min()))
                lost, compared = lost + int(not same.any()), compared + 1
    return {
        "images": count,
        "detections": compared,
        "without_a_partner": lost,
        "box_px": boxes,
        "score": scores,
    }


def rounded(best: Path, rounds: int) -> list[dict[str, Any]]:
    """Each graph with its mAP on validation, which chose, and on test, its bytes and latency."""
    spec = load("evaluate", best / "evaluate.yaml", {"evaluate.checkpoint": str(best / "model.onnx")})
    runner = OrtRunner(str(best / "model.onnx"), torch.device("cpu"))
    assert runner.size is not None
    data = {
        s: load_data(sources_of(spec | {"evaluate": {"split": s}}), spec, runner.classes)
        for s in ("val", "test")
    }
    batches = {split: scoring.Batches(each, runner.size, spec) for split, each in data.items()}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as text:
        files = {"FP32": best / "model.onnx", "FP16": Path(text, "fp16.onnx")}
        precision.to_fp16(files["FP32"], files["FP16"])
        kept: dict[str, list[str]] = {}
        for name, drop in (
            ("INT8, minmax on everything", None),
            *((f"INT8, max_drop {d:g}", d) for d in DROPS),
        ):
            leaves = {"quantize.model_path": str(best / "model.onnx"), "quantize.max_drop": drop,
                      "quantize.results_dir": str(Path(text, str(drop)))}  # fmt: skip
            made = quantize.run(load("quantize", best / "quantize.yaml", leaves))
            files[name], kept[name] = Path(made["file"]), made.get("stays_float", [])
        opened = {name: targets.opener("cpu", path) for name, path in files.items()}
        times = timing.measure(opened, survey.timed_images(data["val"]), spec, rounds, 20)
        for name, path in files.items():
            scored = {
                f"{split}_mAP": scoring.score_file(path, each, spec).mAP for split, each in batches.items()
            }
            rows.append({"form": name, **scored, "network_ms": times[name].network, "bytes": path.stat().st_size,
                         "stays_float": kept.get(name, [])})  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    options = parser.parse_args()
    results = describe() | {"packages": {name: version(name) for name in ("torch", "onnx", "onnxruntime")}}
    if options.images:
        results["standalone"] = alone(options.run / "best", options.images)
    results["quantized"] = rounded(options.run / "best", options.rounds)
    text = json.dumps(results, indent=1)
    options.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
