"""A run's storage as a person reads it: each parameter by its own name in its own values, in place of what a sampler is
told of it (an index, a share of a range that moves); the metric by its name, epochs from 1.

What is stored stays as it is: this is a view, made when somebody looks. What is written goes through, unchanged.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from automl import metric as metrics
from automl import spec
from automl.attachments import Attachments
from automl.locks import is_running
from automl.metric import figure
from automl.space.codecs import label
from automl.space.leaf import is_number, short
from automl.study import METRIC_NAMES
from automl.study_storage import state_of

if TYPE_CHECKING:
    from optuna.study._frozen import FrozenStudy

    from automl.study import TrialResult

NOTE, NOTE_OF = "dashboard:", "dashboard:{}:"  # the dashboard's keys of a study's and a trial's note
NAMED = (
    "The winner is the trial that the search names, by all that was measured and not by one epoch alone: the "
    "dashboard's best may be another. "
)
DIGITS = 6  # of a trial's value: its card has room for so many
RETRIES = "starts after a crash"


def _through(name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.stored, name)(*args, **kwargs)

    return call


_Through: Any = type(
    "_Through", (BaseStorage,), {name: _through(name) for name in BaseStorage.__abstractmethods__}
)


class RealValues(_Through):
    """`stored` with the trials of the run in `root`, whose run.json is `document`; other studies as they are. With
    `notes` a note on the study and each trial is shown where nobody has written one."""

    def __init__(
        self, stored: BaseStorage, document: Mapping[str, Any], root: Path, notes: bool = True
    ) -> None:
        self.stored, self.document, self.root, self.notes = stored, document, root, notes
        self.attachments = Attachments(root)
        rows = document.get("space")
        self.space = {str(row["name"]): row for row in rows} if isinstance(rows, list) else {}

    # ---- trials ---------------------------------------------------------------------------------------------

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials: list[FrozenTrial] = self.stored.get_all_trials(study_id, deepcopy=False)
        if self.is_ours(study_id):
            known, running = distributions(trials, self.space), is_running(self.root)
            trials = [self._shown(trial, known, running) for trial in trials]
        found = [t for t in trials if states is None or t.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        trial = self.stored.get_trial(trial_id)
        for study in self.stored.get_all_studies():
            if self.is_ours(study._study_id):
                everyone = self.get_all_trials(study._study_id, deepcopy=False)
                return next((t for t in everyone if t._trial_id == trial_id), trial)
        return trial

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        return dict(self.get_trial(trial_id)._system_attrs)

    def _shown(self, trial: FrozenTrial, known: Mapping[str, BaseDistribution], running: bool) -> FrozenTrial:
        params = trial.user_attrs.get("params")
        shown = copy.copy(trial)
        shown._system_attrs = {
            name: value for name, value in trial._system_attrs.items() if name != "fixed_params"
        } | self.attachments.of_trial(trial.number)
        if isinstance(params, dict):
            shown._params = {name: label(value) for name, value in params.items()}
            shown._distributions = {name: known[name] for name in params}
        shown._values = trial._values and [float(f"{value:.{DIGITS}g}") for value in trial._values]
        shown.intermediate_values = {epoch + 1: v for epoch, v in trial.intermediate_values.items()}
        shown._user_attrs = dict(standing(trial, running))
        if "retries" in trial.user_attrs:
            shown._user_attrs[RETRIES] = trial.user_attrs["retries"]
        if (epoch := trial.user_attrs.get("best_epoch")) is not None:
            shown._user_attrs["best epoch"] = epoch + 1
        if trial.intermediate_values:
            shown._user_attrs["epochs"] = max(trial.intermediate_values) + 1
        return shown

    # ---- studies --------------------------------------------------------------------------------------------

    def get_all_studies(self) -> list[FrozenStudy]:
        found = [copy.copy(study) for study in self.stored.get_all_studies()]
        for study in found:
            study.system_attrs = self.get_study_system_attrs(study._study_id)
            study.user_attrs = self.get_study_user_attrs(study._study_id)
        return found

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        found = dict(self.stored.get_study_user_attrs(study_id))
        if not self.is_ours(study_id):
            return found
        shown = {"run folder": str(self.root), "model": str(self.document["model"])}
        if "elapsed_s" in found:
            shown["seconds of search"] = found["elapsed_s"]
        return shown

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        found = dict(self.stored.get_study_system_attrs(study_id))
        if not self.is_ours(study_id):
            return found
        found[METRIC_NAMES] = metrics.names_of(self.document)
        if self.notes:
            added = note(NOTE, self._of_study(study_id))
            running = is_running(self.root)
            for trial in self.stored.get_all_trials(study_id, deepcopy=False):
                added |= note(NOTE_OF.format(trial._trial_id), self._of_trial(trial, running))
            found = added | found
        return found | self.attachments.of_study()

    def is_ours(self, study_id: int) -> bool:
        """Whether a study is the run's."""
        return bool(self.stored.get_study_name_from_id(study_id) == self.document["study"])

    # ---- notes ----------------------------------------------------------------------------------------------

    def _of_study(self, study_id: int) -> str:
        metric = metrics.of_run(self.document)
        way, several = "higher" if metric.maximize else "lower", metrics.names_of(self.document)[1:]
        lines = [
            f"**{_plain(metric.name)}** of {_plain(self.document['model'])}, {way} is better. Trial 0 is the default "
            "configuration; epochs count from 1.",
            f"{'' if several else NAMED}Its durations hold pauses.",
            f"Pictures, the gain and how sure it is: {_plain(self.root / 'report.html')}.",
        ]
        if several:
            lines.append(
                f"A second objective is {_plain(several[0])}, as predicted. The winner is the knee of their front, "
                "whose trials are the best trials here."
            )
        if (top := self._best(study_id)) is not None:
            lines.append(f"Best so far: trial {top.number}, {figure(top.value)} at epoch {top.epoch + 1}.")
        if self.space:
            lines.append(_table(("parameter", "searched in", "default", "why"), [
                (name, row.get("range"), short(row.get("default")), row.get("why"))
                for name, row in self.space.items()
            ]))  # fmt: skip
        return "\n\n".join(lines)

    def _best(self, study_id: int) -> TrialResult | None:
        from automl.study import Study

        return Study.reading(self.stored, self.stored.get_study_name_from_id(study_id)).best()

    def _of_trial(self, trial: FrozenTrial, running: bool) -> str:
        params = trial.user_attrs.get("params")
        if not isinstance(params, dict):
            return ""
        base = self.document["spec"]
        rows = [
            (name, short(spec.get(base, name)), short(value))
            for name, value in params.items()
            if spec.get(base, name) != value
        ]
        reason = ": ".join(standing(trial, running).values())
        told = _table(("parameter", "default", "here"), rows) if rows else "The default configuration."
        return "\n\n".join(filter(None, (_plain(reason), told)))


def standing(trial: FrozenTrial, running: bool) -> dict[str, str]:
    """Why a trial ended; of one that waits its state and why. The dashboard knows Optuna's states alone, and calls it
    running: of one that is waiting in Optuna's sense it would show neither parameters nor a curve."""
    state, reason = state_of(trial, running), str(trial.user_attrs.get("reason", ""))
    if trial.state.is_finished():
        return {"why it ended": reason} if reason else {}
    if state in ("CUT", "PAUSED"):
        return {"state": state, "why it waits": reason}
    return {} if state == "RUNNING" else {"state": state}  # what it once waited for is over


def note(place: str, body: str) -> dict[str, Any]:
    """A note as the dashboard keeps it, {} for none."""
    return {f"{place}note_ver": 1, f"{place}note_str:0": body} if body else {}


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)


def _plain(text: Any) -> str:
    """Text from elsewhere, without a meaning in Markdown or HTML."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in " ".join(str(text).split()))


def distributions(
    trials: Sequence[FrozenTrial], space: Mapping[str, Mapping[str, Any]]
) -> dict[str, BaseDistribution]:
    """One for each parameter that a trial has, over the range it is searched in and all values that were run. `space`:
    {name: record of the parameter}, as in run.json."""
    values: dict[str, list[Any]] = {}
    for trial in trials:
        params = trial.user_attrs.get("params")
        for name, value in params.items() if isinstance(params, dict) else ():
            values.setdefault(name, []).append(value)
    return {name: _distribution(found, space.get(name, {})) for name, found in values.items()}


def _distribution(values: Sequence[Any], row: Mapping[str, Any]) -> BaseDistribution:
    listed = row.get("choices")
    ends = [end for end in (row.get("low"), row.get("high")) if is_number(end) and math.isfinite(end)]
    if listed or not all(is_number(value) and math.isfinite(value) for value in values):
        options = {json.dumps(label(value)): label(value) for value in [*(listed or ()), *values]}
        return CategoricalDistribution(list(options.values()))
    low, high = min([*values, *ends]), max([*values, *ends])
    log = bool(row.get("log")) and low > 0
    if all(isinstance(value, int) for value in [*values, *ends]):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)
