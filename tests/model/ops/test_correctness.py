"""The kernels against the same sum in float64, over the shapes they promise to take."""

import pytest
import torch

from model.ops import ms_deform_attn, ms_deform_attn_reference, native
from model.ops.reference import ms_deform_attn_in_graph
from tests.model.ops.cases import Problem, outcome, problem

NAMES = ("out", "grad_value", "grad_locations", "grad_weights")
VARIANTS = native.variants()
LEVELS = [(5, 6), (4, 3), (3, 3), (2, 2), (1, 1)]

MATRIX = (
    [{"D": D} for D in (8, 16, 20, 24, 32, 40, 64, 96, 128)]
    + [{"shapes": LEVELS[:L], "P": P} for L in (1, 2, 3, 4, 5) for P in (1, 4)]
    + [{"P": P} for P in (2, 3, 8, 16)]
    + [{"B": B, "Q": Q} for B, Q in ((2, 7), (3, 1), (2, 33), (4, 101), (2, 0), (0, 3))]
    + [{"M": M, "D": 16} for M in (1, 3, 8)]
    + [
        {"shapes": [(1, 7), (7, 1), (1, 1)]},
        {"shapes": [(40, 30)], "Q": 3},
        {"D": 20, "shapes": [(40, 30)], "Q": 3},
    ]
)


def error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Root mean square: the largest of a few hundred errors is a matter of luck."""
    return float((got.double() - wanted).square().mean().sqrt()) if got.numel() else 0.0


def assert_as_good_as_torch(p: Problem, got: list[torch.Tensor]) -> None:
    """At most twice plain torch's error in the same dtype. In float64 plain torch itself is the truth, so some
    roundings of the largest element."""
    truth, plain = (
        outcome(ms_deform_attn_reference, p.to(torch.float64)),
        outcome(ms_deform_attn_reference, p),
    )
    for name, ours, theirs, wanted in zip(NAMES, got, plain, truth, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        allowed = 2 * error(theirs, wanted)
        if p.value.dtype == torch.float64 and wanted.numel():
            allowed = 16 * torch.finfo(torch.float64).eps * float(wanted.abs().max())
        assert error(ours, wanted) <= allowed, name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", MATRIX, ids=str)
def test_every_variant_is_as_exact_as_torch(shape: dict, dtype: torch.dtype, variant: str) -> None:
    p = problem(**shape, dtype=dtype)
    args = (p.value, p.shapes, p.locations, p.weights)
    out = native.forward(*args, variant=variant)
    assert_as_good_as_torch(p, [out, *native.backward(p.grad_out, *args, variant=variant)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", MATRIX, ids=str)
def test_the_form_of_exported_graphs_is_as_exact_as_torch(shape: dict, dtype: torch.dtype) -> None:
    p = problem(**shape, dtype=dtype)
    assert_as_good_as_torch(p, outcome(ms_deform_attn_in_graph, p))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [{}, {"B": 2, "Q": 33}, {"D": 20}], ids=str)
def test_the_public_function_is_as_exact_as_torch(shape: dict, dtype: torch.dtype) -> None:
    p = problem(**shape, dtype=dtype)
    assert_as_good_as_torch(p, outcome(ms_deform_attn, p))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("place", [-1.0, 2.0, 1e30, -1e30, float("inf"), float("-inf"), float("nan")])
def test_samples_outside_contribute_nothing(place: float, variant: str) -> None:
    p = problem(dtype=torch.float32)
    args = (p.value, p.shapes, torch.full_like(p.locations, place), p.weights)
    assert native.forward(*args, variant=variant).eq(0).all()
    assert all(grad.eq(0).all() for grad in native.backward(p.grad_out, *args, variant=variant))


@pytest.mark.parametrize("variant", VARIANTS)
def test_samples_on_the_border_fade_out(variant: str) -> None:
    """Half a cell outside the centre of the first and last cells, half of the cell is read; at a whole one, nothing."""
    value = torch.ones(1, 12, 1, 32)
    x = torch.tensor([0.5, 0.0, -0.5, 3.5, 4.0, 4.5]) / 4  # in a map of 4 columns
    locations = torch.stack([x, torch.full_like(x, 0.5)], -1).view(1, 6, 1, 1, 1, 2)
    out = native.forward(value, [(3, 4)], locations, torch.ones(1, 6, 1, 1, 1), variant=variant)
    assert out[0, :, 0].tolist() == [1, 0.5, 0, 1, 0.5, 0]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "shape",
    [
        {"B": 2, "M": 8, "Q": 43},
        {"M": 1, "Q": 301},
        {"D": 20, "M": 3, "Q": 50},
        {"shapes": [(50, 40)], "Q": 5},
    ],
    ids=str,
)
def test_any_number_of_threads_gives_the_same_bits(shape: dict, variant: str) -> None:
    p = problem(**shape, dtype=torch.float32)
    args = (p.value, p.shapes, p.locations, p.weights)
    results = [
        [native.forward(*args, variant=variant, threads=n), *native.backward(p.grad_out, *args, variant=variant, threads=n)]
        for n in (1, 2, 8)
    ]  # fmt: skip
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_inputs_need_not_be_contiguous() -> None:
    p = problem(B=2, dtype=torch.float32)
    strided = p._replace(
        value=p.value.transpose(1, 2).contiguous().transpose(1, 2),
        locations=p.locations.flip(-1).contiguous().flip(-1),
        weights=p.weights.transpose(0, 4).contiguous().transpose(0, 4),
    )
    assert not strided.value.is_contiguous()
    assert not strided.weights.is_contiguous()

    def expanded(*args: object) -> torch.Tensor:  # sum() hands back a gradient without storage of its own
        return ms_deform_attn(*args).sum(dim=1, keepdim=True).expand(-1, 7, -1)  # type: ignore[arg-type]

    for function in (ms_deform_attn, expanded):
        assert all(
            torch.equal(a, b) for a, b in zip(outcome(function, p), outcome(function, strided), strict=True)
        )
