"""The lines of a trial's metrics.jsonl: what a trainer says of each epoch, read by everyone through here.

A line is a JSON object: `epoch` (whole, from 0), metrics (numbers; text that is a number counts, as TAO writes it; null
or not finite: not measured), optionally `checkpoint` (a file or folder, relative to the trial's folder).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from automl.metric import counted

LONGEST_PATH, LONGEST_NAME = 1024, 255  # bytes, of what file systems take
LARGEST_EPOCH = 2**31 - 1  # what the storage can hold


class BrokenRecord(ValueError):
    """A line that is not what the contract says; the text tells what was expected and got."""


@dataclass(frozen=True)
class Record:
    """One epoch. `values` holds everything the line holds; `number` reads a metric in it."""

    epoch: int
    values: Mapping[str, Any]
    checkpoint: str | None = None

    def number(self, name: str) -> float | None:
        """The metric's value; None when the line has none or it is not finite. Raises `BrokenRecord` for a value
        that is no number."""
        value = self.values.get(name)
        if value is None:
            return None
        found = as_number(value)
        if found is None:
            raise BrokenRecord(f"{name} must be a number, but got {_shown(value)}")
        return found if math.isfinite(found) else None

    def diverged(self, names: tuple[str, ...]) -> str | None:
        """The first of `names` that the line has and that is null or not finite, or None."""
        for name in names:
            if name in self.values and self.number(name) is None:
                return name
        return None


def parse(document: Any, numbers: Iterable[str] = ()) -> Record:
    """One decoded line as a `Record`, in which `numbers`, where it has them, are numbers. Raises `BrokenRecord`."""
    if not isinstance(document, dict):
        raise BrokenRecord(f"a line must be a JSON object, but got {_shown(document)}")
    epoch = as_number(document.get("epoch"))
    if epoch is None or epoch != epoch or not 0 <= epoch <= LARGEST_EPOCH or epoch != int(epoch):
        raise BrokenRecord(f"epoch must be a whole number from 0, but got {_shown(document.get('epoch'))}")
    checkpoint = document.get("checkpoint")
    if checkpoint is not None and not isinstance(checkpoint, str):
        raise BrokenRecord(f"checkpoint must be the name of a file or folder, but got {_shown(checkpoint)}")
    if checkpoint and (wrong := _not_a_name(checkpoint)):
        raise BrokenRecord(
            f"checkpoint must be the name of a file or folder, but {wrong}: {_shown(checkpoint)}"
        )
    record = Record(int(epoch), document, checkpoint or None)
    for name in numbers:
        record.number(name)
    return record


def _not_a_name(path: str) -> str | None:
    """What no file system takes."""
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        return "it holds what is no character"
    if b"\0" in encoded:
        return "it holds a NUL"
    too_long = len(encoded) > LONGEST_PATH or any(len(part) > LONGEST_NAME for part in encoded.split(b"/"))
    return "it is too long" if too_long else None


def decode(line: bytes) -> dict[str, Any]:
    """One whole line of the file as a JSON object. Raises `BrokenRecord` for everything else."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BrokenRecord(
            f"a line must be a JSON object, but got {_shown(line.decode(errors='replace').strip())} ({error})"
        ) from None
    if not isinstance(document, dict):
        raise BrokenRecord(f"a line must be a JSON object, but got {_shown(document)}")
    return document


def whole_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that may still be written; a last one without its newline is left out. Blank lines count, and
    say nothing."""
    try:
        with open(path, "rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))
    except FileNotFoundError:
        return


def read(path: Path, numbers: Iterable[str] = ()) -> tuple[list[Record], str | None]:
    """(the records up to the first broken line, what is wrong with that line or None). `numbers` as in `parse`."""
    found: list[Record] = []
    for number, line in enumerate(whole_lines(path), 1):
        if not line.strip():
            continue
        try:
            found.append(parse(decode(line), numbers))
        except BrokenRecord as error:
            return found, f"line {number}: {error}"
    return found, None


def check_step(before: int, epoch: int, num_epochs: int | None) -> None:
    """Raises `BrokenRecord` for a line whose epoch is further from the last one's (-1: none) than a whole training has
    epochs: budgets are counted by it, and it would be most of them, or all."""
    if num_epochs is not None and epoch - before > num_epochs:
        after = f"after epoch {before}" if before >= 0 else "first"
        raise BrokenRecord(
            f"epoch must be counted one by one from 0, and not in steps, but got {epoch} {after}, and the training has "
            f"{counted(num_epochs, 'epoch')}"
        )


def is_whole(lines: Sequence[Record], epochs: int | None) -> bool:
    """Whether the last of a trial's lines is that of its last epoch; no where nobody says how many it has."""
    return epochs is not None and bool(lines) and lines[-1].epoch + 1 >= epochs


def as_number(value: Any) -> float | None:
    """A number or text that is one, as a float; None else. A whole number too large for a float is infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and "_" in value:  # Python's, nobody else's
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except ValueError:
        return None


def is_finite(value: object) -> TypeGuard[int | float]:
    """Whether a value of a trainer's JSON is a number to go by."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
