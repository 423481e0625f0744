"""The sampler of the model in model.py: what it asks for, and what it keeps with each trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from optuna.samplers import BaseSampler, RandomSampler

from automl.fgp import FITTED
from automl.fgp.model import Model, cube_of
from automl.scheduling import View
from automl.trial_attributes import WIDENED

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial


class FreezeThawSampler(BaseSampler):
    """Also of use to a plain Optuna study: what it needs is then taken from that."""

    widens: ClassVar[bool] = True  # draws from `SearchSpace.widest`

    def __init__(self, seed: int, view: View | None = None) -> None:
        self.seed, self.view = seed, view
        self.independent = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return cube_of(self._view(study, trial)).distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space or not trial.number:
            return {}
        model = Model.of(self._view(study, trial))
        proposal = model.propose(self.seed)
        if model.knows:
            kept = model.fitted.kept(model.opened)
            study._storage.set_trial_system_attr(trial._trial_id, FITTED, kept)
            if widened := model.widened():
                study._storage.set_trial_user_attr(trial._trial_id, WIDENED, widened)
        return model.cube.params(proposal.point)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.independent.sample_independent(study, trial, param_name, param_distribution)

    def _view(self, study: Study, trial: FrozenTrial) -> View:
        if self.view is not None:
            return self.view
        self._raise_error_if_multi_objective(study)
        trials = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        return View(trials, {}, sign=1.0 if study.direction.name == "MAXIMIZE" else -1.0)
