"""A study that is gone from its database, made again from the trials' folders: their specs say what was tried, their
records how it did. What a folder cannot say (who was stopped, and why) is decided anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import spec
from automl.errors import SpaceError, SpecError

if TYPE_CHECKING:
    from automl.plan import Plan
    from automl.study import Study
    from automl.trials import Trials


def rebuild(plan: Plan, study: Study, trials: Trials) -> int:
    """Give a study the trials that have folders and that it lacks (it is gone, a copy of earlier, or was being made
    again when its driver died), RUNNING, for the driver to adopt; those that had ended are told. Returns how many. A
    trial whose spec cannot be read is proposed again, what lies in its folder set aside."""
    folders = (trials.run.root / "trials").glob("[0-9]*")
    count = max((int(folder.name) + 1 for folder in folders if folder.name.isdecimal()), default=0)
    lacking = range(len(study.trials()), count)
    if not lacking and not study.rebuilding:
        return 0
    study.set_rebuilding(True)
    for number in range(count):
        if number in lacking:
            params = _params(plan, trials.run.trial(number) / "spec.yaml")
            if params is None:
                trials.set_aside(number)
            study.ask(params, trials.noted(number) if params else None)
        if not study.frozen(number).state.is_finished():
            _tell_if_ended(plan, study, trials, number)
    study.set_rebuilding(False)
    return len(lacking)


def _params(plan: Plan, path: Path) -> dict[str, Any] | None:
    """The searched leaves of a trial's spec; None when it is not there or not of this space."""
    try:
        full = spec.load(path)
        params = {name: spec.get(full, name) for name in plan.space.default}
        plan.room.enqueue_params(params)
    except (SpecError, SpaceError, KeyError, TypeError, ValueError):
        return None
    return params


def _tell_if_ended(plan: Plan, study: Study, trials: Trials, number: int) -> None:
    """A trial whose last checkpoint has been dropped, as only those of ended trials are, has ended."""
    found, _ = trials.records(number)
    if not found or found[-1].checkpoint is None or trials.checkpoint(number, found[-1]) is not None:
        return
    for record in found:
        if (value := record.number(plan.metric.name)) is not None:
            study.report(number, record.epoch, value)
    epochs = trials.num_epochs(number, study.frozen(number).user_attrs["params"])
    state = "COMPLETE" if epochs is not None and found[-1].epoch + 1 >= epochs else "PRUNED"
    study.tell(number, state, "ended before its study was lost", trials.scoring(number))
