"""What a search makes better: a key of the trials' records, and which way is better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

SMALL, LARGE = 0.001, 1e8  # where the figures of a value change their form
DIRECTIONS = {"maximize": True, "minimize": False}


def counted(number: float, noun: str) -> str:
    """`1 trial`, `3 trials`, `0.5 GPUs`; what is whole is told without a point."""
    whole = int(number) if number == int(number) else number
    return f"{whole} {noun}{'' if number == 1 else 's'}"


def first_of(texts: Sequence[str], sign: str = ", ", shown: int = 5) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return sign.join(texts[:shown]) + more


def figure(value: float | None, sign: str = "") -> str:
    """A metric's value as people read it: four decimals, of small values four digits, of very large ones six; `-` for
    none."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= LARGE:
        return f"{value:{sign}.6g}"
    return f"{value:{sign}.4g}" if 0 < size < SMALL else f"{value:{sign}.4f}"


def signed(value: float) -> str:
    """The same with its sign, of a difference."""
    return figure(value, "+")


@dataclass(frozen=True)
class Metric:
    """`name` is a key of the records. Values are stored and shown as the trainer reported them; only what is better
    depends on `maximize`."""

    name: str
    maximize: bool = True

    @property
    def direction(self) -> str:
        """Optuna's word: "maximize" or "minimize"."""
        return "maximize" if self.maximize else "minimize"

    def best(self, values: Iterable[float]) -> float | None:
        """The best of the values; None of none."""
        return max(values, default=None) if self.maximize else min(values, default=None)

    def measures(self, name: str) -> bool:
        """Whether a figure of this name is this metric, of whatever split: of `val_loss` also `test_loss`."""
        return _without_split(name) == _without_split(self.name)

    def better(self, a: float, b: float) -> bool:
        return a > b if self.maximize else a < b

    def gain(self, value: float, over: float) -> float:
        """How much better `value` is than `over`; below 0 when it is worse."""
        return value - over if self.maximize else over - value

    def __str__(self) -> str:
        return self.name if self.maximize else f"{self.name} (lower is better)"


def _without_split(name: str) -> str:
    return name.removeprefix("val_").removeprefix("test_")


def lowered(names: Iterable[str], known: Sequence[Metric]) -> tuple[str, ...]:
    """Those of the names that a model's `known` metrics say are better when lower: its own name first, else that of
    another split."""
    ways = ((name, [m for m in known if m.measures(name)]) for name in names)
    nearest = ((name, min(found, key=lambda m: m.name != name)) for name, found in ways if found)
    return tuple(name for name, metric in nearest if not metric.maximize)


def value_of(trial: FrozenTrial) -> float | None:
    """The metric that a trial of Optuna's was told with, also where it is the first of several objectives, for which
    `trial.value` raises."""
    values = trial.values
    return values[0] if values else None


def parse(text: str | None, known: tuple[Metric, ...], option: str = "--metric") -> Metric:
    """`--metric NAME[:minimize|:maximize]`, the same of another `option`; None: the first known. A name that the model
    does not declare needs its direction. Raises `UserError` else."""
    if text is None:
        return known[0]
    name, sign, direction = text.rpartition(":")
    if not sign or (direction not in DIRECTIONS and text in {m.name for m in known}):
        name, direction = text, ""
    declared = next((m for m in known if m.name == name), None)
    if direction:
        if not name:
            raise UserError(
                f"{option} must be NAME, NAME:maximize or NAME:minimize, but got '{text}', without a name"
            )
        if direction not in DIRECTIONS:
            raise UserError(
                f"{option} must be NAME, NAME:maximize or NAME:minimize, but got '{text}'"
                f"{did_you_mean(direction, DIRECTIONS)}"
            )
        if declared and declared.maximize != DIRECTIONS[direction]:
            raise UserError(
                f"{option} {text}: the model says that {name} is to be {declared.direction}d; give {option} {name}, or "
                "another key of its records"
            )
        return Metric(name, DIRECTIONS[direction])
    if declared is None:
        names = [m.name for m in known]
        raise UserError(
            f"{option} {name}: the model declares {', '.join(names)}{did_you_mean(name, names)}; for another key of "
            f"its records say which way is better: {name}:maximize or {name}:minimize"
        )
    return declared


def of_run(document: Mapping[str, Any]) -> Metric:
    """The metric of a run.json. One written before metrics had directions was maximised."""
    if "metric" in document:
        return Metric(**document["metric"])
    return Metric(str(document["request"]["metric"]))


def names_of(document: Mapping[str, Any]) -> list[str]:
    """The objectives of a run.json: the metric, and the latency where it is one."""
    return [of_run(document).name, *(document["request"].get("objectives") or ())[1:]]
