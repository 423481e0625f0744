"""Is anything ever proposed that the space or the trainer would refuse, or the same twice? Appends to valid.jsonl.

    OMP_NUM_THREADS=1 python -m studies.search.valid --space all [--count 34000] [--draws 20] [--sampler fgp]

Studies of 60 trials each on the demo's settings, with results drawn at random: curves of all lengths, failures, paused
trials. Of each proposal: what the space says, whether it lies where another trial of its study does, and for every
twentieth trial what the schema and the trainer's own check say of the whole spec. `--draws`: so many more proposals
from each state of a study, with other seeds, that become no trials; the model is fitted once for all of them.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna

from automl import hooks, samplers, seeds, spec
from automl.plan import Plan, prepare
from automl.proposals import propose
from automl.request import RunRequest
from automl.study import Study
from studies.machine import describe

HERE = Path(__file__).resolve().parent
TRIALS, EPOCHS, SPEC_EVERY = 60, 9, 20


def one_study(plan: Plan, sampler: str, seed: int, count: int, draws: int = 0) -> dict[str, int]:
    """{what is wrong: how often} in `count` trials, and in `draws` proposals from the state before each of them."""
    study = Study(optuna.storages.InMemoryStorage(), "valid", plan.space, sampler, seed)
    draw, wrong, seen = random.Random(seed), {"invalid": 0, "twice": 0, "refused": 0}, set()
    for _ in range(count):
        for params in drawn(study, plan, sampler, draws):
            wrong["invalid"] += bool(plan.space.validate(params))
            wrong["twice"] += str(params) in seen
        number, params = study.ask()
        wrong["invalid"] += bool(plan.space.validate(params))
        wrong["twice"] += str(params) in seen
        seen.add(str(params))
        if number % SPEC_EVERY == SPEC_EVERY - 1:
            wrong["refused"] += _refused(plan, params)
        state = draw.choice(["COMPLETE", "PRUNED", "FAIL", "PAUSED", "RUNNING"])
        length = EPOCHS if state == "COMPLETE" else draw.randrange(EPOCHS)
        for epoch in range(length):
            study.report(number, epoch, draw.random())
        if state == "PAUSED" and length:
            study.set_paused(number, length - 1)
        elif state not in ("RUNNING", "PAUSED"):
            study.tell(number, state, "drawn")
    return wrong


def drawn(study: Study, plan: Plan, sampler: str, draws: int) -> Iterator[dict[str, Any]]:
    """Proposals for the next trial, which is not made; the default, which comes first, is no draw."""
    number = len(study.trials())
    for draw in range(draws if number else 0):
        made = samplers.make(sampler, seeds.derive(study.seed, number, f"draw {draw}"), study.view())
        yield propose(samplers.room(made, plan.space), made, study.trials(), number, study.directions).params


def _refused(plan: Plan, params: dict[str, Any]) -> bool:
    full = plan.space.apply(plan.spec, params)
    try:
        spec.validate(full, plan.bundle.schema("train"), {}, plan.bundle.template("train"))
        hooks.check_spec(plan.bundle, full)
    except Exception as error:
        print(f"refused: {params}: {error}")
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", choices=("tao", "recommended", "all"), default="recommended")
    parser.add_argument("--sampler", default="fgp")
    parser.add_argument("--count", type=int, default=34_000)
    parser.add_argument("--draws", type=int, default=0)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "valid.jsonl")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    began, about = time.process_time(), describe()
    with tempfile.TemporaryDirectory() as folder:
        request = RunRequest(model="deformable_detr", demo=True, space=arguments.space)
        plan = prepare(request, Path(folder))
        total: dict[str, int] = {}
        each = TRIALS + (TRIALS - 1) * arguments.draws
        studies = -(-arguments.count // each)
        for seed in range(arguments.first_seed, arguments.first_seed + studies):
            for name, times in one_study(plan, arguments.sampler, seed, TRIALS, arguments.draws).items():
                total[name] = total.get(name, 0) + times
    row = {
        "space": arguments.space, "axes": sum(len(p.axes) for p in plan.space.parameters), "sampler": arguments.sampler,
        "proposals": studies * each, "trials": studies * TRIALS, **total,
        "cpu_s": round(time.process_time() - began), "machine": about,
    }  # fmt: skip
    print(json.dumps(row))
    with arguments.out.open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
