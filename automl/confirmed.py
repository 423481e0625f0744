"""What trainings with other seeds left of a search's gain (confirming.py), in numbers and words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from automl import spec
from automl.errors import UserError
from automl.latency import below
from automl.metric import Metric, signed
from automl.space.schema import Schema

if TYPE_CHECKING:
    from automl.bundle import ModelBundle
    from automl.plan import Plan
    from automl.request import RunRequest
    from automl.space import SearchSpace

MOST = 1000  # seeds


@dataclass(frozen=True)
class Confirmed:
    """`seen`: the gain that the search saw; `pairs`: (seed, winner's value, default's value), each the best epoch of a
    training of its own; `failed`: what kept seeds from being pairs; `cut`: a budget cut the winner that it saw, and
    these trainings ran to their end."""

    seen: float
    pairs: Sequence[tuple[int, float, float]] = ()
    failed: Sequence[str] = field(default_factory=list)
    cut: bool = False

    def gains(self, metric: Metric) -> list[float]:
        return [metric.gain(winner, default) for _, winner, default in self.pairs]

    def interval(self, metric: Metric) -> tuple[float, float] | None:
        """95 % of the mean gain, by Student's t over the seeds; None of fewer than two."""
        from scipy.special import stdtrit

        gains = self.gains(metric)
        if (n := len(gains)) < 2:
            return None
        mean = statistics.fmean(gains)
        half = float(stdtrit(n - 1, 0.975)) * statistics.stdev(gains) / math.sqrt(n)
        return mean - half, mean + half

    def words(self, metric: Metric, times: float | None = None) -> str:
        """What is left of the gain, plainly; `times`: see `latency.below`."""
        gains = self.gains(metric)
        missing = f"; {len(self.failed)} of the trainings failed: {self.failed[0]}" if self.failed else ""
        if not gains:
            return (
                f"trained again with other seeds: no pair of winner and default was got to its end{missing}"
            )
        mean = statistics.fmean(gains)
        seeds = "another seed" if len(gains) == 1 else f"{len(gains)} other seeds"
        seen = f"where the search{', which cut the winner before its end,' if self.cut else ''} saw {signed(self.seen)}"
        text = f"trained again with {seeds}: gain {signed(mean)} of {metric.name}, {seen}"
        if (bounds := self.interval(metric)) is None:
            return f"{text}; one seed says nothing of the spread{missing}"
        doubt = "" if bounds[0] > 0 else ", which includes 0" if bounds[1] > 0 else f": {below(times)}"
        return f"{text}; 95 % of the mean {signed(bounds[0])} to {signed(bounds[1])}{doubt}{missing}"


def confirmed(document: Any) -> Confirmed | None:
    """What outcome.json holds of it."""
    return (
        Confirmed(**document) if isinstance(document, dict) and document.keys() >= {"seen", "pairs"} else None
    )


def pointless(plan: Plan) -> list[str]:
    """What to say before the first trial of a `--confirm` that will have nothing to compare."""
    if not plan.request.confirm or not plan.first:
        return []
    return [
        "--confirm will find nothing to compare: the default configuration is above --max-latency and is not trained"
    ]


def other_seeds(own: Any, fallback: int, count: int) -> list[int]:
    """So many seeds, none of them the `own` of the search's trainings, or where these have none its `fallback`."""
    try:
        first = int(own)  # a spec may hold it as text
    except (TypeError, ValueError, OverflowError):
        first = fallback
    first = first if first >= 0 else fallback
    return [first + 1 + n for n in range(count)]


def check(
    request: RunRequest, model: ModelBundle, full: Mapping[str, Any], space: SearchSpace, searching: bool
) -> None:
    """Raises `UserError` where `--confirm` has nothing to compare, or no seed to change."""
    if request.confirm is None:
        return
    if not searching:
        raise UserError(
            "--confirm trains the winner of a search and its default again; here nothing is searched"
        )
    if request.confirm > MOST:
        raise UserError(f"--confirm must be at most {MOST} other seeds, but got {request.confirm}")
    key = model.seed_key
    if not key or spec.get(full, key, spec.MISSING) is spec.MISSING:
        what = f"its spec has no {key}" if key else "its skill_info.yaml names no seed_key"
        raise UserError(f"--confirm needs the leaf that holds the seed of a training: {what}")
    if model.schema_path("train").is_file():
        schema = Schema(model.schema("train"))
        for seed in other_seeds(spec.get(full, key), request.seed, request.confirm):
            if key in schema.nodes and (wrong := schema.problem(key, seed)):
                raise UserError(f"--confirm {request.confirm} would train with {key} {seed}, but {wrong}")
    if key in space.default:
        raise UserError(
            f"--confirm trains with other values of {key}, which is searched here; --fix {key}=1234"
        )
