"""Winner against default: the figures of the stages that ran on both, and how sure the difference is.

A stage may leave resampled values of a figure in its report document (references/trial_contract.md). Where both were
resampled by the same draws, the differences of the pairs are a paired bootstrap of the gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.documents import load_json
from automl.errors import SpecError
from automl.latency import below
from automl.metric import Metric, figure, lowered, signed
from automl.records import is_finite

if TYPE_CHECKING:
    from automl.study import TrialResult

OF_DEFAULT = "_of_default"
SHARE = 95  # per cent of the resamplings that the interval holds
FEWEST = 20  # resamplings, below which no interval is told


def compared_with(winner: TrialResult, default: TrialResult | None) -> TrialResult | None:
    """The default configuration's trial, where it is another than the winner and has run to its end."""
    return default if default and default.complete and default.number != winner.number else None


@dataclass(frozen=True)
class Comparison:
    """One figure of winner and default. `gain`: how much better the winner is, below 0 where it is worse; `low` and
    `high` bound the middle 95 % of the resampled gains, None without resamplings. `of` says what was drawn ("72
    images"); `maximize`: higher is better."""

    name: str
    winner: float
    default: float
    low: float | None = None
    high: float | None = None
    draws: int = 0
    of: str = ""
    maximize: bool = True

    @property
    def gain(self) -> float:
        return Metric(self.name, self.maximize).gain(self.winner, self.default)

    @property
    def settled(self) -> bool:
        """The interval leaves no doubt about the sign."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def words(self, times: float | None = None) -> str:
        """The difference, which of a figure that is better when lower is below 0 where there is a gain, and what the
        interval says of it, plainly; `times`: see `latency.below`."""
        name, difference = Metric(self.name, self.maximize), signed(self.winner - self.default)
        text = f"{name} differs by {difference} ({figure(self.default)} to {figure(self.winner)})"
        if self.low is None or self.high is None:
            return text
        low, high = (self.low, self.high) if self.maximize else (-self.high, -self.low)
        text += f", {SHARE} % of {self.draws} resamplings of {self.of} {signed(low)} to {signed(high)}"
        if not self.settled:
            return f"{text}, which includes 0"
        return text if self.low > 0 else f"{text}: {below(times)}"


def compare(stages: Sequence[Mapping[str, Any]], root: Path, metric: Metric) -> list[Comparison]:
    """The figures that a stage shows of the winner and of the default configuration, from an outcome's stages; report
    files are relative to `root`. Higher is better, but for what the model declares to be minimised (`lower` of a
    stage) and what the search's `metric` says of itself, of whatever split."""
    by_name = {str(stage.get("name")): stage for stage in stages if stage.get("ok")}
    found = []
    for name, stage in by_name.items():
        other = by_name.get(name + OF_DEFAULT)
        if other is None:
            continue
        ours, theirs = (_resamples(document_of(each, root)) for each in (stage, other))
        for shown in stage.get("shows", ()):
            values = [_number(each.get("metrics", {}).get(shown)) for each in (stage, other)]
            if values[0] is not None and values[1] is not None:
                lower = shown in stage.get("lower", ()) or lowered([str(shown)], [metric])
                found.append(_compared(str(shown), values[0], values[1], ours, theirs, not lower))
    return found


def document_of(stage: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The report document of a stage; empty when it has none that can be read."""
    if not stage.get("report"):
        return {}
    try:
        found = load_json(root / str(stage["report"]))
    except (OSError, SpecError):
        return {}
    return found if isinstance(found, dict) else {}


def _resamples(document: Mapping[str, Any]) -> Mapping[str, Any]:
    found = document.get("resamples")
    return found if isinstance(found, dict) else {}


def _compared(
    name: str,
    winner: float,
    default: float,
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    maximize: bool,
) -> Comparison:
    pairs = _pairs(name, ours, theirs)
    if len(pairs) < FEWEST:
        return Comparison(name, winner, default, maximize=maximize)
    gains = sorted(Metric(name, maximize).gain(a, b) for a, b in pairs)
    low, high = (_quantile(gains, q) for q in ((100 - SHARE) / 200, (100 + SHARE) / 200))
    return Comparison(name, winner, default, low, high, len(gains), str(ours.get("of", "samples")), maximize)


def _pairs(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[float, float]]:
    """(winner, default) of each draw; none when they were not drawn alike."""
    if not ours.get("draws") or ours.get("draws") != theirs.get("draws"):
        return []
    lists = []
    for each in (ours, theirs):
        values = each.get("values")
        column = values.get(name) if isinstance(values, dict) else None
        if not isinstance(column, list):
            return []
        lists.append([_number(value) for value in column])
    if len(lists[0]) != len(lists[1]):
        return []
    return [(a, b) for a, b in zip(*lists, strict=True) if a is not None and b is not None]


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between neighbours, as numpy's."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _number(value: Any) -> float | None:
    return float(value) if is_finite(value) else None
