"""The study of the CUDA kernels, as far as it goes without a GPU: its peer computes the same, so that its times compare
like with like; its counts are right; its bench runs but for the clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model.ops import cuda, cuda_compile
from studies.bench_ms_deform_attn import bench_cuda, cuda_static, published
from tests.model.ops.cuda_on_cpu import Device, Kernel, compiler, library
from tests.model.ops.test_cuda import assert_close, inputs, truth

needs_gpp = pytest.mark.skipif(compiler is None, reason="no g++")
RATES = bench_cuda.Rates(4e12, 4e10, 1e10, 1.98e9)
ROOT = Path(cuda.__file__).parents[2]


def on_cpu(name: str) -> Kernel:
    return Kernel(library(published.SOURCE, name, ()).run, backwards=False)


@needs_gpp
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


@needs_gpp
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_bench_runs_but_for_its_clock(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """All contestants on a small problem, compared by the bench itself; the GPU's clock is played."""

    def once(runs: dict[str, Any], rounds: int) -> dict[str, list[float]]:
        return {name: [float(run() is not None)] for name, run in runs.items()}

    monkeypatch.setattr(bench_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(bench_cuda, "SHAPES", ((4, 5), (2, 3), (2, 2), (2, 2)))
    monkeypatch.setattr(bench_cuda, "times_ms", once)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    pretend_132_multiprocessors(monkeypatch)
    monkeypatch.setattr(cuda, "_device", lambda _: Device(cuda.source()))
    monkeypatch.setattr(published, "kernel", lambda name: on_cpu(name))
    row = bench_cuda.measure("encoder", 2, dtype, RATES)
    assert row["forward"]["times_as_fast"]["published"] == 1
    assert set(row["backward"]["median_ms"]) == {
        "ours", "ours, deterministic", "published", "grid_sample", "torch.compile"
    }  # fmt: skip


def pretend_132_multiprocessors(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)


def test_the_bench_refuses_results_that_differ() -> None:
    right, wrong = torch.ones(4, 4), torch.ones(4, 4)
    wrong[2, 2] = 1.001
    runs = {"grid_sample": lambda: right, "ours": lambda: wrong}
    with pytest.raises(RuntimeError, match="ours differs from grid_sample"):
        bench_cuda.verify(runs, torch.float32)
    assert bench_cuda.verify(runs, torch.bfloat16)["ours"] == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_floors_of_the_bench(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, for batch 2 at 800x1333: 22223 queries, 8 heads, 32 channels, 16 samples of 4 cells."""
    pretend_132_multiprocessors(monkeypatch)
    monkeypatch.setattr(bench_cuda, "DEVICE", "cpu")
    tensors = bench_cuda.problem(bench_cuda.ENCODER, 2, dtype)
    rows, size = 2 * 22223 * 8, torch.finfo(dtype).bits // 8
    assert tensors[0].shape == (2, 22223, 8, 32)
    forward, backward = (bench_cuda.floors_ms(d, tensors, RATES) for d in ("forward", "backward"))
    assert forward["memory"] == pytest.approx(rows * (2 * 32 * size + 16 * 12) / 4e9)
    assert forward["L1"] == pytest.approx(rows * 64 * (size / 4) / 132 / 1.98e6)
    converted = 32 * (4 + size) if size == 2 else 0
    both_ways = 2 * 32 * size + 2 * 16 * 12 + 8 * 32 + converted
    assert backward["memory"] == pytest.approx(rows * both_ways / 4e9)
    assert backward["L2 sums"] == pytest.approx(rows * 64 / 1e7)


def test_arguments_of_the_bench() -> None:
    options = bench_cuda.parse([])
    assert (options.batch, options.queries, options.tune) == ([2, 4], ["encoder", "decoder"], False)
    assert options.out == Path(bench_cuda.__file__).with_name("results_cuda.json")
    options = bench_cuda.parse("--batch 1 --rounds 3 --queries decoder --tune --out /tmp/r.json".split())
    assert (options.batch, options.rounds, options.queries) == ([1], 3, ["decoder"])
    with pytest.raises(SystemExit):
        bench_cuda.parse(["--queries", "both"])


def test_rates_of_l2_count_the_rows_that_the_kernels_touch(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 lanes a row, 512 rows each: 16 blocks of 256 threads on each of 10 multiprocessors, in 2 ms."""
    launched: list[tuple[tuple[int, int, int], int, int]] = []

    class Played:
        def __init__(self, *_: object) -> None: ...
        def launch(self, grid: tuple[int, int, int], threads: int, arguments: list[Any]) -> None:
            launched.append((grid, threads, arguments[-1].value))

    def times_ms(runs: dict[str, Any]) -> dict[str, list[float]]:
        return {name: [3.0 + float(run() is not None), 2.0] for name, run in runs.items()}

    monkeypatch.setattr(bench_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(bench_cuda, "times_ms", times_ms)
    monkeypatch.setattr(bench_cuda.cuda_driver, "Kernel", Played)
    monkeypatch.setattr(cuda_compile, "compiled", lambda *_: b"")
    monkeypatch.setattr(cuda.Device, "of", lambda index: cuda.Device(index, 90, 10))
    rows = 16 * 10 * 256 / 8 * 512
    assert bench_cuda.l2_rates(0) == pytest.approx((rows / 2e-3, rows / 2e-3))
    assert launched == [((160, 1, 1), 256, 2**17 - 1)] * 2


def test_the_bench_writes_each_row_and_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "results.json"
    rows: list[int] = []

    def measure(queries: str, batch: int, dtype: torch.dtype, *_: object) -> dict[str, object]:
        rows.append(len(json.loads(out.read_text())["rows"]) if out.exists() else 0)
        return {"queries": queries, "batch": batch, "dtype": str(dtype)}

    kept = cuda.THREADS, dict(cuda.BLOCKS_PER_SM)
    monkeypatch.setattr(sys, "argv", ["bench_cuda.py", "--batch", "2", "--tune", "--out", str(out)])
    monkeypatch.setattr(cuda, "status", lambda: (True, "a played GPU"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "played")
    monkeypatch.setattr(bench_cuda.Rates, "measured", lambda: RATES)
    monkeypatch.setattr(bench_cuda, "measure", measure)
    monkeypatch.setattr(bench_cuda, "problem", lambda *_: (torch.zeros(1),) * 4)
    monkeypatch.setattr(bench_cuda, "times_ms", lambda runs: {name: [1.0] for name in runs})
    bench_cuda.main()
    written = json.loads(out.read_text())
    assert [(r["queries"], r["dtype"][6:]) for r in written["rows"]] == [
        (queries, dtype) for queries in ("encoder", "decoder") for dtype in ("float32", "bfloat16")
    ]
    assert rows == [0, 1, 2, 3]
    assert written["rates"]["l2_rows_added_per_s"] == 1e10
    assert len(written["tuning"]) == 2 * 3 * 6
    assert kept == (cuda.THREADS, cuda.BLOCKS_PER_SM)


ALONE = """
import importlib.metadata as metadata, re, runpy, sys
from importlib.machinery import PathFinder

def closure(name, found):
    if name not in found:
        found.add(name)
        for line in metadata.requires(name) or []:
            needed = re.split(r"[^A-Za-z0-9._-]", line)[0].lower().replace("_", "-")
            if "extra ==" not in line:
                try:
                    closure(needed, found)
                except metadata.PackageNotFoundError:
                    pass
    return found

torch_alone = closure("torch", set())
absent = {
    module for module, owners in metadata.packages_distributions().items()
    if not torch_alone & {owner.lower().replace("_", "-") for owner in owners} and module not in OURS
}

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in absent else find(name, *rest)

assert {"numpy", "optuna", "yaml", "pytorch_lightning"} <= absent
sys.argv = ["bench_cuda.py", "--batch", "2"]
runpy.run_path(BENCH, run_name="__main__")
"""


def test_the_bench_needs_torch_alone_and_says_what_it_lacks() -> None:
    """With every package hidden that torch does not bring, it starts, and stops for want of a GPU."""
    script = f"OURS = {{'model', 'automl', 'studies'}}\nBENCH = {bench_cuda.__file__!r}\n{ALONE}"
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, cwd="/")
    assert "this study needs a GPU that the kernels run on: torch finds no CUDA device" in done.stderr
    assert done.returncode == 1


def compiles(find: object) -> bool:
    try:
        return bool(find())  # type: ignore[operator]
    except cuda_compile.CompileError:
        return False


@pytest.mark.skipif(not compiles(cuda_compile.nvrtc), reason="no NVRTC")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize(
    ("file", "kernels"),
    [
        ("published.cu", ("published_forward", "published_backward")),
        ("l2_rate.cu", ("load_rows", "add_rows")),
    ],
)
def test_what_the_bench_compiles(file: str, kernels: tuple[str, ...], architecture: str) -> None:
    image = cuda_compile.nvrtc().build((bench_cuda.HERE / file).read_text(), [], architecture)
    assert all(kernel.encode() in image for kernel in kernels)


def test_instructions_are_counted_along_the_loops() -> None:
    """A loop of 3 around one of 2: 1 + 3 * (1 + 2 * 2 + 1) + 2, and padding after the last EXIT."""
    listing = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   MOV R2, RZ ;
.L_x_0:
        /*0020*/              @!P0 FFMA R3, R2, R2, R3 ;
        /*0030*/               @P1 BRA `(.L_x_0) ;
        /*0040*/               @P2 BRA `(.L_x_1) ;
        /*0050*/               @P3 BRA `(.L_x_2) ;
        /*0060*/                   EXIT ;
.L_x_2:
        /*0070*/                   BRA `(.L_x_2);
"""
    code = cuda_static.Code(cuda_static._instructions(listing), 8, 0)
    counts = cuda_static.executed(code, (3, 2))
    assert counts == {"MOV": 1 + 3, "FFMA": 6, "BRA": 6 + 3 + 1, "EXIT": 1}
    with pytest.raises(RuntimeError, match="2 deep, but 1 trip counts"):
        cuda_static.executed(code, (3,))


def test_the_written_counts_are_of_this_source() -> None:
    """A kernel was changed and studies/bench_ms_deform_attn/cuda_static.py not run again, if this fails."""
    written = json.loads((bench_cuda.HERE / "results_cuda_static.json").read_text())
    assert written["sources_sha256"] == cuda_static.digests()
