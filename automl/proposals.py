"""A proposal: what a sampler makes of the trials so far, computed in memory, so that the storage only ever sees whole
trials and a driver killed in the midst of it has left nothing behind.

The sampler sees the best and the latest finished trials and all running ones: with thousands, the rest would cost
time and tell it nothing new.
"""

from __future__ import annotations

import copy
import heapq
import json
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from automl.metric import value_of
from automl.pareto import front_of
from automl.trial_attributes import PAUSED

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import StudyDirection

    from automl.space import SearchSpace
    from automl.trial_notes import Kept

BEST = 60  # finished trials that a sampler sees: so many of the best ...
LATEST = 60  # ... and of the latest
FIXED = "fixed_params"  # Optuna's own system attribute of an enqueued trial
IN_STUDY = "automl.noted_in_study"  # system attribute of a trial: what its sampler noted in the study


@dataclass(frozen=True)
class Proposal:
    """`params`: {dotted name: value}; `trial`: Optuna's, RUNNING, with the same in Optuna's terms, and what the sampler
    has noted in its system attributes."""

    params: dict[str, Any]
    trial: FrozenTrial

    def stored(self, trial_id: int) -> FrozenTrial:
        """The trial as a storage gives it back once it has taken it."""
        trial, axes = copy.copy(self.trial), self.trial.distributions
        trial._trial_id = trial_id
        trial.params = {
            n: axes[n].to_external_repr(axes[n].to_internal_repr(v)) for n, v in trial.params.items()
        }
        trial._user_attrs, trial._system_attrs = json.loads(
            json.dumps([trial.user_attrs, trial.system_attrs])
        )
        trial.intermediate_values = {}
        return trial

    def as_kept(self, kept: Kept) -> Proposal:
        """The same with what was noted when it was first made."""
        trial = copy.copy(self.trial)
        trial._user_attrs, trial._system_attrs = {**kept.noted, "params": self.params}, dict(kept.system)
        return Proposal(self.params, trial)

    def end(self) -> None:
        """Let it be stored as one that was never trained."""
        self.trial.state, self.trial.datetime_complete = TrialState.PRUNED, datetime.now()


class _Snapshot(InMemoryStorage):
    """One trial being asked for, in front of a history that is only read and not copied, and only when a sampler
    looks at it."""

    def __init__(
        self,
        trials: Sequence[FrozenTrial],
        directions: Sequence[StudyDirection],
        number: int,
        whole_alone: bool,
    ) -> None:
        super().__init__()
        self.trials, self.directions, self.whole_alone = trials, directions, whole_alone
        self.study_id = self.create_new_study(directions, "snapshot")
        self.trial_id = self.create_new_trial(self.study_id)
        self.get_trial(self.trial_id).number = number
        self.noted = _noted_in_study(trials)
        for name, value in self.noted.items():
            self.set_study_system_attr(self.study_id, name, value)

    def newly_noted(self) -> dict[str, Any]:
        """What was noted in this study since, as a system attribute of the trial."""
        now = self.get_study_system_attrs(self.study_id)
        new = {name: value for name, value in now.items() if self.noted.get(name) != value}
        return {IN_STUDY: new} if new else {}

    @cached_property
    def history(self) -> list[FrozenTrial]:
        return telling(self.trials, self.directions, self.whole_alone)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        own = super().get_all_trials(study_id, deepcopy=deepcopy, states=None)
        return [t for t in [*self.history, *own] if states is None or t.state in states]


def propose(
    space: SearchSpace,
    sampler: BaseSampler,
    trials: Sequence[FrozenTrial],
    number: int,
    directions: Sequence[StudyDirection],
    fixed: Mapping[str, Any] | None = None,
) -> Proposal:
    """Trial `number`'s configuration after `trials`; `fixed` (in Optuna's terms) is taken instead of drawn."""
    storage = _Snapshot(trials, directions, number, getattr(sampler, "whole_alone", False))
    if fixed is not None:
        storage.set_trial_system_attr(storage.trial_id, FIXED, dict(fixed))
    study = optuna.load_study(study_name="snapshot", storage=storage, sampler=sampler)
    params = space.suggest(Trial(study, storage.trial_id))
    drawn = storage.get_trial(storage.trial_id)
    attrs = {name: value for name, value in drawn.system_attrs.items() if name != FIXED}
    trial = create_trial(
        state=TrialState.RUNNING,
        params=drawn.params,
        distributions=drawn.distributions,
        user_attrs={"params": params, **drawn.user_attrs},
        system_attrs=attrs | storage.newly_noted(),
    )
    trial.number = number
    return Proposal(params, trial)


def _noted_in_study(trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    """What samplers noted in the study when they were asked for these trials, as Optuna's for low-discrepancy sequences
    does of its place in them."""
    return {k: v for trial in trials for k, v in trial.system_attrs.get(IN_STUDY, {}).items()}


def untried(
    every: Sequence[dict[str, Any]] | None, trials: Sequence[FrozenTrial]
) -> list[dict[str, Any]] | None:
    """Those of `every` configuration that no trial has; None of None."""
    if every is None:
        return None
    tried = {_key(trial.user_attrs.get("params")) for trial in trials}
    return [params for params in every if _key(params) not in tried]


def _key(params: Any) -> str:
    return json.dumps(params, sort_keys=True, default=str)


def telling(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection], whole_alone: bool = False
) -> list[FrozenTrial]:
    """The trials that a sampler is shown, in their order; of several objectives the front among them. One that waits is
    a stopped one to it, and to one that learns of `whole_alone` trials these are whole ones with the best that they
    had: else it would hold what a scheduler pauses or stops for running or not there, and draw at random."""
    several, sign = len(directions) > 1, -1 if directions[0] == optuna.study.StudyDirection.MAXIMIZE else 1
    trials = [_as_stopped(t) for t in trials]
    if whole_alone and not several:
        trials = [_as_whole(t, sign) for t in trials]
    ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if len(ended) > BEST + LATEST:
        best = heapq.nsmallest(BEST, ended, key=lambda t: (t.state != TrialState.COMPLETE, sign * _value(t)))
        best += _front(ended, sign) if several else []
        # Trials of earlier runs have no numbers of their own.
        shown = {id(t) for t in [*best, *ended[-LATEST:]]}
        ended = [t for t in ended if id(t) in shown]
    if several:
        ended = [_silent(t) if t.state == TrialState.PRUNED else t for t in ended]
    running = [t for t in trials if t.state == TrialState.RUNNING]
    return sorted([*ended, *running], key=lambda t: t.number)


def _front(trials: Sequence[FrozenTrial], sign: int) -> list[FrozenTrial]:
    """Those that no other equals or beats in both."""
    points = (((-sign * t.values[0], t.values[1]), place) for place, t in enumerate(trials) if t.values)
    return [trials[place] for place in front_of(points)]


def _as_stopped(trial: FrozenTrial) -> FrozenTrial:
    """A trial that waits as a stopped one; another as it is."""
    if trial.state != TrialState.RUNNING or trial.user_attrs.get(PAUSED, -1) < 0:
        return trial
    shown = copy.copy(trial)
    shown.state = TrialState.PRUNED
    return shown


def _as_whole(trial: FrozenTrial, sign: int) -> FrozenTrial:
    """A stopped trial that reported as one that ended with the best it had; another as it is."""
    if trial.state != TrialState.PRUNED or not trial.intermediate_values:
        return trial
    shown = copy.copy(trial)
    shown.state, shown.values = (
        TrialState.COMPLETE,
        [sign * min(sign * v for v in trial.intermediate_values.values())],
    )
    return shown


def _silent(trial: FrozenTrial) -> FrozenTrial:
    """A stopped trial without its curve: Optuna's samplers take no stopped trials with one of several objectives."""
    shown = copy.copy(trial)
    shown.intermediate_values = {}
    return shown


def _value(trial: FrozenTrial) -> float:
    if trial.state == TrialState.COMPLETE and (value := value_of(trial)) is not None:
        return value
    values = trial.intermediate_values
    last = values[max(values)] if values else math.nan
    return last if math.isfinite(last) else 0.0
