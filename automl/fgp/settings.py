"""The numbers that the search is steered by; what each is worth was measured (studies/search)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """`first`: spreads of the first draws, in units of the prior's, 0 for uniform ones. `belief`: the prior counts as
    belief / n trials (piBO, arXiv:2204.11051), at most `strongest`, where a curve's first ninth tells nothing of its
    end, not at all where it tells `told` of it, as then many can be looked at, and less and less the more the default
    is `beaten`, in units of the scale. `hopeless`: a trial with less chance to become the best is paused."""

    first: tuple[float, ...] = (0.7, 0.0, 0.7, 0.0)
    belief: float = 8.0
    strongest: float = 0.2
    told: float = 0.7
    beaten: tuple[float, float] = (1.0, 2.5)
    hopeless: float = 0.1
    worthless: float = 1e-6  # expected gain an epoch, in units of the scale, below which nobody goes on


SETTINGS = Settings()
