"""Fronts of (metric, latency), and what Optuna's trials hold of both; pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from automl.metric import value_of
from automl.trial_attributes import PREDICTED

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl.latency import Latency

Point = tuple[float, float]  # (metric, higher is better; ms, lower is)


def dominates(a: Point, b: Point) -> bool:
    """Whether `a` is at least as good as `b` in both and better in one."""
    return a[0] >= b[0] and a[1] <= b[1] and a != b


def joined(front: Sequence[tuple[Point, int]], point: Point, number: int) -> list[tuple[Point, int]]:
    """A front, fastest first, with one more trial: without those that it dominates, or as it was. Of equal points the
    lowest number stays."""
    if any(dominates(other, point) or (other == point and n < number) for other, n in front):
        return list(front)
    kept = [(other, n) for other, n in front if not dominates(point, other) and other != point]
    return sorted([*kept, (point, number)], key=lambda entry: (entry[0][1], -entry[0][0]))


def front_of(points: Iterable[tuple[Point, int]]) -> list[int]:
    """The numbers of the trials that no other equals or beats in both, fastest first."""
    found: list[tuple[Point, int]] = []
    for point, number in points:
        found = joined(found, point, number)
    return [number for _, number in found]


def knee(points: Sequence[Point]) -> int:
    """The place of the knee of a front: with both axes scaled so that the front's ends, the fastest and the best, lie
    at (0, 0) and (1, 1), the point farthest above the line between them (Das 1999, "On characterizing the knee of the
    Pareto curve based on normal-boundary intersection", Structural Optimization 18). Where none lies above it, as with
    two points, the best by the metric; of one point that."""
    (low, fastest), (high, slowest) = (
        (min(p[at] for p in points) for at in (0, 1)), (max(p[at] for p in points) for at in (0, 1))
    )  # fmt: skip

    def above(place: int) -> float:
        metric, ms = points[place]
        return (metric - low) / ((high - low) or 1.0) - (ms - fastest) / ((slowest - fastest) or 1.0)

    # Ends lie on the line but for rounding.
    return max(range(len(points)), key=lambda place: (round(above(place), 9), points[place]))


def ms_of(trial: FrozenTrial) -> float:
    """What a trial of a search for latency was predicted to take, in milliseconds."""
    return float(trial.user_attrs.get(PREDICTED, math.inf))


def with_latency(trial: FrozenTrial, latency: Latency) -> FrozenTrial:
    """Another run's trial as one of a search for latency too."""
    ms, value = latency.predict(trial.user_attrs["params"]), value_of(trial)
    trial.set_user_attr(PREDICTED, ms)
    trial.values = None if value is None else [value, ms]
    return trial
