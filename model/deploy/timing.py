"""Latency of model files on this machine, batch 1: each has its turn in every round, so that what else happens on the
machine meets all of them; a turn begins with images that do not count, and pauses let the processor cool."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.deploy.calibration import load_image
from model.deploy.runner import Runner
from model.postprocess import postprocess
from model.told import counted

WARM_UP = 3  # images of a turn that do not count
PAUSE_S = 0.1  # before a turn


@dataclass(frozen=True)
class Times:
    """ms an image: the median from file to boxes with its tenth and ninetieth hundredths, and of the network alone."""

    whole: float
    low: float
    high: float
    network: float


def measure(
    runners: Mapping[Any, Callable[[], Runner]], images: Sequence[Path], spec: Mapping[str, Any], rounds: int,
    runs: int, warm_up: int = WARM_UP, quiet: bool = False,
) -> dict[Any, Times]:  # fmt: skip
    """{key: Times} of every runner, opened anew for each of its turns. How many turns are done is said, or `quiet`."""
    taken: dict[Any, list[tuple[float, float]]] = {key: [] for key in runners}
    keys = list(runners)
    # No two points are neighbours always.
    turns = [keys[i] for n in range(rounds) for i in np.random.default_rng(n).permutation(len(keys))]
    for key in counted(turns, "timing turns", len(turns), quiet):
        taken[key] += turn(runners[key], images, spec, runs, warm_up)
    return {key: _times(np.array(values) * 1e3) for key, values in taken.items()}


def turn(
    opened: Callable[[], Runner],
    images: Sequence[Path],
    spec: Mapping[str, Any],
    runs: int,
    warm_up: int = WARM_UP,
) -> list[tuple[float, float]]:
    """Seconds (from file to boxes, of the network) of `runs` images after those that do not count."""
    runner = opened()
    time.sleep(PAUSE_S)
    return [_once(runner, images[i % len(images)], spec) for i in range(warm_up + runs)][warm_up:]


def _once(runner: Runner, image: Path, spec: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds (from file to boxes, of the network)."""
    began = time.perf_counter()
    pixels, original = load_image(image, spec, runner.size)
    batch = torch.from_numpy(pixels)[None]
    mask = torch.zeros(1, *pixels.shape[1:], dtype=torch.bool)
    read = time.perf_counter()
    outputs = runner.infer(batch, mask)
    ran = time.perf_counter()
    postprocess(outputs, [original], spec["model"]["num_select"])
    return time.perf_counter() - began, ran - read


def _times(ms: np.ndarray) -> Times:
    low, middle, high = np.percentile(ms[:, 0], [10, 50, 90]).tolist()
    return Times(middle, low, high, float(np.median(ms[:, 1])))
