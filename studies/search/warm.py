"""What `--warm-start` brings: a search with the trials of an earlier one, on the same data or on other, beside one
without. One line of JSON a pair of searches, appended to warm.jsonl.

    OMP_NUM_THREADS=1 nice python -m studies.search.warm --on lcbench --tasks held-out --seeds 2 [--trainings 8]
        [--earlier 8]

The earlier search is `fgp` with `--earlier` trainings, on the same task or on the one before it in the list (`other`);
of written families on the same seed with other noise, or with the best moved by a tenth of a range.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from studies import machine
from studies.search.families import FAMILIES
from studies.search.objectives import HELD_OUT, TUNED, LCBench
from studies.search.run import Played

HERE = Path(__file__).resolve().parent
AT = (2, 3, 5, 8, 10, 20, 30)  # trainings
NOISE = 1000  # added to a trial's number, from which a written objective draws its noise
MOVED = 0.1  # of a range
FAMILY_NAMES = "plain,categorical,mixed,branching,coupled,steep"


class Again:
    """An objective of the same data, or of a bit `moved` ones, whose trainings have other noise."""

    def __init__(self, objective: Any, moved: bool) -> None:
        self.inner = copy.copy(objective)
        if moved:
            rng = np.random.default_rng(objective.seed + 99)
            ways = {name: MOVED * rng.standard_normal() for name in objective.best_at}
            self.inner.best_at = {
                n: float(np.clip(at + ways[n], 0.03, 0.97)) for n, at in objective.best_at.items()
            }

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def curve(self, params: Mapping[str, Any], trial: int) -> list[float]:
        return list(self.inner.curve(params, trial + NOISE))


def pairs(arguments: argparse.Namespace) -> Iterator[tuple[int, str, Any, Any]]:
    """(seed, same or other, earlier objective, objective)."""
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        if arguments.on == "lcbench":
            tasks = {"tuned": TUNED, "held-out": HELD_OUT}[arguments.tasks]
            for place, task in enumerate(tasks):
                objective = LCBench(task, arguments.default)
                yield seed, "same", objective, objective
                yield seed, "other", LCBench(tasks[place - 1], arguments.default), objective
        else:
            for name in arguments.families.split(","):
                objective = FAMILIES[name](seed)
                yield seed, "same", Again(objective, False), objective
                yield seed, "other", Again(objective, True), objective


def lessons(played: Played) -> tuple[list[optuna.trial.FrozenTrial], dict[str, Any]]:
    """What automl/warm_start.py brings of a search."""
    study = played.study
    ended = [t for t in study.trials() if t.state.name in ("COMPLETE", "PRUNED") and t.intermediate_values]
    best = study.best()
    assert best is not None
    return [
        create_trial(
            state=TrialState[t.state.name], value=study.result(t.number).value, params=t.params,
            distributions=t.distributions, user_attrs={"params": t.user_attrs["params"]},
            intermediate_values=t.intermediate_values,
        )
        for t in ended
    ], best.params  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on", choices=("lcbench", "written"), default="written")
    parser.add_argument("--families", default=FAMILY_NAMES)
    parser.add_argument("--tasks", choices=("tuned", "held-out"), default="tuned")
    parser.add_argument("--default", choices=("good", "bad"), default="good")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--trainings", type=int, default=8)
    parser.add_argument("--earlier", type=int, default=8, help="trainings of the earlier search")
    parser.add_argument("--out", type=Path, default=HERE / "warm.jsonl")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with arguments.out.open("a") as file:
        file.write(json.dumps({"machine": machine.describe(), "default": arguments.default}) + "\n")
        for seed, kind, before, objective in pairs(arguments):
            first = Played("fgp", before, arguments.workers, arguments.earlier, seed + 500)
            for earlier in ((), lessons(first)):
                played = Played("fgp", objective, arguments.workers, arguments.trainings, seed, *earlier)
                observed = {
                    n: round(objective.loss(played.observed(n)), 4) for n in AT if n <= arguments.trainings
                }
                found = {
                    "objective": objective.name, "data": kind, "seed": seed, "warm": bool(earlier),
                    "workers": arguments.workers, "trainings": arguments.trainings,
                    "earlier": arguments.earlier, "tasks": arguments.tasks,
                    "loss_of_winner": round(objective.loss(played.winner()), 4),
                    "loss_at": observed, "configurations": len(played.study.trials()),
                }  # fmt: skip
                file.write(json.dumps(found) + "\n")
                file.flush()


if __name__ == "__main__":
    main()
