"""Searches against each other on the same work. One line of JSON a search, appended to rows.jsonl.

    OMP_NUM_THREADS=1 nice python -m studies.search.run --on lcbench --tasks held-out --seeds 12 \
        [--arms fgp,tpe+halving,gp,random] [--default good|poor|bad] [--workers 1] [--trainings 30]

A search is played by the engine's own Study, samplers, schedulers and budgets on a virtual clock, as the driver and
ReplayExecutor would; only folders and files are left out. What is reported at a budget below the last is what the same
search had found by then; `--each` searches anew for each budget, which then is spent to its end.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from automl import schedulers
from automl.budget import Limits, Time
from automl.space import SearchSpace
from automl.space.codecs import Number
from automl.study import DEFAULT, Study
from automl.trials import KEPT_TRIALS
from studies import machine
from studies.search.families import FAMILIES
from studies.search.objectives import HELD_OUT, TUNED, Detector, LCBench

HERE = Path(__file__).resolve().parent
BUDGETS = (5, 8, 10, 20, 30)
ARMS = {  # sampler, scheduler, whether the default comes first; kept: no range is left; once: nothing goes on again
    "fgp": ("fgp", "fgp", True),
    "fgp-kept": ("fgp", "fgp", True),
    "fgp-once": ("fgp", "fgp", True),
    "tpe+halving": ("tpe", "halving", True),
    "random+asha": ("random", "asha", True),
    "gp": ("gp", "none", True),
    "random": ("random", "none", False),
}


def kept(space: SearchSpace) -> SearchSpace:
    """The same whose ranges are never widened."""
    codecs = ((p, p.codec) for p in space.parameters)
    parameters = [
        replace(p, codec=replace(codec, range=replace(codec.range, reach=())))
        if isinstance(codec, Number)
        else p
        for p, codec in codecs
    ]
    return replace(space, parameters=tuple(parameters))


class Played:
    """One search. `found` holds, after so many epochs of all trials, the best value observed. `earlier` trials teach
    it, of which the `best` configuration comes after the default."""

    def __init__(
        self, arm: str, objective: Any, workers: int, trainings: int, seed: int,
        earlier: Sequence[optuna.trial.FrozenTrial] = (), best: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        sampler, scheduler, default_first = ARMS[arm]
        self.objective, self.workers, self.epochs = objective, workers, objective.epochs
        storage = optuna.storages.InMemoryStorage()
        space = kept(objective.space) if arm.endswith("kept") else objective.space
        fixed = [dict(each) for each in (space.default, best) if each] if default_first else []
        self.sign = float(getattr(objective, "sign", 1.0))
        self.study = Study(storage, "played", space, sampler, seed, self.sign > 0, fixed, earlier)
        self.resumable = not arm.endswith("once")
        self.scheduler, self.default_first, self.now = schedulers.make(scheduler), default_first, 0.0
        self.limits, self.time_s, self.cut = Limits(trainings=trainings), math.inf, 0
        if getattr(objective, "timed", False):
            self.limits = Limits()
            self.time_s = trainings * self.epochs * objective.cost(objective.space.default) / workers
        self.costs: dict[int, float] = {}  # number -> seconds of its epochs
        self.curves: dict[int, list[float]] = {}
        self.fails: dict[int, int | None] = {}  # number -> the epoch in which it fails
        self.found: list[float] = []
        self.ask_s: list[float] = []
        self.decide_s: list[float] = []
        self._play()

    def _play(self) -> None:
        events: list[tuple[float, int, int]] = []
        while True:
            while len(events) < self.workers and (number := self._next()) is not None:
                heapq.heappush(events, (self.now + self.costs[number], number, self.study.epochs_of(number)))
            if not events:
                break
            self.now, number, epoch = heapq.heappop(events)
            if self.now > self.time_s:
                self.cut += 1
                self.study.tell(number, "PRUNED", "the time is used up")
            elif not self._over(number, epoch):
                heapq.heappush(events, (self.now + self.costs[number], number, epoch + 1))
        for number, _ in self.study.paused().items():
            self.study.tell(number, "PRUNED", "the end")
        best = [b.number for b in self.study.leaders(KEPT_TRIALS) if b.complete]
        named = self.scheduler.winner(self.study.view(), best) if len(best) > 1 else None
        if named is not None:
            self.study.name_winner(named)

    def _time_left(self) -> Time | None:
        """As the driver has it."""
        if self.time_s == math.inf or self.study.epochs_trained < self.epochs:
            return None
        at_a_time = max(self.workers, len(self.study.going))
        return Time.of(max(0.0, self.time_s - self.now), self.now, self.study.epochs_trained, at_a_time)

    def _next(self) -> int | None:
        if self.now >= self.time_s:
            return None
        self.study.budget = self.limits.left(self.study, self.epochs, self._time_left())
        before = time.process_time()
        number = self.scheduler.promote(self.study.view())
        if number is not None:
            left = self.epochs - self.study.epochs_of(number)
            if left <= self.study.budget.free:
                self.study.set_paused(number, -1)
                self.ask_s.append(time.process_time() - before)
                return number
        if not self.study.budget.new:
            return None
        number, params = self.study.ask()
        self.ask_s.append(time.process_time() - before)
        whole = {**self.objective.space.default, **params}
        self.curves[number] = self.objective.curve(whole, number)
        self.costs[number] = self.objective.cost(whole) if self.time_s < math.inf else 1.0
        self.fails[number] = self.objective.fails(whole, number) if hasattr(self.objective, "fails") else None
        return number

    def _report(self, number: int, epoch: int) -> None:
        value = self.curves[number][epoch]
        if self.time_s < math.inf:
            self.study.note(number, timed_s=self.costs[number] * (epoch + 1), timed=epoch + 1)
        self.study.report(number, epoch, self.sign * value)
        self.found.append(max([value, *self.found[-1:]]))

    def _over(self, number: int, epoch: int) -> bool:
        if self.fails[number] == epoch:
            self.found += self.found[-1:]
            self.study.tell(number, "FAIL", "failed")
            return True
        self._report(number, epoch)
        if epoch + 1 >= self.epochs:
            self.study.tell(number, "COMPLETE", "")
            return True
        if number == DEFAULT and self.default_first:
            return False
        self.study.budget = self.limits.left(self.study, self.epochs, self._time_left())
        before = time.process_time()
        verdict = self.study.decide(number, epoch, self.scheduler, self.epochs, self.resumable)
        self.decide_s.append(time.process_time() - before)
        if verdict is None:
            return False
        if verdict.action == "pause" and self.resumable:
            self.study.set_paused(number, epoch)
        else:
            self.study.tell(number, "PRUNED", verdict.reason)
        return True

    def observed(self, trainings: int) -> float:
        """The best value seen within the epochs of so many trainings, or at the end where time is the budget."""
        return self.found[-1 if self.time_s < math.inf else min(trainings * self.epochs, len(self.found)) - 1]

    def winner(self) -> float:
        """The true value at its end of the trial that would be handed over."""
        best = self.study.best()
        assert best is not None
        return float(self.objective.true({**self.objective.space.default, **best.params}))


def row(arm: str, objective: Any, workers: int, trainings: int, seed: int) -> dict[str, Any]:
    """One search as it is kept: regrets (or the part of the way still to go) at each budget, its winner's, times."""
    played = Played(arm, objective, workers, trainings, seed)
    asks = sorted(played.ask_s)
    states = [t.state.name for t in played.study.trials()]
    return {
        "arm": arm, "objective": objective.name, "workers": workers, "trainings": trainings, "seed": seed,
        "loss_at": {n: round(objective.loss(played.observed(n)), 4) for n in BUDGETS if n <= trainings},
        "loss_of_winner": round(objective.loss(played.winner()), 4),
        "configurations": len(states), "cut": played.cut, "complete": states.count("COMPLETE"),
        "epochs": played.study.epochs_reported, "winner": played.study.best().number,
        "ask_ms": [round(1e3 * asks[int(q * (len(asks) - 1))], 1) for q in (0.5, 0.9, 1.0)],
        "decide_ms_mean": round(1e3 * sum(played.decide_s) / max(1, len(played.decide_s)), 2),
    }  # fmt: skip


def objectives(arguments: argparse.Namespace, first: int = 0) -> Iterator[tuple[int, Any]]:
    """(seed, objective) of what was asked for."""
    seeds = range(first, first + arguments.seeds)
    if arguments.on == "lcbench":
        tasks = {"tuned": TUNED, "held-out": HELD_OUT}[arguments.tasks][: arguments.most]
        for seed in seeds:
            for task in tasks:
                yield seed, LCBench(task, arguments.default)
    elif arguments.on == "recorded":
        from studies.detector_curves.surrogate import Recorded

        for seed in seeds:
            yield seed, Recorded(seed)
    elif arguments.on == "written":
        for seed in seeds:
            for name in arguments.families.split(","):
                yield seed, FAMILIES[name](seed)
    else:
        for seed in seeds:
            moved = {"good": 0.0, "poor": 0.25, "bad": 0.5, "far": 1.0}[arguments.default]
            yield seed, Detector(seed, moved, arguments.epochs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on", choices=("lcbench", "detector", "recorded", "written"), default="lcbench")
    parser.add_argument("--families", default=",".join(FAMILIES), help="of the written ones (families.py)")
    parser.add_argument("--tasks", choices=("tuned", "held-out"), default="tuned")
    parser.add_argument("--most", type=int, default=99, help="tasks")
    parser.add_argument("--default", choices=("good", "poor", "bad", "far"), default="good")
    parser.add_argument("--epochs", type=int, default=9, help="of a detector's training")
    parser.add_argument("--arms", default="fgp,tpe+halving,random")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--trainings", type=int, default=30)
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "rows.jsonl")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    budgets = [n for n in BUDGETS if n <= arguments.trainings] if arguments.each else [arguments.trainings]
    about = machine.describe()
    with arguments.out.open("a") as file:
        file.write(json.dumps({"machine": about, "default": arguments.default}) + "\n")
        for seed, objective in objectives(arguments, arguments.first):
            for arm in arguments.arms.split(","):
                for trainings in budgets:
                    found = row(arm, objective, arguments.workers, trainings, seed)
                    file.write(
                        json.dumps({**found, "default": arguments.default, "tasks": arguments.tasks}) + "\n"
                    )
                    file.flush()


if __name__ == "__main__":
    main()
