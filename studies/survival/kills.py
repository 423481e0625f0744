"""Kill a search with SIGKILL, over and over, and go on: is any trial lost, run twice, or changed?

    python studies/survival/kills.py --kind random --kills 50      # the driver, at random moments
    python studies/survival/kills.py --kind event --kills 50       # before its n-th commit, rename, unlink or fsync
    python studies/survival/kills.py --kind trial --kills 10       # a trial's process
    python studies/survival/kills.py --kind random --executor ray --kills 10
    python studies/survival/kills.py --kind random --model deformable_detr --kills 4

Each row: a run is started, killed, and resumed until it ends (killed again on the way when `--again`), then held
against the same run without a kill: the same trials with the same values, every epoch once, a winner in best/. Appends
to kills.jsonl; the exit code is the number of rows that are not right.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOY = ROOT / "examples" / "numpy_net"
TRIALS = 8
EPOCHS = 6


def command(args: argparse.Namespace, run: Path, resume: bool = False, at_event: int = 0) -> list[str]:
    """The driver's command line; `at_event` > 0: through `dying.py`, which kills itself just before that event."""
    program = (
        [sys.executable, str(HERE / "dying.py"), str(at_event)]
        if at_event
        else [sys.executable, "-m", "automl.cli"]
    )
    if resume:
        return [*program, "resume", str(run)]
    words = ["run", "--results-dir", str(run), "--executor", args.executor, "--seed", "3"]
    if args.model == "numpy_net":
        words += ["--model", str(TOY), "--set", f"epochs={EPOCHS}", "--trials", str(TRIALS)]
        return [*program, *words, "--sampler", args.sampler, "--scheduler", args.scheduler]
    detector = ["--trials", "3", "--set", "num_epochs=2", "--stages", "none"]
    return [*program, *words, "--model", args.model, "--demo", *detector]


def start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(words, stdout=out, stderr=out, cwd=ROOT, start_new_session=True)


def children_of(pid: int) -> list[int]:
    """All processes below `pid`, oldest first."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *children_of(int(child))]
    return found


def kill(process: subprocess.Popen[bytes], kind: str, draw: random.Random) -> str:
    """Kill what the kind says; returns what was hit."""
    if kind == "trial":
        below = children_of(process.pid)
        if not below:
            return "nothing ran yet"
        victim = below[-1]
        with open(f"/proc/{victim}/cmdline", "rb") as file:
            name = file.read().replace(b"\0", b" ")[:60].decode(errors="replace")
        os.kill(victim, signal.SIGKILL)
        return f"process {name}"
    process.kill()
    return "driver"


def summary(run: Path) -> dict[str, Any]:
    """What a run has come to: {number: (state, params, curve)}, its winner and whether best/ is whole."""
    from automl.rundir import RunDir
    from automl.storage import load_study

    study = load_study(RunDir(run).read_run(), run)
    assert study is not None
    trials = {
        t.number: [t.state.name, t.user_attrs.get("params"), sorted(t.intermediate_values.items())]
        for t in study.trials()
    }
    best = study.best()
    provenance = run / "best" / "provenance.json"
    return {
        "trials": trials,
        "winner": best and [best.number, best.epoch, best.value],
        "handed_over": provenance.exists() and json.loads(provenance.read_text())["trial"],
        "checkpoint": bool(list((run / "best").glob("model.*"))),
    }


def wrong(found: dict[str, Any], expected: dict[str, Any], exact: bool) -> list[str]:
    """How a run that was killed differs from one that was not."""
    problems = []
    if sorted(found["trials"]) != sorted(expected["trials"]):
        problems.append(f"trials {sorted(found['trials'])} instead of {sorted(expected['trials'])}")
    for number, (state, params, curve) in found["trials"].items():
        epochs = [epoch for epoch, _ in curve]
        if state == "RUNNING":
            problems.append(f"trial {number} is RUNNING")
        if epochs != list(range(len(epochs))):
            problems.append(f"trial {number} has epochs {epochs}")
        there = expected["trials"].get(number)
        if there and params != there[1]:
            problems.append(f"trial {number} has other values")
        if exact and there and curve != there[2]:
            problems.append(f"trial {number} has another curve")
    if found["handed_over"] != found["winner"][0] or not found["checkpoint"]:
        problems.append("best/ is not the winner's")
    return problems


def one(
    args: argparse.Namespace, n: int, expected: dict[str, Any], lasted_s: float, work: Path
) -> dict[str, Any]:
    """Start, kill, resume until it ends."""
    draw = random.Random(f"{args.seed}/{args.kind}/{args.executor}/{args.model}/{n}")
    run = work / f"{args.kind}_{n:03d}"
    event = draw.randrange(1, args.events) if args.kind == "event" else 0
    process, hits, resume = start(command(args, run, at_event=event), work / "log.txt"), [], False
    for life in range(12):
        if args.kind == "event" and life == 0:
            process.wait(600)
            hits.append(f"event {event}")
        elif life < args.again:
            try:
                process.wait(draw.uniform(0.3, max(0.5, 0.9 * lasted_s)))
            except subprocess.TimeoutExpired:
                hits.append(kill(process, args.kind, draw))
        try:
            code = process.wait(600)
        except subprocess.TimeoutExpired:
            process.kill()
            return {"n": n, "hits": hits, "right": False, "wrong": ["it hangs"]}
        if code == 0:
            break
        resume = (run / "run.json").exists()
        process = start(command(args, run, resume=resume), work / "log.txt")
    found = summary(run)
    # Under Ray and with a killed trial, what a trial saw of others when it was judged is the same: one at a time.
    problems = wrong(found, expected, exact=args.model == "numpy_net")
    if not problems:
        shutil.rmtree(run)
    return {"n": n, "hits": hits, "lives": life + 1, "right": not problems, "wrong": problems}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=("random", "event", "trial"), default="random")
    parser.add_argument("--executor", choices=("local", "ray"), default="local")
    parser.add_argument("--model", default="numpy_net")
    parser.add_argument("--sampler", default="fgp", help="of the small trainer's searches, as the next")
    parser.add_argument("--scheduler", default="fgp")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--again", type=int, default=1, help="lives that are killed before one may end")
    parser.add_argument("--events", type=int, default=400, help="the n of the n-th event is drawn below this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "kills.jsonl")
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="kills-"))
    began = time.monotonic()
    if start(command(args, work / "whole"), work / "log.txt").wait(900):
        print((work / "log.txt").read_text()[-2000:])
        return 99
    lasted_s = time.monotonic() - began
    expected = summary(work / "whole")
    bad = 0
    for n in range(args.kills):
        row = one(args, n, expected, lasted_s, work)
        bad += not row["right"]
        asked = {name: getattr(args, name) for name in ("kind", "executor", "model", "sampler", "scheduler")}
        row = asked | row
        with args.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    print(f"{args.kills - bad} of {args.kills} right; a whole run takes {lasted_s:.1f} s; work: {work}")
    if not bad:
        shutil.rmtree(work)
    return bad


if __name__ == "__main__":
    sys.exit(main())
