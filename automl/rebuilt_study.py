"""A study that is gone from its database, or of which an earlier copy was put back, made again from the trials'
folders: their specs say what was tried, their records how it did, and trial.json what was decided. What that file does
not say of a trial, or what contradicts its records, is decided anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from automl import records, spec, trial_notes
from automl.budget import bound
from automl.ending import Ending, State
from automl.errors import SpaceError, SpecError
from automl.trainer_warnings import BY_ITSELF
from automl.trial_attributes import AGAIN, WAITED, WIDENED
from automl.trial_notes import Kept

if TYPE_CHECKING:
    from automl.plan import Plan
    from automl.records import Record
    from automl.study import Study
    from automl.trials import Trials

Ends = list[tuple[float, int, Ending]]  # when it ended, its number, how


def rebuild(plan: Plan, study: Study, trials: Trials) -> int:
    """Give a study the trials that have folders and that it lacks (it is gone, a copy of earlier, or was being made
    again when its driver died), RUNNING, for the driver to adopt; those that had ended or wait are told so, in the
    order in which they had. Returns how many it lacked. A trial of whose configuration nothing can be read is proposed
    again, what lies in its folder set aside."""
    count = trial_notes.count(trials.run.root)
    lacking = range(len(study.trials()), count)
    anew = bool(lacking) or study.rebuilding
    if anew:
        study.set_rebuilding(True)
    ends: Ends = []
    for number in range(count):
        if number not in lacking and study.frozen(number).state.is_finished():
            continue
        params, found = _found(plan, trials, number)
        if number in lacking:
            if params is None:
                _tell(study, trials, ends)  # what is asked for goes by them
            study.ask(params, found)
            if params is None and number not in study.refused:
                trials.begin(number, study)
        if number not in study.refused:
            ends += _brought(plan, study, trials, number, found, anew)
    _tell(study, trials, ends)
    if anew:
        study.set_rebuilding(False)
    return len(lacking)


def _found(plan: Plan, trials: Trials, number: int) -> tuple[dict[str, Any] | None, Kept | None]:
    """(a trial's searched leaves or None where they are not there or not of this space, what was kept of the trial).
    What is kept counts where the spec is of the same configuration, or cannot be read."""
    folder = trials.run.trial(number)
    found = trial_notes.read(folder, number)
    if found and not found.noted.get(WIDENED, {}).keys() <= {p.name for p in plan.space.parameters}:
        found = None
    try:
        full = spec.load(folder / "spec.yaml")
        params = plan.space.params_of(full)
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


def _brought(plan: Plan, study: Study, trials: Trials, number: int, found: Kept | None, anew: bool) -> Ends:
    """Bring a trial up to what its folder says, where that is more than the study does: the study is written first.
    Returns its end where it has one."""
    lines, broken = trials.records(number)
    ending = _believed(plan, study, trials, number, lines, found)
    if ending.state == "RUNNING" and anew and _dropped(trials, number, lines):
        ending = Ending(_ended(study, trials, number, lines), "ended before its study was lost")
        if broken:
            ending = Ending("FAIL", f"metrics.jsonl {broken}")
    waited = study.frozen(number).user_attrs.get(WAITED, -1)
    if found:
        _note(study, number, found)
    if ending.state == "PAUSED" and found:
        if waited < found.paused:
            _report(plan, study, trials, number, [line for line in lines if line.epoch <= found.paused])
            study.note(number, reason=ending.reason)
            study.set_paused(number, found.paused)
        return []
    if anew or ending.state != "RUNNING":
        _report(plan, study, trials, number, lines)
    if ending.state != "RUNNING":
        return [(found.ended if found else 0.0, number, ending)]
    if found and found.waited >= waited and number in study.paused():  # it had gone on
        study.set_paused(number, -1)
    return []


def _note(study: Study, number: int, found: Kept) -> None:
    """Note what the folder has seen more of than a copy of the study of earlier."""
    attrs, noted = study.frozen(number).user_attrs, {**found.noted, WAITED: found.waited}
    more = {
        name: noted[name]
        for name in ("seconds", "timed_s", "timed", AGAIN, WAITED)
        if noted.get(name, -1) > attrs.get(name, -1)
    }
    if len(noted.get("starts", ())) > len(attrs.get("starts", ())):
        more["starts"] = noted["starts"]
    study.epochs_trained += max(0, more.get(AGAIN, 0) - attrs.get(AGAIN, 0))
    study.note(number, **more)


def _believed(
    plan: Plan, study: Study, trials: Trials, number: int, lines: Sequence[Record], found: Kept | None
) -> Ending:
    """How it ended as kept, or RUNNING where its records say otherwise: the driver then judges by these."""
    if found is None:
        return Ending("RUNNING", "")
    epochs = trials.num_epochs(number, study.frozen(number).user_attrs["params"])
    whole = records.is_whole(lines, epochs)
    finite = not any(line.diverged(plan.bundle.finite) for line in lines)
    short = epochs is not None and not whole and not found.reason.startswith(BY_ITSELF)
    wrong: dict[State, bool] = {
        "COMPLETE": not lines or short,
        "PRUNED": not lines or whole,
        "FAIL": whole and finite,
        "PAUSED": whole or not any(line.epoch == found.paused for line in lines),
    }
    return Ending("RUNNING", "") if wrong.get(found.state) else Ending(found.state, found.reason)


def _report(plan: Plan, study: Study, trials: Trials, number: int, lines: Sequence[Record]) -> None:
    epochs = trials.num_epochs(number, study.frozen(number).user_attrs["params"])
    for record in lines:
        if record.diverged(plan.bundle.finite):
            return
        bound(study, number, record.epoch, epochs)
        if (value := record.number(plan.metric.name)) is not None:
            study.report(number, record.epoch, value)
        else:
            study.passed(number, record.epoch)


def _tell(study: Study, trials: Trials, ends: Ends) -> None:
    """In the order in which they ended: patience goes by it."""
    for _, number, ending in sorted(ends):
        study.tell(number, *ending, trials.scoring(number))
    ends.clear()


def _dropped(trials: Trials, number: int, lines: Sequence[Record]) -> bool:
    """Whether its last checkpoint has been dropped, as only those of ended trials are."""
    last = lines[-1] if lines else None
    return last is not None and last.checkpoint is not None and trials.checkpoint(number, last) is None


def _ended(study: Study, trials: Trials, number: int, lines: Sequence[Record]) -> State:
    epochs = trials.num_epochs(number, study.frozen(number).user_attrs["params"])
    return "COMPLETE" if records.is_whole(lines, epochs) else "PRUNED"
