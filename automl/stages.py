"""One later action on the winner, in processes that end with the driver, however it ends."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl import portable, spec
from automl.bundle import ModelBundle
from automl.executors.base import Exit, TrialJob
from automl.launcher import TrialProcess, start_fork_server
from automl.machine import cores
from automl.metric import figure, lowered
from automl.programs import typed
from automl.records import is_finite
from automl.skill import Stage
from automl.tail import last_line, size_of

TELL_S = 8.0  # between two lines about an action that runs
NOT_RUNNABLE = 3  # exit code of an action whose machine lacks something
SKIPPED = "not run"


@dataclass(frozen=True)
class StageRun:
    """A stage to run under `name`; `folder` holds its spec."""

    stage: Stage
    name: str
    folder: Path

    @property
    def spec_path(self) -> Path:
        return self.folder / f"{self.stage.action}.yaml"


@dataclass
class StageResult:
    name: str
    ok: bool
    message: str  # what it brought, or why it did not run
    command: str  # to run it again
    metrics: dict[str, Any] = field(default_factory=dict)
    shows: tuple[str, ...] = ()  # names of the metrics that a person wants to see
    failed: bool = False  # it ran and broke; not ok and not failed: it could not run here
    report: str = ""  # the file it wrote for the report
    lower: tuple[str, ...] = ()  # of `shows`, those that the model says are better when lower

    @classmethod
    def skipped(cls, name: str, why: str, command: str = "") -> StageResult:
        """Of one that had not what it needs."""
        return cls(name, False, f"{SKIPPED}: {why}", command)

    def figures(self) -> str:
        """The metrics that a person wants to see."""
        return shown_figures(self.metrics, self.shows)


def shown_figures(metrics: Mapping[str, Any], shows: Sequence[str]) -> str:
    """Those of the metrics that are to be shown and are numbers, as text."""
    numbers = {name: metrics.get(name) for name in shows}
    return ", ".join(
        f"{name} {figure(value)}"
        for name, value in numbers.items()
        if isinstance(value, float) or is_finite(value)
    )


def run_stage(
    bundle: ModelBundle, run: StageRun, gpus: Sequence[int | str] = (), say: Callable[[str], Any] = lambda text: None
) -> StageResult:  # fmt: skip
    """Run one action on its spec file, and `say` every `TELL_S` that it goes on. What it prints goes to
    `<name>/log.txt` beside it; its figures are read from the action's metrics.json."""
    stage, name, spec_path = run.stage, run.name, run.spec_path
    shown, full = _shown(bundle, run), portable.read(bundle, spec_path)
    parent = bundle.spec_key(stage.action, "parent_model")
    if parent and not bundle.is_settled(parent) and spec.get(full, parent) in (None, "", spec.MANDATORY):
        return StageResult.skipped(name, "there is no checkpoint", shown)
    figures = bundle.results_file(stage.action, full)
    for old in (figures, figures.parent / (stage.report or figures.name)):
        old.unlink(missing_ok=True)  # of an earlier time
    command = bundle.command(stage.action, str(spec_path))
    result = _ended(
        bundle, name, spec_path.with_suffix(""), str(spec_path), say, gpus, (NOT_RUNNABLE,), command=command
    )
    result.command = shown
    return ended_well(bundle, run, result.message) if result.ok else result


def ended_well(bundle: ModelBundle, run: StageRun, message: str) -> StageResult:
    """The result of an action that has ended well, with the figures and the report that it left."""
    stage = run.stage
    figures = bundle.results_file(stage.action, portable.read(bundle, run.spec_path))
    told = figures.parent / stage.report if stage.report else None
    report = str(told) if told is not None and told.is_file() else ""
    return StageResult(
        run.name,
        True,
        message,
        _shown(bundle, run),
        _read(figures),
        stage.shows,
        report=report,
        lower=lowered(stage.shows, bundle.metrics),
    )


def _shown(bundle: ModelBundle, run: StageRun) -> str:
    program, *words = bundle.command_words(run.stage.action, str(run.spec_path))
    return f"{typed(program)} {shlex.join(words)}"


def run_package(
    bundle: ModelBundle, best: Path, say: Callable[[str], Any] = lambda text: None
) -> StageResult | None:
    """Let the model make a product of the folder `best` (`entry_points.package`, called with it): what a person who has
    nothing but that folder needs. None when the model has no such entry; exit code 2 says that something it needs was
    not made."""
    return _run_entry(bundle, "package", best, str(best), say)


def run_slimming(
    bundle: ModelBundle, checkpoint: Path, say: Callable[[str], Any] = lambda text: None
) -> StageResult | None:
    """Let the model rewrite a copied checkpoint without what training alone needs (`entry_points.package_weights`,
    called with it). None when the model has no such entry; where it cannot, the whole one stays."""
    return _run_entry(bundle, "package_weights", checkpoint.parent, str(checkpoint), say)


def _run_entry(
    bundle: ModelBundle, purpose: str, best: Path, argument: str, say: Callable[[str], Any]
) -> StageResult | None:
    entry = bundle.entry(purpose)
    if entry is None:
        return None
    return _ended(bundle, purpose, best / "package", argument, say, (), (2, NOT_RUNNABLE), entry=entry)


def _ended(
    bundle: ModelBundle, name: str, folder: Path, argument: str, say: Callable[[str], Any], gpus: Sequence[int | str],
    lacks: Sequence[int], **what: Any,
) -> StageResult:  # fmt: skip
    """Run it, with its log in `folder`; `lacks`: the exit codes that say that something it needs is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    log, began_at = folder / "log.txt", size_of(folder / "log.txt")
    ended = _run(bundle, folder, gpus, _teller(name, log, began_at, say), argument, **what)
    last = last_line(log, began_at).removeprefix("error: ")
    if ended.code in lacks:
        return StageResult.skipped(name, last or f"exit code {ended.code}, nothing logged")
    if ended.code != 0:
        return StageResult(name, False, f"failed ({ended.reason}); log: {log}", "", failed=True)
    return StageResult(name, True, last or "done", "")


def _teller(name: str, log: Path, began_at: int, say: Callable[[str], Any]) -> Callable[[], None]:
    """What to call again and again while an action runs."""
    began, told_at, told = time.monotonic(), time.monotonic(), ""

    def tell() -> None:
        nonlocal told_at, told
        if (now := time.monotonic()) - told_at >= TELL_S:
            last = last_line(log, began_at)
            fresh = "" if last == told or last.endswith("so far") else f"; {last}"
            told_at, told = now, last
            say(f"{name}: {now - began:.0f} s so far{fresh}")

    return tell


def _run(
    bundle: ModelBundle, folder: Path, gpus: Sequence[int | str], tell: Callable[[], None], argument: str, **what: Any
) -> Exit:  # fmt: skip
    with start_fork_server(()) as server:
        server.wait_ready()
        job = TrialJob(
            number=0, trial_dir=str(folder), spec_path=argument, num_gpus=len(gpus), cpus=cores(),
            env=bundle.trial_env(str(folder)), **what,
        )  # fmt: skip
        trial = TrialProcess(job, server, gpus)
        while True:
            tell()
            for event in trial.poll(1.0):
                if isinstance(event, Exit):
                    return event


def _read(path: Path) -> dict[str, Any]:
    """An action's metrics.json; empty when it wrote none that can be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
