"""What is said when another program writes to a study: its numbers are places in the driver's memory and folders on
disk, so that nothing may be added, taken away or ended but by the driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from automl.errors import StudyGone, UserError
from automl.faults import is_away
from automl.trial_attributes import TABLE

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl.study_storage import Stored


def check_trials(name: str, trials: Sequence[FrozenTrial]) -> None:
    """Raises `UserError` where the database lacks a trial or has one twice, `TypeError` for what no driver wrote."""
    for trial in trials:
        for key, value in trial.user_attrs.items():
            if key in TABLE and not isinstance(value, TABLE[key][0]):
                raise TypeError(f"trial {trial.number}: {key} is {value!r}")
    wrong = next((place for place, trial in enumerate(trials) if trial.number != place), None)
    if wrong is not None:
        raise UserError(
            f"the study {name}: its database must hold trials 0, 1, 2, ... but trial {wrong} has been deleted or "
            "written twice there by another program; put a copy of the database back, or delete the study in it (of a "
            "run without --storage: move its study.db away), and automl resume makes it again from the trials' folders"
        )


def tell_if_changed(study: Stored, error: Exception) -> None:
    """Raises `StudyGone` where that is why a write of the driver's failed."""
    from optuna.exceptions import UpdateFinishedTrialError

    if isinstance(error, UpdateFinishedTrialError):
        raise StudyGone(
            f"the study {study.name}: a trial that was running has been ended in its database by another program"
        ) from None
    if is_away(error):
        return
    if not _exists(study):
        raise StudyGone(
            f"the study {study.name} is no longer in its database (deleted there?); its trials' folders are whole"
        ) from None
    if isinstance(error, KeyError):
        raise StudyGone(
            f"the study {study.name} has been changed in its database by another program: {error.args[0]}"
        ) from None


def next_trial(study: Stored) -> int | None:
    """The id of the trial that the driver was writing, where the answer was lost and not the writing."""
    number = len(study.trials())
    if study.storage.get_n_trials(study._id) <= number:
        return None
    return int(study.storage.get_trial_id_from_study_id_trial_number(study._id, number))


def _exists(study: Stored) -> bool:
    try:
        return bool(study.storage.get_study_name_from_id(study._id) == study.name)
    except KeyError:
        return False
