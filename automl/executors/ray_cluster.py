"""A Ray cluster: connecting to it, what its machines have, and whether they see the files of a run. Imports Ray inside
functions only, since it takes seconds."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from automl.errors import Resumable, UserError
from automl.executors.base import ROUNDING, TrialJob, trials_on
from automl.interruption import SIGNALS, handlers_held, waiting

OBJECT_STORE_BYTES = 80 << 20  # only small dictionaries pass through Ray
PROBE_S = 120.0  # for a machine to start a process and look
_TOKEN = secrets.token_hex(32)  # one per process, since Ray keeps what it has read
KNOCK_S = 10.0  # for a connection to be accepted
_UNREACHABLE = (OSError, ValueError, RuntimeError)  # of ray.init, by what is wrong


@contextlib.contextmanager
def connected(address: str | None, folder: str, gpus: Sequence[int | str] | None) -> Iterator[None]:
    """Be connected to the cluster at `address`, or to one of this machine alone, with `gpus`, that ends with it and
    keeps its files in `folder`. Raises `UserError` when no cluster is there."""
    with environment(_environment_of(address, gpus)):
        import ray
        from ray._private import ray_constants

        # Read from the environment when Ray is imported, which may be long ago.
        ray_constants.ENABLE_RAY_CLUSTER = address is not None and sys.platform == "linux"
        if ray.is_initialized():
            yield
            return
        with waiting(), handlers_held(SIGNALS):  # Ray's own for SIGTERM ends in std::terminate, or in silence
            _begin(address, folder, gpus)
        try:
            with _short_messages():
                yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _short_messages() -> Iterator[None]:
    """Of what Ray tells of its own processes, the first line: it adds the end of their logs. Ray has no setting for
    that; a version without this function shows all."""
    from ray._private import worker

    whole = getattr(worker, "print_to_stdstream", None)
    if whole is None:
        yield
        return

    def first_line(data: dict[str, Any], *args: Any, **named: Any) -> None:
        lines = [str(line).partition("\n")[0] for line in data["lines"]]
        whole(data | {"lines": lines}, *args, **named)

    worker.print_to_stdstream = first_line
    try:
        yield
    finally:
        worker.print_to_stdstream = whole


def _environment_of(address: str | None, gpus: Sequence[int | str] | None) -> dict[str, str]:
    if address is not None:
        return {}
    # Ray binds to every interface unless it takes this for a Windows or macOS machine.
    env = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"} & os.environ.keys():
        env["RAY_AUTH_TOKEN"] = _TOKEN  # else Ray writes one to ~/.ray/auth_token, readable by all
    if gpus is not None:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
    return env


def _begin(address: str | None, folder: str, gpus: Sequence[int | str] | None) -> None:
    import ray

    if address is None:
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                num_gpus=None if gpus is None else len(gpus),
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=folder,
            )
        except Exception as error:  # Ray raises it bare, where an overloaded machine is too slow for it
            raise Resumable(
                f"Ray did not start on this machine ({_reason(error)}); --executor local does without it"
            ) from None
        return
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (*_UNREACHABLE, ray.exceptions.RayError) as error:
        raise UserError(
            f"--ray-address {_printable(address)}: no Ray cluster can be used there ({_reason(error)}); start one on "
            "this machine by ray start --head, or leave the address out (RAY_ADDRESS too)"
        ) from None


def _reason(error: Exception) -> str:
    return _printable(str(error).strip().partition("\n")[0])


def _printable(text: str) -> str:
    """On one line, without what no terminal shows: a damaged run.json may hold anything."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _knock(address: str) -> None:
    """Raises `OSError` at once where Ray would try for minutes: nobody listens at host:port."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), KNOCK_S).close()


def gpus_of(address: str) -> int:
    """How many GPUs the machines of a running cluster have in all. Raises `UserError` when there is no cluster."""
    with connected(address, "", None):
        return int(sum(machine["Resources"].get("GPU", 0) for machine in machines()))


def machines() -> list[dict[str, Any]]:
    """The living machines of the connected cluster, as Ray describes them."""
    import ray

    return [machine for machine in ray.nodes() if machine["Alive"]]


def resources(job: TrialJob) -> dict[str, float]:
    """What Ray is to set aside for a job."""
    return {"CPU": job.cpus} | ({"GPU": job.num_gpus} if job.num_gpus else {})


def places(job: TrialJob) -> int:
    """How many jobs like this one all machines together hold."""
    return sum(_places(machine["Resources"], job) for machine in machines())


def _places(has: dict[str, float], job: TrialJob) -> int:
    """On one machine."""
    by_cpu = int(has.get("CPU", 0) / job.cpus + ROUNDING)
    if not job.num_gpus:
        return by_cpu
    return min(by_cpu, trials_on(int(has.get("GPU", 0)), job.num_gpus))


def check_files(run: str, paths: Iterable[str]) -> None:
    """Look from every machine for the run's folder, the working directory and these files and folders. Raises
    `UserError` naming the machines that miss some."""
    mark = Path(run).resolve() / f".seen-{secrets.token_hex(8)}"  # the very folder, not one of the same name
    mark.touch()
    try:
        found = _ask_all([os.getcwd(), str(mark.parent), *map(os.path.abspath, paths), str(mark)])
    finally:
        mark.unlink(missing_ok=True)
    another = {str(mark): f"{mark.parent} (it has another of this name)"}
    problems = [
        f"{name} does not see {', '.join(another.get(path, path) for path in lost[:5])}"
        + (f" and {len(lost) - 5} more" if lost[5:] else "")
        for name, lost in found.items()
        if lost
    ]
    if problems:
        raise UserError(
            "a run on several machines needs its working directory, data and results on a file system that all of "
            "them share:\n" + "\n".join(problems)
        )


def _ask_all(paths: list[str]) -> dict[str, list[str]]:
    """Machine -> what it misses of `paths`."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0)(missing)
    asked = {
        f"{machine['NodeManagerHostname']} ({machine['NodeManagerAddress']})": look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(machine["NodeID"], soft=False)
        ).remote(paths)
        for machine in machines()
    }
    try:
        return {name: ray.get(answer, timeout=PROBE_S) for name, answer in asked.items()}
    except (ray.exceptions.RayError, TimeoutError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise Resumable(f"a machine of the cluster could not look for the run's files: {reason}") from None


def missing(paths: list[str]) -> list[str]:
    """Of these, what does not exist here; below a folder that is missing, only that folder."""
    lost = [path for path in paths if not os.path.exists(path)]
    return [path for path in lost if not any(path.startswith(other + os.sep) for other in lost)]


@contextlib.contextmanager
def environment(changes: dict[str, str]) -> Iterator[None]:
    """Set variables; then leave the environment as it was, also where Ray has changed it."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
