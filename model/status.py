"""What a running action tells the world: `status.json` (TAO's JSON lines) and `metrics.jsonl` (one per epoch)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from model.parameters import MANDATORY

R = TypeVar("R")


def results_folder(spec: Mapping[str, Any], action: str) -> Path:
    """Where an action writes: its own results_dir, else a folder of its name below the spec's; an engine's folder."""
    section = spec[action]
    if section["results_dir"]:
        return Path(section["results_dir"])
    if action == "gen_trt_engine" and section["trt_engine"] not in (None, "", MANDATORY):
        return Path(section["trt_engine"]).parent
    return Path(spec["results_dir"] or "results") / action


def failure_told(action: str) -> Callable[[Callable[[dict[str, Any]], R]], Callable[[dict[str, Any]], R]]:
    """Of an action's `run(spec)`: whatever it raises becomes the last line of its status.json."""

    def decorate(run: Callable[[dict[str, Any]], R]) -> Callable[[dict[str, Any]], R]:
        @wraps(run)
        def told(spec: dict[str, Any]) -> R:
            try:
                return run(spec)
            except BaseException as error:
                with suppress(OSError):  # a folder that cannot be written to must not hide the error
                    status = Status(results_folder(spec, action), spec["model_name"])
                    status.write("FAILURE", f"{type(error).__name__}: {error}")
                raise

        return told

    return decorate


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON line and flush it to disk; a value that is not finite becomes null."""
    line = json.dumps({key: _finite(value) for key, value in record.items()})
    with path.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


class Status:
    """Writes `<folder>/status.json`, one line an event, in the form TAO's tools read; numbers are numbers. Of several
    processes the first one writes."""

    def __init__(self, folder: str | Path, label: str = "") -> None:
        self.path = Path(folder) / "status.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.label = label

    def write(self, status: str, message: str, kpi: dict[str, float] | None = None, **more: Any) -> None:
        """`status` is STARTED, RUNNING, SUCCESS or FAILURE; `kpi` and `more` (epoch, step, eta...) are optional."""
        if int(os.environ.get("RANK") or 0) > 0:
            return
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
