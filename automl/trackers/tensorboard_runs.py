"""TensorBoard's files in each trial's folder: `tensorboard --logdir RUN/trials`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from automl.trackers import Run, Trial, flat
from safe_documents import dump_yaml


def check() -> None:
    """Files need nothing more."""


class TensorBoardRun(Run):
    def __init__(self, trial: Trial) -> None:
        from tensorboardX import SummaryWriter

        self.trial = trial
        folder = trial.folder / "tensorboard"
        # A file's name has the second; one opened in the same second would write over it.
        count = len(list(folder.glob("events*")))
        self.writer = SummaryWriter(str(folder), filename_suffix=f".{count}")

    def begin(self) -> None:
        self.writer.add_text("spec", f"```\n{dump_yaml(dict(self.trial.spec))}\n```", 0)

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()

    def end(self, state: str, reason: str, figures: Mapping[str, float]) -> None:
        if figures and state != "PAUSED":
            self._parameters(figures)
        self.writer.add_text("end", f"{state}: {reason}", 0)
        self.writer.close()

    def mark(self, won: bool, report: Path | None) -> None:
        self.writer.add_text("winner", f"the winner; report: {report}" if won else "no longer the winner", 0)
        self.writer.close()

    def _parameters(self, figures: Mapping[str, float]) -> None:
        """What its page of hyperparameters shows."""
        from tensorboardX.summary import hparams

        for summary in hparams(flat(self.trial.params), dict(figures)):
            self.writer.file_writer.add_summary(summary)
        for name, value in figures.items():
            self.writer.add_scalar(name, value, 0)


def open_run(trial: Trial, known: str | None, root: Path) -> Run:
    """`known`: None for a trial that is new to it."""
    run = TensorBoardRun(trial)
    if known is None:
        run.begin()
    run.id = "tensorboard"
    return run
