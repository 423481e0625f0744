"""Problems to sample, with every location at least a tenth of a cell from where floor() jumps: there the slope is
not continuous, and two correct kernels may land on different sides of it."""

from __future__ import annotations

from typing import NamedTuple

import torch

Shapes = list[tuple[int, int]]


class Problem(NamedTuple):
    value: torch.Tensor
    shapes: Shapes
    locations: torch.Tensor
    weights: torch.Tensor
    grad_out: torch.Tensor

    def to(self, dtype: torch.dtype) -> Problem:
        """With value and grad_out in `dtype`, and the rest in float32 or wider."""
        fine = dtype if dtype == torch.float64 else torch.float32
        return Problem(
            self.value.to(dtype), self.shapes, self.locations.to(fine), self.weights.to(fine), self.grad_out.to(dtype)
        )  # fmt: skip


def problem(
    B: int = 1, M: int = 2, D: int = 32, Q: int = 7, P: int = 4, shapes: Shapes | None = None,
    low: float = -2, high: float = 0, dtype: torch.dtype = torch.float64, seed: int = 0,
) -> Problem:  # fmt: skip
    """Cells drawn from `low` left of the first to `high` right of the last, so some samples are (half) outside."""
    shapes = [(6, 5), (3, 4), (2, 2)] if shapes is None else shapes
    L, S = len(shapes), sum(h * w for h, w in shapes)
    random = torch.Generator().manual_seed(seed)
    size = torch.tensor([[w, h] for h, w in shapes], dtype=torch.float64)[:, None]  # [L, 1, 2]
    draw = torch.rand(B, Q, M, L, P, 2, generator=random, dtype=torch.float64)
    cell = (low + draw * (size + high - low)).floor()
    inside = 0.1 + 0.8 * torch.rand(draw.shape, generator=random, dtype=torch.float64)
    weights = torch.randn(B, Q, M, L * P, generator=random, dtype=torch.float64).softmax(-1)
    return Problem(
        torch.randn(B, S, M, D, generator=random, dtype=torch.float64),
        shapes,
        (cell + inside + 0.5) / size,
        weights.view(B, Q, M, L, P),
        torch.randn(B, Q, M * D, generator=random, dtype=torch.float64),
    ).to(dtype)


def outcome(function: object, p: Problem) -> list[torch.Tensor]:
    """[out, grad_value, grad_locations, grad_weights] of `function(value, shapes, locations, weights)`."""
    inputs = [t.detach().clone().requires_grad_() for t in (p.value, p.locations, p.weights)]
    out = function(inputs[0], p.shapes, inputs[1], inputs[2])  # type: ignore[operator]
    return [out.detach(), *torch.autograd.grad(out, inputs, p.grad_out)]
