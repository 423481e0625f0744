"""The best so far, handed over while a run goes on, or after it has stopped: nothing else of the run is written, and
its lock is left alone."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from automl import restored_plan
from automl.checkpoints import choose_winner
from automl.errors import UserError
from automl.handoff import Outcome, hand_over_to
from automl.locks import alone, is_running
from automl.programs import command
from automl.rundir import RunDir, clear_temporaries
from automl.storage import load_study
from automl.trials import Trials

if TYPE_CHECKING:
    from automl.plan import Plan
    from automl.progress import Progress

TRIES = 3  # the driver may find a better trial, and delete a checkpoint, between a look and a copy
BEHIND = 10  # niceness of what runs beside a search


def export(root: Path, progress: Progress) -> Outcome:
    """Hand over the best trial there is to a folder of its own, `so_far/<trial>_epoch_<epoch>`, and run the stages that
    do not compare, without a GPU. Raises `UserError` when no trial has a metric yet."""
    root = root.resolve()
    plan = restored_plan.restore(RunDir(root), {"executor": "local"}, searching=False)
    plan.machine = replace(plan.machine, gpus=(), gpus_per_trial=0)
    plan.stages = tuple(stage for stage in plan.stages if not stage.default_too)
    if is_running(root):
        os.nice(BEHIND)
    for _ in range(TRIES - 1):
        try:
            return _once(plan, root, progress)
        except FileNotFoundError:
            continue
    return _once(plan, root, progress)


def _once(plan: Plan, root: Path, progress: Progress) -> Outcome:
    study = load_study(RunDir(root).read_run(), root)
    chosen = choose_winner(study, Trials(plan, RunDir(root))) if study else None
    if study is None or chosen is None:
        raise UserError(f"{root}: no trial has a metric yet; see {command('status', root)}")
    run = RunDir(root, f"so_far/{chosen.best.number:04d}_epoch_{chosen.best.epoch + 1}")
    busy = f"{run.best.parent}: another automl best --export is at work there; wait for its end"
    with alone(run.best.parent / ".lock", busy):  # two at once would each write what the other does
        clear_temporaries(run.best.parent)
        return hand_over_to(plan, study, run, progress)
