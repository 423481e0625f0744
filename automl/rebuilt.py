"""A study that is gone from its database, made again from the trials' folders: their specs say what was tried, their
records how it did, and trial.json what was decided. Without that file who was stopped, and why, is decided anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from automl import kept, spec
from automl.errors import SpaceError, SpecError
from automl.kept import Kept

if TYPE_CHECKING:
    from automl.plan import Plan
    from automl.records import Record
    from automl.study import Study
    from automl.trials import Trials


def rebuild(plan: Plan, study: Study, trials: Trials) -> int:
    """Give a study the trials that have folders and that it lacks (it is gone, a copy of earlier, or was being made
    again when its driver died), RUNNING, for the driver to adopt; those that had ended or wait are told so. Returns how
    many. A trial of whose configuration nothing can be read is proposed again, what lies in its folder set aside."""
    folders = (trials.run.root / "trials").glob("[0-9]*")
    count = max((int(folder.name) + 1 for folder in folders if folder.name.isdecimal()), default=0)
    lacking = range(len(study.trials()), count)
    if not lacking and not study.rebuilding:
        return 0
    study.set_rebuilding(True)
    for number in range(count):
        params, found = _found(plan, trials, number)
        study.set_elapsed_s(max(study.elapsed_s(), found.elapsed_s if found else 0.0))
        if number in lacking:
            study.ask(params, found)
            if params is None and number not in study.refused:
                trials.begin(number, study)
        if not study.frozen(number).state.is_finished():
            _tell(plan, study, trials, number, found)
    study.set_rebuilding(False)
    return len(lacking)


def _found(plan: Plan, trials: Trials, number: int) -> tuple[dict[str, Any] | None, Kept | None]:
    """(a trial's searched leaves or None where they are not there or not of this space, what was kept of the trial).
    What is kept counts where the spec is of the same configuration, or cannot be read."""
    folder = trials.run.trial(number)
    found = kept.read(folder, number)
    try:
        full = spec.load(folder / "spec.yaml")
        params = {name: spec.get(full, name) for name in plan.space.default}
        if found and any(params.get(name) != value for name, value in found.params.items()):
            found = None
    except SpecError:
        if found is None:
            return None, None
        params = found.params
    except (KeyError, TypeError, ValueError):
        return None, None
    try:
        plan.room.enqueue_params(params)
    except (SpaceError, KeyError, TypeError, ValueError):
        return None, None
    return params, found


def _tell(plan: Plan, study: Study, trials: Trials, number: int, found: Kept | None) -> None:
    """Report a trial's records, and tell that it waits or has ended, where that is known: what is asked for later goes
    by it. Without what was kept, one whose last checkpoint has been dropped, as only those of ended trials are, has
    ended."""
    lines, _ = trials.records(number)
    for record in lines:
        if record.diverged(plan.bundle.finite):
            break
        if (value := record.number(plan.metric.name)) is not None:
            study.report(number, record.epoch, value)
        else:
            study.passed(number, record.epoch)
    state, reason = (found.state, found.reason) if found else ("RUNNING", "")
    if state == kept.PAUSED:
        if found and lines and lines[-1].epoch == found.paused:
            study.note(number, reason=reason)
            study.set_paused(number, found.paused)
        return
    if state == "RUNNING" and _dropped(trials, number, lines):
        state, reason = _ended(study, trials, number, lines), "ended before its study was lost"
    if state != "RUNNING":
        study.tell(number, state, reason, trials.scoring(number))


def _dropped(trials: Trials, number: int, lines: Sequence[Record]) -> bool:
    last = lines[-1] if lines else None
    return last is not None and last.checkpoint is not None and trials.checkpoint(number, last) is None


def _ended(study: Study, trials: Trials, number: int, lines: Sequence[Record]) -> str:
    epochs = trials.num_epochs(number, study.frozen(number).user_attrs["params"])
    return "COMPLETE" if epochs is not None and lines[-1].epoch + 1 >= epochs else "PRUNED"
