"""Whether a trial still does something, by the files it writes, and what it says of itself meanwhile.

A trainer that can say so writes a JSON object of numbers to `heartbeat` in its folder, whole (a new file, renamed),
every few seconds while it gets on: {"epoch": 3, "step": 40, "steps": 120, "loss": 0.61, "images_per_s": 8.1,
"eta_s": 840}. Any name will do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from automl.records import is_finite

WATCHED = ("metrics.jsonl", "log.txt", "status.json", "heartbeat")
EPOCHS_OF_SILENCE = 3  # a trainer that is silent within epochs may take so many of its longest for one
LOOK_S = 5.0  # counted for one look at most: while the watcher itself stood still it saw no silence
LARGEST_BEAT = 4096  # bytes


class Liveness:
    """Watches one trial's folder from its start on. `limit_s` None: silence is never too long."""

    def __init__(
        self, folder: Path, limit_s: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder, self.limit_s, self.clock = folder, limit_s, clock
        self.silent_s = 0.0  # seconds looked on without seeing a change
        self.epoch_s = 0.0  # the longest time between two records, or the start and the first
        self._seen = self._marks()
        self._first_beat = self._beat = self._seen[-1]
        self._looked_at = self._record_at = clock()

    def start(self) -> None:
        """The trial's processes have been started."""
        self._looked_at = self._record_at = self.clock()

    def record(self) -> None:
        """An epoch has ended."""
        now = self.clock()
        self.epoch_s, self._record_at = max(self.epoch_s, now - self._record_at), now

    def look(self) -> float | None:
        """Look once; the limit in seconds when the trial has been silent for longer."""
        now, marks = self.clock(), self._marks()
        if marks != self._seen:
            self._seen, self.silent_s = marks, 0.0
        else:
            self.silent_s += min(now - self._looked_at, LOOK_S)
        self._looked_at = now
        if self.limit_s is None:
            return None
        beats = self._beat != self._first_beat
        limit_s = self.limit_s if beats else max(self.limit_s, EPOCHS_OF_SILENCE * self.epoch_s)
        return limit_s if self.silent_s > limit_s else None

    def beat(self) -> dict[str, float] | None:
        """What the heartbeat says, when it is new since the last call or the start."""
        if self._seen[-1] == self._beat:
            return None
        self._beat = self._seen[-1]
        return read_beat(self.folder / "heartbeat")

    def _marks(self) -> tuple[tuple[int, int], ...]:
        return tuple(_mark(self.folder / name) for name in WATCHED)


def _mark(path: Path) -> tuple[int, int]:
    """What changes whenever the file is written."""
    try:
        state = path.stat()
    except OSError:
        return (0, 0)
    return (state.st_size, state.st_mtime_ns)


def read_beat(path: Path) -> dict[str, float] | None:
    """The finite numbers of a heartbeat; None for anything that is not a small JSON object, which is no error: that
    the file was written is what counts."""
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(LARGEST_BEAT))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    return {name: float(value) for name, value in content.items() if is_finite(value)}
