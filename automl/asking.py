"""What a study asks next: the fixed configurations, then a sampler's, and none above the limit of latency (latency.py
says why so)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from automl import samplers, seeds
from automl.ending import State
from automl.errors import AutoMLError, UserError
from automl.latency import MOST, PATIENT, Limit, figure_ms
from automl.metric import counted
from automl.request import write_ms
from automl.trial_attributes import PREDICTED, REDRAWN, REFUSED

if TYPE_CHECKING:
    from automl.proposals import Proposal
    from automl.study import Study


class NothingFits(AutoMLError):
    """The sampler has nothing more that may be trained."""


def new(study: Study, number: int) -> Proposal:
    """A fixed configuration, which may be refused; else what the sampler proposes, or where that has been tried in a
    space that can be tried whole, one that has not: the same seed would train the same again. Raises `NothingFits`."""
    limit = study.limit
    if number < len(study.fixed):
        return _judged(draw(study, number), limit)
    left = remaining(study)
    if left is None:
        return draw(study, number) if limit is None else _within(study, number, limit)
    proposal = draw(study, number)
    if not left and limit is not None:
        raise NothingFits(
            f"every configuration that fits --max-latency {write_ms(limit.allowed_ms)} is tried"
        )
    if left and proposal.params not in left:
        proposal = draw(study, number, left[seeds.derive(study.seed, number, "untried") % len(left)])
    return _judged(proposal, limit)


def remaining(study: Study) -> list[dict[str, Any]] | None:
    """The configurations that no trial has and that fit, of a space that can be tried whole; None of a larger one."""
    from automl.proposals import untried

    return untried(study.limit.every if study.limit else study.space.every, study.trials())


def at_end(study: Study) -> str | None:
    """Why no further configuration may be asked for; None where one may."""
    if study.exhausted or remaining(study) != []:
        return study.exhausted or None
    every, limit = len(study.space.every or ()), study.limit
    if limit is None or limit.every is None:
        return f"all {every} configurations of the search space have been tried"
    fit = f"that fit --max-latency {write_ms(limit.allowed_ms)}"
    return f"all {len(limit.every)} of {counted(every, 'configuration')} of the search space {fit} have been tried"


def draw(
    study: Study, number: int, given: Mapping[str, Any] | None = None, fixed: Mapping[str, Any] | None = None,
    attempt: int = 0,
) -> Proposal:  # fmt: skip
    """Trial `number`'s configuration by a sampler seeded from (study seed, number, attempt), or the one `given`;
    `fixed`: the same in Optuna's terms, and it may be a part of them."""
    from automl.proposals import propose

    name = study.sampler if attempt < PATIENT else "random"
    seed = seeds.of_sampler(study.seed, number, attempt)
    before = study.trials()[:number]
    sampler = samplers.make(name, seed, study.view_of(before))
    given = study.fixed[number] if given is None and number < len(study.fixed) else given
    space = samplers.room(sampler, study.space)
    fixed = fixed if given is None else space.enqueue_params(given)
    history = [*study.earlier, *(t for t in before if t.number not in study.refused)]
    try:
        return propose(space, sampler, history, number, study.directions, fixed)
    except Exception as error:
        if samplers.is_ours(name) or isinstance(error, AutoMLError):
            raise
        raise UserError(f"--sampler {name} failed: {type(error).__name__}: {error}") from error


def _within(study: Study, number: int, limit: Limit) -> Proposal:
    """The first draw that fits, with a note of those that did not."""
    refused: list[float] = []
    for attempt in range(MOST):
        proposal = draw(study, number, attempt=attempt)
        ms = limit.predict(proposal.params)
        if ms <= limit.allowed_ms:
            proposal.trial.set_user_attr(PREDICTED, ms)
            if refused:
                note = {"count": len(refused), "fastest_ms": min(refused), "slowest_ms": max(refused)}
                proposal.trial.set_user_attr(REDRAWN, note)
            return proposal
        refused.append(ms)
    raise NothingFits(
        f"{MOST} proposals in a row were predicted slower than --max-latency {write_ms(limit.allowed_ms)}, the "
        f"fastest {figure_ms(min(refused))}"
    )


def _judged(proposal: Proposal, limit: Limit | None) -> Proposal:
    """The same with its prediction; one above the limit has ended before it began."""
    trial = proposal.trial
    if limit is None:
        return proposal
    ms = limit.predict(proposal.params)
    trial.set_user_attr(PREDICTED, ms)
    if ms > limit.allowed_ms:
        trial.set_user_attr(REFUSED, True)
        trial.set_user_attr("reason", limit.refusal(ms))
        proposal.end()
    return proposal


def to_train(study: Study, refused: Callable[[int, State, str], Any]) -> tuple[int, dict[str, Any]] | None:
    """The next trial to be trained; those that are not are told by number, state and reason. None where there is
    nothing more, which `at_end` then tells."""
    try:
        number, params = study.ask()
        while number in study.refused:
            refused(number, "PRUNED", str(study.frozen(number).user_attrs["reason"]))
            number, params = study.ask()
    except NothingFits as error:
        study.exhausted = f"the search ends: {error}"
        return None
    return number, params
