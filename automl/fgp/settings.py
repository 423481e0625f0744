"""The numbers that the search is steered by; what each is worth was measured (studies/search)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """The sampler's: `first` to `beaten`; the scheduler's: `hopeless` and `worthless`, and where the first draws end.

    The prior's weight in a proposal is belief / number of trials (piBO, arXiv:2204.11051). `strongest` bounds the
    weight, `told` and `beaten` lower the belief.
    """

    # Spreads of the first draws round the default, in units of the prior's; 0: over the whole space, uniformly.
    first: tuple[float, ...] = (0.7, 0.0, 0.7, 0.0)
    belief: float = 8.0
    strongest: float = 0.2
    # How much a curve's first ninth tells of its end, 0 to 1: the more, the less belief, and from here on none, as then
    # many trials can be looked at.
    told: float = 0.7
    # How far the default is beaten, in units of the scale: full belief up to the first, none from the second on.
    beaten: tuple[float, float] = (1.0, 2.5)
    hopeless: float = 0.1  # chance to become the best, below which a trial is paused
    worthless: float = 1e-6  # expected gain an epoch, in units of the scale, below which nobody goes on


SETTINGS = Settings()
