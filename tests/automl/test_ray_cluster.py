"""What a cluster's machines hold and see. The tests marked slow start two raylets on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from automl import loop
from automl.errors import Resumable, UserError
from automl.executors.base import Decision, TrialJob
from automl.executors.ray_cluster import _places, connected, gpus_of, missing
from automl.executors.ray_tune import RayTuneExecutor
from automl.progress import Progress
from automl.request import RunRequest
from automl.rundir import RunDir
from tests.contracts.test_executors import Told, make_job


@pytest.mark.parametrize(
    ("has", "needs", "places"),
    [
        ({"CPU": 4.0}, {"cpus": 1}, 4),
        ({"CPU": 4.0}, {"cpus": 3}, 1),
        ({"CPU": 1.0}, {"cpus": 0.1}, 10),
        ({"CPU": 4.0}, {"num_gpus": 1}, 0),
        ({"CPU": 16.0, "GPU": 4.0}, {"num_gpus": 1}, 4),
        ({"CPU": 16.0, "GPU": 4.0}, {"num_gpus": 3}, 1),
        ({"CPU": 16.0, "GPU": 4.0}, {"num_gpus": 0.25}, 16),
        ({"CPU": 16.0, "GPU": 4.0}, {"num_gpus": 0.3}, 12),  # a share never spans two
        ({"CPU": 16.0, "GPU": 1.0}, {"num_gpus": 1 / 3}, 3),
        ({"CPU": 2.0, "GPU": 4.0}, {"num_gpus": 1}, 2),
        ({}, {}, 0),
    ],
)
def test_jobs_that_a_machine_holds(has: dict[str, float], needs: dict[str, float], places: int) -> None:
    assert _places(has, TrialJob(0, "d", "s", entry="m:f", **needs)) == places  # type: ignore[arg-type]


def test_of_a_missing_folder_the_folder_alone_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    paths = [str(tmp_path), str(gone), str(gone / "a"), str(gone / "b/c"), str(tmp_path / "gone2")]
    assert missing(paths) == [str(gone), str(tmp_path / "gone2")]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Two machines with a core each and no GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        from ray.cluster_utils import Cluster

        options = {"num_cpus": 1, "num_gpus": 0, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=options)
        cluster.add_node(num_cpus=1, num_gpus=0)
        cluster.wait_for_nodes()
        yield str(cluster.address)
        cluster.shutdown()


@pytest.mark.slow
def test_a_cluster_of_cpus_runs_as_many_trials_as_its_machines_hold(address: str, tmp_path: Path) -> None:
    assert gpus_of(address) == 0
    driver = Told([make_job(tmp_path, i, {"epochs": 2, "epoch_s": 2.0}) for i in range(4)])
    executor = RayTuneExecutor(address=address, files=(str(tmp_path), [str(tmp_path / "0000/spec.json")]))
    try:
        executor.run(driver)
    finally:
        executor.close()
    assert driver.most_open == 2
    assert [exit.finished for (exit,) in driver.exits.values()] == [True] * 4
    assert list(tmp_path.glob(".seen-*")) == []


@pytest.mark.slow
def test_files_that_a_machine_does_not_see_are_told_before_the_first_trial(
    address: str, tmp_path: Path
) -> None:
    driver = Told([make_job(tmp_path, 0, {"epochs": 1})])
    executor = RayTuneExecutor(address=address, files=(str(tmp_path), [str(tmp_path / "data")]))
    try:
        with pytest.raises(UserError, match=f"does not see {tmp_path / 'data'}"):
            executor.run(driver)
    finally:
        executor.close()
    assert driver.folders == {}


@pytest.mark.parametrize("address", ["127.0.0.1:9", "no-such-host.invalid:6379", "127.0.0.1:99999", "a\0b"])
def test_no_cluster_is_a_mistake(address: str) -> None:
    told = re.escape(address.replace("\0", "\\x00"))
    with pytest.raises(UserError, match=f"--ray-address {told}: no Ray cluster can be used there"):
        with connected(address, "", None):
            pass


@pytest.mark.parametrize("executor", ["ray", "local"])
@pytest.mark.parametrize("address", ["head:6379", None])
def test_how_to_go_on_is_said_before_a_cluster_s_head_can_take_the_word(
    executor: str, address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's core ends a process that its head does not answer, and lets nothing be said."""
    said: list[str] = []
    progress = Progress(quiet=True)
    monkeypatch.setattr(progress, "note", said.append)
    monkeypatch.setattr(loop, "make_executor", lambda *args: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(loop, "_driver", lambda *args: (None, None))
    monkeypatch.setattr(loop, "_searched", lambda *args: "")
    monkeypatch.setattr(loop, "_handed_over", lambda *args: None)
    plan: Any = SimpleNamespace(request=RunRequest(executor=executor, ray_address=address))
    loop._search(plan, RunDir(tmp_path), progress)
    assert [f"automl resume {tmp_path}" in line for line in said] == [True] * (
        executor == "ray" and bool(address)
    )


def test_a_ray_that_does_not_start_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def slow(**options: object) -> None:
        raise Exception("The current node timed out during startup.\nMore of it.")

    monkeypatch.setattr(ray, "init", slow)
    with (
        pytest.raises(Resumable, match=r"did not start .*timed out during startup\.\); .*--executor local"),
        connected(None, str(tmp_path), None),
    ):
        pass


class OneJob:
    """A driver with one trial that has begun."""

    def next_job(self) -> TrialJob:
        return TrialJob(0, "d", "s", entry="m:f")

    def finished(self) -> bool:
        return False

    def deadline_passed(self) -> bool:
        return False


@pytest.mark.parametrize("open_trials", [0, 1])
def test_a_cluster_that_has_lost_its_machines_ends_the_run(
    open_trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune would wait for them for ever."""
    ray_bridge = pytest.importorskip("automl.executors.ray_bridge")
    now, held = [0.0], [1]
    monkeypatch.setattr(ray_bridge, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(ray_bridge, "places", lambda job: held[0])
    bridge = ray_bridge.Bridge(OneJob(), None, None, own=True)
    assert bridge.suggest("a") is not None
    if not open_trials:
        bridge.open.clear()
    held[0] = 0
    for now[0] in range(1, 30):  # they may come back
        assert not bridge.must_end()
    assert bridge.suggest("b") is None
    held[0] = 1
    now[0] = 35
    assert not bridge.must_end()
    held[0] = 0
    ended = [now[0] for now[0] in range(36, 100) if bridge.must_end()]
    assert 60 < ended[0] <= 75
    assert type(bridge.failure) is Resumable
    assert bridge.over()


def test_a_job_that_no_machine_ever_held_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    ray_bridge = pytest.importorskip("automl.executors.ray_bridge")
    monkeypatch.setattr(ray_bridge, "places", lambda job: 0)
    monkeypatch.setattr(ray_bridge.ray, "cluster_resources", dict)
    bridge = ray_bridge.Bridge(OneJob(), None, None, own=True)
    assert bridge.suggest("a") is None
    assert isinstance(bridge.failure, UserError)


@pytest.mark.slow
def test_a_raylet_that_is_killed_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ray_bridge = pytest.importorskip("automl.executors.ray_bridge")
    monkeypatch.setattr(ray_bridge, "GONE_S", 5.0)
    driver = Told([make_job(tmp_path, i, {"epochs": 40, "epoch_s": 1.0}) for i in range(4)])
    record = driver.on_record

    def kill(number: int, line: dict[str, Any]) -> Decision:
        monkeypatch.setattr(driver, "on_record", record)
        import ray

        raylets = ray._private.worker._global_node.all_processes["raylet"]
        raylets[0].process.kill()
        return record(number, line)

    monkeypatch.setattr(driver, "on_record", kill)
    executor = RayTuneExecutor(concurrency=2)
    try:
        with pytest.raises(Resumable, match="the cluster is gone"):
            executor.run(driver)
    finally:
        executor.close()
    assert capfd.readouterr().out.count("\n") < 10
