"""What a running action tells the world: `status.json` (TAO's JSON lines) and `metrics.jsonl` (one per epoch)."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from model.data.shared_memory import loader_ended
from model.errors import ModelError, ProcessEnded, UserError
from model.parameters import MANDATORY

R = TypeVar("R")
ANOTHER = "Another of the processes seems to have ended; its output says why."
# What torch's collectives say where the other end is gone: gloo, NCCL, and the store that they meet by.
CUT_OFF = re.compile(
    r"connection (was )?(closed|reset)|remote process exited|ncclRemoteError|broken pipe|socket closed"
    r"|failed to recv|timed out waiting",
    re.IGNORECASE,
)


def results_folder(spec: Mapping[str, Any], action: str) -> Path:
    """Where an action writes: its own results_dir, else a folder of its name below the spec's; an engine's folder; of
    points that are not the CPU's a folder of their target's name in it."""
    section = spec[action]
    if (
        not section["results_dir"]
        and action == "gen_trt_engine"
        and section["trt_engine"] not in (None, "", MANDATORY)
    ):
        return Path(section["trt_engine"]).parent
    folder = Path(section["results_dir"] or Path(spec["results_dir"] or "results") / action)
    return folder / section["target"] if action == "deploy" and section["target"] != "cpu" else folder


def failure_told(action: str) -> Callable[[Callable[[dict[str, Any]], R]], Callable[[dict[str, Any]], R]]:
    """Of an action's `run(spec)`: whatever it raises becomes the last line of its status.json; of several processes
    what the first of them raised that failed, for the others' errors come of that."""

    def decorate(run: Callable[[dict[str, Any]], R]) -> Callable[[dict[str, Any]], R]:
        @wraps(run)
        def told(spec: dict[str, Any]) -> R:
            check_place(results_folder(spec, action))
            began = time.time()
            try:
                return run(spec)
            except BaseException as raised:
                text = loader_ended(raised)
                error = ModelError(text) if text else raised
                with suppress(
                    OSError, UserError
                ):  # a folder that cannot be written to must not hide the error
                    status = Status(results_folder(spec, action), spec["model_name"])
                    status.failed(error, began)
                if text:
                    raise error from raised
                raise

        return told

    return decorate


def check_place(folder: Path) -> None:
    """Raise `UserError` where no folder of this name can be or be written to, as far as is told without making it."""
    if "\0" in str(folder):
        raise UserError(f"results_dir must be a path, but got {str(folder)!r}, which has a NUL in it")
    try:
        above = next(p for p in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(p))
        for part in folder.absolute().relative_to(above).parts:
            with suppress(FileNotFoundError):
                os.lstat(above / part)  # tells of a name that is too long
    except OSError as error:
        raise _no_place(folder, error) from None
    if not above.is_dir():
        what = "a file" if above.exists() else "a link that leads nowhere"
        raise UserError(
            f"results_dir: {_short(folder)} cannot be made, for {above} is {what}; name another folder"
        )
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"results_dir: {_short(above)} cannot be written to; name another folder")


def _no_place(folder: Path, error: OSError) -> UserError:
    why = (error.strerror or type(error).__name__).lower()
    return UserError(f"results_dir: {_short(folder)} cannot be made ({why}); name another folder")


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 160 else f"{text[:80]}...{text[-40:]}"


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON line and flush it to disk; a value that is not finite becomes null."""
    line = json.dumps({key: _finite(value) for key, value in record.items()})
    with path.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, data: str | bytes | memoryview) -> None:
    """Write a file that is as it was before or whole, at any moment, also where the machine loses its power: without
    the fsync a file system may keep the new name and none of the bytes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # a full disk needs the room
        raise


class Status:
    """Writes `<folder>/status.json`, one line an event, in the form TAO's tools read; numbers are numbers. Of several
    processes the first one writes. Raises `UserError` where the folder cannot be made."""

    def __init__(self, folder: str | Path, label: str = "") -> None:
        self.path = Path(folder) / "status.json"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _no_place(self.path.parent, error) from None
        self.label = label

    def write(self, status: str, message: str, kpi: dict[str, float] | None = None, **more: Any) -> None:
        """`status` is STARTED, RUNNING, SUCCESS or FAILURE; `kpi` and `more` (epoch, step, eta...) are optional."""
        if _rank() == 0:
            self._append(status, message, kpi, more)

    def failed(self, error: BaseException, began: float) -> None:
        """Say what ended the action, which `began` at this time (s). Of several processes each may: where one ends, all
        that others see is that its connection does. So what follows of another's end is told where nothing is yet, and
        at once, as their launcher ends them all; a cause after it."""
        told, text = self._told(began), f"{type(error).__name__}: {error}"
        follows = _follows(error)
        if told and (follows or (_rank() and not told.startswith(ANOTHER))):
            return
        if follows and not isinstance(error, ProcessEnded):
            text = f"{ANOTHER} {text}"
        elif _rank():
            text = f"Process {_rank()} of {os.environ.get('WORLD_SIZE')}, counted from 0: {text}"
        self._append("FAILURE", text, None, {})

    def _told(self, began: float) -> str:
        """The failure that the last line tells, "" where it tells none since then: an earlier training may have left
        one."""
        try:
            last = json.loads(self.path.read_bytes().splitlines()[-1])
            new = last["status"] == "FAILURE" and last["timestamp"] >= round(began, 3)
            return str(last["message"]) if new else ""
        except (OSError, ValueError, LookupError, TypeError):
            return ""

    def _append(self, status: str, message: str, kpi: dict[str, float] | None, more: dict[str, Any]) -> None:
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


def _rank() -> int:
    return int(os.environ.get("RANK") or 0)


def _follows(error: BaseException) -> bool:
    """Whether an error may be no more than another process's end, as those see it that it talked to."""
    if isinstance(error, ProcessEnded):
        return True
    alone = (os.environ.get("WORLD_SIZE") or "1") == "1"
    return not alone and isinstance(error, RuntimeError) and bool(CUT_OFF.search(str(error)))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
