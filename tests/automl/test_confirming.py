"""`--confirm`: winner and default again with other seeds."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from scipy.stats import ttest_1samp

from automl import deploy, loop, run_figures, show
from automl.confirmed import Confirmed, other_seeds
from automl.confirming import Repeats
from automl.documents import load_json
from automl.errors import StorageError, UserError
from automl.executors.base import Exit
from automl.metric import Metric
from automl.progress import Progress
from automl.report import figures
from automl.request import RunRequest
from automl.rundir import RunDir

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "numpy_net"
UP, DOWN = Metric("val_mAP"), Metric("val_loss", False)


@pytest.mark.parametrize("metric", [UP, DOWN])
def test_the_interval_is_that_of_student(metric: Metric) -> None:
    pairs = [(1, 0.5, 0.3), (2, 0.45, 0.4), (3, 0.6, 0.42)]
    found = Confirmed(0.2, pairs)
    gains = [metric.gain(a, b) for _, a, b in pairs]
    wanted = ttest_1samp(gains, 0).confidence_interval(0.95)
    assert found.interval(metric) == pytest.approx((wanted.low, wanted.high))


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([(1, 0.5, 0.3)], "another seed: gain +0.2000 of val_mAP, where the search saw +0.1000; one seed says nothing"),
        ([(1, 0.5, 0.3), (2, 0.52, 0.31)], r"2 other seeds: gain \+0\.2050 .* 95 % of the mean \+0\.1415 to \+0\.2685$"),
        ([(1, 0.5, 0.3), (2, 0.3, 0.31)], ", which includes 0"),
        ([(1, 0.3, 0.5), (2, 0.31, 0.52)], "worse than the default"),
        ([], "no pair of winner and default was got to its end; 1 of the trainings failed: winner, seed 2: it burst"),
    ],
)  # fmt: skip
def test_what_is_said(pairs: list[tuple[int, float, float]], words: str) -> None:
    import re

    said = Confirmed(0.1, pairs, [] if pairs else ["winner, seed 2: it burst"]).words(UP)
    assert words in said or re.search(words, said)


def test_a_winner_that_a_budget_cut_is_compared_at_its_end_and_that_is_said() -> None:
    said = Confirmed(0.1, [(1, 0.5, 0.3)], cut=True).words(UP)
    assert (
        "gain +0.2000 of val_mAP, where the search, which cut the winner before its end, saw +0.1000" in said
    )


def example(**more: object) -> RunRequest:
    """A search that finds something better: its default learns too slowly."""
    return RunRequest(
        model=str(EXAMPLE), sets=("train.lr=0.001", "train.momentum=0"), sampler="random", trials=6, epochs=3, executor="local", scheduler="none", confirm=2, seed=3,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def plain_value(root: Path, spec_of: Path, seed: int, folder: Path) -> float:
    """What a training by hand gives with another seed."""
    folder.mkdir()
    text = spec_of.read_text()
    lines = [f"seed: {seed}" if line.startswith("seed:") else line for line in text.splitlines()]
    (folder / "spec.yaml").write_text("\n".join(lines))
    subprocess.run(
        [sys.executable, EXAMPLE / "train.py", folder / "spec.yaml"],
        env=os.environ | {"AUTOML_TRIAL_DIR": str(folder)}, check=True,
    )  # fmt: skip
    return min(json.loads(line)["val_loss"] for line in (folder / "metrics.jsonl").open())


def test_both_are_trained_again_and_told(tmp_path: Path) -> None:
    root = tmp_path / "run"
    outcome = loop.run(example(), root, Progress(quiet=True))
    assert outcome.default is not None
    assert outcome.winner.number != 0
    assert outcome.confirmed is not None
    assert not outcome.confirmed.failed
    for n, (seed, winner, default) in enumerate(outcome.confirmed.pairs, 1):
        assert seed == n  # the spec's own is 0
        for number, value in ((outcome.winner.number, winner), (0, default)):
            by_hand = plain_value(
                root, root / "trials" / f"{number:04d}" / "spec.yaml", seed, tmp_path / f"{seed}_{number}"
            )
            assert value == by_hand
    assert not list((root / "confirm").rglob("*.npz"))  # no checkpoint of theirs is left
    console = Console(file=io.StringIO(), width=200)
    show.outcome(console, outcome)
    told = outcome.confirmed.words(outcome.metric)
    assert told in console.file.getvalue()  # type: ignore[attr-defined]
    assert f"T{told[1:]}." in figures(root)["verdict"]
    assert "rained again with 2 other seeds" in (root / "report.html").read_text()
    assert load_json(root / "outcome.json")["confirmed"]["pairs"] == [
        list(p) for p in outcome.confirmed.pairs
    ]


def test_a_killed_confirmation_goes_on(tmp_path: Path) -> None:
    """What had ended is not trained again, and the figures are those of a run without a kill."""
    whole = loop.run(example(), tmp_path / "whole", Progress(quiet=True))
    words = [
        sys.executable,
        "-m",
        "automl.cli",
        "run",
        *example().words(),
        "--results-dir",
        str(tmp_path / "cut"),
    ]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
        first = tmp_path / "cut" / "confirm" / "seed_1" / "trials"
        deadline = time.monotonic() + 120
        while process.poll() is None and not list(first.rglob("value.json")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    values = {p: p.stat().st_mtime_ns for p in (tmp_path / "cut" / "confirm").rglob("value.json")}
    assert values
    found = loop.resume(tmp_path / "cut", {}, Progress(quiet=True))
    assert found.confirmed == whole.confirmed
    assert {p: p.stat().st_mtime_ns for p in values} == values


def test_one_sign_of_gain_and_a_stop_while_confirming_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a metric that is minimised too, and by every command."""
    root = tmp_path / "run"

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("automl.confirming.Repeats.next_job", stopped)
        with pytest.raises(KeyboardInterrupt):
            loop.run(example(), root, Progress(quiet=True))
    console = Console(file=io.StringIO(), width=200)
    show.status(console, root)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "stopped while this was being confirmed" in told
    assert f"automl resume {root}" in told
    assert run_figures.status(root)["finished"] is False
    outcome = loop.resume(root, {}, Progress(quiet=True))
    assert run_figures.status(root)["finished"] is True
    assert outcome.confirmed is not None
    assert outcome.default is not None
    gain = outcome.default.value - outcome.winner.value
    assert gain > 0
    console = Console(file=io.StringIO(), width=200)
    show.outcome(console, outcome)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"{outcome.default.value:.4f} (lower is better), gain {gain:+.4f}" in told
    assert f"where the search saw {gain:+.4f}" in told
    assert "next    " not in told  # the model names none
    assert load_json(root / "outcome.json")["report"] == str(root / "report.html")
    moved = tmp_path / "moved"
    root.rename(moved)
    console = Console(file=io.StringIO(), width=200)
    show.status(console, moved)
    assert f"next    automl best {moved}" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_winner_whose_checkpoint_is_gone_is_told_everywhere(tmp_path: Path) -> None:
    root = tmp_path / "run"
    whole = loop.run(RunRequest(**example().to_json() | {"confirm": None}), root, Progress(quiet=True))
    for checkpoint in (root / "trials" / f"{whole.winner.number:04d}").glob("*.npz"):
        checkpoint.unlink()
    shutil.rmtree(root / "best")
    outcome = loop.resume(root, {}, Progress(quiet=True))
    assert outcome.winner.number != whole.winner.number
    assert outcome.warning
    console = Console(file=io.StringIO(), width=200)
    show.outcome(console, outcome)
    show.best(console, root)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "nothing better was found" not in told
    gone = f"the checkpoint of trial {whole.winner.number}, "
    assert told.count(gone) == 2
    found = run_figures.best(root)
    assert (found["trial"], found["files_of_trial"]) == (outcome.winner.number, outcome.winner.number)
    assert found["warning"].startswith(gone)
    whose = {"trial": outcome.winner.number, "value": outcome.winner.value}
    assert "by now" not in deploy._which(RunDir(root), RunDir(root).read_run(), whose)
    assert any("is gone or damaged; handed over instead" in line for line in figures(root)["verdict"])


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_repeat_at_its_end_is_not_started_again(when: str, tmp_path: Path) -> None:
    """Its driver died before it saw the end, or its process failed after the last epoch."""
    training: Any = SimpleNamespace(label="winner, seed 2", epochs=3, kept=None)
    training.at_end = lambda: True
    training.value = lambda: training.kept
    training.finish = lambda: bool(setattr(training, "kept", 0.5) or True)
    if when == "after":
        training.at_end = lambda: False
    driver = Repeats(SimpleNamespace(), tmp_path, [training], lambda text: None)  # type: ignore[arg-type]
    if when == "after":
        driver.pending.clear()
        training.at_end = lambda: True
        driver.on_exit(0, Exit(1, "exit code 1"))
    assert driver.finished()
    assert training.kept == 0.5
    assert not driver.failed


@pytest.mark.parametrize(
    ("exit", "again"),
    [
        (Exit(None, "silent for 3600 s"), True), (Exit(1, "exit code 1"), True), (Exit(None, "gone", lost=True), True),
        (Exit(2, "exit code 2"), False), (Exit(None, "stopped: x"), False),
    ],
)  # fmt: skip
def test_a_repeat_is_started_once_more_as_a_trial_is(exit: Exit, again: bool, tmp_path: Path) -> None:
    """But for one whose record was broken, which is why it was stopped."""
    training: Any = SimpleNamespace(label="winner, seed 2", at_end=lambda: False, value=lambda: None)
    training.folder = tmp_path
    driver = Repeats(SimpleNamespace(), tmp_path, [training], lambda text: None)  # type: ignore[arg-type]
    driver.pending.clear()
    driver.starts[0] += 1
    if exit.stopped:
        driver.broken[0] = "val_loss is not finite in epoch 2"
    driver.on_exit(0, exit)
    assert list(driver.pending) == ([0] if again else [])
    assert bool(driver.failed) != again


def test_a_repeat_without_room_ends_the_run_for_now(tmp_path: Path) -> None:
    training: Any = SimpleNamespace(label="winner, seed 2", at_end=lambda: False, value=lambda: None)
    driver = Repeats(SimpleNamespace(), tmp_path, [training], lambda text: None)  # type: ignore[arg-type]
    driver.starts[0] += 1
    with pytest.raises(StorageError, match="no room on a disk: .*quota exceeded; free some and: .*resume"):
        driver.on_exit(0, Exit(1, "exit code 1; last line of log: OSError: [Errno 122] Disk quota exceeded"))


def test_what_is_no_run_gets_no_lock(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        loop.resume(tmp_path / "none", {}, Progress(quiet=True))
    assert not (tmp_path / "none").exists()


def test_a_finished_run_is_confirmed_later(tmp_path: Path) -> None:
    request = example()
    before = loop.run(
        RunRequest(**request.to_json() | {"confirm": None}), tmp_path / "run", Progress(quiet=True)
    )
    assert before.confirmed is None
    assert loop.resume(tmp_path / "run", {"confirm": 1}, Progress(quiet=True)).confirmed is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"confirm": 10**22}, "at most 1000 other seeds"),
        ({"policy": "off"}, "nothing is searched"),
        ({"tune": ("seed=1,2,3",)}, "--fix seed"),
    ],
)
def test_what_cannot_be_confirmed_is_refused_before_the_search(
    change: dict[str, object], words: str, tmp_path: Path
) -> None:
    request = RunRequest(**example().to_json() | {"stages": ()} | change)
    with pytest.raises(UserError, match=words):
        loop.run(request, tmp_path / "run", Progress(quiet=True))
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_confirmed_is_refused_later_too(tmp_path: Path) -> None:
    asked = example().to_json() | {"stages": (), "confirm": None, "tune": ("seed=1,2,3",)}
    loop.run(RunRequest(**asked), tmp_path / "run", Progress(quiet=True))
    before = (tmp_path / "run" / "run.json").read_text()
    with pytest.raises(UserError, match="--fix seed"):
        loop.resume(tmp_path / "run", {"confirm": 2}, Progress(quiet=True))
    assert (tmp_path / "run" / "run.json").read_text() == before


@pytest.mark.parametrize("own", [3, 3.0, "3"])
def test_other_seeds_are_others(own: object) -> None:
    assert other_seeds(own, 0, 2) == [4, 5]


@pytest.mark.parametrize("own", [None, "", -1, float("inf"), "x"])
def test_without_a_seed_of_its_own_they_are_others_than_the_search_s(own: object) -> None:
    assert other_seeds(own, 7, 2) == [8, 9]
