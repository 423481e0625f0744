"""One action in several processes: who am I among them, and how their results come together.

The places are torchrun's environment variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE); without them there is
one process. On several machines one process may be started on each, as orchestrators do, with WORLD_SIZE (machines),
NODE_RANK (from 0), MASTER_ADDR and MASTER_PORT alone: `start_ranks` makes torchrun's of them.
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

from model.errors import ProcessEnded, UserError, number_of
from safe_documents import dump_yaml

NODE_NAMES = ("WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
LAUNCH = f"start it once on every machine with {', '.join(NODE_NAMES)} set, or by torchrun"


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
        leave()


def leave() -> None:
    """End the group that a training made and Lightning leaves open. At the exit of a process its threads may still run,
    which ends it by SIGABRT although all is done."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
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
        raise UserError(
            f"{name}.gpu_ids must name {name}.num_gpus = {number_of(count, 'GPU')}, but got {ids}"
        )
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
    """Run an action in one process per GPU that it asks for on this machine, and wait; False, and nothing done, when
    this process is to run it itself: on a CPU, for a single GPU, or because it is one of those processes. Raises
    `UserError` when the spec's machines are not those of the environment, `ProcessEnded` when a process fails."""
    section = spec[action]
    if launched():
        return False
    nodes = _node(section, action)
    on_gpu = section.get("accelerator") != "cpu" and torch.cuda.is_available()
    if section["num_gpus"] == 1 or not on_gpu:
        if section["num_gpus"] > 1:
            print(
                f"warning: {action}.num_gpus is {section['num_gpus']}, but there is no GPU; one process runs"
            )
        if nodes:
            os.environ |= {
                "RANK": nodes[1],
                "WORLD_SIZE": nodes[0],
                "LOCAL_RANK": "0",
                "LOCAL_WORLD_SIZE": "1",
            }
        return False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{action}.yaml"
        path.write_text(dump_yaml(dict(spec)), encoding="utf-8")
        done = subprocess.run(
            torchrun(action, path, gpu_ids(section, action), nodes), env=_environment(spec, action)
        )
    if done.returncode:
        raise ProcessEnded(f"{action}: a process ended with exit code {done.returncode}")
    return True


def _node(section: Mapping[str, Any], action: str) -> tuple[str, str] | None:
    """(machines, this one's number) of an action on several machines, by the environment; None on one machine."""
    wanted, names = section["num_nodes"], [name for name in NODE_NAMES if os.environ.get(name)]
    world = os.environ.get("WORLD_SIZE") or "1"
    if wanted == 1 and (world == "1" or "NODE_RANK" not in names):
        return None
    if len(names) < len(NODE_NAMES):
        lost = ", ".join(name for name in NODE_NAMES if name not in names)
        raise UserError(f"{action}.num_nodes is {wanted}, but the environment has no {lost}: {LAUNCH}")
    node = os.environ["NODE_RANK"]
    if world not in (str(wanted), str(wanted * section["num_gpus"])) or node not in map(str, range(wanted)):
        raise UserError(
            f"{action}.num_nodes is {wanted} and {action}.num_gpus {section['num_gpus']}, but the environment says "
            f"WORLD_SIZE={world} and NODE_RANK={node}: WORLD_SIZE counts machines, NODE_RANK is below it"
        )
    return str(wanted), node


def torchrun(
    action: str, spec_path: Path, gpus: Sequence[int], node: tuple[str, str] | None = None
) -> list[str]:
    """The command line of an action on `gpus`, one process each; `node`: (machines, this one's number)."""
    where = ["--standalone"]
    if node:
        where = [f"--nnodes={node[0]}", f"--node-rank={node[1]}", "--rdzv-backend=static"]
        where += [f"--master-addr={os.environ['MASTER_ADDR']}", f"--master-port={os.environ['MASTER_PORT']}"]
    words = [sys.executable, "-m", "torch.distributed.run", *where, f"--nproc-per-node={len(gpus)}"]
    return [*words, "-m", "model.cli", action, "-e", str(spec_path)]


def _environment(spec: Mapping[str, Any], action: str) -> dict[str, str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    chosen = ",".join(numbers[i] for i in gpu_ids(spec[action], action))
    return os.environ | {"CUDA_VISIBLE_DEVICES": chosen}
