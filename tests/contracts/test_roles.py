"""What every sampler and every scheduler must do. A new member is one line in the lists here, and one in the role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from automl import samplers, schedulers
from automl.errors import UserError
from automl.space import compile_space
from automl.storage import open_storage
from automl.study import Study

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "train": {
            "type": "object",
            "properties": {
                "lr": {
                    "type": "number",
                    "minimum": 1e-6,
                    "maximum": 1.0,
                    "default": 1e-3,
                    "automl_enabled": True,
                },
                "depth": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 6,
                    "default": 3,
                    "automl_enabled": True,
                },
                "kind": {"type": "string", "enum": ["a", "b", "c"], "default": "a", "automl_enabled": True},
                "drop": {
                    "type": "number",
                    "minimum": 0.0,
                    "maximum": 1.0,
                    "default": 0.1,
                    "automl_enabled": True,
                },
            },
        }
    },
}
BASE = {"train": {"lr": 1e-3, "depth": 3, "kind": "a", "drop": 0.1}}
SPACE = compile_space(SCHEMA, BASE)
SAMPLERS = ["fgp", "tpe:n_startup_trials=3", "gp:n_startup_trials=3", "random"]
SCHEDULERS = ["fgp", "halving", "asha", "median", "none"]
EPOCHS = 9


def quality(params: dict[str, Any]) -> float:
    import math

    return 1 - abs(math.log10(params["train.lr"]) + 2) / 6 - 0.02 * params["train.depth"]


def opened(folder: Path, sampler: str, seed: int = 0, maximize: bool = True) -> Study:
    return Study(open_storage(None, folder), "roles", SPACE, sampler, seed, maximize)


def search(folder: Path, sampler: str, count: int, *, restart_every: int = 0, running: int = 0, seed: int = 0,
           maximize: bool = True) -> list[dict[str, Any]]:  # fmt: skip
    """`count` configurations in the order asked for, the last `running` before each ask not yet told."""
    study = opened(folder, sampler, seed, maximize)
    asked: list[dict[str, Any]] = []
    for n in range(count):
        if restart_every and n % restart_every == restart_every - 1:
            study = opened(folder, sampler, seed, maximize)
        number, params = study.ask()
        assert number == n
        asked.append(params)
        told = n - running
        if told >= 0:
            value = quality(asked[told])
            study.report(told, 0, value if maximize else -value)
            study.tell(told, "COMPLETE", "")
    return asked


@pytest.mark.parametrize("sampler", SAMPLERS)
class TestSampler:
    def test_the_default_comes_first(self, tmp_path: Path, sampler: str) -> None:
        assert search(tmp_path, sampler, 1) == [dict(SPACE.default)]

    def test_what_it_proposes_is_valid_and_not_the_same_again(self, tmp_path: Path, sampler: str) -> None:
        asked = search(tmp_path, sampler, 12, running=3)
        assert [SPACE.validate(params) for params in asked] == [[]] * 12
        assert len({str(params) for params in asked}) == 12

    def test_the_same_seed_proposes_the_same_also_across_restarts(self, tmp_path: Path, sampler: str) -> None:
        whole = search(tmp_path / "whole", sampler, 10, seed=4)
        assert search(tmp_path / "restarted", sampler, 10, seed=4, restart_every=3) == whole
        assert search(tmp_path / "other", sampler, 10, seed=5) != whole

    def test_several_running_trials_across_restarts(self, tmp_path: Path, sampler: str) -> None:
        whole = search(tmp_path / "whole", sampler, 10, running=2)
        assert search(tmp_path / "restarted", sampler, 10, running=2, restart_every=4) == whole

    def test_minimising_the_negative_is_the_same_search(self, tmp_path: Path, sampler: str) -> None:
        up, down = (
            search(tmp_path / "up", sampler, 10),
            search(tmp_path / "down", sampler, 10, maximize=False),
        )
        assert up == down

    def test_failed_and_stopped_trials_do_no_harm(self, tmp_path: Path, sampler: str) -> None:
        study = opened(tmp_path, sampler)
        for state in ("COMPLETE", "FAIL", "PRUNED", "PRUNED", "FAIL", "COMPLETE", "FAIL", "FAIL"):
            number, params = study.ask()
            if state != "FAIL":
                study.report(number, 0, quality(params))
            study.tell(number, state, "")
        assert SPACE.validate(study.ask()[1]) == []


def test_a_sampler_that_keeps_its_place_in_the_study_goes_on_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    monkeypatch.setitem(samplers.SAMPLERS, "qmc", lambda seed: optuna.samplers.QMCSampler(seed=seed))
    asked = search(tmp_path / "whole", "qmc", 12, running=3)
    assert len({str(params) for params in asked}) == 12
    assert search(tmp_path / "restarted", "qmc", 12, running=3, restart_every=3) == asked


def test_a_sampler_of_others_that_fails_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    # Of another program's space.
    monkeypatch.setattr(
        samplers, "make", lambda *_: optuna.samplers.GridSampler({"train.rate": [1.0]}, seed=0)
    )
    with pytest.raises(UserError, match="--sampler grid failed: ValueError: "):
        search(tmp_path, "grid", 3)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
class TestScheduler:
    def curves(self, folder: Path, count: int = 9, maximize: bool = True) -> Study:
        """Trials that have all finished but the last, which got to no epoch yet."""
        study = opened(folder, "random", maximize=maximize)
        for n in range(count):
            number, _ = study.ask()
            for epoch in range(EPOCHS if n < count - 1 else 0):
                study.report(number, epoch, (0.1 * (n + 1) + 0.01 * epoch) * (1 if maximize else -1))
        return study

    def verdicts(self, study: Study, scheduler: str, value: float, sign: int = 1) -> list[Any]:
        """What is said of the last trial after each epoch of a flat curve."""
        number, member, said = len(study.trials()) - 1, schedulers.make(scheduler), []
        for epoch in range(EPOCHS - 1):
            study.report(number, epoch, sign * value)
            said.append(study.decide(number, epoch, member, EPOCHS))
        return said

    def test_the_best_goes_on(self, tmp_path: Path, scheduler: str) -> None:
        assert set(self.verdicts(self.curves(tmp_path), scheduler, 5.0)) == {None}

    def test_the_first_of_all_goes_on(self, tmp_path: Path, scheduler: str) -> None:
        assert set(self.verdicts(self.curves(tmp_path, 1), scheduler, 0.0)) == {None}

    def test_the_worst_is_told_why_or_goes_on(self, tmp_path: Path, scheduler: str) -> None:
        said = [v for v in self.verdicts(self.curves(tmp_path), scheduler, 0.0) if v]
        assert bool(said) == (scheduler != "none")
        assert {v.action for v in said} <= {"stop", "pause"}
        assert all("epoch" in v.reason for v in said)

    def test_it_is_a_function_of_what_is_stored(self, tmp_path: Path, scheduler: str) -> None:
        study = self.curves(tmp_path)
        first = self.verdicts(study, scheduler, 0.0)
        again, member = opened(tmp_path, "random"), schedulers.make(scheduler)
        number = len(again.trials()) - 1
        # All epochs are there by now; what was said of each must not depend on later ones of its own curve.
        assert [again.decide(number, epoch, member, EPOCHS) for epoch in range(EPOCHS - 1)] == first

    def test_minimising_the_negative_says_the_same_in_the_trainer_s_values(
        self, tmp_path: Path, scheduler: str
    ) -> None:
        up = self.verdicts(self.curves(tmp_path / "up"), scheduler, 0.25)
        down = self.verdicts(self.curves(tmp_path / "down", maximize=False), scheduler, 0.25, sign=-1)
        assert [v and v.action for v in up] == [v and v.action for v in down]
        assert all("-0.2500" in v.reason for v in down if v)

    def test_of_equal_trials_none_is_named_the_winner(self, tmp_path: Path, scheduler: str) -> None:
        study = opened(tmp_path, "random")
        for number in range(5):
            study.ask()
            for epoch in range(EPOCHS):
                study.report(number, epoch, 0.0)
            study.tell(number, "COMPLETE", "")
        assert schedulers.make(scheduler).winner(study.view(), range(5)) is None

    def test_promotes_only_what_is_paused(self, tmp_path: Path, scheduler: str) -> None:
        study = self.curves(tmp_path)
        member = schedulers.make(scheduler)
        assert member.promote(study.view()) is None
        study.set_paused(7, EPOCHS - 1)
        assert member.promote(study.view()) in (None, 7)


@pytest.mark.parametrize(
    ("role", "text", "message"),
    [
        (samplers, "tpee", "did you mean 'tpe'"),
        (samplers, "tpe:n_startup_trial=5", "did you mean 'n_startup_trials'"),
        (samplers, "tpe:n_startup_trials", "n_startup_trials needs a value"),
        (samplers, "random:x=1", "takes no options"),
        (samplers, "tpe:n_startup_trials=-1", "must be a whole number from 0, but got '-1'"),
        (samplers, "tpe:n_startup_trials=many", "must be a whole number from 0, but got 'many'"),
        (schedulers, "medium", "did you mean 'median'"),
    ],
)
def test_what_is_no_member_is_refused_by_name(role: Any, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        role.make(text, 0) if role is samplers else role.make(text)


def test_members_of_other_packages_are_found_and_cannot_take_our_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[automl.samplers]\nquasi = theirs:quasi\ntpe = theirs:quasi\n[automl.schedulers]\nlazy = theirs:Lazy\n"
    )
    (tmp_path / "theirs.py").write_text(
        "from optuna.samplers import QMCSampler\n"
        "from automl.schedulers import Scheduler\n"
        "def quasi(seed, scramble=True):\n    return QMCSampler(seed=seed, scramble=scramble)\n"
        "class Lazy(Scheduler):\n    def __init__(self, patience=3):\n        self.patience = patience\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert type(samplers.make("quasi:scramble=false", 0)).__name__ == "QMCSampler"
    assert type(samplers.make("tpe", 0)).__name__ == "TPESampler"
    assert schedulers.make("lazy:patience=7").patience == 7  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="did you mean 'lazy'"):
        schedulers.make("lasy")
