"""Many drivers on one PostgreSQL that starts empty: is anything lost?

`python studies/survival/postgres.py` starts a server of its own on loopback, then (1) 64 studies at once, one process
each, and (2) 16 real drivers (`automl run`, local executor, a toy trainer). Writes postgres.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from studies.machine import describe  # noqa: E402
from tests.automl import postgresql  # noqa: E402
from tests.automl.toy import toy  # noqa: E402

STUDIES, TRIALS, EPOCHS = 64, 8, 3
DRIVERS, TRIALS_OF_A_DRIVER = 16, 4
ONE_STUDY = f"""
import sys
from pathlib import Path
from automl.storage import open_storage
from automl.study import Study
from tests.automl.fakes import TinySpace
study = Study(open_storage(sys.argv[1], Path("unused")), sys.argv[2], TinySpace(), "random", int(sys.argv[2]))
for _ in range({TRIALS}):
    number, params = study.ask()
    for epoch in range({EPOCHS}):
        study.report(number, epoch, params["train.lr"] * (epoch + 1))
    study.tell(number, "COMPLETE", "finished")
"""


def lost(url: str, studies: int, trials: int, epochs: int) -> dict[str, Any]:
    """What the database holds against what was done."""
    from automl.storage import read_storage

    storage: Any = read_storage(url, Path("unused"))
    found = [storage.get_all_trials(s._study_id, deepcopy=False) for s in storage.get_all_studies()]
    flat = [trial for each in found for trial in each]
    return {
        "studies": len(found), "of_studies": studies, "trials": len(flat), "of_trials": studies * trials,
        "complete": sum(t.state.name == "COMPLETE" for t in flat),
        "values": sum(len(t.intermediate_values) for t in flat), "of_values": studies * trials * epochs,
        "numbers_in_order": all([t.number for t in each] == list(range(trials)) for each in found),
    }  # fmt: skip


def ended(processes: list[subprocess.Popen[str]]) -> list[str]:
    """The last line of every process that failed."""
    said = [(process.communicate()[1], process.returncode) for process in processes]
    return [(text.strip().splitlines() or ["no message"])[-1] for text, code in said if code]


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def many_studies(server: str) -> dict[str, Any]:
    url, begun = postgresql.make_database(server, "studies"), time.monotonic()
    failed = ended([start("-c", ONE_STUDY, url, str(number)) for number in range(STUDIES)])
    return {"failed": failed, "seconds": round(time.monotonic() - begun, 1)} | lost(
        url, STUDIES, TRIALS, EPOCHS
    )


def many_drivers(server: str) -> dict[str, Any]:
    url, begun = postgresql.make_database(server, "drivers"), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        model = str(toy(Path(folder, "toy"), epochs=EPOCHS))
        words = ["-m", "automl.cli", "run", "--model", model, "--executor", "local", "--scheduler", "none"]
        words += ["--stages", "none", "--trials", str(TRIALS_OF_A_DRIVER), "--storage", url, "--results-dir"]
        failed = ended([start(*words, f"{folder}/run{number}") for number in range(DRIVERS)])
        seconds = round(time.monotonic() - begun, 1)
        winners = sum(
            Path(folder, f"run{number}", "best", "model.ckpt").exists() for number in range(DRIVERS)
        )
    found = lost(url, DRIVERS, TRIALS_OF_A_DRIVER, EPOCHS)
    return {"failed": failed, "seconds": seconds, "winners": winners, "of_winners": DRIVERS} | found


def main() -> None:
    with postgresql.server(max_connections=400) as server:
        results = {"studies": many_studies(server), "drivers": many_drivers(server), "machine": describe()}
    text = json.dumps(results, indent=1)
    Path(__file__).with_suffix(".json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
