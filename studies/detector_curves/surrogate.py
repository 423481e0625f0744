"""The recorded curves of `make demo`'s task as an objective that searches can be played on.

    python -m studies.detector_curves.surrogate          its error on configurations left out
    python -m studies.search.run --on recorded ...       searches played on it

A Gaussian process over (configuration, epoch), on the log-odds of the mAP less their mean at that epoch:
Matern 5/2 over the configuration, constant plus one that changes with the logarithm of the epoch; the same two without
the configuration for each training, which is what two trainings of one configuration differ by; and noise of an epoch.
Its numbers maximise the likelihood. It is fitted to searches.jsonl and to the rows `near` of curves.jsonl.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from automl.fgp.cube import Cube
from automl.space.cli import read_space

HERE = Path(__file__).resolve().parent
EPOCHS = 12
AT = (1, 2, 3, 4, 5, 6, 8, 10, 12)  # epochs that are fitted
STEPS, LEAST = 120, 0.002
FOLDS = 5
GOOD = 0.8  # of mAP: where a search ends


@dataclass(frozen=True)
class Training:
    """One: its place in the space, and mAP by epoch as far as it went."""

    point: np.ndarray[Any, Any]
    curve: tuple[float, ...]
    source: str


@cache
def space_and_cube() -> tuple[Any, Cube]:
    """What `make demo` searches."""
    space = read_space(None, "deformable_detr", None, None, None, "tao", "demo")
    return space, Cube.of(space, [])


def trainings() -> list[Training]:
    """What was recorded on the task with the seed that searches train with; the default of each search is one training.
    Another seed lifts all configurations together, which no search sees."""
    rows = [json.loads(line) for line in (HERE / "searches.jsonl").read_text().splitlines()]
    found = [(row["params"], row["curve"], row["search"]) for row in rows]
    for line in (HERE / "curves.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["task"] == "near" and row["seed"] == 0 and row["code"] == 0:
            found.append((row["params"], [record["val_mAP"] for record in row["records"]], "near"))
    space, cube = space_and_cube()
    return [Training(_point(space, cube, params), tuple(curve), source) for params, curve, source in found]


def _point(space: Any, cube: Cube, params: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """A rounded value may lie a hair outside its range; the nearest place inside is meant."""
    ends = {
        p.name: (p.low, p.high) for p in space.widest.parameters if p.kind == "float" and p.low is not None
    }
    moved = {n: min(max(v, ends[n][0]), ends[n][1]) if n in ends else v for n, v in params.items()}
    return cube.point(space.widest.enqueue_params(moved))


def _odds(values: Any) -> Any:
    clipped = np.clip(values, LEAST, 1 - LEAST)
    return np.log(clipped / (1 - clipped))


class Surrogate:
    """The process given trainings: its mean of the log-odds, and what trainings differ by."""

    def __init__(self, given: Sequence[Training], numbers: torch.Tensor | None = None) -> None:
        self.options = torch.tensor(space_and_cube()[1].options)
        rows = [(t.point, e, i, t.curve[e - 1]) for i, t in enumerate(given) for e in AT if e <= len(t.curve)]
        whole = np.array([t.curve for t in given if len(t.curve) == EPOCHS])
        self.level = np.median(_odds(whole), axis=0)
        self.x = torch.tensor(np.array([row[0] for row in rows]))
        self.e = torch.tensor([math.log(row[1]) for row in rows], dtype=torch.float64)
        self.run = torch.tensor([row[2] for row in rows])
        self.z = torch.tensor([_odds(row[3]) - self.level[row[1] - 1] for row in rows], dtype=torch.float64)
        self.numbers = self._fitted() if numbers is None else numbers
        with torch.no_grad():
            factor = torch.linalg.cholesky(self._covariance(self.numbers))
            self.weights = torch.cholesky_solve(self.z[:, None], factor)[:, 0]

    def _start(self) -> torch.Tensor:
        """Logarithms of: length of each axis, of epochs; sd of both parts, of both of a training, of an epoch."""
        return torch.tensor([*[0.0] * self.x.shape[1], 0.0, 0.0, -0.5, -2.0, -1.5, -2.0], dtype=torch.float64)

    def _kernels(
        self, a: torch.Tensor, ea: torch.Tensor, b: torch.Tensor, eb: torch.Tensor, numbers: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(of configurations, of one training), (n, m) each."""
        *_, length_e, whole, changing, run, run_changing, _ = numbers
        lengths = numbers[: a.shape[1]].exp()
        off = a[:, None] - b[None]
        off = torch.where(self.options, (off != 0).double(), off) / lengths
        r = (off.square().sum(-1) + 1e-12).sqrt() * math.sqrt(5)
        near = (1 + r + r * r / 3) * torch.exp(-r)
        time = torch.exp(-0.5 * ((ea[:, None] - eb[None]) / length_e.exp()).square())
        over = (2 * whole).exp() + (2 * changing).exp() * time
        return near * over, (2 * run).exp() + (2 * run_changing).exp() * time

    def _covariance(self, numbers: torch.Tensor) -> torch.Tensor:
        between, within = self._kernels(self.x, self.e, self.x, self.e, numbers)
        same = self.run[:, None] == self.run[None]
        return between + within * same + (2 * numbers[-1]).exp() * torch.eye(len(self.z))

    def _fitted(self) -> torch.Tensor:
        numbers = self._start().requires_grad_()
        optimizer = torch.optim.Adam([numbers], lr=0.05)
        start = self._start()
        for _ in range(STEPS):
            optimizer.zero_grad()
            factor = torch.linalg.cholesky(self._covariance(numbers))
            solved = torch.linalg.solve_triangular(factor, self.z[:, None], upper=False)
            loss = 0.5 * solved.square().sum() + factor.diagonal().log().sum()
            loss = loss + 0.5 * (numbers - start).square().sum()  # a standard normal prior on each logarithm
            loss.backward()
            optimizer.step()
        return numbers.detach()

    def at(self, points: np.ndarray[Any, Any], epochs: Sequence[int]) -> Any:
        """(n, epochs) mean of the log-odds that configurations have, without what trainings differ by."""
        a = torch.tensor(np.repeat(points, len(epochs), 0))
        e = torch.tensor([math.log(epoch) for epoch in epochs] * len(points), dtype=torch.float64)
        with torch.no_grad():
            cross, _ = self._kernels(a, e, self.x, self.e, self.numbers)
        level = np.array([self.level[epoch - 1] for epoch in epochs])
        return (cross @ self.weights).numpy().reshape(len(points), -1) + level

    @property
    def noises(self) -> list[float]:
        """sd of what trainings differ by: at all epochs alike, changing, of an epoch alone."""
        return list(self.numbers[-3:].exp().tolist())

    @property
    def length_e(self) -> float:
        return float(self.numbers[-6].exp())


def share(odds: Any) -> Any:
    return 1 / (1 + np.exp(-odds))


@cache
def fitted() -> Surrogate:
    """The process given all; its numbers are kept beside, as they take a minute."""
    every, path = trainings(), HERE / "surrogate.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    numbers = kept.get("numbers") if kept.get("trainings") == len(every) else None
    made = Surrogate(every, None if numbers is None else torch.tensor(numbers, dtype=torch.float64))
    if numbers is None:
        path.write_text(json.dumps({"trainings": len(every), "numbers": made.numbers.tolist()}) + "\n")
    return made


class Recorded:
    """The task of `make demo`: what `studies.search.run` plays on. The seed draws what trainings differ by."""

    epochs = EPOCHS
    name = "recorded demo"

    def __init__(self, seed: int) -> None:
        self.space, self.cube = space_and_cube()
        self.seed, self.model = seed, fitted()
        self.default, self.best = self.true(self.space.default), ceiling()

    def _mean(self, params: Mapping[str, Any]) -> Any:
        point = self.cube.point(self.space.widest.enqueue_params(params))
        return self.model.at(point[None], range(1, EPOCHS + 1))[0]

    def true(self, params: Mapping[str, Any]) -> float:
        return float(share(self._mean(params)[-1]))

    def curve(self, params: Mapping[str, Any], trial: int) -> list[float]:
        rng = np.random.default_rng([self.seed, 7, trial])
        alike, changing, alone = self.model.noises
        e = np.log(np.arange(1, EPOCHS + 1))
        time = np.exp(-0.5 * ((e[:, None] - e[None]) / self.model.length_e) ** 2)
        root = np.linalg.cholesky(time + 1e-8 * np.eye(EPOCHS))
        noise = alike * rng.standard_normal() + changing * root @ rng.standard_normal(EPOCHS)
        noise = noise + alone * rng.standard_normal(EPOCHS)
        return [float(v) for v in share(self._mean(params) + noise)]

    def loss(self, value: float) -> float:
        """1 the default, 0 the best there is: the part of the way still to go."""
        return (self.best - value) / (self.best - self.default)


@cache
def ceiling() -> float:
    """The best that 4,000 draws and climbs from the 20 best of them find, without what trainings differ by."""
    _, cube = space_and_cube()
    rng, model = np.random.default_rng(0), fitted()
    points = np.concatenate([cube.near_default(rng, 1000, f) for f in (0.3, 0.6, 1.0, 1.5)])
    points = np.concatenate([points, np.array([t.point for t in trainings()])])
    value = model.at(points, [EPOCHS])[:, 0]
    points, value = points[np.argsort(-value)[:20]], np.sort(value)[::-1][:20]
    for step in range(60):
        near = cube.moved(rng, np.repeat(points, 20, 0), 0.1 * 0.95**step, 0.5, cube.ends())
        found = model.at(near, [EPOCHS]).reshape(len(points), -1)
        near, best = near.reshape(len(points), 20, -1), found.argmax(1)
        better = found.max(1) > value
        points[better], value[better] = near[np.arange(len(points)), best][better], found.max(1)[better]
    return float(share(value.max()))


def left_out(every: Sequence[Training], numbers: torch.Tensor) -> list[tuple[float, float, str]]:
    """(measured, predicted, source) of the ends of whole trainings, each by a process without its fifth. The numbers
    are those of all: it is the prediction that is judged, at a fifth of the time."""
    fold = np.random.default_rng(0).permutation(len(every)) % FOLDS
    told: list[tuple[float, float, str]] = []
    for left in range(FOLDS):
        part = Surrogate([t for t, f in zip(every, fold, strict=True) if f != left], numbers)
        out = [t for t, f in zip(every, fold, strict=True) if f == left and len(t.curve) == EPOCHS]
        mean = share(part.at(np.array([t.point for t in out]), [EPOCHS])[:, 0])
        told += [(t.curve[-1], float(m), t.source) for t, m in zip(out, mean, strict=True)]
    return told


def text(told: Sequence[tuple[float, float, str]]) -> str:
    """How far they are off, and whether they are in the right order."""
    seen, said = (np.array([row[i] for row in told]) for i in (0, 1))
    off = said - seen
    ranks = np.corrcoef(np.argsort(np.argsort(said)), np.argsort(np.argsort(seen)))[0, 1]
    return f"{len(told)}, rms {np.sqrt((off**2).mean()):.3f}, bias {off.mean():+.3f}, rank correlation {ranks:.2f}"


def main() -> None:
    every, model = trainings(), fitted()
    told = left_out(every, model.numbers)
    print("all:", text(told))
    print(f"measured above {GOOD}:", text([row for row in told if row[0] > GOOD]))
    print("drawn from the prior:", text([row for row in told if row[2] == "near"]))
    names = [axis.name for axis in space_and_cube()[1].axes]
    lengths = dict(zip(names, np.round(model.numbers.exp().tolist(), 2).tolist(), strict=False))
    print("lengths:", lengths)
    print("sd of the log-odds (configurations; those by epoch; trainings; those by epoch; an epoch):")
    print(np.round(model.numbers[-5:].exp().tolist(), 3))
    one = Recorded(0)
    print(f"{len(every)} trainings; the default {one.default:.4f}, the best {one.best:.4f}")


if __name__ == "__main__":
    main()
