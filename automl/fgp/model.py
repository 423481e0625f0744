"""What the model says of a study: the next configuration, what its trials promise.

The sampler and the scheduler of this name ask the same `Model`. Its hyper-parameters are fitted when a configuration is
asked for and kept with that trial (Optuna's system attributes), so decisions between two asks are cheap and every
process comes to the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from scipy.special import ndtr

from automl.fgp import curves, gp, runs
from automl.fgp.cube import Cube, End
from automl.fgp.curves import Scale
from automl.fgp.fitted import Fitted
from automl.fgp.gp import Array, Posterior
from automl.fgp.pace import Pace, pace_of
from automl.fgp.risk import LIKELY, Risk, risk_of
from automl.fgp.runs import Run, Runs
from automl.fgp.settings import SETTINGS
from automl.fgp.trade import Trade
from automl.scheduling import View

MOST_FIT_ROWS = 70
CLIMBING, NEIGHBOURS = 8, 20  # of the best candidates, and of each at every step
# (standard deviation, share of axes that move). Three steps of four points left a third of what was to be gained after
# ten trainings on curves, and more candidates in their place were no better (studies/search).
CLIMB = ((0.15, 0.4), (0.08, 0.4), (0.08, 1.0), (0.04, 0.4), (0.04, 1.0), (0.02, 0.6), (0.01, 1.0))
# From so many trainings that ran to their end, and as many as run, the model goes by ends alone, and pauses nobody:
# what early epochs say of an end blurs where the best lies. What waits is then judged by its place: judged by its
# curve beside new ones that are not, it never goes on (studies/search).
ENOUGH = 5
# Draws of where the trials that run will end, half of them the others' mirror images. What is proposed must be better
# than what they bring, or all that run at a time would stand round one place (studies/search).
DRAWS = 16
# Where no candidate gains so much, in units of the scale, nothing can reach what the best trial measured. Then what its
# configuration is expected to bring is to be beaten: of gains that are next to nothing the largest is where least is
# known, and all that is proposed would lie in corners of the space (studies/search).
REACHED = 0.001
TOO_LONG = 1e3  # off the logarithm of a gain: what will not end in time comes after all that does
# Of so many trials with a value, the best ones say whether the search should go on beyond the end of a range.
LEAST_WIDENING, LOOKED_AT = 6, 3
FIT_EACH, FIT_GROWTH = 12, 1.12  # every trial up to so many, then when their number has grown so much


@dataclass(frozen=True)
class Proposal:
    """`gain`: expected improvement at the end of its training, in units of the scale; nan for the first draws."""

    point: Array
    gain: float


class Model:
    """The posterior of one state of a study. `cut`: (number, epochs) of a trial that is decided of as if its later
    epochs were not there; `fresh`: fit anew where that is due."""

    def __init__(self, view: View, cut: tuple[int, int] | None = None, fresh: bool = True) -> None:
        self.view, self.fresh = view, fresh
        self.fantasies: gp.Fantasies | None = None
        self._proposed: dict[int, Proposal] = {}
        self.cube, self.trade = cube_of(view), Trade.of(view)
        self.epochs = view.budget.num_epochs or _longest(view)
        every = runs.all_runs(view.trials, view.paused, self.cube, view.sign, self.epochs, view.memo, cut)
        self.by_logarithm = view.sign < 0 and runs.falls_far(every)
        self.runs = runs.sane(runs.logged(every) if self.by_logarithm else every)
        self.valued = self.runs.valued
        self.rungs = curves.rungs(self.valued, self.epochs)
        whole = np.count_nonzero(self.valued.column("epochs") >= self.epochs)
        self.by_ends = whole >= max(ENOUGH, int(np.count_nonzero(self.runs.column("running"))))

    @classmethod
    def of(cls, view: View) -> Model:
        """What a promotion and an ask go by, made once for both: of running trials it is drawn where they end."""
        key = view.version, len(view.trials), view.budget
        return view.kept("model", key, lambda: cls(view).condition()._believing())

    @property
    def knows(self) -> bool:
        """Whether there is anything to go by."""
        return len(self.valued) > 0

    def condition(self, anew: bool = False) -> Model:
        """Give the process its rows, where there are any. `anew`: fitted to these rows, also where that is not due."""
        if not self.knows:
            return self
        self.scale = Scale.of(self.valued)
        self.phi = curves.shape(self.valued, self.epochs)
        ended = self.runs.column("failed") | (self.runs.column("epochs") >= self.epochs)
        rows = curves.rows(
            [*self._theirs(), *runs.chosen(self.runs.where(ended) if self.by_ends else self.runs)],
            self.scale,
            self.phi,
            self.rungs[0] if self.rungs else 1,
        )
        if self.by_ends:
            rows = rows.take(rows.phi == 0)
        self.fitted = self._before
        count = len(self.runs)
        due = self.fresh and count >= 3 and (count <= FIT_EACH or count >= FIT_GROWTH * self.fitted.count)
        never = count > 3 and not self.fitted.count  # another sampler asks for no model
        if due or anew or never:
            most = gp.of_most_weight(rows, MOST_FIT_ROWS)
            self.fitted = Fitted(count, gp.fit(most, self.cube.squared, self.fitted.theta).round(4))
        self.posterior = Posterior(rows, self.cube.squared, self.fitted.theta)
        self.incumbent = self._incumbent()
        return self

    def _theirs(self) -> Runs:
        """The trials of earlier runs that become rows."""
        view, key = self.view, (len(self.cube.axes), self.epochs, self.by_logarithm)

        def made() -> Runs:
            each = enumerate(view.earlier)
            theirs = Runs.of([runs.run_of(t, -1 - i, self.cube, view.sign, self.epochs) for i, t in each])
            return runs.logged(theirs) if self.by_logarithm else theirs

        return runs.chosen(runs.aligned(view.kept("earlier", key, made), self.valued))

    def _incumbent(self) -> float:
        """The posterior mean of the best of what was observed, at most the best observed value."""
        if self.trade:
            return float(self._incumbents(np.array([self.trade.most]))[0])
        top = self.valued.best(5)
        rivals = top.where(self._rivalling(top))
        return min(0.0, float(self._now(rivals if len(rivals) else top).max()))

    def _rivalling(self, trials: Runs) -> Array:
        """(n,) whether they ended by themselves or are not likely to fail before they do."""
        return np.asarray(trials.column("complete") | (self.risk.of(_points(trials)) < LIKELY))

    def _without_luck(self) -> None:
        """Let what is to be beaten be what configurations are expected to have, without what is their trials' own."""
        self.incumbent = min(self.incumbent, float(self._now(self.valued.best(5), luck=False).max()))
        if self.fantasies is not None:
            self.fantasies.best = np.maximum(self.incumbent, self.fantasies.highest)

    def _now(self, trials: Sequence[Run] | Runs, luck: bool = True) -> Array:
        """The posterior mean of what trials have reached, with or without what is their own."""
        x, phi = _points(trials), np.array([self.phi[run.epochs - 1] for run in trials])
        return self.posterior.predict(x, phi, np.array([run.number for run in trials]) if luck else None)[0]

    def _incumbents(self, ms: Array) -> Array:
        """(n,) the same of those that are at most as slow as each; without any, what the worst has."""
        assert self.trade is not None
        front = self.trade.front(self.valued)
        floor = float(self.scale.z(self.valued.column("top").min()))
        return self.trade.best_of(ms, front, np.minimum(0.0, self._now(front)), min(0.0, floor))

    def _rivals(self, trials: Sequence[Run]) -> Array | float:
        """What trials must exceed to become the best; of those at most as slow, where latency counts."""
        if self.trade is None:
            return self.incumbent
        return self._incumbents(np.array([self.trade.ms[run.number] for run in trials]))

    def at(self, trials: Iterable[Run], phi: Array) -> tuple[Array, Array]:
        """(mean, sd) of trials where so much of their curves is still to come."""
        return self.posterior.predict(_points(trials), phi, np.array([run.number for run in trials]))

    def at_end(self, trials: Sequence[Run] | Runs) -> tuple[Array, Array]:
        return self.at(trials, np.zeros(len(trials)))

    def _believing(self) -> Model:
        running = self.runs.where(self.runs.column("running") & (self.runs.column("epochs") < self.epochs))
        if len(running) and self.knows:
            x = _points(running)
            number = np.array([run.number for run in running])
            normal = np.random.default_rng(len(self.runs)).standard_normal((len(running), DRAWS // 2))
            ends = self.posterior.ends(x, number, np.concatenate([normal, -normal], 1))
            rivals = (
                ends if self.trade is None else ends[[self.trade.ms[n] <= self.trade.most for n in number]]
            )
            best = np.maximum(self.incumbent, rivals.max(0, initial=-math.inf))
            self.fantasies = gp.Fantasies(self.posterior, x, number, ends, best)
            self.posterior = self.fantasies.mean
        return self

    # ---- the next configuration ---------------------------------------------------------------------------------

    def propose(self, seed: int) -> Proposal:
        """The next configuration."""
        if seed not in self._proposed:
            self._proposed[seed] = self._propose(seed)
        return self._proposed[seed]

    def _propose(self, seed: int) -> Proposal:
        rng, number = np.random.default_rng(seed), len(self.runs)
        tried = self._tried()
        if not self.knows or number <= len(SETTINGS.first):
            return Proposal(self._first(rng, number, tried), math.nan)
        points = self._candidates(rng)
        if self.trade is None and float(self.gain(points).max()) < REACHED:
            self._without_luck()
        score = self._score(points)
        best = list(islice((i for i in np.argsort(-score) if self._fits(points[i])), 25))
        if not best:
            return Proposal(self._first(rng, number, tried), math.nan)
        points, score = points[best], score[best]
        top, their = self._climbed(rng, points[:CLIMBING].copy(), score[:CLIMBING].copy())
        points, score = np.concatenate([top, points]), np.r_[their, score]
        order = np.argsort(-score, kind="stable")
        points = self.cube.snapped(points[order])
        free = (p for p in points if not self.cube.tried(p[None], tried)[0] and self._fits(p))
        chosen = next(free, None)
        if chosen is None:
            chosen = self._first(rng, number, tried)
        return Proposal(chosen, float(self.gain(chosen[None])[0]))

    def _climbed(self, rng: np.random.Generator, points: Array, score: Array) -> tuple[Array, Array]:
        """(points, score) after each went, step by step, to the best of its neighbours that may be trained."""
        for sd, share in CLIMB:
            near = self.cube.moved(rng, np.repeat(points, NEIGHBOURS, 0), sd, share, self._ends)
            near = self.cube.where_active(near)
            found = self._score(near).reshape(len(points), NEIGHBOURS)
            near = near.reshape(len(points), NEIGHBOURS, -1)
            for n, each in enumerate(found):
                better = (i for i in np.argsort(-each, kind="stable") if each[i] > score[n])
                if (best := next((i for i in better if self._fits(near[n, i])), None)) is not None:
                    points[n], score[n] = near[n, best], each[best]
        return points, score

    @cached_property
    def _before(self) -> Fitted:
        return Fitted.last(self.view.trials, len(self.cube.axes))

    @cached_property
    def pace(self) -> Pace:
        return pace_of(self.view, self.cube)

    @cached_property
    def risk(self) -> Risk:
        return risk_of(self.view, self.cube, self.runs)

    @cached_property
    def opened(self) -> frozenset[End]:
        """The ends of ranges that may be left: once the best lay at one it stays open."""
        before = self._before.opened
        if len(self.valued) < LEAST_WIDENING:
            return before
        return before | self.cube.crowded(_points(self.valued.best(LOOKED_AT)))

    @cached_property
    def _ends(self) -> Array:
        return self.cube.ends(self.opened)

    def widened(self) -> dict[str, list[float]]:
        """{parameter: [lowest, highest]} of the ranges that are wider for the next configuration than before it."""
        names = {name for name, _ in self.opened - self._before.opened}
        return self.cube.reach(frozenset(end for end in self.opened if end[0] in names))

    def _tried(self) -> Array:
        """(trials, D) where trials were; only new ones are put to those known before."""
        cube, known = self.view.memo.get("tried", (None, None))
        if cube is not self.cube or len(known) > len(self.runs):
            known = np.empty((0, len(self.cube.axes)))
        if fresh := [run.x for run in self.runs.each[len(known) :]]:
            known = np.concatenate([known, np.array(fresh).reshape(-1, len(self.cube.axes))])
        self.view.memo["tried"] = self.cube, known
        return np.asarray(known)

    def _first(self, rng: np.random.Generator, number: int, tried: Array) -> Array:
        """A draw round the default or over the whole space, that nobody tried."""
        spread = SETTINGS.first[(number - 1) % len(SETTINGS.first)]
        for _ in range(50):
            drawn = self.cube.near_default(rng, 1, spread) if spread else self.cube.uniform(rng, 1)
            drawn = self.cube.snapped(drawn)
            if not self.cube.tried(drawn, tried)[0] and self._fits(drawn[0]):
                break
            spread = 0.0
        return np.asarray(drawn[0])

    def _fits(self, point: Array) -> bool:
        """Whether a configuration may be trained."""
        fits, trade = self.view.fits, self.trade
        if fits is None and trade is None:
            return True
        params = self.cube.values(self.view.space, point)
        return (fits is None or fits(params)) and (trade is None or trade.fits(params))

    def _candidates(self, rng: np.random.Generator) -> Array:
        drawn = [self.cube.near_default(rng, n, f) for f, n in ((0.25, 25), (0.5, 40), (1.0, 40), (1.7, 20))]
        drawn.append(self.cube.uniform(rng, 50))
        top = (self.trade.within(self.valued) if self.trade else self.valued).best(60)
        mean, _ = self.at_end(top)
        for j in np.argsort(-mean, kind="stable")[:3]:
            for sd, share in ((0.05, 1.0), (0.12, 1.0), (0.05, 0.3), (0.2, 0.3)):
                drawn.append(self.cube.moved(rng, np.repeat(top[j].x[None], 12, 0), sd, share, self._ends))
        for params in self.trade.offered() if self.trade else ():
            drawn.append(self.cube.point(self.view.space.enqueue_params(params))[None])
        return self.cube.where_active(np.concatenate(drawn))

    def gain(self, points: Array) -> Array:
        """(n,) expected improvement of new configurations, (n, D), over the incumbent at the end of their trainings."""
        if self.fantasies is not None:
            gain = self.fantasies.improvement(points)
        else:
            gain = gp.improvement(*self.posterior.predict(points, np.zeros(len(points))), self.incumbent)
        return np.asarray(gain * (1 - self.risk.of(points)))

    def _score(self, points: Array) -> Array:
        score = np.log(np.maximum(self.gain(points), 1e-300) / self.pace.cost(points))
        in_time = self.pace.in_time(points, self.epochs, self.view.budget)
        score = np.where(in_time, score, score - TOO_LONG)
        weight = min(SETTINGS.strongest, self._belief / max(1, len(self.runs)))
        return np.asarray(score - weight * self.cube.surprise(points))

    @cached_property
    def _belief(self) -> float:
        """What `belief` is in this study: see `Settings`."""
        told = 1 - float(self.phi[curves.first_rung(self.epochs) - 1])
        first, (low, high) = self.valued[0], SETTINGS.beaten
        known = first.number == self.runs[0].number  # the default has reported
        behind = -float(self.scale.z(np.array(first.top))) if known else 0.0
        share = min(1.0, max(0.0, 1 - (behind - low) / (high - low)))
        return SETTINGS.belief * max(0.0, 1 - told / SETTINGS.told) * share

    # ---- those that wait, and the end ------------------------------------------------------------------------------

    def rate(self, trials: Sequence[Run]) -> Array:
        """(n,) expected improvement of trials that go on to their end for what that costs; none of one that will not
        get there in time."""
        left = np.array([max(1, self.epochs - run.epochs) for run in trials])
        x = _points(trials)
        gain = gp.improvement(*self.at_end(trials), self._rivals(trials)) / left * (1 - self.risk.of(x))
        return np.asarray(gain / self.pace.cost(x) * self.pace.in_time(x, left, self.view.budget))

    def chance(self, run: Run) -> float:
        """That a trial ends above the incumbent."""
        mean, sd = self.at_end([run])
        better = ndtr((mean - self._rivals([run])) / sd) * (1 - self.risk.of(run.x[None]))
        return float(better[0])


def cube_of(view: View) -> Cube:
    """The coordinates of a study; only trials that are new are looked at."""
    count, cube = view.memo.get("cube", (0, None))
    if cube is None or count > len(view.trials) or not all(map(cube.holds, view.trials[count:])):
        cube = Cube.of(view.space, [*view.trials, *view.earlier])
    view.memo["cube"] = len(view.trials), cube
    return cube


def _points(trials: Iterable[Run]) -> Array:
    return np.array([run.x for run in trials])


def _longest(view: View) -> int:
    """Where nobody says how many epochs a training has: the most that any has had."""
    return max((max(t.intermediate_values) + 1 for t in view.trials if t.intermediate_values), default=1)
