import pytest

from automl import schedulers
from automl.errors import UserError


def test_rungs_are_a_ninth_and_a_third_of_the_epochs() -> None:
    assert schedulers.rungs(9) == [0, 2]
    assert schedulers.rungs(27) == [2, 8]
    assert schedulers.rungs(12) == [1, 3]
    assert schedulers.rungs(1) == []
    assert schedulers.rungs(2) == [0]


def test_halving_only_acts_at_rungs() -> None:
    others = [{0: 0.9, 1: 0.9, 2: 0.9}] * 5
    assert schedulers.successive_halving(1, {0: 0.1, 1: 0.1}, others, 9) is None
    assert schedulers.successive_halving(2, {0: 0.1, 2: 0.1}, others, 9) is not None


def test_halving_lets_the_best_third_go_on() -> None:
    others = [{2: v} for v in (0.5, 0.4, 0.3, 0.2, 0.1)]
    assert schedulers.successive_halving(2, {2: 0.45}, others, 9) is None  # rank 2 of 6, 2 may go on
    reason = schedulers.successive_halving(2, {2: 0.35}, others, 9)
    assert reason == "0.3500 at epoch 3 is rank 3 of 6; the best 2 go on"


def test_halving_compares_best_so_far_and_ignores_those_not_there_yet() -> None:
    assert schedulers.successive_halving(2, {0: 0.6, 2: 0.1}, [{1: 0.9}, {0: 0.2, 2: 0.5}], 9) is None


def test_ties_go_on() -> None:
    assert schedulers.successive_halving(0, {0: 0.0}, [{0: 0.0}] * 8, 9) is None


def test_median_needs_three_others_and_a_third_of_the_epochs() -> None:
    others = [{0: v, 3: v} for v in (0.1, 0.2, 0.3)]
    assert schedulers.median(0, {0: 0.0}, others, 9) is None
    assert schedulers.median(3, {3: 0.0}, others[:2], 9) is None
    assert schedulers.median(3, {3: 0.25}, others, 9) is None
    assert "below the median 0.2000" in str(schedulers.median(3, {3: 0.15}, others, 9))


def test_unknown_scheduler_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'halving'"):
        schedulers.make("halvin")
