"""Reading files that a trial is still writing."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from automl.records import BrokenRecord, decode

# Of colours and cursors (CSI), of titles and links (OSC), and of two letters: ECMA-48.
CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")


class MetricsTail:
    """The lines a trial appends to metrics.jsonl from now on. A line counts once its newline is there.

    A last line cut short by a process that died is removed, or the next line would be appended to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = self._lines = 0
        if path.exists():
            with open(path, "r+b") as file:
                content = file.read()
                self._offset = content.rfind(b"\n") + 1
                self._lines = content.count(b"\n")
                if self._offset < len(content):
                    file.truncate(self._offset)

    def read(self) -> list[dict[str, Any]]:
        """The records of the lines that are new. Raises `BrokenRecord`, again at every call, when the next line
        holds no JSON object or the file has become shorter."""
        size = size_of(self.path)
        if size < self._offset:
            raise BrokenRecord(
                f"it shrank from {self._offset} to {size} bytes; a trainer must only append to it"
            )
        records: list[dict[str, Any]] = []
        if size == self._offset:
            return records
        with open(self.path, "rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    records += [decode(line)] if line.strip() else []
                except BrokenRecord as error:
                    if records:
                        break  # these first
                    raise BrokenRecord(f"line {self._lines + 1}: {error}") from None
                self._offset += len(line)
                self._lines += 1
        return records

    def rest(self) -> list[dict[str, Any]]:
        """Once the trial has ended well: a last line that lacks only its end, which is then written; one that lacks
        more is left."""
        with contextlib.suppress(FileNotFoundError, BrokenRecord), open(self.path, "rb") as file:
            file.seek(self._offset)
            left = file.read()
            if left.strip() and b"\n" not in left:
                record = decode(left)
                with open(self.path, "ab") as whole:
                    whole.write(b"\n")
                self._offset += len(left) + 1
                return [record]
        return []


def last_line(path: Path, start: int = 0) -> str:
    """The last line with text in the file from byte `start` on, shortened and without a terminal's control sequences;
    "" when there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(start, size_of(path) - 8192))
            lines = CONTROL.sub("", file.read().decode(errors="replace")).splitlines()
    except FileNotFoundError:
        return ""
    return next((line.strip()[:1000] for line in reversed(lines) if line.strip()), "")


def size_of(path: Path) -> int:
    """Bytes; 0 for a file that does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
