"""What the search makes of trainings that fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import optuna
import pytest

from automl.fgp import gp
from automl.fgp.cube import Cube
from automl.fgp.model import Model
from automl.fgp.regressed import Regressed
from automl.fgp.risk import Learnt, Risk
from automl.study import Study
from tests.contracts.test_roles import EPOCHS, SPACE

HALF = EPOCHS // 2
Fails = Callable[[Mapping[str, float], int], bool]


def searched(fails: Fails, count: int, running: int = 0) -> Study:
    """A study of random draws whose value rises with the rate; those that fail do so after half of their epochs.
    The last `running` are about to."""
    study = Study(optuna.storages.InMemoryStorage(), "risk", SPACE, "random", 3)
    for _ in range(count + running):
        number, params = study.ask()
        broken = bool(fails(params, number))
        for epoch in range(HALF if broken or number >= count else EPOCHS):
            study.report(
                number, epoch, (0.2 + 0.1 * np.log10(params["train.lr"] / 1e-6)) * (epoch + 1) / EPOCHS
            )
        if number < count:
            study.tell(number, "FAIL" if broken else "COMPLETE", "")
    return study


def model(study: Study) -> Model:
    return Model(study.view().of_length(EPOCHS)).condition()


def high(params: Mapping[str, float], number: int) -> bool:
    return number > 0 and params["train.lr"] > 2e-3


def points(of: Model, lr: float) -> np.ndarray:
    every = [{**SPACE.default, **p, "train.lr": lr} for p in SPACE.sample(20, seed=1)]
    return np.array([of.cube.point(SPACE.enqueue_params(p)) for p in every])


def test_where_trainings_fail_less_is_promised() -> None:
    of = model(searched(high, 24))
    safe, broken = of.risk.of(points(of, 3e-4)), of.risk.of(points(of, 8e-3))
    assert safe.mean() < 0.25
    assert broken.mean() > 0.75
    lost = of.gain(points(of, 8e-3)) / gp.improvement(
        *of.posterior.predict(points(of, 8e-3), np.zeros(20)), of.incumbent
    )
    assert lost == pytest.approx(1 - broken)


def test_failures_by_chance_tell_nothing() -> None:
    trusted = []
    for seed in range(6):
        by_chance = np.random.default_rng(seed).random(40) < 0.4
        risk = model(searched(lambda _, n, b=by_chance: b[n], 40)).risk  # type: ignore[misc]
        assert isinstance(risk, Learnt)
        trusted.append(risk.trust)
    assert np.mean(trusted) < 0.2


def test_one_failure_tells_nothing() -> None:
    assert type(model(searched(lambda _, number: number == 5, 12)).risk) is Risk


def test_while_nobody_got_through_nothing_is_told() -> None:
    assert type(model(searched(lambda *_: True, 4, running=2)).risk) is Risk


def test_what_is_likely_to_fail_is_no_rival() -> None:
    """Of several that run one is always on its way to fail, better than all until then: what would run to its end was
    paused for it."""
    with_it = model(searched(high, 24, running=8))
    ended = with_it.valued.where(with_it.valued.column("complete"))
    running = with_it.valued.where(with_it.valued.column("running"))
    doomed = running.where(with_it.risk.of(np.array([run.x for run in running])) > 0.5)
    assert len(doomed)
    assert with_it._rivalling(ended).all()
    assert not with_it._rivalling(doomed).any()


def test_what_others_explain_is_what_leaving_each_out_says() -> None:
    rng = np.random.default_rng(0)
    cube = Cube.of(SPACE, [])
    x = cube.uniform(rng, 15)
    y = np.nan_to_num(x).sum(1) + 0.3 * rng.standard_normal(15)
    whole = Regressed(cube, x, y, 0.1, doubt=0.2)
    z, rows = whole.posterior.rows.z, whole.posterior.rows
    off = []
    for n in range(15):
        others = np.arange(15) != n
        without = gp.Posterior(rows.take(others), cube.squared, whole.posterior.theta)
        off.append(z[n] - without.predict(x[[n]], np.zeros(1))[0][0])
    assert whole.explained() == pytest.approx(1 - np.mean(np.square(off)) / z.var())
