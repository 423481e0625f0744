"""A search from Python: `from automl import tune; outcome = tune("DIR", time="2h")`."""

from __future__ import annotations

import json
import os
import signal
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import spec as specs
from automl.errors import UserError, did_you_mean
from automl.request import Option, RunRequest, options
from automl.run_json import WORDS, fits

if TYPE_CHECKING:
    from automl.comparison import Comparison
    from automl.front import Place
    from automl.handoff import Outcome


@dataclass(frozen=True)
class Tuned:
    """What a search brought."""

    root: Path  # the run folder
    outcome: Outcome = field(repr=False)

    @property
    def value(self) -> float:
        """The winner's metric, as its trainer reported it."""
        return self.outcome.winner.value

    @property
    def params(self) -> dict[str, Any]:
        """What was searched, as the winner has it: {dotted name: value}."""
        return dict(self.outcome.winner.params)

    @property
    def front(self) -> list[Place]:
        """Where latency is an objective: the trials that no other equals or beats in both, fastest first, each with the
        folder below `root` that it lies in; the winner is the one that is `knee`."""
        return list(self.outcome.front)

    @property
    def gain(self) -> float | None:
        """How much better the winner's metric is than the default configuration's; 0 when that won, None when it has
        none. It is of the figure that the search picked by: see `comparisons`."""
        default = self.outcome.default
        return None if default is None else self.outcome.metric.gain(self.value, default.value)

    @property
    def comparisons(self) -> list[Comparison]:
        """The winner's and the default's figures of the stages after the search, with intervals where there are."""
        from dataclasses import asdict

        from automl.comparison import compare

        return compare([asdict(stage) for stage in self.outcome.stages], self.root, self.outcome.metric)

    @property
    def best_spec(self) -> dict[str, Any]:
        """The whole train spec of the winner."""
        return specs.load(self.root / "best" / "train.yaml")

    @property
    def checkpoint(self) -> Path | None:
        """The winner's checkpoint; None when its trainer wrote none."""
        return Path(self.outcome.checkpoint) if self.outcome.checkpoint else None

    @property
    def report(self) -> Path:
        """The page about the run."""
        return self.outcome.report or self.root / "report.html"

    @property
    def trials(self) -> Any:
        """A row for each trial: number, state, value, epoch (from 1), seconds, reason and its parameters; a pandas
        DataFrame where pandas is installed, else a list of mappings."""
        from automl.report.gather import facts_of

        rows = [
            {"number": t.number, "state": t.state, "value": t.value, "epoch": t.best_epoch, "seconds": t.seconds,
             "reason": t.reason, **t.params}
            for t in facts_of(self.root).trials
        ]  # fmt: skip
        try:
            import pandas
        except ImportError:
            return rows
        return pandas.DataFrame(rows)

    def predict(self, inputs: Any) -> Any:
        """What the winner says of one or several inputs, in the model's own form (`entry_points.predict`); the built-in
        model takes paths of image files and Pillow images, one or a list. Raises `UserError` for a model that has no
        such entry, and for an input that it does not take."""
        from automl import bundle, run_json

        reference = run_json.read(self.root / "run.json")["model_reference"]
        model = bundle.resolve(reference)
        call = model.call("predict")
        if call is None:
            raise UserError(
                f"{model.name} predicts nothing by itself (its skill_info has no entry_points.predict)"
            )
        return call(self.root / "best", inputs)


def tune(
    data: str | Path | None = None,
    *,
    model: str | None = None,
    time: str | float | None = None,
    trainings: int | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    preset: str | None = None,
    spec: str | Path | None = None,
    sets: Sequence[str] | Mapping[str, Any] = (),
    metric: str | None = None,
    objectives: str | Sequence[str] | None = None,
    results_dir: str | Path | None = None,
    quiet: bool = False,
    **options: Any,
) -> Tuned:
    """Search for the best model of a dataset, and hand it over; the same as `automl run`.

    data: the dataset, as the model reads it.
    model: an installed name or a model folder; None: the one that is installed.
    time, trainings, trials: the budget ("2h", "30m" or seconds, full trainings, configurations); the first one used up
        ends the search; without any, 20 trainings.
    epochs: of each training; None: as the spec says.
    preset, spec, sets: named settings, a spec file, and `KEY=VALUE` pairs or {key: value}, the later winning.
    metric: what is made better; None: the model's first.
    objectives: a metric and "latency_ms", in place of `metric`: search for the trade-off of both; see `Tuned.front`.
    results_dir: the run folder; None: results/<model>/<time>.
    quiet: show nothing while it runs; else a table, or a line an event where there is no terminal.
    options: every other field of `automl.request.RunRequest`: sampler, scheduler, seed, executor, storage, stages...

    Returns a `Tuned`. Raises `automl.errors.UserError` for what cannot be run, before anything is written, and
    `KeyboardInterrupt` for Ctrl-C. A call that was cut off goes on by `automl resume` on its run folder.
    """
    from automl import loop
    from automl.interruption import Interrupted
    from automl.progress import Progress

    if not fits(quiet, bool):
        raise UserError(f"tune: quiet must be {WORDS[bool]}, but got {quiet!r}")
    request = _asked(
        options | {
            "model": model, "data": data, "time": time, "trainings": trainings, "trials": trials, "epochs": epochs,
            "preset": preset, "spec": spec, "sets": sets, "metric": metric, "objectives": objectives or None,
            "results_dir": results_dir,
        }
    )  # fmt: skip
    root = loop.folder_for(request).resolve()
    if not quiet:
        print(f"run folder: {root}", file=sys.stderr)
    try:
        return Tuned(root, loop.run(request, root, Progress(quiet=quiet)))
    except Interrupted as error:
        if error.exit_code == 128 + signal.SIGINT:
            raise KeyboardInterrupt(str(error)) from None
        raise


MAY_HOLD_SECRETS = ("sets", "fix", "storage")  # and are not shown where they are refused
CALLED = {"time_s": "time", "spec_file": "spec"}  # what fields are named here, where it is another name


def _asked(given: Mapping[str, Any]) -> RunRequest:
    """A request of what a program gave, {name: value}. Raises `UserError` for a name that no field has, and for a value
    that its option would not take."""
    by_name = {CALLED.get(each.name, each.name): each for each in options()}
    if unknown := sorted(set(given) - set(by_name)):
        raise UserError(f"tune has no option '{unknown[0]}'{did_you_mean(unknown[0], by_name)}")
    hints, values = typing.get_type_hints(RunRequest), dict[str, Any]()
    for name, value in given.items():
        each = by_name[name]
        values[each.name] = _value(name, value, hints[each.name], each.metadata["option"])
    return RunRequest(**values)


def _value(name: str, value: Any, hint: Any, option: Option) -> Any:
    """A field's value of what was given for it: a folder may be a `Path`, several texts any collection; text is read as
    the command line's. Raises `UserError`."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, Number) and hasattr(value, "item"):
        value = value.item()  # of numpy
    if option.read and isinstance(value, str):
        return option.read(value)
    if isinstance(value, Mapping) and name == "sets":
        value = [f"{key}={_as_set(name, key, each)}" for key, each in value.items()]
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        value = list(value)
    below = option.low is not None and isinstance(value, int) and value < option.low
    empty = value == "" and not option.env  # a variable may be empty
    other = bool(option.choices) and value not in option.choices
    if not fits(value, hint) or below or empty or other:
        near = did_you_mean(value, option.choices) if isinstance(value, str) else ""
        words = f"{_words(hint, option)}{' that is not empty' if empty else ''}"
        got = f"a {type(value).__name__}" if name in MAY_HOLD_SECRETS else _shown(value)
        raise UserError(f"tune: {name} must be {words}, but got {got}{near}")
    if option.read and value is not None:
        try:
            return option.read(option.write(value))  # in the same bounds
        except UserError as error:
            said = str(error).partition(", but got ")[0].removeprefix(f"{option.flags[0]} ")
            raise UserError(f"tune: {name} {said}, but got {_shown(value)}") from None
    return tuple(value) if isinstance(value, list) else value


def _words(hint: Any, option: Option) -> str:
    """What a field takes, for a message."""
    if option.choices:
        return " or ".join(option.choices)
    kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)]
    kinds = [list] if option.kind is list or typing.get_origin(kinds[0]) is tuple else kinds
    words = " or ".join("a list of texts" if kind is list else WORDS[kind] for kind in kinds)
    return words if option.low is None else f"{words} from {option.low}"


def _as_set(name: str, key: Any, value: Any) -> str:
    """A value of a mapping as the text of a pair; what begins with @ names a file, as there."""
    if isinstance(value, str) and value.startswith("@"):
        return value
    try:
        return json.dumps(value, allow_nan=False)  # which is YAML
    except (TypeError, ValueError):
        raise UserError(
            f"tune: {name}: {key} must be what JSON holds, but got a {type(value).__name__}"
        ) from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
