"""A stand-in for a CUDA device: compiles kernels with g++ and cuda_on_cpu.h, and launches them on CPU tensors."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-shared", "-w", "-ffp-contract=off", "-fno-math-errno")
compiler = shutil.which("g++")


@functools.cache
def library(source: Path, kernel: str, defines: tuple[tuple[str, object], ...]) -> ctypes.CDLL:
    """The source with `run`, which launches `kernel`."""
    text = (
        f'#include "{HERE / "cuda_on_cpu.h"}"\n#include "{source}"\n'
        'extern "C" void run(int x, int y, int z, int threads, bool backwards, void** arguments) {\n'
        f"  emulation::launch<{kernel}>(x, y, z, threads, backwards, arguments);\n}}\n"
    )
    macros = [f"-D{name}={value}" for name, value in defines]
    with tempfile.TemporaryDirectory(prefix="cuda_on_cpu") as folder:  # what is loaded outlives its file
        unit, built = Path(folder, "unit.cpp"), Path(folder, "unit.so")
        unit.write_text(text)
        subprocess.run([str(compiler), *FLAGS, *macros, str(unit), "-o", str(built)], check=True)
        return ctypes.CDLL(str(built))


@dataclass(frozen=True)
class Kernel:
    run: Any
    backwards: bool

    def launch(self, grid: tuple[int, int, int], threads: int, arguments: Sequence[Any]) -> None:
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
        self.run(*grid, threads, self.backwards, pointers)


@dataclass(frozen=True)
class Device:
    """In the place of `model.ops.cuda.Device`."""

    source: Path
    capability: int = 90
    multiprocessors: int = 1
    backwards: bool = False  # blocks in reverse order

    def kernel(self, defines: tuple[tuple[str, object], ...]) -> Kernel:
        return Kernel(library(self.source, "ms_deform_attn", defines).run, self.backwards)
