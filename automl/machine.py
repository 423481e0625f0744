"""What trials run on, and how many at a time: settled from the request, the spec and the machine or cluster."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl import spec
from automl.bundle import ModelBundle
from automl.errors import UserError
from automl.executors.base import trials_on
from automl.metric import counted
from automl.request import AUTO, RunRequest

MOST_ON_ONE = 8  # trials on a GPU, where their number is measured
CORES_EACH = 2  # for a trial's loaders, then
GROWTH = 1.5  # other configurations may take so many times the memory of the first
NUM_GPUS = "train.num_gpus"  # how many a training takes, where a model names no key for it
CONTEXT_MB = 700  # of a GPU's memory that a process takes beside its tensors


@dataclass(frozen=True)
class Machine:
    """What trials run on. `gpus`: as CUDA_VISIBLE_DEVICES names them; `gpus_per_trial` is 0 on a machine without, and
    below 1 where several trials share one. `concurrency` 0: as many as the cluster holds. `measured`: each takes a
    whole GPU until the first trial's memory is known, then the share that follows from it (`share_of`)."""

    gpus: tuple[int | str, ...]
    gpus_per_trial: float
    cpus_per_trial: float
    concurrency: int
    measured: bool = False


def share_of(reading: Mapping[str, float]) -> float:
    """Of a GPU, for a trial that says it takes `memory_mb` of the GPU's `memory_total_mb`; 1 where it says neither."""
    taken, total = reading.get("memory_mb", 0.0), reading.get("memory_total_mb", 0.0)
    if not (taken > 0 and total > 0):
        return 1.0
    return 1.0 / min(MOST_ON_ONE, max(1, int(total / (GROWTH * taken + CONTEXT_MB))))


def find_machine(
    request: RunRequest, base: Mapping[str, Any], sources: Mapping[str, str], model: ModelBundle
) -> tuple[Machine, list[str]]:
    """The machine, and what a person should know of it. On a cluster (`--ray-address`) Ray knows better.

    Raises `UserError` for a training on several machines, GPUs that are not there, shares that cannot be.
    """
    _check_nodes(base, model)
    cpus = request.cpus_per_trial
    if cpus is not None and not (0 < cpus < 1 or (cpus > 0 and cpus % 1 == 0)):
        raise UserError(f"--cpus-per-trial must be a whole number or a share below 1, but got {cpus:g}")
    if cpus is not None and cpus > cores() and not request.ray_address:
        raise UserError(
            f"--cpus-per-trial {cpus:g} is more than the {counted(cores(), 'core')} that this process may use; "
            f"give {cores()} "
            "or less"
        )
    wanted = 0 if model.wants_cpu(base) else _gpus_per_trial(request, base, model)
    ids = _ids(base, sources, model, wanted)
    if request.ray_address:
        return _cluster(request, wanted, ids, model), []
    visible = visible_gpus() if wanted else ()
    gpus = _chosen(visible, ids, model) if visible else ()
    if not gpus:
        over = request.gpus_per_trial is not None
        return _cores(request), ["--gpus-per-trial is passed over: trials run on CPUs here"] if over else []
    if wanted > len(gpus):
        raise UserError(
            f"{gpu_key(base, model)} is {wanted:g}, but this run may use {counted(len(gpus), 'GPU')}"
        )
    fewer = len(gpus) < len(visible)
    notes = (
        [f"{model.skill['gpu_ids_key']} keeps this run to {len(gpus)} of {counted(len(visible), 'GPU')}"]
        if fewer
        else []
    )
    most, measured = trials_on(len(gpus), wanted), request.gpus_per_trial == AUTO
    if measured:
        most = min(MOST_ON_ONE * len(gpus), max(len(gpus), cores() // CORES_EACH))
    at_a_time = request.concurrency or most
    cpus = request.cpus_per_trial or _share_of_cores(at_a_time)
    return Machine(gpus, wanted, cpus, at_a_time, measured), notes


def gpu_key(base: Mapping[str, Any], model: ModelBundle) -> str | None:
    """The spec key that says how many GPUs a training takes; None where it always takes one."""
    if key := model.skill.get("gpu_spec_key"):
        return str(key)
    return NUM_GPUS if spec.get(base, NUM_GPUS) is not None else None


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cores(request: RunRequest) -> Machine:
    """Trials on CPUs: one with all cores, unless it is said otherwise."""
    asked = request.cpus_per_trial
    at_a_time = request.concurrency or (max(1, int(cores() / asked)) if asked else 1)
    return Machine((), 0, asked or _share_of_cores(at_a_time), at_a_time)


def _share_of_cores(at_a_time: int) -> float:
    """Whole cores, as Ray wants them, where there is one for each."""
    return cores() // at_a_time or cores() / at_a_time


def _cluster(request: RunRequest, wanted: float, ids: list[Any] | None, model: ModelBundle) -> Machine:
    """Trials take GPUs where the cluster has some."""
    from automl.executors.ray_cluster import gpus_of

    assert request.ray_address
    if wanted and ids is not None:
        raise UserError(
            f"{model.skill['gpu_ids_key']} names GPUs of one machine; on a cluster, start Ray on each machine with "
            "CUDA_VISIBLE_DEVICES set to those it may use"
        )
    if wanted and not gpus_of(request.ray_address):
        wanted = 0
    measured = bool(wanted) and request.gpus_per_trial == AUTO
    return Machine((), wanted, request.cpus_per_trial or 1, request.concurrency or 0, measured)


def _check_nodes(base: Mapping[str, Any], model: ModelBundle) -> None:
    key = model.skill.get("nodes_key")
    nodes = spec.get(base, key) if key else None
    if isinstance(nodes, int) and nodes > 1:
        raise UserError(
            f"{key} is {nodes}, but a trial runs on one machine: set it to 1 (on a cluster, --ray-address, several "
            "trials run at a time), or start the model's own train command on every machine"
        )


def _gpus_per_trial(request: RunRequest, base: Mapping[str, Any], model: ModelBundle) -> float:
    """What the spec says, or the share asked for."""
    key, share = gpu_key(base, model), request.gpus_per_trial
    in_spec = spec.get(base, key) if key else None
    wanted = in_spec if isinstance(in_spec, int) and in_spec > 0 else 1
    if share is None or share == wanted:
        return wanted
    if share == AUTO and wanted != 1:
        raise UserError(f"--gpus-per-trial {AUTO} does not go with {key}={wanted}; set that to 1")
    if isinstance(share, str):
        return wanted
    if not (math.isfinite(share) and 0 < share < 1):
        several = f"for several a trial: --set {key}=N" if key else "this model trains on one GPU"
        raise UserError(f"--gpus-per-trial must be a share of one, below 1, but got {share:g}; {several}")
    if wanted != 1:
        raise UserError(f"--gpus-per-trial {share:g} does not go with {key}={wanted}; set that to 1")
    return share


def _ids(
    base: Mapping[str, Any], sources: Mapping[str, str], model: ModelBundle, wanted: float
) -> list[Any] | None:
    """The GPUs that a person has named in the spec, None for no choice. A template's list, or a shorter one than a
    trial takes, is none (TAO's [0] stands for the first ones)."""
    key = model.skill.get("gpu_ids_key")
    ids = spec.get(base, key) if key else None
    if not isinstance(ids, list) or sources.get(str(key), spec.TEMPLATE) == spec.TEMPLATE:
        return None
    return ids if len(ids) >= wanted or ids != spec.get(model.template("train"), str(key)) else None


def _chosen(
    visible: tuple[int | str, ...], ids: list[Any] | None, model: ModelBundle
) -> tuple[int | str, ...]:
    """Of the visible GPUs, those named by their places, from 0."""
    if ids is None:
        return visible
    known = range(len(visible))
    if len(set(map(str, ids))) != len(ids) or any(isinstance(i, bool) or i not in known for i in ids):
        raise UserError(
            f"{model.skill['gpu_ids_key']} must name different GPUs of 0 to {len(visible) - 1}, those that this "
            f"process may use, but got {ids}"
        )
    return tuple(visible[i] for i in ids)


def visible_gpus() -> tuple[int | str, ...]:
    """The NVIDIA GPUs this process may use, as CUDA_VISIBLE_DEVICES names them, found without importing torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")]
        end = next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
        return tuple(names[:end])
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(range(listing.stdout.count("GPU "))) if listing.returncode == 0 else ()


def hardware() -> dict[str, str]:
    """What this machine is, in words: system, processor, cores, memory, GPUs."""
    found = {
        "system": platform.platform(terse=True),
        "processor": f"{_processor()}, {cores()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
    }
    if names := _gpu_names():
        found["GPUs"] = ", ".join(names)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpu_names() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return listing.stdout.splitlines() if listing.returncode == 0 else []
