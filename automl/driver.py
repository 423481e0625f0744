"""The driver, which an executor calls: hands out jobs, takes in records and exits, decides by budget and scheduler."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from automl import asking, cut, schedulers
from automl.budget import Limits, Time, bound, ended_since_best
from automl.ending import Ending
from automl.executors.base import Decision, Exit, TrialJob
from automl.failures import InARow, again, check_machine
from automl.records import BrokenRecord, Record, is_whole
from automl.same_data import Watched
from automl.timing import Timing
from automl.trackers import Tracking
from automl.trainer_warnings import finished, no_metric, slips
from automl.trial_attributes import FULL
from automl.trials import KEPT_TRIALS, Trials

if TYPE_CHECKING:
    from automl.plan import Plan
    from automl.progress import Progress
    from automl.rundir import RunDir
    from automl.study import Study

KEPT_EACH_S = 5.0  # the time used is kept at least so often


class SearchDriver:
    """Decides what runs, from the study and the trials' folders alone."""

    def __init__(
        self,
        plan: Plan,
        study: Study,
        run: RunDir,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
        after: Callable[[], Any] = lambda: None,  # called when a trial has got on or ended
        tracking: Tracking | None = None,
    ) -> None:
        self.plan, self.study, self.progress, self.clock, self.after = plan, study, progress, clock, after
        self.tracking = tracking or Tracking(("none",), run, study.name, plan.metric.name, progress.note)
        self.trials = Trials(plan, run)
        self.scheduler = schedulers.make(plan.request.scheduler if plan.searching else "none")
        study.say = progress.note
        self.limits = Limits(plan.request.trials, plan.request.trainings, plan.request.total_epochs)
        self.full_epochs = plan.bundle.epochs(plan.spec)
        self.pending: deque[TrialJob] = deque()
        self.verdicts: dict[int, Ending] = {}  # trials told to stop
        self.num_epochs: dict[int, int | None] = {}
        self.failures: dict[int, str] = {}  # number -> why it failed
        self.in_a_row = InARow(study, run, plan.searching)  # failures that nobody is told yet
        self.data = Watched(plan, run.root, study)
        self.said: set[str] = set()  # kinds of notes that are made once
        self.begun: set[int] = set()  # trials that this driver has started
        self.timing = Timing()
        self.started_at: float | None = None  # by the first job: an executor's own start is no search
        self.used_before_s = study.elapsed_s()

    # ---- what the executor asks -------------------------------------------------------------------------

    def next_job(self) -> TrialJob | None:
        job = self._next()
        if job is not None:
            self.data.look_if_due()
            self.timing.begin(job.number, now := self.clock())
            self.started_at = now if self.started_at is None else self.started_at
        return job

    def _next(self) -> TrialJob | None:
        if self.deadline_passed():
            return None
        if self.pending:
            return self.pending.popleft()
        if self._ended():
            return None
        while (paused := self._promoted()) is not None:
            self.study.go_on(paused, self.trials.goes_on_at(paused))
            self.trials.keep(paused, self.study)
            if (job := self._going_on(paused)) is not None:
                return job
        if self._all_asked():
            return None
        if (asked := asking.to_train(self.study, self.progress.ended)) is None:
            return None
        self.trials.begin(asked[0], self.study)
        return self._started(*asked, self.trials.job(*asked))

    def finished(self) -> bool:
        if self.pending:
            return False
        if self._ended():
            return True
        if self.plan.searching and self.study.going - self.in_a_row.reasons.keys():
            return False  # what is saved on it may be spent on another
        if self._all_asked() and self._promoted() is None and self.in_a_row.may_end():
            self._tell(self.in_a_row.take())
        return self._all_asked() and self._promoted() is None

    def deadline_passed(self) -> bool:
        """Asked all the time, so the time that is used is kept here too: an epoch may take hours, and a driver die."""
        elapsed_s, limit = self.elapsed_s(), self.plan.request.time_s
        if elapsed_s >= self.study.elapsed_s() + KEPT_EACH_S:
            self.study.set_elapsed_s(elapsed_s)
        return limit is not None and elapsed_s >= limit

    def on_record(self, number: int, record: dict[str, Any]) -> Decision:
        self._tell(self.in_a_row.got_on(number))
        verdict = self._handle(number, record)
        self.timing.line(number, self.clock(), self._done(number))
        self.study.set_elapsed_s(self.elapsed_s())
        self.after()
        if verdict is None:
            return Decision.CONTINUE
        self.verdicts[number] = verdict
        return Decision.PAUSE if verdict.state == "PAUSED" else Decision.STOP

    def on_progress(self, number: int, reading: dict[str, float]) -> None:
        self.progress.beat(number, reading)

    def on_exit(self, number: int, exit: Exit) -> None:
        self.study.set_elapsed_s(self.elapsed_s(), now=True)
        ended = self._outcome(number, exit)
        took = self.timing.end(number, self.clock(), self.num_epochs.get(number))
        self.study.count_seconds(number, *took)
        if ended is None:
            return self.pending.append(self._resumed(number))
        if ended.state == "FAIL" and self.in_a_row.add(number, exit, ended.reason):
            self.progress.ended(number, *ended)
        else:
            self._end(number, ended)
        self.after()

    def _outcome(self, number: int, exit: Exit) -> Ending | None:
        """How a trial ended whose processes are gone; None where it is to be started again."""
        if number in self.verdicts:
            return self._after_stop(number, self.verdicts.pop(number))
        if exit.code == 0:
            return Ending("COMPLETE", finished(self.study.epochs_of(number), self.num_epochs[number]))
        if exit.stopped:
            return self._after_stop(number, cut.TIME)
        check_machine(exit, self.plan, self.trials.run, partial(self.study.count_retry, number, FULL))
        # Its last lines may not have been passed on; one that failed after its last epoch has nothing to go on with.
        over = exit.worth_another_try and self.trials.goes_on_at(number) == self._num_epochs_of(number)
        if (exit.lost or over) and (ended := self._caught_up(number)):
            return ended
        if again(number, exit, self.study, self.progress.note):
            return None
        return Ending("FAIL", exit.reason)

    # ---- the steps ------------------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Bring trials of a dead driver up to date and put them in line; without a budget left they are cut."""
        over = cut.TIME if self.deadline_passed() else cut.EPOCHS if self.epochs_used_up() else None
        for number, _ in self.study.adopt():
            if over:
                ended = self._caught_up(number) or over
                if ended != over or not cut.is_cut(self.study.frozen(number)):
                    self._end(number, ended)
            elif (job := self._going_on(number)) is not None:
                self.pending.append(job)

    def end_paused(self) -> None:
        """At the end of a search: what still waits is told with its best epoch, what was in line is cut."""
        self._tell(self.in_a_row.take())
        while self.pending:
            self._end(self.pending.popleft().number, cut.TIME)
        self._count_budget()
        over = "the budget was used up" if self._ended() else ""
        for number, epoch in self.study.paused().items():
            why = over or self.study.budget.why_waiting(self._epochs_to_go(number), self.study.frozen(number))
            told = Ending("PRUNED", f"paused after epoch {epoch + 1}, and {why}")
            self._end(number, self._read_after_pause(number) or told)

    def name_winner(self) -> None:
        """At the end of a search: let the scheduler say which of the trials whose checkpoints are kept has won; of a
        front it is the knee."""
        best, top = [r.number for r in self.study.leaders(KEPT_TRIALS) if r.complete], self.study.best()
        self._count_budget()
        if len(best) < 2 or self.study.several or top is None or not top.complete:
            return  # of a trial that was cut, and that is better than all, the model expects no more than it has
        if (number := self.scheduler.winner(self.study.view(), best)) is not None:
            self.study.name_winner(number)

    def elapsed_s(self) -> float:
        """Seconds of search, over all drivers of the run that started a training."""
        return self.used_before_s + (0.0 if self.started_at is None else self.clock() - self.started_at)

    def _going_on(self, number: int) -> TrialJob | None:
        """What a trial still has to do, or None: it ended or waits by what its folder already holds. A process that was
        to pause, or whose driver died, may have written more lines than were handled."""
        self.trials.handled.pop(number, None)
        goes_on_at, first = self.trials.goes_on_at(number), self.plan.first
        verdict = self._caught_up(number) or cut.for_good(self.study, number, goes_on_at, first)
        if verdict is None:
            return self._resumed(number)
        self._end(number, verdict)
        return None

    def _after_stop(self, number: int, verdict: Ending) -> Ending:
        """The verdict after the lines written before the stop took effect, which are trained and count; another where
        they end the trial or one is wrong. Of one that pauses they stay unread short of its end: that is chance."""
        found, _ = self.trials.records(number)
        if verdict.state == "FAIL" or (verdict.state == "PAUSED" and not self._completed(number, found)):
            return verdict
        return self._handle_unread(number, found, judge=False) or self._completed(number, found) or verdict

    def _caught_up(self, number: int) -> Ending | None:
        """Handle what a trial's folder holds besides; how it ends where it must not go on."""
        found, broken = self.trials.records(number)
        if verdict := self._handle_unread(number, found, judge=True):
            return self._after_stop(number, verdict)
        return Ending("FAIL", f"metrics.jsonl {broken}") if broken else self._completed(number, found)

    def _read_after_pause(self, number: int) -> Ending | None:
        """Take in what a trial that will not go on wrote after its pause; how it ends, where that ends it."""
        found, done = self.trials.records(number)[0], self.study.epochs_of(number)
        self.trials.handled[number] = list(takewhile(lambda record: record.epoch < done, found))
        return self._handle_unread(number, found, judge=False) or self._completed(number, found)

    def _handle_unread(self, number: int, found: Sequence[Record], judge: bool) -> Ending | None:
        """Handle the lines on disk that have not been, up to the first that ends the trial. What was judged before a
        driver died is not judged again by what came later; of the last nobody knows."""
        self.num_epochs[number] = self._num_epochs_of(number)
        known = self.study.epochs_of(number) - 1
        for record in found[len(self.trials.handled.get(number, ())) :]:
            if verdict := self._handle(number, record.values, False, judge and record.epoch >= known):
                return verdict
        return None

    def _completed(self, number: int, found: Sequence[Record]) -> Ending | None:
        """How a trial ends whose last line is that of its last epoch."""
        return Ending("COMPLETE", "finished") if is_whole(found, self._num_epochs_of(number)) else None

    def _num_epochs_of(self, number: int) -> int | None:
        """The epochs of a trial's training."""
        params = self.study.frozen(number).user_attrs["params"]
        return self.num_epochs.get(number) or self.trials.num_epochs(number, params)

    def _handle(
        self, number: int, line: Mapping[str, Any], tidy: bool = True, judge: bool = True
    ) -> Ending | None:
        """Handle one line; how the trial ends when it must not go on, by the scheduler's word only to `judge`."""
        handled = self.trials.handled.setdefault(number, [])
        try:
            record, value = self.trials.take(number, line, self.num_epochs.get(number))
            self._note_slips(number)
            bound(self.study, number, record.epoch, self.num_epochs.get(number))
            self.tracking.record(number, record.epoch, record.values)
            verdict = self._store(number, record, value, tidy)
            if verdict is None and judge:
                verdict = self._verdict(number, record.epoch, value is not None)
            return verdict
        except BrokenRecord as error:
            return Ending("FAIL", f"metrics.jsonl line {len(handled) + 1}: {error}")

    def _note_slips(self, number: int) -> None:
        """Say once of each kind what a trainer's lines let suspect."""
        key = self.plan.bundle.spec_key("train", "resume_model")
        for kind, text in slips(number, self.trials.handled[number], self.num_epochs.get(number), key):
            self._say_once(kind, text)

    def _say_once(self, kind: str, text: str) -> None:
        if kind not in self.said:
            self.said.add(kind)
            self.progress.note(text)

    def _store(self, number: int, record: Record, value: float | None, tidy: bool) -> Ending | None:
        """Store one epoch; how the trial ends by one that cannot be."""
        if name := record.diverged(self.plan.bundle.finite):
            return Ending("FAIL", f"{name} is not finite in epoch {record.epoch + 1}")
        if value is None:
            self.study.passed(number, record.epoch)
            return None
        self.study.report(number, record.epoch, value)
        self.progress.epoch(number, record.epoch, value)
        if tidy:
            curve = self.study.frozen(number).intermediate_values
            best = self.study.best_epoch(curve, self.trials.scoring(number))
            self.trials.keep_while_running(number, best)
        return None

    def _verdict(self, number: int, epoch: int, measured: bool) -> Ending | None:
        num_epochs = self.num_epochs[number]
        if num_epochs is not None and epoch + 1 >= num_epochs:
            return None
        if self.epochs_used_up():
            return cut.EPOCHS
        if num_epochs is None or not measured or number == self.plan.first:  # all are compared with the first
            return None
        self._count_budget()
        resumable = self.trials.goes_on_at(number) > 0
        verdict = self.study.decide(number, epoch, self.scheduler, num_epochs, resumable)
        if verdict is None:
            return None
        if verdict.action == "pause" and resumable:
            # One that had to start from nothing comes by again: it does not wait twice at the same place.
            waited = self.study.frozen(number).user_attrs.get("waited", -1)
            return Ending("PAUSED", verdict.reason) if epoch > waited else None
        return Ending("PRUNED", verdict.reason)

    def _tell(self, failed: Mapping[int, str]) -> None:
        for number, reason in failed.items():
            self._end(number, Ending("FAIL", reason))

    def _end(self, number: int, ending: Ending) -> None:
        if ending.state in ("PAUSED", "CUT"):
            return self._leave_open(number, ending)
        if ending.state == "COMPLETE" and not self.study.frozen(number).intermediate_values:
            found = self.trials.handled.get(number) or self.trials.records(number)[0]
            ending = Ending("FAIL", no_metric(found, self.plan.metric.name))
        # Words of a trainer may be no text.
        reason = ending.reason.encode("utf-8", "backslashreplace").decode()
        self.study.tell(number, ending.state, reason, self.trials.scoring(number))
        self.trials.keep(number, self.study)
        state = self.study.state(number)
        scored = self.study.result(number) if self.study.frozen(number).intermediate_values else None
        self.progress.ended(number, state, reason, scored.value if scored else None)
        self.tracking.ended(number, state, reason, scored)
        self.trials.let_go(number)
        self.trials.keep_best(self.study)
        if state == "FAIL":
            self.failures[number] = self.trials.run.failure(number, reason)

    def _leave_open(self, number: int, ending: Ending) -> None:
        """Leave a trial to be gone on with."""
        self.study.note(number, reason=ending.reason)
        if ending.state == "CUT":
            self.study.note(number, cut=True)
            self.study.keep_passed(number)
        else:  # an attempt before this one may have got further
            self.study.set_paused(number, self.trials.handled[number][-1].epoch)
        self.trials.keep(number, self.study)
        self.progress.ended(number, *ending)
        self.tracking.ended(number, "PAUSED", ending.reason)

    def _started(
        self, number: int, params: Mapping[str, Any], job: TrialJob, from_epoch: int = 0
    ) -> TrialJob:
        self.begun.add(number)
        self.in_a_row.begun(number)
        self.num_epochs[number] = self.trials.num_epochs(number, params)
        self.progress.started(number, dict(params), self.num_epochs[number], from_epoch)
        return job

    def _resumed(self, number: int) -> TrialJob:
        params = dict(self.study.frozen(number).user_attrs["params"])
        job = self.trials.resumed(number, params)
        epoch = self._done(number)
        attempts = [*self.study.frozen(number).user_attrs.get("starts", ()), epoch]
        self.study.note(number, starts=attempts, cut=False)
        return self._started(number, params, job, epoch)

    def _done(self, number: int) -> int:
        """After how many epochs a process stands, or would begin."""
        handled = self.trials.handled.get(number)
        return handled[-1].epoch + 1 if handled else 0

    # ---- budget and disk ------------------------------------------------------------------------------------

    def _ended(self) -> bool:
        """Nothing more may be started, not even a paused trial."""
        return (
            self.in_a_row.too_many()
            or self.epochs_used_up()
            or self.patience_over()
            or self.deadline_passed()
        )

    def epochs_used_up(self) -> bool:
        total = self.plan.request.total_epochs
        return total is not None and self.study.epochs_trained >= total

    def _promoted(self) -> int | None:
        """The paused trial that goes on now, when what is left of the budget brings it to its end."""
        self._count_budget()
        number = self.scheduler.promote(self.study.view())
        if number is None or self.full_epochs is None:
            return number
        return number if self._epochs_to_go(number) <= self.study.budget.free else None

    def _epochs_to_go(self, number: int) -> int:
        """The epochs that a trial that waits would still add: what it wrote after its pause is not counted yet."""
        return (self._num_epochs_of(number) or 0) - min(
            self.study.epochs_of(number), self.trials.goes_on_at(number)
        )

    def _all_asked(self) -> bool:
        """No new configuration may be asked for."""
        if not self.plan.searching:
            return len(self.study.trials()) >= 1
        self._count_budget()
        return not self.study.budget.new

    def _count_budget(self) -> None:
        self.study.budget = self.limits.left(self.study, self.full_epochs, self.time_left(), self.num_epochs)
        if self.plan.searching and self.study.budget.new and (why := asking.at_end(self.study)):
            self.study.budget = replace(self.study.budget, new=False)
            self._say_once("whole", why)

    def time_left(self) -> Time | None:
        """None while nobody knows the pace."""
        limit, used_s, done = self.plan.request.time_s, self.elapsed_s(), self.study.epochs_trained
        if limit is None or done < (self.full_epochs or 1):
            return None
        at_a_time = max(self.plan.machine.concurrency, len(self.study.going))
        return Time.of(max(0.0, limit - used_s), used_s, done, at_a_time)

    def patience_over(self) -> bool:
        """So many trials in a row have ended without a new best."""
        patience = self.plan.request.patience if self.plan.searching else None
        return patience is not None and ended_since_best(self.study, self.full_epochs) > patience
