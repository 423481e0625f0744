"""Dropout as torch's: how many, what is left, when, and from which generator."""

from __future__ import annotations

import pytest
import torch

from model.transformer import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_drops_a_share_and_scales_the_rest(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(7, 101, 301, dtype=dtype, requires_grad=True)
    out = Dropout(p)(x)
    assert out.dtype == dtype
    assert float((out == 0).double().mean()) == pytest.approx(p, abs=5 * (p * (1 - p) / x.numel()) ** 0.5)
    left = out[out != 0]
    torch.testing.assert_close(
        left, torch.full_like(left, 1 / (1 - p)), rtol=1e-2 if dtype == torch.bfloat16 else 2e-4, atol=0
    )
    out.sum().backward()
    assert torch.equal(x.grad, out)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(1)
    kept = (Dropout(0.5)(torch.ones(400_000)) != 0).double() - 0.5
    for apart in (1, 2, 3, 4, 5):
        assert abs(float((kept[apart:] * kept[:-apart]).mean())) < 5 * 0.25 / 400_000**0.5


def test_a_seed_decides() -> None:
    x, outs = torch.randn(3, 50), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outs.append(Dropout(0.5)(x))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_its_ends_and_evaluation(p: float) -> None:
    x = torch.randn(3, 50)
    assert torch.equal(Dropout(p)(x), x * (1 - p))
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert Dropout(0.5)(torch.zeros(0, 4)).shape == (0, 4)
