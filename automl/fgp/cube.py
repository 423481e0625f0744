"""Configurations as coordinates: numbers in [0, 1] on their own scale, beyond it where a range was widened, the index
of an option, nan where an axis does not matter.

Numbers are as far apart as they lie on their scale, two different options as two numbers that are drawn. An axis that
matters only sometimes lies on a sphere whose middle is "does not matter", as far from all of it (after Swersky et al.
2014, arXiv:1409.4011), where 2 R^2 (1 - exp(-d^2 / 2 R^2)) is the square of a distance whatever d is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from automl.fgp.gp import Array
from automl.space.codecs import PRIOR_SD, Axis
from automl.space.ranges import LINEAR, LOG

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

NEAR = 0.02  # two configurations closer than this on every axis are the same
# The square of how far options are from each other, and what matters from what does not; of two numbers drawn it is 1/6
# in the mean. With 1, as far as a range's ends, one other option says next to nothing of what else was tried: either
# none is, or all at once (studies/search).
APART = 0.1
COUNTED = ("whole", "index")  # kinds of axes whose values are steps; nan: the axis does not matter there
MOST_CHANGED = 0.85  # chance that an option is drawn anew, at most
# A range is widened where so many of the best lie no further than that from its end, or beyond.
CROWD, EDGE = 2, 0.1
SIDES = ("low", "high")
End = tuple[str, str]  # (an axis's name, one of `SIDES`)


@dataclass(frozen=True)
class Cube:
    """`axes` reach as far as a search may go; 0 and 1 are the ends of the `usual` range, each a position on its axis.
    `space` tells which axes matter; None: all do. `conditional`: some axes matter only sometimes."""

    axes: tuple[Axis, ...]
    usual: tuple[tuple[float, float], ...]
    space: Any = None
    conditional: bool = False
    _active: dict[tuple[Any, ...], Array] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, space: Any, trials: Sequence[FrozenTrial]) -> Cube:
        """The axes of a space, and those that only the trials know, around what the first trial with them had."""
        parameters = tuple(getattr(space, "parameters", ()))
        wide = space.widest if parameters else None
        axes = [axis for p in wide.parameters for axis in p.axes] if wide else []
        usual = list(map(_within, (axis for p in parameters for axis in p.axes), axes))
        known = {axis.name for axis in axes}
        for trial in trials:
            for name, distribution in trial.distributions.items():
                if name not in known:
                    known.add(name)
                    axis = _axis(name, distribution)
                    axes.append(replace(axis, centre=axis.from_optuna(trial.params[name])))
        ruled = any(p.conditions for p in parameters)
        partly = any(len(trial.params) < len(axes) for trial in trials)
        usual += [(0.0, 1.0)] * (len(axes) - len(usual))
        return cls(tuple(axes), tuple(usual), wide if ruled else None, ruled or partly)

    def holds(self, trial: FrozenTrial) -> bool:
        """Whether a trial's parameters are all axes, and may be missing where they are."""
        known = self.distributions.keys() >= trial.distributions.keys()
        return known and (self.conditional or len(trial.params) == len(self.axes))

    @cached_property
    def distributions(self) -> dict[str, Any]:
        """Optuna's names -> distributions."""
        return {axis.name: axis.distribution() for axis in self.axes}

    @cached_property
    def options(self) -> Array:
        """(D,) whether an axis has options without order."""
        return np.array([axis.kind == "option" for axis in self.axes], bool)

    @cached_property
    def centre(self) -> Array:
        """(D,) the default's position; of options the likeliest."""
        return self._from_axes(
            np.array([float(np.argmax(a.shares)) if a.mean is None else a.mean for a in self.axes], float)
        )

    # ---- ranges that are left -----------------------------------------------------------------------------------

    @cached_property
    def _usual(self) -> tuple[Array, Array]:
        """(D,) the low end of the usual ranges as a position on their axes, and how long they are there."""
        ends = np.array(self.usual, float).reshape(len(self.axes), 2)
        return ends[:, 0], ends[:, 1] - ends[:, 0]

    def _to_axes(self, point: Array) -> Array:
        low, length = self._usual
        return low + length * point

    def _from_axes(self, positions: Array) -> Array:
        low, length = self._usual
        return np.asarray((positions - low) / length)

    def ends(self, opened: Collection[End] = ()) -> Array:
        """(2, D) the least and the most coordinate, of the `opened` ends as far as a search may go."""
        least_and_most = np.array([[0.0], [1.0]])
        open_there = [[(axis.name, side) in opened for axis in self.axes] for side in SIDES]
        return np.where(open_there, self._from_axes(least_and_most), least_and_most)

    def crowded(self, points: Array) -> set[End]:
        """The ends that a search may leave and at which so many of the points lie as `CROWD` asks."""
        found = set()
        for i, (axis, (low, high)) in enumerate(zip(self.axes, self.usual, strict=True)):
            at = {"low": low > 0 and points[:, i] < EDGE, "high": high < 1 and points[:, i] > 1 - EDGE}
            found |= {(axis.name, side) for side, there in at.items() if np.count_nonzero(there) >= CROWD}
        return found

    def reach(self, opened: Collection[End]) -> dict[str, list[float]]:
        """{parameter: [lowest, highest]} of those that have an `opened` end."""
        names = {name for name, _ in opened}
        places = zip(self.axes, self._to_axes(self.ends(opened)).T.tolist(), strict=True)
        return {axis.name: [*map(axis.from_unit, ends)] for axis, ends in places if axis.name in names}

    # ---- from and to Optuna -----------------------------------------------------------------------------------

    def point(self, params: Mapping[str, Any]) -> Array:
        """Optuna's params -> (D,)."""
        places = [_place(axis, params.get(axis.name, _MISSING)) for axis in self.axes]
        return self._from_axes(np.array(places, float))

    def params(self, point: Array) -> dict[str, Any]:
        """(D,) -> Optuna's params, of every axis."""
        return {
            axis.name: axis.to_optuna(self._raw(axis, u))
            for axis, u in zip(self.axes, self._to_axes(point), strict=True)
        }

    def values(self, space: Any, point: Array) -> dict[str, Any]:
        """(D,) -> the configuration of a `space`, whose axes come first, in real values."""
        pairs = zip(self.axes[: space.dimensions], self._to_axes(point).tolist(), strict=False)
        decoded: dict[str, Any] = space.widest.decode([axis.to_unit(self._raw(axis, u)) for axis, u in pairs])
        return decoded

    def snapped(self, points: Array) -> Array:
        """(n, D) moved to what they decode to, with nan on the axes that do not matter in them."""
        rows = [
            [u if a.kind not in COUNTED or u != u else a.to_unit(a.from_unit(u)) for a, u in pairs]
            for pairs in (zip(self.axes, row, strict=True) for row in points.tolist())
        ]
        return self.where_active(np.array(rows, float).reshape(points.shape))

    def where_active(self, points: Array) -> Array:
        """(n, D) with nan on the axes that do not matter in them."""
        if self.space is None:
            return points
        masks = [self._mask(row) for row in points]
        return np.where(np.array(masks, bool).reshape(points.shape), points, np.nan)

    @cached_property
    def _owners(self) -> list[str]:
        """The parameter of each of the space's axes, which come first."""
        return [p.name for p in self.space.parameters for _ in p.axes]

    @cached_property
    def _parents(self) -> list[int]:
        """The axes of what conditions look at."""
        names = {c.name for p in self.space.parameters for c in p.conditions}
        return [i for i, owner in enumerate(self._owners) if owner in names]

    def _mask(self, point: Array) -> Array:
        """(D,) which axes matter; found once for each state of what conditions look at."""
        point = self._to_axes(point)
        key = tuple(self._raw(self.axes[i], point[i]) for i in self._parents)
        if key not in self._active:
            pairs = list(zip(self.axes, point, strict=True))[: len(self._owners)]
            drawn = self.space.decode([axis.to_unit(self._raw(axis, u)) for axis, u in pairs])
            mask = [name in drawn for name in self._owners]
            self._active[key] = np.array(mask + [True] * (len(self.axes) - len(mask)), bool)
        return self._active[key]

    @staticmethod
    def _raw(axis: Axis, u: float) -> Any:
        if axis.kind == "option":
            return 0 if u != u else min(max(int(u), 0), axis.count - 1)
        return axis.from_unit(0.5 if u != u else float(u))

    # ---- geometry -----------------------------------------------------------------------------------------------

    def squared(self, a: Array, b: Array) -> Array:
        """(n, D), (m, D) -> (D, n, m) squared distances on each axis."""
        off = a.T[:, :, None] - b.T[:, None, :]
        found = off * off
        if (options := self.options).any():
            found[options] = APART * (off[options] != 0)
        if self._bent:
            found[self._bent] = -2 * APART * np.expm1(-found[self._bent] / (2 * APART))
        nan_a, nan_b = np.isnan(a).T, np.isnan(b).T
        for i in np.flatnonzero(nan_a.any(1) | nan_b.any(1)):
            one, both = nan_a[i][:, None] | nan_b[i], nan_a[i][:, None] & nan_b[i]
            away = APART if self.options[i] or i in self._bent else 1.0
            found[i] = np.where(both, 0.0, np.where(one, away, found[i]))
        return np.asarray(found)

    @cached_property
    def _bent(self) -> list[int]:
        """The axes that lie on a sphere: numbers that matter only sometimes."""
        always = set() if self.space is None else {p.name for p in self.space.parameters if not p.conditions}
        owners = [] if self.space is None else self._owners
        sometimes = [i >= len(owners) or owners[i] not in always for i in range(len(self.axes))]
        return [i for i, free in enumerate(self.options) if self.conditional and sometimes[i] and not free]

    def tried(self, points: Array, others: Array) -> Array:
        """(n,) whether a point is as good as one of the others."""
        if not len(others):
            return np.zeros(len(points), bool)
        apart = np.asarray(self.squared(points, others) > NEAR * NEAR)
        return np.logical_not(np.all(np.any(apart, axis=0), axis=1))

    # ---- drawing --------------------------------------------------------------------------------------------------

    def uniform(self, rng: np.random.Generator, count: int) -> Array:
        """(count, D)"""
        drawn = rng.random((count, len(self.axes)))
        counts = np.array([a.count if a.kind == "option" else 1 for a in self.axes])
        return np.where(self.options, np.floor(drawn * counts), drawn)

    def near_default(self, rng: np.random.Generator, count: int, factor: float) -> Array:
        """(count, D) from the prior, its spread times `factor`."""
        drawn = self.centre + factor * PRIOR_SD * rng.standard_normal((count, len(self.axes)))
        for i in np.flatnonzero(self.options):
            weights = np.array(self.axes[i].shares)
            anew = rng.random(count) < min(factor, MOST_CHANGED)
            drawn[:, i] = np.where(
                anew, rng.choice(len(weights), count, p=weights / weights.sum()), self.centre[i]
            )
        return self._reflected(drawn, self.ends())

    def moved(self, rng: np.random.Generator, points: Array, sd: float, share: float, ends: Array) -> Array:
        """(n, D) copies with about `share` of the axes, at least one, moved by normal steps inside the `ends`; an
        option is drawn anew, and what did not matter starts from the default."""
        start = np.where(np.isnan(points), self.centre, points)
        changed = np.asarray(rng.random(points.shape) < share)
        changed[np.arange(len(points)), rng.integers(0, points.shape[1], len(points))] = True
        moved = start + changed * sd * rng.standard_normal(points.shape)
        return self._reflected(
            np.where(self.options, np.where(changed, self.uniform(rng, len(points)), start), moved),
            ends,
        )

    def _reflected(self, points: Array, ends: Array) -> Array:
        low, high = ends
        inside = np.where(points < low, 2 * low - points, points)
        inside = np.clip(np.where(inside > high, 2 * high - inside, inside), low, high)
        return np.where(self.options, points, inside)

    def surprise(self, points: Array) -> Array:
        """(n,) how much less likely than the default, in nats, the prior holds a point to be."""
        off = np.nan_to_num((points - self.centre) / PRIOR_SD)
        cost = 0.5 * np.where(self.options, 0.0, off * off).sum(1)
        for i in np.flatnonzero(self.options):
            weights = np.array(self.axes[i].shares)
            index = np.nan_to_num(points[:, i], nan=self.centre[i]).astype(int)
            cost += np.log(weights.max()) - np.log(np.maximum(weights[index], 1e-12))
        return np.asarray(cost)


_MISSING = object()


def _within(held: Axis, wide: Axis) -> tuple[float, float]:
    """The ends of an axis as positions on the same one that reaches further."""
    return (0.0, 1.0) if held == wide else (wide.to_unit(held.low), wide.to_unit(held.high))


def _place(axis: Axis, stored: Any) -> float:
    """The coordinate of what Optuna stores; nan for what is not there or is no value of the axis."""
    if stored is _MISSING:
        return np.nan
    try:
        raw = axis.from_optuna(stored)
    except ValueError:
        return np.nan
    return float(raw) if axis.kind == "option" else min(max(axis.to_unit(raw), 0.0), 1.0)


def _axis(name: str, distribution: Any) -> Axis:
    """An axis from Optuna's distribution alone."""
    kind = type(distribution).__name__
    if kind == "CategoricalDistribution":
        return Axis(name, "option", labels=tuple(distribution.choices))
    scale = LOG if distribution.log else LINEAR
    if kind == "FloatDistribution":
        return Axis(name, "real", distribution.low, distribution.high, scale)
    if distribution.step == 1:
        return Axis(name, "whole", distribution.low, distribution.high, scale)
    last = (distribution.high - distribution.low) // distribution.step
    return Axis(name, "index", 0, last, start=distribution.low, step=distribution.step)
