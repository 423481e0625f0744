"""Samplers by name: what proposes the next configuration. Each is made anew for every trial from its own seed, so that
a restarted driver proposes what the first one would have.

A sampler is any of Optuna's kind (`optuna.samplers.BaseSampler`) made by `f(seed=..., **options)`: a function here, or
in any package under the entry point group `automl.samplers`, and its line in `SAMPLERS`. One that takes `view` is shown
the study (`scheduling.View`): its space, curves and budget, which Optuna's own view lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from automl.errors import UserError
from automl.roles import build

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from automl.scheduling import View
    from automl.space import SearchSpace


def fgp(seed: int, view: View | None = None) -> BaseSampler:
    """Freeze-thaw Gaussian process over whole learning curves (fgp/), around the default: 50 ms a suggestion."""
    from automl.fgp.sampler import FreezeThawSampler

    return FreezeThawSampler(seed, view)


def tpe(seed: int, n_startup_trials: int = 10, n_ei_candidates: int = 24) -> BaseSampler:
    """Tree-structured Parzen estimator, multivariate, with running trials counted as bad (constant liar)."""
    import warnings

    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True,
            n_startup_trials=n_startup_trials, n_ei_candidates=n_ei_candidates,
        )  # fmt: skip


def gp(seed: int, n_startup_trials: int = 10) -> BaseSampler:
    """Gaussian process with expected improvement; a suggestion takes 1 s at 200 trials and 26 s at 1000."""
    from optuna.samplers import GPSampler

    class Gp(GPSampler):
        whole_alone = True  # learns of COMPLETE trials alone: see proposals.py

    return Gp(seed=seed, n_startup_trials=n_startup_trials)


def random(seed: int) -> BaseSampler:
    """Independent draws, each parameter on its own scale."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


PROBED = 6  # trials that another package's sampler is shown

SAMPLERS: dict[str, Callable[..., BaseSampler]] = {"fgp": fgp, "tpe": tpe, "gp": gp, "random": random}


def is_ours(text: str) -> bool:
    """Of a sampler as it is named, options and all."""
    return text.partition(":")[0] in SAMPLERS


def single(text: str) -> str:
    """Why a sampler cannot search for several objectives; empty where it can: ours, and of others what proposes after
    trials of two."""
    import optuna

    if is_ours(text):
        return ""
    sampler = make(text, 0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    axis = {
        "x": optuna.distributions.FloatDistribution(0, 1),
        "y": optuna.distributions.IntDistribution(1, 9),
    }
    try:
        for n in range(PROBED):
            values = [n / PROBED, float(n % 3)]
            study.add_trial(
                optuna.trial.create_trial(
                    params={"x": n / PROBED, "y": n + 1}, distributions=axis, values=values
                )
            )
        study.ask(axis)
    except Exception as error:  # whatever another package's raises
        return f"{type(error).__name__}: {error}"
    return ""


def room(sampler: str | BaseSampler, space: SearchSpace) -> SearchSpace:
    """What a sampler, or the one of that name, draws from: one with `widens` from the ranges as far as a search may go,
    so that Optuna sees the same from the first trial to the last. It keeps to the usual ones until it widens them."""
    made = make(sampler, 0) if isinstance(sampler, str) else sampler
    return space.widest if getattr(made, "widens", False) else space


def make(text: str, seed: int, view: View | None = None) -> Any:
    """A sampler from "NAME" or "NAME:option=value,...". Raises `UserError` for what it does not take."""
    from optuna.samplers import BaseSampler

    made = build("--sampler", text, SAMPLERS, "automl.samplers", seed=seed, view=view)
    if not isinstance(made, BaseSampler):
        raise UserError(
            f"--sampler {text}: must be an optuna.samplers.BaseSampler, but got {type(made).__name__}"
        )
    return made
