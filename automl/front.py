"""`--objectives METRIC,latency_ms`: a search for the trade-off of a metric and the predicted latency (latency.py).

The study then is one of Optuna's with two directions, and a COMPLETE trial's values are (metric, ms). What it brings is
its front: the trials that no other equals or beats in both (pareto.py). One of them is handed over as the winner, the
knee; the others beside it, in `pareto/NNNN`.

How many objectives there are is study.py's to know: it tells with one value or two, and names front and knee; samplers
and schedulers see it in their `View` (`ms`), and read a trial's metric by `metric.value_of`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import provenance, samplers, schedulers
from automl.errors import UserError
from automl.latency import figure_ms
from automl.metric import Metric, figure, parse
from automl.pareto import ms_of
from automl.programs import typed
from automl.request import LATENCY, parse_objectives
from automl.trial_attributes import PREDICTED

if TYPE_CHECKING:
    from automl.request import RunRequest
    from automl.rundir import RunDir
    from automl.study import Study, TrialResult

FOLDER = "pareto"  # below what is handed over
HERE = "{folder}"  # in the commands of a provenance.json: where that lies


@dataclass(frozen=True)
class Place:
    """A trial of a front. `folder`: where it is handed over, below the run's; None where it is not (yet)."""

    number: int
    value: float  # the metric, as the trainer reported it
    ms: float
    epoch: int  # 0-based
    knee: bool
    folder: str | None
    later: str = ""  # the commands of the stages that ran on the winner and not on it

    def words(self, metric: Metric) -> str:
        """In a line: what it is, and where."""
        knee = " (knee)" if self.knee else ""
        return f"trial {self.number}{knee}: {metric.name} {figure(self.value)} at a predicted {figure_ms(self.ms)}"


def places(study: Study, run: RunDir) -> list[Place]:
    """The front, fastest first; empty where latency is no objective."""
    knee = study.knee()
    found = []
    for best in study.front():
        folder, told = _handed_over(best, run)
        ms, later = (
            ms_of(study.frozen(best.number)),
            _commands(told.get("later") or [], run.root / (folder or "")),
        )
        found.append(Place(best.number, best.value, ms, best.epoch, best.number == knee, folder, later))
    return found


def times_as_fast(front: Sequence[Place], default_ms: float | None) -> float | None:
    """The knee as the default, by prediction; None where latency is no objective."""
    ms = next((place.ms for place in front if place.knee), None)
    return default_ms / ms if default_ms and ms else None


def _handed_over(best: TrialResult, run: RunDir) -> tuple[str | None, dict[str, Any]]:
    """(folder below the run's, its provenance) of a trial that is handed over as it now is."""
    for folder in (run.handed_over, f"{run.handed_over}/{folder_of(best.number)}"):
        told = provenance.read(run.root / folder)
        if provenance.is_of(told, best):
            return folder, told
    return None, {}


def _commands(later: list[list[str]], folder: Path) -> str:
    """What provenance.json keeps of them, of the place where it lies now."""
    lines = [[str(word).replace(HERE, str(folder)) for word in words] for words in later if words]
    return " && ".join(f"{typed(program)} {shlex.join(rest)}" for program, *rest in lines)


def predicted(study: Study, number: int) -> dict[str, float]:
    """A trial's latency under the name that it has as an objective; empty where none was predicted."""
    ms = study.frozen(number).user_attrs.get(PREDICTED)
    return {} if ms is None else {LATENCY: ms}


def folder_of(number: int) -> str:
    """Where a trial of the front that is not the winner lies, below what is handed over."""
    return f"{FOLDER}/{number:04d}"


def metric_of(request: RunRequest, known: tuple[Metric, ...]) -> Metric:
    """What the search makes better, beside the latency where `--objectives` names it. Raises `UserError`, also where
    `--metric` names another."""
    if not request.objectives:
        return parse(request.metric, known)
    name, _ = parse_objectives(request.objectives)
    metric = parse(name, known, "--objectives")
    if request.metric is not None and (other := parse(request.metric, known)) != metric:
        raise UserError(
            f"--metric {other.name} and --objectives {metric.name} contradict each other; give one"
        )
    return metric


def named(request: RunRequest, engine_keys: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The objectives of the command line, else of the spec file, the metric first; None where there are none. Raises
    `UserError` for what names none."""
    if request.objectives:
        return parse_objectives(request.objectives)
    named = engine_keys.get("objectives")
    if named is None:
        return None
    if not isinstance(named, str | list):
        raise UserError(
            f"{request.spec_file}: objectives must be a list such as [val_loss, {LATENCY}], but got {named!r}"
        )
    try:
        return parse_objectives(named)
    except UserError as error:
        raise UserError(f"{request.spec_file}: {error}") from None


def check(sampler: str, scheduler: str) -> None:
    """Raises `UserError` for a sampler or a scheduler that knows one objective alone."""
    if not schedulers.make(scheduler).several:
        able = [name for name, make in schedulers.SCHEDULERS.items() if make().several]
        raise UserError(
            f"--scheduler {scheduler} compares all trials by one metric, and would stop a fast network because a "
            f"slower one is more accurate; with --objectives use {', '.join(able)}"
        )
    if why := samplers.single(sampler):
        raise UserError(
            f"--sampler {sampler} searches for one objective alone ({why}); with --objectives use "
            f"{', '.join(samplers.SAMPLERS)}"
        )


def stay(study: Study, winner: TrialResult) -> set[str]:
    """The names of the folders in `pareto` of the trials that are on the front beside the winner."""
    return {Path(folder_of(b.number)).name for b in study.front() if b.number != winner.number}
