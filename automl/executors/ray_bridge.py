"""The classes Ray Tune calls, each a thin shell around `Bridge`, which knows the driver. Imports Ray."""

from __future__ import annotations

import logging
import math
import os
import pickle
import time
from collections.abc import Callable
from typing import Any, TypeVar

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from automl.errors import Resumable, UserError
from automl.executors.base import DEADLINE, Decision, Driver, Event, Exit, TrialJob, deliver
from automl.executors.ray_cluster import places, resources
from automl.launcher import GRACE_S, ForkServer, ServerPlan, TrialProcess
from automl.metric import counted

STEP_S = 1.0  # the longest an actor waits for news before it answers
CLUSTER_LOOK_S = 5.0  # between two looks at the cluster's machines
GONE_S = 30.0  # a cluster of our own that held trials may be so long without a machine for one
GONE_ELSEWHERE_S = 1800.0  # and one that gives machines back and asks for others
END_S = 3 * GRACE_S  # for the trials' own ends at the deadline, before their actors are removed

T = TypeVar("T")


class TrialActor(tune.Trainable):
    """Runs on the trial's machine and passes on what `TrialProcess` sees. Used again for the next trial.

    The trial begins with the first `step`: Tune may set up a second actor for it, and takes one of the two.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([resources(config["job"])])

    def setup(self, config: dict[str, Any]) -> None:
        self._server = ForkServer(config["server"])
        self._job: TrialJob = config["job"]
        self._trial: TrialProcess | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self._job, self._trial = new_config["job"], None
        return True

    def step(self) -> dict[str, Any]:
        return {"events": self._begun().poll(STEP_S)}

    def end(self, reason: str) -> None:
        """Called by the bridge, beside Tune; the next `step` brings the exit."""
        self._begun().kill(reason)

    def cleanup(self) -> None:
        if self._trial is not None:
            self._trial.close()

    def _begun(self) -> TrialProcess:
        if self._trial is None:
            self._trial = TrialProcess(self._job, self._server, ray.get_gpu_ids())
        return self._trial


class Bridge:
    """Turns what Tune tells into calls of the driver.

    An error of the driver cannot travel through Tune, which wraps or logs it: it is kept in `failure` and ends the
    experiment.
    """

    def __init__(self, driver: Driver, plan: ServerPlan, concurrency: int | None, own: bool) -> None:
        self.driver, self.plan = driver, plan
        self.gone_s = GONE_S if own else GONE_ELSEWHERE_S
        self.concurrency = math.inf if concurrency is None else concurrency
        self.failure: Exception | None = None
        self.open: dict[str, int] = {}  # Tune's id -> number, for every job without its exit
        self.trials: dict[str, Trial] = {}
        self.muted: set[str] = set()  # told to stop by the driver; it wants no more records of them
        self.ending_since: float | None = None
        self.places = 1  # jobs like the last one that the cluster holds; not known before the first
        self._looked_at = -math.inf
        self._held_at = math.inf  # when the cluster last held one; inf: it never did
        self._last_job: TrialJob | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return (object, ())  # Tune pickles its state for a restore that never comes

    # ---- what Tune asks and tells ---------------------------------------------------------------------------

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        return self._guard(lambda: self._suggest(trial_id), None)

    def over(self) -> bool:
        """Nothing will come any more. False while something runs: it may yet give the driver a new job."""
        if self.failure is not None or self.ending_since is not None:
            return True
        return not self.open and self._guard(
            lambda: self.driver.finished() or self.driver.deadline_passed(), True
        )

    def on_result(self, trial: Trial, events: list[Event]) -> bool:
        """False when the trial has ended."""
        return self._guard(lambda: self._take(trial, events), False)

    def on_lost(self, trial: Trial) -> None:
        """Its actor has died, or could not start."""
        self._close(
            trial.trial_id, Exit(None, f"lost with its Ray actor: {_error_of(trial)}", lost=_died(trial))
        )

    def must_end(self) -> bool:
        """Asked all the time. At the deadline, ends every trial; True once they have ended or take too long."""
        self._guard(self._check_cluster, None)
        if self.failure is not None:
            return True
        if self.ending_since is None and self._guard(self.driver.deadline_passed, False):
            self.ending_since = time.monotonic()
            for trial_id in self.open:
                self._end(self.trials[trial_id], DEADLINE)
        if self.failure is not None or self.ending_since is None:
            return self.failure is not None
        running = any(self.trials[trial_id].status == Trial.RUNNING for trial_id in self.open)
        return not running or time.monotonic() - self.ending_since > END_S

    def close_all(self) -> None:
        """Report what Tune has stopped without a word."""
        for trial_id in list(self.open):
            self._close(trial_id, Exit(None, DEADLINE))

    # ---- what follows from it ----------------------------------------------------------------------------------

    def _suggest(self, trial_id: str) -> dict[str, Any] | None:
        self._check_cluster()
        if len(self.open) >= min(self.concurrency, self._look()) or self.driver.deadline_passed():
            return None
        job = self.driver.next_job()
        if job is None:
            return None
        self._last_job = job
        if self._look(again=len(self.open) == 0) < 1 and self._held_at == math.inf:
            raise UserError(
                f"a trial needs {counted(job.cpus, 'CPU')} and {counted(job.num_gpus, 'GPU')}, but no machine "
                "of the Ray cluster has so "
                f"many; it has {counted(ray.cluster_resources().get('CPU', 0), 'CPU')} and "
                f"{counted(ray.cluster_resources().get('GPU', 0), 'GPU')} in all"
            )
        self.open[trial_id] = job.number
        return {"job": job, "server": self.plan}

    def _look(self, again: bool = False) -> int:
        """How many jobs like the last one the cluster's machines hold."""
        if self._last_job is not None and (again or time.monotonic() - self._looked_at > CLUSTER_LOOK_S):
            self._looked_at = time.monotonic()
            self.places = places(self._last_job)
            self._held_at = self._looked_at if self.places else self._held_at
        return self.places

    def _check_cluster(self) -> None:
        """Raises `AutoMLError` for a cluster that has lost the machines that trials ran on, for which Tune would wait
        for ever."""
        if not self._look() and time.monotonic() - self._held_at > self.gone_s:
            raise Resumable(
                f"Ray has had no machine for a trial for {self.gone_s:.0f} s: the cluster is gone, or its processes on "
                "this machine were killed"
            )

    def _take(self, trial: Trial, events: list[Event]) -> bool:
        for event in events:
            if isinstance(event, Exit):
                self._close(trial.trial_id, event)
                return False
            if trial.trial_id in self.muted:
                continue
            decision = deliver(self.driver, self.open[trial.trial_id], event)
            if decision is not Decision.CONTINUE:
                self.muted.add(trial.trial_id)
                self._end(trial, decision.value)
        return True

    def _end(self, trial: Trial, reason: str) -> None:
        """Stop it through its actor, so that its exit comes when its processes are gone, and by the usual way."""
        actor = trial.temporary_state.ray_actor
        if actor is not None:
            actor.end.remote(reason)

    def _close(self, trial_id: str, exit: Exit) -> None:
        number = self.open.pop(trial_id, None)
        self.trials.pop(trial_id, None)
        self.muted.discard(trial_id)
        if number is not None:
            self._guard(lambda: self.driver.on_exit(number, exit), None)

    def _guard(self, call: Callable[[], T], otherwise: T) -> T:
        if self.failure is not None:
            return otherwise
        try:
            return call()
        except Exception as error:
            self.failure = error
            return otherwise


def _died(trial: Trial) -> bool:
    """Whether its actor ran and is gone, with its machine or alone; one that cannot be made would fail again."""
    path = trial.pickled_error_file  # Trial.get_pickled_error looks where it is copied to later
    if not path or not os.path.exists(path):
        return False
    with open(path, "rb") as file:
        error = pickle.load(file)  # of this very process
    return isinstance(error, ray.exceptions.RayActorError) and not error.actor_init_failed


def _error_of(trial: Trial) -> str:
    """The line of Tune's error file that names an error of ours, else what Ray says first."""
    if not trial.error_file or not os.path.exists(trial.error_file):
        return "Ray gave no reason"
    with open(trial.error_file) as file:
        lines = [line.strip() for line in file if line.strip()]
    named = [line for line in lines if "Error:" in line or "Error(" in line]
    return (named or [lines[-1].partition(". ")[0]])[-1][:500]


class _Searcher(Searcher):
    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        return Searcher.FINISHED if self._bridge.over() else self._bridge.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        pass

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        pass


class _Scheduler(FIFOScheduler):
    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._bridge.trials[trial.trial_id] = trial

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        goes_on = self._bridge.on_result(trial, result["events"])
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._bridge.on_lost(trial)


class _Stopper(Stopper):
    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._bridge.must_end()


def tune_run(driver: Driver, plan: ServerPlan, concurrency: int | None, folder: str, own: bool) -> None:
    """Run the driver's jobs on the connected cluster, which is `own` where this process started it. `folder` takes
    Tune's files."""
    logging.getLogger("ray.tune").setLevel(
        logging.CRITICAL
    )  # it reports each failed trial; the driver does that
    bridge = Bridge(driver, plan, concurrency, own)
    tuner = tune.Tuner(
        TrialActor,
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(bridge),
            scheduler=_Scheduler(bridge),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=folder,
            stop=_Stopper(bridge),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    tuner.fit()
    if bridge.failure is None:
        bridge.close_all()
    if bridge.failure is not None:
        raise bridge.failure


def _name(trial: Trial) -> str:
    return f"{trial.config['job'].number:04d}-{trial.trial_id}"
