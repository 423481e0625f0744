"""Trials on a cluster of two machines with pretended GPUs, a machine that is lost, a GPU that four trials share, and
signals at random moments. Everything runs here, on loopback; the trainer sleeps.

    python studies/survival/cluster.py [spread] [lost] [shared] [signals]    # writes cluster.json
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
EPOCHS, EPOCH_S = 4, 10.0
TRAINER = """
    import json, os, pathlib, sys, time, yaml
    spec = yaml.safe_load(open(sys.argv[1]))
    folder = pathlib.Path(spec["results_dir"])
    metrics, times = folder / "metrics.jsonl", folder / "times.jsonl"
    gpu = os.environ["CUDA_VISIBLE_DEVICES"]
    first = len(metrics.read_text().splitlines()) if metrics.exists() else 0
    def note(what):
        with times.open("a") as file:
            file.write(json.dumps({"what": what, "at": time.time(), "gpu": gpu, "from": first}) + chr(10))
    note("start")
    for epoch in range(first, spec["train"]["num_epochs"]):
        time.sleep(spec["train"]["epoch_s"])
        name = f"model_epoch_{epoch:03d}.pth"
        (folder / name).write_text("weights")
        value = epoch / 10 + spec["train"]["lr"] / 100
        with metrics.open("a") as file:
            file.write(json.dumps({"epoch": epoch, "val_mAP": value, "checkpoint": name}) + chr(10))
    note("end")
"""


def write_toy(root: Path) -> Path:
    """A model folder whose trainer sleeps through its epochs."""
    for name in ("schemas", "references"):
        (root / name).mkdir(parents=True)
    (root / "trainer.py").write_text(textwrap.dedent(TRAINER))
    command = f"{sys.executable} {root}/trainer.py {{config_path}}"
    skill = {
        "network_arch": "toy",
        "automl_enabled": True,
        "metrics": {"val_mAP": "maximize"},
        "gpu_spec_key": "train.num_gpus",
        "actions": {"train": {"command": command}},
        "spec_params": {"train": {"train.resume": "resume_model", "results_dir": "output_dir"}},
    }
    train = {"num_epochs": EPOCHS, "epoch_s": EPOCH_S, "lr": 0.1, "num_gpus": 1, "resume": ""}
    (root / "references/skill_info.yaml").write_text(yaml.safe_dump(skill))
    template = {"train": train, "results_dir": ""}
    (root / "references/spec_template_train.yaml").write_text(yaml.safe_dump(template))
    leaves = {
        "num_epochs": {"type": "integer", "default": EPOCHS, "minimum": 1},
        "num_gpus": {"type": "integer", "default": 1, "minimum": 1},
        "epoch_s": {"type": "number", "default": EPOCH_S},
        "lr": {"type": "number", "default": 0.1, "minimum": 1e-4, "maximum": 1.0},
        "resume": {"type": "string", "default": ""},
    }
    properties = {
        "train": {"type": "object", "properties": leaves},
        "results_dir": {"type": "string", "default": ""},
    }
    schema = {"type": "object", "properties": properties}
    (root / "schemas/train.schema.json").write_text(json.dumps(schema))
    return root


def start(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """`automl run` on the toy in `folder`, with a run folder beside it."""
    boot = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # as in a terminal
    boot += "; from automl.cli import main; main()"
    options = ["--sampler", "random", "--scheduler", "none", "--stages", "none", "--tune", "train.lr"]
    argv = ["run", "--model", str(folder / "toy"), "--results-dir", str(folder / "run"), *options, *words]
    return subprocess.Popen(
        [sys.executable, "-c", boot, *argv],
        env=os.environ | environment,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def trials(folder: Path) -> dict[str, Any]:
    """What the trials' own files say: how many are whole, epochs told twice, restarted; how many trials each GPU
    had, and on average while there were trials to start (1: always in use), and how many there were at once."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    whole = twice = restarted = 0
    for trial in sorted((folder / "run/trials").glob("*")):
        epochs = [record["epoch"] for record in lines(trial / "metrics.jsonl")]
        whole += epochs == list(range(EPOCHS))
        twice += len(epochs) - len(set(epochs))
        times = lines(trial / "times.jsonl")
        restarted += sum(each["what"] == "start" for each in times) > 1
        for a, b in itertools.pairwise(times):
            if a["what"] == "start" and b["what"] == "end":
                spans[a["gpu"]].append((a["at"], b["at"]))
    everything = [span for found in spans.values() for span in found]
    begins, last_begin = (
        min((a for a, _ in everything), default=0.0),
        max((a for a, _ in everything), default=1.0),
    )
    used = {
        gpu: round(sum(max(0.0, min(b, last_begin) - a) for a, b in found) / (last_begin - begins), 3)
        for gpu, found in sorted(spans.items())
    }
    gaps = [
        b[0] - a[1] for found in spans.values() for a, b in itertools.pairwise(sorted(found)) if b[0] > a[1]
    ]
    return {
        "whole": whole,
        "epochs_twice": twice,
        "restarted": restarted,
        "trials_on": {gpu: len(found) for gpu, found in sorted(spans.items())},
        "used": used,
        "spans_s": {
            gpu: [[round(a - begins, 1), round(b - begins, 1)] for a, b in sorted(found)]
            for gpu, found in sorted(spans.items())
        },
        "between_two_s": round(statistics.median(gaps), 2) if gaps else None,
        "at_once": max((sum(a <= moment < b for a, b in everything) for moment, _ in everything), default=0),
    }


class TwoMachines:
    """Two raylets: one with the GPUs 0 and 1, one with 2 and 3."""

    def __init__(self) -> None:
        os.environ["RAY_AUTH_MODE"] = "disabled"
        from ray.cluster_utils import Cluster

        os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 2, "include_dashboard": False}
        )
        os.environ["CUDA_VISIBLE_DEVICES"] = "2,3"
        self.second = self.cluster.add_node(num_cpus=4, num_gpus=2)
        self.cluster.wait_for_nodes()
        self.address = str(self.cluster.address)

    def lose_second(self) -> None:
        self.cluster.remove_node(self.second, allow_graceful=False)

    def close(self) -> None:
        self.cluster.shutdown()


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=1800)
    return {
        "exit_code": process.returncode,
        "stderr": err.strip().splitlines()[-3:],
        "traceback": "Traceback" in out + err,
    }


def spread(folder: Path, count: int = 20) -> dict[str, Any]:
    """Trials on both machines: the share of time that each GPU is in use, by the trials' own times."""
    machines = TwoMachines()
    try:
        run = start(folder, "--trials", str(count), "--ray-address", machines.address)
        return {"trials": count, **ended(run), **trials(folder)}
    finally:
        machines.close()


def lost(folder: Path, count: int = 12) -> dict[str, Any]:
    """A machine is killed in the middle of its second trials."""
    machines = TwoMachines()
    try:
        run = start(folder, "--trials", str(count), "--ray-address", machines.address)
        wait_for(lambda: len(list(folder.glob("run/trials/*/times.jsonl"))) >= 8, run)
        time.sleep(1.5 * EPOCH_S)
        machines.lose_second()
        at = time.time()
        result = ended(run)
        after = {
            each["gpu"]
            for path in folder.glob("run/trials/*/times.jsonl")
            for each in lines(path)
            if each["at"] > at + 5
        }
        return {"trials": count, **result, **trials(folder), "gpus_after": sorted(after)}
    finally:
        machines.close()


def shared(folder: Path, executor: str, count: int = 12) -> dict[str, Any]:
    """Four trials at a time on one GPU."""
    words = ["--trials", str(count), "--gpus-per-trial", "0.25", "--executor", executor]
    return {"trials": count, **ended(start(folder, *words, CUDA_VISIBLE_DEVICES="7")), **trials(folder)}


def signals(folder: Path, executor: str, number: int, seed: int) -> dict[str, Any]:
    """A signal at a random moment of a run, then `automl resume`."""
    words = ["--trials", "3", "--executor", executor, "--set", "train.epoch_s=0.5"]
    run = start(folder, *words, CUDA_VISIBLE_DEVICES="")
    wait_for((folder / "run/run.json").exists, run)
    delay_s = random.Random(seed).uniform(0, 12)
    time.sleep(delay_s)
    run.send_signal(number)
    first = ended(run)
    resumed = subprocess.run(
        [sys.executable, "-m", "automl.cli", "resume", str(folder / "run")], capture_output=True, text=True,
        cwd=folder, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    told = f"stopped; go on with: automl resume {shlex.quote(str(folder / 'run'))}"
    return {
        "executor": executor,
        "signal": signal.Signals(number).name,
        "delay_s": round(delay_s, 1),
        "exit_code": first["exit_code"],
        "told": first["stderr"] == [told] or (first["exit_code"] == 0 and not first["stderr"]),
        "stderr": first["stderr"],
        "resumed": resumed.returncode,
        **{key: value for key, value in trials(folder).items() if key in ("whole", "epochs_twice")},
    }


def wait_for(condition: Callable[[], object], run: subprocess.Popen[str]) -> None:
    while not condition() and run.poll() is None:
        time.sleep(0.1)


def in_folder(call: Callable[..., dict[str, Any]], *words: Any) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="survival-"))
    write_toy(folder / "toy")
    try:
        result = call(folder, *words)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(call.__name__, *words, json.dumps(result), flush=True)
    return result


def main(wanted: list[str]) -> None:
    path = HERE / "cluster.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in wanted or ["spread", "lost", "shared", "signals"]:
        if name == "spread":
            results[name] = in_folder(spread)
        elif name == "lost":
            results[name] = in_folder(lost)
        elif name == "shared":
            results[name] = {executor: in_folder(shared, executor) for executor in ("local", "ray")}
        else:
            results[name] = [
                in_folder(signals, executor, number, seed)
                for executor, seeds in (("local", 4), ("ray", 3))
                for number in (signal.SIGTERM, signal.SIGINT)
                for seed in range(seeds)
            ]
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
