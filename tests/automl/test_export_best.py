"""The best so far can be had while a run goes on, and the run does not notice."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from automl import export_best, loop, show, spec
from automl.documents import load_json
from automl.errors import StudyBusy, UserError
from automl.locks import alone, is_running
from automl.progress import Progress
from automl.request import RunRequest
from automl.rundir import RunDir
from tests.automl.test_driver import Bench
from tests.automl.toy import toy


@pytest.fixture(autouse=True)
def niceness(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was asked for; the tests that follow in this process are not to be the last to get a core."""
    asked: list[int] = []
    monkeypatch.setattr(os, "nice", asked.append)
    return asked


def files(root: Path) -> dict[str, bytes]:
    """Every file of a run but its database's, which the driver writes."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and not path.name.startswith(("study.db", "run.lock"))
        and "so_far" not in path.parts
    }


def test_of_a_finished_run_it_is_what_was_handed_over_and_nothing_else_changes(tmp_path: Path) -> None:
    root, model = tmp_path / "run", toy(tmp_path / "toy")
    done = loop.run(
        RunRequest(model=str(model), trials=3, executor="local", stages=()), root, Progress(quiet=True)
    )
    before = files(root)
    for _ in range(2):  # the second takes the first one's place
        outcome = export_best.export(root, Progress(quiet=True))
        assert (outcome.winner.number, outcome.winner.value) == (done.winner.number, done.winner.value)
        folder = root / outcome.folder
        assert Path(str(outcome.checkpoint)).parent == folder
        assert spec.load(folder / "train.yaml")["lr"] == spec.load(root / "best" / "train.yaml")["lr"]
    assert files(root) == before
    out = io.StringIO()
    show.outcome(Console(file=out, width=200), outcome)
    assert "Best so far" in out.getvalue()
    assert str(folder) in out.getvalue()


def test_made_again_it_keeps_what_somebody_put_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, model = tmp_path / "run", toy(tmp_path / "toy")
    loop.run(RunRequest(model=str(model), trials=1, executor="local", stages=()), root, Progress(quiet=True))
    outcome = export_best.export(root, Progress(quiet=True))
    show.outcome(Console(file=(out := io.StringIO()), width=200), outcome)
    assert "so far nothing is better than the default configuration" in out.getvalue()
    folder = root / outcome.folder
    (folder / "results").mkdir()
    for name in ("note", "results/figures.json", "model.ckpt"):
        (folder / name).write_text("mine")
    (folder / "train.yaml").unlink()
    (folder / ".model.ckpt.999999999.tmp").write_text("of a kill")
    assert root / export_best.export(root, Progress(quiet=True)).folder == folder
    assert (folder / "note").read_text() == (folder / "results" / "figures.json").read_text() == "mine"
    assert (folder / "model.ckpt").read_bytes() == b"0" * 1024
    assert (folder / "train.yaml").is_file()
    assert not list(folder.glob(".*"))
    before = files(root) | {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}
    killed = OSError("killed")
    monkeypatch.setattr("automl.handoff.write_specs", lambda *_: (_ for _ in ()).throw(killed))
    with pytest.raises(OSError, match="killed"):
        export_best.export(root, Progress(quiet=True))
    left = {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}
    left["provenance.json"] = left.pop(".provenance.json.before")  # it is not all there
    assert files(root) | left == before
    monkeypatch.undo()
    export_best.export(root, Progress(quiet=True))
    assert not list(folder.glob(".*"))


def test_in_mid_run_the_driver_goes_on_undisturbed(tmp_path: Path, niceness: list[int]) -> None:
    root, model = tmp_path / "run", toy(tmp_path / "toy", epochs=3, pause_s=0.5)
    words = ["run", "--model", str(model), "--trials", "4", "--executor", "local", "--results-dir", str(root)]
    search = subprocess.Popen([sys.executable, "-m", "automl.cli", *words], stdout=subprocess.DEVNULL)
    while search.poll() is None:
        try:
            outcome = export_best.export(root, Progress(quiet=True))
            break
        except UserError:
            time.sleep(0.1)
    assert is_running(root)
    assert set(niceness) == {export_best.BEHIND}
    assert Path(str(outcome.checkpoint)).is_file()
    assert not RunDir(root).best.exists()
    assert search.wait(timeout=120) == 0
    assert len(list((root / "trials").iterdir())) == 4
    assert load_json(root / "outcome.json")["winner"]["value"] >= outcome.winner.value


def test_nothing_to_hand_over_is_said(tmp_path: Path) -> None:
    root, model = tmp_path / "run", toy(tmp_path / "toy")
    loop.run(RunRequest(model=str(model), trials=1, executor="local", stages=()), root, Progress(quiet=True))
    (root / "study.db").unlink()
    for path in root.glob("study.db*"):
        path.unlink()
    for path in sorted((root / "trials").rglob("*"), reverse=True):
        path.unlink() if not path.is_dir() else path.rmdir()
    (root / "trials").rmdir()
    with pytest.raises(UserError, match="no trial has a metric yet"):
        export_best.export(root, Progress(quiet=True))


def test_a_stopped_run_s_trials_wait(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=2)
    study = bench.study()
    number, _ = study.ask()
    assert study.state(number) == "RUNNING"
    assert study.state(number, running=False) == "WAITING"
    study.set_paused(number, 1)
    assert study.state(number, running=False) == "PAUSED"


def test_two_at_once_do_not_empty_what_the_other_writes(tmp_path: Path) -> None:
    root, model = tmp_path / "run", toy(tmp_path / "toy")
    loop.run(RunRequest(model=str(model), trials=1, executor="local", stages=()), root, Progress(quiet=True))
    with (
        alone(root / "so_far" / ".lock", "the first"),
        pytest.raises(StudyBusy, match="so_far: another automl best --export"),
    ):
        export_best.export(root, Progress(quiet=True))
    export_best.export(root, Progress(quiet=True))
