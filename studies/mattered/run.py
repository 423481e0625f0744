"""Does "What mattered" name what matters? Searches of sixty trials on objectives whose truth is known or can be drawn.

    OMP_NUM_THREADS=1 nice python -m studies.mattered.run --on known,lcbench,detector --seeds 6

The truth is what each parameter does by itself over the whole space, from 1,500 random configurations trained to their
end. Trials are judged as the report does it (`told`), by the finished alone (`finished`), and all at an epoch that
nearly all reached (`common`). One line of JSON a search and way, appended to rows.jsonl; the means are printed.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna

from automl.budget import Limits
from automl.report import mattered
from automl.report.mattered import Mattered, Searched, Tried
from automl.space import SearchSpace, compile_space
from automl.space.leaf import is_number
from studies.search import run as searches
from studies.search.objectives import TUNED, Detector, LCBench
from tests.automl import known

HERE = Path(__file__).resolve().parent
ARMS = {"fgp": ("fgp", "fgp", True), "tpe+halving": ("tpe", "halving", True), "tpe": ("tpe", "none", True),
        "random": ("random", "none", True)}  # fmt: skip
TRIALS, REFERENCE, LEVELS = 60, 1500, 10
NOTHING = 0.01  # a true share below which a name is a false one


class Known:
    """The objective of the tests: three of twelve parameters have an effect."""

    name, epochs = "known", known.EPOCHS

    def __init__(self, seed: int) -> None:
        properties: dict[str, Any] = known.SCHEMA["properties"]  # type: ignore[assignment]
        self.seed = seed
        self.space = compile_space(known.SCHEMA, {name: part["default"] for name, part in properties.items()})

    def curve(self, params: Mapping[str, Any], trial: int) -> list[float]:
        return known.rise(known.quality(dict(params), self.seed * 1000 + trial))


class OfTrials(searches.Played):
    """A search that ends by its trials."""

    def _play(self) -> None:
        self.limits = Limits(trials=TRIALS)
        super()._play()


def truth(objective: Any) -> dict[str, float]:
    """{parameter: share of the variance that goes with it by itself}, by tenths of its values."""
    drawn = objective.space.sample(REFERENCE, seed=7)
    ends = [max(objective.curve({**objective.space.default, **p}, 100_000 + n)) for n, p in enumerate(drawn)]
    y = (np.array(ends) - np.mean(ends)) / np.std(ends)
    return {name: _explained([p.get(name) for p in drawn], y) for name in drawn[0]}


def _explained(column: Sequence[Any], y: np.ndarray) -> float:
    if all(map(is_number, column)) and len(set(column)) > LEVELS:
        cuts = np.quantile(np.array(column, float), np.linspace(0, 1, LEVELS + 1)[1:-1])
        group = np.searchsorted(cuts, np.array(column, float)).tolist()
    else:
        group = [repr(v) for v in column]
    masks = [np.array([g == level for g in group]) for level in set(group)]
    return float(sum(m.mean() * y[m].mean() ** 2 for m in masks) - len(masks) / len(y))


def searched(space: SearchSpace) -> dict[str, Searched]:
    """As the report reads it from run.json."""
    return {
        row["name"]: Searched(
            row["low"], row["high"], row["log"], tuple(filter(is_number, row["choices"] or ()))
        )
        for row in (parameter.record() for parameter in space.parameters)
    }


def ways(trials: list[Tried], space: Mapping[str, Searched]) -> Iterator[tuple[str, Mattered]]:
    yield "told", mattered.judge(trials, space)
    yield "common", mattered.judge([replace(t, finished=False) for t in trials], space)
    with patch.object(mattered, "PER_PARAMETER", 0):
        yield "finished", mattered.judge([t for t in trials if t.finished], space)


def rows(objective: Any, arm: str, seed: int, true: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    searches.ARMS[arm] = ARMS[arm]
    played = OfTrials(arm, objective, 1, TRIALS, seed).study.trials()
    curves = [(t, [v for _, v in sorted(t.intermediate_values.items())]) for t in played]
    trials = [
        Tried(t.user_attrs["params"], np.maximum.accumulate(curve).tolist(), t.state.name == "COMPLETE")
        for t, curve in curves
        if curve
    ]
    order = sorted(true, key=lambda name: -true[name])
    for way, found in ways(trials, searched(objective.space)):
        named = [s for s in found.shares if s.found]
        judged = [s for s in found.shares if s.name in true]
        yield {
            "objective": objective.name, "arm": arm, "seed": seed, "way": way, "trials": found.trials,
            "epoch": found.epoch, "of_first_three": sum(s.name in order[:3] for s in named),
            "in_order": [s.name for s in named[:3]] == order[:3], "named": len(named),
            "false": sum(true[s.name] < NOTHING for s in named),
            "rank_correlation": _ranks_agree([true[s.name] for s in judged], [s.share for s in judged]),
            "within": float(np.mean([s.low <= true[s.name] <= s.high for s in named])) if named else None,
        }  # fmt: skip


def _ranks_agree(a: Sequence[float], b: Sequence[float]) -> float | None:
    if len(a) < 3:
        return None
    ranks = [np.argsort(np.argsort(v)) for v in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def objectives(on: str, seeds: int) -> Iterator[tuple[int, Any]]:
    if on == "lcbench":
        yield from ((0, LCBench(task, "good")) for task in TUNED)
    else:
        yield from ((seed, Known(seed) if on == "known" else Detector(seed)) for seed in range(seeds))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on", default="known,lcbench,detector")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--out", type=Path, default=HERE / "rows.jsonl")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    means: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    with arguments.out.open("a") as file:
        for on in arguments.on.split(","):
            for seed, objective in objectives(on, arguments.seeds):
                true = truth(objective)
                for arm in ARMS:
                    for row in rows(objective, arm, seed, true):
                        means[on, arm, row["way"]].append(row)
                        file.write(json.dumps(row) + "\n")
                        file.flush()
    for key, group in sorted(means.items()):
        print(
            *key, len(group), *(f"{name} {_mean(group, name):.2f}" for name in group[0] if name in MEASURED)
        )


MEASURED = ("trials", "of_first_three", "in_order", "named", "false", "rank_correlation", "within")


def _mean(group: Sequence[Mapping[str, Any]], name: str) -> float:
    known_ = [row[name] for row in group if row[name] is not None]
    return float(np.mean(known_)) if known_ else math.nan


if __name__ == "__main__":
    main()
