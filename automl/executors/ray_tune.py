"""Trials through Ray Tune, on this machine or a cluster.

Ray only schedules: it finds a machine for each trial and tells us when one is lost. What runs, what stops and what
was scored is the driver's; nothing of Tune's state is kept, and a run is never restored by it. The classes that Tune
calls are in ray_bridge.py, which imports Ray and is imported only here, inside a function.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from automl.errors import UserError
from automl.executors.base import Driver, Executor
from automl.executors.ray_cluster import check_files, connected, environment, machines
from automl.interruption import handlers_kept
from automl.launcher import start_fork_server

LONGEST_FOLDER = 30  # characters: Ray adds 77, and a unix socket's address has room for 107 bytes

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
    finds), and ends it with `run`; else it names a running cluster ("auto" or host:port). `preload`, `say`: see
    `LocalExecutor`. Every other machine starts its own fork server with its first trial. `files`: the run's folder, and
    paths that trials read; where there are several machines, all of them must see these.
    """

    def __init__(
        self,
        concurrency: int | None = None,
        address: str | None = None,
        gpus: Sequence[int | str] | None = None,
        preload: Sequence[str] = (),
        files: tuple[str, Sequence[str]] | None = None,
        say: Callable[[str], Any] = lambda text: None,
    ) -> None:
        if concurrency is not None and concurrency < 1:
            raise UserError(f"concurrency must be at least 1, got {concurrency}")
        if address is not None and address.startswith("ray://"):
            raise UserError(
                f"{address}: the driver of a run must be on a machine of the cluster itself; start it there with "
                "the address auto"
            )
        self.concurrency, self.address, self.gpus, self.files = concurrency, address, gpus, files
        self.say = say
        self._server = start_fork_server(preload)

    def run(self, driver: Driver) -> None:
        """Raises `UserError` when no machine of the cluster can hold a job, or one does not see the run's files."""
        # Ray makes its own folders world-writable, so it gets them in one of mode 0700. The fork server's is also
        # cleared away when this process is killed.
        roomy = len(self._server.plan.folder) <= LONGEST_FOLDER
        folder = tempfile.mkdtemp(prefix="ray-", dir=self._server.plan.folder if roomy else "/tmp")
        try:
            with environment(_TUNE_ENV), connected(self.address, folder, self.gpus):
                self._server.wait_ready(say=self.say)
                if self.files and len(machines()) > 1:
                    check_files(*self.files)
                from automl.executors.ray_bridge import tune_run

                with handlers_kept((signal.SIGUSR1,)):  # Tune takes it for itself and never gives it back
                    own = self.address is None
                    tune_run(driver, self._server.plan, self.concurrency, folder, own)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        self._server.close()
