"""Weights & Biases: a run for each trial, the study as their group. WANDB_PROJECT and WANDB_ENTITY say where;
WANDB_MODE=offline keeps everything in the run folder, for `wandb sync`."""

from __future__ import annotations

import io
import netrc
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from automl.ending import State
from automl.errors import UserError
from automl.trackers import Run, Trial

if TYPE_CHECKING:
    from automl.report.raster import Picture

PROJECT = "automl"


def check() -> None:
    """Raises `UserError` when nobody is logged in and it is not offline."""
    if _is_offline() or os.environ.get("WANDB_API_KEY") or _has_login():
        return
    raise UserError("--log wandb: nobody is logged in; run wandb login, or set WANDB_MODE=offline")


def load() -> None:
    """What `check` need not wait for."""
    import wandb  # noqa: F401


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
    """Offline it stays open until the end: what is opened twice lies in two files."""

    kept: ClassVar[dict[str, Any]] = {}  # offline: W&B's runs by their id

    def __init__(self, trial: Trial, root: Path) -> None:
        self.id = re.sub(r"[^\w-]", "-", f"{trial.study}-{trial.number:04d}")
        self.run = self.kept.get(self.id) or self._begun(trial, root)
        if _is_offline():
            self.kept[self.id] = self.run

    def _begun(self, trial: Trial, root: Path) -> Any:
        import wandb

        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), id=self.id, name=trial.name, group=trial.study,
            job_type="trial", config=dict(trial.spec), dir=str(root), reinit="create_new",
            tags=["default"] if trial.name.endswith("(default)") else None,
            resume=None if _is_offline() else "allow",
            # Without x_disable_meta the command line goes there, and a secret may stand in it.
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True),
        )  # fmt: skip

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        self.run.log({**values, "epoch": epoch}, step=epoch)

    def end(self, state: State, reason: str, figures: Mapping[str, float]) -> None:
        self.run.summary.update({"state": state, "reason": reason, **figures})
        self._finish(exit_code=1 if state == "FAIL" else 0)

    def mark(self, won: bool, report: Path | None, pictures: Sequence[Picture] = ()) -> None:
        import wandb
        from PIL import Image

        tags = set(self.run.tags or ()) - {"winner"}
        self.run.tags = tuple(sorted(tags | {"winner"} if won else tags))
        self.run.summary["winner"] = won
        shown: dict[str, Any] = {}
        if report is not None and report.is_file():
            shown["report"] = wandb.Html(str(report), inject=False)
        if pictures:
            shown["pictures"] = [wandb.Image(Image.open(io.BytesIO(p.png)), caption=p.name) for p in pictures]
        if shown:
            self.run.log(shown)
        self._finish()

    def _finish(self, exit_code: int = 0) -> None:
        if self.id not in self.kept:
            self.run.finish(exit_code=exit_code)


def close() -> None:
    """End what is still open, as W&B itself does when a program ends; what cannot be ended is told after the others."""
    failed = None
    while WandbRun.kept:
        try:
            WandbRun.kept.popitem()[1].finish()
        except Exception as error:
            failed = error
    if failed is not None:
        raise failed


def open_run(trial: Trial, known: str | None, root: Path) -> Any:
    """Its id follows from the study and the trial's number: a run that is known goes on."""
    return WandbRun(trial, root)
