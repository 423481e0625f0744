"""A space that is small enough is tried whole, and nothing in it twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from automl import loop
from automl.progress import Progress
from automl.request import RunRequest
from automl.space import compile_space
from automl.space.space import SearchSpace
from automl.storage import load_study
from tests.automl.toy import toy

OPTIONS = ("lr=0.01,0.02", "epochs=1:3")


class Said(Progress):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def space_of(model: Path, tune: tuple[str, ...]) -> SearchSpace:
    from automl import bundle
    from automl.plan import compile_for, merge

    request, resolved = RunRequest(model=str(model), tune=tune), bundle.resolve(str(model))
    return compile_for(resolved, merge(request, resolved)[0].spec, request, {}, {}, True)


@pytest.mark.parametrize(
    ("tune", "count"),
    [
        (("lr=0.01,0.02",), 2),
        (OPTIONS, 6),
        (("lr=0.01,0.02", "epochs=1:600"), None),
        (("lr=0.01:0.02",), None),
    ],
)
def test_every_configuration(tune: tuple[str, ...], count: int | None, tmp_path: Path) -> None:
    space = space_of(toy(tmp_path / "toy", lr=0.01), tune)
    if count is None:
        assert space.every is None
        return
    assert space.every is not None
    drawn = {json.dumps(params, sort_keys=True) for params in space.sample(300, seed=1)}
    assert {json.dumps(params, sort_keys=True) for params in space.every} == drawn
    assert len(space.every) == count
    assert space.default in space.every


@pytest.mark.parametrize(
    ("sampler", "budget"),
    [("fgp", {"trainings": 20}), *((sampler, {"trials": 20}) for sampler in ("fgp", "tpe", "random", "gp"))],
)
def test_the_search_ends_when_all_have_been_tried(
    sampler: str, budget: dict[str, Any], tmp_path: Path
) -> None:
    model, said = toy(tmp_path / "toy", lr=0.01), Said()
    request = RunRequest(
        model=str(model), tune=OPTIONS, sampler=sampler, executor="local", concurrency=2, stages=(), **budget
    )
    outcome = loop.run(request, tmp_path / "run", said)
    study = load_study(json.loads((tmp_path / "run" / "run.json").read_text()), tmp_path / "run")
    assert study is not None
    tried = [json.dumps(t.user_attrs["params"], sort_keys=True) for t in study.trials()]
    assert len(tried) == len(set(tried)) == 6
    assert outcome.winner.value == pytest.approx(0.06)  # the best there is: lr 0.02, three epochs
    assert said.lines.count("all 6 configurations of the search space have been tried") == 1
    assert any("holds 6 configurations" in line for line in said.lines)


def test_null_is_a_value_like_others() -> None:
    kind = {"enum": ["a", "b", None], "default": "a", "automl_enabled": True}
    flag = {"type": "boolean", "default": False, "automl_enabled": True}
    space = compile_space({"properties": {"kind": kind, "flag": flag}})
    assert space.every is not None
    wanted = [(k, f) for k in ("a", "b", None) for f in (False, True)]
    assert sorted(map(str, wanted)) == sorted(str((each["kind"], each["flag"])) for each in space.every)
