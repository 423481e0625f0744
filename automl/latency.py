"""What a configuration's product is predicted to take (`Latency`), an objective of a search by `--objectives`
(front.py); and `--max-latency`: configurations whose product would be slower than that are not trained (`Limit`).

How long one takes is the model's to say: `entry_points.latency`, of what `entry_points.time_latency` measured on this
machine before the first trial. run.json keeps what was measured, so that a run that goes on refuses the same.

A sampler's proposal above the limit is drawn again from a seed of its own (number, attempt), so no sampler needs to
know of limits (`fgp` asks beforehand, which saves draws) and none is taught that a good place is bad. After `PATIENT`
draws they are uniform, for a sampler may insist; after `MOST` the search ends. The trial that comes of it keeps how
many were refused before it (`redrawn`).

What a person named (the default, `try:`, an earlier winner) is not drawn again: above the limit it becomes a trial that
has ended, PRUNED and never trained, which no sampler sees and no budget counts. So trial 0 is the default in every run,
and the place where people look for it says why nothing is compared with it. A default above the limit is no reason to
refuse the run, for to leave it is what was asked for; but searches that start near a default find more than those that
start nowhere, so what is nearest to it among the configurations that fit (`Limit.nearest`) is tried next, and is told
as `--set`.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import hooks
from automl.errors import SpaceError, UserError
from automl.locks import run_lock
from automl.metric import counted
from automl.request import write_ms
from automl.space.leaf import short
from automl.trial_attributes import REDRAWN

if TYPE_CHECKING:
    from automl.bundle import ModelBundle
    from automl.request import RunRequest
    from automl.space import SearchSpace

PREDICT, MEASURE = "latency", "time_latency"  # entry points
DRAWS = 200  # of the space, that say what share of it fits
NEAR = 30  # of those that fit, so many are brought nearer to the default
PATIENT = 20  # draws that a sampler is asked for in place of one
MOST = 1000  # draws in a row above the limit that end a search


@dataclass(frozen=True)
class Latency:
    """`timed`: what the model measured on this machine. Predictions are those of a whole train spec, `base` with a
    configuration in it."""

    model: ModelBundle
    space: SearchSpace
    base: Mapping[str, Any]
    timed: Mapping[str, Any]

    def predict(self, params: Mapping[str, Any]) -> float:
        """Milliseconds of a configuration. Raises `UserError` where the model says none."""
        found = self._ask(self.space.apply(self.base, params), dict(self.timed))
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 < found < math.inf:
            raise UserError(
                f"{self.model.name}: entry_points.{PREDICT} {self.model.entry(PREDICT)} must return milliseconds, a "
                f"number above 0, but got {short(found)} (references/trial_contract.md)"
            )
        return float(found)

    @cached_property
    def _ask(self) -> Callable[..., Any]:
        ask = self.model.call(PREDICT)
        assert ask is not None
        return ask

    @cached_property
    def default_ms(self) -> float:
        return self.predict(self.space.default)

    @cached_property
    def drawn(self) -> list[tuple[float, dict[str, Any]]]:
        """(ms, configuration) of the whole of a small space or of `DRAWS` uniform draws, fastest first."""
        found = self.space.every or self.space.sample(DRAWS)
        return sorted(((self.predict(params), params) for params in found), key=lambda pair: pair[0])

    @property
    def fitting(self) -> list[tuple[float, dict[str, Any]]]:
        """Those that may be trained."""
        return self.drawn

    def expected(self, params: Mapping[str, Any]) -> str:
        """What is said of a winner."""
        return f"predicted {figure_ms(self.predict(params))}"


@dataclass(frozen=True)
class Limit(Latency):
    """The same where what is slower than `allowed_ms` is not trained."""

    allowed_ms: float

    def fits(self, params: Mapping[str, Any]) -> bool:
        """Whether a configuration is predicted within the limit."""
        return self.predict(params) <= self.allowed_ms

    def expected(self, params: Mapping[str, Any]) -> str:
        return f"{super().expected(params)}, allowed {write_ms(self.allowed_ms)}"

    def refusal(self, ms: float) -> str:
        """Why one that takes so long is not trained."""
        return f"predicted {figure_ms(ms)}, allowed {write_ms(self.allowed_ms)}; not trained"

    @cached_property
    def every(self) -> list[dict[str, Any]] | None:
        """The configurations that fit, of a space that can be tried whole; None of a larger one."""
        found = self.space.every
        return None if found is None else [params for params in found if self.fits(params)]

    @property
    def fitting(self) -> list[tuple[float, dict[str, Any]]]:
        return [pair for pair in self.drawn if pair[0] <= self.allowed_ms]

    @cached_property
    def nearest(self) -> dict[str, Any]:
        """What must be changed in a default above the limit so that it fits: the fewest leaves that were found, and of
        as many the slowest. Empty where the default fits, or nothing does."""
        if self.default_ms <= self.allowed_ms:
            return {}
        nearer = [self._nearer(params) for _, params in self.fitting[-NEAR:]]
        return min(nearer, key=lambda changes: (len(changes), -self._with(changes)), default={})

    def _nearer(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration that fits as changes to the default, without those that it fits without."""
        changes = {n: v for n, v in params.items() if self.space.default.get(n, v) != v}
        for name in list(changes):
            fewer = {n: v for n, v in changes.items() if n != name}
            if self._with(fewer) <= self.allowed_ms:
                changes = fewer
        return changes if self._with(changes) <= self.allowed_ms else dict(params)

    def _with(self, changes: Mapping[str, Any]) -> float:
        """Milliseconds of the default with some changes; infinite where the space holds no such configuration."""
        params = {**self.space.default, **changes}
        try:
            self.space.enqueue_params(params)
            hooks.check_spec(self.model, self.space.apply(self.base, params))
        except (SpaceError, UserError):
            return math.inf
        return self.predict(params)


def settle(
    request: RunRequest, model: ModelBundle, space: SearchSpace, base: Mapping[str, Any], folder: Path,
    searching: bool, say: Callable[[str], Any],
) -> Latency | None:  # fmt: skip
    """What predicts latencies, with the model's first timing of this machine; a `Limit` where one was asked for; None
    where nothing was. Raises `UserError` for a model that predicts no latency, where nothing is searched, and where
    nothing that was drawn fits or, as an objective, differs."""
    option = _option(request)
    if not option:
        return None
    if not searching:
        raise UserError(
            f"{option} chooses among configurations, but nothing is searched here; automl deploy makes faster forms of "
            "what was trained, where the model has them"
        )
    if not model.entry(PREDICT):
        raise UserError(
            f"{option}: {model.name} predicts no latency (its skill_info has no entry_points.{PREDICT}; "
            "references/trial_contract.md tells what it returns)"
        )
    measure, timed = model.call(MEASURE), {}
    if measure is not None:
        specs = [
            space.apply(base, params) for params in (space.default, *(space.every or space.sample(DRAWS)))
        ]
        with run_lock(folder):  # it takes minutes: who looks is told that a run is being prepared there
            timed = hooks.answer(model, MEASURE, measure(specs, folder, say))
    found = predicting(request, model, space, base, hooks.plain(model, MEASURE, timed))
    if isinstance(found, Limit) and not found.fitting:
        fastest, params = found.drawn[0]
        raise UserError(
            f"{option}: none of {counted(len(found.drawn), 'configuration')} of the search space fits; the "
            "fastest is predicted "
            f"{figure_ms(fastest)} ({_settings(_changed(found, params))}), the default {figure_ms(found.default_ms)}; "
            "allow more, or let the search reach faster ones (--set, --tune, --fix)"
            + "".join(f" ({text})" for text in _of_timing(found))
        )
    if request.objectives and found.fitting[0][0] == found.fitting[-1][0]:
        raise UserError(
            f"{option}: each of {counted(len(found.fitting), 'configuration')} of the search space is predicted "
            f"{figure_ms(found.fitting[0][0])}, so there is nothing to trade; let the search change what makes a "
            "network faster (--tune, --space), or leave the option out"
        )
    return found


def predicting(
    request: RunRequest, model: ModelBundle, space: SearchSpace, base: Mapping[str, Any], timed: Mapping[str, Any]
) -> Latency:  # fmt: skip
    """What predicts for a request that asks for it, by what was timed."""
    if request.max_latency_ms is None:
        return Latency(model, space, base, timed)
    return Limit(model, space, base, timed, request.max_latency_ms)


def _option(request: RunRequest) -> str:
    """What asks for predictions, as it was given; empty where nothing does."""
    if request.max_latency_ms is not None:
        return f"--max-latency {write_ms(request.max_latency_ms)}"
    return f"--objectives {','.join(request.objectives)}" if request.objectives else ""


def _changed(limit: Limit, params: Mapping[str, Any]) -> dict[str, Any]:
    """Of a configuration, what makes it faster than the default with it."""
    default = limit.space.default
    return {n: v for n, v in params.items() if default.get(n) != v and limit._with({n: v}) < limit.default_ms}


def told(what: Latency) -> list[str]:
    """What a person should know before the first trial: the default's prediction, what fits, how it was measured."""
    limit, drawn, count = what if isinstance(what, Limit) else None, what.drawn, len(what.drawn)
    default = f"the default is predicted {figure_ms(what.default_ms)}"
    fastest, slowest = figure_ms(drawn[0][0]), figure_ms(drawn[-1][0])
    lines = [
        f"{default}; {counted(count, 'configuration')} {'is' if count == 1 else 'are'} predicted {fastest} to {slowest}"
    ]
    if limit:
        within = f"{len(limit.fitting)} of {counted(count, 'configuration')} fit, the fastest is predicted {fastest}"
        lines = [f"{default}, allowed {write_ms(limit.allowed_ms)}; {within}"]
    if limit and limit.nearest:
        ms = figure_ms(limit._with(limit.nearest))
        lines.append(
            f"so the default is not trained, and the search starts with the nearest that fits, predicted {ms}: "
            f"{_settings(limit.nearest)} (given so, it is the default that all else is compared with)"
        )
    return [*lines, *_of_timing(what)]


def _of_timing(what: Latency) -> list[str]:
    """What the model says of its measurement, where it says something."""
    return [*filter(None, [str(what.timed.get("text", ""))])]


def figures(what: Latency) -> dict[str, Any]:
    """The same as plain data; `timed` is what the model measured."""
    limit = what if isinstance(what, Limit) else None
    return {
        "allowed_ms": limit.allowed_ms if limit else None,
        "default_ms": what.default_ms,
        "fitting": len(what.fitting),
        "of": len(what.drawn),
        "fastest_ms": what.drawn[0][0],
        "slowest_ms": what.drawn[-1][0],
        "nearest": limit.nearest if limit else {},
        "timed": dict(what.timed),
    }


def _settings(changes: Mapping[str, Any]) -> str:
    texts = {n: v if isinstance(v, str) else json.dumps(v, default=str) for n, v in changes.items()}
    words = [f"--set {shlex.quote(f'{name}={text}')}" for name, text in texts.items()]
    return " ".join(words) or "the default"


def figure_ms(ms: float) -> str:
    """Three figures or all before the point: 0.123 ms, 9.14 ms, 23.4 ms, 1234 ms."""
    return f"{ms:.3g} ms" if ms < 100 else f"{ms:.0f} ms"


def pace(times: float) -> str:
    """`1.9 times as fast as the default`."""
    ratio = max(times, 1 / times)
    same, word = f"{ratio:.3g}" == "1", "fast" if times > 1 else "slow"
    return f"{'as fast' if same else f'{ratio:.3g} times as {word}'} as the default"


def below(times: float | None) -> str:
    """What is said of a winner whose figure is surely below the default's and which is predicted to be so many `times`
    as fast; None where latency is no objective."""
    return f"but {pace(times)}" if times and times > 1 else "worse than the default"


def redrawn_text(trials: Sequence[Any], allowed_ms: float | None) -> str:
    """What was proposed in a study and, above the limit, made no trial; empty where nothing was."""
    notes = [t.user_attrs[REDRAWN] for t in trials if REDRAWN in t.user_attrs]
    if not notes or allowed_ms is None:
        return ""
    fastest, slowest = min(n["fastest_ms"] for n in notes), max(n["slowest_ms"] for n in notes)
    above = (
        f"{counted(sum(n['count'] for n in notes), 'proposal')} above --max-latency {write_ms(allowed_ms)}"
    )
    return f"{above} not trained: predicted {figure_ms(fastest)} to {figure_ms(slowest)}"
