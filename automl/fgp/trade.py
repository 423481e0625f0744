"""Where the predicted latency is an objective: which trials a trial is compared with, and what a proposal is for.

Latency is known before anything is trained, so nothing of it needs a model. Each proposal is the best bet among the
configurations that are at most as slow as a latency drawn for it (an epsilon constraint, Haimes et al. 1971), over what
is known to be as fast; the draws walk evenly over what the search space holds, so the front is sought along its whole
length. A trial that has begun is compared with those that are at most as slow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from automl import seeds
from automl.fgp.gp import Array
from automl.fgp.runs import Run, Runs
from automl.pareto import front_of

if TYPE_CHECKING:
    from automl.latency import Latency
    from automl.scheduling import View

GOLDEN = (math.sqrt(5) - 1) / 2  # steps of it lie evenly in [0, 1), however many
OFFERED = 40  # drawn configurations within a latency that are candidates for it


@dataclass(frozen=True)
class Trade:
    """`ms`: trial number -> milliseconds; `most`: what the next proposal may take."""

    latency: Latency
    ms: Mapping[int, float]
    most: float

    @classmethod
    def of(cls, view: View) -> Trade | None:
        """That of a study; None where it has one objective."""
        if view.ms is None or view.latency is None:
            return None
        drawn = view.latency.fitting
        start = np.random.default_rng(seeds.derive(view.seed, 0, "latency")).random()
        share = (start + GOLDEN * len(view.trials)) % 1.0
        return cls(view.latency, view.ms, drawn[int(share * len(drawn))][0])

    def fits(self, params: Mapping[str, Any]) -> bool:
        """Whether a configuration is fast enough for the next proposal."""
        return self.latency.predict(params) <= self.most

    def within(self, runs: Runs) -> Runs:
        """The trials that are; all where none is."""
        mask = np.array([self.ms[run.number] <= self.most for run in runs], bool)
        return runs.where(mask) if mask.any() else runs

    def offered(self) -> list[dict[str, Any]]:
        """Configurations that are, from the fastest on."""
        found = [params for ms, params in self.latency.fitting if ms <= self.most]
        return found[:: max(1, len(found) // OFFERED)]

    def front(self, runs: Runs) -> list[Run]:
        """The trials that no other has equalled or beaten in both so far, fastest first."""
        points = (((run.top, self.ms[run.number]), place) for place, run in enumerate(runs))
        return [runs[place] for place in front_of(points)]

    def best_of(self, ms: Array, front: list[Run], level: Array, floor: float) -> Array:
        """(n,) the highest `level` of the front's trials that are at most as slow as each; `floor` where none is."""
        of_front = np.array([self.ms[run.number] for run in front])
        highest = np.r_[floor, np.maximum(np.maximum.accumulate(level), floor)]
        return np.asarray(highest[np.searchsorted(of_front, ms, "right")])
