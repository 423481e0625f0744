"""What was measured of a network's forms, kept in a file from the moment it is known, so that a run that was cut short,
by a limit or by a kill, loses nothing and nothing is measured twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from model.deploy.points import Form, Point
from model.deploy.scoring import Scored
from model.status import write_whole


@dataclass
class Cost:
    """Seconds that were the longest so far: of a unit (see survey.py), of its export alone, of one turn on the clock; 0
    where none was done."""

    unit_s: float = 0.0
    export_s: float = 0.0
    turn_s: float = 0.0

    def longest(self, unit_s: float, export_s: float, turn_s: float) -> Cost:
        return Cost(max(self.unit_s, unit_s), max(self.export_s, export_s), max(self.turn_s, turn_s))


@dataclass
class Measurements:
    """Of one checkpoint on the same data and hardware, `key`; what the file holds of others stays there."""

    path: Path
    key: str
    points: dict[Form, Point] = field(default_factory=dict)
    scores: dict[Form, dict[str, Scored]] = field(default_factory=dict)  # {form: {split: Scored}}
    cost: Cost = field(default_factory=Cost)
    others: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(path: Path, key: str) -> Measurements:
        """Those of an earlier time; none, with a word, where the file cannot be read."""
        found = Measurements(path, key)
        if not path.exists():
            return found
        try:
            whole = json.loads(path.read_text())
            own = whole.pop(key, {})
            points = [Point.of(row) for row in own.get("points", [])]
            scores = {Form.of(row): _scores(row["splits"]) for row in own.get("scores", [])}
            return Measurements(
                path, key, {p.form: p for p in points}, scores, Cost(**own.get("cost", {})), whole
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            print(f"{path}: cannot be read; all is measured anew")
            return found

    def add_scores(self, split: str, found: Mapping[Form, Scored]) -> None:
        for form, scored in found.items():
            self.scores.setdefault(form, {})[split] = scored
        self.write()

    def add_points(self, found: Mapping[Form, Point]) -> None:
        self.points |= found
        self.write()

    def write(self) -> None:
        own = {
            "points": [point.row() for point in self.points.values()],
            "scores": [
                asdict(form) | {"splits": {split: asdict(scored) for split, scored in each.items()}}
                for form, each in self.scores.items()
            ],
            "cost": asdict(self.cost),
        }
        write_whole(self.path, json.dumps(self.others | {self.key: own}, indent=1) + "\n")


def _scores(splits: Mapping[str, Any]) -> dict[str, Scored]:
    return {split: Scored(**row) for split, row in splits.items()}
