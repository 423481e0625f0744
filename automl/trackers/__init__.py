"""Experiment trackers: a run of theirs for each trial, fed from the trials' records.

`--log tensorboard|wandb|mlflow`. Only the driver's side speaks to them, in one thread beside it: a tracker that is slow
keeps no trial waiting, and one that fails is named once and left alone from then on. Which epochs they have is kept in
`trials/0007/tracked.json`, so that a resumed run repeats none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import spec
from automl.documents import load_json
from automl.ending import State
from automl.errors import SpecError, UserError, did_you_mean
from automl.records import is_finite
from automl.rundir import RunDir, write_json
from automl.study import DEFAULT

if TYPE_CHECKING:
    from automl.report.raster import Picture
    from automl.study import TrialResult

MODULES = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
}  # name -> the package it needs
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow-skinny"}  # on PyPI
STATE = "tracked.json"


@dataclass(frozen=True)
class Trial:
    """What a tracker is told of a trial. `study` groups the trials of a run; `params` are the searched values, `spec`
    all of the configuration."""

    study: str
    number: int
    folder: Path
    params: Mapping[str, Any]
    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"trial {self.number}" + (" (default)" if self.number == DEFAULT and self.params else "")


class Run:
    """A tracker's run of one trial. `id` is what it goes on by; None: it needs none."""

    id: str | None = None

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """The numbers of one epoch, counted from 1."""
        raise NotImplementedError

    def end(self, state: State, reason: str, figures: Mapping[str, float]) -> None:
        """`state`: COMPLETE, PRUNED, FAIL or PAUSED (it may be opened again)."""
        raise NotImplementedError

    def mark(self, won: bool, report: Path | None, pictures: Sequence[Picture] = ()) -> None:
        """The search is over and this trial has won, or no longer has; `report` is the run's page, `pictures` what the
        stages drew. Ends it."""
        raise NotImplementedError


def names_of(given: tuple[str, ...]) -> tuple[str, ...]:
    """The trackers that `--log` asks for; unasked TensorBoard's files, which stay here, where it is installed."""
    if not given:
        return ("tensorboard",) if find_spec("tensorboard") else ()
    return tuple(name for name in dict.fromkeys(given) if name != "none")


def check(given: tuple[str, ...]) -> None:
    """Raises `UserError` for a tracker that is not known, not installed, or could not be reached."""
    for name in names_of(given):
        if name not in MODULES:
            known = [*MODULES, "none"]
            raise UserError(
                f"--log must be {' or '.join(known)}, but got '{name}'{did_you_mean(name, known)}"
            )
        if find_spec(MODULES[name]) is None:
            raise UserError(f"--log {name} needs a package: pip install {PACKAGES[name]}")
        if given:
            _module(name).check()


def _module(name: str) -> Any:
    return import_module(f"automl.trackers.{name}_runs")


class Tracking:
    """The trackers of a run. Every call returns at once."""

    def __init__(
        self, given: tuple[str, ...], folder: RunDir, study: str, metric: str, say: Callable[[str], None],
        known: Callable[[int], Mapping[str, float]] = lambda number: {},
    ) -> None:  # fmt: skip
        """`known`: figures of a trial that its records do not hold."""
        self.folder, self.study, self.metric, self.say, self.known = folder, study, metric, say, known
        self.names = list(names_of(given))
        self.open: dict[tuple[str, int], Run] = {}
        self.queue: ThreadPoolExecutor | None = None
        # Imported here and not in the thread: a Ctrl-C that hits the main thread while it waits for an import of
        # another's leaves the interpreter's import lock taken, and the other waits for ever.
        self._safely(lambda name: getattr(_module(name), "load", lambda: None)())

    def record(self, number: int, epoch: int, values: Mapping[str, Any]) -> None:
        """One line of a trial's metrics.jsonl; `epoch` counts from 0, as there."""
        if not self.names:
            return
        told = {**self.known(number), **values}
        plain = {str(k): float(v) for k, v in told.items() if k != "epoch" and is_finite(v)}
        self._each(lambda name: self._log(name, number, epoch + 1, plain))

    def ended(self, number: int, state: State, reason: str, best: TrialResult | None = None) -> None:
        """A trial ended or was paused; `best` is what it scored."""
        figures = {f"best {self.metric}": best.value, "best epoch": best.epoch + 1.0} if best else {}
        figures |= self.known(number)
        self._each(lambda name: self._end(name, number, state, reason, figures))

    def finish(self, winner: int, report: Path | None) -> None:
        """Mark the winner and wait until everything is written."""
        self._each(lambda name: self._crown(name, winner, report))
        self._each(lambda name: getattr(_module(name), "close", lambda: None)())
        self.close()

    def close(self) -> None:
        """Let go of what is open, after all that was told; a run that goes on opens it again."""
        self._each(self._let_go)
        if self.queue is not None:
            self.queue.shutdown(wait=True)
            self.queue = None

    # ---- in the thread --------------------------------------------------------------------------------------

    def _each(self, act: Callable[[str], None]) -> None:
        if self.names:
            self.queue = self.queue or ThreadPoolExecutor(1, "trackers")
            try:
                self.queue.submit(self._safely, act)
            except RuntimeError as error:  # no thread may be started
                for name in list(self.names):
                    self._give_up(name, error)

    def _safely(self, act: Callable[[str], object]) -> None:
        for name in list(self.names):
            try:
                act(name)
            except Exception as error:  # the tracker's own trouble, of which no trial depends
                self._give_up(name, error)

    def _give_up(self, name: str, error: Exception) -> None:
        self.names.remove(name)
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        self.say(f"note: {name} was told no more: {reason}")

    def _log(self, name: str, number: int, epoch: int, values: Mapping[str, float]) -> None:
        state = self._state(number)
        if epoch <= state.get(name, {}).get("epoch", 0):
            return
        run = self._run(name, number)
        run.log(epoch, values)
        going_on = {key: value for key, value in state.get(name, {}).items() if key != "state"}
        self._keep(number, name, going_on | {"id": run.id, "epoch": epoch})

    def _end(self, name: str, number: int, state: State, reason: str, figures: Mapping[str, float]) -> None:
        known = self._state(number).get(name, {})
        if known.get("state") == state or (state == "PAUSED" and (name, number) not in self.open):
            return
        run = self._run(name, number)
        run.end(state, reason, figures)
        self.open.pop((name, number), None)
        self._keep(number, name, known | {"id": run.id, "state": state})

    def _crown(self, name: str, winner: int, report: Path | None) -> None:
        """Of a run that went on, the winner of before is none any more."""
        from automl.report import raster

        marked = {n for n in self.folder.trials() if self._state(n).get(name, {}).get("won")}
        for number in [*sorted(marked - {winner}), winner]:
            run, known = self._run(name, number), self._state(number).get(name, {})
            won = number == winner
            run.mark(won, *((report, raster.of_winner(self.folder.root)) if won else (None, ())))
            self.open.pop((name, number), None)
            self._keep(number, name, known | {"id": run.id, "won": won})

    def _let_go(self, name: str) -> None:
        for each, number in list(self.open):
            if each == name:
                self._end(name, number, "PAUSED", "", {})

    def _run(self, name: str, number: int) -> Run:
        if (name, number) not in self.open:
            folder = self.folder.trial(number)
            full = spec.load(folder / "spec.yaml")
            trial = Trial(self.study, number, folder, self._params(full), full)
            known = self._state(number).get(name, {}).get("id")
            self.open[name, number] = _module(name).open_run(trial, known, self.folder.root)
        return self.open[name, number]

    def _params(self, full: Mapping[str, Any]) -> Mapping[str, Any]:
        """The searched ones of a trial's whole configuration."""
        rows = self.folder.read_run().get("space") or []
        return {str(row["name"]): spec.get(full, str(row["name"])) for row in rows}

    def _state(self, number: int) -> dict[str, Any]:
        try:
            found = load_json(self.folder.trial(number) / STATE)
        except (OSError, SpecError):
            return {}
        return found if isinstance(found, dict) else {}

    def _keep(self, number: int, name: str, state: Mapping[str, Any]) -> None:
        write_json(self.folder.trial(number) / STATE, self._state(number) | {name: dict(state)})


def flat(node: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration by dotted names; lists as text."""
    return {
        name: value if isinstance(value, int | float | str | bool) else str(value)
        for name, value in spec.leaves(node)
    }
