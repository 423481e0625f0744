"""Weights & Biases: a run for each trial, the study as their group. WANDB_PROJECT and WANDB_ENTITY say where;
WANDB_MODE=offline keeps everything in the run folder, for `wandb sync`."""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from automl.errors import UserError
from automl.trackers import Run, Trial

PROJECT = "automl"


def check() -> None:
    """Raises `UserError` when nobody is logged in and it is not offline."""
    if _is_offline() or os.environ.get("WANDB_API_KEY") or _has_login():
        return
    raise UserError("--log wandb: nobody is logged in; run wandb login, or set WANDB_MODE=offline")


def _is_offline() -> bool:
    return os.environ.get("WANDB_MODE", "online") in ("offline", "dryrun", "disabled")


def _has_login() -> bool:
    """`wandb login` keeps its key in netrc."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WandbRun(Run):
    def __init__(self, trial: Trial, root: Path) -> None:
        import wandb

        self.id = re.sub(r"[^\w-]", "-", f"{trial.study}-{trial.number:04d}")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), id=self.id, name=trial.name, group=trial.study,
            job_type="trial", config=dict(trial.spec), dir=str(root), reinit="create_new",
            tags=["default"] if trial.name.endswith("(default)") else None,
            resume=None if _is_offline() else "allow",
            settings=wandb.Settings(console="off", silent=True),
        )  # fmt: skip

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        self.run.log({**values, "epoch": epoch}, step=epoch)

    def end(self, state: str, reason: str, figures: Mapping[str, float]) -> None:
        self.run.summary.update({"state": state, "why it ended": reason, **figures})
        self.run.finish(exit_code=1 if state == "FAIL" else 0)

    def mark(self, won: bool, report: Path | None) -> None:
        import wandb

        tags = set(self.run.tags or ()) - {"winner"}
        self.run.tags = tuple(sorted(tags | {"winner"} if won else tags))
        self.run.summary["winner"] = won
        if report is not None and report.is_file():
            self.run.log({"report": wandb.Html(str(report), inject=False)})
        self.run.finish()


def open_run(trial: Trial, known: str | None, root: Path) -> Any:
    """Its id follows from the study and the trial's number: a run that is known goes on."""
    return WandbRun(trial, root)
