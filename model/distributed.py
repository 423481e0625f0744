"""One action in several processes: who am I among them, and how their results come together.

The places are torchrun's environment variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE); without them there is
one process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from model.errors import ModelError, UserError
from safe_documents import dump_yaml


def place() -> tuple[int, int]:
    """(rank, number of processes) of the process group, (0, 1) without one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def gather(items: list[Any]) -> list[Any]:
    """The lists of all ranks, one after the other, on every rank."""
    _, world = place()
    if world == 1:
        return items
    parts: list[Any] = [None] * world
    torch.distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]


@contextmanager
def group() -> Iterator[tuple[int, int]]:
    """(rank, number of processes); joins the group that torchrun's variables describe and leaves it afterwards."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or torch.distributed.is_initialized():
        yield place()
        return
    torch.distributed.init_process_group("gloo")  # only results travel, from memory to memory
    try:
        yield place()
    finally:
        torch.distributed.destroy_process_group()


def launched() -> bool:
    """Whether a launcher has started this process as one of several."""
    return "LOCAL_RANK" in os.environ


def gpu_ids(section: Mapping[str, Any], name: str) -> list[int]:
    """The GPUs that <name>.num_gpus and <name>.gpu_ids ask for. gpu_ids left at [0] means the first num_gpus.
    Raises `UserError` when the two contradict each other, or a GPU is not there."""
    count, ids = section["num_gpus"], list(section["gpu_ids"])
    if ids == [0]:
        ids = list(range(count))
    if len(ids) != count or len(set(ids)) != count:
        raise UserError(f"{name}.gpu_ids must name {name}.num_gpus = {count} GPUs, but got {ids}")
    there = torch.cuda.device_count()
    if there and (missing := [i for i in ids if not 0 <= i < there]):
        raise UserError(f"{name}.gpu_ids: no GPU {missing}; torch finds {there}, numbered from 0")
    return ids


def device(section: Mapping[str, Any], name: str) -> torch.device:
    """Where this process computes: its own among the GPUs asked for, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if launched():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    return torch.device("cuda", gpu_ids(section, name)[0])


def start_ranks(spec: Mapping[str, Any], action: str) -> bool:
    """Run an action in one process per GPU that it asks for, and wait; False, and nothing done, when this process is
    to run it itself: on a CPU, for a single GPU, or because it is one of those processes."""
    section = spec[action]
    if launched() or section["num_gpus"] == 1:
        return False
    if not torch.cuda.is_available():
        print(f"warning: {action}.num_gpus is {section['num_gpus']}, but there is no GPU; one process runs")
        return False
    if section["num_nodes"] > 1:
        raise UserError(f"{action}.num_nodes is {section['num_nodes']}: start it on every node with torchrun")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{action}.yaml"
        path.write_text(dump_yaml(dict(spec)))
        done = subprocess.run(
            torchrun(action, path, gpu_ids(section, action)), env=_environment(spec, action)
        )
    if done.returncode:
        raise ModelError(f"{action}: a process ended with exit code {done.returncode}")
    return True


def torchrun(action: str, spec_path: Path, gpus: Sequence[int]) -> list[str]:
    """The command line of an action on `gpus`, one process each."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(gpus)}"]
    return [*words, "-m", "model.cli", action, "-e", str(spec_path)]


def _environment(spec: Mapping[str, Any], action: str) -> dict[str, str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    chosen = ",".join(numbers[i] for i in gpu_ids(spec[action], action))
    return os.environ | {"CUDA_VISIBLE_DEVICES": chosen}
