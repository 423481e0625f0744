"""What a study keeps in its storage beside the trials, and the way in which everything gets there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from automl.cut import is_cut
from automl.ending import State
from automl.faults import is_away, patiently
from automl.foreign_writes import next_trial, tell_if_changed
from automl.trial_attributes import PAUSED, RETRIED_AT

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

ELAPSED_STEP_S = 1.0  # the running time is stored when it has grown by so much


def state_of(trial: FrozenTrial, running: bool = True) -> State:
    """A trial's state in a person's words: PAUSED by the scheduler; CUT by a budget; WAITING for a driver where none is
    `running`; else Optuna's."""
    if trial.state.name != "RUNNING":
        return cast(State, trial.state.name)
    if is_cut(trial):
        return "CUT"
    paused = trial.user_attrs.get(PAUSED, -1) >= 0
    return "PAUSED" if paused else "RUNNING" if running else "WAITING"


class Stored:
    """`version` grows with every write but of the running time; `say` is told where a database lets wait, `timed` how
    long the search has run; `still_alone` is asked before a write, and told whether the database was away just now
    (sole_driver.py)."""

    storage: Any
    name: str
    version: int
    rebuilding: bool
    given_up = False  # the database stayed away: what an ending run still writes does not wait for it again
    say: Callable[[str], object]
    timed: Callable[[float], object]
    still_alone: Callable[[bool], object] | None = None
    _id: int
    _elapsed_s: float
    _trials: list[FrozenTrial]

    def trials(self) -> list[FrozenTrial]:
        return self._trials

    def frozen(self, number: int) -> FrozenTrial:
        return self._trials[number]

    def retries(self, number: int, kind: str = "retries") -> int:
        """How many starts of this `kind` a trial has had since it last got on by an epoch."""
        known = self.frozen(number).user_attrs
        done = self.epochs_of(number)
        return int(known.get(kind, 0)) if known.get(RETRIED_AT.format(kind), done) == done else 0

    def count_retry(self, number: int, kind: str = "retries") -> int:
        """Note one more start of a trial after a crash, or of another `kind`; returns how many there are by then."""
        self.note(
            number,
            **{kind: self.retries(number, kind) + 1, RETRIED_AT.format(kind): self.epochs_of(number)},
        )
        return self.retries(number, kind)

    def epochs_of(self, number: int) -> int:
        """How many epochs a trial has been trained."""
        raise NotImplementedError

    def note(self, number: int, **facts: Any) -> None:
        """Keep what is to be told of a trial."""
        for name, fact in facts.items():
            self._set(self.frozen(number), name, fact)

    def count_seconds(self, number: int, ran_s: float, timed_s: float, timed: int) -> None:
        """Add what a process that has ended took, and what of that so many epochs did."""
        known = self.frozen(number).user_attrs
        self.note(number, seconds=round(known.get("seconds", 0.0) + ran_s, 3))
        if timed:
            more_s, more = known.get("timed_s", 0.0) + timed_s, known.get("timed", 0) + timed
            self.note(number, timed_s=round(more_s, 3), timed=more)

    def elapsed_s(self) -> float:
        return self._elapsed_s

    def set_elapsed_s(self, seconds: float, now: bool = False) -> None:
        """Keep the running time; stored when it has grown by a second, or `now`."""
        if now or abs(seconds - self._elapsed_s) >= ELAPSED_STEP_S:
            self._elapsed_s = round(seconds, 3)
            self._write(self.storage.set_study_user_attr, self._id, "elapsed_s", self._elapsed_s)
            self.timed(self._elapsed_s)

    def set_rebuilding(self, now: bool) -> None:
        """Note that the study is being made again from the trials' folders, for the case that its driver dies."""
        self.rebuilding = now
        self._write(self.storage.set_study_user_attr, self._id, "rebuilding", now)

    def close(self) -> None:
        """Let go of the database's connections (opened again when needed): the last one writes SQLite's log into its
        file, which then is whole by itself."""
        if hasattr(self.storage, "engine"):
            self.storage.remove_session()
            self.storage.engine.dispose()

    def _set(self, trial: FrozenTrial, name: str, value: Any) -> None:
        self._write(self.storage.set_trial_user_attr, trial._trial_id, name, value)
        trial.user_attrs[name] = value

    def _write(self, write: Any, *args: Any, **kwargs: Any) -> Any:
        """Write to the storage; a study that somebody has deleted there is told as such."""
        self.version += args[1:2] != ("elapsed_s",)
        made = partial(next_trial, self) if write == self.storage.create_new_trial else None
        tries = count()

        def written() -> Any:
            if self.still_alone:
                self.still_alone(next(tries) > 0)
            return write(*args, **kwargs)

        try:
            found = patiently(written, made, self.say, self.given_up)
            self.given_up = False
            return found
        except Exception as error:
            self.given_up = is_away(error)
            tell_if_changed(self, error)
            raise
