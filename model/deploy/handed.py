"""What is handed over of all that was measured: the table, its page, and the chosen file. At any moment, a kill
included, a model.onnx that is there is the one that points.json and the page call chosen. OpenVINO's form of it lies
beside it where that is the target."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.deploy import front_page
from model.deploy.card import OPENVINO_FILES
from model.deploy.measurements import Measurements
from model.deploy.points import Form, Point
from model.status import write_whole

FILES = tuple(f"model{suffix}" for suffix in (".onnx", *OPENVINO_FILES))


@dataclass(frozen=True)
class Table:
    """The points of `forms`, all combinations there are, in a folder; `key`: of what they are, see `Measurements`."""

    folder: Path
    key: str
    forms: Sequence[Form]
    target: str

    def points(self, kept: Measurements) -> list[Point]:
        return [kept.points[form] for form in self.forms if form in kept.points]

    def document(self, kept: Measurements, chosen: Point | None) -> dict[str, Any]:
        """What points.json holds."""
        points = self.points(kept)
        return {
            "key": self.key, "combinations": len(self.forms), "whole": len(points) == len(self.forms),
            "chosen": chosen.row() if chosen else None, "again_ms": chosen.again_ms if chosen else None,
            "points": [point.row() for point in points],
        }  # fmt: skip

    def write(self, kept: Measurements) -> None:
        """The table and its page; a file that was chosen before stays, unless it is of something else."""
        earlier = self._earlier()
        if earlier is None:
            self._clear()
        self._write(kept, earlier and kept.points.get(earlier.form, earlier))

    def hand_over(self, kept: Measurements, chosen: Point, made: Path) -> None:
        """The table with what is chosen, and its files out of the folder `made`."""
        self._clear()
        self._write(kept, chosen)
        for name in reversed(FILES):
            if (made / name).is_file():
                (made / name).replace(self.folder / name)

    def _clear(self) -> None:
        for name in FILES:
            (self.folder / name).unlink(missing_ok=True)

    @property
    def model(self) -> Path:
        return self.folder / FILES[0]

    def _write(self, kept: Measurements, chosen: Point | None) -> None:
        machine, document = platform.processor() or platform.machine(), self.document(kept, chosen)
        front_page.write(self.folder, self.points(kept), chosen, len(self.forms), self.target, machine)
        write_whole(self.folder / "points.json", json.dumps(document, indent=1) + "\n")

    def _earlier(self) -> Point | None:
        """What was chosen before of the same points, and is still there."""
        try:
            document = json.loads((self.folder / "points.json").read_text())
            same = document["key"] == self.key and self.model.is_file()
            return Point.of(document["chosen"]) if same else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
