"""The CUDA kernels on a real GPU: `pytest -m gpu tests/model/ops`."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from model.ops import cuda, live, ms_deform_attn, ms_deform_attn_reference
from tests.model.ops.cases import outcome, problem
from tests.model.ops.test_cuda import CASES, MORE_CASES, Inputs, assert_close, inputs, truth

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
DEVICE = "cuda"
EDGE_CASES = [
    *(dict(D=16, P=2, Q=9, spread=3.0, shapes=s) for s in (((1, 1), (1, 1)), ((1, 6), (5, 1)), ((4, 4), (1, 1)))),
    dict(B=0), dict(Q=0), dict(B=3, Q=1001, M=8), dict(B=70_000, Q=1, M=1, D=8, L=1, P=1),  # more images than a grid
]  # fmt: skip


def to_device(given: Inputs) -> Inputs:
    value, shapes, locations, weights = given
    return value.to(DEVICE), shapes, locations.to(DEVICE), weights.to(DEVICE)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("case", [*CASES, *MORE_CASES, *EDGE_CASES], ids=str)
def test_equals_plain_torch(case: dict[str, Any], deterministic: bool) -> None:
    given = inputs(**case)
    on_device = to_device(given)
    out = cuda.forward(*on_device)
    grad_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    grads = cuda.backward(grad_out.to(DEVICE), *on_device, deterministic=deterministic)
    for found, true in zip((out, *grads), truth(given, grad_out), strict=True):
        assert_close(found.cpu(), true)


def test_no_less_exact_than_plain_torch_at_full_size() -> None:
    """800x1333, batch 2: error against double at most twice that of plain torch in float32."""
    shapes = ((100, 167), (50, 84), (25, 42), (13, 21))
    given = to_device(inputs(B=2, Q=22223, M=8, shapes=shapes, spread=1.2))
    value, _, locations, weights = given
    leaves = [t.requires_grad_() for t in (value, locations, weights)]
    plain = ms_deform_attn_reference(value, shapes, locations, weights)
    grad_out = torch.randn_like(plain)
    plain_grads = torch.autograd.grad(plain, leaves, grad_out)
    exact = [t.detach().double().requires_grad_() for t in leaves]
    true = ms_deform_attn_reference(exact[0], shapes, exact[1], exact[2])
    true_grads = torch.autograd.grad(true, exact, grad_out.double())
    with torch.no_grad():
        ours = cuda.forward(*given), *cuda.backward(grad_out, *given, deterministic=False)
    for found, by_torch, of_double in zip(ours, (plain, *plain_grads), (true, *true_grads), strict=True):
        mine, theirs = ((t.double() - of_double).norm() for t in (found, by_torch))
        assert mine <= 2 * theirs


@pytest.mark.parametrize("location", [-1e30, -0.3, 1.3, 1e30, math.inf, math.nan])
def test_what_lies_outside_reads_zero_and_passes_no_gradient(location: float) -> None:
    value, shapes, locations, weights = to_device(inputs())
    given = value, shapes, torch.full_like(locations, location), weights
    out = cuda.forward(*given)
    assert not out.any()
    assert not any(g.any() for g in cuda.backward(torch.ones_like(out), *given, deterministic=False))


@pytest.mark.parametrize("case", [dict(B=2, Q=33, D=32), dict(B=3, Q=7, D=20, P=3)], ids=str)
def test_through_the_operator(case: dict[str, Any]) -> None:
    """Away from cell centres, where a gradient has two values; against plain torch in double."""
    assert live("cuda")[0], live("cuda")[1]
    p = problem(**case)
    on_device = type(p)(*(t.to(DEVICE) if isinstance(t, torch.Tensor) else t for t in p.to(torch.float32)))
    for run in (ms_deform_attn, torch.compile(ms_deform_attn, fullgraph=True)):
        for found, true in zip(outcome(run, on_device), outcome(ms_deform_attn_reference, p), strict=True):
            assert_close(found.cpu(), true)


def test_opcheck_of_the_operator() -> None:
    p = problem(dtype=torch.float32)
    flat = [size for shape in p.shapes for size in shape]
    tensors = [t.to(DEVICE).requires_grad_() for t in (p.value, p.locations, p.weights)]
    operator = torch.ops.detr_automl.ms_deform_attn
    torch.library.opcheck(operator, (tensors[0], flat, *tensors[1:]))


def test_inputs_of_any_strides_and_alignment() -> None:
    value, shapes, locations, weights = to_device(inputs(D=16, P=2, L=2))
    expected = cuda.forward(value, shapes, locations, weights)
    shifted = torch.cat([value.new_zeros(1), value.flatten()])[1:].view(value.shape)
    turned = value.transpose(1, 2).contiguous().transpose(1, 2)
    spread = torch.stack([locations, locations], -1)[..., 0]
    assert torch.equal(cuda.forward(shifted, shapes, locations, weights), expected)
    assert torch.equal(cuda.forward(turned, shapes, spread, weights), expected)


def test_slopes_at_cell_centres_and_borders_are_those_of_grid_sample() -> None:
    value, shapes, _, weights = inputs(D=16, P=2, shapes=((4, 8), (2, 2)), Q=99, B=1, M=1)
    steps = torch.linspace(-1.5, 9.5, 23)
    positions = steps[torch.randint(23, (*weights.shape, 2), generator=torch.Generator().manual_seed(3))]
    given = value, shapes, (positions + 0.5) / torch.tensor([[8.0, 4.0], [2.0, 2.0]])[:, None], weights
    grads = cuda.backward(torch.ones(1, 99, 16, device=DEVICE), *to_device(given), deterministic=False)
    for found, true in zip(grads, truth(given, torch.ones(1, 99, 16))[1:], strict=True):
        assert_close(found.cpu(), true)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_deterministic_gradients_repeat_to_the_bit(dtype: torch.dtype) -> None:
    given = to_device(inputs(B=4, Q=9999, M=8, dtype=dtype, shapes=((9, 7), (5, 4), (3, 2), (2, 2))))
    grad_out = torch.randn(4, 9999, 256, device=DEVICE).to(dtype)
    first = cuda.backward(grad_out, *given, deterministic=True)
    for _ in range(5):
        assert all(map(torch.equal, first, cuda.backward(grad_out, *given, deterministic=True)))


def test_work_is_ordered_on_the_current_stream() -> None:
    value, shapes, locations, weights = to_device(inputs(B=2, Q=4000, M=8))
    expected = cuda.forward(value, shapes, locations, weights)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        late = torch.zeros_like(value)
        torch.cuda._sleep(50_000_000)
        late.copy_(value)
        out = cuda.forward(late, shapes, locations, weights)
    stream.synchronize()
    assert torch.equal(out, expected)


def test_can_be_captured_in_a_graph() -> None:
    given = to_device(inputs())
    expected = cuda.forward(*given)  # compiled and loaded before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = cuda.forward(*given)
    out.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(out, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_a_device_that_is_not_the_current_one() -> None:
    given = inputs()
    value, shapes, locations, weights = given
    out = cuda.forward(value.to("cuda:1"), shapes, locations.to("cuda:1"), weights.to("cuda:1"))
    assert out.device == torch.device("cuda:1")
    assert_close(out.cpu(), truth(given)[0])


def test_the_status_names_the_architecture() -> None:
    usable, why = cuda.status()
    major, minor = torch.cuda.get_device_capability()
    assert usable, why
    assert f"sm_{major}{minor}" in why
