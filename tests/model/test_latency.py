"""Predicted latency: the formula counts what torch counts, rates are found again, and a first timing serves a search."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import latency
from model.deploy import first_timing
from model.spec import overlaid
from tests.conftest import TINY, with_data

SIZE = (64, 64)


def tiny(**leaves: Any) -> dict[str, Any]:
    return overlaid("train", TINY | {"model": TINY["model"] | leaves})


def total(**leaves: Any) -> float:
    return sum(latency.multiply_adds(tiny(**leaves), SIZE, {}))


@pytest.mark.parametrize(
    "leaves",
    [
        {},
        {"enc_layers": 3},
        {"dec_layers": 4, "num_queries": 300},
        {"two_stage": True},
        {"hidden_dim": 64, "nheads": 8},
    ],
    ids=str,
)
def test_the_formula_counts_what_torch_counts(leaves: dict[str, Any]) -> None:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from model.build import build_model

    leaves = {"backbone": "resnet_18", **leaves}
    full = tiny(**leaves)
    detector = build_model(full).eval()
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counted,
    ):  # the others are not counted
        detector(torch.zeros(1, 3, *SIZE).requires_grad_())
    model = full["model"]
    cells = latency.cells_of(model, SIZE)
    look = (
        latency.POINT * model["num_feature_levels"] * model["hidden_dim"] / 1e9
    )  # a point's, which torch leaves out
    looks = look * (
        model["enc_layers"] * cells * model["enc_n_points"]
        + model["dec_layers"] * model["num_queries"] * model["dec_n_points"]
    )
    assert total(**leaves) - looks == pytest.approx(counted.get_total_flops() / 2e9, rel=0.03)


@pytest.mark.parametrize("name", ["enc_layers", "dec_layers", "num_queries", "dim_feedforward"])
def test_more_takes_longer(name: str) -> None:
    timed = {"rates": [1.0, 0.1, 20.0, 30.0, 40.0], "images": [[64, 64]], "projected": {}}
    found = [latency.predict(tiny(**{name: n * TINY["model"][name]}), timed) for n in (1, 2, 3)]
    assert found == sorted(set(found))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 50), min_size=5, max_size=5), st.integers(0, 99))
def test_rates_are_found_again(rates: list[float], seed: int) -> None:
    """Of as many timings as there are rates; those between them are then predicted."""
    drawn = np.random.default_rng(seed).uniform(0.5, 4, (12, 4))
    costs = np.c_[np.ones(12), drawn]
    found = latency.rates_of(costs.tolist(), (costs @ rates).tolist())
    assert min(found) >= 0
    assert costs @ found == pytest.approx(costs @ rates, rel=0.1)


def test_a_rate_that_no_timing_tells_is_that_of_all() -> None:
    costs = [[1.0, 4.0, 1.0, 0.5, 0.5], [1.0, 4.0, 1.0, 0.5, 0.5]]
    found = latency.rates_of(costs, [20.0, 20.0])
    assert np.dot(found, costs[0]) == pytest.approx(20, rel=0.05)
    assert all(rate > 0 for rate in found[2:])


def test_those_that_are_timed_differ_most_and_none_comes_twice() -> None:
    parts = [[1.0, 2.0, 2.0], [1.0, 2.0, 2.1], [1.0, 0.1, 0.1], [1.0, 4.0, 0.1], [1.0, 2.0, 2.0]]
    assert first_timing.spread(parts, 3) == [0, 2, 3]
    assert first_timing.spread([parts[0]] * 4, 3) == [0]


@pytest.mark.timeout(900)  # exports, on a machine that does much else
def test_a_first_timing_serves_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_timing, "EXPORTS", 2)
    monkeypatch.setattr(first_timing, "RUNS", 2)
    specs = [tiny(), tiny(enc_layers=2, num_queries=200), tiny(num_queries=150)]
    said: list[str] = []
    found = json.loads(json.dumps(first_timing.measure(specs, tmp_path, said.append)))
    assert [p["shape"] for p in found["points"]] == [
        "1 + 2 layers, 100 queries", "1 + 1 layers, 100 queries", "2 + 2 layers, 200 queries",
        "2 + 1 layers, 200 queries",
    ]  # fmt: skip
    assert all(0 < latency.predict(spec, found) < 60_000 for spec in specs)
    assert found["images"] == [list(first_timing.DRAWN_SIZE)]  # no data: a drawn image
    assert "from image file to boxes, batch 1" in found["text"]
    assert not list(tmp_path.iterdir())
    assert any("exporting network 2 of at most 2" in line for line in said)
    counted = "2 exported networks and 2 cut from them to fewer decoder layers"
    assert any(line.startswith(f"latency: timing {counted}, about") for line in said)
    assert f"{counted}, random weights, were timed in" in found["text"]


def test_a_first_timing_takes_images_that_can_be_read(own_demo: Path, tmp_path: Path) -> None:
    spec = with_data(tiny(), own_demo)
    first, *others = sorted((own_demo / "val" / "images").iterdir())
    first.write_bytes(b"damaged")
    spec["dataset"]["mended_share"] = 0.5
    images = first_timing._images(overlaid("train", spec), tmp_path)
    assert [image.name for image in images] == [other.name for other in others]


def test_a_timing_beside_other_work_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_timing._disturbed(0.03) == ""
    assert "other work had the processor for 40% of the timing" in first_timing._disturbed(0.4)
    monkeypatch.setattr("model.deploy.targets.opener", lambda *_: None)
    monkeypatch.setattr("model.deploy.timing.turn", lambda *_, **__: [[1.0]])
    times, clock = SimpleNamespace(whole=1.0, network=1.0), iter([1.0, 1.1])
    monkeypatch.setattr(first_timing, "_waited_s", lambda: next(clock))
    monkeypatch.setattr("model.deploy.timing.measure", lambda opened, *_, **__: time.sleep(0.2) or {0: times})
    _, waited = first_timing._timed([(tiny(), [1.0], Path())], [], lambda text: None)
    assert 0.1 < waited <= 0.5


def test_the_least_is_timed_on_a_slow_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(first_timing, "LIMIT_S", 0.0)
    monkeypatch.setattr(first_timing, "_files", lambda spec, size, folder: iter([(2, folder)]))
    specs = [tiny(enc_layers=n) for n in (1, 2, 4, 6)]
    parts = [latency.multiply_adds(spec, SIZE, {}) for spec in specs]
    found = first_timing._exported(specs, parts, [SIZE], {}, tmp_path, lambda text: None, 0.0)
    assert len(found) == first_timing.FEWEST
