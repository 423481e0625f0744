"""Other packages' searches on the same work as run.py's. One line of JSON a search, appended to peers.jsonl;
a search that is there is not played again.

    OMP_NUM_THREADS=1 nice python -m studies.search.peers --arms smac-mf,smac-hpo,syne-ashacqr,neps-priorband \
        [--on detector | --tasks held-out] [--seeds 2] [--default good|poor|bad] [--trainings 30] [--workers 8]

    pip install smac syne-tune neural-pipeline-search     # none is needed by the product or its tests

Each is driven by its own asking and telling, in one process; as so many workers by a clock on which every epoch takes
the same: a worker that is free asks at once, and what the others train has not been told yet. It is told the space in
its own terms (log, whole, categories), the default, and the best accuracy a configuration has had by the epoch asked
for, which is what the search is judged by. A configuration that goes on costs only its new epochs. How each was set and
why: README.md.
"""

from __future__ import annotations

import argparse
import datetime
import heapq
import importlib.metadata
import itertools
import json
import logging
import random
import re
import shlex
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from studies.search.run import BUDGETS, objectives

HERE = Path(__file__).resolve().parent
REDUCTION = 3  # each package's own
FIRST_DRAWS = 5  # of SMAC's multi-fidelity, as in its example of epochs


# One configuration in training: it asks for the best value of a configuration's first so many epochs, is sent it, and
# may ask for more.
Training = Generator[tuple[Mapping[str, Any], int], float, None]


class Paid:
    """What one search has trained. `found` holds, after so many epochs, the best value observed."""

    def __init__(self, objective: Any, trainings: int, workers: int = 1) -> None:
        self.objective, self.limit, self.workers = objective, trainings * objective.epochs, workers
        self.curves: dict[str, list[float]] = {}
        self.params: dict[str, dict[str, Any]] = {}
        self.epochs: dict[str, int] = {}
        self.found: list[float] = []
        self.thought_s: list[float] = []
        self._events: list[tuple[float, int, Training, str, int]] = []
        self._started = 0

    @property
    def spent(self) -> bool:
        return len(self.found) >= self.limit

    def play(self, begin: Callable[[], Training]) -> None:
        """Begin trainings until the epochs are spent. What has been begun by then ends, unpaid."""
        now = 0.0
        while True:
            while len(self._events) < self.workers and not self.spent:
                self._started += 1
                self._go_on(now, self._started, begin(), None)
            if not self._events:
                return
            now, number, training, key, until = heapq.heappop(self._events)
            if self.epochs[key] < until:
                self._train(key)
            if self.epochs[key] < until:
                heapq.heappush(self._events, (now + 1, number, training, key, until))
            else:
                self._go_on(now, number, training, max(self.curves[key][:until]))

    def winner(self) -> float:
        """The true value of the configuration that has had the best."""
        best = max(self.curves, key=lambda key: max(self.curves[key][: self.epochs[key]]))
        return float(self.objective.true(self.params[best]))

    def _go_on(self, now: float, number: int, training: Training, value: float | None) -> None:
        before = time.process_time()
        try:
            params, until = training.send(value)  # type: ignore[arg-type]
        except StopIteration:
            return
        finally:
            self.thought_s.append(time.process_time() - before)
        key = self._key(params)
        heapq.heappush(self._events, (now + (self.epochs[key] < until), number, training, key, until))

    def _train(self, key: str) -> None:
        if not self.spent:
            self.found.append(max([self.curves[key][self.epochs[key]], *self.found[-1:]]))
        self.epochs[key] += 1

    def _key(self, params: Mapping[str, Any]) -> str:
        space = self.objective.space
        raws = {name: _plain(params[name]) for name, _ in _axes(space)}
        key = json.dumps(raws, sort_keys=True)
        if key not in self.curves:
            whole = space._drawn(lambda p, _, drawn: p.codec.decode([raws[_word(a)] for a in p.axes], drawn))
            self.curves[key] = self.objective.curve(whole, len(self.curves))
            self.params[key], self.epochs[key] = whole, 0
        return key


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _word(axis: Any) -> str:
    return re.sub(r"\W+", "_", axis.name)


def _axes(space: Any) -> Iterator[tuple[str, Any]]:
    """(name, axis) of all numbers that are drawn: of a value among several its index, of one that must not exceed
    another its share."""
    return ((_word(axis), axis) for p in space.parameters for axis in p.axes)


def _default(space: Any) -> dict[str, Any]:
    return {name: axis.centre for name, axis in _axes(space)}


def _ends(axis: Any) -> tuple[bool, bool, Any, Any]:
    """(whole, log, low, high)."""
    whole = axis.kind in ("whole", "index")
    return whole, axis.scale == "log", *map(int if whole else float, (axis.low, axis.high))


# SMAC3


def _configspace(space: Any, seed: int) -> Any:
    from ConfigSpace import ConfigurationSpace, UniformFloatHyperparameter, UniformIntegerHyperparameter

    found = ConfigurationSpace(seed=seed)
    for name, axis in _axes(space):
        whole, log, low, high = _ends(axis)
        kind = UniformIntegerHyperparameter if whole else UniformFloatHyperparameter
        found.add(kind(name, low, high, default_value=axis.centre, log=log))
    return found


def smac_mf(paid: Paid, seed: int) -> None:
    """Hyperband over epochs with a random forest. The default stands in the first bracket, at its shortest rung."""
    from smac import MultiFidelityFacade, Scenario
    from smac.intensifier.hyperband_utils import get_n_trials_for_hyperband_multifidelity
    from smac.runhistory import TrialValue

    epochs = paid.objective.epochs
    count = get_n_trials_for_hyperband_multifidelity(paid.limit, 1, epochs, REDUCTION, print_summary=False)
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            _configspace(paid.objective.space, seed), deterministic=True, n_trials=count, use_default_config=True,
            min_budget=1, max_budget=epochs, seed=seed, output_directory=Path(folder),
        )  # fmt: skip
        first = MultiFidelityFacade.get_initial_design(scenario, n_configs=FIRST_DRAWS)
        smac = MultiFidelityFacade(
            scenario, lambda config, seed, budget: 0.0, initial_design=first, logging_level=False
        )

        def begin() -> Training:
            info = smac.ask()
            value = yield dict(info.config), round(info.budget)
            smac.tell(info, TrialValue(cost=1 - value), save=False)

        paid.play(begin)


def smac_hpo(paid: Paid, seed: int) -> None:
    """Whole trainings with a random forest; the default is told before the first is asked."""
    from smac import HyperparameterOptimizationFacade, Scenario
    from smac.runhistory import TrialInfo, TrialValue

    epochs = paid.objective.epochs
    with tempfile.TemporaryDirectory() as folder:
        space = _configspace(paid.objective.space, seed)
        scenario = Scenario(
            space, deterministic=True, n_trials=paid.limit // epochs, seed=seed, output_directory=Path(folder)
        )
        smac = HyperparameterOptimizationFacade(scenario, lambda config, seed: 0.0, logging_level=False)
        first = [TrialInfo(space.get_default_configuration(), seed=0)]

        def begin() -> Training:
            info = first.pop() if first else smac.ask()
            value = yield dict(info.config), epochs
            smac.tell(info, TrialValue(cost=1 - value), save=False)

        paid.play(begin)


# Syne Tune


def _syne_space(space: Any) -> dict[str, Any]:
    from syne_tune import config_space as cs

    kinds = {
        (True, True): cs.lograndint,
        (True, False): cs.randint,
        (False, True): cs.loguniform,
        (False, False): cs.uniform,
    }
    found = {}
    for name, axis in _axes(space):
        whole, log, low, high = _ends(axis)
        found[name] = kinds[whole, log](low, high)
    return found


def syne_ashacqr(paid: Paid, seed: int) -> None:
    """ASHA that stops (a stopped trial never goes on), with conformal quantile regression; the default first."""
    from syne_tune.optimizer.baselines import ASHACQR

    _syne_asha(paid, seed, ASHACQR)


def syne_bohb(paid: Paid, seed: int) -> None:
    """The same with kernel densities."""
    from syne_tune.optimizer.baselines import BOHB

    _syne_asha(paid, seed, BOHB)


def _syne_asha(paid: Paid, seed: int, kind: Any) -> None:
    space, epochs = paid.objective.space, paid.objective.epochs
    scheduler = kind(
        _syne_space(space), metric="value", time_attr="epoch", max_t=epochs, do_minimize=False,
        random_seed=seed, points_to_evaluate=[_default(space)],
    )  # fmt: skip
    _syne(paid, scheduler)


def syne_botorch(paid: Paid, seed: int) -> None:
    """Whole trainings with BoTorch's Gaussian process; the default first."""
    from syne_tune.optimizer.baselines import BOTorch

    space = paid.objective.space
    scheduler = BOTorch(
        _syne_space(space), metric="value", do_minimize=False, random_seed=seed,
        points_to_evaluate=[_default(space)],
    )  # fmt: skip
    _syne(paid, scheduler)


def _syne(paid: Paid, scheduler: Any) -> None:
    from syne_tune.backend.trial_status import Trial

    numbers = itertools.count()

    def begin() -> Training:
        trial = Trial(next(numbers), scheduler.suggest().config, datetime.datetime.now())
        scheduler.on_trial_add(trial)
        for epoch in range(1, paid.objective.epochs + 1):
            result = {"value": (yield trial.config, epoch), "epoch": epoch}
            if epoch == paid.objective.epochs:
                scheduler.on_trial_complete(trial, result)
            elif scheduler.on_trial_result(trial, result) == "STOP":
                return

    paid.play(begin)


# NePS


def neps_priorband(paid: Paid, seed: int) -> None:
    """PriorBand on Hyperband; the default is the prior, and first, at full length."""
    _neps(paid, seed, None)


def neps_priorband_bo(paid: Paid, seed: int) -> None:
    """The same, with its Gaussian process drawing once ten trainings are spent."""
    _neps(paid, seed, 10)


def _neps(paid: Paid, seed: int, kick_in: int | None) -> None:
    import neps
    import torch

    epochs = paid.objective.epochs
    fields: dict[str, Any] = {"epoch": neps.IntegerFidelity(lower=1, upper=epochs)}
    for name, axis in _axes(paid.objective.space):
        whole, log, low, high = _ends(axis)
        kind = neps.Integer if whole else neps.Float
        fields[name] = kind(lower=low, upper=high, log=log, prior=axis.centre, prior_confidence="medium")
    np.random.seed(seed)  # it draws from the global generators
    torch.manual_seed(seed)
    random.seed(seed)
    space = type("Space", (neps.PipelineSpace,), fields)()
    search = neps.AskAndTell(
        neps.algorithms.priorband(
            space, sample_prior_first="highest_fidelity", bayesian_optimization_kick_in_point=kick_in
        )
    )

    def begin() -> Training:
        trial = search.ask()
        value = yield trial.config, int(trial.config["epoch"])
        search.tell(trial, 1 - value)

    paid.play(begin)


ARMS: dict[str, tuple[Callable[[Paid, int], None], tuple[str, ...]]] = {
    "smac-mf": (smac_mf, ("smac", "ConfigSpace")),
    "smac-hpo": (smac_hpo, ("smac", "ConfigSpace")),
    "syne-ashacqr": (syne_ashacqr, ("syne-tune", "xgboost-cpu", "scikit-learn")),
    "syne-bohb": (syne_bohb, ("syne-tune",)),
    "syne-botorch": (syne_botorch, ("syne-tune", "botorch", "gpytorch")),
    "neps-priorband": (neps_priorband, ("neural-pipeline-search",)),
    "neps-priorband-bo": (neps_priorband_bo, ("neural-pipeline-search", "botorch", "gpytorch")),
}


def row(arm: str, objective: Any, workers: int, trainings: int, seed: int) -> dict[str, Any]:
    """One search as it is kept, with run.py's names."""
    search, packages = ARMS[arm]
    paid, began = Paid(objective, trainings, workers), time.process_time()
    np.random.seed(seed)
    search(paid, seed)
    found = {
        n: round(objective.loss(paid.found[n * objective.epochs - 1]), 4) for n in BUDGETS if n <= trainings
    }
    thought = sorted(paid.thought_s)
    return {
        "arm": arm, "objective": objective.name, "workers": workers, "trainings": trainings, "seed": seed,
        "loss_at": found,
        "loss_of_winner": round(objective.loss(paid.winner()), 4),
        "configurations": len(paid.epochs),
        "complete": sum(n >= objective.epochs for n in paid.epochs.values()), "epochs": len(paid.found),
        "think_ms_most": round(1e3 * thought[-1], 1), "cpu_s": round(time.process_time() - began, 1),
        "versions": {name: _version(name) for name in (*packages, "numpy")},
    }  # fmt: skip


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _there(path: Path, default: str) -> set[tuple[str, str, int, int]]:
    """The searches that the file has already."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {(r["arm"], r["objective"], r["workers"], r["seed"]) for r in rows if r["default"] == default}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on", choices=("lcbench", "detector"), default="lcbench")
    parser.add_argument("--tasks", choices=("tuned", "held-out"), default="tuned")
    parser.add_argument("--most", type=int, default=99, help="tasks")
    parser.add_argument("--default", choices=("good", "poor", "bad", "far"), default="good")
    parser.add_argument("--epochs", type=int, default=9, help="of a detector's training")
    parser.add_argument("--arms", default="smac-mf,smac-hpo,syne-ashacqr,neps-priorband")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--trainings", type=int, default=30)
    parser.add_argument("--out", type=Path, default=HERE / "peers.jsonl")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    command = shlex.join(["python", "-m", "studies.search.peers", *sys.argv[1:]])
    more = {"default": arguments.default, "tasks": arguments.tasks, "command": command}
    there = _there(arguments.out, arguments.default)
    with arguments.out.open("a") as file:
        for seed, objective in objectives(arguments, arguments.first_seed):
            for arm in arguments.arms.split(","):
                if (arm, objective.name, arguments.workers, seed) not in there:
                    found = row(arm, objective, arguments.workers, arguments.trainings, seed)
                    file.write(json.dumps({**found, **more}) + "\n")
                    file.flush()


if __name__ == "__main__":
    main()
