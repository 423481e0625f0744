"""The torch operator around the kernels: autograd, fake tensors, compile, autocast, export, errors, the way back."""

import copy
import logging

import pytest
import torch
from torch import nn

from model.ops import build, live, ms_deform_attn, ms_deform_attn_reference, native, operator
from tests.model.ops.cases import Problem, outcome, problem


def arguments(p: Problem) -> tuple:
    return p.value.requires_grad_(), [n for row in p.shapes for n in row], p.locations.requires_grad_(), p.weights.requires_grad_()  # fmt: skip


class Attention(nn.Module):
    """The function as a module of tensors alone, as exporters take it."""

    def __init__(self, shapes: list[tuple[int, int]]) -> None:
        super().__init__()
        self.shapes = shapes

    def forward(self, value: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return ms_deform_attn(value, self.shapes, locations, weights)


@pytest.mark.parametrize("shape", [{"D": D, "Q": 3} for D in (8, 20, 32)] + [{"P": 1}, {"shapes": [(1, 4), (3, 1)]}, {"B": 2, "Q": 5}], ids=str)  # fmt: skip
def test_gradients_in_double(shape: dict) -> None:
    p = problem(**{"D": 8, "M": 1, **shape})
    value, flat, locations, weights = arguments(p)
    assert torch.autograd.gradcheck(
        lambda v, at, w: torch.ops.detr_automl.ms_deform_attn(v, flat, at, w), (value, locations, weights)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_opcheck(dtype: torch.dtype) -> None:
    torch.library.opcheck(torch.ops.detr_automl.ms_deform_attn, arguments(problem(dtype=dtype)))


def test_a_second_derivative_is_refused() -> None:
    value, flat, locations, weights = arguments(problem())
    out = torch.ops.detr_automl.ms_deform_attn(value, flat, locations, weights)
    (first,) = torch.autograd.grad(out.square().sum(), value, create_graph=True)
    with pytest.raises(RuntimeError, match="once, not twice"):
        first.sum().backward()


def test_only_wanted_gradients_flow() -> None:
    p = problem(dtype=torch.float32)
    locations = p.locations.requires_grad_()
    ms_deform_attn(p.value, p.shapes, locations, p.weights).sum().backward()
    assert locations.grad is not None
    assert p.value.grad is None


def test_compiled_it_is_one_operator_without_graph_breaks() -> None:
    p = problem(B=2, dtype=torch.float32)
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled = torch.compile(Attention(p.shapes), backend=backend, fullgraph=True)
    got = outcome(lambda v, shapes, at, w: compiled(v, at, w), p)
    assert all(torch.equal(a, b) for a, b in zip(got, outcome(ms_deform_attn, p), strict=True))
    assert "detr_automl.ms_deform_attn" in graphs[0].code


def test_under_autocast_locations_and_weights_stay_float32() -> None:
    p = problem(Q=20, dtype=torch.float32)
    value = p.value.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = ms_deform_attn(value, p.shapes, p.locations, p.weights)
        assert ms_deform_attn(p.value, p.shapes, p.locations, p.weights).dtype == torch.float32
    assert out.dtype == torch.bfloat16
    exact = ms_deform_attn_reference(value.float(), p.shapes, p.locations, p.weights)
    assert torch.equal(out, exact.bfloat16()) or (out - exact).abs().max() <= 2**-8 * exact.abs().max()


def test_exported_it_is_grid_sample_and_agrees() -> None:
    p = problem(B=2, dtype=torch.float32)
    module = Attention(p.shapes)
    exported = torch.export.export(module, (p.value, p.locations, p.weights))
    code = str(exported.graph)
    assert "grid_sampler" in code
    assert "detr_automl" not in code
    args = (p.value, p.locations, p.weights)
    torch.testing.assert_close(exported.module()(*args), module(*args), rtol=1e-5, atol=1e-6)


def test_spatial_shapes_may_be_a_tensor() -> None:
    p = problem(dtype=torch.float32)
    args = (p.locations, p.weights)
    assert torch.equal(
        ms_deform_attn(p.value, torch.tensor(p.shapes), *args), ms_deform_attn(p.value, p.shapes, *args)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": [(6, 5), (3, 4), (2, 3)]}, "must hold the 46 cells"),
        ({"shapes": [(6, 5), (4, 4)]}, "must agree in B, Q, M, L and P"),
        ({"weights": torch.zeros(1, 7, 2, 3, 5)}, "must agree in B, Q, M, L and P"),
        ({"locations": torch.zeros(1, 7, 2, 3, 4)}, r"locations \[B, Q, M, L, P, 2\]"),
        ({"value": torch.zeros(2, 46, 2, 32)}, "must agree in B, Q, M, L and P"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(change: dict, message: str) -> None:
    p = problem(dtype=torch.float32)._replace(**change)
    with pytest.raises(ValueError, match=message):
        ms_deform_attn(p.value, p.shapes, p.locations, p.weights)


def test_outside_the_kernels_limits_torch_computes() -> None:
    p = problem(P=43, dtype=torch.float32)  # 3 * 43 samples, more than 128
    assert not native.takes(p.value, 3, 43)
    for got, wanted in zip(outcome(ms_deform_attn, p), outcome(ms_deform_attn_reference, p), strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.fixture
def fresh() -> object:
    """Forget what was found out about this machine, before and after."""
    caches = (operator.live, native.load, native._usable)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_without_a_compiler_torch_computes_after_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    p = problem(dtype=torch.float32)
    with caplog.at_level(logging.WARNING):
        got = outcome(ms_deform_attn, p), outcome(ms_deform_attn, p)
    assert len(caplog.records) == 1
    assert "no C++ compiler was found" in caplog.text
    assert all(torch.equal(a, b) for a, b in zip(got[0], outcome(ms_deform_attn_reference, p), strict=True))
    assert live("cpu")[1].startswith("plain torch: no C++ compiler")


@pytest.mark.usefixtures("fresh")
def test_torch_can_be_asked_for(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("DETR_ATTENTION", "torch")
    assert live("cpu") == (False, "plain torch: DETR_ATTENTION=torch")
    assert not caplog.records


def test_it_survives_deepcopy_and_no_grad() -> None:
    p = problem(dtype=torch.float32)
    module = copy.deepcopy(Attention(p.shapes))
    with torch.inference_mode():
        assert torch.equal(
            module(p.value, p.locations, p.weights), ms_deform_attn(p.value, p.shapes, p.locations, p.weights)
        )
