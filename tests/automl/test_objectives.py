"""`--objectives METRIC,latency_ms`: the front, its knee, who is stopped by whom, and whole runs; one objective stays as it
was."""

from __future__ import annotations

import itertools
import json
import random
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from automl import (
    dashboard,
    export_best,
    front,
    handoff,
    loop,
    report,
    run_figures,
    samplers,
    schedulers,
    show,
)
from automl.cli import guarded
from automl.comparison import Comparison
from automl.confirmed import Confirmed
from automl.documents import load_json
from automl.errors import UserError
from automl.front import Place
from automl.handoff import Outcome
from automl.latency import Latency
from automl.metric import Metric
from automl.pareto import Point, dominates, joined, knee
from automl.progress import Progress
from automl.real_values import RealValues
from automl.report import svg, trade_off
from automl.report.gather import Facts, TrialFacts
from automl.report.verdict import sentences
from automl.request import RunRequest, parse_objectives
from automl.skill import Stage
from automl.storage import read_storage
from automl.study import Study, TrialResult
from automl.tuning import tune
from tests.automl.test_latency import killed_in_trial, limited, model, shown, trials
from tests.contracts.test_roles import BASE, SAMPLERS, SCHEDULERS, SPACE, quality

EPOCHS = 9
ASKED = ("val_loss", "latency_ms")


# ---- fronts ---------------------------------------------------------------------------------------------------------


def drawn(seed: int, count: int = 40) -> list[Point]:
    """Points on a grid, so that many are equal in one or both."""
    rng = random.Random(seed)
    return [(rng.randrange(8) / 8, float(rng.randrange(1, 9))) for _ in range(count)]


def built(points: list[Point], order: list[int]) -> list[int]:
    found: list[tuple[Point, int]] = []
    for number in order:
        found = joined(found, points[number], number)
    assert [p[1] for p, _ in found] == sorted(p[1] for p, _ in found)
    return [number for _, number in found]


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_comparing_all_with_all_finds(seed: int) -> None:
    points = drawn(seed)
    order = list(range(len(points)))
    random.Random(seed + 100).shuffle(order)
    plain = {
        n for n, p in enumerate(points)
        if not any(dominates(q, p) for q in points) and p not in points[:n]
    }  # fmt: skip
    assert set(built(points, sorted(order))) == set(built(points, order)) == plain
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials([optuna.trial.create_trial(values=list(p)) for p in points])
    assert {tuple(t.values) for t in study.best_trials} == {points[n] for n in plain}


@pytest.mark.parametrize(
    ("points", "place"),
    [
        ([(0.5, 3.0)], 0),
        ([(0.2, 1.0), (0.5, 3.0)], 1),  # nothing between: the better
        ([(0.2, 1.0), (0.45, 1.5), (0.5, 3.0)], 1),
        ([(0.2, 1.0), (0.25, 2.5), (0.5, 3.0)], 2),  # below the line between the ends
        ([(0.0, 1.0), (0.3, 1.1), (0.4, 2.0), (0.41, 9.0)], 2),
        ([(-9.0, 1.0), (-2.0, 2.0), (-1.0, 9.0)], 1),  # of what is minimised
    ],
)
def test_the_knee_is_farthest_above_the_line_between_the_ends(points: list[Point], place: int) -> None:
    assert knee(points) == place


# ---- a study, for every sampler and scheduler ----------------------------------------------------------------------


def depth_ms() -> Latency:
    """A layer takes 3 ms."""
    limit = limited(99.0)
    return Latency(limit.model, SPACE, BASE, {})


def opened(storage: Any, sampler: str = "random", seed: int = 0, maximize: bool = True) -> Study:
    return Study(
        storage, "two", SPACE, sampler, seed, maximize, latency=depth_ms(), names=("q", "latency_ms")
    )


def deeper(params: dict[str, Any]) -> float:
    """Better with depth, so that there is something to trade."""
    return quality(params) + 0.1 * params["train.depth"]


def search(sampler: str, count: int, restart_every: int = 0, seed: int = 0, maximize: bool = True,
           running: int = 0) -> tuple[list[Any], Study]:  # fmt: skip
    """Every fourth is stopped, every seventh fails; the last `running` are not told."""
    storage = optuna.storages.InMemoryStorage()
    study, found = opened(storage, sampler, seed, maximize), []
    for n in range(count):
        if restart_every and n % restart_every == restart_every - 1:
            study = opened(storage, sampler, seed, maximize)
        params = study.ask()[1]
        found.append(params)
        if (told := n - running) >= 0:
            value = deeper(found[told])
            study.report(told, 0, value if maximize else -value)
            study.tell(told, "FAIL" if told % 7 == 5 else "PRUNED" if told % 4 == 3 else "COMPLETE", "")
    return found, study


@pytest.mark.parametrize("sampler", SAMPLERS)
class TestSampler:
    def test_it_is_a_study_of_two_directions_with_the_front_of_optuna(self, sampler: str) -> None:
        found, study = search(sampler, 14)
        assert found[0] == SPACE.default
        assert [SPACE.validate(params) for params in found] == [[]] * 14
        plain = optuna.load_study(study_name="two", storage=study.storage)
        assert [way.name for way in plain.directions] == ["MAXIMIZE", "MINIMIZE"]
        assert plain.metric_names == ["q", "latency_ms"]
        best = {tuple(t.values): t.number for t in reversed(plain.best_trials)}  # of equal ones the first
        assert set(best.values()) == {result.number for result in study.front()}
        for trial in plain.trials:
            ms = 3.0 * trial.user_attrs["params"]["train.depth"]
            assert trial.user_attrs["predicted_ms"] == ms
            assert trial.values is None or trial.values[1] == ms
        assert study.best() == study.result(study.knee() or 0)
        assert study.ranked()[0] == study.best()

    def test_the_same_seed_gives_the_same_also_across_restarts(self, sampler: str) -> None:
        whole, _ = search(sampler, 10, seed=4, running=1)
        assert search(sampler, 10, restart_every=3, seed=4, running=1)[0] == whole
        assert search(sampler, 10, seed=5, running=1)[0] != whole

    def test_minimising_the_negative_is_the_same_search(self, sampler: str) -> None:
        (up, one), (down, other) = search(sampler, 12), search(sampler, 12, maximize=False)
        assert up == down
        assert [b.number for b in one.front()] == [b.number for b in other.front()]
        assert one.knee() == other.knee()


def test_fgp_looks_along_the_whole_front() -> None:
    """Its proposals differ in latency, although the slowest are the best."""
    found, study = search("fgp", 24)
    depths = [params["train.depth"] for params in found[5:]]
    assert len(set(depths)) >= 4
    assert len(study.front()) >= 3


def lacking(study: Study) -> float:
    """How far the front lies below the best there is, over the latencies of the space."""
    best = [(t.values[1], t.values[0]) for t in study.trials() if t.values]
    depths = range(1, 7)
    found = (max((q for ms, q in best if ms <= 3.0 * depth), default=0.0) for depth in depths)
    return sum(1 + 0.08 * depth - value for depth, value in zip(depths, found, strict=True)) / 6


def test_fgp_finds_a_better_front_than_chance() -> None:
    gaps: dict[str, list[float]] = {"fgp": [], "random": []}
    for sampler, seed in itertools.product(gaps, range(3)):
        study = opened(optuna.storages.InMemoryStorage(), sampler, seed)
        for _ in range(20):
            number, params = study.ask()
            study.report(number, 0, deeper(params))
            study.tell(number, "COMPLETE", "")
        gaps[sampler].append(lacking(study))
    assert sum(gaps["fgp"]) < 0.5 * sum(gaps["random"])


def test_of_many_trials_a_sampler_is_shown_the_front() -> None:
    _, study = search("random", 200)
    from automl.proposals import telling

    shown = {t.number for t in telling(study.trials(), study.directions)}
    assert {best.number for best in study.front()} <= shown
    assert len(shown) <= 60 + 60 + len(study.front())


def fan(values: dict[int, list[float]], scheduler: str) -> tuple[Study, Any]:
    """Trials of the depths of `values` (twice where negative) that have reported their curves."""
    study = opened(optuna.storages.InMemoryStorage())
    for depth, curve in values.items():
        number, _ = study.ask({**SPACE.default, "train.depth": depth})
        for epoch, value in enumerate(curve):
            study.report(number, epoch, value)
    return study, schedulers.make(scheduler)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
class TestScheduler:
    def said(self, study: Study, member: Any, depth: int, value: float) -> list[Any]:
        number, _ = study.ask({**SPACE.default, "train.depth": depth})
        verdicts = []
        for epoch in range(EPOCHS - 1):
            study.report(number, epoch, value)
            verdicts.append(study.decide(number, epoch, member, EPOCHS))
        return [verdict for verdict in verdicts if verdict]

    def test_slower_and_better_ones_stop_nobody(self, scheduler: str) -> None:
        study, member = fan({depth: [0.1 * depth] * EPOCHS for depth in (2, 3, 4, 6)}, scheduler)
        for number in range(4):
            study.tell(number, "COMPLETE", "")
        said = self.said(study, member, 1, 0.01)
        assert not [v for v in said if v.action == "stop"]
        assert not [v for v in said if "chance" in v.reason]

    def test_faster_and_better_ones_do(self, scheduler: str) -> None:
        study, member = fan({depth: [0.9 + 0.01 * depth] * EPOCHS for depth in (1, 2, 3, 4)}, scheduler)
        for number in range(4):
            study.tell(number, "COMPLETE", "")
        assert bool(self.said(study, member, 6, 0.01)) == (scheduler != "none")

    def test_what_waits_goes_on_by_the_same_rule(self, scheduler: str) -> None:
        study, member = fan({depth: [0.1 * depth] * EPOCHS for depth in (2, 3, 4, 5, 6)}, scheduler)
        for number in range(5):
            study.tell(number, "COMPLETE", "")
        number, _ = study.ask({**SPACE.default, "train.depth": 1})
        study.report(number, 0, 0.05)
        study.set_paused(number, 0)
        expected = number if scheduler in ("asha", "fgp") else None
        assert member.promote(study.view().of_length(EPOCHS)) in (None, expected)
        if scheduler == "asha":
            assert member.promote(study.view()) == number


def test_a_scheduler_sees_what_is_at_most_as_slow() -> None:
    study, _ = fan({depth: [0.5] for depth in (1, 3, 6)}, "none")
    assert [set(study.view().at_most_as_slow(n).reached[0]) for n in range(3)] == [{0}, {0, 1}, {0, 1, 2}]


def test_members_that_know_one_objective_are_refused_with_what_to_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = dict(
        cmaes=lambda seed: optuna.samplers.CmaEsSampler(seed=seed),
        qmc=lambda seed: optuna.samplers.QMCSampler(seed=seed),
    )
    points = {
        name: SimpleNamespace(name=name, value=name, load=lambda make=make: make)
        for name, make in made.items()
    }
    monkeypatch.setattr("automl.roles.entry_points", lambda group: [*points.values()])
    front.check("qmc", "halving")
    with pytest.raises(UserError, match=r"--sampler cmaes .*multi-objective.*use fgp, tpe, gp, random"):
        front.check("cmaes", "halving")

    class Theirs(schedulers.Scheduler):
        pass

    monkeypatch.setattr(
        "automl.roles.entry_points",
        lambda group: [SimpleNamespace(name="theirs", value="x", load=lambda: Theirs)],
    )
    with pytest.raises(UserError, match="--scheduler theirs .*use fgp, halving, asha, median, none"):
        front.check("tpe", "theirs")


def test_a_plain_study_of_two_directions_is_not_for_fgp() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=samplers.make("fgp", 0))
    with pytest.raises(ValueError, match="multi-objective"):
        study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_objective_is_a_study_of_one_direction(name: str) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = Study(storage, "one", SPACE, name, 0)
    number, _ = study.ask()
    study.report(number, 0, 0.5)
    study.tell(number, "COMPLETE", "")
    plain = optuna.load_study(study_name="one", storage=storage)
    assert plain.best_value == 0.5
    assert plain.metric_names is None
    assert set(plain.trials[0].user_attrs) == {"params", "reason", "best_epoch"}
    assert (study.front(), study.knee()) == ([], None)


# ---- whole runs -----------------------------------------------------------------------------------------------------


def request(folder: Path, **more: Any) -> RunRequest:
    asked: dict[str, Any] = {
        "objectives": ASKED, "trials": 8, "epochs": 3, "executor": "local", "log": ("none",),
    }  # fmt: skip
    return RunRequest(model=str(folder), **(asked | more))


def quiet(asked: RunRequest, root: Path) -> Any:
    return loop.run(asked, root, Progress(quiet=True))


def folders(root: Path) -> set[str]:
    return {path.name for path in (root / "best" / "pareto").glob("*")}


def check_handed_over(root: Path) -> list[Any]:
    """Of the front one lies in best/ and each other in best/pareto/, whole; returns the front."""
    found = run_figures.best(root)["front"]
    knees = [entry["number"] for entry in found if entry["knee"]]
    assert knees == [load_json(root / "best" / "provenance.json")["trial"]]
    assert folders(root) == {f"{entry['number']:04d}" for entry in found if not entry["knee"]}
    for entry in found:
        place = Path(entry["folder"])
        told = load_json(place / "provenance.json")
        assert (told["trial"], told["value"]) == (entry["number"], entry["value"])
        assert (place / told["checkpoint"]).is_file()
        assert (place / "train.yaml").is_file()
    return list(found)


def test_a_run_hands_over_its_front(tmp_path: Path) -> None:
    folder, root = model(tmp_path / "model"), tmp_path / "run"
    outcome = quiet(request(folder, sampler="random", scheduler="halving", trials=10), root)
    found = check_handed_over(root)
    assert len(found) > 1
    assert [entry["ms"] for entry in found] == sorted(entry["ms"] for entry in found)
    ended = [t for t in trials(root) if t.state.name == "COMPLETE"]
    plain = {
        t.number for t in ended
        if not any(dominates((-o.values[0], o.values[1]), (-t.values[0], t.values[1])) for o in ended)
    }  # fmt: skip
    assert {entry["number"] for entry in found} == plain
    assert trials(root)[0].user_attrs["params"] == {
        "model.width": 16,
        "train.lr": 0.02,
        "train.momentum": 0.9,
        "train.batch": 20,
    }
    words = shown(lambda console: show.outcome(console, outcome)), shown(lambda console: show.best(console, root)), shown(
        lambda console: show.status(console, root))  # fmt: skip
    for text, entry in itertools.product(words, found):
        assert re.search(rf"trial {entry['number']}( \(knee\))?: val_loss .* ms  {entry['folder']}\n", text)
    page, figures = (root / "report.html").read_text(), report.figures(root)
    plane = page[page.index("<h3>The front</h3>") :]
    plane = plane[: plane.index("</svg>")]
    placed = {int(n) for n in re.findall(r'class="dot [^"]*"[^>]*data-t=.?(\d+)', plane)}
    assert placed == {t.number for t in trials(root) if t.intermediate_values}
    assert plane.count('class="knee"') == 1
    assert "farthest below the line" in plane  # of a loss, whose axis goes up all the same
    assert "none lies below it" in plane
    assert len(re.findall(r'class="dot [^"]*front', plane)) == len(found)
    assert f"the front of {len(found)} among" in figures["verdict"][0]
    assert [entry["number"] for entry in figures["front"]] == [entry["number"] for entry in found]
    assert run_figures.status(root)["objectives"] == list(ASKED)
    check_dashboard(root, {entry["number"] for entry in found})
    # More trials: what is no longer on the front is taken away, and of what still is nothing is lost.
    loop.resume(root, {"trials": 16}, Progress(quiet=True))
    check_handed_over(root)
    assert (folder / "measured.txt").read_text() == "measured\n"


@pytest.mark.parametrize(("asked", "told"), [((), ["score", "ship"]), (("ship",), ["ship"])])
def test_the_commands_for_one_that_is_not_the_knee_are_the_models_own_where_no_stage_was_asked_for(
    asked: tuple[str, ...], told: list[str]
) -> None:
    named = (
        Stage("score", needs=("data.test",)),
        Stage("ship"),
        Stage("both", action="ship", sets=(("a", 1),)),
    )
    own: Any = SimpleNamespace(stages=named, command_words=lambda action, path: (action, path))
    plan: Any = SimpleNamespace(
        bundle=own, stages=tuple(s for s in named if s.name in asked), spec={"data": {"test": "x"}}
    )
    assert handoff._later(plan) == [[name, f"{front.HERE}/{name}.yaml"] for name in told]
    plan.spec = {}
    assert [words[0] for words in handoff._later(plan)] == ["ship"]


@pytest.mark.parametrize("more", [{}, {"objectives": None, "max_latency_ms": 12.0}])
def test_trackers_are_told_the_predicted_latency_of_every_trial(tmp_path: Path, more: dict[str, Any]) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    root = tmp_path / "run"
    quiet(request(model(tmp_path / "model"), trials=3, log=("tensorboard",), **more), root)
    for trial in trials(root):
        log = events.EventAccumulator(str(root / f"trials/{trial.number:04d}/tensorboard"))
        log.Reload()
        ms = pytest.approx(trial.user_attrs["predicted_ms"])
        told = {event.step: event.value for event in log.Scalars("latency_ms")}
        assert told == dict.fromkeys([0, *(e.step for e in log.Scalars("val_loss"))], ms)


def check_dashboard(root: Path, on_front: set[int]) -> None:
    document = json.loads((root / "run.json").read_text())
    study = optuna.load_study(
        study_name=document["study"], storage=RealValues(read_storage(None, root), document, root)
    )
    assert {trial.number for trial in study.best_trials} == on_front
    assert study.metric_names == list(ASKED)
    found = json.loads(dashboard._importances(root, study.trials))["param_importances"]
    assert len(found) == 2
    note = study._storage.get_study_system_attrs(study._study_id)["dashboard:note_str:0"]
    assert "A second objective is latency\\_ms" in note


def test_a_trial_that_diverged_hides_no_other() -> None:
    def trial(number: int, value: float, ms: float) -> Any:
        return TrialFacts(number, "COMPLETE", "", {}, [(1, value)], 1, value, {}, 1.0, [], ms)

    values = [(0.5, 9.0), (0.6, 2.0), (0.3, 11.0), (1e22, 20.0)]
    each = [trial(n, *value) for n, value in enumerate(values)]
    on = [
        Place(1, 0.6, 2.0, 0, False, None),
        Place(0, 0.5, 9.0, 0, False, None),
        Place(2, 0.3, 11.0, 0, True, None),
    ]
    for sign in (1, -1):
        metric = Metric("loss", sign < 0)
        flipped = [replace(t, value=sign * (t.value or 0.0)) for t in each]
        found = [replace(place, value=sign * place.value) for place in on]
        facts: Any = Facts(
            Path(), {"searching": True}, metric, flipped, 2, True, False, 1.0, {}, [], [], front=found
        )
        heights = [
            float(y) for y in re.findall(r'class="dot [^"]*" cx="[^"]*" cy="([^"]*)"', trade_off.plane(facts))
        ]
        assert len(set(heights)) == 4
        assert max(heights) - min(heights) > 150
        assert all(svg.TOP <= y <= svg.H - svg.BOTTOM for y in heights)
        apart = sorted(heights)
        assert min(b - a for a, b in itertools.pairwise(apart)) > 10


@pytest.mark.parametrize(
    ("ms", "said", "verdict"),
    [
        (4.75, "gain -0.0040, 2 times as fast as the default", "but 2 times as fast as the default"),
        (9.5, "gain -0.0040, as fast as the default", "worse than the default"),
        (12.0, "gain -0.0040, 1.26 times as slow as the default", "worse than the default"),
    ],
)
def test_a_knee_is_worse_than_the_default_only_where_it_is_no_faster(
    ms: float, said: str, verdict: str
) -> None:
    confirmed, metric = Confirmed(-0.004, [(1, 0.4, 0.5), (2, 0.41, 0.52)]), Metric("val_mAP")
    on = [Place(1, 0.496, ms, 0, True, "best")]
    best = [TrialResult(n, 0, value, {}, True) for n, value in ((1, 0.496), (0, 0.5))]
    outcome = Outcome(Path(), metric, *best, [], front=on, default_ms=9.5, confirmed=confirmed)
    text = shown(lambda console: show.outcome(console, outcome))
    assert f"trial 1 (knee): val_mAP 0.4960 at a predicted {ms:.3g} ms" in text
    assert f"default 0.5000 at a predicted 9.5 ms, {said}\n" in text
    told = [TrialFacts(b.number, "COMPLETE", "", {}, [(1, b.value)], 1, b.value, {}, 1.0, [], at)
            for b, at in zip(best, (ms, 9.5), strict=True)]  # fmt: skip
    sure = Comparison("test_mAP", 0.496, 0.5, -0.006, -0.002, 100, "9 images")
    facts = Facts(Path(), {"searching": True}, metric, told, 1, True, False, 1.0, {}, [], [sure],
                  front=on, confirmed=confirmed)  # fmt: skip
    ends = [line for line in [*text.splitlines(), *sentences(facts)] if "95 %" in line]
    assert len(ends) == 3
    assert all(line.rstrip(".").endswith(f": {verdict}") for line in ends)


def test_the_best_so_far_comes_with_its_front_and_seeds_confirm_the_knee(tmp_path: Path) -> None:
    root = tmp_path / "run"
    outcome = quiet(request(model(tmp_path / "model"), trials=6, confirm=2), root)
    assert bool(outcome.confirmed) == (outcome.winner.number != 0)
    made = export_best.export(root, Progress(quiet=True))
    places = [run_figures.asdict(place) for place in made.front]
    assert [place["number"] for place in places] == [e["number"] for e in check_handed_over(root)]
    assert all((root / place["folder"] / "train.yaml").is_file() for place in places)
    assert all(place["folder"].startswith("so_far/") for place in places)


def test_another_knee_takes_its_weights_from_where_they_were_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trials' own checkpoints are tidied away; what best/ and best/pareto/ hold is all there is."""
    root = tmp_path / "run"
    quiet(request(model(tmp_path / "model"), trials=8, scheduler="none", sampler="random"), root)
    before = {e["number"]: weights_in(e["folder"]) for e in check_handed_over(root)}
    assert len(before) > 2
    for entry in run_figures.best(root)["front"]:
        for file in (root / "trials" / f"{entry['number']:04d}").glob(Path(weights_of(entry["folder"])).name):
            file.unlink()
    for place in range(len(before)):
        monkeypatch.setattr("automl.study.knee", lambda points, place=place: place)
        loop.resume(root, {}, Progress(quiet=True))
        found = check_handed_over(root)
        assert [e["knee"] for e in found].index(True) == place
        assert {e["number"]: weights_in(e["folder"]) for e in found} == before


def weights_of(folder: str) -> str:
    return str(Path(folder) / load_json(Path(folder) / "provenance.json")["checkpoint"])


def weights_in(folder: str) -> bytes:
    return Path(weights_of(folder)).read_bytes()


def test_killed_and_resumed_it_brings_the_same(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    asked = request(
        folder, trials=9, scheduler="none"
    )  # a pause may come after a last line that is already written
    quiet(asked, tmp_path / "whole")
    assert "val_loss,latency_ms" in asked.words()
    killed_in_trial(5, asked, tmp_path / "cut")
    loop.resume(tmp_path / "cut", {}, Progress(quiet=True))
    told = [
        [(t.state.name, t.user_attrs["params"], t.values) for t in trials(tmp_path / at)]
        for at in ("cut", "whole")
    ]
    assert told[0] == told[1]
    assert [e["number"] for e in check_handed_over(tmp_path / "cut")] == [
        e["number"] for e in check_handed_over(tmp_path / "whole")
    ]
    # The study itself is lost: it is made again from the folders, with the same latencies.
    for path in (tmp_path / "cut").glob("study.db*"):
        path.unlink()
    loop.resume(tmp_path / "cut", {}, Progress(quiet=True))
    assert [t.user_attrs["predicted_ms"] for t in trials(tmp_path / "cut")] == [
        t.user_attrs["predicted_ms"] for t in trials(tmp_path / "whole")
    ]
    check_handed_over(tmp_path / "cut")


def test_a_limit_and_objectives_go_together(tmp_path: Path) -> None:
    root = tmp_path / "run"
    quiet(request(model(tmp_path / "model"), max_latency_ms=6.0), root)
    assert trials(root)[0].user_attrs["refused"]
    assert all(entry["ms"] <= 6 for entry in check_handed_over(root))
    text = (root / "report.html").read_text()
    assert "The default configuration is not to compare with: predicted 9 ms, allowed 6ms" in text


def test_a_warm_start_teaches_either_kind(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    quiet(request(folder, objectives=None, trials=4), tmp_path / "one")
    quiet(request(folder, trials=5, warm_start=str(tmp_path / "one")), tmp_path / "two")
    check_handed_over(tmp_path / "two")
    quiet(request(folder, objectives=None, trials=3, warm_start=str(tmp_path / "two")), tmp_path / "three")
    assert len(trials(tmp_path / "three")) == 3


def test_from_python_and_from_a_spec_file(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    (tmp_path / "spec.yaml").write_text("objectives: [latency_ms, val_loss]\nepochs: 1\n")
    more: dict[str, Any] = {"trials": 3, "executor": "local", "log": ("none",), "quiet": True}
    tuned = tune(model=str(folder), spec=tmp_path / "spec.yaml", results_dir=tmp_path / "a", **more)
    assert json.loads((tmp_path / "a" / "run.json").read_text())["request"]["objectives"] == list(ASKED)
    other = tune(
        model=str(folder), epochs=1, objectives="latency_ms,val_loss", results_dir=tmp_path / "b", **more
    )
    assert [p.number for p in tuned.front] == [p.number for p in other.front]
    assert [p.number for p in tuned.front if p.knee] == [tuned.outcome.winner.number]
    assert len(tuned.trials) == 3


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another metric": ({"metric": "loss:minimize"}, "--metric loss and --objectives val_loss contradict each other"),
    "no metric of it": ({"objectives": ("val_los", "latency_ms")}, "--objectives val_los: the model declares val_loss"),
    "no search": ({"policy": "off", "trials": None}, "--objectives val_loss,latency_ms chooses among configurations"),
    "one latency": ({"fix": ("model.width=16",)}, "each of 200 configurations of the search space is predicted 9 ms"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_told_before_the_first_trial(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more, words = REFUSED[name]
    folder = model(tmp_path / "model")
    assert guarded(lambda: quiet(request(folder, **more), tmp_path / "run")) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_model_without_a_prediction_is_refused_in_the_words_of_the_limit(tmp_path: Path) -> None:
    folder, said = model(tmp_path / "model", latency="", time_latency=""), []
    for more in ({}, {"objectives": None, "max_latency_ms": 6.0}):
        with pytest.raises(UserError) as told:
            quiet(request(folder, **more), tmp_path / "run")
        said.append(str(told.value).partition(": ")[2])
    assert said[0] == said[1]
    assert "numpy_net predicts no latency" in said[0]


@pytest.mark.parametrize(
    "text", ["val_loss", "val_loss,latency", "latency_ms", "a,b,latency_ms", "a,b", ",latency_ms", ""]
)
def test_what_are_no_objectives(text: str) -> None:
    with pytest.raises(UserError, match="--objectives must be a metric and latency_ms"):
        parse_objectives(text)


def test_a_file_s_objectives_are_told_by_its_name(tmp_path: Path) -> None:
    for value in ("7", "[a]", "{a: b}"):
        (tmp_path / "spec.yaml").write_text(f"objectives: {value}\n")
        with pytest.raises(UserError, match=r"spec.yaml: .*objectives must be"):
            quiet(
                request(
                    model(tmp_path / f"m{len(value)}"), objectives=None, spec_file=str(tmp_path / "spec.yaml")
                ),
                tmp_path / "run",
            )
