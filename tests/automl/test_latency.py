"""`--max-latency`: what is predicted to be slower is not trained, and everything else is as without it."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from rich.console import Console

from automl import asking, bundle, handoff, latency, loop, plan_json, report, samplers, show, show_plan, spec
from automl.budget import Limits
from automl.cli import guarded
from automl.documents import load_json
from automl.errors import UserError
from automl.latency import Limit
from automl.metric import counted
from automl.plan import prepare
from automl.progress import Progress
from automl.request import RunRequest, parse_ms, write_ms
from automl.space import compile_space
from automl.storage import load_study
from automl.study import Study
from automl.trackers import STATE
from tests.contracts.test_roles import BASE, SAMPLERS, SPACE, quality

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "numpy_net"
HOOKS = """
def measure(specs, folder, say):
    with open(FILE, "a") as file:
        file.write("measured\\n")
    say(f"timing {len(specs)}")
    return {"ms_each": 0.5, "text": "timed in no time"}

def predict(spec, timed):
    return 1 + spec["model"]["width"] * timed["ms_each"]
"""
SMALL = {"type": "object", "properties": {"train": {"type": "object", "properties": {
    "depth": {"type": "integer", "minimum": 1, "maximum": 6, "default": 5, "automl_enabled": True},
    "kind": {"type": "string", "enum": ["a", "b"], "default": "a", "automl_enabled": True},
}}}}  # fmt: skip


# ---- a study under a limit, for every sampler ---------------------------------------------------------------------


def limited(allowed_ms: float, space: Any = SPACE, base: Any = BASE) -> Limit:
    """A layer takes 3 ms: the default of three 9, and 10 ms leave one half of the space."""

    def ask(full: Any, timed: Any) -> float:
        return 3.0 * full["train"]["depth"]

    hooks: dict[str, Callable[..., float]] = {"latency": ask}
    model: Any = SimpleNamespace(name="toy", call=hooks.get, entry=lambda purpose: "toy:ask")
    return Limit(model, space, base, {}, allowed_ms)


def opened(storage: Any, sampler: str, limit: Limit | None, space: Any = SPACE, seed: int = 0) -> Study:
    return Study(storage, "limited", space, sampler, seed, limit=limit)


def search(sampler: str, limit: Limit | None, count: int, restart_every: int = 0, seed: int = 0) -> list[Any]:
    """The params of `count` trials that were trained."""
    storage = optuna.storages.InMemoryStorage()
    study = opened(storage, sampler, limit, seed=seed)
    found: list[Any] = []
    while len(found) < count:
        if restart_every and len(found) % restart_every == restart_every - 1:
            study = opened(storage, sampler, limit, seed=seed)
        number, params = study.ask()
        if number not in study.refused:
            found.append(params)
            study.report(number, 0, quality(params))
            study.tell(number, "COMPLETE", "")
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
class TestSampler:
    def test_what_is_trained_fits_and_is_valid_and_new(self, sampler: str) -> None:
        found = search(sampler, limited(6.5), 12)
        assert all(params["train.depth"] <= 2 for params in found)
        assert [SPACE.validate(params) for params in found] == [[]] * 12
        assert len({str(params) for params in found}) == 12

    def test_the_same_seed_gives_the_same_also_across_restarts(self, sampler: str) -> None:
        whole = search(sampler, limited(6.5), 8, seed=4)
        assert search(sampler, limited(6.5), 8, restart_every=3, seed=4) == whole
        assert search(sampler, limited(6.5), 8, seed=5) != whole

    def test_a_limit_that_all_keep_changes_nothing(self, sampler: str) -> None:
        assert search(sampler, limited(99.0), 8) == search(sampler, None, 8)

    def test_a_space_that_is_tried_whole_ends_with_all_that_fit(self, sampler: str) -> None:
        base = {"train": {"depth": 5, "kind": "a"}}
        space = compile_space(SMALL, base)
        study = opened(optuna.storages.InMemoryStorage(), sampler, limited(9.0, space, base), space)
        told: list[str] = []
        found = []
        while (asked := asking.to_train(study, lambda number, _, why: told.append(why))) is not None:
            found.append(asked[1])
            study.report(asked[0], 0, 0.1 * asked[1]["train.depth"])
            study.tell(asked[0], "COMPLETE", "")
        assert sorted(map(str, found)) == sorted(map(str, study.limit.every or ()))  # type: ignore[union-attr]
        assert len(found) == 4
        assert told == ["predicted 15 ms, allowed 9ms; not trained"]
        assert "that fits --max-latency 9ms is tried" in str(asking.at_end(study))


def test_fgp_asks_beforehand_and_no_draw_is_lost() -> None:
    study = opened(optuna.storages.InMemoryStorage(), "fgp", limited(6.5))
    for _ in range(9):
        number, params = study.ask()
        if number not in study.refused:
            study.report(number, 0, quality(params))
            study.tell(number, "COMPLETE", "")
    assert not [t for t in study.trials() if "redrawn" in t.user_attrs]


class Stubborn(optuna.samplers.BaseSampler):
    """Proposes the slowest, always."""

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        choices = getattr(param_distribution, "choices", None)
        return choices[0] if choices else param_distribution.high


@pytest.fixture
def stubborn() -> Iterator[str]:
    samplers.SAMPLERS["stubborn"] = lambda seed: Stubborn()
    yield "stubborn"
    del samplers.SAMPLERS["stubborn"]


def test_a_sampler_that_insists_is_answered_by_uniform_draws(stubborn: str) -> None:
    study = opened(optuna.storages.InMemoryStorage(), stubborn, limited(10.0))
    assert study.ask()[1] == SPACE.default
    number, params = study.ask()
    assert params["train.depth"] <= 3
    note = study.frozen(number).user_attrs["redrawn"]
    assert note["count"] >= latency.PATIENT
    assert note["slowest_ms"] == 18.0


def test_a_search_without_anything_that_fits_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOST", 40)
    study = opened(optuna.storages.InMemoryStorage(), "random", limited(2.0))
    told: list[str] = []
    assert asking.to_train(study, lambda number, _, why: told.append(f"{number}: {why}")) is None
    assert told == ["0: predicted 9 ms, allowed 2ms; not trained"]
    assert asking.at_end(study) == (
        "the search ends: 40 proposals in a row were predicted slower than --max-latency 2ms, the fastest 3 ms"
    )
    assert len(study.trials()) == 1


def test_what_is_refused_counts_in_no_budget() -> None:
    study = opened(optuna.storages.InMemoryStorage(), "random", limited(6.5))
    asking.to_train(study, lambda number, _, why: None)
    assert [t.state.name for t in study.trials()] == ["PRUNED", "RUNNING"]
    assert Limits(trials=2).left(study, 4).new
    assert not Limits(trials=1).left(study, 4).new
    assert Limits(trainings=3).left(study, 4).free == 8  # of twelve epochs the running trial has four
    assert not any(study.failed_after.values())


def test_the_nearest_that_fits_changes_what_it_must_and_no_more() -> None:
    limit = limited(6.5)
    assert limit.nearest == {"train.depth": 2}
    assert limited(9.0).nearest == {}
    assert latency.told(limit)[1].startswith("so the default is not trained")
    assert "--set train.depth=2" in latency.told(limit)[1]


# ---- whole runs -----------------------------------------------------------------------------------------------------


def model(root: Path, hooks: str = HOOKS, **points: str) -> Path:
    """numpy_net with the hooks: a network takes 1 ms and half of one for each unit, so the default of 16 takes 9."""
    shutil.copytree(EXAMPLE, root)
    (root / "numpy_latency.py").write_text(hooks.replace("FILE", repr(str(root / "measured.txt"))))
    path = root / "references" / "skill_info.yaml"
    skill = yaml.safe_load(path.read_text())
    named = {"latency": "numpy_latency:predict", "time_latency": "numpy_latency:measure"}
    skill["entry_points"] = {name: at for name, at in (named | points).items() if at}
    skill["actions"]["train"]["command"] = f"{sys.executable} {{model_dir}}/train.py {{config_path}}"
    path.write_text(yaml.safe_dump(skill))
    return root


def request(root: Path, ms: float = 6.0, **more: Any) -> RunRequest:
    asked: dict[str, Any] = {
        "trials": 3, "epochs": 1, "executor": "local", "scheduler": "none", "sampler": "random", "log": ("none",),
    }  # fmt: skip
    return RunRequest(model=str(root), max_latency_ms=ms, **(asked | more))


def trials(root: Path) -> list[Any]:
    study = load_study(json.loads((root / "run.json").read_text()), root)
    assert study is not None
    return study.trials()


def shown(show_it: Callable[[Console], None]) -> str:
    out = io.StringIO()
    show_it(Console(file=out, width=400))
    return out.getvalue()


def test_while_the_machine_is_timed_a_run_is_being_prepared(tmp_path: Path) -> None:
    looks = HOOKS.replace("return {", "from automl.show import status; status(None, folder)\n    return {", 1)
    folder = model(tmp_path / "model", looks)
    with pytest.raises(UserError, match="/run: a run is being prepared there; look again"):
        loop.run(request(folder), tmp_path / "run", Progress(quiet=True))
    assert not (tmp_path / "run").exists()


def test_a_run_whose_default_does_not_fit(tmp_path: Path) -> None:
    folder, root = model(tmp_path / "model"), tmp_path / "run"
    outcome = loop.run(request(folder, confirm=1, log=()), root, Progress(quiet=True))
    default, *rest = trials(root)
    assert (default.state.name, default.user_attrs["refused"]) == ("PRUNED", True)
    assert not (root / "trials" / "0000").exists()
    assert (root / "trials" / "0001" / STATE).exists() == bool(find_spec("tensorboard"))
    told = load_json(root / "best" / "provenance.json")["latency"]
    assert (
        told
        == f"predicted {latency.figure_ms(trials(root)[outcome.winner.number].user_attrs['predicted_ms'])}, allowed 6ms"
    )
    assert len(rest) == 3  # the default is no training
    assert all(
        t.user_attrs["params"]["model.width"] <= 10 and t.user_attrs["predicted_ms"] <= 6 for t in rest
    )
    near = {n for n, v in rest[0].user_attrs["params"].items() if default.user_attrs["params"][n] != v}
    assert near == {"model.width"}
    assert outcome.default is None
    assert outcome.confirmed is None
    told = shown(lambda console: show.status(console, root))
    assert "predicted 9 ms, allowed 6ms; not trained" in told
    count = sum(t.user_attrs.get("redrawn", {"count": 0})["count"] for t in rest)
    assert count
    assert f"{counted(count, 'proposal')} above --max-latency 6ms not trained: predicted" in told
    page = (root / "report.html").read_text()
    assert (
        "The default configuration is not to compare with: predicted 9 ms, allowed 6ms; not trained." in page
    )
    assert f"{counted(count, 'proposal')} above" in page
    assert report.figures(root)
    # A larger budget goes on by what was measured then, also where the study is made again from its trials' folders.
    for path in root.glob("study.db*"):
        path.unlink()
    (folder / "numpy_latency.py").write_text(
        HOOKS.replace("0.5", "50").replace("FILE", repr(str(folder / "measured.txt")))
    )
    loop.resume(root, {"trials": 4}, Progress(quiet=True))
    assert (folder / "measured.txt").read_text() == "measured\n"
    assert [t.state.name for t in trials(root)][:2] == ["PRUNED", "COMPLETE"]
    assert len(trials(root)) == 5
    assert trials(root)[-1].user_attrs["predicted_ms"] <= 6


def killed_in_trial(number: int, asked: RunRequest, root: Path) -> None:
    """A run whose driver is killed when the trial has a folder, or after 200 s."""
    words = [*asked.words(), "--results-dir", str(root)]
    driver = subprocess.Popen([sys.executable, "-m", "automl", "run", *words], start_new_session=True)
    until = time.monotonic() + 200
    while not (root / "trials" / f"{number:04d}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()


def test_killed_and_resumed_it_trains_the_same(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    asked = request(folder, trials=4, sampler="tpe:n_startup_trials=2")
    loop.run(asked, tmp_path / "whole", Progress(quiet=True))
    killed_in_trial(2, asked, tmp_path / "cut")
    loop.resume(tmp_path / "cut", {}, Progress(quiet=True))

    def told(root: Path) -> list[Any]:
        return [(t.state.name, t.user_attrs["params"], t.user_attrs.get("redrawn")) for t in trials(root)]

    assert told(tmp_path / "cut") == told(tmp_path / "whole")
    assert (folder / "measured.txt").read_text() == "measured\n" * 2


def test_the_plan_says_what_fits(tmp_path: Path) -> None:
    plan = prepare(request(model(tmp_path / "model")), tmp_path / "work", lambda text: None)
    told = shown(lambda console: show_plan.plan(console, plan, 3))
    fitting = sum(params["model.width"] <= 10 for params in plan.space.sample(200))
    assert f"the default is predicted 9 ms, allowed 6ms; {fitting} of 200 configurations fit" in told
    assert "--set model.width=" in told
    assert "timed in no time" in told
    assert json.loads(plan_json.text(plan, 2))["latency"]["fitting"] == fitting
    assert "--max-latency 6ms" in told  # the command that runs it


def test_a_confirmation_without_a_default_is_told_before_the_first_trial(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    for ms, told in ((6.0, True), (9.0, False)):
        plan = prepare(request(folder, ms, confirm=1), tmp_path / f"{ms}", lambda text: None)
        assert any("find nothing to compare" in line for line in plan.warnings) == told


def test_what_fits_is_searched_as_ever(tmp_path: Path) -> None:
    plan = prepare(request(model(tmp_path / "model"), 9.0), tmp_path / "work", lambda text: None)
    assert plan.first == 0
    assert not plan.tries
    assert len(latency.told(plan.limit)) == 2  # type: ignore[arg-type]


BROKEN = {
    "raises": ("def predict(spec, timed): return spec['no such']", {"time_latency": ""}, "latency numpy_latency:predict failed: KeyError"),
    "nan": ("def predict(spec, timed): return float('nan')", {"time_latency": ""}, "must return milliseconds, a number above 0, but got nan"),
    "text": ("def predict(spec, timed): return 'fast'", {"time_latency": ""}, "must return milliseconds, a number above 0, but got fast"),
    "nothing": ("def predict(spec, timed): pass", {"time_latency": ""}, "but got null"),
    "below 0": ("def predict(spec, timed): return -1", {"time_latency": ""}, "but got -1"),
    "a truth": ("def predict(spec, timed): return True", {"time_latency": ""}, "but got true"),
    "late": ("n = []\ndef predict(spec, timed):\n n.append(1)\n return 1 if len(n) < 9 else None", {"time_latency": ""}, "but got null"),
    "not there": ("", {"time_latency": ""}, "latency numpy_latency:predict cannot be imported: AttributeError"),
    "measures no mapping": (HOOKS + "\ndef measure(specs, folder, say): return [1]", {}, "must return a mapping"),
    "measures what JSON lacks": (HOOKS + "\ndef measure(specs, folder, say): return {'a': object()}", {}, "must return what JSON can hold"),
    "measuring raises": (HOOKS + "\ndef measure(specs, folder, say): raise OSError('no clock')", {}, "time_latency numpy_latency:measure failed: OSError: no clock"),
    "nothing fits": ("def predict(spec, timed): return 10 + spec['model']['width']", {"time_latency": ""}, "--max-latency 6ms: none of 200 configurations of the search space fits; the fastest is predicted"),
    "nothing fits as it was timed": (
        HOOKS + "\ndef predict(spec, timed): return 99\ndef measure(specs, folder, say): return {'text': 'in a hurry'}",
        {}, "--fix) (in a hurry)",
    ),
    "no hook": ("", {"latency": "", "time_latency": ""}, "numpy_net predicts no latency"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_is_told_in_a_line_before_the_first_trial(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hooks, points, words = BROKEN[name]
    folder = model(tmp_path / "model", hooks, **points)
    run = lambda: loop.run(request(folder), tmp_path / "run", Progress(quiet=True))  # noqa: E731
    assert guarded(run) == 2
    told = capsys.readouterr().err.splitlines()
    assert words in told[-1]
    assert [line for line in told if line.startswith("error:")] == [told[-1]]
    assert not (tmp_path / "run").exists()


def test_without_a_search_it_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    with pytest.raises(UserError, match="--max-latency 6ms chooses among configurations"):
        prepare(request(folder, policy="off", trials=None), tmp_path / "work", lambda text: None)


@pytest.mark.parametrize(("text", "ms"), [("15ms", 15.0), ("0.5s", 500.0), ("800us", 0.8), (".25ms", 0.25)])
def test_an_amount_is_read_and_written(text: str, ms: float) -> None:
    assert parse_ms(text) == ms
    assert parse_ms(write_ms(ms)) == ms


@pytest.mark.parametrize("text", ["15", "0ms", "-1ms", "15 m", "fast", "", "1e3ms", "nan ms"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--max-latency must be a number above 0 with us, ms or s"):
        parse_ms(text)


def test_the_hand_over_keeps_the_limit(tmp_path: Path) -> None:
    """`automl deploy` then needs no option to keep it."""
    detector = bundle.resolve("deformable_detr")
    plan: Any = SimpleNamespace(bundle=detector, request=RunRequest(max_latency_ms=15.0), engine_keys={})
    handoff.write_specs(
        detector, detector.template("train"), None, tmp_path, None, handoff.asked_leaves(plan)
    )
    assert spec.load(tmp_path / "deploy.yaml")["deploy"]["max_latency"] == "15ms"
    assert "max_latency" not in (tmp_path / "evaluate.yaml").read_text()
    plan.request = RunRequest()
    assert handoff.asked_leaves(plan) == {}
