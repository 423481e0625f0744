"""The main path of a run.

 1  prepare      request -> plan: bundle, base spec, data facts, search space, machine      (plan.py)
 2  open         the run folder under its lock, the storage, the study              (rundir, storage)
 3  adopt        trials a dead driver left RUNNING go on from their last checkpoint       (driver.py)
 4  ask          the default configuration first, then what the sampler proposes           (study.py)
 5  write        trials/0007/spec.yaml, the whole spec, checked before anything starts    (trials.py)
 6  start        the executor runs it                                                    (executors/)
 7  report       each line of metrics.jsonl (records.py) goes to the storage              (driver.py)
 8  decide       the scheduler lets the trial go on, pauses or stops it         (schedulers.py, fgp/)
 9  tell         COMPLETE, PRUNED or FAIL, with the reason; back to 4 until the budget is used
10  choose       the COMPLETE trial that the scheduler names, else the best, ties to the lower number; or a better one
                 that a budget cut
11  hand over    its whole configuration into the later actions' specs                  (handoff.py)
12  finish       the stages asked for: score winner and default on the test set, export, build
13  confirm      where it was asked for: winner and default again with other seeds       (confirming.py)
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import (
    asking,
    bundle,
    confirming,
    cut,
    forecast,
    handoff,
    latency,
    rebuilt_study,
    restored_plan,
    run_history,
    same_data,
    secret_leaves,
    warm_start,
)
from automl.comparison import compared_with
from automl.database_url import shown
from automl.driver import SearchDriver
from automl.errors import AutoMLError, Resumable, UserError
from automl.executors.base import Executor
from automl.faults import check_place, rows_of, told_of
from automl.front import predicted
from automl.interruption import interruptible
from automl.locks import run_lock
from automl.metric import counted
from automl.plan import Plan, fetch, prepare
from automl.programs import command
from automl.report.keeper import Keeper
from automl.request import RunRequest, check_text, write_time
from automl.rundir import RunDir, clear_temporaries, leaving_nothing, write_json
from automl.sole_driver import sole_driver
from automl.storage import open_storage, read_storage
from automl.trackers import Tracking
from automl.trials import Trials

if TYPE_CHECKING:
    from automl.progress import Progress
    from automl.study import Study


def folder_for(request: RunRequest) -> Path:
    """The run folder that was asked for; else results/<model>/<time>."""
    name = Path(bundle.resolve(request.model).name).name
    return Path(request.results_dir or Path("results") / name / time.strftime("%Y%m%d-%H%M%S"))


def run(request: RunRequest, root: Path, progress: Progress) -> handoff.Outcome:
    """A whole new run in the folder `root`. Raises `UserError` when the folder already holds one."""
    root = root.resolve()  # trials run in folders of their own
    folder = RunDir(root)
    _check_free(folder)
    if not request.results_dir:  # else `prepare` does
        check_place(root, "--results-dir")
    check_text("the run folder", str(root))
    with told_of(root, request.storage), leaving_nothing(root):
        read_storage(request.storage, root)  # it must answer before anything is written
        plan = prepare(request, root, progress.note)
        for line in announced(plan):
            progress.note(line)
        with run_lock(root):
            _check_free(folder)  # another may have begun meanwhile
            fetch(plan, root, progress.note)
            with interruptible(root):
                if plan.request.warm_start:
                    warm_start.bring(plan, root)
                for line in secret_leaves.put_away(plan, root):
                    progress.note(f"note: {line}")
                folder.write_run(restored_plan.describe(plan, root, f"{root.name}-{secrets.token_hex(4)}"))
                return _search(plan, folder, progress)


def _check_free(folder: RunDir) -> None:
    if folder.run_json.exists():
        raise UserError(
            f"{folder.root} already holds a run; go on with it by: {command('resume', folder.root)}"
        )


def _failed(driver: SearchDriver) -> str:
    """What to say of the trials that this driver began and that failed."""
    failed = [text for number, text in driver.failures.items() if number in driver.begun]
    of = counted(len(driver.begun), "trial")
    return f"{len(failed)} of {of} begun now failed; the first: {failed[0]}" if failed else ""


def _why_ended(driver: SearchDriver) -> str:
    """What ended the search before all that was asked for had begun; "" where nothing did."""
    plan, study, request = driver.plan, driver.study, driver.plan.request
    all_begun = not driver.limits.left(study, driver.full_epochs, lengths=driver.num_epochs).new
    if not plan.searching or study.exhausted or (driver.begun and all_begun):
        return ""
    used = f"{driver.elapsed_s():.0f} s are used of --time {write_time(request.time_s or 0)}"
    if driver.deadline_passed():
        return used
    if driver.epochs_used_up():
        return (
            f"{counted(study.epochs_trained, 'epoch')} {'is' if study.epochs_trained == 1 else 'are'} used "
            f"of --total-epochs {request.total_epochs}"
        )
    if request.patience and driver.patience_over():
        return f"nothing better came in the last {counted(request.patience, 'trial')} (--patience {request.patience})"
    in_time = driver.limits.left(study, driver.full_epochs, driver.time_left(), driver.num_epochs).new
    if request.time_s is None or all_begun or in_time or driver.in_a_row.too_many() or asking.at_end(study):
        return ""
    return f"{used}, and no other training would end in the rest"


def _failures(study: Study, folder: RunDir) -> list[str]:
    """Why the trials failed, of drivers before this one."""
    failed = [t for t in study.trials() if t.state.name == "FAIL"]
    return [folder.failure(t.number, str(t.user_attrs.get("reason"))) for t in failed]


def announced(plan: Plan) -> list[str]:
    """What a person should know before the first trial: notes, where training starts, and about how long it takes."""
    lines = [f"note: {warning}" for warning in (*plan.warnings, *plan.space.notes)]
    lines += [f"start: {plan.start}"] if plan.start else []
    lines += [f"latency: {line}" for line in latency.told(plan.latency)] if plan.latency else []
    if expected := forecast.of(plan):
        lines.append(f"time: {forecast.text(plan, expected)}")
    return lines


def resume(root: Path, changes: dict[str, Any], progress: Progress) -> handoff.Outcome:
    """Go on with a run, as recorded, after its driver died or its budget ended; `changes` may raise the budget."""
    check_text("the run folder", str(root.resolve()))
    folder = RunDir(root.resolve())
    folder.read_run()  # what is no run is told before a lock is left there
    url = changes.get("storage")
    with told_of(folder.root, url), run_lock(folder.root), interruptible(folder.root):
        plan = restored_plan.restore(folder, changes)
        if url:
            read_storage(url, folder.root)  # it must answer before anything is written
            progress.note(f"note: the study is kept in {shown(url)} from now on")
        same_data.check(plan, folder.root)
        run_history.go_on(plan)
        for warning in plan.warnings:
            progress.note(f"note: {warning}")
        fetch(plan, folder.root, progress.note)
        for line in secret_leaves.put_away(plan, folder.root):
            progress.note(f"note: {line}")
        folder.write_run(restored_plan.describe(plan, folder.root, folder.read_run()["study"]))
        return _search(plan, folder, progress)


def _search(plan: Plan, folder: RunDir, progress: Progress) -> handoff.Outcome:
    if plan.request.ray_address and plan.request.executor == "ray":  # once it has gone, only Ray has the word
        progress.note(
            "note: should the head of the Ray cluster end, Ray ends this process too, within about a minute; then go "
            f"on with: {command('resume', folder.root)}"
        )
    try:
        with ExitStack() as held:
            clear_temporaries(folder.root)
            # What is pushed is let go from the last to the first, each whatever those before it raised.
            with ExitStack() as ends, closing(make_executor(plan, folder, progress.note)) as executor:
                driver, keeper = _driver(plan, folder, progress, held, ends)
                why = _searched(driver, executor)
            return _handed_over(driver, keeper, folder, why)
    except Resumable as error:
        raise type(error)(f"{error}; go on with: {command('resume', folder.root)}") from None


def _driver(
    plan: Plan, folder: RunDir, progress: Progress, held: ExitStack, ends: ExitStack
) -> tuple[SearchDriver, Keeper]:
    """The driver of a search and who keeps its report. `held`: what stays until the run's end, `ends`: until the
    search's."""
    study = open_study(plan, folder, progress)
    if plan.request.storage:
        held.enter_context(sole_driver(study, folder.root, progress.note))
    what = "some of its study" if study.trials() else "its study"
    if count := rebuilt_study.rebuild(plan, study, Trials(plan, folder)):
        progress.note(
            f"{what} was gone from the database; made again from the folders of {counted(count, 'trial')}"
        )
    keeper = Keeper(plan, folder.root, study, progress.note)
    keeper.describe_data()
    tracking = Tracking(
        plan.request.log, folder, study.name, plan.metric.name, progress.note, partial(predicted, study)
    )
    driver = SearchDriver(plan, study, folder, progress, after=keeper.refresh, tracking=tracking)
    ends.callback(keeper.finish)
    ends.callback(tracking.close)
    ends.callback(study.close)
    ends.callback(lambda: study.set_elapsed_s(driver.elapsed_s(), now=True))
    ends.callback(progress.end)
    progress.begin(plan, study)
    return driver, keeper


def _searched(driver: SearchDriver, executor: Executor) -> str:
    """Search until the budget is used; returns what ended it early, see `_why_ended`."""
    plan, study, note = driver.plan, driver.study, driver.progress.note
    driver.adopt()
    executor.run(driver)
    driver.in_a_row.check_end(driver.failures.values())
    if driver.begun:
        driver.data.look()
    why = _why_ended(driver)
    if why and driver.begun:
        note(f"the search ended: {why}")
    elif plan.searching and not driver.begun and not asking.at_end(study):
        note(f"no new trial: {why or driver.limits.used_up(study, driver.full_epochs)}; a larger one goes on")
    driver.end_paused()
    driver.name_winner()
    if left := cut.text(study.trials()):
        note(f"note: {left}")
    return why


def _handed_over(driver: SearchDriver, keeper: Keeper, folder: RunDir, why: str) -> handoff.Outcome:
    """The winner in `best/`, the stages on it, the report. Raises `AutoMLError` where nothing came of the search."""
    plan, study, progress = driver.plan, driver.study, driver.progress
    if study.best() is None:
        told = [*(driver.failures.values() or _failures(study, folder))]
        if left := cut.text(study.trials()):
            larger = plan.request.larger(used_s=study.elapsed_s())
            told += [left, f"to go on: {command('resume', folder.root)} {larger}"]
        raise AutoMLError("\n".join(["no trial got through an epoch:", *told]))
    try:
        keeper.going_on()
        outcome = handoff.hand_over(plan, study, folder, progress, why)
        outcome.failed = _failed(driver)
        outcome.all_failed = bool(driver.begun) and driver.begun <= driver.failures.keys()
        if plan.request.confirm and plan.searching:
            _confirm(plan, folder, outcome, progress)
    finally:
        report = keeper.finish()
    outcome.report = report
    write_json(folder.root / "outcome.json", asdict(outcome))
    driver.tracking.finish(outcome.winner.number, outcome.report)
    return outcome


def _confirm(plan: Plan, folder: RunDir, outcome: handoff.Outcome, progress: Progress) -> None:
    """Train winner and default again with other seeds, and keep what that says with the outcome."""
    default = compared_with(outcome.winner, outcome.default)
    if default is None:
        why = (
            "the default was not trained, for it is above --max-latency"
            if plan.first
            else "the default has not run to its end"
            if outcome.default is not None and outcome.default.number != outcome.winner.number
            else "what was handed over is the default"
            if outcome.warning or outcome.front
            else "no trial is better than the default"
        )
        progress.note(f"nothing to confirm: {why}")
        return
    executor = make_executor(plan, folder, progress.note)
    try:
        outcome.confirmed = confirming.confirm(plan, folder, outcome.winner, default, executor, progress.note)
    finally:
        executor.close()
    write_json(folder.root / "outcome.json", asdict(outcome))  # before the report, which tells it


def open_study(plan: Plan, folder: RunDir, progress: Progress) -> Study:
    """The run's study, made when it is not there: the default first, then what `try:` and `--warm-start` bring."""
    lessons = warm_start.lessons(folder.root, plan.room)
    if lessons.of:
        progress.note(f"warm start: {lessons.text}")
    storage, name = open_storage(plan.request.storage, folder.root), folder.read_run()["study"]
    with rows_of(folder.root, plan.request.storage):
        study = plan.study(storage, name, lessons)
    study.timed = folder.keep_elapsed
    if (used := folder.kept_elapsed()) > study.elapsed_s():
        study.set_elapsed_s(used, now=True)
    return study


def make_executor(plan: Plan, run: RunDir, say: Callable[[str], object]) -> Executor:
    """The executor asked for; `say` is told what it waits for. Ray is imported only when it is the one."""
    # Trials inherit this. OpenMP threads that wait by spinning for long make a busy machine many times slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    preload = plan.bundle.preload
    request, machine = plan.request, plan.machine
    if request.executor == "local":
        from automl.executors.local import LocalExecutor

        return LocalExecutor(concurrency=machine.concurrency, gpus=machine.gpus, preload=preload, say=say)
    if request.executor == "ray":
        from automl.executors.ray_tune import RayTuneExecutor

        return RayTuneExecutor(
            concurrency=machine.concurrency or None,
            address=request.ray_address,
            gpus=machine.gpus,
            preload=preload,
            files=(str(run.root), files_of(plan.spec)),
            say=say,
        )
    raise UserError(f"--executor must be ray or local, but got '{request.executor}'")


def files_of(node: Any) -> list[str]:
    """Every file and folder that a spec names and that is here."""
    if isinstance(node, Mapping):
        return [path for value in node.values() for path in files_of(value)]
    if isinstance(node, list):
        return [path for value in node for path in files_of(value)]
    return [node] if isinstance(node, str) and os.sep in node and os.path.exists(node) else []
