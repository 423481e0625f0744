"""What each scheduler says of given standings. The suite that every member passes is tests/contracts/test_roles.py."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from automl import schedulers
from automl.errors import UserError
from automl.schedulers import Halving, Median, PausingHalving, View


def standing(
    epoch: int, values: Mapping[int, float], paused: Mapping[int, int] | None = None, each: int = 1
) -> View:
    """A view in which the trials `values` (number -> best) got to `epoch`, of which every `each`-th was measured."""
    curves = {
        n: SimpleNamespace(intermediate_values=dict.fromkeys(range(epoch, -1, -each), v))
        for n, v in values.items()
    }
    return View([curves.get(n) for n in range(max(values) + 1)], {epoch: dict(values)}, paused or {})


def test_rungs_are_a_ninth_and_a_third_of_the_epochs() -> None:
    assert schedulers.rungs(9) == [0, 2]
    assert schedulers.rungs(27) == [2, 8]
    assert schedulers.rungs(12) == [1, 3]
    assert schedulers.rungs(1) == []
    assert schedulers.rungs(2) == [0]


def test_halving_only_acts_at_rungs() -> None:
    values = {0: 0.1} | dict.fromkeys(range(1, 6), 0.9)
    assert Halving().decide(standing(1, values), 0, 1, 9) is None
    assert Halving().decide(standing(2, values), 0, 2, 9) is not None


@pytest.mark.parametrize(("epoch", "acts"), [(3, True), (7, True), (11, False)])
def test_where_not_every_epoch_is_measured_halving_acts_at_the_next_that_is(epoch: int, acts: bool) -> None:
    """Rungs of 18 epochs are the second and the sixth."""
    values = {0: 0.1} | dict.fromkeys(range(1, 6), 0.9)
    assert (Halving().decide(standing(epoch, values, each=4), 0, epoch, 18) is not None) is acts


def test_halving_lets_the_best_third_go_on() -> None:
    others = dict(enumerate((0.5, 0.4, 0.3, 0.2, 0.1), 1))
    assert Halving().decide(standing(2, others | {0: 0.45}), 0, 2, 9) is None  # rank 2 of 6, 2 may go on
    verdict = Halving().decide(standing(2, others | {0: 0.35}), 0, 2, 9)
    assert verdict is not None
    assert verdict.action == "stop"
    assert verdict.reason == "0.3500 by epoch 3 is rank 3 of 6; the best 2 go on"


def test_ties_go_on() -> None:
    assert Halving().decide(standing(0, dict.fromkeys(range(9), 0.0)), 0, 0, 9) is None


def test_asha_pauses_and_promotes_who_comes_into_the_best_third() -> None:
    values = {0: 0.5, 1: 0.4}
    verdict = PausingHalving().decide(standing(2, values), 1, 2, 9)
    assert verdict is not None
    assert verdict.action == "pause"
    assert PausingHalving().promote(standing(2, values, paused={1: 2})) is None
    later = values | {2: 0.1, 3: 0.1, 4: 0.1, 5: 0.1}  # two of six may go on now
    assert PausingHalving().promote(standing(2, later, paused={1: 2, 2: 2})) == 1
    assert PausingHalving().promote(standing(2, later, paused={2: 2})) is None


def test_median_needs_three_others_and_a_third_of_the_epochs() -> None:
    others = dict(enumerate((0.1, 0.2, 0.3), 1))
    assert Median().decide(standing(0, others | {0: 0.0}), 0, 0, 9) is None
    assert Median().decide(standing(3, {0: 0.0, 1: 0.1, 2: 0.2}), 0, 3, 9) is None
    assert Median().decide(standing(3, others | {0: 0.25}), 0, 3, 9) is None
    verdict = Median().decide(standing(3, others | {0: 0.15}), 0, 3, 9)
    assert verdict is not None
    assert "worse than the median 0.2000" in verdict.reason
    four = dict(enumerate((0.1, 0.2, 0.3, 0.4), 1))
    assert Median().decide(standing(3, four | {0: 0.29}), 0, 3, 9) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("halvin", "did you mean 'halving'"),
        ("halving:eta=3", "takes no options"),
        ("hyperband", "halving and asha are its kind"),
        ("PBT", "nothing here changes settings within a training"),
        ("", "must be one of"),
    ],
)
def test_what_is_no_scheduler_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        schedulers.make(text)
