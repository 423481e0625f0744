"""Keeps report.html up to date while a run goes on. What goes wrong here is told once and ends nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from automl import report
from automl.report.gather import DATA_FOLDER

if TYPE_CHECKING:
    from automl.plan import Plan
    from automl.study import Study

EVERY_S = 30.0  # between two writings, and never more than a thirtieth of the time
SHARE = 30


class Keeper:
    """`refresh` may be called after every epoch of every trial: it writes when the last writing is long enough ago."""

    def __init__(
        self, plan: Plan, root: Path, study: Study, say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self.plan, self.root, self.study, self.say, self.clock = plan, root, study, say, clock
        self.next_at, self.told = 0.0, False

    def describe_data(self) -> None:
        """Let the model tell of its data, once a run (`entry_points.describe_data`)."""
        folder = self.root / DATA_FOLDER
        describe = self.plan.bundle.call("describe_data")
        if describe is None or (folder / "report.json").is_file():
            return
        try:
            describe(self.plan.spec, folder)
        except Exception as error:  # the model's own code, of which the run does not depend
            self.say(f"note: the report says nothing of the data: {error}")

    def refresh(self) -> None:
        began = self.clock()
        if began >= self.next_at:
            self._write(running=True)
            self.next_at = self.clock() + max(EVERY_S, SHARE * (self.clock() - began))

    def going_on(self) -> None:
        """Write it as that of a run whose trials have ended and that goes on with its winner."""
        self._write(running=True)

    def finish(self) -> Path | None:
        """Write it as that of a run whose driver ends, finished or not; None when it cannot be."""
        return self._write(running=False)

    def _write(self, running: bool) -> Path | None:
        try:
            return report.write(self.root, self.study, running)
        except Exception as error:
            if not self.told:
                self.say(f"note: report.html was not written: {error}")
            self.told = True
            return None
