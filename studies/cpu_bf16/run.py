"""Is bf16 a gain on a CPU that computes in it natively? Preset small, fp32 beside bf16: a training step, interleaved,
in processor time; and whole trainings, in processor time, with their test mAP. Adds a line to results.jsonl a run.

    python studies/cpu_bf16/run.py steps [--rounds 15]
    python studies/cpu_bf16/run.py train DATA {fp32,bf16} --work FOLDER [--seed 1] [--epochs 15]

DATA holds train/, val/ and test/ of a dataset. Processor time, so that other work on the machine tells little.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.build import build_criterion, build_model
from model.spec import resolve
from studies.bccd_from_scratch.run import PRESET, ours
from studies.machine import describe

HERE = Path(__file__).resolve().parent
PRECISIONS = ("fp32", "bf16")


def step(precision: str, channels_last: bool) -> Callable[[], float]:
    """One training step of preset small on a drawn batch of 2 images of 320x240, 8 objects each; returns its loss."""
    spec = resolve("train", yaml.safe_load(PRESET.read_text()))
    torch.manual_seed(0)
    network, criterion = build_model(spec).train(), build_criterion(spec)
    images, mask = torch.randn(2, 3, 240, 320), torch.zeros(2, 240, 320, dtype=torch.bool)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.contiguous(memory_format=torch.channels_last)
    targets = [
        {"labels": torch.randint(1, 4, (8,)), "boxes_cxcywh": 0.1 + 0.3 * torch.rand(8, 4)} for _ in range(2)
    ]
    weights = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-5, fused=True)

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = criterion(network(images, mask, targets), targets)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 0.1)
        optimizer.step()
        return float(loss.detach())

    return run


def steps(rounds: int) -> dict[str, Any]:
    """Processor milliseconds of a step on one thread, each way, after one that warms up; their first losses."""
    torch.set_num_threads(1)
    ways = {(p, c): step(p, c) for c in (False, True) for p in PRECISIONS}
    losses = {way: run() for way, run in ways.items()}
    assert max(losses.values()) - min(losses.values()) < 0.02 * min(losses.values()), losses
    ms: dict[tuple[str, bool], list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            began = time.process_time()
            run()
            ms[way].append(1e3 * (time.process_time() - began))
    plain = ms["fp32", False]
    return {
        "rounds": rounds,
        "ways": [
            {
                "precision": p, "channels_last": c, "first_loss": round(losses[p, c], 4),
                "ms": round(statistics.median(times), 1),
                "times_as_fast": round(statistics.median(a / b for a, b in zip(plain, times, strict=True)), 2),
            }
            for (p, c), times in ms.items()
        ],
    }  # fmt: skip


def train(data: str, precision: str, seed: int, epochs: int, work: Path) -> dict[str, Any]:
    """The command a user types, with all its processes; `cpu_s`: their processor seconds, with the final evaluation."""
    folder = work / f"{precision}_{seed}"
    folder.mkdir(parents=True)
    settings = {"train.seed": seed, "train.start": "scratch", "train.precision": precision}
    found = ours(data, settings, epochs, folder)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "precision": precision,
        "seed": seed,
        "cpu_s": round(used.ru_utime + used.ru_stime),
        **found,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    timed = parts.add_parser("steps")
    timed.add_argument("--rounds", type=int, default=15)
    trained = parts.add_parser("train")
    trained.add_argument("data")
    trained.add_argument("precision", choices=PRECISIONS)
    trained.add_argument("--seed", type=int, default=1)
    trained.add_argument("--epochs", type=int, default=15)
    trained.add_argument("--work", type=Path, required=True)
    asked = vars(parser.parse_args())
    part = asked.pop("part")
    result = {"part": part, **(steps(**asked) if part == "steps" else train(**asked)), "machine": describe()}
    text = json.dumps(result)
    print(text)
    with (HERE / "results.jsonl").open("a") as out:
        out.write(text + "\n")
