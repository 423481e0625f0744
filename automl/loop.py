"""The main path of a run.

 1  prepare      request -> plan: bundle, base spec, data facts, search space, machine      (plan.py)
 2  open         the run folder under its lock, the storage, the study                      (rundir, storage)
 3  adopt        trials a dead driver left RUNNING go on from their last checkpoint
 4  ask          the default configuration first, then what the sampler proposes            (study.py)
 5  write        trials/0007/spec.yaml, the whole spec, checked before anything starts
 6  start        the executor runs it                                                       (executors/)
 7  report       each line of metrics.jsonl goes to the storage
 8  decide       the scheduler lets the trial go on or stops it                             (schedulers.py)
 9  tell         COMPLETE, PRUNED or FAIL, with the reason; back to 4 until the budget is used
10  choose       the best COMPLETE trial, ties to the lower number
11  hand over    its whole configuration into the later actions' specs                      (handoff.py)
12  finish       evaluate winner and default on the test set, export, build the engine
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import handoff, schedulers, spec
from automl.errors import AutoMLError, UserError
from automl.executors.base import Decision, Executor, Exit, TrialJob
from automl.interruption import interruptible
from automl.plan import Plan, check_spec, prepare
from automl.provenance import versions
from automl.request import RunRequest
from automl.rundir import RunDir, write_text, write_yaml
from automl.storage import RunLock, open_storage
from automl.study import Study, best_epoch

if TYPE_CHECKING:
    from automl.progress import Progress

MAX_STARTS = 2  # a crashed trial is started once more, from its last checkpoint
HOPELESS = 3  # so many failures before any trial has got through an epoch end the run
KEPT_TRIALS = 3  # checkpoints are kept of so many best COMPLETE trials, and of the default


class SearchDriver:
    """What an executor calls (executors/base.py `Driver`): hands out jobs, takes in records and exits."""

    def __init__(
        self,
        plan: Plan,
        study: Study,
        run: RunDir,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan, self.study, self.run, self.progress, self.clock = plan, study, run, progress, clock
        self.scheduler = schedulers.make(plan.request.scheduler if plan.searching else "none")
        self.pending: deque[TrialJob] = deque()
        self.verdicts: dict[int, tuple[str, str]] = {}  # trials told to stop: (state, reason)
        self.epochs_of: dict[int, int] = {}
        self.failures: list[str] = []
        self.started_at = clock()
        self.used_before_s = study.elapsed_s()

    # ---- what the executor asks -------------------------------------------------------------------------

    def next_job(self) -> TrialJob | None:
        if self.deadline_passed():
            return None
        if self.pending:
            return self.pending.popleft()
        if self._budget_used():
            return None
        number, params = self.study.ask()
        job = self._job(number, params)
        self.progress.started(number, params, self.epochs_of[number])
        return job

    def finished(self) -> bool:
        return not self.pending and self._budget_used()

    def deadline_passed(self) -> bool:
        limit = self.plan.request.time_s
        return limit is not None and self.elapsed_s() >= limit

    def on_record(self, number: int, record: dict[str, Any]) -> Decision:
        verdict = self._judge(number, record)
        if verdict:
            self.verdicts[number] = verdict
        self.study.set_elapsed_s(self.elapsed_s())
        return Decision.STOP if verdict else Decision.CONTINUE

    def on_exit(self, number: int, exit: Exit) -> None:
        self.study.set_elapsed_s(self.elapsed_s())
        if number in self.verdicts:
            state, reason = self.verdicts.pop(number)
        elif exit.code == 0:
            state, reason = "COMPLETE", "finished"
        elif exit.reason.startswith("stopped"):
            state, reason = "PRUNED", "the time budget was used up"
        elif exit.code != 2 and not exit.out_of_memory and self.study.count_retry(number) < MAX_STARTS:
            self.progress.note(f"trial {number} failed ({exit.reason}); starting it once more")
            self.pending.append(self._resumed(number))
            return
        else:
            state, reason = "FAIL", exit.reason
        self._end(number, state, reason)

    # ---- the steps ------------------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Bring trials of a dead driver up to date with their folders, and put what is unfinished in line."""
        for number, _ in self.study.adopt():
            job = self._resumed(number)
            last = -1
            for record in self.run.records(number):
                last = record["epoch"]
                if self.on_record(number, record) is not Decision.CONTINUE:
                    break
            if number in self.verdicts:
                self._end(number, *self.verdicts.pop(number))
            elif last + 1 >= self.epochs_of[number]:
                self._end(number, "COMPLETE", "finished")
            else:
                self.pending.append(job)

    def elapsed_s(self) -> float:
        """Seconds of search, over all drivers of the run."""
        return self.used_before_s + self.clock() - self.started_at

    def _judge(self, number: int, record: dict[str, Any]) -> tuple[str, str] | None:
        """Store one epoch; (state, reason) when the trial must not go on."""
        epoch, value = int(record["epoch"]), record.get(self.plan.request.metric)
        if record.get("train_loss", 0.0) is None:
            return "FAIL", f"train_loss is not finite in epoch {epoch + 1}"
        if value is None or not math.isfinite(value):
            return None
        self.study.report(number, epoch, float(value))
        self.progress.epoch(number, epoch, float(value))
        self._drop_checkpoints(number)
        if epoch + 1 >= self.epochs_of[number]:
            return None
        if self.plan.request.epochs and self._epochs_used() >= self.plan.request.epochs:
            return "PRUNED", "the budget of epochs was used up"
        if number == 0:  # the default configuration always runs to its end: all else is compared with it
            return None
        reason = self.study.should_stop(number, epoch, self.scheduler, self.epochs_of[number])
        return ("PRUNED", reason) if reason else None

    def _end(self, number: int, state: str, reason: str) -> None:
        self.study.tell(number, state, reason)
        state = self.study.frozen(number).state.name
        self.progress.ended(number, state, reason)
        self._drop_all_but_the_best()
        if state == "FAIL":
            self.failures.append(f"trial {number}: {reason}; log: {self.run.trial(number) / 'log.txt'}")

    def _job(self, number: int, params: dict[str, Any]) -> TrialJob:
        """Write the trial's whole spec, checked, and say how to run it."""
        folder = self.run.trial(number)
        full = self.plan.space.apply(self.plan.spec, params)
        for key in ("results_dir", "train.results_dir"):
            if spec.get(full, key) is not None:
                spec.put(full, key, str(folder))
        _name_own_gpus(full, self.plan)
        check_spec(self.plan.bundle, full)
        write_yaml(folder / "spec.yaml", full)
        self.epochs_of[number] = int(spec.get(full, "train.num_epochs", 1))
        machine, spec_path = self.plan.machine, str(folder / "spec.yaml")
        entry = self.plan.bundle.entry("train")
        per_gpu = self.plan.bundle.launch("train") == "per_gpu"
        return TrialJob(
            number=number,
            trial_dir=str(folder),
            spec_path=spec_path,
            entry=entry or "",
            command=() if entry else self.plan.bundle.command("train", spec_path),
            num_gpus=machine.gpus_per_trial,
            cpus=machine.cpus_per_trial,
            ranks=max(1, int(machine.gpus_per_trial)) if per_gpu else 1,
            silence_timeout_s=self.plan.request.silence_timeout_s,
        )

    def _resumed(self, number: int) -> TrialJob:
        """The job of a trial that goes on from its last whole checkpoint; epochs after it are run again."""
        job = self._job(number, dict(self.study.frozen(number).user_attrs["params"]))
        folder, records = self.run.trial(number), self.run.records(number)
        while records and not (
            records[-1].get("checkpoint") and (folder / records[-1]["checkpoint"]).is_file()
        ):
            records.pop()
        metrics = folder / "metrics.jsonl"
        if metrics.exists():
            import json

            write_text(metrics, "".join(json.dumps(record) + "\n" for record in records))
        key = self.plan.bundle.spec_key("train", "resume_model")
        if records and key:
            full = spec.load(folder / "spec.yaml")
            spec.put(full, key, str(folder / records[-1]["checkpoint"]))
            write_yaml(folder / "resume.yaml", full)
            command = job.command and self.plan.bundle.command("train", str(folder / "resume.yaml"))
            job = replace(job, spec_path=str(folder / "resume.yaml"), command=command)
        self.progress.started(number, {}, self.epochs_of[number], from_epoch=len(records))
        return job

    # ---- budget and disk ------------------------------------------------------------------------------------

    def _budget_used(self) -> bool:
        request = self.plan.request
        asked = sum(t.state.name != "WAITING" for t in self.study.trials())
        if not self.plan.searching:
            return asked >= 1
        return (
            self._hopeless()
            or (request.trials is not None and asked >= request.trials)
            or (request.epochs is not None and self._epochs_used() >= request.epochs)
            or self.deadline_passed()
        )

    def _epochs_used(self) -> int:
        return sum(len(curve) for curve in self.study.curves())

    def _hopeless(self) -> bool:
        return len(self.failures) >= HOPELESS and not any(self.study.curves())

    def _drop_checkpoints(self, number: int) -> None:
        """While a trial runs, keep its best checkpoint and the one it would go on from."""
        curve = self.study.frozen(number).intermediate_values
        best = best_epoch(curve) if curve else -1
        records = self.run.records(number)
        named = [r.get("checkpoint") for r in records if r["epoch"] == best]
        self.run.drop_checkpoints(number, [*named, *(r.get("checkpoint") for r in records[-1:])])

    def _drop_all_but_the_best(self) -> None:
        """Of trials that ended, keep the scoring checkpoint of the best few and of the default."""
        ended = [t for t in self.study.trials() if t.state.is_finished() and t.intermediate_values]
        complete = [t for t in ended if t.state.name == "COMPLETE"] or ended
        ranked = sorted(complete, key=lambda t: (-max(t.intermediate_values.values()), t.number))
        kept = {t.number for t in ranked[:KEPT_TRIALS]} | {0}
        for trial in ended:
            best = best_epoch(trial.intermediate_values)
            path = self.run.checkpoint(trial.number, best) if trial.number in kept else None
            self.run.drop_checkpoints(trial.number, [path.name if path else None])


def _name_own_gpus(full: dict[str, Any], plan: Plan) -> None:
    """A trial sees its own GPUs alone, numbered from 0."""
    key = plan.bundle.skill.get("gpu_ids_key")
    if key and plan.machine.gpus_per_trial:
        spec.put(full, key, list(range(math.ceil(plan.machine.gpus_per_trial))))


def _files(node: Any) -> list[str]:
    """Every file and folder that a spec names and that is here."""
    if isinstance(node, Mapping):
        return [path for value in node.values() for path in _files(value)]
    if isinstance(node, list):
        return [path for value in node for path in _files(value)]
    return [node] if isinstance(node, str) and os.sep in node and os.path.exists(node) else []


def make_executor(plan: Plan, run: RunDir) -> Executor:
    """The executor asked for. Ray is imported only when it is the one."""
    # Trials inherit this. OpenMP threads that wait by spinning for long make a busy machine many times slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    preload = tuple(plan.bundle.skill.get("entry_points", {}).get("preload", ()))
    request, machine = plan.request, plan.machine
    if request.executor == "local":
        from automl.executors.local import LocalExecutor

        return LocalExecutor(concurrency=machine.concurrency, gpus=machine.gpus, preload=preload)
    if request.executor == "ray":
        from automl.executors.ray_tune import RayTuneExecutor

        return RayTuneExecutor(
            concurrency=machine.concurrency or None,
            address=request.ray_address,
            gpus=machine.gpus,
            preload=preload,
            files=(str(run.root), _files(plan.spec)),
        )
    raise UserError(f"--executor must be ray or local, but got '{request.executor}'")


def run(request: RunRequest, root: Path, progress: Progress) -> handoff.Outcome:
    """A whole new run in the folder `root`. Raises `UserError` when the folder already holds one."""
    root = root.resolve()  # trials run in folders of their own
    folder = RunDir(root)
    if folder.run_json.exists():
        raise UserError(f"{root} already holds a run; go on with it by: automl resume {root}")
    plan = prepare(request, root)
    with RunLock(root), interruptible(root):
        folder.write_run(describe(plan, f"{root.name}-{secrets.token_hex(4)}"))
        return _search(plan, folder, progress)


def resume(root: Path, changes: dict[str, Any], progress: Progress) -> handoff.Outcome:
    """Go on with a run after its driver died or its budget ended; `changes` may raise the budget."""
    root = root.resolve()
    folder = RunDir(root)
    recorded = folder.read_run()
    request = replace(RunRequest.from_json(recorded["request"]), **changes)
    with RunLock(root), interruptible(root):
        plan = prepare(request, root)
        if plan.space.digest != recorded["space_digest"]:
            raise UserError(
                f"{root}: the search space is no longer the one this run began with; start a new run"
            )
        if changes:
            folder.write_run(describe(plan, recorded["study"]))
        return _search(plan, folder, progress)


def _search(plan: Plan, folder: RunDir, progress: Progress) -> handoff.Outcome:
    executor = make_executor(plan, folder)
    study = Study(
        open_storage(plan.request.storage, folder.root),
        folder.read_run()["study"],
        plan.space,
        plan.request.sampler,
        plan.request.seed,
    )
    study.enqueue_default()
    driver = SearchDriver(plan, study, folder, progress)
    progress.begin(plan, study)
    try:
        driver.adopt()
        executor.run(driver)
    finally:
        executor.close()
        progress.end()
        study.set_elapsed_s(driver.elapsed_s())
    if study.best() is None:
        raise AutoMLError("no trial got through an epoch:\n" + "\n".join(driver.failures))
    return handoff.hand_over(plan, study, folder, progress)


def describe(plan: Plan, study: str) -> dict[str, Any]:
    """run.json: what was asked, what was settled, what it runs on. `study` is the study's name in the storage, which
    may hold those of other runs."""
    return {
        "study": study,
        "request": plan.request.to_json(),
        "model": plan.bundle.name,
        "searching": plan.searching,
        "spec": plan.spec,
        "sources": {k: v for k, v in plan.sources.items() if v != spec.TEMPLATE},
        "filled": plan.filled,
        "facts": plan.facts,
        "space_digest": plan.space.digest,
        "versions": versions(),
    }
