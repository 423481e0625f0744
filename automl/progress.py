"""What a person sees while a search runs: a live table in a terminal, one line an event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from automl import spec
from automl.dotted import last_words
from automl.ending import State
from automl.forecast import clock, share
from automl.metric import Metric, counted, figure
from automl.request import RunRequest

if TYPE_CHECKING:
    from automl.plan import Plan
    from automl.study import Study

ROWS = 12
ENDED = ("COMPLETE", "PRUNED", "FAIL")
FEW = 3  # ended trials, from which on their usual length is known
BEATS = 6  # trials whose progress within the epoch is shown below the table
BAR = 8  # characters of its bar
BEAT_S = 5.0  # between two lines about one trial's progress within an epoch
STATE_STYLE = {
    "RUNNING": "cyan",
    "COMPLETE": "green",
    "PRUNED": "yellow",
    "PAUSED": "yellow",
    "CUT": "yellow",
    "WAITING": "yellow",
    "FAIL": "red",
}


@dataclass
class Row:
    number: int
    num_epochs: int | None  # None: nobody knows
    epoch: int = 0  # epochs done
    value: float | None = None  # of the last epoch
    best: float | None = None
    state: State = "RUNNING"
    reason: str = ""
    params: str = ""
    beat: Mapping[str, float] = field(default_factory=dict)  # where it stands within the epoch
    told_at: float = 0.0  # when a line last spoke of it


class Progress:
    """Fed by the driver. `console` decides where it goes; nothing is drawn when `quiet`."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or Console()
        self.quiet = quiet
        self.rows: dict[int, Row] = {}
        self.live: Live | None = None
        self.metric = Metric("metric")
        self.base: Mapping[str, Any] = {}  # the default configuration's spec
        self.told: dict[
            int, int
        ] = {}  # trial -> its last epoch that has been told, maybe by an earlier driver
        self.started_at, self.used_before_s = time.monotonic(), 0.0
        self.request = RunRequest()
        self.trials: int | None = None  # that the budget holds
        self.num_epochs: int | None = None  # of a training
        self.share = 1.0  # of them that a later trial takes
        self.study: Study | None = None

    def begin(self, plan: Plan, study: Study) -> None:
        self.metric, self.request, self.base = plan.metric, plan.request, plan.spec
        self.trials = plan.request.trials if plan.searching else 1
        self.num_epochs, self.share = plan.bundle.epochs(plan.spec), share(plan.request)
        self.study, self.started_at, self.used_before_s = study, time.monotonic(), study.elapsed_s()
        for trial in study.trials():
            curve = trial.intermediate_values
            last = max(curve, default=-1)
            best = self.metric.best(curve.values())
            row = Row(trial.number, None, last + 1, curve.get(last), best, study.state(trial.number))
            row.params = self._row_text(trial.number, trial.user_attrs.get("params", {}))
            if row.state != "RUNNING":  # what it once waited for is over
                row.reason = str(trial.user_attrs.get("reason", ""))
            self.told[trial.number] = last
            self.rows[trial.number] = row
        if self.console.is_terminal and not self.quiet:
            self.live = Live(get_renderable=self._render, console=self.console, refresh_per_second=2)
            self.live.start()

    def end(self) -> None:
        if self.live:
            self.live.stop()
            self.live = None

    def started(
        self, number: int, params: Mapping[str, Any], num_epochs: int | None, from_epoch: int = 0
    ) -> None:
        text = self._told(params)
        row = self.rows.setdefault(number, Row(number, num_epochs))
        row.num_epochs, row.state, row.reason = num_epochs, "RUNNING", ""
        row.params = self._row_text(number, params)
        if not from_epoch:
            self.told.pop(number, None)  # it starts from nothing
            if row.epoch:
                self.note(
                    f"trial {number} was trained for {counted(row.epoch, 'epoch')} before, and its folder holds no "
                    "line with a checkpoint to go on from: it starts again from nothing"
                )
        what = f"goes on from epoch {from_epoch + 1}" if from_epoch else "starts"
        shown = f"default configuration ({text})" if number == 0 and text else text or "the spec as it is"
        self._say(f"trial {number} {what}: {shown}")

    def _row_text(self, number: int, params: Mapping[str, Any]) -> str:
        return f"default: {self._told(params)}" if number == 0 and params else self._told(params)

    def _told(self, params: Mapping[str, Any]) -> str:
        """What differs from the default configuration first."""
        rows = sorted(params.items(), key=lambda row: spec.get(self.base, row[0]) == row[1])
        names = last_words(params)
        return ", ".join(f"{names[name]} {short(value)}" for name, value in rows)

    def epoch(self, number: int, epoch: int, value: float) -> None:
        row = self.rows.setdefault(number, Row(number, None))
        row.epoch, row.value, row.beat = min(epoch + 1, row.num_epochs or epoch + 1), value, {}
        if row.best is None or self.metric.better(value, row.best):
            row.best = value
        if epoch <= self.told.get(number, -1):
            return
        self.told[number] = epoch
        self._say(
            f"trial {number} epoch {_of(row.epoch, row.num_epochs)}: {self.metric.name} {figure(value)}"
        )

    def beat(self, number: int, reading: Mapping[str, float]) -> None:
        """Where a trial stands within its epoch, as its trainer names the numbers."""
        row = self.rows.setdefault(number, Row(number, None))
        row.beat = dict(reading)
        if time.monotonic() - row.told_at >= BEAT_S:
            row.told_at = time.monotonic()
            self._say(f"trial {number} {beat_text(reading)}")

    def ended(self, number: int, state: State, reason: str, scored: float | None = None) -> None:
        """`scored`: what counts of the trial: of a trainer that writes over its checkpoint, that of the last epoch."""
        row = self.rows.setdefault(number, Row(number, None))
        if (row.state, row.reason) == (state, reason):
            return  # a failure in a row is told when it comes, and ends the trial later
        row.state, row.reason, row.beat = state, reason, {}
        if scored is not None:
            row.best = scored
        best = f", best {figure(row.best)}" if row.best is not None else ""
        self._say(f"trial {number} {state}{best}: {reason}")

    def note(self, text: str) -> None:
        if not self.quiet:
            self._print(text)

    def _say(self, text: str) -> None:
        if not self.live and not self.quiet:
            self._print(f"[{time.strftime('%H:%M:%S')}] {text}")

    def _print(self, text: str) -> None:
        """A line of a log stays one line."""
        self.console.print(Text(text), soft_wrap=not self.console.is_terminal)

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        for name, width in (("trial", 5), ("state", 8), ("epoch", 7), (self.metric.name, 9), ("best", 9)):
            table.add_column(
                Text(name), justify="left" if name == "state" else "right", width=width, no_wrap=True
            )
        table.add_column("", overflow="ellipsis", no_wrap=True, ratio=1)
        rows = sorted(self.rows.values(), key=lambda r: r.number)
        top = self.metric.best(r.best for r in rows if r.best is not None)
        hidden = max(0, len(rows) - ROWS)
        for row in [r for r in rows[:hidden] if r.best == top and top is not None][:1] + rows[hidden:]:
            crown = "*" if row.best is not None and row.best == top else ""
            table.add_row(
                f"{crown}{row.number}",
                Text(row.state, STATE_STYLE.get(row.state, "")),
                _of(row.epoch, row.num_epochs),
                figure(row.value),
                figure(row.best),
                Text(_last_column(row)),
            )
        beats = [self._within(row) for row in rows if row.beat and row.state == "RUNNING"]
        return Group(table, *beats[:BEATS], Text(self._footer(top), style="dim"))

    def _within(self, row: Row) -> Text:
        """A line about where a trial stands within its epoch, with a bar of that."""
        left = {name: value for name, value in row.beat.items() if name != "epoch"} | within(
            row.beat, row.num_epochs
        )
        full, empty = ("#", ".") if self.console.options.ascii_only else ("━", "─")
        done = round(BAR * share_of_epoch(row.beat, row.num_epochs))
        text = Text(f"trial {row.number} ", "cyan", no_wrap=True, overflow="ellipsis")
        text.append(full * done + empty * (BAR - done))
        return text.append(f"  {beat_text(left)}", "default")

    def _footer(self, top: float | None) -> str:
        used = self._used_s()
        ended = sum(row.state in ENDED for row in self._trained())
        budget = f"{ended} of {counted(self.trials, 'trial')}" if self.trials else counted(ended, "trial")
        eta = self.eta_s(used)
        left = f", about {clock(eta)} left" if eta is not None else ""
        return f"best {self.metric.name} {figure(top)}   {budget}, {clock(used)} gone{left}"

    def _used_s(self) -> float:
        """Seconds of search, over all drivers of the run."""
        return self.used_before_s + time.monotonic() - self.started_at

    def eta_s(self, used: float) -> float | None:
        """Seconds left by the budget that will end first, going by the pace of all drivers so far."""
        done = self.study.epochs_trained if self.study else 0
        guesses, pace = [], used / done if done else None
        if self.request.time_s:
            guesses.append(self.request.time_s - used)
        if self.request.total_epochs and pace:
            guesses.append(pace * (self.request.total_epochs - done))
        if self.request.trainings and self.num_epochs and pace:
            guesses.append(pace * (self.request.trainings * self.num_epochs - done))
        if self.trials and self.num_epochs and pace:
            guesses.append(pace * self._epochs_left(self.trials, self.num_epochs))
        return max(0.0, min(guesses)) if guesses else None

    def _epochs_left(self, trials: int, num_epochs: int) -> float:
        """Epochs until so many trials have ended, the later ones as long as those before on average."""
        rows = self._trained()
        after = [row.epoch for row in rows if row.number and row.state in ENDED]
        usual = sum(after) / len(after) if len(after) >= FEW else self.share * num_epochs
        running = [row for row in rows if row.state not in ENDED]
        left = sum(max(0.0, (usual if row.number else num_epochs) - row.epoch) for row in running)
        return left + max(0, trials - len(rows)) * usual

    def _trained(self) -> list[Row]:
        """Without those that a limit of latency refused: no budget counts them."""
        refused = self.study.refused if self.study else ()
        return [row for row in self.rows.values() if row.number not in refused]


def within(beat: Mapping[str, float], num_epochs: int | None) -> dict[str, float]:
    """`step` and `steps` of this epoch alone, where they count over all epochs; empty where that cannot be told."""
    if not num_epochs or not beat.get("steps") or "step" not in beat:
        return {}
    each = beat["steps"] / num_epochs
    return {"step": max(0.0, beat["step"] - each * beat.get("epoch", 0.0)), "steps": each}


def share_of_epoch(beat: Mapping[str, float], num_epochs: int | None) -> float:
    """How much of its epoch a trial has trained, 0 to 1: `step` of `steps` counts over all epochs."""
    done = beat.get("step", 0.0) / beat["steps"] if beat.get("steps") else 0.0
    inside = done * (num_epochs or 1) - (beat.get("epoch", 0.0) if num_epochs else 0.0)
    return min(1.0, max(0.0, inside))


def beat_text(reading: Mapping[str, float]) -> str:
    """A heartbeat's numbers in a line: `epoch 3  step 40/120  loss 1.23  8.1 images/s  868 MB  2m10s left`."""
    left = dict(reading)
    words = []
    if "epoch" in left:
        words.append(f"epoch {left.pop('epoch') + 1:.0f}")
    if "step" in left:
        of = f"/{left.pop('steps'):.0f}" if "steps" in left else ""
        words.append(f"step {left.pop('step'):.0f}{of}")
    eta = left.pop("eta_s", None)
    words += [_reading(name, value) for name, value in left.items()]
    return "  ".join([*words, *([f"{clock(eta)} left"] if eta is not None else [])])


def _reading(name: str, value: float) -> str:
    if name.endswith("_per_s"):
        return f"{value:.3g} {name[:-6]}/s"
    if name.endswith("_mb"):
        return f"{value:.0f} MB" if value < 10_000 else f"{value / 1024:.3g} GB"
    return f"validating {value:.0%}" if name == "validating" else f"{name} {value:.3g}"


def short(value: Any) -> str:
    """A value in as few characters as tell it: 0.00021, 3e-05, AdamW."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _last_column(row: Row) -> str:
    """Why a trial failed, then its parameters; its state says whether it has ended."""
    failed = row.reason if row.state == "FAIL" else ""
    return "  ".join(filter(None, (failed, row.params or row.reason)))


def _of(epoch: int, num_epochs: int | None) -> str:
    return str(epoch) if num_epochs is None else f"{epoch}/{num_epochs}"
