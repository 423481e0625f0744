"""What a person asked for, frozen: everything `automl run` needs, and nothing it finds out by itself.

The fields are the one table of options: `automl run` and `automl plan` are built from them (cli.py), and a request is
written back as a command line from them (`words`).
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from decimal import Decimal
from typing import Any

from automl import web_url
from automl.errors import UserError, did_you_mean
from automl.metric import counted

DEFAULT_TRAININGS = 20
OF_A_SEARCH = (
    "tune",
    "space",
    "trials",
    "trainings",
    "total_epochs",
    "patience",
    "warm_start",
    "sampler",
    "scheduler",
)
OF_DATA = ("model", "spec_file", "preset", "sets")  # what decides how data are read
OF_PAGE = (*OF_DATA, "time_s", "policy")  # and what a training makes of them
PLACES = ("data", "spec_file", "warm_start", "results_dir")
BUDGETS = ("trainings", "trials", "total_epochs", "time_s")
AUTO = "auto"  # of --gpus-per-trial
LATENCY = "latency_ms"  # of --objectives: what the model predicts
WHAT, BUDGET, SEARCH, MACHINE = "What to train", "Budget", "Search", "Machine"


@dataclass(frozen=True)
class Option:
    """How a field is given on the command line. `kind`: str, int, bool, float or list (repeatable); `read` turns the
    text into the field's value and `write` back."""

    flags: tuple[str, ...]
    help: str
    panel: str
    kind: type = str
    low: int | None = None
    env: str | None = None
    choices: tuple[str, ...] = ()
    read: Callable[[str], Any] | None = None
    write: Callable[[Any], str] = str


def option(default: Any, flags: str, panel: str, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"option": Option(tuple(flags.split()), help, panel, **more)})


def parse_silence(text: str) -> float | None:
    """A time, or None for off."""
    return None if text == "off" else parse_time(text, "--silence")


def parse_time(text: str, option: str = "--time") -> float:
    """`"90s"`, `"30m"`, `"30 Min"`, `"2 hours"`, `"1h30m"`, `".5h"` -> seconds; the unit must be told: a night of 8 s
    would end before it began. Raises `UserError` else."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    word = r"(\d+(?:\.\d+)?|\.\d+)\s*(s|m|h|d|secs?|seconds?|mins?|minutes?|hrs?|hours?|days?)(?![a-z])"
    text = text.lower()
    parts = re.findall(word, text)
    if not re.fullmatch(rf"(\s*{word})+\s*", text):
        near = (
            f"; say {text}s, {text}m or {text}h" if re.fullmatch(r"\d*\.?\d+", text) and float(text) else ""
        )
        raise UserError(f"{option} must be like 90s, 30m, 2h or 1h30m, but got '{text}'{near}")
    seconds = sum(float(number) * units[unit[0]] for number, unit in parts)
    if seconds <= 0:
        raise UserError(f"{option} must be above 0, but got '{text}'")
    return seconds


def parse_ms(text: str) -> float:
    """`"15ms"`, `"0.5s"` or `"800us"` -> milliseconds; the unit must be told. Raises `UserError` else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(us|ms|s)", text.strip().lower())
    if match is None or float(match[1]) <= 0:
        near = f"; say {text.strip()}ms" if re.fullmatch(r"\s*0*[1-9]\d*(\.\d+)?\s*", text) else ""
        raise UserError(
            f"--max-latency must be a number above 0 with us, ms or s, such as 15ms, but got '{text}'{near}"
        )
    return float(match[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[match[2]]


def parse_objectives(text: str | Iterable[str]) -> tuple[str, ...]:
    """`"val_loss,latency_ms"`, in any order -> (metric as `--metric` takes it, "latency_ms"). Raises `UserError`
    else."""
    joined = text if isinstance(text, str) else ",".join(map(str, text))
    names = [name.strip() for name in joined.split(",")]
    metrics = [name for name in names if name not in (LATENCY, f"{LATENCY}:minimize")]
    if len(names) != 2 or len(metrics) != 1 or not metrics[0]:
        near = did_you_mean(names[1], [LATENCY]) if len(names) == 2 and names[1] else ""
        raise UserError(
            f"--objectives must be a metric and {LATENCY}, such as val_loss,{LATENCY}, but got "
            f"'{','.join(names)}' (one objective alone is --metric NAME){near}"
        )
    return metrics[0], LATENCY


def write_ms(ms: float) -> str:
    """Milliseconds as `parse_ms` reads them back."""
    return f"{_plain(ms)}ms"


def _plain(number: float) -> str:
    """All its digits and no exponent, which is not read back."""
    return format(Decimal(repr(number)), "f").removesuffix(".0")


def parse_share(text: str) -> float | str:
    """A number, or "auto". Raises `UserError` else."""
    if text == AUTO:
        return text
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--gpus-per-trial must be a number or {AUTO}, but got '{text}'") from None


def check_text(name: str, value: Any) -> None:
    """Raises `UserError` for text that no file of a run can hold: a file's name may be bytes that are no characters."""
    if not isinstance(value, str):
        return
    try:
        value.encode()
        held = "\0" not in value
    except UnicodeEncodeError:
        held = False
    if not held:
        raise UserError(f"{name} must be text in UTF-8 without NUL, but got {value!r}; give it another name")


def write_time(seconds: float) -> str:
    """Seconds as `parse_time` reads them back, in the largest unit that loses nothing."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{_plain(seconds)}s"


def parse_stages(text: str) -> tuple[str, ...]:
    """`"evaluate,export"` -> names; "none": none."""
    return tuple(name for word in text.split(",") if (name := word.strip()) and name != "none")


@dataclass(frozen=True)
class RunRequest:
    model: str | None = option(
        None, "--model", WHAT, "Installed name, or a model folder; default: the one that is installed."
    )
    data: str | None = option(
        None,
        "--data",
        WHAT,
        "The dataset, as the model reads it; on resume: its new location.",
        write=web_url.shown,
    )
    demo: bool = option(
        False, "--demo", WHAT, "Draw a small dataset and use settings a CPU can train.", kind=bool
    )
    spec_file: str | None = option(
        None, "--spec -e", WHAT, "Spec file (YAML); its keys win over everything found in the data."
    )
    preset: str | None = option(None, "--preset", WHAT, "Named settings of the model, under the spec file.")
    sets: tuple[str, ...] = option(
        (), "--set", WHAT, "KEY=VALUE of the spec, e.g. train.num_epochs=24; repeatable.", kind=list
    )
    policy: str | None = option(None, "--automl-policy", SEARCH, "on: search; off: train one plain spec.")
    metric: str | None = option(
        None, "--metric", SEARCH, "NAME or NAME:minimize: a key of the trainer's records; default: the model's first."
    )  # fmt: skip
    tune: tuple[str, ...] = option(
        (), "--tune", SEARCH, "NAME, NAME=low:high[:log] or NAME=a,b,c; repeatable.", kind=list
    )
    fix: tuple[str, ...] = option((), "--fix", SEARCH, "NAME=VALUE: do not search it; repeatable.", kind=list)
    space: str = option(
        "tao", "--space", SEARCH, "What is searched unless named: tao (what the schema flags), recommended, all.",
        choices=("tao", "recommended", "all"),
    )  # fmt: skip
    trials: int | None = option(
        None, "--trials", BUDGET, "Configurations to try; what stopping saves goes to those that may still win.",
        kind=int, low=1,
    )  # fmt: skip
    trainings: int | None = option(
        None, "--trainings", BUDGET, "The compute of so many full trainings, however many configurations that turns "
        f"out to be ({DEFAULT_TRAININGS} when no budget is given).", kind=int, low=1,
    )  # fmt: skip
    epochs: int | None = option(
        None, "--epochs", WHAT, "Epochs of each training; default: as the spec says.", kind=int, low=1
    )
    total_epochs: int | None = option(
        None,
        "--total-epochs",
        BUDGET,
        "Training epochs, summed over all trials; what else runs when they are used up ends its epoch.",
        kind=int,
        low=1,
    )
    time_s: float | None = option(
        None, "--time", BUDGET, "Wall time of the search: 90s, 30m, 2h, 1h30m; the stages after it are not counted.",
        read=parse_time, write=write_time,
    )  # fmt: skip
    patience: int | None = option(
        None, "--patience", BUDGET, "End when so many trials in a row have brought no new best; "
        "one that waits counts as far as it got.", kind=int, low=1,
    )  # fmt: skip
    confirm: int | None = option(
        None, "--confirm", BUDGET, "Train winner and default again with so many other seeds after the search, and say "
        "what is left of the gain; not counted in its budget.", kind=int, low=1,
    )  # fmt: skip
    warm_start: str | None = option(
        None, "--warm-start", SEARCH, "An earlier run: its trials teach the sampler, its winner is tried second."
    )  # fmt: skip
    max_latency_ms: float | None = option(
        None, "--max-latency", SEARCH, "Train only what is predicted to be as fast as that on this machine, such as "
        "15ms; a few timings come first.", read=parse_ms, write=write_ms,
    )  # fmt: skip
    objectives: tuple[str, ...] | None = option(
        None, "--objectives", SEARCH, "METRIC,latency_ms: search for the trade-off of both; best/ is its knee, "
        "best/pareto/ the rest of the front. Trials are stopped only by ones that are as fast.",
        read=parse_objectives, write=",".join,
    )  # fmt: skip
    sampler: str = option(
        "fgp", "--sampler", SEARCH, "What proposes: fgp (a model of whole curves), tpe, gp, random or an installed one."
    )  # fmt: skip
    scheduler: str = option(
        "fgp", "--scheduler", SEARCH,
        "What ends or pauses trials early: fgp and asha (pause), halving, median (stop) or none.",
    )  # fmt: skip
    executor: str = option(
        "ray", "--executor", MACHINE, "ray, or local (this machine, no Ray).", choices=("ray", "local")
    )
    ray_address: str | None = option(
        None, "--ray-address", MACHINE, "A running Ray cluster; default: this machine.", env="RAY_ADDRESS"
    )
    concurrency: int | None = option(
        None, "--concurrency", MACHINE, "Trials at a time; default: what the GPUs allow, 1 on a CPU.", kind=int, low=1
    )  # fmt: skip
    gpus_per_trial: float | str | None = option(
        None, "--gpus-per-trial", MACHINE, "A share of a GPU, e.g. 0.25 for four on each; auto: by the memory that the "
        "first trial takes; default: as the spec says.", read=parse_share,
    )  # fmt: skip
    cpus_per_trial: float | None = option(
        None, "--cpus-per-trial", MACHINE, "Cores of a trial; default: the machine's shared out, 1 on a cluster.",
        kind=float,
    )  # fmt: skip
    silence_timeout_s: float | None = option(
        3600.0, "--silence", MACHINE, "Stop a trial without a sign of life for so long; off: never; default: 1h.",
        read=parse_silence, write=lambda seconds: "off" if seconds is None else write_time(seconds),
    )  # fmt: skip
    seed: int = option(0, "--seed", SEARCH, "Seed of the search.", kind=int)
    storage: str | None = option(
        None,
        "--storage",
        MACHINE,
        "Database URL (postgresql://...); default: SQLite in the run folder; on resume: its new place or password.",
    )
    results_dir: str | None = option(
        None, "--results-dir", MACHINE, "The run folder; default: results/<model>/<time>."
    )
    log: tuple[str, ...] = option(
        (), "--log", MACHINE, "Experiment tracker with a run for each trial: tensorboard, wandb or mlflow; repeatable; "
        "none: none; default: TensorBoard's files where it is installed.", kind=list,
    )  # fmt: skip
    stages: tuple[str, ...] | None = option(
        None, "--stages", MACHINE, "Actions to run on the winner, with commas; none: none; default: the model's.",
        read=parse_stages, write=lambda names: ",".join(names) or "none",
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Raises `UserError` for text that no file can hold; of a file's name the folder that it is relative to
        counts too."""
        for each in options():
            given, flag = getattr(self, each.name), each.metadata["option"].flags[0]
            for value in given if isinstance(given, tuple) else [given]:
                is_place = each.name in PLACES and isinstance(value, str) and "\0" not in value
                check_text(flag, os.path.abspath(value) if is_place else value)

    @property
    def has_budget(self) -> bool:
        """Something says when the search ends."""
        return any(getattr(self, name) is not None for name in BUDGETS)

    def with_budget(self) -> RunRequest:
        """The same, with the default number of trainings when no budget was given at all."""
        return self if self.has_budget else replace(self, trainings=DEFAULT_TRAININGS)

    def check_epochs(self, searching: bool) -> None:
        """Raises `UserError` for a search with `--epochs` alone, which was once the option of a budget."""
        if self.epochs is None or self.has_budget or not searching:
            return
        raise UserError(
            f"--epochs {self.epochs} is how long each training is, and leaves open when the search ends: add "
            f"--trainings N or --time 12h ({DEFAULT_TRAININGS} trainings is the default without --epochs); "
            f"{counted(self.epochs, 'epoch')} in all trainings together are --total-epochs {self.epochs}"
        )

    def check_off(self, keys: Iterable[str]) -> list[str]:
        """What is passed over where nothing is searched, as notes: the options, and the `keys` of the spec file. Raises
        `UserError` for a value that the one training would not have."""
        if self.fix:
            raise UserError(
                f"--fix {self.fix[0]} applies only to a search; with --automl-policy off, or `automl_policy: off` in "
                f"the spec file, it is --set {self.fix[0]}"
            )
        given = {name: getattr(self, name) for name in OF_A_SEARCH}
        words = shlex.join(replace(RunRequest(), **given).words())
        passed = [words, *(f"{key}: in the spec file" for key in keys)]
        return [f"passed over, as nothing is searched: {text}" for text in passed if text]

    def larger(self, since_best: float = 0, used_s: float = 0) -> str:
        """The options that ask for twice the budget, and for more time than is used and more patience than what has
        ended since the best, or it would end at once."""
        twice = {name: 2 * given for name in BUDGETS if (given := getattr(self, name)) is not None}
        if self.time_s is not None and self.time_s < used_s:
            twice["time_s"] = 2 * math.ceil(used_s)
        if self.patience is not None:
            twice["patience"] = max(2 * self.patience, math.ceil(since_best) + 1)
        return shlex.join(replace(RunRequest(), **twice).words())

    def words(self, only: Collection[str] = ()) -> list[str]:
        """The options of `automl run` that ask for the same; `only` those of some fields."""
        found: list[str] = []
        for each in options():
            given, spelled = getattr(self, each.name), each.metadata["option"]
            if given == each.default or (only and each.name not in only):
                continue
            for value in given if spelled.kind is list else [given]:
                found += [spelled.flags[0]] + ([] if spelled.kind is bool else [spelled.write(value)])
        return found

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> RunRequest:
        """The request of a run.json. Raises `UserError` for a key this version does not know."""
        known = {each.name for each in fields(cls)}
        for name in document:
            if name not in known:
                raise UserError(f"run.json: request.{name} is not known to this version")
        values: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
        return cls(**values)

    @classmethod
    def from_options(cls, given: Mapping[str, Any]) -> RunRequest:
        """{field: what the command line gave, None for nothing}. Raises `UserError` for what the parser cannot
        check."""
        values = cls.changes(given)
        if values.get("demo") and values.get("data"):
            raise UserError("--demo draws its own data; give --demo or --data, not both")
        return cls(**values)

    @staticmethod
    def changes(given: Mapping[str, Any]) -> dict[str, Any]:
        """{field: value} of what a command line gave. Raises `UserError` for a value that cannot be read."""
        values: dict[str, Any] = {}
        for each in options():
            value, spelled = given.get(each.name), each.metadata["option"]
            if value is None or (spelled.kind is list and not value):
                continue
            if value == "" and each.name in PLACES:
                raise UserError(f"{spelled.flags[0]} must not be empty (a variable that is not set?)")
            if spelled.choices and value not in spelled.choices:
                raise UserError(
                    f"{spelled.flags[0]} must be {' or '.join(spelled.choices)}, but got '{value}'"
                    f"{did_you_mean(value, spelled.choices)}"
                )
            values[each.name] = tuple(value) if spelled.kind is list else (spelled.read or _as_is)(value)
        return values


def options() -> list[Field[Any]]:
    """The fields of a request that have an option, in order."""
    found = [each for each in fields(RunRequest) if "option" in each.metadata]
    assert all(each.default is not MISSING for each in found)
    return found


def _as_is(value: Any) -> Any:
    return value
