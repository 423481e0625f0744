"""`deformable_detr info` / `python -m model.info`: what this machine will compute with."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "onnx",
    "onnxruntime",
    "tensorrt",
    "tensorrt-rtx",
    "torchao",
)


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def facts() -> dict[str, str]:
    """What matters for speed and for what can be deployed from here, by name."""
    import torch

    from model.ops import live

    found = {name: _version(name) for name in PACKAGES}
    found["CPU"] = f"{cores()} cores, {torch.backends.cpu.get_cpu_capability()}"
    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    found["GPU"] = ", ".join(gpus) or "none"
    found["attention on CPU"] = live("cpu")[1]
    if gpus:
        found["attention on GPU"] = live("cuda")[1]
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def main() -> None:
    found = facts()
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
