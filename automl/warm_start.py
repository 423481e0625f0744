"""What an earlier run can teach a new one (`--warm-start RUN`): its finished trials, where its space fits this one.

They are copied into the new run's folder once, so that it can be resumed without the earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import spec
from automl.cut import is_cut
from automl.documents import load_json
from automl.errors import SpaceError, UserError
from automl.metric import Metric, of_run, value_of
from automl.rundir import RunDir, write_json
from automl.storage import load_study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl.space import SearchSpace
    from automl.study import Study

FILE = "warm_start.json"
LARGEST = 256 << 20  # bytes


@dataclass(frozen=True)
class Lessons:
    """`trials`: finished ones in the new space's terms; `best`: the earlier winner's params, to run again here (its
    score there is of another budget or other data), empty when they do not fit, and `unfit` says why."""

    trials: tuple[FrozenTrial, ...] = ()
    best: tuple[dict[str, Any], ...] = ()
    of: int = 0  # finished trials of the earlier run
    unfit: str = ""

    @property
    def text(self) -> str:
        """What fits, for a person."""
        lost = f"; its winner does not and is not tried again: {self.unfit}" if self.unfit else ""
        return f"{len(self.trials)} of {self.of} earlier trials fit this search space{lost}"


def check(earlier: Path, metric: Metric) -> Study:
    """The study of an earlier run. Raises `UserError` when that run is not there or was judged by another metric."""
    document = RunDir(earlier.resolve()).read_run()
    if (theirs := of_run(document)) != metric:
        raise UserError(f"--warm-start {earlier}: that run was judged by {theirs}, this one is by {metric}")
    study = load_study(document, earlier)
    if study is None:
        raise UserError(f"--warm-start {earlier}: its study is no longer in its database")
    return study


def bring(earlier: Path, root: Path, metric: Metric, space: SearchSpace) -> None:
    """Copy the finished trials of the run `earlier` to the new run's folder, with what they all had of the leaves that
    are searched now."""
    study, base = check(earlier, metric), RunDir(earlier.resolve()).read_run()["spec"]
    told = ((p.name, spec.get(base, p.name, spec.MISSING)) for p in space.parameters)
    had = {name: value for name, value in told if value is not spec.MISSING}
    ended = [
        t
        for t in study.trials()
        if (t.state.name in ("COMPLETE", "PRUNED") or is_cut(t)) and t.intermediate_values
    ]
    top = study.best()
    rows = [
        {
            "state": "PRUNED" if is_cut(t) else t.state.name,
            "value": value_of(t),
            "params": had | t.user_attrs.get("params", {}),
            "curve": sorted(t.intermediate_values.items()),
        }
        for t in ended
    ]
    write_json(root / FILE, {"run": str(earlier), "best": had | top.params if top else None, "trials": rows})


def lessons(root: Path, space: SearchSpace) -> Lessons:
    """What `bring` has copied, as far as it fits the space."""
    if not (root / FILE).exists():
        return Lessons()
    document = load_json(root / FILE, LARGEST)
    try:
        made = [
            translated for row in document["trials"] if (translated := _translated(row, space)) is not None
        ]
        best = document["best"]
        unfit = _unfit(best, space) if best is not None else ""
        again = (best,) if best is not None and not unfit else ()
        return Lessons(tuple(made), again, len(document["trials"]), unfit)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(
            f"{root / FILE}: is damaged; put a copy of it back, or delete it to go on without"
        ) from None


def _unfit(params: Mapping[str, Any], space: SearchSpace) -> str:
    """Why this space could not have drawn the params; empty where it could."""
    try:
        space.enqueue_params(params)
    except SpaceError as error:
        return str(error)
    return ""


def _translated(row: Mapping[str, Any], space: SearchSpace) -> FrozenTrial | None:
    """An earlier trial as if this space had drawn it; None when it could not have."""
    from optuna.trial import TrialState, create_trial

    try:
        drawn, distributions = space.enqueue_params(row["params"]), space.distributions
    except SpaceError:
        return None
    return create_trial(
        state=TrialState[row["state"]],
        value=row["value"],
        params=drawn,
        distributions={name: distributions[name] for name in drawn},
        user_attrs={"params": row["params"]},
        intermediate_values={int(epoch): value for epoch, value in row["curve"]},
    )
