"""The CUDA kernels, their very source run on the CPU (cuda_on_cpu.h), against plain torch in double."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from inspect import signature

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.ops import cuda
from model.ops.reference import ms_deform_attn_reference
from tests.model.ops.cuda_on_cpu import Device, compiler

pytestmark = pytest.mark.skipif(compiler is None, reason="no g++")

FLOAT, HALF, BFLOAT = torch.float32, torch.float16, torch.bfloat16
LEVELS = ((5, 7), (4, 3), (2, 2), (2, 3), (3, 2))
Inputs = tuple[torch.Tensor, tuple[tuple[int, int], ...], torch.Tensor, torch.Tensor]


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make `model.ops.cuda` use this emulated device."""

    def use(**fields: object) -> None:
        device = Device(cuda.source(), **fields)  # type: ignore[arg-type]
        monkeypatch.setattr(cuda, "_device", lambda _: device)

    use()
    return use


def inputs(
    *, B: int = 2, Q: int = 5, M: int = 2, D: int = 32, L: int = 4, P: int = 4, dtype: torch.dtype = FLOAT,
    weight: torch.dtype = FLOAT, shapes: tuple[tuple[int, int], ...] | None = None, spread: float = 1.5, seed: int = 0,
) -> Inputs:  # fmt: skip
    """Random inputs whose locations lie on the maps and around them."""
    random = torch.Generator().manual_seed(seed)
    shapes = shapes or LEVELS[:L]
    value = torch.randn(B, sum(h * w for h, w in shapes), M, D, generator=random).to(dtype)
    locations = 0.5 + spread * (torch.rand(B, Q, M, len(shapes), P, 2, generator=random) - 0.5)
    weights = torch.randn(B, Q, M, len(shapes), P, generator=random).to(weight)
    return value, shapes, locations, weights


def truth(given: Inputs, grad_out: torch.Tensor | None = None) -> list[torch.Tensor]:
    """The output, and the three gradients for grad_out, in double."""
    value, shapes, locations, weights = given
    leaves = [t.double().requires_grad_() for t in (value, locations, weights)]
    out = ms_deform_attn_reference(leaves[0], shapes, leaves[1], leaves[2])
    if grad_out is None:
        return [out.detach()]
    return [out.detach(), *torch.autograd.grad(out, leaves, grad_out.double())]


def assert_close(found: torch.Tensor, true: torch.Tensor) -> None:
    """Within a half unit in the last place of the dtype, and what float32 sums of some hundred terms lose."""
    assert found.shape == true.shape
    if true.numel() == 0:
        return
    rounding = 0.5 * torch.finfo(found.dtype).eps * true.abs()
    excess = (found.double() - true).abs() - rounding - 4e-6 * true.abs().max()
    assert excess.max() <= 0, f"off by {excess.max()} beyond rounding"


def check(given: Inputs, deterministic: bool = False) -> None:
    value = given[0]
    out = cuda.forward(*given)
    assert out.dtype == value.dtype
    grad_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(value.dtype)
    grads = cuda.backward(grad_out, *given, deterministic=deterministic)
    assert [g.dtype for g in grads] == [value.dtype, FLOAT, given[3].dtype]
    for found, true in zip((out, *grads), truth(given, grad_out), strict=True):
        assert_close(found, true)


CASES = [
    dict(D=32),
    dict(D=32, dtype=BFLOAT, Q=9),
    dict(D=32, dtype=HALF, weight=HALF, Q=9),
    dict(D=8, dtype=BFLOAT, L=1, P=3, Q=33, B=1),  # one lane a query
    dict(D=20, L=3, P=1, Q=6),  # three lanes of eight idle
    dict(D=64, dtype=BFLOAT, weight=BFLOAT, L=5, P=4),
    dict(D=128, L=2, P=16, Q=3),  # a query a warp
    dict(D=33, L=2, P=2, Q=3, M=1),  # no vectors, two turns, the second uneven
    dict(D=12, dtype=HALF, L=1, P=1, M=3, Q=11),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_plain_torch(case: dict[str, int], on: Callable[..., None]) -> None:
    check(inputs(**case))


MORE_CASES = [
    dict(D=D, L=L, P=P, dtype=dtype, Q=Q, B=B)
    for D, L, P, dtype, Q, B in [
        (8, 4, 4, FLOAT, 17, 3), (16, 4, 4, FLOAT, 5, 2), (20, 4, 4, BFLOAT, 5, 2), (24, 3, 8, HALF, 5, 2),
        (32, 1, 16, FLOAT, 5, 2), (32, 5, 16, FLOAT, 3, 1), (32, 2, 7, BFLOAT, 13, 3), (40, 4, 2, FLOAT, 5, 2),
        (64, 4, 4, FLOAT, 5, 2), (64, 5, 1, HALF, 5, 2), (96, 3, 4, BFLOAT, 3, 2), (127, 2, 3, FLOAT, 3, 2),
        (128, 4, 4, BFLOAT, 5, 2), (128, 5, 5, HALF, 3, 2), (1, 2, 2, FLOAT, 40, 1), (32, 3, 12, FLOAT, 5, 2),
    ]
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("case", MORE_CASES, ids=str)
def test_equals_plain_torch_over_the_whole_matrix(
    case: dict[str, int], deterministic: bool, capability: int, on: Callable[..., None]
) -> None:
    on(capability=capability)
    check(inputs(**case), deterministic)


@pytest.mark.parametrize("case", [dict(D=32), dict(D=20, dtype=BFLOAT, L=2, P=3)], ids=str)
def test_without_vector_reductions_too(case: dict[str, int], on: Callable[..., None]) -> None:
    on(capability=80)
    check(inputs(**case))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    sides=st.lists(st.tuples(st.integers(2, 9), st.integers(2, 9)), min_size=2, max_size=2),
    B=st.integers(1, 3), Q=st.integers(1, 19), M=st.just(2), spread=st.sampled_from([0.9, 1.5, 6.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_sizes(sides: list[tuple[int, int]], B: int, Q: int, M: int, spread: float, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "_device", lambda _: Device(cuda.source()))
        check(inputs(B=B, Q=Q, M=M, D=16, P=2, shapes=tuple(sides), spread=spread, seed=seed))


@pytest.mark.parametrize("shapes", [((1, 1), (1, 1)), ((1, 6), (5, 1)), ((4, 4), (1, 1))], ids=str)
def test_levels_one_cell_high_or_wide(shapes: tuple[tuple[int, int], ...], on: Callable[..., None]) -> None:
    check(inputs(D=16, P=2, shapes=shapes, Q=9, spread=3.0))


def test_at_cell_centres_and_borders_slopes_are_those_of_grid_sample(on: Callable[..., None]) -> None:
    """At a kink the gradient is one-sided; sizes are powers of two, so that positions are exact in both."""
    value, shapes, _, weights = inputs(D=16, P=2, shapes=((4, 8), (2, 2)), Q=99, B=1, M=1)
    steps = torch.linspace(-1.5, 9.5, 23)  # halves of cells: centres at whole positions
    positions = steps[torch.randint(23, (*weights.shape, 2), generator=torch.Generator().manual_seed(3))]
    sizes = torch.tensor([[8.0, 4.0], [2.0, 2.0]])[:, None]  # (x, y)
    given = value, shapes, (positions + 0.5) / sizes, weights
    check(given)


@pytest.mark.parametrize("location", [-1e30, -0.3, 1.3, 1e30, math.inf, -math.inf, math.nan])
def test_what_lies_outside_reads_zero_and_passes_no_gradient(
    location: float, on: Callable[..., None]
) -> None:
    value, shapes, locations, weights = inputs(D=16, P=2, shapes=((4, 8), (2, 2)))
    given = value, shapes, torch.full_like(locations, location), weights
    out = cuda.forward(*given)
    assert not out.any()
    for grad in cuda.backward(torch.ones_like(out), *given, deterministic=False):
        assert not grad.any()


def test_images_of_a_batch_do_not_mix_with_an_odd_number_of_queries(on: Callable[..., None]) -> None:
    value, shapes, locations, weights = inputs(B=3, Q=7, D=16, P=2, L=2)
    out = cuda.forward(value, shapes, locations, weights)
    for b in range(3):
        alone = cuda.forward(value[b : b + 1], shapes, locations[b : b + 1], weights[b : b + 1])
        assert torch.equal(out[b], alone[0])


@pytest.mark.parametrize(("B", "Q"), [(0, 3), (2, 0)])
@pytest.mark.parametrize("deterministic", [False, True])
def test_no_images_or_no_queries(B: int, Q: int, deterministic: bool) -> None:
    """No device is asked for: nothing is launched."""
    given = inputs(B=B, Q=Q)
    out = cuda.forward(*given)
    assert out.shape == (B, Q, 64)
    grads = cuda.backward(out, *given, deterministic=deterministic)
    assert [g.shape for g in grads] == [given[0].shape, given[2].shape, given[3].shape]
    assert not grads[0].any()


@pytest.mark.parametrize("case", [dict(D=32, Q=40), dict(D=20, L=2, P=3, dtype=BFLOAT, Q=21)], ids=str)
def test_deterministic_gradients_do_not_depend_on_the_order_of_blocks(
    case: dict[str, int], on: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "THREADS", (32,))  # many blocks
    given = inputs(**case)
    grad_out = torch.randn(given[0].shape[0], case["Q"], 2 * case["D"]).to(given[0].dtype)
    check(given, deterministic=True)
    forwards = cuda.backward(grad_out, *given, deterministic=True)
    in_order = cuda.backward(grad_out.float(), given[0].float(), *given[1:], deterministic=False)
    on(backwards=True)
    assert all(map(torch.equal, forwards, cuda.backward(grad_out, *given, deterministic=True)))
    reversed_order = cuda.backward(grad_out.float(), given[0].float(), *given[1:], deterministic=False)
    assert not torch.equal(in_order[0], reversed_order[0])  # the test would see an order


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e6, 1e15])
def test_fixed_point_fits_gradients_of_any_size(size: float, on: Callable[..., None]) -> None:
    given = inputs(D=16, P=2, L=2, B=1)
    grad_out = size * torch.randn(1, 5, 32)
    grads = cuda.backward(grad_out, *given, deterministic=True)
    for found, true in zip(grads, truth(given, grad_out)[1:], strict=True):
        assert_close(found / size, true / size)


def test_fixed_point_cannot_overflow() -> None:
    """All terms as large as they get, on one row: the scaled sum stays below 2**63."""
    for terms in (1, 3, 1000, 22223 * 16):
        scale, unit = cuda.fixed_point(torch.full((4,), 3.0), torch.full((2,), 1.7), terms)
        assert 2**60 / terms * 0.5 < 3.0 * 1.7 * float(scale) <= 2**62 / terms * 2
        assert terms * round(3.0 * 1.7 * float(scale)) < 2**63
        assert float(scale) * float(unit) == 1


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_deterministic_gradients_show_what_is_not_finite(bad: float, on: Callable[..., None]) -> None:
    given = inputs(D=16, P=2, L=2, B=1)
    grad_out = torch.ones(1, 5, 32)
    grad_out[0, 0, 0] = bad
    assert cuda.backward(grad_out, *given, deterministic=True)[0].isnan().all()


def test_inputs_of_any_strides_and_alignment(on: Callable[..., None]) -> None:
    value, shapes, locations, weights = inputs(D=16, P=2, L=2)
    expected = cuda.forward(value, shapes, locations, weights)
    shifted = torch.cat([torch.zeros(1), value.flatten()])[1:].view(value.shape)
    assert shifted.data_ptr() % 16
    turned = value.transpose(1, 2).contiguous().transpose(1, 2)
    spread = torch.stack([locations, locations], -1)[..., 0]
    expanded = weights[:1].expand_as(weights)
    assert torch.equal(cuda.forward(shifted, shapes, locations, weights), expected)
    assert torch.equal(cuda.forward(turned, shapes, spread, weights), expected)
    assert torch.equal(
        cuda.forward(value, shapes, locations, expanded),
        cuda.forward(value, shapes, locations, expanded.clone()),
    )


def test_reads_nothing_beyond_its_inputs(on: Callable[..., None]) -> None:
    """With NaN around each tensor: a cell, location or weight from beyond would show, even at weight zero."""
    for case in (dict(D=32, Q=3, spread=4.0), dict(D=16, P=2, shapes=((1, 1), (3, 1)), Q=9, spread=4.0)):
        value, shapes, locations, weights = inputs(**case)  # type: ignore[arg-type]
        walled = [_walled(t) for t in (value, locations, weights)]
        given = walled[0], shapes, walled[1], walled[2]
        out = cuda.forward(*given)
        assert torch.equal(out, cuda.forward(value, shapes, locations, weights))
        assert all(g.isfinite().all() for g in cuda.backward(_walled(out), *given, deterministic=False))


def _walled(tensor: torch.Tensor) -> torch.Tensor:
    wall = torch.full((4096,), math.nan)
    return torch.cat([wall, tensor.flatten(), wall])[4096:-4096].view(tensor.shape)


def test_problems_larger_than_a_grid_run_in_pieces(
    on: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs(B=5, Q=41, D=16, P=2, L=2)
    monkeypatch.setattr(cuda, "MAX_GRID", 2)
    monkeypatch.setattr(cuda, "THREADS", (32,))
    check(given)


@pytest.mark.parametrize("multiprocessors", [1, 20, 1000])
def test_blocks_of_any_width(multiprocessors: int, on: Callable[..., None]) -> None:
    on(multiprocessors=multiprocessors)
    given = inputs(D=16, P=2, L=2, Q=150, B=1)
    assert_close(cuda.forward(*given), truth(given)[0])


def test_wide_blocks_are_for_many_queries() -> None:
    problem = cuda.Problem(FLOAT, FLOAT, 2, 9, 8, 32, 22223, 4, 4, ((3, 3),) * 4)
    assert cuda._threads(problem, group=8, multiprocessors=132) == 256
    assert cuda._threads(dataclasses.replace(problem, Q=300), group=8, multiprocessors=132) == 128


def test_what_the_operator_calls_is_there() -> None:
    """model/ops/operator.py imports this module by name when it meets a CUDA tensor, so mypy does not see its calls."""
    given = inputs(D=32)
    assert cuda.takes(given[0], levels=4, points=4)
    assert not cuda.takes(given[0].double(), 4, 4)
    signature(cuda.status).bind()
    signature(cuda.forward).bind(*given)
    signature(cuda.backward).bind(given[0], *given, deterministic=True)


def wrong(**change: torch.Tensor | tuple[tuple[int, int], ...]) -> Inputs:
    named = dict(zip(("value", "shapes", "locations", "weights"), inputs(), strict=True)) | change
    return named["value"], named["shapes"], named["locations"], named["weights"]  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (wrong(value=torch.zeros(2, 57, 64)), "value must be"),
        (wrong(shapes=((5, 7), (4, 3), (2, 2), (3, 3))), "must agree"),
        (wrong(shapes=((5, 7), (4, 3), (2, 2), (-2, -3))), "no empty level"),
        (wrong(weights=torch.zeros(2, 5, 2, 4, 3)), "must agree"),
        (wrong(locations=torch.zeros(2, 5, 2, 4, 4, 2).double()), "locations must be float32"),
        (wrong(weights=torch.zeros(2, 5, 2, 4, 4).half()), "weights float32 or"),
        (inputs(dtype=torch.float64), "float32, float16 or bfloat16"),
        (inputs(D=136), "128 channels"),
        (inputs(P=17), "16 points"),
        (inputs(shapes=((2, 2),) * 6), "5 levels"),
    ],
)
def test_what_the_kernels_do_not_take_is_an_error(given: Inputs, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        cuda.forward(*given)


def test_a_gradient_of_another_shape_or_dtype_is_an_error() -> None:
    given = inputs()
    for grad_out in (torch.zeros(2, 5, 63), torch.zeros(2, 5, 64).half()):
        with pytest.raises(ValueError, match=r"grad_out must be \[2, 5, 64\]"):
            cuda.backward(grad_out, *given, deterministic=False)
