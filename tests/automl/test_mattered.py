"""What mattered: effects are named in their order, chance is not, and shares are of all that is searched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from automl.report import mattered
from tests.automl import known


def objective(seed: int, trials: int = 60) -> tuple[dict[str, list[Any]], list[float]]:
    """Draws from the whole of the known space, and their values."""
    random = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {
        "rate": (10 ** random.uniform(-5, -2, trials)).tolist(),
        "batch": random.choice([1, 2, 4, 8, 16], trials).tolist(),
        "decay": (10 ** random.uniform(-6, -2, trials)).tolist(),
        "schedule": random.choice(["step", "cosine", "flat"], trials).tolist(),
        **{f"idle {n}": random.uniform(0, 1, trials).tolist() for n in range(8)},
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return columns, [known.quality(row, seed * 1000 + n) for n, row in enumerate(rows)]


SEARCHED = {
    "rate": mattered.Searched(1e-5, 1e-2, True),
    "batch": mattered.Searched(log=True, choices=(1, 2, 4, 8, 16)),
    "decay": mattered.Searched(1e-6, 1e-2, True),
    **{f"idle {n}": mattered.Searched(0, 1) for n in range(8)},
}


def judged(
    columns: dict[str, list[Any]], values: list[float], epochs: int = 1, finished: bool = True
) -> mattered.Mattered:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    tried = [mattered.Tried(row, [value] * epochs, finished) for row, value in zip(rows, values, strict=True)]
    return mattered.judge(tried, SEARCHED)


@pytest.mark.parametrize("seed", [0, 2, 3, 4])
def test_what_has_an_effect_is_found_in_its_order_and_nothing_else(seed: int) -> None:
    found = judged(*objective(seed))
    assert tuple(share.name for share in found.shares if share.found) == known.TRUTH
    assert all(share.low <= share.share <= share.high for share in found.shares)
    assert (found.trials, found.epoch) == (60, None)


def test_a_search_that_stayed_in_a_corner_does_not_hide_what_mattered() -> None:
    """Most trials near the best rate and batch size, as a search has them: their shares are still of the whole range."""
    columns, _ = objective(5)
    for n in range(15, 60):
        columns["rate"][n] = 10 ** (-3.2 + 0.3 * (columns["idle 0"][n] - 0.5))
        columns["batch"][n] = 16 if columns["idle 1"][n] < 0.8 else 8
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    found = judged(columns, [known.quality(row, n) for n, row in enumerate(rows)])
    shares = {share.name: share for share in found.shares}
    assert {name for name, share in shares.items() if share.found} == set(known.TRUTH)
    assert shares["rate"].share > 0.25
    assert shares["batch"].share > 0.2


def test_where_few_have_finished_all_are_judged_at_an_epoch_they_share() -> None:
    columns, values = objective(2)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    tried = [
        mattered.Tried(row, [value * (1 - 0.5**e) for e in range(1, 10 if n % 4 == 0 else 4)], n % 4 == 0)
        for n, (row, value) in enumerate(zip(rows, values, strict=True))
    ]
    found = mattered.judge(tried, SEARCHED)
    assert (found.trials, found.epoch) == (60, 3)
    assert tuple(share.name for share in found.shares if share.found) == known.TRUTH


def test_chance_is_hardly_ever_told_as_an_effect() -> None:
    told = 0
    for seed in range(12):
        columns, _ = objective(seed)
        values = np.random.default_rng(100 + seed).normal(size=60).tolist()
        told += any(share.found for share in judged(columns, values).shares)
    assert told <= 2


def test_a_parameter_that_only_some_trials_have() -> None:
    columns, values = objective(0)
    columns["idle 0"] = [v if n % 3 else None for n, v in enumerate(columns["idle 0"])]
    found = judged(columns, values)
    assert next(share for share in found.shares if share.name == "idle 0").found is False


def test_results_without_a_difference_are_not_ranked() -> None:
    columns, _ = objective(0)
    assert "all finished trials have the same value" in judged(columns, [0.0] * 60).why_not
    assert "at epoch 1 all trials have" in judged(columns, [0.0] * 60, finished=False).why_not
