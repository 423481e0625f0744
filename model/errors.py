"""The detector's own errors.

ModelError           exit 1
├── ProcessEnded     exit 1   one of the processes that an action started failed; why, that one says
├── UserError        exit 2   a mistake in a spec, a file or the data; one message, never a traceback
│   └── DamagedCheckpoint     one that is not what was written
├── NotRunnable      exit 3   this machine lacks what the action needs; the message says what
└── OutOfMemory      exit 4   what the spec asks for does not fit; to start it again unchanged is no use
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)  # errors of the operating system for a disk without room


class ModelError(Exception):
    exit_code = 1


class ProcessEnded(ModelError):
    pass


class UserError(ModelError):
    exit_code = 2


class DamagedCheckpoint(UserError):
    """Made of a text alone, as every `UserError`: it may be raised anew in other words."""

    path: Path | None = None  # of the file

    @classmethod
    def of(cls, path: Path, why: str) -> DamagedCheckpoint:
        error = cls(f"{path}: {why}")
        error.path = path
        return error


class NotRunnable(ModelError):
    exit_code = 3


class OutOfMemory(ModelError):
    exit_code = 4


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest known word, or an empty string when none is like it."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def number_of(number: int, noun: str) -> str:
    """`1 image`, `3 images`, `2 queries`, `2 classes`: a count in a message."""
    if number == 1:
        return f"{number} {noun}"
    ending = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun[-1] in "sx" else "s")
    return f"{number} {ending}"
