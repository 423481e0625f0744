"""How long a run takes, from the seconds of an epoch: what its budget buys, and what it is too small for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from automl.metric import counted
from automl.request import RunRequest, write_time

if TYPE_CHECKING:
    from automl.plan import Plan

DAY_S = 86400.0
# Of a training's epochs, what a trial takes on average where the worse ones are stopped early: as measured in
# studies/search.
SHARES = {"halving": 1 / 1.6, "asha": 1 / 1.6, "fgp": 1 / 1.3}


@dataclass(frozen=True)
class Forecast:
    """`epoch_s`: seconds of an epoch, guessed as `basis` says; `epochs` of one training; `share` of them that a trial
    after the first takes on average; `at_a_time` trials run side by side."""

    epoch_s: float
    epochs: int
    share: float
    at_a_time: int
    basis: str

    @property
    def training_s(self) -> float:
        """Seconds of one training, run to its end."""
        return self.epoch_s * self.epochs

    def trials_s(self, count: int) -> float:
        """Seconds of a search of so many trials."""
        after = self.training_s * self.share * (count - 1) / self.at_a_time
        return max(self.training_s, self.training_s / self.at_a_time + after)

    def total_s(self, request: RunRequest, searching: bool) -> float:
        """Seconds until the first budget is used up; of one training where nothing is searched."""
        ends = [request.time_s] if request.time_s else []
        if not searching:
            return min([self.training_s, *ends])
        ends += [self.trials_s(request.trials)] if request.trials else []
        ends += [self._wall_s(self.training_s * request.trainings)] if request.trainings else []
        ends += [self._wall_s(self.epoch_s * request.total_epochs)] if request.total_epochs else []
        return min(ends, default=self.training_s)

    def _wall_s(self, work_s: float) -> float:
        """Of so many seconds of training, done side by side: no training is faster for that."""
        return max(min(work_s, self.training_s), work_s / self.at_a_time)

    def trials_in(self, request: RunRequest) -> int:
        """About how many trials the first budget used up holds, one at least; one of `--trials` says it itself."""
        held = [request.time_s * self.at_a_time / self.training_s] if request.time_s else []
        held += [float(request.trainings)] if request.trainings else []
        held += [request.total_epochs / self.epochs] if request.total_epochs else []
        return max(1, round(1 + (min(held, default=1.0) - 1) / self.share))


def of(plan: Plan) -> Forecast | None:
    """The forecast of a plan; None where the model gives no estimate."""
    estimate = plan.estimate
    if not estimate or not estimate.get("epoch_s"):
        return None
    epochs, at_a_time = plan.bundle.epochs(plan.spec) or 1, max(1, plan.machine.concurrency)
    return Forecast(
        float(estimate["epoch_s"]), epochs, share(plan.request), at_a_time, str(estimate["basis"])
    )


def share(request: RunRequest) -> float:
    """Of a training's epochs, what a later trial takes on average; `fgp` spends what it saves of `--trials`."""
    name = request.scheduler.partition(":")[0]
    return 1.0 if name == "fgp" and request.trials else SHARES.get(name, 1.0)


def text(plan: Plan, found: Forecast) -> str:
    """An epoch, a training and the whole of the budget, in words."""
    request = plan.request
    epochs = counted(found.epochs, "epoch")
    said = f"about {clock(found.epoch_s)} an epoch, {clock(found.training_s)} a training of {epochs}"
    if plan.searching:
        total = found.total_s(request, True)
        held = (
            ""
            if request.trials
            else f", which holds about {counted(found.trials_in(request), 'configuration')}"
        )
        said += f", {clock(total)} for {budget_text(request)}{held}"
        again = 2 * (request.confirm or 0) * found.training_s / found.at_a_time
        said += f", then {clock(max(found.training_s, again))} to confirm" if again else ""
    elif request.time_s and request.time_s < found.training_s:
        said += f", cut off after {clock(request.time_s)}"
    return f"{said} ({found.basis})"


def budget_text(request: RunRequest) -> str:
    """What ends the search, whichever comes first."""
    parts = [counted(request.trials, "trial")] if request.trials else []
    parts += [counted(request.trainings, "training")] if request.trainings else []
    parts += [f"{counted(request.total_epochs, 'epoch')} in all"] if request.total_epochs else []
    parts += [clock(request.time_s)] if request.time_s else []
    return ", ".join(parts)


def warnings(plan: Plan) -> list[str]:
    """What the budget is too small for, said before anything trains."""
    request, epochs, found = plan.request, plan.bundle.epochs(plan.spec), of(plan)
    said = [
        f"{option} 1 trains {_first(plan)} and nothing else; --automl-policy off does the same"
        for option, count in (("--trials", request.trials), ("--trainings", request.trainings))
        if plan.searching and count == 1
    ]
    if plan.searching and request.total_epochs and epochs and request.total_epochs <= epochs:
        what = "is one training" if request.total_epochs == epochs else "is less than one training"
        said.append(
            f"--total-epochs {request.total_epochs} {what} of {counted(epochs, 'epoch')}: only {_first(plan)} is "
            f"trained{'' if request.total_epochs == epochs else ', and not to its end'}; --epochs N makes trainings "
            "shorter"
        )
    if plan.searching and epochs and request.trainings and plan.bundle.epochs_key in plan.space.default:
        said.append(
            f"{plan.bundle.epochs_key} is searched: --trainings {request.trainings} counts trainings of {epochs} "
            "epochs, and what is begun last may take more"
        )
    every = plan.space.every if plan.searching else None
    if every is not None and len(every) < max(request.trials or 0, request.trainings or 0):
        said.append(
            f"the search space holds {counted(len(every), 'configuration')}: the search ends when all have been tried"
        )
    return said + (_too_long(plan, found) if found else [])


def _first(plan: Plan) -> str:
    return "the configuration nearest to the default" if plan.first else "the default configuration"


def _too_long(plan: Plan, found: Forecast) -> list[str]:
    limit_s, said = plan.request.time_s, []
    if limit_s and found.epoch_s > limit_s:
        said.append(
            f"one epoch takes about {clock(found.epoch_s)}, and --time is {write_time(limit_s)}: the run may end "
            "before anything is scored"
        )
    elif limit_s and found.training_s > limit_s:
        rest = f"only {_first(plan)} is trained, and not to its end" if plan.searching else "it is cut off"
        said.append(
            f"one training takes about {clock(found.training_s)}, and --time is {write_time(limit_s)}: {rest}; "
            f"--epochs {max(1, int(limit_s / found.epoch_s))} would fit"
        )
    return said


def clock(seconds: float) -> str:
    """Seconds as 45s, 3m10s, 2h05m or 9d04h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 4 * 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
