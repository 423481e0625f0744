"""What stays in floating point so that a quantized graph loses no more than is allowed, measured on labelled images.

Layers are judged in groups, one of a network's stages or blocks each: how far the outputs move when that group alone is
quantized. Those that move them most stay in floating point, as few as keep the mAP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from model.errors import ModelError, number_of


@dataclass(frozen=True)
class Choice:
    """`nodes` that are quantized; groups that stay in floating point; mAP before and after on `images` images; how far
    each group alone moved the outputs (relative L2), worst first, empty where it was not asked."""

    nodes: list[str]
    kept: list[str]
    before: float
    after: float
    images: int
    moved: Mapping[str, float]

    def entries(self) -> dict[str, Any]:
        return {
            "mAP_before": self.before, "mAP": self.after, "scored_images": self.images, "stays_float": self.kept,
            "moved_alone": dict(self.moved),
        }  # fmt: skip


def group_of(node: str) -> str:
    """`transformer.encoder.layers.0.linear1/Gemm` -> `transformer.encoder.layers.0`, `backbone.0.body.layer1.0.bn1`
    -> `backbone.0.body.layer1`: a module's path down to the first part that is numbered, from the third on."""
    parts = node.split("/")[0].split(".")
    cut = next((i for i, part in enumerate(parts) if i > 1 and part[-1:].isdigit()), len(parts) - 1)
    return ".".join(parts[: cut + 1])


def choose(
    nodes: Sequence[str], max_drop: float, before: float, score: Callable[[list[str]], float],
    moved: Callable[[list[str]], float], images: int, say: Callable[[str], Any] = partial(print, flush=True),
) -> Choice:  # fmt: skip
    """The nodes to quantize. before: mAP of the graph in floating point; score: that of one with these nodes
    quantized; moved: how far its outputs are from the former's.

    Raises `ModelError` when even the least sensitive group alone loses more than `max_drop`.
    """
    after = score(list(nodes))
    if before - after <= max_drop:
        return Choice(list(nodes), [], before, after, images, {})
    say(
        f"all {number_of(len(nodes), 'layer')}: mAP {after:.4f}, {before - after:.4f} below {before:.4f}; "
        "asking each group alone"
    )
    groups: dict[str, list[str]] = {}
    for node in nodes:
        groups.setdefault(group_of(node), []).append(node)
    far = {}
    for number, (name, own) in enumerate(groups.items(), 1):
        far[name] = moved(own)
        say(f"{number} of {len(groups)} groups: {name} alone moves the outputs by {far[name]:.3f}")
    ordered = sorted(groups, key=lambda name: -far[name])

    def without(count: int) -> list[str]:
        return [node for name in ordered[count:] for node in groups[name]]

    scores: dict[int, float] = {}

    def holds(count: int) -> bool:
        scores[count] = score(without(count))
        say(f"{count} of {len(groups)} groups in floating point: mAP {scores[count]:.4f}")
        return before - scores[count] <= max_drop

    count = _fewest(1, len(groups) - 1, holds)
    if count is None:
        raise ModelError(
            f"quantize.max_drop {max_drop:g} cannot be held: mAP {before:.4f} in floating point, {after:.4f} with all "
            f"layers quantized, {max(scores.values(), default=after):.4f} at best; allow more, or null for no limit"
        )
    kept = {name: far[name] for name in ordered}
    return Choice(sorted(without(count)), ordered[:count], before, scores[count], images, kept)


def _fewest(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """The smallest number for which it holds, by halving, where what holds for one holds for more; None for none."""
    found = None
    while low <= high:
        middle = (low + high) // 2
        if holds(middle):
            found, high = middle, middle - 1
        else:
            low = middle + 1
    return found
