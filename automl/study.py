"""The study: ask, report, should_stop, tell, best. The only writer of the Optuna storage, which with the trial
folders is the only truth: nothing here needs to survive the driver.

User attributes of a trial: `params` (the real values by dotted name), `reason` (why it ended), `best_epoch`,
`retries`. Of the study: `elapsed_s` (wall time over all drivers).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automl import samplers, seeds
from automl.schedulers import Curve, Scheduler, best_until

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from automl.space import SearchSpace


@dataclass(frozen=True)
class Best:
    number: int
    epoch: int
    value: float
    params: dict[str, Any]
    complete: bool  # False: no trial ran to its end, this is the best of those stopped


class Study:
    """One search. Values are maximised; a trial's value is its best epoch's metric."""

    def __init__(self, storage: Any, name: str, space: SearchSpace, sampler: str, seed: int) -> None:
        import optuna

        self.space, self.sampler, self.seed = space, sampler, seed
        self._handles: dict[int, optuna.trial.Trial] = {}
        self.study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            sampler=samplers.make("random", 0),
        )

    @classmethod
    def reading(cls, storage: Any, name: str) -> Study:
        """A study that exists, to look at. Raises `KeyError` when it does not."""
        import optuna

        study = cls.__new__(cls)
        study.study = optuna.load_study(study_name=name, storage=storage)
        return study

    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def enqueue_default(self) -> None:
        """Make the default configuration trial 0; nothing when the study has trials."""
        if not self.trials():
            self.study.enqueue_trial(self.space.enqueue_params(self.space.default))

    def ask(self) -> tuple[int, dict[str, Any]]:
        """The next trial's number and params, proposed by a sampler seeded from (study seed, number)."""
        number = sum(trial.state.name != "WAITING" for trial in self.trials())
        self.study.sampler = samplers.make(self.sampler, seeds.derive(self.seed, number, "sampler"))
        trial = self.study.ask()
        self._handles[trial.number] = trial
        params = self.space.suggest(trial)
        trial.set_user_attr("params", params)
        return trial.number, params

    def adopt(self) -> list[tuple[int, dict[str, Any]]]:
        """(number, params) of the trials that a dead driver left RUNNING; call only while holding the run's lock.

        A trial that died between ask and its first attribute is proposed again from the same seed.
        """
        adopted = []
        for trial in self.trials():
            if trial.state.name == "RUNNING":
                params = trial.user_attrs.get("params")
                if params is None:
                    self.study.sampler = samplers.make(
                        self.sampler, seeds.derive(self.seed, trial.number, "sampler")
                    )
                    params = self.space.suggest(self._live(trial.number))
                    self._live(trial.number).set_user_attr("params", params)
                adopted.append((trial.number, dict(params)))
        return adopted

    def report(self, number: int, epoch: int, value: float) -> None:
        """Store one epoch's metric; an epoch that is there already stays as it is."""
        if epoch not in self.frozen(number).intermediate_values and math.isfinite(value):
            self._live(number).report(value, epoch)

    def should_stop(self, number: int, epoch: int, scheduler: Scheduler, num_epochs: int) -> str | None:
        """The scheduler's reason to stop the trial after this epoch, or None."""
        others = [
            t.intermediate_values for t in self.trials() if t.number != number and t.intermediate_values
        ]
        return scheduler(epoch, self.frozen(number).intermediate_values, others, num_epochs)

    def tell(self, number: int, state: str, reason: str) -> None:
        """End a trial: COMPLETE or PRUNED with its best epoch, FAIL with none. A trial that ended stays so.

        A COMPLETE without any finite metric becomes FAIL.
        """
        import optuna

        frozen = self.frozen(number)
        if frozen.state.is_finished():
            return
        curve = frozen.intermediate_values
        if not curve and state == "COMPLETE":
            state, reason = "FAIL", "it reported no metric"
        live = self._live(number)
        live.set_user_attr("reason", reason)
        if curve:
            live.set_user_attr("best_epoch", best_epoch(curve))
        value = max(curve.values()) if state == "COMPLETE" else None
        self.study.tell(live, value, optuna.trial.TrialState[state])

    def best(self) -> Best | None:
        """The best COMPLETE trial, ties to the lower number; without one the best that was stopped; or None."""
        for complete in (True, False):
            ended = [
                t for t in self.trials() if t.intermediate_values and (t.state.name == "COMPLETE") == complete
            ]
            if ended:
                top = max(ended, key=lambda t: (max(t.intermediate_values.values()), -t.number))
                curve = top.intermediate_values
                epoch = best_epoch(curve)
                return Best(top.number, epoch, curve[epoch], dict(top.user_attrs.get("params", {})), complete)
        return None

    def curves(self) -> Sequence[Curve]:
        return [t.intermediate_values for t in self.trials()]

    def frozen(self, number: int) -> FrozenTrial:
        return self.trials()[number]

    def count_retry(self, number: int) -> int:
        """Note one more start of a trial after a crash; returns how many there have been."""
        retries = int(self.frozen(number).user_attrs.get("retries", 0)) + 1
        self._live(number).set_user_attr("retries", retries)
        return retries

    def elapsed_s(self) -> float:
        return float(self.study.user_attrs.get("elapsed_s", 0.0))

    def set_elapsed_s(self, seconds: float) -> None:
        self.study.set_user_attr("elapsed_s", round(seconds, 3))

    def _live(self, number: int) -> optuna.trial.Trial:
        """A writable handle by trial *number*. Kept, because making one runs the sampler again; made from the id,
        because ids start at 1 and count over all studies of a database."""
        import optuna

        if number not in self._handles:
            self._handles[number] = optuna.trial.Trial(self.study, self.frozen(number)._trial_id)
        return self._handles[number]


def best_epoch(curve: Curve) -> int:
    """The first epoch that has the curve's best metric."""
    return min(epoch for epoch in curve if curve[epoch] == best_until(curve, max(curve)))
