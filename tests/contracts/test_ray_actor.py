"""What Tune may do with an actor beside running its trial."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from automl.launcher import start_fork_server
from tests.contracts.test_executors import make_job


def test_an_actor_that_tune_sets_up_and_never_steps_starts_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune sets up a new actor for a trial and takes a freed one instead, whichever is ready first: were the trial
    begun by both, two trainings would write one folder."""
    ray_bridge = pytest.importorskip("automl.executors.ray_bridge")
    monkeypatch.setattr(ray_bridge.ray, "get_gpu_ids", list)
    job = make_job(tmp_path, 0, {"epochs": 2})
    server = start_fork_server(())
    surplus, used = (object.__new__(ray_bridge.TrialActor) for _ in range(2))
    try:
        server.wait_ready()
        for actor in (surplus, used):
            actor.setup({"job": job, "server": server.plan})
            time.sleep(0.5)  # enough for a trial to begin
        events, until = [], time.monotonic() + 60
        while not (events and hasattr(events[-1], "finished")):
            assert time.monotonic() < until
            events += used.step()["events"]
        surplus.cleanup()
    finally:
        used.cleanup()
        server.close()
    assert [event["epoch"] for event in events[:-1]] == [0, 1]
    assert len((Path(job.trial_dir) / "metrics.jsonl").read_text().splitlines()) == 2
