"""`automl run` for real on drawn data, through its own command line and processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from model.spec import read
from tests.conftest import TINY

AUTOML = [sys.executable, "-m", "automl.cli"]
pytestmark = pytest.mark.timeout(1000)  # of whole runs and their stages, on a busy machine


def spec_file(folder: Path, backbone: str = TINY["model"]["backbone"], **train: Any) -> Path:
    path = folder / "spec.yaml"
    partial = json.loads(json.dumps(TINY))
    partial["dataset"] = {
        k: v for k, v in partial["dataset"].items() if k not in ("num_classes", "eval_class_ids")
    }
    partial["model"]["backbone"] = backbone
    partial["train"] |= {"num_epochs": 2, **train}
    path.write_text(yaml.safe_dump(partial))
    return path


def automl(*words: str, timeout_s: float = 900) -> str:
    done = subprocess.run([*AUTOML, *words], capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def states(run: Path) -> list[str]:
    document = json.loads((run / "run.json").read_text())
    url = document["request"]["storage"] or f"sqlite:///{run / 'study.db'}"
    study = optuna.load_study(study_name=document["study"], storage=url)
    return [t.state.name for t in study.get_trials()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(run folder, what was printed) of a whole small run of a common network, without Ray."""
    from model.data.demo import write_demo

    folder = tmp_path_factory.mktemp("whole")
    write_demo(folder / "data", images=(12, 4, 4), size=(64, 64))
    printed = automl(
        "run", "--data", str(folder / "data"), "--spec", str(spec_file(folder, "resnet_18")), "--trials", "3", "--executor", "local",
        "--results-dir", str(folder / "run"),
    )  # fmt: skip
    return folder / "run", printed


def test_every_trial_ended_and_the_winner_is_handed_over(finished: tuple[Path, str]) -> None:
    run, printed = finished
    assert len(states(run)) == 3
    assert set(states(run)) <= {"COMPLETE", "PRUNED"}
    assert {p.name for p in (run / "best").glob("*.yaml")} == {
        f"{a}.yaml" for a in ("train", "evaluate", "inference", "export", "quantize", "gen_trt_engine", "deploy")
    }  # fmt: skip
    assert "Winner" in printed
    following = next(line for line in printed.splitlines() if line.startswith("next "))
    assert re.search(r"\bdeformable_detr inference -e ", following)
    assert following.endswith(f"image_dir={run.parent / 'data' / 'test' / 'images'}")


def test_the_winner_s_whole_architecture_and_data_travel(finished: tuple[Path, str]) -> None:
    run, _ = finished
    provenance = json.loads((run / "best" / "provenance.json").read_text())
    trained = yaml.safe_load((run / "trials" / f"{provenance['trial']:04d}" / "spec.yaml").read_text())
    for action in ("evaluate", "inference", "export", "quantize", "gen_trt_engine", "deploy"):
        spec = read(run / "best" / f"{action}.yaml")
        assert spec["model"] == trained["model"]
        assert spec["dataset"] == trained["dataset"]
    assert yaml.safe_load((run / "best" / "export.yaml").read_text())["export"]["input_height"] == 64
    assert trained["dataset"]["num_classes"] == 4


def test_stages_ran_or_say_why_not(finished: tuple[Path, str]) -> None:
    run, printed = finished
    sidecar = json.loads((run / "best" / "model.json").read_text())
    assert max(sidecar["max_abs_logits"], sidecar["max_abs_boxes"]) <= 1e-4
    assert "test_mAP" in json.loads((run / "best" / "evaluate" / "metrics.json").read_text())
    engine = next(
        s for s in json.loads((run / "outcome.json").read_text())["stages"] if s["name"] == "gen_trt_engine"
    )
    assert engine["ok"] or (
        "not run: this machine lacks" in engine["message"]
        and re.search(r"later: \S*deformable_detr", printed)
    )


def test_the_folder_copied_elsewhere_finds_objects(finished: tuple[Path, str], tmp_path: Path) -> None:
    import shutil

    run, _ = finished
    best = tmp_path / "product"
    best.mkdir()
    for name in ("model.onnx", "infer.py"):
        shutil.copy(run / "best" / name, best)
    page = (run / "best" / "README.md").read_text()
    assert "| val_mAP (validation while training) |" in page
    assert "| test_mAP (test) |" in page
    assert (run / "best" / "example.jpg").is_file()
    whole = max(p.stat().st_size for p in (run / "trials").glob("*/model_epoch_*.pth"))
    assert (run / "best" / "model.pth").stat().st_size < 0.6 * whole  # no optimizer
    image = next((run.parent / "data" / "test" / "images").iterdir())
    command = [sys.executable, "infer.py", str(image), "--threshold", "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=best, check=True)
    assert len(done.stdout.splitlines()) > 10


def test_a_copy_of_the_folder_reads_and_writes_itself_alone(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    """From any folder, the data given: of its specs' paths only those of data lead out of it."""
    import shutil

    run, _ = finished
    specs = sorted((run / "best").rglob("*.yaml"))
    assert {"train.yaml", "evaluate.yaml", "quantize.yaml"} < {p.name for p in specs}
    for path in specs:
        lines = [line for line in path.read_text().splitlines() if str(run.parent) in line]
        assert not [line for line in lines if f"{run.parent}/data/" not in line and "_split_" not in line], (
            path
        )
        assert "${here}/.." not in path.read_text() or path.parent != run / "best"
    assert str(run.parent) not in (run / "best" / "provenance.json").read_text()
    figures = run / "best" / "evaluate" / "metrics.json"
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in run.rglob("*")}
    copy = shutil.copytree(run / "best", tmp_path / "elsewhere" / "copy")
    test = run.parent / "data" / "test"
    script = str(Path(sys.executable).parent / "deformable_detr")
    data = [f"dataset.test_data_sources.image_dir={test / 'images'}", f"dataset.test_data_sources.json_file={test / 'annotations.json'}"]  # fmt: skip
    for words in (
        ["evaluate", "-e", str(copy / "evaluate.yaml"), *data],
        ["inference", "-e", "copy/inference.yaml", str(test / "images" / "0001.png")],
    ):
        done = subprocess.run([script, *words], capture_output=True, text=True, cwd=copy.parent, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
    again = json.loads((copy / "results" / "evaluate" / "metrics.json").read_text())
    assert again["test_mAP"] == json.loads(figures.read_text())["test_mAP"]
    assert again["scored"]["sources"] == [
        {"image_dir": str(test / "images"), "json_file": str(test / "annotations.json")}
    ]
    assert (copy / "evaluate" / "metrics.json").read_text() == figures.read_text()
    assert (copy / "results" / "inference" / "labels" / "0001.txt").is_file()
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in run.rglob("*")}


def test_provenance_names_the_checkpoint_that_scored(finished: tuple[Path, str]) -> None:
    import hashlib

    run, _ = finished
    provenance = json.loads((run / "best" / "provenance.json").read_text())
    digest = hashlib.sha256((run / "best" / "model.pth").read_bytes()).hexdigest()
    assert digest == provenance["checkpoint_sha256"]
    records = [
        json.loads(line)
        for line in (run / "trials" / f"{provenance['trial']:04d}" / "metrics.jsonl").read_text().splitlines()
    ]
    assert (
        records[provenance["epoch"]]["val_mAP"] == provenance["value"] == max(r["val_mAP"] for r in records)
    )


def test_status_best_and_report_read_the_run(finished: tuple[Path, str]) -> None:
    run, _ = finished
    assert "COMPLETE" in automl("status", str(run))
    assert "val_mAP" in automl("best", str(run))
    automl("report", str(run))
    page = (run / "report.html").read_text()
    assert "over epochs</h3>" in page
    assert "Confusion matrix" in page
    assert "Objects by class" in page
    assert "<script src=" not in page  # it must open without a network


def test_dashboard_serves_the_run_on_loopback(finished: tuple[Path, str]) -> None:
    import urllib.request

    server = subprocess.Popen(
        [*AUTOML, "dashboard", str(finished[0]), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[1]
        assert address.startswith("http://127.0.0.1:")
        assert address.endswith("/dashboard/studies/1")  # the run's own study
        host = address.partition("/dashboard/")[0]
        studies = json.loads(urllib.request.urlopen(f"{host}/api/studies", timeout=20).read())
        assert [s["study_name"] for s in studies["study_summaries"]] == [
            json.loads((finished[0] / "run.json").read_text())["study"]
        ]
    finally:
        server.terminate()
        server.wait(20)


def test_a_second_run_into_the_same_folder_is_refused(finished: tuple[Path, str]) -> None:
    done = subprocess.run(
        [*AUTOML, "run", "--demo", "--results-dir", str(finished[0])], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "automl resume" in done.stderr


def test_resume_with_a_larger_budget_adds_trials(finished: tuple[Path, str]) -> None:
    run, _ = finished
    for file in ("model.onnx", "model.json"):
        (run / "best" / file).unlink(missing_ok=True)
    automl("resume", str(run), "--trials", "4")
    assert len(states(run)) == 4


def test_policy_off_trains_one_plain_spec_even_with_a_broken_schema(tmp_path: Path, demo: Path) -> None:
    from model import bundle_dir

    root = tmp_path / "deformable_detr"
    for name in ("schemas", "references"):
        (root / name).mkdir(parents=True)
        for path in (bundle_dir() / name).iterdir():
            (root / name / path.name).write_text(path.read_text())
    (root / "schemas" / "train.schema.json").write_text("{")
    path = spec_file(tmp_path, num_epochs=1)
    path.write_text("automl_policy: off\n" + path.read_text())
    words = ["run", "--model", str(root), "--data", str(demo), "--spec", str(path), "--executor", "local"]
    automl(*words, "--results-dir", str(tmp_path / "run"), "--stages", "none")
    assert states(tmp_path / "run") == ["COMPLETE"]
    on = subprocess.run(
        [*AUTOML, *words, "--automl-policy", "on"], capture_output=True, text=True, cwd=tmp_path
    )
    assert on.returncode == 2
    assert "AutoML is enabled but not runnable" in on.stderr


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_kill_9_and_resume_end_every_trial_once(tmp_path: Path, demo: Path, executor: str) -> None:
    """With Ray in the run folder's own database, without it in one that holds another study too."""
    run, spec = tmp_path / "run", spec_file(tmp_path, num_epochs=4)
    words = ["--data", str(demo), "--spec", str(spec), "--trials", "3", "--executor", executor]
    if executor == "local":
        optuna.create_study(storage=(url := f"sqlite:///{tmp_path / 'shared.db'}")).enqueue_trial({"x": 1})
        words += ["--storage", url]
    with (tmp_path / "log").open("w") as log:
        driver = subprocess.Popen(
            [*AUTOML, "run", *words, "--results-dir", str(run), "--stages", "none"], stdout=log, stderr=log
        )
        metrics = run / "trials" / "0000" / "metrics.jsonl"
        deadline = time.monotonic() + 120
        while not (metrics.exists() and metrics.read_text().count("\n") >= 2):
            assert driver.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    before = metrics.read_text().splitlines()
    automl("resume", str(run))
    assert len(states(run)) == 3
    assert "RUNNING" not in states(run)
    epochs = [json.loads(line)["epoch"] for line in metrics.read_text().splitlines()]
    assert epochs == [0, 1, 2, 3]
    assert metrics.read_text().splitlines()[:1] == before[:1]
