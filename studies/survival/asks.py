"""What a decision costs when a study is large: ask, report with its decision, tell, at 100, 1,000 and 10,000 trials.

    OMP_NUM_THREADS=1 python studies/survival/asks.py [--sampler S] [--scheduler S] [--url postgresql://... | server]

A study of the demo's search space (16 parameters) is filled through the engine's own `Study`, with curves of nine
epochs; at each size 30 trials are asked for, reported and told (or paused, where the scheduler says so), and what that
took is written to asks.json. SQLite in a run folder unless a URL is given; `server`: a PostgreSQL of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from automl import bundle, schedulers  # noqa: E402
from automl.budget import Limits  # noqa: E402
from automl.plan import compile_for, merge  # noqa: E402
from automl.request import RunRequest  # noqa: E402
from automl.storage import open_storage  # noqa: E402
from automl.study import Study  # noqa: E402
from studies.machine import describe  # noqa: E402
from tests.automl import postgresql  # noqa: E402

EPOCHS, ROUNDS, SIZES = 9, 30, (10, 100, 1_000, 10_000)
MEMORY = "memory"


def fill(study: Study, space: Any, upto: int) -> None:
    """Finished trials, written as the driver writes a new one: whole, in one transaction."""
    import optuna

    number = len(study.trials())
    draws = space.sample(upto - number, seed=number)
    random = np.random.default_rng(number)
    templates = []
    for params in draws:
        raw = space.enqueue_params(params)
        top, length = float(random.uniform(0.1, 0.6)), int(random.choice([1, 3, 9], p=[0.5, 0.25, 0.25]))
        curve = {e: top * (1 - 0.5 ** (e + 1)) for e in range(length)}
        whole = length == EPOCHS
        templates.append(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE if whole else optuna.trial.TrialState.PRUNED,
                value=max(curve.values()) if whole else None,
                params=raw,
                distributions={name: space.distributions[name] for name in raw},
                intermediate_values=curve,
                user_attrs={"params": params, "best_epoch": length - 1, "reason": "drawn"},
            )
        )
    for template in templates:
        study.storage.create_new_trial(study._id, template_trial=template)


def measure(study: Study, scheduler_name: str) -> dict[str, float]:
    """Median and largest ms of choosing the next trial, report + decide, tell; of CPU time too (wall time counts what
    else the machine does, and the disk)."""
    scheduler, limits = schedulers.make(scheduler_name), Limits(trainings=10**6)
    times: dict[str, list[float]] = {"ask": [], "report_and_decide": [], "tell": []}
    cpu: dict[str, list[float]] = {name: [] for name in times}

    def timed(name: str, call: Any) -> Any:
        began, busy = time.perf_counter(), time.process_time()
        result = call()
        times[name].append(1e3 * (time.perf_counter() - began))
        cpu[name].append(1e3 * (time.process_time() - busy))
        return result

    random = np.random.default_rng(0)

    def next_one() -> int:
        study.budget = limits.left(study, EPOCHS)
        scheduler.promote(study.view())  # what it says is not followed: a new one is asked for each time
        return study.ask()[0]

    def epoch_done(number: int, epoch: int) -> Any:
        study.report(number, epoch, float(random.uniform(0.1, 0.6)))
        study.budget = limits.left(study, EPOCHS)
        return study.decide(number, epoch, scheduler, EPOCHS)

    for _ in range(ROUNDS):
        number = timed("ask", next_one)
        for epoch in range(EPOCHS - 1):
            verdict = timed("report_and_decide", lambda n=number, e=epoch: epoch_done(n, e))
            if verdict is not None and verdict.action == "pause":
                study.set_paused(number, epoch)
                break
        else:
            timed("tell", lambda n=number: study.tell(n, "PRUNED", "measured"))
    found = {}
    for name, values in times.items():
        found |= {f"{name}_ms": _median(values), f"{name}_ms_max": round(max(values, default=0.0), 2)}
        found |= {
            f"{name}_cpu_ms": _median(cpu[name]),
            f"{name}_cpu_ms_max": round(max(cpu[name], default=0.0), 2),
        }
    return found


def _storage(url: str | None, folder: str) -> Any:
    import optuna

    return optuna.storages.InMemoryStorage() if url == MEMORY else open_storage(url, Path(folder))


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 2) if values else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sampler", default=RunRequest.sampler)
    parser.add_argument("--scheduler", default=RunRequest.scheduler)
    parser.add_argument(
        "--url",
        help="database; server: a PostgreSQL of its own; memory: none at all; default: SQLite in a new folder",
    )
    parser.add_argument("--out", type=Path, default=HERE / "asks.json")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    args = parser.parse_args()
    model = bundle.resolve("deformable_detr")
    request = RunRequest(model="deformable_detr", preset="demo")
    base = merge(request, model)[0].spec
    space = compile_for(model, base, request, {}, {}, True)
    rows = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as started:
        if args.url == "server":
            args.url = postgresql.make_database(started.enter_context(postgresql.server()), "asks")
        for size in args.sizes:
            study = Study(_storage(args.url, folder), "asks", space, args.sampler, 0)
            fill(study, space, size)
            began = time.perf_counter()
            storage = study.storage if args.url == MEMORY else _storage(args.url, folder)
            study = Study(storage, "asks", space, args.sampler, 0)
            opened_s = time.perf_counter() - began
            rows.append({"trials": size, "open_s": round(opened_s, 2)} | measure(study, args.scheduler))
            print(json.dumps(rows[-1]), flush=True)
    kind = "sqlite" if args.url is None else args.url.partition(":")[0]
    known = json.loads(args.out.read_text()) if args.out.exists() else {}
    known[f"{kind} {args.sampler} {args.scheduler}"] = {"machine": describe(), "rows": rows}
    args.out.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
