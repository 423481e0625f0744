"""Compile a CUDA source file for one kind of GPU, once: with NVRTC, which pip's torch brings along, else with nvcc.

No CUDA toolkit, no headers and no GPU are needed. The result lies in a cache, keyed by all it depends on.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from model.data.cache import cache_dir

OPTIONS = ("-std=c++17",)
NVCC_TIMEOUT_S = 300


class CompileError(RuntimeError):
    """Why there is no machine code; the compiler's first message."""


@dataclass(frozen=True)
class Compiler:
    """`build(source, options, architecture)` gives a cubin for "sm_90", PTX for "compute_90"."""

    name: str
    capabilities: tuple[int, ...]  # 90 for sm_90; all that it knows, ascending
    build: Callable[[str, list[str], str], bytes]

    def architecture(self, capability: int) -> str:
        """Machine code for this GPU; PTX, which the driver compiles, where the compiler is older than the GPU."""
        if capability in self.capabilities:
            return f"sm_{capability}"
        older = [known for known in self.capabilities if known < capability]
        if not older:
            raise CompileError(f"{self.name} cannot compile for compute capability {capability / 10:.1f}")
        return f"compute_{older[-1]}"


def compiled(source: Path, defines: Mapping[str, object], capability: int) -> bytes:
    """The source's machine code for a GPU of this compute capability (90 for 9.0), from the cache or made now.

    Safe when several processes ask at once: one compiles under a lock, into a temporary name, and renames.
    Raises `CompileError`.
    """
    compiler = find()
    text, architecture = source.read_text(), compiler.architecture(capability)
    options = [f"-D{name}={value}" for name, value in sorted(defines.items())]
    key = hashlib.sha256("\0".join([text, *options, *OPTIONS, architecture, compiler.name]).encode())
    target = cache_dir() / "ms_deform_attn" / f"cuda-{architecture}-{key.hexdigest()[:24]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.exists():
                _write(target, compiler.build(text, options, architecture))
    return target.read_bytes()


def _write(target: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.replace(temporary, target)


@functools.cache
def find() -> Compiler:
    """NVRTC, else nvcc. Raises `CompileError`."""
    try:
        return nvrtc()
    except CompileError as missing:
        try:
            return nvcc()
        except CompileError as error:
            raise CompileError(f"{missing}, and {error}") from error


# NVRTC -----------------------------------------------------------------------------------------------------------
def nvrtc() -> Compiler:
    library = _load_nvrtc()
    major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    capabilities = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(capabilities)
    return Compiler(
        f"NVRTC {major.value}.{minor.value}",
        tuple(sorted(capabilities)),
        functools.partial(_build_with_nvrtc, library),
    )


def _load_nvrtc() -> ctypes.CDLL:
    """From pip's NVIDIA packages, which bring the file of builtins beside it, else from the system."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    wheels = (sorted(folder.glob("*/lib/libnvrtc.so.*"), reverse=True) for folder in folders)
    for name in [*(str(path) for found in wheels for path in found), *_system_names()]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise CompileError("NVRTC was not found (pip's CUDA builds of torch bring it)")


def _system_names() -> list[str]:
    import torch

    major = (torch.version.cuda or "").partition(".")[0]
    return [f"libnvrtc.so.{major}", "libnvrtc.so"] if major else ["libnvrtc.so"]


def _build_with_nvrtc(library: ctypes.CDLL, source: str, options: list[str], architecture: str) -> bytes:
    flags = [f"--gpu-architecture={architecture}", *OPTIONS, *options]
    program = ctypes.c_void_p()
    if library.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"ms_deform_attn.cu", 0, None, None
    ):
        raise CompileError("NVRTC could not start")
    try:
        failed = library.nvrtcCompileProgram(
            program, len(flags), (ctypes.c_char_p * len(flags))(*map(str.encode, flags))
        )
        if failed:
            raise CompileError(f"NVRTC: {_first_error(_fetch(library, program, 'ProgramLog').decode())}")
        return _fetch(library, program, "CUBIN" if architecture.startswith("sm_") else "PTX")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _fetch(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    library[f"nvrtcGet{what}Size"](program, ctypes.byref(size))
    data = ctypes.create_string_buffer(size.value)
    if library[f"nvrtcGet{what}"](program, data):
        raise CompileError(f"NVRTC gave no {what}")
    return data.raw


# nvcc ------------------------------------------------------------------------------------------------------------
def nvcc() -> Compiler:
    home = os.environ.get("CUDA_HOME") or "/usr/local/cuda"
    path = shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin")
    if path is None:
        raise CompileError("nvcc was not found (looked in PATH, CUDA_HOME and /usr/local/cuda)")
    codes = _output([path, "--list-gpu-code"]).split()
    version = _output([path, "--version"]).strip().splitlines()[-1]
    known = sorted({int(code.removeprefix("sm_")) for code in codes if code.removeprefix("sm_").isdigit()})
    return Compiler(f"nvcc {version}", tuple(known), functools.partial(_build_with_nvcc, path))


def _build_with_nvcc(path: str, source: str, options: list[str], architecture: str) -> bytes:
    kind = "-cubin" if architecture.startswith("sm_") else "-ptx"
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "kernel.cu"), Path(folder, "made")
        given.write_text(source)
        _output([path, f"-arch={architecture}", kind, *OPTIONS, *options, str(given), "-o", str(made)])
        return made.read_bytes()


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NVCC_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"`{command[0]}` could not run: {error}") from error
    if done.returncode:
        raise CompileError(f"`{' '.join(command)}`: {_first_error(done.stderr + done.stdout)}")
    return done.stdout


def _first_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next(
        (line for line in lines if "error" in line), lines[-1] if lines else "failed without a message"
    )
