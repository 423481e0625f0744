"""What an earlier run can teach a new one (`--warm-start RUN`): its finished trials, where its space fits this one.

They are copied into the new run's folder once, so that it can be resumed without the earlier one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import same_data, secret_leaves, spec
from automl.cut import is_cut
from automl.documents import load_json
from automl.errors import SpaceError, UserError
from automl.metric import Metric, first_of, of_run, value_of
from automl.rundir import RunDir, write_json
from automl.storage import load_study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl.plan import Plan
    from automl.space import SearchSpace
    from automl.study import Study

FILE = "warm_start.json"
LARGEST = 256 << 20  # bytes


@dataclass(frozen=True)
class Lessons:
    """`trials`: finished ones in the new space's terms; `best`: the earlier winner's params, to run again here (its
    score there is of another budget or other data), empty when they do not fit, and `unfit` says why. `otherwise`: the
    leaves that neither run searches and that had another value there."""

    trials: tuple[FrozenTrial, ...] = ()
    best: tuple[dict[str, Any], ...] = ()
    of: int = 0  # finished trials of the earlier run
    unfit: str = ""
    otherwise: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What fits, for a person."""
        lost = f"; its winner does not and is not tried again: {self.unfit}" if self.unfit else ""
        other = (
            f"; they were measured with other values of {first_of(self.otherwise)}" if self.otherwise else ""
        )
        return f"{len(self.trials)} of {self.of} earlier trials fit this search space{lost}{other}"


def check(earlier: Path, metric: Metric) -> Study:
    """The study of an earlier run. Raises `UserError` when that run is not there or was judged by another metric."""
    document = RunDir(earlier.resolve()).read_run()
    if (theirs := of_run(document)) != metric:
        raise UserError(f"--warm-start {earlier}: that run was judged by {theirs}, this one is by {metric}")
    study = load_study(document, earlier)
    if study is None:
        raise UserError(f"--warm-start {earlier}: its study is no longer in its database")
    return study


def bring(plan: Plan, root: Path) -> None:
    """Copy the finished trials of the run that `--warm-start` names to the new run's folder `root`, with what they all
    had of the leaves that are searched now, and the names of those that are not and were otherwise."""
    earlier = Path(str(plan.request.warm_start))
    study, document = check(earlier, plan.metric), RunDir(earlier.resolve()).read_run()
    base = document["spec"]
    told = ((p.name, spec.get(base, p.name, spec.MISSING)) for p in plan.room.parameters)
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
    best = had | top.params if top else None
    other = _otherwise(document, plan)
    write_json(root / FILE, {"run": str(earlier), "best": best, "trials": rows, "otherwise": other})


def _otherwise(document: Mapping[str, Any], plan: Plan) -> list[str]:
    """The leaves of an earlier run.json that neither run searches and that have another value in this plan. What
    differs between any two runs is none: folders, secrets, seeds, what is read off the data."""
    model, then = plan.bundle, document["spec"]
    left_out = {p.name for p in plan.room.parameters} | {row["name"] for row in document.get("space") or ()}
    left_out |= {*model.output_keys("train"), *secret_leaves.names(model, "train"), model.seed_key}
    left_out |= same_data.of_data(document.get("sources", {})) | same_data.of_data(plan.sources)
    left_out.add(str(model.skill.get("gpu_ids_key")))
    return [
        name
        for name, before, now in spec.diff(then, plan.spec)
        if name not in left_out
        and spec.MISSING not in (spec.get(then, name, spec.MISSING), spec.get(plan.spec, name, spec.MISSING))
        and not _is_place(before, now, str(document.get("root")))
    ]


def _is_place(before: Any, now: Any, root: str) -> bool:
    """Whether a leaf named a file of the earlier run's own, or one that is fetched by a name when a run begins."""
    if not isinstance(before, str) or not os.path.isabs(before):
        return False
    return before.startswith(f"{root}{os.sep}") or (isinstance(now, str) and not os.path.isabs(now))


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
        other = tuple(map(str, document.get("otherwise", ())))  # earlier versions did not look
        return Lessons(tuple(made), again, len(document["trials"]), unfit, other)
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
