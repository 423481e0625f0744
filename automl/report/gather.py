"""What a report shows of a run, read from run.json, the study, the trials' folders and outcome.json; writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import metric as metrics
from automl import records, run_json, run_outcome, spec
from automl.checkpoints import LINES, Checkpoints, so_far
from automl.comparison import OF_DEFAULT, Comparison, compare, document_of
from automl.confirmed import Confirmed, confirmed
from automl.documents import load_json
from automl.ending import State
from automl.errors import SpecError, UserError
from automl.front import Place, places
from automl.latency import redrawn_text
from automl.locks import is_running
from automl.metric import Metric
from automl.programs import command
from automl.run_json import moved
from automl.run_outcome import at_end, unconfirmed
from automl.rundir import RunDir
from automl.storage import load_study
from automl.trial_attributes import PREDICTED
from automl.widening import widenings

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl.study import Study, TrialResult

DATA_FOLDER = "data_report"  # in the run folder: what the model tells of its data


@dataclass(frozen=True)
class TrialFacts:
    """One trial. Epochs count from 1; `params` are real values; `columns` are the other numbers of its records, by
    name; `took`: seconds of each epoch, where its records tell them; `seconds`: of all its processes, None where
    nobody knows."""

    number: int
    state: State
    reason: str
    params: dict[str, Any]
    curve: list[tuple[int, float]]
    best_epoch: int | None
    value: float | None
    columns: dict[str, list[tuple[int, float]]]
    seconds: float | None
    took: list[tuple[int, float]]
    ms: float | None = None  # that it is predicted to take, where latency counts
    epochs: int = 0  # trained, whether they were measured or not

    @property
    def finished(self) -> bool:
        return self.state == "COMPLETE" and self.value is not None


@dataclass(frozen=True)
class Facts:
    """A run. `space`: records of the searched parameters by name; `stages`: of outcome.json; `material`: documents of
    the model, each with the folder that its pictures lie in."""

    root: Path
    document: dict[str, Any]
    metric: Metric
    trials: list[TrialFacts]
    winner: int | None
    complete: bool  # the winner ran to its end
    running: bool
    elapsed_s: float
    space: dict[str, dict[str, Any]]
    stages: list[dict[str, Any]]
    comparisons: list[Comparison]
    material: list[tuple[dict[str, Any], Path]] = field(default_factory=list)
    started: datetime | None = None
    confirmed: Confirmed | None = None
    warning: str = ""  # why best/ is not the winner at its best epoch, or the winner not what measured best
    unfinished: bool = False  # no driver is at work, and it is not at its end
    redrawn: str = ""  # what was proposed and, above the limit of latency, made no trial
    widened: list[str] = field(default_factory=list)  # the ranges that the search has left
    front: list[Place] = field(default_factory=list)  # where latency is an objective, fastest first
    epochs: int = 0  # trained, of all trials
    ended: str = ""  # what ended the search early
    outdone: str = ""  # the trial that measured better than the winner, where one did

    @property
    def open(self) -> bool:
        """Whether some trial is not at its end."""
        return any(t.state in ("RUNNING", "WAITING", "PAUSED") for t in self.trials)

    def trial(self, number: int | None) -> TrialFacts | None:
        return next((t for t in self.trials if t.number == number), None)

    @property
    def names(self) -> list[str]:
        """The parameters that trials had, in the order of the search space."""
        found = dict.fromkeys(self.space)
        return list(found | dict.fromkeys(name for t in self.trials for name in t.params))

    def base(self, name: str) -> Any:
        """The default configuration's value of a parameter."""
        return spec.get(self.document["spec"], name)


def facts_of(root: Path, study: Study | None = None, running: bool | None = None) -> Facts:
    """A driver gives its own `study` and whether it is `running`; else both are found out. Raises `UserError` for
    what is no run, and one that has no trials yet."""
    document = RunDir(root).read_run()
    study, running = study or load_study(document, root), is_running(root) if running is None else running
    if study is None:
        raise UserError(f"{root}: it has no trials yet; see {command('status', root)}")
    document = run_json.read(RunDir(root).run_json)  # without the secrets that `read_run` puts back
    document = dict(moved(document, document.get("root"), root.resolve()))
    metric, run = metrics.of_run(document), RunDir(root)
    chosen = so_far(study, run, metric)
    top = chosen.best if chosen else None
    outcome = run_outcome.read(root)
    told = outcome if _is_of(outcome, top) else {}  # what was handed over may be another's by now
    stages = told.get("stages", [])
    started = [t.datetime_start for t in study.trials() if t.datetime_start]
    return Facts(
        root=root, document=document, metric=metric,
        trials=[_trial(run, metric, study, t, running) for t in study.trials()],
        winner=top.number if top else None, complete=bool(top and top.complete), running=running,
        elapsed_s=study.elapsed_s(), space=_space(document), stages=stages,
        comparisons=compare(stages, root, metric), material=_material(root, stages),
        started=min(started, default=None), confirmed=confirmed(told.get("confirmed")),
        warning=str((outcome.get("warning") if told or not running else "") or (chosen and chosen.warning) or ""),
        unfinished=not running and (not at_end(root, outcome, study, running) or unconfirmed(document, outcome)),
        redrawn=redrawn_text(study.trials(), document["request"].get("max_latency_ms")),
        widened=widenings(study.trials()), front=places(study, RunDir(root)), epochs=study.epochs_trained,
        ended=str(outcome.get("ended") or ""), outdone=run_outcome.outdone(study, metric, top) or "" if top else "",
    )  # fmt: skip


def _is_of(outcome: Mapping[str, Any], top: TrialResult | None) -> bool:
    """Whether it is the hand-over of this trial at this epoch."""
    winner = outcome.get("winner")
    if top is None or not isinstance(winner, dict):
        return False
    return (winner.get("number"), winner.get("epoch")) == (top.number, top.epoch)


def _trial(run: RunDir, metric: Metric, study: Study, trial: FrozenTrial, running: bool) -> TrialFacts:
    here = Checkpoints(run, metric)
    found, _ = records.read(run.trial(trial.number) / LINES)
    best: TrialResult | None = here.result(study, trial.number) if trial.intermediate_values else None
    took = _took(found, trial.user_attrs.get("starts", ()))
    state = study.state(trial.number, running)
    return TrialFacts(
        trial.number, state, "" if state in ("RUNNING", "WAITING") else str(trial.user_attrs.get("reason", "")),
        dict(trial.user_attrs.get("params", {})),
        [(epoch + 1, value) for epoch, value in sorted(trial.intermediate_values.items())],
        best.epoch + 1 if best else None, best.value if best else None, columns_of(found),
        _seconds(trial, took), took, trial.user_attrs.get(PREDICTED), study.epochs_of(trial.number),
    )  # fmt: skip


def columns_of(found: Sequence[records.Record]) -> dict[str, list[tuple[int, float]]]:
    """{name: (epoch from 1, value)} of every number in the records, the last of an epoch that was told twice."""
    columns: dict[str, dict[int, float]] = {}
    for record in found:
        for name, value in record.values.items():
            if name != "epoch" and records.is_finite(value):
                columns.setdefault(str(name), {})[record.epoch + 1] = float(value)
    return {name: sorted(column.items()) for name, column in columns.items()}


def _took(found: Sequence[records.Record], starts: Sequence[int]) -> list[tuple[int, float]]:
    """(epoch from 1, seconds) by `elapsed_s`, which counts from the start of a process; `starts`: the epochs, from 0,
    that the later ones began with (runs of earlier versions do not tell them)."""
    left, before, took = sorted(starts), 0.0, []
    for record in found:
        elapsed = record.values.get("elapsed_s")
        if not records.is_finite(elapsed):
            continue
        anew = elapsed < before or (left and record.epoch >= left[0])
        left = [start for start in left if start > record.epoch]
        took.append((record.epoch + 1, float(elapsed - (0.0 if anew else before))))
        before = elapsed
    return took


def _seconds(trial: FrozenTrial, took: Sequence[tuple[int, float]]) -> float | None:
    """What the trial's processes took, as the driver or the records say; whichever has seen more of them. None where
    nobody says: a study that was made again from its folders does not know when a trial began."""
    return max(trial.user_attrs.get("seconds", 0.0), sum(seconds for _, seconds in took)) or None


def _space(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = document.get("space")
    rows = found if isinstance(found, list) else []
    return {
        str(row["name"]): row if isinstance(row.get("choices"), list) else row | {"choices": None}
        for row in rows
        if isinstance(row, dict) and "name" in row
    }


def _material(root: Path, stages: Sequence[Mapping[str, Any]]) -> list[tuple[dict[str, Any], Path]]:
    """What the stages left of the winner, the first of each section, and what the model tells of its data."""
    found = []
    for stage in stages:
        if not str(stage["name"]).endswith(OF_DEFAULT) and (document := document_of(stage, root)):
            found.append((document, (root / str(stage["report"])).parent))
            break
    try:
        data = load_json(root / DATA_FOLDER / "report.json")
    except (OSError, SpecError):
        data = None
    return [*found, *([(data, root / DATA_FOLDER)] if isinstance(data, dict) else [])]
