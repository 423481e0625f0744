"""The CUDA source through the real compilers, which need no GPU, and the driver's errors."""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.ops import cuda, cuda_compile, cuda_driver
from model.ops.cuda_compile import CompileError, Compiler

KERNELS = ("FORWARD", "BACKWARD", "EXACT_BACKWARD")
USUAL = cuda.Problem(torch.float32, torch.float32, 2, 22223, 8, 32, 22223, 4, 4, ((100, 167),) * 4)


def available(find: object) -> bool:
    try:
        return bool(find())  # type: ignore[operator]
    except CompileError:
        return False


needs_nvrtc = pytest.mark.skipif(not available(cuda_compile.nvrtc), reason="no NVRTC")
needs_nvcc = pytest.mark.skipif(not available(cuda_compile.nvcc), reason="no nvcc")


def options(kernel: str, capability: int, **change: object) -> list[str]:
    problem = dataclasses.replace(USUAL, **change)  # type: ignore[arg-type]
    return [f"-D{name}={value}" for name, value in cuda._instance(kernel, problem, capability)]


def build(compiler: Compiler, kernel: str, capability: int, *extra: str, **change: object) -> bytes:
    text, architecture = cuda.source().read_text(), compiler.architecture(capability)
    return compiler.build(text, [*options(kernel, capability, **change), *extra], architecture)


@needs_nvrtc
@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("kernel", KERNELS)
def test_nvrtc_compiles_without_a_toolkit(kernel: str, capability: int) -> None:
    image = build(cuda_compile.nvrtc(), kernel, capability)
    assert image.startswith(b"\x7fELF")
    assert b"ms_deform_attn" in image


@needs_nvrtc
@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("value", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "change",
    [
        dict(D=8, L=1, P=1), dict(D=20, L=3, P=3), dict(D=33, L=2, P=16), dict(D=64), dict(D=128, L=5, P=16),
        dict(shapes_hw=((1, 9),) * 4),
    ],
    ids=str,
)  # fmt: skip
def test_nvrtc_compiles_every_type_of_problem(
    kernel: str, value: torch.dtype, change: dict[str, object]
) -> None:
    for capability in (80, 90):
        assert build(cuda_compile.nvrtc(), kernel, capability, value=value, weight=value, **change)


VARIANTS = [
    pytest.param(kernel, value, weight, marks=[] if value == torch.float32 and kernel != "EXACT_BACKWARD" else pytest.mark.slow)
    for kernel in KERNELS
    for value in cuda.DTYPES
    for weight in dict.fromkeys([torch.float32, value])
]  # fmt: skip


@needs_nvcc
@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize(("kernel", "value", "weight"), VARIANTS, ids=str)
def test_nvcc_compiles_every_variant_without_a_warning_or_a_spill(
    kernel: str, value: torch.dtype, weight: torch.dtype, capability: int
) -> None:
    """ptxas warns of spills, and all warnings are errors."""
    extra = ("-Werror", "all-warnings", "-Xptxas", "-warn-spills,-warn-lmem-usage")
    image = build(cuda_compile.nvcc(), kernel, capability, *extra, value=value, weight=weight)
    assert image.startswith(b"\x7fELF")


@needs_nvrtc
def test_a_gpu_newer_than_the_compiler_gets_ptx() -> None:
    compiler = cuda_compile.nvrtc()
    newest = compiler.capabilities[-1]
    assert compiler.architecture(newest) == f"sm_{newest}"
    assert compiler.architecture(999) == f"compute_{newest}"
    image = build(compiler, "FORWARD", 999)
    assert b".visible .entry ms_deform_attn(" in image
    with pytest.raises(CompileError, match="cannot compile for compute capability 1.0"):
        compiler.architecture(10)


@pytest.mark.parametrize(
    "find",
    [pytest.param(cuda_compile.nvrtc, marks=needs_nvrtc), pytest.param(cuda_compile.nvcc, marks=needs_nvcc)],
)
def test_a_compiler_error_names_the_first_fault(find: object) -> None:
    compiler: Compiler = find()  # type: ignore[operator]
    with pytest.raises(CompileError, match='error: identifier "nonsense" is undefined'):
        compiler.build("__global__ void f() { nonsense; }", [], "sm_90")


def test_machine_code_is_cached_by_source_options_and_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[tuple[str, list[str], str]] = []

    def build(source: str, options: list[str], architecture: str) -> bytes:
        built.append((source, options, architecture))
        return f"{len(built)}".encode()

    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))
    compiler = Compiler("a compiler", (80, 90), build)
    monkeypatch.setattr(cuda_compile, "find", lambda: compiler)
    source = tmp_path / "kernel.cu"
    source.write_text("one")
    assert cuda_compile.compiled(source, {"A": 1}, 90) == b"1"
    assert cuda_compile.compiled(source, {"A": 1}, 90) == b"1"
    assert cuda_compile.compiled(source, {"A": 2}, 90) == b"2"
    assert cuda_compile.compiled(source, {"A": 1}, 80) == b"3"
    source.write_text("two")
    assert cuda_compile.compiled(source, {"A": 1}, 90) == b"4"
    compiler = dataclasses.replace(compiler, name="a newer compiler")
    assert cuda_compile.compiled(source, {"A": 1}, 90) == b"5"
    assert built[0] == ("one", ["-DA=1"], "sm_90")


ASK = """
import sys, time
from pathlib import Path
from model.ops import cuda_compile

def build(*_):
    with open(sys.argv[1], "a") as log:
        log.write("built\\n")
    time.sleep(0.5)
    return b"machine code"

cuda_compile.find = lambda: cuda_compile.Compiler("slow", (90,), build)
assert cuda_compile.compiled(Path(__file__), {}, 90) == b"machine code"
"""


def test_processes_that_ask_at_once_compile_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))
    script, log = tmp_path / "ask.py", tmp_path / "log"
    script.write_text(ASK)
    command = [sys.executable, str(script), str(log)]
    env = {"PYTHONPATH": str(Path(cuda.__file__).parents[2]), "DETR_CACHE_DIR": str(tmp_path / "cache")}
    asking = [subprocess.Popen(command, env=env) for _ in range(3)]
    assert [process.wait(timeout=120) for process in asking] == [0, 0, 0]
    assert log.read_text() == "built\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_status_says_so() -> None:
    assert cuda.status() == (False, "torch finds no CUDA device")


def test_a_missing_compiler_is_a_status_and_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> bytes:
        raise CompileError("NVRTC was not found, and nvcc was not found")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(cuda_compile, "compiled", missing)
    monkeypatch.setattr(cuda.Device, "of", lambda index: cuda.Device(index, 90, 132))
    assert cuda.status() == (False, "NVRTC was not found, and nvcc was not found")
    monkeypatch.setattr(cuda.Device, "of", lambda index: cuda.Device(index, 75, 132))
    assert cuda.status() == (False, "compute capability 7.5 is older than 8.0")


class FakeDriver:
    """libcuda's calls by name; each returns 0 unless it is the one that fails."""

    def __init__(self, failing: str) -> None:
        self.failing = failing
        self.called: list[str] = []

    def __getattr__(self, name: str) -> object:
        def call(*arguments: object) -> int:
            self.called.append(name)
            if name == "cuGetErrorString":
                pointer = ctypes.cast(arguments[1], ctypes.POINTER(ctypes.c_char_p))  # type: ignore[arg-type]
                pointer[0] = b"no kernel image is available"
            return 209 if name == self.failing else 0

        return call


class NoStream:
    cuda_stream = 0

    def __init__(self, *_: object) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    "failing", ["cuModuleLoadData", "cuModuleGetFunction", "cuCtxGetCurrent", "cuLaunchKernel"]
)
def test_every_failing_driver_call_raises(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published kernels print launch errors and train on with zeros."""
    driver = FakeDriver(failing)
    monkeypatch.setattr(cuda_driver, "_driver", lambda: driver)
    monkeypatch.setattr(cuda_driver, "_context", lambda _: 1234)
    monkeypatch.setattr(torch.cuda, "device", NoStream)
    monkeypatch.setattr(torch.cuda, "current_stream", NoStream)
    with pytest.raises(cuda_driver.CudaError, match=f"{failing} failed with error 209: no kernel image"):
        cuda_driver.Kernel(b"image", "f", 0).launch((1, 1, 1), 32, [ctypes.c_int(1)])
    assert failing in driver.called
