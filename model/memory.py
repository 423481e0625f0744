"""Out of memory: told apart from other errors, and what a training can do then."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import torch

_WORDS = (
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "can't allocate memory",
)  # of plain RuntimeErrors


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU, or the CPU's allocator, had no more to give."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def more_parts(batch: int, parts: int) -> int | None:
    """Into how many equal parts to cut a batch that is too large in `parts`: the fewest that at least halve a part;
    None when a part is one image already."""
    sizes = [size for size in range(1, batch // parts // 2 + 1) if batch % size == 0]
    return batch // sizes[-1] if sizes else None


def free() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def advice(spec: Mapping[str, Any], detail: str) -> str:
    """What to change in a train spec that does not fit even image by image, or runs in several processes."""
    batch = spec["dataset"]["batch_size"]
    wishes = [f"try dataset.batch_size={batch // 2}" if batch > 1 else "try smaller images"]
    wishes += [] if spec["train"]["activation_checkpoint"] else ["train.activation_checkpoint=true"]
    wishes += ["train.precision=bf16"] if spec["train"]["precision"] == "fp32" else []
    return f"out of memory at dataset.batch_size={batch}: {', or '.join(wishes)}. {detail}"
