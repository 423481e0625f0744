"""GPUs, shares of them, cores and machines: what a request and a spec come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from automl import bundle
from automl.errors import UserError
from automl.machine import cores, find_machine, share_of
from automl.plan import prepare
from automl.request import RunRequest, parse_silence
from automl.rundir import RunDir
from automl.spec import TEMPLATE
from automl.trials import Trials
from tests.automl.test_policy_bundle import make_model
from tests.automl.toy import toy

KEYS = {"gpu_spec_key": "train.num_gpus", "gpu_ids_key": "train.gpu_ids", "nodes_key": "train.num_nodes"}


@pytest.fixture
def model(tmp_path: Path) -> bundle.ModelBundle:
    make_model(tmp_path / "toy", **KEYS)
    (tmp_path / "toy/references/spec_template_train.yaml").write_text("train: {num_gpus: 1, gpu_ids: [0]}\n")
    return bundle.resolve(str(tmp_path / "toy"))


def find(model: bundle.ModelBundle, train: dict[str, Any], source: str = "--set", **request: Any) -> Any:
    """The machine for leaves that somebody has set."""
    sources = {f"train.{name}": source for name in train}
    base = {"train": {"num_gpus": 1, "gpu_ids": [0], **train}}
    return find_machine(RunRequest(**request), base, sources, model)[0]


@pytest.mark.parametrize("visible", ["4,5", " 4 , 5 ", "4,5,-1,6"])
def test_trials_get_the_gpus_that_this_process_was_given(
    model: bundle.ModelBundle, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    machine = find(model, {}, TEMPLATE)
    assert (machine.gpus, machine.gpus_per_trial, machine.concurrency) == (("4", "5"), 1, 2)


def test_a_model_that_names_no_keys_gets_whole_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    make_model(tmp_path / "plain")
    machine, notes = find_machine(RunRequest(), {"lr": 1}, {}, bundle.resolve(str(tmp_path / "plain")))
    assert (machine.gpus, machine.gpus_per_trial, notes) == (("4", "5"), 1, [])


@pytest.mark.parametrize(
    ("reading", "trials"),
    [
        ({}, 1),
        ({"memory_mb": 3000.0}, 1),
        ({"memory_mb": 0.0, "memory_total_mb": 24000.0}, 1),
        ({"memory_mb": 3000.0, "memory_total_mb": 24000.0}, 4),  # 24000 / (1.5 * 3000 + 700)
        ({"memory_mb": 20000.0, "memory_total_mb": 24000.0}, 1),
        ({"memory_mb": 10.0, "memory_total_mb": 80000.0}, 8),
    ],
)
def test_a_share_follows_from_memory(reading: dict[str, float], trials: int) -> None:
    assert share_of(reading) == 1 / trials


def test_trials_share_gpus_once_the_first_has_told_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    request = RunRequest(model=str(toy(tmp_path / "toy")), executor="local", trials=4, gpus_per_trial="auto")
    plan = prepare(request, tmp_path / "work")
    assert plan.machine.measured
    trials = Trials(plan, RunDir(tmp_path / "run"))
    assert trials.job(0, plan.space.default).num_gpus == 1
    folder = tmp_path / "run" / "trials" / "0000"
    (folder / "heartbeat").write_text('{"memory_mb": 3000, "memory_total_mb": 24000}')
    assert trials.job(1, plan.space.default).num_gpus == 1
    (folder / "metrics.jsonl").write_text('{"epoch": 0, "score": 0.5}\n')
    assert trials.job(1, plan.space.default).num_gpus == 0.25


@pytest.mark.parametrize("visible", ["", "-1", "-1,0"])
def test_no_visible_gpu_means_the_cpu(
    model: bundle.ModelBundle, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    machine = find(model, {}, TEMPLATE, gpus_per_trial=0.25)
    assert (machine.gpus, machine.gpus_per_trial, machine.cpus_per_trial, machine.concurrency) == (
        (),
        0,
        cores(),
        1,
    )


@pytest.mark.parametrize(
    ("share", "gpus", "at_a_time"),
    [(0.25, "0", 4), (0.25, "0,1", 8), (1 / 3, "0,1", 6), (0.4, "0,1", 4), (1, "0,1", 2)],
)
def test_several_trials_share_a_gpu(
    model: bundle.ModelBundle, monkeypatch: pytest.MonkeyPatch, share: float, gpus: str, at_a_time: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    machine = find(model, {}, gpus_per_trial=share)
    assert (machine.gpus_per_trial, machine.concurrency) == (share, at_a_time)


@pytest.mark.parametrize(
    ("ids", "gpus", "wanted"),
    [([2, 3], ("6", "7"), 1), ([0], ("4",), 1), ([3, 1], ("7", "5"), 2), ([0], ("4", "5", "6", "7"), 4)],
)
def test_gpu_ids_keep_a_run_to_those(
    model: bundle.ModelBundle,
    monkeypatch: pytest.MonkeyPatch,
    ids: list[int],
    gpus: tuple[str, ...],
    wanted: int,
) -> None:
    """[0] with more GPUs than one stands for the first ones."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert find(model, {"num_gpus": wanted, "gpu_ids": ids}).gpus == gpus


def test_a_run_kept_to_some_gpus_says_so(model: bundle.ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    base = {"train": {"num_gpus": 1, "gpu_ids": [1]}}
    _, notes = find_machine(RunRequest(), base, {"train.gpu_ids": "spec.yaml"}, model)
    assert notes == ["train.gpu_ids keeps this run to 1 of 2 GPUs"]


@pytest.mark.parametrize(
    ("train", "request_", "message"),
    [
        ({"gpu_ids": [4]}, {}, "different GPUs of 0 to 3"),
        ({"gpu_ids": [1, 1]}, {}, "different GPUs of 0 to 3"),
        ({"gpu_ids": ["a"]}, {}, "different GPUs of 0 to 3"),
        ({"gpu_ids": [1], "num_gpus": 2}, {}, "may use 1 GPU"),
        ({"num_gpus": 8}, {}, "train.num_gpus is 8, but this run may use 4"),
        ({"num_nodes": 2}, {}, "train.num_nodes is 2, but a trial runs on one machine"),
        ({}, {"gpus_per_trial": 1.5}, "a share of one, below 1, but got 1.5"),
        ({}, {"gpus_per_trial": 0}, "below 1, but got 0"),
        ({}, {"gpus_per_trial": float("nan")}, "below 1, but got nan"),
        ({"num_gpus": 2}, {"gpus_per_trial": 0.5}, "does not go with train.num_gpus=2"),
        ({"num_gpus": 2}, {"gpus_per_trial": "auto"}, "does not go with train.num_gpus=2"),
        ({}, {"cpus_per_trial": 0}, "--cpus-per-trial must be a whole number"),
        ({}, {"cpus_per_trial": 10_000}, "--cpus-per-trial 10000 is more than the .* give .* or less"),
        ({}, {"cpus_per_trial": 1.5}, "a share below 1, but got 1.5"),
        ({}, {"cpus_per_trial": float("inf")}, "a share below 1, but got inf"),
        ({"gpu_ids": [1]}, {"ray_address": "auto"}, "names GPUs of one machine"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    model: bundle.ModelBundle,
    monkeypatch: pytest.MonkeyPatch,
    train: dict[str, Any],
    request_: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    with pytest.raises(UserError, match=message):
        find(model, train, **request_)


@pytest.mark.parametrize(
    ("skill", "base", "said"),
    [
        ({}, {}, "this model trains on one GPU"),
        ({}, {"train": {"num_gpus": 1}}, "--set train.num_gpus=N"),
        ({"gpu_spec_key": "devices"}, {"devices": 1}, "--set devices=N"),
    ],
)
def test_several_gpus_are_set_where_there_is_a_key_for_them(
    skill: dict[str, str], base: dict[str, Any], said: str, tmp_path: Path
) -> None:
    make_model(tmp_path / "plain", **skill)
    with pytest.raises(UserError, match=f"; (for several a trial: )?{said}$"):
        find_machine(RunRequest(gpus_per_trial=2), base, {}, bundle.resolve(str(tmp_path / "plain")))


def test_cores_of_a_trial_on_cpus(model: bundle.ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find(model, {}, cpus_per_trial=1).concurrency == cores()
    assert find(model, {}, cpus_per_trial=cores()).concurrency == 1
    assert find(model, {}, cpus_per_trial=0.5, concurrency=3).concurrency == 3
    _, notes = find_machine(RunRequest(gpus_per_trial=0.5), {}, {}, model)
    assert notes == ["--gpus-per-trial is passed over: trials run on CPUs here"]
    assert find(model, {}, concurrency=2 * cores()).cpus_per_trial == 0.5


@pytest.mark.parametrize(("text", "seconds"), [("off", None), ("2h", 7200.0), ("90s", 90.0)])
def test_silence(text: str, seconds: float | None) -> None:
    assert parse_silence(text) == seconds
    with pytest.raises(UserError, match="--silence must be like"):
        parse_silence("never")


@pytest.mark.parametrize(
    ("skill", "launch"),
    [
        ({}, "once"),
        ({"actions": {"train": {"command": "x", "launch": "per_gpu"}}}, "per_gpu"),
        ({"entry_points": {"train": "m:f"}}, "per_gpu"),
        ({"entry_points": {"train": "m:f"}, "actions": {"train": {"launch": "once"}}}, "once"),
    ],
)
def test_how_a_trainer_is_started_on_several_gpus(tmp_path: Path, skill: dict[str, Any], launch: str) -> None:
    make_model(tmp_path / "toy", **skill)
    assert bundle.resolve(str(tmp_path / "toy")).launch("train") == launch


def test_an_unknown_way_to_start_is_refused(tmp_path: Path) -> None:
    make_model(tmp_path / "toy", actions={"train": {"command": "x", "launch": "twice"}})
    with pytest.raises(UserError, match=r"actions\.train\.launch must be once or per_gpu, but got 'twice'"):
        bundle.resolve(str(tmp_path / "toy")).launch("train")
