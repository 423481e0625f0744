"""What trackers are told of a run: every epoch once, however often a driver dies; none of their troubles is a trial's."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import automl
from automl import trackers
from automl.errors import UserError
from automl.report import raster
from automl.rundir import RunDir
from automl.study import TrialResult
from automl.trackers import Run, Tracking, Trial
from automl.tuning import Tuned
from tests.automl.toy import toy

SPEC = "a: {lr: 0.1, sizes: [1, 2], nothing: null}\n"


class Kept(Run):
    """A tracker's run that keeps what it is told."""

    def __init__(self, trial: Trial, told: list[Any]) -> None:
        self.id, self.trial, self.told = f"id-{trial.number}", trial, told

    def log(self, epoch: int, values: Any) -> None:
        self.told.append((self.trial.number, epoch, dict(values)))

    def end(self, state: str, reason: str, figures: Any) -> None:
        self.told.append((self.trial.number, state, reason, dict(figures)))

    def mark(self, won: bool, report: Path | None, pictures: Any = ()) -> None:
        self.told.append((self.trial.number, "won" if won else "lost"))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A tracker named `kept`: what it was told, and how its runs were opened."""
    found = types.SimpleNamespace(told=[], opened=[], check=lambda: None)

    def open_run(trial: Trial, known: str | None, root: Path) -> Run:
        found.opened.append((trial, known))
        return Kept(trial, found.told)

    found.open_run = open_run
    monkeypatch.setitem(sys.modules, "automl.trackers.kept_runs", found)  # type: ignore[arg-type]
    monkeypatch.setitem(trackers.MODULES, "kept", "json")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "run")
    made.write_run(
        {
            "study": "s-1", "spec": {}, "searching": True, "space_digest": "", "model": "toy", "request": {"storage": None},
            "space": [{"name": "a.lr"}],
        }
    )  # fmt: skip
    for number in range(3):
        made.trial(number).mkdir(parents=True)
        (made.trial(number) / "spec.yaml").write_text(SPEC)
    return made


def tracking(folder: RunDir, *names: str, notes: list[str] | None = None) -> Tracking:
    return Tracking(names, folder, "s-1", "score", (notes if notes is not None else []).append)


def test_every_epoch_is_told_once_over_drivers(kept: Any, folder: RunDir) -> None:
    first = tracking(folder, "kept")
    for epoch in range(2):
        first.record(
            0, epoch, {"epoch": epoch, "score": 0.1 * epoch, "flag": True, "loss": float("nan"), "name": "x"}
        )
    first.close()
    assert kept.told == [(0, 1, {"score": 0.0}), (0, 2, {"score": 0.1}), (0, "PAUSED", "", {})]
    for again in range(2):
        paused = tracking(folder, "kept")
        paused.record(1, again, {"score": 1.0})
        paused.close()
    assert [row for row in kept.told if row[0] == 1] == [
        (1, 1, {"score": 1.0}),
        (1, "PAUSED", "", {}),
        (1, 2, {"score": 1.0}),
        (1, "PAUSED", "", {}),
    ]
    del kept.told[3:], kept.opened[1:]
    second = tracking(folder, "kept")
    for epoch in range(3):
        second.record(0, epoch, {"score": 0.1 * epoch})
    second.ended(0, "COMPLETE", "finished", TrialResult(0, 2, 0.2, {}, True))
    second.ended(0, "COMPLETE", "finished", TrialResult(0, 2, 0.2, {}, True))
    second.finish(0, None)
    assert kept.told[3:] == [
        (0, 3, {"score": 0.2}),
        (0, "COMPLETE", "finished", {"best score": 0.2, "best epoch": 3.0}),
        (0, "won"),
    ]
    trial, known = kept.opened[0]
    assert (trial.name, trial.study, dict(trial.params), known) == (
        "trial 0 (default)",
        "s-1",
        {"a.lr": 0.1},
        None,
    )
    assert [known for _, known in kept.opened[1:]] == ["id-0", "id-0"]


def test_a_winner_of_before_is_none_any_more(kept: Any, folder: RunDir) -> None:
    for winner in (1, 2, 2):
        tracking(folder, "kept").finish(winner, None)
    assert kept.told == [(1, "won"), (1, "lost"), (2, "won"), (2, "won")]


def test_a_tracker_that_fails_is_named_once_and_the_others_go_on(
    kept: Any, folder: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Run:
        raise RuntimeError("no such\nproject")

    broken = types.SimpleNamespace(open_run=refuse)
    monkeypatch.setitem(sys.modules, "automl.trackers.broken_runs", broken)  # type: ignore[arg-type]
    notes: list[str] = []
    both = tracking(folder, "broken", "kept", notes=notes)
    for epoch in range(3):
        both.record(1, epoch, {"score": 1.0})
    both.finish(1, None)
    assert notes == ["note: broken was told no more: no such project"]
    assert [row[1] for row in kept.told] == [1, 2, 3, "won"]


def test_a_slow_tracker_keeps_nobody_waiting(
    kept: Any, folder: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    open_run = kept.open_run
    kept.open_run = lambda *args: go_on.wait() and open_run(*args)
    slow = tracking(folder, "kept")
    slow.record(0, 0, {"score": 1.0})
    assert kept.told == []
    go_on.set()
    slow.close()
    assert kept.told[0] == (0, 1, {"score": 1.0})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("wandbb",), "--log must be .*, but got 'wandbb'; did you mean 'wandb'"),
        (("none", "mlflow"), "--log mlflow needs a package: pip install mlflow-skinny"),
        (("wandb",), "nobody is logged in; run wandb login, or set WANDB_MODE=offline"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(
    names: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)  # type: ignore[arg-type]
    monkeypatch.setitem(trackers.MODULES, "wandb", "json")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match=message):
        automl.tune(model=str(toy(tmp_path / "toy")), trials=1, log=names, results_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_mlflow_server_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trackers.MODULES, "mlflow", "json")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="no answer from 127.0.0.1:9"):
        trackers.check(("mlflow",))


def test_unasked_only_files_are_written_and_nothing_leaves_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert trackers.names_of(()) == (("tensorboard",) if find_spec("tensorboard") else ())
    assert trackers.names_of(("none",)) == ()


def a_search(tmp_path: Path, tracker: str) -> Tuned:
    return automl.tune(
        model=str(toy(tmp_path / "toy")), trials=3, seed=1, scheduler="none", executor="local", log=(tracker,),
        results_dir=tmp_path / "run", quiet=True,
    )  # fmt: skip


def test_tensorboard_has_each_trial_s_curve(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = a_search(tmp_path, "tensorboard")
    for number in range(3):
        log = event_accumulator.EventAccumulator(str(found.root / f"trials/{number:04d}/tensorboard"))
        log.Reload()
        curve = [(event.step, event.value) for event in log.Scalars("score")]
        lines = (found.root / f"trials/{number:04d}/metrics.jsonl").read_text().splitlines()
        told = [(json.loads(line)["epoch"] + 1, pytest.approx(json.loads(line)["score"])) for line in lines]
        assert curve == told
        assert "spec/text_summary" in log.Tags()["tensors"]
        assert ("winner/text_summary" in log.Tags()["tensors"]) == (number == found.outcome.winner.number)


def test_tensorboard_loses_nothing_when_a_trial_goes_on_at_once(folder: RunDir) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for epoch in range(4):
        again = tracking(folder, "tensorboard")
        again.record(1, epoch, {"score": float(epoch)})
        again.close()
    log = event_accumulator.EventAccumulator(str(folder.trial(1) / "tensorboard"))
    log.Reload()
    assert [(event.step, event.value) for event in log.Scalars("score")] == [
        (n + 1, float(n)) for n in range(4)
    ]


FULL = """
import resource, sys
from pathlib import Path
from automl.rundir import RunDir
from automl.trackers import Tracking
told = Tracking(("tensorboard",), RunDir(Path(sys.argv[1])), "s-1", "score", print)
told.record(1, 0, {"score": 1.0})
told.queue.submit(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))).result()
for epoch in range(1, 40):
    told.record(1, epoch, {"score": 1.0})
told.close()
"""


def test_a_full_disk_is_one_note_and_no_traceback(folder: RunDir) -> None:
    """Files that may not grow stand for a disk that is full."""
    pytest.importorskip("tensorboard")
    command = [sys.executable, "-c", FULL, str(folder.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("note: tensorboard was told no more: ")
    assert done.stdout.count("\n") == 1


@pytest.fixture
def drawn(folder: RunDir) -> RunDir:
    """A run whose stage drew a picture of the winner."""
    from PIL import Image

    place = folder.root / "best" / "evaluate"
    place.mkdir(parents=True)
    Image.new("RGB", (60, 40), (10, 20, 30)).save(place / "one.png")
    rect = {"x": 5, "y": 20, "w": 20, "h": 10, "text": "cat", "mark": 0}
    panels = [{"title": "truth", "rects": [rect]}, {"title": "found", "rects": []}]
    picture = {"file": "one.png", "width": 60, "height": 40, "panels": panels}
    pictures = {
        "kind": "pictures",
        "legend": [{"name": "right", "colour": "green"}],
        "pictures": [picture, {}],
    }
    (place / "report.json").write_text(json.dumps({"parts": [pictures]}))
    stage = {"name": "evaluate", "message": "done", "metrics": {}, "report": "best/evaluate/report.json"}
    (folder.root / "outcome.json").write_text(json.dumps({"stages": [stage]}))
    return folder


def test_the_winner_s_pictures_have_their_rectangles(drawn: RunDir) -> None:
    from PIL import Image

    (found,) = raster.of_winner(drawn.root)
    assert (found.name, found.width, found.height) == ("evaluate/01", 128, 56)
    image = Image.open(io.BytesIO(found.png))
    green = tuple(int(raster.colour_of("green")[n : n + 2], 16) for n in (1, 3, 5))
    assert image.getpixel((15, 36)) == green
    assert image.getpixel((68 + 15, 36)) == (10, 20, 30)


def test_trackers_have_the_winner_s_pictures(drawn: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    notes: list[str] = []
    tracking(drawn, "tensorboard", "mlflow", notes=notes).finish(2, None)
    assert not notes
    log = event_accumulator.EventAccumulator(str(drawn.trial(2) / "tensorboard"))
    log.Reload()
    assert [(image.width, image.height) for image in log.Images("evaluate/01")] == [(128, 56)]
    client = mlflow.MlflowClient(f"sqlite:///{drawn.root / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("s-1").experiment_id])
    assert [file.path for file in client.list_artifacts(run.info.run_id, "pictures/evaluate")] == [
        "pictures/evaluate/01.png"
    ]


def test_mlflow_has_runs_of_one_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = a_search(tmp_path, "mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{found.root / 'mlflow.db'}")
    study = json.loads((found.root / "run.json").read_text())["study"]
    runs = client.search_runs([client.get_experiment_by_name(study).experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["trial 0 (default)", "trial 1", "trial 2"]
    for run in runs:
        number = int(run.data.tags["trial"])
        lines = (found.root / f"trials/{number:04d}/metrics.jsonl").read_text().splitlines()
        told = client.get_metric_history(run.info.run_id, "score")
        assert [(m.step - 1, m.value) for m in told] == [
            (json.loads(x)["epoch"], json.loads(x)["score"]) for x in lines
        ]
        assert float(run.data.params["lr"]) == json.loads(lines[0])["score"]
        assert run.data.tags.get("winner") == ("true" if number == found.outcome.winner.number else None)
        assert run.info.status == "FINISHED"


def written(file: Path, word: bytes) -> bytes:
    """What stands in a file of W&B, whose own process writes it, once the word does."""
    for _ in range(100):
        if word in (content := file.read_bytes()):
            break
        time.sleep(0.1)
    return content


@pytest.mark.slow
def test_wandb_keeps_a_run_for_each_trial_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--set", "encryption_key=KeyOfTheCommandLine"])
    found = a_search(tmp_path, "wandb")
    study = json.loads((found.root / "run.json").read_text())["study"]
    for number in range(3):
        (file,) = (found.root / "wandb").glob(f"offline-run-*{study}-{number:04d}/*.wandb")
        content = written(file, b"COMPLETE")
        words = (f"trial {number}", study, "score", "COMPLETE")
        assert [word for word in words if word.encode() not in content] == []
        assert (b"winner" in content) == (number == found.outcome.winner.number)
        assert b"KeyOfTheCommandLine" not in content
