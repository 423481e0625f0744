"""Compile csrc/ms_deform_attn for this machine, once: a plain C++ library without torch or Python in it, which takes
seconds. Nothing here runs at import."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from filelock import FileLock

from model import bundle_dir
from model.data.cache import cache_dir

FLAGS = ("-O3", "-fPIC", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden")
# One translation unit per instruction set; only these flags differ, and the library picks at run time.
COMMON = {"binding.cpp": (), "cpu_portable.cpp": ()}
X86_64 = {
    "cpu_avx2.cpp": ("-mavx2", "-mfma"),
    "cpu_avx512.cpp": ("-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"),
}
BUILD_TIMEOUT_S = 300


class BuildError(Exception):
    """Why there is no library; one line."""


def source_dir() -> Path:
    return bundle_dir() / "csrc" / "ms_deform_attn"


def units() -> dict[str, tuple[str, ...]]:
    """Source file -> its own flags, for this processor."""
    return COMMON | (X86_64 if platform.machine() in ("x86_64", "AMD64") else {})


def library() -> Path:
    """The compiled library, built now if it is not in the cache. Raises `BuildError`.

    Safe when several processes ask at once: one builds under a lock, into a temporary name, and renames.
    """
    compiler = _compiler()
    target = cache_dir() / "ms_deform_attn" / f"cpu-{_key(compiler)}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.exists():
                _build(compiler, target)
    return target


def _compiler() -> str:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise BuildError(f"no C++ compiler was found (looked for {', '.join(names)})")
    return found


def _key(compiler: str) -> str:
    """Of everything that the library depends on: sources, flags, compiler, torch and the processor's family."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    parts = [version, torch.__version__, platform.machine(), repr(FLAGS), repr(units())]
    parts += [path.read_text() for path in sorted(source_dir().glob("*.*"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _build(compiler: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        objects = {name: str(Path(folder, name).with_suffix(".o")) for name in units()}
        _run_all(
            [compiler, *FLAGS, *own, "-c", str(source_dir() / name), "-o", objects[name]]
            for name, own in units().items()
        )
        built = str(Path(folder, "library.so"))
        _run_all([[compiler, "-shared", "-pthread", *objects.values(), "-o", built]])
        os.replace(built, target)


def _run_all(commands: Iterable[list[str]]) -> None:
    """Run at once; raises `BuildError` with the first compiler message."""
    running = [
        (c, subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        for c in commands
    ]
    failure = None
    for command, process in running:
        try:
            output, _ = process.communicate(timeout=BUILD_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        if process.returncode and failure is None:
            message = next((line for line in output.splitlines() if "error" in line), output.strip()[-200:])
            failure = f"`{' '.join(command)}` failed: {message}"
    if failure:
        raise BuildError(failure)
