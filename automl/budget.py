"""What a search may still spend, counted in epochs of training."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """`free`: epochs that no running trial may need (inf: they are not limited). `new`: a new configuration may be asked
    for. `num_epochs`: of a full training; None where nobody knows."""

    free: float = math.inf
    new: bool = True
    num_epochs: int | None = None
