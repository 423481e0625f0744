"""What a running action tells the world: `status.json` (TAO's JSON lines) and `metrics.jsonl` (one per epoch)."""

from __future__ import annotations

import json
import math
import os
from datetime import datetime
from pathlib import Path
from typing import Any


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON line and flush it to disk; a value that is not finite becomes null."""
    line = json.dumps({key: _finite(value) for key, value in record.items()})
    with path.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


class Status:
    """Writes `<folder>/status.json`, one line an event, in the form TAO's tools read; numbers are numbers."""

    def __init__(self, folder: str | Path, label: str = "") -> None:
        self.path = Path(folder) / "status.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.label = label

    def write(self, status: str, message: str, kpi: dict[str, float] | None = None, **more: Any) -> None:
        """`status` is STARTED, RUNNING, SUCCESS or FAILURE; `kpi` and `more` (epoch, step, eta...) are optional."""
        now = datetime.now()
        record: dict[str, Any] = {
            "date": f"{now.month}/{now.day}/{now.year}",
            "time": f"{now.hour}:{now.minute}:{now.second}",
            "timestamp": round(now.timestamp(), 3),
            "status": status,
            "verbosity": "ERROR" if status == "FAILURE" else "INFO",
            "message": message,
        }
        if self.label:
            record["model_name"] = self.label
        if kpi:
            record["kpi"] = {key: _finite(value) for key, value in kpi.items()}
        append_line(self.path, record | more)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
