"""The study's peer computes the same, so that its times compare like with like."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model.ops import cuda
from studies.bench_ms_deform_attn import bench_cuda, published
from tests.model.ops.cuda_on_cpu import Device, Kernel, compiler, library
from tests.model.ops.test_cuda import assert_close, inputs, truth

pytestmark = pytest.mark.skipif(compiler is None, reason="no g++")


def on_cpu(name: str) -> Kernel:
    return Kernel(library(published.SOURCE, name, ()).run, backwards=False)


def test_the_published_design_equals_plain_torch() -> None:
    given = value, shapes, locations, weights = inputs(Q=3, M=3)
    grad_out = torch.randn(2, 3, 96)
    levels = published.levels(shapes, value.device)
    found = (
        published.forward(value, levels, locations, weights, kernels=on_cpu),
        *published.backward(grad_out, value, levels, locations, weights, kernels=on_cpu),
    )
    for mine, true in zip(found, truth(given, grad_out), strict=True):
        assert_close(mine, true)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_bench_runs_but_for_its_clock(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """All contestants on a small problem, compared by the bench itself; the GPU's clock is played."""

    def once(runs: dict[str, Any]) -> dict[str, list[float]]:
        return {name: [float(run() is not None)] for name, run in runs.items()}

    monkeypatch.setattr(bench_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(bench_cuda, "SHAPES", ((4, 5), (2, 3), (2, 2), (2, 2)))
    monkeypatch.setattr(bench_cuda, "times_ms", once)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(multi_processor_count=132)
    )
    monkeypatch.setattr(cuda, "_device", lambda _: Device(cuda.source()))
    monkeypatch.setattr(published, "kernel", lambda name: on_cpu(name))
    row = bench_cuda.measure("encoder", 2, dtype, copy=1e3, clock=1e9)
    assert row["forward"]["times_as_fast"]["published"] == 1
    assert set(row["backward"]["median_ms"]) == {
        "ours", "ours, deterministic", "published", "grid_sample", "torch.compile"
    }  # fmt: skip
