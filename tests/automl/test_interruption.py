"""Ctrl-C and SIGTERM: the run ends in order, says how to go on, and goes on. With the real command and a toy trainer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from automl import loop
from automl.errors import Resumable
from automl.executors.local import LocalExecutor
from automl.progress import Progress
from automl.request import RunRequest

PATIENCE_S = 140
TRAINER = """
    import json, pathlib, signal, sys, time, yaml
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    spec = yaml.safe_load(open(sys.argv[1]))
    folder = pathlib.Path(spec["results_dir"])
    metrics = folder / "metrics.jsonl"
    first = len(metrics.read_text().splitlines()) if metrics.exists() else 0
    for epoch in range(first, spec["train"]["num_epochs"]):
        time.sleep(spec["train"]["epoch_s"])
        (folder / f"model_epoch_{epoch}.pth").write_text("weights")
        record = {"epoch": epoch, "val_mAP": epoch / 10, "checkpoint": f"model_epoch_{epoch}.pth"}
        with metrics.open("a") as file:
            file.write(json.dumps(record) + chr(10))
"""


def write_toy(root: Path) -> Path:
    """A model whose trainer sleeps through its epochs and does not listen to SIGTERM."""
    (root / "schemas").mkdir(parents=True)
    (root / "references").mkdir()
    (root / "trainer.py").write_text(textwrap.dedent(TRAINER))
    info = {
        "network_arch": "toy",
        "automl_enabled": True,
        "metrics": {"val_mAP": "maximize"},
        "actions": {"train": {"command": f"{sys.executable} {root}/trainer.py {{config_path}}"}},
        "spec_params": {"train": {"train.resume": "resume_model", "results_dir": "output_dir"}},
    }
    train = {"num_epochs": 3, "epoch_s": 0.3, "lr": 0.1, "resume": ""}
    (root / "references/skill_info.yaml").write_text(yaml.safe_dump(info))
    (root / "references/spec_template_train.yaml").write_text(
        yaml.safe_dump({"train": train, "results_dir": ""})
    )
    leaves = {
        "num_epochs": {"type": "integer", "default": 3, "minimum": 1},
        "epoch_s": {"type": "number", "default": 0.3},
        "lr": {"type": "number", "default": 0.1, "minimum": 1e-4, "maximum": 1.0, "automl_enabled": True},
        "resume": {"type": "string", "default": ""},
    }
    schema = {
        "type": "object",
        "properties": {
            "train": {"type": "object", "properties": leaves},
            "results_dir": {"type": "string", "default": ""},
        },
    }
    (root / "schemas/train.schema.json").write_text(json.dumps(schema))
    return root


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `automl ...`; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> subprocess.Popen[str]:
        # As in a terminal: a suite in the background is born ignoring SIGINT.
        boot = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from automl.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", boot, *words],
            cwd=tmp_path, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    assert condition()


@pytest.mark.parametrize(
    ("executor", "number"), [("local", signal.SIGINT), ("local", signal.SIGTERM), ("ray", signal.SIGTERM)]
)
def test_a_signal_ends_a_run_that_then_goes_on(
    tmp_path: Path, start: Start, executor: str, number: signal.Signals
) -> None:
    toy, run = write_toy(tmp_path / "toy"), tmp_path / "a run"
    words = ["--model", str(toy), "--trials", "2", "--stages", "none", "--executor", executor]
    driver = start("run", *words, "--results-dir", str(run), "--set", "train.epoch_s=1.5")
    wait_for((run / "trials/0000/metrics.jsonl").exists)
    driver.send_signal(number)
    out, err = driver.communicate(timeout=PATIENCE_S)
    assert err == f"stopped; go on with: automl resume '{run}'\n"
    assert driver.returncode == 128 + number
    assert "Traceback" not in out
    if executor == "ray":  # slow to start twice, and resuming is the same
        return
    resumed = start("resume", str(run))
    out, err = resumed.communicate(timeout=PATIENCE_S)
    assert (resumed.returncode, err) == (0, "")
    epochs = [
        json.loads(line)["epoch"] for line in (run / "trials/0000/metrics.jsonl").read_text().splitlines()
    ]
    assert epochs == [0, 1, 2]


def test_ctrl_c_in_a_program_is_a_keyboard_interrupt(tmp_path: Path) -> None:
    """Which it may catch, as of any other library."""
    run = tmp_path / "run"
    code = f"""
        import os, signal, threading, time
        from pathlib import Path
        import automl
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def press():
            while not Path({str(run)!r}, "trials/0000/metrics.jsonl").exists():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=press, daemon=True).start()
        try:
            automl.tune(model={str(write_toy(tmp_path / "toy"))!r}, trials=2, executor="local", sets=["train.epoch_s=1.5"],
                        results_dir={str(run)!r}, quiet=True)
        except KeyboardInterrupt as stop:
            print(stop)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.stdout, done.stderr) == (f"stopped; go on with: automl resume {run}\n", "")


def test_a_second_signal_ends_it_at_once(tmp_path: Path, start: Start) -> None:
    """While the first is being obeyed: here it waits for a lock that it will never get."""
    stuck = """
        import sys, threading
        from pathlib import Path
        from automl.interruption import interruptible
        with interruptible(Path("r")):
            try:
                print("ready", flush=True)
                threading.Event().wait()
            finally:
                print("ending", flush=True)
                threading.Event().wait()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(stuck)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "ending\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143
    assert err == "stopped at once; go on with: automl resume r\n"


def test_nobody_takes_a_handler_that_is_held() -> None:
    from automl.interruption import handlers_held

    mine = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    other = signal.getsignal(signal.SIGUSR2)
    try:
        with handlers_held((signal.SIGTERM,)):
            assert signal.signal(signal.SIGTERM, signal.SIG_IGN) == signal.SIG_DFL
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, mine)
        signal.signal(signal.SIGUSR2, other)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("place", ["destructor", "callback"])
def test_a_signal_that_comes_where_python_drops_what_is_raised_still_ends_the_run(
    number: signal.Signals, place: str
) -> None:
    code = f"""
        import os, signal, time, weakref
        from pathlib import Path
        from automl.interruption import interruptible, Interrupted
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def hit(*_):
            os.kill(os.getpid(), {int(number)})
            for _ in range(1000): pass
        class Thing:
            if {place == "destructor"}:
                __del__ = hit
        try:
            with interruptible(Path("r")):
                thing = Thing()
                watch = weakref.ref(thing, hit) if {place == "callback"} else None
                del thing
                time.sleep(20)
                print("lost")
        except Interrupted as stop:
            print(stop.exit_code)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.stdout == f"{128 + number}\n"
    assert done.stderr == ""


def test_a_signal_waits_while_what_would_take_it_is_at_work() -> None:
    """For this process, with the threads that were started inside; its children get theirs."""
    code = """
        import os, signal, subprocess, time
        from automl.interruption import import_with_threads, waiting
        import_with_threads()
        got = []
        signal.signal(signal.SIGTERM, lambda *_: got.append(1))
        def as_ray_does():
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with waiting():
            child = subprocess.Popen(["sleep", "60"], preexec_fn=as_ray_does)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)
            assert not got
            child.terminate()
            assert child.wait(20) == -signal.SIGTERM
        time.sleep(0.01)
        print(got)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.stdout == "[1]\n", done.stderr


def test_what_has_ended_below_a_run_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the run's own folder, as a person must type it."""
    toy, run = write_toy(tmp_path / "toy"), tmp_path / "a run"

    def gone(*_: object) -> None:
        raise Resumable("the process that starts trials has ended")

    monkeypatch.setattr(LocalExecutor, "run", gone)
    with pytest.raises(Resumable, match=f"has ended; go on with: automl resume '{run}'$"):
        loop.run(RunRequest(str(toy), trials=2, executor="local"), run, Progress(quiet=True))
