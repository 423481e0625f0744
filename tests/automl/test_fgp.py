"""The model behind the default sampler: its coordinates, and what it proposes, over the detector's spaces."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.budget import Limits, Time
from automl.fgp import FITTED, curves, gp, runs
from automl.fgp.cube import APART, Cube
from automl.fgp.curves import DOUBT_OF_EARLIER
from automl.fgp.model import ENOUGH, REACHED, Model
from automl.fgp.runs import Run, Runs, run_of
from automl.fgp.sampler import FreezeThawSampler
from automl.fgp.scheduler import FreezeThaw
from automl.plan import Plan, prepare
from automl.request import RunRequest
from automl.scheduling import View
from automl.study import Study
from studies.search.families import FAMILIES
from studies.search.objectives import DEFAULTS, lcbench_space
from studies.search.run import Played
from studies.search.valid import one_study
from tests.contracts.test_roles import EPOCHS, SPACE

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module", params=["tao", "recommended", "all"])
def plan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("fgp") / "run"
    return prepare(RunRequest(model="deformable_detr", demo=True, space=request.param), folder)


def test_nothing_invalid_and_nothing_twice(plan: Plan) -> None:
    assert one_study(plan, "fgp", 5, 24) == {"invalid": 0, "twice": 0, "refused": 0}


def test_distances_are_those_of_a_euclidean_space(plan: Plan) -> None:
    """Else a kernel of them is none: of each axis the matrix of inner products has no negative eigenvalue."""
    cube = Cube.of(plan.space, [])
    points = cube.snapped(cube.uniform(np.random.default_rng(0), 40))
    for axis, squared in zip(cube.axes, cube.squared(points, points), strict=True):
        assert np.all(np.diag(squared) == 0), axis.name
        centred = squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean()
        assert np.linalg.eigvalsh(-0.5 * centred).min() > -1e-9, axis.name


def test_options_have_no_order_and_what_does_not_matter_no_distance(plan: Plan) -> None:
    cube = Cube.of(plan.space, [])
    points = cube.snapped(cube.uniform(np.random.default_rng(1), 60))
    squared, idle = cube.squared(points, points), np.isnan(points).T
    for i, axis in enumerate(cube.axes):
        if axis.kind == "option":
            assert set(np.unique(squared[i])) <= {0.0, APART}
        assert np.all(squared[i][np.ix_(idle[i], idle[i])] == 0)
        assert np.all(squared[i][np.ix_(idle[i], ~idle[i])] == APART)
    assert idle.any() == (len(cube.axes) > 13)  # of the space "tao" all axes always matter


def test_choices_are_tried_one_after_the_other() -> None:
    """Six choices without an order, most of them of another option than the default: a fifth of the way from it to the
    best is left at most on average after 20 trainings (.42 is, where one option is as far from another as a range's
    ends)."""
    objectives = [FAMILIES["categorical"](seed) for seed in range(4)]
    left = [each.loss(Played("fgp", each, 1, 20, each.seed).winner()) for each in objectives]
    assert np.mean(left) < 0.2, left


class Square:
    """A space of two numbers, as a study asks for one."""

    default: ClassVar = {"x": 0.5, "y": 0.5}
    parameters = ()
    every = None

    def suggest(self, trial: optuna.Trial) -> dict[str, float]:
        return {name: trial.suggest_float(name, 0, 1) for name in "xy"}

    def enqueue_params(self, params: dict[str, float]) -> dict[str, float]:
        return params

    @property
    def widest(self) -> Any:
        return self


def in_square(seed: int) -> Study:
    return Study(optuna.storages.InMemoryStorage(), "square", Square(), "fgp", seed)  # type: ignore[arg-type]


def test_failed_trials_teach() -> None:
    """Where trainings fail nothing more is proposed, although what came close was the best."""
    study, asked = in_square(0), []
    for _ in range(25):
        number, params = study.ask()
        x = params["x"]
        asked.append(x)
        if x <= 0.7:
            study.report(number, 0, x)
        study.tell(number, "COMPLETE" if x <= 0.7 else "FAIL", "")
    assert sum(x > 0.75 for x in asked[15:]) <= 3
    assert sum(0.6 < x <= 0.75 for x in asked[15:]) >= 4


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_failures_by_chance_do_not_hide_where_it_is_good(seed: int) -> None:
    """Two of five fail wherever they are: beside good ones too, which are no luck for that."""
    study, rng, nearest = in_square(seed), np.random.default_rng(seed), 1.0
    for _ in range(40):
        number, params = study.ask()
        off = float(np.hypot(params["x"] - 0.8, params["y"] - 0.3))
        nearest = min(nearest, off)
        if number and rng.random() < 0.4:
            study.tell(number, "FAIL", "by chance")
        else:
            study.report(number, 0, float(np.exp(-3 * off)))
            study.tell(number, "COMPLETE", "")
    assert nearest < 0.03


@pytest.mark.parametrize("running", [0, 2])
def test_where_nothing_reaches_a_lucky_trial_its_configuration_is_to_be_beaten(running: int) -> None:
    """Gains that are all next to nothing are largest where least is known."""
    view, _ = with_running(8, running)
    model = Model.of(view)
    theta = model.posterior.theta.copy()
    theta[-4:] = np.log([1e-3, 0.15, 0.5, 0.004])  # all differences are the trials' own
    model.posterior = gp.Posterior(model.posterior.rows, model.cube.squared, theta)
    model.incumbent = lucky = 0.0
    if model.fantasies is not None:
        x, z = model.posterior.rows.x[-running:], np.full((running, 4), -2.0)
        rows = model.posterior.rows.take(np.arange(len(model.posterior.rows) - running))
        before = gp.Posterior(rows, model.cube.squared, theta)
        model.fantasies = gp.Fantasies(before, x, np.arange(running) + 8, z, np.zeros(4))
    proposed = model.propose(0)
    assert model.incumbent < lucky - 0.1
    assert proposed.gain > REACHED
    if model.fantasies is not None:
        assert np.all(model.fantasies.best == max(model.incumbent, -2.0))


def run_that(values: list[float], complete: bool = True) -> Run:
    trial = optuna.trial.create_trial(
        value=values[-1] if complete else None,
        state=optuna.trial.TrialState.COMPLETE if complete else optuna.trial.TrialState.PRUNED,
        intermediate_values=dict(enumerate(values)),
    )
    return run_of(trial, 0, Cube((), ()), 1.0, len(values), False)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.floats(1e-6, 1.0))
def test_a_better_value_is_never_scaled_below_a_worse_one(tops: list[float], smallest: float) -> None:
    scale = curves.Scale.of(Runs.of([run_that([top * smallest]) for top in tops]))
    values = np.sort(
        [top * smallest for top in tops] + [scale.best - scale.unit * f for f in (0, 0.5, 1, 2, 9)]
    )
    z = scale.z(values)
    assert (np.diff(z) >= -1e-9).all()
    assert z[-1] == 0
    assert scale.z(np.array([scale.best - scale.unit]))[0] == pytest.approx(-1)
    assert 0 < scale.fine <= scale.unit


def test_noise_is_not_spread_apart() -> None:
    rng = np.random.default_rng(0)
    rise = 0.5 * (1 - 0.5 ** np.arange(1.0, 31.0))
    smooth = Runs.of([run_that(list(rise + n * 1e-4)) for n in range(10)])
    noisy = Runs.of([run_that(list(rise + n * 1e-4 + 0.004 * rng.standard_normal(30))) for n in range(10)])
    assert curves.noise(smooth) < 1e-4
    assert curves.noise(noisy) == pytest.approx(0.004, rel=0.4)
    assert curves.Scale.of(noisy).fine >= curves.NOISES * 0.002
    assert curves.noise(Runs.of([run_that(list(rise), complete=False)])) == 0


@pytest.mark.parametrize("offset", [-2.5e6, 1e3, 1e6])
def test_where_a_metric_s_zero_lies_says_nothing(offset: float) -> None:
    tops = [0.01 * n**2 for n in range(12)]
    curves_ = [[0.5 * top, top] for top in tops]
    near, far = (
        curves.Scale.of(Runs.of([run_that([v + by for v in curve]) for curve in curves_]))
        for by in (0.0, offset)
    )
    assert far.z(np.array(tops) + offset) == pytest.approx(near.z(np.array(tops)), abs=1e-6)


def test_equal_values_have_a_scale() -> None:
    scale = curves.Scale.of(Runs.of([run_that([0.0]), run_that([0.0])]))
    assert scale.z(np.array([0.0])) == 0


@pytest.mark.parametrize("whole", [4, 5])
def test_ends_alone_count_once_there_are_enough(whole: int) -> None:
    """What is paused and what came before an end blur where the best lies; a failed trial still teaches."""
    study = Study(optuna.storages.InMemoryStorage(), "ends", SPACE, "random", 0)
    for number in range(whole + 2):
        study.ask()
        for epoch in range(EPOCHS if number < whole else 2):
            study.report(number, epoch, 0.1 * number + 0.01 * epoch)
        if number < whole:
            study.tell(number, "COMPLETE", "")
    study.set_paused(whole, 1)
    study.tell(whole + 1, "FAIL", "broken")
    view = study.view().of_length(EPOCHS)
    rows = Model(view).condition().posterior.rows
    if whole < ENOUGH:
        assert {*rows.trial} == {*range(whole + 2)}
        assert len(rows) > whole + 2
    else:
        assert sorted(rows.trial) == [*range(whole), whole + 1]
        assert set(rows.phi) == {0.0}


def with_running(whole: int, running: int) -> tuple[View, list[int]]:
    """A study of so many trials that ran to their end and so many that run; the numbers of these."""
    study = Study(optuna.storages.InMemoryStorage(), "apart", SPACE, "random", 0)
    for number in range(whole):
        study.ask()
        for epoch in range(EPOCHS):
            study.report(number, epoch, 0.1 * number + 0.01 * epoch)
        study.tell(number, "COMPLETE", "")
    going = [study.ask()[0] for _ in range(running)]
    return study.view().of_length(EPOCHS), going


@pytest.mark.parametrize("whole", [4, 8])
def test_what_is_proposed_is_to_beat_what_runs(whole: int) -> None:
    """Or all that run at a time would stand round one place."""
    view, going = with_running(whole, 6)
    alone, beside = Model(view).condition(), Model.of(view)
    mean, _ = alone.at_end([alone.runs[number] for number in going])
    assert beside.posterior.rows.z[-len(going) :] == pytest.approx(mean)  # draws and their mirror images
    points = np.array([alone.runs[number].x for number in going])
    assert np.all(beside.gain(points) <= alone.gain(points) + 1e-12)
    assert beside.fantasies is not None
    assert np.all(beside.fantasies.best >= beside.incumbent)
    assert beside.fantasies.best.max() > beside.incumbent


def test_draws_of_ends_are_of_the_joint_posterior() -> None:
    """And the improvement over many draws is that of one trial
    after the other."""
    view, going = with_running(5, 3)
    model = Model(view).condition()
    x = np.array([model.runs[number].x for number in going])
    x[1] = x[0] + 0.01
    rng = np.random.default_rng(0)
    ends = model.posterior.ends(x, np.array(going), rng.standard_normal((3, 20000)))
    mean, sd = model.posterior.predict(x, np.zeros(3), np.array(going))
    assert ends.mean(1) == pytest.approx(mean, abs=0.03)
    assert ends.std(1) == pytest.approx(sd, rel=0.03)
    assert np.corrcoef(ends)[0, 1] > 0.1
    points = rng.random(x.shape)
    drawn = ends[:, :4000]
    best = np.maximum(model.incumbent, drawn.max(0))
    found = gp.Fantasies(model.posterior, x, np.array(going), drawn, best).improvement(points)
    each = []
    for i in range(300):
        rows = gp.Rows(x, np.zeros(3), np.array(going), drawn[:, i])
        given = gp.Posterior(model.posterior.rows.plus(rows), model.cube.squared, model.posterior.theta)
        each.append(gp.improvement(*given.predict(points, np.zeros(3)), best[i]))
    assert np.mean(each, 0) == pytest.approx(found, abs=4 * np.std(each, 0).max() / 300**0.5)


@pytest.mark.parametrize("diverged", [[1e12] * EPOCHS, [1e9, *[2.0] * (EPOCHS - 1)], [1.7e308] * EPOCHS])
@pytest.mark.parametrize("others", [1, 3])
def test_a_diverged_loss_is_not_the_scale_that_all_others_are_measured_by(
    diverged: list[float], others: int
) -> None:
    study = Study(optuna.storages.InMemoryStorage(), "diverged", SPACE, "random", 0, maximize=False)
    ends = [1.5, 1.1, 1.9, 0.4, 1.3, 1.0]
    for curve in [[3 - (3 - end) * (e + 1) / EPOCHS for e in range(EPOCHS)] for end in ends]:
        number, _ = study.ask()
        for epoch, value in enumerate(curve):
            study.report(number, epoch, value)
        study.tell(number, "COMPLETE", "")
    before = Model(study.view().of_length(EPOCHS)).condition()
    assert runs.sane(before.runs) is before.runs
    for _ in range(others):
        number, _ = study.ask()
        for epoch, value in enumerate(diverged):
            study.report(number, epoch, value)
        study.tell(number, "COMPLETE", "")
    view = study.view().of_length(EPOCHS)
    after = Model(view).condition()
    assert after.scale.unit < 50 * before.scale.unit
    assert FreezeThaw().winner(view, range(len(ends))) == 3


@pytest.mark.parametrize(("lowest", "maximize"), [(0.5, False), (-0.1, False), (0.5, True)])
def test_a_loss_that_falls_far_is_compared_by_its_logarithm(lowest: float, maximize: bool) -> None:
    """Or ends that differ by a tenth are one beside first epochs of hundreds. What has values of 0 or below cannot be,
    and what is maximised is not."""
    ends = [0.7, lowest, 0.6, 0.8, 0.65]
    view = of_ends(ends, maximize)
    model = Model(view).condition()
    assert model.by_logarithm == (lowest > 0 and not maximize)
    if model.by_logarithm:
        z = model.scale.z(model.valued.column("top"))
        assert np.argsort(-z).tolist() == np.argsort(ends).tolist()
        assert z[1] - z[2] > 0.1
        assert FreezeThaw().winner(view, range(5)) == 1
    earlier = of_ends([0.55, -3.0, 0.9], maximize).trials
    beside = Model(replace(view, earlier=earlier, memo={})).condition()
    assert np.isfinite(beside.posterior.rows.z).all()
    assert (beside.posterior.rows.trial < 0).sum() >= 3
    if model.by_logarithm:  # what is below 0 counts as the least above it, so that the others stay apart
        theirs = np.unique(beside.posterior.rows.z[beside.posterior.rows.trial < 0])
        assert theirs.min() > -4


def test_what_is_measured_here_outweighs_an_earlier_run() -> None:
    """Its rows have noise of their own, those of this search none."""
    view = of_ends([0.6, 0.9, 0.5], True)
    rows = (
        Model(replace(view, earlier=of_ends([0.8, 0.5, 0.9], True).trials, memo={}))
        .condition()
        .posterior.rows
    )
    doubts = np.broadcast_to(rows.doubt, rows.z.shape)
    assert set(doubts[rows.trial < 0]) == {DOUBT_OF_EARLIER}
    assert set(doubts[rows.trial >= 0]) == {0.0}


def of_ends(ends: list[float], maximize: bool) -> View:
    """Trainings of a loss from some hundreds on to these ends."""
    study = Study(optuna.storages.InMemoryStorage(), "far", SPACE, "random", 0, maximize=maximize)
    for end in ends:
        number, _ = study.ask()
        for epoch in range(EPOCHS):
            study.report(number, epoch, end + 500.0 * 4.0**-epoch * (epoch < EPOCHS - 1))
        study.tell(number, "COMPLETE", "")
    return study.view().of_length(EPOCHS)


def test_none_is_handed_over_that_measured_worse_than_the_default() -> None:
    """Also where the model takes the default for a lucky one."""
    study = Study(optuna.storages.InMemoryStorage(), "lucky", SPACE, "random", 0)
    tops = [0.70, 0.69, 0.69, 0.69, 0.69]
    for top in tops:
        number, _ = study.ask()
        for epoch in range(EPOCHS):
            study.report(number, epoch, top * (epoch + 1) / EPOCHS)
        study.tell(number, "COMPLETE", "")
    assert FreezeThaw().winner(study.view().of_length(EPOCHS), range(1, 5)) is None  # equal ones
    assert FreezeThaw().winner(study.view().of_length(EPOCHS), range(5)) in (0, None)


@pytest.mark.parametrize("left", [2, 20])
def test_what_is_left_of_epochs_goes_to_what_it_brings_to_an_end(left: int) -> None:
    """A first draw that waits one epoch before its end, not a new one that would be cut off long before its own."""
    study = Study(optuna.storages.InMemoryStorage(), "few", SPACE, "fgp", 0)
    for end in (EPOCHS, EPOCHS - 1, 2):
        number, _ = study.ask()
        for epoch in range(end):
            study.report(number, epoch, 0.1 * (1 + number) * (epoch + 1) / EPOCHS)
        if end < EPOCHS:
            study.set_paused(number, end - 1)
    study.tell(0, "COMPLETE", "")
    study.budget = Limits(epochs=study.epochs_trained + left).left(study, EPOCHS)
    assert study.budget.new
    assert FreezeThaw().promote(study.view()) == (1 if left < EPOCHS else None)


def side_by_side(running: int, epochs: int) -> Study:
    """So many trials that run beside the default, all after so many epochs, in a search of as many trainings."""
    study = Study(optuna.storages.InMemoryStorage(), "beside", SPACE, "fgp", 0)
    for number in range(running + 1):
        study.ask()
        for epoch in range(epochs):
            study.report(number, epoch, 0.1 + 0.01 * number + 0.02 * epoch)
    study.budget = Limits(trainings=running + 1).left(study, EPOCHS)
    return study


@pytest.mark.parametrize(("running", "pauses"), [(1, False), (2, True), (7, True)])
def test_a_pause_counts_with_those_beside_it(running: int, pauses: bool) -> None:
    """One sets too little free for another training; of two it is enough."""
    study = side_by_side(running, epochs=2)
    assert (study.budget.new, study.budget.missing) == (False, EPOCHS)
    verdict = FreezeThaw().decide(study.view(), 1, 1, EPOCHS)
    assert (verdict is not None) == pauses


@pytest.mark.parametrize(("epochs", "beside"), [(2, True), (2, False), (EPOCHS - 1, True)])
def test_what_waits_goes_on_where_nothing_new_can_come(epochs: int, beside: bool) -> None:
    """A first draw waits for a new configuration, as long as pauses of others may bring one. The last rung is behind
    those that have an epoch to go, and what alone is there waits for nobody."""
    study = side_by_side(3, epochs)
    study.set_paused(1, 1)
    if not beside:
        for number in (0, 2, 3):
            for epoch in range(epochs, EPOCHS):
                study.report(number, epoch, 0.3)
            study.tell(number, "COMPLETE", "")
    study.budget = Limits(trainings=4).left(study, EPOCHS)
    assert not study.budget.new
    waits = beside and epochs == 2
    assert FreezeThaw().promote(study.view()) == (None if waits else 1)


def test_only_a_budget_of_trainings_brings_what_is_new_for_what_is_saved() -> None:
    study = side_by_side(3, epochs=2)
    for limits in (Limits(trials=4), Limits(epochs=40), Limits(trainings=4, trials=4), Limits(trainings=5)):
        assert limits.left(study, EPOCHS).missing == math.inf
    assert Limits(trainings=4, trials=5).left(study, EPOCHS).missing == EPOCHS
    assert Limits(trainings=4).left(study, EPOCHS, Time(60.0, epochs=0.5, total=2.0)).missing == EPOCHS


@pytest.mark.parametrize("workers", [3, 8])
def test_as_many_at_a_time_as_trainings_look_at_more_configurations(workers: int) -> None:
    """All began at once, and each then ran to its end: a search of random draws."""
    played = Played("fgp", FAMILIES["plain"](0), workers, workers, 0)
    lengths = [len(t.intermediate_values) for t in played.study.trials()]
    assert len(lengths) > workers
    assert sum(lengths) <= workers * played.epochs
    assert min(lengths) < played.epochs
    assert all(t.state.is_finished() for t in played.study.trials())


@pytest.mark.parametrize("whole", [4, 5])
def test_nobody_is_paused_once_ends_alone_count(whole: int) -> None:
    """It would go on at once: what waits is then judged by its place, and what runs was just chosen for that."""
    study = Study(optuna.storages.InMemoryStorage(), "late", SPACE, "random", 0)
    for number in range(whole):
        study.ask()
        for epoch in range(EPOCHS):
            study.report(number, epoch, 0.5 + 0.01 * number + 0.02 * epoch)
        study.tell(number, "COMPLETE", "")
    number, _ = study.ask()
    verdicts = []
    for epoch in range(EPOCHS - 1):
        study.report(number, epoch, 0.01)
        verdicts.append(FreezeThaw().decide(study.view(), number, epoch, EPOCHS))
    assert any(verdicts) == (whole < ENOUGH)


def with_a_default(curve: list[float]) -> Model:
    """The model of a study whose first trial ran to its end and whose second waits."""
    study = Study(optuna.storages.InMemoryStorage(), "told", SPACE, "random", 0)
    for values in (curve, curve[:2]):
        number, _ = study.ask()
        for epoch, value in enumerate(values):
            study.report(number, epoch, value)
    study.tell(0, "COMPLETE", "")
    study.set_paused(1, 1)
    return Model(study.view().of_length(len(curve))).condition()


def test_the_prior_counts_where_first_epochs_tell_little() -> None:
    """As a learning rate far from the default's: all that has stood at its floor for a third of its training."""
    late = with_a_default([0.0, 0.01, 0.02, 0.2, 0.5, 0.6, 0.65, 0.68, 0.7])
    early = with_a_default([0.0, 0.65, 0.66, 0.67, 0.68, 0.69, 0.69, 0.7, 0.7])
    points = late.cube.near_default(np.random.default_rng(0), 8, 2.0)
    lost = np.log(late.gain(points)) - late._score(points)
    assert np.all(lost > 0)
    assert np.argmax(lost) == np.argmax(late.cube.surprise(points))
    assert early._score(points) == pytest.approx(np.log(early.gain(points)))


def test_the_winner_is_named_by_what_was_fitted_to_ends() -> None:
    """What does not fit into curves is no noise of ends: else of five that lie well apart the best is not named."""
    study = Study(optuna.storages.InMemoryStorage(), "anew", SPACE, "random", 0)
    tops = [0.70, 0.50, 0.60, 0.74, 0.65]
    for _ in range(10):
        number, _ = study.ask()
        study.report(number, 0, 0.1)
        study.set_paused(number, 0)
    for top in tops:
        number, _ = study.ask()
        for epoch in range(EPOCHS):
            study.report(number, epoch, top * (epoch + 1) / EPOCHS)
        study.tell(number, "COMPLETE", "")
    view = study.view().of_length(EPOCHS)
    of_curves = gp.prior(len(Cube.of(SPACE, view.trials).axes))[0]
    of_curves[-1] = np.log(0.5)
    view.trials[-1].system_attrs[FITTED] = [20, of_curves.tolist()]
    assert np.exp(Model(view, fresh=False).condition().fitted.theta[-1]) > 0.4
    assert np.exp(Model(view, fresh=False).condition(anew=True).fitted.theta[-1]) < 0.02
    assert FreezeThaw().winner(view, range(10, 15)) == 13


def of_trial(curve: dict[int, float], state: str = "COMPLETE", told: int | None = None, **more: Any) -> Run:
    """A trial of trainings of nine epochs, told with what epoch `told` brought, as a `Run`."""
    kind = optuna.trial.TrialState[state]
    value = None if told is None or state != "COMPLETE" else curve[told]
    attrs = {} if told is None else {"best_epoch": told}
    trial = optuna.trial.create_trial(value=value, state=kind, intermediate_values=curve, user_attrs=attrs)
    return run_of(trial, 0, Cube((), ()), 1.0, EPOCHS, **more)


def test_a_trial_is_worth_what_its_checkpoint_holds() -> None:
    fell = {0: 0.1, 1: 0.6, 2: 0.3}
    assert of_trial(fell, told=1).top == 0.6
    assert list(of_trial(fell, told=2).best) == [0.1, 0.3, 0.3]  # one file that is written over and over
    assert of_trial(fell, "PRUNED", told=2).top == 0.3
    assert of_trial(fell, "RUNNING").top == 0.6
    assert of_trial(fell, "RUNNING", last=True).top == 0.3
    assert of_trial(fell, "RUNNING", last=True, until=2).top == 0.6


def test_what_is_longer_than_a_training_keeps_its_best() -> None:
    assert of_trial({0: 0.1, 9: 0.7, 14: 0.5}, "PRUNED").top == 0.7


def one_file(falls: float) -> Study:
    """Three trials whose last epoch counts; the second rises highest, and falls."""
    study = Study(optuna.storages.InMemoryStorage(), "one file", SPACE, "random", 0)
    for top, end in ((0.6, 0.6), (0.9, 0.9 - falls), (0.65, 0.65)):
        number, _ = study.ask()
        for epoch in range(EPOCHS):
            study.report(number, epoch, end if epoch == EPOCHS - 1 else top * (epoch + 1) / EPOCHS)
        study.tell(number, "COMPLETE", "", {EPOCHS - 1})
    return study


@pytest.mark.parametrize(("falls", "winner"), [(0.0, 1), (0.5, 2)])
def test_where_the_last_epoch_counts_the_winner_is_the_best_by_that(falls: float, winner: int) -> None:
    study = one_file(falls)
    assert FreezeThaw().winner(study.view().of_length(EPOCHS), range(3)) == winner


@pytest.mark.parametrize("top", [0.5, 0.53, 0.55])
def test_a_training_that_ended_early_by_itself_is_at_its_end(top: float) -> None:
    """What it might have become is nothing that can be handed over."""
    study = Study(optuna.storages.InMemoryStorage(), "early", SPACE, "random", 0)
    for end, epochs in ((0.5, EPOCHS), (0.6, EPOCHS), (0.57, EPOCHS), (top, 4)):
        number, _ = study.ask()
        for epoch in range(epochs):
            study.report(number, epoch, end * (epoch + 1) / epochs)
        study.tell(number, "COMPLETE", "")
    assert FreezeThaw().winner(study.view().of_length(EPOCHS), range(4)) == 1


def test_a_plain_study_that_only_returns_values_teaches() -> None:
    study = optuna.create_study(direction="maximize", sampler=FreezeThawSampler(0))
    study.optimize(lambda trial: -((trial.suggest_float("x", 0.0, 1.0) - 0.3) ** 2), n_trials=20)
    assert study.best_value > -1e-4


def test_the_benchmark_s_space_is_the_published_one() -> None:
    """Whatever scale the engine would choose for a range of that name."""
    logarithmic = {"batch_size", "learning_rate", "max_units", "weight_decay"}
    scales = {p.name: getattr(p, "scale", "linear") for p in lcbench_space("good").parameters}
    assert scales == {name: "log" if name in logarithmic else "linear" for name in DEFAULTS["good"]}
