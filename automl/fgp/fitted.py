"""What the model keeps with each trial that it proposed: all that a driver's successor needs to go on the same way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from automl.fgp import FITTED, gp
from automl.fgp.cube import End
from automl.fgp.gp import Array

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Fitted:
    """`count`: trials at the last fit; `theta`: what it found (gp.py); `opened`: ends of ranges that may be left."""

    count: int
    theta: Array
    opened: frozenset[End] = frozenset()

    @classmethod
    def last(cls, trials: Sequence[FrozenTrial], axes: int) -> Fitted:
        """As kept with the newest trial that has it; the prior's before. Trials of before ranges were widened have no
        ends."""
        for trial in reversed(trials):
            count, theta, *ends = trial.system_attrs.get(FITTED, (0, ()))
            if len(theta) == axes + 4:
                opened = frozenset((str(name), str(side)) for name, side in (ends[0] if ends else ()))
                return cls(int(count), np.array(theta, float), opened)
        return cls(0, gp.prior(axes)[0])

    def kept(self, opened: Iterable[End]) -> list[Any]:
        """As a trial's attribute, with the ends that are open by now."""
        return [self.count, self.theta.tolist(), sorted(map(list, opened))]
