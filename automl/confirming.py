"""Winner and default trained again with other seeds: what is left of the gain without the luck of one draw.

A search picks the best of many noisy figures, so the gain that it shows flatters. These trainings come after the
hand-over, side by side as trials are, in `confirm/seed_N/trials/`; a run that is cut off goes on with them.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from automl import faults, records, spec
from automl.confirmed import Confirmed, other_seeds
from automl.executors.base import MAX_LOSSES, MAX_STARTS, Decision, Executor, Exit, TrialJob
from automl.metric import figure
from automl.records import BrokenRecord
from automl.rundir import RunDir, write_json
from automl.trials import Trials

if TYPE_CHECKING:
    from pathlib import Path

    from automl.plan import Plan
    from automl.study import TrialResult

FOLDER = "confirm"
VALUE = "value.json"  # in a training's folder once it has run to its end
TELL_S = 8.0  # between two lines about trainings that go on


def confirm(
    plan: Plan,
    run: RunDir,
    winner: TrialResult,
    default: TrialResult,
    executor: Executor,
    say: Callable[[str], Any],
) -> Confirmed:
    """Train both again with `--confirm` other seeds. Raises what the executor raises; what has ended stays."""
    seeds = other_seeds(
        spec.get(plan.spec, plan.bundle.seed_key), plan.request.seed, plan.request.confirm or 0
    )
    trainings = [
        Training(_with_seed(plan, seed), RunDir(run.root / FOLDER / f"seed_{seed}"), who, best)
        for seed in seeds
        for who, best in (("winner", winner), ("default", default))
    ]
    repeats = Repeats(plan, run.root, trainings, say)
    executor.run(repeats)
    values = [training.value() for training in trainings]
    pairs = [
        (seed, ours, theirs)
        for seed, ours, theirs in zip(seeds, values[::2], values[1::2], strict=True)
        if ours is not None and theirs is not None
    ]
    gain, failed = plan.metric.gain(winner.value, default.value), list(repeats.failed.values())
    return Confirmed(gain, pairs, failed, cut=not winner.complete)


def _with_seed(plan: Plan, seed: int) -> Plan:
    full = copy.deepcopy(plan.spec)
    spec.put(full, plan.bundle.seed_key, seed)
    return replace(plan, spec=full)


class Training:
    """One training to be done again; its folder is that of a trial of the same number."""

    def __init__(self, plan: Plan, run: RunDir, who: str, best: TrialResult) -> None:
        self.plan, self.who, self.best = plan, who, best
        self.trials = Trials(plan, run)
        self.folder = run.trial(best.number)
        self.label = f"{who}, {run.root.name.replace('_', ' ')}"
        self.epochs = self.trials.num_epochs(best.number, best.params)

    def value(self) -> float | None:
        """Of its best epoch, once it has run to its end."""
        try:
            found = json.loads((self.folder / VALUE).read_text())
        except (OSError, ValueError):
            return None
        same = isinstance(found, dict) and found.get("params") == json.loads(json.dumps(self.best.params))
        return float(found["value"]) if same and records.is_finite(found.get("value")) else None

    def at_end(self) -> bool:
        """Whether nothing is left to train, though nobody may have seen it end."""
        return self.trials.goes_on_at(self.best.number) == self.epochs

    def job(self) -> TrialJob:
        return self.trials.resumed(self.best.number, self.best.params)

    def finish(self) -> bool:
        """Keep its value, and none of its checkpoints; False where it has reported none."""
        found, _ = self.trials.records(self.best.number)
        counts = self.trials.scoring(self.best.number)
        values = ((r.epoch, r.number(self.plan.metric.name)) for r in found)
        value = self.plan.metric.best(v for epoch, v in values if v is not None and epoch in counts)
        if value is not None:
            write_json(self.folder / VALUE, {"value": value, "params": self.best.params})
        self.trials.keep_of_ended({}, [self.best.number])
        return value is not None


class Repeats:
    """The driver of these trainings: each runs to its end."""

    def __init__(
        self, plan: Plan, root: Path, trainings: Sequence[Training], say: Callable[[str], Any]
    ) -> None:
        self.plan, self.root, self.trainings, self.say = plan, root, trainings, say
        self.pending = deque(
            n
            for n, training in enumerate(trainings)
            if training.value() is None and not (training.at_end() and training.finish())
        )
        self.starts: Counter[int] = Counter()
        self.broken: dict[int, str] = {}
        self.failed: dict[int, str] = {}
        self.told_at = -math.inf

    def next_job(self) -> TrialJob | None:
        if not self.pending:
            return None
        number = self.pending.popleft()
        self.starts[number] += 1
        self.say(f"confirm {number + 1} of {len(self.trainings)}: {self.trainings[number].label} ...")
        return replace(self.trainings[number].job(), number=number)

    def finished(self) -> bool:
        return not self.pending

    def deadline_passed(self) -> bool:
        return False

    def on_record(self, number: int, record: Mapping[str, Any]) -> Decision:
        training, metric = self.trainings[number], self.plan.metric.name
        try:
            found, value = training.trials.take(training.best.number, record)
            if name := found.diverged(self.plan.bundle.finite):
                raise BrokenRecord(f"{name} is not finite in epoch {found.epoch + 1}")
        except BrokenRecord as error:
            self.broken[number] = str(error)
            return Decision.STOP
        training.trials.keep_while_running(training.best.number, None)
        shown = "" if value is None else f", {metric} {figure(value)}"
        self._tell(f"{training.label}: epoch {found.epoch + 1} of {training.epochs or '?'}{shown}")
        return Decision.CONTINUE

    def on_progress(self, number: int, reading: Mapping[str, float]) -> None:
        if time.monotonic() - self.told_at >= TELL_S:
            step, steps = (reading.get(name) for name in ("step", "steps"))
            at = f", step {step:.0f} of {steps:.0f}" if step is not None and steps else ""
            self._tell(f"{self.trainings[number].label}: epoch {reading.get('epoch', 0) + 1:.0f}{at}")

    def on_exit(self, number: int, exit: Exit) -> None:
        training, broken = self.trainings[number], number in self.broken
        reason = self.broken.pop(number, "" if exit.code == 0 or training.at_end() else exit.reason)
        may_go_well = not broken and (exit.lost or exit.worth_another_try)
        if reason:
            faults.check_room(exit, self.root, lambda: self.starts[number])
        if not reason and training.finish():
            self.say(
                f"confirm {number + 1} of {len(self.trainings)}: {training.label}: {figure(training.value())}"
            )
        elif reason and may_go_well and self.starts[number] < (MAX_LOSSES if exit.lost else MAX_STARTS):
            self.say(f"{training.label} failed ({reason}); starting it once more")
            self.pending.append(number)
        else:
            self.failed[number] = f"{training.label}: {reason or 'it reported no metric'}"
            self.say(f"failed: {self.failed[number]}; log: {training.folder / 'log.txt'}")

    def _tell(self, text: str) -> None:
        self.told_at = time.monotonic()
        self.say(text)
