"""How long processes ran and what their epochs took, by a driver's clock."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Timing:
    """Of the processes that run, by the number of their trial. `begun`: when; `first`, `last`: (when, after how many
    epochs) their first and last line came. What lies before the first line is a start too, which an epoch is not."""

    begun: dict[int, float] = field(default_factory=dict)
    first: dict[int, tuple[float, int]] = field(default_factory=dict)
    last: dict[int, tuple[float, int]] = field(default_factory=dict)

    def begin(self, number: int, now: float) -> None:
        self.begun[number] = now

    def line(self, number: int, now: float, done: int) -> None:
        """A line came, by which so many epochs are done."""
        self.first.setdefault(number, (now, done))
        self.last[number] = now, done

    def end(self, number: int, now: float, num_epochs: int | None) -> tuple[float, float, int]:
        """(seconds that it ran, seconds between its lines, epochs of these); of a training of one epoch all of it."""
        ran = now - self.begun.pop(number, now)
        (at, before), (until, done) = (each.pop(number, (now, 0)) for each in (self.first, self.last))
        if num_epochs == done == 1:
            return ran, ran, 1
        return ran, max(0.0, until - at), max(0, done - before)
