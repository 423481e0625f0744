"""Optuna's storage, but for what it asks the database before and between its writes: whether a trial is there, what
stands under a name, how others spelt a parameter. The driver alone writes, and trials of one space, so that a trial is
a statement for each table and a metric is one statement.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import sqlalchemy
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

TRIALS = models.TrialModel.__table__
ATTRIBUTES = models.TrialUserAttributeModel, models.TrialSystemAttributeModel
OF_A_TRIAL = (
    *ATTRIBUTES, models.TrialParamModel, models.TrialValueModel, models.TrialIntermediateValueModel,
    models.TrialHeartbeatModel,
)  # fmt: skip
# Databases that are not here go Optuna's way.
UPSERTING: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class LeanStorage(RDBStorage):  # type: ignore[misc, unused-ignore]
    """Writes the rows that Optuna's own writes. A trial to be written may have a number; it must be the next one."""

    def create_new_study(self, directions: Any, study_name: str | None = None) -> int:
        """Without the trials of another: SQLite gives studies and trials the numbers of those that were deleted, and
        what a driver wrote of them in that moment is left behind."""
        study_id = int(super().create_new_study(directions, study_name))
        with self.engine.begin() as connection:
            connection.execute(sqlalchemy.delete(TRIALS).where(TRIALS.c.study_id == study_id))
            for model in OF_A_TRIAL if self.engine.name == "sqlite" else ():
                gone = model.trial_id.not_in(select(TRIALS.c.trial_id))
                connection.execute(sqlalchemy.delete(model).where(gone))
        return study_id

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Any) -> Any:
        if template_trial is None:
            return super()._get_prepared_new_trial(study_id, template_trial, session)
        past = (
            session.query(sqlalchemy.func.count(models.TrialModel.trial_id))
            .filter_by(study_id=study_id)
            .scalar()
        )
        if 0 <= template_trial.number != past:
            raise KeyError(f"{past} trials are in its database, where this run knows {template_trial.number}")
        trial = models.TrialModel(
            study_id=study_id, number=past, state=template_trial.state,
            datetime_start=template_trial.datetime_start, datetime_complete=template_trial.datetime_complete,
        )  # fmt: skip
        session.add(trial)
        session.flush()
        for model, rows in _rows(template_trial).items():
            if rows:
                session.execute(
                    sqlalchemy.insert(model.__table__), [{"trial_id": trial.trial_id} | row for row in rows]
                )
        return trial

    def _set_trial_attr_without_commit(
        self, session: Any, model_cls: Any, trial_id: int, key: str, value: Any
    ) -> None:
        if not self._put(session, model_cls, trial_id, key=key, value_json=json.dumps(value)):
            super()._set_trial_attr_without_commit(session, model_cls, trial_id, key, value)

    def _set_trial_intermediate_value_without_commit(
        self, session: Any, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        if not self._put(
            session, models.TrialIntermediateValueModel, trial_id, **_metric(step, intermediate_value)
        ):
            super()._set_trial_intermediate_value_without_commit(session, trial_id, step, intermediate_value)

    def _put(self, session: Any, model: Any, trial_id: int, **row: Any) -> bool:
        """Whether the row stands now, in place of one under its name. Not where the trial is gone or has ended, which
        Optuna's own way then tells."""
        given = {f"new_{name}": value for name, value in ({"trial_id": trial_id} | row).items()}
        statement = self._upserts.get(model)
        return statement is not None and session.execute(statement, given).rowcount > 0

    @cached_property
    def _upserts(self) -> dict[Any, Any]:
        """Model -> the statement that puts a row of a trial that has not ended."""
        insert = UPSERTING.get(self.engine.name)
        if insert is None:
            return {}
        found = {model: _upsert(insert, model, ["key", "value_json"]) for model in ATTRIBUTES}
        value = models.TrialIntermediateValueModel
        found[value] = _upsert(insert, value, ["step", "intermediate_value", "intermediate_value_type"])
        return found


def _upsert(insert: Any, model: Any, columns: list[str]) -> Any:
    """Of `columns` the first tells which row."""
    table = model.__table__
    given = [bindparam(f"new_{name}", type_=table.c[name].type) for name in columns]
    trial = select(TRIALS.c.trial_id, *given).where(
        TRIALS.c.trial_id == bindparam("new_trial_id"),
        TRIALS.c.state.in_([TrialState.RUNNING, TrialState.WAITING]),
    )
    put = insert(table).from_select(["trial_id", *columns], trial)
    put = put.on_conflict_do_update(
        index_elements=["trial_id", columns[0]], set_={name: put.excluded[name] for name in columns[1:]}
    )
    return put.execution_options(preserve_rowcount=True)


def _rows(trial: FrozenTrial) -> dict[Any, list[dict[str, Any]]]:
    """Model -> what it holds of a trial."""
    params = [
        {
            "param_name": name,
            "param_value": axis.to_internal_repr(trial.params[name]),
            "distribution_json": distribution_to_json(axis),
        }
        for name, axis in trial.distributions.items()
    ]
    values = [
        {"objective": place, "value": stored, "value_type": kind}
        for place, value in enumerate(trial.values or ())
        for stored, kind in [models.TrialValueModel.value_to_stored_repr(value)]
    ]
    return {
        models.TrialParamModel: params,
        models.TrialValueModel: values,
        models.TrialIntermediateValueModel: [_metric(*item) for item in trial.intermediate_values.items()],
        ATTRIBUTES[0]: [{"key": k, "value_json": json.dumps(v)} for k, v in trial.user_attrs.items()],
        ATTRIBUTES[1]: [{"key": k, "value_json": json.dumps(v)} for k, v in trial.system_attrs.items()],
    }


def _metric(step: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"step": step, "intermediate_value": stored, "intermediate_value_type": kind}
