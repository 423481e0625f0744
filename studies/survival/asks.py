"""What a decision costs when a study is large: ask, report with its decision, tell, at 100, 1,000 and 10,000 trials.

    python studies/survival/asks.py [--url postgresql://...]

A study of the demo's search space (16 parameters) is filled through the engine's own `Study`, with curves of nine
epochs; at each size 30 trials are asked for, reported and told, and the medians are written to asks.json. Default
sampler and scheduler, SQLite in a run folder unless a URL is given.
"""

from __future__ import annotations

import argparse
import json
import platform
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
from automl.plan import compile_for, merge  # noqa: E402
from automl.request import RunRequest  # noqa: E402
from automl.storage import open_storage  # noqa: E402
from automl.study import Study  # noqa: E402

EPOCHS, ROUNDS, SIZES = 9, 30, (100, 1_000, 10_000)


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


def measure(study: Study) -> dict[str, float]:
    """Median and largest ms of ask, report + decide, tell, and the median of CPU time (wall time counts what else the
    machine does, and the disk)."""
    scheduler = schedulers.make("halving")
    times: dict[str, list[float]] = {"ask": [], "report_and_decide": [], "tell": []}
    cpu: dict[str, list[float]] = {name: [] for name in times}

    def timed(name: str, call: Any) -> Any:
        began, busy = time.perf_counter(), time.process_time()
        result = call()
        times[name].append(1e3 * (time.perf_counter() - began))
        cpu[name].append(1e3 * (time.process_time() - busy))
        return result

    random = np.random.default_rng(0)
    for _ in range(ROUNDS):
        number, _ = timed("ask", study.ask)
        for epoch in range(3):

            def epoch_done(epoch: int = epoch, number: int = number) -> None:
                study.report(number, epoch, float(random.uniform(0.1, 0.6)))
                study.decide(number, epoch, scheduler, EPOCHS)

            timed("report_and_decide", epoch_done)
        timed("tell", lambda number=number: study.tell(number, "PRUNED", "measured"))
    found = {}
    for name, values in times.items():
        found |= {f"{name}_ms": round(statistics.median(values), 2), f"{name}_ms_max": round(max(values), 2)}
        found[f"{name}_cpu_ms"] = round(statistics.median(cpu[name]), 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="database; default: SQLite in a new folder")
    parser.add_argument("--out", type=Path, default=HERE / "asks.json")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    args = parser.parse_args()
    model = bundle.resolve("deformable_detr")
    request = RunRequest(model="deformable_detr", preset="demo")
    base = merge(request, model)[0].spec
    space = compile_for(model, base, request, {}, {}, True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            study = Study(open_storage(args.url, Path(folder)), "asks", space, "tpe", 0)
            fill(study, space, size)
            began = time.perf_counter()
            study = Study(open_storage(args.url, Path(folder)), "asks", space, "tpe", 0)
            opened_s = time.perf_counter() - began
            rows.append({"trials": size, "open_s": round(opened_s, 2)} | measure(study))
            print(json.dumps(rows[-1]), flush=True)
    kind = "sqlite" if args.url is None else args.url.partition(":")[0]
    known = json.loads(args.out.read_text()) if args.out.exists() else {}
    known[kind] = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "rows": rows,
    }
    args.out.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
