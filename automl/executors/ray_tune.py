"""Trials through Ray Tune, on this machine or a cluster.

Ray only schedules: it finds a machine for each trial and tells us when one is lost. What runs, what stops and what
was scored is the driver's; nothing of Tune's state is kept, and a run is never restored by it. The classes that Tune
calls are in ray_bridge.py, which imports Ray and is imported only here, inside a function.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence

from automl.errors import UserError
from automl.executors.base import Driver, Executor
from automl.launcher import ForkServer, start_fork_server

LONGEST_FOLDER = 30  # characters: Ray adds 77, and a unix socket's address has room for 107 bytes
OBJECT_STORE_BYTES = 80 << 20  # only small dictionaries pass through Ray
_TOKEN = secrets.token_hex(32)  # one per process, since Ray keeps what it has read

_TUNE_ENV = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON, TensorBoard files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C must reach the driver
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "64",  # start several actors at once; the bridge limits how many
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new kind of output does not know how to be silent
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a FutureWarning; the launcher hides GPUs itself
}


class RayTuneExecutor(Executor):
    """As many trials at a time as the machines hold, at most `concurrency`.

    `address` None starts a cluster of this machine alone, bound to 127.0.0.1, on the GPUs `gpus` (None: all that Ray
    finds), and ends it with `run`; else it names a running cluster ("auto" or host:port). Modules `preload`: see
    `LocalExecutor`. Every other machine starts its own fork server with its first trial.
    """

    def __init__(
        self,
        concurrency: int | None = None,
        address: str | None = None,
        gpus: Sequence[int | str] | None = None,
        preload: Sequence[str] = (),
        server: ForkServer | None = None,
    ) -> None:
        if concurrency is not None and concurrency < 1:
            raise UserError(f"concurrency must be at least 1, got {concurrency}")
        if address is not None and address.startswith("ray://"):
            raise UserError(
                f"{address}: the driver of a run must be on a machine of the cluster itself; start it there with "
                "the address auto"
            )
        self.concurrency, self.address, self.gpus = concurrency, address, gpus
        self._server = server or start_fork_server(preload)

    def run(self, driver: Driver) -> None:
        """Raises `UserError` when no machine of the cluster can hold a job."""
        # Ray makes its own folders world-writable, so it gets them in one of mode 0700. The fork server's is also
        # cleared away when this process is killed.
        roomy = len(self._server.plan.folder) <= LONGEST_FOLDER
        folder = tempfile.mkdtemp(prefix="ray-", dir=self._server.plan.folder if roomy else "/tmp")
        try:
            with _environment(_TUNE_ENV), self._cluster(folder):
                self._server.wait_ready()
                from automl.executors.ray_bridge import tune_run

                with _usr1_kept():
                    tune_run(driver, self._server.plan, self.concurrency, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        self._server.close()

    @contextlib.contextmanager
    def _cluster(self, folder: str) -> Iterator[None]:
        """Be connected to the cluster; end what was started here."""
        if self.address is None:
            # Ray binds to every interface unless it takes this for a Windows or macOS machine.
            env = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
            if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"} & os.environ.keys():
                env["RAY_AUTH_TOKEN"] = _TOKEN  # else Ray writes one to ~/.ray/auth_token, readable by all
            if self.gpus is not None:
                env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, self.gpus))
        else:
            env = {}
        with _environment(env):
            import ray

            started_here = not ray.is_initialized()
            if started_here and self.address is None:
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    num_gpus=None if self.gpus is None else len(self.gpus),
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=folder,
                )
            elif started_here:
                ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
            try:
                yield
            finally:
                if started_here:
                    ray.shutdown()


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Set variables; then leave the environment as it was, also where Ray has changed it."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _usr1_kept() -> Iterator[None]:
    """Tune takes SIGUSR1 for itself and never gives it back."""
    before = signal.getsignal(signal.SIGUSR1)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)
