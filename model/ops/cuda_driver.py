"""The few calls of the CUDA driver that loading and launching a kernel take. Every failure raises `CudaError`."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence

import torch


class CudaError(RuntimeError):
    """A driver call failed: which one, and what the driver says."""


@functools.cache
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise CudaError(f"the NVIDIA driver's libcuda.so.1 could not be loaded: {error}") from error


def _call(name: str, *arguments: object) -> None:
    code = getattr(_driver(), name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(code, ctypes.byref(text))
        raise CudaError(f"{name} failed with error {code}: {(text.value or b'unknown').decode()}")


@functools.cache
def _context(device: int) -> int:
    """torch's context on this device: the primary one."""
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    _call("cuInit", 0)
    _call("cuDeviceGet", ctypes.byref(handle), device)
    _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
    assert context.value is not None
    return context.value


def _enter(device: int) -> None:
    """Make the context current: a thread that has not used CUDA yet has none, and torch's guard sets one lazily."""
    current = ctypes.c_void_p()
    _call("cuCtxGetCurrent", ctypes.byref(current))
    if current.value != _context(device):
        _call("cuCtxSetCurrent", ctypes.c_void_p(_context(device)))


class Kernel:
    """The function `name` of a compiled image (cubin or PTX), loaded on one device for as long as the process lives."""

    def __init__(self, image: bytes, name: str, device: int) -> None:
        self.device = device
        self._module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        with torch.cuda.device(device):
            _enter(device)
            _call("cuModuleLoadData", ctypes.byref(self._module), image)
            _call("cuModuleGetFunction", ctypes.byref(self._function), self._module, name.encode())

    def launch(self, grid: tuple[int, int, int], threads: int, arguments: Sequence[object]) -> None:
        """On torch's current stream of the device. Arguments are ctypes values, in the kernel's order."""
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))  # type: ignore[arg-type]
        with torch.cuda.device(self.device):
            _enter(self.device)
            stream = ctypes.c_void_p(torch.cuda.current_stream(self.device).cuda_stream)
            _call("cuLaunchKernel", self._function, *grid, threads, 1, 1, 0, stream, pointers, None)
