"""MLflow: the study is an experiment, each trial a run of it. MLFLOW_TRACKING_URI says where; without it a database in
the run folder, for `mlflow ui --backend-store-uri sqlite:///RUN/mlflow.db`."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from automl.ending import State
from automl.errors import UserError
from automl.trackers import Run, Trial, flat

if TYPE_CHECKING:
    from automl.report.raster import Picture

PARAMS_AT_ONCE = 100  # what a call takes
LONGEST = 500  # characters of a parameter's value that every store takes
ENDS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED", "PAUSED": "SCHEDULED"}
ANSWER_S = 5.0


def check() -> None:
    """Raises `UserError` when its server does not answer."""
    url = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if url.scheme not in ("http", "https") or not url.hostname:
        return
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    try:
        socket.create_connection((url.hostname, port), timeout=ANSWER_S).close()
    except OSError as error:
        raise UserError(
            f"--log mlflow: no answer from {url.hostname}:{port} (MLFLOW_TRACKING_URI): {error}"
        ) from None


def load() -> None:
    """What `check` need not wait for."""
    from mlflow import MlflowClient, entities  # noqa: F401


class MlflowRun(Run):
    def __init__(self, client: Any, run_id: str) -> None:
        self.client, self.id = client, run_id

    def begin(self, trial: Trial) -> None:
        """Write the configuration: the searched values as parameters by their names, all of it beside them."""
        from mlflow.entities import Param

        whole = flat(trial.spec) | flat(trial.params)
        rows = iter([Param(_named(name), str(value)[:LONGEST]) for name, value in whole.items()])
        while part := list(islice(rows, PARAMS_AT_ONCE)):
            self.client.log_batch(self.id, params=part)

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(_named(k), v, now, epoch) for k, v in values.items()])

    def end(self, state: State, reason: str, figures: Mapping[str, float]) -> None:
        self.client.set_tag(self.id, "state", state)
        self.client.set_tag(self.id, "reason", reason[:LONGEST])
        for name, value in figures.items():
            self.client.log_metric(self.id, _named(name), value)
        self.client.set_terminated(self.id, ENDS[state])

    def mark(self, won: bool, report: Path | None, pictures: Sequence[Picture] = ()) -> None:
        self.client.set_tag(self.id, "winner", str(won).lower())
        if report is not None and report.is_file():
            self.client.log_artifact(self.id, str(report))
        with TemporaryDirectory() as folder:
            for each in pictures:
                path = Path(folder, f"{each.name}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(each.png)
            if pictures:
                self.client.log_artifacts(self.id, folder, "pictures")
        ended = self.client.get_run(self.id).data.tags.get("state", "COMPLETE")
        self.client.set_terminated(self.id, ENDS[ended])


def open_run(trial: Trial, known: str | None, root: Path) -> Run:
    """`known`: its id of the trial's run; None for a trial that is new to it."""
    os.environ.setdefault(
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"
    )  # two lines for each run that ends
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}")
    if known is not None:
        client.update_run(known, status="RUNNING")
        return MlflowRun(client, known)
    tags = {"study": trial.study, "trial": str(trial.number), "mlflow.runName": trial.name}
    made = client.create_run(_experiment(client, trial.study, root), tags=tags, run_name=trial.name)
    run = MlflowRun(client, made.info.run_id)
    run.begin(trial)
    return run


def _experiment(client: Any, study: str, root: Path) -> str:
    found = client.get_experiment_by_name(study)
    if found is not None:
        return str(found.experiment_id)
    own = not os.environ.get("MLFLOW_TRACKING_URI")
    return str(client.create_experiment(study, str(root / "mlflow_files") if own else None))


def _named(name: str) -> str:
    """A name with the characters that every store takes."""
    return re.sub(r"[^\w\-./ ]", "_", name)
