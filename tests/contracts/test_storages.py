"""What the driver's storage writes is what Optuna's own writes, on every kind of database, and is refused where that
refuses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from automl import bundle, lean_storage, samplers
from automl.plan import compile_for, merge
from automl.proposals import propose
from automl.request import RunRequest
from automl.storage import open_storage
from tests.automl import postgresql

AXES = {
    "rate": FloatDistribution(1e-5, 1e-2, log=True),
    "step": FloatDistribution(0.1, 0.9, step=0.1),
    "layers": IntDistribution(1, 9, step=2),
    "batch": CategoricalDistribution([1, 2, 4.5, "auto", None, True]),
}
PARAMS = {"rate": 3.3e-4, "step": 0.1 + 0.2, "layers": 5, "batch": None}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "another kind", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    url = None
    if request.param == "another kind":  # of which it knows no statement that puts a row in place of another
        monkeypatch.setattr(lean_storage, "UPSERTING", {})
    if request.param == "postgresql":
        pytest.importorskip("psycopg")
        if postgresql.binaries() is None:
            pytest.skip("needs PostgreSQL's server programs")
        url = postgresql.make_database(request.getfixturevalue("server"), tmp_path.name.lower()[:40])
    return open_storage(url, tmp_path)


def templates() -> list[FrozenTrial]:
    common = {"params": PARAMS, "distributions": AXES, "user_attrs": {"params": {"a.b": [1, {"ü": None}]}}}
    curve = {0: 0.25, 3: math.inf, 7: math.nan, 2: -1e300}
    return [
        create_trial(state=TrialState.RUNNING, system_attrs={"fitted": [3, [0.1, 1e-17]]}, **common),
        create_trial(state=TrialState.COMPLETE, value=0.1 + 0.2, intermediate_values=curve, **common),
        create_trial(state=TrialState.COMPLETE, value=-math.inf, **common),
        create_trial(state=TrialState.FAIL),
        create_trial(state=TrialState.RUNNING, intermediate_values={0: 0.5}, **common),
    ]


def written(storage: Any) -> list[tuple[Any, ...]]:
    """Everything of a study's trials but what a database numbers by itself and when they ended."""
    study = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "written")
    other = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "other")
    ids = []
    for template in templates():
        ids.append(storage.create_new_trial(study, template_trial=template))
        storage.create_new_trial(other)
    first = ids[0]
    for value in (0.1, math.nan, 0.3):
        storage.set_trial_intermediate_value(first, 4, value)
    storage.set_trial_intermediate_value(ids[4], 0, 0.75)
    for value in ("no", {"of": ["epoch 3", 0.1]}):
        storage.set_trial_user_attr(first, "reason", value)
        storage.set_trial_system_attr(first, "noted", value)
    storage.set_trial_state_values(first, TrialState.COMPLETE, [0.3])
    return [
        (
            t.number, t.state, t.datetime_start, list(t.params.items()), t.distributions, repr(t.values),
            repr(sorted(t.intermediate_values.items())), t.user_attrs, t.system_attrs,
        )
        for t in storage.get_all_trials(study)
    ]  # fmt: skip


def test_it_writes_what_optuna_writes(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 3, 1, 12, 0, 0, 123456)
    start = optuna.trial.create_trial

    def at_one_moment(**kwargs: Any) -> FrozenTrial:
        trial = start(**kwargs)
        trial.datetime_start = now
        return trial

    monkeypatch.setitem(globals(), "create_trial", at_one_moment)
    assert written(storage) == written(RDBStorage("sqlite://"))


def test_what_ended_or_is_gone_takes_nothing_more(storage: Any) -> None:
    study = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "ended")
    ended = storage.create_new_trial(study, template_trial=templates()[1])
    gone = storage.create_new_trial(study, template_trial=templates()[0])
    for trial, error in ((ended, UpdateFinishedTrialError), (gone + 1, KeyError)):
        with pytest.raises(error):
            storage.set_trial_user_attr(trial, "a", 1)
        with pytest.raises(error):
            storage.set_trial_system_attr(trial, "a", 1)
        with pytest.raises(error):
            storage.set_trial_intermediate_value(trial, 9, 0.5)
    storage.delete_study(study)
    with pytest.raises(KeyError):
        storage.create_new_trial(study, template_trial=templates()[0])
    with pytest.raises(KeyError):
        storage.set_trial_intermediate_value(gone, 9, 0.5)


@pytest.mark.parametrize("sampler", ["fgp", "random", "tpe"])
def test_a_proposal_knows_how_it_will_be_read(storage: Any, sampler: str) -> None:
    model, request = bundle.resolve("deformable_detr"), RunRequest(model="deformable_detr", preset="demo")
    space = compile_for(model, merge(request, model)[0].spec, request, {}, {}, True)
    maximize = optuna.study.StudyDirection.MAXIMIZE
    study, trials = storage.create_new_study([maximize], "proposed"), []
    for number in range(6):
        proposal = propose(space, samplers.make(sampler, number), trials, number, [maximize])
        trial_id = storage.create_new_trial(study, template_trial=proposal.trial)
        known, read = proposal.stored(trial_id), storage.get_trial(trial_id)
        assert known == read
        assert repr(known.params) == repr(read.params)
        assert repr(known.user_attrs) == repr(read.user_attrs)
        trials.append(known)
