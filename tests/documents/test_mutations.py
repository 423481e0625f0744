"""Damaged specs and run folders, each draw fixed by its seed: a message or a reading, never a traceback. The default
suite takes a few; `-m slow` two thousand, within bounds of time and memory."""

from __future__ import annotations

import json
import random
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automl import loop, report, restored_plan
from automl.errors import AutoMLError, UserError
from automl.faults import told_of
from automl.plan import prepare
from automl.progress import Progress
from automl.request import RunRequest
from automl.rundir import RunDir
from automl.storage import load_study
from model import spec as model_spec
from model import spec_file
from model.errors import ModelError
from safe_documents import dump_yaml
from tests.automl.toy import toy
from tests.conftest import with_data
from tests.documents.mutations import damaged_text, mutated_yaml, with_odd_value

MANY = (pytest.mark.slow, pytest.mark.timeout(3600))
LONGEST_S = 60.0  # of one reading, on a busy machine
MOST_MIB = 1500  # that the process may grow by


def refused_or_read(call: Callable[[], object]) -> str | None:
    """The message of a refusal; None when it was read. Anything else passes through."""
    said = None
    try:
        call()
    except (AutoMLError, ModelError) as error:
        said = str(error)
    assert said is None or ("\0" not in said and len(said) < 20_000)
    return said


def bounded(seeds: range, each: Callable[[int], None]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    for seed in seeds:
        began = time.monotonic()
        each(seed)
        assert time.monotonic() - began < LONGEST_S, f"seed {seed}"
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10) - before < MOST_MIB


@pytest.mark.parametrize("seeds", [range(25), pytest.param(range(1000), marks=MANY)], ids=["few", "many"])
def test_damaged_specs(seeds: range, tiny: dict[str, Any], demo: Path, tmp_path: Path) -> None:
    partial = with_data(tiny, demo)
    whole, path = model_spec.resolve("train", partial), tmp_path / "spec.yaml"

    def each(seed: int) -> None:
        path.write_bytes(mutated_yaml(partial if seed % 2 else whole, seed, dump_yaml))
        refused_or_read(lambda: spec_file.load("train", path))
        refused_or_read(lambda: prepare(RunRequest(spec_file=str(path), executor="local"), tmp_path / "work"))

    bounded(seeds, each)


def damage_run(root: Path, seed: int) -> None:
    """run.json in its values or its text, or any other file of the run cut or overwritten."""
    draw = random.Random(seed)
    path = root / "run.json"
    kind = draw.random()
    if kind < 0.5:
        path.write_text(json.dumps(with_odd_value(json.loads(path.read_text()), draw)))
    elif kind < 0.7:
        path.write_bytes(damaged_text(path.read_text(), draw))
    else:
        victim = draw.choice([p for p in sorted(root.rglob("*")) if p.is_file() and p.name != "run.lock"])
        data = victim.read_bytes()
        at = draw.randrange(len(data) + 1)
        noise = draw.randbytes(draw.randint(1, 64))
        victim.write_bytes(
            draw.choice([b"", data[:at], data[:at] + noise + data[at + len(noise) :], noise + data])
        )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    request = RunRequest(model=str(toy(root / "toy")), executor="local", stages=(), trials=2)
    loop.run(request, root / "run", Progress(quiet=True))
    return root / "run"


@pytest.mark.parametrize("seeds", [range(25), pytest.param(range(1000), marks=MANY)], ids=["few", "many"])
def test_damaged_run_folders(seeds: range, finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"

    def look() -> None:
        with told_of(root):
            load_study(RunDir(root).read_run(), root)
            report.write(root)

    def restore() -> None:
        with told_of(root):
            restored_plan.restore(RunDir(root), {})

    def each(seed: int) -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(finished, root)
        damage_run(root, seed)
        refused_or_read(look)
        refused_or_read(restore)

    bounded(seeds, each)


def test_a_user_s_mistake_is_one(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("train: [")
    with pytest.raises(UserError):
        prepare(RunRequest(spec_file=str(tmp_path / "s.yaml"), executor="local"), tmp_path)
