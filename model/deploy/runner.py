"""What runs a detector, whatever its file (`runners.py`, `engine.py`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch

from model.deploy.card import ASKED, Card


class Runner(ABC):
    """`size` is the (H, W) that the file fixes, None when any will do; `card`: what the file says of itself."""

    size: tuple[int, int] | None = None
    validated: tuple[int, int] | None = None  # (H, W) of every image when it was scored; None: aspect kept
    card: Card = Card()

    @property
    def classes(self) -> list[dict[str, Any]]:
        """[{"id", "name"}], empty when the file names none."""
        return self.card.classes

    @property
    def threshold(self) -> float | None:
        """The score with the best F1 on validation, None where the file does not say it."""
        asked = self.card.trained.get(ASKED) == self.card.threshold  # by a person: see `card.leaves`
        return None if asked else self.card.threshold

    @abstractmethod
    def infer(self, images: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """images [B, 3, H, W] float32, mask [B, H, W] bool -> pred_logits [B, Q, K], pred_boxes [B, Q, 4] on CPU."""


def in_batches(
    images: torch.Tensor, batch: int | None, run: Callable[[torch.Tensor], Sequence[torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """What `run` makes of images [B, 3, H, W], pred_logits and pred_boxes; a graph of a fixed batch gets them in parts
    of that many, the last filled up and cut again."""
    found = []
    for part in images.split(batch) if batch else (images,):
        short = (batch or len(part)) - len(part)
        full = torch.cat([part, part[-1:].expand(short, -1, -1, -1)]) if short else part
        found.append([each[: len(part)] for each in run(full)])
    logits, boxes = (torch.cat(each) for each in zip(*found, strict=True))
    return {"pred_logits": logits, "pred_boxes": boxes}
