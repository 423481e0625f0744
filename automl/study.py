"""The study: ask, report, decide, tell, best. The only writer of the Optuna storage, but for `driver` (below); with the
trial folders that is the only truth: nothing here needs to survive the driver.

What is in the storage is read once, when the study is opened; from then on its copy in memory is kept in step with
every write, so that no decision waits for a database, however many trials there are.

User attributes of a trial: see trial_attributes.py. Of the study: `elapsed_s` (wall time over all drivers), `winner`
(the trial that the scheduler names at the end, and the epochs reported by then), `rebuilding` (its trials are being
read from their folders), `driver` (see sole_driver.py).
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from automl.budget import Budget
from automl.cut import is_cut
from automl.ending import State
from automl.foreign_writes import check_trials
from automl.metric import figure
from automl.pareto import Point, joined, knee, ms_of, with_latency
from automl.scheduling import Curve, Scheduler, Verdict, View
from automl.study_storage import Stored, state_of
from automl.trial_attributes import AGAIN, PAUSED, PREDICTED, REFUSED, WAITED, WHOLE
from automl.widening import widenings

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl.latency import Latency, Limit
    from automl.space import SearchSpace
    from automl.trial_notes import Kept

DEFAULT = 0  # the number of the default configuration's trial
METRIC_NAMES = "study:metric_names"  # Optuna's key
LONGEST_SKIP = 1000  # epochs; a trainer may number them as it likes


@dataclass(frozen=True)
class TrialResult:
    """A trial at its best epoch."""

    number: int
    epoch: int  # 0-based
    value: float  # as the trainer reported it
    params: dict[str, Any]
    complete: bool  # whether it ran to its end


class Study(Stored):
    """One search. A trial's value is its best epoch's metric, as the trainer reported it.

    `fixed` are configurations to run before the sampler's, the default first. `earlier` are finished trials of
    other runs in this space's terms, which teach the sampler and cannot win.
    """

    def __init__(
        self,
        storage: Any,
        name: str,
        space: SearchSpace,
        sampler: str,
        seed: int,
        maximize: bool = True,
        fixed: Sequence[Mapping[str, Any]] | None = None,
        earlier: Sequence[FrozenTrial] = (),
        limit: Limit | None = None,
        latency: Latency | None = None,
        names: Sequence[str] = (),
    ) -> None:
        import optuna

        self.space, self.sampler, self.seed = space, sampler, seed
        self.limit, self.latency = limit, latency
        self.earlier = [with_latency(trial, latency) for trial in earlier] if latency else list(earlier)
        given = [dict(space.default)] if fixed is None else [dict(params) for params in fixed]
        self.fixed = [params for place, params in enumerate(given) if params not in given[:place]]
        up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        ways = [up if maximize else down, *([down] if latency else [])]
        made = optuna.create_study(storage=storage, study_name=name, directions=ways, load_if_exists=True)
        self._load(storage, name, made)
        if latency and names:
            self._write(storage.set_study_system_attr, self._id, METRIC_NAMES, list(names))

    @classmethod
    def reading(cls, storage: Any, name: str) -> Study:
        """A study that exists, to look at. Raises `KeyError` when it does not."""
        import optuna

        study = cls.__new__(cls)
        study._load(storage, name, optuna.load_study(study_name=name, storage=storage))
        return study

    def _load(self, storage: Any, name: str, study: Any) -> None:
        self.storage, self.name, self.study = storage, name, study
        self.directions = tuple(
            study.directions
        )  # the metric's, and where it is an objective that of latency
        self.sign = 1.0 if study.directions[0].name == "MAXIMIZE" else -1.0
        self._id = storage.get_study_id_from_name(name)
        self._trials: list[FrozenTrial] = storage.get_all_trials(self._id)
        check_trials(name, self._trials)
        self._elapsed_s = float(storage.get_study_user_attrs(self._id).get("elapsed_s", 0.0))
        self._reached: dict[int, dict[int, float]] = {}
        self._furthest: dict[int, tuple[int, float]] = {}  # number -> (last epoch, best up to there)
        self._lines: dict[int, int] = {}  # number -> epochs, where the last ones were not measured
        self._leaders: list[tuple[int, float, int]] = []  # of those that ended, best first: see `rank`
        self._paused: dict[int, int] = {}
        self._front: list[tuple[Point, int]] = []  # where latency is an objective: see front.py
        self.going: set[int] = set()  # the trials that neither ended nor wait
        self.refused: set[int] = set()  # those above the limit of latency, which are not trained
        self.exhausted = ""  # why nothing more that may be trained is proposed
        self.failed_after: Counter[int] = Counter()  # epochs -> how many trials failed after so many
        self.epochs_trained = 0  # the sum of `epochs_of` and of what was trained again
        self.budget = Budget()  # what may still be spent, as the driver says
        self.say: Callable[[str], object] = lambda text: None  # to the person, as the driver says
        self.timed = lambda seconds: None  # how long the search has run, as the run's folder keeps it
        self.version = 0  # of everything but the running time
        self.memo: dict[Any, Any] = {}
        self._winner = tuple(storage.get_study_user_attrs(self._id).get("winner", ()))
        self.rebuilding = bool(storage.get_study_user_attrs(self._id).get("rebuilding"))
        self.epochs_reported = 0
        for trial in self._trials:
            for epoch in sorted(trial.intermediate_values):
                self._count(trial.number, epoch, trial.intermediate_values[epoch])
            self._lines[trial.number] = int(trial.user_attrs.get("epochs", 0))
            self.epochs_trained += self.epochs_of(trial.number) + trial.user_attrs.get(AGAIN, 0)
            self._place(trial)

    # ---- looking --------------------------------------------------------------------------------------------

    def curves(self) -> Sequence[Curve]:
        return [t.intermediate_values for t in self._trials]

    def paused(self) -> dict[int, int]:
        """Number -> the epoch after which the trial waits."""
        return dict(self._paused)

    def state(self, number: int, running: bool = True) -> State:
        """See `state_of`."""
        return state_of(self._trials[number], running)

    def epochs_of(self, number: int) -> int:
        """How many epochs a trial has been trained, by the last epoch reported or trained without a metric."""
        done = max(self._furthest.get(number, (-1, 0.0))[0] + 1, self._lines.get(number, 0))
        return min(done, int(self.frozen(number).user_attrs.get(WHOLE, done)))

    def view(self) -> View:
        """What a scheduler is shown."""
        return self.view_of(self._trials)

    def view_of(self, trials: Sequence[FrozenTrial]) -> View:
        """What a scheduler would be shown if the study held these, its first trials, alone."""
        return View(
            trials, self._reached, paused=self._paused, text=lambda value: figure(self.sign * value), space=self.space,
            seed=self.seed, sign=self.sign, earlier=self.earlier, budget=self.budget, version=self.version,
            memo=self.memo, fits=self.limit.fits if self.limit else None,
            ms={t.number: ms_of(t) for t in trials} if self.several else None, latency=self.latency,
        )  # fmt: skip

    @property
    def several(self) -> bool:
        """Whether the predicted latency is an objective beside the metric."""
        return len(self.directions) > 1

    def front(self) -> list[TrialResult]:
        """Where latency is an objective: the COMPLETE trials that no other equals or beats in both, fastest first."""
        return [self.result(number) for _, number in self._front]

    def holders(self) -> list[int]:
        """The numbers of the front, or where latency is no objective of the best trial."""
        top = self.best()
        return [n for _, n in self._front] or ([] if top is None else [top.number])

    def knee(self) -> int | None:
        """The number of the trial of the front that is handed over as the winner; None while there is none."""
        return self._front[knee([point for point, _ in self._front])][1] if self._front else None

    def best(self) -> TrialResult | None:
        """The winner, when one was named, or the front's knee; else the best trial that is COMPLETE or was cut by a
        budget, ties to the lower number; without one the best that was stopped; or None."""
        if (at := self.knee()) is not None:
            return self.result(at)
        if (named := self.named_winner()) is not None:
            return self.result(named)
        if self._leaders and not self._leaders[0][0]:
            cut = [n for n in self.going if is_cut(self.frozen(n)) and self.frozen(n).intermediate_values]
            return min(map(self.result, (self._leaders[0][2], *cut)), key=self.rank)
        return next(iter(self.ranked()), None)

    def ranked(self, result: Callable[[int], TrialResult] | None = None) -> list[TrialResult]:
        """Every trial with a metric, best first: the named winner or the front's knee, the rest of the front, COMPLETE
        ones, those that were stopped or still run. `result`: how a trial did, if not as the study alone knows it."""
        found = [(result or self.result)(t.number) for t in self._trials if t.intermediate_values]
        named, front = self.knee() if self.several else self.named_winner(), {n for _, n in self._front}
        return sorted(found, key=lambda b: (b.number != named, b.number not in front, self.rank(b)))

    def named_winner(self) -> int | None:
        """The trial that `name_winner` was told, while nothing has been reported since."""
        if len(self._winner) == 2 and self._winner[1] == self.epochs_reported:
            return int(self._winner[0])
        return None

    def name_winner(self, number: int) -> None:
        """Keep what the scheduler says of who won."""
        self._winner = (number, self.epochs_reported)
        self._write(self.storage.set_study_user_attr, self._id, "winner", list(self._winner))

    def leaders(self, count: int) -> list[TrialResult]:
        """The best `count` of the trials that ended: of the COMPLETE ones, or without one of those stopped; of a front
        all."""
        if self._front:
            return self.front()
        top = [entry for entry in self._leaders[:count] if entry[0] == self._leaders[0][0]]
        return [self.result(number) for _, _, number in top]

    def rank(self, best: TrialResult) -> tuple[int, float, int]:
        """Sorts results best first: COMPLETE or cut by a budget, then what was stopped or runs, then what failed."""
        trial = self.frozen(best.number)
        place = 0 if best.complete or is_cut(trial) else 1 + (trial.state.name == "FAIL")
        return place, -self.sign * best.value, best.number

    def result(self, number: int, among: Collection[int] | None = None) -> TrialResult:
        """How a trial that has reported did: at the epoch it was told with, else at its best (of the epochs
        `among`, where it reported any of them)."""
        trial = self.frozen(number)
        curve = trial.intermediate_values
        epoch = trial.user_attrs.get("best_epoch")
        if epoch is None or epoch not in curve or among is not None:
            epoch = self.best_epoch(curve, among)
        params = dict(trial.user_attrs.get("params", {}))
        return TrialResult(number, epoch, curve[epoch], params, trial.state.name == "COMPLETE")

    def best_epoch(self, curve: Curve, among: Collection[int] | None) -> int:
        """The last epoch that has the curve's best metric, which of equal ones has seen most; of those `among`, when
        the curve has any of them."""
        epochs = [epoch for epoch in curve if among is None or epoch in among] or list(curve)
        return min(epochs, key=lambda epoch: (-self.sign * curve[epoch], -epoch))

    # ---- trials begin ---------------------------------------------------------------------------------------

    def ask(
        self, given: Mapping[str, Any] | None = None, kept: Kept | None = None
    ) -> tuple[int, dict[str, Any]]:
        """The next trial's number and params: those `given`, as it was once proposed where that is `kept`, else the
        default, the other fixed ones, then what a sampler seeded from (study seed, number) proposes (asking.py). It is
        written whole, RUNNING or, where it is refused, ended, or not at all. Raises `NothingFits`."""
        from automl import asking

        number = len(self._trials)
        proposal = asking.new(self, number) if given is None else asking.draw(self, number, given)
        if kept is not None:
            proposal = proposal.as_kept(kept)
        predictor = self.latency or self.limit
        if predictor and PREDICTED not in proposal.trial.user_attrs:
            proposal.trial.set_user_attr(PREDICTED, predictor.predict(proposal.params))
        trial_id = self._write(self.storage.create_new_trial, self._id, template_trial=proposal.trial)
        self._trials.append(proposal.stored(trial_id))
        self._place(self._trials[number])
        self.epochs_trained += proposal.trial.user_attrs.get(AGAIN, 0)
        for text in widenings([proposal.trial] if given is None else []):
            self.say(text)
        return number, proposal.params

    def adopt(self) -> list[tuple[int, dict[str, Any]]]:
        """(number, params) of the trials that a dead driver left unfinished and not paused; call only while holding
        the run's lock. A trial without params (earlier versions wrote it in several steps) is proposed again."""
        adopted = []
        for trial in self._trials:
            if trial.state.is_finished() or trial.number in self.paused():
                continue
            if "params" not in trial.user_attrs:
                self._complete(trial)
            adopted.append((trial.number, dict(trial.user_attrs["params"])))
        return adopted

    def _complete(self, trial: FrozenTrial) -> None:
        from automl.asking import draw
        from automl.proposals import FIXED

        proposal = draw(self, trial.number, fixed=trial.system_attrs.get(FIXED))
        for name, value in proposal.trial.params.items():
            if name not in trial.params:
                axis = proposal.trial.distributions[name]
                self._write(
                    self.storage.set_trial_param, trial._trial_id, name, axis.to_internal_repr(value), axis
                )
        self._set(trial, "params", proposal.params)

    # ---- trials go on -----------------------------------------------------------------------------------------

    def report(self, number: int, epoch: int, value: float) -> None:
        """Store one epoch's metric; of an epoch that is run again the last value, since its checkpoint is of that."""
        trial = self.frozen(number)
        before, value = trial.intermediate_values.get(epoch), value + 0.0  # no database keeps -0.0
        if not math.isfinite(value) or value == before:
            return
        self._write(self.storage.set_trial_intermediate_value, trial._trial_id, epoch, value)
        trial.intermediate_values[epoch] = value
        trained = self.epochs_of(number)
        if before is None and epoch > self._furthest.get(number, (-1, 0.0))[0]:
            self._count(number, epoch, value)
        else:  # an epoch that is measured after a later one counts in its place
            self._recount(trial)
            self.epochs_reported += before is None
        self.epochs_trained += self.epochs_of(number) - trained

    def passed(self, number: int, epoch: int) -> None:
        """Count an epoch that was trained and not measured; stored when the trial is told or paused."""
        trained = self.epochs_of(number)
        self._lines[number] = max(self._lines.get(number, 0), epoch + 1)
        self.epochs_trained += self.epochs_of(number) - trained

    def keep_passed(self, number: int) -> None:
        """Store how many epochs a trial has passed, where the last were not measured."""
        trial, passed = self.frozen(number), self._lines.get(number, 0)
        measured = max(trial.intermediate_values, default=-1) + 1
        if passed > measured and trial.user_attrs.get("epochs") != passed:
            self._set(trial, "epochs", passed)

    def decide(
        self, number: int, epoch: int, scheduler: Scheduler, num_epochs: int, resumable: bool = True
    ) -> Verdict | None:
        """What the scheduler says of a trial after this epoch, which paused could go on where it is `resumable`; None
        to go on."""
        view = replace(self.view().at_most_as_slow(number), resumable=resumable)
        return scheduler.decide(view, number, epoch, num_epochs)

    def set_paused(self, number: int, epoch: int) -> None:
        """Note that the trial waits after this epoch; -1: it goes on."""
        self._set(self.frozen(number), PAUSED, epoch)
        self.keep_passed(number)
        if epoch >= 0:
            self._set(self.frozen(number), WAITED, epoch)
        self._place(self.frozen(number))

    def go_on(self, number: int, epoch: int) -> None:
        """Note that a trial that waited goes on with this epoch; those that it had reached beyond are trained again."""
        if (again := self.epochs_of(number) - epoch) > 0:
            self.note(number, **{AGAIN: again + self.frozen(number).user_attrs.get(AGAIN, 0)})
            if epoch:  # else the start of a trial says so
                of = f"{self.epochs_of(number)} that it has had: no whole checkpoint of a later one is there"
                self.say(f"note: trial {number} goes on after {epoch} epochs of {of}")
            self.epochs_trained += again
        self.set_paused(number, -1)

    def tell(self, number: int, state: State, reason: str, among: Collection[int] | None = None) -> None:
        """End a trial: COMPLETE or PRUNED with its best epoch (of those `among`, see `result`), FAIL with none. A trial
        that ended stays so. A COMPLETE without any finite metric becomes FAIL."""
        from optuna.trial import TrialState

        trial = self.frozen(number)
        if trial.state.is_finished():
            return
        curve = trial.intermediate_values
        if not curve and state == "COMPLETE":
            state, reason = "FAIL", "it reported no metric"
        self._set(trial, "reason", reason)
        self.keep_passed(number)
        value = None
        if curve:
            best = self.best_epoch(curve, among)
            self._set(trial, "best_epoch", best)
            value = curve[best]
        values = [value] if state == "COMPLETE" and value is not None else None
        if values and self.several:
            values.append(ms_of(trial))
        self._write(self.storage.set_trial_state_values, trial._trial_id, TrialState[state], values)
        trial.state, trial.values, trial.datetime_complete = TrialState[state], values, datetime.now()
        self._place(trial)

    # ---- counting ----------------------------------------------------------------------------------------------

    def _place(self, trial: FrozenTrial) -> None:
        """Keep who goes on, waits, failed and leads; called once of a trial that ended."""
        self._paused.pop(trial.number, None)
        self.going.discard(trial.number)
        if trial.user_attrs.get(REFUSED):
            self.refused.add(trial.number)
        if not trial.state.is_finished():
            if trial.user_attrs.get(PAUSED, -1) >= 0:
                self._paused[trial.number] = int(trial.user_attrs[PAUSED])
            else:
                self.going.add(trial.number)
            return
        self.failed_after[self.epochs_of(trial.number)] += trial.state.name == "FAIL"
        if trial.intermediate_values:
            bisect.insort(self._leaders, self.rank(self.result(trial.number)))
        if self.several and trial.values:
            self._front = joined(self._front, (self.sign * trial.values[0], trial.values[1]), trial.number)

    def _recount(self, trial: FrozenTrial) -> None:
        """Count a trial's curve anew."""
        self.memo.clear()
        self._furthest.pop(trial.number, None)
        for there in self._reached.values():
            there.pop(trial.number, None)
        self.epochs_reported -= len(trial.intermediate_values)
        for epoch in sorted(trial.intermediate_values):
            self._count(trial.number, epoch, trial.intermediate_values[epoch])

    def _count(self, number: int, epoch: int, value: float) -> None:
        """Keep `_reached`: a trial that skipped epochs has got past them with what it had."""
        last, best = self._furthest.get(number, (epoch, -math.inf))
        for passed in range(max(last + 1, epoch - LONGEST_SKIP), epoch):
            self._reached.setdefault(passed, {})[number] = best
        best = max(best, self.sign * value)
        self._furthest[number] = (max(last, epoch), best)
        self._reached.setdefault(epoch, {})[number] = best
        self.epochs_reported += 1
